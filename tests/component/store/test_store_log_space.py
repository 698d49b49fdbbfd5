"""Clearing the request log gives its space back to the disk, whatever else goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import peewee
import pytest

from resender.store import LogRecord, Store, open_repository
from tests.support.person import log_in
from tests.support.running import make_config, running

pytestmark = pytest.mark.component

ROWS = 20_000
# An empty database has some 150 kB.
SMALL = 400_000
PATH = "/api/v3/klines/" + "x" * 60


def record(number: int) -> LogRecord:
    return LogRecord(1_790_000_000_000 + number, "10.0.0.1", "GET", "spot", PATH, 200, 200, 1.5, 10)


def size(path: Path) -> int:
    """Return the bytes a database takes on the disk, with the files beside it."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.suffix != ".db-shm")


async def fill(store: Store) -> None:
    for start in range(0, ROWS, 5000):
        rows = [record(start + number) for number in range(5000)]
        await store.run(lambda repository, rows=rows: repository.log_write(rows))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@asynccontextmanager
async def started(path: Path) -> AsyncIterator[Store]:
    store = Store(f"sqlite:///{path}", initial_whitelist=["192.0.2.1"], flush_s=0.02, log_retention_days=0)
    await store.start(lambda entries: None)
    try:
        yield store
    finally:
        await store.stop()


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert reader.execute("SELECT address FROM whitelist").fetchall() == [("192.0.2.1",)]


async def test_cleared_log_takes_no_space(path: Path) -> None:
    async with started(path) as store:
        await fill(store)
        assert size(path) > 10 * SMALL
        assert await store.log_clear() == ROWS
        assert size(path) < SMALL
        # It goes on as before, and once more.
        await fill(store)
        assert await store.log_count() == ROWS
        assert await store.log_clear() == ROWS
        assert await store.log_clear() == 0
        assert size(path) < SMALL
        assert store.stats.errors == 0
    assert_sound(path)


async def test_log_is_cleared_while_rows_are_written(path: Path) -> None:
    async with started(path) as store:
        await store.set_log_enabled(True)
        await fill(store)
        logged = 0
        is_over = False

        async def go_on() -> None:
            nonlocal logged
            while not is_over:
                store.log(record(10**6 + logged))
                logged += 1
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(go_on())
        await asyncio.sleep(0.1)
        removed = await store.log_clear()
        assert size(path) < SMALL
        await asyncio.sleep(0.1)
        is_over = True
        await writing
        left = len(await store.log_query(limit=1000))
        assert removed >= ROWS
        assert removed + left == ROWS + logged, "no row is lost and none comes back"
        assert store.stats.log_dropped == 0
        assert store.stats.errors == 0
    assert_sound(path)


async def test_reader_at_work_does_not_hinder_the_clearing(path: Path) -> None:
    async with started(path) as store:
        await fill(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM request_log").fetchone() == (ROWS,)
            begun = time.monotonic()
            assert await store.log_clear() == ROWS
            assert time.monotonic() - begun < 3.0, "everything else of the database waits so long"
            assert reader.execute("SELECT count(*) FROM request_log").fetchone() == (ROWS,)
            assert (await store.log_query()) == []
            assert store.stats.healthy
            reader.execute("COMMIT")
        # Who comes later has the space.
        await store.log_clear()
        assert size(path) < SMALL
    assert_sound(path)


async def test_another_writer_in_between_is_no_fault_of_the_clearing(path: Path) -> None:
    async with started(path) as store:
        await fill(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            clearing = asyncio.create_task(store.log_clear())
            # It takes the lock as soon as it can: between the rows and the space, if it is quick.
            for _ in range(200):
                try:
                    writer.execute("BEGIN IMMEDIATE")
                    break
                except sqlite3.OperationalError:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.5)
            writer.execute("ROLLBACK")
            assert await clearing == ROWS
        assert await store.log_count() == 0
        assert await store.log_clear() == 0
        assert size(path) < SMALL
    assert_sound(path)


def test_command_line_gives_the_space_back_too(path: Path) -> None:
    with open_repository(f"sqlite:///{path}") as repository:
        repository.whitelist_seed(["192.0.2.1"])
        repository.log_write([record(number) for number in range(ROWS)])
        assert repository.log_clear() == ROWS
    assert size(path) < SMALL
    assert_sound(path)


@pytest.mark.parametrize("trouble", ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"])
def test_space_that_cannot_be_given_back_is_no_fault_of_the_clearing(
    path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_repository(f"sqlite:///{path}") as repository:
        repository.whitelist_seed(["192.0.2.1"])
        repository.log_write([record(number) for number in range(10)])
        (waits_ms,) = repository.database.execute_sql("PRAGMA busy_timeout").fetchone()
        execute = repository.database.execute_sql

        def fail(sql: str, *rest: object) -> object:
            if sql == trouble:
                raise peewee.OperationalError("database or disk is full")
            return execute(sql, *rest)

        monkeypatch.setattr(repository.database, "execute_sql", fail)
        assert repository.log_clear() == 10
        assert repository.log_count() == 0
        assert repository.database.execute_sql("PRAGMA busy_timeout").fetchone() == (waits_ms,)
    assert_sound(path)


def test_clearing_inside_a_transaction_still_works(path: Path) -> None:
    with open_repository(f"sqlite:///{path}") as repository:
        repository.whitelist_seed(["192.0.2.1"])
        repository.log_write([record(number) for number in range(10)])
        with repository.transaction():
            assert repository.log_clear() == 10
        assert repository.log_count() == 0
    assert_sound(path)


@pytest.mark.usefixtures("with_admin_pages")
async def test_admin_api_gives_the_space_back(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        database = tmp_path / "resender.db"
        await run.gateway.store.set_log_enabled(True)
        await fill(run.gateway.store)
        assert size(database) > 10 * SMALL
        reply = await me.send("DELETE", "logs")
        assert (reply.status, reply.json()["removed"] >= ROWS) == (200, True)
        assert size(database) < SMALL
        assert (await me.json("log"))["rows"] == 0
