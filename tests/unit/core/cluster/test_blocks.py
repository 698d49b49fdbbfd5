"""Blocks of shared weight: nothing leaves without one, in the minute that is and in the one it may arrive in."""

from __future__ import annotations

import random

import pytest

from resender.core.cluster.blocks import Fallback, SharedBudget
from resender.core.egress.budget import MINUTE_MS, TRAVEL_MS, Reservation

START = 100 * MINUTE_MS
MIDDLE = START + 30_000.0
LATE = START + MINUTE_MS - 100.0


def test_nothing_is_left_before_a_block_is_granted() -> None:
    budget = SharedBudget(1000)
    assert budget.left(0.9, MIDDLE, MIDDLE) == 0
    assert budget.needs(40, MIDDLE, MIDDLE, is_order=False) == [(100, 40)]
    budget.grant(100, 100, for_orders=False)
    assert budget.left(0.9, MIDDLE, MIDDLE) == 100
    assert budget.needs(40, MIDDLE, MIDDLE, is_order=False) == []


def test_blocks_for_orders_are_for_orders_only() -> None:
    budget = SharedBudget(1000)
    budget.grant(100, 10, for_orders=False)
    budget.grant(100, 5, for_orders=True)
    assert budget.left(0.9, MIDDLE, MIDDLE) == 10
    assert budget.left(1.0, MIDDLE, MIDDLE) == 15


def test_what_may_arrive_in_the_next_minute_needs_a_block_of_it_too() -> None:
    budget = SharedBudget(1000)
    budget.grant(100, 100, for_orders=False)
    assert budget.left(0.9, LATE, LATE) == 0
    assert budget.needs(40, LATE, LATE, is_order=False) == [(101, 40)]
    budget.grant(101, 50, for_orders=False)
    assert budget.left(0.9, LATE, LATE) == 50
    reservation = budget.reserve(40, LATE, LATE)
    assert budget.left(0.9, LATE, LATE) == 10
    budget.settle(reservation, 700, LATE + 50, LATE + 50)
    assert budget.left(0.9, LATE + 50, LATE + 50) == 10
    assert budget.left(0.9, START + MINUTE_MS, START + MINUTE_MS) == 10, "it counts in both minutes"


def test_blocks_die_with_their_minute_and_old_ones_are_not_taken() -> None:
    budget = SharedBudget(1000)
    budget.grant(100, 100, for_orders=False)
    next_minute = MIDDLE + MINUTE_MS
    assert budget.left(0.9, next_minute, next_minute) == 0
    budget.grant(100, 100, for_orders=False)
    assert budget.left(0.9, next_minute, next_minute) == 0
    assert budget.grants == {}


def test_header_tells_what_all_nodes_have_used_and_changes_nothing_here() -> None:
    budget = SharedBudget(1000)
    budget.grant(100, 100, for_orders=False)
    reservation = budget.reserve(20, MIDDLE, MIDDLE)
    budget.settle(reservation, 900, MIDDLE + 50, MIDDLE + 50)
    assert (budget.used, budget.seen) == (20, 900)
    assert budget.left(0.9, MIDDLE, MIDDLE) == 80
    budget.roll(MIDDLE + MINUTE_MS)
    assert budget.seen == 0


def test_what_is_not_spent_is_given_up_after_a_429() -> None:
    budget = SharedBudget(1000)
    budget.grant(100, 100, for_orders=False)
    budget.grant(100, 50, for_orders=True)
    budget.reserve(30, MIDDLE, MIDDLE)
    budget.drop()
    assert budget.left(0.9, MIDDLE, MIDDLE) == 0
    assert budget.left(1.0, MIDDLE, MIDDLE) == 0


def test_what_was_not_sent_is_free_again_in_both_minutes() -> None:
    budget = SharedBudget(1000)
    budget.grant(100, 40, for_orders=False)
    budget.grant(101, 40, for_orders=False)
    reservation = budget.reserve(40, LATE, LATE)
    assert budget.left(0.9, LATE, LATE) == 0
    budget.release(reservation)
    budget.release(reservation)
    assert budget.left(0.9, LATE, LATE) == 40


@pytest.mark.parametrize("seed", range(30))
def test_no_minute_gets_more_than_was_granted_for_it(seed: int) -> None:
    rnd = random.Random(seed)
    budget = SharedBudget(10_000)
    granted: dict[int, int] = {}
    metered: dict[int, int] = {}
    under_way: list[tuple[float, Reservation, int]] = []
    now = float(START)
    for _ in range(3000):
        now += rnd.choice([1, 5, 40, 700, 5000])
        low, high = now - rnd.choice([0, 20, 300]), now + rnd.choice([0, 20, 300])
        for arrival in [each for each in under_way if each[0] <= now]:
            under_way.remove(arrival)
            budget.settle(arrival[1], None, low, high)
        weight = rnd.choice([1, 4, 20, 80])
        is_order = rnd.random() < 0.2
        if budget.left(1.0 if is_order else 0.9, low, high) >= weight:
            # It arrives within the time a call may travel, and is metered then.
            arrives = now + rnd.random() * TRAVEL_MS
            window = int(arrives // MINUTE_MS)
            metered[window] = metered.get(window, 0) + weight
            under_way.append((arrives + rnd.random() * 200, budget.reserve(weight, low, high), weight))
        else:
            for window, short in budget.needs(weight, low, high, is_order=is_order):
                give = short + rnd.choice([0, 10, 100])
                granted[window] = granted.get(window, 0) + give
                budget.grant(window, give, for_orders=is_order)
    assert metered
    for window, weight in metered.items():
        assert weight <= granted.get(window, 0), window


def test_node_that_is_cut_off_waits_a_whole_minute_and_then_has_its_part() -> None:
    fallback = Fallback()
    assert fallback.share(100, 1000, 58) == 0, "it was never told a part"
    fallback.asking(100)
    fallback.told(300)
    assert [fallback.share(window, 1000, 58) for window in (100, 101)] == [0, 0]
    assert fallback.used_window == -1
    assert fallback.share(102, 1000, 58) == 300
    assert fallback.used_window == 102
    assert fallback.share(158, 1000, 58) == 300
    assert fallback.share(159, 1000, 58) == 0, "the others count on it no more"
    fallback.asking(160)
    assert fallback.share(161, 1000, 58) == 0


def test_part_that_was_never_told_is_nothing() -> None:
    fallback = Fallback()
    fallback.asking(100)
    assert fallback.share(102, 1000, 58) == 0
