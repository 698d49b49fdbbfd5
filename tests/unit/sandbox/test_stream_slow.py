"""The streams that push at their own pace, driven by a hand-moved clock."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import trades
from resender.sandbox.config import SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.marks import mark_at
from resender.sandbox.stream_feed import StreamFeed
from resender.sandbox.stream_names import parse_stream
from resender.sandbox.tickers import average_price, day_row

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC


class World:
    def __init__(self, market: Market, **options: Any) -> None:
        self.now = NOW
        self.market = market
        self.exchange = Exchange(SandboxConfig(clock_ms=lambda: self.now, **options))
        self.store = self.exchange.stores[market]
        self.faults = self.exchange.faults.stream(market)
        self.events: dict[str, list[Any]] = defaultdict(list)
        self.feed = StreamFeed(self.exchange, market, self.faults, self._take)

    def _take(self, name: str, text: str) -> None:
        self.events[name].append(json.loads(text))

    def add(self, name: str) -> None:
        stream = parse_stream(name, self.market)
        assert stream is not None
        self.feed.add(stream, self.now)

    def run(self, seconds: float, step_ms: int = 20) -> None:
        end = self.now + int(seconds * 1000)
        while self.now < end:
            self.now += step_ms
            self.feed.tick(self.now, self.now / 1000)


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
@pytest.mark.parametrize("on_change", [False, True])
def test_partial_depth_of_a_still_book_comes_always_or_once(market, on_change):
    world = World(market, still_symbols=["BTCUSDT"], partial_on_change=on_change)
    for name in ("btcusdt@depth20@100ms", "ethusdt@depth5@100ms"):
        world.add(name)
    world.run(10)
    still, moving = world.events["btcusdt@depth20@100ms"], world.events["ethusdt@depth5@100ms"]
    assert len({json.dumps([one.get("bids"), one.get("b"), one.get("pu")]) for one in still}) == 1
    if on_change:
        assert (len(still), 38 <= len(moving) <= 42) == (1, True)
    else:
        assert min(len(still), len(moving)) >= 95


@pytest.mark.parametrize(("market", "usual_ms"), [(Market.SPOT, 1000), (Market.UM, 250), (Market.CM, 250)])
def test_depth_streams_have_their_speeds(market, usual_ms):
    symbol = "btcusd_perp" if market is Market.CM else "btcusdt"
    world = World(market, book_ticker_hz=50.0)
    for name in (f"{symbol}@depth", f"{symbol}@depth@100ms", f"{symbol}@depth10", f"{symbol}@depth10@100ms"):
        world.add(name)
    world.run(5, step_ms=10)
    for name, events in world.events.items():
        speed = 100 if name.endswith("100ms") else usual_ms
        assert len(events) == 5000 // speed, name


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
def test_partial_frames_are_the_book_and_follow_each_other(market):
    world = World(market)
    world.add("btcusdt@depth10@100ms")
    world.run(20)
    before = None
    for event in world.events["btcusdt@depth10@100ms"]:
        update_id = event["lastUpdateId" if market is Market.SPOT else "u"]
        truth = world.store.book_at("BTCUSDT", update_id, 10)
        assert [event.get("bids", event.get("b")), event.get("asks", event.get("a"))] == [
            truth.bids,
            truth.asks,
        ]
        if market is Market.UM and before is not None:
            assert event["pu"] == (before["u"] if before["u"] != event["u"] else before["pu"])
        before = event


def test_a_restart_is_a_hole_in_the_diff_stream_and_the_next_book_is_right_again():
    world = World(Market.UM)
    world.add("btcusdt@depth@100ms")
    world.run(2)
    jumped = world.store.restart_book("BTCUSDT", world.now, 5000)
    world.run(3)
    events = world.events["btcusdt@depth@100ms"]
    holes = [(a, b) for a, b in itertools.pairwise(events) if b["pu"] != a["u"]]
    assert len(holes) == 1
    assert holes[0][0]["u"] < jumped - 4000 < holes[0][1]["pu"] < jumped + 10
    assert world.store.book_at("BTCUSDT").update_id >= jumped


def test_a_held_book_says_nothing_and_goes_on_without_a_hole():
    world = World(Market.SPOT)
    world.add("btcusdt@depth@100ms")
    world.run(2)
    world.store.hold_book("BTCUSDT", world.now)
    said = len(world.events["btcusdt@depth@100ms"])
    world.run(2)
    assert len(world.events["btcusdt@depth@100ms"]) <= said + 1
    world.store.release_book("BTCUSDT")
    world.run(2)
    events = world.events["btcusdt@depth@100ms"]
    assert all(b["U"] == a["u"] + 1 for a, b in itertools.pairwise(events))
    assert len(events) > said + 5


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
def test_trade_streams_bring_what_rest_lists_and_nothing_from_before(market, holes):
    symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
    world = World(market, aggregate_holes=holes)
    for kind in ("aggTrade", "trade"):
        world.add(f"{symbol.lower()}@{kind}")
    world.run(30)
    joined = world.events[f"{symbol.lower()}@aggTrade"]
    wanted = [
        row for row in trades.aggregate_rows(world.store, symbol, 1000, world.now) if row["T"] > NOW - 250
    ]
    assert [{key: event[key] for key in wanted[0]} for event in joined] == wanted
    assert [key for key in joined[0] if key in wanted[0]] == list(wanted[0])
    singles = world.events[f"{symbol.lower()}@trade"]
    rows = [row for row in trades.trade_rows(world.store, symbol, 1000, world.now) if row["time"] > NOW]
    assert [(e["t"], e["p"], e["q"], e["T"], e["m"]) for e in singles] == [
        (row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"]) for row in rows
    ]
    assert len(joined) > 30
    assert all(event["T"] <= event["E"] for event in joined + singles)
    head = ["e", "E", "T", "s"] if market is not Market.SPOT else ["e", "E", "s"]
    assert list(singles[0])[: len(head)] == head


@pytest.mark.parametrize(("market", "every_ms"), [(Market.SPOT, 1000), (Market.UM, 2000), (Market.CM, 500)])
def test_ticker_stream_is_the_row_of_rest_at_its_event_time(market, every_ms):
    symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
    world = World(market)
    world.add(f"{symbol.lower()}@ticker")
    world.run(6)
    events = world.events[f"{symbol.lower()}@ticker"]
    assert len(events) == 6000 // every_ms
    names = {
        "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "x": "prevClosePrice",
        "c": "lastPrice", "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty",
        "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "O": "openTime", "C": "closeTime",
        "F": "firstId", "L": "lastId", "n": "count",
    }  # fmt: skip
    for event in events:
        row = day_row(world.store, symbol, event["E"])
        assert {names[key]: event[key] for key in names if key in event} == {
            name: row[name] for name in names.values() if name in row
        }
    order = "eEspPwxcQbBaAohlvqOCFLn" if market is Market.SPOT else "eEspPwcQohlvqOCFLn"
    assert "".join(key for key in events[0] if len(key) == 1) == order
    assert [key for key in events[0] if len(key) > 1] == ([] if market is Market.SPOT else ["ps", "st"])


@pytest.mark.parametrize("market", [Market.UM, Market.CM])
def test_all_tickers_carry_what_traded_of_both_futures_markets(market):
    world = World(market)
    for name in ("!ticker@arr", "!miniTicker@arr"):
        world.add(name)
    world.run(3)
    rows = world.events["!ticker@arr"][-1]
    assert {row["st"] for row in rows} == {1, 2}
    assert [row["s"] for row in rows] == [row["s"] for row in world.events["!miniTicker@arr"][-1]]
    assert parse_stream("!ticker@arr", Market.SPOT) is None


def test_marks_of_all_symbols_come_in_two_frames_on_um():
    world = World(Market.UM)
    for name in ("!markPrice@arr@1s", "btcusdt@markPrice@1s"):
        world.add(name)
    world.run(2)
    frames, single = world.events["!markPrice@arr@1s"], world.events["btcusdt@markPrice@1s"]
    assert (len(frames), len(single)) == (4, 2)
    assert {row["s"] for row in frames[1]} >= {"TSLAUSDT", "XAUUSDT"}
    assert single[0] in frames[0]
    mark = mark_at(world.store, "BTCUSDT", single[0]["E"])
    assert [single[0][key] for key in ("p", "ap", "i", "P", "r", "T")] == [*mark[:5], mark.next_funding_ms]
    assert len(frames[0]) + len(frames[1]) == len(world.exchange.universe(Market.UM))


def test_average_price_stream_is_rest():
    world = World(Market.SPOT)
    world.add("btcusdt@avgPrice")
    world.run(3)
    events = world.events["btcusdt@avgPrice"]
    assert [list(event) for event in events] == [["e", "E", "s", "i", "w", "T"]] * 3
    assert [(event["w"], event["T"]) for event in events] == [
        average_price(world.store, "BTCUSDT", event["E"]) for event in events
    ]


def test_index_price_of_a_pair_comes_on_cm():
    world = World(Market.CM)
    world.add("btcusd@indexPrice@1s")
    world.run(2)
    event = world.events["btcusd@indexPrice@1s"][0]
    assert (event["i"], event["p"]) == ("BTCUSD", mark_at(world.store, "BTCUSD_PERP", event["E"]).index_price)


def test_contract_info_tells_what_changes_and_nothing_else():
    world = World(Market.UM)
    world.add("!contractInfo")
    world.run(2)
    assert not world.events["!contractInfo"]
    world.store.list_symbol("NEWUSDT", world.now)
    world.store.halt("ETHUSDT", world.now)
    world.run(2)
    told = {event["s"]: event["cs"] for event in world.events["!contractInfo"]}
    assert told == {"NEWUSDT": "TRADING", "ETHUSDT": "TRADING_HALT"}
