"""A connection that went on after a silence: what was lost meanwhile a witness, a read or an event tells, or nobody."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from tests.unit.market.test_freshness import T0, World

QUIET = "stream quiet"


def silent(market: Market = Market.UM) -> World:
    """Return an entry with an event before a silence of its connection from 10 to 18 s."""
    world = World(market)
    world.array(9000)
    world.event(10_000)
    world.entry.resumed_ms = T0 + 18_000.0
    return world


def test_nothing_is_believed_after_a_silence_without_a_word_of_its_own() -> None:
    assert silent().proof(18_040)[2] == QUIET


@pytest.mark.parametrize("prove", [World.event, World.read])
def test_own_event_or_a_read_after_it_is_believed(prove: object) -> None:
    world = silent()
    world.event(18_100) if prove is World.event else world.read(18_100)
    assert world.proof(18_140)[2] == ""


def test_read_from_the_time_of_the_silence_is_not_believed() -> None:
    world = silent()
    world.read(15_000)
    assert world.proof(18_040)[2] == QUIET


@pytest.mark.parametrize(
    ("market", "since_ms"), [(Market.UM, 18_750), (Market.CM, 18_750), (Market.SPOT, 17_000)]
)
def test_witness_is_believed_once_it_has_told_of_all_of_the_silence(market: Market, since_ms: int) -> None:
    world = silent(market)
    for after_ms in range(9750, 20_000, 1000):
        world.array(after_ms)
        if after_ms > 18_000:
            assert world.proof(after_ms + 1)[2] == ("" if after_ms >= since_ms else QUIET), after_ms


def test_witness_that_was_silent_itself_is_not_believed_whenever_it_was_heard_last() -> None:
    world = silent()
    world.quiet_arrays(10_000, 16_500)
    assert world.proof(18_040)[2] == QUIET, "of the last two seconds nobody has told"
    world.array(19_000)
    assert world.proof(19_001)[2] == QUIET, "and one that came after them tells nothing of them"
    world.quiet_arrays(20_000, 25_000)
    assert world.proof(25_001)[2] == QUIET


def test_witness_that_named_the_symbol_does_not_vouch_for_it() -> None:
    world = silent()
    world.quiet_arrays(10_000, 14_000)
    world.array(15_000, "9.99")
    world.quiet_arrays(16_000, 21_000)
    assert world.proof(21_001)[2] == QUIET
