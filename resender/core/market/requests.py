"""Read a client's call as far as the cache may answer it.

Pure and strict: whatever is odd (unknown, repeated, malformed, empty) becomes a `Miss`, so that
Binance's own answer or error comes back. It decides nothing about what is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from resender.core.binance.markets import INTERVALS, Market
from resender.core.market import levels
from resender.core.market.words import ZONE_8, ZONED

DEFAULT_LIMIT = 500
# Source: spot rest-api.md of 2026-07-21; binance-connector-python (um, cm) of 2026-08-21.
MAX_LIMIT: dict[Market, int] = {Market.SPOT: 1000, Market.UM: 1500, Market.CM: 1500}
# Of `aggTrades` and `trades`. Source: as above.
MAX_TRADES = 1000
# Of `fundingRate`. Source: as above.
MAX_FUNDING_ROWS = 1000
# Of `/futures/data/...`; 30 without a limit. Source: as above.
MAX_STATISTICS_ROWS = 500
STATISTICS_PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
# Millisecond times have 13 digits until the year 2286.
_TIME = re.compile(r"[1-9][0-9]{12}|0")
_LIMIT = re.compile(r"[1-9][0-9]{0,5}")
# Upper case, digits and what quarterly contracts use; also the letters of Chinese names.
SYMBOL = re.compile(r"[A-Z0-9_\u0080-\uffff\U00010000-\U0010ffff]{1,50}")
_MAX_SYMBOLS = 500
# Why a worker forwards although the one that keeps the data might have answered.
COLLECTOR_SILENT = "collector not reached"
COLLECTOR_SLOW = "collector slow"
# Every reason a `Miss` may give: metrics, pages and documentation know no others.
MISS_REASONS = (
    "no-cache", "other format", "method", "body", "odd parameter", "odd range", "limit", "all symbols",
    "not held yet", "starting", "unknown symbol", "too many series", "not read yet",
    "stream not live", "stream not proven", "stream quiet", "stream mute",
    "gap", "not settled", "no new candle seen", "no candle yet", "range not held",
    "levels not known", "no trade yet", "no consent", "too old", "no gain",
    COLLECTOR_SILENT, COLLECTOR_SLOW,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Miss:
    """Why the cache does not answer; `reason` is a word for headers and counters."""

    reason: str


@dataclass(frozen=True, slots=True)
class KlineRequest:
    """A kline call the cache understands.

    Shape: `word` names what is kept for it where that is no interval; with `is_part` its rows become part
        of an answer about many series, with `is_capped` about all: what cannot be told at once may be left out.
    Units: `start_ms` and `end_ms` epoch milliseconds, both inclusive, of open times.
    """

    market: Market
    symbol: str
    interval: str
    limit: int
    start_ms: int | None
    end_ms: int | None
    is_part: bool = False
    is_capped: bool = False
    word: str = ""


@dataclass(frozen=True, slots=True)
class ContinuousRequest:
    """A call for the candles of a pair and contract type; `klines` has no symbol yet."""

    pair: str
    contract: str
    klines: KlineRequest


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """A call for candles of which closed rows are kept; `symbol` may be a pair, `word` names what is kept."""

    symbol: str
    word: str
    klines: KlineRequest


@dataclass(frozen=True, slots=True)
class BookTickerRequest:
    """A bookTicker call the cache understands: one symbol, a list of them on spot, or all (none named)."""

    market: Market
    symbols: tuple[str, ...]
    is_list: bool


@dataclass(frozen=True, slots=True)
class DepthRequest:
    """A depth call the cache understands; `limit` levels a side."""

    market: Market
    symbol: str
    limit: int


@dataclass(frozen=True, slots=True)
class TradesRequest:
    """A call for the newest trades, aggregated or not, that the cache understands."""

    market: Market
    symbol: str
    limit: int


@dataclass(frozen=True, slots=True)
class FundingRequest:
    """A call for funding rates of one symbol. Units: `start_ms` and `end_ms` epoch milliseconds, inclusive."""

    market: Market
    symbol: str
    limit: int
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StatisticsRequest:
    """A call for statistics of a symbol or pair; `word` names what is kept. Units: epoch milliseconds."""

    symbol: str
    word: str
    limit: int
    start_ms: int | None
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class SymbolsRequest:
    """A call about one symbol, a list of them, or all (`symbols` empty) that the cache understands.

    Shape: `form` is the form of the answer where there are several ("FULL", "MINI"); `is_local` tells that
        nothing goes up for the call, whatever is missing.
    """

    market: Market
    symbols: tuple[str, ...]
    is_list: bool
    form: str = ""
    is_local: bool = False


def parse_query(query: str) -> dict[str, str] | Miss:
    """Split a raw query into its parameters.

    Shape: latin-1 text as received; values are percent-decoded as UTF-8.
    """
    found: dict[str, str] = {}
    if not query:
        return found
    for pair in query.split("&"):
        name, mark, value = pair.partition("=")
        if not name or not mark or not value or name in found or "+" in value:
            return Miss("odd parameter")
        if "%" in value or not value.isascii():
            try:
                value = unquote_to_bytes(value.encode("latin-1")).decode("utf-8")
            except UnicodeError:
                return Miss("odd parameter")
        found[name] = value
    return found


def parse_klines(market: Market, query: str) -> KlineRequest | Miss:
    """Read the query of a kline call."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    symbol = params.pop("symbol", "")
    interval = params.pop("interval", "")
    limit_text = params.pop("limit", str(DEFAULT_LIMIT))
    start = params.pop("startTime", None)
    end = params.pop("endTime", None)
    zone = params.pop("timeZone", "0") if market is Market.SPOT else "0"
    if params:
        return Miss("odd parameter")
    if not SYMBOL.fullmatch(symbol) or interval not in INTERVALS[market]:
        return Miss("odd parameter")
    # In a zone of whole hours most candles are the same; a month is none of a fixed length.
    if zone not in ("0", "8") or (zone == "8" and interval == "1M"):
        return Miss("odd parameter")
    word = f"{interval}{ZONE_8}" if zone == "8" and interval in ZONED else ""
    if not _LIMIT.fullmatch(limit_text):
        return Miss("odd parameter")
    limit = int(limit_text)
    if limit > MAX_LIMIT[market]:
        # Spot answers with its maximum, futures with an error of their own.
        if market is not Market.SPOT:
            return Miss("limit")
        limit = MAX_LIMIT[market]
    for text in (start, end):
        if text is not None and not _TIME.fullmatch(text):
            return Miss("odd parameter")
    start_ms = int(start) if start is not None else None
    end_ms = int(end) if end is not None else None
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        return Miss("odd range")
    return KlineRequest(market, symbol, interval, limit, start_ms, end_ms, word=word)


