/* What every admin page shares: texts, the API, building elements, numbers and times, toasts, dialogs, forms, tables.
   Text from outside only ever becomes a text node or an attribute value; there is no innerHTML anywhere. */

const page = document.body.dataset;
export const lang = document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';
export const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');
export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/* ---- texts ---- */

const catalogue = await fetch(page.catalogue).then((answer) => (answer.ok ? answer.json() : {})).catch(() => ({}));
const plural = new Intl.PluralRules(locale);

/** Whether there is a text of this key. */
export const has = (key) => Object.hasOwn(catalogue, key);

/** The text of a key; `{name}` is replaced by `values.name`. Numbers are written in the language's way. */
export function t(key, values = {}) {
  const text = has(key) ? catalogue[key] : key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    if (!Object.hasOwn(values, name)) return whole;
    return typeof values[name] === 'number' ? number(values[name]) : String(values[name]);
  });
}

/** The text of `key.one` or `key.other`, by the number, which is also `{n}`. */
export const tn = (key, n, values = {}) => t(`${key}.${plural.select(n) === 'one' ? 'one' : 'other'}`, { n, ...values });

/* ---- elements ---- */

/** Build an element: el('td', {class: 'num', onclick: f, dataset: {id: 1}}, 'text', node, [more]). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'dataset') Object.assign(node.dataset, value);
    else if (name === 'value' || name === 'checked' || name === 'indeterminate') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false && child !== '') node.append(child);
  }
}

/** Put new children into a node. */
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

/** One of the symbols of templates/icons.html. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with a text; `kind` is primary, plain, danger. */
export function button(text, onclick, { kind = 'plain', small = true, symbol, ...attributes } = {}) {
  const classes = `btn btn-${kind}${small ? ' btn-sm' : ''}`;
  return el('button', { type: 'button', class: classes, onclick, ...attributes }, symbol && icon(symbol), text);
}

/** A button that is only a picture; `label` is read out and shown on hover. */
export function iconButton(symbol, label, onclick, { danger = false, ...attributes } = {}) {
  const classes = `btn btn-icon btn-sm${danger ? ' danger' : ''}`;
  return el('button', { type: 'button', class: classes, title: label, 'aria-label': label, onclick, ...attributes }, icon(symbol));
}

export const pill = (text, tone = '') => el('span', { class: `pill ${tone}` }, text);

/* ---- numbers and times ---- */

const numberFormat = new Intl.NumberFormat(locale, { maximumFractionDigits: 2 });
export const number = (value) => (value === null || value === undefined ? '–' : numberFormat.format(value));

/** Bytes in kB, MB, GB (thousands). */
export function bytes(value) {
  if (value === null || value === undefined) return '–';
  let size = value;
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (size < 999.5 || unit === 'GB') return `${size.toLocaleString(locale, { maximumFractionDigits: unit === 'B' || size >= 100 ? 0 : 1 })} ${unit}`;
    size /= 1000;
  }
  return '';
}

/** A length of time in words, two parts at most: "3 d 4 h". */
export function duration(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]) {
    if (rest >= size || (unit === 's' && !parts.length)) parts.push(t(`unit.${unit}`, { n: Math.floor(rest / size) }));
    else if (parts.length) break;
    rest %= size;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}

const two = (n, width = 2) => String(n).padStart(width, '0');

