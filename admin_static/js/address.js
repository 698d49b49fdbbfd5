/* Addresses and networks as the whitelist takes them: a first check beside the field, and a key to sort by.
   The server has the last word; what is not understood here is left to it. */

function parse4(text) {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)) return null;
  return parts.reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

function parse6(text) {
  let rest = text;
  const tail = rest.match(/^(.*:)(\d+\.\d+\.\d+\.\d+)$/);
  if (tail) {
    const four = parse4(tail[2]);
    if (four === null) return null;
    rest = `${tail[1]}${(four >> 16n).toString(16)}:${(four & 0xffffn).toString(16)}`;
  }
  const halves = rest.split('::');
  if (halves.length > 2) return null;
  const groups = halves.map((half) => (half ? half.split(':') : []));
  const count = groups.flat().length;
  if (!groups.flat().every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  if (halves.length === 1 ? count !== 8 : count > 7) return null;
  const all = halves.length === 1 ? groups[0] : [...groups[0], ...Array(8 - count).fill('0'), ...groups[1]];
  return all.reduce((sum, group) => (sum << 16n) + BigInt(`0x${group}`), 0n);
}

function write(number, bits) {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => (number >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, at) => ((number >> BigInt(112 - 16 * at)) & 0xffffn).toString(16));
  return groups.join(':').replace(/\b0(:0)+\b/, ':').replace(/:{3,}/, '::');
}

/** Read an address or network: {number, bits, prefix}, or null. */
export function parse(text) {
  const [host, length, ...more] = text.trim().split('/');
  const number = parse4(host);
  const value = number ?? parse6(host);
  if (value === null || more.length) return null;
  const bits = number === null ? 128 : 32;
  if (length !== undefined && !/^\d{1,3}$/.test(length)) return null;
  const prefix = length === undefined ? bits : Number(length);
  return prefix > bits ? null : { number: value, bits, prefix };
}

/** Whether a text is a DNS name: it has a dot and its last part is no number. */
export const isName = (text) => text.length <= 64 && /^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+(?!\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$/i.test(text.replace(/\.$/, ''));

/** What is wrong with an address: null, or the key of a text and its values. */
export function mistake(text) {
  const cleaned = text.trim();
  if (isName(cleaned)) return null;
  const found = parse(cleaned);
  if (!found) return /\/\d+\./.test(cleaned) ? null : ['address.invalid', { text: cleaned.slice(0, 60) }]; // a netmask is the server's
  const { number, bits, prefix } = found;
  const spare = BigInt(bits - prefix);
  const network = (number >> spare) << spare;
  if (network === number) return null;
  return ['address.host_bits', { text: cleaned, network: `${write(network, bits)}/${prefix}`, host: cleaned.split('/')[0] }];
}

/** Whether a network is so large that it is worth a question. */
export function isHuge(text) {
  const found = parse(text);
  return found !== null && found.prefix <= (found.bits === 32 ? 8 : 16);
}

/** A text that sorts addresses by number, IPv4 first. */
export function sortKey(text) {
  const found = parse(text);
  return found ? `${found.bits === 32 ? 4 : 6}${found.number.toString(16).padStart(32, '0')}/${String(found.prefix).padStart(3, '0')}` : `9${text}`;
}
