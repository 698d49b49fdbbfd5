"""What is known of an egress holds for REST and streams alike, and only what the egress itself said.

Plain HTTP: what is judged is which proxy is taken, not what goes through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from resender.aio import Clock
from resender.core.binance.markets import Market
from resender.core.egress.spec import EgressSpec, Pins, parse_egress
from resender.core.egress.state import Limits
from resender.upstream.connector import Timeouts
from resender.upstream.egress import Call, EgressOptions, EgressPool
from resender.upstream.streams.session import StreamBroken
from resender.upstream.streams.spread import SpreadSessions

pytestmark = pytest.mark.component

SILENT, REFUSED = "silent.invalid", "refused.invalid"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry connections to loopback; one host is filtered silently, one is refused with words."""
    head = await reader.readuntil(b"\r\n\r\n")
    host, _, port = head.split(b" ")[1].decode().rpartition(":")
    if host == SILENT:
        await reader.read()
        writer.close()
        return
    if host == REFUSED:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()
        return
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


@asynccontextmanager
async def two_proxies() -> AsyncIterator[tuple[EgressPool, list[EgressSpec]]]:
    async with (
        await asyncio.start_server(exchange, "127.0.0.1", 0) as far,
        await asyncio.start_server(proxy, "127.0.0.1", 0) as one,
        await asyncio.start_server(proxy, "127.0.0.1", 0) as two,
    ):
        ports = [server.sockets[0].getsockname()[1] for server in (far, one, two)]
        specs = list(parse_egress([f"http://127.0.0.1:{port}" for port in ports[1:]]))
        pool = EgressPool(
            specs,
            {Market.SPOT: f"http://127.0.0.1:{ports[0]}"},
            Timeouts(2, 5, 5),
            EgressOptions(Limits(), Pins(())),
            clock=Clock(),
            keepalive_s=30,
            dns_cache_s=0,
        )
        await pool.start()
        try:
            yield pool, specs
        finally:
            await pool.stop()


async def keyed_call(pool: EgressPool) -> str:
    """Make a call with an API key; return the egress it took."""
    response = await pool.send(Call(Market.SPOT, "GET", "/api/v3/account", [], key="KEY"))
    try:
        while await response.next_chunk():
            pass
        return response.egress
    finally:
        response.close()


async def fail_a_stream(pool: EgressPool, spec: EgressSpec, host: str) -> None:
    sessions = SpreadSessions(
        [spec], f"ws://{host}:9443", 0.3, market=Market.SPOT, clock=Clock(), health=pool.governor
    )
    await sessions.start()
    try:
        with pytest.raises(StreamBroken):
            await sessions.open("/stream", 1 << 20)
    finally:
        await sessions.stop()


async def test_proxy_that_is_silent_about_one_stream_host_still_carries_the_calls_of_its_keys() -> None:
    async with two_proxies() as (pool, specs):
        home = await keyed_call(pool)
        await fail_a_stream(pool, next(spec for spec in specs if spec.name == home), SILENT)
        assert await keyed_call(pool) == home


async def test_proxy_that_wants_another_log_in_is_left_alone_by_calls_and_streams_at_once() -> None:
    async with two_proxies() as (pool, specs):
        home = await keyed_call(pool)
        spec = next(spec for spec in specs if spec.name == home)
        await fail_a_stream(pool, spec, REFUSED)
        assert pool.governor.is_failed(home, Clock().mono())
        assert await keyed_call(pool) != home
        pool.governor.note_works(home)
        assert await keyed_call(pool) == home
