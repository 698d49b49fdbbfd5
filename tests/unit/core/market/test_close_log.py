"""Closes in figures: which series were final when, how, and which are missing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resender.core.market.close_log import EVENT, KEPT, LATE_MS, READ, WITNESS, CloseLog

MINUTE = 60_000
T = 1_790_000_040_000


def test_close_is_told_in_figures() -> None:
    log = CloseLog("1m")
    log.note(T, "A", T + 105, 4, EVENT, T + 90)
    log.note(T, "B", T + 464, 4, EVENT, T + 460)
    log.note(T, "C", T + 1600, 4, READ)
    (close,) = log.stats()
    assert (close.close_ms, close.expected, close.arrived, close.missing) == (T, 4, 3, 1)
    assert (close.first_ms, close.p50_ms, close.p99_ms, close.last_ms) == (105, 464, 1600, 1600)
    assert (close.by_event, close.by_read, close.by_witness) == (2, 1, 0)
    assert close.slowest == "C"
    assert (close.event_p50_ms, close.event_last_ms, close.trip_p50_ms) == (90, 460, 4)
    log.note(T, "D", T + 3500, 4, WITNESS)
    (close,) = log.stats()
    assert (close.missing, close.by_witness, close.last_ms, close.slowest) == (0, 1, 3500, "D")


def test_newest_close_comes_first_and_old_ones_go() -> None:
    log = CloseLog("1m")
    for number in range(KEPT + 6):
        log.note(T + number * MINUTE, "A", T + number * MINUTE + 5, 1, EVENT, T + number * MINUTE)
    stats = log.stats()
    assert [close.close_ms for close in stats] == [T + number * MINUTE for number in range(KEPT + 5, 5, -1)]


def test_late_series_joins_its_own_close_and_none_of_a_time_long_gone() -> None:
    log = CloseLog("1m")
    log.note(T, "A", T + 5, 2, EVENT, T)
    log.note(T + MINUTE, "A", T + MINUTE + 5, 2, EVENT, T + MINUTE)
    log.note(T, "B", T + MINUTE, 2, READ)
    log.note(T - MINUTE, "B", T + MINUTE + 9, 2, READ)
    newest, older = log.stats()
    assert (newest.arrived, older.arrived, older.last_ms) == (1, 2, MINUTE)


def test_what_becomes_final_long_after_is_counted_and_no_figure() -> None:
    log = CloseLog("1h")
    log.note(T // 3_600_000 * 3_600_000, "A", T // 3_600_000 * 3_600_000 + 5, 2, EVENT)
    log.note(T // 3_600_000 * 3_600_000, "B", T // 3_600_000 * 3_600_000 + LATE_MS + 1, 2, READ)
    (close,) = log.stats()
    assert (close.arrived, close.missing, close.by_read) == (2, 0, 1)
    assert (close.last_ms, close.slowest) == (5, "A")


def test_candle_that_ends_off_the_grid_is_no_close_of_its_own() -> None:
    log = CloseLog("1m")
    log.note(T + 30_000, "A", T + 30_005, 1, READ)
    assert log.stats() == []
    for interval in ("1w", "1M", "3d"):
        log = CloseLog(interval)
        log.note(86_400_000 * 20_000, "A", 86_400_000 * 20_000 + 1, 1, EVENT, 86_400_000 * 20_000)
        assert len(log.stats()) == 1, interval


def test_correction_is_counted_at_its_close() -> None:
    log = CloseLog("1m")
    log.note(T, "A", T + 1600, 1, READ)
    assert log.stats()[0].corrected == 0
    log.correct(T)
    log.correct(T + MINUTE)
    assert log.stats()[0].corrected == 1


def test_clock_that_is_behind_makes_no_time_negative() -> None:
    log = CloseLog("1m")
    log.note(T, "A", T - 3, 1, EVENT, T + 1)
    (close,) = log.stats()
    assert (close.first_ms, close.trip_p50_ms, close.event_p50_ms, close.slowest) == (0, 0, 1, "A")


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60))
def test_figures_are_values_there_were_and_rise(after: list[int]) -> None:
    log = CloseLog("1m")
    for number, each in enumerate(after):
        log.note(T, str(number), T + each, 1, READ)
    (close,) = log.stats()
    figures = [close.first_ms, close.p50_ms, close.p99_ms, close.last_ms]
    assert figures == sorted(figures)  # type: ignore[type-var]
    assert set(figures) <= set(after)
    assert (figures[0], figures[-1]) == (min(after), max(after))
    assert sum(each <= close.p50_ms for each in after) * 2 >= len(after)
    assert after[int(close.slowest)] == max(after)
    assert close.expected == close.arrived == len(after)
