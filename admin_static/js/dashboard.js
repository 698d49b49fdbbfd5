/* The dashboard: figures, weight, bans and reachability as they change, courses of the last hour and day. */

import { $, $$, t, tn, el, fill, icon, api, poll, number, bytes, duration, time, errorText, lang } from './core.js';
import { Feed, keep, put, mark } from './live.js';
import { LineChart } from './lines.js';

const CLIENTS_SHOWN = 100;
const LINES_SHOWN = 16;
const LEAST_STEPS = 60;
const QUIET_STEPS = 12; // no call has no latency: so many steps without one do not break the line
const STATE_TONES = { ok: 'ok', set_aside: 'warn', closed: 'warn', banned: 'bad' };
const POOLS = ['spot', 'futures', 'options', 'pm'];
const UP_TONES = { ok: 'ok', unknown: '', limited: 'warn', timeout: 'warn', fault: 'warn' };
const LINK_TONES = { connecting: 'info', live: 'ok', polling: 'warn', lost: 'bad', paused: '' };

const has = (key) => t(key) !== key;
const marketName = (name) => (has(`live.market.${name}`) ? t(`live.market.${name}`) : name);
const poolName = (name) => (has(`live.pool.${name}`) ? t(`live.pool.${name}`) : name.replace(/^sapi:/, ''));
const problemText = (word) => (has(`dashboard.problem.${word}`) ? t(`dashboard.problem.${word}`) : '');
const isMain = (name) => !name.includes(':'); // each sapi path has a pool of its own, by the path's name
const egressName = (name) => (name === 'default' ? t('dashboard.egress_default') : name);
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB';
const rounded = (value, digits) => value.toLocaleString(locale, { maximumFractionDigits: digits });
const compact = (value) => (Math.abs(value) < 1e6 ? number(value) : value.toLocaleString(locale, { notation: 'compact', maximumFractionDigits: 1 }));
const rate = (value) => rounded(value, value < 10 ? 2 : value < 100 ? 1 : 0);
const percent = (share) => `${rounded(share * 100, share > 0.999 && share < 1 ? 2 : 1)} %`;

function millis(value) {
  if (value === null || value === undefined) return '–';
  if (value < 1000) return t('live.ms', { n: rounded(value, value < 10 ? 1 : 0) });
  return value < 60000 ? t('unit.s', { n: rounded(value / 1000, value < 10000 ? 2 : 1) }) : duration(value / 1000);
}

/* ---- the line to the gateway ---- */

const link = $('#link');
let status = null;

function showLink(state) {
  link.className = `pill ${LINK_TONES[state]}`;
  link.firstElementChild.className = `dot ${LINK_TONES[state]}`;
  put(link.lastElementChild, t(`dashboard.link.${state}`));
  document.body.classList.toggle('stale', state === 'lost');
}

/* ---- tiles ---- */

function tile(name, value, unit, hint, tone = '') {
  const box = $(`#tile-${name}`);
  mark(box, 'class', `tile ${tone}`);
  put($('b', box), value);
  put($('.tile-value span', box), unit ?? '');
  put($('.tile-hint', box), hint ?? '');
}

