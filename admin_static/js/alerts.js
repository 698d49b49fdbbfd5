/* Alerts: what is wrong now, who is told, a test of each channel, silence, and what was told before. */

import { $, ApiError, api, busy, button, cell, confirmDialog, drawRows, el, failedRow, fieldError, fill, has, icon, iconButton, lang, loadingRow, makeDialog, onSubmit, openDialog, pill, poll, stateRow, t, time, toast, toastError } from './core.js';

const EVERY_MS = 4000;
const HOURS = [1, 4, 12, 24, 72];
const channelBody = $('#channels');
const historyBody = $('#history');
let forms = {};
let kinds = [];
let older = [];
let isLoaded = false;
let shownEvents = [];
// There is nothing older.
let isWhole = false;

const levelPill = (level) => pill(t(`alerts.level.${level}`), level === 'critical' ? 'bad' : 'warn');
const kindName = (kind) => (kind === '*' ? t('alerts.kind.all') : t(`alerts.kind.${kind}`));
const typeName = (kind) => t(`alerts.type.${kind}`);

/* ---- what is wrong now ---- */

function showForce({ in_force: rows, silences }) {
  const silent = Object.entries(silences).map(([kind, until]) => el('span', { class: 'silences' },
    pill(t('alerts.silent', { kind: kindName(kind) }), 'info'), el('span', { class: 'soft small' }, t('alerts.until'), ' ', time(until)),
    button(t('alerts.unsilence'), () => setSilence(kind, 0), { 'aria-label': t('alerts.unsilence_of', { kind: kindName(kind) }) })));
  const found = rows.map((row) => el('div', { class: 'force-row' }, levelPill(row.level), el('p', {}, row.text[lang]), el('span', { class: 'soft small' }, t('alerts.since'), ' ', time(row.since))));
  fill($('#force'), silent, found.length ? found : el('p', { class: 'all-well' }, icon('check'), t('alerts.nothing')));
}

async function setSilence(kind, hours) {
  try {
    await api('POST', 'alerts/silence', { kind, hours });
    toast(t(hours ? 'alerts.silence_done' : 'alerts.unsilence_done', { kind: kindName(kind) }));
  } catch (error) {
    toastError(error);
  }
  load();
}

async function askSilence() {
  const kind = el('select', { class: 'form-select', id: 'silence-kind', name: 'kind' }, el('option', { value: '*' }, kindName('*')), kinds.filter((one) => one.name !== 'test').map((one) => el('option', { value: one.name }, kindName(one.name))));
  const hours = el('select', { class: 'form-select', id: 'silence-hours', name: 'hours' }, HOURS.map((n) => el('option', { value: n }, t('alerts.hours', { n }))));
  const form = el('form', { id: 'silence-form', class: 'stack', method: 'post' },
    el('p', {}, t('alerts.silence_text')),
    el('div', { class: 'fields top' }, el('div', {}, el('label', { class: 'form-label', for: kind.id }, t('alerts.which')), kind), el('div', {}, el('label', { class: 'form-label', for: hours.id }, t('alerts.how_long')), hours)),
    el('div', { class: 'notice bad', 'data-form-error': true, role: 'alert' }));
  const save = button(t('alerts.silence'), null, { kind: 'primary', small: false, type: 'submit', form: form.id });
  const dialog = makeDialog(t('alerts.silence'), [form], [button(t('app.cancel'), null, { small: false, 'data-close': true }), save]);
  onSubmit(form, async () => {
    await setSilence(kind.value, Number(hours.value));
    dialog.close('done');
  });
  await openDialog(dialog);
}

/* ---- channels ---- */

function stateCell(channel) {
  if (!channel.enabled) return el('span', { class: 'soft' }, t('alerts.is_off'));
  if (channel.problem) return el('div', { class: 'problem' }, pill(t('alerts.problem'), 'bad'), el('div', { class: 'small soft' }, channel.problem));
  if (channel.last) return [pill(t('alerts.works'), 'ok'), el('div', { class: 'small soft' }, t('alerts.last_sent'), ' ', time(channel.last))];
  return el('span', { class: 'soft' }, t('alerts.nothing_yet'));
}

