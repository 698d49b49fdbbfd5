"""Two nodes behind the shipped haproxy.cfg: one is drained, one is killed, and no order is lost or sent twice."""

from __future__ import annotations

import asyncio
import secrets
import signal
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from resender.sandbox import API_KEY, API_SECRET, sign
from tests.support.kept import NoAnswer
from tests.support.ports import free_port
from tests.support.processes import GatewayProcess, SandboxThread, Start, until
from tests.support.redis_server import RedisServer, redis_server
from tests.support.reverse_proxies import CLIENT, DEPLOY, ReverseProxy, balancer, find_program

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

ORDER = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=20000"
KEY = (("X-MBX-APIKEY", API_KEY),)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


def start_node(start: Start, server: RedisServer, name: str, folder: Path) -> GatewayProcess:
    return start(
        REDIS_URL=server.url, NODE_NAME=name, DATA_DIR=folder / name, TRUSTED_PROXIES="127.0.0.1",
        WHITELIST=CLIENT, CACHE_ENABLED="false", LOG_LEVEL="INFO", ADMIN_ENABLED="false",
    )  # fmt: skip


@asynccontextmanager
async def two_nodes(
    start: Start, server: RedisServer, folder: Path
) -> AsyncIterator[tuple[ReverseProxy, list[GatewayProcess]]]:
    nodes = [await asyncio.to_thread(start_node, start, server, name, folder) for name in ("gw1", "gw2")]
    async with balancer(folder / "haproxy", [node.port for node in nodes]) as front:
        yield front, nodes


def order_target(name: str) -> str:
    query = f"{ORDER}&newClientOrderId={name}&timestamp={time.time_ns() // 1_000_000}&recvWindow=60000"
    return f"/api/v3/order?{query}&signature={sign(API_SECRET, query.encode())}"


class Orders:
    """Places orders without a pause, on connections that are kept."""

    def __init__(self, front: ReverseProxy) -> None:
        self._front = front
        self._prefix = secrets.token_hex(4)
        self.told: dict[int, str] = {}
        self._next = 0
        # A cancellation alone may get lost in what is being awaited.
        self._is_over = False

    async def work(self) -> None:
        while not self._is_over:
            async with self._front.connection() as one:
                while not self._is_over:
                    number, self._next = self._next, self._next + 1
                    self.told[number] = "no answer"
                    await one.send(self._front.build("POST", order_target(f"{self._prefix}-{number}"), KEY))
                    try:
                        reply = await one.answer("POST")
                    except NoAnswer:  # HAProxy's way to say that a kept connection to the node has ended
                        break
                    self.told[number] = f"{reply.status} {reply.json().get('code', '')}"
                    if "close" in (reply.header("connection") or ""):
                        break
                    await asyncio.sleep(0.05)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        jobs = [asyncio.create_task(self.work()) for _ in range(6)]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.wait(jobs, timeout=2.0)
            for job in jobs:
                job.cancel()
            done = await asyncio.gather(*jobs, return_exceptions=True)
        assert not [each for each in done if isinstance(each, Exception)], done

    def check(self, exchange: SandboxThread) -> Counter[str]:
        """Compare what was told with what arrived."""
        orders = exchange.ask(lambda sandbox: [order.params for order in sandbox.orders])
        names = (str(params["newClientOrderId"]) for params in orders)
        arrived = Counter(name for name in names if name.startswith(self._prefix))
        assert max(arrived.values()) == 1, "an order was sent twice"
        for number, told in self.told.items():
            if told.startswith("200"):
                assert arrived[f"{self._prefix}-{number}"] == 1
            elif told == "503 -8":
                assert arrived[f"{self._prefix}-{number}"] == 0
        return Counter(self.told.values())


async def test_node_that_is_drained_gets_nothing_new_and_no_call_is_lost(
    start: Start, server: RedisServer, exchange: SandboxThread, tmp_path: Path
) -> None:
    async with two_nodes(start, server, tmp_path) as (front, (one, two)):
        orders = Orders(front)
        async with orders.going_on():
            await asyncio.sleep(1.0)
            drained = await asyncio.to_thread(one.command, "nodes", "drain", "gw1")
            assert drained.wait() == 0, drained.stderr
            await asyncio.to_thread(until, lambda: one.call("GET", "/healthz").status == 503, "it is drained")
            await asyncio.sleep(3.0)
            log = one.stderr
            stopped = asyncio.create_task(asyncio.to_thread(one.stop))
            await asyncio.sleep(1.5)
            await stopped
        told = orders.check(exchange)
        assert set(told) <= {"200 ", "no answer"}, told
        assert told["no answer"] <= 6, "those that were under way at the end"
        assert "Traceback" not in log
        assert (await front.call("GET", "/api/v3/time")).status == 200
        assert two.call("GET", "/healthz").status == 200


