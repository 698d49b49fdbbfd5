"""Weights of sub-accounts, earn, staking, loans and the rest of /sapi."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.weights import sapi, sapi_products
from resender.core.weights.table import charge


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("method", "path", "weight", "pool"),
    [
        ("GET", "v1/sub-account/status", 10, "sapi:/sapi/v1/sub-account/status"),
        ("GET", "v1/sub-account/subAccountApi", 3000, "sapi-uid:/sapi/v1/sub-account/subAccountApi"),
        ("GET", "v1/fiat/orders", 90000, "sapi-uid:/sapi/v1/fiat/orders"),
        ("POST", "v2/fiat/withdraw", 45000, "sapi-uid:/sapi/v2/fiat/withdraw"),
        ("GET", "v1/pay/transactions", 3000, "sapi-uid:/sapi/v1/pay/transactions"),
        ("GET", "v1/mining/payment/list", 5, "sapi:/sapi/v1/mining/payment/list"),
    ],
)
def test_path_is_charged_in_a_counter_of_its_own(method: str, path: str, weight: int, pool: str) -> None:
    found = charge(Market.SPOT, method, sapi.ROOT + path, "")
    assert (found.weight, found.pool) == (weight, pool)


def test_no_path_stands_in_both_tables_of_sapi() -> None:
    products = {(method, path) for method, path, *_ in lines(sapi_products.TABLE)}
    assert not products & {(method, path) for method, path, *_ in lines(sapi.TABLE)}


def test_no_call_here_costs_more_than_its_counter_has_in_a_minute() -> None:
    for method, path, weight, *words in lines(sapi_products.TABLE):
        if weight.isdecimal():
            assert int(weight) <= (180_000 if "uid" in words else 12_000), (method, path)


def test_nothing_here_is_public_market_data() -> None:
    assert [path for _, path, _, *words in lines(sapi_products.TABLE) if "public" in words] == []
    assert not charge(Market.SPOT, "GET", "/sapi/v1/sub-account/list", "").is_public
