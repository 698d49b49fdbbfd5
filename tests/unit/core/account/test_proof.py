"""What an account's answers rest on: stream, silence, two snapshots."""

from __future__ import annotations

import pytest

from resender.core.account import proof as module
from resender.core.account.proof import Proof


def opened(at: float = 100.0) -> Proof:
    proof = Proof(3.0)
    proof.opened(at)
    return proof


def test_nothing_is_proven_without_a_stream() -> None:
    proof = Proof(3.0)
    assert proof.lack(None, 0.0) == "no stream"
    proof.snapshot(None, 1.0)
    proof.snapshot(None, 9.0)
    assert proof.lack(None, 9.0) == "no stream"
    assert not proof.wants_snapshot(9.0)


def test_second_snapshot_counts_five_seconds_after_the_stream_was_alive() -> None:
    proof = opened()
    assert proof.lack(None, 100.0) == "no snapshot yet"
    proof.snapshot(None, 100.0)
    proof.snapshot(None, 104.999)
    proof.heard(105.0)
    assert proof.lack(None, 105.0) == "second snapshot needed"
    proof.snapshot(None, 105.0)
    assert proof.lack(None, 105.0) is None
    assert proof.lack("BTCUSDT", 105.0) is None


def test_one_snapshot_however_late_is_not_enough() -> None:
    proof = opened()
    proof.heard(150.0)
    proof.snapshot(None, 150.0)
    assert proof.lack(None, 150.0) == "second snapshot needed"
    proof.snapshot(None, 150.0)
    assert proof.lack(None, 150.0) is None


def test_snapshot_asked_for_before_the_stream_was_alive_does_not_count() -> None:
    proof = opened()
    proof.snapshot(None, 99.999)
    proof.snapshot(None, 106.0)
    proof.heard(106.0)
    assert proof.lack(None, 106.0) == "second snapshot needed"


def test_snapshots_of_one_symbol_prove_that_symbol_alone() -> None:
    proof = opened()
    proof.heard(106.0)
    proof.snapshot("BTCUSDT", 101.0)
    assert proof.lack("ETHUSDT", 106.0) == "no snapshot yet"
    proof.snapshot("BTCUSDT", 106.0)
    proof.snapshot("ETHUSDT", 106.0)
    assert proof.lack("BTCUSDT", 106.0) is None
    assert proof.lack("ETHUSDT", 106.0) == "second snapshot needed"
    assert proof.lack(None, 106.0) == "no snapshot yet"


def test_snapshots_of_all_and_of_one_symbol_count_together_for_it() -> None:
    proof = opened()
    proof.heard(106.0)
    proof.snapshot(None, 101.0)
    proof.snapshot("BTCUSDT", 106.0)
    assert proof.lack("BTCUSDT", 106.0) is None
    assert proof.lack(None, 106.0) == "second snapshot needed"


def test_snapshot_of_all_takes_nothing_from_a_symbol_that_was_proven() -> None:
    proof = opened()
    proof.heard(107.0)
    proof.snapshot("BTCUSDT", 101.0)
    proof.snapshot("BTCUSDT", 106.0)
    proof.snapshot(None, 107.0)
    assert proof.lack("BTCUSDT", 107.0) is None


def test_answer_that_was_asked_for_first_and_comes_last_changes_nothing() -> None:
    proof = opened()
    proof.heard(106.0)
    proof.snapshot(None, 106.0)
    proof.snapshot(None, 101.0)
    assert proof.lack(None, 106.0) is None
    assert proof.compared_mono(None) == 106.0


def test_silence_ends_proof_and_a_sign_of_life_brings_it_back() -> None:
    proof = opened()
    proof.snapshot(None, 101.0)
    proof.snapshot(None, 105.0)
    proof.heard(105.0)
    assert proof.lack(None, 108.0) is None
    assert proof.lack(None, 108.001) == "stream silent"
    proof.heard(109.0)
    assert proof.lack(None, 109.0) is None


def test_restart_and_close_take_all_snapshots_away() -> None:
    proof = opened()
    for at in (101.0, 105.0):
        proof.snapshot(None, at)
    proof.heard(110.0)
    proof.restart("differs", 110.0)
    assert proof.lack(None, 110.0) == "differs"
    proof.snapshot(None, 109.0)
    assert proof.lack(None, 110.0) == "differs"
    for at in (110.0, 115.0):
        proof.snapshot(None, at)
    proof.heard(115.0)
    assert proof.lack(None, 115.0) is None
    proof.closed("upstream lost")
    assert proof.lack(None, 115.0) == "upstream lost"
    proof.opened(116.0)
    assert proof.lack(None, 116.0) == "no snapshot yet"


def test_owner_of_a_key_reads_at_once_and_then_after_five_seconds() -> None:
    proof = opened()
    assert proof.wants_snapshot(100.0)
    proof.snapshot(None, 100.0)
    assert not proof.wants_snapshot(104.999)
    assert proof.wants_snapshot(105.0)
    proof.snapshot(None, 105.0)
    assert not proof.wants_snapshot(105.0)


def test_silence_is_no_reason_to_read_again() -> None:
    proof = opened()
    for at in (101.0, 105.0):
        proof.snapshot(None, at)
    assert proof.lack(None, 200.0) == "stream silent"
    assert not proof.wants_snapshot(200.0)


def test_late_answer_does_not_take_the_place_of_a_newer_one() -> None:
    proof = opened()
    proof.heard(107.0)
    for at in (101.0, 106.0, 102.0, 103.0):
        proof.snapshot(None, at)
    assert proof.lack(None, 107.0) is None


def test_last_comparison_is_that_of_all_or_of_the_symbol() -> None:
    proof = opened()
    assert proof.compared_mono(None) == 100.0
    proof.snapshot(None, 101.0)
    proof.snapshot("BTCUSDT", 103.0)
    assert (proof.compared_mono(None), proof.compared_mono("BTCUSDT")) == (101.0, 103.0)
    proof.snapshot(None, 104.0)
    assert (proof.compared_mono(None), proof.compared_mono("BTCUSDT")) == (104.0, 104.0)


def test_third_snapshot_of_a_symbol_takes_the_place_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KEPT", 3)
    proof = opened()
    for at in (101.0, 105.0, 106.0, 107.0):
        proof.snapshot("BTCUSDT", at)
    assert proof.compared_mono("BTCUSDT") == 107.0
    proof.heard(107.0)
    for at in (106.0, 107.0):
        proof.snapshot("ETHUSDT", at)
    assert proof.lack("ETHUSDT", 107.0) == "second snapshot needed", "there is no room"
    proof.snapshot("BTCUSDT", 108.0)
    assert proof.compared_mono("BTCUSDT") == 108.0