function makeRow(channel) {
  const flip = el('input', { type: 'checkbox', class: 'form-check-input', role: 'switch', checked: channel.enabled, 'aria-label': t('alerts.on_of', { name: channel.name }), onchange: (event) => toggle(channel, event.target) });
  const fields = Object.entries(channel.fields).filter(([, value]) => value).map(([name, value]) => el('div', { class: 'small wrap-any' }, el('span', { class: 'soft' }, `${t(`alerts.field.${name}`)}: `), value));
  return el('tr', {},
    el('th', { scope: 'row', class: 'lead wrap-any' }, channel.name, el('span', { class: 'soft small d-block fw-normal' }, typeName(channel.kind))),
    cell(t('alerts.to'), el('div', {}, fields), 'target'),
    cell(t('alerts.gets'), el('div', {}, t(`alerts.least.${channel.least}`), el('div', { class: 'small soft' }, t(`alerts.language.${channel.language}`)), channel.quiet && el('div', { class: 'small soft' }, t('alerts.quiet_at', { time: channel.quiet })))),
    cell(t('alerts.state'), stateCell(channel)),
    cell(t('alerts.on'), el('span', { class: 'form-switch switch-only' }, flip)),
    cell('', el('div', { class: 'row-actions' },
      button(t('alerts.test'), (event) => tryOut(channel, event.currentTarget), { 'aria-label': t('alerts.test_of', { name: channel.name }) }),
      iconButton('edit', t('alerts.edit_of', { name: channel.name }), () => askChannel(channel)),
      iconButton('trash', t('alerts.remove_of', { name: channel.name }), () => remove(channel), { danger: true })), 'trail'));
}

async function toggle(channel, input) {
  try {
    await api('PATCH', `alerts/channels/${channel.id}`, { enabled: input.checked });
    toast(t(input.checked ? 'alerts.now_on' : 'alerts.now_off', { name: channel.name }));
  } catch (error) {
    input.checked = !input.checked;
    toastError(error);
  }
  load();
}

async function tryOut(channel, target) {
  await busy(target, async () => {
    try {
      const answer = await api('POST', `alerts/channels/${channel.id}/test`, {}, { timeout: 60000 });
      toast(answer.sent ? t('alerts.test_sent', { name: channel.name }) : t('alerts.test_failed', { name: channel.name, problem: answer.problem }), answer.sent ? 'ok' : 'bad');
    } catch (error) {
      toastError(error);
    }
  });
}

async function remove(channel) {
  if (!(await confirmDialog({ title: t('alerts.remove_title'), text: [t('alerts.remove_text', { name: channel.name })], ok: t('alerts.remove') }))) return;
  try {
    await api('DELETE', `alerts/channels/${channel.id}`);
    toast(t('alerts.removed', { name: channel.name }));
  } catch (error) {
    toastError(error);
  }
  load();
}

function fieldOf(spec, channel) {
  const id = `channel-${spec.name}`;
  const label = el('label', { class: 'form-label', for: id }, t(`alerts.field.${spec.name}`), !spec.needed && el('span', { class: 'soft' }, ` (${t('alerts.optional')})`));
  const old = channel?.fields[spec.name] ?? '';
  if (spec.kind === 'choice') {
    return el('div', {}, label, el('select', { class: 'form-select', id, name: `fields.${spec.name}` }, spec.choices.map((word) => el('option', { value: word, selected: word === (old || spec.default) }, t(`alerts.choice.${word}`)))));
  }
  const isKept = spec.secret && channel;
  const input = el('input', {
    class: 'form-control', id, name: `fields.${spec.name}`, type: spec.secret && spec.kind !== 'url' ? 'password' : 'text', maxlength: 1000, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', 'data-1p-ignore': true, 'data-lpignore': 'true',
    value: spec.secret ? '' : old || spec.default, required: spec.needed && !isKept, inputmode: spec.kind === 'number' ? 'numeric' : null, placeholder: isKept ? t('alerts.kept') : spec.kind === 'url' && spec.secret ? 'https://' : null,
  });
  if (!isKept || spec.needed) return el('div', {}, label, input);
  const drop = el('input', { class: 'form-check-input', type: 'checkbox', id: `${id}-drop`, name: `drop.${spec.name}` });
  drop.addEventListener('change', () => {
    input.disabled = drop.checked;
    input.placeholder = drop.checked ? '' : t('alerts.kept');
    if (drop.checked) input.value = '';
  });
  return el('div', {}, label, input, el('div', { class: 'form-check mt-1' }, drop, el('label', { class: 'form-check-label', for: drop.id }, t('alerts.drop'))));
}

