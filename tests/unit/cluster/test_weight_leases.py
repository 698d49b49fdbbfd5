"""Several nodes behind one address, with a real Redis between them: what they spend together, and how bans travel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from resender.aio import Clock, Tasks
from resender.cluster.weight_leases import WeightLeases
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.cluster.blocks import SharedBudget
from resender.core.egress.governor import CLIENT, Governor
from resender.core.egress.spec import parse_egress
from resender.core.egress.state import Limits
from resender.core.weights.rules import Charge
from resender.errors import EgressExhausted, RedisDown
from tests.support.plain_redis import plain_redis

WINDOW_MS = 2000
LIMIT = 600
CALL = Charge(5, "spot")
ORDER = Charge(1, "spot", is_order=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[redis.Redis]:
    with plain_redis(tmp_path) as client:
        yield client


class Link:
    """A node's way to Redis, as thin as can be; `is_cut` cuts it."""

    def __init__(self, path: str, others: list[Link]) -> None:
        self._redis = Redis(unix_socket_path=path, decode_responses=True)
        self._callbacks: dict[str, Any] = {}
        self._others = others
        others.append(self)
        self.is_cut = False

    @property
    def is_up(self) -> bool:
        return not self.is_cut

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        if self.is_cut:
            raise RedisDown("cut")
        try:
            return await self._redis.eval(script, len(keys), *keys, *map(str, args))
        except redis.RedisError as error:
            raise RedisDown(str(error)) from None

    async def read(self, keys: Sequence[str]) -> list[str | None]:
        if self.is_cut:
            raise RedisDown("cut")
        return await self._redis.mget(keys)

    def publish(self, word: str, payload: dict[str, Any]) -> None:
        for other in self._others:
            if other is not self and not other.is_cut and word in other._callbacks:
                other._callbacks[word](payload)

    def listen(self, word: str, callback: Any) -> None:
        self._callbacks[word] = callback


