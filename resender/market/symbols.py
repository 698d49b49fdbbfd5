"""The symbols of one market that can be traded now, as exchangeInfo tells them.

It does not fetch; the cache hands it the bytes. It owns the list.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from resender.core.binance.markets import Market
from resender.core.market.requests import SYMBOL

_SERVER_TIME = re.compile(rb'"serverTime":\d+,?')
EXCHANGE_INFO: dict[Market, str] = {
    # Without permission sets and halted symbols the answer is a fraction of its size.
    Market.SPOT: "/api/v3/exchangeInfo?showPermissionSets=false&symbolStatus=TRADING",
    Market.UM: "/fapi/v1/exchangeInfo",
    Market.CM: "/dapi/v1/exchangeInfo",
}


class SymbolTable:
    """Symbols of one market, in the exchange's order."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.tradable: dict[str, None] = {}
        self.weight_limit: int | None = None
        self.is_loaded = False
        self._last = 0

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.tradable

    def load(self, body: bytes) -> bool:
        """Take an exchangeInfo answer; return whether the list of symbols changed.

        Shape: {"symbols":[{"symbol":..,"status":"TRADING"},..],"rateLimits":[..]}; COIN-M says
            `contractStatus`.
        Raises: ValueError if it is anything else.
        """
        # Most of the time nothing but the time has changed, and parsing megabytes blocks the loop.
        fingerprint = hash(_SERVER_TIME.sub(b"", body, count=1))
        if self.is_loaded and fingerprint == self._last:
            return False
        data: Any = orjson.loads(body)
        key = "contractStatus" if self.market is Market.CM else "status"
        try:
            found = {
                row["symbol"]: None
                for row in data["symbols"]
                if row[key] == "TRADING" and SYMBOL.fullmatch(row["symbol"])
            }
            limits = [
                row["limit"]
                for row in data["rateLimits"]
                if row["rateLimitType"] == "REQUEST_WEIGHT" and row["interval"] == "MINUTE"
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"an exchangeInfo without {error}") from None
        if limits and isinstance(limits[0], int) and limits[0] > 0:
            self.weight_limit = limits[0]
        changed = not self.is_loaded or list(found) != list(self.tradable)
        self.tradable = found
        self.is_loaded = True
        self._last = fingerprint
        return changed
