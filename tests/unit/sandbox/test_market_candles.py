"""The market store: candles of all intervals agree, open ones grow, rows follow the range rules."""

import itertools
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import INTERVALS, Market
from resender.sandbox import intervals as iv
from resender.sandbox.config import Gap, SandboxConfig
from resender.sandbox.market import MarketStore, fixed
from resender.sandbox.series import join

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "ETHUSDT", Market.CM: "BTCUSD_PERP"}


def store_of(market=Market.SPOT, now=NOW, **settings):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: now, **settings), now)


def merged(rows):
    """Aggregate rows the plain way; CM's derived columns 7 and 10 are not sums."""
    return [
        rows[0][1],
        str(max(Decimal(r[2]) for r in rows)),
        str(min(Decimal(r[3]) for r in rows)),
        rows[-1][4],
        sum(Decimal(r[5]) for r in rows),
        sum(Decimal(r[7]) for r in rows),
        sum(r[8] for r in rows),
        sum(Decimal(r[9]) for r in rows),
        sum(Decimal(r[10]) for r in rows),
    ]


def columns(row):
    return [row[1], row[2], row[3], row[4], Decimal(row[5]), Decimal(row[7]), row[8], Decimal(row[9]),
            Decimal(row[10])]  # fmt: skip


@pytest.mark.parametrize("interval", ["3m", "15m", "1h", "4h", "12h", "1d"])
@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
def test_minutes_add_up_to_every_longer_candle(market, interval):
    store, symbol = store_of(market), SYMBOL[market]
    rows = store.kline_rows(symbol, interval, limit=3, now_ms=NOW)
    assert len(rows) == 3
    for row in rows:
        minutes = store.kline_rows(symbol, "1m", row[0], row[6], 1500, NOW)
        assert merged(minutes) == columns(row)


@pytest.mark.parametrize("interval", ["3d", "1w", "1M"])
def test_days_add_up_to_weeks_and_months(interval):
    store = store_of()
    for row in store.kline_rows("ETHUSDT", interval, limit=3, now_ms=NOW):
        days = store.kline_rows("ETHUSDT", "1d", row[0], row[6], 1000, NOW)
        assert merged(days) == columns(row)


def test_seconds_add_up_to_the_open_and_the_closed_minute():
    store = store_of()
    for row in store.kline_rows("BTCUSDT", "1m", limit=2, now_ms=NOW):
        seconds = store.kline_rows("BTCUSDT", "1s", row[0], row[6], 1000, NOW)
        assert merged(seconds) == columns(row)


@given(st.integers(0, 2_000), st.integers(1, 3_000), st.integers(1, 3_000))
@settings(max_examples=60)
def test_windows_cut_at_any_quarter_second_add_up(skip, first, second):
    series = store_of().series["ETHUSDT"]
    start = NOW // iv.DAY_MS * iv.DAY_MS - 250 * skip
    middle, end = start + 250 * first, start + 250 * (first + second)
    left, right = series.candle(start, middle, NOW), series.candle(middle, end, NOW)
    assert join(left, right) == series.candle(start, end, NOW)
    assert left.close == right.open


def test_closed_rows_chain_and_hold_their_average_price():
    for market, symbol in SYMBOL.items():
        rows = store_of(market).kline_rows(symbol, "1m", limit=1000, now_ms=NOW)
        assert [r[0] for r in rows] == list(range(rows[0][0], rows[-1][0] + 1, 60_000))
        for before, row in itertools.pairwise(rows):
            assert before[4] == row[1]
            assert row[6] == row[0] + 59_999
            low, high = Decimal(row[3]), Decimal(row[2])
            assert low <= min(Decimal(row[1]), Decimal(row[4]))
            assert high >= max(Decimal(row[1]), Decimal(row[4]))
            if market is Market.CM:
                average = Decimal(row[5]) * 100 / Decimal(row[7])
                assert low * Decimal("0.9999") <= average <= high * Decimal("1.0001")
            else:
                assert low <= Decimal(row[7]) / Decimal(row[5]) <= high
            assert Decimal(row[9]) <= Decimal(row[5])


@pytest.mark.parametrize("interval", ["1m", "1h", "1M"])
def test_open_candle_only_grows_until_it_equals_the_closed_one(interval):
    store = store_of()
    start = iv.open_time(interval, NOW)
    end = iv.next_open(interval, start)
    before = None
    for now in [*range(end - 60_000, end, 1_700), end - 1]:
        row = store.kline_rows("SOLUSDT", interval, limit=1, now_ms=now)[0]
        assert row[0] == start
        if before is not None:
            assert row[1] == before[1]
            assert Decimal(row[2]) >= Decimal(before[2])
            assert Decimal(row[3]) <= Decimal(before[3])
            assert row[8] >= before[8]
            for column in (5, 7, 9, 10):
                assert Decimal(row[column]) >= Decimal(before[column])
        before = row
    closed = store.kline_rows("SOLUSDT", interval, start, start, 1, end)[0]
    last = store.series["SOLUSDT"].candle(start, end, end)
    assert closed[4] == store.columns(store.spec("SOLUSDT"), last)[3]
    assert closed[8] >= before[8]


