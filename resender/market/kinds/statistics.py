"""Statistics of futures (`/futures/data/...`): rows of ended periods never change.

They are kept out of answers that clients were forwarded. A call for the newest rows always goes up, as
nobody says when the row of a period appears; one for a span of time that is over and held does not. See
`kinds/base.py` for what drives this.
"""

from __future__ import annotations

import logging
from typing import Any

from resender.core.binance.endpoints import STATISTICS
from resender.core.binance.markets import Market
from resender.core.market.requests import STATISTICS_PERIODS, Miss, StatisticsRequest, parse_statistics
from resender.core.market.timed_rows import read_timed
from resender.market.exchange_facts import CONTRACTS
from resender.market.kinds.base import Hit, Kind, Outcome, Parse, Wanting
from resender.market.series import KeptStatistics

logger = logging.getLogger("resender.market")


class Statistics(Kind[KeptStatistics]):
    """The statistics of one market."""

    name = "futures/data"
    stream = "kline"

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        names = STATISTICS.get(market, {})
        plain = [f"{name}_{period}" for name in names for period in STATISTICS_PERIODS]
        return frozenset([*plain, *(f"{word}@{contract}" for word in plain for contract in CONTRACTS)])

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        def reader(name: str) -> Parse:
            return lambda market, query: parse_statistics(market, name, query)

        return {path: reader(name) for name, path in STATISTICS.get(market, {}).items()}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptStatistics:
        return KeptStatistics(self.market, symbol, "", now_mono, is_preload, is_live=True, word=what)

    def event(self, kept: KeptStatistics, data: Any) -> bool | None:
        """No stream brings any."""
        return None

    def lose(self, kept: KeptStatistics) -> None:
        """No stream can be lost; rows stay what they are."""

    def proof(self, kept: KeptStatistics) -> tuple[int | None, str]:
        if not len(kept.held):
            return None, ""
        return int((self.clock.mono() - kept.taken_mono) * 1000), "rest"

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: StatisticsRequest, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call for a span of time that is over."""
        symbol = self._symbol_of(request)
        kept = self.kept.get((symbol, request.word))
        if kept is None and (request.start_ms is not None or request.end_ms is not None):
            return self.desk.miss(None, "range not held")  # its answer says nothing of what lies around it
        if kept is None:
            reason = self.desk.begin(self.market, symbol, request.word)
            kept = self.kept.get((symbol, request.word))
            if kept is None:
                return self.desk.miss(None, reason)
            return self._missed(kept, request, reason)
        kept.used_mono = self.clock.mono()
        start_ms, end_ms = request.start_ms, request.end_ms
        # The newest row may still be that of a period that is not over.
        if start_ms is None or end_ms is None or end_ms >= kept.held.newest_ms:
            return self._missed(kept, request, "range not held")
        rows = kept.held.from_time(start_ms, end_ms, request.limit + 1)
        if rows is None or len(rows) > request.limit:
            return self._missed(kept, request, "range not held")  # which of too many is not told for certain
        self.desk.count_hit(kept)
        return Hit(b"[%b]" % b",".join(rows), None, 0)

    def _symbol_of(self, request: StatisticsRequest) -> str:
        """Return under which symbol rows are kept: those of a pair under its perpetual contract."""
        symbols = self.facts.symbols
        if request.symbol in symbols:
            return request.symbol
        return symbols.contracts.get((request.symbol, "PERPETUAL"), request.symbol)

    def _missed(self, kept: KeptStatistics, request: StatisticsRequest, reason: str) -> Miss:
        miss = self.desk.miss(kept, reason)
        if request.start_ms is not None or request.end_ms is not None:
            return miss
        return Wanting(miss.reason, lambda body: self._take(kept, body, request.limit))

    def _take(self, kept: KeptStatistics, body: bytes, limit: int) -> None:
        """Take the newest rows, which a client was forwarded."""
        try:
            rows = read_timed(body, "timestamp")
        except (ValueError, KeyError, TypeError) as error:
            logger.info("%s %s %s: an answer of a wrong shape (%s)", *kept.key, error)
            return
        if kept.is_dropped or not rows:
            return
        # The row that was newest may have been unfinished: it does not count as one that was told.
        kept.held.forget_newest()
        if not kept.held.take(rows, is_whole=len(rows) < limit):
            logger.warning("%s %s %s: a row of an ended period has changed", *kept.key)
        kept.taken_mono = self.clock.mono()
