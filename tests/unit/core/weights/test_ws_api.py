"""What the methods of the WebSocket APIs cost, with the figures of Binance's own documentation."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.binance.markets import WS_API_HOSTS, Market
from resender.core.egress.state import Limits
from resender.core.weights.table import _TABLE, FUTURES_POOL, POOL_OF, SPOT_POOL, WS_UM_POOL, Charge
from resender.core.weights.ws_api import (
    _METHODS,
    _ROOTS,
    handshake_charge,
    known_methods,
    method_charge,
)

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
ALL = [(market, method) for market in WS_API_HOSTS for method in known_methods(market)]


def weight(method: str, market: Market = SPOT, **params: Any) -> int:
    return method_charge(market, method, params).weight


@pytest.mark.parametrize(("market", "method"), ALL)
def test_every_known_method_has_a_charge_in_its_markets_pool(market: Market, method: str) -> None:
    charge = method_charge(market, method, {})
    assert charge.weight >= (0 if charge.is_order else 1)
    assert charge.pool == {SPOT: SPOT_POOL, UM: WS_UM_POOL, CM: FUTURES_POOL}[market]


@pytest.mark.parametrize(("market", "method"), ALL)
def test_call_a_method_stands_for_is_in_the_table_of_weights(market: Market, method: str) -> None:
    how, path = _METHODS[market][method]
    if not how.isdigit():
        assert _ROOTS[market] + path in _TABLE[how]


def test_usd_m_alone_has_a_limit_apart_from_rest() -> None:
    assert handshake_charge(SPOT) == Charge(2, POOL_OF[SPOT])
    assert handshake_charge(UM) == Charge(5, WS_UM_POOL)
    assert handshake_charge(CM) == Charge(5, POOL_OF[CM])
    assert WS_UM_POOL not in POOL_OF.values()
    assert Limits().of(WS_UM_POOL) == 2400


# Source: web-socket-api.md of 2026-07-21.
@pytest.mark.parametrize(
    ("limit", "cost"),
    [(1, 5), (100, 5), (101, 25), (500, 25), (501, 50), (1000, 50), (1001, 250), (5000, 250)],
)  # fmt: skip
def test_depth_of_spot_costs_by_its_limit(limit: int, cost: int) -> None:
    assert weight("depth", symbol="BTCUSDT", limit=limit) == cost
    assert weight("depth", symbol="BTCUSDT") == 5


@pytest.mark.parametrize("market", [UM, CM])
@pytest.mark.parametrize(("limit", "cost"), [(5, 2), (50, 2), (100, 5), (500, 10), (1000, 20)])
def test_depth_of_futures_costs_by_its_limit(market: Market, limit: int, cost: int) -> None:
    assert weight("depth", market, symbol="BTCUSDT", limit=limit) == cost


def test_open_orders_cost_by_whether_a_symbol_is_named() -> None:
    assert weight("openOrders.status", symbol="BTCUSDT", apiKey="k" * 64, timestamp=1) == 6
    assert weight("openOrders.status", apiKey="k" * 64, timestamp=1) == 80
    assert weight("openOrders.status", symbol=None) == 80
    assert weight("openOrders.status", symbol="") == 80


@pytest.mark.parametrize(
    ("method", "params", "cost"),
    [
        ("ping", {}, 1), ("time", {}, 1), ("exchangeInfo", {}, 20), ("exchangeInfo", {"symbol": "BTCUSDT"}, 20),
        ("trades.recent", {"symbol": "BTCUSDT"}, 25), ("trades.historical", {}, 25), ("trades.aggregate", {}, 4),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m"}, 2), ("uiKlines", {}, 2), ("avgPrice", {}, 2),
        ("ticker.24hr", {"symbol": "BTCUSDT"}, 2), ("ticker.24hr", {}, 80),
        ("ticker.24hr", {"symbols": [f"S{n}" for n in range(20)]}, 2), ("ticker.24hr", {"symbols": ["A"] * 21}, 40),
        ("ticker", {"symbols": ["A", "B", "C"]}, 12), ("ticker.tradingDay", {"symbols": ["A", "B"]}, 8),
        ("ticker.price", {"symbol": "BTCUSDT"}, 2), ("ticker.price", {}, 4), ("ticker.book", {"symbols": ["A"]}, 4),
        ("account.status", {}, 20), ("allOrders", {"symbol": "BTCUSDT"}, 20), ("myTrades", {"symbol": "BTCUSDT"}, 20),
        ("order.status", {}, 4), ("order.place", {}, 1),
        ("order.cancel", {}, 1), ("order.test", {}, 1), ("order.test", {"computeCommissionRates": True}, 20),
        ("sor.order.test", {"computeCommissionRates": True}, 20), ("session.logon", {}, 2),
        ("userDataStream.subscribe.signature", {}, 2), ("account.rateLimits.orders", {}, 40),
    ],
)  # fmt: skip
def test_method_of_spot_costs_what_its_parameters_make_it(
    method: str, params: dict[str, Any], cost: int
) -> None:
    assert method_charge(SPOT, method, params).weight == cost


@pytest.mark.parametrize(
    ("method", "cost"),
    [
        ("account.balance", 5), ("v2/account.balance", 5), ("account.position", 5), ("v2/account.status", 5),
        ("session.logon", 2), ("userDataStream.start", 5), ("userDataStream.ping", 1), ("order.status", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("market", [UM, CM])
def test_method_of_futures_costs_what_its_documentation_says(market: Market, method: str, cost: int) -> None:
    assert weight(method, market) == cost


def test_methods_that_place_change_or_cancel_orders_have_the_orders_reserve() -> None:
    orders = {method for market, method in ALL if method_charge(market, method, {}).is_order}
    assert orders == {
        "order.place", "order.test", "order.cancel", "order.cancelReplace", "order.amend.keepPriority", "order.modify",
        "openOrders.cancelAll", "orderList.place", "orderList.place.oco", "orderList.place.oto",
        "orderList.place.otoco",
        "orderList.place.opo", "orderList.place.opoco", "orderList.cancel", "sor.order.place", "sor.order.test",
        "algoOrder.place", "algoOrder.cancel",
    }  # fmt: skip


@pytest.mark.parametrize("market", [SPOT, UM, CM])
def test_unknown_method_is_charged_carefully(market: Market) -> None:
    charge = method_charge(market, "somethingNew.list", {"symbol": "BTCUSDT"})
    assert charge.weight == (20 if market is SPOT else 5)
    assert not charge.is_order
    assert method_charge(market, "superOrder.place", {}).is_order


@pytest.mark.parametrize(
    "params",
    [{"limit": "5000"}, {"limit": 5000.0}, {"limit": True}, {"limit": [5]}, {"limit": {"a": 1}},
     {"limit": -1}, {"limit": 0}, {"limit": 10**18}],
)  # fmt: skip
def test_limit_that_is_no_plain_number_is_no_cheaper(params: dict[str, Any]) -> None:
    assert weight("depth", **params) == 250
