"""The best bid and ask of one symbol: newest update wins, encoded once for many readers.

Pure: fed with stream events and REST rows. Whether the stream behind it is alive is the
cache's business.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from resender.core.binance.markets import Market

_NUMBERS = re.compile(r"[0-9.]+(?:,[0-9.]+){3}")
# Two sockets that overlap repeat events in turn; so many in a row mean that ids started over.
_MAX_OLDER = 100


_QUOTE = ("bidPrice", "bidQty", "askPrice", "askQty")


def same_quote(held: bytes, row: dict[str, Any]) -> bool:
    """Tell whether a REST row shows the prices and quantities of an object held.

    Times and ids are left out: REST's may belong to a deeper level of the book.
    """
    known = json.loads(held)
    return all(_same_number(known[name], row.get(name)) for name in _QUOTE)


def _same_number(one: str, other: Any) -> bool:
    if one == other:
        return True
    try:
        return Decimal(one) == Decimal(other)
    except (InvalidOperation, TypeError, ValueError):
        return False


class BookTicker:
    """One symbol's book ticker.

    Shape: the REST object is {"symbol","bidPrice","bidQty","askPrice","askQty"}, on USD-M with
        "time" behind it, on COIN-M with "lastUpdateId" in front and "pair" and "time" (wire `T`,
        not `E`).
    Source: spot rest-api.md of 2026-07-21; binance-connector-python (um, cm) of 2026-08-21.
    """

    __slots__ = ("_data", "_object", "_older", "is_valid", "market", "time_ms", "update_id", "version")

    def __init__(self, market: Market) -> None:
        self.market = market
        self.update_id = -1
        self.time_ms = 0
        self.is_valid = False
        self.version = 0
        self._data: dict[str, Any] = {}
        self._object = b""
        # Events in a row that were no news.
        self._older = 0

    def apply(self, data: dict[str, Any]) -> bool:
        """Take a stream event; return whether it is news.

        Raises: ValueError, KeyError or TypeError if it is not a book ticker.
        Source: spot web-socket-streams.md of 2026-07-21: `u` only grows for a symbol.
        """
        update_id = data["u"]
        if type(update_id) is not int:
            raise TypeError("an update id that is no number")
        if update_id <= self.update_id:
            self._older += 1
            if self._older >= _MAX_OLDER:
                raise ValueError("update ids that went back")
            return False
        if not _NUMBERS.fullmatch(",".join((data["b"], data["B"], data["a"], data["A"]))):
            raise ValueError("a book ticker with texts that are no numbers")
        if self.market is not Market.SPOT:
            time_ms = data["T"]
            if type(time_ms) is not int:
                raise TypeError("a time that is no number")
            if self.market is Market.CM and type(data["ps"]) is not str:
                raise TypeError("a pair that is no text")
            self.time_ms = max(self.time_ms, time_ms)
        self.update_id = update_id
        self._older = 0
        self._data = data
        self._object = b""
        self.is_valid = True
        self.version += 1
        return True

    def seed(self, row: dict[str, Any], *, replace: bool = False) -> bool:
        """Take a REST row, unless there is a value since the last loss; return whether it was.

        Shape: `replace` takes it all the same, for a stream that has not spoken yet.

        Raises: ValueError, KeyError or TypeError if it is not a book ticker.
        """
        if self.is_valid and not replace:
            return False
        texts = (row["bidPrice"], row["bidQty"], row["askPrice"], row["askQty"])
        if not _NUMBERS.fullmatch(",".join(texts)):
            raise ValueError("a book ticker with texts that are no numbers")
        if self.market is not Market.SPOT:
            time_ms = row["time"]
            if type(time_ms) is not int:
                raise TypeError("a time that is no number")
            if time_ms < self.time_ms:
                return False
            self.time_ms = time_ms
        if self.market is Market.CM:
            self.update_id = max(self.update_id, int(row["lastUpdateId"]))
        self._object = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
        self.is_valid = True
        self.version += 1
        return True

    def lose(self) -> None:
        """The stream was lost: what is here may be old, and the next one may count anew."""
        self.update_id = -1
        self.time_ms = 0
        self._older = 0
        if self.is_valid:
            self.is_valid = False
            self.version += 1

    def object(self) -> bytes:
        """Return the REST object as compact JSON."""
        if not self._object:
            self._object = self._encode()
        return self._object

    def body(self) -> bytes:
        """Return what REST answers for this one symbol: an object, on COIN-M an array of it."""
        return b"[" + self.object() + b"]" if self.market is Market.CM else self.object()

    def _encode(self) -> bytes:
        d = self._data
        prices = f'"bidPrice":"{d["b"]}","bidQty":"{d["B"]}","askPrice":"{d["a"]}","askQty":"{d["A"]}"'
        symbol = json.dumps(d["s"], ensure_ascii=False)
        if self.market is Market.SPOT:
            text = f'{{"symbol":{symbol},{prices}}}'
        elif self.market is Market.UM:
            text = f'{{"symbol":{symbol},{prices},"time":{d["T"]}}}'
        else:
            pair = json.dumps(d["ps"], ensure_ascii=False)
            text = f'{{"lastUpdateId":{d["u"]},"symbol":{symbol},"pair":{pair},{prices},"time":{d["T"]}}}'
        return text.encode()
