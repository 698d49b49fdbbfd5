"""This node among others: the link to Redis and who else is there, as one thing for those who ask.

It exists only where `REDIS_URL` is set. One `Cluster` belongs to one gateway.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from resender.aio import Clock, Tasks
from resender.cluster.presence import Presence
from resender.cluster.redis_link import RedisLink
from resender.core.cluster.node_info import NodeInfo


class Cluster:
    """The link and the presence of one node. Shape: `describe` returns this node as it is now."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        installation: str,
        describe: Callable[[], NodeInfo],
        clock: Clock,
        tasks: Tasks,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self.link = RedisLink(
            url, installation=installation, clock=clock, tasks=tasks, ssl_context=ssl_context
        )
        self.presence = Presence(self.link, name=name, describe=describe, clock=clock, tasks=tasks)

    def start(self) -> None:
        """Begin to connect and to be seen; nothing is waited for."""
        self.link.start()
        self.presence.start()

    async def stop(self) -> None:
        """Leave, and end the connections."""
        await self.presence.stop()
        await self.link.stop()

    @property
    def is_drained(self) -> bool:
        return self.presence.is_drained

    def nodes(self) -> list[NodeInfo]:
        """List the nodes, see `Presence.nodes`."""
        return self.presence.nodes()

    async def drain(self, name: str, on: bool) -> bool:
        """Drain a node or take that back, see `Presence.drain`. Raises: RedisDown."""
        return await self.presence.drain(name, on)

    def redis_row(self) -> dict[str, Any]:
        """Describe the link for people and programs.

        Shape: {"up","where","problem","warning","since_s","losses","clock_off_ms"}.
        """
        link = self.link
        return {
            "up": link.is_up,
            "where": link.where,
            "problem": link.problem,
            "warning": link.warning,
            "since_s": round(max(0.0, self._clock.mono() - link.since_mono), 1),
            "losses": link.losses,
            "clock_off_ms": round(link.clock_off_ms, 1),
        }
