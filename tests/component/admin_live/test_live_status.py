from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.web.admin.readings import MAX_STREAMS
from tests.support.client import call
from tests.support.person import log_in
from tests.support.running import make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component


async def test_status_shows_what_went_on(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
            me = await log_in(run.gateway, run.port)
            before = await me.json("status")
            assert before["upstreams"][0]["kind"] == "unknown"
            for _ in range(5):
                await call(run.port, "GET", "/api/v3/ping")
            await call(run.port, "GET", "/no/such/route")
            await asyncio.sleep(2.2)
            status = await me.json("status")
    assert status["calls_per_s"] > 0
    assert status["errors_per_s"] > 0
    assert status["p50_ms"] > 0
    assert status["p99_ms"] >= status["p50_ms"]
    assert status["memory_bytes"] > 1 << 20
    assert status["whitelist"] == 1
    assert status["database"] == {"healthy": True, "last_error": None}
    spot = next(row for row in status["upstreams"] if row["market"] == "spot")
    assert (spot["kind"], spot["status"]) == ("ok", 200)
    assert {row["pool"] for row in status["weights"]} >= {"spot"}
    assert set(status["weights"][0]) >= {"egress", "pool", "used", "reserved", "limit", "window_s", "state"}
    assert [row["ip"] for row in status["clients"]] == ["127.0.0.1"]


async def test_unreachable_upstream_and_refused_strangers_are_told(tmp_path: Path) -> None:
    config = make_config(tmp_path, cache_enabled=False, whitelist="198.51.100.1")
    async with running(config) as run:
        me = await log_in(run.gateway, run.port)
        for _ in range(3):
            assert (await call(run.port, "GET", "/api/v3/ping")).status == 403
        status = await me.json("status")
        assert status["refused"] == 3
        assert run.gateway.access.refused.items()[0].address == "127.0.0.1"
        await run.gateway.store.whitelist_add("127.0.0.1")
        assert (await call(run.port, "GET", "/fapi/v1/ping")).status == 502
        await asyncio.sleep(0.9)
        um = next(row for row in (await me.json("status"))["upstreams"] if row["market"] == "um")
        assert (um["kind"], um["status"]) == ("unreachable", None)


async def test_region_block_is_told_in_plain_words(tmp_path: Path) -> None:
    async def refuse(request: Request, peer: Peer) -> None:
        await peer.send(response(b'{"code":0,"msg":"restricted location"}', "451 Unavailable"))

    async with RawUpstream(refuse) as upstream:
        async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
            me = await log_in(run.gateway, run.port)
            assert (await call(run.port, "GET", "/api/v3/ping")).status == 451
            spot = (await me.json("status"))["upstreams"][0]
    assert (spot["market"], spot["kind"], spot["status"]) == ("spot", "region", 451)
    assert "country" in spot["text"]


@pytest.mark.parametrize("path", ["status", "history", "events", "series", "settings", "logs", "backfill"])
async def test_nothing_is_shown_without_a_log_in(tmp_path: Path, path: str) -> None:
    async with running(make_config(tmp_path)) as run:
        reply = await call(run.port, "GET", f"/admin/api/{path}")
    assert reply.status == 401
    assert reply.json()["code"] == -11


async def test_events_bring_the_status_every_second(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        async with me.stream("events") as stream:
            assert stream.status == 200
            assert "text/event-stream" in stream.head
            assert "content-length" not in stream.head
            assert "no-store" in stream.head
            first = await stream.until("status")
            second = await stream.until("status")
            assert 500 <= second["time"] - first["time"] <= 3000
            assert second["streams_open"] == 1
        deadline = asyncio.get_running_loop().time() + 5
        while (await me.json("status"))["streams_open"]:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.2)


async def test_events_end_when_the_log_in_ends(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        async with me.stream("events") as stream:
            await stream.until("status")
            assert (await me.send("POST", "logout")).status == 200
            assert await stream.until("end") == {"reason": "logged out"}
            assert await stream.event() is None
            assert stream.is_whole


async def test_events_end_when_the_gateway_stops(tmp_path: Path) -> None:
    streams = []
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        for _ in range(3):
            manager = me.stream("events")
            stream = await manager.__aenter__()
            await stream.until("status")
            streams.append((manager, stream))
        run.gateway.calls.is_open = False
        assert await streams[0][1].until("end") == {"reason": "stopping"}
    for manager, stream in streams:
        await stream.rest()
        await manager.__aexit__(None, None, None)


async def test_stop_is_not_held_up_by_a_client_that_reads_nothing(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        async with me.stream("events"):
            await asyncio.sleep(0.1)
            begun = loop.time()
            run.gateway.calls.is_open = True
            await run.gateway.drain()
    assert loop.time() - begun < 3


async def test_only_so_many_event_streams_are_open_and_a_place_comes_back(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        managers = [me.stream("events") for _ in range(MAX_STREAMS)]
        for manager in managers:
            assert (await manager.__aenter__()).status == 200
        reply = await me.get("events")
        assert (reply.status, reply.json()["code"]) == (503, -8)
        assert reply.header("retry-after")
        assert (await me.get("status")).status == 200
        await managers[0].__aexit__(None, None, None)
        await asyncio.sleep(0.3)
        async with me.stream("events") as again:
            assert again.status == 200
        for manager in managers[1:]:
            await manager.__aexit__(None, None, None)


async def test_history_has_all_columns_in_full_length(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        hour, day = await me.json("history"), await me.json("history?range=day")
        wrong = await me.get("history?range=year")
        late = await me.json(f"history?since={hour['points']['time'][-2]}")
        assert 2 <= len(late["points"]["time"]) <= 4
    assert (hour["range"], hour["step_s"], day["range"], day["step_s"]) == ("hour", 5, "day", 60)
    for history, count in ((hour, 720), (day, 1440)):
        assert history["from"] == history["points"]["time"][0]
        columns = {name: column for name, column in history["points"].items() if name != "weights"}
        assert set(columns) >= {
            "time",
            "calls",
            "errors",
            "p50_ms",
            "p99_ms",
            "hits",
            "misses",
            "memory_bytes",
        }
        assert {len(column) for column in columns.values()} == {count}
    assert (wrong.status, wrong.json()["code"], wrong.json()["data"]["field"]) == (400, -4, "range")


async def test_points_come_as_time_goes_by(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        await call(run.port, "GET", "/nothing")
        deadline = asyncio.get_running_loop().time() + 9
        while True:
            points = (await me.json("history"))["points"]
            if any(value for value in points["calls"]):
                break
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.3)
    index = next(i for i, value in enumerate(points["calls"]) if value)
    assert points["errors"][index] == 1
    assert points["memory_bytes"][index] > 0


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
