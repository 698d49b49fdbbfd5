"""`Store` on a database that fails: at start, and while the server runs."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import LogRecord, Repository, Store, WhitelistEntry, open_repository

pytestmark = pytest.mark.component

WaitUntil = Callable[..., Awaitable[None]]
RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/time", 200, 200, 1.5, 10)


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[tuple[Store, list[str]]]:
    options = {
        "poll_s": 0.05,
        "flush_s": 0.02,
        "busy_timeout_s": 0.05,
        "log_retention_days": 0,
        "initial_whitelist": ("10.0.0.1",),
        **options,
    }
    store = Store(url, **options)
    addresses: list[str] = []

    def on_whitelist(entries: tuple[WhitelistEntry, ...]) -> None:
        addresses[:] = [entry.address for entry in entries]

    await store.start(on_whitelist)
    await store.set_log_enabled(True)
    try:
        yield store, addresses
    finally:
        await store.stop()


def fault_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "resender.store" and record.levelno >= logging.WARNING
    ]


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def locked(url: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path_of(url), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


async def test_locked_database_at_start_is_one_clear_line_and_leaves_nothing(sqlite_url: str) -> None:
    with open_repository(sqlite_url):
        pass
    store = Store(sqlite_url, busy_timeout_s=0.1)
    with closing(locked(sqlite_url)):
        with pytest.raises(StoreError, match="locked by another process") as caught:
            await store.start(lambda entries: None)
    assert "\n" not in str(caught.value)
    assert "resender-store" not in {thread.name for thread in threading.enumerate()}


async def test_locked_database_while_running_loses_nothing_and_is_logged_once(
    sqlite_url: str, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(sqlite_url, log_tries=1000) as (store, addresses):
        with closing(locked(sqlite_url)):
            for _ in range(100):
                store.log(RECORD)
            store.note_seen(1, 5)
            await wait_until(lambda: store.stats.errors >= 3)
            assert not store.stats.healthy
            assert "locked" in (store.stats.last_error or "")
            with pytest.raises(StoreError, match="locked"):
                await store.whitelist_add("10.0.0.2")
            assert addresses == ["10.0.0.1"]
            assert len(fault_lines(caplog)) == 1
        await wait_until(lambda: store.stats.log_written == 100)
        await wait_until(lambda: store.stats.healthy)
        assert store.stats.log_dropped == 0
        assert len(fault_lines(caplog)) == 2
        assert "works again" in fault_lines(caplog)[1]
        await store.whitelist_add("10.0.0.2")
        assert addresses == ["10.0.0.1", "10.0.0.2"]
        assert (await store.whitelist_list())[0].calls == 1


async def test_batch_that_fails_too_often_is_dropped_and_counted(
    sqlite_url: str, wait_until: WaitUntil
) -> None:
    async with running(sqlite_url, log_tries=2) as (store, _):
        with closing(locked(sqlite_url)):
            for _ in range(50):
                store.log(RECORD)
            await wait_until(lambda: store.stats.log_dropped == 50)
            assert store.stats.log_queued == 0
        # Nothing is waiting to be written, and yet the recovery is noticed.
        await wait_until(lambda: store.stats.healthy)
        store.log(RECORD)
        await wait_until(lambda: store.stats.log_written == 1)


async def test_full_disk_while_running_recovers_by_itself(
    sqlite_url: str, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    def limit_pages(repository: Repository, pages: int) -> None:
        repository.database.pragma("max_page_count", pages)

    async with running(sqlite_url, log_tries=1000) as (store, addresses):
        await store.run(limit_pages, 1)  # SQLite takes the present size as the least
        for _ in range(2000):
            store.log(RECORD._replace(path="/x" * 500))
        await wait_until(lambda: not store.stats.healthy)
        await wait_until(lambda: store.stats.errors >= 3)
        assert "disk is full" in (store.stats.last_error or "")
        assert addresses == ["10.0.0.1"]
        assert await store.run(Repository.log_count) == 0
        assert len(fault_lines(caplog)) == 1
        await store.run(limit_pages, 1_000_000)
        await wait_until(lambda: store.stats.log_written == 2000)
        assert store.stats.healthy
        assert store.stats.log_dropped == 0


async def test_deleted_file_is_a_fault_and_a_file_put_back_is_used_again(
    sqlite_url: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    path = path_of(sqlite_url)
    async with running(sqlite_url, log_tries=1000) as (store, addresses):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        backup = path.read_bytes()
        path.unlink()
        await wait_until(lambda: not store.stats.healthy)
        assert "gone" in (store.stats.last_error or "")
        store.log(RECORD)
        with pytest.raises(StoreError, match="gone"):
            await store.whitelist_add("10.0.0.2")
        assert not path.exists()
        assert addresses == ["10.0.0.1"]
        path.write_bytes(backup)
        await wait_until(lambda: store.stats.log_written == 1)
        await wait_until(lambda: store.stats.healthy)
    with open_repository(sqlite_url) as repository:
        assert repository.log_count() == 1


async def test_another_file_in_its_place_brings_its_own_whitelist(
    sqlite_url: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    other = tmp_path / "other.db"
    with open_repository(f"sqlite:///{other}") as repository:
        repository.whitelist_add("10.0.0.9")
    async with running(sqlite_url) as (store, addresses):
        os.replace(other, path_of(sqlite_url))
        await wait_until(lambda: addresses == ["10.0.0.9"])
        await store.whitelist_add("10.0.0.8")
        assert addresses == ["10.0.0.9", "10.0.0.8"]


async def test_file_turned_to_garbage_while_running_is_a_fault_not_a_crash(
    sqlite_url: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"this is no database at all" * 1000)
    async with running(sqlite_url, stop_timeout_s=0.3) as (store, addresses):
        os.replace(garbage, path_of(sqlite_url))
        store.log(RECORD)
        await wait_until(lambda: not store.stats.healthy)
        assert "not a SQLite database" in (store.stats.last_error or "")
        assert addresses == ["10.0.0.1"]
    assert store.stats.log_dropped == 1


async def test_stop_gives_up_in_time_and_counts_what_is_lost(
    sqlite_url: str, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(sqlite_url, stop_timeout_s=0.3, log_tries=1000) as (store, _):
        holder = locked(sqlite_url)
        for _ in range(10):
            store.log(RECORD)
        await wait_until(lambda: not store.stats.healthy)
        before = asyncio.get_running_loop().time()
        await store.stop()
        assert asyncio.get_running_loop().time() - before < 3
        holder.close()
    assert store.stats.log_dropped == 10
    assert "10 log records" in fault_lines(caplog)[-1]


async def test_mistake_in_a_periodic_task_does_not_end_the_thread(
    sqlite_url: str, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(sqlite_url) as (store, _):
        await store.run(lambda repository: repository.state_set("whitelist_revision", "no number"))
        await wait_until(lambda: "ValueError" in (store.stats.last_error or ""))
        store.log(RECORD)
        await wait_until(lambda: store.stats.log_written == 1)


async def test_server_that_drops_the_connection_is_connected_to_again(
    postgresql_url: str, wait_until: WaitUntil
) -> None:
    def hang_up(repository: Repository) -> None:
        repository.database.execute_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    async with running(postgresql_url, log_tries=1000) as (store, addresses):
        with pytest.raises(StoreError, match=r"postgresql://resender@127\.0\.0\.1"):
            await store.run(hang_up)
        store.log(RECORD)
        await wait_until(lambda: store.stats.log_written == 1)
        await wait_until(lambda: store.stats.healthy)
        await store.whitelist_add("10.0.0.2")
        assert addresses == ["10.0.0.1", "10.0.0.2"]


async def test_mysql_that_drops_the_connection_is_connected_to_again(
    mysql_url: str, wait_until: WaitUntil
) -> None:
    def hang_up(repository: Repository) -> None:
        repository.database.execute_sql("KILL CONNECTION_ID()")

    async with running(mysql_url, log_tries=1000) as (store, _):
        with pytest.raises(StoreError, match=r"mysql://root@127\.0\.0\.1"):
            await store.run(hang_up)
        store.log(RECORD)
        await wait_until(lambda: store.stats.log_written == 1)
        await wait_until(lambda: store.stats.healthy)
