"""When candles close: what can wait keeps clear of that moment, because that is when answers are awaited.

Pure but for the clock it is handed. Who does such work asks; nothing is started here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resender.core.binance.intervals import INTERVAL_MS

BEFORE_MS = 3_000
AFTER_MS = 10_000
# Weeks and months begin with a day; what is shorter than a minute closes all the time.
_DAY_MS = 86_400_000
_SHORTEST_MS = 60_000

PauseS = Callable[[], float]


def no_pause() -> float:
    """No close is near, ever."""
    return 0.0


class ClosePause:
    """The moments around the closes of what is kept.

    Shape: `intervals()` are the words of those kept, `now_ms()` a time of the exchange.
    """

    def __init__(self, intervals: Callable[[], Iterable[str]], now_ms: Callable[[], int]) -> None:
        self._intervals = intervals
        self._now_ms = now_ms

    def wait_s(self) -> float:
        """Return how long what can wait has to wait, 0 if no close is near. Units: seconds."""
        now_ms = self._now_ms()
        wait_ms = 0
        for interval in self._intervals():
            length_ms = INTERVAL_MS[interval] or _DAY_MS
            if length_ms < _SHORTEST_MS:
                continue
            since_ms = now_ms % min(length_ms, _DAY_MS)
            left_ms = min(length_ms, _DAY_MS) - since_ms
            if since_ms < AFTER_MS:
                wait_ms = max(wait_ms, AFTER_MS - since_ms)
            elif left_ms <= BEFORE_MS:
                wait_ms = max(wait_ms, left_ms + AFTER_MS)
        return wait_ms / 1000
