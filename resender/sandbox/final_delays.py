"""How long after a close the event with x:true comes, as measured on the live exchange.

Pure: the same seed, symbol and close give the same delay. When a final event is sent is
`stream_feed.py`'s part.
"""

from __future__ import annotations

import zlib

from .prices import mix

PROFILES = ("plain", "continuous", "spot", "measured")
# Continuous finals come in one batch, a hundredth of them earlier; every six hours half of them are early.
_CONTINUOUS_MS = (100, 110)
_EARLY = (0.01, 1, 64)
_SIX_HOURS_MS = 6 * 3_600_000
_SIXTH_HOUR = (0.5, 20, 35)
_SPOT_MS = (15, 125)
# Share of the finals that have come by this many milliseconds: half by 464, two thirds by a
# second, the last one at 3,002.
_PLAIN = ((0.0, 60), (0.5, 464), (0.67, 1000), (1.0, 3002))


def final_delay_ms(
    profile: str | float, seed: int, symbol: str, close_ms: int, *, is_spot: bool, is_continuous: bool
) -> float:
    """Return the delay of one final event.

    Shape: `profile` is "plain", "continuous", "spot", "measured" (the one of the three that
        fits the stream) or a fixed number of milliseconds.
    Source: hours of September and October 2026, USD-M and spot, 1h candles.
    """
    if not isinstance(profile, str):
        return profile
    if profile == "measured":
        profile = "spot" if is_spot else "continuous" if is_continuous else "plain"
    share = mix(seed, zlib.crc32(symbol.encode()), close_ms) / 2**64
    if profile == "continuous":
        part, low, high = _SIXTH_HOUR if close_ms % _SIX_HOURS_MS == 0 else _EARLY
        if share < part:
            return low + (high - low) * share / part
        low, high = _CONTINUOUS_MS
        return low + (high - low) * (share - part) / (1 - part)
    if profile == "spot":
        return _SPOT_MS[0] + share * (_SPOT_MS[1] - _SPOT_MS[0])
    if profile != "plain":
        raise ValueError(f"unknown profile of final events: {profile!r}, known are {', '.join(PROFILES)}")
    before, low = _PLAIN[0]
    for upto, high in _PLAIN[1:]:
        if share <= upto:
            return low + (high - low) * (share - before) / (upto - before)
        before, low = upto, high
    return low
