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
from resender.core.market.levels import Head, Level, check_levels, same_levels, without_levels

# Changes kept until a snapshot comes: half a minute of them.
_MAX_WAITING = 256
# Two sockets that overlap repeat changes in turn; so many older ones in a row mean that ids started over.
_MAX_OLDER = 100
# Levels beyond so many times the snapshot's are let go, the worst first.
_MOST = 1.5
_LEAST = 1000


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


def _cross(bids: _Side, asks: _Side) -> bool:
    return bool(bids.prices and asks.prices) and -bids.prices[0] >= asks.prices[0]


class Book:
    """One symbol's order book.

    Shape: `is_synced` tells that it is the exchange's as of `update_id`; until then changes wait for a
        snapshot. `head` is shared by the books of a market.
    """

    __slots__ = (
        "_asks", "_bids", "_bodies", "_data", "_formats", "_head", "_most", "_older", "_waiting", "is_read",
        "is_synced", "market", "recording", "update_id",
    )  # fmt: skip

    def __init__(self, market: Market, head: Head) -> None:
        self.market = market
        self.is_synced = False
        self.update_id = -1
        # It is what a read showed, and no change has told of it or more yet.
        self.is_read = False
        # How many snapshots are on their way: changes are kept for them.
        self.recording = 0
        self._head = head
        self._bids, self._asks = _Side(-1, 0), _Side(1, 0)
        self._data: dict[str, Any] = {}
        self._waiting: deque[dict[str, Any]] = deque()
        # Decimals of a price and its quantity, as the snapshot writes them.
        self._formats: set[tuple[int, int]] = set()
        # Changes in a row that were older.
        self._older = 0
        self._most = _LEAST
        self._bodies: dict[int, bytes] = {}

    def lose(self) -> None:
        """The stream was lost: what happens meanwhile is not known."""
        self.is_synced = False
        self.update_id = -1
        self._older = 0
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
        self._before(first, data)
        if not self.is_synced or self.recording:
            if len(self._waiting) >= _MAX_WAITING:
                self._waiting.popleft()
            self._waiting.append(data)
        if not self.is_synced:
            return True
        return self._take(first, last, data)

    def _take(self, first: int, last: int, data: dict[str, Any]) -> bool:
        if not self._follows(first, last, data):
            return False
        if last > self.update_id:
            self._change(last, data)
        return True

    def _follows(self, first: int, last: int, data: dict[str, Any]) -> bool:
        """Tell whether a change is news, or the first word of the stream on what a read showed.

        Shape: one that tells of all since an update that is held or older may be taken, wherever it was cut.
        Raises: BookBroken, and the book is not synced any more.
        """
        known = self.update_id
        if last <= known:
            was_read = self.is_read and last == known
            self.is_read = self.is_read and not was_read
            self._older = 0 if last == known else self._older + 1
            if self._older >= _MAX_OLDER:
                self._break(data)
                raise BookBroken("update ids that went back")
            return was_read
        if self._before(first, data) > known:
            self._break(data)
            raise BookBroken(f"a change from {first} on does not follow {known}")
        return True

    def _before(self, first: int, data: dict[str, Any]) -> int:
        """Return the update after which a change tells of everything.

        Shape: on spot ids follow each other, on futures `pu` is the last one of the change before.
        """
        if self.market is Market.SPOT:
            return first - 1
        before: object = data["pu"]
        if type(before) is not int:
            raise TypeError("an update id that is no number")
        return before

    def _break(self, data: dict[str, Any]) -> None:
        self.is_synced = False
        self._older = 0
        self._bodies.clear()
        self._waiting.clear()
        self._waiting.append(data)

    def _change(self, last: int, data: dict[str, Any]) -> None:
        bids, asks = self._bids, self._asks
        try:
            if not (_decimals_of(data["b"]) | _decimals_of(data["a"])) <= self._formats:
                raise BookBroken("levels with other decimals than the snapshot's")
            bids.change(data["b"])
            asks.change(data["a"])
        except BookBroken:
            self._break(data)
            raise
        bids.trim(self._most)
        asks.trim(self._most)
        self.update_id = last
        self.is_read = False
        self._older = 0
        self._data = without_levels(data)
        if self._bodies:
            self._bodies.clear()
        if _cross(bids, asks):
            self._break(data)
            raise BookBroken("bids and asks that cross")

    def snapshot(self, body: dict[str, Any], limit: int) -> bool:
        """Take a snapshot that was asked for with a limit; return whether the book is at least as new by it.

        Shape: what is held stays if it reaches as far and is as new, or reaches farther; it stays too if a
            change between the snapshot and what waits was never seen.
        Raises: ValueError, KeyError or TypeError if it is no order book; BookBroken if the changes that
            wait do not follow each other.
        """
        update_id = body["lastUpdateId"]
        if type(update_id) is not int:
            raise TypeError("an update id that is no number")
        bids, asks = check_levels(body["bids"]), check_levels(body["asks"])
        if self.is_synced and self.reaches(limit):
            if update_id <= self.update_id:
                return True
            if self.reaches(limit + 1) and max(len(bids), len(asks)) >= limit:
                return False  # newer, but what lies deeper would be lost
        later = [data for data in self._waiting if data["u"] > update_id]
        if later and self._before(later[0]["U"], later[0]) > update_id:
            return False  # a change between them was never seen
        if self.is_synced and not later and update_id < self.update_id:
            return False  # what came after it was not recorded
        self._fill(body, bids, asks, limit)
        for data in later:
            self._take(data["U"], data["u"], data)
        if not self.recording:
            self._waiting.clear()
        return True

    def _fill(self, body: dict[str, Any], bids: list[Level], asks: list[Level], limit: int) -> None:
        formats = _decimals_of(bids) | _decimals_of(asks)
        for data in list(self._waiting)[-20:]:
            changed = _decimals_of(data["b"]) | _decimals_of(data["a"])
            if formats and not changed <= formats:
                raise ValueError("REST and the stream write numbers differently")
        decimals = max((each[0] for each in formats), default=8)
        sides = _Side(-1, decimals), _Side(1, decimals)
        sides[0].fill(bids, is_whole=len(bids) < limit)
        sides[1].fill(asks, is_whole=len(asks) < limit)
        if _cross(*sides):
            raise ValueError("bids and asks that cross")
        self._bids, self._asks = sides
        self._formats = formats
        self._most = max(_LEAST, int(limit * _MOST))
        self.update_id = body["lastUpdateId"]
        self.is_read = True
        self._older = 0
        self._data = without_levels(body)
        self._bodies.clear()
        self.is_synced = True

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

    def writes(self, body: dict[str, Any]) -> bool:
        """Tell whether a REST body of the same update has the same best levels, text by text."""
        shown = body["bids"], body["asks"]
        limit = max(map(len, shown))
        return shown == (self._levels(self._bids, limit), self._levels(self._asks, limit))

    def best(self, limit: int) -> tuple[list[Level], list[Level]]:
        """Return the best so many bids and asks, as Binance wrote them."""
        return self._levels(self._bids, limit), self._levels(self._asks, limit)

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
