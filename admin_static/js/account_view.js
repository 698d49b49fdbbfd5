/* One account, live: its state and why, orders, positions, balances, keys, and what went wrong. */

import { $, api, cell, drawRows, el, errorText, fill, has, iconButton, number, stateBox, stateRow, t, time } from './core.js';
import { Feed, mark, put } from './live.js';
import { STATE_TONES, answered, hint, isNothing, keyLine, marketName, modeName, moment, plain, sinceText, stateName, whyText } from './account_words.js';
import { OrderTable, keyOf } from './order_table.js';

const DRAW_EVERY_MS = 250;
const MAX_ENDED = 100;
const LINK_TONES = { live: 'ok', polling: 'warn', lost: 'bad', connecting: 'info' };
const isFutures = (market) => ['um', 'cm', 'pm'].includes(market);

export class AccountView {
  constructor(id, { onUnlink }) {
    this.id = id;
    this.item = null;
    this.data = null;
    this.onUnlink = onUnlink;
    this.orders = new OrderTable();
    $('#one-body').hidden = true;
    $('#one-actions').hidden = true;
    put($('#one-title'), '');
    put($('#one-lead'), '');
    fill($('#one-problem'), stateBox('loading', t('app.loading')));
    this.feed = new Feed({
      events: `accounts/${id}/events`, event: 'account', poll: `accounts/${id}`, every: 3000,
      others: {
        change: (data) => this.change(data),
        // Its keys were changed, or it was removed: asking again tells which.
        end: ({ reason }) => reason === 'dropped' && this.feed.open(),
      },
      onData: (data) => this.whole(data),
      onState: (state) => this.showLink(state),
      onError: (error) => this.fail(error),
    });
    this.timer = setInterval(() => this.showSince(), 1000);
  }

  /* ---- what comes ---- */

  whole(data) {
    this.data = data;
    this.open = new Map(data.orders.map((row) => [keyOf(row), row]));
    this.ended = new Map(data.ended.map((row) => [keyOf(row), row]));
    this.drawSoon();
  }

  change({ orders, ...state }) {
    if (!this.data) return;
    Object.assign(this.data, state);
    for (const { open: isOpen, ...row } of orders) {
      const key = keyOf(row);
      if (isOpen) {
        this.open.set(key, row);
        continue;
      }
      this.open.delete(key);
      this.ended.delete(key);
      this.ended = new Map([[key, row], ...this.ended].slice(0, MAX_ENDED));
    }
    this.drawSoon();
  }

  /** What the list of accounts says: its name and keys. null: it is not there any more. */
  setItem(item) {
    if (!item) {
      this.gone();
      return;
    }
    this.item = item;
    put($('#one-title'), item.name);
    put($('#one-lead'), `${marketName(item.market)} · ${t('accounts.watched_by', { how: modeName(item.mode) })}`);
    $('#one-actions').hidden = false;
    this.drawKeys();
    this.drawSoon();
  }

  gone() {
    this.feed.close();
    this.item = null;
    $('#one-body').hidden = true;
    $('#one-actions').hidden = true;
    put($('#one-title'), t('accounts.gone'));
    fill($('#one-problem'), stateBox('wallet', t('accounts.gone'), t('accounts.gone_text')));
  }

  fail(error) {
    if (error.status === 404) this.gone();
    else if (!this.data) fill($('#one-problem'), stateBox('warning', t('app.failed'), errorText(error)));
  }

  showLink(state) {
    const badge = $('#one-link');
    badge.hidden = ['live', 'paused'].includes(state); // only what is not as it should be is worth a word
    mark(badge, 'class', `pill ${LINK_TONES[state] ?? ''}`);
    put(badge, has(`accounts.link_state.${state}`) ? t(`accounts.link_state.${state}`) : '');
    $('#one-body').classList.toggle('old', state === 'lost');
  }

  /* ---- drawing ---- */

