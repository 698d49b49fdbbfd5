"""Fixtures of the TLS tests. Each runs on asyncio's loop and on uvloop, which has a TLS of its own.

- `version`: TLS 1.2 and TLS 1.3, the only one an exchange speaks.
- `exchange`: an upstream that speaks it; every call needs a new connection.
- `front`: a `HandshakeBreaker` before it, harmless until it is told otherwise.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.support.handshake_breaker import HandshakeBreaker
from tests.support.tls_calls import VERSIONS, closing, server_context
from tests.support.upstream import RawUpstream


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(params=VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return request.param


@pytest.fixture
async def exchange(version: ssl.TLSVersion) -> AsyncIterator[RawUpstream]:
    async with RawUpstream(answer=closing, context=server_context(version)) as upstream:
        yield upstream


@pytest.fixture
async def front(exchange: RawUpstream) -> AsyncIterator[HandshakeBreaker]:
    async with HandshakeBreaker(exchange.port) as breaker:
        yield breaker
