"""What own reads of market data cost, and their cheapest pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.costs import backfill_weight, cheapest_piece, first_read_weight, kline_weight

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


@pytest.mark.parametrize(
    ("market", "word", "count", "weight"),
    [
        (Market.SPOT, "bookTicker", 1, 2),
        (Market.SPOT, "bookTicker", 400, 4),
        (Market.SPOT, "depth20", 1, 5),
        (Market.UM, "depth20", 3, 6),
        (Market.SPOT, "depth", 2, 100),
        (Market.CM, "depth", 2, 40),
        (Market.SPOT, "trade", 2, 50),
        (Market.CM, "aggTrade", 2, 40),
        (Market.UM, "markPrice", 400, 10),
        (Market.UM, "depth20", 0, 0),
        (Market.UM, "markPrice", 0, 0),
    ],
)
def test_first_read_weight(market: Market, word: str, count: int, weight: int) -> None:
    assert first_read_weight(market, word, count) == weight


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
    prices = {size: kline_weight(market, size) for size in range(1, min(count, 1500) + 1)}
    sizes = (1000,) if market is Market.SPOT else (99, 499, 1000, 1500)
    for n in range(1, count + 1):
        best[n] = min(best[max(0, n - size)] + prices[min(size, n)] for size in sizes)
    assert spent == best[count]


def test_fifteen_hundred_candles_cost_seven_on_futures_and_four_on_spot() -> None:
    assert backfill_weight(Market.UM, 1500) == 7
    assert backfill_weight(Market.SPOT, 1500) == 4
