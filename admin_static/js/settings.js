/* Settings in force, to look at, and the doctor: what is wrong on the way to Binance, line by line. */

import { $, t, el, fill, icon, api, ApiError, number, debounce, errorText, stateRow, failedRow, loadingRow, cell, pill, button, toLogin, lang } from './core.js';
import { put } from './live.js';

const has = (key) => t(key) !== key;
const marketName = (name) => (has(`live.market.${name}`) ? t(`live.market.${name}`) : name);

/* ---- settings ---- */

let settings = [];

const helpOf = (one) => (has(`settings.help.${one.name}`) ? t(`settings.help.${one.name}`) : one.help);
// The file names every setting and mostly leaves it as it is; of a secret only its source is known.
const UNSET = new Set(['default', 'settings.py']);
const isChanged = (one) => (one.secret ? !UNSET.has(one.source) && one.value !== '' : one.value !== one.default);
/** As one would write it; long lists break after their separators. */
const written = (text) => (/^(True|False)$/.test(text) ? text.toLowerCase() : text);
const valueOf = (text) => (text === '' ? el('span', { class: 'soft' }, t('settings.empty_value'))
  : el('span', { class: 'set-value' }, written(text).split(/(?<=[,;])/).map((part) => [part, el('wbr')])));

function row(one) {
  const source = one.source === 'default' ? t('settings.source_default') : one.source;
  const differs = isChanged(one) && !one.secret;
  return el('tr', {},
    el('td', { class: 'whole' }, el('span', { class: 'set-name' }, one.name)),
    cell(t('settings.value'), el('div', {}, valueOf(one.value), differs && el('div', { class: 'soft small' }, t('settings.default', { value: one.default === '' ? t('settings.empty_value') : written(one.default) })))),
    cell(t('settings.source'), isChanged(one) ? pill(source, 'info') : el('span', { class: 'soft' }, source)),
    el('td', { class: 'whole soft small' }, helpOf(one)));
}

function draw() {
  const words = $('#search').value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const only = $('#changed').checked;
  const found = settings.filter((one) => (!only || isChanged(one)) && words.every((word) => `${one.name} ${one.value} ${helpOf(one)}`.toLowerCase().includes(word)));
  put($('#count'), t('settings.count', { shown: found.length, n: settings.length }));
  if (found.length) fill($('#rows'), found.map(row));
  else stateRow($('#rows'), 'search', t('settings.none'), '', button(t('settings.show_all'), () => {
    $('#filter').reset();
    draw();
    $('#search').focus();
  }));
}

async function load() {
  loadingRow($('#rows'));
  try {
    settings = (await api('GET', 'settings')).items;
    draw();
  } catch (error) {
    failedRow($('#rows'), error, load);
  }
}

$('#search').addEventListener('input', debounce(draw, 120));
$('#changed').addEventListener('change', draw);
$('#filter').addEventListener('submit', (event) => event.preventDefault());

/* ---- doctor ---- */

/** What the program says about causes, and the end of the key with the same in the reader's language. */
const CAUSES = [
  [/streams do not/, 'streams'], [/connection .* was refused/, 'refused'], [/certificate has expired/, 'cert_expired'],
  [/certificate is for another name/, 'cert_name'], [/certificate is self-signed/, 'cert_self'],
  [/certificate is signed by/, 'cert_authority'], [/certificate/, 'cert'],
];