function showTiles(now) {
  tile('calls', rate(now.calls_per_s), t('dashboard.per_second'), t('dashboard.calls_hint'));
  const share = now.calls_per_s ? now.errors_per_s / now.calls_per_s : 0;
  tile('errors', rate(now.errors_per_s), t('dashboard.per_second'), t('dashboard.errors_hint'), share > 0.1 ? 'bad' : share > 0.01 ? 'warn' : '');
  const quiet = now.p50_ms === null;
  tile('latency', quiet ? '–' : millis(now.p50_ms), quiet ? '' : `/ ${millis(now.p99_ms)}`, t('dashboard.latency_hint'));
  const answered = { hits: compact(now.hits), misses: compact(now.misses) };
  tile('hit_rate', now.hit_rate === null ? '–' : percent(now.hit_rate), '', t('dashboard.hit_hint', answered));
  const saved = Object.entries(now.saved_today).sort((a, b) => b[1] - a[1]);
  const most = saved.slice(0, 3).map(([kind, weight]) => `${has(`live.saved.${kind}`) ? t(`live.saved.${kind}`) : kind} ${compact(weight)}`);
  tile('saved', compact(saved.reduce((sum, [, weight]) => sum + weight, 0)), '', most.length ? most.join(' · ') : t('dashboard.saved_none'));
  mark($('#tile-saved'), 'title', t('dashboard.saved_help'));
  tile('in_flight', number(now.in_flight), '', t('dashboard.in_flight_hint'));
  const { live, total } = now.series;
  tile('series', number(live), `/ ${number(total)}`, t('dashboard.series_hint'), live < total ? 'warn' : '');
  const sum = (name) => now.streams.reduce((all, line) => all + (line[name] ?? 0), 0);
  const connections = sum('connections');
  const alive = sum('live');
  const silence = Math.max(0, ...now.streams.map((line) => line.last_frame_ms ?? 0));
  const hint = connections ? t('dashboard.streams_hint', { streams: sum('streams'), age: millis(silence) }) : t('dashboard.streams_hint_none');
  tile('streams', number(alive), `/ ${number(connections)}`, hint, alive < connections ? 'warn' : '');
  tile('listeners', number(now.stream_clients), '', t('dashboard.listeners_hint', { n: number(now.client_streams) }));
  const { loop } = now;
  tile('loop', loop === null ? '–' : millis(loop.ms), '', loop === null ? t('dashboard.loop_none') : t('dashboard.loop_hint', { where: loop.where }), loop !== null && loop.ms > 250 ? 'warn' : '');
  tile('memory', bytes(now.memory_bytes), '', t('dashboard.uptime', { time: duration(now.uptime_s) }));
}

let factsFor = 0;
function showFacts(now) {
  const begun = Math.round((now.time - now.uptime_s * 1000) / 10000);
  if (Math.abs(begun - factsFor) < 2) return;
  factsFor = begun;
  fill($('#facts'), el('span', {}, t('dashboard.version', { version: now.version })), el('span', {}, `${t('dashboard.since')} `, time(now.time - now.uptime_s * 1000)));
}

/* ---- bans and other things to know at once ---- */

let ends = new Map(); // key of a closed pool -> when it opens again, by this browser's clock
const keyOf = (row) => `${row.egress}/${row.pool}`;

function remember(now) {
  const next = new Map();
  for (const row of now.weights) {
    if (!(row.closed_s > 0)) continue;
    const end = Date.now() + row.closed_s * 1000;
    const before = ends.get(keyOf(row));
    next.set(keyOf(row), before && Math.abs(before - end) < 1500 ? before : end);
  }
  ends = next;
}

function left(key) {
  const seconds = Math.ceil(((ends.get(key) ?? 0) - Date.now()) / 1000);
  return seconds > 0 ? t('dashboard.ends_in', { time: duration(seconds) }) : t('dashboard.ended');
}

function alertsOf(now) {
  const found = [];
  for (const row of now.weights) {
    const place = { egress: egressName(row.egress), pool: poolName(row.pool) };
    if (row.closed_s > 0) {
      const banned = row.closed_status === 418;
      found.push({ key: `closed ${keyOf(row)}`, tone: banned ? 'bad' : 'warn', text: t(banned ? 'dashboard.ban_418' : 'dashboard.ban_429', place), until: keyOf(row) });
    } else if (row.state === 'set_aside') {
      const key = `aside ${row.egress} ${row.problem}`;
      const one = found.find((other) => other.key === key) ?? { key, tone: 'warn', text: t('dashboard.set_aside', place), markets: new Set() };
      if (!one.markets.size) found.push(one);
      for (const market of row.markets?.length ? row.markets : [row.pool]) one.markets.add(row.markets?.length ? marketName(market) : poolName(market));
      const names = [...one.markets].join(t('dashboard.comma'));
      const problem = problemText(row.problem);
      one.more = problem ? t('dashboard.set_aside_why', { markets: names, problem }) : names;
    }
  }
  const region = now.upstreams.filter((one) => one.kind === 'region').map((one) => marketName(one.market));
  if (region.length) found.push({ key: 'region', tone: 'bad', text: t('dashboard.region_alert'), more: region.join(t('dashboard.comma')) });
  if (now.database && !now.database.healthy) found.push({ key: 'database', tone: 'bad', text: t('dashboard.db_alert'), more: now.database.last_error });
  if (now.whitelist === 0) found.push({ key: 'whitelist', tone: 'warn', text: t('dashboard.empty_whitelist'), href: '/admin/whitelist', name: t('dashboard.empty_whitelist_link') });
  if (now.log?.dropped > 0) found.push({ key: 'log', tone: 'warn', text: tn('dashboard.log_dropped', now.log.dropped) });
  return found.sort((a, b) => (b.tone === 'bad') - (a.tone === 'bad'));
}

