"""Trade at random through a gateway with python-binance, see order_play.py.

Run by tests/e2e/test_accounts_clients.py: `python_binance_orders.py URL KEY SECRET HEADERS`.
"""

import json
import sys

from binance.client import Client
from order_play import Play

URL, KEY, SECRET = sys.argv[1:4]
COUNT, SEED = 22, 2


class Gateway(Client):
    """The library's client, with the gateway in the place of Binance."""

    API_URL = f"{URL}/api"
    FUTURES_URL = f"{URL}/fapi"
    FUTURES_COIN_URL = f"{URL}/dapi"


client = Gateway(KEY, SECRET)
CALLS = {
    "spot": (client.create_order, None, client.cancel_order, client.get_open_orders),
    "um": (
        client.futures_create_order,
        client.futures_modify_order,
        client.futures_cancel_order,
        client.futures_get_open_orders,
    ),
    "cm": (
        client.futures_coin_create_order,
        client.futures_coin_modify_order,
        client.futures_coin_cancel_order,
        client.futures_coin_get_open_orders,
    ),
}


def limit(create, symbol, side, quantity, price):
    order = create(symbol=symbol, side=side, type="LIMIT", timeInForce="GTC", quantity=quantity, price=price)
    return order["orderId"]


def reduce(order, quantity, price):
    """Amend on spot: a smaller quantity keeps the priority."""
    symbol, number, *_ = order
    params = {"symbol": symbol, "orderId": number, "newQty": quantity}
    return client._put("order/amend/keepPriority", True, data=params)["amendedOrder"]["orderId"]


def modify(change, order, quantity, price):
    symbol, number, side, *_ = order
    return change(orderId=number, symbol=symbol, side=side, quantity=quantity, price=price)["orderId"]


results = {}
for seed, (market, (create, change, cancel, ask)) in enumerate(CALLS.items(), SEED * 10):
    play = Play(
        ("BTCUSD_PERP", "ETHUSD_PERP") if market == "cm" else ("BTCUSDT", "ETHUSDT"),
        (1, 2, 3) if market == "cm" else (0.001, 0.002, 0.005),
        lambda *order, create=create: limit(create, *order),
        reduce if change is None else (lambda *order, change=change: modify(change, *order)),
        lambda symbol, number, cancel=cancel: cancel(symbol=symbol, orderId=number),
        lambda symbol, ask=ask: ask(**({"symbol": symbol} if symbol else {})),
    )
    results[market] = play.run(COUNT, seed)
json.dump(results, sys.stdout)