def test_a_candle_just_opened_is_flat_at_the_last_close():
    store = store_of()
    minute = NOW // 60_000 * 60_000
    closed, fresh = store.kline_rows("BTCUSDT", "1m", limit=2, now_ms=minute)
    assert fresh[1:5] == [closed[4]] * 4
    assert fresh[8] == 0
    assert Decimal(fresh[5]) == 0


def test_an_earlier_time_is_answered_right_after_a_later_one():
    store = store_of()
    store.kline_rows("BTCUSDT", "1m", limit=1000, now_ms=NOW + 3_600_000)
    seen = store.kline_rows("BTCUSDT", "1m", limit=5, now_ms=NOW)
    assert seen == store_of().kline_rows("BTCUSDT", "1m", limit=5, now_ms=NOW)
    assert seen[-1][0] == NOW // 60_000 * 60_000


def test_same_seed_gives_the_same_market_and_another_seed_another():
    a = store_of().kline_rows("BTCUSDT", "1m", limit=20, now_ms=NOW)
    assert a == store_of().kline_rows("BTCUSDT", "1m", limit=20, now_ms=NOW)
    assert a != store_of(seed=2).kline_rows("BTCUSDT", "1m", limit=20, now_ms=NOW)


def test_quiet_symbol_has_flat_candles_without_trades():
    rows = store_of().kline_rows("NKNUSDT", "1m", limit=300, now_ms=NOW)
    flat = [r for r in rows[:-1] if r[8] == 0]
    assert 150 < len(flat) < 299
    for row in flat:
        assert len(set(row[1:5])) == 1
        assert {Decimal(row[c]) for c in (5, 7, 9, 10)} == {Decimal(0)}


def test_numbers_are_written_as_the_market_writes_them():
    spot = store_of().kline_rows("BTCUSDT", "1m", limit=1, now_ms=NOW)[0]
    assert [type(v) for v in spot] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert all(len(spot[c].partition(".")[2]) == 8 for c in (1, 2, 3, 4, 5, 7, 9, 10))
    um = store_of(Market.UM).kline_rows("BTCUSDT", "1m", limit=1, now_ms=NOW)[0]
    assert len(um[1].partition(".")[2]) == 1
    assert len(um[5].partition(".")[2]) == 3
    cm = store_of(Market.CM).kline_rows("BTCUSD_PERP", "1m", limit=1, now_ms=NOW)[0]
    assert cm[5].isdigit()
    assert len(cm[7].partition(".")[2]) == 8
    assert spot[11] == um[11] == cm[11] == "0"


