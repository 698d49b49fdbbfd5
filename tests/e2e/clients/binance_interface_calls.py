"""Call a gateway with binance-interface and print what it returned, as one JSON document.

Run by tests/e2e/test_binance_interface.py with the library's own Python:
`binance_interface_calls.py URL KEY SECRET HEADERS`.
"""

import json
import sys

from binance_interface.api import API

URL, KEY, SECRET, STRANGER = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
results = {}

# Literally as its README has it, with the gateway's address.
results["readme"] = API(proxy_host=URL).spot.market.get_ticker_bookTicker(symbol="BTCUSDT")
results["slash"] = API(proxy_host=URL + "/").spot.market.get_ticker_bookTicker(symbol="BTCUSDT")
results["slash signed"] = API(KEY, SECRET, proxy_host=URL + "/").um.accountTrade.get_balance()

api = API(KEY, SECRET, proxy_host=URL)

# The exchange drops the connection after it has the order: the library must not send it again.
results["lost order"] = api.spot.trade.set_order(
    symbol="ETHUSDT", side="BUY", type="LIMIT", timeInForce="GTC", quantity=0.5, price=2000
)
results["lost cancel"] = api.um.accountTrade.cancel_order(symbol="ETHUSDT", orderId=1)

MARKETS = {
    "spot": (api.spot.market, api.spot.trade, api.spot.account, "BTCUSDT", 0.001),
    "um": (api.um.market, api.um.accountTrade, api.um.accountTrade, "BTCUSDT", 0.001),
    "cm": (api.cm.market, api.cm.accountTrade, api.cm.accountTrade, "BTCUSD_PERP", 1),
}
for name, (market, trade, account, symbol, quantity) in MARKETS.items():
    trade.session.headers.update(STRANGER)
    found = results[name] = {}
    found["klines"] = market.get_klines(symbol=symbol, interval="1m", limit=3)
    found["bookTicker"] = market.get_ticker_bookTicker(symbol=symbol)
    found["order"] = trade.set_order(
        symbol=symbol, side="BUY", type="LIMIT", timeInForce="GTC", quantity=quantity, price=50000
    )
    found["open"] = trade.get_openOrders(symbol=symbol)
    found["cancel"] = trade.cancel_order(symbol=symbol, orderId=found["order"]["data"]["orderId"])
    found["open after"] = trade.get_openOrders(symbol=symbol)
    found["account"] = account.get_account()
    found["unknown symbol"] = market.get_klines(symbol="NOSUCHUSDT", interval="1m")
    found["unknown order"] = trade.cancel_order(symbol=symbol, orderId=1)

# A list becomes compact JSON in the query; '@' is signed as it is.
results["list"] = api.spot.market.get_ticker_bookTicker(symbols=["BTCUSDT", "ETHUSDT"])
results["at"] = api.um.accountTrade.cancel_order(symbol="BTCUSDT", origClientOrderId="a@b")
results["wrong secret"] = API(KEY, "wrong", proxy_host=URL).spot.account.get_account()
results["sapi"] = api.other.wallet.get_system_status()
results["data"] = {
    "um": api.um.market.get_openInterestHist(symbol="BTCUSDT", period="5m", limit=2),
    "cm": api.cm.market.get_openInterestHist(pair="BTCUSD", contractType="ALL", period="5m", limit=2),
}
results["options"] = api.eo.market.get_time()
results["unreachable"] = api.pm.market.get_ping()
json.dump(results, sys.stdout)
