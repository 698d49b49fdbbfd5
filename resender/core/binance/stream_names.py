"""The pure part of market streams: names and control messages.

It opens nothing and knows no connection; time comes in as a value. Whatever reaches a stream
URL or a SUBSCRIBE has passed `check_stream_name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import orjson

from resender.core.binance.markets import SPOT_INTERVALS, STREAM_HOSTS
from resender.core.binance.stream_kinds import stream_kind

Method = Literal["SUBSCRIBE", "UNSUBSCRIBE"]

SHUTDOWN_EVENT = "serverShutdown"
SHUTDOWN_STREAM = "!serverShutdown"
MAX_SYMBOL_CHARS = 64
MAX_MESSAGE_ID = 2**31 - 1

# Letters and digits of any script: spot lists Chinese symbols. No class here holds a quote, a
# backslash, a blank, "/", "?", "&", "%" or "#", so no name can leave its JSON string or its URL.
_SYMBOL = re.compile(rf"[\w.\-]{{1,{MAX_SYMBOL_CHARS}}}")
# Of all symbols of a market that traded, once a second. Source: web-socket-streams.md of 2026-07-21.
MINI_TICKERS = "!miniTicker@arr"
# {"method":"UNSUBSCRIBE","params":[...],"id":2147483647}
_FRAME_BYTES = len(b'{"method":"UNSUBSCRIBE","params":[],"id":2147483647}')


def check_stream_name(name: str) -> str:
    """Return a stream name that is safe to send: `<symbol>@<what>` in lower case, or one of all symbols.

    Raises: ValueError for what is in none of the tables of `stream_kinds`.
    """
    if not any(stream_kind(market, name) for market in STREAM_HOSTS):
        raise ValueError(f"{name[:100]!r} is no stream name")
    return name


def kline_stream(symbol: str, interval: str) -> str:
    """Return the name of a kline stream: ("BTCUSDT", "1M") gives "btcusdt@kline_1M".

    Only the symbol is lower-cased: 1m is a minute, 1M a month.
    Raises: ValueError for a symbol or interval that cannot be one.
    """
    if interval not in SPOT_INTERVALS:
        raise ValueError(f"{interval[:20]!r} is no interval")
    return _of_symbol(symbol, f"kline_{interval}")


def continuous_stream(pair: str, contract: str, interval: str) -> str:
    """Return the name of a continuous kline stream: "btcusdt_perpetual@continuousKline_1m".

    Raises: ValueError for a pair, contract type or interval that cannot be one.
    Source: derivatives SDKs of 2026-08-21.
    """
    if interval not in SPOT_INTERVALS:
        raise ValueError(f"{interval[:20]!r} is no interval")
    return _of_symbol(f"{pair}_{contract}", f"continuousKline_{interval}")


def book_ticker_stream(symbol: str) -> str:
    """Return the name of a bookTicker stream: "BTCUSDT" gives "btcusdt@bookTicker".

    Raises: ValueError for a symbol that cannot be one.
    """
    return _of_symbol(symbol, "bookTicker")


def symbol_stream(symbol: str, what: str) -> str:
    """Return the name of a stream of one symbol: ("BTCUSDT", "aggTrade") gives "btcusdt@aggTrade".

    Raises: ValueError for a symbol that cannot be one, or what is in none of the tables.
    """
    return _of_symbol(symbol, what)


def _of_symbol(symbol: str, suffix: str) -> str:
    # Checked before lower-casing too: lower() may turn one odd letter into two plain ones.
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"{symbol[:100]!r} is no symbol")
    return check_stream_name(f"{symbol.lower()}@{suffix}")


def control_message(method: Method, names: list[str], message_id: int) -> bytes:
    """Build a control message.

    Shape: `{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":7}`, UTF-8; the id is a small
        positive integer, the one form all markets take.
    """
    return orjson.dumps({"method": method, "params": names, "id": message_id})


def fitting(names: Iterable[str], max_bytes: int) -> list[str]:
    """Return the first names, as many as one control message shorter than `max_bytes` can carry.

    Shape: empty only if `names` is empty or its first does not fit.
    """
    size = _FRAME_BYTES
    chosen: list[str] = []
    for name in names:
        size += len(name.encode()) + 3  # two quotes and a comma
        if size >= max_bytes:
            break
        chosen.append(name)
    return chosen


@dataclass(frozen=True, slots=True)
class Reply:
    """The venue's answer to a control message; `message_id` is 0 if it names none."""

    message_id: int
    is_error: bool
    code: str = ""


def read_reply(frame: object) -> Reply | None:
    """Read a frame that is no event of a combined stream; None is the notice of a shutdown.

    Shape: `{"result":null,"id":7}`, flat `{"code":2,"msg":"...","id":7}` (spot), nested
        `{"error":{"code":4,"msg":"..."},"id":7}` (USD-M, the id may be missing),
        `{"e":"serverShutdown","E":1790000000000}`.
    Raises: ValueError if it is none of these.
    Source: web-socket-streams.md of 2026-07-21; the nested form was measured on USD-M.
    """
    if not isinstance(frame, dict):
        raise ValueError("a frame is no object")
    if frame.get("e") == SHUTDOWN_EVENT:
        return None
    message_id = frame.get("id")
    if type(message_id) is not int:
        message_id = 0
    error = frame.get("error", frame if "code" in frame else None)
    if error is not None:
        code = error.get("code") if isinstance(error, dict) else None
        return Reply(message_id, True, str(code)[:20])
    if "result" not in frame or not message_id:
        raise ValueError("a frame has a wrong shape")
    return Reply(message_id, False)
