/* The forms of trading accounts: watch one, link another key to one. Loaded when it is first wanted.
   Keys and secrets stay in their fields until they are sent or the form closes, and nowhere else. */

import { $, $$, api, button, clearErrors, el, fill, fieldError, icon, makeDialog, onSubmit, openDialog, t, toast } from './core.js';
import { MODES_OF, hint, hostOf, marketName, modeName } from './account_words.js';

const isPlain = location.protocol === 'http:' && !['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);

/** A field that shows dots. A key in PEM loses its line ends in it; they are put back before it is sent. */
function secretField(name, label, help, { required = false } = {}) {
  const input = el('input', { class: 'form-control', type: 'password', id: `account-${name}`, name, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', 'data-1p-ignore': true, 'data-lpignore': 'true', 'aria-describedby': `account-${name}-help`, required });
  const eye = el('button', { type: 'button', class: 'btn btn-plain', 'aria-pressed': 'false', 'aria-label': t('accounts.show', { name: label }), title: t('accounts.show', { name: label }), onclick: () => {
    const isShown = input.type === 'password';
    input.type = isShown ? 'text' : 'password';
    eye.setAttribute('aria-pressed', String(isShown));
  } }, icon('eye'));
  return el('div', { 'data-part': name }, el('label', { class: 'form-label', for: input.id }, label), el('div', { class: 'input-group' }, input, eye), el('div', { class: 'form-text', id: `account-${name}-help` }, help));
}

function pemOf(text) {
  const found = /^\s*-----BEGIN ([A-Z ]+)-----(.*)-----END \1-----\s*$/s.exec(text);
  if (!found) return text.trim();
  const lines = found[2].replace(/\s+/g, '').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${found[1]}-----`, ...lines, `-----END ${found[1]}-----`, ''].join('\n');
}

function publicKeyField() {
  const area = el('textarea', { class: 'form-control', id: 'account-public', name: 'public_key', rows: 3, maxlength: 10000, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'account-public-help', placeholder: '-----BEGIN PUBLIC KEY-----' });
  return el('details', { class: 'more', 'data-part': 'public_key' }, el('summary', {}, t('accounts.public_key')), el('label', { class: 'visually-hidden', for: area.id }, t('accounts.public_key')), area, el('div', { class: 'form-text', id: 'account-public-help' }, t('accounts.public_key_help')));
}

const plainNotice = () => el('div', { class: 'notice warn', 'data-plain': true }, icon('warning'), el('p', {}, t('accounts.plain_http')));

const seenLine = (seen) => el('p', { class: 'seen-line' }, icon('key'), el('span', {}, t('accounts.seen_line', { hint: hint(seen.hint), market: marketName(seen.market), address: seen.address })));

/** Show a form in a dialog; `send` gives what the caller gets, or undefined if it has to stay open. */
async function ask(title, form, submit, send) {
  let answer;
  const save = button(submit, null, { kind: 'primary', small: false, type: 'submit', form: form.id });
  const dialog = makeDialog(title, [form, el('div', { class: 'notice bad', 'data-form-error': true, role: 'alert' })], [button(t('app.cancel'), null, { small: false, 'data-close': true }), save], { wide: true });
  form.append($('[data-form-error]', dialog)); // what went wrong is said within the form
  onSubmit(form, async () => {
    const { secret } = form.elements;
    try {
      answer = await send(form.elements);
    } catch (error) {
      // It has left the page, whatever became of it.
      if (secret) {
        secret.value = '';
        fieldError(secret, t('accounts.secret_again'));
      }
      throw error;
    }
    if (answer) dialog.close('done');
  });
  const closed = openDialog(dialog);
  $('input:not([hidden] input), select, textarea', form)?.focus();
  await closed;
  for (const input of $$('input, textarea', form)) if (input.type !== 'radio') input.value = '';
  return answer ?? null;
}

/** Watch an account: all that is needed, or only a name for a key that was `seen`. Gives the new account, or null. */
export function addAccount(seen) {
  const markets = seen ? (seen.market === 'spot' ? ['spot', 'margin'] : [seen.market]) : Object.keys(MODES_OF);
  const market = el('select', { class: 'form-select', id: 'account-market', name: 'market' }, markets.map((name) => el('option', { value: name }, marketName(name))));
  const name = el('input', { class: 'form-control', id: 'account-name', name: 'name', maxlength: 64, required: true, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', 'aria-describedby': 'account-name-help' });
  const modes = el('fieldset', { class: 'modes' });
  const fields = el('div', { class: 'stack' });
  const form = el('form', { id: 'account-form', class: 'stack', method: 'post', autocomplete: 'off' },
    seen && seenLine(seen),
    el('div', { class: 'fields top' },
      el('div', {}, el('label', { class: 'form-label', for: 'account-name' }, t('accounts.name')), name, el('div', { class: 'form-text', id: 'account-name-help' }, t('accounts.name_help'))),
      el('div', { hidden: markets.length === 1 }, el('label', { class: 'form-label', for: 'account-market' }, t('accounts.market')), market)),
    modes, fields);

  const modeCard = (mode, checked) => el('label', { class: 'mode' },
    el('input', { class: 'form-check-input', type: 'radio', name: 'mode', value: mode, checked, onchange: drawFields, 'aria-labelledby': `mode-name-${mode}`, 'aria-describedby': `mode-${mode}` }),
    el('span', { class: 'mode-text' }, el('b', { id: `mode-name-${mode}` }, modeName(mode)),
      el('span', { id: `mode-${mode}` }, ['knows', 'can', 'left'].map((part) => el('span', { class: 'mode-line' }, el('span', { class: 'soft' }, t(`accounts.mode_${part}`)), ' ', t(`accounts.${part}.${mode}`))))));

  function drawModes() {
    // A key that was seen is not the gateway's own: only its secret would make it so.
    const found = MODES_OF[market.value].filter((mode) => !seen || mode !== 'secret');
    fill(modes, el('legend', {}, t('accounts.how_help')), found.map((mode, at) => modeCard(mode, at === 0)));
    drawFields();
  }

  function drawFields() {
    const mode = new FormData(form).get('mode');
    clearErrors(form);
    if (seen) fill(fields, publicKeyField());
    else if (mode === 'secret') {
      fill(fields, isPlain && plainNotice(), el('p', { class: 'form-text' }, t('accounts.secret_how')),
        secretField('key', t('accounts.api_key'), t('accounts.key_read_only'), { required: true }), secretField('secret', t('accounts.secret'), t('accounts.secret_help'), { required: true }));
    } else fill(fields, secretField('key', t('accounts.api_key_optional'), t(`accounts.key_optional.${mode}`)), publicKeyField());
  }

  market.addEventListener('change', drawModes);
  drawModes();
  return ask(t(seen ? 'accounts.watch_title' : 'accounts.add'), form, t('accounts.watch'), async (inputs) => {
    const mode = new FormData(form).get('mode');
    if (!/^[\w.@-]{1,64}$/.test(name.value.trim())) return void fieldError(name, t('error.reason.bad_name'));
    if (inputs.public_key?.value.trim() && inputs.key && !inputs.key.value.trim()) return void fieldError(inputs.key, t('accounts.key_missing'));
    const account = await api('POST', 'accounts', {
      name: name.value.trim(), market: market.value, mode,
      key: inputs.key?.value.trim() || null, digest: seen?.digest ?? null,
      secret: mode === 'secret' ? pemOf(inputs.secret.value) : null, public_key: inputs.public_key?.value.trim() || null,
    });
    toast(t('accounts.added', { name: account.name }));
    return account;
  });
}

const keyForm = (...parts) => el('form', { id: 'account-form', class: 'stack', method: 'post', autocomplete: 'off' }, parts);

/** Link another key to an account: one that was seen, or one that is typed. */
export function linkKey(account, { seen }) {
  const known = seen.filter((key) => key.market === hostOf(account.market));
  const which = el('select', { class: 'form-select', id: 'account-which' }, known.map((key) => el('option', { value: key.digest }, t('accounts.seen_option', { hint: hint(key.hint), address: key.address }))), el('option', { value: '' }, t('accounts.other_key')));
  const typed = secretField('key', t('accounts.api_key'), t('accounts.key_link_help'));
  const change = () => {
    typed.hidden = which.value !== '';
  };
  which.addEventListener('change', change);
  change();
  const form = keyForm(el('p', {}, t('accounts.link_text')), known.length > 0 && el('div', {}, el('label', { class: 'form-label', for: 'account-which' }, t('accounts.which_key')), which), typed, publicKeyField());
  return ask(t('accounts.link_title', { name: account.name }), form, t('accounts.link'), async (inputs) => {
    if (!which.value && !inputs.key.value.trim()) return void fieldError(inputs.key, t('error.required'));
    return send(account, which.value ? { digest: which.value } : { key: inputs.key.value.trim() }, inputs.public_key.value);
  });
}

/** Link a key that was seen to one of the accounts of its market. */
export function linkSeen(seen, { accounts }) {
  const known = accounts.filter((account) => hostOf(account.market) === seen.market);
  const which = el('select', { class: 'form-select', id: 'account-which' }, known.map((account) => el('option', { value: account.id }, `${account.name} · ${marketName(account.market)}`)));
  const form = keyForm(seenLine(seen), el('p', {}, t('accounts.link_text')), el('div', {}, el('label', { class: 'form-label', for: 'account-which' }, t('accounts.account')), which), publicKeyField());
  return ask(t('accounts.link_seen_title', { hint: hint(seen.hint) }), form, t('accounts.link'), (inputs) =>
    send(known.find((account) => String(account.id) === which.value), { digest: seen.digest }, inputs.public_key.value));
}

async function send(account, key, publicKey) {
  const answer = await api('POST', `accounts/${account.id}/keys`, { ...key, public_key: publicKey.trim() || null });
  toast(t('accounts.linked', { name: account.name }));
  return answer;
}
