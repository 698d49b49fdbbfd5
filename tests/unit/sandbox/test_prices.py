"""The trades of a minute."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resender.sandbox.prices import trades_after


@given(st.integers(1, 5000))
@settings(max_examples=40)
def test_trades_of_a_minute_are_spread_over_it_without_loss(trades):
    counts = [trades_after(trades, q) for q in range(241)]
    assert counts[0] == 0
    assert counts[-1] == trades
    assert counts == sorted(counts)
