/* The users page: add, let in or keep out, reset the password, delete. One's own account is on /admin/account. */
import {
  $, api, busy, cell, confirmDialog, drawRows, el, failedRow, fieldError, iconButton, loadingRow, onSubmit, openDialog,
  pill, secretDialog, t, time, toast, toastError,
} from './core.js';

const LEAST = 10;
const body = $('#users');
const dialog = $('#user-dialog');
const form = $('#user-form');
let users = null;
let resetting = null;

async function load() {
  if (users === null) loadingRow(body);
  try {
    users = (await api('GET', 'users')).items;
    drawRows(body, users, (user) => user.id, makeRow);
  } catch (error) {
    if (users === null) failedRow(body, error, load);
    else toastError(error);
  }
}

function makeRow(user) {
  const name = user.username;
  const flip = el('input', {
    type: 'checkbox', role: 'switch', class: 'form-check-input', checked: user.enabled, disabled: user.self,
    title: user.self ? t('users.not_self') : null, 'aria-label': t('users.may_log_in_of', { name }),
    onchange: (event) => toggle(user, event.target),
  });
  return el('tr', {},
    el('th', { scope: 'row', class: 'lead wrap-any' }, el('span', {}, name), user.self && [' ', pill(t('users.you'), 'info')], user.must_change && [' ', pill(t('users.must_change'), 'warn')]),
    cell(t('users.may_log_in'), el('span', { class: 'form-switch switch-only' }, flip)),
    cell(t('users.last_login'), time(user.last_login, { empty: t('app.never') })),
    cell(t('users.last_ip'), el('span', { class: 'mono' }, user.last_login_ip ?? '–'), user.last_login_ip ? '' : 'blank'),
    cell(t('users.created'), time(user.created)),
    cell('', user.self
      ? el('div', { class: 'row-actions' }, el('a', { href: '/admin/account', class: 'btn btn-plain btn-sm' }, t('nav.account')))
      : el('div', { class: 'row-actions' },
        iconButton('key', t('users.reset_of', { name }), () => openForm(user)),
        iconButton('trash', t('users.delete_of', { name }), (event) => remove(user, event.currentTarget), { danger: true }))));
}

async function toggle(user, input) {
  const enabled = input.checked;
  const undo = () => {
    input.checked = !enabled;
  };
  if (!enabled && !(await confirmDialog({ title: t('users.disable_title', { name: user.username }), text: t('users.disable_text'), ok: t('users.disable') }))) return undo();
  input.disabled = true;
  try {
    await api('PATCH', `users/${user.id}`, { enabled });
    toast(t(enabled ? 'users.enabled' : 'users.disabled', { name: user.username }));
    await load();
  } catch (error) {
    undo();
    toastError(error);
  }
  input.disabled = false;
  return undefined;
}

async function remove(user, where) {
  const name = user.username;
  if (!(await confirmDialog({ title: t('users.delete_title', { name }), text: t('users.delete_text'), ok: t('app.delete') }))) return;
  await busy(where, async () => {
    try {
      await api('DELETE', `users/${user.id}`);
      toast(t('users.deleted', { name }));
    } catch (error) {
      if (error.status !== 404) toastError(error);
    }
    await load();
  });
}

function openForm(user = null) {
  resetting = user;
  form.reset();
  form.elements.password.type = 'password';
  $('#user-title').textContent = user ? t('users.reset_title', { name: user.username }) : t('users.add');
  $('#user-text').textContent = user ? t('users.reset_text') : '';
  $('#user-text').hidden = !user;
  $('#user-submit').textContent = user ? t('users.reset') : t('users.add_submit');
  $('#username-part').hidden = Boolean(user);
  form.elements.username.required = !user;
  openDialog(dialog);
  (user ? form.elements.password : form.elements.username).focus();
}

$('#add').addEventListener('click', () => openForm());

onSubmit(form, async () => {
  const { username, password } = form.elements;
  const name = resetting ? resetting.username : username.value.trim();
  if (!resetting && !/^[\w.@-]{1,64}$/.test(name)) return fieldError(username, t('users.name_bad'));
  if (password.value && [...password.value].length < LEAST) return fieldError(password, t('password.short', { n: LEAST }));
  const answer = resetting
    ? await api('PATCH', `users/${resetting.id}`, { password: password.value || null })
    : await api('POST', 'users', { username: name, password: password.value || null });
  dialog.close();
  load();
  if (answer.password) {
    return secretDialog({ title: t('users.secret_title', { name }), text: t('users.secret_text', { name }), secret: answer.password });
  }
  return toast(t(resetting ? 'users.was_reset' : 'users.added', { name }));
});

load();
