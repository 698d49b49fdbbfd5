"""Three nodes of two workers each, on one Redis and one PostgreSQL, while everything around them dies in turn.

Clients ask all nodes all the time: every hit is judged by what the exchange says of that moment, every order is
placed once, whatever was killed meanwhile. CHAOS_SECONDS sets how long clients hammer before, CHAOS_GONE_S how long
things are gone (in full: 120 and 20).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import sign
from resender.sandbox.market import MarketStore
from tests.e2e.test_workers import workers
from tests.support.cache_bench import small_exchange
from tests.support.cache_judge import Timed, kline_problem, ticker_problem
from tests.support.client import Reply
from tests.support.egress_lab import ACCOUNTS, KEYS, LIMIT_ORDER
from tests.support.ports import free_port
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.processes import GatewayProcess, SandboxThread, until
from tests.support.redis_server import RedisServer, redis_server

SECONDS = float(os.environ.get("CHAOS_SECONDS", "8"))
GONE_S = float(os.environ.get("CHAOS_GONE_S", "3"))
SILENCE_S = 2.0
# Until there are hits again on a node that lives. Source: STREAM_SILENCE_S and 5 s.
HITS_AGAIN_S = SILENCE_S + 5.0
# Six processes, the exchange, its judge and the clients share two cores.
SLACK_MS = 1500
SECRET = "of-all-nodes-" * 3
ADDRESSES = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4"}
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=20"
TICKER = "/api/v3/ticker/bookTicker?symbol=ETHUSDT"

pytestmark = [
    pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(SECONDS + 8 * GONE_S + 240),
]  # fmt: skip


@dataclass
class Tally:
    """What the clients were told."""

    told: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    placed: dict[str, int] = field(default_factory=dict)
    # When each node last gave a hit.
    hits: dict[str, float] = field(default_factory=dict)


class Cluster:
    """The nodes as processes, and what they stand on."""

    def __init__(
        self, folder: Path, exchange: SandboxThread, redis: RedisServer, database: PostgresServer
    ) -> None:
        self.folder, self.exchange = folder, exchange
        self.redis, self.database = redis, database
        self.ports = {name: free_port() for name in ADDRESSES}
        self.nodes: dict[str, GatewayProcess] = {}
        self.stopped: set[str] = set()

    def start(self, name: str) -> None:
        settings: dict[str, object] = {
            **self.exchange.settings(),
            "PORT": self.ports[name],
            "WORKERS": 2,
            "REDIS_URL": self.redis.url,
            "DATABASE_URL": self.database.url,
            "NODE_NAME": name,
            "NODE_URL": f"http://127.0.0.1:{self.ports[name]}",
            "NODE_SECRET": SECRET,
            "EGRESS": f"ip={ADDRESSES[name]}",
            "PRELOAD": "spot:BTCUSDT@1m;spot:ETHUSDT@bookTicker",
            "STREAM_SILENCE_S": SILENCE_S,
            "ADMIN_ENABLED": "false",
            "LOG_LEVEL": "INFO",
            "READ_TIMEOUT_S": 10,
            "SHUTDOWN_S": 5,
        }
        self.nodes[name] = GatewayProcess(self.folder / f"{name}{time.monotonic_ns()}", **settings)

    def processes(self, name: str) -> list[int]:
        return [self.nodes[name].process.pid, *workers(self.nodes[name]).values()]

    def kill(self, name: str) -> None:
        for pid in self.processes(name):
            os.kill(pid, signal.SIGKILL)
        self.nodes[name].process.wait(10)
        self.stopped.add(name)

    def end(self) -> None:
        for name, node in self.nodes.items():
            if node.process.poll() is None:
                for pid in self.processes(name):
                    os.kill(pid, signal.SIGCONT)
                node.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    config = small_exchange(accounts=ACCOUNTS, book_ticker_hz=4.0)
    with ExitStack() as stack:
        exchange = stack.enter_context(SandboxThread(config))
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        database = stack.enter_context(postgres_server())
        made = Cluster(tmp_path, exchange, redis, database)
        stack.callback(made.end)
        for name in ADDRESSES:
            made.start(name)
        yield made


class Clients:
    """Ten clients: they read what may come out of memory and place orders, on every node, without an end."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.tally = Tally()
        config = cluster.exchange.sandbox.config
        self.store = MarketStore(Market.SPOT, config, config.clock_ms())
        self.config = config

    async def get(self, session: aiohttp.ClientSession, name: str, target: str) -> Timed | None:
        before_ms = self.config.clock_ms()
        try:
            async with session.get(f"http://127.0.0.1:{self.cluster.ports[name]}{target}") as answer:
                body = await answer.read()
        except (aiohttp.ClientError, asyncio.TimeoutError):
            self.tally.told[f"{name} no answer"] += 1
            return None
        headers = list(answer.headers.items())
        return Timed(Reply(b"", answer.status, headers, body, True), before_ms, self.config.clock_ms())

    async def read(self, session: aiohttp.ClientSession, seed: int) -> None:
        chance = random.Random(seed)
        while True:
            name = list(ADDRESSES)[
                seed % len(ADDRESSES)
            ]  # each node has readers: one that hangs holds up its own
            target = chance.choice([KLINES, TICKER])
            timed = await self.get(session, name, target)
            if timed is not None:
                self.tally.told[f"{timed.status} {timed.cache.partition(';')[0]}"] += 1
                if timed.is_hit:
                    self.judge(target, timed)
                    self.tally.hits[name] = time.monotonic()
            await asyncio.sleep(chance.uniform(0.02, 0.08))

    def judge(self, target: str, timed: Timed) -> None:
        if target == KLINES:
            push_ms = self.config.push_ms("spot", "1m")
            problem = kline_problem(self.store, "BTCUSDT", "1m", 20, timed, push_ms, SLACK_MS)
        else:
            problem = ticker_problem(self.store, "ETHUSDT", timed, self.config.book_ticker_hz, SLACK_MS)
        if problem is not None:
            self.tally.wrong.append(problem)

    async def trade(self, session: aiohttp.ClientSession, seed: int) -> None:
        chance = random.Random(1000 + seed)
        key = KEYS[seed]
        for number in itertools.count():
            name = chance.choice(list(ADDRESSES))
            order = f"o{seed}x{number}"
            query = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}&newClientOrderId={order}"
            query += f"&timestamp={self.config.clock_ms()}&recvWindow=5000"
            query += f"&signature={sign(ACCOUNTS[key], query.encode())}"
            url = f"http://127.0.0.1:{self.cluster.ports[name]}/api/v3/order?{query}"
            status = 0
            try:
                async with session.post(url, headers={"X-MBX-APIKEY": key}) as answer:
                    status = answer.status
                    await answer.read()
            except (aiohttp.ClientError, asyncio.TimeoutError):
                pass
            self.tally.placed[order] = status
            self.tally.told[f"order {status}"] += 1
            await asyncio.sleep(chance.uniform(0.1, 0.3))


