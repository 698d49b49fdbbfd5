"""The truth of answers beside candles and books: trades, last prices, rows of a day, mark prices.

Each is judged by the sandbox's store, a function of seed and time. Trades and prices must be those of some
moment between the begin of the call less the told age and its end; rows told by consent are those of the time
they carry themselves, and that time is no older than told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from resender.core.binance.markets import Market
from resender.sandbox import trades
from resender.sandbox.market import MarketStore
from resender.sandbox.marks import mark_at
from resender.sandbox.prices import STEP_MS
from resender.sandbox.tickers import day_row
from tests.support.cache_judge import Timed

_KEPT = 20_000


def _window(timed: Timed) -> str:
    return f"{timed.before_ms}..{timed.after_ms} age {timed.age_ms}"


@dataclass
class TradesJudge:
    """Judges trades of one symbol, aggregated or single ones; rows are made once."""

    store: MarketStore
    symbol: str
    is_single: bool = False
    _known: dict[int, bytes | None] = field(default_factory=dict)

    def problem(self, limit: int, timed: Timed, slack_ms: int) -> str | None:
        """Tell what is wrong with an answer, None if nothing is."""
        shown = timed.rows
        where = f"{self.symbol}, {_window(timed)}"
        if not shown:
            return f"no trades: {where}"
        newest = shown[-1]["id" if self.is_single else "a"]
        wanted: list[bytes] = []
        number = newest
        while len(wanted) < limit:
            if (row := self._row(number)) is not None:
                wanted.append(row)
            number -= 1
        if timed.body != b"[%b]" % b",".join(reversed(wanted)):
            return f"other trades: {where}\n shown ...{timed.body[-400:]!r}\n truth ...{wanted[0]!r}"
        due, latest = (self.last_id(at) for at in (timed.before_ms - timed.age_ms - slack_ms, timed.after_ms))
        missing = [each for each in range(newest + 1, due + 1) if self._row(each) is not None]
        if missing or newest > latest:
            return f"trades up to {newest} of {latest}, missing {missing[:5]}: {where}"
        return None

    def last_id(self, at_ms: int) -> int:
        find = trades.last_trade_id if self.is_single else trades.last_aggregate_id
        return find(self.store, self.symbol, at_ms)

    def _row(self, number: int) -> bytes | None:
        if number not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            row: dict[str, Any] | None = None
            if self.is_single:
                if (trade := trades.trade_at(self.store, self.symbol, number)) is not None:
                    row = trades.trade_row(self.store, self.symbol, trade)
            elif (aggregate := trades.aggregate_at(self.store, self.symbol, number)) is not None:
                row = trades.aggregate_row(self.store, self.symbol, aggregate)
            self._known[number] = None if row is None else orjson.dumps(row)
        return self._known[number]


def prices_problem(store: MarketStore, symbols: Sequence[str], timed: Timed, slack_ms: int) -> str | None:
    """Tell what is wrong with last prices of spot: one object, or a list of several."""
    rows = timed.rows if len(symbols) > 1 else [timed.rows]
    if [list(row) for row in rows] != [["symbol", "price"]] * len(symbols):
        return f"no prices: {timed.body!r}"
    if [row["symbol"] for row in rows] != list(symbols):
        return f"prices of other symbols: {timed.body!r}"
    for row in rows:
        symbol, oldest_ms = row["symbol"], timed.before_ms - timed.age_ms - slack_ms
        first, last = (trades.last_trade_id(store, symbol, at) for at in (oldest_ms, timed.after_ms))
        told = [trades.trade_at(store, symbol, each) for each in range(first, last + 1)]
        prices = {trades.trade_row(store, symbol, each)["price"] for each in told if each is not None}
        if row["price"] not in prices:
            return f"{row} is no price of trades {first} to {last}: {_window(timed)}"
    return None


def day_problem(store: MarketStore, row: dict[str, Any], timed: Timed, slack_ms: int) -> str | None:
    """Tell what is wrong with a 24 hour ticker."""
    oldest_ms, made_ms = timed.before_ms - timed.age_ms - slack_ms, row["closeTime"]
    if not oldest_ms <= made_ms <= timed.after_ms:
        return f"a day that ended at {made_ms}: {row['symbol']}, {_window(timed)}"
    truth = day_row(store, row["symbol"], made_ms)
    if list(row) != list(truth):
        return f"other fields: {list(row)}"
    # What no stream carries is older, but not older than told.
    unlike = {name for name in row if row[name] != truth[name]}
    if store.market is Market.CM and unlike == {"baseVolume"}:
        moments = range(timed.after_ms, oldest_ms - STEP_MS, -STEP_MS)
        if any(day_row(store, row["symbol"], at)["baseVolume"] == row["baseVolume"] for at in moments):
            return None
    if unlike:
        shown = {name: (row[name], truth[name]) for name in sorted(unlike)}
        return f"not the day that ended at {made_ms}: {row['symbol']} {shown}, {_window(timed)}"
    return None


def mark_problem(store: MarketStore, row: dict[str, Any], timed: Timed, slack_ms: int) -> str | None:
    """Tell what is wrong with a mark price. The exchange makes one a second."""
    oldest_ms, made_ms = timed.before_ms - timed.age_ms - slack_ms, row["time"]
    if not oldest_ms - 1000 <= made_ms <= timed.after_ms:
        return f"a mark price of {made_ms}: {row['symbol']}, {_window(timed)}"
    symbol = row["symbol"]
    mark = mark_at(store, symbol, made_ms)
    truth: dict[str, Any] = {"symbol": symbol}
    if store.market is Market.CM:
        truth["pair"] = store.series[symbol].spec.pair
    truth |= {
        "markPrice": mark.mark,
        "indexPrice": mark.index_price,
        "estimatedSettlePrice": mark.settle,
        "lastFundingRate": mark.funding_rate,
        "interestRate": mark.interest_rate,
        "nextFundingTime": mark.next_funding_ms,
        "time": made_ms,
    }
    if list(row.items()) != list(truth.items()):
        return f"another mark price: shown {row}, truth {truth}, {_window(timed)}"
    return None
