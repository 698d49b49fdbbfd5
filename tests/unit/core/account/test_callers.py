"""Whose signed calls are believed."""

from __future__ import annotations

import pytest

from resender.core.account import callers as module
from resender.core.account.callers import REFUSED_CODES, Callers


def test_pair_is_believed_from_the_call_binance_took_until_its_time_is_over() -> None:
    callers = Callers(60.0)
    assert not callers.is_believed("10.0.0.1", "k", 0.0)
    callers.accepted("10.0.0.1", "k", 100.0)
    assert callers.is_believed("10.0.0.1", "k", 160.0)
    assert not callers.is_believed("10.0.0.1", "k", 160.001)
    callers.accepted("10.0.0.1", "k", 161.0)
    assert callers.is_believed("10.0.0.1", "k", 200.0)


def test_neither_another_address_nor_another_key_is_believed() -> None:
    callers = Callers(60.0)
    callers.accepted("10.0.0.1", "k", 100.0)
    assert not callers.is_believed("10.0.0.2", "k", 100.0)
    assert not callers.is_believed("10.0.0.1", "K", 100.0)
    assert not callers.is_believed("10.0.0.1", "", 100.0)


def test_key_that_binance_refuses_is_believed_of_nobody() -> None:
    callers = Callers(60.0)
    for address in ("10.0.0.1", "10.0.0.2"):
        callers.accepted(address, "k", 100.0)
    callers.accepted("10.0.0.1", "other", 100.0)
    callers.refused("k")
    assert callers.addresses("k", 100.0) == []
    assert callers.addresses("other", 100.0) == ["10.0.0.1"]
    assert {-2014, -2015, -2008} == REFUSED_CODES


def test_addresses_of_a_key_are_those_believed_now() -> None:
    callers = Callers(60.0)
    callers.accepted("10.0.0.1", "k", 100.0)
    callers.accepted("10.0.0.2", "k", 150.0)
    assert callers.addresses("k", 150.0) == ["10.0.0.1", "10.0.0.2"]
    assert callers.addresses("k", 161.0) == ["10.0.0.2"]


def test_pairs_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_PAIRS", 3)
    callers = Callers(60.0)
    for number in range(3):
        callers.accepted(f"10.0.0.{number}", "k", 100.0)
    callers.accepted("10.0.0.0", "k", 101.0)
    callers.accepted("10.0.0.9", "k", 102.0)
    assert callers.addresses("k", 102.0) == ["10.0.0.2", "10.0.0.0", "10.0.0.9"]
