"""Listen through a gateway with binance-futures-connector and print what came, as one JSON document.

Run by tests/e2e/test_client_streams.py with the library's own Python:
`binance_futures_connector_streams.py URL KEY SECRET HEADERS`.
"""

import json
import queue
import sys

from binance.um_futures import UMFutures
from binance.websocket.cm_futures.websocket_client import CMFuturesWebsocketClient
from binance.websocket.um_futures.websocket_client import UMFuturesWebsocketClient

URL, KEY, SECRET = sys.argv[1:4]
WS = URL.replace("http", "ws", 1)
WAIT_S = 10
results = {}


class Ear:
    """One client of the library and what it was told."""

    def __init__(self, kind, **options):
        self.heard = queue.Queue()
        self.client = kind(on_message=lambda _, message: self.heard.put(json.loads(message)), **options)

    def first(self, fits):
        """Return the first message that fits, whatever comes between."""
        while True:
            message = self.heard.get(timeout=WAIT_S)
            if fits(message):
                return message


# It knows neither /market nor /public nor /private: Binance itself tells it only half of this.
raw = Ear(UMFuturesWebsocketClient, stream_url=f"{WS}/fstream.binance.com")
raw.client.kline(symbol="btcusdt", interval="1m", id=11)
results["ack"] = raw.first(lambda m: m.get("id") == 11)
raw.client.book_ticker(symbol="ethusdt")
raw.client.mark_price(symbol="btcusdt", speed=1)
raw.client.agg_trade(symbol="btcusdt")
raw.client.list_subscribe(id=12)
results["list"] = raw.first(lambda m: m.get("id") == 12)
for kind in ("kline", "bookTicker", "markPriceUpdate", "aggTrade"):
    results[kind] = raw.first(lambda m, kind=kind: m.get("e") == kind)

rest = UMFutures(KEY, SECRET, base_url=URL)
listen_key = rest.new_listen_key()["listenKey"]
raw.client.user_data(listen_key=listen_key, id=13)
results["user data ack"] = raw.first(lambda m: m.get("id") == 13)
order = rest.new_order("BTCUSDT", "BUY", "LIMIT", timeInForce="GTC", quantity=0.001, price=50000)
results["order event"] = raw.first(lambda m: m.get("e") == "ORDER_TRADE_UPDATE")
results["order"] = order
raw.client.stop()

combined = Ear(UMFuturesWebsocketClient, stream_url=f"{WS}/fstream.binance.com", is_combined=True)
combined.client.subscribe(["btcusdt@depth@100ms", "btcusdt@kline_1m"])
for name in ("btcusdt@depth@100ms", "btcusdt@kline_1m"):
    results[name] = combined.first(lambda m, name=name: m.get("stream") == name)
combined.client.stop()

coin = Ear(CMFuturesWebsocketClient, stream_url=f"{WS}/dstream.binance.com")
coin.client.kline(symbol="btcusd_perp", interval="1m")
results["cm kline"] = coin.first(lambda m: m.get("e") == "kline")
coin.client.stop()
json.dump(results, sys.stdout)
