"""One WebSocket to a market's streams: subscribe, read, prove that it is alive, break.

It never reconnects and knows no other connection; that is `pool.py`. A `StreamLink`
owns its socket, what is subscribed on it and one task that sends; it belongs to the event
loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Set
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import orjson
from aiohttp import WSMsgType

from resender.aio import Backoff, Clock
from resender.core.binance.stream_names import (
    MAX_MESSAGE_ID,
    SHUTDOWN_STREAM,
    Method,
    Reply,
    control_message,
    fitting,
    read_reply,
)
from resender.core.binance.stream_pacing import Pings, StreamLimits, TokenBucket
from resender.upstream.streams.session import Socket

logger = logging.getLogger("resender.upstream")

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
# Name, payload (an object, for all-market streams (`!...@arr`) an array; None of a stream whose listeners take
# it unread), the message as it came.
OnFrame = Callable[[str, Any, bytes], "bool | None"]

_LIVE = 0
_QUEUED = -1  # wanted, SUBSCRIBE not sent yet; a positive state is the id of the SUBSCRIBE sent
_REFUSED = -2
_MAX_WAIT_S = 0.25  # longest sleep of the sender, so that a jump of the clock is seen soon
_MAX_UNSENT_BYTES = 32_768  # below aiohttp's limit of 64 KiB, so sending never waits for the peer
_MAX_WAITING_PONGS = 4
_STREAM, _DATA = b'{"stream":"', b'","data":'
# So many frames that lay there already are taken before others get their turn.
_FRAMES_AT_ONCE = 4
_FAILURES = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(slots=True)
class StreamStats:
    """Counters of a pool, read by the metrics.

    Shape: `ignored` are good frames nobody wanted, `shifted` streams moved off a connection that
        brought nothing of them.
    """

    frames: int = 0
    bad_frames: int = 0
    ignored: int = 0
    connects: int = 0
    reconnects: int = 0
    rotations: int = 0
    shifted: int = 0


class LinkOwner(Protocol):
    """Whom a link tells what happens to it; each is called on the loop."""

    def link_acked(self, link: StreamLink, names: list[str]) -> None: ...

    def link_broken(self, link: StreamLink, names: list[str]) -> None: ...

    def link_leaving(self, link: StreamLink) -> None: ...


@dataclass(slots=True)
class _Retry:
    """When a refused stream is tried again, alone."""

    backoff: Backoff
    due: float = 0.0


@dataclass(slots=True)
class _Pending:
    """A control message that waits for its ack."""

    method: Method
    names: list[str]
    sent: float


class StreamLink:
    """One open WebSocket in combined mode, from its handshake to its end."""

    def __init__(
        self,
        label: str,
        socket: Socket,
        limits: StreamLimits,
        *,
        owner: LinkOwner,
        on_frame: OnFrame,
        clock: Clock,
        spawn: Spawn,
        stats: StreamStats,
        raw_names: Set[str] = frozenset(),
    ) -> None:
        self.label = label
        self._raw_names = raw_names
        self._socket = socket
        self._limits = limits
        self._owner = owner
        self._on_frame = on_frame
        self._clock = clock
        self._spawn = spawn
        self._stats = stats
        self._budget = TokenBucket(limits.messages_per_s)
        self._last_id = 0
        self._pending: dict[int, _Pending] = {}
        self._pongs: deque[bytes] = deque(maxlen=_MAX_WAITING_PONGS)
        self._pings = Pings()
        self._retries: dict[str, _Retry] = {}
        self._unsent: dict[str, None] = {}
        self._to_unsubscribe: dict[str, None] = {}
        self._wake = asyncio.Event()
        self.streams: dict[str, int] = {}
        self.broken = asyncio.Event()
        self.is_broken = False
        self.is_leaving = False
        self.frames = 0
        self.opened = self.last_sign = self._pings.last = clock.mono()
        self.last_frame: float | None = None
        self._reader: asyncio.Task[Any] | None = None

    # -- what the pool asks --------------------------------------------------------------

    def is_live(self, name: str) -> bool:
        return self.streams.get(name) == _LIVE and not self.is_broken

    def live_names(self) -> list[str]:
        return [name for name, state in self.streams.items() if state == _LIVE]

    def covers(self, other: StreamLink) -> bool:
        """Tell whether no SUBSCRIBE is open here and every live stream of another link is live here."""
        if any(state not in (_LIVE, _REFUSED) for state in self.streams.values()):
            return False
        return all(self.is_live(name) for name in other.live_names())

    def proof_mono(self) -> float | None:
        """Return when the last sign of life came, None if that is too long ago."""
        last = self.last_sign
        if self.is_broken or self._clock.mono() - last > self._limits.silence_s:
            return None
        return last

    def age_s(self) -> float:
        return self._clock.mono() - self.opened

    # -- what the pool tells it ----------------------------------------------------------

    def subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.streams:
                self._to_unsubscribe.pop(name, None)
                self.streams[name] = _QUEUED
                self._unsent[name] = None
        self._wake.set()

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            state = self.streams.pop(name, None)
            self._retries.pop(name, None)
            if state == _QUEUED:
                self._unsent.pop(name, None)
            if state is not None and state != _QUEUED:
                self._to_unsubscribe[name] = None
        self._wake.set()

    def request_ping(self) -> int:
        """Ask for a ping at once; its pong has come when `pongs_seen` reaches the result."""
        self._pings.is_wanted = True
        self._wake.set()
        return self._pings.sent + 1

    @property
    def pongs_seen(self) -> int:
        return self._pings.answered

    def retire(self) -> None:
        """End the connection on purpose: the owner hears nothing more of it."""
        self.is_broken = True
        self.broken.set()
        if self._reader is not None:
            self._reader.cancel()  # before its first step `run` sees `is_broken` itself

    # -- its life ------------------------------------------------------------------------

    async def run(self) -> None:
        """Read until the connection breaks or is retired; leave no socket behind."""
        self._reader = asyncio.current_task()
        keeper = self._spawn(self._keep(), f"{self.label}:send")
        try:
            if not self.is_broken:
                self.give_up(await self._read())
        finally:
            self._reader = None
            self.give_up("its reader ended")
            keeper.cancel()
            await self._socket.close()

    def give_up(self, reason: str) -> None:
        """Treat the connection as broken: its streams are lost now, its reader ends."""
        if self.is_broken:
            return
        self.is_broken = True
        self.broken.set()
        self._wake.set()
        self._socket.transport.abort()
        logger.warning("stream connection %s is lost: %s", self.label, reason)
        try:
            self._owner.link_broken(self, self.live_names())
        except Exception:
            logger.exception("stream connection %s: the owner failed", self.label)

    # -- receiving -----------------------------------------------------------------------

    async def _read(self) -> str:
        """Read until something is wrong and return what. The hot path of the whole cache."""
        receive, mono, loads = self._socket.ws.receive, self._clock.mono, orjson.loads
        streams, on_frame, stats = self.streams, self._on_frame, self._stats
        silence_s, text, raw_names = self._limits.silence_s, WSMsgType.TEXT, self._raw_names
        behind = 0
        while True:
            message = await receive()
            behind += 1
            if behind >= _FRAMES_AT_ONCE:
                behind = 0
                await asyncio.sleep(0)
            now = mono()
            if self.is_broken:
                return "it was given up"
            if now - self.last_sign > silence_s:
                return f"silent for {now - self.last_sign:.1f} s"
            kind, data, _ = message
            if kind is not text:
                if (problem := self._on_control(kind, data, now)) is not None:
                    return problem
                continue
            self.last_sign = now
            if raw_names and (name := _name_of(data)) in raw_names and streams.get(name) == _LIVE:
                payload, is_wanted = None, True
            else:
                try:
                    frame = loads(data)
                except ValueError:
                    stats.bad_frames += 1
                    return f"a frame of {len(data)} bytes is not JSON"
                try:
                    name, payload = frame["stream"], frame["data"]
                    # What comes before the ack belongs to a subscription that is just ending.
                    is_wanted = streams.get(name) == _LIVE
                except (KeyError, TypeError):
                    if (problem := self._on_reply(frame)) is not None:
                        return problem
                    continue
                if type(name) is not str or (type(payload) is not dict and name[:1] != "!"):
                    stats.bad_frames += 1
                    return "a frame's data is no object"
            if is_wanted:
                try:
                    is_good = on_frame(name, payload, data) is not False
                except (ValueError, KeyError, TypeError) as error:
                    stats.bad_frames += 1
                    return f"a frame of {name} cannot be used: {type(error).__name__}"
                except Exception:
                    logger.exception("stream connection %s: the frame callback failed", self.label)
                    return "the frame callback failed"
                if not is_good:
                    stats.bad_frames += 1
                    return f"a frame of {name} cannot be used"
                stats.frames += 1
                self.frames += 1
                self.last_frame = now
            elif name == SHUTDOWN_STREAM:
                self._leave()
            else:
                stats.ignored += 1

    def _on_control(self, kind: Any, data: Any, now: float) -> str | None:
        if kind is WSMsgType.PING:
            self.last_sign = now
            self._pongs.append(bytes(data))
            self._wake.set()
            return None
        if kind is WSMsgType.PONG:
            self.last_sign = now
            self._pings.settle(bytes(data))
            return None
        if kind is WSMsgType.BINARY or isinstance(data, aiohttp.WebSocketError):
            self._stats.bad_frames += 1
            return "a frame breaks the protocol or is too large"
        code = self._socket.ws.close_code
        return f"closed by the other side ({code})"

    def _on_reply(self, frame: Any) -> str | None:
        """Take a frame that is no event: an ack, an error, a raw shutdown notice."""
        try:
            reply = read_reply(frame)
        except ValueError as error:
            self._stats.bad_frames += 1
            return str(error)
        if reply is None:
            self._leave()
            return None
        pending = self._pending.pop(reply.message_id, None)
        if reply.is_error:
            if pending is None:
                return f"the venue reports error {reply.code}"
            self._on_refusal(pending, reply)
        elif pending is not None and pending.method == "SUBSCRIBE":
            # A name dropped or asked for again since then has another state by now.
            names = [name for name in pending.names if self.streams.get(name) == reply.message_id]
            for name in names:
                self.streams[name] = _LIVE
                self._retries.pop(name, None)
            if names:
                self._owner.link_acked(self, names)
        return None

    def _on_refusal(self, pending: _Pending, reply: Reply) -> None:
        logger.warning(
            "stream connection %s: %s of %d streams (%s, ...) was refused with %s",
            self.label, pending.method, len(pending.names), pending.names[0], reply.code,
        )  # fmt: skip
        if pending.method != "SUBSCRIBE":
            return
        for name in pending.names:
            if self.streams.get(name) == reply.message_id:
                self.streams[name] = _REFUSED
                retry = self._retries.setdefault(name, _Retry(Backoff(1.0, 60.0)))
                retry.due = self._clock.mono() + retry.backoff.next_s()
        self._wake.set()

    def _leave(self) -> None:
        if not self.is_leaving:
            self.is_leaving = True
            logger.info("stream connection %s: the venue announced its shutdown", self.label)
            self._owner.link_leaving(self)

    # -- sending and watching ------------------------------------------------------------

    async def _keep(self) -> None:
        """Send what is due at the allowed pace, and watch for silence."""
        loop = asyncio.get_running_loop()
        while not self.is_broken:
            now = self._clock.mono()
            if (problem := self._overdue(now)) is not None:
                self.give_up(problem)
                return
            wait_s = self._budget.wait_s(now)
            if wait_s <= 0:
                message = self._next_message(now)
                if message is not None:
                    self._budget.take(now)
                    await self._send(*message)
                    continue
                wait_s = self._next_due(now) - now
            self._wake.clear()
            timer = loop.call_later(min(max(wait_s, 0.001), _MAX_WAIT_S), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    def _overdue(self, now: float) -> str | None:
        limits = self._limits
        if now - self.last_sign > limits.silence_s:
            return f"silent for {now - self.last_sign:.1f} s"
        for pending in self._pending.values():
            if now - pending.sent > limits.ack_timeout_s:
                return f"no ack of {pending.method} within {limits.ack_timeout_s:g} s"
            break
        # Pongs come in order behind the frames: one that is so late means the frames are, too.
        # A venue that never answered a ping is not judged by this.
        if self._pings.answered and self._pings.open and now - self._pings.open[0][1] > limits.silence_s:
            return "its frames arrive too late"
        return None

    def _next_due(self, now: float) -> float:
        due = min(self._pings.last + self._limits.ping_every_s, self.last_sign + self._limits.silence_s)
        for pending in self._pending.values():
            due = min(due, pending.sent + self._limits.ack_timeout_s)
            break
        return min([due, *(retry.due for retry in self._retries.values() if retry.due > now)])

    def _next_message(self, now: float) -> tuple[WSMsgType, bytes] | None:
        """Take the most urgent message: pong, ping, UNSUBSCRIBE, SUBSCRIBE, one refused stream."""
        if self._pongs:
            return WSMsgType.PONG, self._pongs.popleft()
        pings = self._pings
        if pings.is_wanted or now - pings.last >= self._limits.ping_every_s:
            return WSMsgType.PING, pings.next(now)
        if self._to_unsubscribe:
            return self._control("UNSUBSCRIBE", self._to_unsubscribe, now)
        if self._unsent:
            return self._control("SUBSCRIBE", self._unsent, now)
        for name, retry in self._retries.items():
            if retry.due <= now and self.streams.get(name) == _REFUSED:
                return self._control("SUBSCRIBE", {name: None}, now)
        return None

    def _control(self, method: Method, queue: dict[str, None], now: float) -> tuple[WSMsgType, bytes]:
        names = fitting(queue, self._limits.subscribe_bytes)
        self._last_id = self._last_id % MAX_MESSAGE_ID + 1
        for name in names:
            del queue[name]
            if method == "SUBSCRIBE":
                self.streams[name] = self._last_id
        self._pending[self._last_id] = _Pending(method, names, now)
        return WSMsgType.TEXT, control_message(method, names, self._last_id)

    async def _send(self, kind: WSMsgType, data: bytes) -> None:
        if self._socket.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self.give_up("the other side does not read")
            return
        try:
            await self._socket.ws.send_frame(data, kind)
        except _FAILURES as error:
            self.give_up(f"sending failed: {type(error).__name__}")


def _name_of(message: bytes) -> str:
    """Read the stream's name off a combined frame without reading the rest; "" where that takes a parser."""
    if not message.startswith(_STREAM) or not message.endswith(b"}"):
        return ""
    end = message.find(b'"', len(_STREAM))
    if not message.startswith(_DATA, end):
        return ""
    return message[len(_STREAM) : end].decode("utf-8", "replace")