  /** Many events may come at once; the eye needs but a few. */
  drawSoon() {
    if (this.soon) return;
    const wait = Math.max(0, DRAW_EVERY_MS - (performance.now() - (this.drawn ?? -1000)));
    this.soon = setTimeout(() => {
      this.soon = null;
      this.drawn = performance.now();
      this.draw();
    }, wait);
  }

  draw() {
    if (!this.data || !this.item) return;
    const { data } = this;
    fill($('#one-problem'));
    $('#one-body').hidden = false;
    const badge = $('#one-state');
    mark(badge, 'class', `pill ${STATE_TONES[data.state] ?? ''}`);
    put(badge, stateName(data.state));
    this.showSince();
    this.drawFigures(data);
    this.orders.note = data.state === 'live' ? t('accounts.open_none_live') : t('accounts.open_none_text');
    this.orders.set([...this.open.values()], [...this.ended.values()]);
    this.drawPositions(data.positions);
    this.drawBalances(data.balances);
    this.drawTrouble(data);
  }

  showSince() {
    if (!this.data) return;
    const { state, why, since } = this.data;
    put($('#one-why'), [state === 'live' ? t('accounts.live_text') : whyText(why), sinceText(since)].filter(Boolean).join(' · '));
  }

  drawFigures(data) {
    const { hits, missed, share } = answered(data);
    const figures = [
      ['open', number(this.open.size), ''],
      ['answered', share === null ? '–' : `${number(share)} %`, '', share === null ? t('accounts.answered_none') : t('accounts.of', { hits, all: hits + missed })],
      ['differences', number(data.differences), data.differences ? 'bad-text' : '', t('accounts.differences_help')],
      ['events', number(data.events), '', t('accounts.events_help')],
    ];
    drawRowsInto($('#figures'), figures);
  }

  drawPositions(rows) {
    const body = $('#positions');
    $('#positions-panel').hidden = !isFutures(this.item.market);
    if (!isFutures(this.item.market)) return;
    if (!rows.length) {
      stateRow(body, 'candles', t('accounts.positions_none'), t('accounts.positions_none_text'));
      return;
    }
    drawRows(body, rows, (row) => `${row.symbol} ${row.positionSide}`, (row) => {
      const isShort = String(row.positionAmt).startsWith('-');
      return el('tr', {},
        el('th', { scope: 'row', class: 'lead' }, el('span', {}, row.symbol), row.positionSide && row.positionSide !== 'BOTH' && el('span', { class: 'soft small' }, t(`accounts.position_${row.positionSide.toLowerCase()}`))),
        cell(t('accounts.amount'), el('span', { class: isShort ? 'bad-text' : 'ok-text' }, `${t(isShort ? 'accounts.short' : 'accounts.long')} ${plain(row.positionAmt).replace('-', '')}`), 'num'),
        cell(t('accounts.entry'), isNothing(row.entryPrice) ? '–' : plain(row.entryPrice), 'num'),
        cell(t('accounts.break_even'), isNothing(row.breakEvenPrice) ? '–' : plain(row.breakEvenPrice), 'num'),
        cell(t('accounts.margin'), marginText(row)),
        cell(t('accounts.leverage'), row.leverage ? `${row.leverage}×` : '–', 'num'),
        toldCell(row));
    });
  }

  drawBalances(all) {
    const body = $('#balances');
    const isWallet = isFutures(this.item.market);
    const names = isWallet ? ['wallet', 'cross'] : ['free', 'locked'];
    put($('#balance-one'), t(`accounts.${names[0]}`));
    put($('#balance-two'), t(`accounts.${names[1]}`));
    const of = (row) => (isWallet ? [row.walletBalance, row.crossWalletBalance] : [row.free, row.locked]);
    const rows = all.filter((row) => of(row).some((value) => !isNothing(value)));
    if (!rows.length) stateRow(body, 'wallet', t('accounts.balances_none'), t('accounts.balances_none_text'));
    else {
      drawRows(body, rows, (row) => row.asset, (row) => el('tr', {},
        el('th', { scope: 'row', class: 'lead' }, row.asset),
        of(row).map((value, place) => cell(t(`accounts.${names[place]}`), value === null || value === undefined ? '–' : plain(value), 'num')),
        toldCell(row)));
    }
    const hidden = all.length - rows.length;
    $('#balances-foot').hidden = !hidden;
    put($('#balances-hint'), t('accounts.balances_empty', { n: hidden }));
  }

