"""The request log for the server: a reader sees what was logged before, however it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from resender.store import LogFilters, LogRecord, LogRetention, LogRow, Store

RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/klines", 200, 200, 1.0, 1)
# Nothing is written by itself in the time of a test.
SLOW = {"flush_s": 3600.0, "poll_s": 3600.0}


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    made = Store(url, log_retention_days=36_500, log_max_rows=1_000_000, **SLOW)
    await made.start(lambda entries: None)
    await made.set_log_enabled(True)
    yield made
    await made.stop()


def log(store: Store, count: int = 3, **changes: object) -> None:
    for number in range(count):
        store.log(RECORD._replace(time_ms=1000 + number, **changes))


def times(rows: list[LogRow]) -> list[int]:
    return [row.time_ms for row in rows]


async def test_what_was_logged_before_is_on_the_page(store: Store) -> None:
    log(store)
    page = await store.log_page(LogFilters())
    assert times(page.rows) == [1002, 1001, 1000]
    log(store, 1, ip="10.0.0.2")
    assert len(await store.log_query(ip="10.0.0.2")) == 1


async def test_later_pages_go_on_where_the_first_ended(store: Store) -> None:
    log(store, 7)
    first = await store.log_page(LogFilters(), None, 3)
    second = await store.log_page(LogFilters(), first.next_before, 3)
    assert times(first.rows + second.rows) == [1006, 1005, 1004, 1003, 1002, 1001]


async def test_place_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="before"):
        await store.log_page(LogFilters(), "nonsense")


async def test_all_rows_that_match_come_in_lists_and_later_ones_do_not(store: Store) -> None:
    log(store, 25)
    lists = []
    async for rows in store.log_iterate(LogFilters(path="klines"), batch=10):
        lists.append(times(rows))
        log(store, 5)
    assert [len(each) for each in lists if each] == [10, 10, 5]
    assert sorted(time_ms for each in lists for time_ms in each) == list(range(1000, 1025))


async def test_one_row_and_the_number_of_all_are_told(store: Store) -> None:
    log(store)
    (newest, *_) = (await store.log_page(LogFilters())).rows
    assert await store.log_get(newest.id) == newest
    assert await store.log_get(999) is None
    assert await store.log_count() == 3


async def test_clearing_takes_what_was_logged_before_it_too(store: Store) -> None:
    log(store, 10)
    assert await store.log_clear(1004) == 4
    log(store, 2)
    assert await store.log_clear() == 8
    assert await store.log_count() == 0


async def test_retention_is_the_programs_until_one_is_chosen_and_again_after(store: Store) -> None:
    assert store.log_retention() == LogRetention(36_500, 1_000_000, None, None)
    assert await store.set_log_retention(7, None) == LogRetention(7, 1_000_000, 7, None)
    assert store.log_retention().days == 7
    assert await store.set_log_retention(None, None) == LogRetention(36_500, 1_000_000, None, None)


async def test_retention_out_of_bounds_is_refused_and_the_old_one_stays(store: Store) -> None:
    await store.set_log_retention(7, 70)
    with pytest.raises(ValueError, match="must be between"):
        await store.set_log_retention(0, 70)
    assert store.log_retention() == LogRetention(7, 70, 7, 70)
