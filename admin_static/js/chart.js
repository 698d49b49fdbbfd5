/* What lines.js and candles.js share: the look of TradingView Lightweight Charts (a global, loaded before) and local times.
 * Colours come from the style sheet. */

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

export function clock(language, seconds) {
  return new Intl.DateTimeFormat(language, {
    month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: seconds ? '2-digit' : undefined, hour12: false,
  });
}
