from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.cluster.node_proof import BadProof, ProofReader, Shown, fits_body, make_proof

SECRET = "s" * 40
NOW_MS = 1_796_000_000_000


def proof(
    *, method: str = "POST", target: str = "/a?b=1", body: bytes = b"x", client: str = "10.0.0.1"
) -> str:
    return make_proof(SECRET, "b", NOW_MS, method, target, body, client)


def test_client_and_body_are_told_and_nothing_of_the_secret() -> None:
    value = proof()
    assert SECRET not in value
    shown = ProofReader(SECRET, "b").read(value, NOW_MS, "POST", "/a?b=1")
    assert shown == Shown("10.0.0.1", hashlib.sha256(b"x").hexdigest())
    assert fits_body(shown, b"x")
    assert not fits_body(shown, b"y")
    empty = ProofReader(SECRET, "b").read(proof(body=b""), NOW_MS, "POST", "/a?b=1")
    assert fits_body(empty, b"")


def test_what_was_made_for_one_node_is_nothing_at_another() -> None:
    with pytest.raises(BadProof, match="another node"):
        ProofReader(SECRET, "c").read(proof(), NOW_MS, "POST", "/a?b=1")


def test_no_two_are_alike() -> None:
    assert len({proof() for _ in range(100)}) == 100


def test_address_of_six_is_told_too() -> None:
    assert (
        ProofReader(SECRET, "b").read(proof(client="2001:db8::1"), NOW_MS, "POST", "/a?b=1").client
        == "2001:db8::1"
    )


@pytest.mark.parametrize(
    ("method", "target", "secret", "now_ms", "words"),
    [
        ("GET", "/a?b=1", SECRET, NOW_MS, "another request"),
        ("POST", "/a?b=2", SECRET, NOW_MS, "another request"),
        ("POST", "/a?b=1", "t" * 40, NOW_MS, "another NODE_SECRET"),
        ("POST", "/a?b=1", SECRET, NOW_MS + 10_001, "the clocks of the nodes differ"),
        ("POST", "/a?b=1", SECRET, NOW_MS - 10_001, "the clocks of the nodes differ"),
    ],
)
def test_what_is_wrong_is_told_in_words(
    method: str, target: str, secret: str, now_ms: int, words: str
) -> None:
    with pytest.raises(BadProof, match=words):
        ProofReader(secret, "b").read(proof(), now_ms, method, target)


@pytest.mark.parametrize("skew_ms", [-10_000, -5000, 5000, 10_000])
def test_clocks_may_differ_by_some_seconds(skew_ms: int) -> None:
    assert ProofReader(SECRET, "b").read(proof(), NOW_MS + skew_ms, "POST", "/a?b=1").client == "10.0.0.1"


@pytest.mark.parametrize("client", ["", "worker", "10.0.0.1 extra", "::1%eth0 x"])
def test_client_has_to_be_an_address(client: str) -> None:
    with pytest.raises(BadProof):
        ProofReader(SECRET, "b").read(proof(client=client), NOW_MS, "POST", "/a?b=1")


@given(st.text(max_size=200))
def test_garbage_is_refused(value: str) -> None:
    with pytest.raises(BadProof):
        ProofReader(SECRET, "b").read(value, NOW_MS, "POST", "/a?b=1")


@given(place=st.integers(0, 400), letter=st.characters(min_codepoint=33, max_codepoint=126))
def test_no_letter_can_be_changed(place: int, letter: str) -> None:
    value = proof()
    changed = value[: place % len(value)] + letter + value[place % len(value) + 1 :]
    if changed == value:
        return
    with pytest.raises(BadProof):
        ProofReader(SECRET, "b").read(changed, NOW_MS, "POST", "/a?b=1")


def test_what_may_change_something_is_good_once_however_the_clocks_go() -> None:
    reader, value = ProofReader(SECRET, "b"), proof()
    reader.read(value, NOW_MS - 10_000, "POST", "/a?b=1")
    for now_ms in (NOW_MS - 10_000, NOW_MS, NOW_MS + 10_000):
        with pytest.raises(BadProof, match="used before"):
            reader.read(value, now_ms, "POST", "/a?b=1")


def test_reads_may_be_sent_again_by_a_client_of_http() -> None:
    reader, value = ProofReader(SECRET, "b"), proof(method="GET")
    for _ in range(3):
        reader.read(value, NOW_MS, "GET", "/a?b=1")


def test_what_is_too_old_to_be_good_is_not_remembered() -> None:
    reader = ProofReader(SECRET, "b")
    for number in range(100):
        now_ms = NOW_MS + number * 1000
        reader.read(make_proof(SECRET, "b", now_ms, "POST", "/", b"", "10.0.0.1"), now_ms, "POST", "/")
    assert len(reader._used) == len(reader._order) < 30
