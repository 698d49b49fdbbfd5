"""What the methods of the WebSocket APIs cost, out of the table of REST calls they stand for.

Pure. A method weighs what its REST call weighs, by the same parameters.
Source: Binance's web-socket-api.md of 2026-07-21 and the WebSocket APIs of the derivatives SDKs of 2026-08-21:
    spot and COIN-M share the weight of their REST hosts, USD-M has a limit of its own.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from resender.core.binance.markets import Market
from resender.core.weights.rules import Charge
from resender.core.weights.table import POOL_OF, WS_UM_POOL, charge

# Shape: a line is a method, and the REST method and path under the market's root, or its weight.
_SPOT = """
ping                          GET ping
time                          GET time
exchangeInfo                  GET exchangeInfo
executionRules                GET executionRules
depth                         GET depth
trades.recent                 GET trades
trades.historical             GET historicalTrades
trades.aggregate              GET aggTrades
blockTrades.historical        GET historicalBlockTrades
klines                        GET klines
uiKlines                      GET uiKlines
avgPrice                      GET avgPrice
ticker.24hr                   GET ticker/24hr
ticker.tradingDay             GET ticker/tradingDay
ticker                        GET ticker
ticker.price                  GET ticker/price
ticker.book                   GET ticker/bookTicker
referencePrice                GET referencePrice
referencePrice.calculation    GET referencePrice/calculation
session.logon                 2
session.status                2
session.logout                2
session.subscriptions         2
order.place                   POST order
order.test                    POST order/test
order.status                  GET order
order.cancel                  DELETE order
order.cancelReplace           POST order/cancelReplace
order.amend.keepPriority      PUT order/amend/keepPriority
order.amendments              GET order/amendments
openOrders.status             GET openOrders
openOrders.cancelAll          DELETE openOrders
orderList.place               POST order/oco
orderList.place.oco           POST orderList/oco
orderList.place.oto           POST orderList/oto
orderList.place.otoco         POST orderList/otoco
orderList.place.opo           POST orderList/opo
orderList.place.opoco         POST orderList/opoco
orderList.status              GET orderList
orderList.cancel              DELETE orderList
openOrderLists.status         GET openOrderList
sor.order.place               POST sor/order
sor.order.test                POST sor/order/test
account.status                GET account
account.commission            GET account/commission
account.rateLimits.orders     GET rateLimit/order
allOrders                     GET allOrders
allOrderLists                 GET allOrderList
myTrades                      GET myTrades
myPreventedMatches            GET myPreventedMatches
myAllocations                 GET myAllocations
myFilters                     GET myFilters
userDataStream.subscribe      2
userDataStream.subscribe.signature    2
userDataStream.subscribe.listenToken  2
userDataStream.unsubscribe    2
userDataStream.start          2
userDataStream.ping           2
userDataStream.stop           2
"""
# Weights that differ from REST are those of the WebSocket API's own documentation.
_FUTURES = """
ping                          1
time                          1
session.logon                 2
session.status                2
session.logout                2
order.place                   POST v1/order
order.test                    POST v1/order/test
order.modify                  PUT v1/order
order.cancel                  DELETE v1/order
order.status                  GET v1/order
algoOrder.place               POST v1/algoOrder
algoOrder.cancel              DELETE v1/algoOrder
account.position              5
account.balance               5
account.status                5
v2/account.position           5
v2/account.balance            5
v2/account.status             5
depth                         GET v1/depth
ticker.book                   GET v1/ticker/bookTicker
ticker.price                  GET v1/ticker/price
userDataStream.start          5
userDataStream.ping           1
userDataStream.stop           1
"""
# A connection. Source: spot web-socket-api.md, "General API information"; futures as third parties measured.
HANDSHAKE = {Market.SPOT: 2, Market.UM: 5, Market.CM: 5}
# What is not in the table: reading lists costs 20 on spot, and what is new is likelier one of those.
_UNKNOWN = {Market.SPOT: 20, Market.UM: 5, Market.CM: 5}
_ORDER_WORDS = re.compile(r"order", re.IGNORECASE)

_ROOTS = {Market.SPOT: "/api/v3/", Market.UM: "/fapi/", Market.CM: "/dapi/"}
_POOLS = {**POOL_OF, Market.UM: WS_UM_POOL}


def _table(text: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in text.split("\n"):
        if line:
            method, how, *path = line.split()
            found[method] = (how, path[0] if path else "")
    return found


_METHODS = {Market.SPOT: _table(_SPOT), Market.UM: _table(_FUTURES), Market.CM: _table(_FUTURES)}


def known_methods(market: Market) -> tuple[str, ...]:
    """List the methods in the table of a market."""
    return tuple(_METHODS[market])


def handshake_charge(market: Market) -> Charge:
    """Return what opening a connection costs."""
    return Charge(HANDSHAKE[market], _POOLS[market])


def method_charge(market: Market, method: str, params: dict[str, Any]) -> Charge:
    """Return what one request costs.

    Shape: `params` as the client sent them, parsed.
    """
    pool = _POOLS[market]
    found = _METHODS[market].get(method)
    if found is None:
        return Charge(_UNKNOWN[market], pool, None, bool(_ORDER_WORDS.search(method)))
    how, path = found
    if how.isdigit():
        return Charge(int(how), pool)
    cost = charge(market, how, _ROOTS[market] + path, _query(params))
    return Charge(cost.weight, pool, None, cost.is_order, cost.is_public)


def _query(params: dict[str, Any]) -> str:
    pairs = []
    for name, value in params.items():
        if value is None:
            continue
        try:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
        except orjson.JSONEncodeError:
            continue  # nested too deeply: the rule takes the dearest
        pairs.append(f"{name}={text}")
    return "&".join(pairs)
