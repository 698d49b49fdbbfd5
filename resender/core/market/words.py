"""The words for what is kept of a symbol: intervals of candles, and the other streams by their names.

Pure constants; a preload rule, the pages and the kinds of the cache know no others.
"""

from __future__ import annotations

from resender.core.binance.markets import INTERVALS, Market

BOOK_TICKER = "bookTicker"
# The best 20 levels of a book, and the whole of it.
PARTIAL_BOOK = "depth20"
BOOK = "depth"
AGG_TRADES = "aggTrade"
TRADES = "trade"
DAY_TICKER = "ticker"
MARK_PRICE = "markPrice"

_OTHERS: dict[Market, tuple[str, ...]] = {
    Market.SPOT: (BOOK_TICKER, PARTIAL_BOOK, BOOK, AGG_TRADES, TRADES, DAY_TICKER),
    Market.UM: (BOOK_TICKER, PARTIAL_BOOK, BOOK, AGG_TRADES, DAY_TICKER, MARK_PRICE),
    Market.CM: (BOOK_TICKER, PARTIAL_BOOK, BOOK, AGG_TRADES, DAY_TICKER, MARK_PRICE),
}
WORDS: dict[Market, tuple[str, ...]] = {
    market: (*intervals, *_OTHERS[market]) for market, intervals in INTERVALS.items()
}
# Those of all markets, in the one order of lists.
ALL_WORDS: tuple[str, ...] = tuple(dict.fromkeys(word for words in WORDS.values() for word in words))
# By how a person may write it: the case matters for intervals only (1m is a minute, 1M a month).
_BY_LOWER = {word.lower(): word for words in _OTHERS.values() for word in words}


def read_word(text: str) -> str:
    """Return the word that is meant; what is none stays as it is."""
    return _BY_LOWER.get(text.lower(), text)
