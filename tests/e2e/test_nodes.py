"""Nodes as processes on a real Redis: one is killed, one is stopped, one is drained over its restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Sandbox
from tests.support.ports import free_port
from tests.support.processes import GatewayProcess, Program, SandboxThread, until
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.e2e

SECRET = "a secret of all nodes, long enough"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", password="HiddenRedisWord") as started:
        yield started


class Nodes:
    """Starts nodes, each with a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.started: list[GatewayProcess] = []

    def start(self, name: str) -> GatewayProcess:
        settings = {
            "REDIS_URL": self.url, "NODE_NAME": name, "NODE_URL": "http://10.0.0.1:1", "NODE_SECRET": SECRET,
            "ADMIN_ENABLED": "false", "CACHE_ENABLED": "false",
        }  # fmt: skip
        node = GatewayProcess(self.folder / f"{name}-{len(self.started)}", **settings)
        self.started.append(node)
        return node


@pytest.fixture
def nodes(server: RedisServer, tmp_path: Path) -> Iterator[Nodes]:
    every = Nodes(tmp_path, server.url)
    yield every
    for node in every.started:
        if node.process.poll() is None:
            node.kill()


def states(node: GatewayProcess) -> dict[str, str]:
    """Read the command's table: the state by name."""
    command = node.command("nodes")
    assert (command.wait(), command.stderr) == (0, "")
    rows = [line.split() for line in command.stdout.splitlines()[1:]]
    return {row[0]: row[1] for row in rows}


def health(node: GatewayProcess) -> int:
    return node.call("GET", "/healthz").status


def test_killed_node_is_gone_and_stopped_one_is_not_listed(nodes: Nodes) -> None:
    one, two, three = nodes.start("one"), nodes.start("two"), nodes.start("three")
    until(lambda: states(one) == dict.fromkeys(("one", "two", "three"), "up"), "all are up")
    two.kill()
    three.stop(secrets=["HiddenRedisWord", SECRET])
    assert states(one)["one"] == "up"
    assert "three" not in states(one)
    until(lambda: states(one) == {"one": "up", "two": "gone"}, "the killed one is gone", 12)
    again = nodes.start("two")
    until(lambda: states(one) == {"one": "up", "two": "up"}, "it is back")
    assert "another node" not in again.stderr
    again.stop(secrets=["HiddenRedisWord", SECRET])
    one.stop(secrets=["HiddenRedisWord", SECRET])


def test_node_is_drained_by_the_command_and_taken_back(nodes: Nodes, server: RedisServer) -> None:
    one, two = nodes.start("one"), nodes.start("two")
    until(lambda: states(one) == {"one": "up", "two": "up"}, "both are up")
    drained = one.command("nodes", "drain", "two")
    assert (drained.wait(), drained.stderr) == (0, "")
    until(lambda: health(two) == 503, "the other one obeys", 3)
    assert health(one) == 200
    assert two.call("GET", "/local/status").status == 200
    assert states(two) == {"one": "up", "two": "drained"}
    assert two.command("nodes", "undrain", "two").wait() == 0
    until(lambda: health(two) == 200, "it is back", 3)
    server.stop()
    wrong = one.command("nodes")
    wrong.check_refusal(1, f"Redis at 127.0.0.1:{server.port} cannot be reached: Connection refused")
    assert health(one) == 200
    one.stop(secrets=["HiddenRedisWord", SECRET])
    two.stop(secrets=["HiddenRedisWord", SECRET])


def test_wrong_settings_are_one_clear_line(tmp_path: Path) -> None:
    def refused(*words: str, **settings: object) -> None:
        Program(tmp_path, "nodes", DATA_DIR=tmp_path / "data", **settings).check_refusal(2, *words)

    refused("RESENDER_REDIS_URL", "must be such as redis://", REDIS_URL="localhost:6379")
    refused("NODE_SECRET", REDIS_URL="redis://127.0.0.1", NODE_URL="http://10.0.0.1:8000")
    refused("NODE_NAME", NODE_NAME="a b")
    alone = Program(tmp_path, "nodes", DATA_DIR=tmp_path / "data")
    assert (alone.wait(), alone.stdout.startswith("REDIS_URL is empty")) == (0, True)


def test_stream_is_opened_once_for_all_workers_of_all_nodes(
    server: RedisServer, exchange: SandboxThread, tmp_path: Path
) -> None:
    started: list[GatewayProcess] = []
    try:
        for name in "ab":
            port = free_port()
            settings = {
                "REDIS_URL": server.url, "NODE_NAME": name, "NODE_URL": f"http://127.0.0.1:{port}", "PORT": port,
                "NODE_SECRET": SECRET, "WORKERS": 2, "ADMIN_ENABLED": "false", **exchange.settings(),
            }  # fmt: skip
            started.append(GatewayProcess(tmp_path / name, **settings))
        for node in started:
            until(lambda node=node: "2 workers serve" in node.stderr, "both workers serve")
        until(
            lambda: states(started[0]).get("b") == states(started[1]).get("a") == "up", "they know each other"
        )

        async def listen(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
            socket = await session.ws_connect(f"{url}/ws/ethusdt@bookTicker")
            assert '"s":"ETHUSDT"' in str((await socket.receive(timeout=20)).data)
            return socket

        def subscriptions(sandbox: Sandbox) -> int:
            return [name for one in sandbox.subscriptions(Market.SPOT) for name in one].count(
                "ethusdt@bookTicker"
            )

        async def listen_many() -> None:
            async with aiohttp.ClientSession() as session:
                # Those of the node that hands on come first, so many that each worker has some.
                for node in started[::-1]:
                    await asyncio.gather(*(listen(session, node.url) for _ in range(16)))
                assert await asyncio.to_thread(exchange.ask, subscriptions) == 1

        asyncio.run(listen_many())
        for node in started:
            node.stop(secrets=["HiddenRedisWord", SECRET])
    finally:
        for node in started:
            if node.process.poll() is None:
                node.kill()
