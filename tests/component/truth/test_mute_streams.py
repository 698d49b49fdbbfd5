"""Streams that were acknowledged and bring nothing, while everything else of their connection goes on.

No answer is older than its own `X-Resender-Age` says, at no moment; hits are back on another connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resender.core.markets import Market
from resender.market import line as market_line
from resender.sandbox.faults import Faults
from tests.component.cache_support import (
    KLINES,
    MARKETS,
    SYMBOL,
    TICKERS,
    Bench,
    ExchangeClock,
    bench,
    side_by_side,
    small_exchange,
)
from tests.component.truth.truth_support import (
    AgedWatch,
    Subscriptions,
    age_fell_without_a_proof,
    conclude_mutes_quickly,
    entries,
    metric,
    status_of,
)
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.alone]

QUIET_S = 2.0
OTHER = {Market.SPOT: "ETHUSDT", Market.UM: "ETHUSDT", Market.CM: "ETHUSD_PERP"}
WITNESS = "^!miniTicker"
PAUSE_S = 0.08
# What of one market is watched.
KLINE, TICKER = "kline", "bookTicker"
Strike = Callable[[Faults, Market], object]


def muting(pattern: str, **options: bool) -> Strike:
    """Make a strike; {symbol} stands for the market's main symbol."""

    def strike(faults: Faults, market: Market) -> object:
        return faults.mute(market, pattern.format(symbol=SYMBOL[market].lower()), **options)

    return strike


# What falls mute, and which of the watched series then has no proof any more.
STRIKES: dict[str, tuple[Strike, set[str]]] = {
    "one kline stream": (muting("^{symbol}@kline_1m"), {"main 1m"}),
    "one book ticker": (muting("^{symbol}@bookTicker"), {"main bookTicker"}),
    "all candles of a minute": (muting("@kline_1m$"), {"main 1m", "other 1m"}),
    "all data but the witness": (
        muting("^[^!]"),
        {"main 1m", "other 1m", "main bookTicker", "other bookTicker"},
    ),
    "all data": (muting(""), {"main 1m", "other 1m", "main bookTicker", "other bookTicker"}),
}


class Watched:
    """What of each market is polled, and under which name."""

    def __init__(self, one: Bench, markets: tuple[Market, ...] = MARKETS) -> None:
        self.one = one
        self.watch = AgedWatch(one)
        self.targets: dict[tuple[Market, str], str] = {}
        for market in markets:
            for name, symbol in (("main", SYMBOL[market]), ("other", OTHER[market])):
                self.targets[market, f"{name} 1m"] = self.watch.klines(market, symbol, "1m")
                self.targets[market, f"{name} bookTicker"] = self.watch.ticker(market, symbol)

    def entry(self, market: Market, name: str) -> object:
        which, _, what = name.partition(" ")
        return entries(self.one, market)[SYMBOL[market] if which == "main" else OTHER[market], what]

    def mutes(self, market: Market, name: str) -> int:
        count: int = self.entry(market, name).mutes  # type: ignore[attr-defined]
        return count


def mutes_of(one: Bench, market: Market) -> int:
    return sum(entry.mutes for entry in entries(one, market).values())


def speaks_again(watched: Watched, key: tuple[Market, str], since: float) -> bool:
    """Tell whether a series has had an own event on a connection opened since."""
    line, entry = watched.one.cache.lines[key[0]], watched.entry(*key)
    pool = line.ticker_pool if key[1].endswith(TICKER) else line.kline_pool
    link = pool._line_of[entry.stream].link  # type: ignore[attr-defined]
    return link is not None and link.age_s() < time.monotonic() - since and line.proof(entry)[1] == "event"


@pytest.fixture(autouse=True)
def quick_mutes(monkeypatch: pytest.MonkeyPatch) -> None:
    conclude_mutes_quickly(monkeypatch)


