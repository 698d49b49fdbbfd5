"""How fast an export goes: quickly while nobody calls, seldom at work beside calls."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from resender.web.admin.api import logs
from tests.support.client import call
from tests.support.log_rows import fill, record
from tests.support.person import Person, log_in
from tests.support.running import make_config, running

pytestmark = pytest.mark.component
PIECES = 6


async def take(me: Person) -> float:
    """Take a whole export; return how long that took."""
    begun = time.monotonic()
    reply = await me.get("logs/export")
    assert reply.body.count(b"\n") == PIECES * logs.EXPORT_ROWS + 1
    return time.monotonic() - begun


async def test_export_makes_long_pauses_while_calls_come_in_and_short_ones_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_EXPORT_BUSY_PAUSE_S", 0.5)
    async with running(make_config(tmp_path)) as run:
        await fill(run.gateway, [record(number) for number in range(PIECES * logs.EXPORT_ROWS)])
        me = await log_in(run.gateway, run.port)
        alone_s = await take(me)

        is_over = asyncio.Event()

        async def keep_calling() -> None:
            while not is_over.is_set():
                await call(run.port, "GET", "/no/such")

        calling = asyncio.create_task(keep_calling())
        try:
            beside_s = await take(me)
        finally:
            is_over.set()
            await calling
    # The pause after the last piece is not waited for by anybody; the first may see no call yet.
    assert beside_s > 0.5 * (PIECES - 2)
    assert alone_s < beside_s
