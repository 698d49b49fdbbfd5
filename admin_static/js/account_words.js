/* Words of trading accounts: markets, modes, reasons, types and states of orders; and numbers as Binance wrote them. */

import { t, has, el, time, duration } from './core.js';

export const STATE_TONES = { live: 'ok', syncing: 'warn', opening: 'info', waiting: '' };
/** The ways an account of a market can be watched, weakest trust first. */
export const MODES_OF = { spot: ['signed', 'secret'], margin: ['signed', 'secret'], um: ['key', 'secret'], cm: ['key', 'secret'], pm: ['key', 'secret'] };
/** Spot and margin share a host: a key seen there may be either. */
export const hostOf = (market) => (market === 'margin' ? 'spot' : market);

const textOr = (key, name) => (has(key) ? t(key) : name);
export const marketName = (name) => textOr(`live.market.${name}`, name);
export const modeName = (name) => textOr(`accounts.mode.${name}`, name);
export const stateName = (name) => textOr(`accounts.state_name.${name}`, name);
export const typeName = (name) => textOr(`accounts.type.${name}`, name);
export const statusName = (name) => textOr(`accounts.status_name.${name}`, name);
export const hint = (text) => `…${text || '????'}`;

/** Why an account is not live, or a call was sent on, in plain words; what Binance said itself stays as it is. */
export function whyText(why) {
  if (!why || has(`accounts.why.${why}`)) return why ? t(`accounts.why.${why}`) : '';
  const [, head, more] = /^(.+?): (.*)$/s.exec(why) ?? /^(.+) (\d+)$/.exec(why) ?? [];
  return has(`accounts.why.${head}`) ? `${t(`accounts.why.${head}`)} (${more})` : why;
}

/** A number without the zeros at its end that say nothing. */
export function plain(value) {
  const text = String(value ?? '');
  return text.includes('.') ? text.replace(/\.?0+$/, '') || '0' : text;
}

export const isNothing = (value) => !/[1-9]/.test(String(value ?? ''));

const two = (n) => String(n).padStart(2, '0');

/** A <time> that is as short as the day allows; whole on hover. */
export function moment(ms) {
  const whole = time(ms || null);
  if (whole.tagName !== 'TIME') return whole;
  const [at, now] = [new Date(ms), new Date()];
  whole.title = `${whole.textContent} · ${whole.title}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
  const isToday = at.toDateString() === now.toDateString();
  const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  whole.textContent = isToday ? `${clock}:${two(at.getSeconds())}` : at.getFullYear() === now.getFullYear() ? `${day} ${clock}` : `${at.getFullYear()}-${day}`;
  return whole;
}

/** What became of an account since it is in its state: "for 3 min". */
export const sinceText = (ms) => (ms ? t('accounts.since', { time: duration(Math.max(0, Date.now() - ms) / 1000) }) : '');

/** How many calls were answered from memory, of all, with the share. */
export function answered({ hits, misses }) {
  const missed = Object.values(misses ?? {}).reduce((sum, n) => sum + n, 0);
  return { hits, missed, share: hits + missed ? Math.floor((hits / (hits + missed)) * 1000) / 10 : null };
}

/** One key: its last characters, where it comes from, and which clients are believed with it. */
export function keyLine({ hint: end, source, has_public_key: isVerified, addresses }) {
  const who = isVerified ? t('accounts.verified') : addresses.length ? t('accounts.believed', { addresses: addresses.slice(0, 3).join(', ') + (addresses.length > 3 ? ' …' : '') }) : source === 'own' ? '' : t('accounts.believed_none');
  return [el('code', {}, hint(end)), source === 'own' && ` ${t('accounts.key_own')}`, who && el('span', { class: 'soft small d-block', title: addresses.length > 3 ? addresses.join('\n') : null }, who)];
}
