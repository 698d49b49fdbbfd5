"""Quiet symbols stay hits at a small and bounded weight, and a halted one is not answered as if it were only quiet."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Fault
from resender.sandbox.market import BookTicker, MarketStore
from tests.support.cache_bench import (
    KLINES,
    MARKETS,
    SYMBOL,
    TICKERS,
    Bench,
    ExchangeClock,
    bench,
    small_exchange,
)
from tests.support.cache_judge import SLACK_MS
from tests.support.cache_watch import (
    AgedWatch,
    entries,
    metric,
    next_close,
    quiet_exchange,
    silent_symbols,
    status_of,
    until_ms,
)

pytestmark = [pytest.mark.component, pytest.mark.waits]

QUIET_S = 2.0
SYMBOLS = 5
PAUSE_S = 0.2
# Book tickers of quiet symbols change forty times as seldom: every 16 seconds.
BOOK_HZ = 2.5


def quiet_watch(one: Bench, for_ms: int, *, klines: bool, tickers: bool) -> AgedWatch:
    """Watch some symbols of each market that are not traded for so long, and nothing else."""
    watch = AgedWatch(one)
    for market in MARKETS:
        symbols = silent_symbols(one, market, for_ms)[:SYMBOLS]
        assert len(symbols) == SYMBOLS
        for symbol in symbols:
            if klines:
                watch.klines(market, symbol, "1m")
            if tickers:
                watch.ticker(market, symbol)
    return watch


def share_of_hits(watch: AgedWatch) -> float:
    return watch.hits / (watch.hits + sum(watch.misses.values()))


async def test_quiet_book_tickers_are_hits_at_one_shared_read_for_all(tmp_path: Path) -> None:
    exchange = quiet_exchange(ExchangeClock.before_close(45), book_ticker_hz=BOOK_HZ)
    async with bench(tmp_path, exchange, stream_quiet_s=QUIET_S) as one:
        watch = quiet_watch(one, 1000, klines=False, tickers=True)
        await watch.ready()
        await asyncio.sleep(1.0)
        mark, begun = one.mark(), time.monotonic()
        reads = {market: await metric(one, "resender_witness_reads_total", market) for market in MARKETS}
        async with watch.polling(PAUSE_S):
            await asyncio.sleep(20)
        passed_s = time.monotonic() - begun
        assert share_of_hits(watch) > 0.95, watch.misses
        assert not watch.errors
        for market in MARKETS:
            own = one.own_calls(TICKERS[market], mark)
            # Due after 0.6 of the quiet time; one read compares all symbols of a market.
            assert len(own) <= passed_s / (0.6 * QUIET_S) + 1
            told = await metric(one, "resender_witness_reads_total", market) - reads[market]
            assert told == len(own)
            assert not one.cache.states[market].mutes
        for target in watch.targets:
            assert watch.oldest_ms(target) <= QUIET_S * 1000


async def test_quiet_candles_the_witness_vouches_for_cost_no_reads(tmp_path: Path) -> None:
    # A witness' proof is up to two seconds old: the quiet time is longer here.
    async with bench(tmp_path, quiet_exchange(ExchangeClock.before_close(38)), stream_quiet_s=3) as one:
        watch = quiet_watch(one, 37_000, klines=True, tickers=False)
        await watch.ready()
        mark, begun = one.mark(), time.monotonic()
        async with watch.polling(PAUSE_S):
            # REST lags, so the witness stands in for what was read some seconds after its first array.
            await asyncio.sleep(8)
            started, at = one.mark(), time.monotonic()
            await asyncio.sleep(20)
            status = await status_of(one)
        assert time.monotonic() - begun < 35
        assert share_of_hits(watch) > 0.95, watch.misses
        assert not watch.errors
        for market in MARKETS:
            assert len(one.own_calls(KLINES[market], mark)) <= 3 * SYMBOLS
            assert not one.own_calls(KLINES[market], started)
        assert {told["proof"] for told in status.values()} == {"witness"}
        for target in watch.targets:
            # An array a second, and it vouches for all but the last second.
            assert watch.oldest_ms(target, at) < 2500


async def test_close_of_a_quiet_candle_costs_a_few_reads(tmp_path: Path) -> None:
    async with bench(tmp_path, quiet_exchange(ExchangeClock.before_close(7)), stream_quiet_s=QUIET_S) as one:
        # Quiet in the minute that ends and in the one that begins.
        watch = quiet_watch(one, 20_000, klines=True, tickers=False)
        await watch.ready()
        close = next_close(one)
        await until_ms(one, close - 500)
        mark = one.mark()
        async with watch.polling(PAUSE_S):
            await until_ms(one, close + 6000)
            at = time.monotonic()
            await until_ms(one, close + 8000)
        for market in MARKETS:
            # The one that shows the new candle, and one for what the witness cannot settle; each once
            # more if it was made a moment too early to tell.
            assert len(one.own_calls(KLINES[market], mark)) <= 4 * SYMBOLS
            assert not one.cache.states[market].mutes
        assert all(watch.hits_of(target, at) > 5 for target in watch.targets)


async def test_two_quiet_book_tickers_are_both_hits(tmp_path: Path) -> None:
    exchange = quiet_exchange(ExchangeClock.before_close(45), book_ticker_hz=BOOK_HZ)
    async with bench(tmp_path, exchange, stream_quiet_s=4) as one:
        watch = AgedWatch(one)
        for symbol in silent_symbols(one, Market.SPOT, 1000)[:2]:
            watch.ticker(Market.SPOT, symbol)
        watch.ticker(Market.SPOT, SYMBOL[Market.SPOT])
        await watch.ready()
        mark = one.mark()
        async with watch.polling(PAUSE_S):
            await asyncio.sleep(12)
        assert share_of_hits(watch) > 0.95, watch.misses
        assert len(one.own_calls(TICKERS[Market.SPOT], mark)) <= 14


class Halted:
    """Makes REST show what Binance shows of a symbol that is halted: an empty book."""

    def __init__(self, store: MarketStore) -> None:
        self._book_ticker = store.book_ticker
        self._store = store
        self._halted: dict[str, int] = {}
        store.book_ticker = self._shown  # type: ignore[method-assign]

    def halt(self, one: Bench, symbol: str) -> None:
        one.sandbox.halt(self._store.market, symbol)
        # Not at once: the last live value has to have stood for longer than the judge's step.
        self._halted[symbol] = one.clock() + 150

    def _shown(self, symbol: str, now_ms: int | None = None) -> BookTicker:
        ticker = self._book_ticker(symbol, now_ms)
        since = self._halted.get(symbol)
        now = self._store._config.clock_ms() if now_ms is None else now_ms
        if since is None or now < since:
            return ticker
        return ticker._replace(bid="0.00", bid_qty="0.00", ask="0.00", ask_qty="0.00", time_ms=since)


async def test_halted_symbol_is_not_answered_with_its_last_price_for_longer_than_quiet(
    tmp_path: Path,
) -> None:
    async with bench(
        tmp_path,
        small_exchange(ExchangeClock.before_close(30)),
        stream_quiet_s=QUIET_S,
        symbol_refresh_s=60,
    ) as one:
        stores = {market: Halted(one.store(market)) for market in MARKETS}
        watch = AgedWatch(one)
        halted = {}
        for market in MARKETS:
            other = "ETHUSD_PERP" if market is Market.CM else "ETHUSDT"
            halted[market] = watch.ticker(market, SYMBOL[market])
            watch.ticker(market, other)
        await watch.ready()
        async with watch.polling(0.05):
            await asyncio.sleep(0.5)
            for market in MARKETS:
                stores[market].halt(one, SYMBOL[market])
            at = time.monotonic()
            await asyncio.sleep(QUIET_S + 0.1)
            # From now on only what REST says, forwarded or read: an empty book.
            while time.monotonic() < at + 2 * QUIET_S + 2:
                for market in MARKETS:
                    timed = await one.book_ticker(market, SYMBOL[market])
                    row = timed.rows[0] if market is Market.CM else timed.rows
                    assert float(row["askPrice"]) == 0, (timed.cache, timed.age_ms)
                await asyncio.sleep(0.05)
        for target in halted.values():
            assert watch.hits_of(target, at, at + QUIET_S) > 5
            assert watch.oldest_ms(target, at) <= QUIET_S * 1000


@pytest.mark.parametrize("market", MARKETS)
async def test_delisted_symbol_is_forwarded_once_its_price_is_quiet(tmp_path: Path, market: Market) -> None:
    exchange = small_exchange(ExchangeClock.before_close(30), book_ticker_hz=4.0)
    async with bench(tmp_path, exchange, stream_quiet_s=QUIET_S, symbol_refresh_s=60) as one:
        targets = [
            await one.until_hit(f"{TICKERS[market]}?symbol={symbol}")
            for symbol in one.store(market).series
            if symbol.isascii()
        ]
        assert len(targets) >= 2
        one.sandbox.delist(market, SYMBOL[market])
        at, last_hit = time.monotonic(), 0.0
        while time.monotonic() < at + QUIET_S + 1.5:
            timed = await one.book_ticker(market, SYMBOL[market])
            if timed.is_hit:
                last_hit = time.monotonic()
                assert timed.age_ms <= QUIET_S * 1000
            else:
                # Binance's own word on it comes back.
                assert timed.status == 400
                assert orjson.loads(timed.body)["code"] == -1121
            await asyncio.sleep(0.05)
        assert 0 < last_hit - at <= QUIET_S + 0.2
        entry = entries(one, market)[SYMBOL[market], "bookTicker"]
        assert replace(entry, used_mono=0.0).hits >= 2


async def test_age_of_an_answer_made_of_several_counts_the_wait_for_the_slowest(tmp_path: Path) -> None:
    """A list of /local: one value is there at once, another is read by REST until its stream speaks."""
    exchange = quiet_exchange(ExchangeClock.before_close(40), book_ticker_hz=BOOK_HZ)
    async with bench(tmp_path, exchange, stream_quiet_s=QUIET_S) as one:
        busy, store = SYMBOL[Market.UM], one.store(Market.UM)
        quiet = silent_symbols(one, Market.UM, 1000)[0]
        for symbol in (busy, quiet):
            await one.until_hit(f"{TICKERS[Market.UM]}?symbol={symbol}")
        await asyncio.sleep(QUIET_S + 0.3)
        one.sandbox.faults.add(Fault("delay", match="bookTicker", times=1, seconds=1.6))
        calling = asyncio.create_task(one.get(f'/local/um/bookTicker?symbols=["{busy}","{quiet}"]'))
        await asyncio.sleep(1.4)
        await one.sandbox.burst(Market.UM, quiet, 1)
        timed = await calling
        if timed.status == 503:
            return  # an answer that says so is right, too
        (shown,) = [row for row in timed.rows if row["symbol"] == busy]
        # When it came here, what was shown had stood at most so long before.
        moments = range(timed.after_ms, timed.after_ms - timed.age_ms - SLACK_MS, -20)
        times = {store.book_ticker(busy, moment).time_ms for moment in moments}
        assert shown["time"] in times, f"{timed.after_ms - shown['time']} ms old, told {timed.age_ms}"
