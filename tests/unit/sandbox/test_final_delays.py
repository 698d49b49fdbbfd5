"""When the closing event of a candle comes, by the profile that was chosen."""

import statistics

import pytest

from resender.sandbox.final_delays import final_delay_ms

CLOSE = 1_791_374_460_000  # 2026-10-07 12:01:00 UTC
FORMS = {"is_spot": False, "is_continuous": False}


def delays(profile, seed=1, **forms):
    forms = FORMS | forms
    return [final_delay_ms(profile, seed, symbol, CLOSE, **forms) for symbol in map(str, range(4000))]


def test_plain_finals_follow_the_measured_distribution():
    found = delays("plain")
    assert 440 <= statistics.median(found) <= 490
    assert 2900 < max(found) <= 3002
    assert 0.30 < sum(1 for delay in found if delay > 1000) / len(found) < 0.36
    assert found == delays("plain")
    assert found != delays("plain", seed=2)
    one = {final_delay_ms("plain", 1, "BTCUSDT", CLOSE + minute, **FORMS) for minute in range(10)}
    assert len(one) == 10


def test_other_profiles_and_fixed_delays():
    continuous = delays("continuous")
    early = [delay for delay in continuous if delay < 100]
    assert 0.004 < len(early) / len(continuous) < 0.02
    assert 1 <= min(early) <= max(early) <= 64
    assert 100 <= min(set(continuous) - set(early)) <= max(continuous) <= 110
    assert set(delays(250)) == {250}
    spot = delays("spot")
    assert 15 <= min(spot) < 20
    assert 120 < max(spot) <= 125
    assert delays("measured") == delays("plain")
    assert delays("measured", is_continuous=True) == delays("continuous")
    assert delays("measured", is_spot=True) == spot
    with pytest.raises(ValueError, match="unknown profile"):
        delays("plane")


def test_every_six_hours_half_of_the_continuous_finals_are_early():
    noon = CLOSE // 21_600_000 * 21_600_000
    found = [
        final_delay_ms("continuous", 1, str(n), noon, is_spot=False, is_continuous=True) for n in range(4000)
    ]
    early = [delay for delay in found if delay < 100]
    assert 0.45 < len(early) / len(found) < 0.55
    assert 20 <= min(early) <= max(early) <= 35
