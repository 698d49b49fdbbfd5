"""What nodes tell each other about themselves, and what it takes to read what a node of another version wrote.

Pure: values and texts. Nodes are written and read by `resender.cluster.presence`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

# What a node may be for; one that does not say so is all of them.
FRONT_ROLE, COLLECTOR_ROLE, ADMIN_ROLE = ROLES = ("front", "collector", "admin")
# A node that has said nothing for so long is gone.
GONE_AFTER_MS = 6000
_TEXT_MAX = 200
_LIST_MAX = 500


@dataclass(frozen=True, slots=True)
class NodeEgress:
    """One way out of a node.

    Shape: `kind` as `EgressSpec.kind`; `markets` those it serves; in those that are `down` it does not work now.
        `place` stands for it in the whole installation, see `homes`.
    """

    name: str
    kind: str
    place: str = ""
    markets: tuple[str, ...] = ()
    down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What a node has used of a pool this minute, over its egresses."""

    pool: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node, as it was when it last said so.

    Shape: `id` is another one at each start, `name` stays; `url` is "" where the others cannot reach it.
        `roles` as the setting of that name; `is_own` is the node that reads; `is_drained` that a balancer is to leave
        it out.
    Units: `started_ms` epoch milliseconds of its machine; `lag_ms` the longest its event loop was late of late;
        `seen_ms` since it last said so.
    """

    id: str
    name: str
    url: str = ""
    version: str = ""
    started_ms: int = 0
    egresses: tuple[NodeEgress, ...] = ()
    in_flight: int = 0
    weights: tuple[PoolLoad, ...] = ()
    lag_ms: float = 0.0
    streams: int = 0
    roles: tuple[str, ...] = ROLES
    is_drained: bool = False
    is_own: bool = False
    seen_ms: int = 0

    @property
    def is_up(self) -> bool:
        return self.seen_ms <= GONE_AFTER_MS

    def to_text(self) -> str:
        """Write what the others read; what they know themselves is left out."""
        return json.dumps(
            {
                "name": self.name,
                "url": self.url,
                "version": self.version,
                "started_ms": self.started_ms,
                "egresses": [
                    {
                        "name": each.name,
                        "kind": each.kind,
                        "place": each.place,
                        "markets": each.markets,
                        "down": each.down,
                    }
                    for each in self.egresses
                ],
                "roles": self.roles,
                "in_flight": self.in_flight,
                "weights": {each.pool: [each.used, each.limit] for each in self.weights},
                "lag_ms": round(self.lag_ms, 1),
                "streams": self.streams,
                "drained": self.is_drained,
            },
            separators=(",", ":"),
        )

    def row(self) -> dict[str, Any]:
        """Describe the node for those who log in. Shape: as `public_row`, and "id" and "url"."""
        return self.public_row() | {"id": self.id, "url": self.url}

    def public_row(self) -> dict[str, Any]:
        """Describe the node, but not how the others reach it.

        Shape: {"name","version","started_ms","roles":[],"egresses":[{"name","kind"}],"in_flight",
            "weights":[{"pool","used","limit"}],"lag_ms","streams","drained","own","up","seen_ms"}.
        """
        return {
            "name": self.name,
            "version": self.version,
            "started_ms": self.started_ms,
            "roles": list(self.roles),
            "egresses": [{"name": each.name, "kind": each.kind} for each in self.egresses],
            "in_flight": self.in_flight,
            "weights": [{"pool": each.pool, "used": each.used, "limit": each.limit} for each in self.weights],
            "lag_ms": round(self.lag_ms, 1),
            "streams": self.streams,
            "drained": self.is_drained,
            "own": self.is_own,
            "up": self.is_up,
            "seen_ms": self.seen_ms,
        }


def parse_node(node_id: str, text: str, *, seen_ms: int = 0, is_drained: bool = False) -> NodeInfo | None:
    """Read what a node wrote, of whatever version: unknown fields are passed over, missing or odd ones are empty.

    Shape: None if it is no object or has no name.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    name = _text(found.get("name"))
    if not name or not node_id:
        return None
    return NodeInfo(
        id=node_id[:_TEXT_MAX],
        name=name,
        url=_text(found.get("url")),
        version=_text(found.get("version")),
        started_ms=int(_number(found.get("started_ms"))),
        egresses=_egresses(found.get("egresses")),
        roles=_roles(found.get("roles")),
        in_flight=int(_number(found.get("in_flight"))),
        weights=_weights(found.get("weights")),
        lag_ms=_number(found.get("lag_ms")),
        streams=int(_number(found.get("streams"))),
        is_drained=is_drained or found.get("drained") is True,
        seen_ms=max(0, seen_ms),
    )


def in_order(nodes: Iterable[NodeInfo]) -> list[NodeInfo]:
    """Put the own node first, then those that are up, by name."""
    return sorted(nodes, key=lambda node: (not node.is_own, not node.is_up, node.name, node.id))


def without_replaced(nodes: Iterable[NodeInfo]) -> list[NodeInfo]:
    """Leave out what a node was before it was started again: gone, and one of its name is up or was seen later."""
    every = list(nodes)
    last: dict[str, NodeInfo] = {}
    for node in every:
        if node.name not in last or node.seen_ms < last[node.name].seen_ms:
            last[node.name] = node
    return [node for node in every if node.is_up or last[node.name] is node]


def aged(node: NodeInfo, more_ms: int) -> NodeInfo:
    """Return what is known of a node that was read so long ago."""
    return node if node.is_own else replace(node, seen_ms=node.seen_ms + max(0, more_ms))


def node_of(name: str) -> str:
    """Return whose worker something is: a name is that of a node, or of a node and the number of a worker."""
    return name.partition("/")[0]


def pool_loads(rows: Iterable[Mapping[str, Any]]) -> tuple[PoolLoad, ...]:
    """Add up the weights of all egresses by pool. Shape: `rows` as `weight_rows`; single sapi paths are left out."""
    used: dict[str, int] = {}
    limit: dict[str, int] = {}
    for row in rows:
        pool = str(row["pool"])
        if ":" in pool or "/" in pool:
            continue
        used[pool] = used.get(pool, 0) + int(row["used"])
        limit[pool] = limit.get(pool, 0) + int(row["limit"])
    return tuple(PoolLoad(pool, used[pool], limit[pool]) for pool in sorted(used))


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value[:_TEXT_MAX] if c.isprintable()).strip()


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return 0.0
    return float(min(max(0, value), 1 << 53))


def _egresses(value: object) -> tuple[NodeEgress, ...]:
    if not isinstance(value, list):
        return ()
    found = [each for each in value[:_LIST_MAX] if isinstance(each, dict)]
    return tuple(
        NodeEgress(
            _text(each.get("name")),
            _text(each.get("kind")),
            _text(each.get("place")),
            _words(each.get("markets")),
            _words(each.get("down")),
        )
        for each in found
        if _text(each.get("name"))
    )


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(filter(None, map(_text, value[:_LIST_MAX])))


def _roles(value: object) -> tuple[str, ...]:
    told = _words(value)
    return tuple(role for role in ROLES if role in told) or ROLES


def _weights(value: object) -> tuple[PoolLoad, ...]:
    if not isinstance(value, dict):
        return ()
    found = []
    for pool, pair in list(value.items())[:_LIST_MAX]:
        if _text(pool) and isinstance(pair, list) and len(pair) == 2:
            found.append(PoolLoad(_text(pool), int(_number(pair[0])), int(_number(pair[1]))))
    return tuple(found)