def parse_continuous(market: Market, query: str) -> ContinuousRequest | Miss:
    """Read the query of a call for the candles of a pair and contract type."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    pair, contract = params.get("pair", ""), params.get("contractType", "")
    if not SYMBOL.fullmatch(pair) or not re.fullmatch("[A-Z_]{1,30}", contract):
        return Miss("odd parameter")
    rest = "&".join(each for each in query.split("&") if not each.startswith(("pair=", "contractType=")))
    found = parse_klines(market, f"symbol=X&{rest}")
    return found if isinstance(found, Miss) else ContinuousRequest(pair, contract, found)


def parse_ended(market: Market, name: str, query: str) -> EndedRequest | Miss:
    """Read the query of a call for candles of which closed rows are kept; an index has a pair."""
    key = "pair" if name == "indexPriceKlines" else "symbol"
    if "timeZone=" in query:
        return Miss("odd parameter")
    pairs = query.split("&")
    if any(each.startswith(("symbol=", "pair=")) and not each.startswith(f"{key}=") for each in pairs):
        return Miss("odd parameter")
    asked = "&".join(f"symbol={each[5:]}" if each.startswith("pair=") else each for each in pairs)
    found = parse_klines(market, asked)
    if isinstance(found, Miss):
        return found
    return EndedRequest(found.symbol, f"{name}_{found.interval}", found)


def parse_book_ticker(market: Market, query: str) -> BookTickerRequest | Miss:
    """Read the query of a bookTicker call."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    if not params:
        return BookTickerRequest(market, (), True)
    if set(params) == {"symbol"}:
        symbol = params["symbol"]
        return (
            BookTickerRequest(market, (symbol,), False) if SYMBOL.fullmatch(symbol) else Miss("odd parameter")
        )
    if set(params) == {"symbols"} and market is Market.SPOT:
        symbols = parse_symbol_list(params["symbols"])
        return BookTickerRequest(market, symbols, True) if symbols else Miss("odd parameter")
    return Miss("odd parameter")


def parse_depth(market: Market, query: str) -> DepthRequest | Miss:
    """Read the query of a depth call."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    symbol = params.pop("symbol", "")
    limit_text = params.pop("limit", str(levels.DEFAULT_LIMIT[market]))
    if params or not SYMBOL.fullmatch(symbol) or not _LIMIT.fullmatch(limit_text):
        return Miss("odd parameter")
    limit = int(limit_text)
    if market is not Market.SPOT and limit not in levels.FUTURES_LIMITS:
        return Miss("limit")
    return DepthRequest(market, symbol, min(limit, levels.MAX_LIMIT[market]))


def parse_trades(market: Market, query: str) -> TradesRequest | Miss:
    """Read the query of a call for trades; those of a range or from an id on are not kept."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    symbol, limit_text = params.pop("symbol", ""), params.pop("limit", str(DEFAULT_LIMIT))
    if params.keys() & {"fromId", "startTime", "endTime"}:
        return Miss("range not held")
    if params or not SYMBOL.fullmatch(symbol) or not _LIMIT.fullmatch(limit_text):
        return Miss("odd parameter")
    limit = int(limit_text)
    if limit > MAX_TRADES:
        # Spot answers with its maximum; what futures do is not known for certain.
        if market is not Market.SPOT:
            return Miss("limit")
        limit = MAX_TRADES
    return TradesRequest(market, symbol, limit)


