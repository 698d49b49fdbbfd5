/* Stream clients: who listens to streams through this gateway, and a button that disconnects one. */

import { $, api, bytes, cell, confirmDialog, drawRows, duration, el, failedRow, has, iconButton, lang, loadingRow, number, poll, stateRow, t, timeText, toast, toastError } from './core.js';

const EVERY_MS = 2000;
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';
const rows = $('#rows');
const counts = $('#counts');
/** Frames of each client, and of all, at the last look: what has come since is the rate. */
let before = new Map();
let looked = 0;

const marketName = (name) => (has(`live.market.${name}`) ? t(`live.market.${name}`) : name);
const rate = (value) => (value === null ? '–' : t('clients.per_s', { n: value.toLocaleString(locale, { maximumFractionDigits: value < 10 ? 1 : 0 }) }));

function rateOf(id, frames, seconds) {
  const last = before.get(id);
  return last === undefined || seconds <= 0 ? null : Math.max(0, frames - last) / seconds;
}

async function disconnect(client) {
  const isSure = await confirmDialog({ title: t('clients.disconnect'), text: t('clients.disconnect_text', { address: client.address }), ok: t('clients.disconnect') });
  if (!isSure) return;
  try {
    await api('DELETE', `clients/${client.id}`);
    toast(t('clients.disconnected', { address: client.address }));
  } catch (error) {
    toastError(error);
  }
  load();
}

function makeRow(client) {
  const names = client.names.join(', ') + (client.streams > client.names.length && client.names.length ? ' …' : '');
  const what = el('div', {},
    el('div', {}, t(`clients.kind.${client.kind}`) + (client.market ? ` · ${marketName(client.market)}` : '')),
    el('div', { class: 'soft small mono wrap-any' }, names || client.path));
  const queue = el('span', { class: 'text-end' }, bytes(client.queue),
    client.dropped > 0 && el('span', { class: 'soft small d-block' }, t('clients.dropped_n', { n: number(client.dropped) })));
  return el('tr', {},
    cell(t('clients.address'), el('span', { class: 'mono' }, client.address), 'lead fw-normal'),
    cell(t('clients.what'), what, 'whole wrap-any'),
    cell(t('clients.streams'), client.kind === 'market' ? number(client.streams) : '–', 'num'),
    cell(t('clients.rate'), rate(client.rate), 'num'),
    cell(t('clients.bytes'), bytes(client.bytes), 'num'),
    cell(t('clients.queue'), queue, 'num'),
    cell(t('clients.since'), el('span', { title: timeText(client.since) }, duration(Math.max(0, Date.now() - client.since) / 1000)), 'num'),
    cell('', el('div', { class: 'row-actions' }, iconButton('close', `${t('clients.disconnect')}: ${client.address}`, () => disconnect(client), { danger: true })), 'trail'));
}

function countsRow(all) {
  const closed = all.closed_slow + all.closed_lost;
  const out = el('span', { class: 'text-end' }, rate(all.rate), all.events_in > 0 && el('span', { class: 'soft small d-block' }, t('clients.ratio', { n: (all.frames_out / all.events_in).toLocaleString(locale, { maximumFractionDigits: 1 }) })));
  return el('tr', {},
    cell(t('clients.clients'), number(all.clients.length), 'num'),
    cell(t('clients.upstream'), number(all.upstream_streams), 'num'),
    cell(t('clients.in'), rate(all.rate_in), 'num'),
    cell(t('clients.out'), out, 'num'),
    cell(t('clients.bytes'), bytes(all.bytes_out), 'num'),
    cell(t('clients.dropped'), number(all.dropped), 'num'),
    cell(t('clients.closed'), closed ? t('clients.closed_n', { slow: number(all.closed_slow), lost: number(all.closed_lost) }) : '0', 'num'));
}

function show(all, seconds) {
  all.rate = rateOf('out', all.frames_out, seconds);
  all.rate_in = rateOf('in', all.events_in, seconds);
  for (const client of all.clients) client.rate = rateOf(client.id, client.frames, seconds);
  before = new Map([['out', all.frames_out], ['in', all.events_in], ...all.clients.map((client) => [client.id, client.frames])]);
  drawRows(counts, [all], () => 'all', countsRow);
  if (all.clients.length) drawRows(rows, all.clients, (client) => client.id, makeRow);
  else stateRow(rows, 'plug', t('clients.none'), t('clients.none_text'));
}

async function load() {
  if (!rows.children.length) loadingRow(rows);
  try {
    const all = await api('GET', 'clients');
    const now = performance.now();
    show(all, looked ? (now - looked) / 1000 : 0);
    looked = now;
  } catch (error) {
    failedRow(rows, error, load);
  }
}

load();
poll(load, EVERY_MS);
