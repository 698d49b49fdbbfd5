"""From a request target to a route: which market, and which path there.

It decides nothing about access and opens nothing. The upstream host is never read from the
request: a route names a `Market`, and the upstream layer owns one fixed host for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from resender.core.binance.markets import BY_MARKET, BY_PREFIX, MARKETS, REST_NAMES, Market
from resender.errors import BadRequest, RouteError

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})

# Drop-in form: the first segment of Binance's own path names the market. /futures/data exists on
# both futures hosts; without a prefix it goes to USD-M.
_DROP_IN: dict[str, Market] = {root: facts.market for facts in reversed(MARKETS) for root in facts.roots}


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes.

    Shape: `target` is the upstream request target, path and query, byte for byte as the client
        sent them (latin-1 text, as Tornado reads it); `path` is its path.
    """

    market: Market
    target: str
    path: str


def resolve(target: str) -> Route:
    """Resolve all URL shapes.

    Shape: Binance's own host name in front, with any port: `/fapi.binance.com/fapi/v1/klines?...`;
        prefix form `/fapi/fapi/v1/klines?...`, `/api/sapi/v1/...`, `/fapi/futures/data/...`;
        drop-in form `/fapi/v1/klines?...`, `/sapi/v1/...`, `/futures/data/...`. A second segment
        `v<digits>` tells drop-in from prefix form. Slashes in front, and behind a prefix, are taken
        as one, as a base URL that ends in a slash produces them.
    Raises: RouteError for anything else; BadRequest for an absolute URL, a fragment or a dot segment.
    """
    if not target.startswith("/"):
        raise BadRequest(
            "The request target must be a path. Binance Resender is a gateway, not an HTTP proxy: "
            "use its address as the base URL."
        )
    path, mark, query = target.partition("?")
    if "#" in path:
        raise BadRequest("A path cannot contain '#'.")
    path = "/" + path.lstrip("/")
    segments = path.split("/", 3)  # ["", first, second, rest]
    first = segments[1]
    second = segments[2] if len(segments) > 2 else ""
    if has_dot_segment(path):
        raise BadRequest("A path cannot contain '.' or '..' segments.")
    if "." in first:
        return _of_name(first, path[len(first) + 1 :], mark + query)
    if second[:1] == "v" and second[1:].isascii() and second[1:].isdigit():
        market = _DROP_IN.get(first)
        if market is None or first == "futures":
            raise RouteError("Unknown route.")
        return Route(market, path + mark + query, path)
    if first == "futures":
        if second != "data" or len(segments) < 4:
            raise RouteError("Unknown route.")
        return Route(Market.UM, path + mark + query, path)
    facts = BY_PREFIX.get(first)
    if facts is not None and not second and len(segments) > 3:
        # `/fapi//fapi/v1/time`: a base URL that ends in a slash.
        path = f"/{first}/{segments[3].lstrip('/')}"
        segments = path.split("/", 3)
        second = segments[2]
    if facts is None or second not in facts.roots or len(segments) < 4:
        raise RouteError("Unknown route.")
    path = path[len(first) + 1 :]
    return Route(facts.market, path + mark + query, path)


def _of_name(name: str, path: str, query: str) -> Route:
    """Resolve a path behind one of Binance's host names; the name chooses a market and nothing else."""
    host, colon, port = name.partition(":")
    market = REST_NAMES.get(host.lower())
    if market is None or (colon and not (port.isascii() and port.isdigit() and len(port) <= 5)):
        raise RouteError("Unknown route.")
    path = "/" + path.lstrip("/")
    root, slash, _ = path[1:].partition("/")
    if not slash or root not in BY_MARKET[market].roots:
        raise RouteError("Unknown route.")
    return Route(market, path + query, path)


def has_dot_segment(path: str) -> bool:
    """Tell whether a segment is `.` or `..`, percent-encoded or not."""
    if "." not in path and "%2" not in path:
        return False
    decoded = path.replace("%2e", ".").replace("%2E", ".")
    return any(segment in (".", "..") for segment in decoded.split("/"))


def encode_high_bytes(target: str) -> str:
    """Percent-encode the bytes above 0x7f of a target, and nothing else.

    Shape: in, latin-1 text with one character for each byte received; out, ASCII.
    """
    return "".join(c if c < "\x80" else f"%{ord(c):02X}" for c in target)


def has_signature(target: str, body: bytes) -> bool:
    """Tell whether a call carries a `signature` parameter in its query or form body."""
    query = target.partition("?")[2]
    if any(pair.startswith("signature=") for pair in query.split("&")):
        return True
    return body.startswith(b"signature=") or b"&signature=" in body
