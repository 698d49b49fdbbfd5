"""Which calls may share one answer, and for how long an answer may serve equal calls.

Pure. What makes two calls equal holds everything that changes the form of the answer: encoding,
units, binary or JSON. A call is joined with an equal one only if nobody's key, signature or body is in it: then
the answer is the same for everybody. What is remembered beyond the flight is public market data.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence

from resender.core.binance.markets import Market

Key = tuple[str, ...]
# These do not change an answer; any other header that goes up makes a call one of its own.
_IGNORED = frozenset({"Accept-Language", "Content-Type", "User-Agent"})
_ANY_JSON = ("*/*", "application/*", "application/json")
_FRESH_WORDS = ("no-cache", "no-store", "max-age=0")


def share_key(market: Market, target: str, up: Sequence[tuple[str, str]]) -> tuple[Key | None, bool]:
    """Return what makes two GET calls equal, and whether the client asks for a fresh answer.

    Shape: `up` are the headers that go to Binance, as `headers_up` spells them; None for a call
        that is its own, such as one with an API key.
    """
    encoding = extra = ""
    is_fresh = False
    for name, value in up:
        if name in _IGNORED:
            continue
        if name == "Accept-Encoding":
            encoding = _encoding_class(value)
        elif name == "Accept":
            extra += _accept_class(value)
        elif name in ("Cache-Control", "Pragma"):
            lower = value.lower()
            is_fresh = is_fresh or any(word in lower for word in _FRESH_WORDS)
        elif name in ("X-MBX-TIME-UNIT", "X-MBX-SBE"):
            extra += f"{name}:{value};"
        else:
            return None, False
    if "signature=" in target:
        return None, False
    return (market.value, target, encoding, extra), is_fresh


def _encoding_class(value: str) -> str:
    """Return what an `Accept-Encoding` allows, whatever its order; with weights it is taken as it is."""
    lower = value.lower()
    if ";" in lower:
        return lower
    return ",".join(sorted({token.strip() for token in lower.split(",")} - {""}))


def _accept_class(value: str) -> str:
    """Return "" for whoever takes JSON and no binary form, else what is accepted."""
    lower = value.lower()
    if "sbe" not in lower and any(kind in lower for kind in _ANY_JSON):
        return ""
    return f"Accept:{lower};"


# What an exchangeInfo answer has to have, one of them.
_SYMBOL_LISTS = (b'"symbols"', b'"optionSymbols"')
_MAX_UNPACKED_BYTES = 256 << 20
_PARSED_BYTES = 65_536
_BRACKETS = ((b"{", b"}"), (b"[", b"]"))


def worth_remembering(path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
    """Tell whether a 200 answer is whole, JSON, and what its path promises.

    Shape: `body` as it came, `headers` raw; a long body is judged by its ends and its list.
    """
    encoding = b""
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-encoding":
            encoding = value.strip().lower()
        elif lower == b"content-type" and b"json" not in value.lower():
            return False
    if encoding in (b"gzip", b"x-gzip"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            body = unpacker.decompress(body, _MAX_UNPACKED_BYTES)
        except zlib.error:
            return False
        if not unpacker.eof:
            return False
    elif encoding not in (b"", b"identity"):
        return False  # nothing here can read it
    text = body.strip()
    if text[:1] + text[-1:] not in (b"{}", b"[]"):
        return False
    if len(text) <= _PARSED_BYTES:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
    elif any(text.count(opening) != text.count(closing) for opening, closing in _BRACKETS):
        return False  # cut off behind a bracket; no text of exchangeInfo holds one
    return not path.endswith("/exchangeInfo") or any(name in text for name in _SYMBOL_LISTS)


def memory_s(path: str, *, is_public: bool, get_memory_s: float, exchange_info_memory_s: float) -> float:
    """Return how long an answer may serve equal calls; 0 means not at all.

    Units: seconds.
    """
    if not is_public or path.endswith(("/time", "/ping")):  # a clock must never be old
        return 0.0
    return exchange_info_memory_s if path.endswith("/exchangeInfo") else get_memory_s
