"""Reading and judging request parameters the way Binance does.

Pure functions; an unacceptable parameter is an `ApiError`. Spot is strict about names
and letters, the futures hosts let unknown names pass.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import orjson

from .model import ApiError, Context, Params, Route
from .signing import illegal, mandatory

_ALWAYS = {"timestamp", "recvWindow", "signature"}
_DIGITS = re.compile(r"[0-9]{1,20}")
_SYMBOL_LEGAL = r"^[\w\-._&&[^a-z]]{1,50}$"


def split_pairs(raw: str) -> list[tuple[str, str]]:
    """Split a query or form body into decoded pairs, empty ones left out."""
    pairs = []
    for part in raw.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value)))
    return pairs


def read_params(query: str, body: str, is_spot: bool) -> tuple[Params, ApiError | None]:
    """Merge query and body, the query winning.

    Shape: the error is returned, not raised, because the call is weighed in any case.
    """
    in_query, in_body = split_pairs(query), split_pairs(body)
    params = dict(in_body)
    params.update(in_query)
    for pairs in (in_query, in_body):
        if is_spot and len({name for name, _ in pairs}) != len(pairs):
            return params, ApiError(-1101, "Duplicate values for a parameter detected.")
    return params, None


def check_names(route: Route, params: Params, is_spot: bool) -> None:
    """Refuse what the route does not read (spot) or lacks (everywhere)."""
    for name in route.required:
        if name not in params:
            raise mandatory(name)
        if not params[name]:
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
    if not is_spot or route.params is None:
        return
    known = set(route.params) | (_ALWAYS if route.security == "signed" else set())
    if not known and params:
        raise ApiError(-1101, f"Too many parameters; expected '0' and received '{len(params)}'.")
    read = sum(1 for name in params if name in known)
    if read < len(params):
        raise ApiError(
            -1104,
            f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(params)}'.",
        )


def is_spot_symbol(text: str) -> bool:
    """Tell whether spot accepts the letters of a symbol (no a-z, at most 50)."""
    return 0 < len(text) <= 50 and all(
        (char.isalnum() or char in "_-.") and not "a" <= char <= "z" for char in text
    )


def check_spot_symbol(text: str, name: str = "symbol") -> str:
    """Return the symbol or raise -1100."""
    if not is_spot_symbol(text):
        raise illegal(name, _SYMBOL_LEGAL)
    return text


def read_symbols(text: str) -> list[str]:
    """Read spot's `symbols`: compact JSON, upper case, no repetition.

    Raises: ApiError -1100 for blanks, lower case or no JSON, -1151 for duplicates.
    """
    legal = r"^\[(\"[\w\-._&&[^a-z]]{1,50}\"(,\"[\w\-._&&[^a-z]]{1,50}\"){0,}){0,1}\]$"
    if " " in text:
        raise illegal("symbols", legal)
    try:
        names = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise illegal("symbols", legal) from None
    if not isinstance(names, list) or not all(isinstance(n, str) and is_spot_symbol(n) for n in names):
        raise illegal("symbols", legal)
    if not names:
        raise ApiError(-1102, "Mandatory parameter 'symbols' was not sent, was empty/null, or malformed.")
    if len(set(names)) != len(names):
        raise ApiError(-1151, "Symbol is present multiple times in the list.")
    return names


def read_time(ctx: Context, name: str) -> int | None:
    """Return a time parameter in milliseconds, None when it was not sent."""
    text = ctx.get(name)
    if not text:
        return None
    if not _DIGITS.fullmatch(text):
        raise illegal(name, "^[0-9]{1,20}$")
    value = int(text)
    return value // 1000 if value >= 10**15 else value


def read_number(ctx: Context, name: str) -> int | None:
    """Return a number such as an id, None when it was not sent."""
    text = ctx.get(name)
    if not text:
        return None
    if not _DIGITS.fullmatch(text):
        raise illegal(name, "^[0-9]{1,20}$")
    return int(text)


def read_limit(ctx: Context, default: int, maximum: int, clamp: bool) -> int:
    """Return the limit; above the maximum spot clamps and futures refuse with -1130."""
    text = ctx.get("limit")
    if not text:
        return default
    if not _DIGITS.fullmatch(text):
        if clamp:
            raise illegal("limit", "^[0-9]{1,20}$")
        raise mandatory("limit")
    value = int(text)
    if value < 1 or (value > maximum and not clamp):
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(value, maximum)
