"""Rows of a history: nothing is told that may lack a row, whatever answers come in which order."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.market.timed_rows import MAX_ROWS, TimedRows, read_timed


def rows(*times: int, mark: str = "") -> list[tuple[int, bytes]]:
    return [(time_ms, b"%d%b" % (time_ms, mark.encode())) for time_ms in times]


def texts(*times: int) -> list[bytes]:
    return [b"%d" % time_ms for time_ms in times]


def held(*times: int, is_whole: bool = False) -> TimedRows:
    made = TimedRows()
    assert made.take(rows(*times), is_whole=is_whole)
    return made


def test_nothing_is_known_before_the_first_answer() -> None:
    made = TimedRows()
    assert (len(made), made.newest_ms, made.latest(1), made.from_time(0, 9, 1)) == (0, -1, None, None)


def test_history_that_has_no_row_yet_is_whole_and_empty() -> None:
    made = held(is_whole=True)
    assert (made.latest(5), made.from_time(0, 99, 5)) == ([], [])


def test_newest_rows_are_told_as_far_as_they_are_held() -> None:
    made = held(10, 20, 30)
    assert made.latest(2) == texts(20, 30)
    assert made.latest(3) == texts(10, 20, 30)
    assert made.latest(4) is None, "older ones exist"
    assert held(10, 20, 30, is_whole=True).latest(4) == texts(10, 20, 30)


def test_span_of_time_is_told_from_its_oldest_row_on() -> None:
    made = held(10, 20, 30, 40)
    assert made.from_time(10, 40, 2) == texts(10, 20)
    assert made.from_time(11, 40, 9) == texts(20, 30, 40)
    assert made.from_time(20, 20, 9) == texts(20), "both ends count"
    assert made.from_time(41, 99, 9) == []
    assert made.from_time(35, 31, 9) == []
    assert made.from_time(9, 40, 2) is None, "what lies before the first is not known"
    assert held(10, is_whole=True).from_time(9, 40, 2) == texts(10)


def test_newer_rows_join_those_that_are_held() -> None:
    made = held(10, 20, 30, is_whole=True)
    assert made.take(rows(30, 40), is_whole=False)
    assert made.latest(9) == texts(10, 20, 30, 40), "and nothing lies before the first still"


def test_rows_that_do_not_reach_back_take_the_place_of_those_that_are_held() -> None:
    made = held(10, 20, is_whole=True)
    assert made.take(rows(40, 50), is_whole=False)
    assert made.latest(3) is None
    assert made.from_time(30, 50, 9) is None, "there may be one between 20 and 40"
    assert made.latest(2) == texts(40, 50)


def test_row_that_was_paid_otherwise_takes_everything_away_that_was_believed() -> None:
    made = held(10, 20, 30, is_whole=True)
    assert not made.take(rows(20, 30, mark="x"), is_whole=False)
    assert made.latest(2) == [b"20x", b"30x"]
    assert made.latest(3) is None


def test_row_the_exchange_shows_no_more_is_told_no_more() -> None:
    made = held(10, 20, 30)
    assert made.take(rows(10, 30), is_whole=False)
    assert made.latest(2) == texts(10, 30)


def test_older_answer_that_came_late_changes_nothing() -> None:
    made = held(10, 20, 30)
    assert made.take(rows(10, 20), is_whole=False)
    assert made.latest(3) == texts(10, 20, 30)


def test_answer_without_rows_where_some_were_is_a_contradiction() -> None:
    made = held(10, 20, 30, is_whole=True)
    assert not made.take([], is_whole=True)
    assert (len(made), made.latest(1), made.from_time(0, 99, 9)) == (0, None, None)


def test_only_so_many_are_held_and_what_went_is_not_known_any_more() -> None:
    made = held(*range(MAX_ROWS), is_whole=True)
    assert made.latest(MAX_ROWS) == texts(*range(MAX_ROWS))
    assert made.take(rows(MAX_ROWS - 1, MAX_ROWS), is_whole=False)
    assert len(made) == MAX_ROWS
    assert made.from_time(0, 5, 9) is None
    assert made.from_time(1, 2, 9) == texts(1, 2)
    assert made.latest(MAX_ROWS) == texts(*range(1, MAX_ROWS + 1))


@given(
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=6),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 9),
)
def test_whatever_is_told_is_what_the_exchange_has(
    history: list[int], reads: list[tuple[int, int]], start: int, end: int, limit: int
) -> None:
    made = TimedRows()
    for now, count in reads:
        shown = [each for each in history if each <= now]
        made.take(rows(*shown[-count:]), is_whole=len(shown) < count)
    known = [each for each in history if each <= made.newest_ms]
    if (found := made.latest(limit)) is not None:
        assert found == texts(*known[-limit:])
    if (found := made.from_time(start, end, limit)) is not None:
        assert found == texts(*[each for each in known if start <= each <= end][:limit])


def test_answer_is_read_row_by_row_as_it_was_written() -> None:
    body = b'[{"symbol":"A","fundingTime":1,"fundingRate":"0.00010000"},{"symbol":"A","fundingTime":2}]'
    found = read_timed(body, "fundingTime")
    assert [time_ms for time_ms, _ in found] == [1, 2]
    assert b"[" + b",".join(text for _, text in found) + b"]" == body
    assert read_timed(b"[]", "fundingTime") == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{}", b"null", b"1", b'"x"', b"[1]", b"[null]", b"[[1]]", b'[{"time":1}]',
        b'[{"fundingTime":"1"}]', b'[{"fundingTime":true}]', b'[{"fundingTime":1.5}]', b'[{"fundingTime":-1}]',
        b'[{"fundingTime":2},{"fundingTime":1}]', b'[{"fundingTime":2},{"fundingTime":2}]',
    ],
)  # fmt: skip
def test_answer_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_timed(body, "fundingTime")


LEAVES = st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=3)


@given(
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.just("t") | st.text(max_size=2), inner)
        ),
    )
)
def test_no_answer_breaks_the_reader_otherwise(value: object) -> None:
    try:
        found = read_timed(orjson.dumps(value), "t")
    except (ValueError, KeyError, TypeError):
        return
    assert [time_ms for time_ms, _ in found] == sorted({time_ms for time_ms, _ in found})
