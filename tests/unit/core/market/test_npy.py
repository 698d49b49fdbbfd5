"""Arrays of numbers: what is written is read back as NumPy's file format describes it, number by number."""

from __future__ import annotations

import ast
import math
import struct
import sys
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.market.npy import COLUMNS, npy_head, npy_rows

T0 = 1_790_000_040_000


def read_npy(data: bytes) -> tuple[tuple[int, ...], list[float]]:
    """Read a file of version 1.0; return its shape and its numbers, the last axis first."""
    assert data[:6] == b"\x93NUMPY"
    assert data[6:8] == b"\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0, "numbers begin where a processor likes them"
    text = data[10 : 10 + length].decode("ascii")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    head = ast.literal_eval(text)
    assert head.keys() == {"descr", "fortran_order", "shape"}
    assert (head["descr"], head["fortran_order"]) == ("<f8", False)
    body = data[10 + length :]
    count = math.prod(head["shape"])
    assert len(body) == 8 * count
    return head["shape"], list(struct.unpack(f"<{count}d", body))


def make_row(number: int, *texts: str) -> list[Any]:
    """Make a kline row; `texts` are its eight numeric ones."""
    o, h, low, c, v, q, tv, tq = texts or [f"{number}.{column}5" for column in range(8)]
    t = T0 + number * 60_000
    return [t, o, h, low, c, v, t + 59_999, q, number, tv, tq, "0"]


def numbers(row: list[Any]) -> list[float]:
    return [float(value) for value in row[:11]]


def file_of(*symbols: list[list[Any]], most: int | None = None) -> bytes:
    count = max(map(len, symbols), default=0) if most is None else most
    return b"".join((npy_head(len(symbols), count), *(npy_rows(rows, count) for rows in symbols)))


def test_rows_of_several_symbols_come_back_one_symbol_after_the_other() -> None:
    first, second = [make_row(n) for n in range(3)], [make_row(n) for n in range(7, 10)]
    shape, found = read_npy(file_of(first, second))
    assert shape == (2, 3, 11)
    assert found == [number for row in (*first, *second) for number in numbers(row)]


def test_columns_are_those_of_rest_without_the_last_that_means_nothing() -> None:
    row = [1000, "2.5", "3.5", "1.5", "3.0", "10", 1999, "25", 7, "4", "9.75", "11"]
    shape, found = read_npy(file_of([row]))
    assert shape == (1, 1, COLUMNS) == (1, 1, 11)
    assert found == [1000.0, 2.5, 3.5, 1.5, 3.0, 10.0, 1999.0, 25.0, 7.0, 4.0, 9.75]


def test_symbol_with_fewer_rows_begins_with_nan_and_ends_with_its_newest_row() -> None:
    full, short = [make_row(n) for n in range(4)], [make_row(3)]
    shape, found = read_npy(file_of(full, short))
    assert shape == (2, 4, 11)
    assert found[:44] == [number for row in full for number in numbers(row)]
    assert all(math.isnan(number) for number in found[44:77])
    assert found[77:] == numbers(short[0])


def test_symbol_without_rows_is_nan_throughout() -> None:
    shape, found = read_npy(file_of([make_row(0)], []))
    assert shape == (2, 1, 11)
    assert [math.isnan(number) for number in found] == [False] * 11 + [True] * 11


@pytest.mark.parametrize(("symbols", "shape"), [((), (0, 0, 11)), (([], []), (2, 0, 11))])
def test_nothing_is_an_array_without_numbers(symbols: tuple[list[Any], ...], shape: tuple[int, ...]) -> None:
    assert read_npy(file_of(*symbols)) == (shape, [])


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_head_keeps_its_form_whatever_the_shape(symbols: int, rows: int) -> None:
    head = npy_head(symbols, rows)
    assert len(head) % 64 == 0
    assert len(head) == 10 + struct.unpack("<H", head[8:10])[0]
    assert ast.literal_eval(head[10:].decode("ascii"))["shape"] == (symbols, rows, 11)


digits = st.text("0123456789", min_size=1, max_size=12)
decimals = st.one_of(digits, st.builds("{}.{}".format, digits, digits))


@given(st.lists(st.tuples(*[decimals] * 8), max_size=5), st.integers(0, 3))
def test_every_number_is_the_double_next_to_its_text(texts: list[tuple[str, ...]], more: int) -> None:
    rows = [make_row(number, *each) for number, each in enumerate(texts)]
    data = npy_rows(rows, len(rows) + more)
    found = struct.unpack(f"<{(len(rows) + more) * 11}d", data)
    assert all(math.isnan(number) for number in found[: more * 11])
    assert list(found[more * 11 :]) == [number for row in rows for number in numbers(row)]


def test_machine_of_the_other_byte_order_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_row(1)]
    usual = npy_rows(rows, 2)
    monkeypatch.setattr(sys, "byteorder", {"little": "big", "big": "little"}[sys.byteorder])
    swapped = array("d", npy_rows(rows, 2))
    swapped.byteswap()
    assert swapped.tobytes() == usual
