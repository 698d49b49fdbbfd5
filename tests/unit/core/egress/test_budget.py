"""One budget, and the clock of the exchange between two bounds."""

from __future__ import annotations

import copy
import heapq
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.budget import Budget, RollingBudget
from resender.core.egress.governor import CLIENT, ORDER, OWN_URGENT, Governor
from resender.core.egress.spec import EgressSpec
from resender.core.egress.state import Grant, Limits
from resender.core.weights.rules import Charge
from resender.errors import EgressExhausted

START_MS = 1_791_374_400_000.0
W = 60_000


# -- the clock ------------------------------------------------------------------------------------

dates = st.lists(
    st.tuples(
        st.floats(0.0, 400.0),  # seconds since the one before
        st.floats(0.0, 3.0),  # on the way there
        st.floats(0.0, 3.0),  # and back
    ),
    max_size=40,
)


@given(dates=dates, offset_ms=st.floats(-1000.0, 1000.0), drift=st.floats(-150e-6, 150e-6))
def test_bounds_hold_the_truth_as_long_as_dates_are_true(
    dates: list[tuple[float, float, float]], offset_ms: float, drift: float
) -> None:
    def truth(mono: float) -> float:
        return START_MS + offset_ms + mono * 1000 * (1 + drift)

    clock = ExchangeClock.guess(START_MS, 0.0)
    mono = 0.0
    for pause_s, there_s, back_s in dates:
        mono += pause_s
        sent = mono
        made = mono + there_s
        mono = made + back_s
        assert clock.low_ms(mono) <= truth(mono) + 1e-3
        assert clock.high_ms(mono) >= truth(mono) - 1e-3
        clock.observe_date(int(truth(made) // 1000 * 1000), sent, mono)
        for later in (0.0, 10.0, 600.0):
            assert clock.low_ms(mono + later) <= truth(mono + later) + 1e-3
            assert clock.high_ms(mono + later) >= truth(mono + later) - 1e-3


def test_bounds_close_in_on_the_truth() -> None:
    clock = ExchangeClock.guess(START_MS, 0.0)
    for step in range(60):
        mono = step * 1.017
        made = mono + 0.1
        clock.observe_date(int((START_MS + 300.0 + made * 1000) // 1000 * 1000), mono, mono + 0.2)
    assert clock.high_ms(62.0) - clock.low_ms(62.0) < 300


def test_a_machine_whose_clock_is_wrong_by_hours_learns_the_time_from_the_first_date() -> None:
    clock = ExchangeClock.guess(START_MS, 0.0)
    clock.observe_date(int(START_MS) + 7_200_000, 0.0, 0.2)
    assert START_MS + 7_200_000 <= clock.low_ms(0.2) <= clock.high_ms(0.2) <= START_MS + 7_201_300


def test_one_date_a_second_is_enough() -> None:
    clock = ExchangeClock.guess(START_MS, 0.0)
    assert clock.wants_date(0.0)
    clock.observe_date(int(START_MS), 0.0, 0.1)
    assert not clock.wants_date(1.0)
    assert clock.wants_date(1.1)


# -- one budget -----------------------------------------------------------------------------------


def test_a_header_never_lowers_what_is_known() -> None:
    budget = Budget(100)
    now = START_MS + 5000
    for reported_weight, used in ((None, 10), (50, 50), (3, 60), (60, 70), (0, 80), (200, 200)):
        budget.settle(budget.reserve(10, now, now), reported_weight, now, now)
        assert budget.used == used


def test_a_header_may_hold_calls_that_are_still_under_way() -> None:
    budget = Budget(100)
    now = START_MS + 5000
    first, second = budget.reserve(10, now, now), budget.reserve(20, now, now)
    budget.settle(first, 30, now, now)
    assert (budget.used, budget.reserved) == (10, 20)
    budget.settle(second, 30, now, now)
    assert (budget.used, budget.reserved) == (30, 0)


def test_a_header_of_the_window_before_says_nothing_about_this_one() -> None:
    budget = Budget(100)
    late = START_MS + W - 3000
    reservation = budget.reserve(10, late, late)
    budget.settle(reservation, 90, late + 4000, late + 4000)
    assert budget.used <= 10


def test_a_call_sent_while_the_next_window_may_have_begun_counts_in_both() -> None:
    budget = Budget(100)
    low, high = START_MS + W - 300, START_MS + W - 100
    budget.settle(budget.reserve(10, low, high), None, low + 50, high + 50)
    assert budget.spent(low + 100) == 10
    assert budget.spent(START_MS + W + 1) == 10
    assert budget.spent(START_MS + 2 * W + 1) == 0


def test_a_call_that_was_long_on_its_way_counts_in_the_window_in_which_it_may_have_arrived() -> None:
    budget = Budget(100)
    sent = START_MS + W - 3000
    reservation = budget.reserve(10, sent, sent)
    answered = START_MS + W + 2000
    assert budget.spent(answered) == 10
    budget.settle(reservation, None, answered, answered)
    assert budget.spent(answered) == 10


def test_a_call_answered_while_the_next_window_may_have_begun_counts_in_both() -> None:
    budget = Budget(100)
    sent = START_MS + W - 3000
    reservation = budget.reserve(10, sent, sent + 200)
    budget.settle(reservation, None, START_MS + W - 50, START_MS + W + 150)
    assert budget.spent(START_MS + W + 1) == 10


def test_the_wait_leads_into_the_next_window_even_when_the_clock_went_back_a_little() -> None:
    budget = Budget(100)
    budget.spent(START_MS + W + 20)
    back = START_MS + W - 30
    assert budget.spent(back) == 0
    assert back + budget.wait_ms(back) >= START_MS + 2 * W


def test_a_clock_that_was_far_ahead_does_not_stop_the_counting() -> None:
    budget = Budget(100)
    budget.settle(budget.reserve(10, START_MS + 9 * W, START_MS + 9 * W), None, START_MS, START_MS)
    assert budget.spent(START_MS) == 10
    assert budget.spent(START_MS + W) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "release"]),
        st.integers(0, 30),
        st.floats(0, 40_000),
        st.one_of(st.none(), st.integers(0, 200)),
    ),
    max_size=80,
)


