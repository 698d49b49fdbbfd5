"""The one picture of the gateway, made of a cache and a ledger put together by hand."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.core.egress.spec import parse_egress
from resender.core.egress.state import Limits
from resender.core.market.klines import KlineSeries
from resender.core.weights.rules import Charge
from resender.fanout import Fanout, FanoutOptions
from resender.loop_lag import LoopLag
from resender.market.kinds import Klines
from resender.market.series import KeptKlines, KeptTicker
from resender.savings import Savings
from resender.status import Status
from resender.upstream.dispatch import LastAnswer

START_MS = 1_790_000_000_000 // 60_000 * 60_000 + 2000
MONO = 1000.0


class State:
    """What the cache keeps of one market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.klines: dict[tuple[str, str], KeptKlines] = {}
        self.tickers: list[KeptTicker] = []
        self.mutes = 3
        self.kinds = [SimpleNamespace(witness_reads=2), SimpleNamespace(witness_reads=5)]
        self.feeds: list[Any] = []

    def entries(self) -> list[Any]:
        return [*self.klines.values(), *self.tickers]

    def kind(self, wanted: type) -> Any:
        assert wanted is Klines
        return SimpleNamespace(kept=self.klines, corrected=1, closes={})

    def proof(self, kept: Any) -> tuple[int | None, str]:
        return (40, "event") if kept.is_live else (None, "")

    def add(self, symbol: str, *, rows: int = 0, depth: int = 1000, **facts: Any) -> KeptKlines:
        kept = KeptKlines(
            self.market, symbol, f"{symbol.lower()}@kline_1m", MONO - 5, interval="1m",
            series=cast(KlineSeries, FakeSeries(rows, depth)), **facts,
        )  # fmt: skip
        self.klines[symbol, "1m"] = kept
        return kept


class FakeSeries:
    def __init__(self, rows: int, depth: int) -> None:
        self.rows = rows
        self.depth = depth
        self.is_synced = rows > 0
        self.last_open = 77 if rows else None

    def __len__(self) -> int:
        return self.rows


class Cache:
    def __init__(self) -> None:
        self.hits = 7
        self.misses = 3
        self.miss_reasons = Counter({"gap": 1, "limit": 2})
        self.states = {market: State(market) for market in (Market.SPOT, Market.UM, Market.CM)}
        self.backfills = {pool: SimpleNamespace(rows_read=10) for pool in ("spot", "futures")}


class World:
    def __init__(self, *, has_cache: bool = True) -> None:
        self.cache = Cache() if has_cache else None
        self.governor = Governor(
            parse_egress(["default"]),
            ExchangeClock.guess(START_MS, MONO),
            limits=Limits(spot=1000, futures=1000),
            own_share=0.5,
        )
        self.dispatch = SimpleNamespace(
            egress=SimpleNamespace(governor=self.governor, upstreams=(Market.SPOT, Market.PM)),
            last_answers={},
        )
        self.lag = LoopLag()
        clock = Clock(now_ms=lambda: START_MS, mono=lambda: MONO)
        self.savings = Savings(clock)
        self.status = Status(
            access=cast(Any, SimpleNamespace(whitelist=SimpleNamespace(size=4))),
            dispatch=cast(Any, self.dispatch),
            cache=cast(Any, self.cache),
            fanout=Fanout(cast(Any, None), FanoutOptions(), clock=Clock(), tasks=Tasks()),
            lag=self.lag,
            savings=self.savings,
            store=cast(Any, None),
            clock=clock,
        )

    @property
    def spot(self) -> State:
        assert self.cache is not None
        return self.cache.states[Market.SPOT]


@pytest.fixture
def world() -> World:
    return World()


