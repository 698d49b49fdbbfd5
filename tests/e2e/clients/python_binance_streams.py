"""Listen through a gateway with python-binance and print what came, as one JSON document.

Run by tests/e2e/test_client_streams.py with the library's own Python:
`python_binance_streams.py URL KEY SECRET HEADERS`.
"""

import asyncio
import json
import logging
import queue
import sys

from binance import AsyncClient, BinanceSocketManager, ThreadedWebsocketManager
from binance.base_client import BaseClient
from binance.enums import FuturesType
from binance.exceptions import BinanceAPIException
from binance.ws.depthcache import DepthCacheManager, FuturesDepthCacheManager

URL, KEY, SECRET = sys.argv[1:4]
WS = URL.replace("http", "ws", 1)
WAIT_S = 10

# The addresses, and nothing else.
BaseClient.API_URL = f"{URL}/api"
BaseClient.MARGIN_API_URL = f"{URL}/sapi"
BaseClient.FUTURES_URL = f"{URL}/fapi"
BaseClient.FUTURES_COIN_URL = f"{URL}/dapi"
BaseClient.WS_API_URL = f"{WS}/ws-api/v3"
BaseClient.WS_FUTURES_URL = f"{WS}/ws-fapi/v1"
BinanceSocketManager.STREAM_URL = f"{WS}/stream.binance.com/"
BinanceSocketManager.FSTREAM_URL = f"{WS}/fstream.binance.com/"
BinanceSocketManager.DSTREAM_URL = f"{WS}/dstream.binance.com/"

ORDER = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "50000.1"}


async def first(socket, count=1, **wanted):
    """Return the first events that have these values, whatever comes between."""
    found = []
    while len(found) < count:
        event = await asyncio.wait_for(socket.recv(), WAIT_S)
        payload = event.get("data", event) if isinstance(event, dict) else {}
        if all(payload.get(name) == value for name, value in wanted.items()):
            found.append(event)
    return found


async def hear(socket):
    async with socket as opened:
        return (await first(opened))[0]


async def hear_all(socket, names):
    """Return one event of each stream of a connection."""
    found = {}
    async with socket as opened:
        while set(found) != set(names):
            event = await asyncio.wait_for(opened.recv(), WAIT_S)
            found[event["stream"]] = event["data"]
    return found


async def market_streams(sockets):
    um, cm = FuturesType.USD_M, FuturesType.COIN_M
    both = ["btcusdt@bookTicker", "ethusdt@kline_1m"]
    wanted = {
        "kline": sockets.kline_socket("BTCUSDT"),
        "trade": sockets.trade_socket("BTCUSDT"),
        "depth": sockets.depth_socket("BTCUSDT"),
        "depth5": sockets.depth_socket("BTCUSDT", depth="5"),
        "um kline": sockets.kline_futures_socket("BTCUSDT", futures_type=um),
        "um aggTrade": sockets.aggtrade_futures_socket("BTCUSDT", futures_type=um),
        "um depth": sockets.futures_depth_socket("BTCUSDT"),
        "um mark price": sockets.symbol_mark_price_socket("BTCUSDT"),
        "cm bookTicker": sockets.futures_multiplex_socket(["btcusd_perp@bookTicker"], cm),
        "cm kline": sockets.kline_futures_socket("BTCUSD", futures_type=cm),
    }
    found = dict(zip(wanted, await asyncio.gather(*map(hear, wanted.values())), strict=True))
    found["multiplex"] = await hear_all(sockets.multiplex_socket(both), both)
    # Both classes of streams in one connection of the class "market".
    found["um multiplex"] = await hear_all(sockets.futures_multiplex_socket(both, um), both)
    return found


async def user_data(client, sockets):
    """Place an order on each market and wait for what the account is told of it."""
    um, cm, spot = sockets.futures_user_socket(), sockets.coin_futures_user_socket(), sockets.user_socket()
    # They are left open: to close one takes the library up to ten seconds where nothing comes any more.
    await asyncio.gather(um.connect(), cm.connect(), spot.connect())
    found = {}
    placed = await client.futures_create_order(symbol="BTCUSDT", quantity="0.001", **ORDER)
    found["um"] = {"order": placed, "events": await first(um, e="ORDER_TRADE_UPDATE")}
    placed = await client.futures_coin_create_order(symbol="BTCUSD_PERP", quantity="1", **ORDER)
    found["cm"] = {"order": placed, "events": await first(cm, e="ORDER_TRADE_UPDATE")}
    placed = await client.ws_create_order(symbol="BTCUSDT", quantity="0.001", **ORDER)
    events = await first(spot, e="executionReport")
    cancelled = await client.ws_cancel_order(symbol="BTCUSDT", orderId=placed["orderId"])
    events += await first(spot, e="executionReport")
    found["spot"] = {"order": placed, "cancel": cancelled, "events": events}
    return found


async def ws_api(client):
    found = {
        "depth": await client.ws_get_order_book(symbol="BTCUSDT"),
        "account": await client.ws_get_account(),
        "um order": await client.ws_futures_create_order(symbol="ETHUSDT", quantity="0.01", **ORDER),
    }
    try:
        await client.ws_cancel_order(symbol="BTCUSDT", orderId=1)
    except BinanceAPIException as error:
        found["error"] = {"status": error.status_code, "code": error.code}
    return found


async def books(client):
    """Return the order books the library keeps out of a snapshot and the stream of changes."""
    found = {}
    for name, kind in (("spot", DepthCacheManager), ("um", FuturesDepthCacheManager)):
        async with kind(client, "BTCUSDT") as cache:
            book = await asyncio.wait_for(cache.recv(), WAIT_S)
            found[name] = {"bid": book.get_bids()[0], "ask": book.get_asks()[0]}
    return found


async def main():
    client = await AsyncClient.create(KEY, SECRET)
    sockets = BinanceSocketManager(client)
    found = {
        "market": await market_streams(sockets),
        "user data": await user_data(client, sockets),
        "ws api": await ws_api(client),
        "books": await books(client),
    }
    await client.session.close()
    return found


def threaded():
    """Listen with the manager that has a thread of its own, as most of its users do."""
    events = queue.Queue()
    manager = ThreadedWebsocketManager(KEY, SECRET)
    manager.start()
    manager.start_kline_socket(callback=events.put, symbol="BTCUSDT")
    found = [events.get(timeout=WAIT_S)]
    manager.stop()
    manager.join(WAIT_S)
    return {"events": found, "is alive": manager.is_alive()}


logging.basicConfig(level=logging.WARNING)
results = asyncio.run(main())
results["threaded"] = threaded()
json.dump(results, sys.stdout)
