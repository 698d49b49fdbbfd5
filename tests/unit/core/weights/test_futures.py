"""Weights of USD-M and COIN-M: one budget, the same figures on both hosts but for what exists on one only."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.weights import futures
from resender.core.weights.table import EXTRA_LIMITS, charge, table_lines

HOSTS = [(Market.UM, "fapi"), (Market.CM, "dapi")]
LINES = [line for line in table_lines() if line[3] == "futures"]


@pytest.mark.parametrize(("market", "prefix"), HOSTS)
@pytest.mark.parametrize(
    ("limit", "weight"),
    [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10), (1500, 10), (None, 5)],
)
@pytest.mark.parametrize("name", ["klines", "markPriceKlines", "continuousKlines"])
def test_candles_cost_by_their_limit(
    market: Market, prefix: str, name: str, limit: int | None, weight: int
) -> None:
    query = "symbol=X&interval=1m" + (f"&limit={limit}" if limit is not None else "")
    assert charge(market, "GET", f"/{prefix}/v1/{name}", query).weight == weight


@pytest.mark.parametrize(("limit", "weight"), [(50, 2), (51, 5), (100, 5), (500, 10), (501, 20), (1000, 20)])
def test_depth_costs_by_its_limit(limit: int, weight: int) -> None:
    for market, prefix in HOSTS:
        assert charge(market, "GET", f"/{prefix}/v1/depth", f"limit={limit}").weight == weight


def test_what_stands_for_both_hosts_costs_the_same_on_both() -> None:
    of_um = {path.replace("/fapi/", "/*/"): weight for _, path, weight, *_ in LINES if "/fapi/" in path}
    of_cm = {path.replace("/dapi/", "/*/"): weight for _, path, weight, *_ in LINES if "/dapi/" in path}
    for line in futures.BOTH.splitlines():
        if line and not line.startswith("#"):
            path = line.split()[1]
            assert of_um[path] == of_cm[path], path


def test_no_weight_is_taken_for_placing_an_order_on_either_host() -> None:
    for market, prefix in HOSTS:
        found = charge(market, "POST", f"/{prefix}/v1/order", "symbol=X")
        assert (found.weight, found.is_order, found.pool) == (0, True, "futures")


def test_further_allowances_are_named_where_there_is_one() -> None:
    named = {word for *_, words in LINES for word in words if word in EXTRA_LIMITS}
    assert named == set(EXTRA_LIMITS)
    funding = [path for _, path, *_, words in LINES if "um-funding" in words]
    assert funding == ["/fapi/v1/fundingRate", "/fapi/v1/fundingInfo"]
    assert all(("futures-data" in words) == path.startswith("/futures/data/") for _, path, *_, words in LINES)


def test_premium_of_one_symbol_is_cheaper_on_usd_m_only() -> None:
    assert charge(Market.UM, "GET", "/fapi/v1/premiumIndex", "symbol=BTCUSDT").weight == 1
    assert charge(Market.UM, "GET", "/fapi/v1/premiumIndex", "").weight == 10
    assert charge(Market.CM, "GET", "/dapi/v1/premiumIndex", "symbol=BTCUSD_PERP").weight == 10