def parse_funding(market: Market, query: str) -> FundingRequest | Miss:
    """Read the query of a call for funding rates of one symbol."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    symbol, limit_text = params.pop("symbol", ""), params.pop("limit", "")
    start, end = params.pop("startTime", None), params.pop("endTime", None)
    if not symbol and not params:
        return Miss("all symbols")
    if params or not SYMBOL.fullmatch(symbol) or (limit_text and not _LIMIT.fullmatch(limit_text)):
        return Miss("odd parameter")
    if not all(text is None or _TIME.fullmatch(text) for text in (start, end)):
        return Miss("odd parameter")
    if start is None and end is not None:
        return Miss("odd range")  # which of the rows before it is not told for certain
    start_ms, end_ms = (int(text) if text is not None else None for text in (start, end))
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        return Miss("odd range")
    # Sources disagree about how many there are without a limit: 100 or 200.
    if not limit_text or int(limit_text) > MAX_FUNDING_ROWS:
        return Miss("limit")
    return FundingRequest(market, symbol, int(limit_text), start_ms, end_ms)


def parse_statistics(market: Market, name: str, query: str) -> StatisticsRequest | Miss:
    """Read the query of a call for statistics.

    Shape: COIN-M takes a pair, USD-M a symbol; some have a contract type.
    """
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    is_cm = market is Market.CM
    symbol = params.pop("pair" if is_cm or name == "basis" else "symbol", "")
    has_contract = name in (("basis", "openInterestHist", "takerBuySellVol") if is_cm else ("basis",))
    contract = params.pop("contractType", "") if has_contract else ""
    period, limit_text = params.pop("period", ""), params.pop("limit", "30")
    start, end = params.pop("startTime", None), params.pop("endTime", None)
    if params or not SYMBOL.fullmatch(symbol) or not _LIMIT.fullmatch(limit_text):
        return Miss("odd parameter")
    if period not in STATISTICS_PERIODS or has_contract != bool(contract) or len(contract) > 30:
        return Miss("odd parameter")
    if not all(text is None or _TIME.fullmatch(text) for text in (start, end)):
        return Miss("odd parameter")
    if int(limit_text) > MAX_STATISTICS_ROWS:
        return Miss("limit")
    start_ms, end_ms = (int(text) if text is not None else None for text in (start, end))
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        return Miss("odd range")
    word = f"{name}_{period}" + (f"@{contract}" if contract else "")
    return StatisticsRequest(symbol, word, int(limit_text), start_ms, end_ms)


def parse_symbols(market: Market, query: str) -> SymbolsRequest | Miss:
    """Read the query of a call about one symbol, a list on spot, or all."""
    params = parse_query(query)
    if isinstance(params, Miss):
        return params
    form = params.pop("type", "") if market is Market.SPOT else ""
    if form not in ("", "FULL", "MINI"):
        return Miss("odd parameter")
    if not params:
        return SymbolsRequest(market, (), True, form)
    if set(params) == {"symbol"} and SYMBOL.fullmatch(params["symbol"]):
        return SymbolsRequest(market, (params["symbol"],), False, form)
    if set(params) == {"symbols"} and market is Market.SPOT:
        symbols = parse_symbol_list(params["symbols"])
        if symbols:
            return SymbolsRequest(market, symbols, True, form)
    return Miss("odd parameter")


def parse_symbol_list(text: str) -> tuple[str, ...]:
    """Read `["A","B"]`, compact JSON as Binance demands it; empty if it is anything else."""
    try:
        values: Any = orjson.loads(text)  # which refuses what is nested too deep
    except ValueError:
        return ()
    if not isinstance(values, list) or not 0 < len(values) <= _MAX_SYMBOLS:
        return ()
    if not all(isinstance(v, str) and SYMBOL.fullmatch(v) for v in values) or len(set(values)) != len(values):
        return ()
    if orjson.dumps(values).decode() != text:
        return ()
    return tuple(values)


def bypass_reason(headers: Iterable[tuple[str, str]]) -> str | None:
    """Tell why a call's headers keep it from the cache, None if they do not.

    Source: spot rest-api.md and faqs/sbe_faq.md of 2026-07-21 (microseconds, binary answers).
    """
    for name, value in headers:
        lower = name.lower()
        if lower == "cache-control" and "no-cache" in value.lower():
            return "no-cache"
        if lower in ("x-mbx-time-unit", "x-mbx-sbe"):
            return "other format"
        if lower == "accept" and "sbe" in value.lower():
            return "other format"
    return None
