"""The first account as the server makes it, and what the server sees of accounts and the log."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resender.errors import StoreError, StoreUnfit
from resender.passwords import verify_password
from resender.store import LastUser, LogFilters, LogRecord, LogRow, Repository, Store, open_repository
from resender.store.log_pages import LogStep

pytestmark = pytest.mark.component

GOOD = "correct horse battery"
RECORD = LogRecord(1, "10.0.0.1", "GET", "spot", "/api/v3/time", 200, 200, 1.5, 10)


@asynccontextmanager
async def running(url: str, first_password: str | None = None, **options: Any) -> AsyncIterator[Store]:
    store = Store(url, **{"poll_s": 0.05, "flush_s": 0.02, "log_retention_days": 0, **options})
    await store.start(lambda entries: None, first_password=first_password)
    try:
        yield store
    finally:
        await store.stop()


# --- the first account -------------------------------------------------------------------------


async def test_made_up_first_password_is_printed_once_and_only_on_standard_output(
    database_url: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(database_url, first_password=""):
        pass
    captured = capsys.readouterr()
    found = re.search(r"^.*root with the password (\w{20})$", captured.out, re.MULTILINE)
    assert found
    password = found[1]
    assert captured.out.count(password) == 1
    assert password not in captured.err + caplog.text
    for first_password in ("", GOOD):
        async with running(database_url, first_password=first_password) as store:
            root = await store.user_get("root")
            assert root is not None
            assert root.must_change
            assert verify_password(root.password_hash, password)
            everything = await store.run(lambda repository: repr(repository.state_all()))
            assert password not in everything
    assert capsys.readouterr().out == ""


async def test_given_first_password_is_used_once_and_never_printed(
    database_url: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database_url, first_password=GOOD) as store:
        root = await store.user_get("root")
        assert root is not None
        assert not root.must_change
        assert verify_password(root.password_hash, GOOD)
        await store.user_update(root.id, password_hash="changed")
    async with running(database_url, first_password=GOOD) as store:
        root = await store.user_get("root")
        assert root is not None
        assert root.password_hash == "changed"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert GOOD not in captured.err + caplog.text


async def test_account_removed_or_another_password_does_not_come_back(sqlite_url: str) -> None:
    async with running(sqlite_url, first_password=GOOD) as store:
        await store.user_add("anna", "hash")
        root = await store.user_get("root")
        assert root is not None
        assert await store.user_remove(root.id)
    async with running(sqlite_url, first_password=GOOD) as store:
        assert [user.username for user in await store.user_list()] == ["anna"]


async def test_server_without_admin_pages_makes_no_account(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(sqlite_url) as store:
        assert await store.user_list() == []
    assert capsys.readouterr().out == ""
    async with running(sqlite_url, first_password="") as store:
        assert [user.username for user in await store.user_list()] == ["root"]


async def test_weak_first_password_is_refused_with_words_that_do_not_name_it(sqlite_url: str) -> None:
    with pytest.raises(StoreUnfit, match="ADMIN_PASSWORD is too weak") as raised:
        async with running(sqlite_url, first_password="1234567890"):
            pass
    assert "1234567890" not in str(raised.value)
    with open_repository(sqlite_url) as repository:
        assert repository.user_list() == []


async def test_endless_first_password_is_an_error_in_one_line(sqlite_url: str) -> None:
    with pytest.raises(StoreError, match=r"ADMIN_PASSWORD is too weak .*at most 200"):
        async with running(sqlite_url, first_password="x" * 5000):
            pass
    with open_repository(sqlite_url) as repository:
        assert repository.user_list() == []


async def test_password_reaches_the_log_where_there_is_no_standard_output(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stdout", closed)
    async with running(sqlite_url, first_password=""):
        pass
    assert re.search(r"root with the password \w{20}", caplog.text)


# --- accounts beside other processes -----------------------------------------------------------


async def test_change_by_the_command_line_ends_a_session_of_a_running_server(database_url: str) -> None:
    async with running(database_url, first_password=GOOD) as store:
        root = await store.user_get("root")
        assert root is not None
        session = await store.session_add(root.id, "a" * 64, "10.0.0.1", "Browser", 5)
        assert await store.session_find("a" * 64) == (session, root)
        with open_repository(database_url) as repository:
            repository.user_update(root.id, password_hash="other")
        assert await store.session_find("a" * 64) is None
        assert await store.session_touch(session.id, 6, "") is False
        with pytest.raises(LastUser):
            await store.user_remove(root.id)


async def test_calls_of_the_store_are_those_of_the_repository(sqlite_url: str) -> None:
    async with running(sqlite_url) as store:
        user = await store.user_add("anna", "hash", True)
        await store.user_note_login(user.id, "10.0.0.1", 7)
        assert await store.user_rehash(user.id, "hash", "better")
        one = await store.session_add(user.id, "1" * 64, "", "", 10, password_hash="better")
        two = await store.session_add(user.id, "2" * 64, "", "", 20)
        await store.session_renew(two.id, "3" * 64)
        assert await store.session_list(user.id) == [two, one]
        assert await store.session_remove_others(user.id, two.id) == 1
        assert await store.session_remove(two.id, user.id)
        assert await store.session_prune(1, 1) == 0
        token = await store.token_add(user.id, "t", "read", "4" * 64)
        found = await store.token_find("4" * 64)
        assert found is not None
        assert found[0] == token
        assert await store.token_touch(token.id, 5, "::1")
        assert [row.last_used_ip for row in await store.token_list(user.id)] == ["::1"]
        assert await store.token_remove(token.id)
        entry = await store.audit_add("anna", "", "x", "y", None, {"a": 1})
        assert await store.audit_list(actor="anna", limit=5) == [entry]
        assert await store.user_update(user.id, must_change=False) == await store.user_get("ANNA")
        assert store.stats.errors == 0


# --- the log -----------------------------------------------------------------------------------


async def test_page_has_what_was_logged_before_the_call(sqlite_url: str) -> None:
    async with running(sqlite_url, flush_s=60) as store:
        await store.set_log_enabled(True)
        for number in range(20):
            store.log(RECORD._replace(time_ms=number))
        page = await store.log_page(LogFilters(), limit=5)
        assert [row.time_ms for row in page.rows] == [19, 18, 17, 16, 15]
        page = await store.log_page(LogFilters(path="TIME"), page.next_before, limit=5)
        assert [row.time_ms for row in page.rows] == [14, 13, 12, 11, 10]
        assert await store.log_get(page.rows[0].id) == page.rows[0]
        assert await store.log_count() == 20
        with pytest.raises(ValueError, match="`before`"):
            await store.log_page(LogFilters(), "nonsense")


async def test_export_gives_all_rows_and_lets_other_work_in_between(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    step = Repository.log_step

    def noted(repository: Repository, *args: Any) -> LogStep:
        order.append("export")
        return step(repository, *args)

    monkeypatch.setattr(Repository, "log_step", noted)
    async with running(sqlite_url) as store:
        await store.run(
            lambda repository: [
                repository.log_write([RECORD._replace(time_ms=1000 * part + n) for n in range(1000)])
                for part in range(12)
            ]
        )

        async def other_work() -> None:
            while True:
                await store.run(lambda repository: order.append("other"))

        beside = asyncio.create_task(other_work())
        rows: list[LogRow] = []
        async for batch in store.log_iterate(LogFilters(ip="10.0.0.1")):
            assert len(batch) <= 1000
            rows += batch
        beside.cancel()
        assert [row.time_ms for row in rows] == list(range(11_999, -1, -1))
        assert not re.search("(export ){2}", " ".join(order[2:-1]))
        assert not any([batch async for batch in store.log_iterate(LogFilters(text="nowhere"))])


async def test_retention_chosen_on_one_server_is_followed_by_all(
    database_url: str, wait_until: Callable[..., Awaitable[None]]
) -> None:
    async with running(database_url, log_max_rows=50) as one, running(database_url) as two:
        assert (one.log_retention().max_rows, one.log_retention().own_max_rows) == (50, None)
        await one.run(
            lambda repository: repository.log_write([RECORD._replace(time_ms=n) for n in range(30)])
        )
        chosen = await one.set_log_retention(None, 10)
        assert (chosen.max_rows, chosen.own_max_rows, chosen.own_days) == (10, 10, None)
        await wait_until(lambda: two.log_retention().own_max_rows == 10)
        for _ in range(500):
            if await two.log_count() == 10:
                break
            await asyncio.sleep(0.02)
        assert [row.time_ms for row in await two.log_query()] == list(range(29, 19, -1))
        assert (await two.set_log_retention(None, None)).max_rows == 1_000_000
        await wait_until(lambda: one.log_retention().max_rows == 50)
        with pytest.raises(ValueError, match="between 1 and"):
            await one.set_log_retention(0, None)


async def test_retention_chosen_is_in_force_after_a_restart(sqlite_url: str) -> None:
    async with running(sqlite_url) as store:
        await store.set_log_retention(3, 99)
    async with running(sqlite_url, log_retention_days=30) as store:
        assert (store.log_retention().days, store.log_retention().max_rows) == (3, 99)
