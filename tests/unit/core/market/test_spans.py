"""Which rows each rule chooses, compared with a plain list of rows, and their bytes in pieces and whole."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.market.candles import Candle
from resender.core.market.row_store import RowStore
from resender.core.market.spans import Selection, Span

STEP = 60_000
T0 = 1_790_000_040_000 // STEP * STEP


class Rows(Selection):
    """Rows by their number of minutes after T0, the first ones of them in the block of a store."""

    def __init__(
        self, closed: list[int], pending: list[int], *, is_whole: bool = False, block: int = 0
    ) -> None:
        self.closed = RowStore()
        self.is_whole = is_whole
        for count, number in enumerate(closed):
            self.closed.append(T0 + number * STEP, make_row(number))
            if count == block - 1:
                self.closed.fold(len(closed))
        self._pending = [candle(number) for number in pending]
        self._last_close = T0 + (closed[-1] + 1) * STEP - 1 if closed else -1

    def numbers(self, span: Span) -> list[int]:
        return [(row[0] - T0) // STEP for row in orjson.loads(self.body(span))]


def make_row(number: int) -> bytes:
    return orjson.dumps([T0 + number * STEP, "1." + "5" * (number % 4)])


def candle(number: int) -> Candle:
    t = T0 + number * STEP
    return Candle(t, t + STEP - 1, make_row(number), 1, False)


@dataclass(frozen=True)
class Held:
    """What is held, as lists of numbers."""

    closed: list[int]
    pending: list[int]
    is_whole: bool
    rows: Rows

    @property
    def all(self) -> list[int]:
        return self.closed + self.pending


@st.composite
def held(draw: st.DrawFn) -> Held:
    """Draw rows with holes between some of them."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), max_size=20))
    numbers = [sum(steps[: count + 1]) for count in range(len(steps))]
    open_ones = draw(st.integers(0, min(3, len(numbers))))
    closed, pending = numbers[: len(numbers) - open_ones], numbers[len(numbers) - open_ones :]
    is_whole = draw(st.booleans())
    rows = Rows(closed, pending, is_whole=is_whole, block=draw(st.integers(0, 20)))
    return Held(closed, pending, is_whole, rows)


def draw_limit(data: st.DataObject, one: Held) -> int:
    return data.draw(st.integers(1, len(one.all) + 2), "limit")


def draw_time(data: st.DataObject, one: Held, name: str) -> int:
    """Draw an open time or one next to it, also before the first row and behind the last."""
    numbers = [n + more for n in one.all for more in (-1, 0, 1)] or [0]
    return T0 + data.draw(st.sampled_from(numbers), name) * STEP + data.draw(st.sampled_from([-1, 0, 0, 1]))


def draw_time_or_none(data: st.DataObject, one: Held, name: str) -> int | None:
    return draw_time(data, one, name) if data.draw(st.booleans()) else None


def check(one: Held, span: Span | None, wanted: list[int], *, is_known: bool) -> None:
    if not is_known:
        assert span is None
        return
    assert span is not None
    assert one.rows.numbers(span) == wanted
    assert 0 <= span.first <= span.last <= len(one.closed)


# -- what is chosen -----------------------------------------------------------------------------


@given(held(), st.data())
def test_latest_rows_are_the_last_ones_and_not_chosen_if_older_ones_are_missing(
    one: Held, data: st.DataObject
) -> None:
    limit = draw_limit(data, one)
    is_known = one.is_whole or len(one.all) >= limit
    check(one, one.rows.latest(limit), one.all[-limit:], is_known=is_known)


@settings(max_examples=400)
@given(held(), st.data())
def test_oldest_rows_from_a_time_on_are_chosen_if_they_are_held(one: Held, data: st.DataObject) -> None:
    start_ms, end_ms = draw_time(data, one, "start"), draw_time_or_none(data, one, "end")
    limit = draw_limit(data, one)
    found = [n for n in one.all if start_ms <= T0 + n * STEP and (end_ms is None or T0 + n * STEP <= end_ms)]
    is_known = one.is_whole or (bool(one.all) and start_ms >= T0 + one.all[0] * STEP)
    check(one, one.rows.first_from(start_ms, end_ms, limit), found[:limit], is_known=is_known)


@settings(max_examples=400)
@given(held(), st.data())
def test_latest_rows_up_to_a_time_are_chosen_if_none_before_them_is_missing(
    one: Held, data: st.DataObject
) -> None:
    start_ms, end_ms = draw_time_or_none(data, one, "start"), draw_time(data, one, "end")
    limit = draw_limit(data, one)
    found = [n for n in one.all if (start_ms or 0) <= T0 + n * STEP <= end_ms]
    reaches = start_ms is not None and bool(one.all) and start_ms >= T0 + one.all[0] * STEP
    is_known = one.is_whole or len(found) >= limit or reaches
    check(one, one.rows.latest_until(start_ms, end_ms, limit), found[-limit:], is_known=is_known)


@settings(max_examples=400)
@given(held(), st.data())
def test_closed_rows_up_to_a_close_leave_the_open_ones_out(one: Held, data: st.DataObject) -> None:
    close = data.draw(st.sampled_from([n + more for n in one.closed for more in (0, 1, 2)] or [0]), "close")
    since_ms, limit = draw_time_or_none(data, one, "since"), draw_limit(data, one)
    found = [n for n in one.closed if n < close and (since_ms or 0) <= T0 + n * STEP]
    reaches = since_ms is not None and bool(one.closed) and since_ms >= T0 + one.closed[0] * STEP
    is_known = one.is_whole or len(found) >= limit or reaches
    span = one.rows.closed_span(T0 + close * STEP - 1, limit, since_ms)
    check(one, span, found[-limit:], is_known=is_known)
    assert span is None or span.tail == ()


def test_first_row_is_the_oldest_of_all() -> None:
    assert Rows([3, 4], [5]).first_open == T0 + 3 * STEP
    assert Rows([], [5, 6]).first_open == T0 + 5 * STEP
    assert Rows([], []).first_open is None


# -- bytes --------------------------------------------------------------------------------------


@given(held(), st.data())
def test_pieces_of_a_span_are_its_bytes(one: Held, data: st.DataObject) -> None:
    rows = one.rows
    first = data.draw(st.integers(0, len(one.closed)))
    last = data.draw(st.integers(first, len(one.closed)))
    pending = data.draw(st.integers(0, len(one.pending)))
    span = Span(first, last, tuple(make_row(number) for number in one.pending[:pending]))
    wanted = one.closed[first:last] + one.pending[:pending]
    body = b"".join((b"[", b",".join(make_row(number) for number in wanted), b"]"))
    assert b"".join(rows.body_views(span)) == rows.body(span) == body
    closed = b"".join(make_row(number) + b"," for number in one.closed[first:last])
    assert rows.closed_part(span) == closed
    assert b"".join(rows.closed_views(span)) == closed.removesuffix(b",")


@pytest.mark.parametrize("block", [0, 3, 5, 6])
def test_pieces_stay_what_they_are_when_rows_come_and_go(block: int) -> None:
    rows = Rows(list(range(6)), [6], block=block)
    span = Span(1, 6, (make_row(6),))
    views, body = [rows.closed_views(span), rows.body_views(span)], rows.body(span)
    before = [b"".join(each) for each in views]
    rows.closed.replace(2, b'["other"]')
    rows.closed.append(T0 + 6 * STEP, make_row(6))
    rows.closed.fold(3)
    rows.closed.prepend([T0], [make_row(0)])
    assert [b"".join(each) for each in views] == before
    assert before[1] == body != rows.body(Span(0, 4, ()))
