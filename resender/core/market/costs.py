"""What the gateway's own reads of market data cost, and in which pieces they cost least.

Pure. The weights themselves are in `core/weights/table.py`.
"""

from __future__ import annotations

from resender.core.binance.endpoints import BOOK_TICKERS, EXCHANGE_INFO, KLINES
from resender.core.binance.markets import Market
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