/** What is wrong with a field, in the page's language. */
function wrongText(specs, field) {
  const spec = specs.find((one) => `fields.${one.name}` === field);
  return has(`alerts.wrong.${spec?.name}`) ? t(`alerts.wrong.${spec.name}`) : t(`alerts.wrong.${spec?.kind ?? 'text'}`);
}

async function askChannel(channel) {
  const name = el('input', { class: 'form-control', id: 'channel-name', name: 'name', maxlength: 64, required: true, autocomplete: 'off', value: channel?.name ?? '' });
  const kind = el('select', { class: 'form-select', id: 'channel-kind', name: 'kind', disabled: Boolean(channel) }, Object.keys(forms).map((one) => el('option', { value: one, selected: one === channel?.kind }, typeName(one))));
  const language = el('select', { class: 'form-select', id: 'channel-language', name: 'language' }, ['en', 'zh'].map((one) => el('option', { value: one, selected: one === (channel?.language ?? lang) }, t(`alerts.language.${one}`))));
  const least = el('select', { class: 'form-select', id: 'channel-least', name: 'least' }, ['warning', 'critical'].map((one) => el('option', { value: one, selected: one === channel?.least }, t(`alerts.least.${one}`))));
  const quiet = el('input', { class: 'form-control', id: 'channel-quiet', name: 'quiet', maxlength: 40, autocomplete: 'off', placeholder: `23:00-07:00 ${offset()}`, value: channel?.quiet ?? '', 'aria-describedby': 'channel-quiet-help' });
  const help = el('p', { class: 'form-text' });
  const fields = el('div', { class: 'stack' });
  const form = el('form', { id: 'channel-form', class: 'stack', method: 'post', autocomplete: 'off' },
    el('div', { class: 'fields top' }, el('div', {}, el('label', { class: 'form-label', for: name.id }, t('alerts.name')), name), el('div', {}, el('label', { class: 'form-label', for: kind.id }, t('alerts.channel')), kind)),
    help, fields,
    el('div', { class: 'fields top' }, el('div', {}, el('label', { class: 'form-label', for: least.id }, t('alerts.gets')), least), el('div', {}, el('label', { class: 'form-label', for: language.id }, t('alerts.language')), language)),
    el('div', {}, el('label', { class: 'form-label', for: quiet.id }, t('alerts.quiet'), el('span', { class: 'soft' }, ` (${t('alerts.optional')})`)), quiet, el('div', { class: 'form-text', id: 'channel-quiet-help' }, t('alerts.quiet_help'))),
    el('div', { class: 'notice bad', 'data-form-error': true, role: 'alert' }));
  const draw = () => {
    fill(help, t(`alerts.help.${kind.value}`));
    fill(fields, forms[kind.value].map((spec) => fieldOf(spec, channel)));
  };
  kind.addEventListener('change', draw);
  draw();
  const save = button(t(channel ? 'app.save' : 'alerts.add'), null, { kind: 'primary', small: false, type: 'submit', form: form.id });
  const dialog = makeDialog(t(channel ? 'alerts.edit' : 'alerts.add'), [form], [button(t('app.cancel'), null, { small: false, 'data-close': true }), save], { wide: true });
  onSubmit(form, async () => {
    const given = Object.fromEntries(forms[kind.value].map((spec) => [spec.name, form.elements[`drop.${spec.name}`]?.checked ? null : form.elements[`fields.${spec.name}`].value.trim()]));
    const body = { name: name.value.trim(), fields: given, language: language.value, least: least.value, quiet: quiet.value.trim() };
    try {
      if (channel) await api('PATCH', `alerts/channels/${channel.id}`, body);
      else await api('POST', 'alerts', { ...body, kind: kind.value });
    } catch (error) {
      const input = error instanceof ApiError && form.elements[error.data.field];
      if (input && error.data.reason === 'channel_field') return void fieldError(input, wrongText(forms[kind.value], error.data.field));
      throw error;
    }
    toast(t(channel ? 'alerts.saved' : 'alerts.added', { name: body.name }));
    dialog.close('done');
    load();
  });
  const closed = openDialog(dialog);
  name.focus();
  await closed;
  for (const input of form.elements) if (input.type === 'password') input.value = '';
}

