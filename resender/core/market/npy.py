"""Kline rows as an array of numbers in NumPy's file format.

Pure. The texts of Binance are decimal; here they become the doubles next to them.
Source: NumPy's description of the format, version 1.0.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

# Columns of a row; the last one of the twelve means nothing.
COLUMNS = 11
_MAGIC = b"\x93NUMPY\x01\x00"
_ALIGN = 64
_NAN = float("nan")


def npy_head(symbols: int, rows: int) -> bytes:
    """Build the beginning of a file of float64 in the shape (symbols, rows, 11)."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({symbols}, {rows}, {COLUMNS}), }}"
    room = -(len(_MAGIC) + 2 + len(text) + 1) % _ALIGN
    line = (text + " " * room + "\n").encode("ascii")
    return _MAGIC + len(line).to_bytes(2, "little") + line


def npy_rows(rows: Sequence[Sequence[Any]], count: int) -> bytes:
    """Build the numbers of one symbol, `count` rows; those it has fewer begin it as NaN.

    Shape: rows as of REST, twelve columns, oldest first.
    """
    values = array("d", (_NAN,)) * ((count - len(rows)) * COLUMNS)
    for row in rows:
        values.extend(map(float, row[:COLUMNS]))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
