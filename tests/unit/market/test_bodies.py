"""A packed body is one gzip member that holds exactly the plain body."""

from __future__ import annotations

import gzip
import zlib

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.market.candles import Candle
from resender.core.market.klines import KlineSeries
from resender.core.market.spans import Span
from resender.market.bodies import Bodies, Packer

STEP = 60_000
T0 = 1_790_000_040_000 // STEP * STEP


def candle(number: int, salt: int = 0, *, is_final: bool = True) -> Candle:
    t = T0 + number * STEP
    price = f"{90000 + number * 7 % 100}.{'0' * (number % 5)}{number % 97}"
    row = [t, price, price, price, price, "1.5", t + STEP - 1, "2", 3 + salt, "4", "5", "0"]
    return Candle(t, t + STEP - 1, orjson.dumps(row), 3 + salt, is_final, t + 1)


def unpacked(packed: bytes) -> bytes:
    reader = zlib.decompressobj(31)
    plain = reader.decompress(packed)
    assert reader.eof
    assert reader.unused_data == b"", "more than one member: not every client reads that"
    assert gzip.decompress(packed) == plain
    return plain


@settings(max_examples=300)
@given(st.data())
def test_packed_body_is_the_plain_body_whatever_happened_before(data: st.DataObject) -> None:
    series = KlineSeries("1m", data.draw(st.sampled_from([70, 130, 300])))
    packer, token = Packer(max_chunk_bytes=data.draw(st.sampled_from([1, 5000, 1 << 20]))), object()
    first = last = 1000
    series.apply_read([candle(1000)], T0 + 1001 * STEP, epoch=0)
    for _ in range(data.draw(st.integers(1, 6))):
        what = data.draw(st.sampled_from(["close", "open", "older", "pack"]))
        if what == "close":
            count = data.draw(st.integers(1, 200))
            for number in range(last + 1, last + 1 + count):
                series.apply_event(candle(number))
            last += count
        elif what == "open":
            series.apply_event(candle(last + 1, data.draw(st.integers(1, 50)), is_final=False))
        elif what == "older" and len(series) < series.depth:
            count = data.draw(st.integers(1, 150))
            series.prepend([candle(number) for number in range(first - count, first)], T0 + 10**9)
            first -= count
        for _ in range(3):
            limit = data.draw(st.integers(1, 320))
            span = series.latest(limit)
            start = T0 + data.draw(st.integers(first - 5, last + 5)) * STEP
            for chosen in (
                span,
                series.first_from(start, None, limit),
                series.latest_until(None, start, limit),
            ):
                if chosen is not None:
                    assert unpacked(packer.pack(token, series, chosen)) == series.body(chosen)


def test_empty_and_tiny_spans_can_be_packed() -> None:
    series = KlineSeries("1m", 100)
    series.apply_read([candle(n) for n in range(128)], T0 + 200 * STEP, epoch=0)
    for span in (Span(0, 0, ()), Span(5, 5, (b"[1]",)), Span(0, 1, ()), Span(63, 64, ()), Span(64, 128, ())):
        if span.last <= len(series):
            assert unpacked(Packer().pack(object(), series, span)) == series.body(span)


def test_closed_rows_are_compressed_once() -> None:
    series = KlineSeries("1m", 1500)
    series.apply_read([candle(n) for n in range(1000)], T0 + 1000 * STEP, epoch=0)
    packer, token = Packer(), object()
    made: list[int] = []
    keep = packer._chunk

    def count(*args: object) -> bytes:
        before = len(packer._chunks)
        chunk = keep(*args)  # type: ignore[arg-type]
        made.append(len(packer._chunks) - before)
        return chunk

    packer._chunk = count  # type: ignore[method-assign, assignment]
    for salt in range(20):
        series.apply_event(candle(1000, salt, is_final=False))
        span = series.latest(1000)
        assert span is not None
        packer.pack(token, series, span)
    assert sum(made) == len(packer._chunks) <= 16


def test_memory_stays_bounded_and_bodies_are_shared() -> None:
    bodies = Bodies(max_bytes=200_000)
    held = []
    for number in range(20):
        series = KlineSeries("1m", 600)
        series.apply_read([candle(n) for n in range(500)], T0 + 600 * STEP, epoch=0)
        held.append((object(), series))
        span = series.latest(500)
        assert span is not None
        one = bodies.get(*held[-1], span, packed=number % 2 == 0)
        assert bodies.get(*held[-1], span, packed=number % 2 == 0) is one
    assert bodies.size_bytes <= 200_000
    packer = Packer(max_chunk_bytes=20_000)
    for token, series in held:
        span = series.latest(500)
        assert span is not None
        packer.pack(token, series, span)
    assert packer.size_bytes <= 20_000
