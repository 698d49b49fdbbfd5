"""The store of a running server: changes are in force when they return, and no fault reaches a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.core.market.preload import parse_rule
from resender.errors import StoreError
from resender.store import DuplicateEntry, LogRecord, Repository, Store, WhitelistEntry, open_repository
from tests.support.running import wait_until

RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/klines", 200, 200, 1.0, 1)
SLOW = {"flush_s": 3600.0, "poll_s": 3600.0}


class Told:
    """A store and what it delivered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lists: list[list[str]] = []
        self.rules: list[list[str]] = []

    def on_whitelist(self, entries: tuple[WhitelistEntry, ...]) -> None:
        self.lists.append([entry.address for entry in entries if entry.enabled])

    def on_preload(self, rows: tuple[Any, ...]) -> None:
        self.rules.append([str(row) for row in rows])


@asynccontextmanager
async def running(url: str, *, first_password: str | None = None, **options: Any) -> AsyncIterator[Told]:
    told = Told(Store(url, **{**SLOW, **options}))
    await told.store.start(told.on_whitelist, told.on_preload, first_password=first_password)
    try:
        yield told
    finally:
        await told.store.stop()


# -- start and stop -------------------------------------------------------------------------------


async def test_first_entries_and_rules_are_delivered_before_the_start_returns(url: str) -> None:
    async with running(url, initial_whitelist=["127.0.0.1"]) as told:
        assert (told.lists, told.rules) == ([["127.0.0.1"]], [[]])


async def test_accounts_are_delivered_at_the_start_and_after_each_change(url: str) -> None:
    with open_repository(url) as other:
        other.account_add("first", "um", "key")
    told: list[list[tuple[str, int]]] = []
    store = Store(url, **{**SLOW, "poll_s": 0.01})
    await store.start(
        lambda entries: None,
        on_accounts=lambda rows: told.append([(row.name, len(row.keys)) for row in rows]),
    )
    try:
        assert told == [[("first", 0)]]
        row = await store.account_change(lambda repository: repository.account_add("second", "cm", "key"))
        assert told[1:] == [[("first", 0), ("second", 0)]], "in force when it returns"
        with open_repository(url) as other:
            other.account_link(row.id, "a" * 64, "aaaa")
        await wait_until(lambda: told[-1] == [("first", 0), ("second", 1)])
        with open_repository(url) as other:
            other.account_remove(row.id)
        await wait_until(lambda: told[-1] == [("first", 0)])
    finally:
        await store.stop()


async def test_first_entries_are_only_for_a_new_database(url: str) -> None:
    async with running(url, initial_whitelist=["127.0.0.1"]) as told:
        await told.store.whitelist_remove("127.0.0.1")
    async with running(url, initial_whitelist=["127.0.0.1"]) as told:
        assert told.lists == [[]]


async def test_first_account_is_made_where_it_is_wanted(url: str) -> None:
    async with running(url) as told:
        assert await told.store.user_list() == []
    async with running(url, first_password="a calm long secret") as told:
        assert [user.username for user in await told.store.user_list()] == ["root"]


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///", "redis://host/1"])
def test_url_that_is_none_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(StoreError):
        Store(url)


def test_first_entry_that_is_no_address_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Store(url, initial_whitelist=["nonsense"])


async def test_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = Store(f"sqlite:///{tmp_path / 'file' / 'x.db'}")
    with pytest.raises(StoreError):
        await store.start(lambda entries: None)
    with pytest.raises(StoreError, match="not running"):
        await store.whitelist_list()


async def test_stop_writes_what_is_queued_and_may_be_said_twice(url: str) -> None:
    async with running(url, initial_whitelist=["10.0.0.1"]) as told:
        store = told.store
        await store.set_log_enabled(True)
        (entry,) = await store.whitelist_list()
        for number in range(2500):
            store.log(RECORD._replace(time_ms=number))
        store.note_seen(entry.id, 77)
        await store.stop()
        assert not store.log_enabled
        store.log(RECORD)
    with open_repository(url) as repository:
        assert repository.log_count() == 2500
        assert repository.whitelist_list()[0].calls == 1


async def test_store_that_was_never_started_can_be_stopped(url: str) -> None:
    await Store(url).stop()


# -- changes --------------------------------------------------------------------------------------


async def test_change_of_the_whitelist_is_delivered_before_it_returns(url: str) -> None:
    async with running(url) as told:
        store = told.store
        entry = await store.whitelist_add("10.0.0.1")
        assert told.lists[-1] == ["10.0.0.1"]
        await store.whitelist_update(entry.id, enabled=False)
        assert told.lists[-1] == []
        await store.whitelist_update(entry.id, enabled=True, address="10.0.0.2")
        assert told.lists[-1] == ["10.0.0.2"]
        await store.whitelist_remove(entry.id)
        assert told.lists[-1] == []