/** The local time as text, in the same shape in every language: 2026-08-01 09:30:05. */
export function timeText(ms, { milliseconds = false } = {}) {
  const d = new Date(ms);
  if (Number.isNaN(d.getTime())) return '–';
  const clock = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock}${milliseconds ? `.${two(d.getMilliseconds(), 3)}` : ''}`;
}

/** A <time> in the browser's zone; the UTC value is shown on hover. `empty` stands for null. */
export function time(ms, { milliseconds = false, empty = '–' } = {}) {
  if (ms === null || ms === undefined || Number.isNaN(new Date(ms).getTime())) return el('span', { class: 'soft' }, empty);
  const iso = new Date(ms).toISOString();
  return el('time', { datetime: iso, title: `${iso.replace('T', ' ').replace('Z', '')} UTC` }, timeText(ms, { milliseconds }));
}

/* ---- the API ---- */

/** A refused or failed call: `status` (0 = no answer), `code`, `msg` of the server, `data`, `retryAfter` in seconds. */
export class ApiError extends Error {
  constructor(status, { code = 0, msg = '', data = {} } = {}, retryAfter = 0) {
    super(msg || `HTTP ${status}`);
    Object.assign(this, { status, code, msg: msg || `HTTP ${status}`, data: data ?? {}, retryAfter });
  }
}

// What a page asks by itself, with nobody at it for a minute, is no use of the log-in.
let usedAt = performance.now();
for (const type of ['pointerdown', 'keydown', 'wheel', 'touchstart']) {
  addEventListener(type, () => { usedAt = performance.now(); }, { passive: true, capture: true });
}

/** Call /admin/api/<path>; gives the JSON answer, throws ApiError. Without a log-in it leads to the log-in page. */
export async function api(method, path, body, { signal, timeout = 30000 } = {}) {
  const limit = AbortSignal.timeout(timeout);
  const init = { method, headers: { Accept: 'application/json' }, credentials: 'same-origin', cache: 'no-store' };
  if (performance.now() - usedAt > 60_000) init.headers['X-Background'] = '1';
  init.signal = signal && AbortSignal.any ? AbortSignal.any([signal, limit]) : signal ?? limit;
  if (body !== undefined) {
    init.headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  let answer;
  let parsed;
  try {
    answer = await fetch(`/admin/api/${path}`, init);
    parsed = await answer.json().catch((error) => {
      if (error instanceof SyntaxError) return {};
      throw error;
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, { msg: error.name === 'TimeoutError' ? t('error.timeout') : t('error.network') });
  }
  if (answer.ok) return parsed;
  if (answer.status === 401 && page.page !== 'login' && parsed.code === -11 && path !== 'password') toLogin();
  throw new ApiError(answer.status, parsed, Number(answer.headers.get('Retry-After')) || 0);
}

export function toLogin() {
  location.assign(`/admin/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** A query string of the values that are set. */
export function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== '' && value !== null && value !== undefined && value !== false);
  return kept.length ? `?${new URLSearchParams(kept)}` : '';
}

const ERROR_KEYS = { '-1': 'forbidden', '-3': 'missing', '-4': 'bad', '-5': 'large', '-8': 'busy', '-9': 'internal', '-10': 'not_ready', '-11': 'unauthorized', '-12': 'denied', '-13': 'conflict' };

/** What the server means by `data.reason`; '' if there are no words for it here. */
export const reasonText = ({ reason, ...values }) => (has(`error.reason.${reason}`) ? t(`error.reason.${reason}`, values) : '');

/** An error in the user's language, with the server's own words where they tell more. */
export function errorText(error) {
  if (!(error instanceof ApiError)) return t('error.page', { msg: error?.message ?? String(error) });
  if (error.status === 0) return error.msg;
  const known = reasonText(error.data);
  if (known) return known;
  const key = ERROR_KEYS[error.code];
  return key ? t(`error.code.${key}`, { msg: error.msg }) : t('error.status', { status: String(error.status), msg: error.msg });
}

/** Repeat `work` every `ms` while the page is shown; `work` is never run twice at once. Gives a function that runs it now. */
export function poll(work, ms) {
  let running = false;
  let timer;
  const run = async () => {
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      await work();
    } finally {
      running = false;
      if (!document.hidden) timer = setTimeout(run, ms);
    }
  };
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) run();
    else clearTimeout(timer);
  });
  timer = setTimeout(run, ms);
  return run;
}

export function debounce(work, ms = 200) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), ms);
  };
}

/* ---- toasts and dialogs ---- */

