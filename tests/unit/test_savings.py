"""The weight that answers out of memory have saved: since the start, and since midnight (UTC)."""

from __future__ import annotations

from resender.aio import Clock
from resender.core.binance.markets import Market
from resender.savings import Savings

DAY_MS = 86_400_000
MIDNIGHT_MS = 20_000 * DAY_MS
SPOT, UM, CM = Market.SPOT.value, Market.UM.value, Market.CM.value


class Day:
    """Savings with a clock that is set by hand, at first an hour before midnight."""

    def __init__(self, now_ms: int = MIDNIGHT_MS - 3_600_000) -> None:
        self.now_ms = now_ms
        self.savings = Savings(Clock(now_ms=lambda: self.now_ms, mono=lambda: 0.0))


def test_nothing_is_saved_at_first() -> None:
    savings = Day().savings
    assert savings.total == {}
    assert savings.today() == {}


def test_total_is_kept_by_market_and_kind_and_the_day_by_kind() -> None:
    savings = Day().savings
    for market, kind, weight in [
        (SPOT, "klines", 2),
        (UM, "klines", 5),
        (SPOT, "klines", 2),
        (CM, "depth", 20),
        (SPOT, "shared", 1),
    ]:
        savings.note((market, kind), weight)
    assert savings.total == {
        (SPOT, "klines"): 4,
        (UM, "klines"): 5,
        (CM, "depth"): 20,
        (SPOT, "shared"): 1,
    }
    assert list(savings.today().items()) == [("depth", 20), ("klines", 9), ("shared", 1)], "the most first"


def test_what_was_told_of_the_day_does_not_change() -> None:
    savings = Day().savings
    savings.note((SPOT, "klines"), 2)
    told = savings.today()
    savings.note((SPOT, "klines"), 2)
    told["klines"] += 100
    assert savings.today() == {"klines": 4}


def test_day_turns_at_midnight_utc_and_the_total_goes_on() -> None:
    day = Day()
    day.savings.note((SPOT, "klines"), 2)
    day.now_ms = MIDNIGHT_MS - 1
    day.savings.note((SPOT, "depth"), 5)
    assert day.savings.today() == {"depth": 5, "klines": 2}
    day.now_ms = MIDNIGHT_MS
    day.savings.note((SPOT, "klines"), 1)
    assert day.savings.today() == {"klines": 1}
    assert day.savings.total == {(SPOT, "klines"): 3, (SPOT, "depth"): 5}


def test_day_on_which_nothing_was_saved_yet_is_empty() -> None:
    day = Day()
    day.savings.note((UM, "klines"), 2)
    day.now_ms = MIDNIGHT_MS
    assert day.savings.today() == {}
    day.now_ms += DAY_MS - 1
    day.savings.note((UM, "klines"), 3)
    assert day.savings.today() == {"klines": 3}


def test_days_without_a_call_are_passed_over() -> None:
    day = Day()
    day.savings.note((UM, "klines"), 2)
    day.now_ms += 30 * DAY_MS
    assert day.savings.today() == {}
    assert day.savings.total == {(UM, "klines"): 2}


def test_day_begins_when_the_gateway_is_started() -> None:
    day = Day(MIDNIGHT_MS)
    day.savings.note((UM, "klines"), 2)
    day.now_ms = MIDNIGHT_MS + DAY_MS - 1
    assert day.savings.today() == {"klines": 2}
