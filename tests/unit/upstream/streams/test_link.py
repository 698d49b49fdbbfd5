"""One link on a socket made of Python objects: what a loopback server cannot play."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import WSMessage, WSMsgType

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.upstream.streams.link import StreamLimits
from resender.upstream.streams.pool import StreamPool
from resender.upstream.streams.session import Socket, StreamSession
from tests.support.running import wait_until

BTC = "btcusdt@bookTicker"
LIMITS = StreamLimits(messages_per_s=50.0, silence_s=2.0, ping_every_s=0.3, ack_timeout_s=0.5)


class FakeTransport:
    unsent = 0
    is_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_aborted = True


class FakeResponse:
    """What aiohttp keeps of the handshake; it holds the connection until it is closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class FakeWs:
    """The part of aiohttp's client WebSocket that a link uses."""

    close_code = 1006

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.received: asyncio.Queue[WSMessage] = asyncio.Queue()
        self.sent: list[tuple[WSMsgType, bytes]] = []
        self.error: Exception | None = None
        self.is_closed = False
        self._response = FakeResponse()

    async def receive(self) -> WSMessage:
        while not self.transport.is_aborted:
            try:
                return self.received.get_nowait()
            except asyncio.QueueEmpty:
                await asyncio.sleep(0.005)
        return WSMessage(WSMsgType.CLOSED, None, None)

    async def send_frame(self, data: bytes, kind: WSMsgType) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((kind, data))
        if kind is WSMsgType.TEXT:
            self.push(orjson.dumps({"result": None, "id": orjson.loads(data)["id"]}))
        elif kind is WSMsgType.PING:
            self.received.put_nowait(WSMessage(WSMsgType.PONG, data, None))

    def push(self, data: bytes) -> None:
        self.received.put_nowait(WSMessage(WSMsgType.TEXT, data, None))

    async def close(self, *, code: int = 1000) -> bool:
        self.is_closed = True
        return True


