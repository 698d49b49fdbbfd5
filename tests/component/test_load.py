"""Many clients and many calls: nothing is lost, memory stays flat. No times are asserted."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path

import pytest

from resender.cli.serve import raise_file_limit
from tests.support.client import build, parse
from tests.support.running import Running, make_config, running
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = [pytest.mark.component, pytest.mark.slow, pytest.mark.alone]


async def echo_number(request: Request, peer: Peer) -> None:
    await peer.send(response(request.target))


async def calls_on_one_connection(port: int, targets: list[str]) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    bodies = []
    try:
        for target in targets:
            writer.write(build("GET", target, close=False))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(parse(head).header("content-length") or 0)
            assert head.startswith(b"HTTP/1.1 200"), head
            bodies.append(await reader.readexactly(length))
    finally:
        writer.close()
        await writer.wait_closed()
    return bodies


async def test_one_thousand_concurrent_clients_each_get_their_own_answer(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    raise_file_limit()
    upstream.answer = echo_number
    async with running(
        make_config(tmp_path, upstream.url, max_in_flight=2000, weight_limit_spot=1_000_000)
    ) as run:

        async def client(number: int) -> None:
            targets = [f"/api/v3/x?client={number}&call={n}" for n in range(3)]
            bodies = await calls_on_one_connection(run.port, targets)
            assert bodies == [target.encode() for target in targets]

        await asyncio.gather(*(client(number) for number in range(1000)))
        assert run.gateway.calls.in_flight == 0
    assert len(upstream.requests) == 3000


async def test_ten_thousand_calls_leave_memory_flat_and_one_connection(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    async with running(make_config(tmp_path, upstream.url, weight_limit_spot=1_000_000)) as run:
        await ten_thousand_calls(run, upstream)


async def ten_thousand_calls(gateway: Running, upstream: RawUpstream) -> None:
    upstream.answer = echo_number

    async def batch(count: int) -> None:
        await calls_on_one_connection(gateway.port, [f"/api/v3/x?signature={n}" for n in range(count)])
        upstream.requests.clear()

    await batch(1000)
    gc.collect()
    tracemalloc.start()
    try:
        await batch(200)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(9):
            await batch(1000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 9,000 calls more; a leak of 30 bytes a call would show.
    assert after - before < 256 * 1024
    assert upstream.connections == 1
    assert gateway.gateway.calls.in_flight == 0


async def test_large_answer_passes_in_bounded_memory(gateway: Running, upstream: RawUpstream) -> None:
    total = 48 << 20

    async def pour(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        piece = b"x" * 65536
        for _ in range(total // len(piece)):
            await peer.send(b"10000\r\n" + piece + b"\r\n")
        await peer.send(b"0\r\n\r\n")

    upstream.answer = pour
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=65536)
    tracemalloc.start()
    try:
        writer.write(build("GET", "/api/v3/historicalTrades?symbol=BTCUSDT"))
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while data := await reader.read(65536):
            received += len(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        writer.close()
        await writer.wait_closed()
    assert received > total
    assert peak < 8 << 20
