"""Which events a pattern takes, and how the switches count."""

import pytest

from resender.sandbox import AccountFaults
from resender.sandbox.account_faults import name_of


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"e": "executionReport", "o": "LIMIT", "x": "TRADE", "X": "FILLED"}, "executionReport TRADE FILLED"),
        ({"e": "ORDER_TRADE_UPDATE", "o": {"x": "NEW", "X": "NEW"}}, "ORDER_TRADE_UPDATE NEW NEW"),
        ({"e": "ALGO_UPDATE", "o": {"X": "TRIGGERED"}}, "ALGO_UPDATE TRIGGERED"),
        ({"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER"}}, "ACCOUNT_UPDATE ORDER"),
        ({"e": "listStatus", "l": "ALL_DONE"}, "listStatus ALL_DONE"),
        ({"e": "TRADE_LITE"}, "TRADE_LITE"),
        ({}, ""),
    ],
)
def test_name_says_event_execution_and_status(event, words):
    assert name_of(event) == words


def test_losses_are_counted_down_by_pattern():
    faults = AccountFaults()
    faults.lose_next = {"CANCELED$": 1, "executionReport": 1}
    cancelled = {"e": "executionReport", "x": "CANCELED", "X": "CANCELED"}
    assert [faults.loses(cancelled) for _ in range(3)] == [True, True, False]
    assert not faults.loses({"e": "listStatus", "l": "ALL_DONE"})
    assert faults.lost == 2
    faults.clear()
    assert (faults.lose_next, faults.lost) == ({}, 2)


def test_acts_without_anything_bound_do_nothing():
    faults = AccountFaults()
    assert faults.drop() == faults.expire_keys() == faults.terminate() == faults.send({"e": "x"}) == 0
