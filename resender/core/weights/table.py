"""What every call to Binance costs: the one table of endpoint weights.

Pure: a lookup by method and path, and for some paths by the query. It counts nothing and keeps
nothing; the budget does. The figures are in `spot.py` and its siblings, with sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from resender.core.binance.markets import Market
from resender.core.weights import futures, options_pm, sapi, sapi_products, spot
from resender.core.weights.rules import Charge, Rule, build

__all__ = ["EXTRA_LIMITS", "Charge", "RateLimit", "charge", "read_rate_limits"]

SPOT_POOL = "spot"
FUTURES_POOL = "futures"
OPTIONS_POOL = "options"
PM_POOL = "pm"
# The WebSocket API of USD-M has a limit of its own; those of spot and COIN-M share that of REST.
WS_UM_POOL = "ws_um"
# Each sapi path has a counter of its own, by IP (12,000 a minute) or by user (180,000).
# Source: Binance's developer forum, topic 9275, "Request limit on the API endpoints".
SAPI_POOL = "sapi:"
SAPI_UID_POOL = "sapi-uid:"
# Paths the table does not know share one counter: their names come from outside.
UNKNOWN_SAPI_POOL = "sapi:*"
POOL_OF: dict[Market, str] = {
    Market.SPOT: SPOT_POOL,
    Market.UM: FUTURES_POOL,
    Market.CM: FUTURES_POOL,
    Market.OPTIONS: OPTIONS_POOL,
    Market.PM: PM_POOL,
}
FIVE_MINUTES_MS = 300_000
# The further counters a `Charge.extra` may name: calls allowed and the window.
EXTRA_LIMITS: dict[str, tuple[int, int]] = {
    "um-funding": (500, FIVE_MINUTES_MS),
    "futures-data": (1000, FIVE_MINUTES_MS),
}

# An /api path that is not in the table: reading lists costs 20 there, and a new path is likelier
# one of those than a cheap one. Elsewhere 1, the weight of most futures calls.
_UNKNOWN_SPOT_READ = 20
_UNKNOWN = 1
_ORDER_WORDS = re.compile(r"order|oco|cancelall", re.IGNORECASE)
_READS = ("GET", "HEAD")

Entries = dict[str, dict[str, Charge | Rule]]


def _lines(text: str, root: str = "") -> Iterator[tuple[str, str, str, frozenset[str]]]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            method, path, weight, *words = line.split()
            yield method, root + path, weight, frozenset(words)


def table_lines() -> Iterator[tuple[str, str, str, str, frozenset[str]]]:
    """List the tables line by line: method, path, weight, pool, words."""
    for text, root, pool in (
        (spot.TABLE, spot.ROOT, SPOT_POOL),
        (futures.BOTH.replace("/*/", "/fapi/"), "", FUTURES_POOL),
        (futures.BOTH.replace("/*/", "/dapi/"), "", FUTURES_POOL),
        (futures.UM + futures.CM + futures.DATA, "", FUTURES_POOL),
        (options_pm.OPTIONS, options_pm.OPTIONS_ROOT, OPTIONS_POOL),
        (options_pm.PM, options_pm.PM_ROOT, PM_POOL),
    ):
        for method, path, weight, words in _lines(text, root):
            yield method, path, weight, pool, words
    all_sapi = sapi.TABLE + sapi_products.TABLE
    for method, path, weight, words in _lines(all_sapi, sapi.ROOT):
        yield method, path, weight, (SAPI_UID_POOL if "uid" in words else SAPI_POOL) + path, words


def _entry(weight: str, pool: str, words: frozenset[str]) -> Charge | Rule:
    counter = next((name for name in EXTRA_LIMITS if name in words), None)
    extra = None if counter is None else (counter, 1)
    return build(weight, lambda value: Charge(value, pool, extra, "order" in words, "public" in words))


def _table() -> Entries:
    table: Entries = {method: {} for method in ("GET", "POST", "PUT", "DELETE")}
    for method, path, weight, pool, words in table_lines():
        table[method][path] = _entry(weight, pool, words)
    table["HEAD"] = table["GET"]
    return table


_TABLE = _table()


def charge(
    market: Market, method: str, path: str, query: str, has_body: bool = False, body: bytes = b""
) -> Charge:
    """Return what a call is charged.

    Shape: `path` without the market's prefix, `query` as received; POST, PUT and DELETE may carry
        parameters in their `body`. Where there is one that is not passed, the dearest weight
        counts; for paths metered by user it does not, as users are counted together anyway.
    """
    found = _TABLE[method].get(path)
    if found.__class__ is Charge:
        return found
    if found is None:
        return _charge_unknown(market, method, path, query, has_body)
    assert isinstance(found, Rule)
    if has_body and method not in _READS:
        if body:
            query = f"{query}&{body.decode('latin-1')}"
        elif not found.dearest.pool.startswith(SAPI_UID_POOL):
            return found.dearest
    return found.read(query)


def _charge_unknown(market: Market, method: str, path: str, query: str, has_body: bool) -> Charge:
    # Spellings Binance may take for a known path.
    plain = "/" + "/".join(part for part in unquote(path).split("/") if part)
    if plain != path and plain in _TABLE[method]:
        return charge(market, method, plain, query, has_body)
    is_read = method in _READS
    is_order = not is_read and _ORDER_WORDS.search(plain) is not None
    if plain.startswith("/sapi/"):
        return Charge(_UNKNOWN, UNKNOWN_SAPI_POOL, None, is_order)
    if plain.startswith("/futures/data/"):
        return Charge(_UNKNOWN, FUTURES_POOL, ("futures-data", 1))
    weight = _UNKNOWN_SPOT_READ if market is Market.SPOT and is_read else _UNKNOWN
    return Charge(weight, POOL_OF[market], None, is_order)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit as exchangeInfo tells it; `kind` is REQUEST_WEIGHT, RAW_REQUESTS or ORDERS."""

    kind: str
    window_ms: int
    limit: int


_UNIT_MS = {"SECOND": 1000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}


def read_rate_limits(exchange_info: dict[str, Any]) -> list[RateLimit]:
    """Read the limits of an exchangeInfo answer; what is not understood is left out."""
    rows = exchange_info.get("rateLimits") if isinstance(exchange_info, dict) else None
    found: list[RateLimit] = []
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        kind, unit = row.get("rateLimitType"), _UNIT_MS.get(str(row.get("interval")).upper())
        number, limit = row.get("intervalNum", 1), row.get("limit")
        if (
            isinstance(kind, str)
            and unit is not None
            and type(number) is int
            and type(limit) is int
            and number > 0
            and limit > 0
        ):
            found.append(RateLimit(kind, unit * number, limit))
    return found
