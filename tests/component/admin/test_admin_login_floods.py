"""Floods of log-ins and made-up secrets: few of them wait, and few leave a row of the audit."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from resender.web.admin import password_check as proof
from tests.support.admin import PASSWORD, Browser, MovedClock
from tests.support.client import call
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import RawUpstream

# They judge moments.
pytestmark = [pytest.mark.component, pytest.mark.alone]

PROXY = {"trusted_proxies": "127.0.0.1", "admin_password": PASSWORD, "cache_enabled": False}


async def test_of_a_thousand_log_ins_at_once_only_a_few_wait_to_be_compared(
    tmp_path: Path, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(password_hash: str | None, password: str) -> bool:
        go.wait(20)
        return False

    monkeypatch.setattr(proof, "verify_password", slow)
    async with running(make_config(tmp_path, upstream.url, **PROXY)) as run:
        body = {"username": "nobody", "password": "x"}

        async def attempt(number: int) -> int:
            mark = {"resender_known": f"{'0' * 32}.{'0' * 64}"} if number % 3 == 0 else {}
            browser = Browser(run.port, ("X-Forwarded-For", f"198.51.{number >> 8}.{number & 255}"))
            browser.cookies = mark
            return (await browser.send("POST", "login", body | {"username": f"nobody{number}"})).status

        tries = [asyncio.create_task(attempt(number)) for number in range(400)]
        try:
            await wait_until(lambda: sum(each.done() for each in tries) >= 400 - 32, timeout_s=15)
            await asyncio.sleep(0.1)
            assert sum(not each.done() for each in tries) == 32
            assert {each.result() for each in tries if each.done()} == {429}
        finally:
            go.set()
        assert set(await asyncio.gather(*tries)) == {401, 429}


async def test_strangers_with_made_up_secrets_wait_for_each_other_and_not_the_database(
    admin: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = 0, 0
    find = admin.gateway.store.session_find

    async def counted(digest: str) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.01)
            return await find(digest)
        finally:
            now -= 1

    monkeypatch.setattr(admin.gateway.store, "session_find", counted)
    cookies = [(("Cookie", f"resender_session={number:043d}"),) for number in range(300)]
    calls = [call(admin.port, "GET", "/admin/api/me", cookie) for cookie in cookies]
    assert {reply.status for reply in await asyncio.gather(*calls)} == {401}
    assert most <= 32


async def test_hammering_with_many_names_leaves_one_row_of_the_audit(admin: Running, root: Browser) -> None:
    stranger = Browser(admin.port)
    for number in range(40):
        await stranger.send("POST", "login", {"username": f"name{number}", "password": "x"})
    actions = [row["action"] for row in (await root.get("audit"))["items"]]
    assert actions == ["login.throttled", *["login.failed"] * 3, "login"]


async def test_failed_log_ins_from_everywhere_drive_no_old_row_out(
    tmp_path: Path, upstream: RawUpstream, moved: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "verify_password", lambda *_: False)
    async with running(make_config(tmp_path, upstream.url, **PROXY), clock=moved.clock) as run:

        async def attempt(number: int) -> None:
            browser = Browser(run.port, ("X-Forwarded-For", f"198.51.{number >> 8}.{number & 255}"))
            await browser.send("POST", "login", {"username": f"n{number}", "password": "x"})

        for number in range(250):
            await attempt(number)
        rows = await run.gateway.store.audit_list(limit=1000)
        assert len(rows) == 200
        moved.move(25)
        await attempt(999)
        assert (await run.gateway.store.audit_list(limit=1))[0].after == '{"left_out":50}'