let announced = '';
function showAlerts(now) {
  const found = alertsOf(now);
  keep($('#alerts'), found, (one) => one.key, (one) => el('div', { class: 'notice' }, icon('warning'),
    el('div', { class: 'alert-line' }, el('p', {}, el('span'), ' ', one.until ? el('span', { class: 'countdown' }) : one.href && el('a', { href: one.href }, one.name)), el('p', { class: 'soft' }))),
  (node, one) => {
    mark(node, 'class', `notice ${one.tone}`);
    const [line, more] = $$('p', node);
    put(line.firstElementChild, one.text);
    if (one.until) {
      line.lastElementChild.dataset.until = one.until;
      put(line.lastElementChild, left(one.until));
      line.lastElementChild.title = t('dashboard.ends_at', { time: new Date(ends.get(one.until)).toLocaleString(locale) });
    }
    put(more, one.more ?? '');
    more.hidden = !one.more;
  });
  $('#alerts').hidden = !found.length;
  // Read out once, without the countdown.
  const words = found.map((one) => one.text).join(' ');
  if (words !== announced) put($('#announce'), (announced = words));
}

setInterval(() => {
  if (!document.hidden) for (const node of $$('[data-until]')) put(node, left(node.dataset.until));
}, 1000);

/* ---- weight ---- */

function makeBar(label) {
  return el('div', { class: 'bar', role: 'meter', 'aria-valuemin': 0, 'aria-label': label }, el('i'), el('i'));
}

function setBar(bar, used, reserved, limit, tone) {
  const part = (value) => `${limit > 0 ? Math.min(100, (value / limit) * 100) : 0}%`;
  mark(bar, 'class', `bar ${tone}`);
  mark(bar, 'aria-valuemax', limit);
  mark(bar, 'aria-valuenow', Math.min(used, limit));
  const [solid, hatched] = bar.children;
  solid.style.width = part(used);
  hatched.style.width = part(Math.min(reserved, Math.max(0, limit - used)));
}

function updateWeight(node, row) {
  const isOpen = !(row.closed_s > 0) && row.state !== 'set_aside';
  const share = row.limit > 0 ? (row.used + (row.reserved ?? 0)) / row.limit : 0;
  const bar = $('.bar', node);
  setBar(bar, row.used, row.reserved ?? 0, row.limit, row.closed_s > 0 ? 'bad' : !isOpen ? 'off' : share > 0.9 ? 'bad' : share > 0.7 ? 'warn' : '');
  const figure = t('dashboard.weight_of', { used: row.used, limit: row.limit });
  mark(bar, 'aria-valuetext', figure);
  put($('.bar-figure', node), row.window_s && row.window_s !== 60 ? `${figure} ${t('dashboard.weight_window', { time: duration(row.window_s) })}` : figure);
  const state = row.closed_s > 0 ? (row.closed_status === 418 ? 'banned' : 'closed') : row.state;
  const badge = $('.pill', node);
  mark(badge, 'class', `pill ${STATE_TONES[state] ?? ''}`);
  put(badge, has(`dashboard.state.${state}`) ? t(`dashboard.state.${state}`) : state);
  badge.hidden = state === 'ok';
  const note = $('.bar-note', node);
  if (row.closed_s > 0) note.dataset.until = keyOf(row);
  else delete note.dataset.until;
  put(note, row.closed_s > 0 ? left(keyOf(row)) : problemText(row.problem));
  note.hidden = !note.textContent;
}

function showWeights(now) {
  const groups = new Map();
  const order = (row) => (POOLS.indexOf(row.pool) + 1 || 99);
  for (const row of [...now.weights].sort((a, b) => order(a) - order(b) || a.pool.localeCompare(b.pool))) {
    if (isMain(row.pool) || row.used > 0 || row.closed_s > 0) groups.set(row.egress, [...(groups.get(row.egress) ?? []), row]);
  }
  keep($('#weights'), [...groups], ([name]) => name, ([name]) => el('div', {}, el('h3', {}, egressName(name)), el('div')), (node, [name, rows]) => {
    keep(node.lastElementChild, rows, (row) => row.pool, (row) => el('div', { class: 'bar-row' },
      el('div', { class: 'bar-name' }, el('span', {}, poolName(row.pool)), el('span', { class: 'pill' })),
      el('div', { class: 'bar-figure' }), makeBar(`${egressName(name)}, ${poolName(row.pool)}`), el('div', { class: 'bar-note' })), updateWeight);
  });
  $('#weights-empty').hidden = groups.size > 0;
}

