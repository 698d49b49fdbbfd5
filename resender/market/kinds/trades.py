"""The newest trades, aggregated or single, and on spot the last price: rows out of the stream.

Ids without a hole prove that nothing is missing between two rows, the witness or a read that nothing came
after the last; one REST read gives the tail that was before the stream. See `kinds/base.py` for what
drives this.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from resender.aio import Backoff, end_tasks
from resender.core.binance.endpoints import AGG_TRADES, PRICES
from resender.core.binance.endpoints import TRADES as TRADE_PATHS
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import symbol_stream
from resender.core.market.requests import (
    Miss,
    SymbolsRequest,
    TradesRequest,
    parse_symbols,
    parse_trades,
)
from resender.core.market.trades import (
    FORMS,
    MAX_ROWS,
    FormDiffers,
    read_rows,
)
from resender.core.market.words import AGG_TRADES as AGGREGATES
from resender.core.market.words import TRADES
from resender.market.freshness import Proof, Unproven, note_event, note_traded, trade_proof, was_silent
from resender.market.kinds.base import Hit, Kind, Lack, Outcome, Parse, Tools, settle_task
from resender.market.reader import ReadFailed
from resender.market.series import KeptTrades
from resender.market.silences import SILENCE_MS, Silences

logger = logging.getLogger("resender.market")

_SETTLE_TIMEOUT_S = 3.0
_REREAD_S = 1.0
_AHEAD_S, _AHEAD_MAX_S = 1.0, 60.0
_MOST_DIFFERING = 3
# More symbols than this are read with all others.
_MOST_NAMED = 200
# Rows of a read that only looks whether anything came; it costs as much as a long one.
_LOOK_LIMIT = 50
_LOOK_BATCH_S = 0.2


class TradeTails(Kind[KeptTrades]):
    """The newest trades of one market, of one sort."""

    targets: ClassVar[dict[Market, str]]

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.form = FORMS[self.stream]()
        self._watch = tools.watch
        self._settle_slots = tools.shared.settle_slots
        self._of_symbol: dict[str, KeptTrades] = {}
        self._silences = Silences(SILENCE_MS)
        # Why what REST shows cannot be made of the stream, "" if it can.
        self.unfit = ""
        self._ahead: asyncio.Task[None] | None = None
        self._reading_prices: asyncio.Task[None] | None = None
        # Events that did not follow each other.
        self.holes = 0
        tools.watch.listen(self._on_traded)

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        return frozenset({cls.stream}) if market in cls.targets else frozenset()

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {cls.targets[market]: parse_trades} if market in cls.targets else {}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptTrades:
        stream = symbol_stream(symbol, what)
        return KeptTrades(self.market, symbol, stream, now_mono, is_preload, word=what)

    def begin(self, kept: KeptTrades) -> None:
        self._of_symbol[kept.symbol] = kept
        self._watch.want()

    def end(self, kept: KeptTrades) -> None:
        del self._of_symbol[kept.symbol]

    def _on_traded(self, symbol: str, event_ms: int, price: str) -> None:
        kept = self._of_symbol.get(symbol)
        if kept is not None:
            note_traded(kept, event_ms, price)

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: KeptTrades, data: Any) -> bool | None:
        if data["s"] != kept.symbol:
            raise ValueError("a trade of another symbol")
        trade_id, event_ms, price = data[self.form.id_of], data["E"], data["p"]
        if type(trade_id) is not int or type(event_ms) is not int or type(price) is not str:
            raise TypeError("a trade without an id, a time or a price")
        self._silences.note(self.feed.carrier(kept.stream), event_ms)
        server = self.facts.server
        if not server.observe(event_ms, self.clock.mono()) and server.is_set:
            # Either this event or our idea of the time is wrong: neither is built upon.
            self.facts.doubt_time()
            kept.tail.restart()
            kept.told_price = kept.seeded_price = ""
            kept.event_ms = kept.price_ms = 0
            return None
        row = None
        if self.form.is_learned and not self.unfit:
            try:
                row = self.form.encode(data)
            except FormDiffers as error:
                self._give_up(str(error))
        was_synced = kept.tail.is_synced
        is_news = kept.tail.apply(trade_id, row, price)
        if was_synced and not kept.tail.is_synced:
            self.holes += 1
        if is_news:  # what comes again proves nothing about now
            note_event(kept, event_ms, price)
            kept.told_price = price
            kept.is_mute = False
        return None

    def _give_up(self, why: str) -> None:
        if not self.unfit:
            self.unfit = why
            logger.warning("%s: %s are forwarded from now on: %s", self.market, self.name, why)

    def live(self, kept: KeptTrades) -> None:
        kept.live_ms = self.facts.now_ms() if self.facts.server.is_set else 0

    def start(self) -> None:
        self._ahead = self.tasks.spawn(self._read_ahead(), name=f"{self.name}-ahead:{self.market}")

    async def stop(self) -> None:
        if self._ahead is not None:
            await end_tasks([self._ahead])

    async def _read_ahead(self) -> None:
        """Read what rules want, one after the other, when nothing else needs the weight."""
        backoff = Backoff(first_s=_AHEAD_S, cap_s=_AHEAD_MAX_S)
        while True:
            await asyncio.sleep(_AHEAD_S)
            lacking = [kept for kept in self.kept.values() if self._lacks_a_read(kept)]
            for kept in lacking if not self.unfit else ():
                kept.read_mono = self.clock.mono()
                kept.read = self.tasks.spawn(
                    self._read(kept, is_urgent=False), name=f"{self.name}:{kept.symbol}"
                )
                await asyncio.wait({kept.read})
                if not kept.tail.is_synced:
                    await asyncio.sleep(backoff.next_s())
                    break
                backoff.reset()

    def _lacks_a_read(self, kept: KeptTrades) -> bool:
        return kept.is_preload and kept.is_live and not kept.tail.is_synced and settle_task(kept) is None

    def lose(self, kept: KeptTrades) -> None:
        kept.tail.lose()
        kept.epoch += 1
        kept.unheard_ms = kept.doubt_ms = kept.event_ms = kept.price_ms = 0
        kept.seeded_price = kept.told_price = ""

    def proof(self, kept: KeptTrades) -> tuple[int | None, str]:
        server = self.facts.server
        if not kept.is_live or not kept.tail.is_synced or not server.is_set:
            return None, ""
        now_ms = server.now_ms(self.clock.mono())
        proof, _ = trade_proof(kept, self._watch.witness, now_ms, self.options.quiet_s)
        return max(0, now_ms - proof.at_ms), proof.kind

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: Any, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call for the newest trades, or for the last price."""
        if isinstance(request, SymbolsRequest):
            return self._answer_prices(request)
        assert isinstance(request, TradesRequest)
        kept = self._wanted(request.symbol)
        if isinstance(kept, Miss):
            return kept
        lack = self._lack(kept, request.limit)
        if lack is None:
            return self._hit(kept, request.limit)
        if lack.is_mute:
            self._mute(kept)
        if lack.can_settle:
            return self._settle(kept, request.limit)
        return self.desk.miss(kept, lack.reason)

    def _wanted(self, symbol: str) -> KeptTrades | Miss:
        kept = self.kept.get((symbol, self.stream))
        if kept is None:
            return self.desk.miss(None, self.desk.begin(self.market, symbol, self.stream))
        kept.used_mono = self.clock.mono()
        return kept

    def _lack(self, kept: KeptTrades, limit: int) -> Lack | None:
        if self.is_held_up(kept):
            return Lack("stream not live")
        if self.unfit:
            return Lack("other format")
        if kept.is_mute:
            return Lack("stream mute")
        server, tail = self.facts.server, kept.tail
        if not server.is_set:
            return Lack("starting")
        if not tail.is_synced or not self.form.is_learned:
            return Lack("gap" if kept.was_synced else "not read yet", can_settle=True)
        now_ms = server.now_ms(self.clock.mono())
        is_heard = self._watch.witness.is_current or self.feed.is_proven(kept.stream)
        if not is_heard and now_ms - tail.read_ms > _REREAD_S * 1000:
            return Lack("stream not proven", can_settle=True)
        kept.resumed_ms = self._silences.resumed_ms(self.feed.carrier(kept.stream))
        _, unproven = trade_proof(kept, self._watch.witness, now_ms, self.options.quiet_s)
        if unproven is not None:
            can_settle = unproven.can_settle and not unproven.is_mute
            return Lack(unproven.reason, can_settle=can_settle, is_mute=unproven.is_mute)
        if not tail.has(limit):
            return Lack("range not held", can_settle=True)  # a short read was all there is
        if limit and not tail.is_certain(limit):
            return Lack("not settled", can_settle=True)
        return None

    def _age_ms(self, kept: KeptTrades) -> int:
        return self.proof(kept)[0] or 0

    def _hit(self, kept: KeptTrades, limit: int) -> Hit:
        self.desk.count_hit(kept)
        return Hit(kept.tail.body(limit), None, self._age_ms(kept))

    async def _settle(self, kept: KeptTrades, limit: int) -> Hit | Miss:
        """Make one read for all who wait."""
        read = self._read_soon(kept)
        if read is not None:
            await asyncio.wait({read}, timeout=_SETTLE_TIMEOUT_S)
        lack = self._lack(kept, limit)
        if lack is None:
            return self._hit(kept, limit)
        if lack.is_mute:
            self._mute(kept)
        return self.desk.miss(kept, lack.reason)

    # --- prices ----------------------------------------------------------------------------

    def _answer_prices(self, request: SymbolsRequest) -> Outcome:
        """Answer a call for the last price of one symbol or of a list."""
        if request.form:
            return self.desk.miss(None, "odd parameter")
        if not request.symbols:
            return self.desk.miss(None, "all symbols")
        wanted = []
        for symbol in request.symbols:
            kept = self._wanted(symbol)
            if isinstance(kept, Miss):
                # All of the list start, so that the next call finds all of it.
                for each in request.symbols:
                    if each != symbol and (each, self.stream) not in self.kept:
                        self.desk.begin(self.market, each, self.stream)
                return kept
            wanted.append(kept)
        lacks = [(kept, self._price_lack(kept)) for kept in wanted]
        if not any(lack for _, lack in lacks):
            return self._price_hit(wanted, request)
        self._move_mute(lacks)
        for kept, lack in lacks:
            if lack is not None and not lack.can_settle:
                return self.desk.miss(kept, lack.reason)
        return self._settle_prices(wanted, request)

    def _move_mute(self, lacks: list[tuple[KeptTrades, Lack | None]]) -> None:
        for kept, lack in lacks:
            if lack is not None and lack.is_mute:
                self._mute(kept)

    def _price_lack(self, kept: KeptTrades) -> Lack | None:
        """Tell what the last price lacks: nothing but that no trade came after it, whatever was before."""
        if self.is_held_up(kept):
            return Lack("stream not live")
        if kept.is_mute:
            return Lack("stream mute")
        if not self.facts.server.is_set:
            return Lack("starting")
        if not kept.last_price:
            return Lack("no trade yet" if kept.price_ms else "not read yet", can_settle=not kept.price_ms)
        proof, unproven = self._price_proof(kept)
        is_mute = unproven is not None and unproven.is_mute
        is_heard = is_mute or self._watch.witness.is_current or self.feed.is_proven(kept.stream)
        if not is_heard and self.facts.now_ms() - proof.at_ms > _REREAD_S * 1000:
            return Lack("stream not proven", can_settle=True)
        if unproven is not None:
            can_settle = unproven.can_settle and not unproven.is_mute
            return Lack(unproven.reason, can_settle=can_settle, is_mute=unproven.is_mute)
        return None

    def _price_proof(self, kept: KeptTrades) -> tuple[Proof, Unproven | None]:
        kept.resumed_ms = self._silences.resumed_ms(self.feed.carrier(kept.stream))
        read_ms = max(kept.tail.read_ms, kept.price_ms)
        return trade_proof(kept, self._watch.witness, self.facts.now_ms(), self.options.quiet_s, read_ms)

    def _price_age_ms(self, kept: KeptTrades) -> int:
        return max(0, self.facts.now_ms() - self._price_proof(kept)[0].at_ms)

    def _price_hit(self, wanted: list[KeptTrades], request: SymbolsRequest) -> Hit:
        rows = [orjson.dumps({"symbol": kept.symbol, "price": kept.last_price}) for kept in wanted]
        for kept in wanted[1:]:
            kept.hits += 1
        self.desk.count_hit(wanted[0])
        body = b"[%b]" % b",".join(rows) if request.is_list else rows[0]
        return Hit(body, None, max(self._price_age_ms(kept) for kept in wanted))

    async def _settle_prices(self, wanted: list[KeptTrades], request: SymbolsRequest) -> Hit | Miss:
        lacking = [kept for kept in wanted if self._price_lack(kept) is not None]
        if self.market in PRICES:
            reads = [self._read_prices_soon(lacking)]
        else:
            reads = [self._read_soon(kept) for kept in lacking]
        pending = {read for read in reads if read is not None}
        if pending:
            await asyncio.wait(pending, timeout=_SETTLE_TIMEOUT_S)
        lacks = [(kept, self._price_lack(kept)) for kept in wanted]
        self._move_mute(lacks)
        for kept, lack in lacks:
            if lack is not None:
                return self.desk.miss(kept, lack.reason)
        return self._price_hit(wanted, request)

    # --- reads -----------------------------------------------------------------------------

    def _read_soon(self, kept: KeptTrades) -> asyncio.Task[None] | None:
        """Return the one read under way, or begin one; None if none may be made now."""
        if (reading := settle_task(kept)) is not None:
            return reading
        mono = self.clock.mono()
        if mono - kept.read_mono < _REREAD_S:
            return None
        kept.read_mono = mono
        kept.read = self.tasks.spawn(self._read(kept), name=f"trades-read:{kept.symbol}@{self.stream}")
        return kept.read

    def _read_prices_soon(self, wanted: list[KeptTrades]) -> asyncio.Task[None] | None:
        """Begin a read of some prices, one for all of them; None if one was begun just now."""
        mono = self.clock.mono()
        due = [kept for kept in wanted if mono - kept.price_read_mono >= _REREAD_S]
        if not due:
            reading = self._reading_prices
            return reading if reading is not None and not reading.done() else None
        for kept in due:
            kept.price_read_mono = mono
        self._reading_prices = self.tasks.spawn(self._read_prices(due), name=f"prices-read:{self.market}")
        return self._reading_prices

    async def _read_prices(self, wanted: list[KeptTrades]) -> None:
        target = PRICES[self.market]
        if len(wanted) == 1:
            target += f"?symbol={quote(wanted[0].symbol, safe='')}"
        elif len(wanted) <= _MOST_NAMED:
            names = orjson.dumps([kept.symbol for kept in wanted]).decode()
            target += f"?symbols={quote(names, safe='')}"
        epochs, made_ms = [kept.epoch for kept in wanted], self.facts.now_ms()
        try:
            async with self._settle_slots:
                read = orjson.loads(await self.reader.get(target))
            prices = {row["symbol"]: row["price"] for row in (read if type(read) is list else [read])}
        except ReadFailed as error:
            logger.info("%s: prices cannot be read: %s", self.market, error)
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.info("%s: an answer about prices has a wrong shape (%s)", self.market, error)
            return
        for kept, epoch in zip(wanted, epochs, strict=True):
            price = prices.get(kept.symbol)
            if epoch == kept.epoch and not kept.is_dropped and type(price) is str:
                self._take_price(kept, price, made_ms)

    def _take_price(self, kept: KeptTrades, price: str, made_ms: int) -> None:
        """Compare a price by REST with what the stream has brought."""
        if kept.event_ms > made_ms:
            return  # the stream has spoken meanwhile
        if kept.last_price and price != kept.last_price:
            if was_silent(kept, made_ms):
                kept.unheard_ms = kept.unheard_ms or made_ms  # if the stream stays silent, it is mute
            return
        if made_ms >= kept.price_ms:
            kept.seeded_price, kept.price_ms = price, made_ms

    async def _read(self, kept: KeptTrades, *, is_urgent: bool = True) -> None:
        async with self._settle_slots:
            await self._read_now(kept, is_urgent=is_urgent)

    async def _read_now(self, kept: KeptTrades, *, is_urgent: bool) -> None:
        tail, epoch = kept.tail, kept.epoch
        if not kept.is_live or kept.is_dropped:
            return
        is_look = tail.is_synced and tail.has(MAX_ROWS) and tail.is_certain(MAX_ROWS)
        limit = _LOOK_LIMIT if is_look else MAX_ROWS
        target = f"{self.targets[self.market]}?symbol={quote(kept.symbol, safe='')}&limit={limit}"
        made_ms = self.facts.now_ms()
        try:
            permit = self.reader.admit(target, is_urgent=is_urgent)
            body = await self.reader.get(target, permit)
            rows, price = read_rows(body, self.form)
        except ReadFailed as error:
            logger.info("%s %s %s cannot be read: %s", *kept.key, error)
            return
        except FormDiffers as error:
            self._give_up(str(error))
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.info("%s %s %s: an answer of a wrong shape (%s)", *kept.key, error)
            return
        if epoch != kept.epoch or kept.is_dropped:
            return
        if tail.is_synced and tail.news(rows) and was_silent(kept, made_ms):
            kept.unheard_ms = kept.unheard_ms or made_ms  # if the stream stays silent, it is mute
            kept.is_uncovered |= self._watch.witness.is_current and not kept.named_ms
        try:
            if not tail.read(rows, price, made_ms, is_whole=len(rows) < limit) and tail.is_synced:
                tail.restart()  # REST and what is held contradict each other
        except FormDiffers as error:
            # Perhaps a row that was still growing; what differs again and again is another form.
            tail.restart()
            kept.differing += 1
            if kept.differing >= _MOST_DIFFERING:
                self._give_up(str(error))
            return
        kept.differing = 0
        kept.was_synced |= tail.is_synced


class AggTrades(TradeTails):
    """Aggregated trades."""

    name = "aggTrades"
    stream = AGGREGATES
    targets = AGG_TRADES


class Trades(TradeTails):
    """Single trades of spot, and the last price."""

    name = "trades"
    stream = TRADES
    targets = TRADE_PATHS

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        if market not in cls.targets:
            return {}
        return {**super().paths(market), PRICES[market]: parse_symbols}
