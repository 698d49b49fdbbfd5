"""Bodies of kline answers, made once for each version of the data, shared, and bounded in memory.

Most of a body are closed rows that do not change for a whole interval: the compressor's state
after them is kept and only copied for the row that changed. Owned by the cache.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict

# Fast, and candles still shrink to about a third.
_LEVEL = 2
_GZIP = 31
_MIN_BYTES = 1024
# A compressor's state takes about 256 kB, a body of 1,000 rows 165 kB plain and 50 kB packed.
_MAX_STATES = 64
_MAX_BODY_BYTES = 32 << 20

BodyKey = tuple[object, int, object]
StateKey = tuple[object, int, int, int]


class Bodies:
    """The bodies asked for lately, over all series; the ones not asked for longest go first.

    Shape: a key starts with an object that stands for the series and is replaced with it.
    """

    def __init__(self, max_bytes: int = _MAX_BODY_BYTES, max_states: int = _MAX_STATES) -> None:
        self._max_bytes = max_bytes
        self._max_states = max_states
        self._bodies: OrderedDict[BodyKey, tuple[bytes, bytes | None]] = OrderedDict()
        self._states: OrderedDict[StateKey, tuple[zlib._Compress, bytes]] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: BodyKey) -> tuple[bytes, bytes | None] | None:
        """Return a body, plain and packed (or not packed yet)."""
        found = self._bodies.get(key)
        if found is not None:
            self._bodies.move_to_end(key)
        return found

    def put(self, key: BodyKey, plain: bytes, packed: bytes | None) -> None:
        self._forget(key)
        self._bodies[key] = plain, packed
        self.size_bytes += len(plain) + len(packed or b"")
        while self.size_bytes > self._max_bytes and len(self._bodies) > 1:
            self._forget(next(iter(self._bodies)))

    def _forget(self, key: BodyKey) -> None:
        found = self._bodies.pop(key, None)
        if found is not None:
            self.size_bytes -= len(found[0]) + len(found[1] or b"")

    def pack(self, key: StateKey, head: bytes, tail: bytes) -> bytes:
        """Compress `head + tail`; `head` is the same for the same key."""
        state = self._states.get(key)
        if state is None:
            compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            state = (compressor, compressor.compress(head))
            if len(self._states) >= self._max_states:
                self._states.popitem(last=False)
            self._states[key] = state
        else:
            self._states.move_to_end(key)
        compressor = state[0].copy()
        return b"".join((state[1], compressor.compress(tail), compressor.flush()))


def worth_packing(body: bytes) -> bool:
    """Tell whether a body is large enough to gain by compression."""
    return len(body) >= _MIN_BYTES
