"""The gateway's own endpoints below `/local/`: many symbols at once out of memory, and the status.

Nothing is sent upstream for them. Stateless.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Iterable
from dataclasses import replace

import orjson

from resender.core.binance.endpoints import BOOK_TICKERS, KLINES
from resender.core.binance.headers import Pairs
from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.requests import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    SYMBOL,
    BookTickerRequest,
    KlineRequest,
    Miss,
    parse_query,
    parse_symbol_list,
)
from resender.errors import BadRequest, NotReady, RouteError
from resender.market import BOOK_TICKER, BookTickers, Hit, Klines, MarketCache, Outcome, worth_packing
from resender.services import Services
from resender.web.answers import MISSING_HEADER
from resender.web.client.closed import answer_closed, read_body, read_closed

LOCAL_PREFIX = "/local/"
_LOCAL_MARKETS = {market.value: market for market in INTERVALS}
_MAX_MISSING_BYTES = 4000


async def answer_local(
    services: Services, path: str, query: str, *, packed: bool, body: bytes | None = None
) -> tuple[Hit, Pairs]:
    """Answer `/local/...` from the cache alone; nothing is sent upstream for it.

    Shape: the answer and further headers. `body` is that of a POST, which only klines take.
    Raises: NotReady, BadRequest or RouteError.
    """
    cache = services.cache
    if path == "/local/status":
        return Hit(orjson.dumps(services.status.local()), None, 0), []
    if cache is None:
        raise RouteError("The market cache is switched off in the settings of this gateway.")
    name, _, what = path[len(LOCAL_PREFIX) :].partition("/")
    market = _LOCAL_MARKETS.get(name)
    if market is None or what not in ("klines", BOOK_TICKER):
        raise RouteError(
            "Unknown route. Local endpoints are /local/{spot|um|cm}/klines, .../bookTicker and /local/status."
        )
    if market not in services.dispatch.egress.markets:
        raise RouteError(f"The market {market} is switched off in the settings of this gateway.")
    params = parse_query(query)
    if isinstance(params, Miss):
        raise BadRequest("A parameter is empty, repeated or malformed.")
    listed: tuple[str, ...] = ()
    if body is not None:
        if params:
            raise BadRequest("A POST has its parameters in the body, none in the query.")
        params, listed = read_body(body)
    if what == "klines":
        return await _local_klines(cache, market, params, listed, packed=packed)
    return await _local_book_ticker(cache, market, params, packed=packed)


def _check(cache: MarketCache, market: Market, symbol: str) -> None:
    symbols = cache.states[market].symbols
    if not SYMBOL.fullmatch(symbol) or (symbols.is_loaded and symbol not in symbols):
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


def _klines(cache: MarketCache, request: KlineRequest, *, packed: bool) -> Outcome:
    return cache.answer(KLINES[request.market], request, packed=packed)


def _book_ticker(cache: MarketCache, market: Market, symbol: str) -> Outcome:
    return cache.answer(BOOK_TICKERS[market], BookTickerRequest(market, (symbol,), False), packed=False)


async def _local_klines(
    cache: MarketCache, market: Market, params: dict[str, str], listed: tuple[str, ...], *, packed: bool
) -> tuple[Hit, Pairs]:
    symbol, symbols = params.pop("symbol", None), params.pop("symbols", None)
    closed = read_closed(params)
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
    if [symbol is not None, symbols is not None, bool(listed)].count(True) != 1:
        raise BadRequest('Give either `symbol=` or `symbols=all` or `symbols=["A","B"]`.')
    if symbol is not None:
        _check(cache, market, symbol)
        if closed is not None:
            return await answer_closed(
                cache, market, (symbol,), interval, limit, closed, is_single=True, packed=packed
            )
        found = await _resolve(
            _klines(cache, KlineRequest(market, symbol, interval, limit, None, None), packed=packed)
        )
        if isinstance(found, Miss):
            raise NotReady(f"{symbol} {interval} is not ready: {found.reason}.")
        return found, []
    is_all = symbols == "all"
    names = (
        tuple(s for s, i in cache.kind(Klines, market).kept if i == interval)
        if is_all
        else listed or parse_symbol_list(symbols or "")
    )
    if not names and not is_all:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    for name in names:
        _check(cache, market, name)
    if closed is not None:
        return await answer_closed(
            cache, market, names, interval, limit, closed, is_single=False, packed=packed
        )
    outcomes = await _resolve_all(
        _klines(cache, KlineRequest(market, name, interval, limit, None, None), packed=False)
        for name in names
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
        found = await _resolve(_book_ticker(cache, market, symbol))
        if isinstance(found, Miss):
            raise NotReady(f"{symbol} bookTicker is not ready: {found.reason}.")
        return found, []
    is_all = symbols is None or symbols == "all"
    names = (
        tuple(symbol for symbol, _ in cache.kind(BookTickers, market).kept)
        if is_all
        else parse_symbol_list(symbols or "")
    )
    if not names and not is_all:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    for name in names:
        _check(cache, market, name)
    outcomes = await _resolve_all(_book_ticker(cache, market, name) for name in names)
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
