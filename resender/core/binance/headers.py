"""Which headers pass, in both directions.

It works on lists of pairs and does no I/O. Upwards only what Binance reads passes (an address
of the client in a header nobody has heard of can therefore not leak); downwards everything
passes but what belongs to one connection or to the upstream host's own browser policy.
Source: RFC 9110 section 7.6.1 (hop by hop); Binance's general info pages of 2026-07-21.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from resender.errors import BadRequest

Pairs = list[tuple[str, str]]

# Tornado rewrites header names ("X-Mbx-Apikey"); going up they get their documented spelling.
_UP: dict[str, str] = {
    "accept": "Accept",
    "accept-language": "Accept-Language",
    "cache-control": "Cache-Control",
    "content-encoding": "Content-Encoding",
    "content-type": "Content-Type",
    "if-modified-since": "If-Modified-Since",
    "if-none-match": "If-None-Match",
    "pragma": "Pragma",
    "user-agent": "User-Agent",
    "x-mbx-apikey": "X-MBX-APIKEY",
    "x-mbx-time-unit": "X-MBX-TIME-UNIT",
    "x-mbx-sbe": "X-MBX-SBE",
}
# They only describe the client.
_DESCRIPTIVE = frozenset({"user-agent", "accept", "accept-language", "accept-encoding"})
_UP_PREFIXES = ("x-mbx-", "x-sapi-")

_DOWN_DROPPED = frozenset(
    {
        # of one connection
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # of the upstream's host, wrong for ours
        "set-cookie",
        "set-cookie2",
        "strict-transport-security",
        "alt-svc",
        "public-key-pins",
        "clear-site-data",
    }
)
# What a `Connection` header may name without any effect: the usual words, and what must arrive.
_NEVER_HOP_BY_HOP = frozenset(
    {"keep-alive", "close", "content-length", "content-type", "content-encoding", "retry-after", "date"}
)
# Ours alone: an upstream cannot pretend to be the gateway. And no page of another site may read
# through it: Binance sends `Access-Control-Allow-Origin: *`.
_DOWN_DROPPED_PREFIXES = ("x-resender-", "access-control-", "timing-allow-origin")


def headers_up(received: Iterable[tuple[str, str]], default_user_agent: str) -> Pairs:
    """Choose the headers that go to Binance.

    Shape: pairs as received, any case, repeated names allowed. The result always holds one
        `Accept-Encoding` (`identity` when the client named none, so that a body never comes in
        an encoding the client did not ask for) and a `User-Agent`.
    Raises: BadRequest for a value that cannot be written as it came.
    """
    out: Pairs = []
    encodings: list[str] = []
    has_agent = False
    for name, value in received:
        lower = name.lower()
        wire = _UP.get(lower)
        if wire is not None:
            out.append((wire, _as_sent(name, value)))
            if wire == "User-Agent":
                has_agent = True
        elif lower == "accept-encoding":
            encodings.append(_as_sent(name, value))
        elif lower.startswith(_UP_PREFIXES):
            out.append((name.upper(), _as_sent(name, value)))
    out.append(("Accept-Encoding", ", ".join(e for e in encodings if e.strip()) or "identity"))
    if not has_agent:
        out.append(("User-Agent", default_user_agent))
    return out


def _as_sent(name: str, value: str) -> str:
    """Return the text that is written as the bytes received: the HTTP client encodes it as UTF-8."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        if name.lower() in _DESCRIPTIVE:
            return value.encode("ascii", "ignore").decode()  # no call fails for the name of its client
        raise BadRequest(f"The header {name[:50]} holds bytes that are not UTF-8.") from None


@lru_cache(maxsize=2048)
def _down_name(raw: bytes) -> tuple[str, bool, bool]:
    """Return a name's text, whether it is dropped, and whether it is `Connection`.

    The few names there are come with every answer.
    """
    name = raw.decode("latin-1")
    lower = name.lower()
    return name, lower in _DOWN_DROPPED or lower.startswith(_DOWN_DROPPED_PREFIXES), lower == "connection"


def headers_down(received: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Choose the headers that go to the client; names keep the upstream's spelling.

    Shape: raw pairs in, latin-1 text pairs out, so that a value's bytes stay what they were.
        `Content-Length` passes: the body is never decoded.
    """
    out: Pairs = []
    tokens: set[str] = set()
    for raw, value in received:
        name, is_dropped, is_connection = _down_name(raw)
        if not is_dropped:
            out.append((name, value.decode("latin-1")))
        elif is_connection:
            tokens |= {token.strip().lower() for token in value.decode("latin-1").split(",")}
    # Not even a `Connection` header can take some of them away.
    tokens -= _NEVER_HOP_BY_HOP
    return [pair for pair in out if pair[0].lower() not in tokens] if tokens else out
