"""A whole order book: a REST snapshot and every change since, exact as far as the snapshot reached.

All levels up to the worst one of the snapshot are known, whatever changes later; of those beyond it only
what changed would be, so they are left out. Pure; reads and streams are the cache's business.
Source: "How to manage a local order book correctly", spot web-socket-streams.md of 2026-07-21;
binance-connector-python (um, cm) of 2026-08-21.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Any

from resender.core.binance.markets import Market
from resender.core.market.levels import Head, Level, check_levels, same_levels

# Changes kept until a snapshot comes: half a minute of them.
_MAX_WAITING = 256
# Levels beyond so many times the snapshot's are let go, the worst first.
_MOST = 1.5
_LEAST = 1000
_DECIMALS = 20


class BookBroken(ValueError):
    """The changes do not follow each other, or cannot be used: a new snapshot is needed."""


class _Side:
    """Bids or asks: levels by price.

    Shape: a price is kept as a whole number of `10 ** -decimals`; `sign` is -1 for bids, so that the best
        level comes first in `prices` on both sides. `worst` is how far every level is known, None if that
        is all of them.
    """

    __slots__ = ("_decimals", "_dot", "levels", "prices", "sign", "worst")

    def __init__(self, sign: int, decimals: int) -> None:
        self.sign = sign
        self._decimals = decimals
        self._dot = -decimals - 1
        self.levels: dict[int, bytes] = {}
        self.prices: list[int] = []
        self.worst: int | None = None

    def price_of(self, text: str) -> int:
        """Return the price as a number by which levels are in order, the best first."""
        dot = self._dot
        if dot == -1 and "." not in text:
            return int(text) * self.sign
        if dot != -1 and len(text) + dot >= 1 and text[dot] == ".":
            return int(text[:dot] + text[dot + 1 :]) * self.sign
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        if len(fraction) > self._decimals:
            raise BookBroken("a price with more decimals than before")
        return int(whole + fraction.ljust(self._decimals, "0")) * self.sign

    def fill(self, levels: list[Level], *, is_whole: bool) -> None:
        """Take the levels of a snapshot."""
        self.levels = {self.price_of(price): _encode(price, quantity) for price, quantity in levels}
        self.prices = sorted(self.levels)
        self.worst = None if is_whole or not self.prices else self.prices[-1]

    def change(self, levels: list[Level]) -> None:
        """Set the quantities of some levels; none is no level any more."""
        known, prices, worst = self.levels, self.prices, self.worst
        for text, quantity in levels:
            price = self.price_of(text)
            if worst is not None and price > worst:
                continue
            if quantity.strip("0."):
                if price not in known:
                    insort(prices, price)
                known[price] = _encode(text, quantity)
            elif price in known:
                del known[price]
                del prices[bisect_left(prices, price)]

    def trim(self, most: int) -> None:
        """Let go of the worst levels."""
        if len(self.prices) > most:
            for price in self.prices[most:]:
                del self.levels[price]
            del self.prices[most:]
            self.worst = self.prices[-1]

    def reaches(self, limit: int) -> bool:
        """Tell whether the best so many levels are known, or all there are."""
        return self.worst is None or len(self.prices) >= limit

    def encode(self, limit: int) -> bytes:
        levels = self.levels
        return b",".join([levels[price] for price in self.prices[:limit]])


def _encode(price: str, quantity: str) -> bytes:
    return f'["{price}","{quantity}"]'.encode()


def _decimals_of(levels: list[Level]) -> set[tuple[int, int]]:
    return {(len(p.partition(".")[2]), len(q.partition(".")[2])) for p, q in levels if q.strip("0.")}


class Book:
    """One symbol's order book.

    Shape: `is_synced` tells that it is the exchange's as of `update_id`; until then changes wait for a
        snapshot. `head` is shared by the books of a market.
    """

    __slots__ = (
        "_asks", "_bids", "_bodies", "_data", "_head", "_is_first", "_most", "_waiting", "is_synced", "market",
        "recording", "update_id",
    )  # fmt: skip

    def __init__(self, market: Market, head: Head) -> None:
        self.market = market
        self.is_synced = False
        self.update_id = -1
        # How many snapshots are on their way: changes are kept for them.
        self.recording = 0
        self._head = head
        self._bids, self._asks = _Side(-1, 0), _Side(1, 0)
        self._data: dict[str, Any] = {}
        self._waiting: deque[dict[str, Any]] = deque()
        # No change since the snapshot has been taken yet.
        self._is_first = False
        self._most = _LEAST
        self._bodies: dict[int, bytes] = {}

    def lose(self) -> None:
        """The stream was lost: what happens meanwhile is not known."""
        self.is_synced = False
        self.update_id = -1
        self._waiting.clear()
        self._bodies.clear()
        self._bids, self._asks = _Side(-1, 0), _Side(1, 0)

    def apply(self, data: dict[str, Any]) -> bool:
        """Take a change; return whether it is news.

        Raises: BookBroken if a change is missing before it; ValueError, KeyError or TypeError if it is none.
        """
        first, last = data["U"], data["u"]
        if type(first) is not int or type(last) is not int or first > last:
            raise TypeError("update ids that are no numbers")
        check_levels(data["b"])
        check_levels(data["a"])
        if not self.is_synced or self.recording:
            if len(self._waiting) >= _MAX_WAITING:
                self._waiting.popleft()
            self._waiting.append(data)
        if not self.is_synced:
            return True
        if not self._follows(first, last, data):
            return False
        self._change(last, data)
        return True

    def _follows(self, first: int, last: int, data: dict[str, Any]) -> bool:
        """Tell whether a change is news.

        Raises: BookBroken, and the book is not synced any more.
        """
        known = self.update_id
        if self.market is Market.SPOT:
            if last <= known:
                return False
            is_next = first <= known + 1
        else:
            if last < known or (last == known and not self._is_first):
                return False
            before = data["pu"]
            is_next = first <= known <= last or before == known if self._is_first else before == known
        if not is_next:
            self._break(data)
            raise BookBroken(f"a change from {first} on does not follow {known}")
        return True

    def _break(self, data: dict[str, Any]) -> None:
        self.is_synced = False
        self._bodies.clear()
        self._waiting.clear()
        self._waiting.append(data)

    def _change(self, last: int, data: dict[str, Any]) -> None:
        bids, asks = self._bids, self._asks
        try:
            bids.change(data["b"])
            asks.change(data["a"])
        except BookBroken:
            self._break(data)
            raise
        bids.trim(self._most)
        asks.trim(self._most)
        self.update_id = last
        self._is_first = False
        self._data = data
        if self._bodies:
            self._bodies.clear()
        if bids.prices and asks.prices and -bids.prices[0] >= asks.prices[0]:
            self._break(data)
            raise BookBroken("bids and asks that cross")

    def snapshot(self, body: dict[str, Any], limit: int) -> bool:
        """Take a snapshot that was asked for with a limit; return whether the book is synced by it.

        Shape: one that reaches less far than what is held is not taken, nor one older than the first change
            that waits.
        Raises: ValueError, KeyError or TypeError if it is no order book; BookBroken if the changes that
            wait do not follow each other.
        """
        update_id = body["lastUpdateId"]
        if type(update_id) is not int:
            raise TypeError("an update id that is no number")
        bids, asks = check_levels(body["bids"]), check_levels(body["asks"])
        if self.is_synced and self.reaches(limit):
            return True
        waiting = list(self._waiting)
        is_spot = self.market is Market.SPOT
        later = [
            data for data in waiting if data["u"] > update_id or (not is_spot and data["u"] == update_id)
        ]
        if later and later[0]["U"] > update_id + 1 and (is_spot or later[0]["pu"] != update_id):
            return self.is_synced  # a change between them was never seen
        if self.is_synced and not later and update_id < self.update_id:
            return True  # what came after it was not recorded
        formats = _decimals_of(bids[:50]) | _decimals_of(asks[:50])
        for data in waiting[-20:]:
            changed = _decimals_of(data["b"]) | _decimals_of(data["a"])
            if formats and not changed <= formats:
                raise ValueError("REST and the stream write numbers differently")
        decimals = max((each[0] for each in formats), default=8)
        self._bids, self._asks = _Side(-1, min(decimals, _DECIMALS)), _Side(1, min(decimals, _DECIMALS))
        self._bids.fill(bids, is_whole=len(bids) < limit)
        self._asks.fill(asks, is_whole=len(asks) < limit)
        self._most = max(_LEAST, int(limit * _MOST))
        self.update_id = update_id
        self._is_first = True
        self._data = body
        self._bodies.clear()
        self.is_synced = True
        for data in later:
            if self._follows(data["U"], data["u"], data):
                self._change(data["u"], data)
        if not self.recording:
            self._waiting.clear()
        return True

    def forget_waiting(self) -> None:
        """No snapshot is on its way any more."""
        if self.is_synced and not self.recording:
            self._waiting.clear()

    @property
    def has_waiting(self) -> bool:
        """Whether changes wait for a snapshot."""
        return bool(self._waiting)

    @property
    def depth(self) -> int:
        """How many levels are held of the side that has fewer."""
        return min(len(self._bids.prices), len(self._asks.prices))

    def reaches(self, limit: int) -> bool:
        """Tell whether the best so many levels of both sides are known."""
        return self._bids.reaches(limit) and self._asks.reaches(limit)

    def shows(self, body: dict[str, Any]) -> bool:
        """Tell whether a REST body has the same best levels; ids and times are left out."""
        limit = max(len(body["bids"]), len(body["asks"]))
        bids, asks = (self._levels(side, limit) for side in (self._bids, self._asks))
        return same_levels(bids, body["bids"]) and same_levels(asks, body["asks"])

    @staticmethod
    def _levels(side: _Side, limit: int) -> list[Level]:
        return [side.levels[price].decode()[2:-2].split('","') for price in side.prices[:limit]]

    def body(self, limit: int) -> bytes:
        """Return what REST answers for so many levels.

        Raises: KeyError or TypeError if the last change lacks what REST has.
        """
        body = self._bodies.get(limit)
        if body is None:
            before = self._head.before(self.update_id, self._data)
            bids, asks = self._bids.encode(limit), self._asks.encode(limit)
            body = self._bodies[limit] = b'%b"bids":[%b],"asks":[%b]}' % (before, bids, asks)
        return body
