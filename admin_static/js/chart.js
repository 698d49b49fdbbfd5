/* What lines.js and candles.js share: the look of TradingView Lightweight Charts (a global, loaded before) and local times.
 * Colours come from the style sheet. */

import { timeText } from './core.js';

export const lib = window.LightweightCharts;

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function layout() {
  return {
    layout: {
      attributionLogo: false, // it would bring an inline style; the page names TradingView in its text
      background: { type: 'solid', color: 'transparent' },
      textColor: css('--chart-text'),
      fontFamily: getComputedStyle(document.body).fontFamily,
      fontSize: 11,
      panes: { separatorColor: css('--chart-grid'), separatorHoverColor: css('--chart-grid') },
    },
    grid: { vertLines: { visible: false }, horzLines: { color: css('--chart-grid') } },
    crosshair: {
      mode: 0,
      vertLine: { color: css('--chart-text'), labelBackgroundColor: css('--chart-label') },
      horzLine: { color: css('--chart-text'), labelBackgroundColor: css('--chart-label') },
    },
    rightPriceScale: { borderVisible: false, entireTextOnly: true },
    timeScale: { borderColor: css('--chart-grid') },
  };
}

/* The library writes UTC on its axis: times are moved by the zone's offset of now, and moved back to be named. */
export const offsetS = () => -new Date().getTimezoneOffset() * 60;

/** Names a moment in local time, as the other tables of the pages do: 11-22 09:30 or 11-22 09:30:05. */
export const clock = (seconds) => (ms) => timeText(ms).slice(5, seconds ? 19 : 16);
