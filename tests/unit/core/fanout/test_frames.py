"""Frames of the server's side, byte for byte as RFC 6455 and RFC 7692 have them."""

from __future__ import annotations

import struct
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.fanout.frames import (
    DEFLATE_BITS,
    binary_frame,
    deflated_frame,
    payload_of,
    ping_frame,
    text_frame,
    wrapped,
)
from tests.support.fixtures import MARKETS, raw


def read(frame: bytes) -> tuple[int, bytes]:
    """Read an unmasked frame: its first byte and its payload."""
    first, size, at = frame[0], frame[1], 2
    assert size < 128, "a server masks nothing"
    if size == 126:
        (size,), at = struct.unpack("!H", frame[2:4]), 4
        assert size > 125
    elif size == 127:
        (size,), at = struct.unpack("!Q", frame[2:10]), 10
        assert size > 65_535
    assert len(frame) == at + size
    return first, frame[at:]


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"), (1, b"\x81\x01"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)  # fmt: skip
def test_length_is_written_in_the_shortest_form_there_is(size: int, head: bytes) -> None:
    payload = b"x" * size
    assert text_frame(payload) == head + payload
    assert binary_frame(payload) == b"\x82" + head[1:] + payload
    assert read(text_frame(payload)) == (0x81, payload)


def test_ping_carries_its_payload() -> None:
    assert ping_frame(b"1790000000000") == b"\x89\x0d1790000000000"
    assert ping_frame(b"") == b"\x89\x00"
    assert ping_frame(b"x" * 125)[:2] == b"\x89\x7d"


def inflated(frame: bytes) -> bytes:
    """Read a text frame as a client of the agreed window does, each frame anew."""
    first, payload = read(frame)
    if first == 0x81:
        return payload
    assert first == 0xC1
    reader = zlib.decompressobj(-DEFLATE_BITS)
    found = reader.decompress(payload + b"\x00\x00\xff\xff")
    assert not reader.unused_data
    return found


@pytest.mark.parametrize("size", [0, 1, 63, 64, 125, 126, 4095, 4096, 4097, 65_535, 65_536, 300_000])
def test_deflated_frame_inflates_to_the_same(size: int) -> None:
    payload = (b'{"e":"trade","p":"%d"}' * (size // 10 + 1))[:size]
    assert inflated(deflated_frame(payload)) == payload


@given(st.binary(max_size=3000))
def test_whatever_is_deflated_inflates_to_the_same(payload: bytes) -> None:
    assert inflated(deflated_frame(payload)) == payload


def test_short_ones_are_not_deflated_and_long_ones_shrink() -> None:
    assert deflated_frame(b"x" * 63) == text_frame(b"x" * 63)
    event = raw(MARKETS[0], "ws_kline")
    assert len(deflated_frame(event)) < len(text_frame(event))
    assert deflated_frame(event) == deflated_frame(event), "no context: the same bytes for every client"


# -- the combined form ----------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("name", ["ws_kline", "ws_kline_final", "ws_book_ticker", "ws_mini_tickers"])
def test_payload_of_a_recorded_frame_is_cut_out_and_wrapped_again_byte_for_byte(market, name: str) -> None:
    frame = raw(market, name)
    payload = payload_of(frame)
    assert payload is not None
    assert orjson.loads(payload) == orjson.loads(frame)["data"]
    assert wrapped(orjson.loads(frame)["stream"], payload) == frame


@pytest.mark.parametrize(
    "payload",
    [b"{}", b"[]", b'{"data":{"data":1}}', b'{"a":"\\"data\\":","p":"0.10"}', b'[{"E":1}]', b'{"a":  1}', b"null",
    "{'币'}".encode()],
)  # fmt: skip
def test_payload_comes_out_as_it_was_put_in(payload: bytes) -> None:
    assert payload_of(wrapped("btcusdt@trade", payload)) == payload


def test_name_stands_unescaped_in_the_combined_form() -> None:
    assert wrapped("币usdt@trade", b"{}") == '{"stream":"币usdt@trade","data":{}}'.encode()


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"{}", b'{"result":null,"id":1}', b'{"stream":"a"}', b'{"stream":"a","data":{}} ',
        b'{"stream": "a","data":{}}', b'{"data":{},"stream":"a"}', b'{"stream":"a", "data":{}}',
        b'{"stream":"a"}"data":{}}',
        b'[{"stream":"a","data":{}}]',
    ],
)  # fmt: skip
def test_frame_that_is_built_otherwise_is_not_cut(frame: bytes) -> None:
    assert payload_of(frame) is None
