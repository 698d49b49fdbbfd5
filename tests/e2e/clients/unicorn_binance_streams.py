"""Listen through a gateway with unicorn-binance-websocket-api and print what came, as one JSON document.

Run by tests/e2e/test_client_streams.py with the library's own Python:
`unicorn_binance_streams.py URL KEY SECRET HEADERS`.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from unicorn_binance_rest_api import BinanceRestApiManager
from unicorn_binance_websocket_api import BinanceWebSocketApiManager

URL, KEY, SECRET = sys.argv[1:4]
WS = URL.replace("http", "ws", 1)
WAIT_S = 10
QUIET = {"warn_on_update": False, "disable_colorama": True}
ACCOUNT = {"api_key": KEY, "api_secret": SECRET}
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "time_in_force": "GTC"}


class Gateway(BinanceRestApiManager):
    """What the library fetches a listenKey with. Left to itself it asks Binance for the time first."""

    API_URL = f"{URL}/api"
    FUTURES_URL = f"{URL}/fapi"


def manager(exchange, stream, api=None):
    return BinanceWebSocketApiManager(
        exchange=exchange,
        websocket_base_uri=f"{WS}/{stream}/",
        websocket_api_base_uri=f"{WS}/{api}" if api else None,
        output_default="dict",
        **QUIET,
    )


def first(one, stream_id, fits):
    """Return the first message that fits out of a stream's buffer."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        message = one.pop_stream_data_from_stream_buffer(stream_id)
        if message and fits(message):
            return message
        time.sleep(0.01)
    raise TimeoutError(f"nothing of {one.get_stream_label(stream_id)} fitted")


def market(exchange, stream, symbol, other):
    """Listen to both classes of streams, and subscribe to more while listening."""
    with manager(exchange, stream) as one:
        klines = one.create_stream(["kline_1m", "aggTrade"], [symbol], stream_buffer_name=True)
        books = one.create_stream("bookTicker", [symbol, other], stream_buffer_name=True)
        found = {}
        for name in (f"{symbol}@kline_1m", f"{symbol}@aggTrade"):
            found[name] = first(one, klines, lambda m, name=name: m.get("stream") == name)
        for name in (f"{symbol}@bookTicker", f"{other}@bookTicker"):
            found[name] = first(one, books, lambda m, name=name: m.get("stream") == name)
        one.subscribe_to_stream(books, channels="depth5")
        found["later"] = first(one, books, lambda m: m.get("stream") == f"{symbol}@depth5")
        return found


def account_of_spot():
    with manager("binance.com", "stream.binance.com", "ws-api/v3") as one:
        user = one.create_stream("arr", "!userData", stream_buffer_name=True, **ACCOUNT)
        api = one.create_stream(api=True, **ACCOUNT)
        ask = {"stream_id": api, "return_response": True}
        found = {"book": one.api.spot.get_order_book(symbol="BTCUSDT", limit=5, **ask)}
        order = {"new_client_order_id": "ubwa-spot", "quantity": 0.001, "price": 50000, **ORDER}
        found["order"] = one.api.spot.create_order(**order, **ask)
        found["event"] = first(one, user, lambda m: m.get("event", m).get("e") == "executionReport")
        return found


def account_of_um():
    with manager("binance.com-futures", "fstream.binance.com", "ws-fapi/v1") as one:
        one.restclient.ubra = Gateway(tld="com", **QUIET)
        user = one.create_stream("arr", "!userData", stream_buffer_name=True, **ACCOUNT)
        api = one.create_stream(api=True, **ACCOUNT)
        ask = {"stream_id": api, "return_response": True}
        # Of its own it numbers the orders of a manager from 1, which an account has had already.
        order = {"new_client_order_id": "ubwa-um", "quantity": 0.001, "price": 50000, **ORDER}
        found = {"order": one.api.futures.create_order(**order, **ask)}
        found["event"] = first(one, user, lambda m: m.get("e") == "ORDER_TRADE_UPDATE")
        return found


# Each stream takes the library seconds to begin.
with ThreadPoolExecutor(5) as pool:
    asked = {
        "spot": pool.submit(market, "binance.com", "stream.binance.com", "btcusdt", "ethusdt"),
        "um": pool.submit(market, "binance.com-futures", "fstream.binance.com", "btcusdt", "ethusdt"),
        "cm": pool.submit(
            market, "binance.com-coin_futures", "dstream.binance.com", "btcusd_perp", "ethusd_perp"
        ),
        "spot account": pool.submit(account_of_spot),
        "um account": pool.submit(account_of_um),
    }
    results = {name: one.result() for name, one in asked.items()}
json.dump(results, sys.stdout)
