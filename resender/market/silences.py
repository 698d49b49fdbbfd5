"""Silences of connections that bring something all the time: events of that time may be lost for good.

A connection that was mute for seconds and then goes on has proven nothing about the time between. Pure
but for what it remembers of each connection; owned by a kind, touched on the event loop only.
"""

from __future__ import annotations

# Of streams that bring each change at once: no connection of theirs that is busy is silent for longer.
SILENCE_MS = 3000.0
_WEIGHT = 1 / 16
# So many times the usual distance of two frames is no chance: a silence.
_UNUSUAL = 8
_MOST = 1024


class _Carrier:
    __slots__ = ("gap_ms", "last_ms", "resumed_ms")

    def __init__(self, now_ms: float, longest_ms: float) -> None:
        self.last_ms = now_ms
        # The usual distance of two frames; at first nothing is unusual.
        self.gap_ms = longest_ms
        self.resumed_ms = 0.0


class Silences:
    """When each connection of a feed went on after a silence.

    Units: `longest_ms` milliseconds that a connection is silent at most; times are of one clock of the
        caller's, best that of the events themselves, so that a late reader is not taken for a silent
        connection.
    """

    def __init__(self, longest_ms: float) -> None:
        self._longest_ms = longest_ms
        self._carriers: dict[object, _Carrier] = {}

    def note(self, carrier: object, now_ms: float) -> None:
        """A frame came over a connection."""
        found = self._carriers.get(carrier)
        if found is None:
            if len(self._carriers) >= _MOST:
                self._carriers.clear()
            self._carriers[carrier] = _Carrier(now_ms, self._longest_ms)
            return
        gap_ms = now_ms - found.last_ms
        if gap_ms < 0:
            return
        found.last_ms = now_ms
        if gap_ms > self._longest_ms and found.gap_ms * _UNUSUAL < self._longest_ms:
            found.resumed_ms = now_ms
            return
        found.gap_ms += (min(gap_ms, self._longest_ms) - found.gap_ms) * _WEIGHT

    def resumed_ms(self, carrier: object) -> float:
        """Return when a connection went on after its last silence, 0 if it never had to."""
        found = self._carriers.get(carrier)
        return found.resumed_ms if found is not None else 0.0
