"""The request log on SQLite: the statements it makes."""

from __future__ import annotations

from typing import Any

import pytest

from resender.store import LogRecord, Repository

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
