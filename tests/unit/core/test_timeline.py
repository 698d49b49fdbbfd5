from __future__ import annotations

import random

import pytest

from resender.core.timeline import BOUNDS_MS, Reading, Tally, Timeline, Track, percentile


def reading(tally: Tally, **more: object) -> Reading:
    return Reading(
        calls=tally.calls,
        errors=tally.errors,
        sent_bytes=tally.sent_bytes,
        latency=tuple(tally.latency),
        **more,  # type: ignore[arg-type]
    )


def test_percentiles_are_within_a_tenth_of_the_truth() -> None:
    rng = random.Random(7)
    values = [rng.lognormvariate(1.5, 1.2) for _ in range(20_000)]
    tally = Tally()
    for value in values:
        tally.note(200, value, 0)
    values.sort()
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        truth = values[int(share * len(values))]
        found = percentile(tally.latency, share)
        assert found is not None
        assert abs(found - truth) / truth < 0.1, (share, truth, found)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_percentile_of_nothing_is_none(share: float) -> None:
    assert percentile([0] * (len(BOUNDS_MS) + 1), share) is None
    assert percentile([], share) is None


def test_percentile_of_one_call_and_of_a_very_slow_one_exists() -> None:
    quick, slow = Tally(), Tally()
    quick.note(200, 0.0, 0)
    slow.note(200, 10_000_000, 0)
    assert 0 < (percentile(quick.latency, 0.5) or 0) <= BOUNDS_MS[0]
    assert percentile(slow.latency, 0.5) == round(BOUNDS_MS[-1], 3)


def test_errors_are_statuses_from_400_on_and_refusals_have_no_latency() -> None:
    tally = Tally()
    for status in (0, 200, 304, 399, 400, 403, 418, 500):
        tally.note(status, 1.0, 10)
    tally.note_refused()
    assert (tally.calls, tally.errors, tally.sent_bytes) == (9, 5, 80)
    assert sum(tally.latency) == 8


def test_rates_are_those_of_ten_seconds_and_latencies_those_of_sixty() -> None:
    timeline, tally = Timeline(), Tally()
    for second in range(121):
        # A slow minute of two calls a second, then a quick minute of four, the last ten s of eight.
        count, ms = (2, 900.0) if second <= 60 else ((4, 10.0) if second <= 110 else (8, 10.0))
        for _ in range(count):
            tally.note(500 if second > 115 else 200, ms, 100)
        timeline.add(second * 1000, float(second), reading(tally, hits=second * 3, misses=second))
    window = timeline.window()
    assert window.calls_per_s == 8.0
    assert window.errors_per_s == 4.0
    assert window.bytes_per_s == 800.0
    assert window.p99_ms is not None
    assert window.p99_ms < 12, "the slow minute is over"
    assert window.hit_rate == 0.75


def test_window_without_readings_or_calls_has_no_percentiles() -> None:
    timeline = Timeline()
    assert timeline.window().p50_ms is None
    timeline.add(0, 0.0, Reading())
    timeline.add(1000, 1.0, Reading())
    window = timeline.window()
    assert (window.calls_per_s, window.p50_ms, window.p99_ms, window.hit_rate) == (0.0, None, None, None)


def test_window_after_a_long_hold_up_spreads_the_calls_over_it() -> None:
    timeline, tally = Timeline(), Tally()
    timeline.add(0, 0.0, reading(tally))
    for _ in range(100):
        tally.note(200, 1, 0)
    timeline.add(50_000, 50.0, reading(tally))
    assert timeline.window().calls_per_s == 2.0


def test_readings_older_than_the_window_are_dropped() -> None:
    timeline = Timeline()
    for second in range(10_000):
        timeline.add(second * 1000, float(second), Reading())
    assert len(timeline._recent) <= 62


def test_points_hold_what_happened_in_their_step_and_nothing_is_lost() -> None:
    track, tally = Track(5_000, 4), Tally()
    now_ms = 1_000_000_000_000 // 5000 * 5000
    for second in range(21):
        track.add(
            now_ms + second * 1000, reading(tally, in_flight=second % 7, weights={"default/spot": second})
        )
        tally.note(200, 10, 50)
    columns = track.columns(now_ms + 20_000)
    assert columns["step_s"] == 5
    assert columns["from"] == now_ms
    points = columns["points"]
    assert points["time"] == [now_ms + i * 5000 for i in range(4)]
    assert points["calls"] == [5, 5, 5, 5]
    assert points["bytes"] == [250, 250, 250, 250]
    assert points["weights"] == {"default/spot": [5, 10, 15, 20]}
    assert points["in_flight"] == [5, 6, 6, 6]
    assert all(9 < p < 11 for p in points["p50_ms"])


def test_steps_without_readings_are_null_in_every_column() -> None:
    track, tally = Track(5_000, 6), Tally()
    base = 2_000_000_000_000 // 5000 * 5000
    for second in (0, 1, 2, 3, 4, 5, 17, 18, 19, 20):
        tally.note(200, 1, 1)
        track.add(base + second * 1000, reading(tally, weights={"a/spot": 1}))
    points = track.columns(base + 20_000)["points"]
    assert points["calls"] == [None, None, 5, 1, None, 3]
    assert points["weights"]["a/spot"] == [None, None, 1, 1, None, 1]
    assert {len(column) for name, column in points.items() if name != "weights"} == {6}


def test_only_so_many_points_are_kept() -> None:
    track = Track(1_000, 10)
    for second in range(1000):
        track.add(second * 1000, Reading(calls=second))
    assert len(track._points) == 10
    assert track.columns(999_000)["points"]["calls"] == [1] * 10


def test_a_clock_set_back_drops_the_points_ahead_of_it() -> None:
    track = Track(1_000, 10)
    for second in range(20):
        track.add(second * 1000, Reading(calls=second))
    for second in range(5, 9):
        track.add(second * 1000, Reading(calls=100 + second))
    points = track.columns(8_000)["points"]
    assert points["time"] == sorted(points["time"])
    assert points["calls"][-3:] == [1, 1, 1]
    assert sum(p is not None for p in points["calls"]) <= 10


def test_only_the_steps_since_a_time_are_returned() -> None:
    track = Track(1_000, 10)
    for second in range(20):
        track.add(second * 1000, Reading(calls=second))
    assert track.columns(19_000, 16_000)["points"]["time"] == [16_000, 17_000, 18_000]
    assert track.columns(19_000, 15_001)["from"] == 16_000
    for since_ms in (19_000, 10**15):
        ahead = track.columns(19_000, since_ms)
        assert ahead["from"] == 19_000
        assert ahead["points"]["time"] == ahead["points"]["calls"] == []
    assert len(track.columns(19_000, 1)["points"]["time"]) == 10
