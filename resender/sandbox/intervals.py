"""Candle boundaries of the simulated exchange, written apart from the gateway's own.

Pure arithmetic on epoch milliseconds. It knows no prices and reads no clock. It holds
no state.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
# 1970-01-01 was a Thursday; weeks open on Monday.
_WEEK_SHIFT_MS = 3 * DAY_MS

FIXED_MS: dict[str, int] = {
    "1s": 1_000,
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}
_MONTH = "1M"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_TIME_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::(\d{2}))?")


def _month_index(local_ms: int) -> int:
    moment = _EPOCH + dt.timedelta(milliseconds=local_ms)
    return moment.year * 12 + moment.month - 1


def _month_start(index: int) -> int:
    moment = dt.datetime(index // 12, index % 12 + 1, 1, tzinfo=dt.timezone.utc)
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)


def open_time(interval: str, at_ms: int, offset_ms: int = 0) -> int:
    """Return the open time of the candle that contains `at_ms`.

    Units: `offset_ms` is the time zone whose days the candles follow; the answer is UTC.
    """
    local = at_ms + offset_ms
    if interval == _MONTH:
        return _month_start(_month_index(local)) - offset_ms
    step = FIXED_MS[interval]
    if interval == "1w":
        return (local + _WEEK_SHIFT_MS) // step * step - _WEEK_SHIFT_MS - offset_ms
    return local // step * step - offset_ms


def next_open(interval: str, open_ms: int, offset_ms: int = 0) -> int:
    """Return the open time of the candle after the one opening at `open_ms`."""
    if interval == _MONTH:
        return _month_start(_month_index(open_ms + offset_ms) + 1) - offset_ms
    return open_ms + FIXED_MS[interval]


def back(interval: str, open_ms: int, count: int, offset_ms: int = 0) -> int:
    """Return the open time `count` candles before the one opening at `open_ms`."""
    if interval == _MONTH:
        return _month_start(_month_index(open_ms + offset_ms) - count) - offset_ms
    return open_ms - count * FIXED_MS[interval]


def opens(interval: str, first_ms: int, end_ms: int, offset_ms: int = 0) -> Iterator[int]:
    """Yield the open times from `first_ms` (an open time) up to, not including, `end_ms`."""
    if interval == _MONTH:
        current = first_ms
        while current < end_ms:
            yield current
            current = next_open(interval, current, offset_ms)
        return
    yield from range(first_ms, end_ms, FIXED_MS[interval])


def parse_time_zone(text: str) -> int | None:
    """Turn `8`, `-1:00` or `05:45` into milliseconds, None when malformed or out of range.

    Source: spot rest-api.md of 2026-07-21, range -12:00 to +14:00 inclusive.
    """
    match = _TIME_ZONE.fullmatch(text)
    if match is None:
        return None
    hours, minutes = int(match[2]), int(match[3] or 0)
    if minutes > 59:
        return None
    total = hours * 60 + minutes
    if match[1] == "-":
        total = -total
    if not -12 * 60 <= total <= 14 * 60:
        return None
    return total * MINUTE_MS
