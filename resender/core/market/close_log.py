"""What became of the last closes of one market and interval: when each series' candle was final here.

Pure: it is told of each and asks for nothing. Times after a close are by the exchange's clock as far as
it is known here; how long an event was under way can never come out shorter than it was.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field

from resender.core.binance.intervals import INTERVAL_MS

KEPT = 24
# Later ones count as final, but not in the figures.
LATE_MS = 60_000
_DAY_MS = 86_400_000
EVENT, READ, WITNESS = "event", "read", "witness"


@dataclass(frozen=True, slots=True)
class CloseStats:
    """One close in figures; None where there is nothing to tell.

    Shape: `expected` series were kept when it came, `arrived` of them are final, by an event, a REST read
        or the witness; `corrected` rows a read had settled were put right by a late event.
    Units: `close_ms` epoch milliseconds; `first_ms` to `last_ms` milliseconds after the close at which
        series were final here, `event_*` those at which the exchange made the events, `trip_p50_ms` what
        events took to arrive.
    """

    close_ms: int
    expected: int
    arrived: int
    by_event: int
    by_read: int
    by_witness: int
    corrected: int
    first_ms: int | None
    p50_ms: int | None
    p99_ms: int | None
    last_ms: int | None
    slowest: str
    event_p50_ms: int | None
    event_last_ms: int | None
    trip_p50_ms: int | None

    @property
    def missing(self) -> int:
        return max(0, self.expected - self.arrived)


@dataclass(slots=True)
class _Close:
    """One close as it comes in."""

    close_ms: int
    expected: int
    after: array[int] = field(default_factory=lambda: array("i"))
    made: array[int] = field(default_factory=lambda: array("i"))
    trips: array[int] = field(default_factory=lambda: array("i"))
    by: dict[str, int] = field(default_factory=lambda: {EVENT: 0, READ: 0, WITNESS: 0})
    corrected: int = 0
    slowest: str = ""
    slowest_ms: int = -1
    stats: CloseStats | None = None


class CloseLog:
    """The last closes of candles of one interval."""

    def __init__(self, interval: str) -> None:
        # Weeks and months end with a day.
        self._grid_ms = min(INTERVAL_MS[interval] or _DAY_MS, _DAY_MS)
        self._closes: OrderedDict[int, _Close] = OrderedDict()

    def note(
        self, close_ms: int, symbol: str, now_ms: int, expected: int, how: str, event_ms: int = 0
    ) -> None:
        """A series' candle that ended at a close has become final.

        Shape: `expected` is how many series are kept. Units: epoch milliseconds of the exchange.
        """
        close = self._closes.get(close_ms)
        if close is None:
            if close_ms % self._grid_ms or close_ms < next(reversed(self._closes), 0):
                return  # a candle that ended off the grid, or one of a time long gone
            close = self._closes[close_ms] = _Close(close_ms, expected)
            if len(self._closes) > KEPT:
                self._closes.popitem(last=False)
        after_ms = max(0, now_ms - close_ms)
        close.by[how] += 1
        close.stats = None
        if after_ms > LATE_MS:
            return  # what was down or asked for long after says nothing about the close
        close.after.append(after_ms)
        if after_ms > close.slowest_ms:
            close.slowest, close.slowest_ms = symbol, after_ms
        if event_ms:
            close.made.append(max(0, event_ms - close_ms))
            close.trips.append(max(0, now_ms - event_ms))

    def correct(self, close_ms: int) -> None:
        """A late event put right what a read had settled."""
        close = self._closes.get(close_ms)
        if close is not None:
            close.corrected += 1
            close.stats = None

    def stats(self) -> list[CloseStats]:
        """Tell all of them in figures, newest first."""
        return [_stats(close) for close in reversed(self._closes.values())]


def _stats(close: _Close) -> CloseStats:
    if close.stats is None:
        after, made, trips = sorted(close.after), sorted(close.made), sorted(close.trips)
        close.stats = CloseStats(
            close_ms=close.close_ms,
            expected=max(close.expected, sum(close.by.values())),
            arrived=sum(close.by.values()),
            by_event=close.by[EVENT],
            by_read=close.by[READ],
            by_witness=close.by[WITNESS],
            corrected=close.corrected,
            first_ms=_at(after, 0.0),
            p50_ms=_at(after, 0.5),
            p99_ms=_at(after, 0.99),
            last_ms=_at(after, 1.0),
            slowest=close.slowest,
            event_p50_ms=_at(made, 0.5),
            event_last_ms=_at(made, 1.0),
            trip_p50_ms=_at(trips, 0.5),
        )
    return close.stats


def _at(values: list[int], part: float) -> int | None:
    """Return the value at which a part of all has come (nearest rank), None of none."""
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else None
