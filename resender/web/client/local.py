"""The gateway's own endpoints below `/local/`: many symbols at once out of memory, and the status.

Nothing is sent upstream for them. Stateless.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

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
from resender.core.market.row_store import Buffer
from resender.core.market.words import BOOK_TICKER
from resender.errors import BadRequest, NotReady, RouteError
from resender.market import (
    PATHS,
    BookTickers,
    Hit,
    Klines,
    MarketCache,
    Outcome,
    Pieces,
    Wanting,
    worth_packing,
)
from resender.services import Services
from resender.turns import next_turn
from resender.web.answers import MISSING_HEADER
from resender.web.client.closed import (
    ClosedCall,
    answer_closed,
    hit_of,
    names_in_a_header,
    read_body,
    read_closed,
)
from resender.web.client.local_kinds import LOCAL_KINDS, LocalKind, read_max_age

LOCAL_PREFIX = "/local/"
_LOCAL_MARKETS = {market.value: market for market in INTERVALS}
# Other calls get their turn after so long; of those that wait, so many begin at once.
_SLICE_S = 0.0005
_SLICE = 8
_JOINED_AT_ONCE = 100


async def answer_local(
    services: Services, path: str, query: str, *, packed: bool, body: bytes | None = None
) -> tuple[Hit, Pairs]:
    """Answer `/local/...` from the cache alone; nothing is sent upstream for it.

    Shape: the answer and further headers. `body` is that of a POST, which only klines take.
    Raises: NotReady, BadRequest or RouteError.
    """
    cache = services.cache
    if path == "/local/status":
        return Hit(orjson.dumps(await services.status.local()), None, 0), []
    if cache is None:
        raise RouteError("The market cache is switched off in the settings of this gateway.")
    name, _, what = path[len(LOCAL_PREFIX) :].partition("/")
    market = _LOCAL_MARKETS.get(name)
    kind = LOCAL_KINDS.get(what)
    if market is None or (what not in ("klines", BOOK_TICKER) and (kind is None or market not in kind.paths)):
        known = ", ".join(("klines", BOOK_TICKER, *LOCAL_KINDS))
        raise RouteError(
            "Unknown route. Local endpoints are /local/status and /local/{spot|um|cm}/ followed by one of "
            f"{known} (premiumIndex and fundingRate on futures)."
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
    if kind is not None:
        return await _local_kind(cache, market, kind, params, packed=packed)
    return await _local_book_ticker(cache, market, params, packed=packed)


async def _local_kind(
    cache: MarketCache, market: Market, kind: LocalKind, params: dict[str, str], *, packed: bool
) -> tuple[Hit, Pairs]:
    symbol, symbols = params.pop("symbol", None), params.pop("symbols", None)
    max_age_ms = read_max_age(params) if kind.takes_age else 0
    request = kind.read(market, params)
    _refuse_others(params)
    if (symbol is None) == (symbols is None):
        raise BadRequest('Give either `symbol=` or `symbols=all` or `symbols=["A","B"]`.')
    path = kind.paths[market]

    def ask(name: str) -> Outcome:
        return cache.answer(path, request(name), packed=False, max_age_ms=max_age_ms)

    if symbol is not None:
        check_symbol(cache, market, symbol)
        found = await _resolve(ask(symbol))
        if isinstance(found, Miss):
            raise NotReady(f"{symbol} is not ready: {found.reason}.")
        return found, []
    is_all = symbols == "all"
    words = [word for word in kind.words if word in PATHS[path].kind.words(market)]
    names = cache.symbols_of(market, words) if is_all else parse_symbol_list(symbols or "")
    if not names and not is_all:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    if not is_all:
        for name in names:
            check_symbol(cache, market, name)
    outcomes = await _resolve_all(ask, names)
    return await _many(cache, names, outcomes, is_all=is_all, as_object=kind.is_object, packed=packed)


def check_symbol(cache: MarketCache, market: Market, symbol: str) -> None:
    """Refuse what is not traded on a market. Raises: BadRequest."""
    symbols = cache.states[market].symbols
    if not SYMBOL.fullmatch(symbol) or (symbols.is_loaded and symbol not in symbols):
        raise BadRequest(f"The symbol {symbol[:50]!r} cannot be traded on {market}.")


async def _resolve(outcome: Outcome) -> Hit | Miss:
    return _unwanted(await outcome if isinstance(outcome, Awaitable) else outcome)


def _unwanted(found: Hit | Miss) -> Hit | Miss:
    """Nothing goes up for a local call: no answer comes that the cache could take."""
    if isinstance(found, Wanting):
        found.leave()
    return found


async def _resolve_all(ask: Callable[[str], Outcome], names: Sequence[str]) -> list[tuple[Hit | Miss, float]]:
    """Ask for each symbol and wait for all; tell when each was there (monotonic seconds).

    A whole market takes milliseconds: other calls get their turn in between.
    """
    found: list[tuple[Hit | Miss, float] | None] = []
    waiting: dict[int, Any] = {}  # coroutines
    begun: list[asyncio.Future[list[tuple[Hit | Miss, float]]]] = []

    async def timed(outcome: Awaitable[Hit | Miss]) -> tuple[Hit | Miss, float]:
        return _unwanted(await outcome), time.monotonic()

    try:
        began = time.monotonic()
        for number, name in enumerate(names):
            if time.monotonic() - began > _SLICE_S:
                await next_turn()
                began = time.monotonic()
            outcome = ask(name)
            if isinstance(outcome, Awaitable):
                waiting[number] = outcome
                found.append(None)
            else:
                found.append((_unwanted(outcome), time.monotonic()))
        rest = iter(waiting.values())
        while group := list(islice(rest, _SLICE)):
            begun.append(asyncio.gather(*map(timed, group)))
            await next_turn()
        late = [each for group_found in await asyncio.gather(*begun) for each in group_found]
    finally:
        for several in begun:
            several.cancel()  # nothing where all are there
        for each in waiting.values():
            if inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
                each.close()  # the client left before it was its turn
    for number, there in zip(waiting, late, strict=True):
        found[number] = there
    return [each for each in found if each is not None]


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
        check_symbol(cache, market, symbol)
        if closed is not None:
            call = ClosedCall((symbol,), interval, limit, closed, is_single=True)
            return await answer_closed(cache, market, call, packed=packed)
        found = await _resolve(
            _klines(cache, KlineRequest(market, symbol, interval, limit, None, None), packed=packed)
        )
        if isinstance(found, Miss):
            raise NotReady(f"{symbol} {interval} is not ready: {found.reason}.")
        return found, []
    is_all = symbols == "all"
    names = (
        cache.kind(Klines, market).symbols_of(interval)
        if is_all
        else listed or parse_symbol_list(symbols or "")
    )
    if not names and not is_all:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    if not is_all:
        for name in names:
            check_symbol(cache, market, name)
    if closed is not None:
        call = ClosedCall(names, interval, limit, closed, is_all=is_all)
        return await answer_closed(cache, market, call, packed=packed)

    def ask(name: str) -> Outcome:
        request = KlineRequest(market, name, interval, limit, None, None, is_part=True, is_capped=is_all)
        return _klines(cache, request, packed=False)

    outcomes = await _resolve_all(ask, names)
    return await _many(cache, names, outcomes, is_all=is_all, as_object=True, packed=packed)


async def _local_book_ticker(
    cache: MarketCache, market: Market, params: dict[str, str], *, packed: bool
) -> tuple[Hit, Pairs]:
    symbol, symbols = params.pop("symbol", None), params.pop("symbols", None)
    _refuse_others(params)
    if symbol is not None and symbols is not None:
        raise BadRequest("Give either `symbol` or `symbols`.")
    if symbol is not None:
        check_symbol(cache, market, symbol)
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
    if not is_all:
        for name in names:
            check_symbol(cache, market, name)
    cache.kind(BookTickers, market).use(names)  # quiet ones are compared in one read, all of them
    outcomes = await _resolve_all(lambda name: _book_ticker(cache, market, name), names)
    return await _many(cache, names, outcomes, is_all=is_all, as_object=False, packed=packed)


async def _many(
    cache: MarketCache,
    names: tuple[str, ...],
    outcomes: list[tuple[Hit | Miss, float]],
    *,
    is_all: bool,
    as_object: bool,
    packed: bool,
) -> tuple[Hit, Pairs]:
    """Join answers: an object of symbol to rows, or an array of rows."""
    missing = [name for name, (found, _) in zip(names, outcomes, strict=True) if isinstance(found, Miss)]
    if missing and not is_all:
        raise NotReady(f"Not ready: {', '.join(missing[:20])}.")
    now, oldest_ms = time.monotonic(), 0
    parts: list[Buffer] = []
    before = b"{" if as_object else b"["
    for number, (name, (found, at)) in enumerate(zip(names, outcomes, strict=True), 1):
        if not number % _JOINED_AT_ONCE:
            await next_turn()
        if isinstance(found, Miss):
            continue
        # A part that was there at once has aged by what the slowest took.
        oldest_ms = max(oldest_ms, found.age_ms + int((now - at) * 1000))
        if as_object:
            parts += (before + orjson.dumps(name) + b":", *(found.parts or (found.body,)))
        else:
            parts += (before, found.body[1:-1] if found.body[:1] == b"[" else found.body)
        before = b","
    end = b"}" if as_object else b"]"
    parts.append(end if before == b"," else before + end)
    extra: Pairs = [(MISSING_HEADER, names_in_a_header(missing))] if missing else []
    pieces = Pieces(parts)
    if packed and worth_packing(pieces.size):
        return Hit(b"", await cache.joined.pack_once(pieces), oldest_ms), extra
    return hit_of(pieces, oldest_ms), extra
