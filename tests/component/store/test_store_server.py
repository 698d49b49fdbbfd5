"""`Store` on a database that works."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import (
    DuplicateEntry,
    LogRecord,
    Repository,
    Store,
    UnknownEntry,
    WhitelistEntry,
    open_repository,
)

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
WaitUntil = Callable[..., Awaitable[None]]
RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/time", 200, 200, 1.5, 10)


class Whitelist:
    """What the server would have in memory."""

    def __init__(self) -> None:
        self.entries: tuple[WhitelistEntry, ...] | None = None
        self.threads: set[str] = set()

    def __call__(self, entries: tuple[WhitelistEntry, ...]) -> None:
        self.entries = entries
        self.threads.add(threading.current_thread().name)

    @property
    def addresses(self) -> list[str]:
        return [entry.address for entry in self.entries or ()]


@asynccontextmanager
async def running(url: str, *, log: bool = True, **options: Any) -> AsyncIterator[tuple[Store, Whitelist]]:
    before = _store_threads()
    store = Store(url, **{"poll_s": 0.05, "flush_s": 0.02, "log_retention_days": 0, **options})
    whitelist = Whitelist()
    await store.start(whitelist)
    if log:
        await store.set_log_enabled(True)
    try:
        yield store, whitelist
    finally:
        await store.stop()
        assert _store_threads() == before


def _store_threads() -> int:
    return sum(thread.name == "resender-store" for thread in threading.enumerate())


async def test_start_delivers_the_initial_whitelist_before_it_returns(database_url: str) -> None:
    async with running(database_url, initial_whitelist=("10.0.0.1", "10.1.0.0/16")) as (_, whitelist):
        assert whitelist.addresses == ["10.0.0.1", "10.1.0.0/16"]
    async with running(database_url, initial_whitelist=("10.9.9.9",)) as (_, whitelist):
        assert whitelist.addresses == ["10.0.0.1", "10.1.0.0/16"]


def test_bad_initial_whitelist_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="example"):
        Store("sqlite:///:memory:", initial_whitelist=("example",))


async def test_changes_are_in_force_before_the_call_returns(database_url: str) -> None:
    async with running(database_url, poll_s=3600) as (store, whitelist):
        entry = await store.whitelist_add("10.0.0.1", "a")
        assert whitelist.entries == (entry,)
        entry = await store.whitelist_update(entry.id, enabled=False)
        assert whitelist.entries == (entry,)
        with pytest.raises(DuplicateEntry) as caught:
            await store.whitelist_add("10.0.0.1")
        assert caught.value.entry == entry
        with pytest.raises(UnknownEntry):
            await store.whitelist_update(999, note="x")
        with pytest.raises(ValueError):
            await store.whitelist_add("nonsense")
        assert await store.whitelist_remove(entry.id) is True
        assert whitelist.entries == ()
        assert await store.whitelist_remove(entry.id) is False
        assert whitelist.threads == {threading.main_thread().name}
        assert store.stats.healthy
        assert store.stats.errors == 0


async def test_change_by_another_process_is_seen_within_a_second(
    database_url: str, wait_until: WaitUntil
) -> None:
    program = (
        "import sys\n"
        "from resender.store import open_repository\n"
        "with open_repository(sys.argv[1]) as repository:\n"
        "    repository.whitelist_add('10.0.0.7')\n"
        "    repository.set_log_enabled(False)\n"
    )
    async with running(database_url, poll_s=0.5) as (store, whitelist):
        assert store.log_enabled is True
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program, database_url], cwd=ROOT, timeout=20
        )
        assert process.returncode == 0
        done = time.monotonic()
        await wait_until(lambda: whitelist.addresses == ["10.0.0.7"] and not store.log_enabled)
        assert time.monotonic() - done < 1.0


async def test_logged_record_can_be_queried_at_once(database_url: str) -> None:
    async with running(database_url, flush_s=3600) as (store, _):
        store.log(RECORD)
        assert store.stats.log_queued == 1
        (row,) = await store.log_query(ip="10.0.0.1")
        assert (row.path, row.status) == ("/api/v3/time", 200)
        assert (store.stats.log_written, store.stats.log_queued) == (1, 0)
        store.log(RECORD)
        assert await store.log_clear() == 2
        assert await store.log_query() == []


async def test_log_is_off_at_first_and_its_switch_takes_effect_at_once(sqlite_url: str) -> None:
    async with running(sqlite_url, log=False) as (store, _):
        store.log(RECORD)
        assert store.stats.log_queued == 0
        assert store.log_enabled is False
        await store.set_log_enabled(True)
        assert store.log_enabled is True
        await store.set_log_enabled(False)
        assert store.log_enabled is False
        store.log(RECORD)
        assert store.stats.log_queued == 0
        await store.set_log_enabled(True)
        store.log(RECORD)
        assert len(await store.log_query()) == 1


async def test_stop_writes_what_is_queued(database_url: str) -> None:
    async with running(database_url, flush_s=3600) as (store, _):
        for _ in range(3500):
            store.log(RECORD)
    assert store.stats.log_written == 3500
    store.log(RECORD)
    assert store.stats.log_queued == 0
    with open_repository(database_url) as repository:
        assert repository.log_count() == 3500


async def test_full_queue_drops_and_counts(sqlite_url: str, wait_until: WaitUntil) -> None:
    async with running(sqlite_url, log_queue_size=100) as (store, _):
        entered, leave = threading.Event(), threading.Event()

        def hold(repository: Repository) -> None:
            entered.set()
            leave.wait(10)

        holding = asyncio.ensure_future(store.run(hold))
        await asyncio.to_thread(entered.wait, 5)
        for _ in range(250):
            store.log(RECORD)
        assert (store.stats.log_queued, store.stats.log_dropped) == (100, 150)
        leave.set()
        await holding
        await wait_until(lambda: store.stats.log_written == 100)
        assert store.stats.log_dropped == 150


async def test_calls_are_counted_per_entry_and_written_in_batches(database_url: str) -> None:
    async with running(database_url, initial_whitelist=("10.0.0.1", "10.0.0.2")) as (store, whitelist):
        assert whitelist.entries is not None
        first, second = whitelist.entries
        for n in range(5):
            store.note_seen(first.id, 1000 + n)
        store.note_seen(second.id, 7)
        found = {entry.address: (entry.calls, entry.last_seen_ms) for entry in await store.whitelist_list()}
        assert found == {"10.0.0.1": (5, 1004), "10.0.0.2": (1, 7)}
        store.note_seen(first.id, 2000)
    with open_repository(database_url) as repository:
        assert repository.whitelist_list()[0].calls == 6


async def test_old_and_surplus_rows_are_pruned_at_start_and_after_many_inserts(
    sqlite_url: str, wait_until: WaitUntil
) -> None:
    day_ms = 86_400_000
    with open_repository(sqlite_url) as repository:
        repository.log_write([RECORD._replace(time_ms=n * day_ms) for n in range(100)])

        def count() -> int:
            return repository.log_count()

        options = {"now_ms": lambda: 100 * day_ms, "log_retention_days": 30, "log_max_rows": 50}
        async with running(sqlite_url, **options) as (store, _):
            await wait_until(lambda: count() == 30)
            for n in range(2000):
                store.log(RECORD._replace(time_ms=99 * day_ms + n))
            await wait_until(lambda: store.stats.log_written == 2000 and count() == 50)


async def test_functions_run_on_the_database_thread(sqlite_url: str) -> None:
    def work(repository: Repository, key: str, *, default: str) -> tuple[str, str]:
        return threading.current_thread().name, repository.state_get(key) or default

    async with running(sqlite_url) as (store, _):
        assert await store.run(work, "nothing", default="x") == ("resender-store", "x")
        with pytest.raises(StoreError, match="no such table"):
            await store.run(lambda repository: repository.database.execute_sql("SELECT * FROM nowhere"))
        with pytest.raises(ZeroDivisionError):
            await store.run(lambda repository: 1 // 0)
        with pytest.raises(OSError, match="mine"):
            await store.run(_raise_os_error)
        assert await store.whitelist_list() == []


def _raise_os_error(repository: Repository) -> None:
    raise OSError("mine")


async def test_slow_call_ends_with_an_error_and_leaves_the_store_usable(sqlite_url: str) -> None:
    async with running(sqlite_url, call_timeout_s=0.2) as (store, _):
        entered, leave = threading.Event(), threading.Event()

        def hold(repository: Repository) -> None:
            entered.set()
            leave.wait(10)

        slow = asyncio.ensure_future(store.run(hold))
        await asyncio.to_thread(entered.wait, 5)
        with pytest.raises(StoreError, match="nothing was done"):
            await store.whitelist_add("10.0.0.1")
        with pytest.raises(StoreError, match="unknown"):
            await slow
        leave.set()
        assert await store.whitelist_list() == []


async def test_cancelled_call_is_not_begun(sqlite_url: str) -> None:
    async with running(sqlite_url) as (store, _):
        entered, leave = threading.Event(), threading.Event()

        def hold(repository: Repository) -> None:
            entered.set()
            leave.wait(10)

        slow = asyncio.ensure_future(store.run(hold))
        await asyncio.to_thread(entered.wait, 5)
        adding = asyncio.ensure_future(store.whitelist_add("10.0.0.1"))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        leave.set()
        await slow
        assert await store.whitelist_list() == []


async def test_too_many_waiting_calls_are_refused(sqlite_url: str) -> None:
    async with running(sqlite_url) as (store, _):
        entered, leave = threading.Event(), threading.Event()

        def hold(repository: Repository) -> None:
            entered.set()
            leave.wait(10)

        calls = [asyncio.ensure_future(store.run(hold))]
        await asyncio.to_thread(entered.wait, 5)
        calls += [asyncio.ensure_future(store.whitelist_list()) for _ in range(300)]
        await asyncio.sleep(0)
        leave.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in results if isinstance(each, StoreError)]
        assert len(refused) == 300 - 256
        assert "busy" in str(refused[0])


async def test_event_loop_stays_free_while_the_database_works(sqlite_url: str) -> None:
    async with running(sqlite_url, log_queue_size=100_000) as (store, _):
        for _ in range(50_000):
            store.log(RECORD)
        longest = 0.0
        while store.stats.log_written < 50_000:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)
        assert longest < 0.5


async def test_several_thousand_records_are_written_in_a_second(sqlite_url: str) -> None:
    async with running(sqlite_url, log_queue_size=20_000) as (store, _):
        before = time.perf_counter()
        for _ in range(20_000):
            store.log(RECORD)
        assert len(await store.log_query(limit=1)) == 1
        assert store.stats.log_written == 20_000
        assert time.perf_counter() - before < 4


async def test_two_servers_on_one_database_see_each_others_changes(
    database_url: str, wait_until: WaitUntil
) -> None:
    async with running(database_url) as (one, first), running(database_url) as (two, second):
        await one.whitelist_add("10.0.0.1")
        await wait_until(lambda: second.addresses == ["10.0.0.1"])
        await two.whitelist_remove("10.0.0.1")
        await wait_until(lambda: first.addresses == [])
        one.log(RECORD)
        two.log(RECORD)
        await wait_until(lambda: one.stats.log_written == two.stats.log_written == 1)
        assert len(await one.log_query()) == 2


async def test_stop_twice_and_stop_without_start_do_nothing(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    await store.stop()
    async with running(sqlite_url) as (other, _):
        await other.stop()
    with pytest.raises(StoreError, match="not running"):
        await other.whitelist_list()


async def test_cancelled_start_leaves_no_thread(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    starting = asyncio.ensure_future(store.start(lambda entries: None))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert _store_threads() == 0


async def test_written_rows_survive_a_killed_process(database_url: str) -> None:
    program = (
        "import asyncio, os, signal, sys\n"
        "from resender.store import LogRecord, Store\n"
        "async def main():\n"
        "    store = Store(sys.argv[1], flush_s=0.01, log_retention_days=0)\n"
        "    await store.start(lambda entries: None)\n"
        "    await store.whitelist_add('10.0.0.1')\n"
        "    await store.set_log_enabled(True)\n"
        "    for n in range(2500):\n"
        "        store.log(LogRecord(n, '10.0.0.1', 'GET', 'spot', '/', 200, 200, 1.0, 1))\n"
        "    while store.stats.log_written < 2500: await asyncio.sleep(0.01)\n"
        "    for n in range(2500):\n"
        "        store.log(LogRecord(n, '10.0.0.1', 'GET', 'spot', '/', 200, 200, 1.0, 1))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, database_url], cwd=ROOT, timeout=30
    )
    assert process.returncode == -9
    with open_repository(database_url) as repository:
        assert repository.log_count() >= 2500
        assert [entry.address for entry in repository.whitelist_list()] == ["10.0.0.1"]
