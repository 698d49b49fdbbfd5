"""What happens after a close to the candle that has just opened, as measured on the live exchange.

Pure: the same seed, symbol and open time give the same delay. When something is pushed is
`stream_feed.py`'s part, what REST shows `exchange.py`'s.
Source: hours of September 2026, 732 USD-M and 496 spot symbols.
"""

from __future__ import annotations

import zlib

from .prices import mix

# USD-M streams are silent on a new candle, whether it is traded or not: 19 % for ten seconds and more,
# 5.5 % for a minute and more.
_SILENT = ((0.81, 0, 0), (0.945, 10_000, 60_000), (1.0, 60_000, 120_000))
# Spot pushes candles without a trade: most after 2 to 3.7 s, all by 10 s.
_ZERO = ((0.8, 2_000, 3_700), (1.0, 3_700, 10_000))
# USD-M REST shows a candle without a trade only after so long.
_LATE_ROW_MS = (3_000, 25_000)


def silent_ms(seed: int, symbol: str, open_ms: int) -> int:
    """Return for how long a USD-M stream brings nothing of a new candle."""
    return _drawn(_SILENT, seed, symbol, open_ms)


def zero_push_ms(seed: int, symbol: str, open_ms: int) -> int:
    """Return after how long a spot stream brings a new candle that has no trade."""
    return _drawn(_ZERO, seed, symbol, open_ms)


def late_row_ms(seed: int, symbol: str, open_ms: int) -> int:
    """Return after how long USD-M REST shows a new candle that has no trade."""
    low, high = _LATE_ROW_MS
    return int(low + _share(seed, symbol, open_ms) * (high - low))


def _drawn(profile: tuple[tuple[float, int, int], ...], seed: int, symbol: str, open_ms: int) -> int:
    share, before = _share(seed, symbol, open_ms), 0.0
    for upto, low, high in profile:
        if share <= upto:
            return int(low + (high - low) * (share - before) / (upto - before))
        before = upto
    return profile[-1][2]


def _share(seed: int, symbol: str, open_ms: int) -> float:
    return mix(seed, zlib.crc32(symbol.encode()), open_ms) / 2**64
