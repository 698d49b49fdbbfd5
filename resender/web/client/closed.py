"""`/local/{market}/klines` with `closed=true`: closed rows only, waiting for a close if asked to.

It reads what a call wants and puts the answer together; waiting is `market/kinds/closes.py`, and what is
kept of answers is the cache's. Stateless.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.market.npy import npy_head, npy_rows
from resender.core.market.requests import SYMBOL
from resender.core.market.row_store import Buffer
from resender.errors import BadRequest, NotReady
from resender.market import (
    MAX_WAIT_MS,
    Closes,
    Hit,
    Joined,
    JoinedAnswers,
    Klines,
    MarketCache,
    Pieces,
    holds,
    wait_for_closes,
    worth_packing,
)
from resender.turns import next_turn
from resender.web.answers import CLOSE_HEADER, JSON_ANSWER, NPY_ANSWER, PENDING_HEADER, SYMBOLS_HEADER

_MAX_NAMES_BYTES = 4000
_MAX_SYMBOLS = 2000
# Answers about so many series are kept for the next equal call.
_MANY = 50
# More is written in pieces: as a whole it takes milliseconds.
_AT_ONCE_BYTES = 512 << 10
# So many rows are turned into numbers before other calls get their turn.
_NPY_ROWS = 100
_TRUE, _FALSE = ("true", "1"), ("false", "0")
# What a JSON body may hold; the query takes the same names.
FIELDS = frozenset(
    {"symbol", "symbols", "interval", "limit", "closed", "wait", "all", "detail", "since", "format"}
)
_FORMATS = ("json", "npy")


@dataclass(frozen=True, slots=True)
class ClosedOptions:
    """What a call for closed rows wants beside symbols, interval and limit.

    Units: `wait_ms` milliseconds after the close, `since_ms` epoch milliseconds of an open time.
    """

    wait_ms: int = 0
    since_ms: int | None = None
    is_all_needed: bool = False
    is_detailed: bool = False
    is_npy: bool = False


@dataclass(frozen=True, slots=True)
class _Notes:
    """What is said beside the rows of an answer."""

    close_ms: int
    pending: dict[str, str]
    settled: tuple[str, ...]


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
    form = params.pop("format", "json")
    if form not in _FORMATS:
        raise BadRequest(f"`format` must be one of {', '.join(_FORMATS)}.")
    is_npy = form == "npy"
    if is_npy and is_detailed:
        raise BadRequest("`detail` belongs to JSON, not to `format=npy`.")
    if is_closed:
        return ClosedOptions(wait_ms or 0, since_ms, is_all_needed, is_detailed, is_npy)
    if wait_ms is not None or since_ms is not None or is_all_needed or is_detailed or is_npy:
        raise BadRequest("`wait`, `since`, `all`, `detail` and `format=npy` need `closed=true`.")
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
    params: dict[str, str] = {}
    symbols = values.pop("symbols", None)
    if symbols == "all":
        params["symbols"] = symbols
    if symbols is None or symbols == "all":
        symbols = []
    elif symbols == []:
        raise BadRequest("`symbols` holds no symbol.")
    if not isinstance(symbols, list) or not all(isinstance(each, str) for each in symbols):
        raise BadRequest('`symbols` must be a list of symbols, or "all".')
    if len(symbols) > _MAX_SYMBOLS or len(set(symbols)) != len(symbols):
        raise BadRequest(f"`symbols` must hold at most {_MAX_SYMBOLS} symbols, none twice.")
    if not all(SYMBOL.fullmatch(each) for each in symbols):
        raise BadRequest("`symbols` holds what is no symbol.")
    for name, value in values.items():
        if isinstance(value, bool):
            params[name] = "true" if value else "false"
        elif isinstance(value, (str, int)):
            params[name] = str(value)
        else:
            raise BadRequest(f"`{name}` must be a text, a whole number, true or false.")
    return params, tuple(symbols)


@dataclass(frozen=True, slots=True)
class ClosedCall:
    """A call for the closed rows of some series, `limit` rows of each at most.

    Shape: `is_all` means all that are held, `is_single` that the answer is the rows of the one symbol.
    """

    symbols: tuple[str, ...]
    interval: str
    limit: int
    options: ClosedOptions
    is_all: bool = False
    is_single: bool = False


async def answer_closed(
    cache: MarketCache, market: Market, call: ClosedCall, *, packed: bool
) -> tuple[Hit, Pairs]:
    """Answer with the closed rows of some series.

    Shape: rows of one symbol as Binance sends them, or an object of symbol to rows; with `detail`
        {"close":..,"settled":[..],"pending":{symbol: reason},"klines":{..}}; or an array of numbers.
    Raises: NotReady if nothing can be answered, or not all of what is needed.
    """
    klines, joined = cache.states[market].kind(Klines), cache.joined
    options = call.options
    may_keep = call.is_all or len(call.symbols) >= _MANY
    key = (market, call.interval, call.limit, options, call.is_all or call.symbols)
    answer = joined.get(key) if may_keep else None
    if answer is not None and not _is_usable(klines, call, answer, packed):
        answer = None
    if answer is None:
        found = await wait_for_closes(
            klines,
            call.symbols,
            call.interval,
            limit=call.limit,
            wait_ms=options.wait_ms,
            since_ms=options.since_ms,
        )
        _refuse_pending(call, found.pending)
        if call.is_all and call.symbols != klines.symbols_of(call.interval):
            found.stamp = None  # there are others by now
        if may_keep and found.stamp is not None:
            async with joined.making(key):
                answer = await _make(call, found, joined, key, packed)
        else:
            answer = Joined(await _parts(call, found), found.stamp, _notes(found))
    else:
        klines.use(call.symbols, call.interval)
        _refuse_pending(call, answer.notes.pending)
    return await _hit(cache, klines, call, answer, packed)


async def _make(
    call: ClosedCall, found: Closes, joined: JoinedAnswers, key: Hashable, packed: bool
) -> Joined:
    """Make an answer and keep it, unless an equal call has just made it."""
    answer = joined.get(key)
    is_same = answer is not None and (answer.stamp, answer.notes) == (found.stamp, _notes(found))
    if answer is not None and is_same and (packed or answer.pieces is not None):
        return answer
    made = Joined(await _parts(call, found), found.stamp, _notes(found))
    if not is_same and (packed or made.is_light):
        joined.keep(key, made)
    return made


def _notes(found: Closes) -> _Notes:
    return _Notes(found.close_ms, found.pending, tuple(found.rows))


def _is_usable(klines: Klines, call: ClosedCall, answer: Joined, packed: bool) -> bool:
    if answer.pieces is None and not packed:
        return False
    wait_ms = call.options.wait_ms
    # Who waits, waits for what is pending.
    return not (wait_ms and answer.notes.pending) and holds(
        klines, call.interval, answer.stamp, wait_ms=wait_ms
    )


def _refuse_pending(call: ClosedCall, pending: Mapping[str, str]) -> None:
    if pending and (call.is_single or call.options.is_all_needed):
        first, reason = next(iter(pending.items()))
        more = f" and {len(pending) - 1} more" if len(pending) > 1 else ""
        raise NotReady(f"{first}{more} {call.interval} is not settled: {reason}.")


async def _hit(
    cache: MarketCache, klines: Klines, call: ClosedCall, answer: Joined, packed: bool
) -> tuple[Hit, Pairs]:
    notes: _Notes = answer.notes
    age_ms = max(0, klines.facts.now_ms() - notes.close_ms) if notes.close_ms else 0
    extra: Pairs = [(CLOSE_HEADER, str(notes.close_ms))]
    if notes.pending:
        extra.append((PENDING_HEADER, names_in_a_header(notes.pending)))
    content_type = JSON_ANSWER
    if call.options.is_npy:
        content_type = NPY_ANSWER
        extra += [(SYMBOLS_HEADER, line) for line in _lines(notes.settled)]
    pieces = answer.pieces
    if packed and (pieces is None or worth_packing(pieces.size)):
        if pieces is not None and not answer.is_kept:
            body = await cache.joined.pack_once(pieces)
        else:
            body = await cache.joined.packed(answer)
        return Hit(b"", body, age_ms, content_type=content_type), extra
    assert pieces is not None
    return hit_of(pieces, age_ms, content_type), extra


def hit_of(pieces: Pieces, age_ms: int, content_type: str = JSON_ANSWER) -> Hit:
    """Return what is written for an answer that is not compressed: all at once unless that takes long."""
    if pieces.size <= _AT_ONCE_BYTES:
        return Hit(pieces.join(), None, age_ms, content_type=content_type)
    return Hit(b"", None, age_ms, pieces, content_type=content_type)


def names_in_a_header(names: Iterable[str]) -> str:
    """Join symbols for a header: ASCII, and not too long."""
    text = ",".join(name.encode("ascii", "backslashreplace").decode() for name in names)
    return text if len(text) <= _MAX_NAMES_BYTES else text[:_MAX_NAMES_BYTES].rpartition(",")[0] + ",..."


def _lines(names: Iterable[str]) -> list[str]:
    """Spread symbols over lines a header may have, each percent-encoded, joined by commas."""
    lines, line = [], ""
    for name in names:
        text = quote(name, safe="")
        if line and len(line) + len(text) >= _MAX_NAMES_BYTES:
            lines.append(line)
            line = ""
        line = f"{line},{text}" if line else text
    return [*lines, line]


async def _parts(call: ClosedCall, found: Closes) -> list[Buffer]:
    """Put an answer together, in slices: a whole market takes its time."""
    if call.options.is_npy:
        return await _npy_parts(found)
    if call.is_single:
        return [b"[", *next(iter(found.rows.values())), b"]"]
    parts: list[Buffer] = [b"{"]
    if call.options.is_detailed:
        parts[0] = b'{"close":%d,"settled":%b,"pending":%b,"klines":{' % (
            found.close_ms, orjson.dumps(list(found.rows)), orjson.dumps(found.pending),
        )  # fmt: skip
    before = b""
    for name, rows in found.rows.items():
        parts += (before + orjson.dumps(name) + b":[", *rows)
        before = b"],"
    parts.append(b"]}" if found.rows else b"}")
    if call.options.is_detailed:
        parts.append(b"}")
    return parts


async def _npy_parts(found: Closes) -> list[Buffer]:
    """Turn rows into numbers, one series after the other: as objects they take ten times the memory."""
    most = max(found.counts, default=0)
    parts: list[Buffer] = [npy_head(len(found.rows), most)]
    since = 0
    for views in found.rows.values():
        parts.append(npy_rows(orjson.loads(b"".join((b"[", *views, b"]"))), most))
        since += most
        if since >= _NPY_ROWS:
            since = 0
            await next_turn()
    return parts
