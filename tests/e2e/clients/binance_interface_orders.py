"""Trade at random through a gateway with binance-interface, see order_play.py.

Run by tests/e2e/test_accounts_clients.py: `binance_interface_orders.py URL KEY SECRET HEADERS`.
"""

import json
import sys

from binance_interface.api import API
from order_play import Play

URL, KEY, SECRET = sys.argv[1:4]
COUNT, SEED = 23, 1
api = API(KEY, SECRET, proxy_host=URL)
TRADES = {"spot": api.spot.trade, "um": api.um.accountTrade, "cm": api.cm.accountTrade}


def data(result):
    assert result["code"] == 200, result
    return result["data"]


def limit(trade, symbol, side, quantity, price):
    order = trade.set_order(
        symbol=symbol, side=side, type="LIMIT", timeInForce="GTC", quantity=quantity, price=price
    )
    return data(order)["orderId"]


def replace(order, quantity, price):
    """Amend on spot: the library has no amendment that keeps the priority."""
    symbol, number, side, *_ = order
    result = api.spot.trade.set_order_cancelReplace(
        symbol=symbol, side=side, type="LIMIT", cancelReplaceMode="STOP_ON_FAILURE", timeInForce="GTC",
        quantity=quantity, price=price, cancelOrderId=number,
    )  # fmt: skip
    return data(result)["newOrderResponse"]["orderId"]


def alter(trade, order, quantity, price):
    symbol, number, side, *_ = order
    return data(trade.alter_order(orderId=number, symbol=symbol, side=side, quantity=quantity, price=price))[
        "orderId"
    ]


results = {}
for seed, (market, trade) in enumerate(TRADES.items(), SEED * 10):
    play = Play(
        ("BTCUSD_PERP", "ETHUSD_PERP") if market == "cm" else ("BTCUSDT", "ETHUSDT"),
        (1, 2, 3) if market == "cm" else (0.001, 0.002, 0.005),
        lambda *order, trade=trade: limit(trade, *order),
        replace if market == "spot" else (lambda *order, trade=trade: alter(trade, *order)),
        lambda symbol, number, trade=trade: data(trade.cancel_order(symbol=symbol, orderId=number)),
        lambda symbol, trade=trade: data(trade.get_openOrders(**({"symbol": symbol} if symbol else {}))),
    )
    results[market] = play.run(COUNT, seed)
json.dump(results, sys.stdout)
