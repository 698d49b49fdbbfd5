"""The weight that answers out of memory have saved, by what they were about.

It counts what others tell it; one belongs to one gateway, on the event loop only.
"""

from __future__ import annotations

from collections import Counter

from resender.aio import Clock
from resender.core.binance.markets import Market

_DAY_MS = 86_400_000


class Savings:
    """Weight saved since the start, and since the day began (UTC).

    Shape: `total` by market and kind of data (`klines`, `depth`, ...; `shared` for answers that served
        equal calls).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._day = clock.now_ms() // _DAY_MS
        self._today: Counter[str] = Counter()
        self.total: Counter[tuple[Market, str]] = Counter()

    def note(self, market: Market, kind: str, weight: int) -> None:
        """A call was answered without the weight it would have cost."""
        self.total[market, kind] += weight
        self._turn()
        self._today[kind] += weight

    def today(self) -> dict[str, int]:
        """Return what was saved since midnight (UTC), by kind, the most first."""
        self._turn()
        return dict(self._today.most_common())

    def _turn(self) -> None:
        day = self._clock.now_ms() // _DAY_MS
        if day != self._day:
            self._day = day
            self._today.clear()