class Node:
    def __init__(self, name: str, path: str, links: list[Link], metered: dict[int, int], **more: Any) -> None:
        self.clock = Clock()
        self.tasks = Tasks()
        exchange_clock = ExchangeClock()
        mono = self.clock.mono()
        exchange_clock.set(int(time.time() * 1000), mono, mono)
        self.governor = Governor(
            parse_egress(["default;shared=nat"]),
            exchange_clock,
            limits=Limits(spot=LIMIT, window_ms=WINDOW_MS),
        )
        self.link = Link(path, links)
        self.leases = WeightLeases(
            self.governor, self.link, node=name, clock=self.clock, tasks=self.tasks, order_reserve=0.1, **more
        )
        self.metered = metered
        self.refused = 0

    async def call(self, charge: Charge = CALL) -> bool:
        """Make one call if that is allowed; Binance meters it at once."""
        for attempt in range(2):
            try:
                grant = self.governor.admit(Market.SPOT, charge, self.clock.mono(), priority=CLIENT)
            except EgressExhausted:
                if attempt or not await self.leases.ask(Market.SPOT, charge, None):
                    self.refused += 1
                    return False
                continue
            window = int(time.time() * 1000) // WINDOW_MS
            self.metered[window] = self.metered.get(window, 0) + charge.weight
            await asyncio.sleep(0.002)
            self.governor.answered(grant, 200, None, self.clock.mono())
            return True
        return False

    async def hammer(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not await self.call():
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        await self.leases.stop()
        await self.kill()

    async def kill(self) -> None:
        """End without a word to the others."""
        await self.tasks.cancel()
        await self.link._redis.aclose()


class Nodes:
    def __init__(self, server: redis.Redis, count: int, **more: Any) -> None:
        path = server.connection_pool.connection_kwargs["path"]
        self.links: list[Link] = []
        self.metered: dict[int, int] = {}
        self.all = [Node(f"n{number}", path, self.links, self.metered, **more) for number in range(count)]

    async def __aenter__(self) -> Nodes:
        for node in self.all:
            await node.leases.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for node in self.all:
            await node.stop()

    def whole(self) -> list[int]:
        """Return what was metered in each window but the first and the last."""
        return [self.metered[window] for window in sorted(self.metered)[1:-1]]


async def test_three_nodes_use_what_one_may_and_never_more(server: redis.Redis) -> None:
    async with Nodes(server, 3) as nodes:
        await asyncio.gather(*(node.hammer(3.4 * WINDOW_MS / 1000) for node in nodes.all for _ in range(3)))
        assert max(nodes.metered.values()) <= LIMIT
        used = nodes.whole()
        assert used
        assert min(used) >= 0.8 * LIMIT * 0.9, used
        asked = sum(node.leases.asked for node in nodes.all)
        calls = sum(nodes.metered.values()) / CALL.weight
        assert asked < calls, "no trip for each call"


async def test_orders_find_the_reserve_when_all_else_is_used(server: redis.Redis) -> None:
    async with Nodes(server, 2) as nodes:
        one, two = nodes.all
        await asyncio.sleep(WINDOW_MS / 1000 - time.time() % (WINDOW_MS / 1000))
        await asyncio.gather(one.hammer(1.3), two.hammer(1.3))
        assert not await one.call()
        window = int(time.time() * 1000) // WINDOW_MS
        placed = [await two.call(ORDER) for _ in range(20)]
        if int(time.time() * 1000) // WINDOW_MS == window:
            assert all(placed)


async def test_heavy_read_of_the_gateways_own_finds_room_when_it_is_tried_again(server: redis.Redis) -> None:
    heavy = Charge(150, "spot")  # more than is leased ahead

    def admit(node: Node) -> None:
        grant = node.governor.admit(Market.SPOT, heavy, node.clock.mono(), priority=CLIENT)
        node.governor.answered(grant, 200, None, node.clock.mono())

    async with Nodes(server, 2) as nodes:
        one = nodes.all[0]
        await asyncio.sleep(0.3)
        with pytest.raises(EgressExhausted) as caught:
            admit(one)
        assert caught.value.retry_after_s == 1, "more may be granted"
        for _ in range(3):
            one.leases.wish(Market.SPOT, heavy)
        await asyncio.sleep(0.5)
        admit(one)
        # From now on so much is there from the beginning of each minute.
        await asyncio.sleep(WINDOW_MS / 1000 - time.time() % (WINDOW_MS / 1000) + 0.4)
        admit(one)


async def test_when_nothing_is_left_the_wait_is_until_the_minute_ends(server: redis.Redis) -> None:
    async with Nodes(server, 2) as nodes:
        one, two = nodes.all
        await asyncio.sleep(WINDOW_MS / 1000 - time.time() % (WINDOW_MS / 1000))
        await asyncio.gather(one.hammer(1.2), two.hammer(1.2))
        budget: Any = one.governor.by_name["default"].budgets["spot"]
        low_ms, _ = one.leases._times()
        assert budget.is_dry
        assert budget.wait_ms(low_ms) > 300


async def test_node_that_is_cut_off_spends_what_it_has_and_later_its_part(server: redis.Redis) -> None:
    async with Nodes(server, 2) as nodes:
        one, two = nodes.all
        await asyncio.gather(one.hammer(0.5), two.hammer(0.5))
        one.link.is_cut = True
        await asyncio.gather(one.hammer(3.2 * WINDOW_MS / 1000), two.hammer(3.2 * WINDOW_MS / 1000))
        assert max(nodes.metered.values()) <= LIMIT
        assert one.leases._shared["default"].fallback.used_window > 0, "it went on with its part"
        one.link.is_cut = False
        await asyncio.gather(one.hammer(1.3 * WINDOW_MS / 1000), two.hammer(1.3 * WINDOW_MS / 1000))
        assert max(nodes.metered.values()) <= LIMIT


async def test_ban_one_node_is_told_closes_the_address_for_all_at_once(server: redis.Redis) -> None:
    async with Nodes(server, 3) as nodes:
        assert await nodes.all[0].call()
        await asyncio.sleep(0.3)
        told, *others = nodes.all
        egress = told.governor.by_name["default"]
        told.governor.close_pool(egress, "spot", 418, told.clock.mono() + 60)
        told.leases.closed()
        end = time.monotonic() + 1.0
        while not all(node.governor.by_name["default"].closed for node in others):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        for node in others:
            assert not await node.call()
            closure = node.governor.by_name["default"].closed["spot"]
            assert closure.status == 418
            assert 55 < closure.until_mono - node.clock.mono() < 62


async def test_pause_makes_all_give_up_what_they_have_not_spent(server: redis.Redis) -> None:
    async with Nodes(server, 2) as nodes:
        one, two = nodes.all
        assert await two.call()
        await asyncio.sleep(0.3)
        budget: Any = two.governor.by_name["default"].budgets["spot"]
        assert budget.left(0.9, *two.leases._times()) > 0
        one.governor.close_pool(one.governor.by_name["default"], "spot", 429, one.clock.mono() + 5)
        one.leases.closed()
        await asyncio.sleep(0.5)
        assert budget.grants.get(budget.window, 0) <= budget.used + budget.reserved


class Kept:
    """What a node's database keeps of Redis' memory; `is_down` takes nothing."""

    def __init__(self) -> None:
        self.memory, self.part = "", 0
        self.is_down = False
        self.asked = 0

    async def known(self, address: str) -> tuple[str, int]:
        return self.memory, self.part

    async def keep(self, address: str, memory: str, part: int) -> bool:
        self.asked += 1
        if not self.is_down:
            self.memory, self.part = memory, part
        return not self.is_down

    @property
    def options(self) -> dict[str, Any]:
        return {"known_memory": self.known, "keep_memory": self.keep}


async def test_what_redis_remembers_is_kept_once_and_again_where_it_could_not_be(server: redis.Redis) -> None:
    kept = Kept()
    kept.is_down = True
    async with Nodes(server, 1, **kept.options) as nodes:
        await nodes.all[0].hammer(0.5)
        assert kept.asked >= 1
        assert not kept.memory
        kept.is_down = False
        await nodes.all[0].hammer(WINDOW_MS / 1000 + 0.5)
        assert kept.memory
        assert kept.part > 0
        asked = kept.asked
        await nodes.all[0].hammer(0.3)
        assert kept.asked == asked
    assert (kept.memory, kept.part) == ("", 0), "the last one has left: nobody holds anything"


async def test_node_that_was_killed_is_granted_its_part_by_another_redis(server: redis.Redis) -> None:
    kept = Kept()
    first = Nodes(server, 1, **kept.options)
    await first.__aenter__()
    await first.all[0].hammer(0.5)
    await first.all[0].kill()
    server.flushall()
    async with Nodes(server, 1, **kept.options) as again:
        await again.all[0].hammer(2.2 * WINDOW_MS / 1000)
        assert sum(again.metered.values()) > 0.5 * LIMIT, "not only in an hour"


async def test_node_that_is_started_while_redis_is_gone_has_its_part_after_two_windows(
    server: redis.Redis,
) -> None:
    kept = Kept()
    first = Nodes(server, 1, **kept.options)
    await first.__aenter__()
    await first.all[0].hammer(0.5)
    await first.all[0].kill()
    again = Nodes(server, 1, **kept.options)
    again.links[0].is_cut = True
    async with again:
        began = int(time.time() * 1000) // WINDOW_MS
        await again.all[0].hammer(3.5 * WINDOW_MS / 1000)
        assert again.metered
        assert min(again.metered) >= began + 2
        assert max(again.metered.values()) <= LIMIT


async def test_only_the_named_egresses_are_leased_for(server: redis.Redis) -> None:
    async with Nodes(server, 1, egresses=["another"]) as nodes:
        (one,) = nodes.all
        assert not isinstance(
            one.governor.new_budget(one.governor.egresses[0], LIMIT, WINDOW_MS), SharedBudget
        )
        await one.hammer(0.2)
        assert one.leases.asked == 0
        assert one.refused == 0
