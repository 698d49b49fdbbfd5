"""Order books of a made-up market: the kind on the fakes of `market_fakes.py`, the truth by `book_model.py`."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import orjson

from resender.core.binance.endpoints import DEPTH
from resender.core.market.requests import DepthRequest, Miss
from resender.core.market.words import BOOK, PARTIAL_BOOK
from resender.market.kinds.base import Hit, Wanting
from resender.market.kinds.books import Books
from resender.market.series import KeptBook
from tests.support.book_model import ModelBook, ModelSocket
from tests.support.market_fakes import T0, World


class Shelf:
    """The books of a made-up exchange's market; `model` is the truth about the first symbol."""

    def __init__(
        self, world: World, *, deep: bool = False, partial: bool = False, depth: int = 400, **options: Any
    ) -> None:
        self.world = world
        self.model = ModelBook(world.market, Random(7), depth=depth)
        self.symbol = self.model.symbol
        self.path = DEPTH[world.market]
        self.tools = world.tools("depth", **options)
        self.kind = Books(self.tools)
        self.kind.start()
        self.feed = world.feeds.feed(world.market, "depth")
        self.by_stream: dict[str, KeptBook] = {}
        self.socket = ModelSocket(self.model.update_id)
        world.door.answers[self.path] = lambda _, params: self.model.rest(
            self.model.update_id, int(params["limit"])
        )
        if deep:
            self.keep(BOOK)
        if partial:
            self.keep(PARTIAL_BOOK)

    def keep(self, what: str, symbol: str = "", *, is_preload: bool = False) -> KeptBook:
        symbol = symbol or self.symbol
        kept = self.kind.make(symbol, what, self.world.clock.mono(), is_preload=is_preload)
        self.kind.kept[symbol, what] = self.by_stream[kept.stream] = kept
        self.kind.begin(kept)
        self.feed.subscribe([kept.stream], self)
        self.live(kept)
        return kept

    @property
    def deep(self) -> KeptBook:
        return self.kind.kept[self.symbol, BOOK]

    @property
    def partial(self) -> KeptBook:
        return self.kind.kept[self.symbol, PARTIAL_BOOK]

    # -- the stream ----------------------------------------------------------------------------

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.by_stream[name], data)

    def live(self, kept: KeptBook) -> None:
        kept.is_live, kept.is_mute = True, False
        self.socket = ModelSocket(self.model.update_id)
        self.kind.live(kept)
        self.kind.settled_live()

    def lose(self, kept: KeptBook) -> None:
        kept.is_live = False
        self.kind.lose(kept)

    def push(self, *, updates: int = 1) -> None:
        """Let the book change and its streams tell of it."""
        for _ in range(updates):
            self.model.update()
        if (self.symbol, PARTIAL_BOOK) in self.kind.kept:
            self.feed.send(self.partial.stream, self.model.frame())
        if (self.symbol, BOOK) in self.kind.kept:
            data = self.model.cut(self.socket)
            if data is not None:
                self.feed.send(self.deep.stream, data)

    async def pushing(self, until_ms: int, every_ms: int = 100) -> None:
        """Push all the time until then."""
        while self.world.now_ms < (end := T0 + until_ms):
            await asyncio.sleep(min(every_ms, end - self.world.now_ms) / 1000)
            self.push()

    async def synced(self) -> None:
        """Bring the deep book to where it answers."""
        self.push()
        found = await self.ask(100)
        if isinstance(found, Wanting):
            found.leave()
        await self.pushing(self.world.now_ms - T0 + 3000)
        assert self.deep.is_known
        self.world.door.targets.clear()

    # -- calls ---------------------------------------------------------------------------------

    async def ask(self, limit: int = 20, symbol: str = "") -> Hit | Miss:
        request = DepthRequest(self.world.market, symbol or self.symbol, limit)
        found = self.kind.answer(request, packed=False)
        return found if isinstance(found, Hit | Miss) else await found

    async def hit(self, limit: int = 20) -> Hit:
        """Ask and see that the answer was the truth at the time its age says, or later."""
        found = await self.ask(limit)
        assert isinstance(found, Hit), found
        update_id = orjson.loads(found.body)["lastUpdateId"]
        assert found.body == self.model.body(update_id, limit)
        return found

    @property
    def reads(self) -> list[int]:
        """The limits of the reads made so far."""
        return [int(each.rpartition("=")[2]) for each in self.world.door.asked(self.path)]
