"""Gives every client the streams it wants out of feeds that are opened once for all of them.

It speaks no HTTP and opens nothing: feeds are handed in, clients are handed over by the web layer. A
`Fanout` owns its topics, its clients and one task that looks after both.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.binance.stream_kinds import Flow, StreamKind, stream_kind
from resender.core.fanout.frames import payload_of, ping_frame, text_frame
from resender.core.fanout.order import Verdict
from resender.core.fanout.protocol import (
    CLOSE_TOO_MANY,
    TOO_MANY_SUBSCRIPTIONS,
    Refused,
    read_command,
    result,
)
from resender.fanout.client import Guest, StreamClient
from resender.fanout.topics import Reply, Topic

logger = logging.getLogger("resender.fanout")

# Close codes of RFC 6455: 1000 is left out on purpose, some clients take it as final.
RESTART, TOO_SLOW, TRY_LATER = 1012, 1008, 1013
EXPELLED = (1008, "the address is not in the whitelist any more")
_SWEEP_S = 1.0
# Other work gets its turn after so many clients: an order needs several turns, and a write takes some 12 µs.
_FLUSH_AT_ONCE = 4
_END_AT_ONCE = 16
_WHOLE = (Flow.SEQUENCE, Flow.CANDLE)
_PING_EVERY_S = 20.0
_SILENT_S = 60.0
# A stream that is away for longer is no short interruption.
_LOST_S = 30.0


class Feed(Protocol):
    """The streams of one market and URL path; `resender.upstream.streams.feeds.Feed` is one."""

    async def start(self) -> None: ...
    def subscribe(self, names: Iterable[str], listener: Any) -> None: ...
    def unsubscribe(self, names: Iterable[str], listener: Any) -> None: ...


class Feeds(Protocol):
    """Every feed there is."""

    def at(self, market: Market, path: str, role: str = "") -> Any: ...


@dataclass(frozen=True, slots=True)
class FanoutOptions:
    """What the settings say.

    Units: `queue_bytes` bytes of one client, `linger_s` seconds a stream is kept after its last listener.
    """

    queue_bytes: int = 1 << 20
    linger_s: float = 10.0
    max_clients: int = 1000
    max_streams: int = 5000
    sends_last: bool = True


@dataclass(slots=True)
class FanoutStats:
    """Counters, read by metrics and status."""

    events_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0
    dropped: int = 0
    duplicates: int = 0
    gaps: int = 0
    opened: int = 0
    refused: int = 0
    closed_slow: int = 0
    closed_lost: int = 0


class Source:
    """The topics of one market, all out of its feeds. It is the listener of those."""

    is_relay = True

    def __init__(self, fanout: Fanout, market: Market, role: str) -> None:
        self.market = market
        self.role = role
        self.topics: dict[str, Topic] = {}
        self._fanout = fanout

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        topic = self.topics.get(name)
        if topic is None:
            return None
        payload = payload_of(raw)
        if payload is None:
            # Not built as Binance builds it: read it and write the same.
            payload = orjson.dumps(orjson.loads(raw)["data"] if data is None else data)
        self._fanout.publish(topic, payload)
        return None

    def on_live(self, names: list[str]) -> None:
        self._fanout.live([self.topics[name] for name in names if name in self.topics])

    def on_lost(self, names: list[str]) -> None:
        self._fanout.lost([self.topics[name] for name in names if name in self.topics])


class Fanout:
    """All clients of streams, and the streams they share."""

    def __init__(self, feeds: Feeds, options: FanoutOptions, *, clock: Clock, tasks: Tasks) -> None:
        self.options = options
        self.stats = FanoutStats()
        self.clients: dict[int, StreamClient] = {}
        self.guests: dict[int, Guest] = {}
        # Told of the seconds between an event and its writing, for each round of writing.
        self.on_written: Callable[[float], None] = lambda seconds: None
        self._feeds = feeds
        self._clock = clock
        self._tasks = tasks
        self._sources: dict[tuple[Market, str], Source] = {}
        self._started: set[int] = set()
        self._last_number = 0
        self._woken: list[StreamClient] = []
        self._woken_at = 0.0
        self._is_flushing = False
        self._ending: deque[tuple[StreamClient, bytes, str]] = deque()
        self._topics = 0

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        self._tasks.spawn(self._look_after(), name="fanout:look-after")

    async def stop(self) -> None:
        """End every client's connection; they are told to come back."""
        for client in list(self.clients.values()):
            self.close(client, RESTART, "the gateway stops")
        self.dismiss_guests("the gateway stops")

    # --- clients ---------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many clients there are."""
        return len(self.clients) + len(self.guests)

    @property
    def has_room(self) -> bool:
        return self.size < self.options.max_clients

    def next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def add(self, client: StreamClient, names: Iterable[str]) -> None:
        """Take a client that has been accepted, with the streams of its URL."""
        client.number = self.next_number()
        client.since_ms = self._clock.now_ms()
        now = self._clock.mono()
        client.last_sign = now
        client.next_ping = now + _PING_EVERY_S
        self.clients[client.number] = client
        self.stats.opened += 1
        wanted = [name for name in dict.fromkeys(names) if not name.isdigit()]
        if wanted and self.subscribe(client, wanted):
            self._send_last(client, wanted)

    def remove(self, client: StreamClient) -> None:
        """A client is gone."""
        client.is_closed = True
        if self.clients.pop(client.number, None) is not None:
            self.stats.dropped += client.dropped
            self.stats.bytes_out += client.bytes_out
            self.unsubscribe(client, list(client.names))

    def close(self, client: StreamClient, code: int, reason: str) -> None:
        """End a client's connection with words."""
        if client.is_closed:
            return
        if not client.is_blocked:
            client.flush()
        self.remove(client)
        client.sink.close(code, reason)

    def expel(self, is_allowed: Callable[[str], bool]) -> None:
        """End the connections of addresses that may not enter any more."""
        for client in [one for one in self.clients.values() if not is_allowed(one.address)]:
            self.close(client, *EXPELLED)
        for guest in [one for one in self.guests.values() if not is_allowed(one.address)]:
            guest.close(*EXPELLED)

    def dismiss_guests(self, reason: str) -> None:
        """End what is relayed one to one; whoever wants it connects again."""
        for guest in list(self.guests.values()):
            guest.close(RESTART, reason)

    def send(self, client: StreamClient, payload: bytes) -> None:
        """Send a client a message of its own, behind what waits for it."""
        self.push(client, text_frame(payload))

    def push(self, client: StreamClient, frame: bytes) -> None:
        """Send a client a ready frame that must arrive."""
        if client.is_closed:
            return
        if client.is_blocked:
            if not client.queue(frame, None):
                self._too_slow(client)
            return
        if not client.pending:
            self._wake([client])
        client.pending.append(frame)

    def hear(self, client: StreamClient, text: str | bytes) -> list[str]:
        """Take a message of a client; return the names it has newly subscribed, streams or not."""
        try:
            command = read_command(client.market, text)
        except Refused as refused:
            self.send(client, refused.reply)
            return []
        reply = b"null"
        wanted: list[str] = []
        if command.method == "SUBSCRIBE":
            # Who has a stream already has its newest event too.
            wanted = [name for name in dict.fromkeys(command.params) if name not in client.names]
            if not self.subscribe(client, wanted):
                return []
        elif command.method == "UNSUBSCRIBE":
            self.unsubscribe(client, command.params)
        elif command.method == "LIST_SUBSCRIPTIONS":
            reply = orjson.dumps(list(client.names))
        elif command.method == "GET_PROPERTY":
            reply = orjson.dumps(client.is_combined)
        else:
            self._set_combined(client, is_combined=command.params[1])
        answer = Reply(client, result(command.message_id, reply), wanted)
        for topic in self._topics_of(client, wanted):
            # Who builds on each event may ask for a snapshot once he is answered: from then on none may be missed.
            if topic.lost_since is not None and topic.kind.flow in _WHOLE:
                answer.missing += 1
                topic.replies.append(answer)
        if not answer.missing:
            self._reply(answer)
        return wanted

    def _reply(self, answer: Reply) -> None:
        self.send(answer.client, answer.text)
        self._send_last(answer.client, answer.names)

    def live(self, topics: list[Topic]) -> None:
        """Streams have become live: who waited for them is answered."""
        for topic in topics:
            topic.lost_since = None
            self._release(topic, topic.replies)

    def _release(self, topic: Topic, replies: list[Reply]) -> None:
        """Let replies wait for a stream no longer."""
        topic.replies = [answer for answer in topic.replies if answer not in replies]
        for answer in replies:
            answer.missing -= 1
            if not answer.missing:
                self._reply(answer)

    def _set_combined(self, client: StreamClient, *, is_combined: bool) -> None:
        topics = self._topics_of(client, client.names)
        for topic in topics:
            topic.listeners[client.variant].pop(client, None)
        client.is_combined = is_combined
        for topic in topics:
            topic.listeners[client.variant][client] = None

    # --- subscriptions ---------------------------------------------------------------------

    def source(self, market: Market, role: str) -> Source:
        found = self._sources.get((market, role))
        if found is None:
            found = self._sources[market, role] = Source(self, market, role)
        return found

    def subscribe(self, client: StreamClient, names: Iterable[str]) -> bool:
        """Let a client have streams; False if these were too many and it has been closed, as Binance does."""
        fresh = [name for name in dict.fromkeys(names) if name not in client.names]
        source = self.source(client.market, client.role)
        kinds = {name: kind for name in fresh if (kind := stream_kind(client.market, name)) is not None}
        new = [name for name in kinds if name not in source.topics]
        if self._topics + len(new) > self.options.max_streams:
            self._drop_idle(0.0, excluding=set(kinds) if new else set())
            new = [name for name in kinds if name not in source.topics]
        if (
            len(client.names) + len(fresh) > client.max_streams
            or self._topics + len(new) > self.options.max_streams
        ):
            self.send(client, TOO_MANY_SUBSCRIPTIONS)
            self.close(client, *CLOSE_TOO_MANY)
            return False
        client.names.update(dict.fromkeys(fresh))
        now = self._clock.mono()
        for name in new:
            source.topics[name] = Topic(name, kinds[name], now)
        self._topics += len(new)
        for name in kinds:
            topic = source.topics[name]
            topic.listeners[client.variant][client] = None
            topic.idle_since = None
        self._follow(source, new, kinds)
        return True

    def _follow(self, source: Source, names: list[str], kinds: dict[str, StreamKind]) -> None:
        """Have the upstream streams of new topics opened."""
        by_path: dict[str, list[str]] = {}
        for name in names:
            for path in kinds[name].paths:
                by_path.setdefault(path, []).append(name)
        for path, mine in by_path.items():
            feed = self._feeds.at(source.market, path, source.role)
            feed.subscribe(mine, source)
            if id(feed) not in self._started:
                self._started.add(id(feed))
                self._tasks.spawn(feed.start(), name=f"fanout:start:{source.market}{path}")

    def unsubscribe(self, client: StreamClient, names: Iterable[str]) -> None:
        """A client wants streams no longer; unknown names are ignored."""
        mine = [name for name in names if name in client.names]
        now = self._clock.mono()
        for topic in self._topics_of(client, mine):
            topic.listeners[client.variant].pop(client, None)
            if topic.replies:
                self._release(topic, [answer for answer in topic.replies if answer.client is client])
            if not any(topic.listeners):
                topic.idle_since = now
        for name in mine:
            client.names.pop(name, None)

    def _topics_of(self, client: StreamClient, names: Iterable[str]) -> list[Topic]:
        topics = self.source(client.market, client.role).topics
        return [topics[name] for name in names if name in topics]

    def _send_last(self, client: StreamClient, names: list[str]) -> None:
        """Show a client that comes what there is: a quiet stream may bring nothing for minutes."""
        if not self.options.sends_last or client.is_closed:
            return
        for topic in self._topics_of(client, names):
            if topic.last and client in topic.listeners[client.variant]:
                self.push(client, topic.frame(topic.last, client.variant))

    # --- events ----------------------------------------------------------------------------

    def publish(self, topic: Topic, payload: bytes) -> None:
        """Take one event of a stream."""
        stats = self.stats
        stats.events_in += 1
        verdict = topic.sequence.judge(payload)
        if verdict is Verdict.SEEN:
            stats.duplicates += 1
            return
        if verdict is Verdict.AFTER_GAP:
            stats.gaps += 1
            self._end(topic.clients, f"upstream lost events of {topic.name}")
            topic.last = b""
            return
        woken: list[StreamClient] = []
        overfull: list[StreamClient] = []
        stats.frames_out += topic.publish(payload, woken, overfull)
        if woken:
            self._wake(woken)
        for client in overfull:
            self._too_slow(client)

    def lost(self, topics: list[Topic]) -> None:
        """Streams whose connection is gone: who builds on each of their events must know."""
        now = self._clock.mono()
        ended: dict[StreamClient, None] = {}
        for topic in topics:
            topic.lost(now)
            if topic.kind.flow is Flow.SEQUENCE:
                ended.update(dict.fromkeys(topic.clients))
        self._end(list(ended), "upstream lost")

    def _end(self, clients: list[StreamClient], reason: str) -> None:
        """End many connections: nothing reaches them from now on, and they are closed some at a time."""
        is_idle = not self._ending
        for client in clients:
            if not client.is_closed:
                client.is_closed = True
                self.stats.closed_lost += 1
                before = b"" if client.is_blocked else b"".join(client.pending)
                client.pending.clear()
                self._ending.append((client, before, reason))
        if is_idle and self._ending:
            self._end_some()

    def _end_some(self) -> None:
        for _ in range(min(_END_AT_ONCE, len(self._ending))):
            client, before, reason = self._ending.popleft()
            try:
                self.remove(client)
                if before:
                    client.sink.write(before)
                client.sink.close(RESTART, reason)
            except Exception:  # it must not keep the others from their end
                logger.exception("ending a client of streams failed")
        if self._ending:
            asyncio.get_running_loop().call_soon(self._end_some)

    def _too_slow(self, client: StreamClient) -> None:
        if not client.is_closed:
            self.stats.closed_slow += 1
            logger.warning("client %s of streams reads too slowly and is closed", client.address)
            self.close(client, TOO_SLOW, "too slow: events would have to be left out")

    def _wake(self, clients: list[StreamClient]) -> None:
        if not self._woken:
            self._woken_at = self._clock.mono()
        self._woken += clients
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Write what has come in this turn, some clients at a time."""
        batch, self._woken = self._woken[:_FLUSH_AT_ONCE], self._woken[_FLUSH_AT_ONCE:]
        for client in batch:
            try:
                client.flush()
            except Exception:
                logger.exception("writing to a client of streams failed")
                self.close(client, RESTART, "internal error")
        self.on_written(self._clock.mono() - self._woken_at)
        if self._woken:
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._is_flushing = False

    # --- looking after ---------------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                self._sweep(self._clock.mono())
            except Exception:
                logger.exception("looking after the clients of streams failed")

    def _sweep(self, now: float) -> None:
        ping: bytes | None = None
        for client in list(self.clients.values()):
            if now - client.last_sign > _SILENT_S:
                self.close(client, TOO_SLOW, "no sign of life for a minute")
            elif now >= client.next_ping:
                client.next_ping = now + _PING_EVERY_S
                if ping is None:
                    ping = ping_frame(b"%d" % self._clock.now_ms())
                self.push(client, ping)
        for source in self._sources.values():
            for topic in source.topics.values():
                if topic.lost_since is not None and now - topic.lost_since > _LOST_S:
                    topic.lost_since = now
                    self._end(topic.clients, "upstream not reachable")
        self._drop_idle(self.options.linger_s)

    def _drop_idle(self, linger_s: float, excluding: Set[str] = frozenset()) -> None:
        """Give up the streams nobody has wanted for so long."""
        now = self._clock.mono()
        for source in self._sources.values():
            idle = [
                topic
                for topic in source.topics.values()
                if topic.idle_since is not None
                and now - topic.idle_since >= linger_s
                and topic.name not in excluding
            ]
            by_path: dict[str, list[str]] = {}
            for topic in idle:
                del source.topics[topic.name]
                for path in topic.kind.paths:
                    by_path.setdefault(path, []).append(topic.name)
            self._topics -= len(idle)
            for path, names in by_path.items():
                self._feeds.at(source.market, path, source.role).unsubscribe(names, source)

    # --- for status and metrics --------------------------------------------------------------

    @property
    def topic_count(self) -> int:
        """How many upstream streams are held for clients."""
        return self._topics
