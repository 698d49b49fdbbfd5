"""Attacks on the answers that go on for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.component.admin_live.live_support import log_in
from tests.component.admin_live.test_live_logs import fill, record
from tests.support.running import make_config, running, wait_until

pytestmark = pytest.mark.component


async def test_export_ends_when_the_log_in_ends(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await log_in(run.gateway, run.port, "another")
        await fill(run.gateway, [record(number) for number in range(60_000)])
        async with me.stream("logs/export") as stream:
            assert await stream.chunk()
            await run.gateway.store.user_update(me.user_id, enabled=False)
            body = await stream.rest(20)
            assert not stream.is_whole
            assert body.count(b"\r\n") < 60_000


async def test_streams_of_a_disabled_account_and_of_a_revoked_token_end(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        await log_in(run.gateway, run.port, "another")
        made = (await me.send("POST", "tokens", {"name": "t"})).json()
        me.secret, kept = "x" * 43, me.secret
        async with me.stream("events", Authorization=f"Bearer {made['token']}") as by_token:
            assert await by_token.until("status")
            me.secret = kept
            async with me.stream("events") as by_session:
                assert await by_session.until("status")
                assert (await me.send("DELETE", f"tokens/{made['id']}")).status == 200
                assert await by_token.until("end") == {"reason": "logged out"}
                assert (await by_session.event() or ("",))[0] == "status"
                await run.gateway.store.user_update(me.user_id, enabled=False)
                assert await by_session.until("end") == {"reason": "logged out"}


async def test_clients_that_vanish_leave_neither_tasks_nor_places(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        before = len(asyncio.all_tasks())
        for _ in range(3):
            streams = [me.stream("events") for _ in range(20)]
            for stream in streams:
                opened = await stream.__aenter__()
                assert opened.status == 200
            assert (await me.get("events")).status == 503
            for stream in streams:
                await stream.__aexit__(None, None, None)

            def status() -> int:
                return len(asyncio.all_tasks())

            await wait_until(lambda: status() <= before + 2)