/* ---- reachability, misses, streams, clients ---- */

function updateUpstream(node, one) {
  const tone = UP_TONES[one.kind] ?? 'bad';
  mark($('.dot', node), 'class', `dot ${tone}`);
  put($('p', node), has(`dashboard.up.${one.kind}`) ? t(`dashboard.up.${one.kind}`, { status: String(one.status ?? '') }) : one.text);
  mark($('p', node), 'class', tone === 'bad' ? 'bad-text' : tone === 'warn' ? 'warn-text' : 'soft');
  const at = $('time', node);
  at.hidden = !one.time;
  if (!one.time) return;
  const age = Math.max(0, (status.time - one.time) / 1000);
  put(at, t('dashboard.up.seen', { time: age < 2 ? t('dashboard.now') : t('dashboard.ago', { time: duration(age < 60 ? age : Math.floor(age / 60) * 60) }) }));
  mark(at, 'title', `${new Date(one.time).toLocaleString(locale)} · ${new Date(one.time).toISOString().slice(0, 19).replace('T', ' ')} UTC`);
}

function showUpstreams(now) {
  keep($('#upstreams'), now.upstreams, (one) => one.market, (one) => el('li', {}, el('span', { class: 'dot', 'aria-hidden': 'true' }),
    el('div', {}, el('div', { class: 'upstream-head' }, el('strong', {}, marketName(one.market)), el('time', { class: 'soft' })), el('p'))), updateUpstream);
  $('#upstreams-empty').hidden = now.upstreams.length > 0;
}

function showMisses(now) {
  const rows = Object.entries(now.miss_reasons ?? {}).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const all = rows.reduce((sum, [, count]) => sum + count, 0);
  keep($('#misses'), rows, ([name]) => name, ([name]) => {
    const label = has(`live.miss.${name}`) ? t(`live.miss.${name}`) : name;
    const help = has(`live.miss_help.${name}`) ? t(`live.miss_help.${name}`) : '';
    return el('li', { class: 'bar-row' }, el('div', { class: 'bar-name' }, el('span', {}, label)), el('div', { class: 'bar-figure' }), makeBar(label), help && el('div', { class: 'bar-note' }, help));
  }, (node, [, count]) => {
    put($('.bar-figure', node), `${number(count)} · ${percent(count / all)}`);
    setBar($('.bar', node), count, 0, all, '');
  });
  $('#misses-wrap').hidden = !rows.length;
  $('#misses-empty').hidden = rows.length > 0;
}

const STREAM_COLUMNS = ['connections', 'streams', 'connected', 'frame'];
const numCell = (name) => el('td', { class: 'num', 'data-label': t(`dashboard.col.${name}`) });

function showStreams(now) {
  keep($('#streams'), now.streams, (line) => line.market, (line) => el('tr', {}, el('th', { scope: 'row', class: 'lead' }, marketName(line.market)), STREAM_COLUMNS.map(numCell)), (node, line) => {
    const cells = node.cells;
    put(cells[1], line.live < line.connections ? `${number(line.live)} / ${number(line.connections)}` : number(line.connections));
    mark(cells[1], 'class', line.live < line.connections ? 'num warn-text' : 'num');
    put(cells[2], number(line.streams));
    put(cells[3], line.oldest_age_s === null || line.oldest_age_s === undefined ? '–' : duration(line.oldest_age_s));
    put(cells[4], line.last_frame_ms === null || line.last_frame_ms === undefined ? '–' : t('dashboard.ago', { time: millis(line.last_frame_ms) }));
  });
  $('#streams-wrap').hidden = !now.streams.length;
  $('#streams-empty').hidden = now.streams.length > 0;
}

const CLIENT_COLUMNS = ['calls', 'weight_minute', 'weight_total', 'refused'];
let sortBy = 'weight_minute';
let sortDown = true;

