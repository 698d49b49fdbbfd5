"""WebSocket frames of the server's side, built once for any number of clients.

Source: RFC 6455 section 5.2; RFC 7692 section 7.2.1. Pure.
"""

from __future__ import annotations

import struct
import zlib

_TEXT, _BINARY, _PING = 0x81, 0x82, 0x89
_DEFLATED = 0xC1
# Small, because clients may ask for it and each frame begins anew.
DEFLATE_BITS = 12
_DEFLATE_LEVEL = 1
# Shorter ones grow.
_WORTH_DEFLATING = 64
_STREAM = b'{"stream":"'
_DATA = b'"data":'


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return struct.pack("!BB", first, size)
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def text_frame(payload: bytes) -> bytes:
    """Build an unmasked text frame."""
    return _head(_TEXT, len(payload)) + payload


def binary_frame(payload: bytes) -> bytes:
    """Build an unmasked binary frame."""
    return _head(_BINARY, len(payload)) + payload


def ping_frame(payload: bytes) -> bytes:
    """Build a ping of at most 125 bytes."""
    return _head(_PING, len(payload)) + payload


def deflated_frame(payload: bytes) -> bytes:
    """Build a compressed text frame without context: the same bytes serve every client."""
    if len(payload) < _WORTH_DEFLATING:
        return text_frame(payload)
    packer = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, -DEFLATE_BITS)
    packed = packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)
    packed = packed[:-4]
    return _head(_DEFLATED, len(packed)) + packed


def wrapped(name: str, payload: bytes) -> bytes:
    """Build the combined form of an event.

    Shape: the name stands unescaped, as Binance writes it; it has passed `stream_kind` or is a key.
    """
    return b'%s%s","data":%s}' % (_STREAM, name.encode(), payload)


def payload_of(combined: bytes) -> bytes | None:
    """Cut the payload out of a combined frame, byte for byte; None if it is not built as Binance does."""
    if not combined.startswith(_STREAM) or not combined.endswith(b"}"):
        return None
    start = combined.find(_DATA, len(_STREAM))
    if start < 0 or combined[start - 1 : start] != b",":
        return None
    return combined[start + len(_DATA) : -1]
