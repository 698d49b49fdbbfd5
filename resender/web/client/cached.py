"""Cached answers on the wire: which calls the cache is asked, how a hit looks, `/local/...`.

It decides nothing about the data, the cache does. Stateless but for the cached `Date` text.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from typing import Any, TypeVar, cast

import orjson
from tornado import httputil

from resender.core.binance.headers import Pairs
from resender.core.binance.markets import INTERVALS, Market
from resender.core.binance.routing import Route
from resender.core.market.costs import POOLS
from resender.core.market.requests import (
    BOOK_TICKER_PATHS,
    DEFAULT_LIMIT,
    KLINE_PATHS,
    MAX_LIMIT,
    SYMBOL,
    BookTickerRequest,
    KlineRequest,
    Miss,
    bypass_reason,
    parse_book_ticker,
    parse_klines,
    parse_query,
    parse_symbol_list,
)
from resender.errors import BadRequest, NotReady, RouteError
from resender.gateway import Gateway
from resender.market.bodies import worth_packing
from resender.market.cache import Hit, MarketCache, Outcome
from resender.market.series import BOOK_TICKER
from resender.web.connection import ClientConnection
from resender.web.wire import WireHeaders

CACHE_HEADER = "X-Resender-Cache"
AGE_HEADER = "X-Resender-Age"
MISSING_HEADER = "X-Resender-Missing"
# What Binance sends with every JSON answer.
JSON_TYPE = "application/json;charset=UTF-8"
_HEAD = f"Content-Type: {JSON_TYPE}\r\nVary: Accept-Encoding\r\n"
LOCAL_PREFIX = "/local/"
_OK = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
_LOCAL_MARKETS = {market.value: market for market in INTERVALS}
_MAX_MISSING_BYTES = 4000
_MAX_REMEMBERED = 200
Parsed = TypeVar("Parsed")
_ZERO_QUALITY = re.compile(r"q\s*=\s*0(?:\.0*)?")


def is_cached_path(path: str) -> bool:
    return path in KLINE_PATHS or path in BOOK_TICKER_PATHS


def accepts_gzip(headers: httputil.HTTPHeaders) -> bool:
    """Tell whether the client takes gzip (a quality of 0 means it does not)."""
    accepted = headers.get("Accept-Encoding")
    if accepted is None:
        return False
    for item in accepted.lower().split(","):
        name, _, quality = item.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return not _ZERO_QUALITY.fullmatch(quality.strip())
    return False


_remembered = lru_cache(maxsize=2048)(lambda parse, market, query: parse(market, query))


def _parse(parse: Callable[[Market, str], Parsed], market: Market, query: str) -> Parsed:
    """Read a query; the same few come again and again. Nothing long or signed is kept."""
    if len(query) > _MAX_REMEMBERED or "signature" in query:
        return parse(market, query)
    found: Parsed = _remembered(parse, market, query)
    return found


def ask_cache(cache: MarketCache, route: Route, headers: httputil.HTTPHeaders) -> Outcome:
    """Ask the cache for a call on one of its paths."""
    reason = bypass_reason(headers.get_all())
    if reason is not None:
        cache.count_miss(reason)
        return Miss(reason)
    query = route.target.partition("?")[2]
    market = KLINE_PATHS.get(route.path)
    request: KlineRequest | BookTickerRequest | Miss
    if market is not None:
        request = _parse(parse_klines, market, query)
        if isinstance(request, KlineRequest):
            return cache.klines(request, packed=accepts_gzip(headers))
    else:
        request = _parse(parse_book_ticker, BOOK_TICKER_PATHS[route.path], query)
        if isinstance(request, BookTickerRequest):
            return cache.book_tickers(request, packed=accepts_gzip(headers))
    cache.count_miss(request.reason)
    return request


class DateText:
    """The `Date` header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_DATE = DateText()


def write_hit(
    connection: ClientConnection,
    market: Market | None,
    cache: MarketCache | None,
    hit: Hit,
    *,
    version: str,
    extra: Pairs | None = None,
) -> int:
    """Write an answer out of memory; return the bytes of its body.

    Shape: `market` is None for `/local/...`; `version` is that of the client's HTTP.
    """
    body = hit.body if hit.packed is None else hit.packed
    # In order and all our own: Tornado's checks of each header cost more than the rest of a hit.
    head = f"{_HEAD}Date: {_DATE.now()}\r\n{AGE_HEADER}: {hit.age_ms}\r\nContent-Length: {len(body)}\r\n"
    if market is not None and cache is not None:  # a call as Binance knows it, not one of /local
        head += f"{CACHE_HEADER}: hit\r\n"
        if (weight := cache.used_weight.get(POOLS[market])) is not None:
            if market is Market.SPOT:  # futures send one of them
                head += f"x-mbx-used-weight: {weight}\r\n"
            head += f"x-mbx-used-weight-1m: {weight}\r\n"
    if hit.packed is not None:
        head += "Content-Encoding: gzip\r\n"
    for name, value in extra or ():
        head += f"{name}: {value}\r\n"
    if version == "HTTP/1.1" and connection.is_kept:
        head += f"Keep-Alive: {connection.keep_alive}\r\n"
        connection.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode("latin-1") + body)
    else:
        pairs = [
            (name, value)
            for name, _, value in (state.partition(": ") for state in head.split("\r\n") if state)
        ]
        connection.write_headers(_OK, cast(Any, WireHeaders(pairs)), body)
    connection.finish()
    return len(body)


