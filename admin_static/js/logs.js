/* The request log: its switch, how long rows are kept, the rows newest first with filters, details, clearing, export.
   Paging goes by key (`before` = the `next` of the page before), so it is as fast at the end as at the start. */
import {
  $, $$, api, bytes, cell, confirmDialog, copyText, button, drawRows, el, failedRow, fieldError, iconButton, loadingRow,
  makeDialog, number, onSubmit, openDialog, pill, poll, query, stateRow, t, time, timeText, tn, toast, toastError,
} from './core.js';

const LIMIT = 100;
const RANGES = { '15m': 900e3, '1h': 3600e3, '1d': 86400e3, '7d': 7 * 86400e3 };
const form = $('#filter-form');
const rows = $('#rows');
const FIELDS = ['range', 'from', 'to', 'status', 'market', 'ip', 'path', 'text'];

/* ---- the switch and the retention ---- */

const enabled = $('#enabled');
const retention = $('#retention-form');
let log = null;

function showLog(now) {
  log = now;
  enabled.checked = log.enabled;
  enabled.disabled = false;
  $('#retention-text').textContent = t('logs.retention_now', { n: log.rows ?? 0, days: log.retention_days, rows: log.max_rows });
  const dropped = $('#dropped');
  dropped.hidden = !log.dropped;
  $('p', dropped).textContent = tn('logs.dropped', log.dropped ?? 0);
  if (retention.hidden) {
    retention.elements.retention_days.value = log.retention_days;
    retention.elements.max_rows.value = log.max_rows;
  }
}

async function loadLog() {
  try {
    showLog(await api('GET', 'log'));
  } catch (error) {
    toastError(error);
  }
}

enabled.addEventListener('change', async () => {
  const want = enabled.checked;
  enabled.disabled = true;
  try {
    showLog(await api('PUT', 'log', { enabled: want }));
    toast(t(want ? 'logs.now_on' : 'logs.now_off'));
  } catch (error) {
    enabled.checked = !want;
    enabled.disabled = false;
    toastError(error);
  }
  enabled.focus();
  if (!rows.querySelector('tr[data-key]')) load();
});

function openRetention(open) {
  retention.hidden = !open;
  $('#retention').setAttribute('aria-expanded', String(open));
}

$('#retention').addEventListener('click', () => {
  openRetention(retention.hidden);
  if (!retention.hidden) retention.elements.retention_days.focus();
});

onSubmit(retention, async () => {
  const { retention_days: days, max_rows: most } = retention.elements;
  const fewer = log && (Number(days.value) < log.retention_days || Number(most.value) < log.max_rows);
  if (fewer && !(await confirmDialog({ title: t('logs.retention_fewer'), text: t('logs.retention_fewer_text'), ok: t('app.save') }))) return;
  const now = await api('PUT', 'log', { retention_days: Number(days.value), max_rows: Number(most.value) });
  openRetention(false);
  showLog(now);
  $('#retention').focus();
  toast(t('app.saved'));
});

/* ---- filters ---- */

let filters = {};
let pages = [''];
let ticket = 0;

const localTime = (field) => (field.value ? new Date(field.value).getTime() : '');

/** Read the form into the query of the API. A range counts back from now, and stays fixed while paging. */
function readFilters() {
  const { range, from, to, status, market, ip, path, text, errors } = form.elements;
  const isOwn = range.value === 'own';
  filters = {
    from: RANGES[range.value] ? Date.now() - RANGES[range.value] : isOwn ? localTime(from) : '',
    to: isOwn && to.value ? localTime(to) + 999 : '',
    status: status.value, market: market.value, ip: ip.value.trim(), path: path.value.trim(), text: text.value.trim(),
    errors: errors.checked ? '1' : '',
  };
  const count = [range.value, filters.status, filters.market, filters.ip, filters.path, filters.text, filters.errors].filter(Boolean).length;
  const badge = $('#filter-count');
  badge.hidden = !count;
  badge.textContent = tn('logs.filter_count', count);
  $('#export').href = `/admin/api/logs/export${query(filters)}`;
  const shown = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value.trim()]).filter(([name]) => isOwn || (name !== 'from' && name !== 'to')));
  history.replaceState(null, '', location.pathname + query({ ...shown, errors: filters.errors }));
  return count;
}

function showOwn() {
  for (const part of $$('[data-own]', form)) part.hidden = form.elements.range.value !== 'own';
}

