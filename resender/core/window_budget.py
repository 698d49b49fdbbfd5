"""A budget of so many events in any stretch of time.

Pure: time comes in as a value. A budget belongs to its user.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable


class WindowBudget:
    """Never more than `limit` in any `window_s` seconds.

    Shape: `on_take` is told when something was counted.
    """

    def __init__(self, limit: int, window_s: float, on_take: Callable[[], None] = lambda: None) -> None:
        self._limit = limit
        self._window_s = window_s
        self._times: deque[float] = deque()
        self._on_take = on_take

    def wait_s(self, now: float) -> float:
        """Return how long the next one has to wait, 0 if it may begin."""
        self._forget(now)
        if len(self._times) < self._limit:
            return 0.0
        return self._times[-self._limit] + self._window_s - now

    def take(self, now: float, count: int = 1) -> None:
        """Count one, or several at once, allowed or not."""
        self._times.extend([now] * count)
        self._on_take()

    def times(self, now: float) -> list[float]:
        """List when those were that still count."""
        self._forget(now)
        return list(self._times)

    def restore(self, times: Iterable[float]) -> None:
        """Count what happened before this budget was made."""
        self._times = deque(sorted((*times, *self._times)))

    def _forget(self, now: float) -> None:
        while self._times and now - self._times[0] >= self._window_s:
            self._times.popleft()
