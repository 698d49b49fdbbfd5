"""The moments around a close: where they begin and end, of which intervals, and that a wait leads out of them."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.intervals import INTERVAL_MS
from resender.market.close_pause import ClosePause, no_pause

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
# Thursday, 2026-10-01, 00:00 UTC: a day, a month and no week begin.
MONTH = 1_790_812_800_000


def wait_ms(now_ms: int, *intervals: str) -> int:
    return round(ClosePause(lambda: intervals, lambda: now_ms).wait_s() * 1000)


def window_of(now_ms: int, interval: str) -> bool:
    """Tell whether a time lies from 3 s before to 10 s after a moment at which such candles may close."""
    length = min(INTERVAL_MS[interval] or DAY, DAY)
    close = (now_ms + 3000) // length * length
    return length >= MINUTE and close - 3000 <= now_ms < close + 10_000


# -- one interval -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since_ms", "wanted"),
    [
        (-3001, 0),
        (-3000, 13_000),
        (-2999, 12_999),
        (-1, 10_001),
        (0, 10_000),
        (1, 9_999),
        (9_999, 1),
        (10_000, 0),
        (10_001, 0),
        (30_000, 0),
    ],
)
@pytest.mark.parametrize("interval", ["1m", "5m", "1h", "1d"])
def test_wait_lasts_from_three_seconds_before_a_close_to_ten_after_it(
    interval: str, since_ms: int, wanted: int
) -> None:
    assert wait_ms(MONTH + since_ms, interval) == wanted


def test_wait_is_told_in_seconds() -> None:
    assert ClosePause(lambda: ["1m"], lambda: MONTH + 2500).wait_s() == 7.5


@pytest.mark.parametrize(
    ("interval", "since_ms", "is_close"),
    [
        ("1m", MINUTE, True),
        ("3m", MINUTE, False),
        ("3m", 3 * MINUTE, True),
        ("5m", 3 * MINUTE, False),
        ("8h", 4 * HOUR, False),
        ("8h", 8 * HOUR, True),
        ("1d", 12 * HOUR, False),
    ],
)
def test_only_closes_of_what_is_kept_count(interval: str, since_ms: int, is_close: bool) -> None:
    assert wait_ms(MONTH + since_ms, interval) == (10_000 if is_close else 0)


@pytest.mark.parametrize("interval", ["3d", "1w", "1M"])
def test_weeks_and_months_may_close_with_any_day(interval: str) -> None:
    for day in range(31):
        assert wait_ms(MONTH + day * DAY + 500, interval) == 9_500
        assert wait_ms(MONTH + day * DAY - 500, interval) == 10_500
        assert wait_ms(MONTH + day * DAY + 12 * HOUR, interval) == 0


def test_candles_of_a_second_close_all_the_time_and_hold_nothing_up() -> None:
    assert {wait_ms(MONTH + ms, "1s") for ms in range(0, 3000, 7)} == {0}
    assert wait_ms(MONTH + 500, "1s", "1h") == 9_500


# -- several ------------------------------------------------------------------------------------


def test_nothing_that_is_kept_holds_nothing_up() -> None:
    assert wait_ms(MONTH) == 0
    assert no_pause() == 0


@pytest.mark.parametrize("intervals", [("1h", "1m"), ("1m", "1h"), ("1s", "1m", "1M")])
def test_close_of_one_of_several_is_enough(intervals: tuple[str, ...]) -> None:
    assert wait_ms(MONTH + 7 * MINUTE + 4000, *intervals) == 6_000
    assert wait_ms(MONTH + 7 * MINUTE + 20_000, *intervals) == 0


def test_what_is_kept_and_the_time_are_asked_for_each_time() -> None:
    held, times = [["1h"], ["1m"], ["1m"]], [MINUTE, MINUTE, MINUTE + 15_000]
    pause = ClosePause(lambda: held.pop(0), lambda: MONTH + times.pop(0))
    assert [pause.wait_s() for _ in range(3)] == [0, 10, 0]


words = st.sets(st.sampled_from(sorted(INTERVAL_MS)))
moments = st.one_of(
    st.integers(MONTH, MONTH + 40 * DAY),
    # Most of them around some close.
    st.builds(
        lambda count, unit, ms: MONTH + count * unit + ms,
        st.integers(0, 100),
        st.sampled_from([MINUTE, 15 * MINUTE, HOUR, DAY]),
        st.integers(-4000, 11_000),
    ),
)


@given(words, moments)
def test_at_the_time_told_no_close_is_near(held: Collection[str], now_ms: int) -> None:
    wait = wait_ms(now_ms, *held)
    assert (wait > 0) is any(window_of(now_ms, interval) for interval in held)
    assert wait <= 13_000
    assert not any(window_of(now_ms + wait, interval) for interval in held)
    assert not wait or any(window_of(now_ms + wait - 1, interval) for interval in held), "no longer than that"
