"""Three nodes of two workers each behind one address, of which more is asked than the exchange gives it.

Ten clients ask all nodes all the time, and the clock of one node's machine is wrong. What came of it is told by the
meter of the exchange. HAMMER_SECONDS sets how long it is from the first minute turn to the last (in full: 120);
clients begin a little before the first and end a little after the last.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from resender.sandbox import sign
from resender.sandbox.weights import Verdict
from tests.support.cache_bench import small_exchange
from tests.support.egress_lab import ACCOUNTS, KEYS, LIMIT_ORDER
from tests.support.ports import free_port
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.processes import GatewayProcess, SandboxThread, until
from tests.support.redis_server import RedisServer, redis_server

SECONDS = float(os.environ.get("HAMMER_SECONDS", "60"))
MINUTE_S = 60
# So long before the first turn clients begin: they spend a whole minute's weight then, up to the turn and over it.
BEFORE_S, AFTER_S = 3.0, 4.0
NODES = ("a", "b", "c")
# Whose clock is ahead. By more than BEFORE_S: for that machine the first turn has been when the first call comes.
WRONG, AHEAD_S = "c", 5
SECRET = "of-all-nodes-" * 3
EGRESS = "nat=default;shared=office"
PEER = "127.0.0.1"
LIMIT = 6000
ORDER_RESERVE = 0.1
# What nodes that share an address use of it, and of that what the reserve leaves to calls that are no orders.
SHARED_PART = 0.97
MAY_USE = LIMIT * SHARED_PART * (1 - ORDER_RESERVE)
# Of that; the weight of orders does not count as used.
LEAST_USED = 0.93
# Large calls, so that it takes few to use up a minute, and small ones for what is left of it. Nothing of this is in
# the nodes' memory.
LARGE = ("depth?symbol={}&limit=5000", "depth?symbol={}&limit=1000", "depth?symbol={}&limit=500")
SMALL = ("trades?symbol={}&limit=5", "depth?symbol={}&limit=100", "aggTrades?symbol={}&limit=5")
SMALLEST = ("avgPrice?symbol={}",)
SYMBOLS = ("ETHUSDT", "BNBUSDT", "NKNUSDT")
READERS, TRADERS = 8, 2
AT_ONCE = 8
ORDER = "/api/v3/order"

pytestmark = [
    pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(SECONDS + 2 * MINUTE_S + 180),
]  # fmt: skip


class NodeOfWrongClock(GatewayProcess):
    """A node on a machine whose clock is ahead."""

    def variables(self) -> dict[str, str]:
        text = (
            "import time\n"
            "right, right_ns = time.time, time.time_ns\n"
            f"time.time = lambda: right() + {AHEAD_S}\n"
            f"time.time_ns = lambda: right_ns() + {AHEAD_S} * 10**9\n"
        )
        (self.folder / "sitecustomize.py").write_text(text, "utf-8")
        return {"PYTHONPATH": str(self.folder)}


class Metered(NamedTuple):
    """A call as the exchange metered it. Shape: `status` is 429, 418, or 0 if it was let in."""

    pool: str
    at_ms: int
    status: int


class Meter:
    """Notes what the exchange says of every call's weight."""

    def __init__(self, exchange: SandboxThread, patch: pytest.MonkeyPatch) -> None:
        self._exchange = exchange
        self._pools = exchange.sandbox.exchange.pools
        self._spend = self._pools.spend
        self.calls: list[Metered] = []
        patch.setattr(self._pools, "spend", self._note)

    def _note(self, peer: str, pool: str, weight: int, now_ms: int) -> Verdict:
        verdict = self._spend(peer, pool, weight, now_ms)
        self.calls.append(Metered(pool, now_ms, verdict.status))
        return verdict

    def refusals(self, status: int) -> Counter[tuple[str, int]]:
        """Count the refusals by pool and the minute turn they were nearest to."""
        return Counter(
            (call.pool, round(call.at_ms / 1000 / MINUTE_S)) for call in self.calls if call.status == status
        )

    def peaks(self) -> dict[tuple[str, int], int]:
        """Return the most weight asked for, by pool and minute."""
        past = self._exchange.ask(
            lambda sandbox: {pool: sandbox.past_weights(PEER, pool) for pool in {c.pool for c in self.calls}}
        )
        return {(pool, use.window): use.peak for pool, uses in past.items() for use in uses}

    def used_by_orders(self) -> Counter[int]:
        """Return what cancels weighed, by minute; those that are placed are free."""
        calls = self._exchange.calls(ORDER, "DELETE")
        return Counter(call.received_ms // 1000 // MINUTE_S for call in calls)

    def used(self) -> dict[int, int]:
        """Return the spot weight of all that are no orders, by minute."""
        past = self._exchange.ask(lambda sandbox: sandbox.past_weights(PEER, "spot"))
        return {use.window: use.used - self.used_by_orders()[use.window] for use in past}


class Clients:
    """Ten clients of all nodes, each with connections of its own: most read, some trade."""

    def __init__(self, nodes: dict[str, GatewayProcess]) -> None:
        self._urls = [node.url for node in nodes.values()]
        self.told: Counter[str] = Counter()
        self.problems: list[str] = []
        self.placed: list[str] = []

    async def call(
        self,
        session: aiohttp.ClientSession,
        chance: random.Random,
        what: str,
        method: str,
        target: str,
        key: str = "",
    ) -> float:
        """Make a call of any node; return after how many seconds to ask again, 0 for at once."""
        headers = {"X-MBX-APIKEY": key} if key else None
        url = f"{chance.choice(self._urls)}{target}"
        try:
            async with session.request(method, url, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            self.problems.append(f"{what}: {error!r}")
            return 0.1
        is_refused = answer.status == 429 and "X-Resender-Error" in answer.headers
        self.told[f"{what} {'refused' if is_refused else answer.status}"] += 1
        # What the exchange itself refuses is judged by its meter, unless it is an order.
        if answer.status != 200 and not (answer.status in (418, 429) and what == "read"):
            self.problems.append(f"{what}: {answer.status} {body[:200]!r}")
        return float(answer.headers.get("Retry-After", "0"))

    async def read(self, session: aiohttp.ClientSession, number: int) -> None:
        """Ask several things at once, again and again; half of the clients wait as long as they are told to."""
        chance = random.Random(number)
        is_patient = number % 2 == 0
        while True:
            kinds = [
                chance.choice([LARGE, LARGE, SMALL, SMALLEST]) for _ in range(chance.randint(1, AT_ONCE))
            ]
            paths = [chance.choice(kind).format(chance.choice(SYMBOLS)) for kind in kinds]
            calls = [self.call(session, chance, "read", "GET", f"/api/v3/{path}") for path in paths]
            retry_after_s = max(await asyncio.gather(*calls))
            if retry_after_s and not is_patient:
                retry_after_s = chance.uniform(0.3, 0.9)
            await asyncio.sleep(retry_after_s or chance.uniform(0.0, 0.1))

    async def trade(self, session: aiohttp.ClientSession, number: int) -> None:
        chance = random.Random(number)
        key = KEYS[number]

        async def signed(what: str, method: str, query: str) -> None:
            query += f"&symbol=BTCUSDT&timestamp={time.time_ns() // 1_000_000}&recvWindow=5000"
            query += f"&signature={sign(ACCOUNTS[key], query.encode())}"
            await self.call(session, chance, what, method, f"{ORDER}?{query}", key)
            await asyncio.sleep(chance.uniform(0.3, 0.9))

        for count in itertools.count():
            name = f"o{number}x{count}"
            self.placed.append(name)
            await signed("order", "POST", f"side=BUY&price=20000&{LIMIT_ORDER}&newClientOrderId={name}")
            await signed("cancel", "DELETE", f"origClientOrderId={name}")

    async def hammer(self, seconds: float) -> None:
        timeout = aiohttp.ClientTimeout(total=15)
        async with AsyncExitStack() as stack:
            tasks = []
            for number in range(READERS + TRADERS):
                session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
                await stack.enter_async_context(session)
                job = self.read if number < READERS else self.trade
                tasks.append(asyncio.create_task(job(session, number)))
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [each for each in ended if isinstance(each, Exception)], ended


def start(
    name: str, folder: Path, exchange: SandboxThread, redis: RedisServer, database: PostgresServer
) -> GatewayProcess:
    port = free_port()
    settings: dict[str, object] = {
        **exchange.settings(),
        "PORT": port,
        "WORKERS": 2,
        "REDIS_URL": redis.url,
        "DATABASE_URL": database.url,
        "NODE_NAME": name,
        "NODE_URL": f"http://127.0.0.1:{port}",
        "NODE_SECRET": SECRET,
        "EGRESS": EGRESS,
        "ORDER_WEIGHT_RESERVE": ORDER_RESERVE,
        "PRELOAD": "spot:BTCUSDT@1m",
        "MAX_ON_DEMAND_SERIES": 0,
        "MAX_ON_DEMAND_BOOKS": 0,
        "ADMIN_ENABLED": "false",
        "LOG_LEVEL": "INFO",
    }
    kind = NodeOfWrongClock if name == WRONG else GatewayProcess
    return kind(folder, **settings)


@pytest.fixture
def exchange() -> Iterator[SandboxThread]:
    # Its clock is the machine's: only one node is to be wrong about it.
    config = small_exchange(
        lambda: time.time_ns() // 1_000_000, accounts=ACCOUNTS, weight_limits={"spot": LIMIT}
    )
    with SandboxThread(config) as started:
        yield started


@pytest.fixture
def nodes(exchange: SandboxThread, tmp_path: Path) -> Iterator[dict[str, GatewayProcess]]:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        database = stack.enter_context(postgres_server())
        made = {}
        for name in NODES:
            made[name] = start(name, tmp_path / name, exchange, redis, database)
            stack.callback(made[name].kill)
        for name, node in made.items():
            until(lambda node=node: "2 workers serve" in node.stderr, f"both workers of {name} serve")
        yield made


def test_nodes_behind_one_address_use_all_of_each_minute_and_are_never_refused(
    exchange: SandboxThread, nodes: dict[str, GatewayProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(exchange, monkeypatch)
    clients = Clients(nodes)
    until(lambda: f"a clock {AHEAD_S}.0 s behind" in nodes[WRONG].stderr, "the wrong clock is told of")
    # No node has been asked anything before.
    first = int((time.time() + BEFORE_S + 2.0) // MINUTE_S) + 1
    time.sleep(first * MINUTE_S - BEFORE_S - time.time())
    asyncio.run(clients.hammer(BEFORE_S + SECONDS + AFTER_S))
    whole = range(first, first + int(SECONDS // MINUTE_S))
    assert whole
    used, by_orders, peaks = meter.used(), meter.used_by_orders(), meter.peaks()
    refusals, bans = meter.refusals(429), meter.refusals(418)
    print(dict(clients.told), {n - first: (used[n], by_orders[n], peaks["spot", n]) for n in used})
    print({n - first: f"{used.get(n, 0) / MAY_USE:.1%} of {MAY_USE:g}" for n in whole}, dict(refusals), bans)

    wrong = [f"{pool} banned at turn {turn - first}" for pool, turn in bans]
    wrong += [
        f"{count} times 429 of {pool} at turn {turn - first}"
        for (pool, turn), count in refusals.items()
        if count > 1
    ]
    wrong += [
        f"{peak} of {pool} asked for in minute {n - first}"
        for (pool, n), peak in peaks.items()
        if peak > exchange.sandbox.config.limit_of(pool)
    ]
    wrong += [
        f"only {used.get(n, 0) / MAY_USE:.1%} used in minute {n - first}"
        for n in whole
        if used.get(n, 0) < LEAST_USED * MAY_USE
    ]
    orders = exchange.ask(lambda sandbox: list(sandbox.orders))
    arrived = Counter(order.params["newClientOrderId"] for order in orders)
    wrong += [f"order {order.params} not taken" for order in orders if order.order_id is None]
    wrong += [f"order {name} came {count} times" for name, count in arrived.items() if count > 1]
    wrong += [f"{count} times {what}" for what, count in Counter(clients.problems).items()]
    assert not wrong, (len(wrong), wrong[:12])
    # The last ones may have been under way when the clients ended.
    assert set(arrived) >= set(clients.placed[:-TRADERS])
    # It was more than the nodes could have, and the reserve was used, within what it is.
    assert clients.told["read refused"] > 100
    assert all(20 < by_orders[n] < LIMIT * ORDER_RESERVE / 2 for n in whole)
