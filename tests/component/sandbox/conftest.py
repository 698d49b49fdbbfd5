"""Fixtures of the sandbox's own tests.

clock: a hand-moved clock; sandbox_with: starts sandboxes and stops them at the end;
http: a plain client session that never repeats a call.
"""

import asyncio
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest
from yarl import URL

from resender.sandbox import API_KEY, API_SECRET, Sandbox, SandboxConfig, sign

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
    async with aiohttp.ClientSession() as session:
        # aiohttp repeats GET, PUT and DELETE by itself after a lost connection.
        session._retry_connection = False
        yield Http(session, clock)


@pytest.fixture
def wait_until():
    async def wait(predicate, timeout_s=5.0):
        until = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < until, "condition did not come true"
            await asyncio.sleep(0.01)

    return wait