@given(steps=steps)
def test_sums_come_back_to_zero_and_nothing_is_settled_twice(
    steps: list[tuple[str, int, float, Any]],
) -> None:
    budget = Budget(1000)
    now = START_MS
    reservations = []
    for what, number, pause_ms, reported_weight in steps:
        now += pause_ms
        if what == "reserve" or not reservations:
            reservations.append(budget.reserve(number, now, now + 300))
        else:
            one = reservations[number % len(reservations)]
            was_open, before = one.is_open, budget.spent(now) - budget.used
            if what == "settle":
                budget.settle(one, reported_weight, now, now + 300)
            else:
                budget.release(one)
            used = budget.used
            assert budget.reserved == before - (one.weight if was_open else 0)
            # A second time changes nothing.
            budget.settle(one, 100_000, now, now + 300)
            budget.release(one)
            assert (budget.used, budget.reserved) == (used, before - (one.weight if was_open else 0))
        assert budget.reserved == sum(one.weight for one in reservations if one.is_open)
        assert budget.used >= 0
    for one in reservations:
        budget.release(one)
    assert budget.reserved == 0
    assert budget.spent(now + 3 * W) == 0


# -- a counter over minutes without known windows ---------------------------------------------------


@given(calls=st.lists(st.tuples(st.floats(0, 60), st.integers(1, 5)), max_size=120), limit=st.integers(5, 60))
def test_no_five_minutes_of_any_alignment_see_more_than_the_limit(
    calls: list[tuple[float, int]], limit: int
) -> None:
    rolling = RollingBudget(limit, 300_000)
    mono = 1000.0
    sent: list[tuple[float, int]] = []
    for pause_s, weight in calls:
        mono += pause_s
        if rolling.spent(mono) + weight <= limit:
            rolling.add(weight, mono)
            sent.append((mono, weight))
        elif weight == 1:
            assert copy.deepcopy(rolling).spent(mono + rolling.wait_ms(mono) / 1000) < limit
    for begin, _ in sent:
        assert sum(w for t, w in sent if begin <= t < begin + 300) <= limit


