"""Candles no stream brings: closed rows are kept, and nothing of the open end is told without a read of now."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import orjson
import pytest

from resender.core.binance.intervals import INTERVAL_MS
from resender.core.binance.markets import Market
from resender.core.market.requests import Miss, parse_ended
from resender.errors import UpstreamLost
from resender.market.kinds.base import Hit, Wanting
from resender.market.kinds.ended import EndedKlines
from resender.market.series import KeptEnded
from tests.support.market_fakes import LISTED_MINUTES, MINUTE, T0, World, row, trades_at

MARK = "markPriceKlines"
PAIRS = {
    Market.UM: ("BTCUSDT", "BTCUSDT"),
    Market.CM: ("BTCUSD_PERP", "BTCUSD"),
    Market.SPOT: ("BTCUSDT", ""),
}
HOST = {Market.SPOT: "/api/v3", Market.UM: "/fapi/v1", Market.CM: "/dapi/v1"}


class Kept:
    """The kind, on an exchange whose answers are functions of the time; `send` forwards a call."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.market = world.market
        self.kind = EndedKlines(world.tools("kline", **{"depth": 2000} | options))
        symbol, pair = PAIRS[self.market]
        symbols = self.kind.facts.symbols
        symbols.tradable, symbols.is_loaded = dict.fromkeys((symbol, "ETHUSDT")), True
        symbols.contracts = {(pair, "PERPETUAL"): symbol} if pair else {}
        self.symbol, self.pair = symbol, pair
        self.began: list[KeptEnded] = []
        world.desk.begin = self._begin  # type: ignore[method-assign]
        for path in self.kind.paths(self.market):
            world.door.answers[path] = lambda _, params: self.rows(params)

    def _begin(self, market: Market, symbol: str, what: str) -> str:
        if symbol not in self.kind.facts.symbols:
            return "unknown symbol"
        kept = self.kind.make(symbol, what, self.world.clock.mono(), is_preload=False)
        self.kind.kept[symbol, what] = kept
        self.began.append(kept)
        return "not held yet"

    def rows(self, params: dict[str, str], now_ms: int | None = None) -> list[Any]:
        """Answer as the exchange does at a time."""
        now = (self.world.now_ms if now_ms is None else now_ms) - self.world.door.lag_ms
        step, limit = INTERVAL_MS[params["interval"]], int(params.get("limit", 500))
        start, end = (int(params[key]) if key in params else None for key in ("startTime", "endTime"))
        first = max(T0 - LISTED_MINUTES * MINUTE, 0 if start is None else -(-start // step) * step)
        opens = range(first, (now if end is None else min(now, end)) + 1, step)
        is_oldest = start is not None and self.market is not Market.CM
        chosen = opens[:limit] if is_oldest else opens[-limit:]
        return [row(t, trades_at(t, now), interval_ms=step) for t in chosen]

    async def ask(self, query: str, name: str = MARK) -> Any:
        request = parse_ended(self.market, name, query)
        assert not isinstance(request, Miss), request
        found = self.kind.answer(request, packed=False)
        return await found if isinstance(found, Awaitable) else found

    async def call(self, limit: int, name: str = MARK, **params: int) -> Any:
        """Call, forward what is a miss, and judge what is a hit by the exchange's answers meanwhile."""
        params = {"limit": limit} | params
        of = f"pair={self.pair}" if name == "indexPriceKlines" else f"symbol={self.symbol}"
        query = "&".join([of, "interval=1m", *(f"{key}={value}" for key, value in params.items())])
        texts = {"interval": "1m"} | {key: str(value) for key, value in params.items()}
        before_ms = self.world.now_ms
        found = await self.ask(query, name)
        if isinstance(found, Hit):
            told = orjson.loads(found.body)
            first_ms, last_ms = before_ms - found.age_ms, self.world.now_ms
            seconds = range(T0 + self.world.door.lag_ms, last_ms + 1, 1000)  # it changes then only
            moments = [first_ms, *(at for at in seconds if at > first_ms), last_ms]
            shown = [self.rows(texts, at) for at in moments]
            assert told in shown, (query, before_ms - T0, told[-2:], shown[-1][-2:])
        elif isinstance(found, Wanting):
            found.take(orjson.dumps(self.rows(texts)))
        return found

    def reads(self) -> list[str]:
        return [each for each in self.world.door.targets if "Klines" in each]


@pytest.fixture
async def kept(world: World) -> Kept:
    await world.until(30_000)
    return Kept(world)


async def test_first_call_is_forwarded_and_the_next_one_weighs_less(kept: Kept) -> None:
    first = await kept.call(500)
    assert isinstance(first, Wanting)
    assert first.reason == "not held yet"
    second = await kept.call(500)
    assert isinstance(second, Hit)
    assert len(orjson.loads(second.body)) == 500
    assert kept.reads() == ["/fapi/v1/markPriceKlines?symbol=BTCUSDT&interval=1m&limit=3"]
    assert second.cost == 1
    assert second.age_ms == 0


async def test_open_end_is_always_of_a_read_of_now(kept: Kept, world: World) -> None:
    await kept.call(500)
    for second in range(31, 300, 7):
        await world.until(second * 1000)
        found = await kept.call(500)
        assert isinstance(found, Hit)
        assert orjson.loads(found.body)[-1][8] == second % 60
    assert kept.began[0].rows == 500 + 4 - 1, "each closed row was kept"


async def test_two_who_ask_at_once_share_one_read(kept: Kept, world: World) -> None:
    await kept.call(500)
    found = await asyncio.gather(*(kept.call(limit) for limit in (500, 499, 400, 500)))
    assert all(isinstance(each, Hit) for each in found)
    assert len(kept.reads()) == 1
    assert sorted(each.cost for each in found) == [0, 0, 0, 1], "and only one of them pays"


async def test_who_asks_while_a_read_is_under_way_is_told_its_age(kept: Kept, world: World) -> None:
    await kept.call(500)
    world.door.held.clear()
    first = asyncio.create_task(kept.call(500))
    await world.until(31_500)
    second = asyncio.create_task(kept.call(500))
    await world.settle()
    world.door.held.set()
    assert (await first).age_ms == 0
    assert (await second).age_ms == pytest.approx(1500, abs=5)


async def test_call_that_would_weigh_no_more_is_forwarded(kept: Kept) -> None:
    await kept.call(500)
    for limit in (1, 2, 99):
        found = await kept.call(limit)
        assert isinstance(found, Wanting)
        assert found.reason == "no gain"
    assert isinstance(await kept.call(100), Hit)


async def test_call_for_more_than_is_held_is_forwarded(kept: Kept) -> None:
    await kept.call(300)
    assert (await kept.call(500)).reason == "no gain"
    assert isinstance(await kept.call(500), Hit), "its answer was kept"


async def test_series_nobody_asked_for_in_an_hour_is_read_anew_in_whole(kept: Kept, world: World) -> None:
    await kept.call(500)
    await world.until(100 * MINUTE)
    assert (await kept.call(500)).reason == "no gain", "so many rows at its end weigh as much"
    assert isinstance(await kept.call(500), Hit)


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[1]", b"[[1]]", UpstreamLost("gone")])
async def test_read_that_fails_lets_the_call_go_up(kept: Kept, world: World, answer: Any) -> None:
    await kept.call(500)
    await world.until(31_000)
    path, good = "/fapi/v1/markPriceKlines", world.door.answers["/fapi/v1/markPriceKlines"]
    world.door.answers[path] = lambda *_: answer
    assert (await kept.call(500)).reason == "not settled"
    world.door.answers[path] = good
    assert isinstance(await kept.call(500), Hit)


async def test_read_that_takes_too_long_is_not_waited_for(kept: Kept, world: World) -> None:
    await kept.call(500)
    world.door.held.clear()
    assert (await kept.call(500)).reason == "not settled"
    assert world.now_ms >= T0 + 34_000
    world.door.held.set()


async def test_answer_of_an_earlier_call_that_comes_late_is_no_end_of_now(kept: Kept, world: World) -> None:
    await kept.call(500)
    early = await kept.ask("symbol=BTCUSDT&interval=1m&limit=9")
    assert isinstance(early, Wanting)
    body = orjson.dumps(kept.rows({"interval": "1m", "limit": "9"}))
    await world.until(40_000)
    world.door.held.clear()
    world.door.answers["/fapi/v1/markPriceKlines"] = lambda *_: b"<html>"
    asking = asyncio.create_task(kept.ask("symbol=BTCUSDT&interval=1m&limit=500"))
    await world.settle()
    early.take(body)
    world.door.held.set()
    found = await asking
    assert isinstance(found, Miss), "what it shows may have been over before this call"
    assert found.reason == "not settled"


async def test_answer_of_an_earlier_call_takes_nothing_from_a_read(kept: Kept, world: World) -> None:
    await kept.call(500)
    early = await kept.ask("symbol=BTCUSDT&interval=1m&limit=9")
    body = orjson.dumps(kept.rows({"interval": "1m", "limit": "9"}))
    await world.until(65_000)
    asking = asyncio.create_task(kept.call(500))
    while kept.began[0].end_ms < T0 + MINUTE:
        await asyncio.sleep(0)
    early.take(body)
    found = await asking
    assert isinstance(found, Hit)
    assert orjson.loads(found.body)[-1][0] == T0 + MINUTE


async def test_end_of_a_series_that_was_started_over_is_told_no_more(kept: Kept, world: World) -> None:
    await kept.call(500)
    early = await kept.ask("symbol=BTCUSDT&interval=1m&limit=501")
    rows = kept.rows({"interval": "1m", "limit": "501"})
    rows[2][4] = "9.99"
    await world.until(5 * MINUTE)
    asking = asyncio.create_task(kept.ask("symbol=BTCUSDT&interval=1m&limit=400"))
    while kept.began[0].end_ms < T0 + 4 * MINUTE:
        await asyncio.sleep(0)
    early.take(orjson.dumps(rows))
    found = await asking
    assert isinstance(found, Miss), "its rows would not join those behind them"


async def test_answer_that_closes_more_makes_no_row_come_twice(kept: Kept, world: World) -> None:
    await kept.call(500)
    await world.until(60_500)
    world.door.held.clear()
    asking = asyncio.create_task(kept.ask("symbol=BTCUSDT&interval=1m&limit=500"))
    await world.until(62_000)
    later = await kept.ask("symbol=BTCUSDT&interval=1m&limit=9")
    world.door.held.set()
    later.take(orjson.dumps(kept.rows({"interval": "1m", "limit": "9"})))
    found = await asking
    assert isinstance(found, Hit)
    opens = [each[0] for each in orjson.loads(found.body)]
    assert opens == sorted(set(opens))
    assert opens[-1] == T0 + MINUTE


async def test_candle_that_is_over_is_final_only_when_rest_has_caught_up(kept: Kept, world: World) -> None:
    world.door.lag_ms = 900
    await world.until(58_000)
    await kept.call(500)
    for at_ms in range(59_500, 64_000, 250):
        await world.until(at_ms)
        assert isinstance(await kept.call(500), Hit)
    assert kept.began[0].series.last_final == T0


async def test_row_the_exchange_shows_otherwise_starts_the_series_over(
    kept: Kept, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await kept.call(500)
    identity = kept.began[0].identity
    path = "/fapi/v1/markPriceKlines"
    good = world.door.answers[path]

    def other(target: str, params: dict[str, str]) -> Any:
        rows = good(target, params)
        rows[0][4] = "9.99"
        return rows

    world.door.answers[path] = other
    found = await kept.ask("symbol=BTCUSDT&interval=1m&limit=500")
    assert isinstance(found, Miss)
    assert "is not what the exchange says" in caplog.text
    assert kept.began[0].identity is not identity, "bodies made of it are told no more"


# -- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
async def test_ended_ranges_are_told_without_a_read_and_open_ones_are_not(market: Market) -> None:
    world = World(market)
    await world.until(30_000)
    name = "uiKlines" if market is Market.SPOT else MARK
    kept = Kept(world)
    await kept.call(500, name)
    at = T0 - 100 * MINUTE
    for params in (
        {"startTime": at, "endTime": at + 10 * MINUTE},
        {"endTime": at},
        {"endTime": T0 - 1},
        {"startTime": T0 - 5 * MINUTE, "endTime": T0 - MINUTE},
    ):
        assert isinstance(await kept.call(20, name, **params), Hit), params
    for params in (
        {"startTime": T0 - 5 * MINUTE},
        {"startTime": T0 - 5 * MINUTE, "endTime": T0},
        {"endTime": T0},
        {"endTime": T0 + 90 * MINUTE},
        {"startTime": T0 - 900 * MINUTE, "endTime": T0 - 490 * MINUTE},
        {"endTime": T0 - 490 * MINUTE},
        {"startTime": T0 + MINUTE},
    ):
        found = await kept.call(20, name, **params)
        assert isinstance(found, Miss), params
        assert found.reason == "range not held"
    assert kept.reads() == []
    await world.end()


async def test_range_that_is_full_before_its_open_end_is_told_but_on_coin_m(world: World) -> None:
    for market in (Market.UM, Market.CM):
        made = World(market)
        await made.until(30_000)
        kept = Kept(made)
        await kept.call(500)
        found = await kept.call(5, startTime=T0 - 20 * MINUTE)
        # COIN-M answers with the latest of a range: the open one is among them.
        assert isinstance(found, Hit) is (market is Market.UM)
        found = await kept.call(5, startTime=T0 - 20 * MINUTE, endTime=T0 + MINUTE)
        assert isinstance(found, Hit) is (market is Market.UM)
        await made.end()


async def test_answer_about_a_range_is_not_taken_for_the_latest_rows(kept: Kept) -> None:
    await kept.call(500)
    found = await kept.ask(f"symbol=BTCUSDT&interval=1m&limit=5&startTime={T0 - 9000 * MINUTE}")
    assert isinstance(found, Miss)
    assert not isinstance(found, Wanting)


# -- names ----------------------------------------------------------------------------------------


async def test_index_belongs_to_a_pair_and_the_others_to_a_symbol() -> None:
    world = World(Market.CM)
    await world.until(30_000)
    kept = Kept(world)
    await kept.call(500, "indexPriceKlines")
    assert isinstance(await kept.call(500, "indexPriceKlines"), Hit)
    assert kept.reads() == ["/dapi/v1/indexPriceKlines?pair=BTCUSD&interval=1m&limit=3"]
    assert [(each.symbol, each.what) for each in kept.began] == [("BTCUSD_PERP", "indexPriceKlines_1m")]
    # What the exchange refuses is not answered.
    found = await kept.ask("pair=BTCUSD_PERP&interval=1m", "indexPriceKlines")
    assert found == Miss("unknown symbol")
    found = await kept.ask("symbol=BTCUSD&interval=1m")
    assert found == Miss("unknown symbol")
    await world.end()


async def test_marks_premiums_and_intervals_are_never_mixed_up(kept: Kept) -> None:
    await kept.call(500)
    for name in ("premiumIndexKlines", "indexPriceKlines"):
        assert (await kept.call(500, name)).reason == "not held yet"
    found = await kept.ask("symbol=BTCUSDT&interval=5m")
    assert found.reason == "not held yet"
    assert len({each.identity for each in kept.began}) == 4


async def test_what_is_dropped_takes_no_answer_any_more(kept: Kept) -> None:
    missed = await kept.ask("symbol=BTCUSDT&interval=1m")
    kept.began[0].is_dropped = True
    missed.take(orjson.dumps(kept.rows({"interval": "1m"})))
    assert kept.began[0].rows == 0


async def test_before_the_time_is_known_no_answer_is_taken(kept: Kept) -> None:
    await kept.call(500)
    kept.kind.facts.server.is_set = False
    found = await kept.ask("symbol=BTCUSDT&interval=1m")
    assert found == Miss("starting")
    assert not isinstance(found, Wanting)


async def test_proof_is_the_age_of_the_last_read(kept: Kept, world: World) -> None:
    await kept.ask("symbol=BTCUSDT&interval=1m")
    one = kept.began[0]
    assert (kept.kind.proof(one), one.state) == ((None, ""), "syncing")
    await kept.call(500)
    await world.until(31_000)
    age_ms, kind = kept.kind.proof(one)
    assert age_ms == pytest.approx(1000, abs=2)
    assert (kind, one.state) == ("rest", "live")
    kept.kind.lose(one)
    assert kept.kind.event(one, {}) is None
    assert one.rows == 499


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
@pytest.mark.parametrize("seed", range(4))
async def test_no_hit_is_ever_wrong_whatever_is_asked_across_some_minutes(market: Market, seed: int) -> None:
    dice, world = random.Random(seed), World(market)
    kept = Kept(world, depth=dice.choice((60, 600)))
    names = ["uiKlines"] if market is Market.SPOT else [MARK, "indexPriceKlines", "premiumIndexKlines"]
    world.door.lag_ms = dice.choice((0, 300, 900))
    hits = 0

    async def client() -> None:
        nonlocal hits
        while world.now_ms < T0 + 8 * MINUTE:
            await asyncio.sleep(dice.choice((0, 0.2, 0.9, 7)))
            params = {}
            if dice.random() < 0.4:
                params["endTime"] = T0 + dice.randrange(-60, 10) * MINUTE + dice.choice((-1, 0, 1))
            if dice.random() < 0.4:
                params["startTime"] = min(params.get("endTime", T0), T0 + dice.randrange(-60, 9) * MINUTE)
            if dice.random() < 0.1:
                world.door.held.clear()
            else:
                world.door.held.set()
            found = await kept.call(dice.choice((3, 40, 120, 400, 500)), dice.choice(names), **params)
            hits += isinstance(found, Hit)

    await asyncio.gather(*(client() for _ in range(4)))
    assert hits > 30
    await world.end()
