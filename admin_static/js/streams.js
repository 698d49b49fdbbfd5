/* Streams: preload rules, how far the backfill is, all that is kept, and the candles or the order book of any of it. */

import { $, $$, t, el, fill, has, api, ApiError, poll, number, time, duration, debounce, query, toast, toastError, errorText, reasonText, confirmDialog, stateBox, stateRow, failedRow, loadingRow, cell, pill, button, iconButton, lang } from './core.js';
import { Feed, keep, put, mark } from './live.js';
import { CandleChart } from './candles.js';
import { isBook, isCandles, isShown, inOrder, lengthS, marketName, wordName, heldText, ageText } from './words.js';

const STATE_TONES = { live: 'ok', filling: 'info', syncing: 'warn', connecting: '', mute: 'warn' };
const PAGE = 50;
const PAGE_MAX = 1000;
const ROWS = 500;
const ROWS_MAX = 1500;
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';

const poolName = (name) => (has(`live.pool.${name}`) ? t(`live.pool.${name}`) : name);

/** The cache may be switched off in the settings: then there is nothing to show but that. */
let isCacheOff = false;

function isOff(error) {
  const off = isCacheOff || error instanceof ApiError && error.data.reason === 'cache_off';
  if (off && !isCacheOff) {
    isCacheOff = true;
    $('#cache-off').hidden = false;
    for (const panel of $$('.live-part')) panel.hidden = true;
  }
  return off;
}

/* ---- rules ---- */

const tags = (what) => el('div', { class: 'whats' }, what.split(',').map((word) => el('span', { class: 'tag', title: isCandles(word) ? undefined : wordName(word) }, word)));

function ruleRow(rule) {
  const isFixed = rule.id === null || rule.source === 'settings';
  const name = `${marketName(rule.market)} ${rule.symbols.length > 40 ? `${rule.symbols.slice(0, 40)}…` : rule.symbols}`;
  const actions = isFixed ? pill(t('streams.from_settings')) : el('div', { class: 'row-actions' },
    iconButton('edit', `${t('streams.edit')}: ${name}`, () => openForm(rule)),
    iconButton('trash', `${t('streams.remove')}: ${name}`, () => removeRule(rule), { danger: true }));
  const count = rule.series === null || rule.series === undefined ? '–' : number(rule.series);
  return el('tr', {},
    el('td', { class: 'lead' }, marketName(rule.market)),
    cell(t('streams.symbols'), [el('div', { class: 'rule-symbols', title: rule.symbols }, rule.symbols.replaceAll(',', ', ')), rule.problem && el('div', { class: 'field-error' }, reasonText(rule.problem_data) || rule.problem)], 'whole'),
    cell(t('streams.what'), tags(rule.what), 'whole'),
    cell(t('streams.count'), count, 'num'),
    cell('', actions, isFixed ? 'whole' : 'trail'));
}

async function loadRules() {
  try {
    const { items } = await api('GET', 'preload');
    if (!items.length) stateRow($('#rules'), 'candles', t('streams.rules_none'), t('streams.rules_empty'));
    else fill($('#rules'), items.map(ruleRow));
  } catch (error) {
    if (!isOff(error)) failedRow($('#rules'), error, loadRules);
  }
}

async function removeRule(rule) {
  const shown = `${marketName(rule.market)} · ${rule.symbols.length > 200 ? `${rule.symbols.slice(0, 200)}…` : rule.symbols} · ${rule.what}`;
  if (!(await confirmDialog({ title: t('streams.remove_title'), text: [el('p', { class: 'mono' }, shown), t('streams.remove_text')], ok: t('streams.remove') }))) return;
  try {
    await api('DELETE', `preload/${rule.id}`);
    toast(t('streams.removed'));
  } catch (error) {
    toastError(error);
  }
  changed();
  $('#add-rule').focus();
}

function changed() {
  loadRules();
  refreshBackfill();
  refreshAll();
}

/** The form is loaded when it is first wanted. */
async function openForm(rule) {
  try {
    const { editRule } = await import('./rule_form.js');
    await editRule(rule, changed);
  } catch (error) {
    toastError(error);
  }
}

$('#add-rule').addEventListener('click', () => openForm(null));

/* ---- backfill ---- */

