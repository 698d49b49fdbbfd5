"""Newest trades and last prices over TLS: every hit is the exchange's own history, whatever strikes it.

Clients poll from the first second on. A hit is judged byte for byte by what the exchange lists for the ids
it shows, and by what had been traded before the age it tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import orjson
import pytest

from resender.core.binance.endpoints import AGG_TRADES, PRICES, TRADES
from resender.core.binance.markets import Market
from resender.market.kinds.trades import AggTrades, Trades
from resender.sandbox import SandboxConfig, trades
from tests.support.authority import client_context
from tests.support.cache_bench import MARKETS, SYMBOL, Bench, ExchangeClock, bench, small_exchange
from tests.support.cache_judge import Timed
from tests.support.cache_watch import Watch, conclude_mutes_quickly
from tests.support.client import call
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.alone]

QUIET = "NKNUSDT"
SPOT = Market.SPOT
HOSTS = {Market.SPOT: "UPSTREAM_API", Market.UM: "UPSTREAM_FAPI", Market.CM: "UPSTREAM_DAPI"}


@dataclass
class TradesWatch(Watch):
    """A watch of trades and prices. Units: `lag_ms` milliseconds REST may trail behind meanwhile."""

    lag_ms: int = 0
    # What the exchange says of each id, and the answers to be compared with it at the end.
    known: dict[tuple[Market, str, bool, int], bytes | None] = field(default_factory=dict)
    shown: dict[str, Timed] = field(default_factory=dict)

    def rows(self, market: Market, symbol: str, limit: int, *, single: bool = False) -> str:
        path = (TRADES if single else AGG_TRADES)[market]
        target = f"{path}?symbol={symbol}&limit={limit}"
        judge = partial(self._rows_problem, target, market, symbol, limit, single)
        self._jobs.append((target, judge))
        return target

    def prices(self, *symbols: str) -> str:
        names = "%2C".join(f"%22{symbol}%22" for symbol in symbols)
        query = f"symbol={symbols[0]}" if len(symbols) == 1 else f"symbols=%5B{names}%5D"
        target = f"{PRICES[SPOT]}?{query}"
        self._jobs.append((target, partial(self._prices_problem, symbols)))
        return target

    def _row(self, market: Market, symbol: str, single: bool, number: int) -> bytes | None:
        key = (market, symbol, single, number)
        if key not in self.known:
            store = self.one.store(market)
            if single:
                trade = trades.trade_at(store, symbol, number)
                row = None if trade is None else trades.trade_row(store, symbol, trade)
            else:
                aggregate = trades.aggregate_at(store, symbol, number)
                row = None if aggregate is None else trades.aggregate_row(store, symbol, aggregate)
            self.known[key] = None if row is None else orjson.dumps(row)
        return self.known[key]

    def _since(self, timed: Timed) -> int:
        return timed.before_ms - timed.age_ms - self._slack() - self.lag_ms

    def _rows_problem(
        self, target: str, market: Market, symbol: str, limit: int, single: bool, timed: Timed
    ) -> str | None:
        self.shown[target] = timed
        newest = timed.rows[-1]["id" if single else "a"]
        wanted: list[bytes] = []
        number = newest
        while len(wanted) < limit:
            if (row := self._row(market, symbol, single, number)) is not None:
                wanted.append(row)
            number -= 1
        if timed.body != b"[%b]" % b",".join(reversed(wanted)):
            return f"{target}: not the rows of the exchange: {timed.body[-700:]!r}, {wanted[0]!r}"
        last_id = trades.last_trade_id if single else trades.last_aggregate_id
        store = self.one.store(market)
        due, latest = (last_id(store, symbol, at) for at in (self._since(timed), timed.after_ms))
        missing = [one for one in range(newest + 1, due + 1) if self._row(market, symbol, single, one)]
        if missing or newest > latest:
            return f"{target}: age {timed.age_ms}, up to {newest} of {latest}, missing {missing}"
        return None

    def _prices_problem(self, symbols: tuple[str, ...], timed: Timed) -> str | None:
        rows = timed.rows if len(symbols) > 1 else [timed.rows]
        if [row["symbol"] for row in rows] != list(symbols):
            return f"prices of other symbols: {timed.body!r}"
        store = self.one.store(SPOT)
        for row in rows:
            symbol = row["symbol"]
            first, last = (
                trades.last_trade_id(store, symbol, at) for at in (self._since(timed), timed.after_ms)
            )
            told = [self._row(SPOT, symbol, True, one) for one in range(first, last + 1)]
            if row["price"] not in {orjson.loads(each)["price"] for each in told if each is not None}:
                return f"{row}, age {timed.age_ms}, is no price of {first} to {last}"
        return None

    async def assert_shown_by_rest(self) -> int:
        """Compare the newest hit of each target with what the exchange itself lists from its first id on."""
        compared = 0
        for target, timed in self.shown.items():
            path, _, query = target.partition("?")
            (market,) = (each for each in MARKETS if path in (AGG_TRADES[each], TRADES.get(each)))
            rows = timed.rows
            first = rows[0].get("a", rows[0].get("id"))
            port = int(self.one.sandbox.urls[HOSTS[market]].rpartition(":")[2])
            direct = f"{path.replace('/trades', '/historicalTrades')}?{query}&fromId={first}"
            reply = await call(port, "GET", direct, context=client_context())
            assert reply.status == 200, reply.body
            assert reply.body == timed.body
            compared += 1
        return compared


def exchange_of(**options: object) -> SandboxConfig:
    limits = {"spot": 10**7, "futures": 10**7}
    return small_exchange(ExchangeClock.before_close(50), weight_limits=limits, **options)


def watch_all(one: Bench) -> TradesWatch:
    watch = TradesWatch(one)
    for market in MARKETS:
        for limit in (1, 500, 1000):
            watch.rows(market, SYMBOL[market], limit)
    watch.rows(Market.UM, QUIET, 500)
    for limit in (1, 500, 1000):
        watch.rows(SPOT, "BTCUSDT", limit, single=True)
    watch.prices("BTCUSDT")
    watch.prices(QUIET)
    watch.prices("BTCUSDT", "ETHUSDT", QUIET)
    return watch


def lose_events(one: Bench, count: int) -> None:
    """Lose the next events of the busy symbols."""
    for market in MARKETS:
        one.sandbox.faults.stream(market).lose_next |= {
            f"{SYMBOL[market].lower()}@aggTrade": count,
            "btcusdt@trade": count,
        }


def are_lost(one: Bench) -> bool:
    left = [one.sandbox.faults.stream(market).lose_next for market in MARKETS]
    return not any(count for each in left for name, count in each.items() if name != "btcusdt@trade") and (
        not left[0]["btcusdt@trade"]
    )


def holes(one: Bench) -> list[int]:
    states = one.cache.states
    return [*(states[market].kind(AggTrades).holes for market in MARKETS), states[SPOT].kind(Trades).holes]


def let_rest_trail(watch: TradesWatch, lag_ms: int) -> None:
    for market in MARKETS:
        watch.one.sandbox.faults.stream(market).trades_lag_ms = lag_ms
    watch.lag_ms = max(watch.lag_ms, lag_ms)


async def test_every_hit_is_the_exchanges_history_through_all_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conclude_mutes_quickly(monkeypatch)
    async with bench(tmp_path, exchange_of()) as one:
        watch = watch_all(one)
        faults = one.sandbox.faults
        async with watch.polling(0.05):
            await watch.until_all_hit(15)
            assert holes(one) == [0, 0, 0, 0]
            lose_events(one, 3)
            await wait_until(lambda: are_lost(one), 10)
            await wait_until(lambda: min(holes(one)) > 0, 10)
            await watch.until_all_hit(15)
            for market in MARKETS:
                faults.drop_streams(market)
            await watch.until_all_hit(15)
            let_rest_trail(watch, 800)
            lose_events(one, 2)
            faults.drop_streams(Market.UM)
            await wait_until(lambda: are_lost(one), 10)
            await watch.until_all_hit(15)
            let_rest_trail(watch, 0)
            for market in MARKETS:
                faults.mute(market, "(?i)^btcusd(t|_perp)@(aggTrade|trade)$")
            states = one.cache.states
            await wait_until(lambda: all(states[market].mutes for market in MARKETS), 20)
            await watch.until_all_hit(15)
        assert not watch.errors
        assert watch.hits > 100
        assert await watch.assert_shown_by_rest() == 13
        assert not one.sandbox.violations


async def test_natural_holes_of_futures_are_told_as_rest_shows_them(tmp_path: Path) -> None:
    async with bench(tmp_path, exchange_of(aggregate_holes=True)) as one:
        watch = TradesWatch(one)
        for market in (Market.UM, Market.CM):
            for limit in (1, 500, 1000):
                watch.rows(market, SYMBOL[market], limit)
        async with watch.polling(0.05):
            await watch.until_all_hit(15)
            # One in sixteen is missing, and some of those come while nothing is known.
            await wait_until(lambda: holes(one)[1] > 0, 60)
            await watch.until_all_hit(15)
        assert not watch.errors
        for target in watch.targets:
            if "limit=1000" in target:
                ids = [row["a"] for row in watch.shown[target].rows]
                assert ids[-1] - ids[0] > 1000
        assert await watch.assert_shown_by_rest() == 6


async def test_calls_of_ranges_and_of_all_symbols_are_forwarded(tmp_path: Path) -> None:
    async with bench(tmp_path, exchange_of()) as one:
        target = f"{AGG_TRADES[SPOT]}?symbol=BTCUSDT&limit=5"
        rows = (await one.until_hit(target)).rows
        for query, reason in (
            (f"fromId={rows[0]['a']}", "range not held"),
            (f"startTime={rows[0]['T']}", "range not held"),
            ("x=1", "odd parameter"),
        ):
            timed = await one.get(f"{target}&{query}")
            assert reason in timed.cache
        assert (await one.get(f"{AGG_TRADES[Market.UM]}?symbol=BTCUSDT&limit=1001")).status == 400
        assert "all symbols" in (await one.get(PRICES[SPOT])).cache


Judge = Callable[[Timed], str | None]


async def test_hit_that_lacks_or_doubles_a_trade_is_noticed(tmp_path: Path) -> None:
    async with bench(tmp_path, exchange_of()) as one:
        watch = TradesWatch(one)
        targets = [watch.rows(SPOT, "BTCUSDT", 5), watch.rows(SPOT, "BTCUSDT", 5, single=True)]
        targets.append(watch.prices("BTCUSDT"))
        judges: list[Judge] = [judge for _, judge in watch._jobs]
        for target, judge in zip(targets, judges, strict=True):
            timed = await one.until_hit(target)
            assert judge(timed) is None
            late = Timed(timed.reply, timed.before_ms + 30_000, timed.after_ms + 30_000)
            assert judge(late) is not None, "too old"
            rows = timed.rows
            wrong = [{**rows, "price": "1.00000000"}] if isinstance(rows, dict) else []
            if isinstance(rows, list):
                wrong = [rows[:2] + rows[3:], [*rows[:4], rows[3]], [rows[0], *rows[:4]], rows[::-1]]  # type: ignore[list-item]
            for each in wrong:
                timed.reply.body = orjson.dumps(each)
                assert judge(timed) is not None
