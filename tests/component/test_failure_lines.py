"""Calls that come to nothing leave a line at once, then one a minute for each market and kind."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.admin import MovedClock
from tests.support.client import call
from tests.support.running import Captured, Running, make_config, running
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, reset

pytestmark = pytest.mark.component

MORE = re.compile(r" \((\d+) more like this since the last such line\)$")


@pytest.fixture
def heard() -> Iterator[Captured]:
    captured = Captured()
    logger = logging.getLogger("resender.gateway")
    level = logger.level
    logger.addHandler(captured)
    logger.setLevel(logging.INFO)
    yield captured
    logger.removeHandler(captured)
    logger.setLevel(level)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path, clock: MovedClock) -> AsyncIterator[Running]:
    config = make_config(tmp_path, upstream.url, cache_enabled=False, read_timeout_s=0.2)
    async with running(config, clock=clock.clock) as run:
        yield run


async def silence(request: Request, peer: Peer) -> None:
    await asyncio.sleep(30)


async def fail(gateway: Running, path: str = "/api/v3/order", method: str = "POST") -> str:
    reply = await call(gateway.port, method, path)
    return reply.header("x-resender-error") or ""


async def test_fifty_failed_calls_are_one_line_and_a_minute_later_another(
    gateway: Running, upstream: RawUpstream, heard: Captured, clock: MovedClock
) -> None:
    upstream.answer = reset
    assert {await fail(gateway) for _ in range(50)} == {"lost"}
    (line,) = heard.lines
    assert line.startswith("resender.gateway WARNING ")
    assert "127.0.0.1" in line
    clock.move(58)
    await fail(gateway)
    assert len(heard.lines) == 1
    clock.move(3)
    await fail(gateway)
    assert len(heard.lines) == 2
    found = MORE.search(heard.lines[1])
    assert found is not None
    assert int(found[1]) == 50
    clock.move(61)
    await fail(gateway)
    assert MORE.search(heard.lines[2]) is None


async def test_markets_and_kinds_have_lines_of_their_own(
    gateway: Running, upstream: RawUpstream, heard: Captured
) -> None:
    for answer, name in ((reset, "lost"), (silence, "timeout")):
        upstream.answer = answer
        for path in ("/api/v3/order", "/fapi/v1/order"):
            for _ in range(3):
                assert await fail(gateway, path) == name
    assert len(heard.lines) == 4
    await upstream.stop()
    for _ in range(3):
        assert await fail(gateway) == "unreachable"
    assert len(heard.lines) == 5
    assert "cannot be reached" in heard.lines[-1]


async def test_what_the_exchange_refuses_is_no_failure_of_ours(
    gateway: Running, upstream: RawUpstream, heard: Captured
) -> None:
    upstream.answer = answer_ok
    assert await fail(gateway) == ""
    assert await fail(gateway, "/nowhere") == "not_found"
    assert heard.lines == []


async def test_no_line_holds_a_query(gateway: Running, upstream: RawUpstream, heard: Captured) -> None:
    upstream.answer = reset
    await fail(gateway, "/api/v3/order?symbol=BTCUSDT&signature=" + "ab" * 32)
    assert len(heard.lines) == 1
    assert "signature" not in heard.text
    assert "symbol" not in heard.text
