"""Kline intervals: which there are, how long each one is, where the next candle opens.

Only arithmetic; nothing here knows where a series starts, so no alignment is assumed: a next
candle is found from the one before it. It holds no state.
Source: spot rest-api.md of 2026-07-21 (list of intervals; a kline is identified by its open time).
"""

from __future__ import annotations

from datetime import datetime, timezone

_SECOND_MS = 1000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS

# Milliseconds; 0 = a calendar month.
INTERVAL_MS: dict[str, int] = {
    "1s": _SECOND_MS,
    "1m": _MINUTE_MS,
    "3m": 3 * _MINUTE_MS,
    "5m": 5 * _MINUTE_MS,
    "15m": 15 * _MINUTE_MS,
    "30m": 30 * _MINUTE_MS,
    "1h": _HOUR_MS,
    "2h": 2 * _HOUR_MS,
    "4h": 4 * _HOUR_MS,
    "6h": 6 * _HOUR_MS,
    "8h": 8 * _HOUR_MS,
    "12h": 12 * _HOUR_MS,
    "1d": _DAY_MS,
    "3d": 3 * _DAY_MS,
    "1w": 7 * _DAY_MS,
    "1M": 0,
}
_SHORTEST_MONTH_MS = 28 * _DAY_MS


def next_open(interval: str, open_time: int) -> int:
    """Return the open time of the candle after the one that opens at `open_time`.

    Units: epoch milliseconds, UTC.
    """
    length = INTERVAL_MS[interval]
    if length:
        return open_time + length
    moment = datetime.fromtimestamp(open_time / 1000, timezone.utc)
    year, month = (moment.year, moment.month + 1) if moment.month < 12 else (moment.year + 1, 1)
    return int(datetime(year, month, 1, tzinfo=timezone.utc).timestamp()) * 1000


def candles_between(interval: str, start_ms: int, end_ms: int) -> int:
    """Return how many candles may open in a span of time, rather one too many than one too few."""
    length = INTERVAL_MS[interval] or _SHORTEST_MONTH_MS
    return max(0, end_ms - start_ms) // length + 1
