"""What every kind of cached endpoint offers, tried with one made for the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.market.kinds.base import Kind, Lack, settle_task
from resender.market.series import KeptTicker
from tests.support.market_fakes import World


class Plain(Kind[KeptTicker]):
    """A kind that does no more than the base."""

    name = "plain"
    stream = "bookTicker"


def kept() -> KeptTicker:
    return KeptTicker(Market.UM, "BTCUSDT", "btcusdt@bookTicker", 0.0)


async def test_kind_works_with_what_it_is_handed_and_keeps_nothing_yet(world: World) -> None:
    tools = world.tools("bookTicker")
    kind = Plain(tools)
    assert (kind.market, kind.feed, kind.reader) == (Market.UM, tools.feed, tools.reader)
    assert kind.kept == {}
    assert kind.witness_reads == 0
    assert not any(feed.listeners for feed in world.feeds.made.values()), "nor does it listen to anything"


async def test_kind_that_has_nothing_to_do_at_a_moment_may_say_nothing_of_it(world: World) -> None:
    kind, one = Plain(world.tools("bookTicker")), kept()
    kind.start()
    kind.begin(one)
    kind.live(one)
    kind.settled_live()
    kind.end(one)
    await kind.stop()


@pytest.mark.parametrize(
    "call",
    [
        lambda kind, one: kind.words(Market.UM),
        lambda kind, one: kind.make("BTCUSDT", "x", 0.0, is_preload=False),
        lambda kind, one: kind.event(one, {}),
        lambda kind, one: kind.lose(one),
        lambda kind, one: kind.proof(one),
        lambda kind, one: kind.paths(Market.UM),
        lambda kind, one: kind.answer(None, packed=False),
        lambda kind, one: kind.answer(None, packed=False, max_age_ms=1000),
    ],
)
async def test_what_makes_a_kind_has_to_be_said_by_each(world: World, call: Any) -> None:
    with pytest.raises(NotImplementedError):
        call(Plain(world.tools("bookTicker")), kept())


async def test_series_is_held_up_while_its_stream_or_its_connection_is_not_there(world: World) -> None:
    kind, one = Plain(world.tools("bookTicker")), kept()
    feed = world.feeds.feed(Market.UM, "bookTicker")
    assert kind.is_held_up(one)
    one.is_live = True
    assert kind.is_held_up(one), "nothing is subscribed"
    feed.subscribe([one.stream], kind)
    assert not kind.is_held_up(one)
    feed.dead.add(one.stream)
    assert kind.is_held_up(one)


async def test_only_a_read_that_is_under_way_is_waited_for(world: World) -> None:
    one = kept()
    assert settle_task(one) is None
    one.read = world.tasks.spawn(asyncio.sleep(1), name="read")
    assert settle_task(one) is one.read
    await asyncio.sleep(2)
    assert settle_task(one) is None


def test_lack_says_no_more_than_its_reason_unless_told() -> None:
    assert Lack("gap") == Lack("gap", can_settle=False, may_come=False, is_mute=False)
