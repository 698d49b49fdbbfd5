"""Candles that no stream brings, or none that is proven: mark, index and premium prices, and spot's uiKlines.

Closed rows never change: they are kept, out of answers that clients were forwarded. A call for the latest
rows gets the kept ones with a fresh read of the few at the end, which weighs less than the whole; nothing
is told without that. See `kinds/base.py` for what drives this.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import orjson

from resender.core.binance.endpoints import ENDED_KLINES
from resender.core.binance.intervals import candles_between
from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.candles import parse_rows
from resender.core.market.kept_json import kept_json
from resender.core.market.klines import KlineSeries
from resender.core.market.ranges import select
from resender.core.market.requests import EndedRequest, KlineRequest, Miss, parse_ended
from resender.core.market.row_store import Changes
from resender.core.market.spans import Span
from resender.core.weights.table import charge
from resender.market.bodies import worth_packing
from resender.market.exchange_facts import CONTRACTS
from resender.market.kinds.base import Hit, Kind, Outcome, Parse, Tools, Wanting, settle_task
from resender.market.kline_reads import kline_target
from resender.market.reader import ReadFailed
from resender.market.series import KeptEnded

logger = logging.getLogger("resender.market")

_READ_TIMEOUT_S = 5.0
_MOST_AT_END = 99


class EndedKlines(Kind[KeptEnded]):
    """The kept rows of one market."""

    name = "endedKlines"
    stream = "kline"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._bodies = tools.shared.bodies
        self._settle_slots = tools.shared.settle_slots

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        return frozenset(f"{name}_{each}" for name in ENDED_KLINES[market] for each in INTERVALS[market])

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        def reader(name: str) -> Parse:
            return lambda market, query: parse_ended(market, name, query)

        return {path: reader(name) for name, path in ENDED_KLINES[market].items()}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptEnded:
        name, _, interval = what.rpartition("_")
        key, value = "symbol", symbol
        if name == "indexPriceKlines":
            key = "pair"
            pairs = [pair for (pair, _), each in self.facts.symbols.contracts.items() if each == symbol]
            value = pairs[0] if pairs else symbol
        path = ENDED_KLINES[self.market][name]
        return KeptEnded(
            self.market,
            symbol,
            "",
            now_mono,
            is_preload,
            is_live=True,
            interval=interval,
            series=self._new_series(interval),
            word=what,
            target=f"{path}?{key}={quote(value, safe='')}",
        )

    def _new_series(self, interval: str) -> KlineSeries:
        return KlineSeries(interval, self.options.depth, self.options.final_after_ms, Changes())

    def event(self, kept: KeptEnded, data: Any) -> bool | None:
        """No stream brings any."""
        return None

    def lose(self, kept: KeptEnded) -> None:
        """No stream can be lost; closed rows stay what they are."""

    def proof(self, kept: KeptEnded) -> tuple[int | None, str]:
        if not kept.read_ms:
            return None, ""
        return max(0, self.facts.now_ms() - kept.read_ms), "rest"

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: Any, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call out of closed rows, with a read of the last ones where it wants those."""
        assert isinstance(request, EndedRequest)
        symbol = self._symbol_of(request)
        if symbol is None:
            return self.desk.miss(None, "unknown symbol")
        kept = self.kept.get((symbol, request.word))
        if kept is None:
            reason = self.desk.begin(self.market, symbol, request.word)
            kept = self.kept.get((symbol, request.word))
            if kept is None:
                return self.desk.miss(None, reason)
            return self._missed(kept, request.klines, reason)
        kept.used_mono = self.clock.mono()
        if not self.facts.server.is_set:
            return self._missed(kept, request.klines, "starting")
        klines = request.klines
        if klines.start_ms is None and klines.end_ms is None:
            if not self._is_worth(kept, klines):
                return self._missed(kept, klines, "no gain")
            return self._with_end(kept, klines, packed=packed)
        span = select(kept.series, klines, self.facts.now_ms())
        if span is None or not self._is_closed(kept, klines, span):
            return self._missed(kept, klines, "range not held")
        return self._hit(kept, span, packed=packed)

    def _symbol_of(self, request: EndedRequest) -> str | None:
        """Return under which symbol a series is kept, None if there is none: an index belongs to a pair."""
        symbols = self.facts.symbols
        if not symbols.is_loaded or not request.word.startswith("indexPriceKlines"):
            return request.symbol
        keys = ((request.symbol, contract) for contract in CONTRACTS)
        return next((symbols.contracts[key] for key in keys if key in symbols.contracts), None)

    @staticmethod
    def _is_closed(kept: KeptEnded, request: KlineRequest, span: Span) -> bool:
        """Tell whether a range can have no row that is not closed and held."""
        if request.end_ms is not None and request.end_ms <= kept.series.last_close:
            return True
        if request.market is Market.CM:
            return False  # which answers with the latest rows of a range
        return request.start_ms is not None and span.last - span.first >= request.limit

    def _hit(self, kept: KeptEnded, span: Span, *, packed: bool, age_ms: int = 0, cost: int = 0) -> Hit:
        self.desk.count_hit(kept)
        packed = packed and worth_packing(kept.series.closed.size(span.first, span.last))
        body = self._bodies.get(kept.identity, kept.series, span, packed=packed)
        return Hit(b"", body, age_ms, cost=cost) if packed else Hit(body, None, age_ms, cost=cost)

    def _end_limit(self, kept: KeptEnded) -> int:
        """Return how many rows a read has to ask for that reaches back to the closed ones."""
        last = kept.series.last_final
        if last is None:
            return _MOST_AT_END + 1
        return candles_between(kept.interval, last, self.facts.now_ms()) + 1

    def _is_worth(self, kept: KeptEnded, request: KlineRequest) -> bool:
        """Tell whether closed rows and a small read weigh less than the call."""
        limit = self._end_limit(kept)
        if limit > min(_MOST_AT_END, request.limit):
            return False
        if not kept.series.is_whole and len(kept.series) + 1 < request.limit:
            return False
        path = kept.target.partition("?")[0]
        small, whole = (charge(self.market, "GET", path, f"limit={n}").weight for n in (limit, request.limit))
        return small < whole

    async def _with_end(self, kept: KeptEnded, request: KlineRequest, *, packed: bool) -> Hit | Miss:
        """Read the last rows, one read for all who ask meanwhile, and put them behind the closed ones."""
        reading, cost = settle_task(kept), 0
        if reading is None:
            path = kept.target.partition("?")[0]
            cost = charge(self.market, "GET", path, f"limit={self._end_limit(kept)}").weight
            kept.asked_ms = self.facts.now_ms()
            reading = kept.read = self.tasks.spawn(self._read_end(kept), name=f"ended-read:{kept.symbol}")
        before_ms, asked_ms = self.facts.now_ms(), kept.asked_ms
        await asyncio.wait({reading}, timeout=_READ_TIMEOUT_S)
        if not reading.done() or kept.end_ms < asked_ms:
            return self._missed(kept, request, "not settled")
        rows = tuple(candle.row for candle in kept.end)
        rows = rows[-request.limit :]
        count = len(kept.series.closed)
        first = max(0, count - (request.limit - len(rows)))
        if count + len(rows) < request.limit and not kept.series.is_whole:
            return self._missed(kept, request, "range not held")
        return self._hit(
            kept, Span(first, count, rows), packed=packed, age_ms=max(0, before_ms - kept.end_ms), cost=cost
        )

    async def _read_end(self, kept: KeptEnded) -> None:
        made_ms = kept.asked_ms
        try:
            async with self._settle_slots:
                limit = self._end_limit(kept)
                body = await self.reader.get(kline_target(kept, limit))
        except ReadFailed as error:
            logger.info("%s %s %s: its end cannot be read: %s", *kept.key, error)
            return
        self._take(kept, body, made_ms, limit)

    def _missed(self, kept: KeptEnded, request: KlineRequest, reason: str) -> Miss:
        """Let a call go up; the closed rows of its answer are kept."""
        miss = self.desk.miss(kept, reason)
        if request.start_ms is not None or request.end_ms is not None or not self.facts.server.is_set:
            return miss
        made_ms, limit = self.facts.now_ms(), request.limit
        return Wanting(miss.reason, lambda body: self._take(kept, body, made_ms, limit))

    def _take(self, kept: KeptEnded, body: bytes, made_ms: int, limit: int) -> None:
        """Take the latest rows: closed ones are kept, the rest is the end as of now."""
        if kept.is_dropped:
            return
        try:
            candles = parse_rows(orjson.loads(body), kept.interval, kept_json, made_ms=made_ms)
        except ValueError as error:
            logger.info("%s %s %s: an answer of a wrong shape (%s)", *kept.key, error)
            return
        series = kept.series
        if series.contradicts(candles, made_ms):
            logger.warning("%s %s %s: what was held is not what the exchange says", *kept.key)
            self._start_over(kept)
        is_whole = len(candles) < limit
        if not kept.series.apply_read(candles, made_ms, epoch=None, is_whole=is_whole):
            if len(candles) < min(_MOST_AT_END, len(kept.series)):
                return  # a short answer that does not reach back takes nothing from the others
            self._start_over(kept)
            kept.series.apply_read(candles, made_ms, epoch=None, is_whole=is_whole)
        kept.read_ms = max(kept.read_ms, made_ms)
        if made_ms >= kept.end_ms:  # an answer to an earlier call may come later
            last = kept.series.last_final
            kept.end = [each for each in candles if last is None or each.open_time > last]
            kept.end_ms = made_ms

    def _start_over(self, kept: KeptEnded) -> None:
        kept.series = self._new_series(kept.interval)
        kept.identity = object()
        kept.end_ms = -1  # what was behind the rows that are gone
