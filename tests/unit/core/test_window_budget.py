"""Never more than the limit in any window, whatever is wanted and when, and over a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resender.core.window_budget import WindowBudget

WINDOW_S = 30.0


@given(
    st.lists(st.floats(0, 40), min_size=1, max_size=40),
    st.integers(1, 5),
    st.lists(st.floats(970, 1000), max_size=8),
)
def test_limit_is_never_exceeded_in_any_window(pauses: list[float], limit: int, before: list[float]) -> None:
    budget = WindowBudget(limit, WINDOW_S)
    budget.restore(before)
    now, times = 1000.0, sorted(before)[-limit:]
    for pause_s in pauses:
        now += pause_s
        for _ in range(3):  # a wait may fall short by a rounding error
            if not (wait_s := budget.wait_s(now)):
                break
            now += wait_s
        budget.take(now)
        times.append(now)
    for first in range(len(times) - limit):
        if first + limit >= min(limit, len(before)):
            assert times[first + limit] - times[first] >= WINDOW_S - 1e-6


def test_next_one_waits_until_the_oldest_of_the_window_is_over() -> None:
    budget = WindowBudget(2, WINDOW_S)
    budget.take(0.0)
    budget.take(10.0)
    assert budget.wait_s(10.0) == WINDOW_S - 10.0
    assert budget.wait_s(WINDOW_S) == 0


def test_several_at_once_count_each() -> None:
    budget = WindowBudget(3, WINDOW_S)
    budget.take(0.0, 3)
    assert budget.wait_s(0.0) == WINDOW_S
    assert budget.times(0.0) == [0.0, 0.0, 0.0]
    assert budget.times(WINDOW_S) == []


def test_whoever_wants_to_know_is_told_of_each() -> None:
    told: list[None] = []
    budget = WindowBudget(1, WINDOW_S, lambda: told.append(None))
    budget.take(0.0)
    budget.restore([1.0])
    budget.take(2.0)
    assert len(told) == 2
