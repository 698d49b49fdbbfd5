"""Streams packed onto connections: how many there are, when one is closed, and what a loss tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.upstream.streams.link import StreamLimits
from resender.upstream.streams.pool import StreamPool
from tests.support.running import wait_until
from tests.unit.upstream.fakes import settle
from tests.unit.upstream.streams.test_pool_shift import A, B, C, World

D = "dusdt@kline_1m"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(per_connection=2)
    await made.pool.start()
    yield made
    await made.pool.stop()
    assert not len(made.tasks)
    assert all(socket.is_closed for socket in made.sockets)


def counts(world: World) -> list[int]:
    return [connection.streams for connection in world.pool.connections]


async def test_connection_takes_so_many_streams_and_the_next_another_one(world: World) -> None:
    world.pool.want([A, B, C])
    await world.live(A, B, C)
    assert counts(world) == [2, 1]
    world.pool.want([D])
    await world.live(D)
    assert counts(world) == [2, 2]
    assert len(world.sockets) == 2


async def test_stream_that_is_wanted_twice_is_subscribed_once(world: World) -> None:
    world.pool.want([A, A])
    world.pool.want([A])
    await world.live(A)
    assert world.sent(0) == [("SUBSCRIBE", [A])]
    assert world.told == [("live", [A])]


@pytest.mark.parametrize("name", ["", "A USDT@x", "btcusdt", "btcusdt@kline_1m/ethusdt@kline_1m"])
async def test_name_that_cannot_be_one_takes_none_of_its_call(world: World, name: str) -> None:
    with pytest.raises(ValueError):
        world.pool.want([A, name])
    assert counts(world) == []


async def test_dropped_stream_is_unsubscribed_and_proves_nothing_any_more(world: World) -> None:
    world.pool.want([A, B])
    await world.live(A, B)
    world.pool.drop([A, C])
    assert world.pool.proof_mono(A) is None
    await wait_until(lambda: ("UNSUBSCRIBE", [A]) in world.sent(0))
    assert counts(world) == [1]
    assert ("lost", [A]) not in world.told, "who drops a stream knows that it is gone"


async def test_connection_nobody_needs_is_closed(world: World) -> None:
    world.pool.want([A, B, C])
    await world.live(A, B, C)
    world.pool.drop([C])
    await wait_until(lambda: world.sockets[1].is_closed)
    assert counts(world) == [2]


async def test_connection_emptied_and_filled_in_one_moment_is_kept(world: World) -> None:
    world.pool.want([A])
    await world.live(A)
    world.pool.drop([A])
    world.pool.want([B])
    await settle()
    await world.live(B)
    assert len(world.sockets) == 1


async def test_connection_that_breaks_loses_its_own_streams_only(world: World) -> None:
    world.pool.want([A, B, C])
    await world.live(A, B, C)
    world.sockets[0].transport.abort()
    await wait_until(lambda: ("lost", [A, B]) in world.told)
    assert world.pool.proof_mono(C) is not None
    await wait_until(lambda: world.told[-1] == ("live", [A, B]))
    assert world.pool.stats.reconnects == 1


async def test_what_is_wanted_before_the_start_is_opened_by_it() -> None:
    made = World()
    made.pool.want([A])
    await settle()
    assert made.sockets == []
    await made.pool.start()
    await made.live(A)
    await made.pool.stop()
    assert made.pool.connections == []
    assert made.pool.proof_mono(A) is None


async def test_no_listener_is_called_after_the_stop(world: World) -> None:
    world.pool.want([A])
    await world.live(A)
    told = list(world.told)
    await world.pool.stop()
    await asyncio.sleep(0)
    assert world.told == told


@pytest.mark.parametrize("path", ["/Market", "market", "/market/", "/ws?x", "//"])
def test_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no stream path"):
        StreamPool(
            Market.UM,
            "wss://unused",
            path,
            StreamLimits(),
            on_frame=lambda name, data, raw: None,
            on_live=lambda names: None,
            on_lost=lambda names: None,
            tasks=Tasks(),
            clock=Clock(),
        )
