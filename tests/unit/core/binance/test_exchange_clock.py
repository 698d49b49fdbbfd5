"""The exchange's clock is never taken to be later than it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.exchange_clock import ExchangeClock

T0 = 1_790_000_000_000


@given(
    st.lists(st.tuples(st.floats(0, 500), st.integers(0, 3000)), min_size=1, max_size=30),
    st.floats(-100e-6, 100e-6),
    st.tuples(st.integers(0, 900), st.integers(0, 900)),
)
def test_true_time_lies_between_the_bounds_whatever_the_delays_and_drift(
    messages: list[tuple[float, int]], drift: float, trip_ms: tuple[int, int]
) -> None:
    """Our monotonic clock runs `drift` too fast or slow; each message takes its time to arrive."""
    clock = ExchangeClock()
    # /time is asked for, stamped at T0 after the way there, and arrives after the way back.
    clock.set(T0, 50.0 - trip_ms[0] / 1000, 50.0 + trip_ms[1] / 1000)
    true_s, mono = trip_ms[1] / 1000, 50.0 + trip_ms[1] / 1000
    for pause_s, delay_ms in messages:
        true_s += pause_s
        mono += pause_s * (1 + drift)
        assert clock.now_ms(mono) <= T0 + true_s * 1000 + 1
        assert clock.latest_ms(mono) >= T0 + true_s * 1000
        sent_ms = max(T0, int(T0 + true_s * 1000) - delay_ms)
        clock.observe(sent_ms, mono)
        assert clock.now_ms(mono) <= T0 + true_s * 1000 + 1
        assert clock.latest_ms(mono) >= T0 + true_s * 1000


def test_event_brings_the_clock_closer_and_never_back() -> None:
    clock = ExchangeClock()
    clock.set(T0, 10.0, 10.0)
    assert clock.observe(T0 + 1500, 11.0)
    assert clock.now_ms(11.0) == T0 + 1500
    assert clock.observe(T0 + 1100, 11.0)
    assert clock.now_ms(11.0) == T0 + 1500


def test_event_far_ahead_is_not_believed() -> None:
    clock = ExchangeClock()
    assert not clock.observe(T0, 10.0)
    clock.set(T0, 10.0, 10.0)
    assert not clock.observe(T0 + 3_600_000, 10.0)
    assert clock.now_ms(10.0) == T0
