"""Rows of REST whose fields a stream brings up to date: which field is which, and how old a row is.

What no stream carries stays as REST last showed it, and its age counts. Such a row is never exact, as REST
makes it anew for each call: it is for whoever consents to an age. Pure.
Source: spot rest-api.md and web-socket-streams.md of 2026-07-21; binance-connector-python (um, cm) of 2026-08-21.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resender.core.binance.markets import Market
from resender.core.market.kept_json import kept_json

# By the names of REST; `s` is checked by the kind.
_DAY = {
    "symbol": "s",
    "priceChange": "p",
    "priceChangePercent": "P",
    "weightedAvgPrice": "w",
    "lastPrice": "c",
    "lastQty": "Q",
    "openPrice": "o",
    "highPrice": "h",
    "lowPrice": "l",
    "volume": "v",
    "quoteVolume": "q",
    "openTime": "O",
    "closeTime": "C",
    "firstId": "F",
    "lastId": "L",
    "count": "n",
}
_SPOT_DAY = {"prevClosePrice": "x", "bidPrice": "b", "bidQty": "B", "askPrice": "a", "askQty": "A"}
DAY_FIELDS: dict[Market, dict[str, str]] = {
    Market.SPOT: {**_DAY, **_SPOT_DAY},
    Market.UM: _DAY,
    # What `q` is on COIN-M is not proven to be baseVolume: that stays as REST shows it.
    Market.CM: {**{name: key for name, key in _DAY.items() if name != "quoteVolume"}, "pair": "ps"},
}
# Spot's `type=MINI` has these of them.
MINI_FIELDS = (
    "symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume", "openTime", "closeTime",
    "firstId", "lastId", "count",
)  # fmt: skip
_MARK = {
    "symbol": "s",
    "markPrice": "p",
    "indexPrice": "i",
    "estimatedSettlePrice": "P",
    "lastFundingRate": "r",
    "nextFundingTime": "T",
    "time": "E",
}
MARK_FIELDS: dict[Market, dict[str, str]] = {Market.UM: _MARK, Market.CM: _MARK}
# These never change: as old as they are, they are true.
_FIXED = frozenset({"symbol", "pair"})


class StreamedRow:
    """One symbol's row.

    Shape: `fields` names the key of an event for each name of REST that a stream carries. Units: `event_ms`
        and `seed_ms` exchange milliseconds, 0 for what there is not.
    """

    __slots__ = (
        "_as_of_ms",
        "_bodies",
        "_event",
        "_fields",
        "_is_checked",
        "_is_fit",
        "_seed",
        "event_ms",
        "seed_ms",
    )

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._event: dict[str, Any] = {}
        self._seed: dict[str, Any] = {}
        self._bodies: dict[str, bytes] = {}
        self._is_checked = False
        # None until somebody asks.
        self._as_of_ms: int | None = None
        self.event_ms = 0
        self.seed_ms = 0
        self._is_fit = True

    @property
    def is_known(self) -> bool:
        """Whether there is a row at all: only REST tells which fields it has."""
        return bool(self._seed)

    def apply(self, event: dict[str, Any], event_ms: int) -> bool:
        """Take an event; return whether it is news."""
        if event_ms < self.event_ms:
            return False
        self._event, self.event_ms = event, event_ms
        self._bodies.clear()
        self._is_checked = False
        self._as_of_ms = None
        return True

    def seed(self, row: dict[str, Any], made_ms: int) -> None:
        """Take a REST row. Raises: TypeError if it is none."""
        if type(row) is not dict:
            raise TypeError("a row that is no object")
        if made_ms < self.seed_ms:
            return
        self._seed, self.seed_ms = row, made_ms
        self._bodies.clear()
        self._is_checked = False
        self._as_of_ms = None

    @property
    def is_fit(self) -> bool:
        """Whether REST and the stream write the same things the same way, as far as can be seen."""
        if not self._is_checked:
            self._is_checked = True
            self._is_fit = all(
                _form(self._seed[name]) == _form(self._event[key])
                for name, key in self._fields.items()
                if name in self._seed and key in self._event
            )
        return self._is_fit

    def as_of_ms(self) -> int:
        """Return of which time the oldest of its fields is."""
        if self._as_of_ms is None:
            self._as_of_ms = self._find_as_of_ms()
        return self._as_of_ms

    def _find_as_of_ms(self) -> int:
        if self.seed_ms >= self.event_ms:
            return self.seed_ms
        is_carried = all(
            self._fields.get(name, "") in self._event for name in self._seed if name not in _FIXED
        )
        return self.event_ms if is_carried else self.seed_ms

    def body(self, form: str = "") -> bytes:
        """Return the row as REST writes it; `form` is MINI for spot's short one."""
        body = self._bodies.get(form)
        if body is None:
            row = dict(self._seed)
            if self.event_ms > self.seed_ms:
                for name in row:
                    key = self._fields.get(name)
                    if key is not None and key in self._event:
                        row[name] = self._event[key]
            if form == "MINI":
                row = {name: row[name] for name in MINI_FIELDS if name in row}
            body = self._bodies[form] = kept_json(row)
        return body


def _form(value: Any) -> tuple[type, int]:
    """Return what two ways of writing a value have in common: its type, and the decimals of a number in text."""
    return type(value), len(value.partition(".")[2]) if type(value) is str else 0
