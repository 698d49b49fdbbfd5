"""Reading stream names and stream URLs. Pure; names are case-sensitive as on Binance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from resender.core.binance.markets import Market

from .intervals import FIXED_MS, HOUR_MS

Access = Literal["public", "market", "private"]
UM_PATHS: tuple[Access, ...] = ("public", "market", "private")
_KLINE = re.compile(r"kline_([0-9]+[smhdwM])(@\+08:00)?")
_CONTINUOUS = re.compile(r"continuousKline_([0-9]+[smhdwM])")
_PRICE_KLINE = re.compile(r"(indexPriceKline|markPriceKline)_([0-9]+[smhdwM])")
_DEPTH = re.compile(r"depth(5|10|20)(?:@(100|500|1000)ms)?")
_DIFF = re.compile(r"depth(?:@(100|250|500|1000)ms)?")
_INTERVALS = {*FIXED_MS, "1M"}


@dataclass(frozen=True, slots=True)
class Stream:
    """What a stream name means.

    Shape: `symbol` upper case, empty for all-market streams; `access` is the USD-M path
        that delivers it; `offset_ms` shifts candle boundaries; `detail` is a depth or "1s";
        `push_ms` is the speed of a depth stream.
    """

    name: str
    kind: str
    symbol: str
    access: Access
    interval: str = ""
    offset_ms: int = 0
    contract_type: str = ""
    detail: str = ""
    push_ms: int = 0


def parse_stream(name: str, market: Market) -> Stream | None:
    """Return what a name means on a market, None for nonsense (acknowledged and silent)."""
    is_spot = market is Market.SPOT
    if name.startswith("!"):
        return _all_market(name, is_spot)
    head, separator, tail = name.partition("@")
    if not separator or not head or head != head.lower():
        return None
    symbol = head.upper()
    found = _KLINE.fullmatch(tail)
    if found and found[1] in _INTERVALS and (is_spot or (found[1] != "1s" and not found[2])):
        offset = 8 * HOUR_MS if found[2] else 0
        return Stream(name, "kline", symbol, "market", found[1], offset)
    found = _CONTINUOUS.fullmatch(tail)
    if found and not is_spot and found[1] in _INTERVALS and found[1] != "1s":
        pair, _, contract = symbol.partition("_")
        return Stream(name, "continuousKline", pair, "market", found[1], contract_type=contract)
    found = _PRICE_KLINE.fullmatch(tail)
    if found and market is Market.CM and found[2] in _INTERVALS and found[2] != "1s":
        return Stream(name, found[1], symbol, "market", found[2])
    usual_ms = 1000 if is_spot else 250
    found = _DEPTH.fullmatch(tail)
    if found:
        return Stream(name, "depth", symbol, "public", detail=found[1], push_ms=int(found[2] or usual_ms))
    found = _DIFF.fullmatch(tail)
    if found:
        return Stream(name, "diffDepth", symbol, "public", push_ms=int(found[1] or usual_ms))
    if tail == "bookTicker":
        return Stream(name, "bookTicker", symbol, "public")
    if tail in ("miniTicker", "ticker", "aggTrade"):
        return Stream(name, tail, symbol, "market")
    if tail == "trade":
        # Undocumented on futures; ccxt 4.5.90 listens to it on the public path.
        return Stream(name, tail, symbol, "public")
    if is_spot and tail == "avgPrice":
        return Stream(name, tail, symbol, "market")
    if market is Market.CM and tail in ("indexPrice", "indexPrice@1s"):
        return Stream(name, "indexPrice", symbol, "market", detail=tail.partition("@")[2])
    if not is_spot and tail in ("markPrice", "markPrice@1s"):
        return Stream(name, "markPrice", symbol, "market", detail=tail.partition("@")[2])
    return None


def _all_market(name: str, is_spot: bool) -> Stream | None:
    if name == "!miniTicker@arr":
        return Stream(name, "allMiniTicker", "", "market")
    if is_spot:
        return None  # !bookTicker left spot in 2022, !ticker@arr in 2026
    if name == "!ticker@arr":
        return Stream(name, "allTicker", "", "market")
    if name == "!contractInfo":
        return Stream(name, "contractInfo", "", "market")
    if name == "!bookTicker":
        return Stream(name, "allBookTicker", "", "public")
    if name in ("!markPrice@arr", "!markPrice@arr@1s"):
        return Stream(name, "allMarkPrice", "", "market", detail=name.partition("arr@")[2])
    return None


@dataclass(frozen=True, slots=True)
class StreamUrl:
    """What a stream URL asks for; `access` lists the classes of streams it delivers.

    Shape: with `is_micro` times are told in microseconds, on spot only; `events` are the names of user
        events wanted, none means all; `is_portfolio` is a stream of portfolio margin, on the USD-M host.
    """

    is_combined: bool
    names: tuple[str, ...]
    access: frozenset[str]
    listen_key: str = ""
    is_micro: bool = False
    events: frozenset[str] = frozenset()
    is_portfolio: bool = False


def parse_url(target: str, market: Market) -> StreamUrl | None:
    """Read a raw request target, None when there is no such path.

    Source: USD-M paths as in Binance's notice of 2026-03-06; the unrouted ones still
    connect and deliver the public class only.
    """
    path, _, query = target.partition("?")
    parts = [unquote(part) for part in path.split("/") if part]
    access: frozenset[str] = frozenset({"public", "market", "private"})
    is_portfolio = market is Market.UM and bool(parts) and parts[0] == "pm"
    if is_portfolio:
        parts.pop(0)
    elif market is Market.UM:
        access = frozenset({"public"})
        if parts and parts[0] in UM_PATHS:
            access = frozenset({parts.pop(0)})
    arguments: dict[str, str] = {}
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        arguments[key] = unquote(value)
    listen_key = arguments.get("listenKey", "")
    events = frozenset(name for name in arguments.get("events", "").split("/") if name)
    unit = arguments.get("timeUnit", "")
    is_micro = market is Market.SPOT and unit in ("MICROSECOND", "microsecond")
    if not parts:
        return None
    mode, *names = parts
    if mode == "ws":
        return StreamUrl(False, tuple(names), access, listen_key, is_micro, events, is_portfolio)
    if mode == "stream" and not names:
        wanted = tuple(name for name in arguments.get("streams", "").split("/") if name)
        return StreamUrl(True, wanted, access, listen_key, is_micro, events, is_portfolio)
    return None
