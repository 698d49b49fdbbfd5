/* Accounts: all that are watched, keys seen on signed calls that could be, and the way to one of them. */

import {
  $, api, button, cell, confirmDialog, busy, drawRows, el, failedRow, loadingRow, number, pill, poll, stateRow, t, time, tn, toast, toastError,
} from './core.js';
import { STATE_TONES, answered, hint, hostOf, keyLine, marketName, modeName, stateName, whyText } from './account_words.js';
import { AccountView } from './account_view.js';

const EVERY_MS = 3000;
const body = $('#accounts');
const seenBody = $('#seen');
let accounts = null;
let seen = [];
let view = null;

const address = (id) => `/admin/accounts?account=${id}`;

function makeRow(account) {
  const { hits, missed, share } = answered(account);
  const { name, id, state, why, mode } = account;
  return el('tr', {},
    el('th', { scope: 'row', class: 'lead wrap-any' }, el('a', { href: address(id), onclick: (event) => follow(event, id) }, name), el('span', { class: 'soft small d-block fw-normal' }, marketName(account.market))),
    cell(t('accounts.how'), el('span', {}, modeName(mode)), 'how'),
    cell(t('accounts.state'), el('div', { class: 'state-cell' }, pill(stateName(state), STATE_TONES[state] ?? ''), why && el('span', { class: 'soft small d-block' }, whyText(why))), 'why-cell'),
    cell(t('accounts.open'), number(account.open_orders), 'num'),
    cell(t('accounts.answered'), el('span', { class: 'text-end', title: t('accounts.answered_help') }, share === null ? '–' : `${number(share)} %`, share !== null && el('span', { class: 'soft small d-block' }, t('accounts.of', { hits, all: hits + missed }))), 'num'),
    cell(t('accounts.differences'), account.differences ? el('b', { class: 'bad-text' }, number(account.differences)) : '0', 'num'),
    cell(t('accounts.keys'), account.keys.length ? el('div', { class: 'key-cell' }, account.keys.slice(0, 3).map((key) => el('div', {}, keyLine(key))), account.keys.length > 3 && el('span', { class: 'soft small' }, tn('accounts.more_keys', account.keys.length - 3))) : el('span', { class: 'soft' }, t('accounts.no_key'))));
}

function makeSeen(key) {
  const name = t('accounts.key_of', { hint: hint(key.hint), market: marketName(key.market) });
  const isLinkable = accounts.some((account) => hostOf(account.market) === key.market);
  return el('tr', {},
    el('th', { scope: 'row', class: 'lead' }, el('code', {}, hint(key.hint))),
    cell(t('accounts.market'), marketName(key.market)),
    cell(t('accounts.address'), el('span', { class: 'mono' }, key.address)),
    cell(t('accounts.last_call'), time(key.last)),
    cell(t('accounts.calls'), number(key.calls), 'num'),
    cell('', el('div', { class: 'row-actions buttons' },
      isLinkable && button(t('accounts.link_to'), (event) => openForm('linkSeen', event, key), { 'aria-label': t('accounts.link_to_of', { name }) }),
      button(t('accounts.watch'), (event) => openForm('addAccount', event, key), { kind: 'primary', 'aria-label': t('accounts.watch_of', { name }) }))));
}

function draw() {
  if (accounts.length) drawRows(body, accounts, (account) => account.id, makeRow);
  else stateRow(body, 'wallet', t('accounts.none'), t('accounts.none_text'));
  if (seen.length) drawRows(seenBody, seen.map((key) => ({ ...key, links: accounts.filter((account) => hostOf(account.market) === key.market).length > 0 })), (key) => `${key.market} ${key.digest}`, makeSeen);
  else stateRow(seenBody, 'key', t('accounts.seen_none'), t('accounts.seen_none_text'));
}

async function load() {
  if (accounts === null) {
    loadingRow(body);
    loadingRow(seenBody);
  }
  try {
    const answer = await api('GET', 'accounts');
    accounts = answer.items;
    seen = answer.seen;
    draw();
    view?.setItem(accounts.find((account) => account.id === view.id) ?? null);
  } catch (error) {
    if (accounts !== null) return;
    failedRow(body, error, refresh);
    failedRow(seenBody, error, refresh);
  }
}

const refresh = poll(load, EVERY_MS);

/* ---- one of them ---- */

function follow(event, id) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(id);
}

function go(id, { replace = false } = {}) {
  history[replace ? 'replaceState' : 'pushState'](null, '', id ? address(id) : '/admin/accounts');
  show({ move: true });
}

/** Show what the address says: all accounts, or one. */
function show({ move = false } = {}) {
  const id = Number(new URLSearchParams(location.search).get('account')) || 0;
  if (view && view.id === id) return;
  const last = view?.id;
  view?.close();
  view = null;
  $('#list-view').hidden = Boolean(id);
  $('#one-view').hidden = !id;
  if (id) {
    view = new AccountView(id, { onUnlink: unlink });
    if (accounts) view.setItem(accounts.find((account) => account.id === id) ?? null);
    else refresh();
  } else if (move) refresh();
  if (!move) return;
  scrollTo(0, 0);
  (id ? $('#one-title') : $(`#accounts a[href="${address(last)}"]`) ?? $('#list-title')).focus({ preventScroll: true });
}

addEventListener('popstate', () => show({ move: true }));
$('#back').addEventListener('click', (event) => follow(event, 0));

/* ---- changes ---- */

async function openForm(which, event, about = null) {
  const where = event.currentTarget;
  try {
    const forms = await import('./account_form.js');
    const done = await forms[which](about, { accounts: accounts ?? [], seen });
    if (!done) return;
    await load();
    if (which === 'addAccount') go(done.id);
    else if (!where.isConnected) $('#seen-title').closest('section').scrollIntoView();
  } catch (error) {
    toastError(error);
  }
}

$('#add').addEventListener('click', (event) => openForm('addAccount', event));
$('#link').addEventListener('click', (event) => view?.item && openForm('linkKey', event, view.item));

$('#remove').addEventListener('click', async (event) => {
  const { item } = view ?? {};
  if (!item) return;
  const where = event.currentTarget;
  const { name, mode, id } = item;
  const text = [t('accounts.remove_text'), t(mode === 'secret' ? 'accounts.remove_secret' : 'accounts.remove_digest'), t('accounts.remove_after')];
  if (!(await confirmDialog({ title: t('accounts.remove_title', { name }), text, ok: t('accounts.remove') }))) return;
  await busy(where, async () => {
    try {
      await api('DELETE', `accounts/${id}`);
      toast(t('accounts.removed', { name }));
    } catch (error) {
      if (error.status !== 404) {
        toastError(error);
        return;
      }
    }
    go(0, { replace: true });
    await load();
  });
});

async function unlink(key, where) {
  const { item } = view ?? {};
  if (!item) return;
  const text = [t('accounts.unlink_text'), item.keys.length === 1 && t(item.mode === 'key' ? 'accounts.unlink_last_key' : 'accounts.unlink_last')].filter(Boolean);
  if (!(await confirmDialog({ title: t('accounts.unlink_title', { hint: hint(key.hint), name: item.name }), text, ok: t('accounts.unlink') }))) return;
  await busy(where, async () => {
    try {
      await api('DELETE', `accounts/${item.id}/keys/${key.digest}`);
      toast(t('accounts.unlinked', { hint: hint(key.hint) }));
    } catch (error) {
      toastError(error);
    }
    await load();
  });
}

show();
refresh();
