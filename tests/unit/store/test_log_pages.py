"""Pages of the request log: newest first, nothing twice and nothing left out, however it is filtered."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from resender.store import LogFilters, LogRecord, LogRow, Repository
from resender.store.log_pages import FIRST_STEP_ROWS, PAGE_MAX, STEP_ROWS, step_sizes

RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/klines", 200, 200, 1.0, 1)


def fill(repository: Repository, *records: LogRecord) -> None:
    repository.log_write(list(records))


def pages(repository: Repository, filters: LogFilters, limit: int, **options: Any) -> list[list[LogRow]]:
    """Read all pages there are."""
    found: list[list[LogRow]] = []
    before: str | None = None
    for _ in range(1000):
        page = repository.log_page(filters, before, limit, **options)
        found.append(page.rows)
        if page.next_before is None:
            return found
        before = page.next_before
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pages_hold_every_row_once_the_newest_first(repository: Repository, limit: int) -> None:
    # Many rows have the same time; their numbers decide.
    fill(repository, *(RECORD._replace(time_ms=1000 + number // 5) for number in range(50)))
    rows = [row for page in pages(repository, LogFilters(), limit) for row in page]
    assert len(rows) == 50
    keys = [(row.time_ms, row.id) for row in rows]
    assert keys == sorted(keys, reverse=True)
    assert len(set(keys)) == 50


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"ip": "10.0.0.2"}, {2}),
        ({"market": "um"}, {3}),
        ({"path": "ORDER"}, {4}),
        ({"status_min": 403, "status_max": 403}, {5}),
        ({"status_min": 400}, {5, 6}),
        ({"status_min": 400, "status_max": 499}, {5}),
        ({"errors_only": True}, {5, 6, 7}),
        ({"text": "refused"}, {7}),
        ({"text": "10.0.0.2"}, {2}),
        ({"text": "%"}, {8}),
        ({"path": "_"}, {8}),
        ({"from_ms": 7, "to_ms": 9}, {7, 8}),
        ({"from_ms": 9}, set()),
        ({"to_ms": 2}, {1}),
        ({"ip": "10.0.0.2", "market": "um"}, set()),
        ({"text": "\ud800"}, set()),
    ],
)
def test_filter_lets_through_what_is_meant(
    repository: Repository, filters: dict[str, Any], wanted: set[int]
) -> None:
    fill(
        repository,
        RECORD._replace(time_ms=1),
        RECORD._replace(time_ms=2, ip="10.0.0.2"),
        RECORD._replace(time_ms=3, market="um"),
        RECORD._replace(time_ms=4, path="/api/v3/order"),
        RECORD._replace(time_ms=5, status=403),
        RECORD._replace(time_ms=6, status=502),
        RECORD._replace(time_ms=7, error="The connection was refused."),
        RECORD._replace(time_ms=8, path="/100%_x"),
    )
    page = repository.log_page(LogFilters(**filters))
    assert {row.time_ms for row in page.rows} == wanted
    assert page.next_before is None


def test_search_stops_after_so_many_rows_and_says_where_to_go_on(repository: Repository) -> None:
    fill(repository, *(RECORD._replace(time_ms=number) for number in range(3000)))
    fill(repository, RECORD._replace(time_ms=-5, path="/needle"))
    filters = LogFilters(path="needle")
    page = repository.log_page(filters, scan_limit=1000)
    assert page.rows == []
    assert page.next_before is not None
    found = [row.path for each in pages(repository, filters, 10, scan_limit=1000) for row in each]
    assert found == ["/needle"]


def test_page_can_go_on_from_the_number_of_a_row(repository: Repository) -> None:
    fill(repository, *(RECORD._replace(time_ms=number) for number in range(5)))
    newest = repository.log_page(LogFilters()).rows[0]
    assert [row.time_ms for row in repository.log_page(LogFilters(), newest.id).rows] == [3, 2, 1, 0]
    assert repository.log_page(LogFilters(), str(newest.id)) == repository.log_page(LogFilters(), newest.id)


def test_page_after_a_row_that_is_gone_is_the_last_one(repository: Repository) -> None:
    fill(repository, *(RECORD._replace(time_ms=number) for number in range(5)))
    for gone in (999, "999", 10**30, str(10**30)):
        page = repository.log_page(LogFilters(), gone)
        assert (page.rows, page.next_before) == ([], None)


@pytest.mark.parametrize("before", ["x", "", "1-", "-", "1-2-3", "٣", "1 2"])
def test_place_that_is_none_is_refused(repository: Repository, before: str) -> None:
    with pytest.raises(ValueError, match="before"):
        repository.log_page(LogFilters(), before)


def test_row_is_found_by_its_number(repository: Repository) -> None:
    fill(repository, RECORD)
    (row,) = repository.log_page(LogFilters()).rows
    assert repository.log_get(row.id) == row
    assert all(repository.log_get(gone) is None for gone in (0, -1, 99, 2**63, 10**30))


def test_numbers_without_measure_are_bounded(repository: Repository) -> None:
    fill(repository, RECORD)
    for filters in (LogFilters(from_ms=-(10**30), to_ms=10**30), LogFilters(status_min=-(10**30))):
        assert len(repository.log_page(filters).rows) == 1
    assert repository.log_page(LogFilters(status_min=10**30, status_max=10**30)).rows == []


def test_text_without_end_matches_nothing_and_is_no_trouble(repository: Repository) -> None:
    fill(repository, RECORD)
    assert repository.log_page(LogFilters(text="x" * 200_000)).rows == []


@pytest.mark.parametrize(("limit", "count"), [(0, 1), (-1, 1), (10**9, PAGE_MAX)])
def test_limit_is_kept_within_bounds(repository: Repository, limit: int, count: int) -> None:
    fill(repository, *(RECORD._replace(time_ms=number) for number in range(PAGE_MAX + 5)))
    assert len(repository.log_page(LogFilters(), None, limit).rows) == count


def test_steps_grow_from_small_to_as_large_as_is_quick() -> None:
    sizes = list(islice(step_sizes(), 8))
    assert sizes[0] == FIRST_STEP_ROWS
    assert max(sizes) == sizes[-1] == STEP_ROWS
    assert sizes == sorted(sizes)


def test_rows_written_between_two_pages_are_not_on_the_next(repository: Repository) -> None:
    fill(repository, *(RECORD._replace(time_ms=number) for number in range(10)))
    first = repository.log_page(LogFilters(), None, 4)
    fill(repository, RECORD._replace(time_ms=999))
    second = repository.log_page(LogFilters(), first.next_before, 4)
    assert [row.time_ms for row in first.rows + second.rows] == [9, 8, 7, 6, 5, 4, 3, 2]
