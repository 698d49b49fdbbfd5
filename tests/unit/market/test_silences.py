"""Silences of connections: only what is usually busy can be silent, and only what came after one counts as after it."""

from __future__ import annotations

import pytest

from resender.market.silences import Silences

LONGEST_MS = 750


def busy(silences: Silences, carrier: object, begin_ms: int, count: int, every_ms: int) -> int:
    for number in range(count):
        silences.note(carrier, begin_ms + number * every_ms)
    return begin_ms + (count - 1) * every_ms


def test_connection_that_goes_on_after_a_silence_says_when() -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, "a", 1_000_000, 200, 10)
    assert silences.resumed_ms("a") == 0
    silences.note("a", last + LONGEST_MS + 1)
    assert silences.resumed_ms("a") == last + LONGEST_MS + 1
    assert silences.resumed_ms("b") == 0


def test_connection_that_goes_on_in_time_was_not_silent() -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, "a", 1_000_000, 200, 10)
    silences.note("a", last + LONGEST_MS)
    assert silences.resumed_ms("a") == 0


@pytest.mark.parametrize("every_ms", [200, 700])
def test_connection_that_is_never_busy_is_never_silent(every_ms: int) -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, "a", 1_000_000, 500, every_ms)
    silences.note("a", last + 60_000)
    assert silences.resumed_ms("a") == 0


def test_few_frames_do_not_make_a_connection_busy() -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, "a", 1_000_000, 5, 10)
    silences.note("a", last + 60_000)
    assert silences.resumed_ms("a") == 0


def test_silence_does_not_make_a_connection_a_quiet_one() -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, "a", 1_000_000, 200, 10)
    for _ in range(3):
        silences.note("a", last + 5000)
        assert silences.resumed_ms("a") == last + 5000
        last = busy(silences, "a", last + 5010, 20, 10)


def test_frames_out_of_order_change_nothing() -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, "a", 1_000_000, 200, 10)
    silences.note("a", last - 5000)
    silences.note("a", last + 10)
    assert silences.resumed_ms("a") == 0


def test_connections_are_told_apart_and_forgotten_when_there_were_too_many() -> None:
    silences = Silences(LONGEST_MS)
    last = busy(silences, 0, 1_000_000, 200, 10)
    busy(silences, 1, 1_000_000, 200, 10)
    silences.note(0, last + 5000)
    assert (silences.resumed_ms(0), silences.resumed_ms(1)) == (last + 5000, 0)
    for carrier in range(2, 3000):
        silences.note(carrier, last)
    assert silences.resumed_ms(0) == 0
