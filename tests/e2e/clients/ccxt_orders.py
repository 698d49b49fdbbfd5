"""Trade at random through a gateway with ccxt, see order_play.py.

Run by tests/e2e/test_accounts_clients.py: `ccxt_orders.py URL KEY SECRET HEADERS`.
"""

import json
import re
import sys

import ccxt
from order_play import Play

URL, KEY, SECRET = sys.argv[1:4]
COUNT, SEED = 22, 3
EXCHANGES = {
    "spot": ("binance", {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"}),
    "um": ("binanceusdm", {"BTCUSDT": "BTC/USDT:USDT", "ETHUSDT": "ETH/USDT:USDT"}),
    "cm": ("binancecoinm", {"BTCUSD_PERP": "BTC/USD:BTC", "ETHUSD_PERP": "ETH/USD:ETH"}),
}


def build(kind):
    exchange = getattr(ccxt, kind)({"apiKey": KEY, "secret": SECRET, "enableRateLimit": False})
    exchange.options.update(fetchMargins=False, warnOnFetchOpenOrdersWithoutSymbol=False)
    for name, url in exchange.urls["api"].items():
        exchange.urls["api"][name] = re.sub(r"^https://(\w+)\.binance\.com", rf"{URL}/\1", url)
    return exchange


results = {}
for seed, (market, (kind, names)) in enumerate(EXCHANGES.items(), SEED * 10):
    exchange = build(kind)
    exchange.load_markets()

    def place(symbol, side, quantity, price, exchange=exchange, names=names):
        order = exchange.create_order(names[symbol], "limit", side.lower(), quantity, price)
        return order["id"]

    def amend(order, quantity, price, exchange=exchange, names=names):
        symbol, number, side, *_ = order
        return exchange.edit_order(number, names[symbol], "limit", side.lower(), quantity, price)["id"]

    play = Play(
        tuple(names),
        (1, 2, 3) if market == "cm" else (0.001, 0.002, 0.005),
        place,
        amend,
        lambda symbol, number, exchange=exchange, names=names: exchange.cancel_order(number, names[symbol]),
        lambda symbol, exchange=exchange, names=names: [
            order["info"] for order in exchange.fetch_open_orders(names.get(symbol))
        ],
    )
    results[market] = play.run(COUNT, seed)
json.dump(results, sys.stdout)
