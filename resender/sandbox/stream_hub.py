"""The stream listener of one market: connections, subscriptions, pings and their rules.

`StreamHub` owns the listening socket, its connections and one task that pushes. What is
pushed comes from `stream_feed.py`; faults are read at every push.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict, deque

from aiohttp import WSMsgType, web

from resender.core.binance.markets import Market

from . import stream_control
from .exchange import Exchange
from .faults import StreamFaults, matches
from .http_faults import park, reset
from .http_server import CountingServer, Listener
from .stream_connection import BINARY, CLOSE, PONG, TEXT, StreamConnection, frame
from .stream_feed import StreamFeed
from .stream_micros import in_micros
from .stream_names import Stream, StreamUrl, parse_stream, parse_url
from .stream_payloads import book_ticker
from .user_streams import UserStreams

_TICK_S = 0.02
# A frame that waits to be overtaken goes by itself after so long.
_HELD_S = 0.15
_MAX_MESSAGE_BYTES = 4096
_BURST_CHUNK = 250
_BURST_BACKLOG_BYTES = 4 * 1024 * 1024


class StreamHub:
    """One market's stream service."""

    def __init__(self, name: str, market: Market, exchange: Exchange, faults: StreamFaults) -> None:
        config = exchange.config
        self.market = market
        self.faults = faults
        self.connections: set[StreamConnection] = set()
        self.accepted = 0  # WebSocket handshakes accepted so far
        self.frames_sent = 0
        self._exchange = exchange
        self._subscribers: dict[str, set[StreamConnection]] = {}
        self._feed = StreamFeed(exchange, market, faults, self._emit)
        self._held: tuple[str, str] | None = None
        self._swapped: dict[str, str] = {}
        self._arrivals: dict[str, deque[float]] = defaultdict(deque)
        self._ping_s = config.spot_ping_s if market is Market.SPOT else config.futures_ping_s
        is_spot = market is Market.SPOT
        self._message_rate = config.spot_message_rate if is_spot else config.futures_message_rate
        self._task: asyncio.Task[None] | None = None
        self._users = UserStreams(exchange, market, self)
        self.server = CountingServer(self._handle)
        self.listener = Listener(config.host, config.ports.get(name, 0), self.server)

    async def start(self) -> None:
        """Listen and begin to push."""
        await self.listener.open()
        self._task = asyncio.create_task(self._run(), name=f"sandbox-stream:{self.market}")

    async def stop(self) -> None:
        """Stop pushing, cut every connection, close the port."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for transport in self.server.transports():
            transport.abort()
        await self.listener.stop()

    # -- accepting -------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.faults.refuse:
            if self.faults.refuse_status == 0:
                reset(request.transport)
                return await park()
            return web.Response(status=self.faults.refuse_status, text="Service Unavailable")
        url = parse_url(request.raw_path, self.market)
        if url is None:
            return web.Response(status=404, text="Not Found")
        # The hub answers pings and closes itself, so that silence can be complete.
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=1 << 20)
        if not socket.can_prepare(request):
            return web.Response(status=400, text="Bad Request")
        if not self._admit(request):
            return web.Response(status=429, text="Too Many Requests")
        await socket.prepare(request)
        transport = request.transport
        assert transport is not None
        loop = asyncio.get_running_loop()
        connection = StreamConnection(transport, url, self.faults, loop.time(), self._ping_s)
        self.connections.add(connection)
        self.accepted += 1
        try:
            self._greet(connection, url)
            await self._read(connection, socket)
        finally:
            self._forget(connection)
            transport.close()
        return socket

    def _admit(self, request: web.BaseRequest) -> bool:
        config = self._exchange.config
        peer = request.transport.get_extra_info("peername")[0] if request.transport else ""
        now = asyncio.get_running_loop().time()
        times = self._arrivals[peer]
        while times and now - times[0] >= config.connection_window_s:
            times.popleft()
        if len(times) >= config.connection_limit:
            return False
        times.append(now)
        return True

    def _greet(self, connection: StreamConnection, url: StreamUrl) -> None:
        names = list(url.names)
        if url.listen_key:
            names.append(url.listen_key)
        self._subscribe(connection, names)

    async def _read(self, connection: StreamConnection, socket: web.WebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await socket.receive()
            if message.type in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                return
            if message.type is WSMsgType.CLOSE:
                connection.write(frame(b"", CLOSE))
                return
            if connection.is_closing:
                continue
            if not connection.count_message(loop.time(), self._message_rate):
                connection.close(1008, "Too many requests", loop.time())
            elif message.type is WSMsgType.PING:
                connection.write(frame(bytes(message.data), PONG))
            elif message.type is WSMsgType.PONG:
                connection.pong(bytes(message.data))
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._control(connection, message.data)

    def _control(self, connection: StreamConnection, data: str | bytes) -> None:
        now = asyncio.get_running_loop().time()
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > _MAX_MESSAGE_BYTES:
            connection.close(1008, "Payload too long", now)
            return
        is_spot = self.market is Market.SPOT
        outcome = stream_control.handle(raw, list(connection.names), connection.is_combined, is_spot)
        self._unsubscribe(connection, outcome.unsubscribe)
        if outcome.subscribe and not self._subscribe(connection, outcome.subscribe):
            return
        if outcome.combined is not None:
            connection.is_combined = outcome.combined
        connection.write(frame(outcome.answer))

    def _subscribe(self, connection: StreamConnection, names: list[str]) -> bool:
        limit = self._exchange.config.max_streams
        if len({*connection.names, *names}) > limit:
            connection.write(frame(stream_control.too_many_subscriptions()))
            connection.close(1008, "Too many subscriptions", asyncio.get_running_loop().time())
            self._drop_subscriptions(connection)
            return False
        now = self._exchange.now()
        for name in names:
            if name in connection.names:
                continue
            stream = self._meaning(name, now)
            connection.hold(name, stream)
            if any(matches(pattern, name) for pattern in self.faults.never_start):
                continue
            # A stream on the wrong USD-M path is acknowledged and stays silent.
            if stream is not None and (stream.access in connection.access or stream.kind == "user"):
                if stream.kind == "user":
                    connection.user_faults = self._users.faults
                if name not in self._subscribers:
                    self._subscribers[name] = set()
                    if stream.kind != "user":
                        self._feed.add(stream, now)
                self._subscribers[name].add(connection)
        return True

    def _meaning(self, name: str, now_ms: int) -> Stream | None:
        if "@" not in name and not name.startswith("!"):
            return self._users.meaning(name, now_ms)
        return parse_stream(name, self.market)

    def _unsubscribe(self, connection: StreamConnection, names: list[str]) -> None:
        for name in names:
            connection.release(name)
            holders = self._subscribers.get(name)
            if holders is not None:
                holders.discard(connection)
                if not holders:
                    del self._subscribers[name]
                    self._feed.discard(name)

    def _drop_subscriptions(self, connection: StreamConnection) -> None:
        self._unsubscribe(connection, list(connection.names))

    def _forget(self, connection: StreamConnection) -> None:
        self._drop_subscriptions(connection)
        self.connections.discard(connection)

    # -- pushing ---------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            for connection in list(self.connections):
                self._look_after(connection, now)
            self._feed.tick(self._exchange.now(), now)
            self._users.tick(self._exchange.now())
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        due_ms = self._feed.next_final_ms
        if due_ms is None:
            return _TICK_S
        return min(_TICK_S, max(0.001, (due_ms - self._exchange.now()) / 1000))

    def _look_after(self, connection: StreamConnection, now: float) -> None:
        config = self._exchange.config
        if connection.is_closing:
            if now >= connection.gone_by:
                connection.transport.abort()
        elif now - connection.opened >= config.max_age_s:
            connection.close(1001, "", now)
        elif connection.is_overdue(now, config.pong_timeout_s):
            connection.transport.close()
        elif now >= connection.next_ping:
            connection.ping(str(self._exchange.now()).encode(), now, self._ping_s)

    def subscribers(self, name: str) -> set[StreamConnection]:
        """Return the connections that hold a stream and get it."""
        return self._subscribers.get(name, set())

    def _emit(self, name: str, text: str) -> None:
        faults = self.faults
        if faults.lose_once is not None and matches(faults.lose_once, name):
            faults.lose_once = None
            return
        for pattern, left in faults.lose_next.items():
            if left > 0 and matches(pattern, name):
                faults.lose_next[pattern] = left - 1
                return
        swapped = self._swapped.pop(name, None)
        if swapped is None and faults.swap_once is not None and matches(faults.swap_once, name):
            faults.swap_once = None
            self._swapped[name] = text
            return
        if faults.repeat_once is not None and matches(faults.repeat_once, name):
            faults.repeat_once = None
            self._send(name, text)
        self._pass(name, text)
        if swapped is not None:
            self._pass(name, swapped)

    def _pass(self, name: str, text: str) -> None:
        if self.faults.reorder:
            if self._held is None:
                self._held = held = (name, text)
                asyncio.get_running_loop().call_later(_HELD_S, self._release, held)
                return
            earlier, self._held = self._held, None
            self._send(name, text)
            self._send(*earlier)
            return
        self._release(self._held)
        self._send(name, text)

    def _release(self, held: tuple[str, str] | None) -> None:
        """Let go what waits to be overtaken, if it still does: a line that swaps frames does not hold them up."""
        if held is not None and self._held is held:
            self._held = None
            self._send(*held)

    def _send(self, name: str, text: str) -> None:
        holders = self._subscribers.get(name)
        if not holders:
            return
        plain = self._frames(name, text)
        micro = self._frames(name, in_micros(text)) if any(one.is_micro for one in holders) else plain
        for connection in holders:
            if name not in connection.muted:
                raw, combined = micro if connection.is_micro else plain
                connection.write(combined if connection.is_combined else raw)
                self.frames_sent += 1

    def _frames(self, name: str, text: str) -> tuple[bytes, bytes]:
        raw, combined = frames_of(name, text)
        return (raw + raw, combined + combined) if self.faults.duplicate else (raw, combined)

    async def burst(self, symbol: str, count: int, over_s: float = 0.0) -> int:
        """Change a book ticker `count` times and push each change; return the last update id.

        Units: `over_s` spreads the changes over seconds; 0 is as fast as clients read.
        """
        name = f"{symbol.lower()}@bookTicker"
        store = self._exchange.stores[self.market]
        loop = asyncio.get_running_loop()
        begun = loop.time()
        update_id = 0
        for first in range(0, count, _BURST_CHUNK):
            raw_parts, combined_parts = [], []
            for _ in range(first, min(count, first + _BURST_CHUNK)):
                now = self._exchange.now()
                ticker = store.next_update(symbol, now)
                update_id = ticker.update_id
                raw, combined = frames_of(name, book_ticker(store, symbol, ticker, now))
                raw_parts.append(raw)
                combined_parts.append(combined)
            self._feed.mark_pushed(symbol, update_id)
            raw, combined = b"".join(raw_parts), b"".join(combined_parts)
            for connection in self._subscribers.get(name, ()):
                if name not in connection.muted:
                    connection.write(combined if connection.is_combined else raw)
                    self.frames_sent += len(raw_parts)
            await asyncio.sleep(max(0.0, begun + over_s * first / count - loop.time()))
            while any(c.backlog_bytes() > _BURST_BACKLOG_BYTES for c in self._subscribers.get(name, ())):
                await asyncio.sleep(0.005)
        return update_id

    # -- faults ----------------------------------------------------------------------------

    def drop_all(self, code: int | None = None) -> int:
        """Cut every connection (RST), or close it with a code; return how many."""
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            if code is None:
                connection.cut()
            else:
                connection.close(code, "", now)
        return len(self.connections)

    def send_raw(self, data: str | bytes) -> None:
        """Send one frame with any content to every connection: str as text, bytes as binary."""
        ready = frame(data.encode(), TEXT) if isinstance(data, str) else frame(data, BINARY)
        for connection in self.connections:
            connection.write(ready)

    def send_for_each_stream(self, make: str) -> None:
        """Send a damaged event of every subscribed stream.

        Shape: `make` is "truncated" (JSON cut in half) or "wrong_types".
        """
        for name, holders in self._subscribers.items():
            text = _WRONG_KLINE if "kline" in name else _WRONG_BOOK
            raw, wrapped = text, f'{{"stream":{json.dumps(name)},"data":{text}}}'
            if make == "truncated":
                raw, wrapped = raw[: len(raw) // 2], wrapped[: -len(text) // 2]
            for connection in holders:
                if name not in connection.muted:
                    connection.write(frame((wrapped if connection.is_combined else raw).encode()))

    def mute(self, pattern: str) -> int:
        """Silence matching streams of the open connections; return how many subscriptions."""
        for connection in self.connections:
            connection.mute(pattern)
        return sum(len(holders) for name, holders in self._subscribers.items() if matches(pattern, name))

    def unmute(self) -> None:
        """Deliver all subscribed streams again."""
        for connection in self.connections:
            connection.unmute()

    def announce_shutdown(self) -> None:
        """Send the serverShutdown notice."""
        text = f'{{"e":"serverShutdown","E":{self._exchange.now()}}}'
        for connection in self.connections:
            told = in_micros(text) if connection.is_micro else text
            raw, combined = frames_of("!serverShutdown", told)
            connection.write(combined if connection.is_combined else raw)


_WRONG_KLINE = '{"e":"kline","E":"soon","s":17,"k":{"t":"x","T":null,"s":[],"i":5,"o":1,"c":{},"x":"maybe"}}'
_WRONG_BOOK = '{"u":"many","s":null,"b":[],"B":{},"a":true,"A":1.5}'


def frames_of(name: str, text: str) -> tuple[bytes, bytes]:
    """Return an event as a raw and as a combined frame."""
    payload = text.encode()
    wrapped = b'{"stream":"' + name.encode() + b'","data":' + payload + b"}"
    return frame(payload), frame(wrapped)
