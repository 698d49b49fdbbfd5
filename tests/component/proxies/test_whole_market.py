"""A whole market through the shipped nginx.conf and Caddyfile: megabytes in pieces, names in long headers."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.candles import parse_rows
from resender.market import Klines, joined
from resender.web.client import cached
from tests.support.client import Reply
from tests.support.market_fakes import MINUTE, row
from tests.support.reverse_proxies import CLIENT, ReverseProxy
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

SYMBOLS = ("币安人生USDT", *(f"SYMBOL{number:03d}USDT" for number in range(700)))
ROWS = 150
CALL = "/local/um/klines?symbols=all&interval=1m&closed=true"


@pytest.fixture
async def behind(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway with its cache, in the place of the one without."""
    settings = {"whitelist": f"{CLIENT},127.0.0.1", "trusted_proxies": "127.0.0.1"}
    async with running(make_config(tmp_path / "data", upstream.url, **settings)) as run:
        fill(run)
        yield run


def fill(gateway: Running) -> None:
    """Keep a whole market, read to its depth, its last close just over."""
    cache = gateway.gateway.cache
    assert cache is not None
    klines, clock = cache.kind(Klines, Market.UM), gateway.gateway.clock
    # Its minute has just begun, so that none closes meanwhile.
    mono, now_ms = clock.mono(), int(time.time() * 1000) // MINUTE * MINUTE + 1000
    klines.facts.server.set(now_ms, mono, mono)
    newest = now_ms // MINUTE * MINUTE
    rows = [row(newest - n * MINUTE, 60) for n in range(ROWS, 0, -1)]
    made_ms = newest + 30_000  # as if the close were long over
    for symbol in SYMBOLS:
        kept = klines.make(symbol, "1m", mono, is_preload=True)
        klines.kept[symbol, "1m"] = kept
        klines.held["1m"] += 1
        candles = parse_rows(rows, "1m", orjson.dumps, made_ms=made_ms)
        assert kept.series.apply_read(candles, made_ms, epoch=kept.series.epoch)


async def call(front: ReverseProxy, target: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    async with front.connection() as one:
        await one.send(front.build("GET", target, headers))
        return await one.answer("GET")


async def test_whole_market_comes_whole_forty_at_once(front: ReverseProxy) -> None:
    plain = [call(front, f"{CALL}&limit={ROWS - 1}") for _ in range(13)]
    packed = [call(front, f"{CALL}&limit={ROWS - 1}", (("Accept-Encoding", "gzip"),)) for _ in range(13)]
    numbers = [call(front, f"{CALL}&limit=3&format=npy") for _ in range(14)]
    replies = await asyncio.gather(*plain, *packed, *numbers)
    assert {reply.status for reply in replies} == {200}
    texts = {reply.body for reply in replies[:13]}
    texts |= {gzip.decompress(reply.body) for reply in replies[13:26]}
    (text,) = texts
    assert len(text) > joined._MAX_RAW_BYTES, "it goes out in pieces"
    market = orjson.loads(text)
    assert tuple(market) == SYMBOLS
    assert {len(rows) for rows in market.values()} == {ROWS - 1}
    for reply in replies[26:]:
        lines = [value for name, value in reply.headers if name.lower() == "x-resender-symbols"]
        assert tuple(unquote(name) for line in lines for name in line.split(",")) == SYMBOLS
        assert len(reply.body) == 128 + len(SYMBOLS) * 3 * 11 * 8


async def test_client_that_stops_reading_loses_its_connection_and_its_place(
    behind: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_PATIENCE_S", 0.3)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", behind.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 12)
    writer.write(f"GET {CALL}&limit={ROWS - 1} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    calls: Any = behind.gateway.calls
    await wait_until(lambda: calls.in_flight == 1)
    await wait_until(lambda: calls.in_flight == 0, 5)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1 << 30)
    writer.close()
