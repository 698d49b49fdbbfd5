"""Which calls may share one answer, and for how long an answer may serve equal calls.

Pure. A call is joined with an equal one only if nobody's key, signature or body is in it: then
the answer is the same for everybody. What is remembered beyond the flight is public market data.
"""

from __future__ import annotations

from collections.abc import Sequence

from resender.core.markets import Market

Key = tuple[str, ...]
# These do not change an answer; any other header that goes up makes a call one of its own.
_IGNORED = frozenset({"Accept", "Accept-Language", "Content-Type", "User-Agent"})
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
            encoding = value
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


def memory_s(path: str, *, is_public: bool, get_memory_s: float, exchange_info_memory_s: float) -> float:
    """Return how long an answer may serve equal calls; 0 means not at all.

    Units: seconds.
    """
    if not is_public or path.endswith(("/time", "/ping")):  # a clock must never be old
        return 0.0
    return exchange_info_memory_s if path.endswith("/exchangeInfo") else get_memory_s
