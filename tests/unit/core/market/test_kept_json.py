"""JSON that stays in memory takes no more room than its bytes."""

from __future__ import annotations

import sys
import tracemalloc

import orjson

from resender.core.market.kept_json import kept_json
from resender.core.market.trades import MAX_ROWS, AggregateForm, TradeTail, read_rows

ROW = {
    "a": 26129,
    "p": "0.01633102",
    "q": "4.70443515",
    "f": 27781,
    "l": 27781,
    "T": 1498793709153,
    "m": True,
    "M": True,
}


def test_is_what_orjson_writes() -> None:
    for value in (ROW, [], "币安", {"a": None, "b": [1.5, True]}):
        assert kept_json(value) == orjson.dumps(value)


def test_rows_that_are_kept_take_little_more_than_their_text() -> None:
    body = orjson.dumps([ROW | {"a": number} for number in range(MAX_ROWS)])
    tracemalloc.start()
    try:
        tail = TradeTail()
        rows, price = read_rows(body, AggregateForm())
        tail.read(rows, price, 1, is_whole=False)
        del rows
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(tail) == MAX_ROWS
    assert taken < MAX_ROWS * (sys.getsizeof(orjson.dumps(ROW)) + 150)
