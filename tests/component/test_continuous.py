"""Continuous candles over TLS: beside klines of the same symbol on one stream, across a close, and when it is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.endpoints import CONTINUOUS_KLINES
from resender.core.binance.markets import Market
from tests.support.cache_bench import Bench, ExchangeClock, bench, small_exchange
from tests.support.cache_judge import Timed, kline_problem
from tests.support.cache_watch import Watch, next_close, until_ms

pytestmark = pytest.mark.component

UM, CM = Market.UM, Market.CM
STREAM = "btcusdt_perpetual@continuousKline_1m"


def watch_continuous(
    watched: Watch, market: Market, pair: str, symbol: str, contract: str = "PERPETUAL"
) -> str:
    """Watch the candles of a contract, which are those of a symbol."""
    one = watched.one
    store, push_ms = one.store(market), one.sandbox.config.push_ms(market.value, "1m")

    def judge(timed: Timed) -> str | None:
        return kline_problem(store, symbol, "1m", 10, timed, push_ms, watched._slack())

    target = f"{CONTINUOUS_KLINES[market]}?pair={pair}&contractType={contract}&interval=1m&limit=10"
    watched._jobs.append((target, judge))
    return target


def streams(one: Bench, market: Market, symbol: str) -> list[str]:
    return [name for each in one.sandbox.subscriptions(market) for name in each if name.startswith(symbol)]


async def test_klines_and_continuous_candles_have_one_stream_and_both_are_true_across_a_close(
    tmp_path: Path,
) -> None:
    config = small_exchange(ExchangeClock.before_close(4.0), final_delay="measured")
    async with bench(tmp_path, config, um_kline_stream="continuous", settle_wait_ms=1000) as one:
        watched = Watch(one)
        watched.klines(UM, "BTCUSDT", "1m", 10)
        watch_continuous(watched, UM, "BTCUSDT", "BTCUSDT")
        watch_continuous(watched, CM, "BTCUSD", "BTCUSD_PERP")
        async with watched.polling():
            await watched.until_all_hit()
            assert streams(one, UM, "btcusdt") == [STREAM]
            assert streams(one, CM, "btcusd") == ["btcusd_perpetual@continuousKline_1m"]
            close_ms = next_close(one)
            await until_ms(one, close_ms + 1500)
            await watched.until_all_hit()
            # One of them goes: the other keeps the stream.
            state = one.cache.states[UM]
            gone = next(kept for kept in state.entries() if kept.what == "1m")
            state.remove(gone)
            await asyncio.sleep(0.2)
            assert streams(one, UM, "btcusdt") == [STREAM]
            await watched.until_all_hit()
            for market in (UM, CM):
                one.sandbox.faults.drop_streams(market)
            await watched.until_all_hit()
    assert watched.errors == 0


async def test_rows_of_the_time_without_a_stream_are_read_before_they_are_told(tmp_path: Path) -> None:
    config = small_exchange(ExchangeClock.before_close(3.0))
    async with bench(tmp_path, config) as one:
        watched = Watch(one)
        for market, pair, symbol in ((UM, "BTCUSDT", "BTCUSDT"), (CM, "BTCUSD", "BTCUSD_PERP")):
            watch_continuous(watched, market, pair, symbol)
        async with watched.polling():
            await watched.until_all_hit()
            close_ms = next_close(one)
            for market in (UM, CM):
                one.sandbox.faults.refuse_streams(market)
                one.sandbox.faults.drop_streams(market)
            await until_ms(one, close_ms + 300)
            for market in (UM, CM):
                one.sandbox.faults.refuse_streams(market, on=False)
            await watched.until_all_hit()
    assert watched.errors == 0


async def test_contract_that_does_not_exist_is_left_to_the_exchange(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange()) as one:
        watched = Watch(one)
        await one.until_hit(watch_continuous(watched, UM, "BTCUSDT", "BTCUSDT"))
        path = CONTINUOUS_KLINES[UM]
        for query in ("pair=GONEUSDT&contractType=PERPETUAL", "pair=BTCUSDT&contractType=NEXT_QUARTER",
                      "pair=BTCUSDT&contractType=PERP"):  # fmt: skip
            for _ in range(3):
                timed = await one.get(f"{path}?{query}&interval=1m")
                assert not timed.is_hit
                assert timed.status == 400
