"""The nodes that share Redis, for the page "Nodes"; one can be drained.

The list is `services.cluster`'s as it was last read; where there is one node it is empty. No state.
"""

from __future__ import annotations

from resender.errors import Busy, Conflict, RedisDown, RouteError
from resender.web.admin.base import AdminHandler
from resender.web.admin.fields import Field

_FIELDS = {"name": Field(str, longest=100), "on": Field(bool)}


class NodesHandler(AdminHandler):
    """`GET /admin/api/nodes`."""

    def get(self) -> None:
        cluster = self.services.cluster
        if cluster is None:
            self.send({"redis": None, "nodes": [], "warnings": []})
            return
        warnings = [{"kind": kind, "node": name} for kind, name in cluster.presence.warnings]
        self.send(
            {
                "redis": cluster.redis_row(),
                "nodes": [node.row() for node in cluster.nodes()],
                "warnings": warnings,
            }
        )


class NodesDrainHandler(AdminHandler):
    """`POST /admin/api/nodes/drain`."""

    async def post(self) -> None:
        body = self.read_json(_FIELDS)
        name, on = body["name"], body["on"]
        cluster = self.services.cluster
        if cluster is None:
            raise Conflict("REDIS_URL is empty: there is one node.", {"reason": "one_node"})
        named = [node for node in cluster.nodes() if node.name == name]
        if not named:
            raise RouteError(f"There is no node named {name}.", {"reason": "gone"})
        try:
            if not cluster.link.is_up:
                raise RedisDown(f"Redis at {cluster.link.where} {cluster.link.problem}")
            # Nobody is drained without a word in the audit.
            if any(node.is_drained != on for node in named):
                await self.audit("nodes.drain" if on else "nodes.undrain", name)
            changed = await cluster.drain(name, on)
        except RedisDown as error:
            raise Busy(f"{error}.", {"reason": "redis"}) from None
        self.send({"changed": changed})
