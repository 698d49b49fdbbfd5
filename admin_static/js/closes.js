/* Closes: when the candles of the last closes were final here, by market and interval. Read only. */

import { $, ApiError, api, cell, drawRows, el, failedRow, has, lang, loadingRow, number, poll, stateRow, t, time } from './core.js';
import { LineChart } from './lines.js';

const EVERY_MS = 2000;
const AT = ['first_ms', 'p50_ms', 'p99_ms', 'last_ms'];
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';
const market = $('#market');
const intervals = $('#intervals');
const rows = $('#rows');
let items = [];
let chosen = '';
let chart = null;

const marketName = (name) => (has(`live.market.${name}`) ? t(`live.market.${name}`) : name);

function millis(value) {
  if (value === null || value === undefined) return '–';
  if (value < 1000) return t('live.ms', { n: number(Math.round(value)) });
  return t('unit.s', { n: (value / 1000).toLocaleString(locale, { maximumFractionDigits: 2 }) });
}

/** How series were settled, in words; only what there was. */
function howText(close) {
  return ['event', 'read', 'witness'].filter((how) => close[`by_${how}`]).map((how) => t(`closes.by_${how}`, { n: number(close[`by_${how}`]) }))
    .concat(close.corrected ? [t('closes.corrected', { n: number(close.corrected) })] : []).join(' · ') || '–';
}

function makeRow(close) {
  const arrived = el('span', {}, `${number(close.arrived)} / ${number(close.expected)}`,
    close.missing > 0 && el('span', { class: 'soft small d-block' }, t('closes.missing', { n: number(close.missing) })));
  return el('tr', {},
    cell(t('closes.close'), time(close.close_ms), 'lead fw-normal'),
    cell(t('closes.arrived'), arrived, 'num'),
    ...['first', 'p50', 'p99', 'last'].map((name) => cell(t(`closes.${name}`), millis(close[`${name}_ms`]), 'num')),
    cell(t('closes.slowest'), el('span', { class: 'mono' }, close.slowest || '–'), close.slowest ? 'wrap-any' : 'blank'),
    cell(t('closes.how'), howText(close)),
    cell(t('closes.made'), close.event_p50_ms === null ? '–' : `${millis(close.event_p50_ms)} / ${millis(close.event_last_ms)}`, 'num'),
    cell(t('closes.trip'), millis(close.trip_p50_ms), 'num'));
}

function choose(word) {
  chosen = word;
  show();
}

function show() {
  const markets = [...new Set(items.map((item) => item.market))];
  if (market.dataset.markets !== markets.join()) {
    const before = market.value;
    market.replaceChildren(...markets.map((name) => el('option', { value: name }, marketName(name))));
    market.dataset.markets = markets.join();
    if (markets.includes(before)) market.value = before;
  }
  const mine = items.filter((item) => item.market === market.value);
  if (!mine.some((item) => item.interval === chosen)) chosen = mine[0]?.interval ?? '';
  const words = mine.map((item) => item.interval).join();
  if (intervals.dataset.words !== words) {
    intervals.replaceChildren(...mine.map((item) => el('button', { type: 'button', 'data-interval': item.interval, onclick: () => choose(item.interval) }, item.interval)));
    intervals.dataset.words = words;
  }
  for (const node of intervals.children) node.setAttribute('aria-pressed', String(node.dataset.interval === chosen));
  const closes = mine.find((item) => item.interval === chosen)?.closes ?? [];
  $('#pickers').hidden = !items.length;
  if (closes.length) drawRows(rows, closes, (close) => close.close_ms, makeRow);
  else stateRow(rows, 'timer', t('closes.none'), t('closes.none_text'));
  chart ??= new LineChart($('[data-chart="closes"]'), {
    format: millis, least: 100, language: locale, empty: t('closes.none'),
    lines: AT.map((key, at) => ({ key, name: t(`closes.${key.slice(0, -3)}`), tone: [3, 2, 5, 4][at] })),
  });
  const course = [...closes].reverse();
  chart.setData(course.map((close) => close.close_ms), Object.fromEntries(AT.map((key) => [key, course.map((close) => close[key])])), 1);
}

async function load() {
  if (!rows.children.length) loadingRow(rows);
  try {
    items = (await api('GET', 'closes')).items;
    $('#cache-off').hidden = true;
    show();
  } catch (error) {
    const isOff = error instanceof ApiError && error.data.reason === 'cache_off';
    $('#cache-off').hidden = !isOff;
    if (!isOff) failedRow(rows, error, load);
    else {
      items = [];
      show();
    }
  }
}

market.addEventListener('change', show);
$('#pickers').addEventListener('submit', (event) => event.preventDefault());
load();
poll(load, EVERY_MS);
