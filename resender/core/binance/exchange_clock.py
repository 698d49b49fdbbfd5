"""The exchange's clock, as far as its own messages prove it: between two bounds.

Pure: it is told times and never asks for one. The machine's wall clock may be seconds off; between
messages the monotonic clock carries on. `low_ms` is a time the exchange has reached for certain
(messages take time to arrive, so it is late by the fastest of them), `high_ms` one it cannot have
passed (an answer was not made before it was asked for).
"""

from __future__ import annotations

# Clocks run apart by less than this; a bound must not be carried beyond the truth.
DRIFT = 200e-6
# An event time further ahead than this is not believed without a word of REST.
_JUMP_MS = 2000
# How far a machine's clock is believed before the exchange has told its own.
_FIRST_DOUBT_MS = 1000.0


class ExchangeClock:
    """The bounds of one exchange's time.

    Units: epoch milliseconds for the exchange, monotonic seconds for us.
    """

    __slots__ = ("_high", "_high_mono", "_low", "_low_mono", "_next_mono", "has_date", "is_set")

    def __init__(self) -> None:
        # What is to be added to the monotonic time in milliseconds, and when that was learned.
        self._low = self._high = 0.0
        self._low_mono = self._high_mono = 0.0
        self._next_mono = 0.0
        # The exchange itself has told its time.
        self.is_set = False
        # At least the `Date` of an answer has been heard.
        self.has_date = False

    @classmethod
    def guess(cls, now_ms: float, mono: float) -> ExchangeClock:
        """Make a clock that believes the machine's, within a second."""
        clock = cls()
        offset = now_ms - mono * 1000
        clock._low, clock._high = offset - _FIRST_DOUBT_MS, offset + _FIRST_DOUBT_MS
        clock._low_mono = clock._high_mono = clock._next_mono = mono
        return clock

    def low_ms(self, mono: float) -> float:
        """Return a time the exchange has reached for certain."""
        return mono * 1000 + self._low - (mono - self._low_mono) * 1000 * DRIFT

    def high_ms(self, mono: float) -> float:
        """Return a time the exchange cannot have passed."""
        return mono * 1000 + self._high + (mono - self._high_mono) * 1000 * DRIFT

    def now_ms(self, mono: float) -> int:
        """Return `low_ms` in whole milliseconds."""
        return int(self.low_ms(mono))

    def latest_ms(self, mono: float) -> int:
        """Return `high_ms` in whole milliseconds, on the safe side."""
        return int(self.high_ms(mono)) + 2

    def set(self, server_ms: int, sent_mono: float, mono: float) -> None:
        """Take the time an answer told: when it was asked for and when it arrived.

        It replaces what was believed.
        """
        self._low, self._low_mono = server_ms - mono * 1000, mono
        self._high, self._high_mono = server_ms - sent_mono * 1000, sent_mono
        self.is_set = True

    def observe(self, server_ms: int, mono: float) -> bool:
        """Take an event's time on its arrival; return False if it is too far ahead to be believed."""
        if not self.is_set:
            return False
        offset_ms = server_ms - mono * 1000
        current = self._low - (mono - self._low_mono) * 1000 * DRIFT
        if offset_ms > current + _JUMP_MS:
            return False
        if offset_ms > current:
            self._low, self._low_mono = offset_ms, mono
        return True

    def wants_date(self, mono: float) -> bool:
        """Tell whether another `Date` is worth reading: once a second is enough."""
        return mono >= self._next_mono

    def observe_date(self, date_ms: int, sent_mono: float, mono: float) -> None:
        """Take the `Date` of an answer (whole seconds), asked for and received at these times."""
        self._next_mono = mono + 1.0
        self.has_date = True
        low = self.low_ms(mono) - mono * 1000
        high = self.high_ms(mono) - mono * 1000
        # The answer was made between the two times and within the second that `Date` names.
        new_low = max(low, date_ms - mono * 1000)
        new_high = min(high, date_ms + 1000 - sent_mono * 1000)
        if new_low > new_high:
            # What was believed is wrong (a clock was set): only the new word counts.
            new_low, new_high = date_ms - mono * 1000, date_ms + 1000 - sent_mono * 1000
        self._low, self._high = new_low, new_high
        self._low_mono = self._high_mono = mono
