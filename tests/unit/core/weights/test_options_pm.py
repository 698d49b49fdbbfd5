"""Weights of options and of portfolio margin, each in a pool of its own."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.weights import options_pm
from resender.core.weights.table import charge, table_lines

OPTIONS = [line for line in table_lines() if line[1].startswith(options_pm.OPTIONS_ROOT)]
PM = [line for line in table_lines() if line[1].startswith(options_pm.PM_ROOT)]


def test_each_has_a_pool_of_its_own() -> None:
    assert {pool for _, _, _, pool, _ in OPTIONS} == {"options"}
    assert {pool for _, _, _, pool, _ in PM} == {"pm"}


@pytest.mark.parametrize(
    ("method", "target", "weight", "is_order"),
    [
        ("GET", "depth?symbol=X", 5, False),
        ("GET", "depth?limit=50", 1, False),
        ("GET", "depth?limit=1000", 20, False),
        ("GET", "ticker?symbol=X", 5, False),
        ("GET", "ticker", 40, False),
        ("GET", "openOrders", 40, False),
        ("POST", "order", 1, True),
        ("POST", "batchOrders", 5, True),
        ("DELETE", "allOpenOrdersByUnderlying", 5, True),
    ],
)
def test_options_cost_as_documented(method: str, target: str, weight: int, is_order: bool) -> None:
    path, _, query = target.partition("?")
    found = charge(Market.OPTIONS, method, options_pm.OPTIONS_ROOT + path, query)
    assert (found.weight, found.is_order) == (weight, is_order)


@pytest.mark.parametrize(
    ("method", "target", "weight", "is_order"),
    [
        ("GET", "v1/ping", 1, False),
        ("POST", "v1/um/order", 1, True),
        ("DELETE", "v1/margin/allOpenOrders", 5, True),
        ("GET", "v1/um/openOrders?symbol=X", 1, False),
        ("GET", "v1/um/openOrders", 40, False),
        ("GET", "v1/cm/allOrders?symbol=X", 20, False),
        ("GET", "v1/cm/allOrders?pair=X", 40, False),
        ("GET", "v1/margin/allOrders", 100, False),
        ("GET", "v1/account", 20, False),
    ],
)
def test_portfolio_margin_costs_as_documented(method: str, target: str, weight: int, is_order: bool) -> None:
    path, _, query = target.partition("?")
    found = charge(Market.PM, method, options_pm.PM_ROOT + path, query)
    assert (found.weight, found.is_order) == (weight, is_order)


def test_portfolio_margin_has_no_market_data() -> None:
    assert [path for _, path, *_, words in PM if "public" in words] == ["/papi/v1/ping"]


def test_usd_m_and_coin_m_orders_of_portfolio_margin_cost_the_same() -> None:
    costs = {(method, path): weight for method, path, weight, *_ in PM}
    for (method, path), weight in costs.items():
        twin = path.replace("/um/", "/cm/")
        if method != "GET" and (method, twin) in costs:
            assert costs[method, twin] == weight, path
