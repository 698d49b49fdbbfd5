"""Weights and the share of them that own reads may use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.costs import WeightShare, backfill_weight, cheapest_piece, kline_weight

MINUTE = 60_000


@pytest.mark.parametrize(
    ("market", "limit", "weight"),
    [
        (Market.SPOT, 1, 2),
        (Market.SPOT, 1000, 2),
        (Market.UM, 99, 1),
        (Market.UM, 100, 2),
        (Market.UM, 499, 2),
        (Market.UM, 500, 5),
        (Market.CM, 1000, 5),
        (Market.CM, 1001, 10),
    ],
)
def test_kline_weight(market: Market, limit: int, weight: int) -> None:
    assert kline_weight(market, limit) == weight


@given(st.integers(1, 6000), st.sampled_from([Market.SPOT, Market.UM, Market.CM]))
def test_pieces_bring_all_rows_for_the_least_weight(count: int, market: Market) -> None:
    left, spent = count, 0
    while left > 0:
        piece = cheapest_piece(market, left)
        assert piece >= 1
        spent += kline_weight(market, piece)
        left -= piece
    assert spent == backfill_weight(market, count)
    best = [0] + [10**9] * count
    sizes = (1000,) if market is Market.SPOT else (99, 499, 1000, 1500)
    for n in range(1, count + 1):
        best[n] = min(best[max(0, n - size)] + kline_weight(market, min(size, n)) for size in sizes)
    assert spent == best[count]


def test_fifteen_hundred_candles_cost_seven_on_futures_and_four_on_spot() -> None:
    assert backfill_weight(Market.UM, 1500) == 7
    assert backfill_weight(Market.SPOT, 1500) == 4


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30_000), st.booleans()), max_size=80))
def test_share_is_never_exceeded_in_any_minute(calls: list[tuple[int, int, bool]]) -> None:
    share = WeightShare(200, 0.5)
    used: dict[int, int] = {}
    now = 1_790_000_000_000
    for weight, pause, is_urgent in calls:
        now += pause
        if share.take(weight, now, now / 1000, is_urgent=is_urgent):
            used[now // MINUTE] = used.get(now // MINUTE, 0) + weight
    assert all(total <= 100 for total in used.values())


def test_clients_calls_leave_nothing_for_own_reads() -> None:
    share = WeightShare(100, 0.5)
    now = 1_790_000_000_000 // MINUTE * MINUTE
    share.observe(94, now)
    assert not share.take(2, now, 0.0, is_urgent=True)
    assert share.take(1, now, 0.0, is_urgent=True)
    share.observe(3, now)
    assert not share.take(1, now, 0.0, is_urgent=True), "a lower header must not lower the count"
    assert share.take(2, now + MINUTE, 60.0)


def test_share_is_closed_until_the_pause_ends() -> None:
    share = WeightShare(100, 0.5)
    share.close(105.0)
    # A clock that is set meanwhile does not shorten the pause.
    assert not share.take(1, 999_999_999, 104.9, is_urgent=True)
    assert share.wait_s(59_000, 104.0) == 1.0
    assert share.wait_s(0, 10.0) == 95.0
    assert share.wait_s(59_000, 106.0) == 1.0
    assert share.take(1, 0, 105.0)