  drawKeys() {
    const { keys } = this.item;
    const sign = JSON.stringify(keys);
    if (this.keysSign === sign) return;
    this.keysSign = sign;
    if (!keys.length) fill($('#keys'), el('li', { class: 'soft' }, t('accounts.no_key')));
    else {
      fill($('#keys'), keys.map((key) => el('li', {}, el('div', {}, keyLine(key)),
        key.source !== 'own' && iconButton('trash', t('accounts.unlink_of', { hint: hint(key.hint) }), (event) => this.onUnlink(key, event.currentTarget), { danger: true }))));
    }
  }

  drawTrouble(data) {
    const sign = JSON.stringify([data.last_differences, data.misses, data.unknown_events]);
    if (this.troubleSign === sign) return;
    this.troubleSign = sign;
    const misses = Object.entries(data.misses).sort(([, a], [, b]) => b - a);
    const unknown = Object.entries(data.unknown_events);
    const part = (title, list) => el('div', {}, el('h3', {}, title), list);
    const lines = (rows) => el('ul', { class: 'plain-list' }, rows.map(([name, value]) => el('li', {}, el('span', {}, name), el('span', { class: 'num' }, value))));
    fill($('#trouble'),
      data.last_differences.length > 0 && part(t('accounts.last_differences'), el('ul', { class: 'plain-list' }, data.last_differences.slice(0, 20).map(({ time: at, what }) => el('li', { class: 'bad-text' }, el('span', {}, whyText(what)), time(at))))),
      misses.length > 0 && part(t('accounts.misses'), lines(misses.map(([name, n]) => [whyText(name), number(n)]))),
      unknown.length > 0 && part(t('accounts.unknown_events'), lines(unknown.map(([name, n]) => [el('code', {}, name), number(n)]))),
      !data.last_differences.length && !misses.length && !unknown.length && el('p', { class: 'soft' }, t('accounts.trouble_none')));
  }

  close() {
    clearInterval(this.timer);
    clearTimeout(this.soon);
    this.feed.close();
    this.orders.remove();
    for (const id of ['#positions', '#balances', '#keys', '#trouble', '#figures', '#one-problem']) fill($(id));
  }
}

/** Figures that keep their elements, so that a refresh does not flicker. */
function drawRowsInto(box, figures) {
  if (!box.children.length) fill(box, figures.map(([name]) => el('div', {}, el('dt', {}, t(`accounts.${name}`)), el('dd', {}, el('b'), el('span', { class: 'soft small d-block' })))));
  figures.forEach(([, value, tone, note = ''], at) => {
    const [main, more] = box.children[at].lastElementChild.children;
    put(main, value);
    mark(main, 'class', tone);
    put(more, note);
  });
}

const toldCell = (row) => cell(t('accounts.told'), el('div', { class: 'told' }, moment(row.time), el('span', { class: 'soft small d-block' }, sourceText(row.source))));
const sourceText = (source) => (has(`accounts.source.${source}`) ? t(`accounts.source.${source}`) : source ?? '');

function marginText({ marginType, isolatedWallet }) {
  const name = has(`accounts.margin_type.${marginType}`) ? t(`accounts.margin_type.${marginType}`) : marginType ?? '–';
  return isNothing(isolatedWallet) ? name : `${name} ${plain(isolatedWallet)}`;
}
