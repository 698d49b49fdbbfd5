/* Lines over time, with a legend that shows values and hides lines. It knows nothing of the API. */

import { lib, css, layout, offsetS, clock } from './chart.js';

/** A chart of one or more lines.
 *  lines: [{key, name, tone (1 to 8), fill, dashed}]; format(value) -> text; least: the scale reaches so high at least. */
export class LineChart {
  constructor(box, { lines = [], format, empty, language, least = 1 }) {
    this.format = format;
    this.least = least;
    this.hidden = new Set();
    this.lines = new Map();
    this.legend = box.querySelector('[data-legend]');
    this.canvas = box.querySelector('[data-canvas]');
    this.title = box.querySelector('[data-title]').textContent;
    this.note = document.createElement('p');
    this.note.className = 'chart-note soft';
    this.note.textContent = empty;
    this.canvas.after(this.note);
    this.canvas.setAttribute('role', 'img');
    this.describe();
    const shift = (this.offset = offsetS());
    const name = clock(true);
    this.chart = lib.createChart(this.canvas, {
      autoSize: true,
      ...layout(),
      handleScroll: false,
      handleScale: false,
      localization: {
        locale: language,
        priceFormatter: (value) => this.format(value),
        timeFormatter: (time) => name((time - shift) * 1000),
      },
    });
    this.chart.applyOptions({
      crosshair: { horzLine: { visible: false, labelVisible: false } },
      rightPriceScale: { scaleMargins: { top: 0.1, bottom: 0.06 } },
      timeScale: { timeVisible: true, secondsVisible: false, fixLeftEdge: true, fixRightEdge: true, lockVisibleTimeRangeOnResize: true },
    });
    this.chart.subscribeCrosshairMove((param) => this.showValues(param.time ? param : null));
    addEventListener('themechange', () => this.paint());
    // The axis ends with the last value of any line: an unseen one has a value at every time.
    this.ground = this.chart.addSeries(lib.LineSeries, {
      color: 'transparent', priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false, autoscaleInfoProvider: () => null,
    });
    this.setLines(lines);
  }

  setLines(lines) {
    const keys = lines.map((line) => line.key).join('\n');
    if (keys === this.keys) return;
    this.keys = keys;
    for (const { series } of this.lines.values()) this.chart.removeSeries(series);
    this.lines.clear();
    this.legend.replaceChildren();
    for (const line of lines) {
      const options = {
        lineWidth: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerRadius: 3,
        lineStyle: line.dashed ? 2 : 0,
        priceFormat: { type: 'custom', minMove: 0.001, formatter: (value) => this.format(value) },
        autoscaleInfoProvider: (original) => {
          const found = original();
          if (found) found.priceRange = { minValue: 0, maxValue: Math.max(found.priceRange.maxValue, this.least) };
          return found;
        },
      };
      const series = this.chart.addSeries(line.fill ? lib.AreaSeries : lib.LineSeries, options);
      const chip = document.createElement('button');
      chip.type = 'button';
      chip.className = `chip chip-${line.tone}${line.dashed ? ' chip-dashed' : ''}`;
      chip.setAttribute('aria-pressed', 'true');
      const label = document.createElement('span');
      label.textContent = label.title = line.name;
      const value = document.createElement('b');
      chip.append(label, value);
      chip.addEventListener('click', () => this.toggle(line.key));
      this.legend.append(chip);
      this.lines.set(line.key, { ...line, series, chip, value, last: null, most: null });
      if (this.hidden.has(line.key)) this.show(line.key, false);
    }
    this.legend.hidden = !lines.length;
    this.paint();
  }

  /** What stands where there is nothing to draw. */
  say(text) {
    if (this.note.textContent === text) return;
    this.note.textContent = text;
    this.describe();
  }

  /** Tell in words what the picture shows. */
  describe() {
    const parts = [...this.lines.values()].filter((line) => line.last !== null)
      .map((line) => `${line.name}: ${this.format(line.last)} (≤ ${this.format(line.most)})`);
    this.canvas.setAttribute('aria-label', `${this.title}. ${parts.join('; ') || this.note.textContent}`);
  }

  toggle(key) {
    if (this.hidden.has(key)) this.hidden.delete(key);
    else this.hidden.add(key);
    this.show(key, !this.hidden.has(key));
  }

  show(key, visible) {
    const line = this.lines.get(key);
    line.series.applyOptions({ visible });
    line.chip.setAttribute('aria-pressed', String(visible));
  }

  paint() {
    this.chart.applyOptions(layout());
    this.chart.applyOptions({ rightPriceScale: { scaleMargins: { top: 0.1, bottom: 0.06 } } });
    for (const line of this.lines.values()) {
      const color = css(`--line-${line.tone}`);
      line.series.applyOptions(line.fill ? { lineColor: color, topColor: `${color}40`, bottomColor: `${color}05` } : { color });
    }
  }

  /** times: ms, ascending; values: {key: [number or null]}. Nulls leave a gap, unless they are `bridge` or fewer in a row. */
  setData(times, values, bridge = 0) {
    let any = false;
    for (const [key, line] of this.lines) {
      const column = values[key] ?? [];
      const hide = line.fill ? { lineColor: 'transparent', topColor: 'transparent', bottomColor: 'transparent' } : { color: 'transparent' };
      const data = times.map((ms) => ({ time: ms / 1000 + this.offset }));
      let before = -Infinity; // where the last value stands
      line.last = line.most = null;
      for (let i = 0; i < times.length; i++) {
        const value = column[i];
        if (value === null || value === undefined) continue;
        any = true;
        line.most = line.most === null ? value : Math.max(line.most, value);
        data[i].value = line.last = value;
        // A line to a point far away would tell something that never happened; a lone point is drawn as a dash.
        if (before >= 0 && i - before - 1 > bridge) Object.assign(data[before + 1], { value: data[before].value }, hide);
        before = i;
      }
      line.series.setData(data);
    }
    this.ground.setData(times.map((ms) => ({ time: ms / 1000 + this.offset, value: 0 })));
    this.note.hidden = any;
    this.canvas.classList.toggle('is-empty', !any);
    const isShort = times.length > 0 && times.at(-1) - times[0] < 20 * 60_000;
    this.chart.applyOptions({ timeScale: { secondsVisible: isShort } });
    this.chart.timeScale().fitContent();
    this.showValues(null);
    this.describe();
  }

  showValues(param) {
    for (const line of this.lines.values()) {
      const found = param ? param.seriesData.get(line.series)?.value : line.last;
      line.value.textContent = found === null || found === undefined ? '–' : this.format(found);
    }
  }
}
