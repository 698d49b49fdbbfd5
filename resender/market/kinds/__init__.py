"""The kinds of cached endpoints; a new one is a file here and a line in `KINDS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resender.core.binance.markets import INTERVALS, Market
from resender.market.kinds.base import Kind, Parse
from resender.market.kinds.book_ticker import BookTickers
from resender.market.kinds.books import Books
from resender.market.kinds.consented import DayTickers, MarkPrices
from resender.market.kinds.continuous import ContinuousKlines
from resender.market.kinds.ended import EndedKlines
from resender.market.kinds.funding import FundingRates
from resender.market.kinds.klines import Klines
from resender.market.kinds.statistics import Statistics
from resender.market.kinds.trades import AggTrades, Trades

KINDS: tuple[type[Kind[Any]], ...] = (
    Klines,
    BookTickers,
    Books,
    AggTrades,
    Trades,
    DayTickers,
    MarkPrices,
    ContinuousKlines,
    EndedKlines,
    FundingRates,
    Statistics,
)


@dataclass(frozen=True, slots=True)
class CachedPath:
    """A REST path that is answered out of memory: by which kind of which market, and how it is read.

    Shape: `saved_as` is the market's word and the kind's, for counting.
    """

    kind: type[Kind[Any]]
    market: Market
    parse: Parse
    saved_as: tuple[str, str]


PATHS: dict[str, CachedPath] = {
    path: CachedPath(kind, market, parse, (market.value, kind.name))
    for kind in KINDS
    for market in INTERVALS
    for path, parse in kind.paths(market).items()
}

__all__ = ["KINDS", "PATHS", "BookTickers", "CachedPath", "Kind", "Klines"]
