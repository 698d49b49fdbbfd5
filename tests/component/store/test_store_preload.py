"""Preload rules: what the table promises on every kind of database, and `Store` with them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.core.market.preload import PreloadRule, parse_rule
from resender.errors import StoreError
from resender.store import (
    DuplicateRule,
    PreloadRow,
    Repository,
    Store,
    UnknownRule,
    WhitelistEntry,
    open_repository,
    schema,
)
from resender.store.connection import _describe, parse_url
from resender.store.follow import Follower

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
WaitUntil = Callable[..., Awaitable[None]]
ALL_USDT = parse_rule("um", "*USDT", "1m,bookTicker")
BTC = parse_rule("spot", "BTCUSDT,ETHUSDT", "1m")


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with open_repository(database_url, now_ms=lambda: 1_700_000_000_000) as opened:
        yield opened


def test_added_rule_is_listed_in_its_canonical_text(repository: Repository) -> None:
    row = repository.preload_add(parse_rule(" UM ", "*usdt,,btc*", "bookticker,1M,1m"))
    assert row == PreloadRow(row.id, "um", "*USDT,BTC*", "1m,1M,bookTicker", 1_700_000_000_000)
    assert str(row) == str(row.rule) == "um:*USDT,BTC*@1m,1M,bookTicker"
    assert repository.preload_list() == [row]
    assert repository.preload_get(row.id) == row


def test_rules_are_listed_oldest_first(repository: Repository) -> None:
    rows = [repository.preload_add(rule) for rule in (BTC, ALL_USDT)]
    assert [row.rule for row in repository.preload_list()] == [BTC, ALL_USDT]
    assert repository.preload_list() == rows


def test_symbols_of_any_script_and_great_number_come_back_unchanged(repository: Repository) -> None:
    chinese = parse_rule("um", "币安人生USDT,𠀀USDT", "1m")
    long = parse_rule("um", ",".join(f"𠀀{n:03d}" for n in range(1800)), "1m")
    for rule in (chinese, long):
        assert repository.preload_add(rule).rule == rule
    assert [row.rule for row in repository.preload_list()] == [chinese, long]


def test_rules_differing_in_the_case_of_an_interval_are_two(repository: Repository) -> None:
    repository.preload_add(parse_rule("um", "BTCUSDT", "1m"))
    repository.preload_add(parse_rule("um", "BTCUSDT", "1M"))
    assert len(repository.preload_list()) == 2


def test_duplicate_rule_raises_with_the_existing_row(repository: Repository) -> None:
    first = repository.preload_add(BTC)
    with pytest.raises(DuplicateRule) as caught:
        repository.preload_add(parse_rule("spot", "ETHUSDT,BTCUSDT", "1m"))
    assert caught.value.row == first
    assert repository.preload_revision() == 1


def test_rule_is_replaced_in_its_place(repository: Repository) -> None:
    first = repository.preload_add(BTC)
    second = repository.preload_add(ALL_USDT)
    new = parse_rule("cm", "BTCUSD_PERP", "1h")
    changed = repository.preload_update(first.id, new)
    assert (changed.id, changed.created_ms, changed.rule) == (first.id, first.created_ms, new)
    assert repository.preload_list() == [changed, second]
    assert repository.preload_update(first.id, new) == changed


def test_update_to_what_another_rule_says_is_a_duplicate(repository: Repository) -> None:
    first, second = repository.preload_add(BTC), repository.preload_add(ALL_USDT)
    with pytest.raises(DuplicateRule) as caught:
        repository.preload_update(second.id, BTC)
    assert caught.value.row == first
    assert repository.preload_list() == [first, second]
    assert repository.preload_revision() == 2


@pytest.mark.parametrize("rule_id", [4711, 0, -1, 2**31, 2**63, 10**30])
def test_unknown_id_is_not_found_and_changes_nothing(repository: Repository, rule_id: int) -> None:
    repository.preload_add(BTC)
    with pytest.raises(UnknownRule):
        repository.preload_update(rule_id, ALL_USDT)
    assert repository.preload_remove(rule_id) is False
    assert repository.preload_get(rule_id) is None
    assert repository.preload_revision() == 1


def test_rule_not_made_by_the_parser_is_refused(repository: Repository) -> None:
    with pytest.raises(ValueError, match="no interval"):
        repository.preload_add(PreloadRule(Market.UM, ("BTCUSDT",), ("1s",)))
    assert repository.preload_list() == []
    assert repository.preload_revision() == 0


def test_every_change_raises_the_revision_in_its_own_transaction(repository: Repository) -> None:
    row = repository.preload_add(BTC)
    repository.preload_update(row.id, ALL_USDT)
    assert repository.preload_revision() == 2
    assert repository.preload_remove(row.id) is True
    assert repository.preload_remove(row.id) is False
    assert repository.preload_snapshot() == (3, ())
    with pytest.raises(RuntimeError):
        with repository.transaction():
            repository.preload_add(BTC)
            raise RuntimeError
    assert repository.preload_snapshot() == (3, ())
    assert repository.whitelist_revision() == 0


@pytest.mark.parametrize("version", schema.known_versions()[:2])
def test_database_from_before_preload_rules_is_upgraded_with_its_rows(
    database_url: str, version: str
) -> None:
    database = _describe(parse_url(database_url), 1)
    database.connect()
    try:
        schema.upgrade(database, target=version)
        entry = Repository(database).whitelist_add("10.0.0.1", "中文")
    finally:
        database.close()
    with open_repository(database_url) as repository:
        assert repository.whitelist_list() == [entry]
        assert repository.preload_snapshot() == (0, ())
        assert repository.preload_add(ALL_USDT).rule == ALL_USDT


def test_processes_that_add_at_once_make_one_rule(database_url: str) -> None:
    program = (
        "import sys\n"
        "from resender.core.market.preload import parse_rule\n"
        "from resender.store import DuplicateRule, open_repository\n"
        "with open_repository(sys.argv[1], busy_timeout_s=20) as repository:\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    for n in range(20):\n"
        "        try: repository.preload_add(parse_rule('um', f'A{n}', '1m'))\n"
        "        except DuplicateRule: pass\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    with open_repository(database_url) as repository:
        assert len(repository.preload_list()) == repository.preload_revision() == 20


# --- Store ---------------------------------------------------------------------------------


class Rules:
    """What the cache would have been told."""

    def __init__(self) -> None:
        self.calls: list[tuple[PreloadRow, ...]] = []
        self.threads: set[str] = set()

    def __call__(self, rows: tuple[PreloadRow, ...]) -> None:
        self.calls.append(rows)
        self.threads.add(threading.current_thread().name)

    @property
    def texts(self) -> list[str]:
        return [str(row) for row in self.calls[-1]]


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[tuple[Store, Rules, list[int]]]:
    store = Store(url, **{"poll_s": 0.05, "log_retention_days": 0, **options})
    rules = Rules()
    whitelist_sizes: list[int] = []

    def on_whitelist(entries: tuple[WhitelistEntry, ...]) -> None:
        whitelist_sizes.append(len(entries))

    await store.start(on_whitelist, rules)
    try:
        yield store, rules, whitelist_sizes
    finally:
        await store.stop()


async def test_start_delivers_the_rules_once_before_it_returns(database_url: str) -> None:
    with open_repository(database_url) as repository:
        row = repository.preload_add(BTC)
    async with running(database_url) as (_, rules, whitelist_sizes):
        assert rules.calls == [(row,)]
        await asyncio.sleep(0.2)
        assert rules.calls == [(row,)]
        assert whitelist_sizes == [0]


async def test_changes_are_in_force_before_the_call_returns(database_url: str) -> None:
    async with running(database_url, poll_s=3600) as (store, rules, whitelist_sizes):
        row = await store.preload_add(BTC)
        assert rules.calls[-1] == (row,)
        row = await store.preload_update(row.id, ALL_USDT)
        assert rules.calls[-1] == (row,)
        assert await store.preload_list() == [row]
        with pytest.raises(DuplicateRule) as caught:
            await store.preload_add(ALL_USDT)
        assert caught.value.row == row
        with pytest.raises(UnknownRule):
            await store.preload_update(999, BTC)
        assert await store.preload_remove(row.id) is True
        assert rules.calls[-1] == ()
        assert await store.preload_remove(row.id) is False
        assert rules.threads == {threading.main_thread().name}
        assert whitelist_sizes == [0]
        assert (store.stats.healthy, store.stats.errors) == (True, 0)


async def test_change_by_another_process_is_seen_within_a_second(
    database_url: str, wait_until: WaitUntil
) -> None:
    program = (
        "import sys\n"
        "from resender.core.market.preload import parse_rule\n"
        "from resender.store import open_repository\n"
        "with open_repository(sys.argv[1]) as repository:\n"
        "    repository.preload_add(parse_rule('um', '币*', '1m'))\n"
    )
    async with running(database_url, poll_s=0.5) as (_, rules, whitelist_sizes):
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program, database_url], cwd=ROOT, timeout=20
        )
        assert process.returncode == 0
        done = time.monotonic()
        await wait_until(lambda: rules.texts == ["um:币*@1m"])
        assert time.monotonic() - done < 1.0
        assert whitelist_sizes == [0]


async def test_one_query_polls_for_both_tables(sqlite_url: str, wait_until: WaitUntil) -> None:
    async with running(sqlite_url, poll_s=3600, flush_s=3600) as (store, rules, _):
        queries: list[str] = []

        class Listener(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                queries.append(str(record.msg[0]))

        def poll(repository: Repository) -> None:
            handler = Listener()
            logger = logging.getLogger("peewee")
            level = logger.level
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
            try:
                store._do_poll()
            finally:
                logger.removeHandler(handler)
                logger.setLevel(level)

        await store.run(poll)
        assert len(queries) == 1
        assert '"state"' in queries[0]
        assert len(rules.calls) == 1


async def test_server_that_takes_no_rules_can_still_change_them(sqlite_url: str) -> None:
    store = Store(sqlite_url, poll_s=0.05)
    await store.start(lambda entries: None)
    try:
        row = await store.preload_add(BTC)
        assert await store.preload_list() == [row]
    finally:
        await store.stop()


async def test_callback_that_fails_ends_the_start_and_leaves_no_thread(sqlite_url: str) -> None:
    def refuse(rows: tuple[PreloadRow, ...]) -> None:
        raise RuntimeError("no room")

    store = Store(sqlite_url)
    with pytest.raises(RuntimeError, match="no room"):
        await store.start(lambda entries: None, refuse)
    assert "resender-store" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(StoreError, match="not running"):
        await store.preload_list()


async def test_two_servers_on_one_database_see_each_others_rules(
    database_url: str, wait_until: WaitUntil
) -> None:
    async with running(database_url) as (one, first, _), running(database_url) as (two, second, _):
        row = await one.preload_add(BTC)
        await wait_until(lambda: second.calls[-1] == (row,))
        await two.preload_remove(row.id)
        await wait_until(lambda: first.calls[-1] == ())


async def test_rows_read_at_start_do_not_undo_newer_ones() -> None:
    delivered: list[tuple[int, ...]] = []
    follower: Follower[int] = Follower("revision", lambda repository: (0, ()))
    follower.listen(delivered.append)
    follower.begin(1, (1, (1,)))
    # A poll may come between the opening of the database and the first delivery.
    assert follower.is_new(1, {"revision": "2"})
    follower.publish(1, (2, (1, 2)))
    await asyncio.sleep(0)
    follower.deliver_first()
    assert delivered == [(1, 2)]
    assert not follower.is_new(1, {"revision": "2"})
    assert follower.is_new(2, {"revision": "2"})
