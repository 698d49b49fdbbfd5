"""The market cache: what is begun for whom, what rules keep, and what is dropped again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resender.aio import Clock
from resender.core.binance.endpoints import BOOK_TICKERS, KLINES
from resender.core.binance.markets import Market
from resender.core.market.preload import parse_rule
from resender.core.market.requests import KlineRequest, Miss
from resender.market import CACHED_MARKETS, PATHS, BookTickers, CacheOptions, Hit, Klines, MarketCache
from resender.market.candle_files import CandleFiles
from resender.market.candle_saving import CandleSaving
from resender.market.kinds import KINDS
from tests.support.market_fakes import MINUTE, T0, World, kline_event

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
STREAM = "btcusdt@kline_1m"


class Cached:
    """A cache on a made-up exchange that is the same for all markets."""

    def __init__(self, world: World, files: CandleSaving | None = None, **options: Any) -> None:
        self.world = world
        values = {"depth": 30, **options}
        self.limits: list[tuple[Market, int]] = []
        self.cache = MarketCache(
            CacheOptions(**values),
            door=world.door,
            feeds=world.feeds,
            clock=world.clock,
            tasks=world.tasks,
            files=files,
            on_limit=lambda *told: self.limits.append(told),
        )
        self.cache.start()

    def rules(self, *texts: str) -> None:
        parts = [text.split(":") for text in texts]
        self.cache.set_rules([parse_rule(market, symbols, what) for market, symbols, what in parts])

    def kept(self, market: Market = UM) -> list[tuple[str, str]]:
        return [(kept.symbol, kept.what) for kept in self.cache.states[market].entries()]

    async def ask(self, symbol: str = "BTCUSDT", interval: str = "1m", market: Market = UM) -> Hit | Miss:
        request = KlineRequest(market, symbol, interval, 5, None, None)
        found = self.cache.answer(KLINES[market], request, packed=False)
        return found if isinstance(found, Hit | Miss) else await found

    async def ready(self, market: Market = UM) -> None:
        self.cache.states[market].start()
        await self.world.settle()


@pytest.fixture
async def cached(world: World) -> AsyncIterator[Cached]:
    made = Cached(world)
    yield made
    await made.cache.stop()


# -- beginning ------------------------------------------------------------------------------------


async def test_nothing_is_asked_of_an_exchange_before_something_is_wanted(cached: Cached) -> None:
    await cached.world.until(600_000)
    assert cached.world.door.targets == []
    assert not any(state.is_started for state in cached.cache.states.values())


async def test_every_path_is_answered_by_the_kind_of_its_market(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    for market in CACHED_MARKETS:
        for wanted in KINDS:
            if wanted.words(market):
                kind = cached.cache.kind(wanted, market)
                assert (type(kind), kind.market) == (wanted, market)
                answer = partial(_note, asked, (wanted, market))
                monkeypatch.setattr(kind, "answer", answer)
    for path, at in PATHS.items():
        cached.cache.answer(path, path, packed=True, max_age_ms=7)
        assert asked.pop() == ((at.kind, at.market), path, {"packed": True, "max_age_ms": 7})
    for market in CACHED_MARKETS:
        for path, wanted in ((KLINES[market], Klines), (BOOK_TICKERS[market], BookTickers)):
            cached.cache.answer(path, path, packed=False)
            assert asked.pop() == ((wanted, market), path, {"packed": False, "max_age_ms": 0})


def _note(asked: list[tuple[Any, ...]], who: Any, request: Any, **options: Any) -> Miss:
    asked.append((who, request, options))
    return Miss("noted")


async def test_first_call_begins_and_a_later_one_is_answered_from_memory(cached: Cached) -> None:
    world = cached.world
    await world.until(30_000)
    reasons = [str((await cached.ask()).reason)]  # type: ignore[union-attr]
    await world.settle()
    reasons.append(str((await cached.ask()).reason))  # type: ignore[union-attr]
    feed = world.feeds.feed(UM, "kline")
    feed.live(STREAM)
    await world.settle()
    feed.send(STREAM, kline_event(T0, world.now_ms))
    assert reasons == ["starting", "stream not live"]
    assert isinstance(await cached.ask(), Hit)
    assert (cached.cache.hits, cached.cache.misses) == (1, 2)
    assert cached.cache.miss_reasons == {"starting": 1, "stream not live": 1}


async def test_symbol_the_exchange_does_not_trade_is_not_kept(cached: Cached) -> None:
    await cached.ready()
    assert await cached.ask("GONEUSDT") == Miss("unknown symbol")
    assert cached.kept() == []


async def test_no_more_series_are_begun_on_demand_than_allowed_in_all_markets(world: World) -> None:
    cached = Cached(world, max_on_demand=2)
    await cached.ready(UM)
    await cached.ready(SPOT)
    assert await cached.ask("BTCUSDT") == Miss("not held yet")
    assert await cached.ask("BTCUSDT", market=SPOT) == Miss("not held yet")
    assert await cached.ask("ETHUSDT") == Miss("too many series")
    assert await cached.ask("BTCUSDT") == Miss("stream not live"), "one that is kept is no new one"
    cached.rules("um:ETHUSDT:1m")
    assert ("ETHUSDT", "1m") in cached.kept(), "rules do not count"


async def test_limit_counts_what_was_asked_for_while_the_symbols_are_unknown(world: World) -> None:
    cached = Cached(world, max_on_demand=2)
    world.door.held.clear()
    reasons = [await cached.ask(f"S{number}USDT") for number in range(4)]
    assert reasons == [Miss("starting")] * 2 + [Miss("too many series")] * 2


async def test_limit_holds_for_all_markets_together_while_none_knows_its_symbols(world: World) -> None:
    cached = Cached(world, max_on_demand=1)
    world.door.held.clear()
    reasons = [await cached.ask("BTCUSDT", market=market) for market in CACHED_MARKETS]
    assert reasons == [Miss("starting"), Miss("too many series"), Miss("too many series")]
    world.door.held.set()
    await world.settle()
    assert sum(state.on_demand for state in cached.cache.states.values()) == 1


# -- rules ----------------------------------------------------------------------------------------


async def test_rules_keep_what_they_name_once_the_symbols_are_known(cached: Cached) -> None:
    cached.rules("um:BTCUSDT,ETHUSDT:1m,bookTicker", "um:GONEUSDT:1m")
    assert cached.kept() == []
    await cached.world.settle()
    assert sorted(cached.kept()) == [
        ("BTCUSDT", "1m"), ("BTCUSDT", "bookTicker"), ("ETHUSDT", "1m"), ("ETHUSDT", "bookTicker"),
    ]  # fmt: skip
    assert cached.kept(SPOT) == []
    assert cached.cache.states[UM].on_demand == 0


async def test_rule_for_all_symbols_takes_new_ones_and_lets_go_of_those_that_are_gone(cached: Cached) -> None:
    cached.rules("um:*:1m")
    await cached.world.settle()
    assert len(cached.kept()) == 3
    cached.world.door.symbols.append("NEWUSDT")
    cached.world.door.symbols.remove("NKNUSDT")
    await cached.world.until(72_000)
    assert sorted(symbol for symbol, _ in cached.kept()) == ["BTCUSDT", "ETHUSDT", "NEWUSDT"]


async def test_rule_that_is_taken_back_drops_what_nobody_asked_for(cached: Cached) -> None:
    cached.rules("um:BTCUSDT,ETHUSDT:1m")
    await cached.world.settle()
    await cached.ask("BTCUSDT")
    cached.rules()
    assert cached.kept() == [("BTCUSDT", "1m")]
    assert cached.cache.states[UM].on_demand == 1


async def test_weight_limit_an_exchange_tells_is_passed_on(cached: Cached) -> None:
    await cached.ready(CM)
    assert cached.limits == [(CM, 2400)]


# -- what no rule stands behind --------------------------------------------------------------------


def on_demand(cached: Cached) -> int:
    """Return how many series are kept on demand, as counted and as they are."""
    for state in cached.cache.states.values():
        assert state.on_demand == sum(not kept.is_preload for kept in state.entries())
    return sum(state.on_demand for state in cached.cache.states.values())


async def test_series_a_rule_takes_over_counts_no_more_until_it_lets_go(world: World) -> None:
    cached = Cached(world, idle_minutes=10)
    await cached.ready()
    for symbol in ("BTCUSDT", "ETHUSDT") * 2:
        await cached.ask(symbol)
    counts = [on_demand(cached)]
    for rules in (["um:BTCUSDT:1m"], ["um:BTCUSDT:1m,bookTicker"], ["um:BTCUSDT:1m"], []):
        for _ in range(2):  # the same again changes nothing
            cached.rules(*rules)
            counts.append(on_demand(cached))
    assert counts == [2, 1, 1, 1, 1, 1, 1, 2, 2]
    await world.until(12 * MINUTE)
    assert (on_demand(cached), cached.kept()) == (0, [])


async def test_series_a_rule_lets_go_that_nobody_asked_for_leaves_no_count_behind(cached: Cached) -> None:
    cached.rules("um:*:1m", "spot:BTCUSDT:bookTicker")
    await cached.world.settle()
    assert (on_demand(cached), len(cached.kept())) == (0, 3)
    cached.rules("um:ETHUSDT:1m")
    assert (on_demand(cached), cached.kept(), cached.kept(SPOT)) == (0, [("ETHUSDT", "1m")], [])


async def test_series_that_is_not_traded_any_more_leaves_no_count_behind(cached: Cached) -> None:
    await cached.ready()
    await cached.ask("NKNUSDT")
    await cached.ask("ETHUSDT")
    cached.rules("um:NKNUSDT:bookTicker")
    assert on_demand(cached) == 2
    cached.world.door.symbols.remove("NKNUSDT")
    await cached.world.until(72_000)
    assert (on_demand(cached), cached.kept()) == (1, [("ETHUSDT", "1m")])


async def test_room_a_rule_makes_is_there_for_another_series(world: World) -> None:
    cached = Cached(world, max_on_demand=1)
    await cached.ready()
    for _ in range(2):
        await cached.ask("BTCUSDT")
    assert await cached.ask("ETHUSDT") == Miss("too many series")
    cached.rules("um:BTCUSDT:1m")
    assert await cached.ask("ETHUSDT") == Miss("not held yet")
    assert await cached.ask("NKNUSDT") == Miss("too many series")
    cached.rules()
    assert on_demand(cached) == 2, "what is kept stays, though it is one too many"
    assert await cached.ask("NKNUSDT") == Miss("too many series")


async def test_rule_for_what_was_asked_for_before_the_symbols_were_known_counts_it_once(
    cached: Cached,
) -> None:
    cached.world.door.held.clear()
    await cached.ask("BTCUSDT")
    await cached.ask("ETHUSDT")
    cached.rules("um:BTCUSDT:1m")
    cached.world.door.held.set()
    await cached.world.settle()
    assert (on_demand(cached), len(cached.kept())) == (1, 2)


# -- while candles close ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_minute_kept", [True, False])
async def test_older_rows_wait_while_candles_of_what_is_kept_close(
    world: World, is_minute_kept: bool
) -> None:
    await world.until(90_000)
    cached = Cached(world, depth=1500)
    cached.rules("um:BTCUSDT:1m", "um:ETHUSDT:3m")
    await world.settle()
    if not is_minute_kept:
        cached.rules("um:ETHUSDT:3m")

    def states() -> list[str]:
        return [kept.state for kept in cached.cache.states[UM].entries()]

    await world.until(118_000)  # two seconds later a minute ends, and no three minutes do
    world.feeds.feed(UM, "kline").live()
    await world.until(129_500)
    assert states() == (["filling"] * 2 if is_minute_kept else ["live"])
    await world.until(131_000)
    assert set(states()) == {"live"}
    await cached.cache.stop()


async def test_symbols_are_read_again_when_no_candle_closes(world: World) -> None:
    await world.until(58_500)
    cached = Cached(world)
    cached.rules("um:BTCUSDT:1m")
    await world.until(129_500)
    path = KLINES[UM].replace("klines", "exchangeInfo")
    assert len(world.door.asked(path)) == 1
    await world.until(131_000)
    assert len(world.door.asked(path)) == 2


async def test_series_nobody_wants_any_more_are_dropped_when_no_candle_closes(world: World) -> None:
    cached = Cached(world, idle_minutes=0.95)
    await cached.ready()
    await cached.ask()
    cached.rules("um:ETHUSDT:1m")
    await world.until(69_500)
    assert len(cached.kept()) == 2
    await world.until(70_500)
    assert cached.kept() == [("ETHUSDT", "1m")]


async def test_saving_is_told_of_the_closes_by_the_exchanges_clock(world: World, tmp_path: Path) -> None:
    files = CandleSaving(
        CandleFiles(tmp_path / "c" / "x"), save_every_s=300.0, clock=world.clock, tasks=world.tasks
    )
    cached = Cached(world, files)
    cached.rules("um:BTCUSDT:1m")
    await world.until(30_000)
    assert files._pause_s() == 0
    mono = world.clock.mono()
    cached.cache.states[UM].facts.server.set(T0 + 2 * MINUTE + 4000, mono, mono)
    assert files._pause_s() == pytest.approx(6, abs=0.01)
    await cached.cache.stop()


# -- idle -----------------------------------------------------------------------------------------


async def test_what_nobody_asks_for_any_more_is_dropped(world: World) -> None:
    cached = Cached(world, idle_minutes=10)
    cached.rules("um:ETHUSDT:1m")
    await cached.ready()
    await cached.ask("BTCUSDT")
    await cached.ask("NKNUSDT")
    for minute in range(1, 13):
        await world.until(minute * MINUTE)
        await cached.ask("NKNUSDT")
    assert sorted(cached.kept()) == [("ETHUSDT", "1m"), ("NKNUSDT", "1m")]
    assert STREAM not in world.feeds.feed(UM, "kline").listeners


async def test_what_a_rule_kept_stays_for_the_idle_time_after_the_rule_is_gone(world: World) -> None:
    cached = Cached(world, idle_minutes=10)
    cached.rules("um:BTCUSDT:1m")
    await cached.ready()
    await cached.ask("BTCUSDT")
    await world.until(30 * MINUTE)
    cached.rules()
    await world.until(35 * MINUTE)
    assert cached.kept() == [("BTCUSDT", "1m")]
    await world.until(41 * MINUTE)
    assert cached.kept() == []


# -- files ----------------------------------------------------------------------------------------


async def test_candles_of_the_last_run_are_there_before_anything_is_read(
    world: World, tmp_path: Path
) -> None:
    await world.until(30_000)

    def files() -> CandleSaving:
        clock = Clock(now_ms=lambda: world.now_ms)
        return CandleSaving(
            CandleFiles(tmp_path / "c" / "x"), save_every_s=300.0, clock=clock, tasks=world.tasks
        )

    first = Cached(world, files())
    first.rules("um:BTCUSDT:1m")
    await world.settle()
    await asyncio.to_thread(lambda: None)
    world.feeds.feed(UM, "kline").live(STREAM)
    await world.until(31_000)
    await first.cache.stop()
    del world.door.targets[:]
    second = Cached(world, files())
    second.rules("um:BTCUSDT:1m")
    await world.settle()
    while second.cache.states[UM].kind(Klines).kept["BTCUSDT", "1m"].is_reading:
        await asyncio.to_thread(lambda: None)
    (kept,) = second.cache.states[UM].entries()
    assert kept.rows >= 29
    assert world.door.asked(KLINES[UM]) == []
    world.feeds.feed(UM, "kline").live(STREAM)
    await world.settle()
    (target,) = world.door.asked(KLINES[UM])
    assert int(target.partition("limit=")[2]) < 10, "only what came since is read"
    await second.cache.stop()


async def test_calls_that_go_to_the_exchange_are_counted_by_reason(cached: Cached) -> None:
    cached.cache.count_miss("limit")
    cached.cache.miss(None, "limit")
    assert (cached.cache.misses, cached.cache.miss_reasons["limit"]) == (2, 2)


async def test_order_books_and_trades_that_somebody_asked_for_are_fewer_than_other_series(
    world: World,
) -> None:
    cached = Cached(world, max_on_demand=20, max_on_demand_books=3)
    await cached.ready()
    symbols = list(cached.cache.states[UM].symbols.tradable)
    for word, symbol in (("depth20", symbols[0]), ("depth", symbols[0]), ("aggTrade", symbols[1])):
        assert cached.cache.begin(UM, symbol, word) == "not held yet"
    assert cached.cache.begin(UM, symbols[1], "depth20") == "too many series"
    assert cached.cache.begin(UM, symbols[1], "1m") == "not held yet"
    assert cached.cache.begin(UM, symbols[1], "ticker") == "not held yet"
    cached.cache.set_rules([parse_rule("um", symbols[0], "depth20,depth")])
    assert cached.cache.begin(UM, symbols[1], "depth20") == "not held yet"


async def test_order_books_nobody_asks_for_any_more_are_dropped_after_five_minutes(world: World) -> None:
    cached = Cached(world, idle_minutes=30.0)
    await cached.ready()
    symbol = next(iter(cached.cache.states[UM].symbols.tradable))
    cached.cache.begin(UM, symbol, "depth20")
    cached.cache.begin(UM, symbol, "ticker")
    await world.until(280_000)
    assert cached.kept() == [(symbol, "depth20"), (symbol, "ticker")]
    await world.until(330_000)
    assert cached.kept() == [(symbol, "ticker")]
    await world.until(1_850_000)
    assert cached.kept() == []