/** A short message in the corner; bad news stays until it is closed. */
export function toast(text, tone = 'ok') {
  const box = $('#toasts');
  const symbol = { ok: 'check', bad: 'warning', warn: 'warning' }[tone] ?? 'info';
  const item = el('div', { class: `toast-item ${tone}` }, icon(symbol), el('p', {}, text));
  const close = () => {
    item.remove();
    if (!box.childElementCount && box.matches(':popover-open')) box.hidePopover();
  };
  item.append(iconButton('close', t('app.close'), close));
  while (box.childElementCount >= 4) box.firstElementChild.remove();
  if (box.matches(':popover-open')) box.hidePopover(); // shown again: above a dialog opened since
  box.showPopover();
  box.append(item);
  if (tone !== 'bad') setTimeout(close, 5000);
}

export const toastError = (error) => toast(errorText(error), 'bad');

/** Show a <dialog>; resolves to its return value when it closes. [data-close] buttons close it. */
export function openDialog(dialog) {
  if (!dialog.dataset.wired) {
    dialog.dataset.wired = 'yes';
    dialog.addEventListener('click', (event) => {
      if (event.target.closest('[data-close]')) dialog.close('');
    });
  }
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue), { once: true });
  });
}

let dialogCount = 0;

/** Build a dialog from parts; it is removed when it closes. Gives the element, to be opened with openDialog. */
export function makeDialog(title, body, buttons, { wide = false } = {}) {
  const id = `dialog-title-${++dialogCount}`;
  const dialog = el('dialog', { class: wide ? 'wide' : '', 'aria-labelledby': id },
    el('div', { class: 'dialog-head' }, el('h2', { id }, title), iconButton('close', t('app.close'), null, { 'data-close': true })),
    el('div', { class: 'dialog-body' }, body),
    el('div', { class: 'dialog-foot' }, buttons));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  return dialog;
}

/** Ask before something that cannot be undone. Resolves to true or false. */
export async function confirmDialog({ title, text, ok, danger = true }) {
  const body = [text].flat().map((part) => (part instanceof Node ? part : el('p', {}, part)));
  const cancel = button(t('app.cancel'), null, { small: false, 'data-close': true, autofocus: danger });
  const yes = button(ok, () => dialog.close('yes'), { kind: danger ? 'danger' : 'primary', small: false, autofocus: !danger });
  const dialog = makeDialog(title, body, [cancel, yes]);
  return (await openDialog(dialog)) === 'yes';
}

/** Show a secret once, with a button that copies it. */
export async function secretDialog({ title, text, secret }) {
  const copy = button(t('app.copy'), () => copyText(secret), { small: false, symbol: 'copy' });
  const body = [el('p', {}, text), el('div', { class: 'secret' }, el('code', {}, secret), copy), el('p', { class: 'soft small' }, t('app.secret_once'))];
  await openDialog(makeDialog(title, body, button(t('app.done'), null, { kind: 'primary', small: false, 'data-close': true })));
}

/** Copy a text; works on plain http too, where the clipboard API does not exist. */
export async function copyText(text) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    const field = el('textarea', { readonly: true, class: 'visually-hidden', value: text, 'aria-hidden': 'true' });
    (document.querySelector('dialog[open]') ?? document.body).append(field);
    const before = document.activeElement;
    field.select();
    done = document.execCommand('copy');
    field.remove();
    before?.focus();
  }
  toast(t(done ? 'app.copied' : 'app.copy_failed'), done ? 'ok' : 'warn');
}

/* ---- forms ---- */

/** Keep a button disabled with a turning wheel while `work` runs. */
export async function busy(target, work) {
  if (target.getAttribute('aria-busy')) return undefined;
  const wheel = el('span', { class: 'spinner', 'aria-hidden': 'true' });
  target.setAttribute('aria-busy', 'true');
  target.disabled = true;
  const symbol = $('.icon', target);
  if (symbol) symbol.replaceWith(wheel);
  else target.prepend(wheel);
  const hadFocus = document.activeElement === target || document.activeElement === document.body;
  try {
    return await work();
  } finally {
    if (symbol) wheel.replaceWith(symbol);
    else wheel.remove();
    target.disabled = false;
    target.removeAttribute('aria-busy');
    if (hadFocus && target.isConnected && document.activeElement === document.body) target.focus();
  }
}

