"""A time that moves only when told."""

from __future__ import annotations


class Moment:
    """Epoch milliseconds, as `now_ms` of whatever asks for the time."""

    def __init__(self, ms: int = 1_790_000_000_000) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms
