"""Marks, funding and the rows of ended periods: functions of the time, the past never changes."""

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import marks
from resender.sandbox.config import SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
HOURS_8 = 28_800_000
SYMBOL = {Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


def store_of(market, **options):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: NOW, **options), NOW)


@pytest.mark.parametrize("market", SYMBOL)
def test_mark_changes_once_a_second_and_has_eight_decimals(market):
    store = store_of(market)
    seen = {}
    for now in range(NOW, NOW + 30_000, 100):
        mark = marks.mark_at(store, SYMBOL[market], now)
        assert seen.setdefault(now // 1000, mark) == mark
        for text in mark[:4]:
            assert len(text.partition(".")[2]) == 8
        assert len(set(mark[:4])) == 4
    assert len({mark.mark for mark in seen.values()}) > 10
    assert mark.next_funding_ms == (NOW // HOURS_8 + 1) * HOURS_8


def test_dated_contracts_have_no_funding():
    store = store_of(Market.UM)
    dated = next(spec.symbol for spec in store.symbols if spec.symbol.startswith("BTCUSDT_"))
    mark = marks.mark_at(store, dated, NOW)
    assert (mark.funding_rate, mark.interest_rate, mark.next_funding_ms) == ("", "", 0)
    assert marks.funding_rows(store, [dated], 10, NOW, None, None) == []


def test_estimate_of_the_rate_ends_at_the_rate_that_is_paid():
    store = store_of(Market.UM)
    paid = (NOW // HOURS_8 + 1) * HOURS_8
    row = marks.funding_rows(store, ["BTCUSDT"], 1, paid + 100, None, None)[0]
    assert paid <= row["fundingTime"] < paid + 12
    before, after = (marks.mark_at(store, "BTCUSDT", at).funding_rate for at in (paid - 1000, paid))
    assert after == row["fundingRate"]
    assert abs(float(before) - float(after)) < 0.00001
    assert row["markPrice"] == marks.mark_at(store, "BTCUSDT", paid).mark


def test_funding_history_is_immutable_and_follows_the_parameters():
    store = store_of(Market.UM)
    rows = marks.funding_rows(store, ["BTCUSDT"], 100, NOW, None, None)
    assert len(rows) == 100
    assert [row["fundingTime"] // HOURS_8 for row in rows] == list(
        range(NOW // HOURS_8 - 99, NOW // HOURS_8 + 1)
    )
    assert list(rows[0]) == ["symbol", "fundingRate", "fundingTime", "markPrice"]
    later = marks.funding_rows(store, ["BTCUSDT"], 100, NOW + 2 * HOURS_8, None, None)
    assert later[:-2] == rows[2:]
    start, end = rows[10]["fundingTime"], rows[20]["fundingTime"]
    assert marks.funding_rows(store, ["BTCUSDT"], 100, NOW, start, end) == rows[10:21]
    assert marks.funding_rows(store, ["BTCUSDT"], 3, NOW, start, end) == rows[10:13]
    assert marks.funding_rows(store, ["BTCUSDT"], 3, NOW, None, end) == rows[18:21]
    assert marks.funding_rows(store, ["BTCUSDT"], 3, NOW, start + 1, start + 2) == []


def test_funding_of_all_symbols_is_the_newest_of_each_in_order_of_time():
    store = store_of(Market.UM)
    rows = marks.funding_rows(store, list(store.series), 1000, NOW, None, None)
    assert len(rows) == 1000
    periods = [row["fundingTime"] // HOURS_8 for row in rows]
    assert periods == sorted(periods)
    newest = [row["symbol"] for row in rows if row["fundingTime"] // HOURS_8 == NOW // HOURS_8]
    assert newest == [spec.symbol for spec in store.symbols if marks.has_funding(spec)]


def test_history_begins_with_the_listing():
    listed = NOW // HOURS_8 * HOURS_8 - 3 * HOURS_8 + 1000
    store = store_of(Market.UM, listings={"BTCUSDT": listed})
    rows = marks.funding_rows(store, ["BTCUSDT"], 100, NOW, None, None)
    assert len(rows) in (2, 3)
    assert all(row["fundingTime"] >= listed for row in rows)


@pytest.mark.parametrize("period", marks.PERIODS)
@pytest.mark.parametrize(
    "name", ["openInterestHist", "topLongShortPositionRatio", "globalLongShortAccountRatio", "takerlongshortRatio",
             "basis"],
)  # fmt: skip
def test_rows_of_ended_periods_never_change(name, period):
    store = store_of(Market.UM)
    spec = store.series["BTCUSDT"].spec
    rows = marks.data_rows(store, spec, name, {}, period, 30, NOW, None, None)
    step = rows[1]["timestamp"] - rows[0]["timestamp"]
    assert [row["timestamp"] for row in rows] == [NOW // step * step - n * step for n in range(29, -1, -1)]
    later = marks.data_rows(store, spec, name, {}, period, 30, NOW + step, None, None)
    assert later[:-1] == rows[1:]
    assert len({str({**row, "timestamp": 0}) for row in rows}) > 1
    start, end = rows[4]["timestamp"], rows[9]["timestamp"]
    assert marks.data_rows(store, spec, name, {}, period, 30, NOW, start, end) == rows[4:10]


def test_open_interest_changes_every_three_seconds():
    store = store_of(Market.CM)
    values = {
        marks.open_interest(store, "BTCUSD_PERP", now)["openInterest"]
        for now in range(NOW, NOW + 30_000, 500)
    }
    assert 8 <= len(values) <= 11
    assert list(marks.open_interest(store, "BTCUSD_PERP", NOW)) == [
        "symbol", "pair", "openInterest", "contractType", "time",
    ]  # fmt: skip
