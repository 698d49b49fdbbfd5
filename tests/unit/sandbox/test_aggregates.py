"""Which trade of a minute belongs to which aggregate."""

import pytest

from resender.sandbox.aggregates import aggregate_of, aggregates_after, trades_of


def test_every_trade_is_in_the_aggregate_whose_range_holds_it():
    assert trades_of(0) == 0
    for aggregate in range(1, 500):
        for nth in range(trades_of(aggregate - 1) + 1, trades_of(aggregate) + 1):
            assert aggregate_of(nth) == aggregate
    sizes = {trades_of(n) - trades_of(n - 1) for n in range(1, 9)}
    assert sizes == {1, 2, 3}


@pytest.mark.parametrize("aggregates", [1, 2, 60, 999])
def test_first_and_last_aggregate_are_at_the_edges(aggregates):
    assert aggregates_after(aggregates, 0, 240) == 0
    assert aggregates_after(aggregates, 1, 240) >= 1
    assert aggregates_after(aggregates, 240, 240) == aggregates
