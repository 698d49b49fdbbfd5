/* What can be kept of a symbol, in words a trader knows: candles by interval, order books, trades, prices. */

import { $, t, tn, has, number, duration } from './core.js';

/** The words of preload rules by market, as the gateway knows them. */
export const WORDS = JSON.parse($('#rules').dataset.words);
export const ALL_WORDS = [...new Set(Object.values(WORDS).flat())];

// 1m, perhaps by another time: 1d@+08:00; continuousKline_1m, perhaps of a contract: continuousKline_1m@CURRENT_QUARTER
const CANDLES = /^(?:([A-Za-z]+)_)?(\d+[smhdwM])(?:@([\w+:]+))?$/;
const LENGTH_S = { s: 1, m: 60, h: 3600, d: 86400, w: 604800, M: 31 * 86400 };
const BOOKS = ['depth20', 'depth'];
const TRADES = ['aggTrade', 'trade'];
const VALUES = ['bookTicker', 'ticker', 'markPrice'];

/** Other rows of periods are named alike (openInterestHist_5m). */
export const isCandles = (word) => CANDLES.test(word) && /^(?:\w+Klines?)?$/.test(familyOf(word));
export const isBook = (word) => BOOKS.includes(word);
/** Whether there is a picture of it: a chart or a ladder. */
export const isShown = (word) => isBook(word) || (isCandles(word) && ALL_WORDS.includes(word.split('@')[0]));
export const intervalOf = (word) => CANDLES.exec(word)?.[2] ?? '';
/** Which sort of candles: '' for plain ones, else such as continuousKline. */
export const familyOf = (word) => CANDLES.exec(word)?.[1] ?? '';
export const lengthS = (word) => parseInt(intervalOf(word), 10) * LENGTH_S[intervalOf(word).at(-1)];

export const marketName = (name) => (has(`live.market.${name}`) ? t(`live.market.${name}`) : name);

export function wordName(word) {
  const [, family, interval, more] = CANDLES.exec(word) ?? [];
  const name = family ?? (interval ? '' : word);
  const shown = has(`streams.word.${name}`) ? t(`streams.word.${name}`) : name;
  return [shown, interval, more?.replace(/^[+-]/, 'UTC$&')].filter(Boolean).join(' · ');
}

export const wordHelp = (word) => (has(`streams.word_help.${word}`) ? t(`streams.word_help.${word}`) : '');

/** Sorts words as the market's list has them. */
export function inOrder(market) {
  const place = (word) => WORDS[market].indexOf(word.split('@')[0]) >>> 0; // others come last
  return (a, b) => place(a) - place(b) || a.localeCompare(b);
}

/** What is held of a series: candles, levels of a side, trades, other rows; a value is there or not. */
export function heldText({ interval: word, rows, depth, state }) {
  if (isCandles(word)) return state === 'filling' && depth ? t('streams.held.filling', { rows, depth }) : tn('streams.held.candles', rows);
  if (isBook(word)) return tn('streams.held.levels', rows);
  if (TRADES.includes(word)) return tn('streams.held.trades', rows);
  if (VALUES.includes(word)) return t(rows ? 'streams.held.value' : 'streams.held.no_value');
  return tn('streams.held.rows', rows);
}

export const ageText = (ms) => (ms === null || ms === undefined ? '–' : ms < 10000 ? t('live.ms', { n: number(Math.round(ms)) }) : duration(ms / 1000));
