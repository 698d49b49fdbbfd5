"""Call a gateway with binance-connector and print what it returned, as one JSON document.

Run by tests/e2e/test_binance_connector.py with the library's own Python:
`binance_connector_calls.py URL KEY SECRET HEADERS`.
"""

import json
import sys

from binance.error import ClientError
from binance.spot import Spot

URL, KEY, SECRET, STRANGER = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
results = {}


def error_of(function, *arguments, **more):
    """Return what the library says of an error."""
    try:
        function(*arguments, **more)
    except ClientError as error:
        return {
            "status": error.status_code,
            "code": error.error_code,
            "message": error.error_message,
            "data": error.error_data,
            "headers": {name.lower(): value for name, value in error.header.items()},
        }
    return None


public = Spot(base_url=URL)
results["time"] = public.time()
results["ticker"] = public.book_ticker("BTCUSDT")
results["klines"] = public.klines("BTCUSDT", "1m", limit=3)
results["list"] = public.book_ticker(symbols=["BTCUSDT", "ETHUSDT"])
results["24hr list"] = public.ticker_24hr(symbols=["BTCUSDT", "ETHUSDT"])
results["info list"] = public.exchange_info(symbols=["BTCUSDT", "ETHUSDT"])["symbols"]
results["microseconds"] = Spot(base_url=URL, time_unit="microsecond").time()
results["slash"] = Spot(base_url=URL + "/").ping()

client = Spot(KEY, SECRET, base_url=URL)
client.session.headers.update(STRANGER)
order = {"timeInForce": "GTC", "quantity": 0.001, "price": 50000}
results["order"] = client.new_order("BTCUSDT", "BUY", "LIMIT", newClientOrderId="e2e-connector-1", **order)
results["open"] = client.get_open_orders("BTCUSDT")
results["cancel"] = client.cancel_order("BTCUSDT", orderId=results["order"]["orderId"])
results["open after"] = client.get_open_orders("BTCUSDT")
results["account"] = client.account()
results["market order"] = client.new_order("BTCUSDT", "BUY", "MARKET", quoteOrderQty=100)
results["sapi"] = client.coin_info()
shown = Spot(KEY, SECRET, base_url=URL, show_limit_usage=True, show_header=True)
usage = shown.new_order("BTCUSDT", "BUY", "LIMIT", **order)
results["usage"] = {"limit_usage": usage["limit_usage"], "header": dict(usage["header"])}

results["unknown symbol"] = error_of(public.klines, "NOSUCHUSDT", "1m")
results["duplicate"] = error_of(public.book_ticker, symbols=["BTCUSDT", "BTCUSDT"])
results["refused order"] = error_of(client.new_order, "BTCUSDT", "BUY", "LIMIT", **{**order, "price": 0.001})
results["wrong secret"] = error_of(Spot(KEY, "wrong", base_url=URL).account)
results["no route"] = error_of(public.query, "/nowhere")
results["limit"] = error_of(public.avg_price, "BTCUSDT")
json.dump(results, sys.stdout)
