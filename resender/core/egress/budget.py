"""What one egress may still spend in one weight pool: reserved, used, corrected by the exchange.

Pure: fed with weights, times and headers; it sends nothing and knows no clock. A `Budget`
belongs to one egress and one pool and is changed by `Governor` only.

Binance meters in UTC minutes of its own clock, which is known only between two bounds
(`ExchangeClock`): a window is taken to begin when it has begun for certain, and what is sent while
the next one may have begun already counts in both. So whatever the true time is, no minute gets
more than its limit from here.
Source: docs/dev/binance-protocol.md, "Weights and limits": the window is the UTC clock minute (measured).
"""

from __future__ import annotations

from collections import deque

from resender.core.binance.exchange_clock import DRIFT

MINUTE_MS = 60_000
# A call sent now is metered when it arrives; opening a connection comes before it.
TRAVEL_MS = 400.0


# A bound that goes back by less than this only trembles.
_AHEAD_MS = 1000.0


class Reservation:
    """The weight of one call, from before it is sent until its answer or its failure."""

    __slots__ = ("budget", "is_open", "is_tail", "low_window", "weight")

    def __init__(self, budget: Budget, weight: int, low_window: int, is_tail: bool) -> None:
        self.budget = budget
        self.weight = weight
        self.low_window = low_window
        self.is_tail = is_tail
        self.is_open = True


class Budget:
    """Used and reserved weight of one pool at one egress in the current window.

    Units: `low_ms` and `high_ms` epoch milliseconds of the exchange, see `ExchangeClock`.
    """

    __slots__ = ("_tail", "limit", "reserved", "used", "window", "window_ms")

    def __init__(self, limit: int, window_ms: int = MINUTE_MS) -> None:
        self.limit = limit
        self.window_ms = window_ms
        self.window = 0
        # Calls answered, as far as they count in this window, raised by what the exchange told.
        self.used = 0
        # Calls under way, those begun in the window before too.
        self.reserved = 0
        # The part of `used` that may belong to the next window instead.
        self._tail = 0

    def roll(self, low_ms: float) -> None:
        """Begin the next window once it has begun for certain."""
        window = int(low_ms // self.window_ms)
        if window > self.window:
            self.used = self._tail if window == self.window + 1 else 0
            self._tail = 0
            self.window = window
        elif low_ms < self.window * self.window_ms - _AHEAD_MS:
            # The clock was ahead before: counting goes on, in the window that it is.
            self.window = window
            self._tail = 0

    def spent(self, low_ms: float) -> int:
        """Return what is used and reserved in this window."""
        self.roll(low_ms)
        return self.used + self.reserved

    def left(self, part: float, low_ms: float, high_ms: float) -> float:
        """Return what a call may weigh now that may use `part` of the limit."""
        return self.limit * part - self.spent(low_ms)

    def reserve(self, weight: int, low_ms: float, high_ms: float) -> Reservation:
        """Take weight for a call that is about to be sent; the caller has seen that it fits."""
        self.roll(low_ms)
        self.reserved += weight
        is_tail = int((high_ms + TRAVEL_MS) // self.window_ms) > self.window
        return Reservation(self, weight, self.window, is_tail)

    def settle(
        self, reservation: Reservation, reported_weight: int | None, low_ms: float, high_ms: float
    ) -> None:
        """The call was answered, or it may have arrived: its weight is used.

        Shape: `reported_weight` is the used weight the answer's header named, None if there was none.
        """
        if not reservation.is_open:
            return
        reservation.is_open = False
        self.roll(low_ms)
        weight = reservation.weight
        self.reserved -= weight
        # Whenever it was sent: it may have arrived in this window. If the next one may have begun
        # before the answer came, or before the call arrived, it may count there.
        self.used += weight
        if int(high_ms // self.window_ms) > self.window or (
            reservation.is_tail and reservation.low_window == self.window
        ):
            self._tail += weight
        # A header counts only if it can speak of no other window than this one. It never lowers
        # what is known; calls under way may be in it already.
        if (
            reported_weight is not None
            and reservation.low_window == self.window
            and int(high_ms // self.window_ms) == self.window
        ):
            self.used = max(self.used, reported_weight - self.reserved)

    def release(self, reservation: Reservation) -> None:
        """Nothing was sent: give the weight back."""
        if reservation.is_open:
            reservation.is_open = False
            self.reserved -= reservation.weight

    def wait_ms(self, low_ms: float) -> float:
        """Return the time until the next window has begun for certain."""
        self.roll(low_ms)
        # `low_ms` goes a little slower than time.
        return ((self.window + 1) * self.window_ms - low_ms) / (1 - DRIFT)


class RollingBudget:
    """A counter over the last minutes whose windows nobody has documented: any alignment is safe.

    Shape: counts in slots of a thirtieth of the window and looks back one slot more than it.
    """

    __slots__ = ("_slot_ms", "_slots", "_total", "limit", "window_ms")

    def __init__(self, limit: int, window_ms: int) -> None:
        self.limit = limit
        self.window_ms = window_ms
        self._slot_ms = window_ms / 30
        self._slots: deque[tuple[int, int]] = deque()
        self._total = 0

    def _drop_old(self, mono: float) -> None:
        oldest = int(mono * 1000 // self._slot_ms) - 31
        while self._slots and self._slots[0][0] <= oldest:
            self._total -= self._slots.popleft()[1]

    def spent(self, mono: float) -> int:
        self._drop_old(mono)
        return self._total

    def add(self, weight: int, mono: float) -> None:
        self._drop_old(mono)
        slot = int(mono * 1000 // self._slot_ms)
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1] = (slot, self._slots[-1][1] + weight)
        else:
            self._slots.append((slot, weight))
        self._total += weight

    def take_back(self, weight: int, mono: float) -> None:
        """Nothing was sent after all of what was added at that time."""
        slot = int(mono * 1000 // self._slot_ms)
        for index, (begin, known) in enumerate(self._slots):
            if begin == slot:
                taken = min(weight, known)
                self._slots[index] = (slot, known - taken)
                self._total -= taken
                return

    def wait_ms(self, mono: float) -> float:
        """Return the time until some of it is free again."""
        self._drop_old(mono)
        if not self._slots:
            return 0.0
        return max(0.0, (self._slots[0][0] + 32) * self._slot_ms - mono * 1000)
