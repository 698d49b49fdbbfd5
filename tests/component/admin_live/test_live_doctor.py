from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from resender.config import SETTINGS
from resender.sandbox import Sandbox
from resender.sandbox.config import system_clock_ms
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.client import call
from tests.support.person import log_in
from tests.support.running import make_config, running
from tests.support.upstream import Peer, RawUpstream, Request

pytestmark = pytest.mark.component


async def test_doctor_streams_a_line_for_every_upstream(tmp_path: Path) -> None:
    async with Sandbox(small_exchange(system_clock_ms)) as sandbox:
        async with running(gateway_config(tmp_path, sandbox, upstream_papi="https://127.0.0.1:9")) as run:
            me = await log_in(run.gateway, run.port)
            async with me.stream("doctor", "POST") as stream:
                assert stream.status == 200
                assert "application/x-ndjson" in stream.head
                body = await stream.rest()
                assert stream.is_whole
            assert len(await me.audit("doctor.run")) == 1
            async with me.stream("doctor", "POST", Accept="text/event-stream") as stream:
                assert "text/event-stream" in stream.head
                first = await stream.until("result")
                await stream.until("end")
    lines = [orjson.loads(line) for line in body.splitlines() if line]
    markets = [line["market"] for line in lines]
    assert markets == ["spot", "spot", "um", "um", "cm", "cm", "options", "pm"]  # with the WebSocket APIs
    assert lines[0]["ok"]
    assert lines[0]["verdict"] == "ok"
    assert lines[0]["ping_ms"] > 0
    assert not lines[-1]["ok"]
    assert "was refused: nothing listens there" in lines[-1]["verdict"]
    assert first["market"] == "spot"


async def test_one_doctor_at_a_time_and_it_stops_when_its_client_leaves(tmp_path: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def silent(request: Request, peer: Peer) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with RawUpstream(silent) as upstream:
        async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
            me = await log_in(run.gateway, run.port)
            async with me.stream("doctor", "POST") as stream:
                assert stream.status == 200
                await asyncio.wait_for(began.wait(), 5)
                reply = await me.send("POST", "doctor")
                assert (reply.status, reply.json()["code"]) == (409, -13)
            deadline = asyncio.get_running_loop().time() + 5
            while any(task.get_name() == "doctor-run" for task in asyncio.all_tasks()):
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.02)
            async with me.stream("doctor", "POST") as stream:
                assert stream.status == 200


async def test_doctor_under_way_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async def silent(request: Request, peer: Peer) -> None:
        await asyncio.sleep(60)

    loop = asyncio.get_running_loop()
    async with RawUpstream(silent) as upstream:
        async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
            me = await log_in(run.gateway, run.port)
            manager = me.stream("doctor", "POST")
            await manager.__aenter__()
            await asyncio.sleep(0.2)
            begun = loop.time()
        assert loop.time() - begun < 5
    await manager.__aexit__(None, None, None)


async def test_settings_are_all_there_and_secrets_are_masked(tmp_path: Path) -> None:
    config = make_config(tmp_path, egress="socks5://user:pa55word@127.0.0.1:1080,default", kline_depth=77)
    async with running(config) as run:
        me = await log_in(run.gateway, run.port)
        reply = await me.get("settings")
    items = {row["name"]: row for row in reply.json()["items"]}
    assert list(items) == list(SETTINGS)
    assert (items["KLINE_DEPTH"]["value"], items["KLINE_DEPTH"]["default"]) == ("77", "1500")
    assert items["KLINE_DEPTH"]["source"] == "settings.py"
    assert items["SHUTDOWN_S"]["source"] == "default"
    assert items["EGRESS"]["secret"]
    assert b"pa55word" not in reply.body
    assert all(row["help"] for row in items.values())


async def test_written_routes_answer_no_get_that_changes_anything(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        for path in ("doctor", "preload/estimate"):
            reply = await me.get(path)
            assert (reply.status, reply.json()["code"]) == (405, -3)
            assert reply.header("allow") == "POST"
        assert (await call(run.port, "POST", "/admin/api/status", (me.cookie,))).status == 405
