"""A watch for rows that the sandbox makes as functions of the time: ended candles, funding, tickers, marks.

Each hit must be, row for row, what the exchange itself would have answered at some moment between the
begin of the call less the told age and its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from resender.core.binance.endpoints import DAY_TICKERS, ENDED_KLINES, FUNDING_RATES, PREMIUM_INDEX
from resender.core.binance.markets import Market
from resender.sandbox import marks
from resender.sandbox.tickers import day_row, mini_row
from tests.support.cache_judge import Timed
from tests.support.cache_watch import Watch

_STEP_MS = 10
_KINDS = {"markPriceKlines": "mark", "indexPriceKlines": "index", "premiumIndexKlines": "premium"}


@dataclass
class RowWatch(Watch):
    """Polls rows and judges every hit; `ages` are those told of each target."""

    ages: dict[str, list[int]] = field(default_factory=dict)

    def _watch(self, target: str, truth: Callable[[int], Any], told: Callable[[Timed], Any]) -> str:
        """Watch a target whose truth at a moment `truth(moment)` is."""

        def judge(timed: Timed) -> str | None:
            self.ages.setdefault(target, []).append(timed.age_ms)
            shown = told(timed)
            if any(truth(moment) == shown for moment in self.moments(timed)):
                return None
            window = f"{timed.before_ms}..{timed.after_ms} age {timed.age_ms}"
            shown, true = (str(each)[-300:] for each in (shown, truth(timed.after_ms)))
            return f"never so: {target} {window}\n shown {shown}\n truth {true}"

        self._jobs.append((target, judge))
        return target

    def moments(self, timed: Timed) -> Iterator[int]:
        """Yield the moments in which an answer may have been made, the likely ones first."""
        yield from (timed.after_ms, timed.before_ms, timed.before_ms - timed.age_ms)
        yield from range(timed.after_ms, timed.before_ms - timed.age_ms - self._slack(), -_STEP_MS)

    def ended(self, market: Market, name: str, symbol: str, limit: int, **times: int) -> str:
        """Watch candles of a minute without a stream, by their symbol; an index is asked for by its pair."""
        exchange, store = self.one.sandbox._exchange, self.one.store(market)
        key, value = "symbol", symbol
        if name == "indexPriceKlines":
            key, value = "pair", store.series[symbol].spec.pair
        more = "".join(f"&{each}={at}" for each, at in times.items())
        target = f"{ENDED_KLINES[market][name]}?{key}={quote(value)}&interval=1m&limit={limit}{more}"
        start, end = times.get("startTime"), times.get("endTime")

        def truth(moment: int) -> Any:
            rows = exchange.rest_klines(
                store, symbol, "1m", start, end, limit, moment, kind=_KINDS.get(name, "")
            )
            found = orjson.loads(rows)
            for row in found if name == "uiKlines" else ():
                row[8] = 0  # as `ui_klines_modified` has it
            return found

        return self._watch(target, truth, lambda timed: timed.rows)

    def funding(self, market: Market, symbol: str, limit: int, start: int | None = None) -> str:
        store, switches = self.one.store(market), self.one.sandbox.faults.stream(market)
        target = f"{FUNDING_RATES[market]}?symbol={quote(symbol)}&limit={limit}"
        if start is not None:
            target += f"&startTime={start}"

        def truth(moment: int) -> Any:
            return marks.funding_rows(store, [symbol], limit, moment - switches.periods_lag_ms, start, None)

        return self._watch(target, truth, lambda timed: timed.rows)


def day_problem(
    watch: RowWatch, market: Market, timed: Timed, names: list[str], form: str = ""
) -> str | None:
    """Tell what is wrong with 24 hour tickers: each must be that of its own `closeTime`, and that its age."""
    rows = timed.rows if isinstance(timed.rows, list) else [timed.rows]
    if [row["symbol"] for row in rows] != names:
        return f"other symbols than {names}: {[row['symbol'] for row in rows]}"
    store, oldest_ms = watch.one.store(market), timed.before_ms - timed.age_ms
    for row in rows:
        at_ms = row["closeTime"]
        if not oldest_ms - watch._slack() <= at_ms <= timed.after_ms:
            return f"{row['symbol']} is of {at_ms}, not since {oldest_ms}: age {timed.age_ms}"
        truth = day_row(store, row["symbol"], at_ms)
        if form == "MINI":
            truth = mini_row(truth)
        if market is Market.CM:  # no stream carries it: as old as the whole answer
            row, truth = (
                {name: each[name] for name in each if name != "baseVolume"} for each in (row, truth)
            )
        if row != truth:
            return f"another row at {at_ms}\n shown {row}\n truth {truth}"
    return None


def mark_problem(watch: RowWatch, market: Market, timed: Timed, names: list[str]) -> str | None:
    """Tell what is wrong with mark prices: each must be that of its own `time`, which is never too old."""
    rows = timed.rows if isinstance(timed.rows, list) else [timed.rows]
    if [row["symbol"] for row in rows] != names:
        return f"other symbols than {names}: {[row['symbol'] for row in rows]}"
    for row in rows:
        mark = marks.mark_at(watch.one.store(market), row["symbol"], row["time"])
        truth = (
            mark.mark,
            mark.index_price,
            mark.settle,
            mark.funding_rate,
            mark.interest_rate,
            mark.next_funding_ms,
        )
        shown = tuple(
            row[name]
            for name in (
                "markPrice", "indexPrice", "estimatedSettlePrice", "lastFundingRate", "interestRate", "nextFundingTime",
            )
        )  # fmt: skip
        if shown != truth:
            return f"another mark at {row['time']}\n shown {shown}\n truth {truth}"
        if row["time"] < timed.before_ms - timed.age_ms - watch._slack() - 1000:
            return f"{row['symbol']} is of {row['time']}, older than told: age {timed.age_ms}"
    return None


def day_target(market: Market, query: str) -> str:
    return f"{DAY_TICKERS[market]}{query}"


def mark_target(market: Market, query: str) -> str:
    return f"{PREMIUM_INDEX[market]}{query}"
