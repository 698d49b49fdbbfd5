from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

import pytest

from resender.errors import StoreError
from tests.support.client import call
from tests.support.log_rows import T0, fill, record
from tests.support.person import log_in
from tests.support.running import make_config, running

pytestmark = pytest.mark.component


async def test_log_is_switched_and_its_limits_are_set_and_that_is_written_down(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        state = await me.json("log")
        assert (state["enabled"], state["retention_days"], state["max_rows"]) == (False, 30, 1_000_000)
        changed = await me.send("PUT", "log", {"enabled": True})
        assert changed.json()["enabled"] is True
        await call(run.port, "GET", "/no/such")
        await call(run.port, "GET", "/no/such")
        items = (await me.json("logs"))["items"]
        assert [row["path"] for row in items] == ["/no/such", "/no/such"]
        assert (await me.json("log"))["rows"] == 2
        kept = (await me.send("PUT", "log", {"retention_days": 7, "max_rows": 500})).json()
        assert (kept["enabled"], kept["retention_days"], kept["max_rows"]) == (True, 7, 500)
        assert (kept["default_retention_days"], kept["default_max_rows"]) == (30, 1_000_000)
        only_days = (await me.send("PUT", "log", {"retention_days": None})).json()
        assert (only_days["retention_days"], only_days["max_rows"]) == (30, 500)
        await me.send("PUT", "log", {"enabled": False})
        await call(run.port, "GET", "/no/such")
        assert len((await me.json("logs"))["items"]) == 2
        rows = await me.audit("log.change")
        assert len(rows) == 4
        for body in ({"enabled": "yes"}, {"enabled": 1}, {"retention_days": 0}, {"max_rows": True}, {"x": 1}):
            assert (await me.send("PUT", "log", body)).status == 400
        assert len(await me.audit("log.change")) == 4


async def test_pages_and_filters_show_just_the_rows_meant(tmp_path: Path) -> None:
    records = [record(number) for number in range(1, 301)]
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, records)

        async def numbers(query: str) -> list[int]:
            found: list[int] = []
            before = ""
            while True:
                page = await me.json(f"logs?limit=37&{query}{before}")
                found += [row["bytes"] for row in page["items"]]
                if page["next"] is None:
                    return found
                before = f"&before={page['next']}"

        def wanted(test: Any) -> list[int]:
            return [r.bytes for r in reversed(records) if test(r)]

        assert await numbers("") == wanted(lambda r: True)
        assert await numbers("ip=203.0.113.1") == wanted(lambda r: r.ip == "203.0.113.1")
        assert await numbers("market=um") == wanted(lambda r: r.market == "um")
        assert await numbers("status=403") == wanted(lambda r: r.status == 403)
        assert await numbers("status=4xx") == wanted(lambda r: r.status == 403)
        assert await numbers("status=2XX") == wanted(lambda r: r.status == 200)
        assert await numbers("errors=true") == wanted(lambda r: r.status == 403)
        assert await numbers("path=ORDER") == wanted(lambda r: "order" in r.path)
        assert await numbers("text=forb") == wanted(lambda r: r.error)
        assert await numbers(f"from={T0 + 100}&to={T0 + 110}") == wanted(lambda r: 100 <= r.bytes < 110)
        assert await numbers("ip=nobody") == []

        first = (await me.json("logs?limit=1"))["items"][0]
        assert first == {
            "id": first["id"], "time": T0 + 300, "ip": "203.0.113.0", "method": "GET", "market": "spot",
            "path": "/api/v3/order", "status": 403, "upstream_status": None, "duration_ms": 37.5,
            "bytes": 300, "error": "Forbidden",
        }  # fmt: skip
        assert await me.json(f"logs/{first['id']}") == first
        for missing in ("999999", "9" * 19):
            assert (await me.get(f"logs/{missing}")).status == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=6xx", "status"), ("status=20", "status"), ("status=abc", "status"), ("market=x", "market"),
        ("from=yesterday", "from"), ("to=-1", "to"), ("errors=maybe", "errors"), ("limit=1001", "limit"),
        ("before=abc", "before"),
    ],
)  # fmt: skip
async def test_wrong_filter_is_named(tmp_path: Path, query: str, field: str) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        for path in ("logs", "logs/export"):
            reply = await me.get(f"{path}?{query}")
            if path == "logs/export" and field in ("limit", "before"):
                continue
            assert (reply.status, reply.json()["code"], reply.json()["data"]["field"]) == (400, -4, field)