/** What was found, in the reader's language: [tone, text]. */
function judge(one) {
  if (lang === 'en') return [one.ok ? (/clock/.test(one.verdict) ? 'warn' : 'ok') : 'bad', one.verdict === 'ok' ? t('settings.doc.ok') : one.verdict.charAt(0).toUpperCase() + one.verdict.slice(1)];
  if (one.ok) return /clock/.test(one.verdict) ? ['warn', t('settings.doc.clock')] : ['ok', t('settings.doc.ok')];
  const known = { 451: 'region', 418: 'banned', 429: 'limited', 403: 'firewall' }[one.status];
  if (known) return ['bad', t(`settings.doc.${known}`)];
  if (one.status && one.status !== 200) return ['bad', t('settings.doc.http', { status: String(one.status) })];
  const cause = CAUSES.find(([word]) => word.test(one.verdict));
  if (cause) return ['bad', t(`settings.doc.${cause[1]}`)];
  if (one.dns_ms === null && /resolve/.test(one.verdict)) return ['bad', t('settings.doc.dns')];
  if (one.tcp_ms === null && /TCP/.test(one.verdict)) return ['bad', t('settings.doc.tcp')];
  if (one.tls_ms === null && /TLS/.test(one.verdict)) return ['bad', t('settings.doc.tls')];
  return ['bad', t('settings.doc.failed')];
}

function line(one) {
  const [tone, text] = judge(one);
  const timing = (name, value) => el('span', {}, el('span', {}, `${name} `), value);
  const ms = (name) => one[name] !== null && one[name] !== undefined && timing(t(`settings.doc.${name}`), t('live.ms', { n: number(Math.round(one[name] * 10) / 10) }));
  const skew = one.skew_ms;
  return el('li', {}, el('span', { class: `${tone}-text` }, icon(tone === 'ok' ? 'check' : 'warning')), el('div', {},
    el('div', {}, el('strong', {}, marketName(one.market)), one.egress && one.egress !== 'default' && ` · ${one.egress}`, ' ', el('span', { class: 'soft small mono' }, one.url)),
    el('div', { class: `${tone}-text` }, text),
    lang !== 'en' && tone !== 'ok' && el('div', { class: 'soft small', lang: 'en' }, one.verdict),
    el('div', { class: 'timings' }, ms('dns_ms'), ms('tcp_ms'), ms('tls_ms'), ms('ping_ms'), ms('stream_ms'),
      skew !== null && skew !== undefined && timing(t('settings.doc.skew'), t('live.ms', { n: `${Math.round(skew) > 0 ? '+' : ''}${number(Math.round(skew))}` })),
      one.used_weight && timing(t('settings.doc.weight'), one.used_weight))));
}

let running = null;

/** Give the objects of an NDJSON answer as they come. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? '';
    const parts = rest.split('\n');
    rest = done ? '' : parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
    if (done) return;
  }
}

function say(text, tone = 'soft') {
  const state = $('#doctor-state');
  state.className = tone;
  fill(state, running && el('span', { class: 'spinner', 'aria-hidden': 'true' }), running && ' ', text);
}

async function examine() {
  const mine = (running = new AbortController());
  $('#run').disabled = true;
  $('#stop').hidden = false;
  fill($('#examined'));
  say(t('settings.doctor_busy'));
  let seen = 0;
  let wrong = 0;
  let result;
  try {
    const answer = await fetch('/admin/api/doctor', { method: 'POST', headers: { Accept: 'application/x-ndjson', 'Content-Type': 'application/json' }, body: '{}', credentials: 'same-origin', cache: 'no-store', signal: mine.signal });
    if (!answer.ok) {
      const parsed = await answer.json().catch(() => ({}));
      if (answer.status === 401) toLogin();
      throw new ApiError(answer.status, parsed);
    }
    for await (const one of lines(answer.body)) {
      seen += 1;
      if (!one.ok) wrong += 1;
      $('#examined').append(line(one));
    }
    result = !seen ? [t('settings.doctor_none')] : wrong ? [t('settings.doctor_done_bad', { bad: wrong, n: seen }), 'bad-text'] : [t('settings.doctor_done_ok', { n: seen }), 'ok-text'];
  } catch (error) {
    if (mine.signal.aborted) result = [t('settings.doctor_stopped')];
    else result = [error instanceof ApiError ? errorText(error) : t('settings.doctor_broken', { msg: t('error.network') }), 'bad-text'];
  }
  running = null;
  $('#run').disabled = false;
  if (document.activeElement === $('#stop')) $('#run').focus();
  $('#stop').hidden = true;
  say(...result);
}

$('#run').addEventListener('click', examine);
$('#stop').addEventListener('click', () => running?.abort());

load();
