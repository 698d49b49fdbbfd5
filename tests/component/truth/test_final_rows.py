"""A closed candle is shown with its final numbers from the first hit on, however late its final event and REST are.

Final events come as late as they were measured, never, or many seconds later; REST shows for up to a
second after a close what stood before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.market import Klines
from resender.sandbox import Sandbox, SandboxConfig
from tests.support.cache_bench import (
    KLINES,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    kline_target,
    series_of,
    side_by_side,
)
from tests.support.cache_judge import Timed, kline_problem, open_of, split_rows
from tests.support.cache_watch import MINUTE_MS, metric, next_close, until_ms
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

COUNT = 40
MARKETS = (Market.SPOT, Market.UM)
LATE_S = 6.0
# Candles are all there so long before they close.
LEAD_S = 8.0


def plain(one: Bench, market: Market) -> None:
    """Plain USD-M finals take up to three seconds, those of spot an eighth of one."""
    one.sandbox.faults.stream(market).final_delay = "spot" if market is Market.SPOT else "plain"


def slow_spot(one: Bench, market: Market) -> None:
    one.sandbox.faults.stream(market).final_delay = "plain"


def swallowed(one: Bench, market: Market) -> None:
    one.sandbox.faults.stream(market).swallow_final = True


def very_late(one: Bench, market: Market) -> None:
    """Every other symbol's final is held back for seconds; E is the moment of the close."""
    names = symbols_of(one, market)[::2]
    one.sandbox.faults.stream(market).late_final_by_symbol = dict.fromkeys(names, LATE_S)


FINALS: dict[str, Callable[[Bench, Market], None]] = {
    "as measured": plain,
    "late on both": slow_spot,
    "swallowed": swallowed,
    "seconds late": very_late,
}


def exchange(lead_s: float = LEAD_S, count: int = COUNT, **options: Any) -> SandboxConfig:
    return SandboxConfig(
        clock_ms=ExchangeClock.before_close(lead_s),
        spot_symbols=count,
        um_symbols=count,
        cm_symbols=1,
        kline_push_ms={"spot": 500, "um": 250},
        spot_message_rate=20,
        book_ticker_hz=1.0,
        **options,
    )


def symbols_of(one: Bench, market: Market) -> list[str]:
    return list(one.store(market).series)


