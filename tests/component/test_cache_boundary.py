"""The moment a candle closes: the answer right after it holds the final numbers, whatever the stream does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Fault, Sandbox
from resender.sandbox.faults import StreamFaults
from tests.support.cache_bench import (
    KLINES,
    MARKETS,
    SYMBOL,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    kline_target,
    side_by_side,
    small_exchange,
)
from tests.support.cache_judge import open_of, split_rows
from tests.support.cache_watch import Watch, next_close, until_ms
from tests.support.relays import Distance
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.alone]

LEAD_S = 1.3


def settle_reads(one: Bench, market: Market, symbol: str, since: int) -> int:
    return sum(f"symbol={symbol}&" in call.query for call in one.own_calls(KLINES[market], since))


FAULTS: dict[str, Callable[[StreamFaults], None]] = {
    "nothing": lambda faults: None,
    "final event late": lambda faults: setattr(faults, "late_final_s", 0.9),
    "final event swallowed": lambda faults: setattr(faults, "swallow_final", True),
    "next candle first, all twice": lambda faults: [
        setattr(faults, name, True) for name in ("next_before_final", "duplicate")
    ],
    "next candle first, final late": lambda faults: [
        setattr(faults, name, value) for name, value in (("next_before_final", True), ("late_final_s", 0.6))
    ],
    "reordered": lambda faults: setattr(faults, "reorder", True),
}


@pytest.mark.parametrize("faults", [list(FAULTS)[:3], list(FAULTS)[3:]], ids="; ".join)
async def test_no_hit_around_a_close_is_wrong(tmp_path: Path, faults: list[str]) -> None:
    await side_by_side(*(close_with(tmp_path / fault, fault) for fault in faults))


async def close_with(folder: Path, fault: str) -> None:
    """Watch a close on all markets while a fault lasts."""
    exchange = small_exchange(ExchangeClock.before_close(LEAD_S))
    async with bench(folder, exchange) as one:
        watch = Watch(one)
        for market in MARKETS:
            FAULTS[fault](one.sandbox.faults.stream(market))
            watch.klines(market, SYMBOL[market], "1m")
            watch.ticker(market, SYMBOL[market])
        watch.klines(Market.SPOT, "NKNUSDT", "1m")
        watch.klines(Market.UM, "NKNUSDT", "1m")
        targets = watch.targets
        # A candle of one second whose final event does not come is over before REST can settle it.
        watch.klines(Market.SPOT, "BTCUSDT", "1s")
        watch.klines(Market.SPOT, "NKNUSDT", "1s")
        close, mark = next_close(one), one.mark()
        async with watch.polling(0.03):
            await until_ms(one, close + 300)
            await watch.until_all_hit(4.0, targets)
            # A read made 1.5 s after the close is the last word where no event came.
            await until_ms(one, close + 2300)
            await watch.until_all_hit(2.0, targets)
            for market, symbol in (
                (Market.UM, "BTCUSDT"),
                (Market.UM, "NKNUSDT"),
                (Market.CM, "BTCUSD_PERP"),
            ):
                timed = await one.until_hit(kline_target(market, symbol, "1m"), 2.0)
                assert open_of(split_rows(timed.body)[-1]) == close
        assert watch.hits > 100
        assert not watch.errors
        for market, symbol in ((Market.UM, "NKNUSDT"), (Market.UM, "BTCUSDT"), (Market.CM, "BTCUSD_PERP")):
            # At most one a second, beside those that filled the series.
            assert settle_reads(one, market, symbol, mark) <= 5


async def test_a_hundred_clients_at_the_close_cause_few_reads(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(LEAD_S))) as one:
        # No final event comes; another symbol shows that the connection works.
        one.sandbox.faults.stream(Market.UM).swallow_final = True
        target = kline_target(Market.UM, "NKNUSDT", "1m")
        await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m"))
        await one.until_hit(target)
        close = next_close(one)
        await until_ms(one, close + 30)
        mark = one.mark()
        # A read so soon after the close proves nothing, so the calls go up, equal ones as one.
        crowd = await asyncio.gather(*(one.get(target) for _ in range(100)))
        assert all(timed.status == 200 for timed in crowd)
        assert len(one.calls(KLINES[Market.UM], mark)) <= 5
        assert not one.own_calls(KLINES[Market.UM], mark)
        await until_ms(one, close + 1550)
        mark = one.mark()
        crowd = await asyncio.gather(*(one.get(target) for _ in range(100)))
        assert all(timed.is_hit for timed in crowd)
        for timed in crowd:
            one.check(timed, Market.UM, "NKNUSDT", "1m")
            assert open_of(split_rows(timed.body)[-1]) == close  # flat, as REST shows it
        (read,) = one.calls(KLINES[Market.UM], mark)
        assert read in one.own_calls()
        assert int(read.query.rpartition("limit=")[2]) <= 3
        # The next hundred cost nothing at all.
        mark = one.mark()
        assert all(timed.is_hit for timed in await asyncio.gather(*(one.get(target) for _ in range(100))))
        assert not one.calls(KLINES[Market.UM], mark)


async def test_client_that_leaves_takes_the_read_from_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(LEAD_S))) as one:
        target = kline_target(Market.UM, "NKNUSDT", "1m")
        await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m"))
        await one.until_hit(target)
        slow = one.sandbox.faults.add(Fault("delay", match="/klines", times=None, seconds=0.5))
        await until_ms(one, next_close(one) + 1600)
        impatient = [asyncio.create_task(one.get(target)) for _ in range(20)]
        patient = asyncio.create_task(one.get(target))
        await asyncio.sleep(0.4)
        for task in impatient:
            task.cancel()
        timed = await patient
        assert timed.is_hit
        one.check(timed, Market.UM, "NKNUSDT", "1m")
        one.sandbox.faults.remove(slow)
        await wait_until(lambda: one.run.gateway.calls.in_flight == 0)


async def test_rest_errors_at_the_close_give_no_wrong_hit_and_one_own_read_a_second(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(LEAD_S))) as one:
        one.sandbox.faults.stream(Market.UM).swallow_final = True
        watch = Watch(one)
        watch.klines(Market.UM, "BTCUSDT", "1m")
        await watch.ready()
        close = next_close(one)
        await until_ms(one, close - 100)
        fault = one.sandbox.faults.add(Fault("status", match="/klines", times=None, status=500))
        mark = one.mark()
        async with watch.polling():
            await until_ms(one, close + 3400)
            misses = sum(watch.misses.values())
            assert misses > 3
            assert watch.errors == misses  # Binance's own error comes back
            assert len(one.own_calls(KLINES[Market.UM], mark)) <= 5
            one.sandbox.faults.remove(fault)
            assert await watch.until_all_hit() < 3


@pytest.mark.parametrize("delay_ms", [40, 150])
async def test_close_is_right_for_an_exchange_far_away(tmp_path: Path, delay_ms: int) -> None:
    """By the exchange's clock the candle is over before anything of it can have arrived here."""
    async with AsyncExitStack() as stack:
        lead_s = 2.4 + delay_ms / 100
        sandbox = await stack.enter_async_context(Sandbox(small_exchange(ExchangeClock.before_close(lead_s))))
        far = {}
        for name in ("UPSTREAM_FAPI", "STREAM_UM"):
            egress = await stack.enter_async_context(Distance(sandbox.urls[name], delay_ms / 1000))
            far[name.lower()] = egress.url
        one = await stack.enter_async_context(gateway_on(tmp_path, sandbox, **far))
        watch = Watch(one, slack_ms=400 + delay_ms)
        watch.klines(Market.UM, "BTCUSDT", "1m")
        watch.klines(Market.UM, "NKNUSDT", "1m")
        await watch.ready()
        close = next_close(one)
        assert close - one.clock() > 300
        async with watch.polling():
            await until_ms(one, close + 300)
            await watch.until_all_hit(4)


