"""Bodies of kline answers, plain and compressed, shared between callers and bounded in memory.

A closed row never changes, so closed rows are compressed in chunks, once in their life: each
chunk is raw deflate that refers to nothing before it and ends on a byte. A gzip body is a
header, chunks, the few rows before and behind them, the open row and the trailer: one ordinary
gzip member, made without compressing its hundreds of closed rows again. Owned by the cache.
Source: RFC 1951 (a full flush ends on a byte and forgets the window), RFC 1952 (gzip member).
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from resender.core.market.klines import KlineSeries
from resender.core.market.spans import Span

_CHUNK_ROWS = 64
_LEVEL = 2
_FLEETING_LEVEL = 1
_MIN_BYTES = 1024
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TRAILER = struct.Struct("<II")
# Plain rows of a candle take about 165 bytes, packed 60.
_MAX_CHUNK_BYTES = 12 << 20
_MAX_BODY_BYTES = 4 << 20
_MAX_FRAMES = 4096

ChunkKey = tuple[object, int, int]
BodyKey = tuple[object, int, object, bool]


class _Frame(NamedTuple):
    """What is fixed about a span until a candle closes: rows around its chunks, its checksum."""

    lead: bytes
    trail: bytes
    first_chunk: int
    end_chunk: int
    crc: int
    size: int


def _deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


class Packer:
    """Makes gzip bodies; what was asked for longest ago goes first."""

    def __init__(self, max_chunk_bytes: int = _MAX_CHUNK_BYTES) -> None:
        self._max_chunk_bytes = max_chunk_bytes
        self._chunks: OrderedDict[ChunkKey, bytes] = OrderedDict()
        self._frames: OrderedDict[tuple[object, int, int, int, bool], _Frame] = OrderedDict()
        self.size_bytes = 0

    def pack(self, identity: object, series: KlineSeries, span: Span) -> bytes:
        """Compress `series.body(span)`.

        Shape: `token` stands for the series in keys and is replaced with it.
        """
        frame = self._frame(identity, series, span)
        parts = [_GZIP_HEADER, frame.lead]
        for number in range(frame.first_chunk, frame.end_chunk):
            parts.append(self._chunk(identity, series, number))
        tail = b",".join(span.tail) + b"]"
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -10, 4)
        parts += (frame.trail, compressor.compress(tail), compressor.flush())
        crc = zlib.crc32(tail, frame.crc)
        parts.append(_TRAILER.pack(crc, (frame.size + len(tail)) & 0xFFFFFFFF))
        return b"".join(parts)

    def _frame(self, identity: object, series: KlineSeries, span: Span) -> _Frame:
        base = series.closed.row_base
        first, last = base + span.first, base + span.last
        has_tail = bool(span.tail)
        key = (identity, series.closed.layout, first, last, has_tail)
        frame = self._frames.get(key)
        if frame is not None:
            return frame
        # Without a row behind it the last closed row loses its comma, so it is no part of a chunk.
        first_chunk = -(-first // _CHUNK_ROWS)
        end_chunk = max(first_chunk, (last if has_tail else last - 1) // _CHUNK_ROWS)
        lead_end = min(last, first_chunk * _CHUNK_ROWS)
        trail_start = max(lead_end, end_chunk * _CHUNK_ROWS) if end_chunk > first_chunk else lead_end
        closed = series.closed_part(span)
        cut = b"" if has_tail else b","
        lead = b"[" + series.closed_part(Span(span.first, lead_end - base, ()))
        trail = series.closed_part(Span(trail_start - base, span.last, ()))
        if not trail:
            lead = lead.removesuffix(cut)
        frame = _Frame(
            _deflate(lead),
            _deflate(trail.removesuffix(cut)) if trail else b"",
            first_chunk,
            end_chunk,
            zlib.crc32(closed.removesuffix(cut), zlib.crc32(b"[")),
            1 + len(closed.removesuffix(cut)),
        )
        if len(self._frames) >= _MAX_FRAMES:
            self._frames.popitem(last=False)
        self._frames[key] = frame
        return frame

    def _chunk(self, identity: object, series: KlineSeries, number: int) -> bytes:
        key = (identity, series.closed.layout, number)
        chunk = self._chunks.get(key)
        if chunk is not None:
            self._chunks.move_to_end(key)
            return chunk
        start = number * _CHUNK_ROWS - series.closed.row_base
        chunk = _deflate(series.closed_part(Span(start, start + _CHUNK_ROWS, ())))
        self._chunks[key] = chunk
        self.size_bytes += len(chunk)
        while self.size_bytes > self._max_chunk_bytes and len(self._chunks) > 1:
            self.size_bytes -= len(self._chunks.popitem(last=False)[1])
        return chunk


class Bodies:
    """The bodies asked for lately, each made once for a version of its series."""

    def __init__(self, max_bytes: int = _MAX_BODY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bodies: OrderedDict[BodyKey, bytes] = OrderedDict()
        self._packer = Packer()
        self.size_bytes = 0

    def get(self, identity: object, series: KlineSeries, span: Span, *, packed: bool) -> bytes:
        """Return the body of a span, compressed if `packed`."""
        key = (identity, series.version, span, packed)
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
            return body
        body = self._packer.pack(identity, series, span) if packed else series.body(span)
        self._bodies[key] = body
        self.size_bytes += len(body)
        while self.size_bytes > self._max_bytes and len(self._bodies) > 1:
            self.size_bytes -= len(self._bodies.popitem(last=False)[1])
        return body


class FleetingBodies:
    """Compressed forms of bodies that change from moment to moment: each made once while it lasts."""

    def __init__(self, max_bytes: int = _MAX_BODY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._packed: OrderedDict[Hashable, tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self.size_bytes = 0

    def pack(self, key: Hashable, body: bytes) -> bytes:
        """Return a body compressed; `key` is what it is the present answer to. Any thread may call it."""
        with self._lock:
            found = self._packed.get(key)
            if found is not None and found[0] is body:
                self._packed.move_to_end(key)
                return found[1]
        compressor = zlib.compressobj(_FLEETING_LEVEL, zlib.DEFLATED, 31)
        packed = compressor.compress(body) + compressor.flush()
        with self._lock:
            old = self._packed.pop(key, None)
            self._packed[key] = body, packed
            self.size_bytes += len(packed) + len(body) - (len(old[0]) + len(old[1]) if old is not None else 0)
            while self.size_bytes > self._max_bytes and len(self._packed) > 1:
                self.size_bytes -= sum(map(len, self._packed.popitem(last=False)[1]))
        return packed

    def has(self, key: Hashable, body: bytes) -> bool:
        """Tell whether a body is there compressed."""
        found = self._packed.get(key)
        return found is not None and found[0] is body


def worth_packing(size_bytes: int) -> bool:
    """Tell whether a body is large enough to gain by compression."""
    return size_bytes >= _MIN_BYTES
