"""WebSockets spread over egresses whose sessions are made by hand: fewest first, failed ones left alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.core.egress.spec import parse_egress
from resender.core.weights.rules import Charge
from resender.errors import EgressExhausted
from resender.upstream.streams.session import Socket, StreamBroken
from resender.upstream.streams.spread import SpreadSessions, make_stream_session
from tests.unit.upstream.fakes import START_MS, Time

THREE = "a=127.0.0.2,b=127.0.0.3,c=127.0.0.4"


class FakeTransport:
    def __init__(self) -> None:
        self.has_ended = False

    def is_closing(self) -> bool:
        return self.has_ended


class FakeSession:
    """Opens sockets made by hand; `errors` come first, in turn."""

    def __init__(self) -> None:
        self.errors: list[StreamBroken] = []
        self.opened: list[Socket] = []
        self.tries = 0
        self.is_started = False

    async def start(self) -> None:
        self.is_started = True

    async def stop(self) -> None:
        self.is_started = False

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        socket = Socket(cast(Any, None), cast(Any, FakeTransport()))
        self.opened.append(socket)
        return socket


class World:
    def __init__(self, egress: str = THREE, *, market: Market = Market.SPOT) -> None:
        self.time = Time()
        specs = parse_egress(egress.split(","))
        self.governor = Governor(specs, ExchangeClock.guess(START_MS, self.time.mono))
        self.spread = SpreadSessions(
            specs,
            "ws://unused.invalid",
            2.0,
            market=market,
            clock=self.time.clock,
            random=random.Random(1),
            health=self.governor,
        )
        self.sessions: dict[str, FakeSession] = {}
        for each in self.spread._egresses:
            each.session = cast(Any, FakeSession())
            self.sessions[each.spec.name] = cast(Any, each.session)

    async def open(self, times: int = 1) -> list[Socket]:
        return [await self.spread.open("/stream", 1000) for _ in range(times)]

    def break_(self, names: Sequence[str], *, is_whole: bool = False, retry_after_s: float = 0.0) -> None:
        for name in names:
            self.sessions[name].errors.append(
                StreamBroken(f"{name} failed", retry_after_s, is_whole=is_whole)
            )

    @property
    def tries(self) -> dict[str, int]:
        return {name: session.tries for name, session in self.sessions.items()}

    def call(self) -> str:
        """Make an unsigned REST call and name the egress that would take it."""
        grant = self.governor.admit(Market.SPOT, Charge(1, "spot"), self.time.mono)
        self.governor.give_back(grant)
        return grant.egress.name


def end(socket: Socket) -> None:
    cast(FakeTransport, socket.transport).has_ended = True


async def test_connections_are_spread_evenly() -> None:
    world = World()
    await world.open(7)
    assert sorted(world.spread.open_sockets.values()) == [2, 2, 3]


async def test_connection_that_ended_makes_room_on_its_egress() -> None:
    world = World()
    sockets = await world.open(3)
    world.time.mono += 100  # a good life
    end(sockets[1])
    assert world.spread.open_sockets == {"a": 1, "b": 0, "c": 1}
    await world.open()
    assert world.spread.open_sockets == {"a": 1, "b": 1, "c": 1}


async def test_egress_that_fails_is_passed_over_and_tried_again_later() -> None:
    world = World()
    world.break_("a")
    await world.open(4)
    assert world.tries == {"a": 1, "b": 2, "c": 2}
    world.time.mono += 61
    await world.open()
    assert world.tries["a"] == 2


async def test_egress_whose_connections_end_at_once_is_left_alone_too() -> None:
    world = World()
    (socket,) = await world.open()
    world.time.mono += 5
    end(socket)
    await world.open(2)
    assert world.tries == {"a": 1, "b": 1, "c": 1}
    await world.open()
    assert world.tries["a"] == 1


async def test_each_egress_is_tried_once_for_a_connection_and_the_last_ones_reason_is_told() -> None:
    world = World()
    world.break_("abc")
    with pytest.raises(StreamBroken, match="c failed"):
        await world.open()
    assert world.tries == {"a": 1, "b": 1, "c": 1}


async def test_when_all_are_left_alone_only_the_one_due_soonest_is_tried() -> None:
    world = World()
    world.break_("abc")
    with pytest.raises(StreamBroken):
        await world.open()
    world.break_("abc")
    with pytest.raises(StreamBroken):
        await world.open()
    assert sum(world.tries.values()) == 4


async def test_egress_the_venue_told_to_wait_is_not_asked_before_its_time() -> None:
    world = World("a=127.0.0.2,b=127.0.0.3")
    world.break_("a", retry_after_s=300)
    await world.open(3)
    assert world.tries["a"] == 1
    world.time.mono += 299
    await world.open()
    assert world.tries["a"] == 1
    world.time.mono += 2
    await world.open()
    assert world.tries["a"] == 2


async def test_time_to_wait_is_told_only_when_every_egress_has_to() -> None:
    world = World("a=127.0.0.2,b=127.0.0.3")
    world.break_("a", retry_after_s=300)
    world.break_("b")
    with pytest.raises(StreamBroken) as caught:
        await world.open()
    assert caught.value.retry_after_s == 0
    world.time.mono += 61
    world.break_("b", retry_after_s=100)
    with pytest.raises(StreamBroken) as caught:
        await world.open()
    assert caught.value.retry_after_s == 100
    with pytest.raises(StreamBroken, match="every egress has been told to wait"):
        await world.open()


async def test_only_egresses_of_the_market_that_carry_streams_are_used() -> None:
    world = World("a=127.0.0.2;markets=um,b=127.0.0.3,c=resender://127.0.0.1:8000")
    assert list(world.sessions) == ["b"]
    await world.spread.start()
    assert world.sessions["b"].is_started
    await world.spread.stop()
    assert not world.sessions["b"].is_started


async def test_where_no_egress_carries_streams_that_is_said_and_not_asked_again_soon() -> None:
    world = World("resender://127.0.0.1:8000")
    with pytest.raises(StreamBroken, match="forwards REST only") as caught:
        await world.open()
    assert caught.value.retry_after_s == 600


def test_another_gateway_has_no_stream_session() -> None:
    with pytest.raises(ValueError, match="has no streams"):
        make_stream_session(parse_egress(["resender://127.0.0.1:8000"])[0], "wss://x.invalid", 1.0)


# --- the health REST and streams share -------------------------------------------------------------


async def test_egress_that_failed_as_a_whole_for_rest_is_left_alone_by_streams() -> None:
    world = World("a=127.0.0.2,b=127.0.0.3")
    world.governor.note_failed("a", world.time.mono, world.time.mono)
    await world.open(3)
    assert world.tries == {"a": 0, "b": 3}
    world.time.mono += 31
    await world.open()
    assert world.tries["a"] == 1


async def test_egress_that_failed_as_a_whole_for_a_stream_is_left_alone_by_rest() -> None:
    world = World("a=127.0.0.2,b=127.0.0.3")
    world.break_("a", is_whole=True)
    await world.open()
    assert world.governor.is_failed("a", world.time.mono)
    assert {world.call() for _ in range(3)} == {"b"}


async def test_host_that_is_out_of_reach_for_streams_says_nothing_about_rest() -> None:
    world = World("a=127.0.0.2,b=127.0.0.3")
    world.break_("a")
    await world.open()
    assert not world.governor.is_failed("a", world.time.mono)
    assert world.call() == "a"


async def test_stream_that_opens_shows_rest_that_the_egress_works_again() -> None:
    world = World("a=127.0.0.2,b=127.0.0.3")
    for name in "ab":
        world.governor.note_failed(name, world.time.mono, world.time.mono)
    await world.open()
    works = [name for name in "ab" if not world.governor.is_failed(name, world.time.mono)]
    assert works == [name for name, count in world.tries.items() if count]
    assert len(works) == 1


async def test_only_egress_is_never_left_alone() -> None:
    world = World("default")
    world.break_(["default"] * 3, is_whole=True)
    for _ in range(3):
        with pytest.raises(StreamBroken):
            await world.open()
    await world.open()
    assert world.tries == {"default": 4}
    assert not world.governor.is_failed("default", world.time.mono)
    try:
        world.call()
    except EgressExhausted:
        pytest.fail("REST must not suffer for it")
