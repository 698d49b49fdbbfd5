"""Pages of the request log with every filter, on every kind of database."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from resender.store import LogFilters, LogPage, LogRecord, LogRow, Repository, log_pages, open_repository

pytestmark = pytest.mark.component

BASE = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/time", 200, 200, 1.5, 10, None)
ROWS = 250


@pytest.fixture
def repository(database_url: str):
    with open_repository(database_url) as opened:
        yield opened


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pages, "FIRST_STEP_ROWS", 7)
    monkeypatch.setattr(log_pages, "STEP_ROWS", 23)


def fill(repository: Repository) -> None:
    """Write rows of all kinds; many share a millisecond, and they do not come in order."""
    rng = random.Random(4)
    rows = []
    for _ in range(ROWS):
        status = rng.choice([200, 200, 200, 200, 304, 400, 403, 429, 502])
        error = rng.choice([None, "The line broke: 100%_!"]) if status in (200, 502) else None
        rows.append(
            BASE._replace(
                time_ms=1000 + rng.randrange(60),
                ip=rng.choice(["10.0.0.1", "10.0.0.2", "2001:db8::A"]),
                market=rng.choice(["spot", "um", "cm"]),
                path=rng.choice(["/api/v3/Order", "/fapi/v1/klines", "/odd/100%_!/x", "/odd/100xyz"]),
                status=status,
                error=error,
            )
        )
    assert repository.log_write(rows) == ROWS


def matches(row: LogRow, filters: LogFilters) -> bool:
    """Say in plain words what the filters mean."""

    def has(text: str | None, part: str) -> bool:
        return text is not None and part.lower() in text.lower()

    return all(
        (
            filters.from_ms is None or row.time_ms >= filters.from_ms,
            filters.to_ms is None or row.time_ms < filters.to_ms,
            filters.ip in (None, row.ip),
            filters.market in (None, row.market),
            filters.status_min is None or row.status >= filters.status_min,
            filters.status_max is None or row.status <= filters.status_max,
            not filters.errors_only or row.status >= 400 or row.error is not None,
            filters.path is None or has(row.path, filters.path),
            filters.text is None or any(has(text, filters.text) for text in (row.path, row.ip, row.error)),
        )
    )


def pages(repository: Repository, filters: LogFilters, limit: int, **options: Any) -> list[LogPage]:
    found = [repository.log_page(filters, None, limit, **options)]
    while found[-1].next_before is not None:
        found.append(repository.log_page(filters, found[-1].next_before, limit, **options))
        assert len(found) < 5000
    return found


FILTERS = [
    LogFilters(),
    LogFilters(ip="10.0.0.2"),
    LogFilters(ip="10.0.0.99"),
    LogFilters(market="um"),
    LogFilters(status_min=403, status_max=403),
    LogFilters(status_min=200, status_max=200),
    LogFilters(status_min=400, status_max=499),
    LogFilters(status_min=200, status_max=299),
    LogFilters(status_min=500),
    LogFilters(status_max=399),
    LogFilters(errors_only=True),
    LogFilters(errors_only=True, status_max=399),
    LogFilters(errors_only=True, status_min=200, status_max=200),
    LogFilters(from_ms=1010, to_ms=1020),
    LogFilters(from_ms=1010, to_ms=1020, market="um"),
    LogFilters(ip="10.0.0.1", market="cm"),
    LogFilters(ip="10.0.0.1", market="cm", status_min=502, status_max=502),
    LogFilters(ip="2001:db8::A", errors_only=True, market="spot", path="order", text="BROKE"),
    LogFilters(path="ORDER"),
    LogFilters(path="100%_!"),
    LogFilters(path="%"),
    LogFilters(path="\\"),
    LogFilters(text="100%_!"),
    LogFilters(text="2001:DB8"),
    LogFilters(text="' OR 1=1 --"),
    LogFilters(text="nowhere"),
]


@pytest.mark.usefixtures("small_steps")
def test_pages_hold_each_row_that_matches_once_and_newest_first(repository: Repository) -> None:
    fill(repository)
    everything = repository.log_query(limit=1000)
    assert len(everything) == ROWS
    for filters in FILTERS:
        wanted = [row for row in everything if matches(row, filters)]
        for limit, options in ((1000, {}), (9, {}), (3, {"scan_limit": 30})):
            found = pages(repository, filters, limit, **options)
            assert [row for page in found for row in page.rows] == wanted, (filters, limit)
            assert all(len(page.rows) <= limit for page in found)
        same = {name: value for name, value in dataclasses.asdict(filters).items() if value is not None}
        assert repository.log_query(**same, limit=1000) == wanted


@pytest.mark.usefixtures("small_steps")
def test_page_stops_looking_and_says_where_to_go_on(repository: Repository) -> None:
    repository.log_write([BASE._replace(time_ms=number) for number in range(100)])
    repository.log_write([BASE._replace(time_ms=0, path="/wanted")])
    page = repository.log_page(LogFilters(path="wanted"), scan_limit=20)
    assert page.rows == []
    assert page.next_before is not None
    rest = repository.log_page(LogFilters(path="wanted"), page.next_before)
    assert [row.path for row in rest.rows] == ["/wanted"]
    assert rest.next_before is None


def test_last_page_says_that_there_is_nothing_older(repository: Repository) -> None:
    repository.log_write([BASE._replace(time_ms=number) for number in range(20)])
    for filters in (LogFilters(), LogFilters(ip=BASE.ip), LogFilters(path="time")):
        page = repository.log_page(filters, limit=10)
        assert page.next_before is not None
        assert repository.log_page(filters, page.next_before, 10).next_before is None
    assert repository.log_page(LogFilters(), limit=0).rows[0].time_ms == 19


def test_page_goes_on_where_its_last_row_was_removed_meanwhile(repository: Repository) -> None:
    repository.log_write([BASE._replace(time_ms=number) for number in range(20)])
    page = repository.log_page(LogFilters(), limit=5)
    model = repository.models.request_log
    model.delete().where(model.id == page.rows[-1].id).execute()
    rest = repository.log_page(LogFilters(), page.next_before)
    assert [row.time_ms for row in rest.rows] == list(range(14, -1, -1))


def test_id_of_a_row_is_understood_as_before(repository: Repository) -> None:
    repository.log_write([BASE._replace(time_ms=number) for number in range(9)])
    row = repository.log_page(LogFilters(), limit=4).rows[-1]
    for before in (row.id, str(row.id), f"{row.time_ms}-{row.id}"):
        assert repository.log_page(LogFilters(), before).rows[0].time_ms == row.time_ms - 1
    for unknown in (4711, "4711", 0, 10**30, "9" * 60):
        assert repository.log_page(LogFilters(), unknown) == LogPage([], None)


@pytest.mark.parametrize("before", ["", "x", "1-", "-1", "1-2-3", "1.5", "٣", "1'--"])
def test_before_that_is_neither_is_refused(repository: Repository, before: str) -> None:
    with pytest.raises(ValueError, match="`before`"):
        repository.log_page(LogFilters(), before)


@pytest.mark.parametrize(
    "filters",
    [
        LogFilters(from_ms=-(10**30), to_ms=10**30),
        LogFilters(status_min=-(10**30), status_max=10**30),
        LogFilters(text="", path=""),
    ],
)
def test_bounds_beyond_all_numbers_find_everything(repository: Repository, filters: LogFilters) -> None:
    repository.log_write([BASE])
    assert len(repository.log_page(filters).rows) == 1


@pytest.mark.parametrize("odd", ["a\0b", "\ud800", "x" * 100_000, "🚀"])
def test_odd_text_to_look_for_is_just_not_found(repository: Repository, odd: str) -> None:
    repository.log_write([BASE])
    for filters in (LogFilters(text=odd), LogFilters(path=odd), LogFilters(ip=odd), LogFilters(market=odd)):
        assert repository.log_page(filters) == LogPage([], None)
    big = LogFilters(status_min=10**30, status_max=10**30)
    assert repository.log_page(big) == LogPage([], None)


def test_one_row_is_found_by_its_id(repository: Repository) -> None:
    repository.log_write([BASE._replace(error="odd")])
    (row,) = repository.log_query()
    assert repository.log_get(row.id) == row
    assert row.error == "odd"
    for unknown in (row.id + 1, 0, -1, 2**63, 10**30):
        assert repository.log_get(unknown) is None


@pytest.mark.parametrize(
    ("days", "rows"), [(None, None), (7, None), (None, 5000), (1, 1), (36_500, 1_000_000_000)]
)
def test_retention_chosen_is_kept(repository: Repository, days: int | None, rows: int | None) -> None:
    assert repository.log_retention() == (None, None)
    repository.set_log_retention(3, 3)
    repository.set_log_retention(days, rows)
    assert repository.log_retention() == (days, rows)


@pytest.mark.parametrize(("days", "rows"), [(0, None), (None, 0), (-1, 5), (36_501, 5), (5, 10**10)])
def test_retention_out_of_bounds_is_refused(
    repository: Repository, days: int | None, rows: int | None
) -> None:
    repository.set_log_retention(4, 5)
    with pytest.raises(ValueError, match="must be between 1 and"):
        repository.set_log_retention(days, rows)
    assert repository.log_retention() == (4, 5)
