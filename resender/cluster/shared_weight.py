"""All weight a process shares: with the workers beside it, and with other nodes.

Workers of a node share its own addresses over a Redis of their machine, so that nothing of that depends on the one all
nodes share. One `SharedWeight` belongs to one gateway.
"""

from __future__ import annotations

from collections.abc import Sequence

from resender.cluster.redis_link import RedisLink
from resender.cluster.weight_leases import WeightLeases
from resender.core.binance.markets import Market
from resender.core.egress.state import Egress
from resender.core.weights.table import Charge


class SharedWeight:
    """Leases of some Redis each. Shape: `links` are those that are started and stopped here."""

    def __init__(self, leases: Sequence[WeightLeases], links: Sequence[RedisLink] = ()) -> None:
        self._leases = tuple(leases)
        self._links = tuple(links)

    @property
    def asked(self) -> int:
        """Trips to Redis."""
        return sum(each.asked for each in self._leases)

    async def start(self) -> None:
        """Begin to lease. Raises: StoreError if nothing can be remembered."""
        for link in self._links:
            link.start()
        for each in self._leases:
            await each.start()

    async def stop(self) -> None:
        """Leave: what is set aside for this process is free again."""
        for each in self._leases:
            await each.stop()
        for link in self._links:
            await link.stop()

    async def ask(
        self, market: Market, charge: Charge, key: str | None, through: Egress | None = None
    ) -> bool:
        """Lease what a call needs that has found no room, see `WeightLeases.ask`."""
        for each in self._leases:
            if await each.ask(market, charge, key, through):
                return True
        return False

    def wish(self, market: Market, charge: Charge) -> None:
        """Lease what a read of the gateway's own needs, for when it is tried again."""
        for each in self._leases:
            each.wish(market, charge)

    def closed(self) -> None:
        """A pool has been closed here: who shares it is told at once."""
        for each in self._leases:
            each.closed()
