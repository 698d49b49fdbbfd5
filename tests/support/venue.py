"""A scripted WebSocket venue, a stream pool on it, and what the pool told its owner."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.upstream.streams.pool import StreamLimits, StreamPool
from resender.upstream.streams.session import StreamSession
from tests.support.authority import AUTHORITY, client_context
from tests.support.running import wait_until

BTC, ETH = "btcusdt@bookTicker", "ethusdt@kline_1M"
QUICK = StreamLimits(
    messages_per_s=60.0,
    silence_s=2.0,
    ping_every_s=0.3,
    ack_timeout_s=0.6,
    connect_timeout_s=0.8,
    max_message_bytes=65_536,
)


@dataclass
class Peer:
    """One accepted connection, with everything that came over it."""

    ws: web.WebSocketResponse
    request: web.BaseRequest
    opened: float
    names: dict[str, None] = field(default_factory=dict)
    messages: list[tuple[float, WSMsgType, Any]] = field(default_factory=list)
    is_open: bool = True
    close_code: int | None = None  # how the client ended it
    answers_pings: bool = True

    def sent(self, kind: WSMsgType) -> list[Any]:
        return [data for _, what, data in self.messages if what is kind]

    @property
    def controls(self) -> list[dict[str, Any]]:
        return [orjson.loads(text) for text in self.sent(WSMsgType.TEXT)]

    async def send(self, frame: Any) -> None:
        """Send one frame: bytes binary, str text, anything else as JSON."""
        with suppress(ConnectionError):
            if isinstance(frame, bytes):
                await self.ws.send_bytes(frame)
            else:
                await self.ws.send_str(frame if isinstance(frame, str) else orjson.dumps(frame).decode())

    def cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


async def acknowledge(peer: Peer, message: dict[str, Any]) -> None:
    await peer.send({"result": None, "id": message["id"]})


@dataclass
class Venue:
    """A WebSocket server that does what the test says, over TLS with a certificate of the tests' authority."""

    reply: Callable[[Peer, dict[str, Any]], Awaitable[None]] = acknowledge
    status: int = 0  # refuse handshakes with this
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False  # never answer a handshake
    answers_pings: bool = True
    tries: list[float] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    port: int = 0
    context: ssl.SSLContext = field(default_factory=lambda: AUTHORITY.server_context())
    _listening: asyncio.Server | None = None

    async def __aenter__(self) -> Venue:
        self._server = web.Server(self._serve, access_log=None)
        await self.listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        for peer in self.peers:
            peer.cut()
        await self._server.shutdown(1.0)

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    @property
    def open(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.is_open]

    @property
    def subscribed(self) -> set[str]:
        return {name for peer in self.open for name in peer.names}

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._server, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._listening.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def publish(self, name: str, data: Any) -> None:
        """Send an event to everybody who is subscribed."""
        for peer in self.open:
            if name in peer.names:
                await peer.send({"stream": name, "data": data})

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.tries.append(time.monotonic())
        if self.hangs:
            await asyncio.sleep(3600)
        if self.status:
            return web.Response(status=self.status, headers=self.headers)
        ws = web.WebSocketResponse(autoping=False, autoclose=False, compress=False)
        await ws.prepare(request)
        peer = Peer(ws, request, time.monotonic(), answers_pings=self.answers_pings)
        self.peers.append(peer)
        try:
            async for message in ws:
                peer.messages.append((time.monotonic(), message.type, message.data))
                if message.type is WSMsgType.PING and peer.answers_pings:
                    await ws.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    control = orjson.loads(message.data)
                    for name in control["params"]:
                        if control["method"] == "SUBSCRIBE":
                            peer.names[name] = None
                        else:
                            peer.names.pop(name, None)
                    await self.reply(peer, control)
        finally:
            # Noted before the answer, which a client that hangs up at once does not wait for.
            peer.close_code = ws.close_code
            peer.is_open = False
        await ws.close()
        return ws


@dataclass
class Seen:
    """A pool and what it told its owner."""

    pool: StreamPool
    tasks: Tasks
    frames: list[tuple[str, Any]] = field(default_factory=list)
    told: list[tuple[str, list[str]]] = field(default_factory=list)
    shift_s: float = 0.0  # added to the pool's clock
    answer: Callable[[str, Any], bool | None] = lambda name, data: None

    def names(self, what: str) -> list[str]:
        return [name for word, names in self.told if word == what for name in names]

    @property
    def live(self) -> list[str]:
        return self.names("live")

    @property
    def lost(self) -> list[str]:
        return self.names("lost")

    async def until_live(self, *names: str, times: int = 1) -> None:
        await wait_until(lambda: all(self.live.count(name) >= times for name in names))

    def is_alive(self, name: str) -> bool:
        return self.pool.proof_mono(name) is not None


def make_pool(url: str, limits: StreamLimits = QUICK, market: Market = Market.SPOT, path: str = "") -> Seen:
    seen: Seen

    def on_frame(name: str, data: Any, raw: bytes) -> bool | None:
        seen.frames.append((name, data))
        return seen.answer(name, data)

    tasks = Tasks()
    pool = StreamPool(
        market,
        url,
        path,
        limits,
        on_frame=on_frame,
        on_live=lambda names: seen.told.append(("live", names)),
        on_lost=lambda names: seen.told.append(("lost", names)),
        tasks=tasks,
        clock=Clock(mono=lambda: time.monotonic() + seen.shift_s),
        random=random.Random(1),
        session_factory=lambda: StreamSession(url, limits.connect_timeout_s, ssl_context=client_context()),
    )
    seen = Seen(pool, tasks)
    return seen


@asynccontextmanager
async def pool_on(venue: Venue | str, limits: StreamLimits = QUICK, **options: Any) -> AsyncIterator[Seen]:
    """Run a pool for a block; afterwards nothing of it may be left, collected garbage included."""
    seen = make_pool(venue if isinstance(venue, str) else venue.url, limits, **options)
    await seen.pool.start()
    try:
        yield seen
    finally:
        await seen.pool.stop()
        assert not len(seen.tasks)
        assert not seen.pool.connections
        assert not seen.is_alive(BTC)
        told = len(seen.told)
        if isinstance(venue, Venue):
            await wait_until(lambda: not venue.open)
        gc.collect()
        assert len(seen.told) == told
