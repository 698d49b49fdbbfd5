"""Streams that are lost, doubled, thinned out: what a client may believe and what it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import bench, small_exchange
from tests.support.running import wait_until
from tests.support.stream_client import Ears, listener

pytestmark = pytest.mark.component

DEPTH = "btcusdt@depth@100ms"
BOOK = "btcusdt@bookTicker"


class Follower:
    """Builds on every event of a diff depth stream, as an order book does."""

    def __init__(self, market: Market) -> None:
        self.is_spot = market is Market.SPOT
        self.last: int | None = None
        self.events = 0

    def take(self, event: dict[str, Any]) -> None:
        if self.last is not None:
            follows = event["U"] == self.last + 1 if self.is_spot else event["pu"] == self.last
            assert follows, f"a hole after {self.last}: {event['U']}..{event['u']}"
        self.last = event["u"]
        self.events += 1


async def follow(ear: Ears, follower: Follower, seconds: float) -> tuple[int, str] | None:
    """Read for a while; return how the connection ended, if it did."""
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            message = await ear.socket.receive(timeout=left)
        except asyncio.TimeoutError:
            return None
        if message.type.name != "TEXT":
            return (
                (int(message.data or 0), str(message.extra or ""))
                if message.type.name == "CLOSE"
                else (0, "")
            )
        data = orjson.loads(message.data)
        if data.get("e") == "depthUpdate":
            follower.take(data)
    return None


@pytest.mark.parametrize(
    ("market", "path"), [(Market.SPOT, "/ws"), (Market.UM, "/public/ws"), (Market.CM, "/dstream.binance.com/ws")]
)  # fmt: skip
async def test_lost_upstream_ends_streams_where_each_event_counts_and_no_others(
    tmp_path: Path, market: Market, path: str
) -> None:
    symbol = "btcusd_perp" if market is Market.CM else "btcusdt"
    async with bench(tmp_path) as one, listener(one) as ears:
        async with (
            ears.open(f"{path}/{symbol}@depth") as deep,
            ears.open(f"{path}/{symbol}@bookTicker") as book,
        ):
            await deep.event(e="depthUpdate")
            await book.event()
            one.sandbox.faults.drop_streams(market)
            code, reason = await deep.closed()
            assert (code, reason) == (1012, "upstream lost")
            before = await book.event()
            assert (await book.event())["u"] > before["u"]
            assert one.run.gateway.fanout.stats.closed_lost == 1


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
async def test_event_missing_in_the_middle_ends_the_connection(tmp_path: Path, market: Market) -> None:
    path = "/ws/" if market is Market.SPOT else "/public/ws/"
    async with bench(tmp_path) as one, listener(one) as ears, ears.open(path + DEPTH) as ear:
        follower = Follower(market)
        assert await follow(ear, follower, 1) is None
        one.sandbox.faults.stream(market).lose_once = "@depth"
        assert await follow(ear, follower, 5) == (1012, f"upstream lost events of {DEPTH}")
        async with ears.open(path + DEPTH) as again:
            assert await follow(again, Follower(market), 0.5) is None


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
async def test_rotation_leaves_no_hole_and_shows_nothing_twice(tmp_path: Path, market: Market) -> None:
    """The exchange announces its shutdown again and again; ten clients follow every event."""
    path = "/ws/" if market is Market.SPOT else "/fstream.binance.com/ws/"
    names = f"{DEPTH}/btcusdt@trade/{BOOK}/btcusdt@kline_1m" if market is Market.SPOT else f"{DEPTH}/{BOOK}"
    async with bench(tmp_path) as one, listener(one) as ears:
        feeds = one.run.gateway.feeds
        where = "" if market is Market.SPOT else "/public"
        async with ears.open(path + names) as ear, ears.open(path + DEPTH) as other:
            seen: list[dict[str, Any]] = []
            followers = [Follower(market), Follower(market)]
            reading = asyncio.ensure_future(follow(other, followers[1], 8))
            pool = feeds.at(market, where).pool
            for turn in range(1, 4):
                one.sandbox.faults.server_shutdown(market)
                while pool.stats.rotations < turn:
                    seen.append(await ear.event())
            while len(seen) < 100:
                seen.append(await ear.event())
            for event in seen:
                if event.get("e") == "depthUpdate":
                    followers[0].take(event)
            books = [event["u"] for event in seen if "b" in event and event.get("e") in (None, "bookTicker")]
            assert books == sorted(set(books))
            trades = [event["t"] for event in seen if event.get("e") == "trade"]
            assert (
                trades == list(range(trades[0], trades[0] + len(trades))) if trades else market is Market.UM
            )
            assert not any("serverShutdown" in text for text in ear.texts)
            assert len(set(ear.texts)) == len(ear.texts)
            assert await reading is None
            assert followers[1].events > 20
        assert one.run.gateway.fanout.stats.duplicates > 0
        assert one.run.gateway.fanout.stats.closed_lost == 0


async def test_ten_faults_at_random_never_leave_a_silent_hole(tmp_path: Path) -> None:
    async with bench(tmp_path, stream_silence_s=1.0) as one, listener(one) as ears:
        faults = one.sandbox.faults
        switches = faults.stream(Market.UM)

        async def harm() -> None:
            for turn in range(10):
                await asyncio.sleep(0.6)
                kind = turn % 5
                if kind == 0:
                    faults.drop_streams(Market.UM)
                elif kind == 1:
                    switches.lose_once = "@depth"
                elif kind == 2:
                    switches.silent = True
                    await asyncio.sleep(1.5)
                    switches.silent = False
                elif kind == 3:
                    switches.duplicate = True
                    await asyncio.sleep(0.5)
                    switches.duplicate = False
                else:
                    faults.server_shutdown(Market.UM)

        harming = asyncio.ensure_future(harm())
        events = ends = 0
        while not harming.done():
            async with ears.open(f"/public/ws/{DEPTH}") as ear:
                follower = Follower(Market.UM)
                ends += await follow(ear, follower, 1.5) is not None
                events += follower.events
        await harming
        assert events >= 10
        assert ends >= 2


async def test_duplicates_are_passed_on_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        one.sandbox.faults.stream(Market.UM).duplicate = True
        async with ears.open(
            f"/fstream.binance.com/ws/{BOOK}/btcusdt@kline_1m/btcusdt@aggTrade/{DEPTH}"
        ) as ear:
            for _ in range(30):
                await ear.event()
            assert len(set(ear.texts)) == len(ear.texts)


async def test_slow_reader_of_states_gets_the_newest_and_delays_nobody(tmp_path: Path) -> None:
    exchange = small_exchange(book_ticker_hz=5.0)
    async with bench(tmp_path, exchange, client_queue_bytes=65_536) as one, listener(one) as ears:
        fanout = one.run.gateway.fanout
        async with ears.open(f"/public/ws/{BOOK}") as quick:
            reader, writer = await slow(one.run.port, f"/public/ws/{BOOK}")
            await wait_until(lambda: len(fanout.clients) == 2)
            slow_one = list(fanout.clients.values())[1]
            last = 0
            for _ in range(60):
                last = await one.sandbox.burst(Market.UM, "BTCUSDT", 500)
                data = await quick.event()
                while data["u"] < last:
                    data = await quick.event()
                if slow_one.dropped:
                    break
            assert slow_one.dropped
            assert slow_one.backlog.size <= 65_536
            # It reads again: what comes is in order and ends with the newest.
            updates = await read_updates(reader, last)
            assert updates == sorted(set(updates))
            assert updates[-1] >= last
            writer.close()
        assert fanout.stats.closed_slow == 0


async def test_slow_reader_of_a_sequence_is_closed_with_words(tmp_path: Path) -> None:
    exchange = small_exchange()
    async with bench(tmp_path, exchange, client_queue_bytes=65_536) as one, listener(one) as ears:
        fanout = one.run.gateway.fanout
        async with ears.open("/public/ws/btcusdt@depth") as quick:
            reader, writer = await slow(one.run.port, "/public/ws/btcusdt@depth")
            await wait_until(lambda: len(fanout.clients) == 2)
            await quick.event()
            (source,) = [s for s in fanout._sources.values() if s.market is Market.UM]
            topic = source.topics["btcusdt@depth"]
            number = topic.sequence._last
            for n in range(40_000):
                body = b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":%d,"u":%d,"pu":%d,"b":[%s],"a":[]}' % (
                    number + 1, number + 1, number, b'["1","2"],' * 40 + b'["1","2"]',
                )  # fmt: skip
                number += 1
                fanout.publish(topic, body)
                if not n % 50:
                    await asyncio.sleep(0)
                if fanout.stats.closed_slow:
                    break
            assert fanout.stats.closed_slow == 1
            assert len(fanout.clients) == 1
            raw = await asyncio.wait_for(reader.read(), 10)
            assert b"too slow" in raw[-200:]
            writer.close()


async def slow(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket and read nothing of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def read_updates(reader: asyncio.StreamReader, last: int) -> list[int]:
    """Read frames until the update `last`; return the update ids in order."""
    found: list[int] = []
    while not found or found[-1] < last:
        first, size = await asyncio.wait_for(reader.readexactly(2), 5)
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        payload = await reader.readexactly(size)
        if first == 0x81:
            found.append(orjson.loads(payload)["u"])
    return found