async def test_gateway_without_a_cache_has_a_picture_too() -> None:
    status = World(has_cache=False).status
    assert (status.answers().hits, status.answers().reasons) == (0, ())
    assert status.markets() == status.backfills() == list(status.kept()) == []
    told = await status.local()
    assert told.pop("streams")["clients"] == []
    assert told.pop("saved_today") == {}
    assert told.pop("accounts") == told.pop("nodes") == told.pop("workers") == []
    empty = {"series": [], "connections": [], "backfill": [], "closes": [], "loop": [], "weights": []}
    assert told == empty
    assert status.in_words() == "4 whitelist entries"


def test_slowest_holds_of_the_loop_come_first(world: World) -> None:
    world.lag.worst.update({f"place{n}": n / 1000 for n in range(1, 15)})
    slowest = world.status.slowest()
    assert slowest[0] == {"where": "place14", "ms": 14.0}
    assert len(slowest) == 10


def test_hits_and_misses_are_each_what_the_cache_counted(world: World) -> None:
    answers = world.status.answers()
    assert (answers.hits, answers.misses) == (7, 3)


def test_weight_saved_is_told_by_market_and_kind_and_for_today(world: World) -> None:
    assert (world.status.saved(), world.status.saved_today()) == ({}, {})
    world.savings.note(("spot", "klines"), 2)
    told = world.status.saved()
    world.savings.note(("um", "klines"), 5)
    world.savings.note(("spot", "depth"), 50)
    assert told == {("spot", "klines"): 2}, "what was told does not change"
    assert world.status.saved() == {
        ("spot", "klines"): 2,
        ("um", "klines"): 5,
        ("spot", "depth"): 50,
    }
    assert world.status.saved_today() == {"depth": 50, "klines": 7}


async def test_hits_and_misses_of_a_series_are_its_own(world: World) -> None:
    kept = world.spot.add("A", rows=10, hits=5)
    kept.misses.update({"gap": 2, "limit": 1})
    other = world.spot.add("B", rows=10, hits=1)
    snapshots = [world.status.series(cast(Any, world.spot), each) for each in (kept, other)]
    assert [(each.hits, each.misses) for each in snapshots] == [(5, {"gap": 2, "limit": 1}), (1, {})]
    rows = (await world.status.local())["series"]
    assert [(row["hits"], row["misses"]) for row in rows] == [(5, {"gap": 2, "limit": 1}), (1, {})]


def test_reasons_of_misses_come_with_the_most_frequent_first(world: World) -> None:
    assert world.status.answers().reasons == (("limit", 2), ("gap", 1))


def test_what_is_kept_can_be_asked_for_by_market_and_word(world: World) -> None:
    world.spot.add("A")
    world.spot.tickers.append(KeptTicker(Market.SPOT, "A", "a@bookTicker", MONO))
    world.cache.states[Market.UM].add("B")  # type: ignore[union-attr]

    def keys(*wanted: Any) -> list[tuple[str, str]]:
        return [(kept.symbol, kept.what) for _, kept in world.status.kept(*wanted)]

    assert keys() == [("A", "1m"), ("A", "bookTicker"), ("B", "1m")]
    assert keys(Market.SPOT) == [("A", "1m"), ("A", "bookTicker")]
    assert keys(None, "1m") == [("A", "1m"), ("B", "1m")]
    assert keys(Market.CM) == []


def test_snapshot_of_a_series_does_not_change_with_it(world: World) -> None:
    kept = world.spot.add("A", rows=10, is_live=True, is_filled=True)
    kept.misses["gap"] += 1
    snapshot = world.status.series(cast(Any, world.spot), kept)
    kept.misses["gap"] += 1
    assert (snapshot.state, snapshot.rows, snapshot.depth, snapshot.last_open) == ("live", 10, 1000, 77)
    assert (snapshot.age_ms, snapshot.proof, snapshot.idle_s) == (40, "event", 5.0)
    assert snapshot.misses == {"gap": 1}


def test_ticker_has_a_depth_of_one_and_no_open_time(world: World) -> None:
    kept = KeptTicker(Market.SPOT, "A", "a@bookTicker", MONO + 5)
    snapshot = world.status.series(cast(Any, world.spot), kept)
    assert (snapshot.depth, snapshot.last_open, snapshot.idle_s) == (1, None, 0.0)


