"""Order books: the best 20 levels out of frames that are whole, deep ones out of a snapshot and changes.

A frame proves a book as of its moment. Frames may come only when something changes, so a quiet book is
compared with REST; a trade without a frame is a reason to do so at once. A deep book costs a snapshot at
the start, after a gap and when the price has drifted out of what it covered; answers that clients were
forwarded are taken for one, too. See `kinds/base.py` for what drives this.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import orjson

from resender.aio import end_tasks
from resender.core.binance.endpoints import DEPTH
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import symbol_stream
from resender.core.market.book import Book, BookBroken
from resender.core.market.levels import MAX_LIMIT, Head, OddBook
from resender.core.market.partial_book import LEVELS, PartialBook
from resender.core.market.requests import DepthRequest, Miss, parse_depth
from resender.core.market.words import BOOK, PARTIAL_BOOK
from resender.market.kinds.base import Hit, Kind, Lack, Outcome, Parse, Tools, Wanting, settle_task
from resender.market.reader import ReadFailed
from resender.market.series import KeptBook
from resender.market.silences import SILENCE_MS, Silences
from resender.market.witness import TICKER_GRACE_S

logger = logging.getLogger("resender.market")

_SETTLE_TIMEOUT_S = 3.0
_REREAD_S = 1.0
# A trade changes the book: its frame is due within so long of what names the trade.
_TRADED_S = 2.5
# A deep book is read by itself only while somebody has asked within so long.
_WANTED_S = 60.0
_REVIEW_S = 1.0
# So often a book has to fall short of what is asked for before a deeper snapshot is worth its weight.
_SHALLOW = 2
# No answer takes longer.
_RECORDING_S = 120.0
# Whatever does not fit is forwarded for so long before it is tried again.
_ODD_S = 60.0
# Snapshots are large; reads that somebody waits for have places of their own.
_SNAPSHOTS_AT_ONCE = 4
_RETRY_S = 2.0
_RETRY_MAX_S = 60.0
_LASTING_S = 60.0
_UNASKED = 1000
# What a snapshot may be asked for; the one after the limit that is wanted, so that it lasts.
_SNAPSHOTS: dict[Market, tuple[int, ...]] = {
    Market.SPOT: (500, 1000, 5000),
    Market.UM: (500, 1000),
    Market.CM: (500, 1000),
}


class Books(Kind[KeptBook]):
    """The order books of one market."""

    name = "depth"
    stream = "depth"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._head = Head()
        self._watch = tools.watch
        self._settle_slots = tools.shared.settle_slots
        self._snapshot_slots = asyncio.Semaphore(_SNAPSHOTS_AT_ONCE)
        self._shared = tools.shared
        self._odd_until_mono = -1e9
        self._of_symbol: dict[str, list[KeptBook]] = {}
        self._silences = Silences(SILENCE_MS)
        self._review: asyncio.Task[None] | None = None
        tools.watch.listen(self._on_traded)
        # Changes that did not follow each other, of all books.
        self.gaps = 0

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        return frozenset({PARTIAL_BOOK, BOOK})

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {DEPTH[market]: parse_depth}

    def start(self) -> None:
        self._review = self.tasks.spawn(self._keep_deep(), name=f"books:{self.market}")

    async def stop(self) -> None:
        if self._review is not None:
            await end_tasks([self._review])

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptBook:
        book = (PartialBook if what == PARTIAL_BOOK else Book)(self.market, self._head)
        stream = symbol_stream(symbol, f"{what}@100ms")
        return KeptBook(self.market, symbol, stream, now_mono, is_preload, book=book)

    def begin(self, kept: KeptBook) -> None:
        self._of_symbol.setdefault(kept.symbol, []).append(kept)
        self._watch.want()

    def end(self, kept: KeptBook) -> None:
        self._of_symbol[kept.symbol].remove(kept)
        if not self._of_symbol[kept.symbol]:
            del self._of_symbol[kept.symbol]

    def _on_traded(self, symbol: str, event_ms: int, price: str) -> None:
        for kept in self._of_symbol.get(symbol, ()):
            kept.traded_mono = self.clock.mono()

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: KeptBook, data: Any) -> bool | None:
        if (self.market is not Market.SPOT or kept.what == BOOK) and data["s"] != kept.symbol:
            raise ValueError("an order book of another symbol")
        try:
            is_news = kept.book.apply(data)
        except BookBroken as error:
            self.gaps += 1
            logger.info("%s %s %s: %s; it is read again", *kept.key, error)
            self._note_event(kept)
            # One that does not last is not read at once: a snapshot may cost as much as all clients do.
            mono = self.clock.mono()
            kept.failures = kept.failures + 1 if mono - kept.read_mono < _LASTING_S else 0
            kept.not_before_mono = max(kept.not_before_mono, mono + self._pause_s(kept))
            return None
        if is_news:
            self._note_event(kept)
        return None

    def _note_event(self, kept: KeptBook) -> None:
        kept.event_mono = mono = self.clock.mono()
        self._silences.note(self.feed.carrier(kept.stream), mono * 1000)
        kept.unheard_mono = None
        kept.is_mute = False

    def lose(self, kept: KeptBook) -> None:
        kept.book.lose()
        kept.epoch += 1
        kept.unheard_mono = None
        kept.event_mono = kept.seeded_mono = -1e9
        kept.failures = 0
        kept.not_before_mono = -1e9

    def proof(self, kept: KeptBook) -> tuple[int | None, str]:
        if not kept.is_live or not kept.is_known:
            return None, ""
        kind = "event" if kept.event_mono >= kept.seeded_mono else "rest"
        return int((self.clock.mono() - kept.proof_mono) * 1000), kind

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: DepthRequest, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a depth call."""
        kept = self._choose(request)
        if kept is None:
            what = PARTIAL_BOOK if request.limit <= LEVELS else BOOK
            reason = self.desk.begin(self.market, request.symbol, what)
            kept = self.kept.get((request.symbol, what))
            if kept is not None:
                kept.wanted = max(kept.wanted, request.limit)
            return self.desk.miss(None, reason)
        kept.used_mono = self.clock.mono()
        kept.wanted = max(kept.wanted, request.limit)
        lack = self._lack(kept, request.limit)
        if lack is None:
            return self._hit(kept, request)
        if lack.is_mute:
            self._mute(kept)
        if lack.can_settle:
            return self._settle(kept, request)
        return self._missed(kept, request, lack.reason)

    def _choose(self, request: DepthRequest) -> KeptBook | None:
        deep = self.kept.get((request.symbol, BOOK))
        if request.limit > LEVELS:
            return deep
        partial = self.kept.get((request.symbol, PARTIAL_BOOK))
        if partial is None or (deep is not None and not partial.is_known and deep.is_known):
            return deep
        return partial

    def _lack(self, kept: KeptBook, limit: int) -> Lack | None:
        is_partial = kept.what == PARTIAL_BOOK
        if self.is_held_up(kept):
            return Lack("stream not live")
        if self._is_unfit(kept) or self.clock.mono() < self._odd_until_mono:
            return Lack("other format")
        if not self._head.keys:
            return Lack("not read yet", can_settle=is_partial)
        if not kept.is_known:
            return Lack("not read yet", can_settle=is_partial)
        if kept.is_mute:
            return Lack("stream mute")
        mono = self.clock.mono()
        if kept.unheard_mono is not None and mono - kept.seeded_mono > _REREAD_S:
            return Lack("stream quiet", can_settle=True)
        resumed_mono = self._silences.resumed_ms(self.feed.carrier(kept.stream)) / 1000
        if mono - kept.proof_mono > self.options.quiet_s or kept.proof_mono < resumed_mono:
            return Lack("stream quiet", can_settle=True)
        # The witness names a trade up to a second after it.
        if kept.traded_mono - kept.proof_mono > _TRADED_S:
            return Lack("stream quiet", can_settle=True)
        if isinstance(kept.book, Book) and not kept.book.reaches(limit):
            return Lack("levels not known")
        return None

    def _hit(self, kept: KeptBook, request: DepthRequest) -> Hit | Miss:
        try:
            body = kept.book.body(request.limit)
        except (KeyError, TypeError) as error:
            self._distrust(kept, f"a frame lacks what REST has ({error})")
            return self.desk.miss(kept, "other format")
        self.desk.count_hit(kept)
        return Hit(body, None, max(0, int((self.clock.mono() - kept.proof_mono) * 1000)))

    def _is_unfit(self, kept: KeptBook) -> bool:
        """Tell whether a book is forwarded because REST and the stream differed; after a while it begins anew."""
        if kept.is_unfit and self.clock.mono() - kept.unfit_mono > _ODD_S:
            kept.is_unfit = False
            kept.book.lose()
        return kept.is_unfit

    def _learn(self, read: Any) -> None:
        """Take the form of a REST body. Raises: ValueError; then all books are forwarded for a while."""
        try:
            self._head.learn(read)
        except OddBook:
            self._odd_until_mono = self.clock.mono() + _ODD_S
            raise

    def _distrust(self, kept: KeptBook, why: str) -> None:
        kept.is_unfit = True
        kept.unfit_mono = self.clock.mono()
        logger.warning("%s %s %s is forwarded from now on: %s", *kept.key, why)

    async def _settle(self, kept: KeptBook, request: DepthRequest) -> Hit | Miss:
        """Compare with REST, one read for all who wait."""
        read = settle_task(kept)
        mono = self.clock.mono()
        if read is None and mono - kept.read_mono >= _REREAD_S:
            kept.read_mono = mono
            read = kept.read = self.tasks.spawn(self._compare(kept), name=f"book-settle:{kept.symbol}")
        if read is not None:
            await asyncio.wait({read}, timeout=_SETTLE_TIMEOUT_S)
        lack = self._lack(kept, request.limit)
        if lack is None:
            return self._hit(kept, request)
        return self._missed(kept, request, lack.reason)

    def _missed(self, kept: KeptBook, request: DepthRequest, reason: str) -> Miss:
        """Let a call go up; its answer is a snapshot that costs nothing more."""
        miss = self.desk.miss(kept, reason)
        book = kept.book
        if reason == "levels not known":
            kept.shallow += 1
        if not isinstance(book, Book) or reason not in ("levels not known", "not read yet", "stream quiet"):
            return miss
        epoch, sent_mono = kept.epoch, self.clock.mono()
        self._record(kept)

        def leave() -> None:
            self._end_record(kept)

        def take(body: bytes) -> None:
            try:
                if epoch == kept.epoch and not kept.is_dropped:
                    self._take(kept, body, request.limit, sent_mono)
            except ReadFailed as error:
                logger.info("%s %s %s: an answer is no snapshot: %s", *kept.key, error)
            finally:
                leave()

        return Wanting(miss.reason, take, leave)

    # --- reads -----------------------------------------------------------------------------

    def _record(self, kept: KeptBook) -> None:
        """Keep changes for a snapshot that is on its way."""
        assert isinstance(kept.book, Book)
        kept.book.recording += 1
        kept.recording_mono = self.clock.mono()

    def _end_record(self, kept: KeptBook) -> None:
        assert isinstance(kept.book, Book)
        kept.book.recording = max(0, kept.book.recording - 1)
        kept.book.forget_waiting()

    def _take(self, kept: KeptBook, body: bytes, limit: int, sent_mono: float) -> bool:
        """Take a snapshot; return whether the book is known by it.

        Raises: ReadFailed if it is none.
        """
        book = kept.book
        assert isinstance(book, Book)
        try:
            read = orjson.loads(body)
            self._learn(read)
            if not book.snapshot(read, limit):
                return False
        except BookBroken as error:
            self.gaps += 1
            raise ReadFailed(str(error)) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ReadFailed(f"a depth answer of a wrong shape ({error})") from None
        if book.update_id == read["lastUpdateId"]:
            kept.seeded_mono = max(kept.seeded_mono, sent_mono)
        return True

    async def _get(self, kept: KeptBook, limit: int, *, is_urgent: bool) -> bytes:
        target = f"{DEPTH[self.market]}?symbol={quote(kept.symbol, safe='')}&limit={limit}"
        permit = self.reader.admit(target, is_urgent=is_urgent)
        return await self.reader.get(target, permit)

    async def _compare(self, kept: KeptBook) -> None:
        """Read the best levels: they prove a quiet book, or show that its stream brings nothing."""
        epoch, sent_mono = kept.epoch, self.clock.mono()
        try:
            async with self._settle_slots:
                body = await self._get(kept, LEVELS, is_urgent=True)
            if epoch == kept.epoch and not kept.is_dropped:
                self._judge(kept, body, sent_mono)
        except ReadFailed as error:
            logger.info("%s %s %s cannot be compared: %s", *kept.key, error)

    def _judge(self, kept: KeptBook, body: bytes, sent_mono: float) -> None:
        """Compare a book with what REST shows. Raises: ReadFailed."""
        book = kept.book
        try:
            read = orjson.loads(body)
            self._learn(read)
            is_at = kept.is_known and read["lastUpdateId"] == book.update_id
            is_same = is_at and book.writes(read)
            agrees = is_same or not kept.is_known or book.shows(read)
            # What REST itself had to tell proves nothing of the stream.
            is_own = kept.is_known and not book.is_read
            is_taken = isinstance(book, PartialBook) and book.seed(read)
        except (ValueError, KeyError, TypeError) as error:
            raise ReadFailed(f"a depth answer of a wrong shape ({error})") from None
        if is_own and is_at and not is_same:
            self._distrust(kept, "REST and the stream differ at one update")
        if not kept.is_known or kept.event_mono >= sent_mono:
            return  # the stream has spoken meanwhile
        if is_same or is_taken:
            kept.seeded_mono = sent_mono
        if not agrees:
            if kept.unheard_mono is None:
                kept.unheard_mono = sent_mono
        elif is_own:
            kept.unheard_mono = None
        if kept.unheard_mono is not None and sent_mono - kept.unheard_mono > TICKER_GRACE_S:
            self._mute(kept)

    async def _keep_deep(self) -> None:
        """Read snapshots of the deep books that need one, the one asked for last first."""
        while True:
            await asyncio.sleep(_REVIEW_S)
            mono = self.clock.mono()
            due = [kept for kept in self.kept.values() if self._needs_snapshot(kept, mono)]
            if self._shared.pause_s():  # candles close: what nobody asks for just now can wait
                due = [kept for kept in due if mono - kept.used_mono < _REVIEW_S * 5]
            due.sort(key=lambda kept: -kept.used_mono)
            for kept in self.kept.values():
                if isinstance(kept.book, Book) and mono - kept.recording_mono > _RECORDING_S:
                    kept.book.recording = 0  # whoever wanted it never came
                    kept.book.forget_waiting()
            for kept in due:
                kept.read_mono = mono
                kept.read = self.tasks.spawn(self._snapshot(kept), name=f"book-read:{kept.symbol}")

    def _needs_snapshot(self, kept: KeptBook, mono: float) -> bool:
        book = kept.book
        if not isinstance(book, Book) or self.is_held_up(kept) or self._is_unfit(kept):
            return False
        if mono < kept.not_before_mono or settle_task(kept) is not None:
            return False
        if mono < self._odd_until_mono:
            return False
        if not kept.is_preload and mono - kept.used_mono > _WANTED_S:
            return False
        if not book.is_synced:
            # Whoever asks but once has paid for it already; and a client's answer may be on its way.
            is_awaited, kept.is_awaited = book.recording > 0 and not kept.is_awaited, True
            return (kept.is_preload or bool(kept.misses)) and not is_awaited
        kept.is_awaited = False
        return kept.shallow >= _SHALLOW and not book.reaches(kept.wanted) and self._limit(kept) > kept.wanted

    def _limit(self, kept: KeptBook) -> int:
        """Return what to ask a snapshot for; one that only a rule wants costs what the rule's page says."""
        if not kept.wanted:
            return _UNASKED
        sizes = _SNAPSHOTS[self.market]
        return next((each for each in sizes if each > kept.wanted), MAX_LIMIT[self.market])

    async def _snapshot(self, kept: KeptBook) -> None:
        book = kept.book
        assert isinstance(book, Book)
        epoch, limit = kept.epoch, self._limit(kept)
        self._record(kept)
        is_done = False
        try:
            async with self._snapshot_slots:
                sent_mono = self.clock.mono()
                body = await self._get(kept, limit, is_urgent=False)
            if epoch == kept.epoch and not kept.is_dropped:
                is_done = self._take(kept, body, limit, sent_mono)
                kept.shallow = 0
        except ReadFailed as error:
            logger.info("%s %s %s cannot be read: %s", *kept.key, error)
            if error.retry_after_s:
                kept.not_before_mono = self.clock.mono() + error.retry_after_s
        finally:
            self._end_record(kept)
            if epoch == kept.epoch and not is_done:
                kept.failures += 1
                kept.not_before_mono = max(kept.not_before_mono, self.clock.mono() + self._pause_s(kept))

    @staticmethod
    def _pause_s(kept: KeptBook) -> float:
        return min(_RETRY_MAX_S, _RETRY_S * 2 ** min(kept.failures, 6)) if kept.failures else 0.0
