"""What the venue allows a connection is never exceeded, whatever is wanted and when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.stream_pacing import (
    VENUE_LIFE_S,
    Pings,
    StreamLimits,
    TokenBucket,
    rotation_age_s,
)

PAUSES = st.lists(st.floats(0, 2), min_size=1, max_size=60)


def passed(limiter: TokenBucket, pauses: list[float]) -> list[float]:
    """Ask after each pause and wait as told; return the times at which it passed."""
    now, times = 1000.0, []
    for pause_s in pauses:
        now += pause_s
        for _ in range(3):  # a wait may fall short by a rounding error
            if not (wait_s := limiter.wait_s(now)):
                break
            now += wait_s
        limiter.take(now)
        times.append(now)
    return times


@given(PAUSES, st.sampled_from([1.0, 3.0, 6.0]), st.sampled_from([1.0, 2.0, 5.0]))
def test_bucket_lets_pass_no_more_than_its_burst_and_its_rate(
    pauses: list[float], rate: float, burst: float
) -> None:
    times = passed(TokenBucket(rate, burst), pauses)
    for first, begun in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + (times[last] - begun) * rate + 1e-6


def test_bucket_lets_the_first_message_pass_at_once_and_tells_how_long_the_next_waits() -> None:
    bucket = TokenBucket(4.0)
    assert bucket.wait_s(10.0) == 0
    bucket.take(10.0)
    assert bucket.wait_s(10.0) == pytest.approx(0.25)
    assert bucket.wait_s(10.2) == pytest.approx(0.05)
    assert bucket.wait_s(10.25) == 0


def test_bucket_counts_what_was_sent_all_the_same() -> None:
    bucket = TokenBucket(1.0)
    for _ in range(3):
        bucket.take(10.0)
    assert bucket.wait_s(10.0) == pytest.approx(3.0)


def test_bucket_does_not_suffer_from_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(1.0)
    bucket.take(10.0)
    assert bucket.wait_s(9.0) == pytest.approx(1.0)
    assert bucket.wait_s(10.0) == 0


@given(st.floats(10.0, 100_000.0), st.integers(0, 1000))
def test_connection_is_replaced_near_its_age_and_before_the_venue_cuts_it(age_s: float, seed: int) -> None:
    drawn = rotation_age_s(age_s, random.Random(seed))
    assert drawn >= age_s * 0.95 - 1e-6
    assert drawn <= age_s * 1.05 + 1e-6
    if age_s <= 82_800.0:
        assert drawn <= VENUE_LIFE_S - 900


def test_connections_of_one_age_are_not_replaced_all_at_once() -> None:
    ages = {rotation_age_s(1000.0, random.Random(seed)) for seed in range(20)}
    assert len(ages) == 20


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"ping_every_s": 6.0}, "half of silence_s"),
        ({"ping_every_s": 0.0}, "half of silence_s"),
        ({"messages_per_s": 0.3}, "no room"),
        ({"streams_per_connection": 0}, "between 1 and 1024"),
        ({"streams_per_connection": 1025}, "between 1 and 1024"),
        ({"subscribe_bytes": 511}, "at least 512"),
    ],
)
def test_limits_that_cannot_work_are_refused(limits: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StreamLimits(**limits)  # type: ignore[arg-type]


def test_default_limits_stay_below_what_the_venue_allows() -> None:
    limits = StreamLimits()
    pings_per_s = 1 / limits.ping_every_s
    assert limits.messages_per_s + 1 + pings_per_s < 5
    assert limits.connects_per_5_min < 300


# -- pings ----------------------------------------------------------------------------------------


def test_pong_settles_its_ping_and_all_before_it() -> None:
    pings = Pings()
    assert [pings.next(now) for now in (1.0, 2.0, 3.0)] == [b"1", b"2", b"3"]
    pings.settle(b"2")
    assert (pings.sent, pings.answered, list(pings.open)) == (3, 2, [(3, 3.0)])
    pings.settle(b"1")
    assert pings.answered == 2


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"4", b"-1", b"9" * 19, b"1" * 40, b"1.5", "²".encode(), b"\xff"]
)
def test_pong_nobody_asked_for_settles_nothing(payload: bytes) -> None:
    pings = Pings()
    pings.next(1.0)
    pings.settle(payload)
    assert (pings.answered, len(pings.open)) == (0, 1)


def test_ping_that_was_wanted_is_not_wanted_any_more_once_sent() -> None:
    pings = Pings(is_wanted=True)
    pings.next(7.0)
    assert (pings.is_wanted, pings.last) == (False, 7.0)


def test_pings_that_are_never_answered_do_not_pile_up() -> None:
    pings = Pings()
    for number in range(1000):
        pings.next(float(number))
    assert len(pings.open) == 100