@dataclass
class Closes:
    """Polls the 1m candles of all symbols of some markets and judges every hit."""

    one: Bench
    lag_ms: int
    pause_s: float = 0.5
    markets: tuple[Market, ...] = MARKETS
    hits: int = 0
    errors: int = 0
    problems: list[str] = field(default_factory=list)
    # Series whose newest closed candle was shown as a hit.
    shown: set[tuple[Market, str]] = field(default_factory=set)

    @property
    def keys(self) -> list[tuple[Market, str]]:
        return [(market, symbol) for market in self.markets for symbol in symbols_of(self.one, market)]

    def judge(self, timed: Timed, market: Market, symbol: str) -> str | None:
        # What is open is not the matter here; what is closed has to be final whatever the age.
        push_ms = self.one.sandbox.config.push_ms(market.value, "1m")
        return kline_problem(self.one.store(market), symbol, "1m", 4, timed, push_ms, 1500 + self.lag_ms)

    async def until_all_hit(self) -> None:
        await side_by_side(*(self._start(*key, number * 0.01) for number, key in enumerate(self.keys)))

    async def _start(self, market: Market, symbol: str, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        target = kline_target(market, symbol, "1m", 4)
        deadline = time.monotonic() + 20
        while not (await self.one.get(target)).is_hit:
            assert time.monotonic() < deadline, target
            await asyncio.sleep(0.2)

    async def poll_until(self, end_ms: int, closed: int) -> None:
        """Poll each series again and again; note which have shown the candle that opened at `closed`."""
        keys = self.keys
        one = self.one

        async def poll(market: Market, symbol: str, offset_s: float) -> None:
            await asyncio.sleep(offset_s)
            while one.clock() < end_ms:
                timed = await one.get(kline_target(market, symbol, "1m", 4))
                self.errors += timed.status != 200
                if timed.is_hit:
                    self.hits += 1
                    if (problem := self.judge(timed, market, symbol)) is not None:
                        self.problems.append(problem)
                    if closed in [open_of(row) for row in split_rows(timed.body)[:-1]]:
                        self.shown.add((market, symbol))
                await asyncio.sleep(self.pause_s)

        step_s = self.pause_s / len(keys)
        await side_by_side(*(poll(*key, number * step_s) for number, key in enumerate(keys)))

    def assert_right(self) -> None:
        assert not self.problems, f"{len(self.problems)} of {self.hits} hits are wrong\n{self.problems[0]}"
        assert not self.errors

    async def assert_all_right_now(self, closed: int) -> None:
        """Every series is a hit that shows the closed candle, and as REST would show it."""
        for market, symbol in self.keys:
            timed = await self.one.until_hit(kline_target(market, symbol, "1m", 4), 3)
            problem = self.judge(timed, market, symbol)
            assert problem is None, problem
            assert closed in [open_of(row) for row in split_rows(timed.body)]

    def wrong_rows(self) -> list[tuple[Market, str, int]]:
        """List the rows held as closed that are not the final ones."""
        wrong = []
        for market, symbol in self.keys:
            series = series_of(self.one.cache.states[market])[symbol, "1m"].series
            rows = split_rows(b"[" + series.closed_rows()[0] + b"]")
            truth = split_rows(self.one.store(market).kline_bytes(symbol, "1m", limit=len(rows) + 3))
            final = {open_of(row): row for row in truth}
            wrong += [(market, symbol, open_of(row)) for row in rows if row != final[open_of(row)]]
        return wrong


async def through_a_close(folder: Path, lag_ms: int, finals: str, count: int, **settings: Any) -> None:
    async with bench(folder, exchange(count=count, rest_lag_ms=lag_ms), **settings) as one:
        closes = Closes(one, lag_ms)
        for market in MARKETS:
            FINALS[finals](one, market)
        await closes.until_all_hit()
        end = next_close(one)
        closed = end - MINUTE_MS
        assert end - one.clock() > 1000, "the machine was too slow"
        await until_ms(one, end - 500)
        await closes.poll_until(end + 4500, closed)
        closes.assert_right()
        # Within 4.5 s nearly all have been hits again.
        assert len(closes.shown) > 0.9 * len(closes.keys)
        await until_ms(one, end + 10_000)
        assert not closes.wrong_rows()
        await closes.assert_all_right_now(closed)
        assert not any(one.cache.states[market].kind(Klines).corrected for market in MARKETS)
        assert not any(one.cache.states[market].mutes for market in MARKETS)


@pytest.mark.parametrize("finals", FINALS)
async def test_closed_candles_are_final_from_the_first_hit_on(tmp_path: Path, finals: str) -> None:
    await through_a_close(tmp_path, 1000, finals, COUNT)


@pytest.mark.parametrize("lag_ms", [0, 500])
async def test_closed_candles_are_final_whatever_the_lag_of_rest(tmp_path: Path, lag_ms: int) -> None:
    await side_by_side(
        *(
            through_a_close(tmp_path / finals, lag_ms, finals, 10)
            for finals in FINALS
            if finals != "late on both"
        )
    )


async def test_late_final_event_corrects_what_rest_has_settled_too_early(tmp_path: Path) -> None:
    config = exchange(count=8, rest_lag_ms=1000)
    async with bench(tmp_path, config, rest_final_after_ms=0, settle_wait_ms=0) as one:
        closes = Closes(one, 1000, pause_s=0.2, markets=(Market.UM,))
        one.sandbox.faults.stream(Market.UM).final_delay = 2500.0
        await closes.until_all_hit()
        end = next_close(one)
        assert end - one.clock() > 1000
        await until_ms(one, end + 100)
        # Not for longer: a later read would see the final numbers.
        await closes.poll_until(end + 700, end - MINUTE_MS)
        # Without the rule rows are wrong here, as they were before it.
        assert closes.wrong_rows()
        await until_ms(one, end + 4500)
        assert not closes.wrong_rows()
        assert one.cache.states[Market.UM].kind(Klines).corrected > 0
        told = await metric(one, "resender_candles_corrected_total", Market.UM)
        assert told == one.cache.states[Market.UM].kind(Klines).corrected
        await closes.assert_all_right_now(end - MINUTE_MS)


@pytest.mark.parametrize("before_ms", [700, -200, -900])
async def test_repair_of_a_lost_stream_around_a_close_settles_nothing_too_early(
    tmp_path: Path, before_ms: int
) -> None:
    async with bench(tmp_path, exchange(count=15, rest_lag_ms=1000)) as one:
        closes = Closes(one, 1000, pause_s=0.15)
        for market in MARKETS:
            very_late(one, market)
        await closes.until_all_hit()
        end = next_close(one)
        assert end - one.clock() > 1500

        async def drop() -> None:
            await until_ms(one, end - before_ms)
            for market in MARKETS:
                one.sandbox.faults.drop_streams(market)

        dropping = asyncio.create_task(drop())
        await until_ms(one, end - 900)
        await closes.poll_until(end + 5000, end - MINUTE_MS)
        await dropping
        closes.assert_right()
        await until_ms(one, end + 9000)
        assert not closes.wrong_rows()
        await closes.assert_all_right_now(end - MINUTE_MS)


@pytest.mark.parametrize("after_ms", [200, 900])
async def test_series_that_begins_just_after_a_close_settles_nothing_too_early(
    tmp_path: Path, after_ms: int
) -> None:
    """The first read of a series and those of its older rows lag like any other."""
    async with bench(tmp_path, exchange(6.0, count=12, rest_lag_ms=1000), kline_depth=1200) as one:
        closes = Closes(one, 1000, pause_s=0.1)
        for market in MARKETS:
            swallowed(one, market)
        await one.until_hit(kline_target(Market.UM, "BTCUSDT", "3m", 4))
        await one.until_hit(kline_target(Market.SPOT, "BTCUSDT", "3m", 4))
        end = next_close(one)
        await until_ms(one, end + after_ms)
        mark = one.mark()
        await closes.poll_until(end + 5000, end - MINUTE_MS)
        closes.assert_right()
        assert one.own_calls(KLINES[Market.UM], mark)
        await wait_until(lambda: not any(each.queued() for each in one.cache.backfills.values()), 20)
        assert not closes.wrong_rows()
        await closes.assert_all_right_now(end - MINUTE_MS)


@pytest.mark.parametrize("after_ms", [300, 1300])
async def test_candles_restored_from_disk_are_final_ones(tmp_path: Path, after_ms: int) -> None:
    """The gateway ends soon after a close, saves, and starts again at once."""
    async with Sandbox(exchange(count=15, rest_lag_ms=1000)) as sandbox:
        async with gateway_on(tmp_path, sandbox) as one:
            closes = Closes(one, 1000, pause_s=0.1)
            for market in MARKETS:
                very_late(one, market)
            await closes.until_all_hit()
            end = next_close(one)
            assert end - one.clock() > 1000
            await closes.poll_until(end + after_ms, end - MINUTE_MS)
            closes.assert_right()
        async with gateway_on(tmp_path, sandbox) as one:
            closes = Closes(one, 1000, pause_s=0.1)
            await closes.poll_until(max(end + 5000, one.clock() + 3000), end - MINUTE_MS)
            closes.assert_right()
            lines = [one.cache.states[market] for market in MARKETS]
            assert sum(len(entry.series) > 4 for line in lines for entry in series_of(line).values()) > 20
            assert one.cache._files.restored >= 25
            await until_ms(one, end + 8000)
            assert not closes.wrong_rows()
            await closes.assert_all_right_now(end - MINUTE_MS)
