/* The audit: who changed what, when and from where, newest first. Read only. */
import { $, api, button, cell, drawRows, el, failedRow, has, iconButton, loadingRow, makeDialog, onSubmit, openDialog, pill, query, stateRow, t, time, timeText, tn } from './core.js';

const LIMIT = 100;
const ACTIONS = [
  'login', 'login.failed', 'login.throttled', 'logout', 'password.change', 'password.failed', 'session.end', 'session.end_others',
  'whitelist.add', 'whitelist.change', 'whitelist.remove', 'whitelist.import', 'refused.clear', 'log.change', 'log.clear',
  'preload.add', 'preload.change', 'preload.remove', 'user.add', 'user.change', 'user.password', 'user.remove',
  'token.add', 'token.remove', 'account.add', 'account.link', 'account.unlink', 'account.remove', 'nodes.drain', 'nodes.undrain', 'doctor.run',
];
const BAD = new Set(['login.failed', 'login.throttled', 'password.failed']);
const rows = $('#rows');
const form = $('#filter-form');
let pages = [''];
let next = null;
let ticket = 0;

const actionName = (action) => (has(`audit.action.${action}`) ? t(`audit.action.${action}`) : action);
const tone = (action) => (BAD.has(action) ? 'bad' : /\.(remove|clear)$/.test(action) ? 'warn' : /\.add$/.test(action) ? 'ok' : '');

const IDS = new Set(['id', 'session']);
const TIMES = new Set(['expires', 'older_than']);

const asText = (value, name) => {
  if (value === null || value === undefined) return name === 'expires' && value === null ? t('account.life_never') : '–';
  if (TIMES.has(name) && typeof value === 'number') return timeText(value);
  if (name === 'market' && has(`market.${value}`)) return t(`market.${value}`);
  if (name === 'scope') return t(`account.scope_${value}`);
  if (value === true || value === false) return t(value ? 'audit.yes' : 'audit.no');
  return typeof value === 'object' ? JSON.stringify(value) : String(value) || '–';
};
const fieldName = (name) => (has(`audit.field.${name}`) ? t(`audit.field.${name}`) : name);

/** The log and the doctor have but one subject each, and their actions name it. */
const subjectOf = (item) => (/^(log|doctor)\./.test(item.action) ? '' : item.subject === '(unknown user)' ? t('audit.unknown_user') : item.subject);

/** What differs: [[field, before, after]]; of an addition or a removal everything. */
function differences(before, after) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])].filter((name) => !IDS.has(name));
  return names.filter((name) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name])).map((name) => [name, before?.[name], after?.[name]]);
}

/** Before and after; a list of one entry counts as that entry. */
function sides(item) {
  const one = (side) => (side?.entries?.length === 1 ? side.entries[0] : side);
  return [one(item.before), one(item.after)];
}

function changeText(item) {
  const [was, is] = sides(item);
  const isChange = Boolean(was && is);
  if (!isChange && item.action.startsWith('preload.')) return null; // the subject says it all
  const found = differences(was, is).filter(([, before, after]) => isChange || (is ? after : before) !== item.subject);
  if (!found.length) return null;
  const lists = found.find(([, before, after]) => Array.isArray(before ?? after));
  if (lists) return tn('audit.entries', (lists[2] ?? lists[1]).length);
  return found.map(([name, before, after]) => {
    const value = isChange ? `${asText(before, name)} → ${asText(after, name)}` : asText(is ? after : before, name);
    return t('audit.pair', { name: fieldName(name), value });
  }).join(t('audit.join'));
}

