"""Candles that close early, open off the grid or are missing are held, and shown exactly as REST shows them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Outage, Sandbox, SandboxConfig
from tests.support.cache_bench import (
    KLINES,
    MARKETS,
    SYMBOL,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    kline_target,
    small_exchange,
)
from tests.support.cache_judge import close_of, open_of, split_rows
from tests.support.cache_watch import MINUTE_MS, Watch, next_close, status_of, until_ms
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
DEPTH = 60
# Interval: how long ago the outage began, and how long it was. Its edges lie off every grid.
OUTAGES = {
    "1m": (40 * MINUTE_MS, 5 * MINUTE_MS),
    "15m": (6 * HOUR_MS, 50 * MINUTE_MS),
    "4h": (5 * DAY_MS, 9 * HOUR_MS),
    "1d": (30 * DAY_MS, 2 * DAY_MS),
}
ODD_MS = 23_750


def old_outages(now_ms: int) -> list[Outage]:
    made = []
    for market in MARKETS:
        for ago_ms, length_ms in OUTAGES.values():
            start = (now_ms - ago_ms) // MINUTE_MS * MINUTE_MS + ODD_MS
            end = start + length_ms + 11_000
            made.append(Outage(market.value, SYMBOL[market], start, end, early_close=True))
    return made


def with_old_outages(lead_s: float = 40.0, **options: Any) -> SandboxConfig:
    clock = ExchangeClock.before_close(lead_s)
    return small_exchange(clock, outages=old_outages(clock()), **options)


def truth(one: Bench, market: Market, interval: str, limit: int) -> list[bytes]:
    return split_rows(one.store(market).kline_bytes(SYMBOL[market], interval, limit=limit))


def odd_rows(rows: list[bytes], interval: str) -> tuple[int, int]:
    """Count the rows that close early and those that open off the grid."""
    step = {"1m": MINUTE_MS, "15m": 15 * MINUTE_MS, "4h": 4 * HOUR_MS, "1d": DAY_MS}[interval]
    off = sum(open_of(row) % step != 0 for row in rows)
    return sum((close_of(row) + 1) % step != 0 for row in rows), off


async def assert_held_as_rest_shows_it(one: Bench) -> None:
    """Every series with odd rows is a hit, and each closed row is REST's, text for text."""
    for market in MARKETS:
        for interval in OUTAGES:
            for limit in (5, DEPTH):
                target = kline_target(market, SYMBOL[market], interval, limit)
                timed = await one.until_hit(target, 15)
                one.check(timed, market, SYMBOL[market], interval, limit)
                rows = split_rows(timed.body)
                assert rows[:-1] == truth(one, market, interval, limit)[:-1]
            early, off = odd_rows(rows, interval)
            assert early >= 1, (market, interval)
            assert off >= 1, (market, interval)


async def test_old_rows_that_close_early_or_open_off_the_grid_are_held(tmp_path: Path) -> None:
    async with bench(tmp_path, with_old_outages(), kline_depth=DEPTH) as one:
        await assert_held_as_rest_shows_it(one)
        # Also from and to times that lie at and beside the odd rows.
        for market in MARKETS:
            rows = truth(one, market, "1m", DEPTH)
            opens = [open_of(row) for row in rows]
            (odd,) = [index for index, each in enumerate(opens) if each % MINUTE_MS]
            for start in (opens[odd - 2], opens[odd - 1] + 1, opens[odd], opens[odd] + 1, opens[odd] - 1):
                end = opens[odd + 3]
                if market is Market.CM:
                    continue  # from a time on, COIN-M shows the latest rows
                target = f"{kline_target(market, SYMBOL[market], '1m', 50)}&startTime={start}&endTime={end}"
                timed = await one.get(target)
                assert timed.is_hit
                assert split_rows(timed.body) == [
                    row for row, each in zip(rows, opens, strict=True) if start <= each <= end
                ]


async def test_odd_rows_come_back_from_the_files(tmp_path: Path) -> None:
    async with Sandbox(with_old_outages()) as sandbox:
        async with gateway_on(tmp_path, sandbox, kline_depth=DEPTH) as one:
            await assert_held_as_rest_shows_it(one)
        async with gateway_on(tmp_path, sandbox, kline_depth=DEPTH) as one:
            mark = one.mark()
            await assert_held_as_rest_shows_it(one)
            assert one.cache._files.restored == len(MARKETS) * len(OUTAGES)
            # What came from the files was not read again.
            for market in MARKETS:
                for call in one.own_calls(KLINES[market], mark):
                    assert int(call.query.partition("limit=")[2].partition("&")[0]) < 10


