"""`/local/{market}/klines` with `closed=true`: closed rows only, waiting for a close if asked to.

It reads what a call wants and puts the answer together; waiting is `market/kinds/closes.py`. Stateless.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.market.requests import SYMBOL
from resender.errors import BadRequest, NotReady
from resender.market import MAX_WAIT_MS, Closes, Hit, Klines, MarketCache, wait_for_closes, worth_packing
from resender.web.answers import CLOSE_HEADER, PENDING_HEADER

_MAX_NAMES_BYTES = 4000
_MAX_SYMBOLS = 2000
_TRUE, _FALSE = ("true", "1"), ("false", "0")
# What a JSON body may hold; the query takes the same names.
FIELDS = frozenset({"symbol", "symbols", "interval", "limit", "closed", "wait", "all", "detail", "since"})


@dataclass(frozen=True, slots=True)
class ClosedOptions:
    """What a call for closed rows wants beside symbols, interval and limit.

    Units: `wait_ms` milliseconds after the close, `since_ms` epoch milliseconds of an open time.
    """

    wait_ms: int = 0
    since_ms: int | None = None
    is_all_needed: bool = False
    is_detailed: bool = False


def read_flag(params: dict[str, str], name: str) -> bool:
    """Take a flag out of the parameters. Raises: BadRequest."""
    text = params.pop(name, "false").lower()
    if text not in _TRUE + _FALSE:
        raise BadRequest(f"`{name}` must be true or false.")
    return text in _TRUE


def read_number(params: dict[str, str], name: str, most: int) -> int | None:
    """Take a whole number out of the parameters, None if it is not there. Raises: BadRequest."""
    text = params.pop(name, None)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) <= most):
        raise BadRequest(f"`{name}` must be a whole number from 0 to {most}.")
    return int(text)


def read_closed(params: dict[str, str]) -> ClosedOptions | None:
    """Take what concerns closed rows out of the parameters; None if the call does not want them.

    Raises: BadRequest.
    """
    is_closed = read_flag(params, "closed")
    wait_ms = read_number(params, "wait", MAX_WAIT_MS)
    since_ms = read_number(params, "since", 10**15 - 1)
    is_all_needed, is_detailed = read_flag(params, "all"), read_flag(params, "detail")
    if is_closed:
        return ClosedOptions(wait_ms or 0, since_ms, is_all_needed, is_detailed)
    if wait_ms is not None or since_ms is not None or is_all_needed or is_detailed:
        raise BadRequest("`wait`, `since`, `all` and `detail` need `closed=true`.")
    return None


def read_body(body: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read the JSON body of a POST: the parameters as a query would have them, and the symbols.

    Raises: BadRequest.
    """
    try:
        values: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(values, dict) or not values.keys() <= FIELDS:
        raise BadRequest(f"The body must be an object with some of: {', '.join(sorted(FIELDS))}.")
    symbols = values.pop("symbols", [])
    if not isinstance(symbols, list) or not all(isinstance(each, str) for each in symbols):
        raise BadRequest("`symbols` must be a list of symbols.")
    if len(symbols) > _MAX_SYMBOLS or len(set(symbols)) != len(symbols):
        raise BadRequest(f"`symbols` must hold at most {_MAX_SYMBOLS} symbols, none twice.")
    if not all(SYMBOL.fullmatch(each) for each in symbols):
        raise BadRequest("`symbols` holds what is no symbol.")
    params = {}
    for name, value in values.items():
        if isinstance(value, bool):
            params[name] = "true" if value else "false"
        elif isinstance(value, (str, int)):
            params[name] = str(value)
        else:
            raise BadRequest(f"`{name}` must be a text, a whole number, true or false.")
    return params, tuple(symbols)


async def answer_closed(
    cache: MarketCache,
    market: Market,
    symbols: tuple[str, ...],
    interval: str,
    limit: int,
    options: ClosedOptions,
    *,
    is_single: bool,
    packed: bool,
) -> tuple[Hit, Pairs]:
    """Answer with the closed rows of some series.

    Shape: rows of one symbol as Binance sends them, or an object of symbol to rows; with `detail`
        {"close":..,"settled":[..],"pending":{symbol: reason},"klines":{..}}.
    Raises: NotReady if nothing can be answered, or not all of what is needed.
    """
    klines = cache.states[market].kind(Klines)
    found = await wait_for_closes(
        klines, symbols, interval, limit=limit, wait_ms=options.wait_ms, since_ms=options.since_ms
    )
    if found.pending and (is_single or options.is_all_needed):
        first, reason = next(iter(found.pending.items()))
        more = f" and {len(found.pending) - 1} more" if len(found.pending) > 1 else ""
        raise NotReady(f"{first}{more} {interval} is not settled: {reason}.")
    body = _body(found, is_single=is_single, is_detailed=options.is_detailed)
    server = cache.states[market].facts
    age_ms = max(0, server.now_ms() - found.close_ms) if found.close_ms else 0
    extra: Pairs = [(CLOSE_HEADER, str(found.close_ms))]
    if found.pending:
        extra.append((PENDING_HEADER, names_in_a_header(found.pending)))
    is_worth = packed and worth_packing(len(body))
    gz = await asyncio.to_thread(gzip.compress, body, 1) if is_worth else None
    return Hit(b"" if gz is not None else body, gz, age_ms), extra


def names_in_a_header(names: Mapping[str, Any]) -> str:
    """Join symbols for a header: ASCII, and not too long."""
    text = ",".join(name.encode("ascii", "backslashreplace").decode() for name in names)
    return text if len(text) <= _MAX_NAMES_BYTES else text[:_MAX_NAMES_BYTES].rpartition(",")[0] + ",..."


def _body(found: Closes, *, is_single: bool, is_detailed: bool) -> bytes:
    rows = b",".join([orjson.dumps(name) + b":[" + each + b"]" for name, each in found.rows.items()])
    if is_detailed:
        return b'{"close":%d,"settled":%b,"pending":%b,"klines":{%b}}' % (
            found.close_ms, orjson.dumps(list(found.rows)), orjson.dumps(found.pending), rows,
        )  # fmt: skip
    if is_single:
        return b"[" + next(iter(found.rows.values())) + b"]"
    return b"{" + rows + b"}"
