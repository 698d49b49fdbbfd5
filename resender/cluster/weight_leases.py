"""Weight of addresses that several nodes use: blocks leased from Redis, spent here, never over the limit together.

No call waits for Redis as long as a block is there: blocks are leased ahead. Bans and pauses of such an address
reach every node; a 429 makes all of them give up what they have not spent. What the scripts promise is
`resender.core.cluster.scripts`'s. One `WeightLeases` belongs to one gateway.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from resender.aio import Clock, Tasks, within
from resender.core.binance.markets import Market
from resender.core.cluster.blocks import FALLBACK_PERMILLE, SHARED_PART, Fallback, SharedBudget
from resender.core.cluster.scripts import BAN, CONTACT, FORGET_WINDOWS, TAKE, WINDOW_TTL_MS
from resender.core.egress.budget import Budget
from resender.core.egress.governor import Governor
from resender.core.egress.state import Egress, pool_group
from resender.core.weights.table import POOL_OF, Charge
from resender.errors import RedisDown

logger = logging.getLogger("resender.cluster")

_TICK_S = 0.2
_LOOK_EVERY_S = 1.0
# What is leased ahead: so much of the limit, or so much weight.
_AHEAD_PART, _AHEAD_LEAST, _AHEAD_MOST = 0.01, 60, 0.3
# The next window's block is leased so long before it begins.
_NEXT_MS = 1500.0
# What others set aside is asked for again after so long.
_KEPT_AGAIN_S = 0.5
_BAN = "ban"
# Under which name the store keeps that the installation has had a Redis.
# The first calls wait so long for the first connection.
_START_S = 1.0


class Link(Protocol):
    """The way to Redis: `RedisLink`."""

    @property
    def is_up(self) -> bool: ...

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any: ...

    async def read(self, keys: Sequence[str]) -> list[str | None]: ...

    def publish(self, word: str, payload: dict[str, Any]) -> None: ...

    def listen(self, word: str, callback: Callable[[dict[str, Any]], None]) -> None: ...


@dataclass(eq=False, slots=True)
class _Shared:
    """One shared address as this node sees it."""

    egress: Egress
    name: str
    fallback: Fallback = field(default_factory=Fallback)
    # Id of what Redis remembers of it, as it was last.
    memory: str = ""
    # What this node held by that, in permille.
    part: int = 0
    # Both are in the database.
    is_kept: bool = False
    epochs: dict[str, str] = field(default_factory=dict)
    # Bans that have been told to the others: until when, by pool.
    told: dict[str, float] = field(default_factory=dict)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    # What was asked for in vain: the least that was not to be had and until when that counts, by pool, window and
    # whether for orders.
    in_vain: dict[tuple[str, int, bool], tuple[int, float]] = field(default_factory=dict)

    def lock(self, pool: str) -> asyncio.Lock:
        return self.locks.setdefault(pool, asyncio.Lock())


class WeightLeases:
    """The leases of one node.

    Shape: `node` names it over restarts; `order_reserve` as the governor's; `egresses` are the names of those it leases
        for, None for all that are shared. `known_memory` returns the id of the memory Redis last had of a shared
        address, empty if none: another one has lost it; and the permille this node held then. `keep_memory` keeps
        them, and returns whether it could.
    """

    def __init__(
        self,
        governor: Governor,
        link: Link,
        *,
        node: str,
        clock: Clock,
        tasks: Tasks,
        order_reserve: float,
        egresses: Collection[str] | None = None,
        known_memory: Callable[[str], Awaitable[tuple[str, int]]] | None = None,
        keep_memory: Callable[[str, str, int], Awaitable[bool]] | None = None,
    ) -> None:
        self._governor = governor
        self._link = link
        self._node = node
        self._clock = clock
        self._tasks = tasks
        self._general_part = SHARED_PART * (1.0 - order_reserve)
        self._known_memory = known_memory
        self._keep_memory = keep_memory
        self._shared = {
            egress.name: _Shared(egress, shared_name(egress))
            for egress in governor.egresses
            if egress.spec.shared and (egresses is None or egress.name in egresses)
        }
        self._first_mono = self._look_mono = 0.0
        # The heaviest own read that has found no room, by pool: so much is leased ahead from then on.
        self._heaviest: dict[str, int] = {}
        self._wished: set[tuple[str, int]] = set()
        self._look_now = asyncio.Event()
        # Trips to Redis, and what they brought.
        self.asked = self.granted = self.failed = 0
        self._otherwise = governor.new_budget
        governor.new_budget = self._new_budget

    def _new_budget(self, egress: Egress, limit: int, window_ms: int) -> Budget:
        if egress.name in self._shared:
            return SharedBudget(limit, window_ms)
        return self._otherwise(egress, limit, window_ms)

    # --- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to lease. Raises: StoreError if nothing can be remembered."""
        if self._shared:
            if self._known_memory is not None:
                for shared in self._shared.values():
                    shared.memory, shared.part = await self._known_memory(shared.name)
                    shared.is_kept = True
                    if shared.part:
                        # It did not leave: the others set that aside still, and what the process before this one
                        # has spent by itself was before the next window but one.
                        shared.fallback.told(shared.part)
                        shared.fallback.asking(int(self._times()[1] // self._governor.window_ms))
            self._first_mono = self._clock.mono() + _START_S
            self._link.listen(_BAN, lambda _: self._look_now.set())
            self._tasks.spawn(self._run(), name="weight-leases")

    async def stop(self) -> None:
        """Leave: what is set aside for this node is free again."""
        for shared in self._shared.values():
            try:
                _, nodes = await self._link.run(CONTACT, self._slots(shared), [*self._who(shared), "1"])
            except RedisDown:
                return
            if not shared.memory and int(nodes) > 1:
                continue  # others know of what this one has never heard
            # Where this was the last one nobody holds anything.
            shared.memory, shared.part = shared.memory if int(nodes) > 1 else "", 0
            await self._keep(shared)

    async def _run(self) -> None:
        while True:
            for shared in self._shared.values():
                try:
                    await self._lease_ahead(shared)
                    if self._clock.mono() >= self._look_mono or self._look_now.is_set():
                        await self._look(shared)
                except RedisDown:
                    self._fall_back(shared)
            if self._clock.mono() >= self._look_mono or self._look_now.is_set():
                self._look_now.clear()
                self._look_mono = self._clock.mono() + _LOOK_EVERY_S
            try:
                await within(self._look_now.wait(), _TICK_S)
            except asyncio.TimeoutError:
                continue

    # --- leasing ---------------------------------------------------------------------------

    def _pools(self, shared: _Shared) -> list[str]:
        """Return the pools a block is kept of: those of the markets, and others that are in use."""
        served = {POOL_OF[market] for market in Market if shared.egress.spec.serves(market)}
        pools = served | set(shared.egress.budgets)
        return sorted(pools)

    def _budget(self, shared: _Shared, pool: str) -> SharedBudget:
        budget = shared.egress.budgets.get(pool)
        if budget is None:
            budget = SharedBudget(self._governor.limit(pool), self._governor.window_ms)
            shared.egress.budgets[pool] = budget
        assert isinstance(budget, SharedBudget)
        return budget

    async def _lease_ahead(self, shared: _Shared) -> None:
        if not self._link.is_up:
            raise RedisDown("not connected")
        for pool in self._pools(shared):
            if shared.egress.closure(pool, self._clock.mono()) is not None:
                continue
            budget = self._budget(shared, pool)
            low_ms, high_ms = self._times()
            ahead = max(_AHEAD_LEAST, int(budget.limit * _AHEAD_PART), self._heaviest.get(pool, 0))
            ahead = min(ahead, int(budget.limit * _AHEAD_MOST))
            needed = budget.needs(ahead, low_ms, high_ms + _NEXT_MS, is_order=False)
            for window, _ in needed:
                await self._take(shared, pool, window, 1, ahead * 2, is_order=False)

    def _times(self) -> tuple[float, float]:
        mono, clock = self._clock.mono(), self._governor.clock
        return clock.low_ms(mono), clock.high_ms(mono)

    def wish(self, market: Market, charge: Charge) -> None:
        """Lease what a read of the gateway's own needs, for when it is tried again."""
        place = charge.pool, charge.weight
        self._heaviest[charge.pool] = max(self._heaviest.get(charge.pool, 0), charge.weight)
        if self._shared and place not in self._wished:
            self._wished.add(place)
            wishing = self._tasks.spawn(self.ask(market, charge, None), name="weight-wish")
            wishing.add_done_callback(lambda _: self._wished.discard(place))

    async def ask(
        self, market: Market, charge: Charge, key: str | None, through: Egress | None = None
    ) -> bool:
        """Lease what a call needs that has found no room; return whether it is worth trying again.

        Shape: `through` is the one egress that it may take.
        """
        if not self._shared:
            return False
        while not self._link.is_up and self._clock.mono() < self._first_mono:
            await asyncio.sleep(0.02)
        mono = self._clock.mono()
        if not self._link.is_up:
            return False
        egresses = self._governor.egresses_of(market)
        if through is not None:
            egresses = [through]
        elif key is not None and len(egresses) > 1:
            egresses = [self._governor.egress_of_key(market, key, mono)]
        for egress in egresses:
            shared = self._shared.get(egress.name)
            if shared is None or egress.closure(charge.pool, mono) is not None:
                continue
            try:
                if await self._lease_for(shared, charge):
                    return True
            except RedisDown:
                return False
        return False

    async def _lease_for(self, shared: _Shared, charge: Charge) -> bool:
        async with shared.lock(charge.pool):  # who waited finds a block perhaps
            budget = self._budget(shared, charge.pool)
            needed = budget.needs(charge.weight, *self._times(), is_order=charge.is_order)
            for window, short in needed:
                most = max(short, int(budget.limit * 0.1))
                if not await self._take(shared, charge.pool, window, short, most, is_order=charge.is_order):
                    return False
            return True

    async def _take(
        self, shared: _Shared, pool: str, window: int, least: int, most: int, *, is_order: bool
    ) -> int:
        """Lease a block: at least and at most so much weight; 0 if there is none. Raises: RedisDown."""
        budget = self._budget(shared, pool)
        place = (pool, window, is_order)
        vain, until_mono = shared.in_vain.get(place, (least + 1, 0.0))
        if least >= vain and self._clock.mono() < until_mono:
            return 0
        low_ms, _ = self._times()
        held = budget.grants.get(window, 0) + budget.order_grants.get(window, 0)
        seen = budget.seen if window == budget.window else 0
        args = [
            *self._who(shared), window, budget.limit, int(budget.limit * SHARED_PART), least, most, seen,
            WINDOW_TTL_MS, held, int(budget.limit * self._general_part), int(is_order),
        ]  # fmt: skip
        keys = [
            *self._slots(shared),
            self._key(shared, f"{pool}:{window}"),
            self._key(shared, f"epoch:{pool}"),
        ]
        shared.fallback.asking(int(low_ms // budget.window_ms))
        self.asked += 1
        try:
            give, permille, nodes, _, epoch, memory, kept_back = await self._link.run(TAKE, keys, args)
        except RedisDown:
            self.failed += 1
            raise
        shared.fallback.told(int(permille))
        shared.egress.sharers = int(nodes)
        self._note_epoch(shared, pool, _text(epoch))
        if not give:
            for old in [old for old in shared.in_vain if old[1] < budget.window]:
                del shared.in_vain[old]
            # What is granted in a minute comes back in none; what is set aside may be free in a moment.
            again_s = _KEPT_AGAIN_S if int(kept_back) else float("inf")
            shared.in_vain[place] = least, self._clock.mono() + again_s
            if window == budget.window and not is_order and not int(kept_back):
                budget.is_dry = True
        else:
            self.granted += int(give)
            budget.grant(window, int(give), for_orders=is_order)
        found = _text(memory), int(permille)
        if (shared.memory, shared.part) != found or not shared.is_kept:
            shared.memory, shared.part = found
            shared.is_kept = True
            self._tasks.spawn(self._keep(shared), name="weight-memory")
        return int(give)

    async def _keep(self, shared: _Shared) -> None:
        """Keep what is known now; what the database does not take is tried again with the next block."""
        if self._keep_memory is not None:
            shared.is_kept = await self._keep_memory(shared.name, shared.memory, shared.part)

    def _who(self, shared: _Shared) -> list[str | int]:
        low_ms, _ = self._times()
        window = int(low_ms // self._governor.window_ms)
        return [
            self._node, window, shared.fallback.used_window, shared.fallback.permille, FORGET_WINDOWS,
            FALLBACK_PERMILLE, shared.memory, secrets.token_hex(8), shared.part,
        ]  # fmt: skip

    @staticmethod
    def _key(shared: _Shared, word: str) -> str:
        return f"weight:{{{shared.name}}}:{word}"

    def _slots(self, shared: _Shared) -> list[str]:
        return [self._key(shared, "slots"), self._key(shared, "memory")]

    # --- cut off ---------------------------------------------------------------------------

    def _fall_back(self, shared: _Shared) -> None:
        """Spend the part that the others set aside, once they are certain to do so."""
        low_ms, _ = self._times()
        for pool in self._pools(shared):
            budget = self._budget(shared, pool)
            budget.roll(low_ms)
            for window in (budget.window, budget.window + 1):
                share = shared.fallback.share(window, int(budget.limit), FORGET_WINDOWS - 2)
                held = budget.grants.get(window, 0) + budget.order_grants.get(window, 0)
                if share > held:
                    general = int(share * self._general_part / SHARED_PART)
                    budget.grants[window] = max(budget.grants.get(window, 0), general)
                    budget.order_grants[window] = share - budget.grants[window]

    # --- bans ------------------------------------------------------------------------------

    def closed(self) -> None:
        """A pool has been closed here: the other nodes are told at once."""
        for shared in self._shared.values():
            for pool, closure in shared.egress.closed.items():
                if closure.until_mono > shared.told.get(pool, 0.0) + 0.05:
                    shared.told[pool] = closure.until_mono
                    self._tasks.spawn(
                        self._tell(shared, pool, closure.status, closure.until_mono), name="weight-ban"
                    )

    async def _tell(self, shared: _Shared, pool: str, status: int, until_mono: float) -> None:
        mono = self._clock.mono()
        left_ms = int((until_mono - mono) * 1000)
        until_ms = int(self._governor.clock.high_ms(mono)) + left_ms
        keys = [self._key(shared, f"ban:{pool}"), self._key(shared, f"epoch:{pool}")]
        try:
            epoch = await self._link.run(BAN, keys, [status, until_ms, max(1000, left_ms + 5000)])
        except RedisDown:
            shared.told.pop(pool, None)  # told when it is back
            return
        self._note_epoch(shared, pool, _text(epoch))
        self._link.publish(_BAN, {"pool": pool})

    async def _look(self, shared: _Shared) -> None:
        """Read what the others have been told by Binance. Raises: RedisDown."""
        pools = sorted({*self._pools(shared), *map(pool_group, self._pools(shared))})
        names = [*(f"ban:{pool}" for pool in pools), *(f"epoch:{pool}" for pool in pools)]
        found = await self._link.read([self._key(shared, name) for name in names])
        mono = self._clock.mono()
        for pool, ban, epoch in zip(pools, found[: len(pools)], found[len(pools) :], strict=True):
            if ban is not None:
                status, _, until = ban.partition(" ")
                left_s = (int(until) - self._governor.clock.low_ms(mono)) / 1000
                if left_s > 0:
                    known = shared.egress.closed.get(pool)
                    if known is None or known.until_mono < mono + left_s - 1.0:
                        shared.told[pool] = mono + left_s
                        self._governor.close_pool(shared.egress, pool, int(status), mono + left_s)
                        logger.warning(
                            "%s through %s is closed by what another node was told", pool, shared.egress.name
                        )
            self._note_epoch(shared, pool, epoch or "0")
        self.closed()

    def _note_epoch(self, shared: _Shared, pool: str, epoch: str) -> None:
        if shared.epochs.setdefault(pool, epoch) != epoch:
            shared.epochs[pool] = epoch
            budget = shared.egress.budgets.get(pool)
            if isinstance(budget, SharedBudget):
                budget.drop()


def shared_name(egress: Egress) -> str:
    """Return what all nodes call a shared address; a proxy's own address does not go to Redis."""
    return hashlib.sha256(egress.spec.shared.encode()).hexdigest()[:16]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