async def events(cluster: Cluster, clients: Clients) -> list[str]:
    """Let everything die in turn; return what did not come back in time."""
    slow: list[str] = []

    async def in_thread(work: Callable[[], Any]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    async def hits_again(what: str, *names: str) -> None:
        await asyncio.sleep(0.3)  # what was under way before
        began = time.monotonic()
        while not all(clients.tally.hits.get(name, 0.0) > began for name in names):
            if time.monotonic() > began + HITS_AGAIN_S + 20:
                slow.append(f"{what}: no hits of {names} again")
                return
            await asyncio.sleep(0.05)
        took_s = time.monotonic() - began
        print(f"{what}: hits again after {took_s:.1f} s")
        if took_s > HITS_AGAIN_S:
            slow.append(f"{what}: hits again after {took_s:.1f} s")

    await asyncio.sleep(SECONDS)
    await in_thread(lambda: cluster.kill("b"))
    await hits_again("a node killed", "a", "c")
    await asyncio.sleep(GONE_S)
    cluster.stopped.discard("b")
    await in_thread(lambda: cluster.start("b"))
    collector = workers(cluster.nodes["a"])[0]
    os.kill(collector, signal.SIGKILL)
    while workers(cluster.nodes["a"]).get(0, collector) == collector:
        await asyncio.sleep(0.05)
    await hits_again("a collector killed", "a", "b", "c")
    await in_thread(cluster.redis.stop)
    await asyncio.sleep(GONE_S)
    await hits_again("Redis gone", "a", "b", "c")
    await in_thread(cluster.redis.start)
    await in_thread(cluster.database.stop)
    await asyncio.sleep(GONE_S)
    await hits_again("PostgreSQL gone", "a", "b", "c")
    await in_thread(cluster.database.start)
    stopped = cluster.processes("c")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(GONE_S)
    await hits_again("a node stopped", "a", "b")
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    await hits_again("a node goes on", "a", "b", "c")
    await asyncio.sleep(2)
    return slow


def test_nothing_wrong_is_told_and_no_order_placed_twice_whatever_dies(cluster: Cluster) -> None:
    clients = Clients(cluster)

    async def go() -> list[str]:
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            tasks = [asyncio.create_task(clients.read(session, seed)) for seed in range(6)]
            tasks += [asyncio.create_task(clients.trade(session, seed)) for seed in range(4)]
            chaos = asyncio.create_task(events(cluster, clients))
            try:
                await asyncio.wait({chaos, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                return chaos.result()
            finally:
                chaos.cancel()
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert not [each for each in ended if isinstance(each, Exception)], ended

    for name in ADDRESSES:
        until(
            lambda name=name: (
                cluster.nodes[name].call("GET", KLINES).headers.get("x-resender-cache") == "hit"
            ),
            f"{name} has hits",
        )
    slow = asyncio.run(go())
    tally = clients.tally
    print(dict(tally.told))
    assert not tally.wrong, (len(tally.wrong), tally.wrong[:3])
    arrived = Counter(
        dict(parse_qsl(call.query)).get("newClientOrderId")
        for call in cluster.exchange.calls("/api/v3/order", "POST")
    )
    assert [order for order, count in arrived.items() if count > 1] == []
    accepted = {order for order, status in tally.placed.items() if status == 200}
    assert accepted <= set(arrived)
    assert len(accepted) > 0.5 * len(tally.placed)
    assert tally.told["200 hit"] > 200
    assert not tally.told["order 429"], "a node's own address is its own whatever becomes of Redis"
    refused = cluster.exchange.ask(
        lambda sandbox: {k: n for k, n in sandbox.statuses.items() if k[1] in (418, 429)}
    )
    assert not refused
    assert not slow
