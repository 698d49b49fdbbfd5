"""The kinds of cached endpoints; a new one is a file here and a line in `KINDS`."""

from __future__ import annotations

from typing import Any

from resender.core.binance.endpoints import BOOK_TICKERS, KLINES
from resender.core.binance.markets import Market
from resender.market.kinds.base import Kind
from resender.market.kinds.book_ticker import BookTickers
from resender.market.kinds.klines import Klines

KINDS: tuple[type[Kind[Any]], ...] = (Klines, BookTickers)
# Which kind answers a path, and of which market it is.
PATHS: dict[str, tuple[type[Kind[Any]], Market]] = {
    **{path: (Klines, market) for market, path in KLINES.items()},
    **{path: (BookTickers, market) for market, path in BOOK_TICKERS.items()},
}

__all__ = ["KINDS", "PATHS", "BookTickers", "Kind", "Klines"]
