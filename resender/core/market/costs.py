"""What calls cost, and the share of it that the gateway spends on its own reads.

Pure: fed with times and headers. The weights themselves are in `core/weights/table.py`; here is what
the market cache asks of them.
"""

from __future__ import annotations

from resender.core.binance.markets import Market
from resender.core.market.requests import BOOK_TICKER_PATHS, KLINE_PATHS
from resender.core.weights.table import FUTURES_POOL, POOL_OF, SPOT_POOL, charge

POOLS: dict[Market, str] = {market: POOL_OF[market] for market in (Market.SPOT, Market.UM, Market.CM)}
# Used until exchangeInfo has told the real ones.
DEFAULT_LIMITS: dict[str, int] = {SPOT_POOL: 6000, FUTURES_POOL: 2400}
MINUTE_MS = 60_000
# What one read may bring, the cheapest sizes first for each row.
_PIECES: dict[str, tuple[int, ...]] = {SPOT_POOL: (1000,), FUTURES_POOL: (499, 1000, 1500, 99)}

_KLINES = {market: path for path, market in KLINE_PATHS.items()}
_BOOK_TICKERS = {market: path for path, market in BOOK_TICKER_PATHS.items()}


def kline_weight(market: Market, limit: int) -> int:
    """Return the weight of a kline call."""
    return charge(market, "GET", _KLINES[market], f"limit={limit}").weight


def book_ticker_weight(market: Market, *, is_all: bool) -> int:
    """Return the weight of a bookTicker call for one symbol or for all."""
    return charge(market, "GET", _BOOK_TICKERS[market], "" if is_all else "symbol=X").weight


def exchange_info_weight(market: Market) -> int:
    """Return the weight of an exchangeInfo call."""
    path = _KLINES[market].replace("klines", "exchangeInfo")
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


class WeightShare:
    """How much of one pool's weight the gateway's own reads may still use this minute.

    Units: `now_ms` epoch milliseconds of the exchange, whose windows are UTC minutes; `mono`
        monotonic seconds, in which pauses are kept because no clock that is set can move them.
    """

    __slots__ = ("_minute", "_used", "_used_by_all", "closed_until_mono", "limit", "share")

    def __init__(self, limit: int, share: float) -> None:
        self.limit = limit
        self.share = share
        self.closed_until_mono = 0.0
        self._minute = 0
        self._used = 0
        self._used_by_all = 0

    def _roll(self, now_ms: int) -> None:
        minute = now_ms // MINUTE_MS
        if minute != self._minute:
            self._minute, self._used, self._used_by_all = minute, 0, 0

    def used(self, now_ms: int) -> int:
        """Return what own reads have used this minute."""
        self._roll(now_ms)
        return self._used

    def take(self, weight: int, now_ms: int, mono: float, *, is_urgent: bool = False) -> bool:
        """Reserve weight for an own read; False if it does not fit this minute.

        An urgent read (a client waits for it) may use the whole share; others leave a tenth of it.
        """
        self._roll(now_ms)
        if mono < self.closed_until_mono:
            return False
        allowed = self.limit * self.share * (1.0 if is_urgent else 0.9)
        if self._used + weight > max(allowed, weight if self._used == 0 else 0):
            return False
        # The clients' calls count too: nothing of ours may push the pool over its limit.
        if self._used_by_all + weight > self.limit * 0.95:
            return False
        self._used += weight
        self._used_by_all += weight
        return True

    def observe(self, used_weight: int, now_ms: int) -> None:
        """Take the used weight a response told; it never lowers what is known."""
        self._roll(now_ms)
        self._used_by_all = max(self._used_by_all, used_weight)

    def close(self, until_mono: float) -> None:
        """Stop own reads until a time, after a 429 or 418."""
        self.closed_until_mono = max(self.closed_until_mono, until_mono)

    def wait_s(self, now_ms: int, mono: float) -> float:
        """Return after how many seconds there may be weight again."""
        pause_s = self.closed_until_mono - mono
        return pause_s if pause_s > 0 else (MINUTE_MS - now_ms % MINUTE_MS) / 1000
