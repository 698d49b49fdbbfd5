"""Rows that do not follow the grid: outages, holes, gaps of seconds."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.sandbox import intervals as iv
from resender.sandbox.config import Gap, Outage, SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
HOUR = NOW // iv.HOUR_MS * iv.HOUR_MS
DAY = NOW // iv.DAY_MS * iv.DAY_MS


def store_of(*outages, market=Market.SPOT, **options):
    config = SandboxConfig(clock_ms=lambda: NOW, outages=outages, **options)
    return MarketStore(market, config, NOW)


def rows_of(store, interval, start, end, now=NOW, symbol="BTCUSDT"):
    return store.kline_rows(symbol, interval, start, end, 1000, now)


def spans(rows):
    return [(row[0], row[6]) for row in rows]


# -- off the grid ----------------------------------------------------------------------------


def test_the_first_candle_after_an_outage_opens_off_the_grid_where_it_has_no_earlier_part():
    start, end = HOUR - 10 * iv.HOUR_MS + 28 * 60_000, HOUR - 5 * iv.HOUR_MS + 7 * 60_000 + 23_750
    store = store_of(Outage("spot", "BTCUSDT", start, end))
    plain = store_of()
    for interval in ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h"):
        grid = iv.open_time(interval, end)
        close = iv.next_open(interval, grid)
        rows = rows_of(store, interval, None, end + 10 * 60_000)
        after = [row for row in rows if row[6] >= end]
        before = [row for row in rows if row[6] < end]
        assert after[0][:7:6] == [grid if grid <= start else end, close - 1]
        assert before == [] or before[-1][0] <= iv.open_time(interval, start)
        for first, second in itertools.pairwise(rows):
            assert first[6] < second[0]
        whole = rows_of(plain, interval, grid, grid)[0]
        assert after[0][4] == whole[4]
        assert (after[0] == whole) == (grid == end)
    minute = rows_of(store, "1m", end - 60_000, end)[0]
    assert (minute[0] % 60_000, minute[6] % 60_000) == (23_750, 59_999)
    assert rows_of(store, "8h", HOUR - 12 * iv.HOUR_MS, HOUR)[0][0] % iv.HOUR_MS == 0


def test_candles_with_trades_before_the_outage_keep_their_open_on_the_grid():
    start, end = HOUR - 30 * 60_000, HOUR - 20 * 60_000 - 11_111
    store = store_of(Outage("spot", None, start, end))
    (hour,) = rows_of(store, "1h", HOUR - iv.HOUR_MS, HOUR - 1)
    assert spans([hour]) == [(HOUR - iv.HOUR_MS, HOUR - 1)]
    minutes = rows_of(store, "1m", HOUR - iv.HOUR_MS, HOUR - 1)
    assert len(minutes) == 30 + 21
    assert minutes[30][0] == end
    assert float(hour[5]) == pytest.approx(sum(float(row[5]) for row in minutes))


def test_gaps_and_outages_without_the_flag_leave_the_grid_alone():
    start, end = HOUR - 30 * 60_000, HOUR - 20 * 60_000 - 11_250
    by_gap = rows_of(store_of(gaps=[Gap("spot", None, start, end)]), "1m", HOUR - iv.HOUR_MS, HOUR)
    by_outage = rows_of(
        store_of(Outage("spot", None, start, end, off_grid=False)), "1m", HOUR - iv.HOUR_MS, HOUR
    )
    assert by_gap == by_outage
    assert all(row[0] % 60_000 == 0 for row in by_gap)


def test_ranges_compare_with_the_open_time_that_is_shown():
    end = HOUR - 20 * 60_000 + 23_750
    store = store_of(Outage("spot", "BTCUSDT", HOUR - 40 * 60_000, end))
    later = end // 60_000 * 60_000 + 60_000

    def opens(start, stop, limit=3):
        return [row[0] for row in store.kline_rows("BTCUSDT", "1m", start, stop, limit, NOW)]

    assert opens(end - 5_000, None, 2) == [end, later]
    assert opens(end, None, 2) == [end, later]
    assert opens(end + 1, None, 1) == [later]
    assert opens(None, end)[-1] == end
    assert opens(None, end - 1)[-1] == HOUR - 41 * 60_000
    assert opens(end, end) == [end]
    assert opens(end - 23_750, end - 1) == []
    assert opens(later, None, 1) == [later]


def test_the_candle_in_progress_after_an_outage_is_off_the_grid_too():
    minute = NOW // 60_000 * 60_000
    end = minute + 10_250
    store = store_of(Outage("um", "BTCUSDT", minute - 600_000, end), market=Market.UM)
    for now, shown in ((end - 1, minute - 660_000), (end, minute - 660_000), (end + 250, end), (NOW, end)):
        assert store.kline_rows("BTCUSDT", "1m", limit=1, now_ms=now)[0][0] == shown
    assert spans(store.kline_rows("BTCUSDT", "1m", end, end, 5, NOW)) == [(end, minute + 59_999)]
    assert store.kline_rows("BTCUSDT", "1m", end + 1, None, 5, NOW) == []


@given(
    st.integers(1, 40_000),
    st.integers(1, 40_000),
    st.integers(0, 249),
    st.sampled_from(["1m", "15m", "1h", "4h"]),
)
@settings(max_examples=40)
def test_rows_around_any_outage_ascend_without_overlap_and_are_found_by_their_opens(
    before, length, odd, interval
):
    start = HOUR - (before + length) * 1_000 - odd
    outage = Outage("spot", "BTCUSDT", start, start + length * 1_000 + odd // 2, early_close=True)
    store = store_of(outage)
    rows = rows_of(store, interval, start - 2 * iv.DAY_MS if interval == "4h" else start - iv.HOUR_MS, NOW)
    for first, second in itertools.pairwise(rows):
        assert first[0] <= first[6] < second[0]
    for row in [row for row in rows if row[0] % 60_000 or (row[6] + 1) % 60_000]:
        assert store.kline_rows("BTCUSDT", interval, row[0], row[0], 1, NOW) == [row]
        assert store.kline_rows("BTCUSDT", interval, None, row[0], 1, NOW) == [row]


# -- early close -----------------------------------------------------------------------------


def test_the_suspension_of_february_2018_closes_one_row_early():
    begun, over = 1_518_049_694_789, 1_518_168_601_750
    store = store_of(Outage("spot", "BTCUSDT", begun, over, early_close=True))
    rows = rows_of(store, "4h", begun - iv.DAY_MS, over + iv.DAY_MS)
    opens = [row[0] for row in rows]
    index = opens.index(1_518_048_000_000)
    assert rows[index][6] == 1_518_049_694_788
    assert spans(rows)[index + 1] == (over, iv.next_open("4h", iv.open_time("4h", over)) - 1)
    for first, second in itertools.pairwise(rows):
        assert first[6] < second[0]
    week = rows_of(store, "1w", begun - 7 * iv.DAY_MS, over)[-1]
    assert week[6] - week[0] == 7 * iv.DAY_MS - 1  # it trades again before its end
    (day,) = rows_of(store, "1d", 1_518_048_000_000, 1_518_048_000_000)
    assert day[6] == begun - 1


def test_a_candle_in_progress_does_not_close_early():
    minute = NOW // 60_000 * 60_000
    start = minute + 5_000
    store = store_of()
    store.add_outage(Outage("spot", "BTCUSDT", start, start + 600_000, early_close=True))
    rows = store.kline_rows("BTCUSDT", "1m", limit=1, now_ms=minute + 30_000)
    assert spans(rows) == [(minute, minute + 59_999)]
    rows = store.kline_rows("BTCUSDT", "1m", limit=1, now_ms=minute + 90_000)
    assert spans(rows) == [(minute, start - 1)]


# -- seconds ---------------------------------------------------------------------------------


def test_gaps_take_seconds_out_and_the_minute_still_adds_up():
    minute = HOUR - 60_000
    gaps = [Gap("spot", "BTCUSDT", minute + 3_000, minute + 5_000), Gap("spot", None, minute + 59_000, HOUR)]
    store = store_of(gaps=gaps)
    seconds = rows_of(store, "1s", minute, HOUR - 1)
    assert [(row[0] - minute) // 1000 for row in seconds] == [*range(3), *range(5, 59)]
    (row,) = rows_of(store, "1m", minute, minute)
    assert sum(second[8] for second in seconds) == row[8]
    assert [second[4] for second in seconds][-1] == row[4]


def test_seconds_without_trades_have_no_row_where_holes_are_wanted():
    full, holed = store_of(), store_of(holes_1s=True)
    for symbol in ("BTCUSDT", "NKNUSDT"):
        rows = rows_of(full, "1s", HOUR - 600_000, HOUR - 1, symbol=symbol)
        traded = [row for row in rows if row[8]]
        assert len(rows) == 600
        assert 0 < len(traded) < (600 if symbol == "NKNUSDT" else 601)
        assert rows_of(holed, "1s", HOUR - 600_000, HOUR - 1, symbol=symbol) == traded
        minutes = rows_of(full, "1m", HOUR - 600_000, HOUR - 1, symbol=symbol)
        assert rows_of(holed, "1m", HOUR - 600_000, HOUR - 1, symbol=symbol) == minutes
    assert holed.kline_rows("NKNUSDT", "1s", limit=5, now_ms=NOW)[-1][8] > 0