/** Explain a mistake beside its field. */
export function fieldError(input, text) {
  const id = `${input.id || input.name}-error`;
  let note = document.getElementById(id);
  if (!note) {
    note = el('div', { id, class: 'field-error', role: 'alert' });
    (input.closest('.input-group, .form-check') ?? input).after(note);
  }
  note.textContent = text;
  input.classList.add('is-invalid');
  input.setAttribute('aria-invalid', 'true');
  input.addEventListener('input', () => clearError(input), { once: true });
  const others = (input.dataset.describedby ??= input.getAttribute('aria-describedby') ?? '');
  input.setAttribute('aria-describedby', `${others} ${id}`.trim());
}

function clearError(input) {
  input.classList.remove('is-invalid');
  input.removeAttribute('aria-invalid');
  if (input.dataset.describedby) input.setAttribute('aria-describedby', input.dataset.describedby);
  else input.removeAttribute('aria-describedby');
  document.getElementById(`${input.id || input.name}-error`)?.remove();
}

export function clearErrors(form) {
  for (const input of $$('.is-invalid', form)) clearError(input);
  for (const note of $$('.field-error', form)) note.remove();
  for (const box of $$('[data-form-error]', form)) fill(box);
}

/** Say what went wrong at the field the error names, else in the form's [data-form-error]. */
export function showError(form, error) {
  const field = error instanceof ApiError && error.data.field ? form.elements[error.data.field] : null;
  if (field instanceof HTMLElement) {
    fieldError(field, errorText(error));
    field.focus();
    return;
  }
  const box = $('[data-form-error]', form);
  if (box) fill(box, icon('warning'), el('p', {}, errorText(error)));
  else toastError(error);
}

/** What is wrong with an input, in the page's language: the browser's own may be another one. */
function mistakeIn({ validity, type, min, max, validationMessage }) {
  if (validity.valueMissing && !validity.badInput) return t('error.required');
  if (type === 'number') return t('error.reason.range', { low: Number(min), high: Number(max) });
  return type === 'date' && validity.rangeUnderflow ? t('error.reason.expired') : validationMessage;
}

/** Run `work` when a form is sent: one at a time, mistakes cleared before and shown after. Nothing typed is lost. */
export function onSubmit(form, work) {
  form.noValidate = true;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    clearErrors(form);
    let wrong = null;
    for (const input of form.elements) {
      if (!input.willValidate || input.validity.valid) continue;
      fieldError(input, mistakeIn(input));
      wrong ??= input;
    }
    if (wrong) {
      wrong.focus();
      return;
    }
    const sender = event.submitter ?? $('[type=submit]', form);
    await busy(sender, async () => {
      try {
        await work(sender);
      } catch (error) {
        showError(form, error);
      }
    });
    $('.is-invalid', form)?.focus();
  });
}

/* ---- tables ---- */

/** What stands where rows would be: loading, nothing there, or a failure. */
export function stateBox(symbol, title, text, action) {
  return el('div', { class: 'state' }, symbol === 'loading' ? el('span', { class: 'spinner', 'aria-hidden': 'true' }) : icon(symbol), el('strong', {}, title), text && el('p', {}, text), action);
}

export function stateRow(body, symbol, title, text, action) {
  const columns = body.closest('table').tHead.rows[0].cells.length;
  fill(body, el('tr', {}, el('td', { colspan: columns, class: 'whole' }, stateBox(symbol, title, text, action))));
}

export const loadingRow = (body) => stateRow(body, 'loading', t('app.loading'));

export const failedRow = (body, error, again) =>
  stateRow(body, 'warning', t('app.failed'), errorText(error), again && button(t('app.retry'), again, { symbol: 'refresh' }));

