"""The share of the weight that the gateway's own reads may use: a priority of the governor, with a cap."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.governor import CLIENT, OWN_CALM, OWN_URGENT, PROBE, Governor
from resender.core.egress.own_reads import OwnReads
from resender.core.egress.spec import parse_egress
from resender.core.egress.state import Grant, Limits, Quarantine
from resender.core.weights.rules import Charge
from resender.errors import EgressExhausted

MINUTE = 60_000
START_MS = 1_790_000_000_000 // MINUTE * MINUTE + 2000.0


def governor(limit: int, share: float, *, egress: str = "default", order_reserve: float = 0.0) -> Governor:
    clock = ExchangeClock.guess(START_MS, 0.0)
    limits = Limits(spot=limit)
    return Governor(
        parse_egress(egress.split(",")), clock, limits=limits, own_share=share, order_reserve=order_reserve
    )


def admit(one: Governor, weight: int, mono: float, priority: int = OWN_URGENT) -> Grant | None:
    try:
        return one.admit(Market.SPOT, Charge(weight, "spot"), mono, priority=priority)
    except EgressExhausted:
        return None


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30_000), st.booleans()), max_size=80))
def test_share_is_never_exceeded_in_any_minute(calls: list[tuple[int, int, bool]]) -> None:
    one = governor(200, 0.5)
    used: dict[int, int] = {}
    mono = 0.0
    for weight, pause_ms, is_urgent in calls:
        mono += pause_ms / 1000
        grant = admit(one, weight, mono, OWN_URGENT if is_urgent else OWN_CALM)
        if grant is not None:
            one.answered(grant, 200, None, mono)
            minute = int(one.clock.low_ms(mono) // MINUTE)
            used[minute] = used.get(minute, 0) + weight
    assert all(total <= 100 for total in used.values())


def test_calm_reads_leave_a_tenth_of_the_share_to_urgent_ones() -> None:
    one = governor(200, 0.5)
    assert admit(one, 90, 1.0, OWN_CALM)
    assert not admit(one, 1, 1.0, OWN_CALM)
    assert admit(one, 10, 1.0, OWN_URGENT)
    assert not admit(one, 1, 1.0, OWN_URGENT)
    assert admit(one, 90, 62.0, OWN_CALM), "the next minute"


def test_single_read_larger_than_the_share_is_made_once_a_minute() -> None:
    one = governor(200, 0.05)
    assert admit(one, 40, 1.0, OWN_CALM)
    assert not admit(one, 1, 1.0)


def test_clients_calls_leave_nothing_for_own_reads() -> None:
    one = governor(100, 0.5)
    client = one.admit(Market.SPOT, Charge(1, "spot"), 1.0, priority=CLIENT)
    one.answered(client, 200, 94, 1.0)
    assert not admit(one, 2, 1.0)
    grant = admit(one, 1, 1.0)
    assert grant is not None
    one.answered(grant, 200, 3, 1.0)
    assert not admit(one, 1, 1.0), "a lower header must not lower the count"
    assert admit(one, 2, 62.0)


def test_closed_pool_takes_no_own_reads_until_the_pause_ends() -> None:
    one = governor(100, 0.5)
    one.close_pool(one.egresses[0], "spot", 429, 105.0)
    assert not admit(one, 1, 104.9)
    assert admit(one, 1, 105.0)


def test_refusal_says_when_there_will_be_weight_again() -> None:
    one = governor(100, 0.5)
    assert admit(one, 50, 1.0)
    with pytest.raises(EgressExhausted) as caught:
        one.admit(Market.SPOT, Charge(1, "spot"), 1.0, priority=OWN_CALM)
    assert 56 <= caught.value.retry_after_s <= 60
    assert admit(one, 1, 1.0 + caught.value.retry_after_s)


def test_share_counts_for_all_egresses_together_and_orders_keep_their_reserve() -> None:
    one = governor(100, 0.5, egress="default,127.0.0.2", order_reserve=0.1)
    assert one.own_limit(Market.SPOT, "spot") == 200
    assert admit(one, 50, 1.0)
    assert admit(one, 50, 1.0)
    assert not admit(one, 1, 1.0)


def ban(one: Governor) -> None:
    one.close_pool(one.egresses[0], "spot", 418, 100.0)


def quarantine(one: Governor) -> None:
    egress = one.egresses[0]
    egress.quarantine.setdefault(Market.SPOT, Quarantine()).fail(1.0, 1.0)
    assert egress.is_quarantined(Market.SPOT, 1.0)


def doubt(one: Governor) -> None:
    one.egresses[0].suspect.add(Market.SPOT)


@pytest.mark.parametrize("spoil", [ban, quarantine, doubt])
def test_share_counts_only_what_can_be_used_now(spoil: Callable[[Governor], None]) -> None:
    one = governor(100, 0.5, egress="default,127.0.0.2")
    spoil(one)
    assert admit(one, 50, 1.0)
    assert not admit(one, 1, 1.0), "the clients keep their half of the egress that is left"


def test_what_was_not_sent_is_given_back() -> None:
    one = governor(100, 0.5)
    grant = admit(one, 50, 1.0)
    assert grant is not None
    one.give_back(grant)
    assert admit(one, 50, 1.0)
    late = governor(100, 0.5)
    grant = admit(late, 50, 1.0)
    assert grant is not None
    assert admit(late, 20, 62.0)
    late.give_back(grant)  # its minute has passed
    assert not admit(late, 31, 62.0)


def test_probes_of_a_suspect_egress_do_not_use_the_share() -> None:
    one = governor(100, 0.01)
    assert admit(one, 1, 1.0)
    assert not admit(one, 1, 1.0)
    assert admit(one, 1, 1.0, PROBE)


def test_windows_are_counted_apart() -> None:
    own = OwnReads(0.5)
    own.add("spot", 40, 7)
    assert own.used("spot", 7) == 40
    assert own.used("spot", 8) == 0
    assert own.fits("spot", 10, 100, 7, is_urgent=True)
    assert not own.fits("spot", 10, 100, 7, is_urgent=False)
    own.add("spot", -60, 7)
    assert own.used("spot", 7) == 0
