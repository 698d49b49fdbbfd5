"""Funding rates across a funding time: every hit is what the exchange itself shows, however late that is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.endpoints import FUNDING_RATES
from resender.core.binance.markets import Market
from resender.market.kinds import funding as funding_module
from resender.sandbox import SandboxConfig
from resender.sandbox.marks import FUNDING_MS
from tests.support.cache_bench import SYMBOL, ExchangeClock, bench, side_by_side, small_exchange
from tests.support.cache_watch import until_ms
from tests.support.row_watch import RowWatch
from tests.support.running import wait_until

pytestmark = pytest.mark.component

FUTURES = (Market.UM, Market.CM)
LEAD_S = 5.0
LAG_MS = 2500


@pytest.fixture(autouse=True)
def quick_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(funding_module, "_REREAD_S", 0.4)


def exchange() -> SandboxConfig:
    return small_exchange(ExchangeClock.before_close(LEAD_S, "8h"))


async def _across(data_dir: Path) -> None:
    async with bench(data_dir, exchange()) as one:
        due_ms = (one.clock() // FUNDING_MS + 1) * FUNDING_MS
        watched = RowWatch(one)
        for market in FUTURES:
            one.sandbox.faults.stream(market).periods_lag_ms = LAG_MS
            watched.funding(market, SYMBOL[market], 3)
            watched.funding(market, SYMBOL[market], 100)
            watched.funding(market, SYMBOL[market], 100, due_ms - 5 * FUNDING_MS)
            watched.funding(market, SYMBOL[market], 3, due_ms - 9 * FUNDING_MS)
        async with watched.polling(0.1):
            await watched.until_all_hit()
            before = one.mark()
            await until_ms(one, due_ms - 300)
            calls = [one.calls(FUNDING_RATES[market], before) for market in FUTURES]
            assert calls == [[], []], "until it is due nothing goes up"
            await until_ms(one, due_ms + LAG_MS + 200)
            await watched.until_all_hit()
            after = one.mark()
            await asyncio.sleep(1.0)
            assert not [call for market in FUTURES for call in one.calls(FUNDING_RATES[market], after)]
        rows = (await one.get(watched.targets[0])).rows
        assert rows[-1]["fundingTime"] >= due_ms
    assert watched.errors == 0


async def _lost_across(data_dir: Path) -> None:
    async with bench(data_dir, exchange()) as one:
        due_ms = (one.clock() // FUNDING_MS + 1) * FUNDING_MS
        watched = RowWatch(one)
        for market in FUTURES:
            watched.funding(market, SYMBOL[market], 5)
        async with watched.polling(0.1):
            await watched.until_all_hit()
            await until_ms(one, due_ms - 800)
            for market in FUTURES:
                one.sandbox.faults.refuse_streams(market)
                one.sandbox.faults.drop_streams(market)
            hits = watched.hits
            await until_ms(one, due_ms + 700)
            assert watched.hits - hits <= 4, "without the stream nobody knows when the next one is due"
            for market in FUTURES:
                one.sandbox.faults.refuse_streams(market, on=False)
            await watched.until_all_hit()
        for target in watched.targets:
            assert (await one.until_hit(target)).rows[-1]["fundingTime"] >= due_ms
    assert watched.errors == 0


async def test_every_hit_is_what_the_exchange_shows_across_a_funding_time(tmp_path: Path) -> None:
    await side_by_side(_across(tmp_path / "a"), _lost_across(tmp_path / "b"))


async def test_mark_prices_and_funding_rates_have_one_stream(tmp_path: Path) -> None:
    config = small_exchange(ExchangeClock.before_close(1800, "1h"))
    async with bench(tmp_path, config, preload="um:BTCUSDT@markPrice,fundingRate") as one:
        watched = RowWatch(one)
        watched.funding(Market.UM, "BTCUSDT", 5)
        await watched.ready()
        names = [
            name for each in one.sandbox.subscriptions(Market.UM) for name in each if "markPrice" in name
        ]
        assert names == ["btcusdt@markPrice@1s"]
        async with watched.polling(0.1):
            one.sandbox.faults.drop_streams(Market.UM)
            await watched.until_all_hit()
        state = one.cache.states[Market.UM]
        await wait_until(lambda: all(kept.is_live for kept in state.entries()), 5)
