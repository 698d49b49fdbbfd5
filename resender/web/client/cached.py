"""Answers out of memory on Binance's own paths: which calls they are, and how a hit is written.

What is held and whether it is proven is the cache's. Stateless but for the cached `Date` text.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any, cast

from tornado import httputil

from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.binance.routing import Route
from resender.core.market.consent import PATHS as CONSENT_PATHS
from resender.core.market.consent import max_age_ms
from resender.core.market.costs import POOLS
from resender.core.market.requests import Miss, bypass_reason
from resender.core.weights.table import charge
from resender.market import PATHS, Hit, MarketCache, Outcome, Pieces
from resender.turns import next_turn
from resender.web.answers import AGE_HEADER, CACHE_HEADER, WireHeaders
from resender.web.connection import ClientConnection
from resender.workers import Asks

_SHARED_PATHS = "/futures/"
_OK = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
_MAX_REMEMBERED = 200
# A client that takes nothing of an answer for so long is gone, whatever its connection says.
_PATIENCE_S = 60.0
_ZERO_QUALITY = re.compile(r"q\s*=\s*0(?:\.0*)?")


def cached_path(market: Market, path: str) -> str | None:
    """Return under which of `PATHS` calls are answered out of memory, None if they are not.

    Shape: both futures markets have some paths; those of COIN-M stand there behind its prefix.
    """
    if market is Market.CM and path.startswith(_SHARED_PATHS):
        path = f"/dapi{path}"
    found = PATHS.get(path)
    return path if found is not None and found.market is market else None


def accepts_gzip(headers: httputil.HTTPHeaders) -> bool:
    """Tell whether the client takes gzip (a quality of 0 means it does not)."""
    if "Accept-Encoding" not in headers:
        return False
    for item in headers["Accept-Encoding"].lower().split(","):
        name, _, quality = item.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return not _ZERO_QUALITY.fullmatch(quality.strip())
    return False


def _charged(market: Market, target: str) -> int:
    path, _, query = target.partition("?")
    return charge(market, "GET", path, query).weight


@lru_cache(maxsize=4096)
def _weight(target: str) -> int:
    return _charged(PATHS[target.partition("?")[0]].market, target)


def saved_weight(route: Route) -> int:
    """Return what a call answered here would have cost."""
    target = route.target
    if len(target) > _MAX_REMEMBERED or route.path not in PATHS or "signature" in target:
        return _charged(route.market, target)
    return _weight(target)


def ask_cache(
    cache: MarketCache | Asks | None,
    path: str,
    route: Route,
    headers: httputil.HTTPHeaders,
    consent: Mapping[str, int],
) -> Outcome:
    """Ask the cache, or the worker that has it, for a call on one of its paths.

    Shape: `path` as `cached_path` tells; `consent` tells how old answers may be, by path, see `max_age_ms`.
    """
    assert cache is not None
    reason = bypass_reason(headers.get_all())
    if reason is not None:
        cache.count_miss(reason)
        return Miss(reason)
    age_ms = 0
    if route.path in CONSENT_PATHS:
        age_ms = max_age_ms(route.path, headers.get_all(), consent) or 0
    query = route.target.partition("?")[2]
    return cache.ask(path, query, packed=accepts_gzip(headers), max_age_ms=age_ms)


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
    used_weight: Mapping[str, str],
    hit: Hit,
    *,
    version: str,
    extra: Pairs | None = None,
) -> int:
    """Write an answer out of memory; return the bytes of its body.

    Shape: `market` is None for `/local/...`; `used_weight` by pool, see `EgressPool`; `version` is that
        of the client's HTTP.
    """
    body = hit.body if hit.packed is None else hit.packed
    _begin(connection, _head(market, used_weight, hit, len(body), extra), body, connection.is_kept, version)
    connection.finish()
    return len(body)


async def write_pieces(
    connection: ClientConnection, pieces: Pieces, hit: Hit, *, version: str, extra: Pairs | None = None
) -> int:
    """Write an answer of `/local/...` in pieces, as fast as the client takes it; return its bytes.

    Raises: StreamClosedError if the client leaves.
    """
    _begin(connection, _head(None, {}, hit, pieces.size, extra), b"", connection.is_kept, version)
    for piece in pieces:
        written = connection.write(piece)
        if not written.done() and not (await asyncio.wait({written}, timeout=_PATIENCE_S))[0]:
            connection.stream.close()  # it takes nothing any more and holds rows in memory
        await written
        await next_turn()  # a client that takes it all at once does not keep the others waiting
    connection.finish()
    return pieces.size


def _head(
    market: Market | None, used_weight: Mapping[str, str], hit: Hit, size: int, extra: Pairs | None
) -> str:
    # In order and all our own: Tornado's checks of each header cost more than the rest of a hit.
    head = (
        f"Content-Type: {hit.content_type}\r\nVary: Accept-Encoding\r\n"
        f"Date: {_DATE.now()}\r\n{AGE_HEADER}: {hit.age_ms}\r\nContent-Length: {size}\r\n"
    )
    if market is not None:  # a call as Binance knows it, not one of /local
        head += f"{CACHE_HEADER}: hit\r\n"
        if (weight := used_weight.get(POOLS[market])) is not None:
            if market is Market.SPOT:  # futures send one of them
                head += f"x-mbx-used-weight: {weight}\r\n"
            head += f"x-mbx-used-weight-1m: {weight}\r\n"
    if hit.packed is not None:
        head += "Content-Encoding: gzip\r\n"
    for name, value in extra or ():
        head += f"{name}: {value}\r\n"
    return head


def _begin(connection: ClientConnection, head: str, body: bytes, is_kept: bool, version: str) -> None:
    if version == "HTTP/1.1" and is_kept:
        head += f"Keep-Alive: {connection.keep_alive}\r\n"
        connection.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode("latin-1") + body)
    else:
        pairs = [
            (name, value)
            for name, _, value in (state.partition(": ") for state in head.split("\r\n") if state)
        ]
        connection.write_headers(_OK, cast(Any, WireHeaders(pairs)), body)
