/* The whitelist page: the entries, several at once, import, and the addresses refused lately. */
import {
  $, $$, api, busy, button, cell, clearErrors, confirmDialog, debounce, drawRows, el, errorText, failedRow, fieldError, fill, icon, iconButton,
  loadingRow, number, onSubmit, openDialog, pill, poll, reasonText, stateRow, t, time, tn, toast, toastError,
} from './core.js';
import { isHuge, mistake, sortKey } from './address.js';

const PAGE = 100;
const body = $('#entries');
const selected = new Set();
const order = { by: 'id', up: false };
let entries = null;
let mine = '';
let from = 0;

/* ---- the table ---- */

const search = $('#search');
const shown = $('#shown');

function wanted() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = entries.filter((entry) => {
    if (shown.value && entry.enabled !== (shown.value === 'on')) return false;
    const text = `${entry.address} ${entry.note}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const key = { address: (entry) => sortKey(entry.address), note: (entry) => entry.note.toLowerCase() }[order.by] ?? ((entry) => entry[order.by] ?? -1);
  const keyed = found.map((entry) => [key(entry), entry]);
  const sign = order.up ? 1 : -1;
  keyed.sort(([a, one], [b, other]) => (a < b ? -sign : a > b ? sign : other.id - one.id));
  return keyed.map(([, entry]) => entry);
}

function draw() {
  if (entries === null) return;
  const found = wanted();
  from = Math.min(from, Math.max(0, Math.floor((found.length - 1) / PAGE) * PAGE));
  const part = found.slice(from, from + PAGE);
  const on = entries.filter((entry) => entry.enabled).length;
  $('#count').textContent = entries.length ? t('whitelist.count', { n: entries.length, on }) : '';
  if (!entries.length) {
    stateRow(body, 'shield', t('whitelist.empty'), t('whitelist.empty_text'), el('div', { class: 'actions' },
      button(t('whitelist.add'), () => openAdd(), { kind: 'primary', symbol: 'plus' }), mine && button(t('whitelist.insert_mine', { address: mine }), () => openAdd(mine))));
  } else if (!part.length) {
    stateRow(body, 'search', t('whitelist.no_match'), '', button(t('whitelist.show_all'), () => {
      search.value = '';
      shown.value = '';
      draw();
    }));
  } else {
    drawRows(body, part, (entry) => entry.id, makeRow);
  }
  $('#pager').hidden = found.length <= PAGE;
  $('#pager-text').textContent = t('whitelist.page', { from: from + 1, to: from + part.length, n: found.length });
  $('#page-back').disabled = from === 0;
  $('#page-on').disabled = from + PAGE >= found.length;
  for (const head of $$('th[data-sort]')) {
    if (head.dataset.sort === order.by) head.setAttribute('aria-sort', order.up ? 'ascending' : 'descending');
    else head.removeAttribute('aria-sort');
  }
  drawSelection(found);
}

function drawSelection(found = wanted()) {
  const all = $('#select-all');
  const count = found.filter((entry) => selected.has(entry.id)).length;
  all.checked = count > 0 && count === found.length;
  all.indeterminate = count > 0 && count < found.length;
  all.disabled = !found.length;
  $('#bulk').hidden = selected.size === 0;
  $('#bulk-count').textContent = selected.size ? tn('whitelist.selected', selected.size) : '';
  for (const row of $$('tr[data-key]', body)) {
    const picked = selected.has(Number(row.dataset.key));
    row.classList.toggle('picked', picked);
    $('[data-pick]', row).checked = picked;
  }
}

function makeRow(entry) {
  const { id, address, note } = entry;
  const pick = el('input', {
    type: 'checkbox', class: 'form-check-input', 'data-pick': true, 'aria-label': t('whitelist.select', { address }),
    onchange: (event) => {
      if (event.target.checked) selected.add(id);
      else selected.delete(id);
      drawSelection();
    },
  });
  const flip = el('input', {
    type: 'checkbox', class: 'form-check-input', role: 'switch', checked: entry.enabled, 'aria-label': t('whitelist.may_call_of', { address }),
    onchange: (event) => toggle(entry, event.target),
  });
  return el('tr', {},
    el('td', { class: 'trail' }, pick),
    el('th', { scope: 'row', class: 'mono lead fw-normal' }, el('span', {}, address), address === mine && [' ', pill(t('whitelist.yours'), 'info')],
      entry.resolved && el('div', { class: 'soft small' }, entry.resolved.length ? t('whitelist.resolved', { addresses: entry.resolved.join(', ') }) : pill(t('whitelist.unresolved'), 'warn'))),
    cell(t('whitelist.note'), note ? el('span', { title: note.length > 90 ? note : null }, note) : el('span', { class: 'soft' }, '–'), note ? 'note wrap-any' : 'blank'),
    cell(t('whitelist.may_call'), el('span', { class: 'form-switch switch-only' }, flip)),
    cell(t('whitelist.last_seen'), time(entry.last_seen, { empty: t('app.never') })),
    cell(t('whitelist.calls'), el('span', {}, number(entry.calls)), entry.calls ? 'num' : 'num blank'),
    cell('', el('div', { class: 'row-actions' },
      iconButton('edit', t('whitelist.edit_of', { address }), () => openEdit(entry)),
      iconButton('trash', t('whitelist.delete_of', { address }), (event) => remove(entry, event.currentTarget), { danger: true }))));
}

async function load() {
  if (entries === null) loadingRow(body);
  try {
    const answer = await api('GET', 'whitelist');
    entries = answer.items;
    mine = answer.your_address ?? '';
    const known = new Set(entries.map((entry) => entry.id));
    for (const id of selected) if (!known.has(id)) selected.delete(id);
    drawMine();
    draw();
  } catch (error) {
    if (entries === null) failedRow(body, error, load);
    else throw error;
  }
}

const reload = () => load().catch(toastError);

function drawMine() {
  const known = entries.some((entry) => entry.address === mine);
  const add = $('#add-mine');
  add.disabled = !mine || known;
  $('span', add).textContent = known ? t('whitelist.mine_known') : t('whitelist.add_mine');
  add.title = mine;
  const insert = $('#add-insert-mine');
  insert.hidden = !mine || known;
  insert.textContent = t('whitelist.insert_mine', { address: mine });
}

/** Put what the server says now in the place of an entry. */
function replace(item) {
  entries = entries.map((entry) => (entry.id === item.id ? item : entry));
  draw();
}

async function toggle(entry, input) {
  const enabled = input.checked;
  input.disabled = true;
  try {
    replace(await api('PATCH', `whitelist/${entry.id}`, { enabled }));
    toast(t(enabled ? 'whitelist.now_on' : 'whitelist.now_off', { address: entry.address }));
  } catch (error) {
    input.checked = !enabled;
    toastError(error);
    if (error.status === 404) reload();
  }
  input.disabled = false;
}

async function remove(entry, where) {
  const text = [t('whitelist.delete_text', { address: entry.address }), entry.note && el('p', { class: 'soft' }, entry.note)].filter(Boolean);
  if (!(await confirmDialog({ title: t('whitelist.delete_title'), text, ok: t('app.delete') }))) return;
  await busy(where, async () => {
    try {
      await api('DELETE', `whitelist/${entry.id}`);
    } catch (error) {
      if (error.status !== 404) return toastError(error);
    }
    selected.delete(entry.id);
    entries = entries.filter((other) => other.id !== entry.id);
    drawMine();
    draw();
    return toast(t('whitelist.deleted', { address: entry.address }));
  });
}

for (const field of [search, shown]) {
  field.addEventListener('input', debounce(() => {
    from = 0;
    draw();
  }, 120));
}
for (const head of $$('th[data-sort]')) {
  $('button', head).addEventListener('click', () => {
    const by = head.dataset.sort;
    order.up = order.by === by ? !order.up : by === 'address' || by === 'note';
    order.by = by;
    from = 0;
    draw();
  });
}
for (const [id, step] of [['#page-back', -PAGE], ['#page-on', PAGE]]) {
  $(id).addEventListener('click', () => {
    from += step;
    draw();
    $('#entries-title').scrollIntoView();
  });
}

/* ---- several at once ---- */

$('#select-all').addEventListener('change', (event) => {
  for (const entry of wanted()) {
    if (event.target.checked) selected.add(entry.id);
    else selected.delete(entry.id);
  }
  drawSelection();
});
$('#bulk-none').addEventListener('click', () => {
  selected.clear();
  drawSelection();
  $('#select-all').focus();
});
for (const act of $$('[data-bulk]')) {
  act.addEventListener('click', async () => {
    const action = act.dataset.bulk;
    const ids = [...selected];
    if (action !== 'enable') {
      const sure = await confirmDialog({
        title: tn(`whitelist.bulk_${action === 'delete' ? 'delete' : 'disable'}`, ids.length),
        text: [t('whitelist.bulk_text'), listed(entries.filter((entry) => selected.has(entry.id)).map((entry) => entry.address))],
        ok: act.textContent,
      });
      if (!sure) return;
    }
    await busy(act, async () => {
      try {
        const { changed } = await api('POST', 'whitelist/bulk', { action, ids });
        selected.clear();
        await load();
        toast(tn(action === 'delete' ? 'whitelist.removed' : 'whitelist.changed', changed));
      } catch (error) {
        toastError(error);
      }
    });
  });
}

function listed(addresses) {
  const few = addresses.slice(0, 8);
  const rest = addresses.length - few.length;
  return el('p', { class: 'mono' }, few.join(', '), rest > 0 && ` ${t('whitelist.and_more', { n: rest })}`);
}

/* ---- add ---- */

const addDialog = $('#add-dialog');
const addForm = $('#add-form');

function openAdd(address = '') {
  addForm.reset();
  addForm.elements.address.value = address;
  openDialog(addDialog);
  (address ? addForm.elements.note : addForm.elements.address).focus();
}

$('#add').addEventListener('click', () => openAdd());
$('#add-mine').addEventListener('click', () => openAdd(mine));
$('#add-insert-mine').addEventListener('click', () => {
  const field = addForm.elements.address;
  field.value = [...field.value.split('\n').filter((line) => line.trim()), mine].join('\n');
  field.focus();
});

/** Part the field into [{line, address, note}]; a line is an address, perhaps followed by its own note. */
function readLines(text, note) {
  return text.split('\n').map((raw, at) => ({ raw: raw.trim(), line: at + 1 })).filter(({ raw }) => raw).map(({ raw, line }) => {
    const [, address, own] = raw.match(/^([^\s,;，；]+)[\s,;，；]*(.*)$/) ?? [null, raw, ''];
    return { line, address, note: own || note };
  });
}

const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
const huge = (addresses) => confirmDialog({ title: t('whitelist.huge_title'), text: [t('whitelist.huge_text'), listed(addresses)], ok: t('whitelist.huge_ok') });

onSubmit(addForm, async () => {
  const { address, note, enabled } = addForm.elements;
  const lines = readLines(address.value, note.value.trim());
  if (!lines.length) return fieldError(address, t('error.required'));
  const wrong = lines.map((line) => [line, mistake(line.address)]).filter(([, why]) => why);
  if (wrong.length) {
    const texts = wrong.slice(0, 8).map(([{ line }, [key, values]]) => (lines.length > 1 ? `${t('whitelist.line', { n: line })} ` : '') + t(key, values));
    if (wrong.length > 8) texts.push(t('whitelist.and_more', { n: wrong.length - 8 }));
    return fieldError(address, texts.join('\n'));
  }
  const large = lines.filter((line) => isHuge(line.address)).map((line) => line.address);
  if (large.length && !(await huge(large))) return undefined;
  const done = lines.length === 1 ? await addOne(lines[0], enabled.checked, address) : await addMany(lines, enabled.checked, address);
  if (!done) return undefined;
  addDialog.close();
  toast(done);
  loadRefused();
  return load();
});

async function addOne({ address, note }, enabled, field) {
  try {
    const item = await api('POST', 'whitelist', { address, note, enabled });
    return t('whitelist.added', { address: item.address });
  } catch (error) {
    if (error.status !== 409) throw error;
    fieldError(field, errorText(error));
    return '';
  }
}

async function addMany(lines, enabled, field) {
  const text = ['address,note,enabled', ...lines.map((line) => [line.address, line.note, String(enabled)].map(quoted).join(','))].join('\n');
  const plan = await api('POST', 'whitelist/import', { text, dry_run: true });
  if (plan.errors.length) {
    const lineOf = (error) => lines[error.line - 2]?.line ?? error.line;
    fieldError(field, plan.errors.slice(0, 8).map((error) => `${t('whitelist.line', { n: lineOf(error) })} ${lineError(error)}`).join('\n'));
    return '';
  }
  if (plan.updated) {
    const sure = await confirmDialog({ title: tn('whitelist.overwrite_title', plan.updated), text: t('whitelist.overwrite_text'), ok: t('whitelist.overwrite_ok'), danger: false });
    if (!sure) return '';
  }
  const done = await api('POST', 'whitelist/import', { text, dry_run: false });
  return summary(done);
}

const summary = ({ added, updated, unchanged }) =>
  [[added, 'whitelist.sum_added'], [updated, 'whitelist.sum_updated'], [unchanged, 'whitelist.sum_unchanged']]
    .filter(([n]) => n).map(([n, key]) => t(key, { n })).join(t('whitelist.sum_join')) || t('whitelist.sum_nothing');

/* ---- edit ---- */

const editForm = $('#edit-form');
const editDialog = $('#edit-dialog');
let editing = null;

function openEdit(entry) {
  editing = entry;
  const { address, note, enabled } = editForm.elements;
  address.value = entry.address;
  note.value = entry.note;
  enabled.checked = entry.enabled;
  fill($('#edit-created'), time(entry.created));
  fill($('#edit-updated'), time(entry.updated));
  openDialog(editDialog);
  note.focus();
}

onSubmit(editForm, async () => {
  const { address, note, enabled } = editForm.elements;
  const why = mistake(address.value);
  if (why) return fieldError(address, t(...why));
  if (address.value.trim() !== editing.address && isHuge(address.value) && !(await huge([address.value.trim()]))) return undefined;
  const change = { note: note.value.trim(), enabled: enabled.checked };
  if (address.value.trim() !== editing.address) change.address = address.value.trim();
  replace(await api('PATCH', `whitelist/${editing.id}`, change));
  drawMine();
  editDialog.close();
  return toast(t('app.saved'));
});

/* ---- import ---- */

const importForm = $('#import-form');
const importDialog = $('#import-dialog');
const result = $('#import-result');
const importNow = $('#import-now');

$('#import').addEventListener('click', () => {
  importForm.reset();
  fill(result);
  $('#import-name').textContent = '';
  importNow.disabled = true;
  openDialog(importDialog);
});
importForm.elements.text.addEventListener('input', () => {
  importNow.disabled = true;
  fill(result);
  $('#import-name').textContent = '';
});
$('#import-file').addEventListener('change', async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  $('#import-name').textContent = file.name;
  clearErrors(importForm);
  if (file.size > 3e6) {
    fieldError(importForm.elements.text, t('whitelist.import_large'));
    return;
  }
  const data = await file.arrayBuffer();
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(data);
  } catch {
    text = new TextDecoder('gb18030').decode(data); // what Excel writes on a Chinese system
  }
  importForm.elements.text.value = text;
  event.target.value = ''; // so that the same file, mended, can be chosen again
  importForm.requestSubmit($('[value=check]', importForm));
});

onSubmit(importForm, async (sender) => {
  const isCheck = sender.value !== 'import';
  const answer = await api('POST', 'whitelist/import', { text: importForm.elements.text.value, dry_run: isCheck });
  if (isCheck || answer.errors.length) {
    drawPlan(answer);
    return;
  }
  importDialog.close();
  toast(summary(answer));
  await load();
});

/** What is wrong with a line, in the user's language where the reason is known. */
function lineError(error) {
  const why = mistake(error.text.split(/[,;\s]/)[0].replaceAll('"', ''));
  if (error.reason === 'address' && why) return t(...why);
  return reasonText(error) || error.msg;
}

function drawPlan(plan) {
  importNow.disabled = plan.errors.length > 0 || plan.added + plan.updated === 0;
  if (!plan.errors.length) {
    fill(result, el('div', { class: `notice ${importNow.disabled ? 'info' : 'ok'}` }, icon(importNow.disabled ? 'info' : 'check'), el('p', {}, summary(plan))));
    return;
  }
  const rows = plan.errors.slice(0, 100).map((error) => el('tr', {},
    el('td', { class: 'num' }, number(error.line)), el('td', { class: 'mono content wrap-any' }, error.text), el('td', {}, lineError(error))));
  fill(result,
    el('div', { class: 'notice bad mb-2' }, icon('warning'), el('p', {}, tn('whitelist.import_errors', plan.errors_total ?? plan.errors.length))),
    el('div', { class: 'table-wrap' }, el('table', { class: 'table small' },
      el('thead', {}, el('tr', {}, [t('whitelist.import_line'), t('whitelist.import_content'), t('whitelist.import_problem')].map((name) => el('th', { scope: 'col' }, name)))),
      el('tbody', {}, rows))));
}

/* ---- refused lately ---- */

const refusedBody = $('#refused');

async function loadRefused() {
  let items;
  try {
    ({ items } = await api('GET', 'refused'));
  } catch (error) {
    if (!$('tr[data-key]', refusedBody)) failedRow(refusedBody, error, loadRefused);
    return;
  }
  $('#refused-clear').hidden = !items.length;
  if (!items.length) {
    stateRow(refusedBody, 'check', t('whitelist.refused_none'), t('whitelist.refused_none_text'));
    return;
  }
  drawRows(refusedBody, items, (item) => item.address, (item) => el('tr', {},
    el('th', { scope: 'row', class: 'mono lead fw-normal' }, el('span', {}, item.address), item.address === mine && [' ', pill(t('whitelist.yours'), 'info')]),
    cell(t('whitelist.refused_count'), el('span', {}, number(item.count)), 'num'),
    cell(t('whitelist.refused_last'), time(item.last)),
    cell(t('whitelist.refused_path'), el('span', { class: 'mono' }, item.path), 'wrap-any'),
    el('td', { class: 'trail' }, el('div', { class: 'row-actions' }, button(t('whitelist.allow'), () => openAdd(item.address), { 'aria-label': t('whitelist.allow_of', { address: item.address }) })))));
}

$('#refused-clear').addEventListener('click', async (event) => {
  const where = event.currentTarget;
  if (!(await confirmDialog({ title: t('whitelist.refused_clear_title'), text: t('whitelist.refused_clear_text'), ok: t('whitelist.refused_clear') }))) return;
  await busy(where, () => api('DELETE', 'refused').catch(toastError));
  loadRefused();
});

const isQuiet = () => !document.querySelector('dialog[open]');
await load();
loadRefused();
poll(() => isQuiet() && loadRefused(), 5000);
poll(() => isQuiet() && load().catch(() => {}), 20000);
