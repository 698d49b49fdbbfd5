"""Order calls that were accepted: an event has to tell of each in time, whatever snapshots show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resender.account import unheard as module
from resender.account.unheard import Unheard
from resender.core.account.calls import Change

AT = 1000.0


def accepted(told: Any, change: Change = Change.ORDERS, unheard: Unheard | None = None) -> Unheard:
    unheard = unheard or Unheard()
    unheard.accepted(change, json.dumps(told).encode(), AT - 0.1, AT)
    return unheard


def test_call_is_overdue_two_seconds_after_its_answer_and_not_before() -> None:
    unheard = accepted({"orderId": 7})
    assert not unheard.is_overdue(AT + 2.0)
    assert unheard.is_overdue(AT + 2.01)


def test_event_settles_the_calls_that_name_its_order() -> None:
    unheard = accepted({"orderId": 7})
    accepted({"orderId": 8}, unheard=unheard)
    unheard.heard(7, AT + 0.1, is_algo=False)
    assert unheard.is_overdue(AT + 3), "the other is still to come"
    unheard.heard(8, AT + 0.1, is_algo=False)
    assert not unheard.is_overdue(AT + 3)


def test_event_that_came_before_the_answer_counts_unless_it_is_older_than_the_call() -> None:
    unheard = Unheard()
    unheard.heard(7, AT - 0.05, is_algo=False)
    unheard.heard(8, AT - 0.2, is_algo=False)
    accepted({"orderId": 7}, unheard=unheard)
    assert not unheard.is_overdue(AT + 3)
    accepted({"orderId": 8}, unheard=unheard)
    assert unheard.is_overdue(AT + 3)


def test_conditional_orders_have_numbers_of_their_own() -> None:
    unheard = accepted({"algoId": 7}, Change.ALGO)
    unheard.heard(7, AT + 0.1, is_algo=False)
    assert unheard.is_overdue(AT + 3)
    unheard.heard(7, AT + 0.2, is_algo=True)
    assert not unheard.is_overdue(AT + 3)


@pytest.mark.parametrize(
    "told",
    [
        [{"orderId": 7}, {"code": -2011}],
        {"orderListId": 1, "orders": [{"orderId": 7}, {"orderId": 8}], "orderReports": [{"orderId": 8}]},
        {"cancelResponse": {"orderId": 8}, "newOrderResponse": {"orderId": 7}},
    ],
)
def test_one_event_of_the_orders_a_call_names_is_enough(told: Any) -> None:
    unheard = accepted(told)
    assert unheard.is_overdue(AT + 3)
    unheard.heard(7, AT + 1, is_algo=False)
    assert not unheard.is_overdue(AT + 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Change.ALL, {"code": 200, "msg": "done"}),
        (Change.COUNTDOWN, {"symbol": "BTCUSDT", "countdownTime": "1"}),
        (Change.ORDERS, [{"code": -2011, "msg": "x"}]),
        (Change.ORDERS, {"orderId": "7"}),
        (Change.ORDERS, {"orderId": True}),
        (Change.ORDERS, None),
        (Change.BALANCES, {"orderId": 7}),
    ],
)
def test_answer_that_names_no_order_has_nothing_to_wait_for(change: Change, told: Any) -> None:
    assert not accepted(told, change).is_overdue(AT + 1e6)


def test_new_stream_owes_nothing_of_the_old_one() -> None:
    unheard = accepted({"orderId": 7})
    unheard.clear()
    assert not unheard.is_overdue(AT + 3)


def test_no_more_is_kept_than_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CALLS", 2)
    monkeypatch.setattr(module, "_MAX_HEARD", 2)
    unheard = Unheard()
    for number in range(5):
        accepted({"orderId": number}, unheard=unheard)
        unheard.heard(100 + number, AT, is_algo=False)
    assert len(unheard._calls) == len(unheard._heard) == 2
