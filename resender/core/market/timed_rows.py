"""Rows of a history that never change once they are there, by their time: funding rates, futures statistics.

Pure. What is held has no hole: rows come from answers with the newest ones, which join what is held or
take its place.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import orjson

from resender.core.market.kept_json import kept_json

MAX_ROWS = 1000


class TimedRows:
    """The newest rows of one history, oldest first.

    Units: times are epoch milliseconds of the exchange.
    """

    __slots__ = ("_texts", "_times", "is_whole")

    def __init__(self) -> None:
        self._times: list[int] = []
        self._texts: list[bytes] = []
        # Nothing exists before the first row.
        self.is_whole = False

    def __len__(self) -> int:
        return len(self._times)

    @property
    def newest_ms(self) -> int:
        """Time of the newest row, -1 if there is none."""
        return self._times[-1] if self._times else -1

    def take(self, rows: Sequence[tuple[int, bytes]], *, is_whole: bool) -> bool:
        """Take the newest rows there are; return False if one of those held was another one.

        Shape: ascending; `is_whole` tells that nothing exists before the first of them.
        """
        if not rows and self._times:  # what was there cannot be gone: neither is believed
            self._times, self._texts, self.is_whole = [], [], False
            return False
        held = dict(zip(self._times, self._texts, strict=True))
        is_same = all(held.get(time_ms, text) == text for time_ms, text in rows)
        if rows and rows[-1][0] < self.newest_ms and is_same:
            return True  # an older answer came late
        joins = bool(rows) and bool(held) and rows[0][0] <= self.newest_ms
        kept: list[tuple[int, bytes]] = []
        if joins and is_same:
            first = rows[0][0]
            kept = [(time_ms, text) for time_ms, text in held.items() if time_ms < first]
        found = [*kept, *rows]
        self.is_whole = (is_whole or (bool(kept) and self.is_whole)) and len(found) <= MAX_ROWS
        found = found[-MAX_ROWS:]
        self._times = [time_ms for time_ms, _ in found]
        self._texts = [text for _, text in found]
        return is_same

    def forget_newest(self) -> None:
        """Let go of the newest row: it may not be final yet."""
        if self._times:
            del self._times[-1], self._texts[-1]

    def latest(self, limit: int) -> list[bytes] | None:
        """Return the newest rows, None if there are not enough and older ones exist."""
        if len(self._times) < limit and not self.is_whole:
            return None
        return self._texts[-limit:]

    def from_time(self, start_ms: int, end_ms: int, limit: int) -> list[bytes] | None:
        """Return the oldest rows of a span of time, None if some before it are not held."""
        if not self.is_whole and (not self._times or start_ms < self._times[0]):
            return None
        first, last = bisect_left(self._times, start_ms), bisect_right(self._times, end_ms)
        return self._texts[first : max(first, min(last, first + limit))]


def read_timed(body: bytes, key: str) -> list[tuple[int, bytes]]:
    """Read a REST answer of rows, ascending, each with its time.

    Raises: ValueError, KeyError or TypeError if it is anything else.
    """
    read: Any = orjson.loads(body)
    if type(read) is not list:
        raise TypeError("rows that are no list")
    rows = []
    last = -1
    for row in read:
        time_ms = row[key]
        if type(time_ms) is not int or time_ms <= last:
            raise ValueError("rows out of order")
        rows.append((time_ms, kept_json(row)))
        last = time_ms
    return rows