@pytest.mark.parametrize(
    "before_ms", [1500, 6000], ids=["begins before the close", "began before the gateway"]
)
async def test_candle_off_the_grid_after_an_outage_is_followed_live(tmp_path: Path, before_ms: int) -> None:
    """The outage ends some seconds after a minute began: its candle opens there, on REST and streams."""
    async with Sandbox(small_exchange(ExchangeClock.before_close(4.0))) as sandbox:
        async with gateway_on(tmp_path, sandbox) as one:
            watch = Watch(one)
            for market in MARKETS:
                watch.klines(market, SYMBOL[market], "1m")
                watch.klines(market, SYMBOL[market], "5m")
            end = next_close(one)
            for market in MARKETS:
                sandbox.add_outage(Outage(market.value, SYMBOL[market], end - before_ms, end + 4750))
            await watch.ready()
            async with watch.polling(0.1):
                await until_ms(one, end + 5200)
                await watch.until_all_hit(5)
                await until_ms(one, end + 9000)
                await watch.until_all_hit(2)
            assert watch.hits > 100
            assert not watch.errors
            for market in MARKETS:
                timed = await one.until_hit(watch_target(market), 3)
                assert open_of(split_rows(timed.body)[-1]) == end + 4750
        # The gateway starts anew while that candle is open.
        async with gateway_on(tmp_path, sandbox) as one:
            for market in MARKETS:
                timed = await one.until_hit(watch_target(market), 10)
                one.check(timed, market, SYMBOL[market], "1m")
                assert open_of(split_rows(timed.body)[-1]) == end + 4750


def watch_target(market: Market) -> str:
    return kline_target(market, SYMBOL[market], "1m")


async def test_candle_off_the_grid_closes_and_the_next_one_joins(tmp_path: Path) -> None:
    async with Sandbox(small_exchange(ExchangeClock.before_close(10.0))) as sandbox:
        close = (sandbox.config.clock_ms() // MINUTE_MS + 1) * MINUTE_MS
        off = close - 30_250
        for market in MARKETS:
            sandbox.add_outage(Outage(market.value, SYMBOL[market], close - 5 * MINUTE_MS + 7000, off))
        async with gateway_on(tmp_path, sandbox) as one:
            watch = Watch(one)
            for market in MARKETS:
                watch.klines(market, SYMBOL[market], "1m", 10)
            await watch.ready()
            async with watch.polling(0.05):
                await until_ms(one, close + 300)
                await watch.until_all_hit(5)
                await until_ms(one, close + 2500)
            for market in MARKETS:
                timed = await one.until_hit(kline_target(market, SYMBOL[market], "1m", 10), 3)
                opens = [open_of(row) for row in split_rows(timed.body)]
                assert opens[-2:] == [off, close]
        async with gateway_on(tmp_path, sandbox) as one:
            for market in MARKETS:
                timed = await one.until_hit(kline_target(market, SYMBOL[market], "1m", 10), 10)
                one.check(timed, market, SYMBOL[market], "1m", 10)


async def test_seconds_without_a_candle_are_no_gap(tmp_path: Path) -> None:
    names = ["BTCUSDT", "NKNUSDT", "CTKUSDT", "ETHUSDT"]
    exchange = small_exchange(ExchangeClock.before_close(9.0), holes_1s=True, spot_symbols=names)
    async with Sandbox(exchange) as sandbox:
        async with gateway_on(tmp_path, sandbox, kline_depth=200) as one:
            watch = Watch(one)
            for symbol in names:
                watch.klines(Market.SPOT, symbol, "1s", 150)
            await watch.ready()
            async with watch.polling(0.06):
                await asyncio.sleep(10)
                await watch.until_all_hit(3)
            assert not watch.errors
            misses = sum(watch.misses.values())
            assert watch.hits > 2 * misses, watch.misses
            status = await status_of(one)
            assert not any(told["mutes"] for told in status.values())
            holes = {symbol: missing_seconds(one, symbol) for symbol in names}
            assert any(holes.values()), "the sandbox has left out no second"
        async with gateway_on(tmp_path, sandbox, kline_depth=200) as one:
            begun = time.monotonic()
            for symbol in names:
                timed = await one.until_hit(kline_target(Market.SPOT, symbol, "1s", 150), 10)
                one.check(timed, Market.SPOT, symbol, "1s", 150)
            assert time.monotonic() - begun < 10
            await wait_until(lambda: one.cache._files.restored == len(names))


def missing_seconds(one: Bench, symbol: str) -> int:
    rows = split_rows(one.store(Market.SPOT).kline_bytes(symbol, "1s", limit=150))
    return (open_of(rows[-1]) - open_of(rows[0])) // 1000 + 1 - len(rows)
