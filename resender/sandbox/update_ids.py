"""Which update of a book happened when: the ids of one symbol, their rhythm, bursts and restarts.

Integer arithmetic on times handed in; no clock, no prices. The book of a symbol owns
its instance.
"""

from __future__ import annotations

from bisect import bisect_right

FIRST_ID = 7_000_000_000


class UpdateIds:
    """Ids follow the time at `hz` a second; some are put in between out of rhythm.

    Shape: with `hz` 0 nothing ever changes by itself, and everything happened at `still_ms`.
    """

    def __init__(self, hz: float, phase_ms: int, still_ms: int) -> None:
        self._rate = round(hz * 1_000_000)  # per million seconds, so that all sums are exact
        self._phase_ms = phase_ms
        self._still_ms = still_ms
        # Ids put in, in order: the first one, the one after the last, when, how many in all.
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._times: list[int] = []
        self._counts: list[int] = []
        self._held_ms: int | None = None
        self.restarts = 0

    @property
    def extra(self) -> int:
        """How many ids were put in."""
        return self._counts[-1] if self._counts else 0

    @property
    def is_held(self) -> bool:
        return self._held_ms is not None

    def current(self, now_ms: int) -> int:
        """Return the id of the latest update at a moment."""
        if self._held_ms is not None:
            now_ms = min(now_ms, self._held_ms)
        # A moment before something was put in knows nothing of it.
        known = bisect_right(self._times, now_ms)
        extra = self._counts[known - 1] if known else 0
        return FIRST_ID + self._regular(now_ms) + extra

    def _regular(self, now_ms: int) -> int:
        return (now_ms + self._phase_ms) * self._rate // 1_000_000_000

    def time_of(self, update_id: int) -> int:
        """Return when an update happened; the inverse of `current`."""
        index = bisect_right(self._firsts, update_id)
        extra = 0
        if index:
            if update_id < self._ends[index - 1]:
                return self._times[index - 1]
            extra = self._counts[index - 1]
        if self._rate <= 0:
            return self._still_ms
        regular = update_id - FIRST_ID - extra
        return -(-regular * 1_000_000_000 // self._rate) - self._phase_ms

    def insert(self, now_ms: int, count: int = 1) -> int:
        """Let `count` updates happen at once; return the id of the last."""
        at_ms = now_ms if self._held_ms is None else min(now_ms, self._held_ms)
        if self._times:
            at_ms = max(at_ms, self._times[-1])
        first = self.current(at_ms) + 1
        total = self.extra + count
        if self._times and self._times[-1] == at_ms and self._ends[-1] == first:
            self._ends[-1], self._counts[-1] = first + count, total
        else:
            self._firsts.append(first)
            self._ends.append(first + count)
            self._times.append(at_ms)
            self._counts.append(total)
        return first + count - 1

    def restart(self, now_ms: int, jump: int) -> int:
        """Go on with ids far ahead, as after a restart of the matching engine."""
        self.restarts += 1
        return self.insert(now_ms, jump)

    def hold(self, now_ms: int) -> None:
        """Let nothing change any more until `release`; a second hold changes nothing."""
        if self._held_ms is None:
            self._held_ms = now_ms

    def release(self) -> None:
        """Let updates happen again; the ids of the time between are skipped."""
        self._held_ms = None
