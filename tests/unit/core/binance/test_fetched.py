"""An answer to an own read is a value: it cannot be changed by one of those who share it."""

from __future__ import annotations

import dataclasses

import pytest

from resender.core.binance.fetched import Fetched


def test_equal_answers_are_equal_values() -> None:
    one = Fetched(200, {"date": "x"}, b"[]")
    assert one == Fetched(200, {"date": "x"}, b"[]")
    assert one != Fetched(200, {"date": "x"}, b"[1]")


def test_answer_cannot_be_changed() -> None:
    one = Fetched(429, {}, b"{}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.status = 200  # type: ignore[misc]
