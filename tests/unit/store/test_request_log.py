"""The request log on SQLite: the statements it makes."""

from __future__ import annotations

from typing import Any

import pytest

from resender.store import LogFilters, LogRecord, Repository
from resender.store.log_pages import _INDEXES, step_sizes

RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/", 200, 200, 1.0, 1)


def statements(repository: Repository) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []
    repository.database.query_hooks.append(lambda event: seen.append((event.sql, event.params)))
    return seen


def test_no_statement_has_more_variables_than_the_oldest_sqlite_takes(repository: Repository) -> None:
    seen = statements(repository)
    repository.log_write([RECORD] * 1000)
    repository.log_prune(10**15, 1, 1)
    assert max(len(params or ()) for _, params in seen) <= 999
    assert sum(sql.startswith("INSERT") for sql, _ in seen) <= 12


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "requestlog_time_ms"),
        ({"ip": "10.0.0.1"}, "requestlog_ip_time_ms (ip=?"),
        ({"market": "um"}, "requestlog_market_time_ms (market=?"),
        ({"status": 502}, "requestlog_status_time_ms (status=?"),
        ({"from_ms": 5, "to_ms": 9}, "requestlog_time_ms (time_ms>? AND time_ms<?)"),
        ({"ip": "10.0.0.1", "from_ms": 5}, "requestlog_ip_time_ms (ip=? AND time_ms>"),
        ({"status": 502, "from_ms": 5, "to_ms": 9}, "requestlog_status_time_ms (status=? AND time_ms>"),
    ],
)
@pytest.mark.parametrize("is_next_page", [False, True])
def test_every_page_walks_an_index_and_sorts_nothing(
    repository: Repository, filters: dict[str, Any], index: str, is_next_page: bool
) -> None:
    repository.log_write([RECORD._replace(time_ms=n) for n in range(50)])
    seen = statements(repository)
    repository.log_query(**filters, before_id=25 if is_next_page else None)
    sql, params = seen[-1]
    plan = " / ".join(row[3] for row in repository.database.execute_sql("EXPLAIN QUERY PLAN " + sql, params))
    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_limit_is_kept_within_bounds(repository: Repository) -> None:
    repository.log_write([RECORD] * 1500)
    assert len(repository.log_query(limit=10**9)) == 1000
    assert len(repository.log_query(limit=-5)) == 1


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (LogFilters(), "requestlog_time_ms"),
        (LogFilters(from_ms=5, to_ms=900), "requestlog_time_ms (time_ms>? AND time_ms<?)"),
        (LogFilters(ip="10.0.0.1"), "requestlog_ip_time_ms (ip=?"),
        (LogFilters(errors_only=True), "requestlog_is_error_time_ms (is_error=?"),
        (LogFilters(status_min=502, status_max=502), "requestlog_status_time_ms (status=?"),
        (LogFilters(status_min=400, status_max=499), "requestlog_is_error_time_ms (is_error=?"),
        (LogFilters(status_min=200, status_max=299), "requestlog_time_ms"),
        (LogFilters(text="nowhere"), "requestlog_time_ms"),
        (LogFilters(ip="10.0.0.1", path="nowhere"), "requestlog_ip_time_ms (ip=?"),
        # Of two the one whose rows reach back further: there are fewer of them.
        (LogFilters(ip="10.0.0.1", status_min=502, status_max=502), "requestlog_status_time_ms (status=?"),
        (LogFilters(ip="10.0.0.2", errors_only=True), "requestlog_ip_time_ms (ip=?"),
        (LogFilters(ip="10.0.0.1", market="um"), "requestlog_market_time_ms (market=?"),
    ],
)
@pytest.mark.parametrize("before", [None, "500-400"])
def test_every_step_follows_the_index_that_leaves_least_to_look_through(
    repository: Repository, filters: LogFilters, index: str, before: str | None
) -> None:
    def row(number: int) -> LogRecord:
        ip = "10.0.0.2" if number % 300 == 7 else "10.0.0.1"
        status = 502 if number % 100 == 3 else 400 if number % 5 == 0 else 200
        return RECORD._replace(time_ms=number, ip=ip, status=status, market="spot" if number % 90 else "um")

    repository.log_write([row(number) for number in range(1000)])
    seen = statements(repository)
    repository.log_step(filters, before, 10, 20)
    sql, params = seen[-1]
    assert "LIMIT" in sql
    plan = [row[3] for row in repository.database.execute_sql("EXPLAIN QUERY PLAN " + sql, params)]
    used = next(line for line in plan if " t1 " in line)
    assert index in used
    if "step" not in sql:
        assert "TEMP B-TREE" not in " / ".join(plan)


def test_names_of_the_indexes_are_those_in_the_database(repository: Repository) -> None:
    present = {index.name for index in repository.database.get_indexes("request_log")}
    assert {*_INDEXES.values(), "requestlog_time_ms"} == present


def test_steps_grow_to_a_limit() -> None:
    sizes = step_sizes()
    assert [next(sizes) for _ in range(6)] == [1000, 2000, 4000, 5000, 5000, 5000]


def test_page_of_a_search_looks_through_no_more_than_it_may(repository: Repository) -> None:
    repository.log_write([RECORD._replace(time_ms=number) for number in range(12_000)])
    seen = statements(repository)
    page = repository.log_page(LogFilters(text="nowhere"), scan_limit=2500)
    assert page.rows == []
    assert page.next_before == "9000-9001"
    assert len(seen) == 4
