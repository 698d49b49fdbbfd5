"""One candle and how it is read, from a stream event or a REST row.

Pure values and parsing; what is done with candles is `klines.py`'s part. No state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from resender.core.binance.intervals import next_open

# The eight numeric texts of a candle, joined: digits and dots only, so none can break a row.
_NUMBERS = re.compile(r"[0-9.]+(?:,[0-9.]+){7}")
_COLUMNS = [int, str, str, str, str, str, int, str, int, str, str, str]


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle as last seen.

    Shape: `row` is its REST row as compact JSON.
    Units: epoch milliseconds; `trades` the number of trades, which only grows while it is open;
        `seen_ms` when the exchange said so (event time; for a read, its earliest time).
    """

    open_time: int
    close_time: int
    row: bytes
    trades: int
    is_final: bool
    seen_ms: int = 0

    def is_news_to(self, known: Candle) -> bool:
        """Tell whether this is a later state of the same candle."""
        if known.is_final:
            return False
        if self.is_final or self.trades != known.trades:
            return self.is_final or self.trades > known.trades
        return self.seen_ms > known.seen_ms and self.row != known.row


def parse_event(data: dict[str, Any]) -> tuple[str, str, Candle]:
    """Read a kline event; return symbol, interval and candle.

    Shape: {"e":"kline","E":..,"s":"BTCUSDT","k":{"t":..,"T":..,"s":..,"i":"1m","o":"..","c":"..",
        "h":"..","l":"..","v":"..","n":77,"x":false,"q":"..","V":"..","Q":"..","B":"0"}}. The row
        takes the columns by position; on COIN-M they mean other things (v contracts, q base).
    Raises: ValueError, KeyError or TypeError if it is anything else.
    Source: spot web-socket-streams.md of 2026-07-21.
    """
    k = data["k"]
    if k["s"] != data["s"]:
        raise ValueError("a kline event that contradicts itself")
    return k["s"], k["i"], _candle(k, data["E"])


def parse_continuous_event(data: dict[str, Any]) -> tuple[str, str, str, Candle]:
    """Read a continuous kline event; return pair, contract type, interval and candle.

    Shape: as a kline event with "ps" and "ct" in the place of both "s"; the rows of the one contract
        that trades under that pair and type are the same, text for text.
    Raises: ValueError, KeyError or TypeError if it is anything else.
    Source: binance-connector-python (um) of 2026-08-21; recorded frames of September 2026.
    """
    pair, contract = data["ps"], data["ct"]
    if type(pair) is not str or type(contract) is not str:
        raise ValueError("a continuous kline event without its contract")
    k = data["k"]
    return pair, contract, k["i"], _candle(k, data["E"])


def _candle(k: dict[str, Any], event_ms: Any) -> Candle:
    texts = (k["o"], k["h"], k["l"], k["c"], k["v"], k["q"], k["V"], k["Q"])
    if not _NUMBERS.fullmatch(",".join(texts)):
        raise ValueError("a kline event with texts that are no numbers")
    t, close, n, x, interval = k["t"], k["T"], k["n"], k["x"], k["i"]
    if type(event_ms) is not int:
        raise ValueError("a kline event without its time")
    if type(t) is not int or type(close) is not int or type(n) is not int or type(x) is not bool or n < 0:
        raise ValueError("a kline event with values of a wrong type")
    # A candle may close early or open off the grid, before and after an outage.
    if not t <= close < next_open(interval, t):
        raise ValueError("a kline event that contradicts itself")
    o, h, low, c, v, q, tv, tq = texts
    row = f'[{t},"{o}","{h}","{low}","{c}","{v}",{close},"{q}",{n},"{tv}","{tq}","0"]'
    # A final event from before the close is no last word; a settling read will be.
    return Candle(t, close, row.encode("ascii"), n, x and event_ms > close, event_ms)


def parse_rows(rows: Any, interval: str, encode: Any, *, made_ms: int = 0) -> list[Candle]:
    """Read the rows of a REST answer, none of them final yet.

    Shape: `rows` is the decoded JSON, `encode` a compact JSON encoder to bytes. Rows have 12
        columns: int, 5 texts, int, text, int, 3 texts. A row may close before the next one opens, as
        rows do before an outage, and open off the grid, as they do after one.
    Raises: ValueError if it is anything else, or rows overlap or do not rise.
    """
    if not isinstance(rows, list):
        raise ValueError("the klines are not a list")
    candles: list[Candle] = []
    previous = -1
    for row in rows:
        if not isinstance(row, list) or len(row) != 12:
            raise ValueError("a kline row without 12 columns")
        if list(map(type, row)) != _COLUMNS:
            raise ValueError("a kline row with values of a wrong type")
        t, close, trades = row[0], row[6], row[8]
        if trades < 0:
            raise ValueError("a kline row with values of a wrong type")
        if t <= previous or not t <= close < next_open(interval, t):
            raise ValueError("kline rows out of order or of another interval")
        previous = close
        candles.append(Candle(t, close, encode(row), trades, False, made_ms))
    return candles


def close_of(row: bytes) -> int:
    """Return the close time of a row of bytes, the seventh column."""
    return int(row.split(b'"', 11)[10].strip(b","))