def test_series_that_are_being_filled_count_as_live(world: World) -> None:
    world.spot.add("A", rows=10, is_live=True, is_filled=True)
    world.spot.add("B", rows=10, is_live=True)
    world.spot.add("C", is_live=True)
    world.spot.add("D")
    snapshot = world.status.markets()[0]
    assert (snapshot.kept, snapshot.live, snapshot.corrected, snapshot.witness_reads) == (4, 2, 1, 7)


async def test_connections_of_all_feeds_are_counted(world: World) -> None:
    links = [SimpleNamespace(is_live=live, streams=2, age_s=1.26, last_frame_ms=3, reconnects=0)
             for live in (True, False, True)]  # fmt: skip
    world.spot.feeds = [SimpleNamespace(connections=links[:1]), SimpleNamespace(connections=links[1:])]
    assert world.status.markets()[0].live_connections == 2
    assert (await world.status.local())["connections"][0] == {
        "market": "spot", "streams": 2, "age_s": 1.3, "last_frame_ms": 3, "reconnects": 0,
    }  # fmt: skip


def test_filling_is_told_in_rows_and_in_minutes_at_the_pace_own_reads_have(world: World) -> None:
    world.spot.add("A", rows=1000, is_live=True, is_filled=True)
    # 10,000 rows are ten reads of 1,000 rows, each of weight 2.
    world.spot.add("B", rows=1, depth=10_001, is_live=True)
    spot, futures = world.status.backfills()
    assert (spot.total, spot.queued, spot.rows_missing, spot.rows_read) == (2, 1, 10_000, 10)
    assert spot.minutes == pytest.approx(20 / (1000 * 0.5 * 0.9))
    assert (futures.pool, futures.total, futures.minutes) == ("futures", 0, 0)


def test_series_that_is_filled_but_not_joined_needs_one_more_read(world: World) -> None:
    world.spot.add("A", rows=0, is_filled=True)
    spot = world.status.backfills()[0]
    assert (spot.queued, spot.rows_missing) == (1, 0)
    assert spot.minutes > 0


def test_filling_waits_as_long_as_its_pool_is_closed(world: World) -> None:
    world.governor.close_pool(world.governor.egresses[0], "spot", 418, MONO + 90)
    assert [each.paused_s for each in world.status.backfills()] == [90, 0]


def test_market_that_was_never_called_is_unknown(world: World) -> None:
    world.dispatch.last_answers[Market.SPOT] = LastAnswer("limited", 429, START_MS)
    world.dispatch.last_answers[Market.UM] = LastAnswer("ok", 200, START_MS)  # switched off since
    spot, pm = world.status.upstreams()
    assert (spot.market, spot.kind, spot.status, spot.at_ms) == (Market.SPOT, "limited", 429, START_MS)
    assert "429" in spot.text
    assert (pm.kind, pm.status, pm.text) == ("unknown", None, "No call has been made yet.")


def test_few_words_name_what_is_out_of_reach(world: World) -> None:
    world.spot.add("A", rows=10, is_live=True, is_filled=True)
    world.spot.add("B")
    assert world.status.in_words() == "4 whitelist entries, 1 of 2 series live"
    world.dispatch.last_answers |= {
        Market.SPOT: LastAnswer("unreachable", None, 0), Market.PM: LastAnswer("unreachable", None, 0)
    }  # fmt: skip
    assert world.status.in_words().endswith(", cannot reach: pm, spot")


def test_use_of_each_client_is_that_of_this_minute(world: World) -> None:
    world.governor.admit(Market.SPOT, Charge(20, "spot"), MONO, client="192.0.2.1")
    world.governor.admit(Market.SPOT, Charge(5, "spot"), MONO)
    (row,) = world.status.clients()
    assert row["weight_minute"] == 20
    assert [(each["pool"], each["reserved"]) for each in world.status.weights()] == [("spot", 25)]