function showClients(now) {
  const way = sortDown ? -1 : 1;
  const byName = (a, b) => a.ip.localeCompare(b.ip, 'en', { numeric: true });
  const rows = [...now.clients].sort((a, b) => way * (sortBy === 'ip' ? byName(a, b) : a[sortBy] - b[sortBy]) || b.calls - a.calls || byName(a, b));
  const shown = rows.slice(0, CLIENTS_SHOWN);
  keep($('#clients'), shown, (one) => one.ip, (one) => el('tr', {}, el('th', { scope: 'row', class: 'mono lead wrap-any' }, one.ip), CLIENT_COLUMNS.map(numCell)), (node, one) => {
    CLIENT_COLUMNS.forEach((name, index) => put(node.cells[index + 1], number(one[name])));
    mark(node.cells[4], 'class', one.refused > 0 ? 'num warn-text' : 'num');
  });
  const more = rows.length - shown.length;
  const notes = [more > 0 && tn('dashboard.clients_more', more), now.refused > 0 && tn('dashboard.refused', now.refused)].filter(Boolean);
  put($('#clients-more'), notes.join(' '));
  $('#clients-refused').hidden = !(now.refused > 0);
  $('#clients-wrap').hidden = !rows.length;
  $('#clients-empty').hidden = rows.length > 0;
}

function markSort() {
  for (const head of $$('[data-sort]')) {
    const cell = head.parentElement;
    if (head.dataset.sort === sortBy) mark(cell, 'aria-sort', sortDown ? 'descending' : 'ascending');
    else cell.removeAttribute('aria-sort');
  }
}

for (const head of $$('[data-sort]')) {
  head.addEventListener('click', () => {
    sortDown = head.dataset.sort === sortBy ? !sortDown : head.dataset.sort !== 'ip';
    sortBy = head.dataset.sort;
    markSort();
    if (status) showClients(status);
  });
}
markSort();

/* ---- charts ---- */

const charts = new Map();
const WINDOW_MS = { hour: 3600_000, day: 86400_000 };
let range = 'hour';
let course = null; // {range, step, times, columns: {name: [..]}, weights: {name: [..]}}
let limits = '';

// Memory is used without any call.
const emptyText = (name) => t(name === 'memory' ? 'dashboard.chart.nothing' : 'dashboard.chart.empty');

function makeCharts() {
  const make = (name, options) => charts.set(name, new LineChart($(`[data-chart="${name}"]`), { empty: t('app.loading'), language: locale, ...options }));
  make('calls', { format: rate, least: 1, lines: [{ key: 'calls', name: t('dashboard.line.calls'), tone: 1, fill: true }, { key: 'errors', name: t('dashboard.line.errors'), tone: 4 }] });
  make('latency', { format: millis, least: 1, lines: [{ key: 'p50_ms', name: 'p50', tone: 2 }, { key: 'p99_ms', name: 'p99', tone: 5 }] });
  make('weight', { format: (value) => `${rounded(value, value < 10 ? 1 : 0)} %`, least: 100 });
  make('cache', { format: rate, least: 1, lines: [{ key: 'hits', name: t('dashboard.line.hits'), tone: 3, fill: true }, { key: 'misses', name: t('dashboard.line.misses'), tone: 8 }] });
  make('memory', { format: bytes, lines: [{ key: 'memory_bytes', name: t('dashboard.line.memory'), tone: 6, fill: true }] });
}

/** Join new points to those there are; an answer with the whole range simply replaces them. */
function join(answer) {
  const times = answer.points.time;
  const step = answer.step_s;
  if (!course || course.range !== answer.range) course = { range: answer.range, step, times: [], columns: {}, weights: {} };
  const oldest = (times.at(-1) ?? Date.now()) - WINDOW_MS[answer.range];
  const begin = course.times.findIndex((at) => at > oldest);
  const first = times[0] ?? Infinity;
  let end = course.times.findIndex((at) => at >= first);
  if (end < 0) end = course.times.length;
  const from = begin < 0 ? end : Math.min(begin, end);
  const kept = end - from;
  const merge = (old, fresh) => {
    const names = new Set([...Object.keys(old), ...Object.keys(fresh)]);
    return Object.fromEntries([...names].map((name) => [name, [...(old[name]?.slice(from, end) ?? Array(kept).fill(null)), ...(fresh[name] ?? Array(times.length).fill(null))]]));
  };
  const { time: _, weights = {}, ...columns } = answer.points;
  course.columns = merge(course.columns, columns);
  course.weights = merge(course.weights, weights);
  course.times = [...course.times.slice(from, end), ...times];
}