/** Draw rows; an unchanged row keeps its element, so typing, selecting and the focus survive a refresh. */
export function drawRows(body, items, keyOf, makeRow) {
  const old = new Map($$(':scope > tr[data-key]', body).map((row) => [row.dataset.key, row]));
  const focused = document.activeElement?.closest?.('tr[data-key]');
  const focusAt = focused && body.contains(focused) ? [focused.dataset.key, $$('button, input, a', focused).indexOf(document.activeElement)] : null;
  const rows = items.map((item) => {
    const key = String(keyOf(item));
    const sign = JSON.stringify(item);
    const kept = old.get(key);
    if (kept && kept.dataset.sign === sign) return kept;
    const row = makeRow(item);
    row.dataset.key = key;
    row.dataset.sign = sign;
    return row;
  });
  const same = rows.length === body.children.length && rows.every((row, at) => row === body.children[at]);
  if (same) return;
  body.replaceChildren(...rows);
  if (focusAt && !body.contains(document.activeElement)) {
    const row = rows.find((candidate) => candidate.dataset.key === focusAt[0]);
    if (row) $$('button, input, a', row)[focusAt[1]]?.focus();
  }
}

/** A cell; `label` names it where the table is shown as cards. */
export const cell = (label, content, classes = '') => el('td', { 'data-label': label, class: classes }, content);

/* A table that does not fit can be scrolled by keyboard. */
const fits = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    const wrap = target.closest('.table-wrap');
    if (wrap.scrollWidth > wrap.clientWidth + 1) {
      wrap.tabIndex = 0;
      wrap.setAttribute('role', 'region');
      wrap.setAttribute('aria-label', t('app.scrollable', { name: $('caption', wrap)?.textContent ?? '' }));
    } else {
      for (const name of ['tabindex', 'role', 'aria-label']) wrap.removeAttribute(name);
    }
  }
});
for (const wrap of $$('.table-wrap:not([role])')) {
  fits.observe(wrap);
  fits.observe(wrap.firstElementChild);
}

/* ---- the frame of every page ---- */

function remember(name, value) {
  document.cookie = `${name}=${value}; path=/admin; max-age=31536000; samesite=lax`;
}

for (const choice of $$('[data-set-theme]')) {
  choice.addEventListener('click', () => {
    remember('resender_theme', choice.dataset.setTheme);
    document.documentElement.dataset.theme = choice.dataset.setTheme;
    for (const other of $$('[data-set-theme]')) other.setAttribute('aria-pressed', String(other === choice));
    dispatchEvent(new Event('themechoice'));
  });
}

for (const choice of $$('[data-set-lang]')) {
  choice.addEventListener('click', () => {
    if (choice.dataset.setLang === lang) return;
    remember('resender_lang', choice.dataset.setLang);
    location.reload();
  });
}

for (const leave of $$('[data-logout]')) {
  leave.addEventListener('click', () => busy(leave, async () => {
    try {
      await api('POST', 'logout', {});
      location.assign('/admin/login');
    } catch (error) {
      if (error.status !== 401) toastError(error);
    }
  }));
}

const menuButton = $('#menu-button');
if (menuButton) {
  const side = $('.side');
  const show = (open) => {
    side.classList.toggle('open', open);
    menuButton.setAttribute('aria-expanded', String(open));
  };
  menuButton.addEventListener('click', () => show(!side.classList.contains('open')));
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && side.classList.contains('open') && !document.querySelector('dialog[open]')) {
      show(false);
      menuButton.focus();
    }
  });
  document.addEventListener('click', (event) => {
    if (!side.contains(event.target)) show(false);
  });
}

for (const eye of $$('[data-reveal]')) {
  eye.addEventListener('click', () => {
    const input = document.getElementById(eye.dataset.reveal);
    const shown = input.type === 'password';
    input.type = shown ? 'text' : 'password';
    eye.setAttribute('aria-pressed', String(shown));
  });
}

addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload(); // a page from the history may be somebody else's by now
});
