"""Order books as they are held, for a ladder: the best levels once, and as they change.

It reads the cache. What is looked at counts as asked for, so that it is kept. No state.
"""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.market.words import BOOK, PARTIAL_BOOK
from resender.market import KeptBook
from resender.web.admin.api.series import SeriesBase
from resender.web.admin.long_answers import EventHandler

LEVELS = 20
_WORDS = (PARTIAL_BOOK, BOOK)
# At most four times a second, and at least so often, so that its age is told.
_LOOK_S = 0.25
_LEAST_EVERY = 4


class _BookBase(SeriesBase):
    def book(self) -> KeptBook:
        """Find the book a query names.

        Raises: BadRequest, or RouteError if it is not held.
        """
        kept = self.named(lambda market: _WORDS)
        assert isinstance(kept, KeptBook)
        return kept

    def ladder(self, kept: KeptBook) -> dict[str, Any]:
        """Describe the best levels; there are none while nothing is known."""
        kept.used_mono = self.services.clock.mono()
        age_ms, proof = self.cache().states[kept.market].proof(kept)
        bids, asks = kept.book.best(LEVELS) if kept.is_known else ([], [])
        return {
            "state": kept.state,
            "age_ms": age_ms,
            "proof": proof,
            "update_id": kept.book.update_id if kept.is_known else None,
            "bids": bids,
            "asks": asks,
        }


class BookHandler(_BookBase):
    """`GET /admin/api/book`: the best levels of a book."""

    def get(self) -> None:
        self.send(self.ladder(self.book()))


class BookEventsHandler(_BookBase, EventHandler):
    """`GET /admin/api/book/events`: a book as it changes."""

    async def get(self) -> None:
        kept = self.book()
        with self.live.stream():
            if not await self.begin():
                return
            seen: object = None
            turn = 0
            while True:
                now = (kept.state, kept.is_known, kept.epoch, kept.book.update_id)
                if now != seen or turn % _LEAST_EVERY == 0:
                    seen, turn = now, 0
                    if not await self.event("book", orjson.dumps(self.ladder(kept))):
                        return
                if kept.is_dropped:
                    await self.end("dropped")
                    return
                if not await self.goes_on(_LOOK_S):
                    return
                turn += 1
