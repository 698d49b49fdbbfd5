"""Clients that come and go: a thousand, in every phase, and nothing of them is left."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from pathlib import Path

import pytest

from tests.support.cache_bench import bench
from tests.support.running import wait_until
from tests.support.stream_client import listener

pytestmark = pytest.mark.component

PATHS = (
    "/ws/btcusdt@bookTicker",
    "/ws/btcusdt@trade/ethusdt@kline_1m",
    "/fstream.binance.com/public/stream?streams=btcusdt@depth@100ms",
    "/market/ws",
)
SUBSCRIBE = b'{"method":"SUBSCRIBE","params":["solusdt@aggTrade","ethusdt@kline_1m"],"id":1}'
_RESET = struct.pack("ii", 1, 0)


def masked(payload: bytes) -> bytes:
    """Build a client's text frame of less than 126 bytes, its mask all zeros."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


async def visit(port: int, chance: random.Random) -> None:
    """Come, get to some phase, and go with a FIN or a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    try:
        head = (
            f"GET {chance.choice(PATHS)} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        phase = chance.randrange(5)
        if phase == 0:
            writer.write(head[: chance.randrange(1, len(head) - 1)])  # half a handshake
            await asyncio.sleep(0.01)
            return
        writer.write(head)
        if phase == 1:
            return  # before the answer
        assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        if phase >= 3:
            writer.write(masked(SUBSCRIBE))
        if phase == 4:
            await asyncio.wait_for(reader.read(200), 20)
    finally:
        if chance.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.close()


async def test_a_thousand_clients_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, stream_linger_s=0.2) as one, listener(one) as ears:
        gateway, chance = one.run.gateway, random.Random(12)
        async with ears.open("/ws/btcusdt@bookTicker") as stays:
            await stays.event()
            tasks = set(gateway.tasks.names())
            for _ in range(20):
                await asyncio.gather(*(visit(one.run.port, chance) for _ in range(50)))
            await wait_until(lambda: len(gateway.fanout.clients) == 1, 20)
            await wait_until(lambda: gateway.fanout.topic_count == 1, 20)
            seen = await stays.event()
            assert (await stays.event())["u"] > seen["u"]
            assert {name for name in gateway.tasks.names() if name.startswith("relay")} <= tasks
        assert gateway.fanout.stats.closed_lost == gateway.fanout.stats.closed_slow == 0
