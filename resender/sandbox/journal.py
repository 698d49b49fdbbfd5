"""What openOrders would have answered at any moment: rows by order, and every change of them.

A `Journal` belongs to one account in one market. Pure; its history is bounded, what falls out
of it is the state it begins with.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import NamedTuple

Key = tuple[str, int]
KEPT = 20_000


class Row(NamedTuple):
    """An open order as REST writes it; sorted by the time it was made."""

    time_ms: int
    order_id: int
    symbol: str
    data: bytes


class _Change(NamedTuple):
    time_ms: int
    key: Key
    row: Row | None


class Journal:
    """Rows of an account's open orders, now and before."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._rows: dict[Key, Row] = {}
        self._first: dict[Key, Row] = {}
        self._changes: deque[_Change] = deque()

    def note(self, now_ms: int, key: Key, row: Row | None) -> None:
        """Note how an order stands from now on; None when it is open no more."""
        if row is None and key not in self._rows:
            return
        if row is not None and self._rows.get(key) == row:
            return
        _apply(self._rows, key, row)
        self._changes.append(_Change(now_ms, key, row))
        while len(self._changes) > self._kept:
            old = self._changes.popleft()
            _apply(self._first, old.key, old.row)

    def now(self, symbol: str | None = None) -> bytes:
        """Return the rows as they stand, of one symbol or of all."""
        return _written(sorted(self._rows.values()), symbol)

    def at(self, time_ms: int, symbol: str | None = None) -> bytes:
        """Return the rows as they stood after everything up to that millisecond."""
        rows = dict(self._first)
        for change in self._changes:
            if change.time_ms > time_ms:
                break
            _apply(rows, change.key, change.row)
        return _written(sorted(rows.values()), symbol)

    def history(self, symbol: str | None = None) -> list[tuple[int, bytes]]:
        """List every state there was, with the time it began; the first is that before all kept changes."""
        rows = dict(self._first)
        ordered = sorted(rows.values())
        states = [(0, _written(ordered, symbol))]
        for change in self._changes:
            before = rows.get(change.key)
            if before is not None:
                ordered.remove(before)
            _apply(rows, change.key, change.row)
            if change.row is not None:
                insort(ordered, change.row)
            data = _written(ordered, symbol)
            if data != states[-1][1]:
                states.append((change.time_ms, data))
        return states


def _apply(rows: dict[Key, Row], key: Key, row: Row | None) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row


def _written(rows: list[Row], symbol: str | None) -> bytes:
    return b"[" + b",".join(row.data for row in rows if symbol in (None, row.symbol)) + b"]"
