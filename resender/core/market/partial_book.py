"""The best 20 levels of one order book: each frame is the whole of them, encoded once for many readers.

Pure: fed with frames of `<symbol>@depth20@100ms` and REST bodies. Whether the stream behind it is alive is
the cache's business.
"""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.binance.markets import Market
from resender.core.market.levels import Head, Level, check_levels, same_levels

LEVELS = 20
# Two sockets that overlap repeat frames in turn; so many in a row mean that ids started over.
_MAX_OLDER = 100


class PartialBook:
    """One symbol's best levels.

    Shape: a frame is {"lastUpdateId","bids","asks"} on spot, on futures it has `u`, `b` and `a` for these,
        and times and names beside them. `head` is shared by the books of a market.
    Source: spot web-socket-streams.md of 2026-07-21; binance-connector-python (um, cm) of 2026-08-21.
    """

    __slots__ = (
        "_bodies",
        "_data",
        "_head",
        "_older",
        "asks",
        "bids",
        "is_read",
        "is_valid",
        "market",
        "update_id",
    )

    def __init__(self, market: Market, head: Head) -> None:
        self.market = market
        self.update_id = -1
        self.is_valid = False
        # It is what a read showed, and no frame has told of it yet.
        self.is_read = False
        # The best first.
        self.bids: list[Level] = []
        self.asks: list[Level] = []
        self._head = head
        self._data: dict[str, Any] = {}
        self._bodies: dict[int, bytes] = {}
        # Frames in a row that were older.
        self._older = 0

    def apply(self, data: dict[str, Any]) -> bool:
        """Take a frame; return whether it is not older than what is held.

        Raises: ValueError, KeyError or TypeError if it is no partial book.
        """
        is_spot = self.market is Market.SPOT
        update_id = data["lastUpdateId" if is_spot else "u"]
        if type(update_id) is not int:
            raise TypeError("an update id that is no number")
        if self.is_valid and update_id <= self.update_id:
            if update_id == self.update_id:
                self.is_read = False
                return True
            self._older += 1
            if self._older >= _MAX_OLDER:
                raise ValueError("update ids that went back")
            return False
        self._take(update_id, data, data["bids" if is_spot else "b"], data["asks" if is_spot else "a"])
        self.is_read = False
        return True

    def seed(self, body: dict[str, Any]) -> bool:
        """Take a REST body, unless what is held is as new; return whether it was taken.

        Raises: ValueError, KeyError or TypeError if it is no order book.
        """
        update_id = body["lastUpdateId"]
        if type(update_id) is not int:
            raise TypeError("an update id that is no number")
        if self.is_valid and update_id <= self.update_id:
            return False
        self._take(update_id, body, body["bids"], body["asks"])
        self.is_read = True
        return True

    def _take(self, update_id: int, data: dict[str, Any], bids: Any, asks: Any) -> None:
        self.bids, self.asks = check_levels(bids)[:LEVELS], check_levels(asks)[:LEVELS]
        self.update_id = update_id
        self._data = data
        self._bodies.clear()
        self._older = 0
        self.is_valid = True

    def shows(self, body: dict[str, Any]) -> bool:
        """Tell whether a REST body has the same levels; ids and times are left out."""
        return same_levels(self.bids, body["bids"]) and same_levels(self.asks, body["asks"])

    def writes(self, body: dict[str, Any]) -> bool:
        """Tell whether a REST body of the same update has the same levels, text by text."""
        return (self.bids, self.asks) == (body["bids"], body["asks"])

    def best(self, limit: int) -> tuple[list[Level], list[Level]]:
        """Return the best so many bids and asks, as Binance wrote them."""
        return self.bids[:limit], self.asks[:limit]

    def lose(self) -> None:
        """The stream was lost: what is here may be old, and the next one may count anew."""
        self.update_id = -1
        self._older = 0
        self.is_valid = False

    def body(self, limit: int) -> bytes:
        """Return what REST answers for so many levels, at most 20 a side.

        Raises: KeyError or TypeError if the frame lacks what REST has.
        """
        body = self._bodies.get(limit)
        if body is None:
            before = self._head.before(self.update_id, self._data)
            bids, asks = orjson.dumps(self.bids[:limit]), orjson.dumps(self.asks[:limit])
            body = self._bodies[limit] = b'%b"bids":%b,"asks":%b}' % (before, bids, asks)
        return body
