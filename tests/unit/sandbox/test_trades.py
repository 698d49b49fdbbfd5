"""Trades and their aggregates: one history for REST and streams."""

import itertools
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import trades
from resender.sandbox.config import Gap, SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


def store_of(market, **options):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: NOW, **options), NOW)


@pytest.mark.parametrize("market", SYMBOL)
def test_aggregates_hold_all_trades_and_nothing_else(market):
    store, symbol = store_of(market), SYMBOL[market]
    rows = trades.aggregate_rows(store, symbol, 1000, NOW)
    assert [row["a"] for row in rows] == list(range(rows[0]["a"], rows[0]["a"] + 1000))
    assert all(after["f"] == before["l"] + 1 for before, after in itertools.pairwise(rows))
    assert {row["l"] - row["f"] for row in rows} == {0, 1, 2}
    assert rows[-1]["l"] == trades.last_trade_id(store, symbol, NOW)
    singles = {row["id"]: row for row in trades.trade_rows(store, symbol, 5000, NOW)}
    for row in rows:
        parts = [singles[one] for one in range(row["f"], row["l"] + 1)]
        assert {(part["price"], part["time"], part["isBuyerMaker"]) for part in parts} == {
            (row["p"], row["T"], row["m"])
        }
        assert sum(Decimal(part["qty"]) for part in parts) == Decimal(row["q"])
        if market is Market.UM:
            normal = sum(Decimal(part["qty"]) for part in parts if not part["isRPITrade"])
            assert normal == Decimal(row["nq"])
    if market is Market.UM:
        assert any(row["nq"] != row["q"] for row in rows)
        assert any(row["nq"] == row["q"] for row in rows)


@pytest.mark.parametrize(
    ("market", "single", "joined"),
    [
        (Market.SPOT, ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"], "apqflTmM"),
        (Market.UM, ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isRPITrade"], "apq-flTm"),
        (Market.CM, ["id", "price", "qty", "baseQty", "time", "isBuyerMaker"], "apqflTm"),
    ],
)
def test_rows_have_the_keys_of_their_market_in_order(market, single, joined):
    store = store_of(market)
    assert list(trades.trade_rows(store, SYMBOL[market], 1, NOW)[0]) == single
    keys = ["nq" if key == "-" else key for key in joined]
    assert list(trades.aggregate_rows(store, SYMBOL[market], 1, NOW)[0]) == keys


@pytest.mark.parametrize("market", SYMBOL)
def test_ids_and_times_are_two_ways_to_the_same_aggregate(market):
    store, symbol = store_of(market), SYMBOL[market]
    path = store.series[symbol].path
    newest = path.aggregate_id_at(NOW)
    for one in range(newest - 3000, newest + 1):
        moment = path.time_of_aggregate(one)
        assert path.aggregate_id_at(moment) >= one > path.aggregate_id_at(moment - 250)
        first, last = path.trades_of_aggregate(one)
        assert {path.aggregate_id_of(trade) for trade in range(first, last + 1)} == {one}
        assert path.trade_id_at(moment) >= last


def test_lists_begin_at_an_id_or_a_time():
    store = store_of(Market.SPOT)
    everything = trades.aggregate_rows(store, "BTCUSDT", 2000, NOW)
    some = everything[100]["a"]
    assert trades.aggregate_rows(store, "BTCUSDT", 7, NOW, from_id=some) == everything[100:107]
    start, end = everything[100]["T"], everything[300]["T"]
    between = [row for row in everything if start <= row["T"] <= end]
    assert trades.aggregate_rows(store, "BTCUSDT", 1000, NOW, start_ms=start, end_ms=end) == between
    assert trades.aggregate_rows(store, "BTCUSDT", 5, NOW, start_ms=start) == between[:5]
    assert trades.aggregate_rows(store, "BTCUSDT", 5, NOW, end_ms=end) == between[-5:]
    assert trades.aggregate_rows(store, "BTCUSDT", 5, NOW, from_id=everything[-1]["a"] + 1) == []
    singles = trades.trade_rows(store, "BTCUSDT", 50, NOW)
    assert trades.trade_rows(store, "BTCUSDT", 5, NOW, from_id=singles[10]["id"]) == singles[10:15]


def test_a_moment_later_the_list_has_only_grown():
    store = store_of(Market.UM)
    before = trades.aggregate_rows(store, "BTCUSDT", 500, NOW)
    after = trades.aggregate_rows(store, "BTCUSDT", 500, NOW + 5000)
    assert before[-1]["a"] < after[-1]["a"]
    kept = {row["a"]: row for row in after}
    assert all(kept.get(row["a"], row) == row for row in before)
    assert all(row["T"] <= NOW + 5000 for row in after)


@pytest.mark.parametrize(("market", "is_holey"), [(Market.SPOT, False), (Market.UM, True), (Market.CM, True)])
def test_natural_holes_are_in_futures_aggregates_only(market, is_holey):
    store = store_of(market, aggregate_holes=True)
    rows = trades.aggregate_rows(store, SYMBOL[market], 1000, NOW)
    missing = set(range(rows[0]["a"], rows[-1]["a"] + 1)) - {row["a"] for row in rows}
    assert len(rows) == 1000
    assert bool(missing) is is_holey
    assert all(trades.aggregate_at(store, SYMBOL[market], one) is None for one in missing)


def test_nothing_is_traded_in_a_gap_and_lists_step_over_it():
    gap = Gap("um", "BTCUSDT", NOW - 40_000, NOW - 10_000)
    store, whole = store_of(Market.UM, gaps=[gap]), store_of(Market.UM)
    rows, wanted = (
        trades.aggregate_rows(store, "BTCUSDT", 300, NOW),
        trades.aggregate_rows(whole, "BTCUSDT", 900, NOW),
    )
    wanted = [row for row in wanted if not gap.start_ms < row["T"] <= gap.end_ms]
    assert rows == wanted[-300:]
    first = rows[0]["a"]
    assert trades.aggregate_rows(store, "BTCUSDT", 300, NOW, from_id=first) == rows
    in_gap = NOW - 20_000
    assert trades.last_trade(store, "BTCUSDT", in_gap).time_ms <= gap.start_ms


@pytest.mark.parametrize(("rounds", "rule"), [(False, ROUND_DOWN), (True, ROUND_HALF_UP)])
def test_quote_quantity_is_the_exact_product_at_eight_decimals(rounds, rule):
    store = store_of(Market.SPOT, rounds_quote_qty=rounds)
    inexact = 0
    for symbol in ("BTCUSDT", "ETHBTC", "BNBBTC"):
        for row in trades.trade_rows(store, symbol, 300, NOW):
            exact = Decimal(row["price"]) * Decimal(row["qty"])
            assert Decimal(row["quoteQty"]) == exact.quantize(Decimal("1e-8"), rule)
            assert len(row["quoteQty"].partition(".")[2]) == 8
            inexact += Decimal(row["quoteQty"]) != exact
    assert inexact > 100
