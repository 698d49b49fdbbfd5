/* A table of an account's orders: sorted, filtered by symbol, a page at a time. It is told rows and knows nothing of the API. */

import { $, $$, button, cell, debounce, el, fill, makeDialog, number, openDialog, pill, stateRow, t } from './core.js';
import { keep, mark, put } from './live.js';
import { isNothing, marketName, moment, plain, statusName, typeName } from './account_words.js';

const PAGE = 100;
const TONES = { PARTIALLY_FILLED: 'info', FILLED: 'ok', TRIGGERED: 'ok', FINISHED: 'ok', REJECTED: 'bad', EXPIRED: 'warn', EXPIRED_IN_MATCH: 'warn', NEW: 'plain' };
const FIRST_DOWN = ['created', 'updated', 'filled', 'price', 'quantity'];

export const keyOf = (row) => `${row.kind} ${row.symbol} ${row.orderId ?? row.algoId}`;

/** Which way the price has to go to trigger it. */
function triggerSign(type, side) {
  if (/^TAKE_PROFIT/.test(type)) return side === 'BUY' ? '≤' : '≥';
  if (/^STOP/.test(type)) return side === 'BUY' ? '≥' : '≤';
  return '';
}

/** One order of any kind, read for the table. */
export function readOrder(row) {
  const type = row.type ?? row.orderType ?? '';
  const trigger = row.triggerPrice ?? row.stopPrice;
  const quantity = row.origQty ?? row.quantity ?? '0';
  const executed = row.executedQty ?? '0';
  const share = isNothing(quantity) ? 0 : Math.min(1, Number(executed) / Number(quantity));
  return {
    row, type, quantity, executed, share,
    key: keyOf(row), kind: row.kind, symbol: String(row.symbol ?? ''), id: row.orderId ?? row.algoId, side: row.side ?? '',
    price: row.price ?? '0', trigger: isNothing(trigger) ? '' : plain(trigger), status: row.status ?? row.algoStatus ?? '',
    created: row.time ?? row.createTime ?? 0, updated: row.updateTime ?? 0,
  };
}

const VALUES = {
  symbol: (one) => one.symbol, side: (one) => one.side, status: (one) => one.status,
  price: (one) => Number(isNothing(one.price) ? one.trigger : one.price), quantity: (one) => Number(one.quantity),
  filled: (one) => one.share, created: (one) => one.created, updated: (one) => one.updated,
};

function compare(by, up) {
  const value = VALUES[by];
  const sign = up ? 1 : -1;
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = typeof x === 'string' ? x.localeCompare(y) : x - y;
    return order * sign || b.updated - a.updated || (a.key < b.key ? -1 : 1);
  };
}

/** What an order is besides its type, in few words. */
function termsOf({ row, kind }, isMixed) {
  const terms = [];
  if (kind === 'algo') terms.push(t('accounts.kind_algo'));
  else if (isMixed) terms.push(marketName(kind));
  if (row.positionSide && row.positionSide !== 'BOTH') terms.push(t(`accounts.position_${row.positionSide.toLowerCase()}`));
  if (row.reduceOnly === true) terms.push(t('accounts.reduce_only'));
  if (row.timeInForce && row.timeInForce !== 'GTC') terms.push(row.timeInForce);
  return terms.join(' · ');
}

function priceText({ price, type, row }) {
  if (!isNothing(price)) return plain(price);
  if (!isNothing(row.avgPrice)) return t('accounts.average', { price: plain(row.avgPrice) });
  return type === 'TRAILING_STOP_MARKET' ? t('accounts.trailing') : t('accounts.market_price');
}

function quantityText({ quantity, row }) {
  if (row.closePosition === true) return t('accounts.whole_position');
  if (isNothing(quantity) && !isNothing(row.origQuoteOrderQty)) return t('accounts.in_quote', { n: plain(row.origQuoteOrderQty) });
  return plain(quantity);
}

export class OrderTable {
  constructor() {
    this.body = $('#orders');
    this.table = $('#orders-table');
    this.shown = 'open';
    this.orders = { open: { by: 'created', up: false }, ended: { by: 'updated', up: false } };
    this.rows = { open: [], ended: [] };
    this.from = 0;
    this.stop = new AbortController();
    const on = (node, type, work) => node.addEventListener(type, work, { signal: this.stop.signal });
    $('#orders-filter').reset();
    on($('#symbol'), 'input', debounce(() => this.begin(), 120));
    on($('#orders-filter'), 'submit', (event) => event.preventDefault());
    for (const choice of $$('[data-shown]')) on(choice, 'click', () => this.choose(choice.dataset.shown));
    for (const head of $$('th[data-sort]', this.table)) on($('button', head), 'click', () => this.sort(head.dataset.sort));
    on($('#orders-back'), 'click', () => this.turn(-PAGE));
    on($('#orders-on'), 'click', () => this.turn(PAGE));
    this.choose('open');
  }

  /** Take the orders as they are now. Shape: rows of Binance with `kind`. */
  set(open, ended) {
    this.rows = { open: open.map(readOrder), ended: ended.map(readOrder) };
    this.draw();
  }

  begin() {
    this.from = 0;
    this.draw();
  }

  choose(name) {
    this.shown = name;
    for (const choice of $$('[data-shown]')) choice.setAttribute('aria-pressed', String(choice.dataset.shown === name));
    this.begin();
  }

  sort(by) {
    const order = this.orders[this.shown];
    this.orders[this.shown] = { by, up: order.by === by ? !order.up : !FIRST_DOWN.includes(by) };
    this.begin();
  }

