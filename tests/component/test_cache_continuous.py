"""USD-M candles out of the continuous streams: earlier, the same rows, and plain again where they fail."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.market import Klines
from resender.market import market_state as market_state_module
from resender.market.kinds import klines as klines_module
from resender.sandbox import stream_payloads
from tests.support.cache_bench import (
    KLINES,
    Bench,
    ExchangeClock,
    bench,
    kline_target,
    series_of,
    small_exchange,
)
from tests.support.cache_watch import until_ms
from tests.support.running import wait_until

pytestmark = pytest.mark.component

M = Market.UM
CONTINUOUS = "btcusdt_perpetual@continuousKline_1m"
PLAIN = "btcusdt@kline_1m"
FAR = 40.0


def stream_of(one: Bench, symbol: str = "BTCUSDT", interval: str = "1m") -> str:
    stream: str = series_of(one.cache.states[M])[symbol, interval].stream
    return stream


@pytest.fixture
def quick_review(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(klines_module, "_REVIEW_S", 0.1)


async def test_series_of_usd_m_come_from_the_continuous_stream_and_are_binances_own_rows(
    tmp_path: Path,
) -> None:
    exchange = small_exchange(ExchangeClock.before_close(FAR))
    async with bench(tmp_path, exchange, um_kline_stream="continuous") as one:
        for market, symbol in ((M, "BTCUSDT"), (Market.SPOT, "BTCUSDT"), (Market.CM, "BTCUSD_PERP")):
            timed = await one.until_hit(kline_target(market, symbol, "1m", 20))
            one.check(timed, market, symbol, "1m", 20)
        assert stream_of(one) == CONTINUOUS
        assert series_of(one.cache.states[Market.SPOT])["BTCUSDT", "1m"].stream == PLAIN
        assert series_of(one.cache.states[Market.CM])["BTCUSD_PERP", "1m"].stream == "btcusd_perp@kline_1m"


async def test_setting_plain_uses_no_continuous_stream(tmp_path: Path) -> None:
    async with bench(tmp_path, um_kline_stream="plain") as one:
        await one.until_hit(kline_target(M, "BTCUSDT", "1m"))
        assert stream_of(one) == PLAIN


async def test_close_is_settled_by_the_continuous_stream_without_a_read(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(4.0), final_delay="measured", um_symbols=20)
    async with bench(tmp_path, exchange, um_kline_stream="continuous", settle_wait_ms=1000) as one:
        names = [spec.symbol for spec in one.store(M).symbols]
        for name in names:
            await one.until_hit(kline_target(M, name, "1m"))
        mark = one.mark()
        line = one.cache.states[M]
        close_ms = next(iter(series_of(line).values())).series.unsettled_close
        await until_ms(one, close_ms + 10)
        answers = await asyncio.gather(*(one.klines(M, name, "1m") for name in names))
        assert all(timed.is_hit for timed in answers)
        for name, timed in zip(names, answers, strict=True):
            one.check(timed, M, name, "1m")
        assert not one.own_calls(KLINES[M], mark)


async def test_continuous_stream_that_brings_nothing_is_left_for_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_state_module, "_MUTE_PAUSE_S", 0.5)
    exchange = small_exchange(ExchangeClock.before_close(FAR))
    async with bench(tmp_path, exchange, um_kline_stream="continuous", stream_quiet_s=2) as one:
        await one.until_hit(kline_target(M, "BTCUSDT", "1m"))
        one.sandbox.faults.mute(M, "continuousKline", everywhere=True)
        deadline = time.monotonic() + 25
        while stream_of(one) != PLAIN:
            assert time.monotonic() < deadline
            await one.klines(M, "BTCUSDT", "1m")
            await asyncio.sleep(0.1)
        timed = await one.until_hit(kline_target(M, "BTCUSDT", "1m"))
        one.check(timed, M, "BTCUSDT", "1m")
        await wait_until(
            lambda: one.cache.states[M].proof(series_of(one.cache.states[M])["BTCUSDT", "1m"])[1] == "event",
            10,
        )


@pytest.mark.usefixtures("quick_review")
async def test_rows_of_both_streams_are_compared_and_are_the_same(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(6.0))
    async with bench(tmp_path, exchange, um_kline_stream="continuous") as one:
        await one.until_hit(kline_target(M, "BTCUSDT", "1m"))
        streams = one.cache.states[M].kind(Klines).streams
        await wait_until(lambda: streams.compared, 15)
        assert not streams.differing
        assert stream_of(one) == CONTINUOUS


@pytest.mark.usefixtures("quick_review")
async def test_one_difference_ends_the_use_for_that_symbol_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = stream_payloads.kline

    def lying(store, stream, symbol, *args):  # type: ignore[no-untyped-def]
        text = honest(store, stream, symbol, *args)
        if stream.kind == "continuousKline" and symbol == "BTCUSDT":
            return text.replace('"V":"', '"V":"1', 1)
        return text

    monkeypatch.setattr(stream_payloads, "kline", lying)
    exchange = small_exchange(ExchangeClock.before_close(4.0))
    async with bench(tmp_path, exchange, um_kline_stream="continuous") as one:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            await one.until_hit(kline_target(M, symbol, "1m"))
        streams = one.cache.states[M].kind(Klines).streams
        await wait_until(lambda: streams.differing == 1 and streams.compared >= 2, 15)
        await wait_until(lambda: stream_of(one) == PLAIN, 5)
        assert stream_of(one, "ETHUSDT").endswith("@continuousKline_1m")


@pytest.mark.usefixtures("quick_review")
async def test_symbol_that_is_listed_is_followed_on_its_continuous_stream(tmp_path: Path) -> None:
    async with bench(
        tmp_path, preload="um:*USDT@1m", symbol_refresh_s=1, um_kline_stream="continuous"
    ) as one:
        await one.until_hit(kline_target(M, "SOLUSDT", "1m"))
        one.sandbox.list_symbol(M, "FRESHUSDT")
        await wait_until(lambda: ("FRESHUSDT", "1m") in series_of(one.cache.states[M]), 10)
        assert stream_of(one, "FRESHUSDT") == "freshusdt_perpetual@continuousKline_1m"
        await one.until_hit(kline_target(M, "FRESHUSDT", "1m", 2))