async def test_slow_answer_about_the_time_does_not_make_candles_close_late(tmp_path: Path) -> None:
    async with Sandbox(small_exchange(ExchangeClock.before_close(3.4))) as sandbox:
        # The time was read before it travelled for half a second.
        late = sandbox.faults.add(Fault("delay", match="/time", times=None, after=True, seconds=0.5))
        async with gateway_on(tmp_path, sandbox) as one:
            watch = Watch(one)
            watch.klines(Market.UM, "NKNUSDT", "1m")
            watch.klines(Market.CM, "BTCUSD_PERP", "1m")
            await watch.ready()
            close = next_close(one)
            async with watch.polling():
                await until_ms(one, close + 300)
                await watch.until_all_hit(4)
            sandbox.faults.remove(late)


async def test_wrong_clock_of_the_machine_changes_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(small_exchange(ExchangeClock.before_close(2.0))))
        watches = []
        for machine_ms in (5000, -5000, 3_600_000, -3_600_000):
            folder = tmp_path / str(machine_ms)
            one = await stack.enter_async_context(gateway_on(folder, sandbox, machine_ms=machine_ms))
            watch = Watch(one)
            for market in MARKETS:
                watch.klines(market, SYMBOL[market], "1m")
                watch.ticker(market, SYMBOL[market])
            watch.klines(Market.UM, "NKNUSDT", "1m")
            watch.klines(Market.SPOT, "BTCUSDT", "1s")
            watches.append(watch)
        begun = time.monotonic()
        async with AsyncExitStack() as polling:
            for watch in watches:
                await polling.enter_async_context(watch.polling(0.06))
            await until_ms(one, next_close(one) + 300)
            for watch in watches:
                await watch.until_all_hit(3)
            assert time.monotonic() - begun < 10
        assert all(watch.hits > 100 for watch in watches)