/** Leave out the time before the start, but never draw less than some minutes. */
function cutCourse() {
  const first = course.columns.calls.findIndex((value) => value !== null);
  const from = Math.max(0, Math.min(first < 0 ? Infinity : first, course.times.length - LEAST_STEPS));
  const cut = (columns) => Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values.slice(from)]));
  return { step: course.step, times: course.times.slice(from), columns: cut(course.columns), weights: cut(course.weights) };
}

function drawCharts() {
  if (!course || !charts.size) return;
  const { times, step, columns } = cutCourse();
  const perSecond = (name) => columns[name]?.map((value) => (value === null ? null : value / step));
  charts.get('calls').setData(times, { calls: perSecond('calls'), errors: perSecond('errors') });
  charts.get('latency').setData(times, columns, QUIET_STEPS);
  charts.get('cache').setData(times, { hits: perSecond('hits'), misses: perSecond('misses') });
  charts.get('memory').setData(times, columns);
  drawWeights();
}

function drawWeights() {
  if (!course || !charts.size || !status) return;
  const limit = new Map(status.weights.map((row) => [keyOf(row), row.limit]));
  const { times, weights } = cutCourse();
  const known = Object.entries(weights).filter(([name]) => limit.get(name) > 0)
    .map(([name, values]) => ({ name, share: values.map((value) => (value === null ? null : (value / limit.get(name)) * 100)) }));
  const most = (values) => values.reduce((high, value) => Math.max(high, value ?? 0), 0);
  const shown = known.length > LINES_SHOWN ? known.sort((a, b) => most(b.share) - most(a.share)).slice(0, LINES_SHOWN) : known;
  shown.sort((a, b) => a.name.localeCompare(b.name));
  const several = new Set(status.weights.map((row) => row.egress)).size > 1;
  const label = (name) => {
    const cut = name.indexOf('/');
    return several ? `${egressName(name.slice(0, cut))} · ${poolName(name.slice(cut + 1))}` : poolName(name.slice(cut + 1));
  };
  const chart = charts.get('weight');
  chart.setLines(shown.map(({ name }, index) => ({ key: name, name: label(name), tone: (index % 8) + 1, dashed: index >= 8 })));
  chart.setData(times, Object.fromEntries(shown.map(({ name, share }) => [name, share])));
}

async function loadCourse() {
  const wanted = range;
  const since = course?.range === wanted ? course.times.at(-1) : undefined;
  try {
    const answer = await api('GET', `history?range=${wanted}${since ? `&since=${since}` : ''}`);
    if (wanted !== range) return;
    join(answer);
    drawCharts();
    for (const [name, chart] of charts) chart.say(emptyText(name));
  } catch (error) {
    for (const chart of charts.values()) chart.say(errorText(error));
  }
}

for (const choice of $$('[data-range]')) {
  choice.addEventListener('click', () => {
    if (range === choice.dataset.range) return;
    range = choice.dataset.range;
    for (const other of $$('[data-range]')) mark(other, 'aria-pressed', other === choice);
    refresh();
  });
}

let loadedAt = 0;
async function refresh() {
  const due = course?.range !== range || Date.now() - loadedAt >= Math.min(30, course.step) * 1000;
  if (!due) return;
  loadedAt = Date.now();
  await loadCourse();
}

if (window.LightweightCharts) {
  makeCharts();
  poll(refresh, 2500);
  refresh();
} else {
  fill($('#charts'), el('p', { class: 'soft' }, t('dashboard.chart.library')));
}

/* ---- all of it ---- */

new Feed({
  events: 'events', event: 'status', poll: 'status', onState: showLink,
  onData(now) {
    status = now;
    remember(now);
    showFacts(now);
    showTiles(now);
    showAlerts(now);
    showWeights(now);
    showUpstreams(now);
    showMisses(now);
    showStreams(now);
    showClients(now);
    const names = now.weights.map((row) => `${keyOf(row)} ${row.limit}`).join('\n');
    if (names !== limits) {
      limits = names;
      drawWeights();
    }
  },
});