def test_gap_removes_rows_and_the_rest_still_adds_up():
    start = NOW // iv.HOUR_MS * iv.HOUR_MS - 2 * iv.HOUR_MS
    gap = Gap("spot", "BTCUSDT", start + 600_000, start + 1_800_000)
    store = store_of(gaps=[gap])
    rows = store.kline_rows("BTCUSDT", "1m", start, start + iv.HOUR_MS - 1, 1000, NOW)
    opens = [(r[0] - start) // 60_000 for r in rows]
    assert opens == [*range(10), *range(30, 60)]
    hour = store.kline_rows("BTCUSDT", "1h", start, start, 1, NOW)[0]
    assert merged(rows) == columns(hour)
    whole = store_of().kline_rows("BTCUSDT", "1h", start, start, 1, NOW)[0]
    assert Decimal(hour[5]) < Decimal(whole[5])
    assert len(store.kline_rows("ETHUSDT", "1m", start, start + iv.HOUR_MS - 1, 1000, NOW)) == 60


def test_range_before_listing_is_empty_and_the_first_row_is_the_listing():
    listed = NOW - 5 * iv.DAY_MS - 12_345
    store = store_of(listings={"BTCUSDT": listed})
    assert store.kline_rows("BTCUSDT", "1h", 0, listed - iv.DAY_MS, 10, NOW) == []
    first = store.kline_rows("BTCUSDT", "1h", 0, None, 1, NOW)[0]
    assert first[0] == listed // iv.HOUR_MS * iv.HOUR_MS
    assert store.kline_rows("BTCUSDT", "1h", NOW + 1, None, 10, NOW) == []


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
def test_range_rules_of_spot_and_um(market):
    store, symbol = store_of(market), SYMBOL[market]
    minute = NOW // 60_000 * 60_000

    def opens(start, end, limit):
        rows = store.kline_rows(symbol, "1m", start, end, limit, NOW)
        return [(r[0] - minute) // 60_000 for r in rows]

    assert opens(None, None, 3) == [-2, -1, 0]
    assert opens(minute - 600_000, None, 3) == [-10, -9, -8]
    assert opens(minute - 600_001, None, 2) == [-10, -9]
    assert opens(minute - 599_999, None, 2) == [-9, -8]
    assert opens(None, minute - 600_000, 3) == [-12, -11, -10]
    assert opens(minute - 600_000, minute - 480_000, 10) == [-10, -9, -8]
    assert opens(minute - 120_000, None, 10) == [-2, -1, 0]


def test_coin_m_answers_with_the_newest_rows_of_at_most_200_days():
    store = store_of(Market.CM)
    day = NOW // iv.DAY_MS * iv.DAY_MS

    def opens(start, end, limit):
        rows = store.kline_rows("BTCUSD_PERP", "1d", start, end, limit, NOW)
        return [(r[0] - day) // iv.DAY_MS for r in rows]

    assert opens(day - 300 * iv.DAY_MS, None, 3) == [-102, -101, -100]
    assert opens(day - 100 * iv.DAY_MS, None, 3) == [-2, -1, 0]
    assert opens(day - 100 * iv.DAY_MS, day - 50 * iv.DAY_MS, 2) == [-51, -50]
    assert len(opens(None, day, 1500)) == 201


@pytest.mark.parametrize("offset", [8 * iv.HOUR_MS, 5 * iv.HOUR_MS + 45 * 60_000, -iv.HOUR_MS])
def test_shifted_days_add_up_from_minutes(offset):
    store = store_of()
    row = store.kline_rows("BTCUSDT", "1d", limit=2, now_ms=NOW, offset_ms=offset)[0]
    assert (row[0] + offset) % iv.DAY_MS == 0
    minutes = store.kline_rows("BTCUSDT", "1m", row[0], row[6], 1000, NOW)
    minutes += store.kline_rows("BTCUSDT", "1m", minutes[-1][0] + 60_000, row[6], 1000, NOW)
    assert len(minutes) == 1440
    assert merged(minutes) == columns(row)


def test_every_interval_is_answered_on_every_market():
    for market, symbol in SYMBOL.items():
        store = store_of(market)
        for interval in INTERVALS[market]:
            rows = store.kline_rows(symbol, interval, limit=2, now_ms=NOW)
            assert rows[-1][0] == iv.open_time(interval, NOW)
            assert rows[0][6] + 1 == rows[1][0]


def test_trade_ids_count_the_trades_of_candles():
    store = store_of()
    path = store.series["BTCUSDT"].path
    for row in store.kline_rows("BTCUSDT", "1h", limit=30, now_ms=NOW)[:-1]:
        assert path.trade_id_at(row[6] + 1) - path.trade_id_at(row[0]) == row[8]
    newest = path.trade_id_at(NOW)
    for trade_id in range(newest - 200, newest + 1):
        moment = path.time_of_trade(trade_id)
        assert path.trade_id_at(moment) >= trade_id > path.trade_id_at(moment - 250)


def test_book_ticker_update_id_grows_and_bid_stays_below_ask():
    store = store_of(book_ticker_hz=4)
    before = None
    for now in range(NOW, NOW + 5_000, 100):
        ticker = store.book_ticker("BTCUSDT", now)
        assert Decimal(ticker.bid) < Decimal(ticker.ask)
        assert now - 251 <= ticker.time_ms <= now
        if before is not None:
            assert ticker.update_id >= before.update_id
            assert (ticker == before) == (ticker.update_id == before.update_id)
        before = ticker
    jump = store.next_update("BTCUSDT", NOW + 5_000)
    assert jump.update_id > before.update_id
    assert store.book_ticker("BTCUSDT", NOW + 5_000) == jump


def test_halt_stops_candles_and_resume_starts_them_again():
    store = store_of()
    minute = NOW // 60_000 * 60_000
    store.halt("BTCUSDT", minute + 30_000)
    frozen = store.book_ticker("BTCUSDT", minute + 30_000)
    later = minute + 300_000
    assert store.book_ticker("BTCUSDT", later) == frozen
    assert store.kline_rows("BTCUSDT", "1m", limit=1, now_ms=later)[0][0] == minute
    store.resume("BTCUSDT", later)
    rows = store.kline_rows("BTCUSDT", "1m", limit=3, now_ms=later + 60_000)
    assert [(r[0] - minute) // 60_000 for r in rows] == [0, 5, 6]
    assert store.book_ticker("BTCUSDT", later + 60_000).update_id > frozen.update_id


def test_row_cache_stays_bounded(monkeypatch):
    monkeypatch.setattr("resender.sandbox.market._CACHED_ROWS", 5_000)
    store = store_of()
    for symbol in list(store.series)[:12]:
        store.kline_rows(symbol, "1m", limit=1000, now_ms=NOW)
        kept = sum(len(chunk.rows) for chunk in store._chunks.values())
        assert kept <= 5_000 + 1_440


@pytest.mark.parametrize(
    ("value", "decimals", "shown", "text"),
    [(9000010, 2, 8, "90000.10000000"), (7, 5, 5, "0.00007"), (1999, 4, 2, "0.19"), (12, 0, 0, "12"),
     (12, 0, 1, "12.0"), (0, 8, 8, "0.00000000")],
)  # fmt: skip
def test_fixed_point_numbers_are_written_without_rounding(value, decimals, shown, text):
    assert fixed(value, decimals, shown) == text
