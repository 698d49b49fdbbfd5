"""Who else is there: each node says so every two seconds and reads what the others say.

A node that is drained hears it here and obeys: a balancer is told to leave it out while its calls still are answered.
Redis holds the list, `resender.core.cluster.node_info` what a node says. One `Presence` belongs to one node;
`read_nodes` and `set_drained` are for commands too, which are no node.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from resender.aio import Clock, Tasks, end_tasks, within
from resender.cluster.redis_link import RedisLink
from resender.core.cluster.node_info import NodeInfo, aged, in_order, node_of, parse_node, without_replaced
from resender.core.cluster.node_scripts import BEAT, DRAIN, FORGET_MS, KEYS, LEAVE
from resender.errors import RedisDown

logger = logging.getLogger("resender.cluster")

_READ_EVERY_S = 1.0
_BEAT_EVERY_S = 2.0
WORD = "nodes"
NAME_MAX = 100


class Presence:
    """What this node says and what it knows of the others.

    Shape: `describe` returns this node as it is now; its `id`, `is_own` and `is_drained` are set here.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        name: str,
        describe: Callable[[], NodeInfo],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.name = name
        # Told by somebody to be left out of the balancer; remembered while Redis is gone.
        self.is_drained = False
        self._link = link
        self._describe = describe
        self._clock = clock
        self._tasks = tasks
        self._others: tuple[NodeInfo, ...] = ()
        self._read_mono: float | None = None
        self._said_mono = float("-inf")
        self._begun_ms: int | None = None
        self._told: set[tuple[str, str]] = set()
        self._now = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        # Told whenever the others have been read.
        self.on_read: Callable[[], None] = lambda: None

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        self._link.listen(WORD, lambda _: self._now.set())
        self._task = self._tasks.spawn(self._run(), name="nodes-presence")

    async def stop(self) -> None:
        """Leave: the others see at once that this node is gone."""
        if self._task is not None:
            await end_tasks([self._task])
        try:
            await self._link.run(LEAVE, KEYS, [self.id])
        except RedisDown:
            return
        self._link.publish(WORD, {})

    async def _run(self) -> None:
        while True:
            try:
                await self._beat()
            except RedisDown:
                self._said_mono = float("-inf")  # say it at once when Redis is back
            try:
                await within(self._now.wait(), _READ_EVERY_S)
            except asyncio.TimeoutError:
                continue

    async def _beat(self) -> None:
        self._now.clear()
        mono = self._clock.mono()
        # A little early: the next turn would be late.
        is_due = mono - self._said_mono >= _BEAT_EVERY_S - 0.1
        found = await self._link.run(BEAT, KEYS, [self.id, self.own().to_text() if is_due else "", FORGET_MS])
        if is_due:
            is_first = self._said_mono == float("-inf")
            self._said_mono = mono
            if is_first:
                self._link.publish(WORD, {})
        now_ms, nodes, drained = _read(found)
        if self._begun_ms is None:
            self._begun_ms = now_ms
        self._others = tuple(node for node in nodes if node.id != self.id)
        if not is_due and all(node.id != self.id for node in nodes):
            self._said_mono = float("-inf")  # Redis has lost its memory
        self._read_mono = self._clock.mono()
        self._obey(self.name in drained or node_of(self.name) in drained)
        self._compare(now_ms)
        self.on_read()

    def _obey(self, is_drained: bool) -> None:
        if is_drained != self.is_drained:
            self.is_drained = is_drained
            self._now.set()  # the others are to see it
            self._said_mono = float("-inf")
            if is_drained:
                logger.warning(
                    "this node (%s) is drained: /healthz answers 503, calls still are answered", self.name
                )
            else:
                logger.info("this node (%s) is drained no more", self.name)

    def _compare(self, now_ms: int) -> None:
        """Say what does not fit together, once for each node."""
        mine = self.own()
        for node in self._others:
            if not node.is_up:
                continue
            # What this node was before it was started again may still stand there for a moment.
            if node.name == self.name and now_ms - node.seen_ms > (self._begun_ms or 0) + 1000:
                self._say_once(
                    ("name", node.id),
                    f"another node is named {self.name} too{_at(node)}: give each a NODE_NAME of its own",
                )
            if node.version and node.version != mine.version:
                self._say_once(
                    ("version", f"{node.id} {node.version}"),
                    f"node {node.name} runs version {node.version}, this one {mine.version}: "
                    "bring all to the same version soon",
                )

    def _say_once(self, kind: tuple[str, str], text: str) -> None:
        if kind not in self._told:
            if len(self._told) >= 1000:
                self._told.clear()
            self._told.add(kind)
            logger.warning("%s", text)

    # --- for all who ask -------------------------------------------------------------------

    def own(self) -> NodeInfo:
        """Describe this node."""
        return replace(
            self._describe(), id=self.id, is_own=True, is_drained=self.is_drained, seen_ms=0, name=self.name
        )

    def nodes(self) -> list[NodeInfo]:
        """List the nodes, the own one first, then the others as they were last read."""
        passed_s = 0.0 if self._read_mono is None else self._clock.mono() - self._read_mono
        others = [aged(node, int(passed_s * 1000)) for node in self._others]
        return in_order(without_replaced([self.own(), *others]))

    async def drain(self, name: str, on: bool) -> bool:
        """Have the node of a name drained, or take that back; return whether that changed something.

        Raises: RedisDown.
        """
        changed = await set_drained(self._link, name, on)
        self._others = tuple(
            replace(node, is_drained=on) if node.name == name else node for node in self._others
        )
        if name == self.name:
            self._obey(on)
        return changed

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Tell what does not fit together now. Shape: (name or version, the other node's name)."""
        found = []
        mine = self.own()
        for node in self.nodes():
            if node.is_own or not node.is_up:
                continue
            if ("name", node.id) in self._told:
                found.append(("name", node.name))
            if node.version and node.version != mine.version:
                found.append(("version", node.name))
        return found


def _at(node: NodeInfo) -> str:
    return f" (at {node.url})" if node.url else ""


def _read(found: Any) -> tuple[int, list[NodeInfo], set[str]]:
    """Read what `BEAT` returned."""
    now, said, drained = found
    now_ms, names = int(now), {str(name) for name in drained}
    nodes = []
    for node_id, seen, text in zip(said[::3], said[1::3], said[2::3], strict=True):
        node = parse_node(str(node_id), str(text), seen_ms=now_ms - int(seen))
        if node is not None:
            nodes.append(replace(node, is_drained=bool({node.name, node_of(node.name)} & names)))
    return now_ms, nodes, names


async def read_nodes(link: RedisLink) -> list[NodeInfo]:
    """List the nodes; who asks is none of them. Raises: RedisDown."""
    _, nodes, _ = _read(await link.run(BEAT, KEYS, ["", "", FORGET_MS]))
    return in_order(without_replaced(nodes))


async def set_drained(link: RedisLink, name: str, on: bool) -> bool:
    """Have the node of a name drained, or take that back; return whether that changed something.

    Raises: RedisDown.
    """
    changed = await link.run(DRAIN, KEYS, [name, "1" if on else "0"])
    link.publish(WORD, {})
    return bool(changed)
