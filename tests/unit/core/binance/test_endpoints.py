"""The paths the gateway knows the meaning of lead to the host of their market and have a known weight."""

from __future__ import annotations

import pytest

from resender.core.binance.endpoints import BOOK_TICKERS, EXCHANGE_INFO, KLINES, LIMITS
from resender.core.binance.markets import INTERVALS, Market
from resender.core.binance.routing import resolve
from resender.core.weights.table import POOL_OF, charge

NAMED = [*KLINES.items(), *BOOK_TICKERS.items(), *EXCHANGE_INFO.items()]


@pytest.mark.parametrize(("market", "target"), NAMED)
def test_path_leads_to_the_host_of_its_market(market: Market, target: str) -> None:
    route = resolve(target)
    assert (route.market, route.path) == (market, target.partition("?")[0])


def test_every_market_with_candles_has_each_path() -> None:
    assert set(KLINES) == set(BOOK_TICKERS) == set(EXCHANGE_INFO) == set(INTERVALS)


@pytest.mark.parametrize(("market", "target"), NAMED)
def test_path_is_public_data_of_the_pool_of_its_market(market: Market, target: str) -> None:
    path, _, query = target.partition("?")
    found = charge(market, "GET", path, query)
    assert found.is_public
    assert found.pool == POOL_OF[market]


def test_limits_of_a_pool_are_read_in_that_pool_and_only_where_exchange_info_tells_them() -> None:
    assert set(LIMITS) == {"spot", "futures", "options"}
    for pool, targets in LIMITS.items():
        for market, target in targets:
            path, _, query = target.partition("?")
            assert charge(market, "GET", path, query).pool == pool
            assert path.endswith("/exchangeInfo")


def test_spot_asks_for_symbols_that_are_traded_and_without_what_nobody_reads() -> None:
    assert EXCHANGE_INFO[Market.SPOT].partition("?")[2] == "showPermissionSets=false&symbolStatus=TRADING"