async def test_three_nodes_are_started_anew_one_after_the_other_and_no_call_is_lost(
    start: Start, server: RedisServer, exchange: SandboxThread, tmp_path: Path
) -> None:
    """As at an upgrade: keys have homes that come and go, and the balancer follows."""
    names = ("gw1", "gw2", "gw3")
    ports = {name: free_port() for name in names}

    def begin(name: str) -> GatewayProcess:
        return start(
            REDIS_URL=server.url, NODE_NAME=name, DATA_DIR=tmp_path / name, TRUSTED_PROXIES="127.0.0.1",
            WHITELIST=CLIENT, CACHE_ENABLED="false", LOG_LEVEL="INFO", ADMIN_ENABLED="false", PORT=ports[name],
            NODE_URL=f"http://127.0.0.1:{ports[name]}", NODE_SECRET="of-all-nodes-" * 3,
            EGRESS=f"ip=127.0.0.{names.index(name) + 2}",
        )  # fmt: skip

    nodes = {name: await asyncio.to_thread(begin, name) for name in names}
    async with balancer(tmp_path / "haproxy", list(ports.values())) as front:
        orders = Orders(front)
        async with orders.going_on():
            for name in names:
                await asyncio.sleep(1.0)
                drained = await asyncio.to_thread(nodes[name].command, "nodes", "drain", name)
                assert drained.wait() == 0, drained.stderr
                await asyncio.to_thread(until, lambda node=nodes[name]: health(node) == 503, "it is drained")
                await asyncio.sleep(3.0)  # until the balancer has seen it
                await asyncio.to_thread(nodes[name].stop)
                beside = next(nodes[other] for other in names if other != name)
                back = await asyncio.to_thread(beside.command, "nodes", "undrain", name)
                assert back.wait() == 0, back.stderr
                nodes[name] = await asyncio.to_thread(begin, name)
                await asyncio.sleep(2.0)  # until the balancer has seen that too
            await asyncio.sleep(2.0)
        told = orders.check(exchange)
        assert set(told) <= {"200 ", "no answer"}, told
        assert told["no answer"] <= 6, "those that were under way at the end"
        assert told["200 "] > 100
        homes = exchange.ask(
            lambda sandbox: {call.peer for call in sandbox.calls if call.path == "/api/v3/order"}
        )
        assert len(homes) > 1, "the key has moved while its home was away"


def health(node: GatewayProcess) -> int:
    return node.call("GET", "/healthz").status


async def test_node_that_is_killed_costs_what_was_under_way_and_no_order_goes_twice(
    start: Start, server: RedisServer, exchange: SandboxThread, tmp_path: Path
) -> None:
    async with two_nodes(start, server, tmp_path) as (front, (one, two)):
        orders = Orders(front)
        async with orders.going_on():
            await asyncio.sleep(1.0)
            one.process.send_signal(signal.SIGKILL)
            one.process.wait(10)
            mark = len(orders.told)
            await asyncio.sleep(3.0)
            late = {number: told for number, told in orders.told.items() if number > mark + 12}
        told = orders.check(exchange)
        assert {each for each in late.values() if each != "no answer"} == {"200 "}
        assert sum(count for each, count in told.items() if not each.startswith("200")) <= 18, told
        two.process.send_signal(signal.SIGKILL)
        two.process.wait(10)
        await asyncio.sleep(3.0)
        nobody = await front.call("GET", "/api/v3/time")
        assert (nobody.status, nobody.json()["code"]) == (503, -8)


async def test_what_passes_is_what_the_client_sent(
    start: Start, server: RedisServer, exchange: SandboxThread, tmp_path: Path
) -> None:
    async with two_nodes(start, server, tmp_path) as (front, _):
        long = "x" * 50_000
        target = f"/api/v3/x?s=%5B%22A%22%2c%22B%22%5d&a=b+c%20d&&z={long}"
        reply = await front.call("GET", target, (("X-Forwarded-For", "203.0.113.7"), *KEY))
        assert reply.status == 404
        assert exchange.calls("/api/v3/x")[-1].target == target
        assert (await front.call("GET", "/api/v3/time")).status == 200
        with pytest.raises((AssertionError, OSError, ssl.SSLError)):
            await front.call("GET", "/api/v3/time", source="127.0.0.8")
        context = front.context
        connector = aiohttp.TCPConnector(local_addr=(CLIENT, 0), ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"wss://localhost:{front.port}/ws/btcusdt@bookTicker"
            async with session.ws_connect(url) as socket:
                assert "BTCUSDT" in (await socket.receive(timeout=15)).data


def test_balancers_address_moves_by_a_configuration_keepalived_understands() -> None:
    program = find_program("keepalived")
    done = subprocess.run(
        [program, "-t", "-f", str(DEPLOY / "keepalived.conf")], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
