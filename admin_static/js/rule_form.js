/* The form of a preload rule: what can be kept in each market, explained, and what the rule will cost before it is saved. */

import { $, $$, t, tn, el, fill, api, ApiError, number, bytes, debounce, toast, errorText, makeDialog, openDialog, onSubmit, clearErrors, fieldError, button } from './core.js';
import { put, mark } from './live.js';
import { WORDS, ALL_WORDS, familyOf, isCandles, intervalOf, marketName, wordName, wordHelp } from './words.js';

function estimateBox() {
  const box = el('section', { class: 'estimate', 'aria-live': 'polite', 'aria-label': t('streams.estimate') });
  const say = (...content) => fill(box, el('h3', {}, t('streams.estimate')), content);
  const short = el('p', { class: 'foot-note soft small' });
  return {
    box,
    short, // the same in a line beside the buttons
    wait: () => {
      put(short, '');
      mark(box, 'class', 'estimate');
      say(el('p', { class: 'soft' }, t('streams.estimate_wait')));
    },
    busy: () => {
      put(short, short.textContent && '…');
      mark(box, 'class', 'estimate waiting');
    },
    fail: (error, again) => {
      put(short, '');
      mark(box, 'class', 'estimate');
      say(el('p', { class: 'warn-text' }, t('streams.estimate_failed', { msg: errorText(error) })), el('div', {}, button(t('streams.estimate_again'), again, { symbol: 'refresh' })));
    },
    show: (cost) => {
      mark(box, 'class', 'estimate');
      put(short, t('streams.est.short', { weight: cost.weight, memory: bytes(cost.memory_bytes), series: cost.series }));
      const fact = (name, value) => el('div', {}, el('dt', {}, t(`streams.est.${name}`)), el('dd', {}, value));
      const minutes = cost.minutes < 1 ? t('streams.est.at_once') : t('streams.est.minutes_value', { n: Math.ceil(cost.minutes) });
      const left = cost.symbols - cost.sample.length;
      const names = cost.sample.join(t('dashboard.comma'));
      say(el('dl', {}, fact('symbols', number(cost.symbols)), fact('series', number(cost.series)), fact('weight', number(cost.weight)), fact('memory', bytes(cost.memory_bytes)),
        fact('connections', number(cost.connections)), fact('minutes', cost.weight ? minutes : '–')),
      cost.symbols === 0 ? el('p', { class: 'warn-text' }, t('streams.estimate_none'))
        : el('p', { class: 'soft small' }, t('streams.est.sample', { names: left > 0 ? t('streams.est.and_more', { names, n: left }) : names })),
      cost.held > 0 && el('p', { class: 'soft small' }, tn('streams.est.held', cost.held)));
    },
  };
}

/** The checkboxes of all words, in groups; those the market does not have are out of sight and do not count. */
function whatBoxes(chosen) {
  const box = (word, more) => el('input', { class: 'form-check-input', type: 'checkbox', id: `rule-${word}`, value: word, checked: chosen.has(word), 'data-what': true, ...more });
  const short = (word) => el('div', { class: 'form-check', 'data-word': word }, box(word, familyOf(word) && { 'aria-label': wordName(word) }),
    el('label', { class: 'form-check-label', for: `rule-${word}` }, intervalOf(word)));
  const explained = (word) => el('div', { class: 'form-check option', 'data-word': word }, box(word, { 'aria-describedby': `rule-${word}-help` }),
    el('label', { class: 'form-check-label', for: `rule-${word}` }, wordName(word), ' ', el('code', { class: 'soft small' }, word)),
    el('div', { class: 'form-text', id: `rule-${word}-help` }, wordHelp(word)));
  const group = (name, words, make, kind) => words.length > 0 && el('div', { class: 'what-group', 'data-group': true },
    el('h3', {}, t(`streams.group.${name}`)), el('div', { class: kind }, words.map(make)));
  const plain = ALL_WORDS.filter((word) => isCandles(word) && !familyOf(word));
  const live = ALL_WORDS.filter((word) => !isCandles(word));
  const families = [...new Set(ALL_WORDS.filter((word) => isCandles(word) && familyOf(word)).map(familyOf))];
  return [
    group('candles', plain, short, 'checks'),
    group('live', live, explained, 'options'),
    families.map((family) => {
      const words = ALL_WORDS.filter((word) => familyOf(word) === family);
      return el('details', { class: 'what-group', 'data-group': true, open: words.some((word) => chosen.has(word)) },
        el('summary', {}, t(`streams.word.${family}`)), el('p', { class: 'form-text' }, t(`streams.word_help.${family}`)), el('div', { class: 'checks' }, words.map(short)));
    }),
  ];
}

