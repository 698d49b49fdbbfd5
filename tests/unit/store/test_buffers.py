"""What waits in memory: bounds, retries, counters."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.errors import StoreError
from resender.store import LogRecord
from resender.store.buffers import BATCH_ROWS, LogBuffer, SeenCounts

RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/", 200, 200, 1.0, 1)


def fails(records: Sequence[LogRecord]) -> int:
    raise StoreError("no")


def test_record_beyond_the_size_is_dropped_and_counted() -> None:
    buffer = LogBuffer(3, 2)
    for _ in range(5):
        buffer.add(RECORD)
    assert (len(buffer), buffer.dropped) == (3, 2)


def test_batch_under_way_counts_towards_the_size() -> None:
    buffer = LogBuffer(3, 5)
    for _ in range(3):
        buffer.add(RECORD)
    with pytest.raises(StoreError):
        buffer.flush(fails)
    buffer.add(RECORD)
    assert (len(buffer), buffer.dropped) == (3, 1)


def test_failed_batch_is_tried_again_in_order_then_dropped() -> None:
    buffer = LogBuffer(10_000, 3)
    for number in range(BATCH_ROWS + 5):
        buffer.add(RECORD._replace(time_ms=number))
    for _ in range(3):
        with pytest.raises(StoreError):
            buffer.flush(fails)
    assert (buffer.dropped, len(buffer)) == (BATCH_ROWS, 5)
    written: list[LogRecord] = []

    def works(records: Sequence[LogRecord]) -> int:
        written.extend(records)
        return len(records)

    assert buffer.flush(works) == 5
    assert [record.time_ms for record in written] == list(range(BATCH_ROWS, BATCH_ROWS + 5))
    assert buffer.flush(works) == 0


def test_refused_records_of_a_batch_count_as_dropped() -> None:
    buffer = LogBuffer(10, 3)
    for _ in range(4):
        buffer.add(RECORD)
    buffer.flush(lambda records: 3)
    assert (buffer.written, buffer.dropped, len(buffer)) == (3, 1, 0)


@given(
    st.lists(st.sampled_from(["add", "works", "fails"]), max_size=60), st.integers(1, 8), st.integers(1, 3)
)
def test_no_record_is_ever_unaccounted_for(steps: list[str], size: int, tries: int) -> None:
    buffer = LogBuffer(size, tries)
    added = 0
    for step in steps:
        if step == "add":
            buffer.add(RECORD)
            added += 1
        elif step == "works":
            buffer.flush(len)
        else:
            with contextlib.suppress(StoreError):
                buffer.flush(fails)
        assert len(buffer) <= size
        assert buffer.written + buffer.dropped + len(buffer) == added
    buffer.give_up()
    assert buffer.written + buffer.dropped == added


def test_counts_given_back_join_the_new_ones() -> None:
    seen = SeenCounts()
    seen.note(1, 10)
    seen.note(1, 20)
    taken = seen.take()
    assert taken == {1: (2, 20)}
    seen.note(1, 30)
    seen.note(2, 5)
    seen.give_back(taken)
    assert seen.take() == {1: (3, 30), 2: (1, 5)}
    assert seen.take() == {}
