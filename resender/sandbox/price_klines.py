"""Candles of mark prices, index prices and premiums, made of the candles of the contract.

Pure: a candle in, eight decimals out. A mark or index price lies a fixed bit beside the last
price, a premium grows with it, so highs and lows stay highs and lows; there is no volume, and
what counts is the seconds.
"""

from __future__ import annotations

import orjson

from .decimals import signed
from .market import MarketStore
from .marks import premium, shift
from .series import Candle
from .symbols import SymbolSpec

KINDS = ("mark", "index", "premium")


def price_text(spec: SymbolSpec, kind: str, price: int) -> str:
    """Write what belongs to a price in ticks.

    Shape: `kind` is one of `KINDS`.
    """
    if kind == "premium":
        return signed(premium(spec, price), 8, 8)
    scale: int = 10 ** (8 - spec.price_decimals)
    return signed(price * scale + shift(spec, kind), 8, 8)


def price_columns(spec: SymbolSpec, kind: str, candle: Candle) -> tuple[str, str, str, str]:
    """Return open, high, low and close of a candle."""
    o, h, l, c = (price_text(spec, kind, price) for price in candle[:4])  # noqa: E741
    return o, h, l, c


def seconds_of(open_ms: int, end_ms: int, now_ms: int) -> int:
    """Return how many prices a candle was made of so far."""
    return max(1, (min(now_ms, end_ms) - open_ms) // 1000)


def price_rows(store: MarketStore, symbol: str, kind: str, rows: bytes, now_ms: int) -> bytes:
    """Turn the REST rows of a contract into those of its mark, index or premium."""
    spec = store.series[symbol].spec
    found = []
    for row in orjson.loads(rows):
        # Futures show as many decimals as are kept.
        prices = [price_text(spec, kind, int(text.replace(".", ""))) for text in row[1:5]]
        count = seconds_of(row[0], row[6] + 1, now_ms)
        found.append([row[0], *prices, "0", row[6], "0", count, "0", "0", "0"])
    return orjson.dumps(found)