@pytest.mark.parametrize("name", STRIKES)
async def test_mute_streams_give_no_stale_answer_and_come_back_on_another_connection(
    tmp_path: Path, name: str
) -> None:
    strike, struck = STRIKES[name]
    async with bench(
        tmp_path, small_exchange(ExchangeClock.before_close(6.0)), stream_quiet_s=QUIET_S
    ) as one:
        watched = Watched(one)
        watch = watched.watch
        await watch.ready()
        async with watch.polling(PAUSE_S):
            await asyncio.sleep(0.6)
            mark = one.mark()
            for market in MARKETS:
                strike(one.sandbox.faults, market)
            at = time.monotonic() + 0.15  # what was on its way has come
            # Where a whole connection is given up, the first one found mute helps all.
            await wait_until(lambda: all(mutes_of(one, market) for market in MARKETS), 15)
            struck_keys = [(market, each) for market in MARKETS for each in struck]
            await wait_until(lambda: all(speaks_again(watched, key, at) for key in struck_keys), 15)
            await watch.until_all_hit(8)
            took_s = time.monotonic() - at
            await asyncio.sleep(1.0)
            status = await status_of(one)
        assert watch.hits > 200
        assert not watch.errors
        for key, target in watched.targets.items():
            is_ticker = key[1].endswith(TICKER)
            if key[1] in struck:
                assert watched.mutes(*key) == 1 or (len(struck) > 1 and not watched.mutes(*key))
                # A mute book ticker is never answered for longer than it may be quiet.
                if is_ticker:
                    assert watch.oldest_ms(target, at) <= QUIET_S * 1000
            elif name.startswith("one"):
                assert not watched.mutes(*key)
                assert watch.oldest_ms(target, at) < QUIET_S * 1000
            entry = watched.entry(*key)
            told = status[entry.key]  # type: ignore[attr-defined]
            assert (told["state"], told["proof"], told["mutes"]) == (
                "live",
                "event",
                watched.mutes(*key),
            )
            assert told["age_ms"] < QUIET_S * 1000
        for market in MARKETS:
            mutes = await metric(one, "resender_streams_mute_total", market)
            assert mutes == mutes_of(one, market)
            # One small read a second and series while it was in doubt, one shared for the tickers.
            assert len(one.own_calls(KLINES[market], mark)) <= 2 * took_s + 6
            assert len(one.own_calls(TICKERS[market], mark)) <= took_s + 4


async def test_age_of_a_mute_book_ticker_grows_until_it_is_answered_no_more(tmp_path: Path) -> None:
    async with bench(
        tmp_path, small_exchange(ExchangeClock.before_close(30)), stream_quiet_s=QUIET_S
    ) as one:
        watch = AgedWatch(one)
        targets = [watch.ticker(market, SYMBOL[market]) for market in MARKETS]
        for market in MARKETS:
            watch.ticker(market, OTHER[market])
        await watch.ready()
        async with watch.polling(0.05):
            await asyncio.sleep(0.5)
            for market in MARKETS:
                muting("^{symbol}@bookTicker")(one.sandbox.faults, market)
            at = time.monotonic() + 0.15
            await asyncio.sleep(QUIET_S + 1.0)
        for target in targets:
            assert watch.hits_of(target, at) > 10
            assert watch.hits_of(target, at + QUIET_S + 0.1) == 0
            problem = age_fell_without_a_proof(watch.ages[target], at)
            assert problem is None, problem
            assert watch.oldest_ms(target, at) <= QUIET_S * 1000


async def test_age_of_a_candle_grows_while_its_stream_is_mute_and_the_witness_names_it(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30)), stream_quiet_s=8) as one:
        watch = AgedWatch(one)
        targets = [watch.klines(market, SYMBOL[market], "1m") for market in (Market.UM, Market.CM)]
        await watch.ready()
        async with watch.polling(0.05):
            await asyncio.sleep(0.5)
            for market in (Market.UM, Market.CM):
                muting("^{symbol}@kline")(one.sandbox.faults, market)
            at = time.monotonic() + 0.15
            await asyncio.sleep(1.5)
        for target in targets:
            problem = age_fell_without_a_proof(watch.ages[target], at)
            assert problem is None, problem
            # The doubt is a second and three quarters old at most before REST is asked.
            assert watch.oldest_ms(target, at) < 3000


async def test_subscription_that_never_starts_is_moved_until_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_line, "_MUTE_PAUSE_S", 1.0)
    async with bench(
        tmp_path, small_exchange(ExchangeClock.before_close(8.0)), stream_quiet_s=QUIET_S
    ) as one:
        dead = {"main 1m", "other bookTicker"}
        for market in MARKETS:
            one.sandbox.faults.never_start(market, f"^{SYMBOL[market].lower()}@kline_1m$")
            one.sandbox.faults.never_start(market, f"^{OTHER[market].lower()}@bookTicker$")
        watched = Watched(one)
        watch = watched.watch
        async with watch.polling(PAUSE_S):
            keys = [(market, name) for market in MARKETS for name in dead]
            await wait_until(lambda: len(watch.last_hit) == len(watch.targets), 12)  # REST proves them too
            await wait_until(lambda: all(watched.mutes(*key) for key in keys), 20)
            for market in MARKETS:
                one.sandbox.faults.never_start(market, f"^{SYMBOL[market].lower()}@kline_1m$", on=False)
                one.sandbox.faults.never_start(market, f"^{OTHER[market].lower()}@bookTicker$", on=False)

            def all_speak() -> bool:
                return all(one.cache.lines[key[0]].proof(watched.entry(*key))[1] == "event" for key in keys)

            await wait_until(all_speak, 25)
            await watch.until_all_hit(5)
        assert not watch.errors
        for key, target in watched.targets.items():
            if key[1] in dead:
                assert watched.mutes(*key) >= 1
            else:
                assert not watched.mutes(*key)
            if key[1].endswith(TICKER):
                assert watch.oldest_ms(target) <= QUIET_S * 1000