function details(item) {
  const table = (before, after) => el('div', { class: 'table-wrap' }, el('table', { class: 'table small' },
    el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, t('audit.field')), el('th', { scope: 'col' }, t('audit.before')), el('th', { scope: 'col' }, t('audit.after')))),
    el('tbody', {}, [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])].filter((name) => !IDS.has(name)).map((name) => el('tr', {},
      el('th', { scope: 'row' }, fieldName(name)), el('td', { class: 'wrap-any' }, asText(before?.[name], name)), el('td', { class: 'wrap-any' }, asText(after?.[name], name)))))));
  const lists = [item.before?.entries ?? [], item.after?.entries ?? []];
  const count = Math.max(...lists.map((list) => list.length));
  const change = !item.before && !item.after ? null
    : count ? Array.from({ length: count }, (_, at) => table(lists[0][at], lists[1][at])) : table(item.before, item.after);
  const facts = el('dl', { class: 'facts' },
    el('dt', {}, t('audit.time')), el('dd', {}, time(item.time)),
    el('dt', {}, t('audit.actor')), el('dd', {}, item.actor || '–'),
    el('dt', {}, t('audit.ip')), el('dd', { class: 'mono' }, item.ip || '–'),
    el('dt', {}, t('audit.action_name')), el('dd', {}, pill(actionName(item.action), tone(item.action)), ' ', el('code', { class: 'soft' }, item.action)),
    subjectOf(item) && [el('dt', {}, t('audit.subject')), el('dd', { class: 'wrap-any' }, subjectOf(item))]);
  openDialog(makeDialog(t('audit.entry', { id: String(item.id) }), [facts, change], button(t('app.close'), null, { kind: 'primary', small: false, 'data-close': true, autofocus: true }), { wide: true }));
}

function makeRow(item) {
  const text = changeText(item);
  return el('tr', {},
    cell(t('audit.time'), time(item.time), 'lead fw-normal'),
    cell(t('audit.actor'), el('span', {}, item.actor || '–'), item.actor ? 'actor wrap-any' : 'blank'),
    cell(t('audit.ip'), el('span', { class: 'mono' }, item.ip || '–'), item.ip ? '' : 'blank'),
    cell(t('audit.action_name'), pill(actionName(item.action), tone(item.action))),
    cell(t('audit.subject'), el('span', { class: 'clamp' }, subjectOf(item)), subjectOf(item) ? 'subject wrap-any' : 'blank'),
    el('td', { class: text ? 'whole change wrap-any small' : 'blank' }, text && (text.length > 140 ? `${text.slice(0, 140)}…` : text)),
    el('td', { class: 'trail' }, iconButton('info', t('audit.entry', { id: String(item.id) }), () => details(item))));
}

async function load() {
  const mine = ++ticket;
  if (!rows.children.length) loadingRow(rows);
  const filters = { action: form.elements.action.value, actor: form.elements.actor.value.trim() };
  history.replaceState(null, '', location.pathname + query(filters));
  try {
    const answer = await api('GET', `audit${query({ ...filters, before: pages.at(-1), limit: LIMIT })}`);
    if (mine !== ticket) return;
    next = answer.next;
    if (answer.items.length) drawRows(rows, answer.items, (item) => item.id, makeRow);
    else if (pages.length > 1) stateRow(rows, 'clock', t('audit.end'));
    else stateRow(rows, 'clock', t('audit.none'));
    $('#foot-text').textContent = answer.items.length ? tn('audit.page', answer.items.length, { page: pages.length }) : '';
  } catch (error) {
    if (mine !== ticket) return;
    next = null;
    failedRow(rows, error, load);
  }
  $('#foot').hidden = pages.length < 2 && !next && !$('#foot-text').textContent;
  $('#newer').disabled = pages.length < 2;
  $('#older').disabled = !next;
}

function start() {
  pages = [''];
  return load();
}

async function turn(change) {
  change();
  await load();
  form.scrollIntoView();
}

$('#older').addEventListener('click', () => turn(() => pages.push(String(next))));
$('#newer').addEventListener('click', () => turn(() => pages.pop()));
onSubmit(form, start);
form.elements.action.addEventListener('change', start);

form.elements.action.append(...ACTIONS.map((action) => el('option', { value: action }, actionName(action))));
const asked = new URLSearchParams(location.search);
for (const name of ['action', 'actor']) if (asked.has(name)) form.elements[name].value = asked.get(name);
load();
