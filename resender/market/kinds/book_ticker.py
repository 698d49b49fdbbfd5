"""Book tickers: best prices out of the stream, first values and quiet ones by REST.

A stream pushes nothing at subscription, a quiet symbol nothing for minutes; one read of all symbols
serves all who lack a value. See `kinds/base.py` for what drives this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import orjson

from resender.aio import Backoff
from resender.core.binance.endpoints import BOOK_TICKERS
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import book_ticker_stream
from resender.core.market.book_ticker import BookTicker
from resender.core.market.kept_json import kept_json
from resender.core.market.requests import BookTickerRequest, Miss, parse_book_ticker
from resender.core.market.words import BOOK_TICKER
from resender.market.kinds.base import Hit, Kind, Lack, Outcome, Parse, Tools
from resender.market.reader import ReadFailed
from resender.market.series import KeptTicker
from resender.market.silences import SILENCE_MS, Silences
from resender.market.witness import TickerWitness
from resender.turns import next_turn

logger = logging.getLogger("resender.market")

_SETTLE_TIMEOUT_S = 3.0
_REREAD_S = 1.0
_AHEAD = 0.6  # a ticker so near to its quiet limit is compared before it is due
_SLICE = 128
_BATCH_S = 0.2  # streams come alive in batches; most of them bring their own first value at once


class BookTickers(Kind[KeptTicker]):
    """The book tickers of one market."""

    name = BOOK_TICKER
    stream = "bookTicker"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._silences = Silences(SILENCE_MS)
        # As of the last read of all: see `_note_all`.
        self._order: tuple[str, ...] = ()
        self._still: dict[str, bytes] = {}
        self._still_mono = -1e9
        self._reading_all: asyncio.Task[None] | None = None
        self._seeding: asyncio.Task[None] | None = None
        self.witness = TickerWitness(
            self.market.value,
            lambda: list(self.kept.values()),
            self.read,
            self._mute,
            quiet_s=self.options.quiet_s,
            clock=self.clock,
            tasks=self.tasks,
        )

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        return frozenset({BOOK_TICKER})

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {BOOK_TICKERS[market]: parse_book_ticker}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptTicker:
        stream = book_ticker_stream(symbol)
        return KeptTicker(self.market, symbol, stream, now_mono, is_preload, ticker=BookTicker(self.market))

    @property
    def witness_reads(self) -> int:
        return self.witness.reads

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: KeptTicker, data: Any) -> bool | None:
        if data["s"] != kept.symbol:
            raise ValueError("a book ticker of another symbol")
        self._silences.note(self.feed.carrier(kept.stream), self.clock.mono() * 1000)
        if kept.ticker.apply(data) or data["u"] == kept.ticker.update_id:
            kept.event_mono = self.clock.mono()
            kept.unheard_mono = None
            kept.is_mute = False
        return None

    def settled_live(self) -> None:
        if self._seeding is None and any(e.is_live and not e.ticker.is_valid for e in self.kept.values()):
            self._seeding = self.tasks.spawn(self._seed_all(), name=f"ticker-seed:{self.market}")

    def lose(self, kept: KeptTicker) -> None:
        kept.ticker.lose()
        kept.epoch += 1
        kept.unheard_mono = None

    def proof(self, kept: KeptTicker) -> tuple[int | None, str]:
        if not kept.is_live or not kept.ticker.is_valid:
            return None, ""
        kind = "event" if kept.event_mono >= kept.seeded_mono else "rest"
        return int((self.clock.mono() - kept.proof_mono) * 1000), kind

    # --- reads -----------------------------------------------------------------------------

    async def read(self, wanted: Sequence[KeptTicker]) -> tuple[float, dict[str, dict[str, Any]]]:
        """Read the rows of some tickers, all symbols at once if that is cheaper.

        Shape: when the read was sent (monotonic seconds), rows by symbol; of two symbols the first only, of
            none all.
        Raises: ReadFailed, also if there is no weight for it now.
        """
        target = BOOK_TICKERS[self.market]
        is_all = not 0 < len(wanted) <= 2
        if not is_all:
            target += f"?symbol={quote(wanted[0].symbol, safe='')}"
        sent_mono = self.clock.mono()
        body = await self.reader.get(target)
        try:
            rows = orjson.loads(body)
            by_symbol = {row["symbol"]: row for row in (rows if isinstance(rows, list) else [rows])}
            if is_all:
                self._note_all(by_symbol, sent_mono)
            return sent_mono, by_symbol
        except (ValueError, KeyError, TypeError) as error:
            raise ReadFailed(f"a bookTicker answer of a wrong shape ({error})") from None

    def _note_all(self, rows: dict[str, dict[str, Any]], sent_mono: float) -> None:
        """Remember in which order REST lists all symbols, and its rows of those that are not traded."""
        tradable = self.facts.symbols
        self._order = tuple(rows)
        self._still = {name: kept_json(row) for name, row in rows.items() if name not in tradable}
        self._still_mono = sent_mono

    async def _seed(self, wanted: Sequence[KeptTicker]) -> int:
        """Read values; return how many were set.

        A read from before a loss of the stream, or older than what the stream said, sets nothing.
        Raises: ReadFailed.
        """
        if len(wanted) <= 2:
            wanted = wanted[:1]
        epochs = {kept.symbol: kept.epoch for kept in wanted if kept.is_live}
        sent_mono, by_symbol = await self.read(wanted)
        done = 0
        try:
            for kept in wanted:
                row = by_symbol.get(kept.symbol)
                if row is None or epochs.get(kept.symbol) != kept.epoch or kept.is_dropped:
                    continue
                kept.seeded_mono = sent_mono
                # Before the stream has spoken at all a newer read replaces an older one.
                done += kept.ticker.seed(row, replace=not self.feed.is_proven(kept.stream))
        except (ValueError, KeyError, TypeError) as error:
            raise ReadFailed(f"a bookTicker answer of a wrong shape ({error})") from None
        return done

    async def _seed_all(self) -> None:
        """Read the tickers that have no value yet, until none is left."""
        backoff = Backoff(first_s=1.0, cap_s=30.0)
        try:
            await asyncio.sleep(_BATCH_S)
            turn = 0
            while missing := [e for e in self.kept.values() if e.is_live and not e.ticker.is_valid]:
                # Of two the first is read: one that has no value must not keep it from the other.
                turn += 1
                first = turn % len(missing)
                try:
                    done = await self._seed(missing[first:] + missing[:first])
                    backoff.reset()
                except ReadFailed as error:
                    logger.warning("%s: book tickers cannot be read: %s", self.market, error)
                    done = 0
                if not done:
                    await asyncio.sleep(backoff.next_s())
        finally:
            self._seeding = None

    async def _seed_one(self, kept: KeptTicker) -> None:
        with suppress(ReadFailed):
            await self._seed([kept])

    # --- answers ---------------------------------------------------------------------------

    def use(self, symbols: Iterable[str]) -> None:
        """Somebody wants these tickers."""
        mono = self.clock.mono()
        for symbol in symbols:
            if (kept := self.kept.get((symbol, BOOK_TICKER))) is not None:
                kept.used_mono = mono

    def answer(self, request: BookTickerRequest, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call for one symbol, a list or all."""
        if not request.symbols:
            is_whole = self.facts.symbols.is_loaded and len(self.kept) >= len(self.facts.symbols.tradable)
            return self._answer_all() if is_whole and self.kept else self.desk.miss(None, "all symbols")
        wanted = []
        now = self.clock.mono()
        for symbol in request.symbols:
            kept = self.kept.get((symbol, BOOK_TICKER))
            if kept is None:
                # All of the list start, so that the next call finds all of it.
                lacking = [each for each in request.symbols if (each, BOOK_TICKER) not in self.kept]
                reasons = [self.desk.begin(self.market, each, BOOK_TICKER) for each in lacking]
                return self.desk.miss(None, reasons[0])
            kept.used_mono = now
            wanted.append(kept)
        lack = self._lack(wanted)
        if lack is None:
            if now - min(kept.proof_mono for kept in wanted) > self.options.quiet_s * _AHEAD:
                # Before it is due, so that nobody has to wait for it; one read serves all for a while.
                self.witness.verify(not_within_s=self.options.quiet_s * _AHEAD)
            return self._hit(wanted, request)
        if lack.reason == "stream quiet" or (lack.can_settle and len(wanted) == 1):
            return self._settle(wanted, request, lack)
        return self.desk.miss(wanted[0], lack.reason)

    async def _answer_all(self) -> Hit | Miss:
        """Answer for the whole market, which a rule keeps: in slices, so that other calls get their turn."""
        tradable = self.facts.symbols.tradable
        if any((name, BOOK_TICKER) not in self.kept for name in tradable):
            return self.desk.miss(None, "all symbols")
        is_old = self._still_age_s() > self.options.quiet_s * _AHEAD
        if not self._order or (is_old and (self._still or self._is_other_market())):
            await self._read_all()
        if self._is_other_market():
            return self.desk.miss(None, "all symbols")
        self.use(self._order)
        parts: list[bytes] = []
        proof_mono = self._still_mono if self._still else self.clock.mono()
        for turn in range(2):
            parts.clear()
            order = self._order
            missed: tuple[KeptTicker, Lack] | None = None
            for number, name in enumerate(order, 1):
                if not number % _SLICE:
                    await next_turn()
                kept = self.kept.get((name, BOOK_TICKER))
                if kept is None:
                    if name not in self._still or self._still_age_s() > self.options.quiet_s:
                        return self.desk.miss(None, "all symbols")
                    parts.append(self._still[name])
                    continue
                if (lack := self._lack([kept])) is not None:
                    missed = kept, lack
                    break
                parts.append(kept.ticker.object())
                proof_mono = min(proof_mono, kept.proof_mono)
            if missed is None:
                break
            if turn or missed[1].reason != "stream quiet":
                return self.desk.miss(missed[0], missed[1].reason)
            reading = self.witness.verify()
            if reading is not None:
                await asyncio.wait({reading}, timeout=_SETTLE_TIMEOUT_S)
        if self._order != order or self._is_other_market():
            return self.desk.miss(None, "all symbols")  # it was read again meanwhile, or the symbols were
        self.desk.count_hit(next(iter(self.kept.values())))
        return Hit(b"[%b]" % b",".join(parts), None, max(0, int((self.clock.mono() - proof_mono) * 1000)))

    def _is_other_market(self) -> bool:
        """Tell whether a symbol was listed or halted since REST was read."""
        tradable = self.facts.symbols.tradable
        listed = sum(name in tradable for name in self._order)
        return listed != len(tradable) or listed + len(self._still) != len(self._order)

    def _still_age_s(self) -> float:
        return self.clock.mono() - self._still_mono

    async def _read_all(self) -> None:
        """Read all symbols, one read for all who wait."""
        if self._reading_all is None or self._reading_all.done():
            self._reading_all = self.tasks.spawn(self._read_all_now(), name=f"tickers-read:{self.market}")
        await asyncio.wait({self._reading_all}, timeout=_SETTLE_TIMEOUT_S)

    async def _read_all_now(self) -> None:
        with suppress(ReadFailed):
            await self.read([])

    def _lack(self, wanted: list[KeptTicker]) -> Lack | None:
        mono = self.clock.mono()
        for kept in wanted:
            if self.is_held_up(kept):
                return Lack("stream not live")
            if not kept.ticker.is_valid:
                return Lack("not read yet", can_settle=True)
            if kept.is_mute:
                return Lack("stream mute")
        # Judged last: a list settles only if nothing else is the matter.
        for kept in wanted:
            resumed_mono = self._silences.resumed_ms(self.feed.carrier(kept.stream)) / 1000
            is_doubtful = kept.unheard_mono is not None or kept.proof_mono < resumed_mono
            if is_doubtful or mono - kept.proof_mono > self.options.quiet_s:
                return Lack("stream quiet", can_settle=True)
        return None

    def _hit(self, wanted: list[KeptTicker], request: BookTickerRequest) -> Hit:
        proof_mono = min(kept.proof_mono for kept in wanted)
        if request.is_list:
            body = b"[" + b",".join(kept.ticker.object() for kept in wanted) + b"]"
        else:
            body = wanted[0].ticker.body()
        for kept in wanted[1:]:
            kept.hits += 1
        self.desk.count_hit(wanted[0])
        return Hit(body, None, max(0, int((self.clock.mono() - proof_mono) * 1000)))

    async def _settle(self, wanted: list[KeptTicker], request: BookTickerRequest, lack: Lack) -> Hit | Miss:
        """Read the value anew: the stream has not shown yet that it works, or is quiet."""
        kept, mono = wanted[0], self.clock.mono()
        reading: asyncio.Task[None] | None
        if lack.reason == "stream quiet":
            reading = self.witness.verify()
        else:
            if kept.read is None or (kept.read.done() and mono - kept.read_mono >= _REREAD_S):
                kept.read_mono = mono
                kept.read = self.tasks.spawn(self._seed_one(kept), name=f"ticker-settle:{kept.symbol}")
            reading = kept.read
        if reading is not None:
            await asyncio.wait({reading}, timeout=_SETTLE_TIMEOUT_S)
        still = self._lack(wanted)
        return self._hit(wanted, request) if still is None else self.desk.miss(kept, still.reason)
