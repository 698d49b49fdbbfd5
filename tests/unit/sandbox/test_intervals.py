"""Candle boundaries against the standard library's calendar."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.sandbox import intervals as iv

MOMENTS = st.integers(min_value=1_400_000_000_000, max_value=1_900_000_000_000)
UTC = dt.timezone.utc


def at(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms // 1000, UTC)


def ms_of(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * 1000


@given(MOMENTS)
@settings(max_examples=60)
def test_week_opens_on_the_monday_before(moment):
    start = iv.open_time("1w", moment)
    assert at(start).weekday() == 0
    assert at(start).time() == dt.time(0)
    assert 0 <= moment - start < 7 * iv.DAY_MS


@given(MOMENTS)
@settings(max_examples=60)
def test_month_is_the_calendar_month(moment):
    start = iv.open_time("1M", moment)
    day = at(moment)
    assert start == ms_of(dt.datetime(day.year, day.month, 1, tzinfo=UTC))
    following = dt.datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    assert iv.next_open("1M", start) == ms_of(following)
    assert iv.back("1M", iv.next_open("1M", start), 1) == start


@given(MOMENTS, st.sampled_from([i for i in iv.FIXED_MS if i not in ("3d", "1w")]))
@settings(max_examples=60)
def test_intraday_candles_divide_the_day(moment, interval):
    start = iv.open_time(interval, moment)
    midnight = ms_of(at(moment).replace(hour=0, minute=0, second=0))
    assert (start - midnight) % iv.FIXED_MS[interval] == 0
    assert start <= moment < iv.next_open(interval, start)


@given(MOMENTS, st.sampled_from(["1h", "4h", "1d", "1w", "1M"]))
@settings(max_examples=60)
def test_time_zone_shifts_boundaries_to_local_midnights(moment, interval):
    offset = 8 * iv.HOUR_MS
    start = iv.open_time(interval, moment, offset)
    assert start <= moment < iv.next_open(interval, start, offset)
    local = at(start).astimezone(dt.timezone(dt.timedelta(hours=8)))
    assert local.minute == 0
    if interval in ("1d", "1w", "1M"):
        assert local.hour == 0
    if interval == "1M":
        assert local.day == 1


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("0", 0), ("8", 480), ("-1:00", -60), ("05:45", 345), ("-12:00", -720), ("14:00", 840), ("+08:00", 480)],
)
def test_time_zone_text_is_read(text, minutes):
    assert iv.parse_time_zone(text) == minutes * 60_000


@pytest.mark.parametrize("text", ["", "x", "15", "-12:30", "1:60", "8:0", "UTC"])
def test_malformed_time_zone_is_none(text):
    assert iv.parse_time_zone(text) is None
