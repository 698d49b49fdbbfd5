/* A ladder: the best levels of an order book, as Binance wrote them, with totals down to each. It knows nothing of the API. */

import { t, el, fill, pill, lang } from './core.js';
import { put, mark } from './live.js';
import { ageText } from './words.js';

const NARROW = matchMedia('(max-width: 767.98px)');
const COLUMNS = ['price', 'quantity', 'total'];
const AGE_EVERY_MS = 500;
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';

/* Sums and differences are made with whole numbers: they have to be exact. */
const decimalsOf = (text) => (text.includes('.') ? text.length - text.indexOf('.') - 1 : 0);
const scaled = (text, decimals) => BigInt(text.replace('.', '') + '0'.repeat(decimals - decimalsOf(text)));

function unscaled(value, decimals) {
  const digits = value.toString().padStart(decimals + 1, '0');
  return decimals ? `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}` : digits;
}

function totalsOf(levels) {
  const decimals = Math.max(0, ...levels.map(([, quantity]) => decimalsOf(quantity)));
  let sum = 0n;
  return { decimals, sums: levels.map(([, quantity]) => (sum += scaled(quantity, decimals))) };
}

function spreadText([bid], [ask]) {
  if (!bid || !ask) return '–';
  const decimals = Math.max(decimalsOf(bid[0]), decimalsOf(ask[0]));
  const spread = scaled(ask[0], decimals) - scaled(bid[0], decimals);
  const share = (Number(spread) / Number(scaled(ask[0], decimals))) * 100;
  const zeros = decimals ? /\.?0+$/ : /^$/;
  return `${unscaled(spread, decimals).replace(zeros, '') || '0'} (${share.toLocaleString(locale, { maximumSignificantDigits: 2 })} %)`;
}

/** How many decimals say something in the one that has most of them. */
const meant = (texts) => Math.max(0, ...texts.map((text) => decimalsOf(text.includes('.') ? text.replace(/0+$/, '') : text)));

/** Zeros that no number of the column needs are set back, but they are there. */
function putNumber(cell, text, decimals) {
  const at = text.includes('.') ? text.indexOf('.') + (decimals && decimals + 1) : text.length;
  put(cell.firstElementChild, text.slice(0, at));
  put(cell.lastElementChild, text.slice(at));
}

export class Ladder {
  constructor(box, head, { title }) {
    this.box = box;
    this.head = head;
    this.book = null;
    const figure = (name) => {
      const value = el('b');
      return [el('span', { class: 'figure' }, el('span', {}, t(`streams.ladder.${name}`)), value), value];
    };
    const [spread, spreadValue] = figure('spread');
    const [update, updateValue] = figure('update_id');
    const [age, ageValue] = figure('proven');
    this.values = { spread: spreadValue, update: updateValue, age: ageValue };
    this.state = pill('', 'warn'); // only what is not in order is worth a word
    fill(head, el('strong', {}, title), this.state, spread, update, age);
    this.onWidth = () => {
      this.build();
      if (this.book) this.setBook(this.book, this.at);
    };
    NARROW.addEventListener('change', this.onWidth);
    this.timer = setInterval(() => this.showAge(), AGE_EVERY_MS);
    this.build();
  }

  /** Beside each other, the best prices in the middle; on narrow screens the asks above the bids. */
  build() {
    this.columns = { bids: NARROW.matches ? COLUMNS : [...COLUMNS].reverse(), asks: COLUMNS };
    this.bodies = {};
    const side = (name) => el('table', { class: `ladder-side ${name}` }, el('caption', {}, t(`streams.ladder.${name}`)),
      el('thead', {}, el('tr', {}, this.columns[name].map((column) => el('th', { scope: 'col', class: column }, t(`streams.ladder.${column}`))))),
      (this.bodies[name] = el('tbody')));
    this.middle = el('p', { class: 'ladder-middle' });
    const [bids, asks] = [side('bids'), side('asks')];
    fill(this.box, NARROW.matches ? [asks, this.middle, bids] : [bids, asks]);
  }

  setBook(book, at = performance.now()) {
    this.book = book;
    this.at = at;
    const totals = { bids: totalsOf(book.bids), asks: totalsOf(book.asks) };
    // Both sides by one measure.
    const most = Math.max(...Object.values(totals).map(({ sums, decimals }) => Number(unscaled(sums.at(-1) ?? 0n, decimals))));
    const levels = [...book.bids, ...book.asks];
    const quantity = meant(levels.map((level) => level[1]));
    this.decimals = { price: meant(levels.map((level) => level[0])), quantity, total: quantity };
    for (const name of ['bids', 'asks']) this.setSide(name, book[name], totals[name], most);
    const spread = spreadText(book.bids, book.asks);
    put(this.values.spread, spread);
    put(this.middle, `${t('streams.ladder.spread')} ${spread}`);
    put(this.values.update, String(book.update_id));
    put(this.state, t(`streams.state.${book.state}`));
    this.state.hidden = book.state === 'live';
    this.showAge();
  }

  setSide(name, levels, { sums, decimals }, most) {
    const body = this.bodies[name];
    if (!levels.length) {
      fill(body, el('tr', { class: 'no-level' }, el('td', { colspan: 3 }, t('streams.ladder.none'))));
      return;
    }
    if (body.firstElementChild?.classList.contains('no-level')) fill(body);
    while (body.rows.length > levels.length) body.lastElementChild.remove();
    while (body.rows.length < levels.length) body.append(el('tr', {}, this.columns[name].map((column) => el('td', { class: column }, el('span'), el('span', { class: 'zeros' })))));
    const isUpsideDown = NARROW.matches && name === 'asks';
    levels.forEach(([price, quantity], index) => {
      const row = body.rows[isUpsideDown ? levels.length - 1 - index : index];
      const total = unscaled(sums[index], decimals);
      const texts = { price, quantity, total };
      this.columns[name].forEach((column, place) => putNumber(row.cells[place], texts[column], this.decimals[column]));
      row.style.setProperty('--share', `${((most ? Number(total) / most : 0) * 100).toFixed(1)}%`);
    });
  }

  showAge() {
    if (!this.book) return;
    const { age_ms: age, proof } = this.book;
    const now = age === null ? null : age + performance.now() - this.at;
    put(this.values.age, now === null ? '–' : `${t('streams.ladder.ago', { time: ageText(now) })}${proof ? ` · ${t(`streams.proof.${proof}`)}` : ''}`);
  }

  /** What stands here may not be so any more. */
  setStale(isStale) {
    mark(this.box, 'class', isStale ? 'ladder old' : 'ladder');
  }

  remove() {
    clearInterval(this.timer);
    NARROW.removeEventListener('change', this.onWidth);
    this.setStale(false);
    fill(this.box);
    fill(this.head);
  }
}
