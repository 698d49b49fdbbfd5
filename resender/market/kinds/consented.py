"""Rows that REST makes anew for each call: 24 hour tickers and mark prices, for whoever consents to an age.

A stream keeps them young; which fields a row has, and those no stream carries, come from answers that
clients were forwarded, so that none of it costs weight. See `kinds/base.py` for what drives this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from resender.aio import Backoff
from resender.core.binance.endpoints import DAY_TICKERS, PREMIUM_INDEX
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import symbol_stream
from resender.core.market.requests import Miss, SymbolsRequest, parse_symbols
from resender.core.market.streamed_rows import DAY_FIELDS, MARK_FIELDS, StreamedRow
from resender.core.market.words import DAY_TICKER, MARK_PRICE
from resender.market.kinds.base import Hit, Kind, Outcome, Parse, Tools, Wanting
from resender.market.reader import ReadFailed
from resender.market.series import KeptRow
from resender.turns import next_turn

logger = logging.getLogger("resender.market")

_MOST_SEEDED = 5000
_BATCH_S = 0.5  # streams come alive in batches
# Reads of the gateway's own are made so seldom: all symbols of a market weigh up to 80.
_SEED_EVERY_S = 5.0
_AHEAD = 0.6
# Rows of a whole market between two turns of others.
_SLICE = 64


@dataclass(frozen=True, slots=True)
class _Whole:
    """The answer about all symbols that can be traded. Units: `as_of_ms` exchange milliseconds of the oldest row."""

    tradable: object
    wanted: list[KeptRow]
    body: bytes
    as_of_ms: int


class ConsentedRows(Kind[KeptRow]):
    """Rows of one sort of one market."""

    targets: ClassVar[Mapping[Market, str]]
    _seeding: asyncio.Task[None] | None = None
    _seeded_mono = -1e9
    fields: ClassVar[Mapping[Market, Mapping[str, str]]]
    suffix: ClassVar[str]

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        # In which order REST lists all, as of which answer.
        self._order: tuple[str, ...] = ()
        self._order_set: frozenset[str] = frozenset()
        self._order_ms = 0
        # Rows of what REST lists and nobody trades, as of that answer.
        self._still: dict[str, StreamedRow] = {}
        # Hundreds of rows are put together once, by the form of the answer, until one of them changes.
        self._whole: dict[str, _Whole] = {}

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        return frozenset({cls.stream}) if market in cls.targets else frozenset()

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {cls.targets[market]: parse_symbols} if market in cls.targets else {}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptRow:
        row = StreamedRow(self.fields[self.market])
        stream = symbol_stream(symbol, self.suffix)
        return KeptRow(self.market, symbol, stream, now_mono, is_preload, word=what, row=row)

    def end(self, kept: KeptRow) -> None:
        self._whole.clear()

    def settled_live(self) -> None:
        if self._seeding is None and self._lacking():
            self._seeding = self.tasks.spawn(self._seed(), name=f"rows-seed:{self.name}:{self.market}")

    def _lacking(self) -> list[KeptRow]:
        """List what needs a row of REST: rules want it, or calls for which nothing goes up."""
        return [
            kept
            for kept in self.kept.values()
            if kept.is_live and (kept.is_asked or (kept.is_preload and not kept.row.is_known))
        ]

    def _ask_for(self, symbols: Sequence[str]) -> None:
        """A call found a row missing or too old, and no answer of it comes: read it soon."""
        for symbol in symbols:
            if (kept := self.kept.get((symbol, self.stream))) is not None:
                kept.is_asked = True
        self.settled_live()

    async def _seed(self) -> None:
        """Read the rows that are wanted when nothing else needs the weight, all at once if there are several."""
        backoff = Backoff(first_s=2.0, cap_s=60.0)
        path = self.targets[self.market]
        try:
            await asyncio.sleep(max(_BATCH_S, self._seeded_mono + _SEED_EVERY_S - self.clock.mono()))
            while lacking := self._lacking():
                self._seeded_mono = self.clock.mono()
                is_all = len(lacking) > 1
                target = path if is_all else f"{path}?symbol={quote(lacking[0].symbol, safe='')}"
                try:
                    permit = self.reader.admit(target, is_urgent=False)
                    made_ms = self.facts.now_ms() if self.facts.server.is_set else 0
                    self._take(await self.reader.get(target, permit), made_ms, is_all=is_all)
                    for kept in lacking:
                        kept.is_asked = False
                except ReadFailed as error:
                    logger.info("%s: %s cannot be read: %s", self.market, self.name, error)
                if len(self._lacking()) == len(lacking):
                    await asyncio.sleep(backoff.next_s())
        finally:
            self._seeding = None

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: KeptRow, data: Any) -> bool | None:
        event_ms = data["E"]
        if data["s"] != kept.symbol or type(event_ms) is not int:
            raise ValueError("a ticker of another symbol, or without a time")
        if event_ms <= (self.facts.latest_ms() or event_ms):  # a time that cannot be is believed of nobody
            kept.row.apply(data, event_ms)
            self._whole.clear()
        return None

    def lose(self, kept: KeptRow) -> None:
        """What is held ages from here on."""

    def proof(self, kept: KeptRow) -> tuple[int | None, str]:
        if not kept.row.is_known or not self.facts.server.is_set:
            return None, ""
        as_of_ms = kept.row.as_of_ms()
        return self._age_ms(as_of_ms), "event" if as_of_ms == kept.row.event_ms else "rest"

    def _age_ms(self, as_of_ms: int) -> int:
        # By the latest time it may be: nobody consented to what is older than it says.
        return max(0, self.facts.server.latest_ms(self.clock.mono()) - as_of_ms)

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: SymbolsRequest, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call for one symbol, a list or all, if what is held is young enough."""
        if max_age_ms <= 0:
            return self.desk.miss(None, "no consent")
        if not request.symbols:
            whole = self._whole.get(request.form)
            if whole is not None and whole.tradable is self.facts.symbols.tradable:
                return self._hit_whole(whole, request, max_age_ms)
            if not self._is_whole():
                return self._missed(None, request, "all symbols")
            return self._answer_all(request, max_age_ms)
        begun = None
        for symbol in request.symbols:
            if (symbol, self.stream) not in self.kept:
                begun = self.desk.begin(self.market, symbol, self.stream)
        if begun is not None:
            return self._missed(None, request, begun)
        wanted = [self.kept[symbol, self.stream] for symbol in request.symbols]
        mono = self.clock.mono()
        for kept in wanted:
            kept.used_mono = mono
        if not self.facts.server.is_set:
            return self._missed(None, request, "starting")
        for kept in wanted:
            if not kept.row.is_known:
                return self._missed(kept, request, "not read yet")
            if not kept.row.is_fit:
                return self._missed(kept, request, "other format")
        age_ms = self._age_ms(min([kept.row.as_of_ms() for kept in wanted]))
        if age_ms > max_age_ms:
            return self._missed(wanted[0], request, "too old")
        rows = b",".join([kept.row.body(request.form) for kept in wanted])
        if request.is_local and age_ms > max_age_ms * _AHEAD:
            self._ask_for(request.symbols)  # before it is too old, as no answer of another call may come
        is_list = request.is_list or self._is_always_list
        return self._hit(wanted, b"[%b]" % rows if is_list else rows, age_ms)

    def _is_whole(self) -> bool:
        """Tell whether a rule keeps all that is traded, and REST lists nothing that is not known."""
        tradable = self.facts.symbols.tradable
        if not self._order or len(self.kept) < len(tradable) or not tradable.keys() <= self._order_set:
            return False
        return all((name, self.stream) in self.kept or name in self._still for name in self._order)

    async def _answer_all(self, request: SymbolsRequest, max_age_ms: int) -> Hit | Miss:
        """Answer for the whole market, in slices: rows that changed are written anew, hundreds of them."""
        if not self.facts.server.is_set:
            return self._missed(None, request, "starting")
        mono, tradable, order = self.clock.mono(), self.facts.symbols.tradable, self._order
        wanted: list[KeptRow] = []
        parts: list[bytes] = []
        as_of_ms = self.facts.now_ms()
        for number, name in enumerate(order, 1):
            if not number % _SLICE:
                await next_turn()
            kept = self.kept.get((name, self.stream))
            row = kept.row if kept is not None else self._still.get(name)
            if row is None:
                return self._missed(None, request, "all symbols")
            if not row.is_known:
                return self._missed(kept, request, "not read yet")
            if not row.is_fit:
                return self._missed(kept, request, "other format")
            if kept is not None:
                kept.used_mono = mono
                wanted.append(kept)
            parts.append(row.body(request.form))
            as_of_ms = min(as_of_ms, row.as_of_ms())
        if self.facts.symbols.tradable is not tradable or self._order is not order or not wanted:
            return self._missed(None, request, "all symbols")
        age_ms = self._age_ms(as_of_ms)
        if age_ms > max_age_ms:
            return self._missed(wanted[0], request, "too old")
        whole = _Whole(tradable, wanted, b"[%b]" % b",".join(parts), as_of_ms)
        self._whole[request.form] = whole
        return self._hit(wanted, whole.body, age_ms)

    def _hit(self, wanted: list[KeptRow], body: bytes, age_ms: int) -> Hit:
        for kept in wanted[1:]:
            kept.hits += 1
        self.desk.count_hit(wanted[0])
        return Hit(body, None, age_ms)

    def _hit_whole(self, whole: _Whole, request: SymbolsRequest, max_age_ms: int) -> Outcome:
        mono = self.clock.mono()
        for kept in whole.wanted:
            kept.used_mono = mono
        if not self.facts.server.is_set:
            return self._missed(None, request, "starting")
        age_ms = self._age_ms(whole.as_of_ms)
        if age_ms > max_age_ms:
            return self._missed(whole.wanted[0], request, "too old")
        return self._hit(whole.wanted, whole.body, age_ms)

    def _missed(self, kept: KeptRow | None, request: SymbolsRequest, reason: str) -> Miss:
        """Let a call go up; its answer tells what no stream does."""
        miss = self.desk.miss(kept, reason)
        if request.form == "MINI":
            return miss
        made_ms = self.facts.now_ms() if self.facts.server.is_set else 0
        return Wanting(
            miss.reason,
            lambda body: self._take(body, made_ms, is_all=not request.symbols),
            lambda: self._ask_for(request.symbols),
        )

    @property
    def _is_always_list(self) -> bool:
        """Whether REST answers with a list even about one symbol."""
        return self.market is Market.CM

    def _take(self, body: bytes, made_ms: int, *, is_all: bool) -> None:
        """Take an answer that a client was forwarded."""
        if not made_ms:
            return
        try:
            read = orjson.loads(body)
            rows = read if type(read) is list else [read]
            names = tuple(row["symbol"] for row in rows[:_MOST_SEEDED])
            for name, row in zip(names, rows, strict=False):
                if (kept := self.kept.get((name, self.stream))) is not None:
                    kept.row.seed(row, made_ms)
                    self._whole.clear()
        except (ValueError, KeyError, TypeError) as error:
            logger.info("%s: an answer about %s has a wrong shape (%s)", self.market, self.name, error)
            return
        if is_all and made_ms >= self._order_ms:
            self._order, self._order_set, self._order_ms = names, frozenset(names), made_ms
            self._still = {}
            for name, row in zip(names, rows, strict=False):
                if name not in self.facts.symbols:
                    self._still[name] = StreamedRow(self.fields[self.market])
                    self._still[name].seed(row, made_ms)
            self._whole.clear()


class DayTickers(ConsentedRows):
    """Changes of the last 24 hours."""

    name = "ticker/24hr"
    stream = DAY_TICKER
    suffix = DAY_TICKER
    targets = DAY_TICKERS
    fields = DAY_FIELDS


class MarkPrices(ConsentedRows):
    """Mark prices and funding rates of futures."""

    name = "premiumIndex"
    stream = MARK_PRICE
    suffix = f"{MARK_PRICE}@1s"
    targets = PREMIUM_INDEX
    fields = MARK_FIELDS