/** Add a rule, or change one; `onSaved` runs when it is in force. */
export async function editRule(rule, onSaved) {
  const chosen = new Set((rule?.what ?? '1m').split(','));
  const market = el('select', { class: 'form-select', id: 'rule-market', name: 'market' }, Object.keys(WORDS).map((name) => el('option', { value: name }, marketName(name))));
  market.value = rule?.market ?? 'um';
  const symbols = el('textarea', { class: 'form-control', id: 'rule-symbols', name: 'symbols', rows: 2, spellcheck: 'false', autocapitalize: 'characters', autocomplete: 'off', 'aria-describedby': 'rule-symbols-hint', value: rule?.symbols.replaceAll(',', ', ') ?? '' });
  const whats = el('fieldset', { id: 'rule-what' }, el('legend', {}, t('streams.what')), whatBoxes(chosen));
  const whatNote = el('div', { class: 'field-error', role: 'alert' });
  whats.append(whatNote);
  const cost = estimateBox();
  cost.wait();
  const failed = el('div', { class: 'notice bad', 'data-form-error': true, role: 'alert' });
  const form = el('form', { id: 'rule-form', class: 'stack' },
    el('div', {}, el('label', { class: 'form-label', for: 'rule-market' }, t('streams.market')), market),
    el('div', {}, el('label', { class: 'form-label', for: 'rule-symbols' }, t('streams.symbols')), symbols, el('div', { class: 'form-text', id: 'rule-symbols-hint' }, t('streams.symbols_hint'))),
    whats, cost.box, failed);
  const boxes = $$('[data-what]', whats);
  const read = () => ({
    market: market.value,
    symbols: symbols.value.split(/[\s,，、;]+/).filter(Boolean).join(','),
    what: boxes.filter((box) => box.checked && !box.disabled).map((box) => box.value).join(','),
  });
  /** A character no symbol has, found before the server is asked. */
  const odd = (now) => /[^\p{L}\p{N}_\-.*?,]/u.exec(now.symbols)?.[0];
  const explain = (error) => {
    if (error.status === 409) {
      fieldError(symbols, errorText(error));
      return true;
    }
    const field = error instanceof ApiError ? error.data.field : '';
    if (field === 'what') put(whatNote, errorText(error));
    else if (field === 'symbols' || field === 'market') fieldError(field === 'market' ? market : symbols, errorText(error));
    else return false;
    return true;
  };
  let asked;
  const ask = async () => {
    asked?.abort();
    const now = read();
    if (!now.symbols || !now.what) {
      cost.wait();
      return;
    }
    if (odd(now)) {
      fieldError(symbols, t('streams.symbols_odd', { c: odd(now) }));
      cost.wait();
      return;
    }
    const mine = (asked = new AbortController());
    cost.busy();
    try {
      const answer = await api('POST', 'preload/estimate', now, { signal: mine.signal });
      if (!mine.signal.aborted) cost.show(answer);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (explain(error)) cost.wait();
      else cost.fail(error, ask);
    }
  };
  const askSoon = debounce(ask, 450);
  const onMarket = () => {
    const words = new Set(WORDS[market.value]);
    for (const one of $$('[data-word]', whats)) {
      one.hidden = !words.has(one.dataset.word);
      $('input', one).disabled = one.hidden;
    }
    for (const group of $$('[data-group]', whats)) group.hidden = $$('[data-word]', group).every((one) => one.hidden);
  };
  form.addEventListener('input', () => {
    clearErrors(form);
    put(whatNote, '');
    onMarket();
    askSoon();
  });
  onMarket();
  onSubmit(form, async () => {
    put(whatNote, '');
    const now = read();
    if (!now.symbols) return fieldError(symbols, t('streams.symbols_missing'));
    if (odd(now)) return fieldError(symbols, t('streams.symbols_odd', { c: odd(now) }));
    if (!now.what) return put(whatNote, t('streams.what_missing'));
    try {
      if (rule) await api('PUT', `preload/${rule.id}`, now);
      else await api('POST', 'preload', now);
    } catch (error) {
      if (explain(error)) return undefined;
      throw error;
    }
    toast(t('streams.saved'));
    dialog.close('saved');
    onSaved();
    return undefined;
  });
  const dialog = makeDialog(rule ? t('streams.edit_rule', { id: String(rule.id) }) : t('streams.add_rule'), form, [
    cost.short,
    button(t('app.cancel'), null, { small: false, 'data-close': true }),
    el('button', { type: 'submit', class: 'btn btn-primary', form: 'rule-form' }, t('app.save')),
  ], { wide: true });
  const closed = openDialog(dialog);
  symbols.focus();
  if (rule) ask();
  await closed;
  asked?.abort();
}
