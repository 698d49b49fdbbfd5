"""All functions on one open database, for a command beside a running server or without one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from resender.errors import StoreError
from resender.store import DuplicateEntry, Repository, open_repository


def test_what_one_has_written_another_reads(url: str) -> None:
    with open_repository(url) as one, open_repository(url) as other:
        one.whitelist_add("10.0.0.1")
        assert [entry.address for entry in other.whitelist_list()] == ["10.0.0.1"]


def test_connection_is_closed_after_the_block_whatever_happened(url: str) -> None:
    with open_repository(url) as one:
        pass
    assert one.database.is_closed()
    with pytest.raises(RuntimeError), open_repository(url) as other:
        raise RuntimeError
    assert other.database.is_closed()


def test_trouble_with_the_database_inside_the_block_is_one_line(url: str) -> None:
    with pytest.raises(StoreError) as caught, open_repository(url) as one:
        one.database.execute_sql("SELECT * FROM nowhere")
    assert "no such table" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refusal_of_a_function_stays_what_it_is(url: str) -> None:
    with pytest.raises(DuplicateEntry), open_repository(url) as one:
        one.whitelist_add("10.0.0.1")
        one.whitelist_add("10.0.0.1")


def test_place_that_cannot_hold_a_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(StoreError) as caught, open_repository(f"sqlite:///{file}/store.db"):
        pass
    assert str(file) in str(caught.value)


def test_write_ahead_log_is_emptied_into_the_file(repository: Repository, path: Path) -> None:
    repository.whitelist_add("10.0.0.1")
    log = path.with_name(path.name + "-wal")
    assert log.stat().st_size > 0
    repository.empty_wal()
    assert log.stat().st_size == 0


def test_emptying_the_log_of_a_database_in_trouble_is_no_trouble(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.close()
    monkeypatch.setattr(repository.database, "execute_sql", _broken)
    repository.empty_wal()


def _broken(*args: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")
