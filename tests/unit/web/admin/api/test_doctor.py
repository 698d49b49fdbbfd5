"""The doctor's button: results as they come, as lines or events, and one run at a time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.doctor import Examination
from resender.web.admin.api import doctor as module
from resender.web.admin.api.doctor import shown
from tests.support.admin import assert_error
from tests.support.running import wait_until
from tests.unit.web.serving import administered

SPOT = Examination(Market.SPOT, "https://a.example", ping_ms=1.26, verdict="ok", is_ok=True)
UM = Examination(Market.UM, "https://b.example", "home", verdict="the connection was refused")


def examined(monkeypatch: pytest.MonkeyPatch, *results: Examination | Exception, gate: Any = None) -> None:
    async def examine(config: Any, **options: Any):
        for result in results:
            if isinstance(result, Exception):
                raise result
            yield result
        if gate is not None:
            await gate.wait()

    monkeypatch.setattr(module, "examine", examine)


def test_result_is_shown_with_times_rounded_and_what_was_not_measured_as_null() -> None:
    item = shown(SPOT)
    assert (item["market"], item["egress"], item["ping_ms"], item["dns_ms"]) == ("spot", "default", 1.3, None)
    assert (item["ok"], item["verdict"]) == (True, "ok")


async def test_results_come_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    examined(monkeypatch, SPOT, UM)
    async with administered() as one:
        reply = await one.send("POST", "doctor")
        assert one.store.audit == [("root", "127.0.0.1", "doctor.run", "upstreams", None, None)]
    assert reply.header("content-type") == "application/x-ndjson"
    lines = [line for line in reply.body.split(b"\n") if line]
    assert [json.loads(line)["market"] for line in lines] == ["spot", "um"]
    assert reply.complete


async def test_results_come_as_events_for_who_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    examined(monkeypatch, SPOT)
    async with administered() as one:
        reply = await one.send("POST", "doctor", None, ("Accept", "text/event-stream"))
    assert reply.header("content-type") == "text/event-stream; charset=utf-8"
    assert reply.body.startswith(b"\nevent: result\ndata: {")
    assert reply.body.endswith(b"event: end\ndata: {}\n\n")


async def test_second_run_is_refused_until_the_first_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    examined(monkeypatch, SPOT, gate=gate)
    async with administered() as one:
        first = asyncio.ensure_future(one.send("POST", "doctor"))
        await wait_until(lambda: one.live.is_examining)
        assert_error(await one.send("POST", "doctor"), 409, -13, reason="doctor_busy")
        gate.set()
        assert (await first).complete
        assert not one.live.is_examining
        assert (await one.send("POST", "doctor")).status == 200


async def test_run_that_is_cut_short_is_no_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    examined(monkeypatch, SPOT, RuntimeError("a bug"))
    async with administered() as one:
        reply = await one.send("POST", "doctor")
        assert not one.live.is_examining
    assert b'"market":"spot"' in reply.body
    assert not reply.complete


async def test_client_that_leaves_ends_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    examined(monkeypatch, SPOT, gate=asyncio.Event())
    async with administered() as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(
            b"POST /admin/api/doctor HTTP/1.1\r\nHost: x\r\nCookie: resender_session=good\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        await reader.readuntil(b"spot")
        writer.close()
        await wait_until(lambda: not one.live.is_examining)
        assert "doctor-run" not in one.services.tasks.names()
