"""First values of book tickers by REST, for symbols whose stream has not spoken yet.

A stream pushes nothing at subscription, a quiet symbol nothing for minutes. Stateless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from resender.core.binance.markets import Market
from resender.core.market.costs import book_ticker_weight
from resender.market.backfill import ReadFailed
from resender.market.series import KeptTicker

if TYPE_CHECKING:
    from resender.market.market_state import MarketState

PATHS: dict[Market, str] = {
    Market.SPOT: "/api/v3/ticker/bookTicker",
    Market.UM: "/fapi/v1/ticker/bookTicker",
    Market.CM: "/dapi/v1/ticker/bookTicker",
}


async def seed(state: MarketState, entries: Sequence[KeptTicker]) -> int:
    """Read the values of some tickers, all symbols at once if that is cheaper; return how many were set.

    A read from before a loss of the stream, or older than what the stream said, sets nothing.
    Raises: ReadFailed.
    """
    if len(entries) <= 2:
        entries = entries[:1]
    epochs = {entry.symbol: entry.epoch for entry in entries if entry.is_live}
    sent_mono, by_symbol = await read_rows(state, entries)
    try:
        done = 0
        for entry in entries:
            row = by_symbol.get(entry.symbol)
            if row is None or epochs.get(entry.symbol) != entry.epoch or entry.is_dropped:
                continue
            entry.seeded_mono = sent_mono
            # Before the stream has spoken at all a newer read replaces an older one.
            done += entry.ticker.seed(row, replace=not state.ticker_pool.is_proven(entry.stream))
        return done
    except (ValueError, KeyError, TypeError) as error:
        raise ReadFailed(f"a bookTicker answer of a wrong shape ({error})") from None


async def read_rows(
    state: MarketState, entries: Sequence[KeptTicker]
) -> tuple[float, dict[str, dict[str, Any]]]:
    """Read the rows of some tickers, all symbols at once if that is cheaper.

    Shape: when the read was sent (monotonic seconds), rows by symbol; of two symbols the first only.
    Raises: ReadFailed.
    """
    is_all = len(entries) > 2
    target = PATHS[state.market]
    if not is_all:
        target += f"?symbol={quote(entries[0].symbol, safe='')}"
    sent_mono = state.mono()
    body = await state.read(target, book_ticker_weight(state.market, is_all=is_all))
    try:
        rows = orjson.loads(body)
        return sent_mono, {row["symbol"]: row for row in (rows if isinstance(rows, list) else [rows])}
    except (ValueError, KeyError, TypeError) as error:
        raise ReadFailed(f"a bookTicker answer of a wrong shape ({error})") from None
