"""Rows of REST that a stream keeps young: each field as of the time that is told, or the row is not told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.streamed_rows import DAY_FIELDS, MARK_FIELDS, MINI_FIELDS, StreamedRow

FIELDS = {"symbol": "s", "price": "p", "count": "n", "time": "E"}


def made(**seed: Any) -> StreamedRow:
    row = StreamedRow(FIELDS)
    row.seed({"symbol": "A", "price": "1.50", "count": 7, "time": 90} | seed, 100)
    return row


def event(**values: Any) -> dict[str, Any]:
    return {"s": "A", "p": "2.50", "n": 8, "E": 200} | values


def told(row: StreamedRow, form: str = "") -> Any:
    return orjson.loads(row.body(form))


def test_there_is_no_row_before_rest_has_shown_one() -> None:
    row = StreamedRow(FIELDS)
    assert row.apply(event(), 200)
    assert not row.is_known
    row.seed({"symbol": "A", "price": "1.50"}, 100)
    assert row.is_known
    assert told(row) == {"symbol": "A", "price": "2.50"}, "the fields of REST, in its order, and no other"


def test_fields_the_stream_carries_are_its_own_and_as_old_as_its_event() -> None:
    row = made()
    assert (row.as_of_ms(), told(row)["price"]) == (100, "1.50")
    assert row.apply(event(), 200)
    assert told(row) == {"symbol": "A", "price": "2.50", "count": 8, "time": 200}
    assert row.as_of_ms() == 200


def test_field_no_stream_carries_makes_the_row_as_old_as_rest_showed_it() -> None:
    row = made(interestRate="0.1")
    row.apply(event(), 200)
    assert (row.as_of_ms(), told(row)["price"], told(row)["interestRate"]) == (100, "2.50", "0.1")
    row = made()
    row.apply({name: value for name, value in event().items() if name != "n"}, 200)
    assert (row.as_of_ms(), told(row)["count"]) == (100, 7), "an event may lack one, too"


def test_pair_never_changes_and_makes_no_row_old() -> None:
    row = made(pair="AB")
    row.apply(event(), 200)
    assert row.as_of_ms() == 200


def test_newer_answer_of_rest_takes_the_place_of_what_the_stream_brought() -> None:
    row = made()
    row.apply(event(), 200)
    row.seed({"symbol": "A", "price": "3.50", "count": 9, "time": 290}, 300)
    assert (row.as_of_ms(), told(row)["price"]) == (300, "3.50")
    assert row.apply(event(p="4.50"), 250)
    assert (row.as_of_ms(), told(row)["price"]) == (300, "3.50"), "an event from before it is no news"
    row.apply(event(p="4.50"), 301)
    assert (row.as_of_ms(), told(row)["price"]) == (301, "4.50")


def test_older_event_and_older_answer_change_nothing() -> None:
    row = made()
    row.apply(event(), 200)
    assert not row.apply(event(p="9.99"), 199)
    row.seed({"symbol": "A", "price": "9.99", "count": 1, "time": 1}, 99)
    assert (told(row)["price"], row.seed_ms, row.event_ms) == ("2.50", 100, 200)


@pytest.mark.parametrize("price", [2.5, 2, None, True, ["2.50"], "2.5", "2.500", "2"])
def test_row_is_unfit_where_the_stream_writes_otherwise_than_rest(price: Any) -> None:
    row = made()
    row.apply(event(p=price), 200)
    assert not row.is_fit
    row.apply(event(), 201)
    assert row.is_fit


def test_each_event_is_looked_at_and_not_the_first_only() -> None:
    row = made()
    row.apply(event(), 200)
    assert row.is_fit
    row.apply(event(n="8"), 201)
    assert not row.is_fit, "a later event of another form"


@pytest.mark.parametrize("row", [None, [], "x", 1])
def test_row_that_is_no_object_is_refused(row: Any) -> None:
    with pytest.raises(TypeError):
        StreamedRow(FIELDS).seed(row, 100)


def test_short_form_has_its_fields_in_its_order_and_is_never_mixed_up_with_the_long_one() -> None:
    row = StreamedRow(DAY_FIELDS[Market.SPOT])
    row.seed(dict.fromkeys(DAY_FIELDS[Market.SPOT], "1.0"), 100)
    assert tuple(told(row, "MINI")) == MINI_FIELDS
    assert tuple(told(row)) == tuple(DAY_FIELDS[Market.SPOT])
    row.apply({"c": "2.0"}, 200)
    assert (told(row, "MINI")["lastPrice"], told(row)["lastPrice"]) == ("2.0", "2.0"), "both are made anew"


def test_short_form_of_a_row_that_lacks_something_breaks_nothing() -> None:
    assert told(made(), "MINI") == {"symbol": "A", "count": 7}


def test_what_is_not_proven_to_be_the_same_is_not_taken_from_the_stream() -> None:
    assert "baseVolume" not in DAY_FIELDS[Market.CM]
    assert "quoteVolume" not in DAY_FIELDS[Market.CM]
    for market in (Market.UM, Market.CM):
        assert "interestRate" not in MARK_FIELDS[market]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 99)), max_size=12),
    st.booleans(),
)
def test_each_field_was_shown_at_the_time_that_is_told_or_later(
    turns: list[tuple[bool, int, int]], has_other: bool
) -> None:
    row, prices = StreamedRow(FIELDS), dict[int, set[str]]()
    others = dict[int, str]()
    for is_seed, at_ms, number in turns:
        price = f"{number}.00"
        prices.setdefault(at_ms, set()).add(price)
        if is_seed:
            others[at_ms] = price
            row.seed({"price": price} | ({"other": price} if has_other else {}), at_ms)
        else:
            row.apply({"p": price}, at_ms)
    if row.is_known:
        found, as_of_ms = told(row), row.as_of_ms()
        assert any(found["price"] in prices[at] for at in prices if at >= as_of_ms)
        assert as_of_ms == (max(others) if has_other else max(prices))
