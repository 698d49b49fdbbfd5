"""The truth of an order book that was answered out of memory, and a watch that judges every one.

The sandbox's book is a function of its update id, and the id a function of the time: the levels must be
those of the answer's id, byte for byte, and the id must have been the newest one at some moment between the
begin of the call less the told age and its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from resender.core.binance.endpoints import DEPTH
from resender.core.binance.markets import Market
from resender.sandbox.market import MarketStore
from tests.support.cache_judge import Timed
from tests.support.cache_watch import Watch

_KEPT = 4000


def depth_target(market: Market, symbol: str, limit: int) -> str:
    return f"{DEPTH[market]}?symbol={quote(symbol)}&limit={limit}"


@dataclass
class BookJudge:
    """Judges the books of one symbol; levels are made once for each update and limit."""

    store: MarketStore
    symbol: str
    _levels: dict[tuple[int, int], tuple[int, Any, Any]] = field(default_factory=dict)

    def problem(self, limit: int, timed: Timed, slack_ms: int) -> str | None:
        """Tell what is wrong with an answer, None if nothing is."""
        body = orjson.loads(timed.body)
        update_id = body["lastUpdateId"]
        window = f"{self.symbol} limit {limit}, {timed.before_ms}..{timed.after_ms} age {timed.age_ms}"
        truth = self._body(limit, update_id, body)
        if timed.body != truth:
            at = next(n for n in range(len(truth) + 1) if timed.body[: n + 1] != truth[: n + 1])
            odd = f"{timed.body[max(0, at - 80) : at + 80]!r} is {truth[max(0, at - 80) : at + 80]!r}"
            return f"the book at {update_id} is another one: {window}\n shown {odd}"
        if not 0 <= body.get("E", timed.after_ms) <= timed.after_ms:
            return f"a time of the future: {window}"
        first_ms = timed.before_ms - timed.age_ms - slack_ms
        oldest, newest = (self.store.update_id(self.symbol, at) for at in (first_ms, timed.after_ms))
        if not oldest <= update_id <= newest:
            return f"update {update_id} was not current, {oldest} to {newest} were: {window}"
        return None

    def _body(self, limit: int, update_id: int, shown: dict[str, Any]) -> bytes:
        key = update_id, limit
        found = self._levels.get(key)
        if found is None:
            if len(self._levels) >= _KEPT:
                self._levels.clear()
            book = self.store.book_at(self.symbol, update_id, limit)
            found = self._levels[key] = book.time_ms, book.bids, book.asks
        time_ms, bids, asks = found
        body: dict[str, Any] = {"lastUpdateId": update_id}
        if self.store.market is not Market.SPOT:
            body |= {"E": shown.get("E"), "T": time_ms}
        if self.store.market is Market.CM:
            body |= {"symbol": self.symbol, "pair": self.store.series[self.symbol].spec.pair}
        return orjson.dumps(body | {"bids": bids, "asks": asks})


@dataclass
class BookWatch(Watch):
    """Polls order books; `oldest_ms` is the greatest age that was told of each target."""

    ages: dict[str, int] = field(default_factory=dict)
    hits_of: dict[str, int] = field(default_factory=dict)
    _judges: dict[tuple[Market, str], BookJudge] = field(default_factory=dict)

    def depth(self, market: Market, symbol: str, *limits: int) -> None:
        key = market, symbol
        judge = self._judges.setdefault(key, BookJudge(self.one.store(market), symbol))
        for limit in limits:
            target = depth_target(market, symbol, limit)

            def judged(timed: Timed, limit: int = limit, target: str = target) -> str | None:
                self.ages[target] = max(self.ages.get(target, 0), timed.age_ms)
                self.hits_of[target] = self.hits_of.get(target, 0) + 1
                return judge.problem(limit, timed, self._slack())

            self._jobs.append((target, judged))
