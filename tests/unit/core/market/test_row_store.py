"""Rows as bytes behave like a plain list of rows, whatever is put in, exchanged or dropped."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resender.core.market.row_store import Buffer, Changes, RowStore

FOLD_ROWS = 32


def make_row(open_time: int, filler: str = "") -> bytes:
    return b'[%d,"%s"]' % (open_time, filler.encode())


def store_of(block: int, buffer: int) -> tuple[RowStore, list[bytes]]:
    """Make a store with so many rows in its block and so many in the buffer behind it."""
    store, rows = RowStore(), []
    for number in range(block + buffer):
        rows.append(make_row(number, "x" * (number % 5)))
        store.append(number, rows[-1])
        if number == block - 1:
            store.fold(block + buffer)
    return store, rows


def assert_same(store: RowStore, rows: list[bytes]) -> None:
    assert list(store) == rows
    assert len(store) == len(rows)
    joined = b"".join(row + b"," for row in rows)
    assert store.part(0, len(rows)) == joined
    assert store.size(0, len(rows)) == len(joined)
    for first in range(len(rows)):
        for last in (first, first + 1, len(rows)):
            part = b"".join(row + b"," for row in rows[first:last])
            assert store.part(first, last) == part
            assert b"".join(store.views(first, last)) == part
            assert store.size(first, last) == len(part)


@pytest.mark.parametrize("filler", ["", "y", "y" * 40], ids=["shorter", "as long or so", "longer"])
@pytest.mark.parametrize(
    ("block", "buffer", "index"),
    [(6, 4, 0), (6, 4, 3), (6, 4, 5), (6, 4, 6), (6, 4, 8), (6, 4, 9), (0, 3, 0), (0, 3, 2), (3, 0, 2), (1, 0, 0)],
)  # fmt: skip
def test_replaced_row_leaves_all_others_as_they_were(
    block: int, buffer: int, index: int, filler: str
) -> None:
    store, rows = store_of(block, buffer)
    layout = store.layout
    rows[index] = make_row(index, filler)
    store.replace(index, rows[index])
    assert_same(store, rows)
    assert list(store.opens) == list(range(block + buffer))
    # What was packed of the old rows must not be used again.
    assert store.layout > layout
    rows.append(make_row(99, "after"))
    store.append(99, rows[-1])
    assert_same(store, rows)


@pytest.mark.parametrize("index", [0, 2, 5, 7])
def test_replaced_row_survives_folding_and_rows_put_in_front(index: int) -> None:
    store, rows = store_of(5, 3)
    rows[index] = make_row(index, "longer than before")
    store.replace(index, rows[index])
    store.prepend([-2, -1], [make_row(-2), make_row(-1, "z")])
    rows = [make_row(-2), make_row(-1, "z"), *rows]
    assert_same(store, rows)
    assert store.fold(7) == 3
    assert_same(store, rows[3:])
    store.replace(0, make_row(1, "first again"))
    assert_same(store, [make_row(1, "first again"), *rows[4:]])


def test_restored_rows_can_be_replaced() -> None:
    rows = [make_row(number, "r" * number) for number in range(4)]
    store = RowStore()
    store.restore(b",".join(rows), range(4))
    rows[2] = make_row(2, "corrected")
    store.replace(2, rows[2])
    assert_same(store, rows)


# -- views --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "kinds"),
    [
        (0, 6, [memoryview]),
        (2, 5, [memoryview]),
        (6, 10, [bytes]),
        (7, 9, [bytes]),
        (0, 10, [memoryview, bytes]),
        (5, 7, [memoryview, bytes]),
        (4, 4, []),
    ],
)
def test_rows_in_the_block_are_not_copied_and_those_behind_it_are(
    first: int, last: int, kinds: list[type]
) -> None:
    store, rows = store_of(6, 4)
    views = store.views(first, last)
    assert [type(view) for view in views] == kinds
    assert b"".join(views) == b"".join(row + b"," for row in rows[first:last])


# -- changes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.append(100, make_row(100)),
        lambda store: store.fold(4),
        lambda store: store.prepend([-1], [make_row(-1)]),
        lambda store: store.restore(make_row(1), [1]),
        lambda store: store.replace(0, make_row(0, "other")),
        lambda store: store.replace(5, make_row(5, "other")),
    ],
    ids=["append", "fold", "prepend", "restore", "replace in the block", "replace behind it"],
)
def test_change_of_the_rows_is_counted_and_a_look_at_them_is_not(change: Callable[[RowStore], None]) -> None:
    store, _ = store_of(4, 3)
    before = store.changes.count
    list(store), len(store), store.part(0, 7), store.views(0, 7), store.size(0, 7)
    assert store.changes.count == before
    change(store)
    assert store.changes.count > before


def test_stores_may_be_counted_together() -> None:
    changes = Changes()
    first, second = RowStore(changes), RowStore(changes)
    first.append(0, make_row(0))
    counts = [changes.count]
    second.append(0, make_row(0))
    counts.append(changes.count)
    first.replace(0, make_row(0, "x"))
    counts.append(changes.count)
    assert counts == sorted(set(counts)), "each is a change"
    assert counts[0] > 0
    RowStore().append(0, make_row(0))
    assert changes.count == counts[-1], "others are counted on their own"


class AgainstAList(RuleBasedStateMachine):
    """Every operation, on the store and on a list; numbers of rows keep their meaning in a layout."""

    @initialize(depth=st.integers(1, 50))
    def begin(self, depth: int) -> None:
        self.store = RowStore()
        self.rows: list[tuple[int, bytes]] = []
        self.depth = depth
        self.next_time, self.first_time = 0, 0
        self.meaning: dict[tuple[int, int], bytes] = {}
        # Views somebody still holds on to, and what they showed.
        self.views: list[tuple[list[Buffer], bytes]] = []
        self.seen: tuple[int, list[tuple[int, bytes]]] = (0, [])

    def fresh(self, open_time: int, filler: int) -> bytes:
        return make_row(open_time, "x" * filler)

    @rule(filler=st.integers(0, 9), count=st.integers(1, 12))
    def append(self, filler: int, count: int) -> None:
        for _ in range(count):
            row = self.fresh(self.next_time, filler)
            self.rows.append((self.next_time, row))
            is_time = self.store.append(self.next_time, row)
            self.next_time += 1
            if is_time:
                self.fold()

    @rule()
    def fold(self) -> None:
        gone = self.store.fold(self.depth)
        assert gone == max(0, len(self.rows) - self.depth)
        self.rows = self.rows[gone:]

    @rule(filler=st.integers(0, 9), count=st.integers(1, 5))
    def prepend(self, filler: int, count: int) -> None:
        times = list(range(self.first_time - count, self.first_time))
        if self.rows and self.rows[0][0] != self.first_time:
            return  # what was dropped does not come back
        rows = [self.fresh(time, filler) for time in times]
        self.store.prepend(times, rows)
        self.rows = [*zip(times, rows, strict=True), *self.rows]
        self.first_time -= count

    @rule(data=st.data(), filler=st.integers(0, 30))
    def replace(self, data: st.DataObject, filler: int) -> None:
        if self.rows:
            index = data.draw(st.integers(0, len(self.rows) - 1))
            open_time = self.rows[index][0]
            self.rows[index] = open_time, self.fresh(open_time, filler)
            self.store.replace(index, self.rows[index][1])

    @rule()
    def restore(self) -> None:
        if self.rows:
            self.store.restore(b",".join(row for _, row in self.rows), [time for time, _ in self.rows])

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, len(self.rows)))
        last = data.draw(st.integers(0, len(self.rows)))
        part = b"".join(row + b"," for _, row in self.rows[first:last])
        views = self.store.views(first, last)
        assert b"".join(views) == part == self.store.part(first, last)
        self.views.append((views, part))

    @invariant()
    def views_stay_what_they_were(self) -> None:
        for views, part in getattr(self, "views", ()):
            assert b"".join(views) == part

    @invariant()
    def no_change_goes_uncounted(self) -> None:
        if hasattr(self, "store"):
            count, rows = self.seen
            self.seen = self.store.changes.count, list(self.rows)
            assert rows == self.rows or self.seen[0] > count

    @invariant()
    def both_hold_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        store = self.store
        assert_same(store, [row for _, row in self.rows])
        assert list(store.opens) == [time for time, _ in self.rows]
        assert store.size_bytes >= store.size(0, len(store))
        assert orjson.loads(b"[" + store.part(0, len(store))[:-1] + b"]") == [
            orjson.loads(row) for _, row in self.rows
        ]
        for index, (_, row) in enumerate(self.rows):
            assert self.meaning.setdefault((store.layout, store.row_base + index), row) == row


AgainstAList.TestCase.settings = settings(max_examples=120, stateful_step_count=30)
TestRowStoreAgainstAList = AgainstAList.TestCase
