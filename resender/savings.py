"""The weight that answers out of memory have saved, by what they were about.

It counts what others tell it; one belongs to one gateway, on the event loop only.
"""

from __future__ import annotations

from collections import Counter

from resender.aio import Clock

_DAY_MS = 86_400_000

Key = tuple[str, str]


class Savings:
    """Weight saved since the start, and since the day began (UTC).

    Shape: `total` by market and kind of data (`klines`, `depth`, ...; `shared` for answers that served
        equal calls), both as text.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._day = clock.now_ms() // _DAY_MS
        # What `total` was when the day began.
        self._before: Counter[Key] = Counter()
        self.total: Counter[Key] = Counter()

    def note(self, key: Key, weight: int) -> None:
        """A call was answered without the weight it would have cost."""
        self._turn()
        self.total[key] += weight

    def today(self) -> dict[str, int]:
        """Return what was saved since midnight (UTC), by kind, the most first."""
        self._turn()
        found: Counter[str] = Counter()
        for key, weight in self.total.items():
            found[key[1]] += weight - self._before[key]
        return {kind: weight for kind, weight in found.most_common() if weight}

    def _turn(self) -> None:
        day = self._clock.now_ms() // _DAY_MS
        if day != self._day:
            self._day = day
            self._before = self.total.copy()
