"""Candles without a stream, across a minute's end: every hit is the exchange's own answer of that call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.endpoints import ENDED_KLINES
from resender.core.binance.markets import Market
from resender.core.weights.table import charge
from resender.sandbox import Fault
from tests.support.cache_bench import MARKETS, SYMBOL, Bench, ExchangeClock, bench, small_exchange
from tests.support.cache_watch import MINUTE_MS, next_close
from tests.support.row_watch import RowWatch

pytestmark = pytest.mark.component

MARK = ENDED_KLINES[Market.UM]["markPriceKlines"]


def watch_all(one: Bench) -> RowWatch:
    """Watch the latest rows where a read of a few weighs less: on spot it does not."""
    watched = RowWatch(one)
    for market in (Market.UM, Market.CM):
        for name in ENDED_KLINES[market]:
            watched.ended(market, name, SYMBOL[market], 200)
    watched.ended(Market.UM, "markPriceKlines", "NKNUSDT", 500)
    return watched


async def test_every_hit_is_the_exchanges_own_answer_across_a_minutes_end(tmp_path: Path) -> None:
    config = small_exchange(ExchangeClock.before_close(4.0), rest_lag_ms=400)
    async with bench(tmp_path, config) as one:
        watched = watch_all(one)
        close_ms = next_close(one)
        ended = {"endTime": close_ms - MINUTE_MS - 1}
        for market in MARKETS:
            name = next(iter(ENDED_KLINES[market]))
            at_ms = close_ms - 30 * MINUTE_MS
            watched.ended(market, name, SYMBOL[market], 20, **ended)
            watched.ended(market, name, SYMBOL[market], 20, startTime=at_ms, **ended)
            watched.ended(market, name, SYMBOL[market], 20, startTime=at_ms)
            watched.ended(market, name, SYMBOL[market], 120, endTime=close_ms)
        # What may still change is never told without a read: these are forwarded until it is over.
        open_ends = [target for target in watched.targets if f"endTime={close_ms}" in target]
        open_ends += [
            each for each in watched.targets if each.startswith("/dapi") and each.endswith(f"={at_ms}")
        ]
        # On spot the few rows at the end weigh as much as all.
        open_ends.append(watched.ended(Market.SPOT, "uiKlines", SYMBOL[Market.SPOT], 500))
        assert len(open_ends) == 5
        others = [target for target in watched.targets if target not in open_ends]
        async with watched.polling(0.1):
            await watched.until_all_hit(targets=others)
            while one.clock() < close_ms + 3000:
                await asyncio.sleep(0.05)
            await watched.until_all_hit(targets=others)
        assert not set(open_ends) & watched.last_hit.keys()
    assert watched.errors == 0


async def test_hits_cost_less_than_forwarding_and_one_read_serves_all_who_ask_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange()) as one:
        target = f"{MARK}?symbol=BTCUSDT&interval=1m&limit=1000"
        await one.until_hit(target)
        used, begun = one.sandbox.weight("127.0.0.1", "futures"), one.mark()
        count = 20
        for _ in range(count):
            assert (await one.get(target)).is_hit
        calls = one.calls(MARK, begun)
        assert len(calls) == count
        assert all("limit=3" in call.query or "limit=2" in call.query for call in calls)
        whole = charge(Market.UM, "GET", MARK, "limit=1000").weight
        assert one.sandbox.weight("127.0.0.1", "futures") - used <= count
        assert whole >= 5
        fault = one.sandbox.faults.add(Fault("delay", match="markPriceKlines", seconds=0.3, times=None))
        begun = one.mark()
        answers = await asyncio.gather(*(one.get(target) for _ in range(8)))
        one.sandbox.faults.remove(fault)
        assert all(timed.is_hit for timed in answers)
        assert len(one.calls(MARK, begun)) == 1


async def test_index_of_a_pair_is_not_answered_for_a_symbol(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange()) as one:
        path = ENDED_KLINES[Market.CM]["indexPriceKlines"]
        await one.until_hit(f"{path}?pair=BTCUSD&interval=1m&limit=200")
        for _ in range(3):
            assert (await one.get(f"{path}?pair=BTCUSD_PERP&interval=1m&limit=200")).status == 400
        path = ENDED_KLINES[Market.CM]["markPriceKlines"]
        await one.until_hit(f"{path}?symbol=BTCUSD_PERP&interval=1m&limit=200")
        for _ in range(3):
            assert (await one.get(f"{path}?symbol=BTCUSD&interval=1m&limit=200")).status == 400