def test_what_was_not_sent_is_taken_back_where_it_was_counted() -> None:
    rolling = RollingBudget(5, 300_000)
    rolling.add(3, 0.0)
    rolling.add(2, 55.0)
    rolling.take_back(3, 0.0)
    assert rolling.spent(55.0) == 2
    assert rolling.spent(320.0) == 2
    assert rolling.spent(400.0) == 0
    assert RollingBudget(5, 300_000).wait_ms(0.0) == 0.0


# -- a whole exchange -------------------------------------------------------------------------------


class Exchange:
    """A metering exchange with a clock of its own, reached over ways of any length."""

    def __init__(self, offset_ms: float, drift: float) -> None:
        self.offset_ms = offset_ms
        self.drift = drift
        self.meter: dict[tuple[str, str, int], int] = {}

    def now_ms(self, mono: float) -> float:
        return START_MS + self.offset_ms + mono * 1000 * (1 + self.drift)

    def take(self, egress: str, pool: str, weight: int, mono: float) -> tuple[int, int]:
        """Meter a call; return what it tells: used weight and Date."""
        key = (egress, pool, int(self.now_ms(mono) // W))
        self.meter[key] = self.meter.get(key, 0) + weight
        return self.meter[key], int(self.now_ms(mono) // 1000 * 1000)


call_plans = st.lists(
    st.tuples(
        # When: mostly near the end of a minute, where all depends on whose minute it is.
        st.one_of(
            st.tuples(st.integers(0, 3), st.floats(-3.0, 3.0)),
            st.tuples(st.integers(0, 3), st.floats(-30.0, 30.0)),
        ),
        st.sampled_from([1, 2, 5, 20, 25, 40]),
        st.sampled_from([Market.SPOT, Market.SPOT, Market.UM, Market.CM]),
        st.sampled_from([ORDER, CLIENT, OWN_URGENT]),
        st.one_of(st.none(), st.sampled_from(["key-one", "key-two"])),
        # On its way there and back; many are quick, as on connections that are kept.
        st.one_of(st.floats(0.001, 0.05), st.floats(0.001, 4.0)),
        st.one_of(st.floats(0.001, 0.05), st.floats(0.001, 2.0)),
        st.sampled_from(["answer", "answer", "answer", "answer", "no header", "lost", "unreachable"]),
        st.integers(1, 40),  # how many at once
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100)
@given(
    plan=call_plans,
    offset_ms=st.floats(-990.0, 990.0),
    drift=st.floats(-150e-6, 150e-6),
    greedy=st.lists(st.floats(0.5, 50.0), min_size=4, max_size=4),
)
def test_no_window_and_pool_ever_gets_more_than_its_limit(
    plan: list[tuple[Any, ...]], offset_ms: float, drift: float, greedy: list[float]
) -> None:
    exchange = Exchange(offset_ms, drift)
    governor = Governor(
        [EgressSpec(name, "address", address=f"127.0.0.{n}") for n, name in ((2, "a"), (3, "b"))],
        ExchangeClock.guess(START_MS, 0.0),
        limits=Limits(spot=100, futures=60),
        order_reserve=0.2,
    )
    number = itertools.count()
    waits: list[int] = []
    events: list[tuple[float, int, str, Any]] = []
    for (minute, second), weight, market, priority, key, there_s, back_s, end, count in plan:
        mono = 60.0 * (minute + 1) + second
        for _ in range(count):
            what = (weight, market, priority, key, there_s, back_s, end)
            heapq.heappush(events, (mono, next(number), "send", what))
    # In each minute somebody takes all that is left.
    for minute, second in enumerate(greedy):
        for market in (Market.SPOT, Market.CM):
            for _ in range(210):
                what = (1, market, ORDER, None, 0.01, 0.01, "no header")
                heapq.heappush(events, (60.0 * (minute + 1) + second, next(number), "send", what))
    while events:
        mono, _, what, data = heapq.heappop(events)
        if what == "send":
            weight, market, priority, key, there_s, back_s, end = data
            pool = "spot" if market is Market.SPOT else "futures"
            charge = Charge(weight, pool, None, priority == ORDER)
            try:
                grant = governor.admit(market, charge, mono, key=key, priority=priority)
            except EgressExhausted as error:
                waits.append(error.retry_after_s)
                continue
            for egress in governor.egresses:
                for budget in egress.budgets.values():
                    assert budget.used + budget.reserved <= budget.limit
            if end == "unreachable":
                heapq.heappush(events, (mono + there_s, next(number), "unreachable", grant))
            else:
                heapq.heappush(events, (mono + there_s, next(number), "arrive", (grant, back_s, end)))
        elif what == "arrive":
            grant, back_s, end = data
            reported_weight, date = exchange.take(
                grant.egress.name, grant.charge.pool, grant.charge.weight, mono
            )
            heapq.heappush(
                events, (mono + back_s, next(number), "answer", (grant, reported_weight, date, end))
            )
        elif what == "unreachable":
            governor.unreachable(data, mono)
        else:
            grant, reported_weight, date, end = data
            assert isinstance(grant, Grant)
            if end == "lost":
                governor.unanswered(grant, mono)
                continue
            if governor.clock.wants_date(mono):
                governor.clock.observe_date(date, grant.sent_mono, mono)
            governor.answered(grant, 200, reported_weight if end == "answer" else None, mono)
    assert all(1 <= wait_s <= 63 for wait_s in waits)
    for (_, pool, _), used in exchange.meter.items():
        assert used <= (100 if pool == "spot" else 60)
    for egress in governor.egresses:
        for budget in egress.budgets.values():
            assert budget.reserved == 0


def test_everything_can_be_used_within_a_window() -> None:
    """Safety alone is easy: a gateway that sends nothing never goes over a limit."""
    governor = Governor(
        [EgressSpec("a", "default")],
        ExchangeClock.guess(START_MS, 0.0),
        limits=Limits(spot=100),
        order_reserve=0.1,
    )
    sent = 0
    ends = []
    for step in range(600):
        mono = 2.0 + step / 10
        try:
            grant = governor.admit(Market.SPOT, Charge(3, "spot"), mono)
        except EgressExhausted as error:
            ends.append(mono + error.retry_after_s)
            continue
        sent += 3
        governor.answered(grant, 200, sent, mono)
    assert sent >= 90 - 3
    assert min(ends) > 60


@pytest.mark.parametrize(("priority", "most"), [(OWN_URGENT, 85), (CLIENT, 90), (ORDER, 100)])
def test_the_reserve_of_orders_is_touched_by_nothing_else(priority: int, most: int) -> None:
    governor = Governor(
        [EgressSpec("a", "default")], ExchangeClock.guess(START_MS, 0.0), limits=Limits(spot=100)
    )
    charge = Charge(1, "spot", None, priority == ORDER)
    sent = 0
    with pytest.raises(EgressExhausted):
        for _ in range(200):
            governor.admit(Market.SPOT, charge, 5.0, priority=priority)
            sent += 1
    assert sent == most
    for _ in range(100 - most):
        governor.admit(Market.SPOT, Charge(1, "spot", None, True), 5.0)
    with pytest.raises(EgressExhausted):
        governor.admit(Market.SPOT, Charge(1, "spot", None, True), 5.0)
