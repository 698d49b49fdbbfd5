"""How much weight the gateway's own reads have used, pool by pool, and how much they may.

Pure: asked and told by `Governor` only, which knows limits and times. An urgent read (a client
waits for it) may use the whole share of the pool; others leave a tenth of it.
"""

from __future__ import annotations

CALM_PART = 0.9


class OwnReads:
    """The use of own reads in the current window.

    Units: weight of all egresses together; windows as numbered by `Budget`.
    """

    __slots__ = ("_used", "share")

    def __init__(self, share: float = 1.0) -> None:
        # The part of each pool's limit that own reads may use.
        self.share = share
        self._used: dict[str, tuple[int, int]] = {}

    def used(self, pool: str, window: int) -> int:
        """Return what own reads have used in a window."""
        known, used = self._used.get(pool, (window, 0))
        return used if known == window else 0

    def fits(self, pool: str, weight: int, limit: int, window: int, *, is_urgent: bool) -> bool:
        """Tell whether a read fits; where nothing was used yet one always does."""
        used = self.used(pool, window)
        return used == 0 or used + weight <= limit * self.share * (1.0 if is_urgent else CALM_PART)

    def add(self, pool: str, weight: int, window: int) -> None:
        """Count a read that was let go, or with a negative weight one that was not sent after all."""
        if weight > 0 or self._used.get(pool, (window, 0))[0] == window:  # what has passed has passed
            self._used[pool] = (window, max(0, self.used(pool, window) + weight))
