"""The trades of a minute."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resender.sandbox.aggregates import trades_of
from resender.sandbox.prices import trades_after


@given(st.integers(1, 5000))
@settings(max_examples=40)
def test_trades_of_a_minute_are_spread_over_it_without_loss(aggregates):
    counts = [trades_after(aggregates, q) for q in range(241)]
    assert counts[0] == 0
    assert counts[1] >= 1
    assert counts[-1] == trades_of(aggregates)
    assert counts == sorted(counts)