/** How far this browser's clock is from UTC, such as +08:00. */
function offset() {
  const minutes = -new Date().getTimezoneOffset();
  const two = (n) => String(n).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

/* ---- what was told ---- */

const toldPill = ([name, what]) => el('span', { title: ['ok', 'waiting', 'silent', 'over'].includes(what) ? t(`alerts.what.${what}`) : what }, pill(name, what === 'ok' ? 'ok' : what === 'waiting' ? 'info' : what === 'silent' || what === 'over' ? '' : 'bad'));

function makeEvent(event) {
  return el('tr', {},
    cell(t('alerts.time'), time(event.time)),
    el('th', { scope: 'row', class: 'lead what fw-normal' }, event.lasted_s === null ? levelPill(event.level) : pill(t('alerts.over'), 'ok'), ' ', event.text[lang], el('span', { class: 'soft small d-block' }, event.node)),
    cell(t('alerts.told'), el('div', { class: 'told' }, Object.keys(event.told).length ? Object.entries(event.told).map(toldPill) : el('span', { class: 'soft' }, t('alerts.nobody')))));
}

function showEvents(events) {
  const known = new Set(events.map((event) => event.id));
  // What new ones push off the first page stays where it was read.
  older = [...shownEvents, ...older].filter((event, at, all) => !known.has(event.id) && all.findIndex((one) => one.id === event.id) === at && event.id < (events.at(-1)?.id ?? Infinity)).sort((a, b) => b.id - a.id);
  shownEvents = [...events, ...older];
  if (shownEvents.length) drawRows(historyBody, shownEvents, (event) => event.id, makeEvent);
  else stateRow(historyBody, 'clock', t('alerts.no_history'), t('alerts.no_history_text'));
  $('#history-foot').hidden = isWhole || events.length < 50;
}

async function loadOlder(target) {
  await busy(target, async () => {
    try {
      const { events } = await api('GET', `alerts/events?before=${shownEvents.at(-1).id}`);
      older = [...older, ...events];
      isWhole = events.length < 50;
      showEvents(shownEvents.slice(0, 50));
    } catch (error) {
      toastError(error);
    }
  });
}

/* ---- the page ---- */

async function load() {
  if (!isLoaded) {
    loadingRow(channelBody);
    loadingRow(historyBody);
  }
  try {
    const all = await api('GET', 'alerts');
    ({ forms, kinds } = all);
    showForce(all);
    $('#leave').textContent = all.egress ? t('alerts.leave_by', { egress: all.egress }) : '';
    if (all.channels.length) drawRows(channelBody, all.channels, (channel) => channel.id, makeRow);
    else stateRow(channelBody, 'bell', t('alerts.no_channels'), t('alerts.no_channels_text'), button(t('alerts.add'), () => askChannel(), { kind: 'primary', symbol: 'plus' }));
    showEvents(all.events);
    isLoaded = true;
  } catch (error) {
    if (isLoaded) return;
    failedRow(channelBody, error, load);
    fill(historyBody);
  }
}

$('#add').addEventListener('click', () => askChannel());
$('#silence').addEventListener('click', askSilence);
$('#older').addEventListener('click', (event) => loadOlder(event.currentTarget));
load();
poll(load, EVERY_MS);
