"""Weights of wallet, margin, convert and algo orders: a counter for each path, by address or by user."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.weights import sapi
from resender.core.weights.table import Charge, charge


def of(method: str, target: str, body: bytes = b"") -> Charge:
    path, _, query = target.partition("?")
    return charge(Market.SPOT, method, sapi.ROOT + path, query, bool(body), body)


@pytest.mark.parametrize(
    ("method", "path", "weight", "pool"),
    [
        ("GET", "v1/accountSnapshot", 2400, "sapi:/sapi/v1/accountSnapshot"),
        ("GET", "v1/capital/config/getall", 10, "sapi:/sapi/v1/capital/config/getall"),
        ("POST", "v1/asset/dust", 10, "sapi-uid:/sapi/v1/asset/dust"),
        ("POST", "v1/asset/transfer", 900, "sapi-uid:/sapi/v1/asset/transfer"),
        ("GET", "v1/asset/transfer", 1, "sapi:/sapi/v1/asset/transfer"),
        ("GET", "v1/margin/repay", 10, "sapi:/sapi/v1/margin/repay"),
        ("POST", "v1/margin/repay", 3000, "sapi-uid:/sapi/v1/margin/repay"),
        ("GET", "v1/convert/exchangeInfo", 3000, "sapi:/sapi/v1/convert/exchangeInfo"),
        ("POST", "v1/algo/spot/newOrderTwap", 3000, "sapi-uid:/sapi/v1/algo/spot/newOrderTwap"),
    ],
)
def test_path_is_charged_in_a_counter_of_its_own(method: str, path: str, weight: int, pool: str) -> None:
    found = of(method, path)
    assert (found.weight, found.pool) == (weight, pool)


@pytest.mark.parametrize("path", ["v1/margin/order", "v1/margin/order/oco", "v1/margin/order/otoco"])
def test_margin_order_that_borrows_is_much_dearer_than_one_that_does_not(path: str) -> None:
    assert of("POST", f"{path}?side=BUY").weight == 6
    for effect in ("NO_SIDE_EFFECT", "AUTO_REPAY"):
        assert of("POST", f"{path}?sideEffectType={effect}").weight == 6
    for effect in ("MARGIN_BUY", "AUTO_BORROW_REPAY", "", "SOMETHING_NEW"):
        assert of("POST", f"{path}?sideEffectType={effect}").weight == 1500


def test_margin_order_counts_its_body_as_its_query() -> None:
    assert of("POST", "v1/margin/order", b"sideEffectType=MARGIN_BUY").weight == 1500


def test_algo_and_margin_orders_are_orders_and_their_lists_are_not() -> None:
    assert of("POST", "v1/algo/futures/newOrderVp").is_order
    assert of("DELETE", "v1/margin/orderList").is_order
    assert not of("GET", "v1/algo/futures/openOrders").is_order
    assert not of("GET", "v1/margin/orderList").is_order


def test_every_line_lies_below_the_root_and_is_a_version() -> None:
    for line in sapi.TABLE.splitlines():
        if line and not line.startswith("#"):
            path = line.split()[1]
            assert path.partition("/")[0] in {"v1", "v2", "v3"}, path
