"""The exchange's clock, as far as its own messages prove it: between two bounds.

Pure: it is told times and never asks for one. The machine's wall clock plays no part, it may
be seconds off; between messages the monotonic clock carries on. `now_ms` is a time the
exchange has reached for certain (messages take time to arrive, so it is late by the fastest of
them), `latest_ms` one it cannot have passed (an answer was not made before it was asked for).
"""

from __future__ import annotations

# Clocks run apart by less than this; a lower bound must not be carried ahead of the truth.
_DRIFT = 200e-6
# An event time further ahead than this is not believed without a word of REST.
_JUMP_MS = 2000


class ServerClock:
    """The bounds of one market's server time.

    Units: epoch milliseconds for the exchange, monotonic seconds for us.
    """

    __slots__ = ("_at_mono", "_offset_ms", "_upper_mono", "_upper_ms", "is_set")

    def __init__(self) -> None:
        self._offset_ms = 0.0
        self._at_mono = 0.0
        self._upper_ms = 0.0
        self._upper_mono = 0.0
        self.is_set = False

    def _offset_at(self, mono: float) -> float:
        return self._offset_ms - (mono - self._at_mono) * 1000 * _DRIFT

    def now_ms(self, mono: float) -> int:
        """Return a time the exchange has passed."""
        return int(mono * 1000 + self._offset_at(mono))

    def latest_ms(self, mono: float) -> int:
        """Return a time the exchange has not passed yet."""
        elapsed_ms = (mono - self._upper_mono) * 1000
        return int(self._upper_ms + elapsed_ms * (1 + _DRIFT)) + 2

    def observe(self, server_ms: int, mono: float) -> bool:
        """Take an event's time on its arrival; return False if it is too far ahead to be believed."""
        offset_ms = server_ms - mono * 1000
        if not self.is_set:
            return False
        current = self._offset_at(mono)
        if offset_ms > current + _JUMP_MS:
            return False
        if offset_ms > current:
            self._offset_ms = offset_ms
            self._at_mono = mono
        return True

    def set(self, server_ms: int, sent_mono: float, mono: float) -> None:
        """Take the time REST told: when it was asked for and when the answer arrived.

        It replaces what was believed.
        """
        self._offset_ms = server_ms - mono * 1000
        self._at_mono = mono
        self._upper_ms = server_ms
        self._upper_mono = sent_mono
        self.is_set = True