function updateBackfill(node, one) {
  const isDone = one.queued === 0;
  const rows = one.rows_wanted > 0 ? Math.min(1, one.rows_read / one.rows_wanted) : 1;
  const share = one.total > 0 ? (isDone ? 1 : Math.min(0.999, Math.max(rows, one.filled / one.total))) : 0;
  const bar = $('.bar', node);
  mark(bar, 'class', `bar ${isDone ? 'ok' : ''}`);
  mark(bar, 'aria-valuenow', Math.round(share * 100));
  bar.firstElementChild.style.width = `${share * 100}%`;
  put($('.bar-figure', node), `${Math.floor(share * 100)} %`);
  const parts = [isDone ? t('streams.backfill_done', { total: one.total }) : t('streams.backfill_state', { filled: one.filled, total: one.total, queued: one.queued })];
  if (!isDone) parts.push(t('streams.backfill_rows', { read: one.rows_read, wanted: one.rows_wanted }));
  else if (one.rows_read) parts.push(t('streams.backfill_read', { read: one.rows_read }));
  if (!isDone && one.minutes >= 1) parts.push(t('streams.backfill_left', { n: Math.ceil(one.minutes) }));
  if (one.paused_s > 0) parts.push(t('streams.backfill_paused', { time: duration(one.paused_s) }));
  put($('.bar-note', node), parts.join(' · '));
}

async function loadBackfill() {
  if (isCacheOff) return;
  try {
    const items = (await api('GET', 'backfill')).items.filter((one) => one.total > 0);
    keep($('#backfill'), items, (one) => one.pool, (one) => el('div', { class: 'bar-row' }, el('div', { class: 'bar-name' }, poolName(one.pool)), el('div', { class: 'bar-figure' }),
      el('div', { class: 'bar', role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-label': `${t('streams.backfill')}: ${poolName(one.pool)}` }, el('i')), el('div', { class: 'bar-note' })), updateBackfill);
    $('#backfill-empty').hidden = items.length > 0;
  } catch (error) {
    isOff(error); // the list of series says what failed
  }
}

const refreshBackfill = poll(loadBackfill, 2000);

/* ---- all series ---- */

const filters = $('#filters');
let shown = PAGE;
const seriesKey = (one) => `${one.market} ${one.symbol} ${one.interval}`;

/** The button that shows it above: candles as a chart, books as a ladder. */
function showButton(one) {
  if (isBook(one.interval)) return iconButton('ladder', t('streams.show_ladder', { symbol: one.symbol, name: wordName(one.interval) }), () => choose(one, { move: true }));
  return isCandles(one.interval) && iconButton('candles', t('streams.show_chart', { symbol: one.symbol, interval: wordName(one.interval) }), () => choose(one, { move: true }));
}

function seriesRow(one) {
  const open = showButton(one);
  const kind = wordName(one.interval);
  return el('tr', {},
    el('td', { class: 'lead mono' }, one.symbol),
    cell(t('streams.market'), marketName(one.market)),
    cell(t('streams.kind'), el('span', {}, kind, kind !== one.interval && [' ', el('code', { class: 'soft' }, one.interval)])),
    cell(t('streams.state'), pill('')),
    cell(t('streams.age'), '', 'num'), cell(t('streams.rows'), '', 'num'), cell(t('streams.hits'), '', 'num'), cell(t('streams.misses'), '', 'num'),
    cell(t('streams.kept'), ''), cell('', open, open ? 'trail' : 'blank'));
}

function updateSeries(row, one) {
  const [, , , state, age, rows, hits, misses, kept] = row.cells;
  const badge = state.firstElementChild;
  mark(badge, 'class', `pill ${STATE_TONES[one.state] ?? ''}`);
  put(badge, has(`streams.state.${one.state}`) ? t(`streams.state.${one.state}`) : one.state);
  mark(badge, 'title', has(`streams.state_help.${one.state}`) ? t(`streams.state_help.${one.state}`) : '');
  put(age, ageText(one.age_ms));
  put(rows, heldText(one));
  if (one.last_open) mark(rows, 'title', `${t('streams.last_open')}: ${new Date(one.last_open).toLocaleString(locale)}`);
  put(hits, number(one.hits));
  put(misses, number(one.misses));
  const reasons = Object.entries(one.miss_reasons ?? {}).map(([name, count]) => `${has(`live.miss.${name}`) ? t(`live.miss.${name}`) : name}: ${number(count)}`);
  mark(misses, 'title', reasons.join('\n'));
  put(kept, t(one.preload ? 'streams.by_rule' : 'streams.on_demand'));
}

let asked = 0;
async function loadAll() {
  if (isCacheOff) return;
  const ticket = ++asked;
  const values = Object.fromEntries(new FormData(filters));
  const isFiltered = Object.values(values).some((value) => value.trim());
  $('#clear-filters').hidden = !isFiltered;
  let answer;
  try {
    answer = await api('GET', `series${query({ ...values, symbol: values.symbol.trim(), limit: shown })}`);
  } catch (error) {
    if (ticket !== asked || isOff(error)) return;
    put($('#all-count'), '');
    $('#all').kept = null;
    failedRow($('#all'), error, refreshAll);
    return;
  }
  if (ticket !== asked) return;
  const { items, total = items.length, next } = answer;
  const body = $('#all');
  if (!items.length) {
    body.kept = null;
    if (isFiltered) stateRow(body, 'search', t('streams.none_match'));
    else stateRow(body, 'candles', t('streams.all_none'), t('streams.all_empty'));
  } else {
    if (!body.kept) fill(body);
    keep(body, items, seriesKey, seriesRow, updateSeries);
  }
  put($('#all-count'), items.length ? t('streams.all_shown', { shown: items.length, n: total }) : '');
  const isMore = next !== null && next !== undefined;
  $('#all-foot').hidden = !isMore;
  $('#all-more').hidden = shown >= PAGE_MAX;
  put($('#all-hint'), isMore && shown >= PAGE_MAX ? t('streams.narrow') : '');
  if (!current && !isFiltered) chooseFirst(items);
}

const refreshAll = poll(loadAll, 3000);
const filterSoon = debounce(() => {
  shown = PAGE;
  loadAll();
}, 250);
filters.addEventListener('input', filterSoon);
filters.addEventListener('reset', () => setTimeout(filterSoon));
filters.addEventListener('submit', (event) => {
  event.preventDefault();
  filterSoon();
});
$('#all-more').addEventListener('click', () => {
  shown = Math.min(PAGE_MAX, shown + PAGE * 4);
  loadAll();
});

/* ---- candles, or the ladder of a book ---- */

let current = null; // {market, symbol, interval}
let chart = null;
let ladder = null;
let feed = null;
let wanted = ROWS;
let retry;
const canvas = $('#candles');
const ladderBox = $('#ladder');
const marketBox = $('#chart-market');
const symbolBox = $('#chart-symbol');

function chooseFirst(items) {
  const asAddress = new URLSearchParams(location.search);
  const [market, symbol, interval] = ['market', 'symbol', 'interval'].map((name) => asAddress.get(name));
  if (market && symbol) {
    choose({ market, symbol, interval });
    return;
  }
  const shown = items.filter((one) => isShown(one.interval));
  const likes = [(one) => one.symbol === 'BTCUSDT' && one.interval === '1m', (one) => one.interval === '1m', (one) => isCandles(one.interval), () => true];
  const best = likes.map((like) => shown.find((one) => one.rows > 0 && like(one))).find(Boolean) ?? shown[0];
  if (best) choose(best, { remember: false });
  else chartSays('candles', t('streams.chart_none'), t('streams.all_empty'));
}

function chartSays(symbol, title, text = '', action = undefined) {
  canvas.hidden = ladderBox.hidden = $('#candle-head').hidden = true;
  fill($('#candles-state'), stateBox(symbol, title, text, action));
}

function showHead(row) {
  const head = $('#candle-head');
  if (!row || !current) return;
  const part = (name, value) => el('span', { class: 'figure' }, el('span', {}, t(`streams.${name}`)), value);
  const plain = (text) => (/\./.test(text) ? text.replace(/0+$/, '').replace(/\.$/, '') : text);
  const priced = (text) => (chart ? Number(text).toFixed(chart.precision) : text);
  const change = Number(row[1]) ? (Number(row[4]) / Number(row[1]) - 1) * 100 : 0;
  const tone = Number(row[4]) >= Number(row[1]) ? 'up-text' : 'down-text';
  const isDays = lengthS(current.interval) >= 86400;
  const utc = new Date(row[0]).toISOString();
  const at = isDays ? el('time', { datetime: utc, title: utc }, utc.slice(0, 10)) : time(row[0]);
  fill(head, el('strong', {}, `${current.symbol} · ${marketName(current.market)} · ${wordName(current.interval)}`), at,
    part('open', priced(row[1])), part('high', priced(row[2])), part('low', priced(row[3])), part('close', el('b', { class: tone }, priced(row[4]))),
    el('span', { class: tone }, `${change >= 0 ? '+' : '−'}${Math.abs(change).toFixed(2)} %`), part('volume', plain(String(row[5]))),
    isDays && el('span', { class: 'soft' }, t('streams.chart_utc')));
}

function stopChart() {
  clearTimeout(retry);
  feed?.close();
  feed = null;
  chart?.remove();
  chart = null;
  ladder?.remove();
  ladder = null;
  fill(canvas);
  $('#chart-link').hidden = true;
}

const address = (limit) => `klines${query({ ...current, limit })}`;

async function loadCandles({ keepView = false } = {}) {
  const mine = current;
  const name = `${mine.symbol} ${wordName(mine.interval)}`;
  let rows;
  try {
    rows = await api('GET', address(wanted));
  } catch (error) {
    if (mine !== current || isOff(error)) return;
    stopChart();
    if (error.status === 404) chartSays('candles', t('streams.chart_gone', { name }));
    else chartSays('warning', t('app.failed'), errorText(error), button(t('app.retry'), () => loadCandles(), { symbol: 'refresh' }));
    return;
  }
  if (mine !== current) return;
  if (!rows.length) {
    stopChart();
    chartSays('loading', t('streams.chart_not_ready', { name }));
    retry = setTimeout(() => mine === current && loadCandles(), 2000);
    return;
  }
  if (!window.LightweightCharts) {
    chartSays('warning', t('dashboard.chart.library'));
    return;
  }
  fill($('#candles-state'));
  canvas.hidden = $('#candle-head').hidden = false;
  if (!chart) {
    mark(canvas, 'aria-label', t('streams.chart_label', { name: `${name} ${marketName(mine.market)}` }));
    chart = new CandleChart(canvas, { language: locale, intervalS: lengthS(mine.interval), onHover: showHead, onLeftEdge: loadOlder });
  }
  chart.setRows(rows, { keep: keepView });
  if (!feed) follow(mine);
}

function loadOlder() {
  if (wanted >= ROWS_MAX || !chart || chart.rows.size < wanted) return;
  wanted = ROWS_MAX;
  loadCandles({ keepView: true });
}

function showLink(state) {
  const badge = $('#chart-link');
  badge.hidden = false;
  mark(badge, 'class', `pill ${{ live: 'ok', polling: 'warn', lost: 'bad', connecting: 'info' }[state] ?? ''}`);
  put(badge, t(`dashboard.link.${state}`));
}

function follow(mine) {
  const take = (row) => {
    if (mine !== current || !chart) return;
    if (!chart.update(row, lengthS(mine.interval) * 1000)) loadCandles({ keepView: true });
  };
  feed = new Feed({
    events: `klines/events${query(mine)}`, event: 'kline', poll: address(3), every: 2000, isQuiet: true,
    others: {
      state: () => {},
      end: ({ reason }) => {
        if (reason === 'dropped' && mine === current) loadCandles();
      },
    },
    read: (rows) => rows,
    onData: (data) => (Array.isArray(data[0]) ? data.forEach(take) : take(data)),
    onState: showLink,
    onError: (error) => error.status === 404 && mine === current && loadCandles(),
  });
}

async function loadLadder() {
  const mine = current;
  const name = `${mine.symbol} ${wordName(mine.interval)}`;
  chartSays('loading', t('streams.ladder.awaited', { name }));
  let Ladder;
  try {
    ({ Ladder } = await import('./ladder.js'));
  } catch (error) {
    if (mine === current) chartSays('warning', t('app.failed'), errorText(error), button(t('app.retry'), load, { symbol: 'refresh' }));
    return;
  }
  if (mine !== current) return;
  feed = new Feed({
    events: `book/events${query(mine)}`, event: 'book', poll: `book${query(mine)}`,
    onState: (state) => {
      showLink(state);
      ladder?.setStale(state === 'lost');
    },
    onData(book) {
      if (mine !== current) return;
      if (book.update_id === null) {
        ladder?.remove();
        ladder = null;
        chartSays('loading', t('streams.ladder.awaited', { name }));
        return;
      }
      if (!ladder) {
        fill($('#candles-state'));
        ladderBox.hidden = $('#candle-head').hidden = false;
        ladder = new Ladder(ladderBox, $('#candle-head'), { title: `${mine.symbol} · ${marketName(mine.market)} · ${wordName(mine.interval)}` });
      }
      ladder.setBook(book);
    },
    onError(error) {
      if (mine !== current || error.status !== 404 || isOff(error)) return;
      stopChart();
      chartSays('ladder', t('streams.chart_gone', { name }));
    },
  });
}

function load() {
  $('#chart-foot').hidden = isBook(current.interval);
  if (isBook(current.interval)) loadLadder();
  else loadCandles();
}

async function choose({ market, symbol, interval }, { move = false, remember = true } = {}) {
  current = { market, symbol: symbol.trim().toUpperCase(), interval: interval && isShown(interval) ? interval : '' };
  const mine = current;
  wanted = ROWS;
  stopChart();
  marketBox.value = market;
  symbolBox.value = mine.symbol;
  if (move) {
    $('#chart-panel').scrollIntoView({ block: 'start' });
    $('#chart-title').focus({ preventScroll: true });
  }
  if (!mine.symbol) {
    fill($('#chart-intervals'));
    chartSays('candles', t('streams.chart_empty'));
    return;
  }
  let held;
  try {
    const { items } = await api('GET', `series${query({ market, symbol: mine.symbol, limit: PAGE_MAX })}`);
    held = items.filter((one) => one.symbol === mine.symbol && isShown(one.interval)).map((one) => one.interval);
  } catch (error) {
    if (mine === current && !isOff(error)) chartSays('warning', t('app.failed'), errorText(error));
    return;
  }
  if (mine !== current) return;
  held.sort(inOrder(market));
  if (!held.includes(mine.interval)) mine.interval = held.includes('1m') ? '1m' : held[0] ?? '';
  fill($('#chart-intervals'), held.map((one) => el('button', { type: 'button', 'data-what': one, 'aria-pressed': String(one === mine.interval), onclick: () => pickInterval(one) }, wordName(one))));
  if (remember) history.replaceState(null, '', `?${new URLSearchParams(mine)}`);
  if (!mine.interval) {
    chartSays('candles', t('streams.chart_gone', { name: `${marketName(market)} ${mine.symbol}` }));
    return;
  }
  load();
}

function pickInterval(interval) {
  current = { ...current, interval };
  wanted = ROWS;
  for (const one of $$('button', $('#chart-intervals'))) mark(one, 'aria-pressed', one.dataset.what === interval);
  history.replaceState(null, '', `?${new URLSearchParams(current)}`);
  stopChart();
  load();
}

const suggest = debounce(async () => {
  const text = symbolBox.value.trim();
  try {
    const { items } = await api('GET', `series${query({ market: marketBox.value, symbol: text, limit: 200 })}`);
    const names = [...new Set(items.filter((one) => isShown(one.interval)).map((one) => one.symbol))].slice(0, 50);
    fill($('#chart-symbols'), names.map((name) => el('option', { value: name })));
    if (names.includes(text.toUpperCase()) && text.toUpperCase() !== current?.symbol) pickSymbol();
  } catch {
    // only a help for typing
  }
}, 200);

const pickSymbol = () => choose({ market: marketBox.value, symbol: symbolBox.value, interval: current?.interval });
symbolBox.addEventListener('input', suggest);
symbolBox.addEventListener('focus', suggest, { once: true });
symbolBox.addEventListener('change', () => symbolBox.value.trim().toUpperCase() !== current?.symbol && pickSymbol());
marketBox.addEventListener('change', () => {
  suggest();
  pickSymbol();
});
$('#pickers').addEventListener('submit', (event) => {
  event.preventDefault();
  pickSymbol();
});

loadingRow($('#rules'));
loadingRow($('#all'));
loadRules();
refreshBackfill();
refreshAll();
