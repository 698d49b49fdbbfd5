"""A stream that brings nothing is carried on another connection, one that brings nothing at all is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.upstream.streams.link import StreamLimits
from resender.upstream.streams.pool import StreamPool
from resender.upstream.streams.session import StreamBroken
from tests.support.running import wait_until
from tests.unit.upstream.streams.test_link import FakeSession, FakeWs

A, B, C = (f"{symbol}usdt@kline_1m" for symbol in "abc")
MUTE_S = 10.0


class World:
    """A pool on sockets made of Python objects, and a clock that goes on when it is told to."""

    def __init__(self, per_connection: int = 3) -> None:
        self.session = FakeSession()
        self.tasks = Tasks()
        self.told: list[tuple[str, list[str]]] = []
        self.mono = 100.0
        limits = StreamLimits(
            streams_per_connection=per_connection,
            messages_per_s=1000.0,
            silence_s=1e6,
            ping_every_s=1e5,
            ack_timeout_s=1e6,
        )
        self.pool = StreamPool(
            Market.SPOT,
            "wss://unused",
            "",
            limits,
            on_frame=lambda name, data, raw: None,
            on_live=lambda names: self.told.append(("live", sorted(names))),
            on_lost=lambda names: self.told.append(("lost", sorted(names))),
            tasks=self.tasks,
            # Each look at the time takes a moment, so that the pace of messages lets them pass.
            clock=Clock(mono=self._tick),
            session_factory=lambda: self.session,
        )

    def _tick(self) -> float:
        self.mono += 0.0005
        return self.mono

    @property
    def sockets(self) -> list[FakeWs]:
        return self.session.opened

    async def live(self, *names: str) -> None:
        await wait_until(lambda: all(self.pool.proof_mono(name) is not None for name in names))

    async def frame(self, name: str, socket: int = 0) -> None:
        """Let a data frame of a stream arrive on a connection."""
        seen = self.pool.stats.frames
        self.sockets[socket].push(orjson.dumps({"stream": name, "data": {}}))
        await wait_until(lambda: self.pool.stats.frames > seen)

    def sent(self, socket: int) -> list[tuple[str, list[str]]]:
        """List the control messages sent on a connection."""
        texts = [data for kind, data in self.sockets[socket].sent if kind is WSMsgType.TEXT]
        return [(message["method"], message["params"]) for message in map(orjson.loads, texts)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.pool.start()
    yield made
    await made.pool.stop()
    assert not len(made.tasks)
    assert all(socket.is_closed for socket in made.sockets)


async def test_stream_moves_to_another_connection_while_the_rest_stays(world: World) -> None:
    world.pool.want([A, B])
    await world.live(A, B)
    await world.frame(B)
    world.pool.shift(A, MUTE_S)
    # At once, so that nothing of it is trusted meanwhile.
    assert world.told[-1] == ("lost", [A])
    assert world.pool.proof_mono(A) is None
    await world.live(A)
    assert world.told[-1] == ("live", [A])
    assert world.sent(0) == [("SUBSCRIBE", [A, B]), ("UNSUBSCRIBE", [A])]
    assert world.sent(1) == [("SUBSCRIBE", [A])]
    assert world.pool.proof_mono(B) is not None
    assert world.pool.stats.shifted == 1
    assert world.pool.stats.reconnects == 0
    # It has yet to show itself there.
    assert not world.pool.is_proven(A)
    await world.frame(A, 1)
    assert world.pool.is_proven(A)
    assert world.told.count(("lost", [B])) == 0


async def test_another_connection_with_room_is_taken_before_a_new_one(world: World) -> None:
    world.pool.want([A, B, C, "dusdt@kline_1m"])
    await world.live(A, B, C, "dusdt@kline_1m")
    await world.frame(B)
    world.pool.shift(A, MUTE_S)
    await world.live(A)
    assert len(world.sockets) == 2
    assert world.sent(1) == [("SUBSCRIBE", ["dusdt@kline_1m"]), ("SUBSCRIBE", [A])]


async def test_shift_never_ends_on_the_connection_it_leaves(world: World) -> None:
    world.pool.want([A, B])
    await world.live(A, B)
    for number in range(1, 5):
        await world.frame(B)
        before = world.pool._slot_of[A]
        if len(before.names) > 1:
            world.pool.shift(A, MUTE_S)
            assert world.pool._slot_of[A] is not before
        else:
            world.pool.shift(A, MUTE_S)  # alone: a new connection for the old one
        await wait_until(lambda: world.pool.proof_mono(A) is not None, 8)
        assert world.pool.stats.shifted == number


async def test_connection_of_one_stream_is_given_up_whole(world: World) -> None:
    world.pool.want([A])
    await world.live(A)
    await world.frame(A)
    world.pool.shift(A, MUTE_S)
    assert world.told[-1] == ("lost", [A])
    await wait_until(lambda: len(world.sockets) == 2)
    await world.live(A)
    assert world.told == [("live", [A]), ("lost", [A]), ("live", [A])]
    assert world.sent(1) == [("SUBSCRIBE", [A])]
    assert world.sockets[0].transport.is_aborted
    assert world.pool.stats.reconnects == 1
    assert len(world.pool.connections) == 1


@pytest.mark.parametrize("has_spoken", [True, False])
async def test_connection_that_brings_nothing_of_any_stream_is_given_up_whole(
    world: World, has_spoken: bool
) -> None:
    world.pool.want([A, B, C])
    await world.live(A, B, C)
    if has_spoken:
        await world.frame(C)
    world.mono += MUTE_S + 0.1
    world.pool.shift(A, MUTE_S)
    assert world.told[-1] == ("lost", [A, B, C])
    await world.live(A, B, C)
    assert world.sent(1) == [("SUBSCRIBE", [A, B, C])]
    assert len(world.pool.connections) == 1


async def test_connection_that_spoke_lately_is_kept(world: World) -> None:
    world.pool.want([A, B])
    await world.live(A, B)
    world.mono += 50
    await world.frame(B)
    world.mono += MUTE_S - 1
    world.pool.shift(A, MUTE_S)
    assert ("lost", [A, B]) not in world.told
    assert not world.sockets[0].transport.is_aborted


async def test_several_shifts_at_once_lose_no_stream(world: World) -> None:
    world.pool.want([A, B, C])
    await world.live(A, B, C)
    await world.frame(C)
    for name in (A, B):
        world.pool.shift(name, MUTE_S)
    await world.live(A, B, C)
    assert world.sent(1) == [("SUBSCRIBE", [A, B])]
    assert sum(connection.streams for connection in world.pool.connections) == 3


async def test_streams_of_a_dead_connection_come_back_wherever_they_were_shifted(world: World) -> None:
    world.pool.want([A, B, C])
    await world.live(A, B, C)
    world.mono += MUTE_S + 0.1
    for name in (A, B, C):
        world.pool.shift(name, MUTE_S)
    await world.live(A, B, C)
    assert sum(connection.streams for connection in world.pool.connections) == 3
    for name in (A, B, C):
        states = [kind for kind, names in world.told if name in names]
        assert states[-1] == "live"
        assert "lost" in states


async def test_shift_before_the_connection_is_there_moves_the_stream_all_the_same(world: World) -> None:
    world.session.errors = [StreamBroken("not now")]
    world.pool.want([A, B])
    world.pool.shift(A, MUTE_S)
    await world.live(A)
    assert world.told[0] == ("lost", [A])
    await wait_until(lambda: world.pool.proof_mono(B) is not None, 8)
    assert sorted(connection.streams for connection in world.pool.connections) == [1, 1]


async def test_unknown_or_dropped_stream_is_not_shifted(world: World) -> None:
    world.pool.want([A, B])
    await world.live(A, B)
    world.pool.drop([A])
    world.pool.shift(A, MUTE_S)
    world.pool.shift(C, MUTE_S)
    await asyncio.sleep(0.05)
    assert world.pool.stats.shifted == 0
    assert world.told == [("live", [A, B])]
    assert len(world.sockets) == 1


async def test_shifted_stream_can_be_dropped_and_wanted_again(world: World) -> None:
    world.pool.want([A, B])
    await world.live(A, B)
    await world.frame(B)
    world.pool.shift(A, MUTE_S)
    world.pool.drop([A])
    await asyncio.sleep(0.05)
    assert world.pool.proof_mono(A) is None
    assert [connection.streams for connection in world.pool.connections] == [1]
    world.pool.want([A])
    await world.live(A, B)
    kept: Any = world.sent(0)
    assert kept[-1] == ("SUBSCRIBE", [A])
