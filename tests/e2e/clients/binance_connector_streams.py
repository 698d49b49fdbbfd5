"""Listen through a gateway with binance-connector and print what came, as one JSON document.

Run by tests/e2e/test_client_streams.py with the library's own Python:
`binance_connector_streams.py URL KEY SECRET HEADERS`.
"""

import json
import queue
import sys

from binance.websocket.spot.websocket_api import SpotWebsocketAPIClient
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

URL, KEY, SECRET = sys.argv[1:4]
WS = URL.replace("http", "ws", 1)
WAIT_S = 10
results = {}


class Ear:
    """One client of the library and what it was told."""

    def __init__(self, kind, **options):
        self.heard = queue.Queue()
        self.client = kind(on_message=self.hear, on_pong=lambda *_: self.heard.put({"pong": True}), **options)

    def hear(self, _, message):
        self.heard.put(json.loads(message))

    def first(self, fits):
        """Return the first message that fits, whatever comes between."""
        while True:
            message = self.heard.get(timeout=WAIT_S)
            if fits(message):
                return message

    def stop(self):
        self.client.stop()
        return self.client.socket_manager.is_alive()


STREAMS = {"stream_url": f"{WS}/stream.binance.com"}
raw = Ear(SpotWebsocketStreamClient, **STREAMS)
raw.client.kline("BTCUSDT", "1m", id=11)
results["ack"] = raw.first(lambda m: "id" in m)
raw.client.book_ticker("ETHUSDT")
raw.client.list_subscribe(id=12)
results["list"] = raw.first(lambda m: m.get("id") == 12)
results["kline"] = raw.first(lambda m: m.get("e") == "kline")
results["bookTicker"] = raw.first(lambda m: "u" in m and "A" in m)
raw.client.ping()
results["pong"] = raw.first(lambda m: "pong" in m)
raw.client.kline("BTCUSDT", "1m", action=SpotWebsocketStreamClient.ACTION_UNSUBSCRIBE, id=13)
results["unsubscribed"] = raw.first(lambda m: m.get("id") == 13)
results["alive"] = raw.stop()

combined = Ear(SpotWebsocketStreamClient, is_combined=True, **STREAMS)
combined.client.subscribe(["btcusdt@trade", "btcusdt@depth@100ms"])
results["trade"] = combined.first(lambda m: m.get("stream") == "btcusdt@trade")
results["depth"] = combined.first(lambda m: m.get("stream") == "btcusdt@depth@100ms")
combined.stop()

exact = Ear(SpotWebsocketStreamClient, time_unit="MICROSECOND", **STREAMS)
exact.client.kline("BTCUSDT", "1m")
results["microseconds"] = exact.first(lambda m: m.get("e") == "kline")
exact.stop()

api = Ear(SpotWebsocketAPIClient, stream_url=f"{WS}/ws-api/v3", api_key=KEY, api_secret=SECRET)
api.client.ping_connectivity(id="a")
results["ping"] = api.first(lambda m: m.get("id") == "a")
api.client.order_book("BTCUSDT", id="b", limit=5)
results["order book"] = api.first(lambda m: m.get("id") == "b")
order = {"timeInForce": "GTC", "quantity": 0.001, "price": 50000}
api.client.new_order(symbol="BTCUSDT", side="BUY", type="LIMIT", id="c", **order)
results["order"] = api.first(lambda m: m.get("id") == "c")
number = results["order"]["result"]["orderId"]
api.client.cancel_order("BTCUSDT", orderId=number, id="d")
results["cancel"] = api.first(lambda m: m.get("id") == "d")
api.client.cancel_order("BTCUSDT", orderId=number, id="e")
results["error"] = api.first(lambda m: m.get("id") == "e")
api.stop()
json.dump(results, sys.stdout)