async def test_rows_are_cleared_all_or_those_older(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, [record(number) for number in range(100)])
        assert (await me.send("DELETE", f"logs?older_than={T0 + 40}")).json() == {"removed": 40}
        assert (await me.send("DELETE", "logs?older_than=x")).status == 400
        assert (await me.json("log"))["rows"] == 60
        assert (await me.send("DELETE", "logs")).json() == {"removed": 60}
        assert (await me.json("logs")) == {"items": [], "next": None}
        assert len(await me.audit("log.clear")) == 2


async def test_export_has_every_row_that_matches_and_no_formula(tmp_path: Path) -> None:
    hostile = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\tx", "\rx", 'a"b,c', "<script>", "汉字\n2"]
    records = [record(number, path=hostile[number % len(hostile)], error="=1+1") for number in range(1200)]
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, records)
        async with me.stream("logs/export?ip=203.0.113.1") as stream:
            assert stream.status == 200
            assert "text/csv" in stream.head
            assert 'attachment; filename="requests-' in stream.head
            body = await stream.rest()
            assert stream.is_whole
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    assert rows[0] == [
        "time_utc", "time", "ip", "method", "market", "path", "status", "upstream_status", "duration_ms", "bytes",
        "error",
    ]  # fmt: skip
    wanted = [r for r in reversed(records) if r.ip == "203.0.113.1"]
    assert [int(row[9]) for row in rows[1:]] == [r.bytes for r in wanted]
    assert rows[1][0].startswith("2026-01-01T00:00:01.")
    for row, each in zip(rows[1:], wanted, strict=True):
        assert row[5].removeprefix("'") == each.path
        assert not row[5].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row[10] == "'=1+1"
        assert row[7] == ("" if each.upstream_status is None else "200")


async def test_export_of_nothing_is_a_line_of_names(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        reply = await me.get("logs/export")
    assert reply.complete
    assert reply.body.count(b"\r\n") == 1


async def test_third_export_at_once_is_told_to_wait_and_a_client_that_leaves_frees_its_place(
    tmp_path: Path,
) -> None:
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, [record(number) for number in range(40_000)])
        first, second = me.stream("logs/export"), me.stream("logs/export")
        for manager in (first, second):
            stream = await manager.__aenter__()
            assert await stream.chunk()
        reply = await me.get("logs/export")
        assert (reply.status, reply.json()["code"]) == (503, -8)
        await first.__aexit__(None, None, None)
        await second.__aexit__(None, None, None)
        deadline = asyncio.get_running_loop().time() + 10
        while (reply := await me.get("logs/export?ip=none")).status != 200:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)


async def test_export_that_cannot_be_finished_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, [record(number) for number in range(3000)])
        store, calls = run.gateway.store, 0
        whole = store.log_page

        async def fail(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 3:
                raise StoreError("the disk is gone")
            return await whole(*args, **kwargs)

        monkeypatch.setattr(store, "log_page", fail)
        async with me.stream("logs/export") as stream:
            body = await stream.rest()
            assert 0 < body.count(b"\r\n") < 3000
            assert not stream.is_whole
        # At the very beginning it is an ordinary answer.
        calls = 10
        reply = await me.get("logs/export")
        assert (reply.status, reply.json()["code"]) == (503, -8)


async def test_export_under_way_ends_with_the_gateway(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, [record(number) for number in range(20_000)])
        manager = me.stream("logs/export")
        stream = await manager.__aenter__()
        assert await stream.chunk()
    await stream.rest()
    assert not stream.is_whole
    await manager.__aexit__(None, None, None)


async def test_export_leaves_the_loop_free(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, log_retention_days=36500)) as run:
        me = await log_in(run.gateway, run.port)
        await fill(run.gateway, [record(number) for number in range(10_000)])
        loop = asyncio.get_running_loop()
        lags: list[float] = []

        async def feel() -> None:
            while True:
                begun = loop.time()
                await asyncio.sleep(0.001)
                lags.append(loop.time() - begun - 0.001)

        task = loop.create_task(feel())
        async with me.stream("logs/export") as stream:
            body = await stream.rest(60)
        task.cancel()
        assert stream.is_whole
    assert body.count(b"\r\n") == 10_001
    lags.sort()
    # Generous, as the machine is shared; what is typical is measured in bench/.
    assert lags[len(lags) * 9 // 10] < 0.02


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
