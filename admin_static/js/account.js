/* One's own account: the sessions, the tokens of scripts, the password. */
import {
  $, api, busy, button, cell, confirmDialog, drawRows, el, failedRow, fieldError, loadingRow, onSubmit, openDialog, pill, secretDialog,
  stateRow, t, time, timeText, toast, toastError,
} from './core.js';
import { passwordForm } from './password_form.js';

const DAY = 86400e3;

/* ---- sessions ---- */

const sessions = $('#sessions');

/** "Chrome 126, Windows" out of a User-Agent; unknown ones are shown as they are. */
function device(agent) {
  const browsers = [['Edg', 'Edge'], ['OPR', 'Opera'], ['Firefox', 'Firefox'], ['FxiOS', 'Firefox'], ['CriOS', 'Chrome'], ['Chrome', 'Chrome'], ['Version', 'Safari']];
  const systems = [[/Windows/, 'Windows'], [/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Mac OS X/, 'macOS'], [/Linux/, 'Linux']];
  const browser = browsers.map(([mark, name]) => [name, agent.match(new RegExp(`${mark}/(\\d+)`))]).find(([, found]) => found);
  const system = systems.find(([mark]) => mark.test(agent));
  return browser && system ? `${browser[0]} ${browser[1][1]}, ${system[1]}` : agent.slice(0, 120) || t('account.unknown_device');
}

async function loadSessions() {
  if (!sessions.children.length) loadingRow(sessions);
  try {
    const { items } = await api('GET', 'sessions');
    items.sort((one, other) => other.current - one.current || other.last_seen - one.last_seen);
    $('#end-others').hidden = items.length < 2;
    drawRows(sessions, items, (item) => item.id, (item) => el('tr', {},
      el('th', { scope: 'row', class: 'lead fw-normal wrap-any', title: item.user_agent }, el('span', {}, device(item.user_agent ?? '')), item.current && [' ', pill(t('account.current'), 'ok')]),
      cell(t('account.ip'), el('span', { class: 'mono' }, item.ip)),
      cell(t('account.last_seen'), time(item.last_seen)),
      cell(t('account.created'), time(item.created)),
      cell('', item.current ? '' : el('div', { class: 'row-actions' }, button(t('account.end'), (event) => end(item, event.currentTarget), { 'aria-label': t('account.end_of', { ip: item.ip }) })), item.current ? 'blank' : '')));
  } catch (error) {
    if (sessions.querySelector('tr[data-key]')) toastError(error);
    else failedRow(sessions, error, loadSessions);
  }
}

const end = (item, where) => busy(where, async () => {
  try {
    await api('DELETE', `sessions/${item.id}`);
    toast(t('account.ended'));
  } catch (error) {
    if (error.status !== 404) toastError(error);
  }
  await loadSessions();
});

$('#end-others').addEventListener('click', async (event) => {
  const where = event.currentTarget;
  if (!(await confirmDialog({ title: t('account.end_others_title'), text: t('account.end_others_text'), ok: t('account.end_others') }))) return;
  await busy(where, async () => {
    try {
      await api('DELETE', 'sessions');
      toast(t('account.ended'));
    } catch (error) {
      toastError(error);
    }
    await loadSessions();
  });
});

/* ---- tokens ---- */

const tokens = $('#tokens');
const dialog = $('#token-dialog');
const form = $('#token-form');

async function loadTokens() {
  if (!tokens.children.length) loadingRow(tokens);
  try {
    const { items } = await api('GET', 'tokens');
    if (!items.length) {
      stateRow(tokens, 'key', t('account.no_tokens'), t('account.no_tokens_text'));
      return;
    }
    drawRows(tokens, items, (item) => item.id, (item) => {
      const isOver = item.expires !== null && item.expires <= Date.now();
      return el('tr', {},
        el('th', { scope: 'row', class: 'lead fw-normal wrap-any' }, el('span', {}, item.name)),
        cell(t('account.scope'), pill(t(`account.scope_${item.scope}`), item.scope === 'write' ? 'warn' : 'info')),
        cell(t('account.expires'), el('span', {}, time(item.expires, { empty: t('account.life_never') }), isOver && [' ', pill(t('account.expired'), 'bad')])),
        cell(t('account.last_used'), el('span', {}, time(item.last_used, { empty: t('app.never') }), item.last_used_ip && el('span', { class: 'soft mono' }, ` ${item.last_used_ip}`))),
        cell(t('account.created'), time(item.created)),
        cell('', el('div', { class: 'row-actions' }, button(t('account.revoke'), (event) => revoke(item, event.currentTarget), { class: 'btn btn-plain btn-sm danger', 'aria-label': t('account.revoke_of', { name: item.name }) }))));
    });
  } catch (error) {
    if (tokens.querySelector('tr[data-key]')) toastError(error);
    else failedRow(tokens, error, loadTokens);
  }
}

async function revoke(item, where) {
  if (!(await confirmDialog({ title: t('account.revoke_title', { name: item.name }), text: t('account.revoke_text'), ok: t('account.revoke') }))) return;
  await busy(where, async () => {
    try {
      await api('DELETE', `tokens/${item.id}`);
      toast(t('account.revoked', { name: item.name }));
    } catch (error) {
      if (error.status !== 404) toastError(error);
    }
    await loadTokens();
  });
}

function showDay() {
  $('#token-day-part').hidden = form.elements.life.value !== 'day';
}

form.elements.life.addEventListener('change', showDay);
$('#token-add').addEventListener('click', () => {
  form.reset();
  form.elements.expires.min = timeText(Date.now() + DAY).slice(0, 10);
  form.elements.expires.value = timeText(Date.now() + 30 * DAY).slice(0, 10);
  showDay();
  openDialog(dialog);
  form.elements.name.focus();
});

onSubmit(form, async () => {
  const { name, scope, life, expires } = form.elements;
  if (!name.value.trim()) return fieldError(name, t('error.required'));
  let until = null;
  if (life.value === 'day') {
    if (!expires.value) return fieldError(expires, t('error.required'));
    until = new Date(`${expires.value}T23:59:59`).getTime();
  } else if (life.value) {
    until = Date.now() + Number(life.value) * DAY;
  }
  const made = await api('POST', 'tokens', { name: name.value.trim(), scope: scope.value, expires: until });
  dialog.close();
  loadTokens();
  return secretDialog({ title: t('account.token_made', { name: made.name }), text: t('account.token_made_text'), secret: made.token });
});

passwordForm(() => {
  toast(t('account.password_changed'));
  return loadSessions();
});
loadSessions();
loadTokens();
