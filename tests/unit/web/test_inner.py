"""The collector's inner port: nobody without the secret, and whose connection it is is believed to who has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from resender.cli.serve import bind
from resender.core.cluster.worker import INNER_HEADER, Worker, inner_value
from resender.gateway import Gateway
from resender.web.inner import make_inner_server
from tests.support.authority import client_context
from tests.support.client import read_answer
from tests.support.running import make_config

SECRET = "ef" * 32


@asynccontextmanager
async def inner_port(folder: Path) -> AsyncIterator[tuple[int, Worker, Gateway]]:
    worker = Worker(0, 2, 8000, 1, 1, SECRET)
    config = make_config(folder, whitelist="203.0.113.0/24", cache_enabled=False)
    gateway = Gateway(config, ssl_context=client_context(), worker=worker)
    await gateway.start()
    server = make_inner_server(gateway.services, worker)
    (listening,) = bind("127.0.0.1", 0)
    server.add_sockets([listening])
    try:
        yield listening.getsockname()[1], worker, gateway
    finally:
        server.stop()
        await gateway.drain()
        await server.close_all_connections()
        await gateway.stop()
        listening.close()


async def say(port: int, *heads: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = b""
    for head in heads:
        writer.write(head)
        if head.endswith(b"\r\n\r\n"):
            try:
                found += (await asyncio.wait_for(read_answer(reader), 5.0)).raw
            except (asyncio.IncompleteReadError, AssertionError, OSError, ValueError, IndexError):
                found += b"ended"
                break
    writer.close()
    return found


def head(value: str | None, target: str = "/local/status") -> bytes:
    whose = f"{INNER_HEADER}: {value}\r\n" if value is not None else ""
    return f"GET {target} HTTP/1.1\r\nHost: gw\r\n{whose}\r\n".encode()


@pytest.mark.parametrize(
    "value", [None, "", "wrong 203.0.113.9", "ef" * 31 + " 203.0.113.9", " 203.0.113.9", "\u00e9 203.0.113.9"]
)
async def test_who_does_not_know_the_secret_is_told_nothing(
    value: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with inner_port(tmp_path) as (port, _, _):
        assert await say(port, head(value)) == b"ended"
    assert "without its secret" in caplog.text


async def test_client_is_who_the_other_worker_says_and_stays_it(tmp_path: Path) -> None:
    async with inner_port(tmp_path) as (port, worker, gateway):
        good = await say(port, head(inner_value(worker, "203.0.113.9")), head(None))
        assert good.count(b"HTTP/1.1 200 OK") == 2
        twice = inner_value(worker, "203.0.113.9") + f"\r\n{INNER_HEADER}: {'0' * 64} 10.0.0.1"
        assert b"HTTP/1.1 200" in await say(port, head(twice)), "what a client writes there says nothing"
        stranger = await say(port, head(inner_value(worker, "198.51.100.1")))
        assert b"HTTP/1.1 403" in stranger
        assert [row.address for row in gateway.access.refused.items()] == ["198.51.100.1"]
        # Later requests of a client cannot make it somebody else, and nobody hears of the secret.
        lied = await say(port, head(inner_value(worker, "198.51.100.1")), head(f"{'0' * 64} 203.0.113.9"))
        assert lied.count(b"HTTP/1.1 403") == 2
        assert SECRET.encode() not in good + stranger + lied


async def test_worker_itself_gets_streams_and_no_call(tmp_path: Path) -> None:
    async with inner_port(tmp_path) as (port, worker, gateway):
        own = inner_value(Worker(1, 2, 8000, 1, 1, SECRET))
        assert b"HTTP/1.1 403" in await say(port, head(own, "/api/v3/time"))
        async with aiohttp.ClientSession() as session:
            url = f"ws://127.0.0.1:{port}/stream.binance.com/ws"
            async with session.ws_connect(url, headers={INNER_HEADER: own}) as socket:
                await socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":1}')
                assert (await socket.receive_json(timeout=5.0))["id"] == 1
                gateway.access.set_whitelist([])
                gateway._set_whitelist([])
                await socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":2}')
                assert (await socket.receive_json(timeout=5.0))["id"] == 2
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url, headers={INNER_HEADER: inner_value(worker, "198.51.100.1")})
            assert caught.value.status == 403
