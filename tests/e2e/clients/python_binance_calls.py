"""Call a gateway with python-binance and print what it returned, as one JSON document.

Run by tests/e2e/test_python_binance.py with the library's own Python:
`python_binance_calls.py URL KEY SECRET HEADERS`.
"""

import json
import sys

from binance.client import Client
from binance.exceptions import BinanceAPIException

URL, KEY, SECRET, STRANGER = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
results = {}


class Gateway(Client):
    """The library's client, with the gateway in the place of Binance."""

    API_URL = f"{URL}/api"
    MARGIN_API_URL = f"{URL}/sapi"
    FUTURES_URL = f"{URL}/fapi"
    FUTURES_COIN_URL = f"{URL}/dapi"
    # Both futures hosts have /futures/data: the prefix tells which one is meant.
    FUTURES_DATA_URL = f"{URL}/fapi/futures/data"
    FUTURES_COIN_DATA_URL = f"{URL}/dapi/futures/data"
    OPTIONS_URL = f"{URL}/eapi"
    PAPI_URL = f"{URL}/papi"


def error_of(function, **arguments):
    """Return what the library says of an error."""
    try:
        function(**arguments)
    except BinanceAPIException as error:
        return {
            "status": error.status_code,
            "code": error.code,
            "message": error.message,
            "retry after": error.response.headers.get("Retry-After"),
            "by gateway": error.response.headers.get("X-Resender-Error"),
        }
    return None


# Its constructor pings.
client = Gateway(KEY, SECRET)
client.session.headers.update(STRANGER)


def headers():
    """Return the headers of the last answer that tell of limits, the way users of the library do."""
    return {n.lower(): v for n, v in client.response.headers.items() if n.lower().startswith("x-mbx-")}


results["time"] = client.get_server_time()
results["sapi"] = client.get_system_status()
results["klines kinds"] = {
    "um": client.futures_continuous_klines(pair="BTCUSDT", contractType="PERPETUAL", interval="1m", limit=3),
    "mark": client.futures_mark_price_klines(symbol="BTCUSDT", interval="1m", limit=3),
}
results["data"] = {
    "um": client.futures_open_interest_hist(symbol="BTCUSDT", period="5m", limit=2),
    "cm": client.futures_coin_open_interest_hist(pair="BTCUSD", contractType="ALL", period="5m", limit=2),
}
results["non-ascii"] = client.futures_klines(symbol="币安人生USDT", interval="1m", limit=2)
results["listen key"] = client.futures_stream_get_listen_key()
results["listen key kept"] = client.futures_stream_keepalive(results["listen key"])
results["listen key closed"] = client.futures_stream_close(results["listen key"])

MARKETS = {
    "spot": ("BTCUSDT", {
        "klines": client.get_klines, "bookTicker": client.get_orderbook_ticker,
        "info": client.get_exchange_info, "order": client.create_order, "open": client.get_open_orders,
        "cancel": client.cancel_order, "get": client.get_order, "account": client.get_account,
    }),
    "um": ("BTCUSDT", {
        "klines": client.futures_klines, "bookTicker": client.futures_orderbook_ticker,
        "info": client.futures_exchange_info, "order": client.futures_create_order,
        "open": client.futures_get_open_orders, "cancel": client.futures_cancel_order,
        "get": client.futures_get_order, "account": client.futures_account,
    }),
    "cm": ("BTCUSD_PERP", {
        "klines": client.futures_coin_klines, "bookTicker": client.futures_coin_orderbook_ticker,
        "info": client.futures_coin_exchange_info, "order": client.futures_coin_create_order,
        "open": client.futures_coin_get_open_orders, "cancel": client.futures_coin_cancel_order,
        "get": client.futures_coin_get_order, "account": client.futures_coin_account,
    }),
}  # fmt: skip
for name, (symbol, do) in MARKETS.items():
    found = results[name] = {}
    found["klines"] = do["klines"](symbol=symbol, interval="1m", limit=3)
    found["klines headers"] = headers()
    found["bookTicker"] = do["bookTicker"](symbol=symbol)
    found["info"] = [row["symbol"] for row in do["info"]()["symbols"]]
    found["order"] = do["order"](
        symbol=symbol,
        side="BUY",
        type="LIMIT",
        timeInForce="GTC",
        quantity="1" if name == "cm" else "0.001",
        price="50000.1",
    )
    found["order headers"] = headers()
    number = found["order"]["orderId"]
    found["open"] = do["open"](symbol=symbol)
    found["get"] = do["get"](symbol=symbol, orderId=number)
    found["cancel"] = do["cancel"](symbol=symbol, orderId=number)
    found["open after"] = do["open"](symbol=symbol)
    found["account"] = do["account"]()
    found["unknown symbol"] = error_of(do["klines"], symbol="NOSUCHUSDT", interval="1m")
    found["unknown order"] = error_of(do["cancel"], symbol=symbol, orderId=1)

results["wrong secret"] = error_of(Gateway(KEY, "wrong", ping=False).get_account)
results["banned"] = error_of(client.get_avg_price, symbol="BTCUSDT")
results["unreachable"] = error_of(client.papi_ping)
json.dump(results, sys.stdout)
