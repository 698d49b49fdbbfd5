"""What the gateway's own reads of market data cost, and in which pieces they cost least.

Pure. The weights themselves are in `core/weights/table.py`.
"""

from __future__ import annotations

from resender.core.binance.endpoints import (
    AGG_TRADES,
    BOOK_TICKERS,
    DAY_TICKERS,
    DEPTH,
    EXCHANGE_INFO,
    FUNDING_RATES,
    KLINES,
    PREMIUM_INDEX,
    TRADES,
)
from resender.core.binance.markets import Market
from resender.core.market import words
from resender.core.weights.table import FUTURES_POOL, POOL_OF, SPOT_POOL, charge

POOLS: dict[Market, str] = {market: POOL_OF[market] for market in (Market.SPOT, Market.UM, Market.CM)}
# Used until exchangeInfo has told the real ones.
DEFAULT_LIMITS: dict[str, int] = {SPOT_POOL: 6000, FUTURES_POOL: 2400}
# What one read may bring, the cheapest sizes first for each row.
_PIECES: dict[str, tuple[int, ...]] = {SPOT_POOL: (1000,), FUTURES_POOL: (499, 1000, 1500, 99)}


def kline_weight(market: Market, limit: int) -> int:
    """Return the weight of a kline call."""
    return charge(market, "GET", KLINES[market], f"limit={limit}").weight


def book_ticker_weight(market: Market, *, is_all: bool) -> int:
    """Return the weight of a bookTicker call for one symbol or for all."""
    return charge(market, "GET", BOOK_TICKERS[market], "" if is_all else "symbol=X").weight


# What the first read of one symbol is, by the word of a rule; candles are read in pieces.
FIRST_READS: dict[str, tuple[dict[Market, str], str]] = {
    words.BOOK_TICKER: (BOOK_TICKERS, "symbol=X"),
    words.PARTIAL_BOOK: (DEPTH, "symbol=X&limit=20"),
    words.BOOK: (DEPTH, "symbol=X&limit=1000"),
    words.AGG_TRADES: (AGG_TRADES, "symbol=X&limit=1000"),
    words.TRADES: (TRADES, "symbol=X&limit=1000"),
    words.DAY_TICKER: (DAY_TICKERS, "symbol=X"),
    words.MARK_PRICE: (PREMIUM_INDEX, "symbol=X"),
    words.FUNDING: (FUNDING_RATES, "symbol=X&limit=1000"),
}
# Those that are read for all symbols at once where that is cheaper.
_READ_TOGETHER = frozenset({words.BOOK_TICKER, words.DAY_TICKER, words.MARK_PRICE})


def first_read_weight(market: Market, word: str, count: int) -> int:
    """Return what reading `count` symbols for the first time costs, for what is no candles."""
    paths, query = FIRST_READS[word]
    each = charge(market, "GET", paths[market], query).weight * count
    if word not in _READ_TOGETHER or count <= 1:
        return each
    return min(each, charge(market, "GET", paths[market], "").weight)


def exchange_info_weight(market: Market) -> int:
    """Return the weight of an exchangeInfo call."""
    path = EXCHANGE_INFO[market].partition("?")[0]
    return charge(market, "GET", path, "").weight


def cheapest_piece(market: Market, count: int) -> int:
    """Return the limit with which to read the next of `count` missing rows.

    Repeating this until nothing is missing costs the least weight there is: 1,500 rows are
    499 + 499 + 499 + 3 on futures (7, in one call 10) and 1,000 + 500 on spot (4).
    """
    pieces = _PIECES[POOLS[market]]
    if count >= pieces[0]:
        return pieces[0]
    return max(1, count)


def backfill_weight(market: Market, count: int) -> int:
    """Return what reading `count` rows costs in the cheapest pieces."""
    total = 0
    while count > 0:
        piece = cheapest_piece(market, count)
        total += kline_weight(market, piece)
        count -= piece
    return total