async def test_refused_change_is_not_delivered(url: str) -> None:
    async with running(url, initial_whitelist=["10.0.0.1"]) as told:
        with pytest.raises(DuplicateEntry):
            await told.store.whitelist_add("10.0.0.1")
        assert len(told.lists) == 1


async def test_several_changes_in_one_transaction_are_delivered_together_or_not_at_all(url: str) -> None:
    def two(repository: Repository) -> None:
        repository.whitelist_add("10.0.0.1")
        repository.whitelist_add("10.0.0.2")

    async with running(url) as told:
        await told.store.whitelist_change(two)
        assert told.lists == [[], ["10.0.0.1", "10.0.0.2"]]
        with pytest.raises(DuplicateEntry):
            await told.store.whitelist_change(two)
        assert len(told.lists) == 2


async def test_change_of_the_rules_is_delivered_before_it_returns(url: str) -> None:
    async with running(url) as told:
        row = await told.store.preload_add(parse_rule("um", "BTCUSDT", "1m"))
        assert told.rules[-1] == ["um:BTCUSDT@1m"]
        await told.store.preload_update(row.id, parse_rule("um", "ETHUSDT", "1m"))
        assert told.rules[-1] == ["um:ETHUSDT@1m"]
        assert [str(each) for each in await told.store.preload_list()] == ["um:ETHUSDT@1m"]
        await told.store.preload_remove(row.id)
        assert told.rules[-1] == []
        assert len(told.lists) == 1, "the whitelist was not touched"


@pytest.mark.parametrize(
    ("change", "is_there"),
    [
        (lambda r: r.whitelist_add("10.0.0.9"), lambda told: told.lists[-1] == ["10.0.0.9"]),
        (lambda r: r.preload_add(parse_rule("um", "X", "1m")), lambda told: told.rules[-1] == ["um:X@1m"]),
        (lambda r: r.set_log_enabled(True), lambda told: told.store.log_enabled),
        (lambda r: r.set_log_retention(7, 70), lambda told: told.store.log_retention().days == 7),
    ],
)
async def test_change_by_another_process_is_noticed(
    url: str, change: Callable[[Repository], Any], is_there: Callable[[Told], bool]
) -> None:
    async with running(url, poll_s=0.01) as told:
        with open_repository(url) as other:
            change(other)
        await wait_until(lambda: is_there(told))


async def test_switch_of_the_log_is_in_force_when_it_returns(url: str) -> None:
    async with running(url) as told:
        store = told.store
        store.log(RECORD)
        await store.set_log_enabled(True)
        assert store.log_enabled
        store.log(RECORD)
        assert len(await store.log_query()) == 1
        await store.log_change(lambda repository: repository.set_log_enabled(False))
        assert not store.log_enabled


# -- in front of the database ---------------------------------------------------------------------


async def test_calls_that_were_seen_are_in_the_list_at_once(url: str) -> None:
    async with running(url, initial_whitelist=["10.0.0.1"]) as told:
        (entry,) = await told.store.whitelist_list()
        for number in range(5):
            told.store.note_seen(entry.id, 100 + number)
        (entry,) = await told.store.whitelist_list()
        assert (entry.calls, entry.last_seen_ms) == (5, 104)


async def test_queue_of_the_log_is_bounded_and_what_is_dropped_is_counted(url: str) -> None:
    async with running(url, log_queue_size=10) as told:
        await told.store.set_log_enabled(True)
        for _ in range(25):
            told.store.log(RECORD)
        stats = told.store.stats
        assert (stats.log_queued, stats.log_dropped, stats.log_written) == (10, 15, 0)


async def test_log_is_written_soon(url: str) -> None:
    async with running(url, flush_s=0.01) as told:
        await told.store.set_log_enabled(True)
        told.store.log(RECORD)
        await wait_until(lambda: told.store.stats.log_written == 1)
        assert told.store.stats.healthy


async def test_old_rows_go_when_a_shorter_retention_is_chosen(url: str) -> None:
    now_ms = 1_790_000_000_000
    async with running(url, now_ms=lambda: now_ms, flush_s=0.01) as told:
        store = told.store
        await store.set_log_enabled(True)
        for days in range(10):
            store.log(RECORD._replace(time_ms=now_ms - days * 86_400_000 - 5))
        await wait_until(lambda: store.stats.log_written == 10)
        await store.set_log_retention(3, None)
        left = [10]

        async def look() -> None:
            left[0] = await store.log_count()

        for _ in range(200):
            await look()
            if left[0] == 3:
                break
            await asyncio.sleep(0.01)
        assert left == [3]
