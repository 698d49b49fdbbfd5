"""Several nodes on one exchange and one Redis, each with a source address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from resender.sandbox import Sandbox
from tests.support.egress_lab import Lab, gateway_on
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.running import wait_until

SECRET = "of-all-nodes-" * 3


@asynccontextmanager
async def node(
    folder: Path, server: RedisServer, sandbox: Sandbox, name: str, address: str = "", **settings: Any
) -> AsyncIterator[Lab]:
    """Run a node. Shape: `address` is that of its egress; without one it is a front, of whose own
    address no call may come."""
    port = free_port()
    values: dict[str, Any] = {
        "port": port,
        "node_name": name,
        "node_url": f"http://127.0.0.1:{port}",
        "node_secret": SECRET,
        "redis_url": server.url,
        "egress": f"ip={address}" if address else "",
    }
    if not address:
        values |= {"roles": "front,admin", "cache_enabled": True}
    async with gateway_on(folder / name, sandbox, **{**values, **settings}) as lab:
        yield lab


async def know_each_other(*labs: Lab) -> None:
    """Wait until every node has read the others."""

    def is_known(lab: Lab) -> bool:
        assert lab.gateway.hops is not None
        mine = lab.gateway.config.node_name
        others = {
            one.gateway.config.node_name
            for one in labs
            if "collector" in one.gateway.config.roles and one.gateway.config.node_name != mine
        }
        return {peer.name for peer in lab.gateway.hops.homes.peers} >= others

    for lab in labs:
        await wait_until(lambda lab=lab: is_known(lab), 10.0)