# --- local endpoints -------------------------------------------------------------------------


async def answer_local(gateway: Gateway, path: str, query: str, *, packed: bool) -> tuple[Hit, Pairs]:
    """Answer `/local/...` from the cache alone; nothing is sent upstream for it.

    Shape: the answer and further headers.
    Raises: NotReady, BadRequest or RouteError.
    """
    cache = gateway.cache
    if path == "/local/status":
        return Hit(orjson.dumps(cache_status(cache, gateway.weight_status())), None, 0), []
    if cache is None:
        raise RouteError("The market cache is switched off in the settings of this gateway.")
    name, _, what = path[len(LOCAL_PREFIX) :].partition("/")
    market = _LOCAL_MARKETS.get(name)
    if market is None or what not in ("klines", BOOK_TICKER):
        raise RouteError(
            "Unknown route. Local endpoints are /local/{spot|um|cm}/klines, .../bookTicker and /local/status."
        )
    if market not in gateway.egress.markets:
        raise RouteError(f"The market {market} is switched off in the settings of this gateway.")
    params = parse_query(query)
    if isinstance(params, Miss):
        raise BadRequest("A parameter is empty, repeated or malformed.")
    if what == "klines":
        return await _local_klines(cache, market, params, packed=packed)
    return await _local_book_ticker(cache, market, params, packed=packed)


def _check(cache: MarketCache, market: Market, symbol: str) -> None:
    state = cache.states[market]
    if not SYMBOL.fullmatch(symbol) or (state.symbols.is_loaded and symbol not in state.symbols):
        raise BadRequest(f"The symbol {symbol[:50]!r} cannot be traded on {market}.")


async def _resolve(outcome: Outcome) -> Hit | Miss:
    return await outcome if isinstance(outcome, Awaitable) else outcome


async def _resolve_all(outcomes: Iterable[Outcome]) -> list[Hit | Miss]:
    """Wait for all; a part that was there at once has aged by what the slowest took."""

    async def timed(outcome: Outcome) -> tuple[Hit | Miss, float]:
        return await _resolve(outcome), time.monotonic()

    found = await asyncio.gather(*(timed(outcome) for outcome in outcomes))
    now = time.monotonic()
    return [
        replace(each, age_ms=each.age_ms + int((now - at) * 1000)) if isinstance(each, Hit) else each
        for each, at in found
    ]


def _refuse_others(params: dict[str, str]) -> None:
    if params:
        raise BadRequest(f"Unknown parameter {sorted(params)[0][:50]!r}.")


async def _local_klines(
    cache: MarketCache, market: Market, params: dict[str, str], *, packed: bool
) -> tuple[Hit, Pairs]:
    symbol, symbols = params.pop("symbol", None), params.pop("symbols", None)
    interval, limit_text = params.pop("interval", ""), params.pop("limit", str(DEFAULT_LIMIT))
    _refuse_others(params)
    if interval not in INTERVALS[market]:
        raise BadRequest(f"`interval` must be one of {', '.join(INTERVALS[market])}.")
    most = MAX_LIMIT[market]
    if not (limit_text.isascii() and limit_text.isdigit() and len(limit_text) < 7 and int(limit_text) > 0):
        raise BadRequest(f"`limit` must be a whole number from 1 to {most}.")
    limit = int(limit_text)
    if limit > most and market is not Market.SPOT:
        raise BadRequest(f"`limit` must be a whole number from 1 to {most}.")
    limit = min(limit, most)
    if (symbol is None) == (symbols is None):
        raise BadRequest('Give either `symbol=` or `symbols=all` or `symbols=["A","B"]`.')
    if symbol is not None:
        _check(cache, market, symbol)
        found = await _resolve(
            cache.klines(KlineRequest(market, symbol, interval, limit, None, None), packed=packed)
        )
        if isinstance(found, Miss):
            raise NotReady(f"{symbol} {interval} is not ready: {found.reason}.")
        return found, []
    is_all = symbols == "all"
    names = (
        tuple(s for s, i in cache.states[market].klines if i == interval)
        if is_all
        else parse_symbol_list(symbols or "")
    )
    if not names and not is_all:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    for name in names:
        _check(cache, market, name)
    outcomes = await _resolve_all(
        cache.klines(KlineRequest(market, name, interval, limit, None, None), packed=False) for name in names
    )
    return await _many(names, outcomes, is_all=is_all, as_object=True, packed=packed)


