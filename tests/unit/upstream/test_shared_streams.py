"""Whose streams the clients of a node get, and what becomes of that when nodes come and go."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.core.cluster.homes import Peer
from resender.core.cluster.node_proof import ANYBODY
from resender.upstream.shared_streams import SharedStreams
from resender.upstream.streams.feeds import MICROSECOND, SHARED, SHARED_MICROSECOND
from resender.upstream.streams.session import StreamBroken

A = Peer("a", "http://10.0.0.1:8000")
TARGET = "/stream?streams=btcusdt@trade"


class World:
    """A node, what it knows of the others, and what was opened."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.peer: Peer | None = A
        self.is_open = True
        self.opened: list[tuple[str, ...]] = []
        self.homes, self.own = self, self
        self.shared = SharedStreams(self, self)  # type: ignore[arg-type]

    def mono(self) -> float:
        return self.now

    def streams_of(self, mono: float) -> Peer | None:
        assert mono == self.now
        return self.peer

    async def start(self) -> None:
        self.opened.append(("start",))

    async def stop(self) -> None:
        self.opened.append(("stop",))

    async def open(self, *args: Any) -> Any:
        if isinstance(args[0], Peer):
            peer, target, client, limit = args
            assert (client, limit) == (ANYBODY, 5)
            if not self.is_open:
                raise StreamBroken("HTTP 503", 3.0)
            self.opened.append((peer.name, target))
        else:
            self.opened.append(("binance", args[0]))
        return object()

    async def ask(self, market: Market = Market.SPOT) -> tuple[str, ...]:
        session = self.shared.session(market, self)  # type: ignore[arg-type]
        assert await session.open(TARGET, 5)
        return self.opened[-1]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("market", "host"),
    [
        (Market.SPOT, "stream.binance.com"), (Market.UM, "fstream.binance.com"), (Market.CM, "dstream.binance.com"),
    ],
)  # fmt: skip
async def test_stream_is_asked_of_the_node_that_has_them_by_the_name_of_its_host(
    world: World, market: Market, host: str
) -> None:
    assert await world.ask(market) == ("a", f"/{host}{TARGET}")
    assert world.shared.role(Market.SPOT, "") == SHARED
    assert world.shared.role(Market.SPOT, MICROSECOND) == SHARED_MICROSECOND


async def test_node_that_has_them_opens_its_own_and_the_cache_has_the_same(world: World) -> None:
    world.peer = None
    assert await world.ask() == ("binance", TARGET)
    assert (world.shared.role(Market.SPOT, ""), world.shared.role(Market.SPOT, MICROSECOND)) == (
        "",
        MICROSECOND,
    )


async def test_node_that_gives_none_is_asked_again_after_a_while_and_a_longer_one(world: World) -> None:
    world.is_open = False
    for pause_s in (30, 60, 120, 240, 480, 600, 600):
        assert world.shared.role(Market.SPOT, "") == SHARED
        assert await world.ask() == ("binance", TARGET)
        assert world.shared.role(Market.SPOT, "") == ""
        assert world.shared.role(Market.UM, "") == SHARED, "it may have other markets"
        world.now += pause_s - 1
        assert world.shared.misplaced() == []
        world.now += 2
        assert world.shared.misplaced() == [Market.SPOT]
    world.is_open = True
    assert (await world.ask())[0] == "a"
    assert world.shared.misplaced() == []
    world.now += 31
    world.is_open = False
    await world.ask()
    world.now += 31
    assert world.shared.role(Market.SPOT, "") == SHARED, "it begins anew"


async def test_only_the_markets_that_are_misplaced_move(world: World) -> None:
    await world.ask(Market.SPOT)
    world.is_open = False
    await world.ask(Market.UM)
    world.now += 31
    assert world.shared.misplaced() == [Market.UM]


async def test_connections_move_to_whoever_has_them_now_and_seldom(world: World) -> None:
    assert world.shared.misplaced() == [], "there is none yet"
    await world.ask()
    assert world.shared.misplaced() == []
    world.peer = Peer("0", "http://10.0.0.2:8000")
    assert world.shared.misplaced() == [Market.SPOT]
    assert world.shared.misplaced() == [], "they are on their way"
    world.now += 31
    assert world.shared.misplaced() == [Market.SPOT], "they did not arrive"
    await world.ask()
    world.now += 31
    assert world.shared.misplaced() == []


async def test_what_opens_them_at_binance_starts_and_ends_with_it(world: World) -> None:
    session = world.shared.session(Market.SPOT, world)  # type: ignore[arg-type]
    await session.start()
    await session.stop()
    assert world.opened == [("start",), ("stop",)]
