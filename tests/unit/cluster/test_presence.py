"""What a node makes of what stands in Redis; several real ones are in tests/component/nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from resender.aio import Clock, Tasks
from resender.cluster.presence import WORD, Presence, read_nodes, set_drained
from resender.cluster.redis_link import RedisLink
from resender.core.cluster.node_info import NodeInfo
from resender.core.cluster.node_scripts import BEAT, DRAIN, LEAVE
from resender.errors import RedisDown


class FakeLink:
    """Redis as one node sees it. Shape: `said` by id: (ms when it was said, what)."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.said: dict[str, tuple[int, str]] = {}
        self.drained: set[str] = set()
        self.is_up = True
        self.published: list[str] = []
        self.wrote = 0

    def listen(self, word: str, callback: Any) -> None:
        assert word == WORD

    def publish(self, word: str, payload: dict[str, Any]) -> None:
        self.published.append(word)

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        if not self.is_up:
            raise RedisDown("gone")
        name = str(args[0])
        if script == LEAVE:
            self.said.pop(name, None)
            return 1
        if script == DRAIN:
            before = set(self.drained)
            self.drained = before | {name} if args[1] == "1" else before - {name}
            return int(self.drained != before)
        assert script == BEAT
        if args[1]:
            self.said[name] = (self.now_ms, str(args[1]))
            self.wrote += 1
        rows = [word for one, (at, text) in self.said.items() for word in (one, str(at), text)]
        return [str(self.now_ms), rows, sorted(self.drained)]

    def other(self, name: str, node_id: str = "other", **fields: Any) -> None:
        """Let another node say something now."""
        self.said[node_id] = (self.now_ms, NodeInfo(node_id, name, version="1", **fields).to_text())


class World:
    """One node, on a clock of the test's own."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.mono = 100.0
        self.presence = self.make()

    def make(self) -> Presence:
        return Presence(
            cast(RedisLink, self.link),
            name="one",
            describe=lambda: NodeInfo("", "", version="1"),
            clock=Clock(mono=lambda: self.mono),
            tasks=Tasks(),
        )

    async def beat(self, passed_s: float = 0.0) -> None:
        self.mono += passed_s
        self.link.now_ms += int(passed_s * 1000)
        await self.presence._beat()

    def names(self) -> list[tuple[str, bool]]:
        return [(node.name, node.is_up) for node in self.presence.nodes()]


@pytest.fixture
def world() -> World:
    return World()


async def test_node_says_so_every_two_seconds_and_reads_each_second(world: World) -> None:
    for _ in range(10):
        await world.beat(1.0)
    assert world.link.wrote == 5


async def test_first_word_wakes_the_others(world: World) -> None:
    await world.beat()
    await world.beat(2.0)
    assert world.link.published == [WORD]


async def test_node_says_it_at_once_when_redis_has_forgotten(world: World) -> None:
    await world.beat()
    world.link.said.clear()
    await world.beat(1.0)
    await world.beat(0.1)
    assert world.link.wrote == 2


async def test_others_grow_old_while_redis_is_gone(world: World) -> None:
    await world.beat()
    world.link.other("two")
    await world.beat(1.0)
    assert world.names() == [("one", True), ("two", True)]
    world.mono += 6.5
    assert world.names() == [("one", True), ("two", False)]


async def test_drain_is_obeyed_and_remembered(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.beat()
    assert await world.presence.drain("one", True)
    assert not await world.presence.drain("one", True)
    await world.beat(1.0)
    assert world.presence.is_drained
    assert world.presence.own().is_drained
    world.link.is_up = False
    with pytest.raises(RedisDown):
        await world.beat(1.0)
    assert world.presence.is_drained
    world.link.is_up = True
    assert await set_drained(cast(RedisLink, world.link), "one", False)
    await world.beat(1.0)
    assert not world.presence.is_drained
    assert caplog.text.count("is drained:") == 1


async def test_what_it_was_before_a_restart_is_no_second_of_its_name(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.link.other("one", "before")
    for _ in range(5):
        await world.beat(1.0)
    assert "another node" not in caplog.text
    assert world.presence.warnings == []


async def test_second_of_its_name_is_said_once_for_each(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.beat()
    for _ in range(4):
        world.link.other("one", url="http://10.0.0.9:1")
        await world.beat(1.0)
    assert caplog.text.count("another node is named one too (at http://10.0.0.9:1)") == 1
    assert world.presence.warnings == [("name", "one")]
    world.link.said.pop("other")
    await world.beat(1.0)
    assert world.presence.warnings == []


async def test_node_that_ends_leaves_and_tells(world: World) -> None:
    await world.beat()
    await world.presence.stop()
    assert world.link.said == {}
    world.link.is_up = False
    await world.presence.stop()


async def test_turns_go_on_over_a_redis_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resender.cluster.presence._READ_EVERY_S", 0.01)
    world.link.is_up = False
    world.presence.start()
    await asyncio.sleep(0.05)
    world.link.is_up = True
    await asyncio.sleep(0.05)
    assert world.presence.id in world.link.said
    await world.presence.stop()


async def test_command_reads_nodes_without_being_one(world: World) -> None:
    world.link.other("two")
    world.link.said["odd"] = (1, "no json")
    world.link.drained = {"two"}
    (node,) = await read_nodes(cast(RedisLink, world.link))
    assert (node.name, node.is_drained, node.is_own) == ("two", True, False)