async def _local_book_ticker(
    cache: MarketCache, market: Market, params: dict[str, str], *, packed: bool
) -> tuple[Hit, Pairs]:
    symbol, symbols = params.pop("symbol", None), params.pop("symbols", None)
    _refuse_others(params)
    if symbol is not None and symbols is not None:
        raise BadRequest("Give either `symbol` or `symbols`.")
    if symbol is not None:
        _check(cache, market, symbol)
        found = await _resolve(cache.book_tickers(BookTickerRequest(market, (symbol,), False), packed=False))
        if isinstance(found, Miss):
            raise NotReady(f"{symbol} bookTicker is not ready: {found.reason}.")
        return found, []
    is_all = symbols is None or symbols == "all"
    names = tuple(cache.states[market].tickers) if is_all else parse_symbol_list(symbols or "")
    if not names and not is_all:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    for name in names:
        _check(cache, market, name)
    outcomes = await _resolve_all(
        cache.book_tickers(BookTickerRequest(market, (name,), False), packed=False) for name in names
    )
    return await _many(names, outcomes, is_all=is_all, as_object=False, packed=packed)


async def _many(
    names: tuple[str, ...], outcomes: list[Hit | Miss], *, is_all: bool, as_object: bool, packed: bool
) -> tuple[Hit, Pairs]:
    """Join answers: an object of symbol to rows, or an array of book tickers."""
    missing = [name for name, found in zip(names, outcomes, strict=True) if isinstance(found, Miss)]
    if missing and not is_all:
        raise NotReady(f"Not ready: {', '.join(missing[:20])}.")
    hits = [(name, found) for name, found in zip(names, outcomes, strict=True) if isinstance(found, Hit)]
    if as_object:
        body = b"{" + b",".join(orjson.dumps(name) + b":" + hit.body for name, hit in hits) + b"}"
    else:
        objects = [hit.body[1:-1] if hit.body[:1] == b"[" else hit.body for _, hit in hits]
        body = b"[" + b",".join(objects) + b"]"
    age_ms = max((hit.age_ms for _, hit in hits), default=0)
    extra: Pairs = []
    if missing:
        text = ",".join(name.encode("ascii", "backslashreplace").decode() for name in missing)
        if len(text) > _MAX_MISSING_BYTES:
            text = text[:_MAX_MISSING_BYTES].rpartition(",")[0] + ",..."
        extra.append((MISSING_HEADER, text))
    # Whole markets are megabytes: compressed beside the event loop.
    gz = await asyncio.to_thread(gzip.compress, body, 1) if packed and worth_packing(len(body)) else None
    return Hit(body, gz, age_ms), extra


def cache_status(cache: MarketCache | None, weights: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the answer of `/local/status`.

    Shape: {"series":[{"market","symbol","interval","state","last_open","age_ms","proof",
        "mutes","rows","hits","misses"}],"connections":[{"market","streams","age_s","last_frame_ms","reconnects"}],
        "backfill":[{"pool","limit","rows_read","queued"}],"weights": as `Governor.status`}.
    """
    series: list[dict[str, Any]] = []
    connections: list[dict[str, Any]] = []
    for state in cache.states.values() if cache is not None else ():
        for entry in state.entries():
            age_ms, proof = state.proof(entry)
            kept = getattr(entry, "series", None)
            series.append(
                {
                    "market": entry.market.value,
                    "symbol": entry.symbol,
                    "interval": entry.key[2],
                    "state": entry.state,
                    "last_open": kept.last_open if kept is not None else None,
                    "age_ms": age_ms,
                    "proof": proof,
                    "mutes": entry.mutes,
                    "rows": len(kept) if kept is not None else int(entry.ticker.is_valid),  # type: ignore[union-attr]
                    "hits": entry.hits,
                    "misses": dict(entry.misses),
                    "preload": entry.is_preload,
                }
            )
        for pool in state.pools:
            for connection in pool.connections:
                connections.append(
                    {
                        "market": state.market.value,
                        "streams": connection.streams,
                        "age_s": round(connection.age_s, 1),
                        "last_frame_ms": connection.last_frame_ms,
                        "reconnects": connection.reconnects,
                    }
                )
    backfill = [
        {
            "pool": name,
            "limit": cache.shares[name].limit,  # type: ignore[union-attr]
            "rows_read": each.rows_read,
            "queued": each.queued(),
        }
        for name, each in (cache.backfills.items() if cache is not None else ())
    ]
    return {"series": series, "connections": connections, "backfill": backfill, "weights": weights}
