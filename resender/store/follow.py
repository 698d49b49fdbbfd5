"""Hands the rows of a table to the event loop whenever they may have changed.

It reads nothing by itself: the database thread tells it what was read. A `Follower` belongs to
one `Store`; `is_new` and `publish` run on the database thread, the rest on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

from resender.store.repository import Repository

Row = TypeVar("Row")
Snapshot = tuple[int, tuple[Row, ...]]


class Follower(Generic[Row]):
    """One table that has a revision: which revision was delivered last, and to whom.

    Shape: `revision_key` is the key of the revision in the state table; `read` returns the
        revision and the rows that belong to it.
    """

    def __init__(self, revision_key: str, read: Callable[[Repository], Snapshot[Row]]) -> None:
        self.revision_key = revision_key
        self.read = read
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callback: Callable[[tuple[Row, ...]], None] | None = None
        # Connection and revision delivered last.
        self._delivered = (0, 0)
        self._numbers = itertools.count(1)
        self._latest = 0
        self._first: tuple[int, tuple[Row, ...]] | None = None

    def listen(self, callback: Callable[[tuple[Row, ...]], None] | None) -> None:
        """Say who gets the rows, before the database thread starts; None if nobody wants them."""
        self._loop = asyncio.get_running_loop()
        self._callback = callback

    def is_new(self, connection: int, state: dict[str, str]) -> bool:
        """Tell from the state table whether the rows have to be read and published."""
        if self._callback is None:
            return False
        return (connection, int(state.get(self.revision_key, 0))) != self._delivered

    def begin(self, connection: int, snapshot: Snapshot[Row]) -> None:
        """Keep what `deliver_first` is to deliver."""
        revision, rows = snapshot
        self._delivered = (connection, revision)
        self._first = (next(self._numbers), rows)

    def deliver_first(self) -> None:
        """Deliver the rows that the start has read; what the callback raises comes out."""
        if self._first is not None:
            self._deliver(*self._first)
            self._first = None

    def publish(self, connection: int, snapshot: Snapshot[Row]) -> None:
        """Deliver rows on the event loop, ahead of the result of the job that is being done."""
        revision, rows = snapshot
        self._delivered = (connection, revision)
        assert self._loop is not None
        # A closed loop serves nobody any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, next(self._numbers), rows)

    def _deliver(self, number: int, rows: tuple[Row, ...]) -> None:
        # The first rows may come last: start has to be woken before it can deliver them.
        if number > self._latest and self._callback is not None:
            self._latest = number
            self._callback(rows)
