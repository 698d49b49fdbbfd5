/* Candles with volume, moved by mouse, touch and keyboard. It knows nothing of the API. */

import { lib, css, layout, offsetS, clock } from './chart.js';

const DAY_S = 86400;

/** Decimals that the price texts have, without their trailing zeros. */
function decimals(rows) {
  let most = 0;
  for (const row of rows.slice(-200)) {
    for (const text of [row[1], row[2], row[3], row[4]]) {
      const point = String(text).indexOf('.');
      if (point >= 0) most = Math.max(most, String(text).slice(point + 1).replace(/0+$/, '').length);
    }
  }
  return Math.min(most, 12);
}

/** Candles with volume below. Rows are those of Binance's REST: [open time, open, high, low, close, volume, ...]. */
export class CandleChart {
  constructor(canvas, { language, intervalS, onHover, onLeftEdge }) {
    this.rows = new Map();
    // Candles of a day and more begin at midnight UTC: in local time they would carry a wrong date.
    this.offset = intervalS >= DAY_S ? 0 : offsetS();
    this.onHover = onHover;
    const shift = this.offset;
    const name = intervalS < DAY_S ? clock(intervalS < 60) : (ms) => new Date(ms).toISOString().slice(0, 10);
    this.canvas = canvas;
    this.chart = lib.createChart(canvas, {
      autoSize: true,
      ...layout(),
      handleScroll: { vertTouchDrag: false },
      localization: { locale: language, timeFormatter: (time) => name((time - shift) * 1000) },
    });
    this.chart.applyOptions({
      timeScale: { timeVisible: intervalS < DAY_S, secondsVisible: intervalS < 60, rightOffset: 4, barSpacing: 8, minBarSpacing: 1 },
    });
    this.candles = this.chart.addSeries(lib.CandlestickSeries, { borderVisible: true });
    this.volume = this.chart.addSeries(lib.HistogramSeries, {
      priceFormat: { type: 'volume' }, priceLineVisible: false, lastValueVisible: false,
    }, 1);
    this.chart.panes()[0].setStretchFactor(4);
    this.chart.panes()[1].setStretchFactor(1);
    this.chart.subscribeCrosshairMove((param) => {
      const row = param.time === undefined ? undefined : this.rows.get(param.time);
      this.hovered = row !== undefined;
      this.onHover(row ?? this.lastRow ?? null);
    });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < 5 && this.rows.size) onLeftEdge();
    });
    this.onTheme = () => this.paint();
    addEventListener('themechange', this.onTheme);
    canvas.addEventListener('keydown', (this.onKey = (event) => this.key(event)));
    this.paint();
  }

  remove() {
    removeEventListener('themechange', this.onTheme);
    this.canvas.removeEventListener('keydown', this.onKey);
    this.chart.remove();
  }

  key(event) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = range.to - range.from;
    const move = (from, to) => scale.setVisibleLogicalRange({ from, to });
    if (event.key === 'ArrowLeft') move(range.from - width / 10, range.to - width / 10);
    else if (event.key === 'ArrowRight') move(range.from + width / 10, range.to + width / 10);
    else if (event.key === '+' || event.key === '=') move(range.from + width / 5, range.to);
    else if (event.key === '-') move(range.from - width / 4, range.to);
    else if (event.key === 'End') scale.scrollToRealTime();
    else if (event.key === 'Home') move(0, width);
    else return;
    event.preventDefault();
  }

  paint() {
    this.up = css('--candle-up');
    this.down = css('--candle-down');
    this.chart.applyOptions(layout());
    this.candles.applyOptions({
      upColor: this.up, downColor: this.down, borderUpColor: this.up, borderDownColor: this.down, wickUpColor: this.up, wickDownColor: this.down,
    });
    if (this.rows.size) this.volume.setData([...this.rows.values()].map((row) => this.bar(row)));
  }

  time(row) {
    return row[0] / 1000 + this.offset;
  }

  candle(row) {
    return { time: this.time(row), open: +row[1], high: +row[2], low: +row[3], close: +row[4] };
  }

  bar(row) {
    return { time: this.time(row), value: +row[5], color: `${+row[4] >= +row[1] ? this.up : this.down}80` };
  }

  /** Show these rows in place of those before; keeps what is in view if asked. */
  setRows(rows, { keep = false } = {}) {
    const scale = this.chart.timeScale();
    const range = keep ? scale.getVisibleLogicalRange() : null;
    const added = rows.length - this.rows.size;
    this.rows = new Map(rows.map((row) => [this.time(row), row]));
    this.lastRow = rows.at(-1);
    this.precision = decimals(rows);
    this.candles.applyOptions({ priceFormat: { type: 'price', precision: this.precision, minMove: 10 ** -this.precision } });
    this.candles.setData(rows.map((row) => this.candle(row)));
    this.volume.setData(rows.map((row) => this.bar(row)));
    if (range) scale.setVisibleLogicalRange({ from: range.from + added, to: range.to + added });
    else scale.scrollToRealTime();
    this.onHover(this.lastRow ?? null);
  }

  /** Take a new row; false if candles in between are missing and all should be read again. */
  update(row, intervalMs) {
    const last = this.lastRow;
    const isOld = last && row[0] < last[0]; // a closed candle may get its final numbers late
    if (isOld ? !this.rows.has(this.time(row)) : last && row[0] - last[0] > intervalMs * 1.5) return false;
    this.rows.set(this.time(row), row);
    this.candles.update(this.candle(row), isOld);
    this.volume.update(this.bar(row), isOld);
    if (isOld) return true;
    this.lastRow = row;
    if (!this.hovered) this.onHover(row);
    return true;
  }
}
