"""Gateways behind one address: together they use what Binance gives it, never more, and a ban is known to all."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from resender.sandbox import Sandbox
from resender.sandbox.faults import Fault
from tests.support.client import Reply
from tests.support.egress_lab import (
    KEYS,
    LIMIT_ORDER,
    Client,
    Lab,
    exchange_config,
    gateway_on,
    is_refused_here,
)
from tests.support.redis_server import RedisServer, redis_server
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

WINDOW_S = 6.0
LIMIT = 600
# What the order reserve of a tenth leaves of what is shared.
LEFT = 0.9 * 0.97


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


@asynccontextmanager
async def nodes(
    folder: Path, server: RedisServer, sandbox: Sandbox, count: int = 3
) -> AsyncIterator[list[Lab]]:
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            name = f"gw{number}"
            made.append(
                await stack.enter_async_context(
                    gateway_on(
                        folder / name,
                        sandbox,
                        window_s=WINDOW_S,
                        egress="nat=default;shared=nat",
                        redis_url=server.url,
                        node_name=name,
                    )
                )
            )
        yield made


class Work:
    """What the clients of all nodes do, and what they are told."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.problems: list[str] = []
        self.placed: list[str] = []

    def judge(self, what: str, reply: Reply) -> None:
        if reply.status == 200:
            self.told[f"{what} ok"] += 1
        elif is_refused_here(reply) and what == "read":
            self.told[f"{what} refused"] += 1
        else:
            self.problems.append(f"{what}: {reply.status} {reply.body[:200]!r}")

    async def read(self, seed: int, client: Client) -> None:
        chance = random.Random(seed)
        for number in itertools.count():
            limit = seed * 50 + number % 50 + 1  # of no other client, so that no calls are joined
            path = chance.choice(["depth", "aggTrades", "trades"])
            self.judge("read", await client.get(f"/api/v3/{path}?symbol=BTCUSDT&limit={limit}"))
            await asyncio.sleep(chance.uniform(0.0, 0.03))

    async def trade(self, seed: int, client: Client) -> None:
        for number in itertools.count():
            name = f"o{seed}-{number}"
            query = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}&newClientOrderId={name}"
            self.placed.append(name)
            self.judge("order", await client.signed("POST", "/api/v3/order", query, key=KEYS[seed]))
            await asyncio.sleep(WINDOW_S / 10)

    @asynccontextmanager
    async def going_on(self, labs: list[Lab]) -> AsyncIterator[None]:
        jobs = []
        for number, one in enumerate(labs):
            jobs += [self.read(number * 3 + seed, one.client()) for seed in range(3)]
            jobs.append(self.trade(number, one.client()))
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.2)
        assert not [each for each in done if isinstance(each, Exception)], done


def metered(sandbox: Sandbox) -> dict[int, int]:
    return {use.window: use.peak for use in sandbox.past_weights("127.0.0.1", "spot")}


async def test_three_nodes_use_what_their_address_may_and_orders_are_never_refused(
    server: RedisServer, tmp_path: Path
) -> None:
    async with Sandbox(exchange_config(WINDOW_S, weight_limits={"spot": LIMIT})) as sandbox:
        async with nodes(tmp_path, server, sandbox) as labs:
            work = Work()
            await labs[0].next_window()
            first = int(time.time() // WINDOW_S)
            async with work.going_on(labs):
                await labs[0].next_window()
                await labs[0].next_window()
            labs[0].assert_no_offence()
            used = metered(sandbox)
            print(dict(work.told), used)
            assert not work.problems, (len(work.problems), work.problems[:5])
            assert all(weight <= LIMIT for weight in used.values())
            for window in (first, first + 1):
                assert used[window] >= 0.93 * LEFT * LIMIT
            arrived = Counter(order.params["newClientOrderId"] for order in sandbox.orders)
            assert set(arrived.values()) == {1}
            assert set(arrived) >= set(work.placed[: -len(labs)])
            asked = sum(
                one.gateway.shared_weight.asked for one in labs if one.gateway.shared_weight is not None
            )
            print("trips to Redis", asked, "for", sum(work.told.values()))
            assert asked < sum(work.told.values()) / 2


async def test_ban_one_node_is_told_keeps_all_others_quiet_at_once_and_over_a_restart(
    server: RedisServer, tmp_path: Path
) -> None:
    async with Sandbox(exchange_config(WINDOW_S, weight_limits={"spot": LIMIT})) as sandbox:
        async with nodes(tmp_path, server, sandbox) as labs:
            for one in labs:
                assert (await one.get("/api/v3/depth?symbol=BTCUSDT&limit=5")).status == 200
            ban = Fault("status", match="ticker/price", status=418, headers={"Retry-After": "60"}, body="{}")
            sandbox.faults.add(ban)
            reply = await labs[0].get("/api/v3/ticker/price?symbol=BTCUSDT")
            assert reply.status == 418
            told = time.monotonic()
            mark = labs[0].mark()
            await wait_until(
                lambda: all(one.gateway.egress.governor.by_name["nat"].closed for one in labs), 1.0
            )
            took_s = time.monotonic() - told
            print(f"known to all after {took_s * 1000:.0f} ms")
            for one in labs:
                reply = await one.get("/api/v3/depth?symbol=BTCUSDT&limit=10")
                assert is_refused_here(reply, 418), reply.raw
            assert not list(sandbox.calls)[mark:]
        # Who is new has been told nothing by Binance and knows it all the same.
        async with nodes(tmp_path / "new", server, sandbox, 1) as (late,):
            await wait_until(lambda: late.gateway.egress.governor.by_name["nat"].closed, 3.0)
            assert is_refused_here(await late.get("/api/v3/depth?symbol=BTCUSDT&limit=20"), 418)


async def test_redis_that_stops_never_lets_the_nodes_spend_more_and_they_go_on_when_it_is_back(
    server: RedisServer, tmp_path: Path
) -> None:
    async with Sandbox(exchange_config(WINDOW_S, weight_limits={"spot": LIMIT})) as sandbox:
        async with nodes(tmp_path, server, sandbox, 2) as labs:
            work = Work()
            async with work.going_on(labs):
                await asyncio.sleep(2.0)
                server.stop()
                gone = int(time.time() // WINDOW_S)
                # A whole window in which nobody may have heard of them, then each within its part.
                await asyncio.sleep(3.5 * WINDOW_S)
                server.start()
                await asyncio.sleep(1.5 * WINDOW_S)
                ok = work.told["read ok"]
                await wait_until(lambda: work.told["read ok"] > ok + 20, 2 * WINDOW_S)
            labs[0].assert_no_offence()
            used = metered(sandbox)
            print(dict(work.told), gone, used)
            assert all(weight <= LIMIT for weight in used.values())
            assert max(used.get(window, 0) for window in (gone + 2, gone + 3)) >= 0.5 * LIMIT
            arrived = Counter(order.params["newClientOrderId"] for order in sandbox.orders)
            assert set(arrived.values()) == {1}
