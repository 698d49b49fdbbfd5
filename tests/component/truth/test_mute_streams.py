"""Streams that were acknowledged and bring nothing, while everything else of their connection goes on.

No answer is older than its own `X-Resender-Age` says, at no moment; hits are back on another connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.market import BookTickers, Klines
from resender.market import market_state as market_line
from resender.sandbox import Sandbox
from resender.sandbox.faults import Faults
from tests.support.cache_bench import (
    KLINES,
    MARKETS,
    SYMBOL,
    TICKERS,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    small_exchange,
)
from tests.support.cache_watch import (
    MINUTE_MS,
    AgedWatch,
    Subscriptions,
    age_fell_without_a_proof,
    conclude_mutes_quickly,
    entries,
    metric,
    quiet_exchange,
    quiet_names,
    silent_symbols,
    status_of,
    until_ms,
)
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

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

    def entry(self, market: Market, name: str) -> Any:
        which, _, what = name.partition(" ")
        return entries(self.one, market)[SYMBOL[market] if which == "main" else OTHER[market], what]

    def mutes(self, market: Market, name: str) -> int:
        count: int = self.entry(market, name).mutes
        return count


def mutes_of(one: Bench, market: Market) -> int:
    return sum(entry.mutes for entry in entries(one, market).values())


def speaks_again(watched: Watched, key: tuple[Market, str], since: float) -> bool:
    """Tell whether a series has had an own event on a connection opened since."""
    line, entry = watched.one.cache.states[key[0]], watched.entry(*key)
    pool = line.kind(BookTickers).feed.pool if key[1].endswith(TICKER) else line.kind(Klines).feed.pool
    link = pool._slot_of[entry.stream].link
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
            told = status[entry.key]
            assert (told["state"], told["proof"], told["mutes"]) == (
                "live",
                "event",
                watched.mutes(*key),
            )
            assert told["age_ms"] < QUIET_S * 1000
        for market in MARKETS:
            mutes = await metric(one, "resender_streams_mute_total", market)
            # The witness' own stream counts, too.
            assert mutes_of(one, market) <= mutes <= mutes_of(one, market) + 1
            # One small read a second and series while it was in doubt, one shared for the tickers.
            assert len(one.own_calls(KLINES[market], mark)) <= 2 * took_s + 6
            assert len(one.own_calls(TICKERS[market], mark)) <= took_s + 4


async def test_age_of_a_mute_book_ticker_grows_until_it_is_answered_no_more(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30)), stream_quiet_s=QUIET_S) as one:
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
            assert watch.hits_of(target, at + QUIET_S + 0.4) == 0
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
            await asyncio.sleep(1.8)
        for target in targets:
            problem = age_fell_without_a_proof(watch.ages[target], at)
            assert problem is None, problem
            # REST is asked when the doubt is some two seconds old.
            assert watch.oldest_ms(target, at) < 4000


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
                return all(one.cache.states[key[0]].proof(watched.entry(*key))[1] == "event" for key in keys)

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


async def test_exchange_that_is_mute_everywhere_is_asked_little_and_answered_for_by_rest_alone(
    tmp_path: Path,
) -> None:
    async with bench(
        tmp_path, small_exchange(ExchangeClock.before_close(9.0)), stream_quiet_s=QUIET_S
    ) as one:
        watched = Watched(one)
        watch = watched.watch
        await watch.ready()
        counted, mark, begun = Subscriptions(one), one.mark(), time.monotonic()
        tickers = [key for key in watched.targets if key[1].endswith(TICKER)]
        spells = 0
        async with watch.polling(0.3):
            for market in MARKETS:
                one.sandbox.faults.mute(market, "", everywhere=True)
            while time.monotonic() < begun + 45:
                if all(watched.mutes(*key) for key in tickers) and spells >= 3:
                    break
                spells += await mute_spells(watched)
        passed_s = time.monotonic() - begun
        assert all(watched.mutes(*key) for key in tickers)
        assert spells >= 3
        assert watch.misses["miss; stream mute"] > 10
        # Candles: REST proves them a while longer, then nothing is read for what no stream supports.
        assert watch.misses["miss; stream not proven"] > 50
        assert not watch.errors
        for key in tickers:
            assert watch.oldest_ms(watched.targets[key]) <= QUIET_S * 1000
        for market in MARKETS:
            # Two series: a read a second while REST proves them, one for each connection afterwards.
            handshakes = counted.handshakes(market)
            assert len(one.own_calls(KLINES[market], mark)) <= 2 * (2 * QUIET_S + 3 + handshakes)
            assert len(one.own_calls(TICKERS[market], mark)) <= passed_s + 2
            assert handshakes <= 4 + passed_s / 3
            assert max(counted.names[market].values()) <= 4 + passed_s / 4


async def mute_spells(watched: Watched) -> int:
    """Watch for a second what is mute; each call of it goes up and no candle is read. Tell how many book tickers."""
    one = watched.one
    before = {key: (entry, entry.mutes) for key in watched.targets if (entry := watched.entry(*key)).is_mute}
    if before:
        status = await status_of(one)
        states = {status[entry.key]["state"] for entry, _ in before.values() if entry.is_mute}
        assert states <= {"mute", "connecting"}
    mark, at = one.mark(), time.monotonic()
    await asyncio.sleep(1.0)
    seen = 0
    for key, (entry, mutes) in before.items():
        if not entry.is_mute or entry.mutes != mutes:
            continue  # moved meanwhile
        assert not watched.watch.hits_of(watched.targets[key], at + 0.05)
        if not key[1].endswith(TICKER):
            own = [call for call in one.own_calls(KLINES[key[0]], mark) if f"={entry.symbol}&" in call.query]
            assert not own
        seen += key[1].endswith(TICKER)
    return seen


async def test_exchange_that_speaks_again_after_all_was_mute_is_believed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_line, "_MUTE_PAUSE_S", 1.0)
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(20)), stream_quiet_s=QUIET_S) as one:
        watched = Watched(one, (Market.UM,))
        watch = watched.watch
        await watch.ready()
        async with watch.polling(PAUSE_S):
            one.sandbox.faults.mute(Market.UM, "^[^!]", everywhere=True)
            await wait_until(lambda: all(watched.mutes(*key) for key in watched.targets), 20)
            one.sandbox.faults.unmute(Market.UM)
            assert await watch.until_all_hit(6) < 5

            def speaks(key: tuple[Market, str]) -> bool:
                return one.cache.states[key[0]].proof(watched.entry(*key))[1] == "event"

            await wait_until(lambda: all(speaks(key) for key in watched.targets), 10)


# -- the witness --------------------------------------------------------------------------------


async def test_mute_witness_of_a_market_is_subscribed_again(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(40)), stream_quiet_s=QUIET_S) as one:
        watched = Watched(one)
        watch = watched.watch
        lines = [one.cache.states[market] for market in MARKETS]
        await watch.ready()
        await wait_until(lambda: all(line.kind(Klines).witness.is_current for line in lines))
        async with watch.polling(PAUSE_S):
            for market in MARKETS:
                assert one.sandbox.faults.mute(market, WITNESS) == 1
            await wait_until(lambda: not any(line.kind(Klines).witness.is_current for line in lines), 6)
            await wait_until(lambda: all(line.kind(Klines).witness.is_current for line in lines), 20)
        assert not watch.misses


@pytest.mark.parametrize("trouble", ["mute", "refused"])
async def test_without_a_witness_quiet_series_are_proven_by_few_reads(tmp_path: Path, trouble: str) -> None:
    async with bench(tmp_path, quiet_exchange(ExchangeClock.before_close(30)), stream_quiet_s=3) as one:
        watch = AgedWatch(one)
        silent = {}
        for market in MARKETS:
            line = one.cache.states[market]
            if trouble == "mute":
                one.sandbox.faults.mute(market, WITNESS, everywhere=True)
            else:
                line.watch_feed.pool.path = "/nowhere"
            # One that is traded, so that the connection is known to bring something.
            watch.klines(market, SYMBOL[market], "1m")
            silent[market] = silent_symbols(one, market, 25_000)[:4]
            assert len(silent[market]) == 4
            for symbol in silent[market]:
                watch.klines(market, symbol, "1m")
        await watch.ready()
        mark, begun = one.mark(), time.monotonic()
        async with watch.polling(0.1):
            await asyncio.sleep(12)
            status = await status_of(one)
        passed_s = time.monotonic() - begun
        assert not watch.misses
        proofs = {told["proof"] for (_, symbol, _), told in status.items() if symbol.startswith("Q")}
        assert proofs == {"rest"}
        for market in MARKETS:
            assert not one.cache.states[market].kind(Klines).witness.is_current
            # One read for each quiet time and series, twice as long on spot.
            quiet_s = 6 if market is Market.SPOT else 3
            reads = len(one.own_calls(KLINES[market], mark))
            assert reads <= len(silent[market]) * (passed_s / quiet_s + 1)
            assert not mutes_of(one, market)


async def test_stream_that_brings_what_rest_knew_only_late_is_not_mute(tmp_path: Path) -> None:
    """The last trades of a minute come with its final event, seconds late, and the next minute has none."""
    market = Market.UM
    async with quiet_after_a_close(8.0) as (sandbox, symbol, close):
        async with gateway_on(tmp_path, sandbox, stream_quiet_s=QUIET_S) as one:
            watch = AgedWatch(one)
            target = watch.klines(market, symbol, "1m")
            watch.klines(market, SYMBOL[market], "1m")
            await watch.ready()
            sandbox.faults.stream(market).final_delay = 2900.0
            async with watch.polling(0.2):
                # Only what is traded last is told late: what REST knew earlier would be unheard for too long.
                await until_ms(one, close - 1200)
                sandbox.faults.mute(market, f"^{symbol.lower()}@kline")
                await until_ms(one, close + 500)
                sandbox.faults.unmute(market)
                # REST has been asked before the final event came.
                await wait_until(lambda: entries(one, market)[symbol, "1m"].unheard_ms, 3)
                await until_ms(one, close + 3200)
                at = time.monotonic()
                await until_ms(one, close + 6500)
            assert watch.hits_of(target, at) > 8, watch.misses
            assert not mutes_of(one, market)
            assert not watch.errors


@asynccontextmanager
async def quiet_after_a_close(lead_s: float) -> AsyncIterator[tuple[Sandbox, str, int]]:
    """Run an exchange on which a USD-M symbol is traded until a close to come and not in the minute after it."""
    clock = ExchangeClock.before_close(lead_s)
    while True:
        async with Sandbox(quiet_exchange(clock)) as sandbox:
            close = (clock() // MINUTE_MS + 1) * MINUTE_MS
            for symbol in quiet_names(Market.UM):
                series = sandbox.market(Market.UM).series[symbol]
                is_quiet_then = not series.has_traded(close, close + MINUTE_MS)
                if is_quiet_then and series.has_traded(close - 1000, close):
                    yield sandbox, symbol, close
                    return
        clock.shift_ms -= MINUTE_MS
