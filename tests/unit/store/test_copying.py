"""From one SQLite file to another: every row, every number, and nothing at all if something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import LogRecord, copy_database, copying, open_repository


def fill(url: str) -> None:
    with open_repository(url) as repository:
        for number in range(7):
            repository.whitelist_add(f"10.0.0.{number}", f"note {number} \u4e2d\u6587")
        repository.whitelist_remove("10.0.0.6")
        repository.state_set("egress_closed", '[{"pool":"spot"}]')
        record = LogRecord(
            time_ms=1, ip="10.0.0.1", method="GET", market="spot", path="/api/v3/time", status=200,
            upstream_status=200, duration_ms=1.25, bytes=17, error=None,
        )  # fmt: skip
        repository.log_write([record] * 1203)


def whole(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with open_repository(url) as repository:
        models = repository.models
        return {name: sorted(getattr(models, name).select().tuples(), key=repr) for name in models.__slots__}


@pytest.fixture
def urls(tmp_path: Path) -> tuple[str, str]:
    source = f"sqlite:///{tmp_path / 'old.db'}"
    fill(source)
    return source, f"sqlite:///{tmp_path / 'new.db'}"


def test_every_row_arrives_and_numbers_go_on(urls: tuple[str, str]) -> None:
    told: list[tuple[str, int]] = []
    counts = copy_database(*urls, progress=lambda table, rows: told.append((table, rows)))
    assert (counts["whitelist"], counts["request_log"]) == (6, 1203)
    assert told == list(counts.items())
    assert whole(urls[0]) == whole(urls[1])
    with open_repository(urls[1]) as repository:
        assert repository.whitelist_add("10.0.0.9", "").id > 6


def test_log_may_stay_behind(urls: tuple[str, str]) -> None:
    assert "request_log" not in copy_database(*urls, with_log=False)
    rows = whole(urls[1])
    assert (len(rows["whitelist"]), len(rows["request_log"])) == (6, 0)


def test_database_with_rows_is_not_written_to(urls: tuple[str, str]) -> None:
    with open_repository(urls[1]) as repository:
        repository.whitelist_add("192.0.2.1", "mine")
    with pytest.raises(StoreError, match=r"holds rows already \(table whitelist\)"):
        copy_database(*urls)
    assert len(whole(urls[1])["whitelist"]) == 1


def test_database_is_not_copied_onto_itself_or_out_of_nothing(urls: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is the database that is copied"):
        copy_database(urls[0], urls[0])
    with pytest.raises(StoreError, match="is gone"):
        copy_database(f"sqlite:///{tmp_path / 'nowhere.db'}", urls[1])


def test_row_that_arrives_otherwise_leaves_nothing(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = copying._rows

    def altered(table: Any) -> Any:
        is_target = table._meta.database.database.endswith("new.db")
        for row in genuine(table):
            yield (*row[:-1], 99) if is_target and table._meta.table_name == "whitelist" else row

    monkeypatch.setattr(copying, "_rows", altered)
    with pytest.raises(
        StoreError, match="Row 1 of table whitelist has not arrived as it was: nothing was kept"
    ):
        copy_database(*urls)
    monkeypatch.undo()
    assert whole(urls[1])["whitelist"] == []