function start() {
  showOwn();
  readFilters();
  pages = [''];
  return load();
}

onSubmit(form, async () => {
  const { from, to, range } = form.elements;
  if (range.value === 'own' && from.value && to.value && from.value > to.value) return fieldError(to, t('logs.to_before_from'));
  return start();
});
form.addEventListener('reset', () => setTimeout(start));
for (const name of ['range', 'status', 'market', 'errors']) {
  form.elements[name].addEventListener('change', () => {
    if (form.elements.range.value === 'own' && !form.elements.from.value) {
      showOwn();
      const day = new Date(Date.now() - 86400e3);
      form.elements.from.value = timeText(day.setSeconds(0, 0)).replace(' ', 'T');
    }
    form.requestSubmit();
  });
}

/* ---- the rows ---- */

const tone = (status) => (!status ? 'bad' : status < 300 ? 'ok' : status < 400 ? 'info' : status < 500 ? 'warn' : 'bad');
const milliseconds = (value) => (value === null || value === undefined ? '–' : `${number(value < 100 ? Math.round(value * 10) / 10 : Math.round(value))} ms`);
const marketName = (market) => (market ? t(`market.${market}`) : '–');

function makeRow(item) {
  const open = () => details(item);
  return el('tr', {},
    cell(t('logs.time'), time(item.time, { milliseconds: true }), 'lead fw-normal'),
    cell(t('logs.status'), pill(item.status ? String(item.status) : t('logs.no_status'), tone(item.status))),
    cell(t('logs.market'), el('span', { class: 'text-nowrap' }, marketName(item.market))),
    el('td', { class: 'whole request wrap-any' },
      el('div', { class: 'clamp', title: item.path.length > 90 ? item.path : null }, el('span', { class: 'method' }, item.method), ' ', el('span', { class: 'mono' }, item.path)),
      item.error && el('div', { class: 'bad-text small clamp' }, item.error)),
    cell(t('logs.ip'), el('span', { class: 'mono' }, item.ip), 'ip wrap-any'),
    cell(t('logs.duration'), el('span', {}, milliseconds(item.duration_ms)), 'num'),
    cell(t('logs.bytes'), el('span', {}, bytes(item.bytes)), 'num'),
    el('td', { class: 'trail' }, iconButton('info', t('logs.details_of', { id: String(item.id) }), open)));
}

async function load({ quiet = false } = {}) {
  const mine = ++ticket;
  if (!quiet) {
    if (!rows.children.length) loadingRow(rows);
    $('#table').setAttribute('aria-busy', 'true');
  }
  try {
    const before = pages.at(-1);
    const answer = await api('GET', `logs${query({ ...filters, before, limit: LIMIT })}`);
    if (mine !== ticket) return;
    show(answer);
  } catch (error) {
    if (mine !== ticket || quiet) return;
    failedRow(rows, error, () => load());
    $('#foot-text').textContent = '';
    $('#foot').hidden = pages.length < 2;
    for (const id of ['#newest', '#newer', '#older']) $(id).disabled = true;
  } finally {
    if (mine === ticket) $('#table').removeAttribute('aria-busy');
  }
}

function show({ items, next }) {
  const more = next !== null && next !== undefined && next !== '';
  const isFiltered = Object.values(filters).some(Boolean);
  const part = items.length < LIMIT && more; // the search stops after a while, so that one page never takes long
  if (items.length) drawRows(rows, items, (item) => item.id, makeRow);
  else if (part) stateRow(rows, 'search', t('logs.none_yet'), t('logs.none_yet_text'), button(t('logs.search_on'), () => $('#older').click(), { kind: 'primary' }));
  else if (pages.length > 1) stateRow(rows, 'list', t('logs.end'));
  else if (isFiltered) stateRow(rows, 'search', t('logs.no_match'), t('logs.no_match_text'), button(t('logs.reset'), () => form.reset()));
  else if (log && !log.enabled) stateRow(rows, 'list', t('logs.empty_off'), t('logs.empty_off_text'));
  else stateRow(rows, 'list', t('logs.empty'), t('logs.empty_text'));
  $('#foot-text').textContent = !items.length ? '' : part ? t('logs.part', { n: items.length }) : tn('logs.page', items.length, { page: pages.length });
  $('#foot').hidden = pages.length < 2 && !more && !items.length;
  $('#newest').disabled = pages.length < 2;
  $('#newer').disabled = pages.length < 2;
  $('#older').disabled = !more;
  $('#older').dataset.next = more ? String(next) : '';
  $('#older span').textContent = part ? t('logs.search_on') : t('logs.older');
}

