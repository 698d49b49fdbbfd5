"""Compressed bodies of kline answers, made once for each version of the data and shared.

Most of a body are closed rows that do not change for a whole interval: the compressor's state
after them is kept and only copied for the row that changed. Owned by one series.
"""

from __future__ import annotations

import zlib

# Fast, and candles still shrink to about a third.
_LEVEL = 2
_GZIP = 31
_MIN_BYTES = 1024
_MAX_STATES = 2


class Packer:
    """Makes gzip bodies for one series; keeps at most two compressor states (256 kB each)."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        # key of the closed part -> (compressor after it, its output so far)
        self._states: dict[tuple[int, int, int], tuple[zlib._Compress, bytes]] = {}

    def pack(self, key: tuple[int, int, int], head: bytes, tail: bytes) -> bytes:
        """Compress `head + tail`; `head` is the same for the same key."""
        state = self._states.get(key)
        if state is None:
            compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            state = (compressor, compressor.compress(head))
            if len(self._states) >= _MAX_STATES:
                del self._states[next(iter(self._states))]
            self._states[key] = state
        compressor = state[0].copy()
        return b"".join((state[1], compressor.compress(tail), compressor.flush()))

    def forget(self) -> None:
        self._states.clear()


def worth_packing(body: bytes) -> bool:
    """Tell whether a body is large enough to gain by compression."""
    return len(body) >= _MIN_BYTES
