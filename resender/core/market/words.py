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
FUNDING = "fundingRate"
# What brings ten frames a second and more of a symbol: some dozens of them fill a small line.
BUSY = frozenset({PARTIAL_BOOK, BOOK, AGG_TRADES, TRADES})
# With an interval behind it: `continuousKline_1m`, of the perpetual contract.
CONTINUOUS = "continuousKline"

# Behind an interval: candles of spot that open by the time of UTC+8. Others open at the same moments anyway.
ZONE_8 = "@+08:00"
ZONED = ("6h", "12h", "1d", "3d", "1w")

_OTHERS: dict[Market, tuple[str, ...]] = {
    Market.SPOT: (BOOK_TICKER, PARTIAL_BOOK, BOOK, AGG_TRADES, TRADES, DAY_TICKER),
    Market.UM: (BOOK_TICKER, PARTIAL_BOOK, BOOK, AGG_TRADES, DAY_TICKER, MARK_PRICE, FUNDING),
    Market.CM: (BOOK_TICKER, PARTIAL_BOOK, BOOK, AGG_TRADES, DAY_TICKER, MARK_PRICE, FUNDING),
}
_CONTINUOUS: dict[Market, tuple[str, ...]] = {
    market: tuple(f"{CONTINUOUS}_{interval}" for interval in INTERVALS[market])
    for market in (Market.UM, Market.CM)
}
WORDS: dict[Market, tuple[str, ...]] = {
    market: (*intervals, *_OTHERS[market], *_CONTINUOUS.get(market, ()))
    for market, intervals in INTERVALS.items()
}
# Those of all markets, in the one order of lists.
ALL_WORDS: tuple[str, ...] = tuple(dict.fromkeys(word for words in WORDS.values() for word in words))
_CONTINUOUS_LOWER = f"{CONTINUOUS.lower()}_"
# By how a person may write it: the case matters for intervals only (1m is a minute, 1M a month).
_BY_LOWER = {word.lower(): word for words in _OTHERS.values() for word in words}


def shown_words(market: Market) -> str:
    """Return the words of a market beside its intervals, for people."""
    others = list(_OTHERS[market])
    if market in _CONTINUOUS:
        others.append(f"{CONTINUOUS}_ with an interval behind it")
    return ", ".join(others)


def interval_of(word: str) -> str | None:
    """Return the interval of candles that a word stands for, None if it stands for something else."""
    interval = word.removeprefix(f"{CONTINUOUS}_").partition("@")[0]
    return interval if interval in INTERVALS[Market.SPOT] else None


def read_word(text: str) -> str:
    """Return the word that is meant; what is none stays as it is."""
    if text.lower().startswith(_CONTINUOUS_LOWER):
        return f"{CONTINUOUS}{text[len(CONTINUOUS) :]}"
    return _BY_LOWER.get(text.lower(), text)