  turn(step) {
    this.from += step;
    this.draw();
    $('#orders-title').scrollIntoView();
    $('#orders-title').focus({ preventScroll: true });
  }

  draw() {
    const all = this.rows[this.shown];
    const wanted = $('#symbol').value.trim().toUpperCase();
    const { by, up } = this.orders[this.shown];
    for (const head of $$('th[data-sort]', this.table)) {
      if (head.dataset.sort === by) head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      else head.removeAttribute('aria-sort');
    }
    const rows = all.filter((one) => one.symbol.includes(wanted)).sort(compare(by, up));
    if (this.from >= rows.length) this.from = Math.max(0, Math.ceil(rows.length / PAGE) - 1) * PAGE;
    const part = rows.slice(this.from, this.from + PAGE);
    this.isMixed = new Set(all.map((one) => one.kind).filter((kind) => kind !== 'algo')).size > 1;
    put($('#open-count'), number(this.rows.open.length));
    put($('#ended-count'), number(this.rows.ended.length));
    put($('#orders-count'), wanted && all.length ? t('accounts.orders_shown', { n: rows.length, all: all.length }) : '');
    if (part.length) {
      if (!this.body.kept) fill(this.body);
      keep(this.body, part, (one) => one.key, (one) => this.make(one), (node, one) => this.update(node, one));
    } else {
      this.body.kept = null;
      if (wanted && all.length) stateRow(this.body, 'search', t('accounts.orders_no_match', { symbol: wanted }));
      else stateRow(this.body, 'list', t(`accounts.${this.shown}_none`), this.note);
    }
    $('#orders-foot').hidden = rows.length <= PAGE;
    put($('#orders-hint'), t('accounts.orders_page', { from: this.from + 1, to: this.from + part.length, n: rows.length }));
    $('#orders-back').disabled = this.from === 0;
    $('#orders-on').disabled = this.from + PAGE >= rows.length;
  }

  make(one) {
    const bar = el('div', { class: 'fill', role: 'meter', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-label': t('accounts.filled_of', { symbol: one.symbol, id: String(one.id) }) }, el('i'));
    const open = el('button', { type: 'button', class: 'link-button soft small mono', 'aria-label': t('accounts.details_of', { symbol: one.symbol, id: String(one.id) }), onclick: () => this.details(one.key) }, `#${one.id}`);
    return el('tr', {},
      el('th', { scope: 'row', class: 'lead' }, el('span', {}, one.symbol), open),
      cell(t('accounts.side'), el('div', { class: 'kind-cell' }, el('span', {}, el('b'), ' ', el('span')), el('span', { class: 'soft small d-block' })), 'order-way two-line'),
      cell(t('accounts.price'), el('div', {}, el('span'), el('span', { class: 'soft small d-block' })), 'num order-price two-line'),
      cell(t('accounts.quantity'), el('span'), 'num'),
      cell(t('accounts.filled'), el('div', { class: 'fill-cell' }, bar, el('span', { class: 'small' })), 'filled'),
      cell(t('accounts.status'), pill(''), 'order-status'),
      cell(t('accounts.created'), ''), cell(t('accounts.updated'), ''));
  }

  update(node, one) {
    const sign = JSON.stringify(one.row) + this.isMixed;
    if (node.sign === sign) return;
    node.sign = sign;
    const [, side, price, quantity, filled, status, created, updated] = node.cells;
    const [first, terms] = side.firstElementChild.children;
    const [word, type] = first.children;
    const isBuy = one.side === 'BUY';
    put(word, isBuy ? t('accounts.buy') : one.side === 'SELL' ? t('accounts.sell') : one.side);
    mark(word, 'class', isBuy ? 'ok-text' : 'bad-text');
    put(type, typeName(one.type));
    put(terms, termsOf(one, this.isMixed));
    const [main, more] = price.firstElementChild.children;
    put(main, priceText(one));
    put(more, one.trigger ? t('accounts.trigger', { sign: triggerSign(one.type, one.side), price: one.trigger }).replace('  ', ' ') : '');
    put(quantity.firstElementChild, quantityText(one));
    const percent = Math.floor(one.share * 1000) / 10;
    const bar = $('.fill', filled);
    mark(bar, 'aria-valuenow', percent);
    bar.firstElementChild.style.width = `${percent}%`;
    put(bar.nextElementSibling, isNothing(one.executed) ? '0 %' : `${number(percent)} % · ${plain(one.executed)}`);
    mark(status.firstElementChild, 'class', `pill ${TONES[one.status] ?? ''}`);
    put(status.firstElementChild, statusName(one.status));
    fill(created, moment(one.created));
    fill(updated, moment(one.updated));
  }

  /** All that is known of one order, by Binance's own names. */
  details(key) {
    const one = [...this.rows.open, ...this.rows.ended].find((each) => each.key === key);
    if (!one) return;
    const facts = Object.entries(one.row).filter(([name]) => name !== 'kind').map(([name, value]) => {
      const isTime = /time$/i.test(name) && Number(value) > 1e12;
      return [el('dt', { class: 'mono' }, name), el('dd', { class: 'mono wrap-any' }, String(value), isTime && [' ', el('span', { class: 'soft' }, moment(Number(value)))])];
    });
    openDialog(makeDialog(t('accounts.details', { symbol: one.symbol, id: String(one.id) }), el('dl', { class: 'facts details' }, facts),
      button(t('app.close'), null, { small: false, 'data-close': true })));
  }

  remove() {
    this.stop.abort();
    this.body.kept = null;
    fill(this.body);
  }
}
