"""Order books as Binance writes them: levels of a price and a quantity, both text, and what stands before them.

Pure; shared by the best levels (`partial_book.py`) and by whole books (`book.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from resender.core.binance.markets import Market

Level = list[str]
# Source: spot rest-api.md of 2026-07-21; binance-connector-python (um, cm) of 2026-08-21.
MAX_LIMIT: dict[Market, int] = {Market.SPOT: 5000, Market.UM: 1000, Market.CM: 1000}
DEFAULT_LIMIT: dict[Market, int] = {Market.SPOT: 100, Market.UM: 500, Market.CM: 500}
# Futures take these only; spot any from 1 on, and its maximum for more.
FUTURES_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
_NUMBERS = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:,[0-9]{1,20}(?:\.[0-9]{1,20})?)*")
_LEVELS = ("bids", "asks")
_TEXTS = {"symbol": "s", "pair": "ps"}
_TIMES = ("E", "T")


def check_levels(levels: Any) -> list[Level]:
    """Return a list of levels that are one.

    Shape: [["0.0024","10"], ...].
    Raises: ValueError or TypeError for anything else.
    """
    if type(levels) is not list or (levels and set(map(type, levels)) != {list}):
        raise TypeError("levels that are no list of lists")
    if levels:
        text = ",".join([price + "," + quantity for price, quantity in levels])
        if text.count(",") != 2 * len(levels) - 1 or not _NUMBERS.fullmatch(text):
            raise ValueError("a level with texts that are no numbers")
    return levels


def same_levels(held: Sequence[Level], shown: Sequence[Level]) -> bool:
    """Tell whether the levels shown are those held, by value."""
    if len(shown) != len(held):
        return False
    try:
        return all(
            one == other or (Decimal(one[0]) == Decimal(other[0]) and Decimal(one[1]) == Decimal(other[1]))
            for one, other in zip(held, shown, strict=True)
        )
    except (InvalidOperation, TypeError, ValueError, IndexError):
        return False


def without_levels(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a body or an event says beside its levels: those are kept elsewhere."""
    return {key: value for key, value in data.items() if type(value) is not list}


class OddBook(ValueError):
    """REST writes order books in a form that no event can be written in."""


class Head:
    """What stands around the levels in a REST body, as the market has been seen to write it.

    Shape: {"lastUpdateId","bids","asks"} on spot; with "E" and "T" on USD-M; with "symbol", "pair", "E" and
        "T" on COIN-M. The order, and which of them there are, is learned from a body.
    """

    __slots__ = ("keys",)

    def __init__(self) -> None:
        self.keys: tuple[str, ...] = ()

    def learn(self, body: dict[str, Any]) -> None:
        """Take the order of a REST body's keys.

        Raises: ValueError for a body that has what no stream brings, or not what a book has; then the order
            is not known any more.
        """
        keys = tuple(body)
        known = {"lastUpdateId", *_LEVELS, *_TIMES, *_TEXTS}
        if not {"lastUpdateId", *_LEVELS} <= set(keys):
            self.keys = ()
            raise ValueError(f"no order book, with the keys {', '.join(keys)[:200]}")
        if not set(keys) <= known or keys[-2:] != _LEVELS:
            self.keys = ()
            raise OddBook(f"an order book with the keys {', '.join(keys)[:200]}")
        self.keys = keys

    def before(self, update_id: int, data: dict[str, Any]) -> bytes:
        """Return what stands before the levels, out of a REST body or an event.

        Raises: KeyError or TypeError if something is missing in it or of another kind.
        """
        parts = []
        for key in self.keys[:-2]:
            value: object = update_id
            if key in _TIMES:
                value = data[key]
                if type(value) is not int:
                    raise TypeError("a time that is no number")
            elif key in _TEXTS:
                text = data[key] if key in data else data[_TEXTS[key]]
                if type(text) is not str:
                    raise TypeError("a name that is no text")
                value = json.dumps(text, ensure_ascii=False)
            parts.append(f'"{key}":{value},')
        return f"{{{''.join(parts)}".encode()
