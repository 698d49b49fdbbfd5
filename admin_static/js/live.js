/* Live data: server-sent events while they come, polling when they do not, nothing while the page is hidden.
   It draws nothing. One Feed holds one stream; at most one request of it is under way. */

import { api } from './core.js';

const SILENCE_MS = 6000;
const RETRY_MS = 20000;

/** states: connecting, live, polling, lost, paused.
 *  events: path of the stream; event: its event's name; others: {name: handler} of further events, which are signs of life too;
 *  poll: path asked where the stream fails; read(answer) -> what onData takes; isQuiet: after its first event it may say nothing for long. */
export class Feed {
  constructor({ events, event, poll, every = 3000, others = {}, isQuiet = false, read = (answer) => answer, onData, onState = () => {}, onError = () => {} }) {
    Object.assign(this, { events, event, path: poll, every, others, isQuiet, read, onData, onState, onError });
    this.visible = () => (document.hidden ? this.pause() : this.open());
    document.addEventListener('visibilitychange', this.visible);
    addEventListener('pagehide', (this.leave = () => this.pause()));
    this.say('connecting');
    if (!document.hidden) this.open();
  }

  say(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state);
  }

  open() {
    this.pause();
    this.say('connecting');
    this.listen();
  }

  listen() {
    clearTimeout(this.again);
    this.source?.close();
    const source = (this.source = new EventSource(`/admin/api/${this.events}`));
    for (const [name, take] of Object.entries({ ...this.others, [this.event]: this.onData })) {
      source.addEventListener(name, (message) => {
        if (this.source !== source) return;
        this.stopPolling();
        if (this.isQuiet) this.unwatch();
        else this.watch();
        this.say('live');
        take(JSON.parse(message.data));
      });
    }
    // The log-in is over, or the gateway stops: asking once tells which.
    source.addEventListener('end', () => { if (this.source === source) this.fallBack(); });
    source.addEventListener('error', () => {
      if (this.source !== source) return;
      if (source.readyState === EventSource.CLOSED) this.fallBack();
      else if (!this.silent) this.watch(); // the browser tries again by itself, for a while
    });
    this.watch();
  }

  /** A stream that says nothing for long (some proxies hold it back) is as good as none. */
  watch() {
    clearTimeout(this.silent);
    this.silent = setTimeout(() => this.fallBack(), SILENCE_MS);
  }

  unwatch() {
    clearTimeout(this.silent);
    this.silent = null;
  }

  fallBack() {
    this.unwatch();
    this.source?.close();
    this.source = null;
    clearTimeout(this.again);
    this.again = setTimeout(() => this.listen(), RETRY_MS);
    if (!this.timer) this.poll();
  }

  async poll() {
    const ticket = (this.timer = {});
    this.stop = new AbortController();
    try {
      const answer = this.read(await api('GET', this.path, undefined, { signal: this.stop.signal, timeout: 10000 }));
      if (this.timer !== ticket) return;
      this.say('polling');
      this.onData(answer);
    } catch (error) {
      if (this.timer !== ticket) return;
      this.say('lost');
      this.onError(error);
    }
    ticket.id = setTimeout(() => this.poll(), this.every);
  }

  stopPolling() {
    this.stop?.abort();
    clearTimeout(this.timer?.id);
    this.timer = null;
  }

  pause() {
    this.unwatch();
    clearTimeout(this.again);
    this.source?.close();
    this.source = null;
    this.stopPolling();
    if (document.hidden) this.say('paused');
  }

  close() {
    this.pause();
    document.removeEventListener('visibilitychange', this.visible);
    removeEventListener('pagehide', this.leave);
  }
}

/** Keep one child per item: made once by `make`, then kept up to date by `update`, in the order of the items. */
export function keep(box, items, keyOf, make, update) {
  const old = (box.kept ??= new Map());
  const kept = new Map();
  let next = box.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    if (kept.has(key)) continue;
    const node = old.get(key) ?? make(item);
    kept.set(key, node);
    update(node, item);
    if (node === next) next = next.nextElementSibling;
    else box.insertBefore(node, next);
  }
  for (const [key, node] of old) if (kept.get(key) !== node) node.remove();
  box.kept = kept;
}

/** Write a text only where it changed, so that nothing flickers and a selection survives. */
export function put(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

/** Write an attribute only where it changed. */
export function mark(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}