class FakeSession:
    """A session factory's product that hands out fakes, or errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.opened: list[FakeWs] = []
        self.targets: list[str] = []
        self.is_started = False

    async def start(self) -> None:
        self.is_started = True

    async def stop(self) -> None:
        self.is_started = False

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        self.targets.append(target)
        if self.errors:
            raise self.errors.pop(0)
        ws: Any = FakeWs()
        self.opened.append(ws)
        return Socket(ws, ws.transport)


class World:
    def __init__(self, session: FakeSession, *raw_names: str) -> None:
        self.session = session
        self.tasks = Tasks()
        self.told: list[tuple[str, list[str]]] = []
        self.frames: list[Any] = []
        self.pool = StreamPool(
            Market.UM,
            "wss://unused",
            "/public",
            LIMITS,
            on_frame=lambda name, data, raw: self.frames.append(data),
            on_live=lambda names: self.told.append(("live", names)),
            on_lost=lambda names: self.told.append(("lost", names)),
            tasks=self.tasks,
            clock=Clock(mono=time.monotonic),
            session_factory=lambda: session,
            raw_names=set(raw_names),
        )

    async def __aenter__(self) -> World:
        await self.pool.start()
        self.pool.want([BTC])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.pool.stop()
        assert not len(self.tasks)
        assert not self.session.is_started
        assert all(
            ws.is_closed and ws.transport.is_aborted and ws._response.is_closed for ws in self.session.opened
        )


async def test_session_of_the_factory_is_used() -> None:
    async with World(FakeSession()) as world:
        await wait_until(lambda: world.told)
        assert world.session.targets == ["/public/stream"]
        world.session.opened[0].push(b'{"stream":"btcusdt@bookTicker","data":{"u":1}}')
        await wait_until(lambda: world.frames == [{"u": 1}])


async def test_stream_nobody_wants_read_is_handed_over_unread_where_it_is_built_as_binance_does() -> None:
    async with World(FakeSession(), BTC) as world:
        await wait_until(lambda: world.told)
        ws = world.session.opened[0]
        ws.push(b'{"stream":"btcusdt@bookTicker","data":no json}')
        ws.push(b'{"stream":"btcusdt@bookTicker", "data":{"u":2}}')
        ws.push(b'{"data":{"u":3},"stream":"btcusdt@bookTicker"}')
        ws.push(b'{"stream":"ethusdt@bookTicker","data":{"u":4}}')
        await wait_until(lambda: world.frames == [None, {"u": 2}, {"u": 3}])
        await wait_until(lambda: world.pool.stats.ignored == 1)


@pytest.mark.parametrize("raw_names", [(), (BTC,)])
async def test_frame_of_a_subscription_that_has_just_ended_is_not_taken_for_the_new_one(
    raw_names: tuple[str, ...],
) -> None:
    frame = b'{"stream":"btcusdt@bookTicker","data":{"u":%d}}'
    async with World(FakeSession(), *raw_names) as world:
        await wait_until(lambda: world.told)
        ws = world.session.opened[0]
        ack, ws.push = ws.push, lambda data: None  # type: ignore[method-assign]  # the exchange takes its time
        world.pool.drop([BTC])
        world.pool.want([BTC])
        await wait_until(lambda: b"SUBSCRIBE" in ws.sent[-1][1] and len(ws.sent) > 1)
        ack(frame % 1)
        await wait_until(lambda: world.pool.stats.ignored == 1)
        assert not world.frames
        ack(b'{"result":null,"id":%d}' % orjson.loads(ws.sent[-1][1])["id"])
        await wait_until(lambda: len(world.told) == 2)
        ws.push = ack  # type: ignore[method-assign]
        ws.push(frame % 2)
        await wait_until(lambda: len(world.frames) == 1)


async def test_unexpected_error_of_a_session_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World(FakeSession(RuntimeError("a bug"))) as world:
        await wait_until(lambda: world.told)
    assert "a bug" in caplog.text
    assert len(world.session.targets) == 2


async def test_peer_that_does_not_read_breaks_the_connection() -> None:
    async with World(FakeSession()) as world:
        await wait_until(lambda: world.told)
        world.session.opened[0].transport.unsent = 100_000
        await wait_until(lambda: world.told == [("live", [BTC]), ("lost", [BTC]), ("live", [BTC])])


@pytest.mark.parametrize(
    "error",
    [aiohttp.ClientConnectionResetError("gone"), ConnectionResetError(), OSError(), asyncio.TimeoutError()],
)
async def test_failure_to_send_breaks_the_connection(error: Exception) -> None:
    async with World(FakeSession()) as world:
        await wait_until(lambda: world.told)
        world.session.opened[0].error = error
        await wait_until(lambda: world.told == [("live", [BTC]), ("lost", [BTC]), ("live", [BTC])])


async def test_stop_after_the_owner_cancelled_all_tasks_ends() -> None:
    world = World(FakeSession())
    async with world:
        await wait_until(lambda: world.told)
        await world.tasks.cancel()
    assert world.pool.proof_mono(BTC) is None


async def test_stop_without_start_ends() -> None:
    world = World(FakeSession())
    await world.pool.stop()


async def test_first_message_is_the_subscription_and_pings_follow_in_numbers() -> None:
    async with World(FakeSession()) as world:
        ws_sent = await wait_until(lambda: world.session.opened and world.session.opened[0].sent)
        await wait_until(lambda: len(ws_sent) >= 3)
        assert ws_sent[0] == (
            WSMsgType.TEXT,
            b'{"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":1}',
        )
        assert ws_sent[1:3] == [(WSMsgType.PING, b"1"), (WSMsgType.PING, b"2")]


async def test_session_of_its_own_repeats_no_connect() -> None:
    session = StreamSession("wss://127.0.0.1:9", 1.0)
    await session.start()
    assert session._session is not None
    assert session._session._retry_connection is False
    await session.stop()


async def test_secure_session_checks_certificates() -> None:
    session = StreamSession("wss://stream.example:9443", 1.0)
    assert session._ssl_context is not None
    assert session._ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert session._ssl_context.check_hostname
