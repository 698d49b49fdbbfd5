"""Gateways that share a real Redis: who sees whom, what is said when something is gone, and who is drained."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resender.core.cluster.node_info import NodeInfo
from tests.support.admin import PASSWORD, Browser, assert_error
from tests.support.client import call
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_server
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import RawUpstream

# They judge how soon something is noticed, and that no call waits meanwhile.
pytestmark = [pytest.mark.component, pytest.mark.waits]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


class Nodes:
    """Starts gateways that share a server."""

    def __init__(self, folder: Path, upstream: str, redis_url: str, stack: AsyncExitStack) -> None:
        self._folder, self._upstream, self._redis, self._stack = folder, upstream, redis_url, stack

    async def start(self, name: str, **settings: Any) -> Running:
        values = {"redis_url": self._redis, "node_name": name, "cache_enabled": False, **settings}
        number = len(list(self._folder.iterdir()))
        config = make_config(self._folder / str(number), self._upstream, **values)
        return await self._stack.enter_async_context(running(config))


@pytest.fixture
async def nodes(server: RedisServer, upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(tmp_path, upstream.url, server.url, stack)


def seen(run: Running) -> dict[str, NodeInfo]:
    assert run.gateway.cluster is not None
    return {node.name: node for node in run.gateway.cluster.nodes()}


def names_up(run: Running) -> list[str]:
    assert run.gateway.cluster is not None
    return [node.name for node in run.gateway.cluster.nodes() if node.is_up]


def all_see(runs: list[Running], names: set[str]) -> bool:
    return all(set(names_up(run)) == names for run in runs)


def is_up(run: Running) -> bool:
    return run.gateway.cluster is not None and run.gateway.cluster.link.is_up


async def health(run: Running) -> tuple[int, Any]:
    reply = await call(run.port, "GET", "/healthz")
    return reply.status, reply.json()


@asynccontextmanager
async def calls_go_on(run: Running) -> AsyncIterator[list[float]]:
    """Make one call after another; each is answered at once."""
    took: list[float] = []
    is_over = False

    async def go() -> None:
        while not is_over:
            began = time.monotonic()
            reply = await call(run.port, "GET", "/api/v3/time")
            assert reply.status == 200
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.02)

    task = asyncio.get_running_loop().create_task(go())
    try:
        yield took
    finally:
        is_over = True
        await task
    assert took
    assert max(took) < 0.5


async def test_three_nodes_see_each_other_and_one_that_dies_or_leaves(nodes: Nodes) -> None:
    one = await nodes.start("one", node_url="http://10.0.0.1:8000", node_secret="s" * 32)
    two = await nodes.start("two", egress="a=127.0.0.1,b=127.0.0.2")
    async with AsyncExitStack() as short:
        three = await Nodes(nodes._folder, nodes._upstream, nodes._redis, short).start("three")
        four = await nodes.start("four")
        await wait_until(lambda: all_see([one, two, three, four], {"one", "two", "three", "four"}))
        assert names_up(two) == ["two", "four", "one", "three"]
        told = seen(three)["two"]
        assert [(each.name, each.kind) for each in told.egresses] == [("a", "address"), ("b", "address")]
        assert seen(two)["one"].url == "http://10.0.0.1:8000"
        assert told.version
        assert abs(told.started_ms - time.time() * 1000) < 60_000
        await call(two.port, "GET", "/api/v3/time")
        await wait_until(lambda: any(load.used for load in seen(one)["two"].weights))
    # It has left: gone at once, and not listed any more.
    await wait_until(lambda: "three" not in seen(one), 2)
    # This one dies: its tasks end without a word.
    cluster = four.gateway.cluster
    assert cluster is not None
    assert cluster.presence._task is not None
    cluster.presence._task.cancel()
    began = time.monotonic()
    await wait_until(lambda: "four" not in names_up(one), 9)
    assert time.monotonic() - began > 3.5
    assert not seen(one)["four"].is_up
    status = (await call(one.port, "GET", "/local/status")).json()["nodes"]
    assert [(node["name"], node["up"]) for node in status] == [("one", True), ("two", True), ("four", False)]
    assert not {"url", "id"} & set(status[0])
    text = (await call(one.port, "GET", "/metrics")).body.decode()
    for line in (
        "resender_redis_up 1.0",
        'resender_node_up{node="two"} 1.0',
        'resender_node_up{node="four"} 0.0',
    ):
        assert line in text


async def test_redis_that_is_gone_slows_no_start_and_no_call(
    tmp_path: Path, upstream: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        tmp_path, upstream.url, redis_url=f"redis://127.0.0.1:{free_port()}", cache_enabled=False
    )
    began = time.monotonic()
    async with running(config) as run:
        assert time.monotonic() - began < 2
        async with calls_go_on(run):
            await asyncio.sleep(1.5)
        assert names_up(run) == [run.gateway.cluster.name if run.gateway.cluster else ""]
        assert await health(run) == (200, {"status": "ok"})
        began = time.monotonic()
    assert time.monotonic() - began < 2
    lines = [record.getMessage() for record in caplog.records if record.name == "resender.cluster"]
    assert len(lines) == 1
    assert "cannot be reached: Connection refused" in lines[0]


async def test_redis_that_hangs_slows_no_start_and_no_call(nodes: Nodes, server: RedisServer) -> None:
    server.pause()
    began = time.monotonic()
    run = await nodes.start("one")
    assert time.monotonic() - began < 2
    async with calls_go_on(run):
        await asyncio.sleep(1.5)
    server.resume()
    await wait_until(lambda: is_up(run), 10)


async def test_redis_that_stops_and_starts_brings_the_nodes_together_again(
    nodes: Nodes, server: RedisServer
) -> None:
    one, two = await nodes.start("one"), await nodes.start("two")
    await wait_until(lambda: all_see([one, two], {"one", "two"}))
    async with calls_go_on(one):
        server.stop()
        await wait_until(lambda: not is_up(one) and not is_up(two), 3)
        assert set(seen(one)) == {"one", "two"}  # as last read, for as long as it holds
        await asyncio.sleep(0.5)
        server.start()
        await wait_until(lambda: is_up(one) and is_up(two), 10)
        await wait_until(lambda: all_see([one, two], {"one", "two"}))


async def test_redis_that_hangs_for_five_seconds_is_noticed_and_taken_up_again(
    nodes: Nodes, server: RedisServer
) -> None:
    one, two = await nodes.start("one"), await nodes.start("two")
    await wait_until(lambda: all_see([one, two], {"one", "two"}))
    async with calls_go_on(one):
        server.pause()
        began = time.monotonic()
        await wait_until(lambda: not is_up(one) and not is_up(two), 3)
        await asyncio.sleep(max(0.0, 5 - (time.monotonic() - began)))
        server.resume()
        await wait_until(lambda: is_up(one) and is_up(two), 10)
        await wait_until(lambda: all_see([one, two], {"one", "two"}))


async def test_two_of_one_name_are_told_so_both(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    one, other = await nodes.start("same"), await nodes.start("same")
    await wait_until(lambda: caplog.text.count("another node is named same too") == 2, 8)
    for run in (one, other):
        assert run.gateway.cluster is not None
        assert run.gateway.cluster.presence.warnings == [("name", "same")]
    await asyncio.sleep(2.5)
    assert caplog.text.count("another node is named same too") == 2


async def test_node_that_was_started_again_is_no_second_one(
    nodes: Nodes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    one = await nodes.start("one")
    assert one.gateway.cluster is not None
    await wait_until(lambda: server.client().hlen("resender:" + key_of(one) + ":nodes"))
    # It is killed: what it said last stays, and comes from no clock of ours.
    presence = one.gateway.cluster.presence
    assert presence._task is not None
    presence._task.cancel()
    again = await nodes.start("one")
    await wait_until(lambda: is_up(again))
    await asyncio.sleep(2.5)
    assert "another node" not in caplog.text
    await wait_until(lambda: len(again.gateway.cluster.nodes()) == 1, 8)  # type: ignore[union-attr]


def key_of(run: Running) -> str:
    assert run.gateway.cluster is not None
    return run.gateway.cluster.link.prefix.split(":")[1]


async def test_other_version_is_told_once(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    one, two = await nodes.start("one"), await nodes.start("two")
    assert one.gateway.cluster is not None
    presence = one.gateway.cluster.presence
    describe = presence._describe
    presence._describe = lambda: replace(describe(), version="98.0")
    await wait_until(lambda: "node one runs version 98.0" in caplog.text, 8)
    await wait_until(lambda: "this one 98.0" in caplog.text, 8)
    assert two.gateway.cluster is not None
    assert two.gateway.cluster.presence.warnings == [("version", "one")]
    await asyncio.sleep(2.2)
    assert caplog.text.count("node one runs version 98.0") == 1


async def test_sandbox_and_exchange_do_not_mix_on_one_redis(nodes: Nodes) -> None:
    one = await nodes.start("one")
    other = await nodes.start("other", upstream_api="https://127.0.0.1:10")
    await wait_until(lambda: is_up(one) and is_up(other))
    await asyncio.sleep(2.2)
    assert [names_up(one), names_up(other)] == [["one"], ["other"]]


async def test_drained_node_is_left_out_and_still_answers(
    nodes: Nodes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await nodes.start("one"), await nodes.start("two")
    await wait_until(lambda: all_see([one, two], {"one", "two"}))
    assert one.gateway.cluster is not None
    assert two.gateway.cluster is not None
    began = time.monotonic()
    assert await one.gateway.cluster.drain("two", True)
    assert not await one.gateway.cluster.drain("two", True)
    await wait_until(lambda: two.gateway.cluster.is_drained)  # type: ignore[union-attr]
    assert time.monotonic() - began < 0.5
    assert await health(two) == (503, {"status": "drained", "draining": True})
    assert await health(one) == (200, {"status": "ok"})
    assert (await call(two.port, "GET", "/api/v3/time")).status == 200
    await wait_until(lambda: seen(one)["two"].is_drained)
    assert "this node (two) is drained" in caplog.text
    # It stays so while Redis is gone, and after a start of its own.
    server.pause()
    await wait_until(lambda: not is_up(two), 3)
    assert (await health(two))[0] == 503
    server.resume()
    await wait_until(lambda: is_up(one) and is_up(two), 10)
    assert await one.gateway.cluster.drain("two", False)
    await wait_until(lambda: not two.gateway.cluster.is_drained, 3)  # type: ignore[union-attr]
    assert await health(two) == (200, {"status": "ok"})


async def test_admin_page_lists_the_nodes_and_drains_one(nodes: Nodes, server: RedisServer) -> None:
    one = await nodes.start("one", admin_password=PASSWORD)
    two = await nodes.start("two")
    await wait_until(lambda: all_see([one, two], {"one", "two"}))
    root = Browser(one.port)
    assert (await root.log_in()).status == 200
    told = await root.get("nodes")
    assert told["redis"]["up"] is True
    assert [node["name"] for node in told["nodes"]] == ["one", "two"]
    assert told["warnings"] == []
    assert await root.post("nodes/drain", {"name": "two", "on": True}) == {"changed": True}
    assert await root.post("nodes/drain", {"name": "two", "on": True}) == {"changed": False}
    await wait_until(lambda: two.gateway.cluster.is_drained)  # type: ignore[union-attr]
    (row,) = (await root.get("audit?action=nodes.drain"))["items"]
    assert row["subject"] == "two"
    assert_error(
        await root.send("POST", "nodes/drain", {"name": "nobody", "on": True}), 404, -3, reason="gone"
    )
    assert_error(await root.send("POST", "nodes/drain", {"name": "two"}), 400, -4, field="on")
    assert (await root.send("GET", "/admin/nodes")).status == 200
    server.pause()
    await wait_until(lambda: not is_up(one), 3)
    began = time.monotonic()
    assert_error(
        await root.send("POST", "nodes/drain", {"name": "two", "on": False}), 503, -8, reason="redis"
    )
    assert time.monotonic() - began < 0.5
    told = (await root.get("nodes"))["redis"]
    assert (told["up"], told["problem"] != "") == (False, True)


async def test_one_node_alone_says_so(tmp_path: Path, upstream: RawUpstream) -> None:
    config = make_config(tmp_path, upstream.url, cache_enabled=False, admin_password=PASSWORD)
    async with running(config) as run:
        root = Browser(run.port)
        await root.log_in()
        assert await root.get("nodes") == {"redis": None, "nodes": [], "warnings": []}
        reply = await root.send("POST", "nodes/drain", {"name": "one", "on": True})
        assert_error(reply, 409, -13, reason="one_node")
        assert "\nresender_redis_up " not in (await call(run.port, "GET", "/metrics")).body.decode()


async def test_password_of_redis_is_written_nowhere(
    tmp_path: Path, upstream: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"redis://someone:HiddenWord@127.0.0.1:{free_port()}"
    config = make_config(tmp_path, upstream.url, redis_url=url, cache_enabled=False, admin_password=PASSWORD)
    async with running(config) as run:
        root = Browser(run.port)
        await root.log_in()
        await asyncio.sleep(0.5)
        shown = [(await root.send("GET", path)).body.decode() for path in ("nodes", "settings")]
        shown.append((await call(run.port, "GET", "/local/status")).body.decode())
    assert "HiddenWord" not in "\n".join([*shown, caplog.text])
