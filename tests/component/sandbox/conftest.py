"""Fixtures of the sandbox's own tests.

clock: a hand-moved clock; sandbox_with: starts sandboxes and stops them at the end;
http: a plain client session that never repeats a call; connect: opens stream clients;
trader: calls and listens with the default key, trader_of: makes others.
"""

import asyncio
import time
from contextlib import AsyncExitStack

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType
from yarl import URL

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, Sandbox, SandboxConfig, sign
from tests.component.sandbox.accounts import Trader
from tests.support.authority import connector

SETTING = {Market.SPOT: "STREAM_SPOT", Market.UM: "STREAM_UM", Market.CM: "STREAM_CM"}
NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC


class Clock:
    """Epoch milliseconds that move only when told."""

    def __init__(self, now_ms: int = NOW) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Http:
    """Calls with raw targets, signed ones too."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.session = session
        self.clock = clock

    async def call(self, base, target, method="GET", **options):
        async with self.session.request(method, URL(base + target, encoded=True), **options) as response:
            text = await response.text()
            is_json = "json" in response.headers.get("content-type", "")
            return response.status, await response.json() if is_json else text, response.headers

    async def signed(self, base, target, query="", method="GET", key=API_KEY, secret=API_SECRET):
        query = f"{query}&" if query else ""
        query += f"timestamp={self.clock()}"
        query += f"&signature={sign(secret, query.encode())}"
        return await self.call(base, f"{target}?{query}", method, headers={"X-MBX-APIKEY": key})


class Client:
    """A stream client that collects frames."""

    def __init__(self, socket):
        self.socket = socket
        self.number = 0

    async def next(self, timeout_s=5.0):
        message = await asyncio.wait_for(self.socket.receive(), timeout_s)
        assert message.type is WSMsgType.TEXT, message
        return orjson.loads(message.data)

    async def maybe(self, timeout_s=0.25):
        """Return the next frame, None when none comes in time."""
        try:
            return await self.next(timeout_s)
        except asyncio.TimeoutError:
            return None

    async def until(self, accept, timeout_s=5.0):
        async def search():
            while not accept(event := await self.next(timeout_s)):
                pass
            return event

        return await asyncio.wait_for(search(), timeout_s)

    async def ask(self, method, params=None):
        self.number += 1
        message = {"method": method, "id": self.number}
        if params is not None:
            message["params"] = params
        await self.socket.send_str(orjson.dumps(message).decode())
        return await self.until(lambda event: "result" in event or "error" in event)

    async def is_silent(self, seconds=0.25):
        try:
            await asyncio.wait_for(self.socket.receive(), seconds)
        except asyncio.TimeoutError:
            return True
        return False

    async def close_code(self, timeout_s=5.0):
        while True:
            message = await asyncio.wait_for(self.socket.receive(), timeout_s)
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return message.data if message.type is WSMsgType.CLOSE else self.socket.close_code


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def sandbox_with(clock):
    async with AsyncExitStack() as stack:

        async def start(**settings):
            settings.setdefault("clock_ms", clock)
            return await stack.enter_async_context(Sandbox(SandboxConfig(**settings)))

        yield start


@pytest.fixture
async def sandbox(sandbox_with):
    return await sandbox_with()


@pytest.fixture
async def http(clock):
    async with aiohttp.ClientSession(connector=connector()) as session:
        # aiohttp repeats GET, PUT and DELETE by itself after a lost connection.
        session._retry_connection = False
        yield Http(session, clock)


@pytest.fixture
async def connect(http):
    sockets = []

    async def open_client(sandbox, market, path, **options):
        socket = await http.session.ws_connect(sandbox.urls[SETTING[market]] + path, **options)
        sockets.append(socket)
        return Client(socket)

    yield open_client
    for socket in sockets:
        await socket.close()


@pytest.fixture
def wait_until():
    async def wait(predicate, timeout_s=5.0):
        until = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < until, "condition did not come true"
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
async def trader(sandbox, http, connect):
    one = Trader(sandbox, http, connect)
    yield one
    await one.close()


@pytest.fixture
async def trader_of(http, connect):
    """Make traders of other sandboxes or keys; their sockets are closed at the end."""
    made = []

    def make(sandbox, **options):
        made.append(Trader(sandbox, http, connect, **options))
        return made[-1]

    yield make
    for one in made:
        await one.close()
