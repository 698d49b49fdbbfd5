"""Blocks of weight: what one node may spend of an address that several nodes use.

A block is granted for one minute of Binance's clock and spent here without asking anybody; what is left of it
dies with the minute. What may arrive in the next minute needs a block of that one too. Pure: `SharedBudget`
takes the place of `Budget` for such an address, `Fallback` tells what a node may spend that is cut off.
Source: docs/dev/binance-protocol.md, "Weights and limits"; the script that grants is `resender.cluster.weight_leases`.
"""

from __future__ import annotations

from resender.core.egress.budget import MINUTE_MS, TRAVEL_MS, Budget, Reservation

# Of the limit: what arrives later than anybody could expect has to fit in the rest.
SHARED_PART = 0.97
# A block asked for is there after so long.
SOON_MS = 300.0
# What all nodes that are cut off may spend together, in thousandths of the limit.
FALLBACK_PERMILLE = 900


class SharedBudget(Budget):
    """Used and reserved weight of one pool of one address, within what has been granted to this node."""

    __slots__ = ("_tail_open", "grants", "is_dry", "order_grants", "seen")

    def __init__(self, limit: int, window_ms: int = MINUTE_MS) -> None:
        super().__init__(limit, window_ms)
        # By window: for any call, and more that only orders may use.
        self.grants: dict[int, int] = {}
        self.order_grants: dict[int, int] = {}
        # The most Binance has told as used in this window, by all nodes.
        self.seen = 0
        # Nothing more is granted in this window.
        self.is_dry = False
        # Calls under way that may count in the next window.
        self._tail_open = 0

    def roll(self, low_ms: float) -> None:
        window = self.window
        super().roll(low_ms)
        if self.window != window:
            self.seen = self._tail_open = 0
            self.is_dry = False
            for granted in (self.grants, self.order_grants):
                for old in [old for old in granted if old < self.window]:
                    del granted[old]

    def wait_ms(self, low_ms: float) -> float:
        """Return when to try again: soon, as long as more may be granted."""
        whole_ms = super().wait_ms(low_ms)
        return whole_ms if self.is_dry else min(whole_ms, SOON_MS)

    def grant(self, window: int, weight: int, *, for_orders: bool) -> None:
        """Take a block for a window."""
        if window >= self.window:
            granted = self.order_grants if for_orders else self.grants
            granted[window] = granted.get(window, 0) + weight

    def drop(self) -> None:
        """A 429 came somewhere: what has not been spent of this window's blocks is given up."""
        spent = self.used + self.reserved
        self.grants[self.window] = min(self.grants.get(self.window, 0), spent)
        self.order_grants.pop(self.window, None)

    def needs(self, weight: int, low_ms: float, high_ms: float, *, is_order: bool) -> list[tuple[int, int]]:
        """Return for which windows how much more has to be granted before a call may leave."""
        self.roll(low_ms)
        found = []
        short = weight - self._room(self.window, self.used + self.reserved, is_order=is_order)
        if short > 0:
            found.append((self.window, short))
        if self._may_be_late(high_ms):
            short = weight - self._room(self.window + 1, self._tail + self._tail_open, is_order=is_order)
            if short > 0:
                found.append((self.window + 1, short))
        return found

    def left(self, part: float, low_ms: float, high_ms: float) -> float:
        """Return what a call may weigh now, see `Budget.left`; the reserve for orders is in the grants."""
        self.roll(low_ms)
        is_order = part >= 1.0
        room = self._room(self.window, self.used + self.reserved, is_order=is_order)
        if self._may_be_late(high_ms):
            room = min(room, self._room(self.window + 1, self._tail + self._tail_open, is_order=is_order))
        return room

    def _may_be_late(self, high_ms: float) -> bool:
        return int((high_ms + TRAVEL_MS) // self.window_ms) > self.window

    def _room(self, window: int, spent: int, *, is_order: bool) -> int:
        granted = self.grants.get(window, 0)
        if is_order:
            granted += self.order_grants.get(window, 0)
        return granted - spent

    def reserve(self, weight: int, low_ms: float, high_ms: float) -> Reservation:
        reservation = super().reserve(weight, low_ms, high_ms)
        if reservation.is_tail:
            self._tail_open += weight
        return reservation

    def settle(
        self, reservation: Reservation, reported_weight: int | None, low_ms: float, high_ms: float
    ) -> None:
        if not reservation.is_open:
            return
        self._close_tail(reservation, low_ms)
        is_of_now = reservation.low_window == self.window and int(high_ms // self.window_ms) == self.window
        if reported_weight is not None and is_of_now:
            # It counts what all nodes have spent: it corrects what is granted, not what this one has spent.
            self.seen = max(self.seen, reported_weight)
        super().settle(reservation, None, low_ms, high_ms)

    def release(self, reservation: Reservation) -> None:
        if reservation.is_open and reservation.is_tail and reservation.low_window == self.window:
            self._tail_open -= reservation.weight
        super().release(reservation)

    def _close_tail(self, reservation: Reservation, low_ms: float) -> None:
        self.roll(low_ms)
        if reservation.is_tail and reservation.low_window == self.window:
            self._tail_open -= reservation.weight


class Fallback:
    """What a node may spend of one shared address while it cannot ask.

    Shape: windows as `SharedBudget` numbers them. It may only after a whole window in which nothing of it can have
        reached the others, and they set aside what it may spend from then on: never both.
    """

    def __init__(self) -> None:
        # Its part in thousandths, as the others set it aside, -1 before they have told it; the last window in
        # which they may have heard of it.
        self.permille = -1
        self.heard_window = -1
        # The last window in which it has spent of its part.
        self.used_window = -1

    def asking(self, window: int) -> None:
        """Something is being sent that may reach the others, whatever becomes of its answer."""
        self.heard_window = max(self.heard_window, window)

    def told(self, permille: int) -> None:
        """The others have told what they set aside for it."""
        self.permille = permille

    def share(self, window: int, limit: int, longest: int) -> int:
        """Return what may be spent in a window, 0 for nothing.

        Units: `longest` windows after which the others count on this node no more.
        """
        if self.heard_window < 0 or not self.heard_window + 2 <= window <= self.heard_window + longest:
            return 0
        self.used_window = window
        return limit * max(0, self.permille) // 1000
