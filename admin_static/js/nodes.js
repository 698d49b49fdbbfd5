/* Nodes: who shares Redis, how each is doing, and a button that has a balancer leave one out. */

import { $, api, button, cell, confirmDialog, drawRows, duration, el, failedRow, fill, has, icon, lang, loadingRow, number, pill, poll, t, timeText, toast, toastError } from './core.js';

const EVERY_MS = 2000;
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';
const rows = $('#rows');
let isLoaded = false;
let shown = [];
let canDrain = true;

const poolName = (name) => (has(`live.pool.${name}`) ? t(`live.pool.${name}`) : name);
const kindName = (kind) => (has(`nodes.kind.${kind}`) ? t(`nodes.kind.${kind}`) : kind);
const percent = (load) => (load.limit ? Math.round((load.used * 100) / load.limit) : 0);

async function setDrained(node, on) {
  const others = shown.filter((one) => one.up && !one.drained && one.name !== node.name);
  if (on) {
    const text = [t('nodes.drain_text', { name: node.name }), ...(others.length ? [] : [el('strong', {}, t('nodes.drain_last'))])];
    if (!(await confirmDialog({ title: t('nodes.drain_of', { name: node.name }), text, ok: t('nodes.drain') }))) return;
  }
  try {
    await api('POST', 'nodes/drain', { name: node.name, on });
    toast(t(on ? 'nodes.drained_done' : 'nodes.undrained_done', { name: node.name }));
  } catch (error) {
    toastError(error);
  }
  load();
}

function stateCell(node) {
  const ago = duration(node.seen_ms / 1000);
  if (node.isUnknown) return [pill(t('nodes.unknown'), 'warn'), el('span', { class: 'soft small d-block' }, t('nodes.seen_ago', { time: ago }))];
  if (!node.up) return [pill(t('nodes.gone'), 'bad'), el('span', { class: 'soft small d-block' }, t('nodes.seen_ago', { time: ago }))];
  const started = el('span', { class: 'soft small d-block', title: timeText(node.started_ms) }, t('nodes.since', { time: duration(Math.max(0, Date.now() - node.started_ms) / 1000) }));
  return [pill(t(node.drained ? 'nodes.drained' : 'nodes.up'), node.drained ? 'warn' : 'ok'), started, !node.own && el('span', { class: 'soft small d-block' }, t('nodes.seen_ago', { time: ago }))];
}

function makeRow(node) {
  const name = [node.name, ...(node.own ? [' ', el('span', { class: 'this soft small fw-normal' }, t('nodes.this'))] : []),
    el('span', { class: 'soft small d-block fw-normal' }, t('nodes.version', { version: node.version || '?' })),
    node.roles.length < 3 && el('span', { class: 'soft small d-block fw-normal' }, node.roles.map((role) => t(`nodes.role.${role}`)).join(', ')),
    node.url && el('span', { class: 'soft small mono d-block fw-normal wrap-any' }, node.url)];
  const egresses = node.egresses.map((one) => el('span', { title: kindName(one.kind) }, one.name)).flatMap((one, at) => (at ? [', ', one] : [one]));
  const loads = node.weights.filter((load) => load.used > 0);
  const lag = node.lag_ms.toLocaleString(locale, { maximumFractionDigits: node.lag_ms < 10 ? 1 : 0 });
  return el('tr', { class: node.up ? '' : 'is-gone' },
    el('th', { scope: 'row', class: 'lead wrap-any' }, name),
    cell(t('nodes.state'), el('div', {}, stateCell(node)), 'node-state'),
    cell(t('nodes.egresses'), el('span', {}, egresses.length ? egresses : '–'), 'egresses wrap-any'),
    cell(t('nodes.weight'), el('div', { class: 'loads' }, loads.length ? loads.map((load) => el('span', { title: `${number(load.used)} / ${number(load.limit)}` }, `${poolName(load.pool)} ${percent(load)} %`)) : '–')),
    cell(t('nodes.in_flight'), node.up ? number(node.in_flight) : '–', 'num'),
    cell(t('nodes.streams'), node.up ? number(node.streams) : '–', 'num'),
    cell(t('nodes.lag'), node.up ? el('span', { class: node.lag_ms > 250 ? 'bad-text' : '' }, t('nodes.ms', { n: lag })) : '–', 'num'),
    cell('', el('div', { class: 'row-actions' }, !canDrain ? null : node.drained
      ? button(t('nodes.undrain'), () => setDrained(node, false), { 'aria-label': t('nodes.undrain_of', { name: node.name }) })
      : node.up && button(t('nodes.drain'), () => setDrained(node, true), { 'aria-label': t('nodes.drain_of', { name: node.name }) })), 'trail'));
}

const notice = (tone, ...parts) => el('div', { class: `notice ${tone}` }, icon('warning'), el('div', {}, parts));

function notices({ redis, warnings }) {
  const found = [];
  if (!redis.up) {
    found.push(notice('bad',
      el('p', {}, el('strong', {}, t('nodes.redis_gone', { where: redis.where, time: duration(redis.since_s) }))),
      el('p', {}, t('nodes.redis_gone_text')),
      el('p', { class: 'soft small' }, t('nodes.redis_says'), ' ', el('code', {}, redis.problem))));
  } else if (redis.warning) {
    const seconds = Math.abs(redis.clock_off_ms / 1000).toLocaleString(locale, { maximumFractionDigits: 1 });
    found.push(notice('warn', el('p', {}, t(redis.clock_off_ms > 0 ? 'nodes.clock_ahead' : 'nodes.clock_behind', { n: seconds }))));
  }
  for (const { kind, node } of warnings) found.push(notice('warn', el('p', {}, t(`nodes.differs_${kind}`, { name: node }))));
  return found;
}

function show(all) {
  const isAlone = all.redis === null;
  $('#alone').hidden = !isAlone;
  $('#many').hidden = isAlone;
  if (isAlone) {
    fill($('#notices'));
    return;
  }
  canDrain = all.redis.up;
  // What another node does now, nobody knows without Redis; `canDrain` is in here so that rows are drawn anew.
  shown = all.nodes.map((node) => ({ ...node, isUnknown: !all.redis.up && !node.own, canDrain }));
  const sign = JSON.stringify([all.redis.up, all.redis.problem, all.redis.warning, all.warnings, all.redis.up ? 0 : Math.round(all.redis.since_s)]);
  const place = $('#notices');
  if (place.dataset.sign !== sign) {
    place.dataset.sign = sign;
    fill(place, ...notices(all));
  }
  $('#redis').textContent = all.redis.up ? t('nodes.redis_up', { where: all.redis.where }) : t('nodes.list_is_old');
  drawRows(rows, shown, (node) => node.id, makeRow);
}

async function load() {
  if (!isLoaded) loadingRow(rows);
  try {
    show(await api('GET', 'nodes'));
    isLoaded = true;
  } catch (error) {
    isLoaded = false;
    failedRow(rows, error, load);
  }
}

load();
poll(load, EVERY_MS);
