"""The stream pool against the simulated exchange, with its rules and its stream faults."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from resender.core.binance.markets import STREAM_PATHS, Market
from resender.core.binance.stream_names import book_ticker_stream, kline_stream
from resender.sandbox import Sandbox, SandboxConfig
from resender.upstream.streams.pool import StreamLimits
from tests.support.authority import connector
from tests.support.running import wait_until
from tests.support.venue import Seen, pool_on

pytestmark = pytest.mark.component

# The true pace of each market, everything else shortened.
SPOT = StreamLimits(silence_s=2.0, ping_every_s=0.8, ack_timeout_s=2.0, connect_timeout_s=2.0)
FUTURES = replace(SPOT, messages_per_s=6.0)
SETTING = {Market.SPOT: "STREAM_SPOT", Market.UM: "STREAM_UM", Market.CM: "STREAM_CM"}
BTC = book_ticker_stream("BTCUSDT")
SHORT: dict[str, Any] = {"book_ticker_hz": 30.0, "kline_push_ms": {"spot": 100, "um": 100, "cm": 100}}


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    gc.collect()


def events(seen: Seen, name: str) -> list[Any]:
    return [data for stream, data in seen.frames if stream == name]


@asynccontextmanager
async def plain_listener(url: str) -> AsyncIterator[list[int]]:
    """Collect the update ids one plain connection gets; the exchange may skip an id now and then."""
    ids: list[int] = []

    async def read(ws: aiohttp.ClientWebSocketResponse) -> None:
        async for message in ws:
            if "bookTicker" in message.data:
                ids.append(orjson.loads(message.data)["data"]["u"])

    async with (
        aiohttp.ClientSession(connector=connector()) as session,
        session.ws_connect(f"{url}/stream?streams={BTC}") as ws,
    ):
        task = asyncio.get_running_loop().create_task(read(ws))
        yield ids
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize(
    ("market", "symbol", "kind"),
    [
        (Market.SPOT, "BTCUSDT", "kline"),
        (Market.SPOT, "BTCUSDT", "bookTicker"),
        (Market.UM, "BTCUSDT", "kline"),
        (Market.UM, "BTCUSDT", "bookTicker"),
        (Market.CM, "BTCUSD_PERP", "kline"),
        (Market.CM, "BTCUSD_PERP", "bookTicker"),
    ],
)
async def test_each_market_delivers_on_its_path(market: Market, symbol: str, kind: str) -> None:
    name = kline_stream(symbol, "1m") if kind == "kline" else book_ticker_stream(symbol)
    limits = SPOT if market is Market.SPOT else FUTURES
    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        path = STREAM_PATHS[market][kind]
        async with pool_on(sandbox.urls[SETTING[market]], limits, market=market, path=path) as seen:
            seen.pool.want([name])
            await seen.until_live(name)
            await wait_until(lambda: len(events(seen, name)) >= 2)
            assert seen.pool.is_proven(name)
            assert all(event["s"] == symbol for event in events(seen, name))
            assert not seen.lost


async def test_wrong_um_path_is_live_and_never_proven() -> None:
    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        async with pool_on(sandbox.urls["STREAM_UM"], FUTURES, market=Market.UM, path="/public") as seen:
            name = kline_stream("BTCUSDT", "1m")
            seen.pool.want([name])
            await seen.until_live(name)
            await asyncio.sleep(0.5)
            assert seen.is_alive(name)
            assert not seen.pool.is_proven(name)


async def test_pace_and_pongs_satisfy_the_spot_rules() -> None:
    config = SandboxConfig(**SHORT, spot_ping_s=0.7, pong_timeout_s=1.0)
    async with Sandbox(config) as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], SPOT) as seen:
            end = asyncio.get_running_loop().time() + 3.5
            number = 0
            while asyncio.get_running_loop().time() < end:
                number += 1
                seen.pool.want([BTC, f"n{number}usdt@bookTicker"])
                seen.pool.drop([f"n{number - 3}usdt@bookTicker"])
                await asyncio.sleep(0.02)
            assert seen.is_alive(BTC)
            assert not seen.lost
            assert sandbox.stream_accepted["spot"] == 1


async def test_450_streams_of_a_market_stay_below_its_message_size() -> None:
    names = [kline_stream(f"SYM{number:04d}USDT", "15m") for number in range(450)]
    async with Sandbox() as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], SPOT) as seen:
            seen.pool.want(names)
            await seen.until_live(*names)
            held = sandbox.subscriptions(Market.SPOT)
            assert sorted(map(len, held)) == [50, 200, 200]
            assert {name for group in held for name in group} == set(names)


async def test_connection_the_exchange_ends_at_its_age_comes_back() -> None:
    async with Sandbox(SandboxConfig(**SHORT, max_age_s=1.0)) as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], SPOT) as seen:
            seen.pool.want([BTC])
            await seen.until_live(BTC, times=3)
            assert seen.lost.count(BTC) >= 2


async def test_own_rotation_comes_before_the_age_of_the_exchange() -> None:
    async with Sandbox(SandboxConfig(**SHORT, max_age_s=3.0)) as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], replace(SPOT, max_age_s=1.2)) as seen:
            seen.pool.want([BTC])
            await seen.until_live(BTC)
            await wait_until(lambda: seen.pool.stats.rotations >= 3, 15)
            assert not seen.lost
            assert seen.live == [BTC]


async def test_shutdown_notice_of_the_exchange_loses_no_update() -> None:
    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        url = sandbox.urls["STREAM_SPOT"]
        async with plain_listener(url) as plain, pool_on(url, SPOT) as seen:
            seen.pool.want([BTC])
            await seen.until_live(BTC)
            burst = asyncio.get_running_loop().create_task(sandbox.burst(Market.SPOT, "BTCUSDT", 4000, 2.0))
            await wait_until(lambda: len(seen.frames) > 100)
            sandbox.faults.server_shutdown(Market.SPOT)
            await wait_until(lambda: seen.pool.stats.rotations == 1)
            last = await burst
            await wait_until(lambda: any(event["u"] >= last for event in events(seen, BTC)[-50:]))
            await wait_until(lambda: plain[-1] >= last)
            ids = {event["u"] for event in events(seen, BTC)}
            assert ids >= {u for u in plain if min(ids) <= u <= last}
            assert not seen.lost


FAULTS: dict[str, Callable[[Sandbox], object]] = {
    "reset": lambda sandbox: sandbox.faults.drop_streams(Market.SPOT),
    "closed": lambda sandbox: sandbox.faults.drop_streams(Market.SPOT, 1001),
    "garbage": lambda sandbox: sandbox.faults.send_raw(Market.SPOT, "garbage"),
    "binary": lambda sandbox: sandbox.faults.send_raw(Market.SPOT, b"\x00\x01"),
    "truncated": lambda sandbox: sandbox.faults.send_truncated(Market.SPOT),
    "huge": lambda sandbox: sandbox.faults.send_huge(Market.SPOT),
    "wrong types": lambda sandbox: sandbox.faults.send_wrong_types(Market.SPOT),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_of_the_exchange_is_told_and_repaired(fault: str) -> None:
    def check(name: str, data: Any) -> bool:
        return isinstance(data.get("u"), int)

    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], SPOT) as seen:
            seen.answer = check
            seen.pool.want([BTC])
            await seen.until_live(BTC)
            await wait_until(lambda: seen.frames)
            FAULTS[fault](sandbox)
            await wait_until(lambda: seen.lost == [BTC])
            await seen.until_live(BTC, times=2)
            seen.frames.clear()
            await wait_until(lambda: seen.frames)


async def test_silent_exchange_is_lost_and_comes_back() -> None:
    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], SPOT) as seen:
            seen.pool.want([BTC])
            await seen.until_live(BTC)
            sandbox.faults.silence(Market.SPOT)
            await wait_until(lambda: seen.lost == [BTC])
            assert not seen.is_alive(BTC)
            sandbox.faults.silence(Market.SPOT, False)
            await seen.until_live(BTC, times=2)


async def test_exchange_that_is_away_and_refuses_is_waited_for() -> None:
    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        async with pool_on(sandbox.urls["STREAM_SPOT"], SPOT) as seen:
            seen.pool.want([BTC])
            await seen.until_live(BTC)
            await sandbox.stop_listening("stream_spot")
            await wait_until(lambda: seen.lost == [BTC])
            sandbox.faults.refuse_streams(Market.SPOT, status=0)
            await sandbox.start_listening("stream_spot")
            await asyncio.sleep(0.6)
            assert not seen.is_alive(BTC)
            sandbox.faults.refuse_streams(Market.SPOT, False)
            await seen.until_live(BTC, times=2)


async def test_burst_of_updates_arrives_whole() -> None:
    async with Sandbox(SandboxConfig(**SHORT)) as sandbox:
        url = sandbox.urls["STREAM_SPOT"]
        async with plain_listener(url) as plain, pool_on(url, SPOT) as seen:
            seen.pool.want([BTC])
            await seen.until_live(BTC)
            last = await sandbox.burst(Market.SPOT, "BTCUSDT", 20_000)
            await wait_until(lambda: any(event["u"] >= last for event in events(seen, BTC)[-50:]))
            await wait_until(lambda: plain[-1] >= last)
            ids = [event["u"] for event in events(seen, BTC)]
            assert set(ids) >= {u for u in plain if ids[0] <= u <= last}
            assert len(ids) >= 20_000
            assert not seen.lost