async function turn(change) {
  change();
  await load();
  $('#table').scrollIntoView();
}

$('#older').addEventListener('click', (event) => {
  if (event.currentTarget.dataset.next) turn(() => pages.push(event.currentTarget.dataset.next));
});
$('#newer').addEventListener('click', () => turn(() => pages.pop()));
$('#newest').addEventListener('click', () => turn(() => {
  readFilters();
  pages = [''];
}));

async function details(item) {
  let full = item;
  try {
    full = await api('GET', `logs/${item.id}`);
  } catch (error) {
    if (error.status === 404) return toast(t('logs.gone'), 'warn');
  }
  const line = (name, value, shown = value) => (value === null || value === undefined || value === '' ? [] : [el('dt', {}, name), el('dd', {}, shown)]);
  const facts = el('dl', { class: 'facts' },
    line(t('logs.time'), full.time, [time(full.time, { milliseconds: true }), el('div', { class: 'soft small' }, `${new Date(full.time).toISOString().replace('T', ' ').replace('Z', '')} UTC`)]),
    line(t('logs.request'), full.path, el('span', { class: 'mono wrap-any' }, `${full.method} ${full.path}`)),
    line(t('logs.market'), full.market, marketName(full.market)),
    line(t('logs.ip'), full.ip, el('span', { class: 'mono' }, full.ip)),
    line(t('logs.status'), full.status, pill(String(full.status), tone(full.status))),
    [el('dt', {}, t('logs.upstream_status')), el('dd', {}, full.upstream_status ? pill(String(full.upstream_status), tone(full.upstream_status)) : el('span', { class: 'soft' }, t(full.status < 400 ? 'logs.from_memory' : 'logs.not_sent')))],
    line(t('logs.duration'), full.duration_ms, milliseconds(full.duration_ms)),
    line(t('logs.bytes'), full.bytes, `${number(full.bytes)} B`),
    line(t('logs.error'), full.error, el('span', { class: 'bad-text' }, full.error)));
  const only = button(t('logs.only_ip'), () => {
    form.elements.ip.value = full.ip;
    dialog.close();
    form.requestSubmit();
  }, { small: false });
  const copy = button(t('logs.copy'), () => copyText(JSON.stringify(full, null, 1)), { small: false, symbol: 'copy' });
  const dialog = makeDialog(t('logs.details_of', { id: String(full.id) }), facts, [copy, only, button(t('app.close'), null, { kind: 'primary', small: false, 'data-close': true, autofocus: true })]);
  return openDialog(dialog);
}

/* ---- clearing ---- */

const clearDialog = $('#clear-dialog');
const clearForm = $('#clear-form');

$('#clear').addEventListener('click', () => {
  clearForm.reset();
  openDialog(clearDialog);
});
clearForm.elements.days.addEventListener('focus', () => {
  clearForm.elements.what.value = 'old';
});

onSubmit(clearForm, async () => {
  const { what, days } = clearForm.elements;
  if (what.value === 'old' && days.value === '') return fieldError(days, t('error.required'));
  const path = what.value === 'all' ? 'logs' : `logs?older_than=${Date.now() - Number(days.value) * 86400e3}`;
  const { removed } = await api('DELETE', path, undefined, { timeout: 300000 });
  clearDialog.close();
  toast(tn('logs.removed', removed));
  pages = [''];
  loadLog();
  return load();
});

/* ---- start ---- */

const asked = new URLSearchParams(location.search);
for (const name of FIELDS) if (asked.has(name)) form.elements[name].value = asked.get(name);
form.elements.errors.checked = asked.has('errors');
showOwn();
const count = readFilters();
if (matchMedia('(max-width: 767.98px)').matches && !count) $('#filters').open = false;
await loadLog();
await load();
poll(async () => {
  if (!$('#follow').checked || pages.length > 1 || document.querySelector('dialog[open]')) return;
  readFilters();
  await load({ quiet: true });
}, 3000);
poll(async () => {
  if (retention.hidden && !document.querySelector('dialog[open]')) await api('GET', 'log').then(showLog, () => {});
}, 20000);
