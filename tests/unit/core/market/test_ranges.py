"""Which rows a kline call means, by each market's rule; what may lack a row is not told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.candles import parse_rows
from resender.core.market.klines import KlineSeries
from resender.core.market.ranges import select
from resender.core.market.requests import KlineRequest

MINUTE, DAY = 60_000, 86_400_000
T0 = 1_790_000_040_000 // DAY * DAY
SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM


def rows(first: int, last: int, step: int = MINUTE) -> list[list[Any]]:
    """Return candles by their numbers; number 0 opens at T0."""
    return [
        [T0 + n * step, "1", "1", "1", "1", "1", T0 + (n + 1) * step - 1, "1", 1, "1", "1", "0"]
        for n in range(first, last + 1)
    ]


def series(first: int = -9, last: int = 0, *, is_whole: bool = False, interval: str = "1m") -> KlineSeries:
    """Return a series that holds those, the last one open."""
    step = MINUTE if interval == "1m" else 7 * DAY
    made = KlineSeries(interval, 1000)
    made_ms = T0 + last * step + step // 2
    candles = parse_rows(rows(first, last, step), interval, orjson.dumps, made_ms=made_ms)
    assert made.apply_read(candles, made_ms, epoch=made.epoch, is_whole=is_whole)
    return made


def chosen(
    of: KlineSeries, market: Market, limit: int, start: int | None = None, end: int | None = None
) -> list[int] | None:
    """Return the numbers of the candles chosen; times are in minutes from T0."""
    first, last = (None if each is None else T0 + each * MINUTE for each in (start, end))
    span = select(of, KlineRequest(market, "A", of.interval, limit, first, last), T0 + MINUTE // 2)
    step = MINUTE if of.interval == "1m" else 7 * DAY
    return None if span is None else [(row[0] - T0) // step for row in orjson.loads(of.body(span))]


@pytest.mark.parametrize("market", [SPOT, UM, CM])
def test_without_times_the_latest_are_meant(market: Market) -> None:
    assert chosen(series(), market, 3) == [-2, -1, 0]
    assert chosen(series(), market, 10) == list(range(-9, 1))
    assert chosen(series(), market, 11) is None
    assert chosen(series(is_whole=True), market, 11) == list(range(-9, 1))


@pytest.mark.parametrize("market", [SPOT, UM])
def test_from_a_time_on_the_oldest_are_meant(market: Market) -> None:
    assert chosen(series(), market, 3, start=-5) == [-5, -4, -3]
    assert chosen(series(), market, 3, start=-5, end=-4) == [-5, -4]
    assert chosen(series(), market, 9, start=-2) == [-2, -1, 0], "the open one belongs to it"
    assert chosen(series(), market, 3, start=-10) is None
    assert chosen(series(is_whole=True), market, 3, start=-10) == [-9, -8, -7]


def test_from_a_time_on_coin_m_means_the_latest() -> None:
    assert chosen(series(), CM, 3, start=-5) == [-2, -1, 0]
    assert chosen(series(), CM, 3, start=-5, end=-3) == [-5, -4, -3]
    assert chosen(series(), CM, 2, start=-5, end=-3) == [-4, -3]
    assert chosen(series(), CM, 99, start=-10, end=-3) is None


@pytest.mark.parametrize("market", [SPOT, UM, CM])
def test_up_to_a_time_the_latest_are_meant(market: Market) -> None:
    assert chosen(series(), market, 3, end=-5) == [-7, -6, -5]
    assert chosen(series(), market, 3, end=60) == [-2, -1, 0]
    assert chosen(series(), market, 6, end=-5) is None
    assert chosen(series(), market, 5, end=-5) == list(range(-9, -4))


@pytest.mark.parametrize("market", [SPOT, UM, CM])
def test_range_that_has_not_begun_is_left_to_the_exchange(market: Market) -> None:
    assert chosen(series(), market, 3, start=1) is None
    assert chosen(series(), market, 3, start=1, end=5) is None


def test_coin_m_takes_no_range_of_more_than_200_days_and_looks_back_no_further() -> None:
    days = 24 * 60
    weeks = series(-60, 0, interval="1w", is_whole=True)
    assert chosen(weeks, CM, 999, start=-201 * days, end=0) is None
    assert chosen(weeks, CM, 999, start=-200 * days, end=0) == list(range(-28, 1))
    assert chosen(weeks, CM, 999, end=0) == list(range(-28, 1))
    assert chosen(weeks, CM, 999, start=-300 * days) == list(range(-42, -14)), "200 days from its begin on"
    assert chosen(weeks, UM, 999, end=0) == list(range(-60, 1))


@given(
    st.sampled_from([SPOT, UM, CM]),
    st.integers(1, 14),
    st.none() | st.integers(-14, 2),
    st.none() | st.integers(-14, 2),
    st.booleans(),
)
def test_whatever_is_chosen_is_what_the_exchange_would_choose(
    market: Market, limit: int, start: int | None, end: int | None, is_whole: bool
) -> None:
    if start is not None and end is not None and start > end:
        return
    found = chosen(series(is_whole=is_whole), market, limit, start, end)
    if found is None:
        return
    everything = list(range(-9, 1)) if is_whole else list(range(-99, 1))
    within = [n for n in everything if (start is None or n >= start) and (end is None or n <= end)]
    is_oldest = start is not None and market is not CM
    assert found == (within[:limit] if is_oldest else within[-limit:])
