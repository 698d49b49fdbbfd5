"""The statistics of a day and the average price, in the order of keys of each market.

Pure: store and time in, JSON data out. REST and streams read the same values.
"""

from __future__ import annotations

from typing import Any

from resender.core.binance.markets import Market

from .decimals import fixed, signed
from .intervals import DAY_MS, MINUTE_MS
from .market import MarketStore
from .prices import STEP_MS
from .trades import last_trade, last_trade_id, written

AVERAGE_MINUTES = 5
_MINI = (
    "symbol", "pair", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume", "baseVolume",
    "openTime", "closeTime", "firstId", "lastId", "count",
)  # fmt: skip


def day_row(store: MarketStore, symbol: str, now_ms: int) -> dict[str, Any]:
    """Return the 24-hour statistics of a symbol as REST writes them."""
    series = store.series[symbol]
    spec = series.spec
    start = max(spec.listed_ms, now_ms - DAY_MS) // MINUTE_MS * MINUTE_MS
    candle = series.candle(start, now_ms + DAY_MS, now_ms)
    is_spot = store.market is Market.SPOT
    digits = spec.price_decimals
    shown = 8 if is_spot else digits
    newest = last_trade(store, symbol, now_ms)
    last_price, last_qty = written(store, spec, newest.price, newest.qty)
    if candle is None:
        columns = tuple(fixed(0, 0, shown) for _ in range(8))
        change, percent, count, average = 0, "0.000", 0, 0
    else:
        columns = store.columns(spec, candle)
        change, count = newest.price - candle.open, candle.trades
        percent = f"{change * 100 / candle.open:.3f}"
        average = candle.quote // candle.volume if candle.volume else candle.close
    last_id = last_trade_id(store, symbol, now_ms) if count else -1
    row: dict[str, Any] = {"symbol": symbol}
    if spec.contract_size:
        row["pair"] = spec.pair
    row |= {
        "priceChange": signed(change, digits, shown),
        "priceChangePercent": percent,
        "weightedAvgPrice": fixed(average, digits, shown),
    }
    if is_spot:
        row["prevClosePrice"] = columns[0]
    row |= {"lastPrice": last_price, "lastQty": last_qty}
    if is_spot:
        ticker = store.book_ticker(symbol, now_ms)
        row |= {
            "bidPrice": ticker.bid,
            "bidQty": ticker.bid_qty,
            "askPrice": ticker.ask,
            "askQty": ticker.ask_qty,
        }
    return row | {
        "openPrice": columns[0],
        "highPrice": columns[1],
        "lowPrice": columns[2],
        "volume": columns[4],
        ("baseVolume" if spec.contract_size else "quoteVolume"): columns[5],
        "openTime": start,
        "closeTime": now_ms,
        "firstId": last_id - count + 1 if count else -1,
        "lastId": last_id,
        "count": count,
    }


def mini_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return what `type=MINI` keeps of a day, in its own order."""
    return {name: row[name] for name in _MINI if name in row}


def average_price(store: MarketStore, symbol: str, now_ms: int) -> tuple[str, int]:
    """Return the price averaged over five minutes and the time of the last trade."""
    spec = store.series[symbol].spec
    end = now_ms // STEP_MS * STEP_MS
    start = max(end - AVERAGE_MINUTES * MINUTE_MS, spec.listed_ms)
    candle = store.series[symbol].candle(start, end, now_ms) if end > start else None
    newest = last_trade(store, symbol, now_ms)
    if candle is None or not candle.volume:
        return fixed(newest.price, spec.price_decimals, 8), newest.time_ms
    more: int = 10 ** (8 - spec.price_decimals)
    return fixed(candle.quote * more // candle.volume, 8, 8), newest.time_ms
