"""Which rows of a kline series a call asks for, by each rule there is, and the bytes of them.

Pure; `KlineSeries` is a `Selection` that also knows how its rows come to be.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from resender.core.market.candles import Candle
from resender.core.market.row_store import Buffer, RowStore


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a series a call asks for, closed rows by index and the rows after them."""

    first: int
    last: int
    tail: tuple[bytes, ...]


class Selection:
    """The rows of a series, closed ones first, as a call may choose them.

    Shape: `is_whole` tells that nothing exists before the first row. Units: epoch milliseconds.
    """

    __slots__ = ()

    closed: RowStore
    is_whole: bool
    _pending: list[Candle]
    _last_close: int

    @property
    def _opens(self) -> array[int]:
        return self.closed.opens

    @property
    def first_open(self) -> int | None:
        if self._opens:
            return self._opens[0]
        return self._pending[0].open_time if self._pending else None

    def latest(self, limit: int) -> Span | None:
        """Choose the latest rows, None if there are not enough and older ones exist."""
        count = len(self._opens)
        tail = tuple(candle.row for candle in self._pending[-limit:])
        first = max(0, count - (limit - len(tail)))
        if count + len(self._pending) < limit and not self.is_whole:
            return None
        return Span(first, count, tail)

    def first_from(self, start_ms: int, end_ms: int | None, limit: int) -> Span | None:
        """Choose the oldest rows from a time on, None if some of them are not held."""
        first_open = self.first_open
        if not self.is_whole and (first_open is None or start_ms < first_open):
            return None
        first = bisect_left(self._opens, start_ms)
        last = len(self._opens) if end_ms is None else bisect_right(self._opens, end_ms)
        last = max(first, min(last, first + limit))
        room = limit - (last - first)
        tail = [
            c.row
            for c in self._pending
            if c.open_time >= start_ms and (end_ms is None or c.open_time <= end_ms)
        ]
        return Span(first, last, tuple(tail[:room] if last == len(self._opens) else ()))

    def closed_span(self, close_ms: int, limit: int, since_ms: int | None = None) -> Span | None:
        """Choose the latest closed rows up to the one that closes at a time.

        Shape: with `since_ms` none that opened before. None if there are not enough and older ones exist.
        """
        last = len(self._opens)
        if close_ms < self._last_close:
            last = bisect_right(self._opens, close_ms)
        first = max(0, last - limit)
        if since_ms is not None:
            first = max(first, min(last, bisect_left(self._opens, since_ms)))
        is_short = last - first < limit and first == 0 and not self.is_whole
        if is_short and (since_ms is None or not self._opens or since_ms < self._opens[0]):
            return None
        return Span(first, last, ())

    def latest_until(self, start_ms: int | None, end_ms: int, limit: int) -> Span | None:
        """Choose the latest rows up to a time, None if some of them are not held."""
        tail = [c.row for c in self._pending if c.open_time <= end_ms and (start_ms or 0) <= c.open_time]
        tail = tail[-limit:]
        last = bisect_right(self._opens, end_ms)
        first = max(0, last - (limit - len(tail)))
        if start_ms is not None:
            first = max(first, min(last, bisect_left(self._opens, start_ms)))
        reaches_start = first > 0 or self.is_whole
        is_short = not reaches_start and len(tail) + last - first < limit
        # What lies before the first row held is not known, unless the call does not want it.
        if is_short and (start_ms is None or self.first_open is None or start_ms < self.first_open):
            return None
        return Span(first, last, tuple(tail))

    def body(self, span: Span) -> bytes:
        """Build the JSON array of a span."""
        return (
            b"".join((b"[", self.closed_part(span), b",".join(span.tail), b"]"))
            if span.tail
            else (b"[" + self.closed_part(span)[:-1] + b"]")
        )

    def closed_part(self, span: Span) -> bytes:
        """Return the closed rows of a span, each followed by a comma."""
        return self.closed.part(span.first, span.last)

    def closed_views(self, span: Span) -> list[Buffer]:
        """Return the closed rows of a span in pieces, joined by commas, mostly without a copy."""
        views = self.closed.views(span.first, span.last)
        if views:
            views[-1] = views[-1][:-1]
        return views

    def body_views(self, span: Span) -> list[Buffer]:
        """Return what `body` would, in pieces and mostly without a copy."""
        views: list[Buffer] = [b"[", *self.closed.views(span.first, span.last)]
        if span.tail:
            return [*views, b",".join(span.tail), b"]"]
        if len(views) > 1:
            views[-1] = views[-1][:-1]
        return [*views, b"]"]
