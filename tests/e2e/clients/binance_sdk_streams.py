"""Listen through a gateway with Binance's SDKs and print what came, as one JSON document.

Run by tests/e2e/test_client_streams.py with the libraries' own Python:
`binance_sdk_streams.py URL KEY SECRET HEADERS`.
"""

import asyncio
import json
import sys

from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from binance_sdk_spot.spot import Spot

URL, KEY, SECRET = sys.argv[1:4]
WS = URL.replace("http", "ws", 1)
WAIT_S = 10


def plain(model):
    return model.to_dict() if hasattr(model, "to_dict") else model


async def first(handle):
    """Return the first message of a stream, as the library's own model has it."""
    heard = asyncio.Queue()
    handle.on("message", heard.put_nowait)
    return plain(await asyncio.wait_for(heard.get(), WAIT_S))


def configured(market):
    stream, path = {
        "spot": ("stream.binance.com", "ws-api/v3"),
        "um": ("fstream.binance.com", "ws-fapi/v1"),
    }[market]
    return {
        "config_rest_api": ConfigurationRestAPI(api_key=KEY, api_secret=SECRET, base_path=URL),
        "config_ws_streams": ConfigurationWebSocketStreams(stream_url=f"{WS}/{stream}"),
        "config_ws_api": ConfigurationWebSocketAPI(api_key=KEY, api_secret=SECRET, stream_url=f"{WS}/{path}"),
    }


async def spot_streams(client):
    sockets = await client.websocket_streams.create_connection()
    handles = {
        "kline": await sockets.kline(symbol="btcusdt", interval="1m"),
        "book ticker": await sockets.book_ticker(symbol="btcusdt"),
        "depth": await sockets.diff_book_depth(symbol="btcusdt", update_speed="100ms"),
        "trade": await sockets.trade(symbol="btcusdt"),
    }
    found = dict(zip(handles, await asyncio.gather(*map(first, handles.values())), strict=True))
    found["list"] = (await sockets.list_subscribe())["result"]
    await handles["trade"].unsubscribe()
    found["list after"] = (await sockets.list_subscribe())["result"]
    await sockets.close_connection(close_session=True)
    return found


async def spot_api(client):
    api = await client.websocket_api.create_connection()
    found = {"ping": plain((await api.ping()).data())}
    subscribed = await api.user_data_stream_subscribe_signature()
    told = asyncio.Queue()
    subscribed.stream.on("message", told.put_nowait)
    order = {"time_in_force": "GTC", "quantity": 0.001, "price": 50000}
    placed = await api.order_place(symbol="BTCUSDT", side="BUY", type="LIMIT", **order)
    found["order"] = plain(placed.data().result)
    found["used weight"] = [plain(limit) for limit in placed.rate_limits]
    found["event"] = plain(await asyncio.wait_for(told.get(), WAIT_S))
    await subscribed.stream.unsubscribe()
    await api.close_connection(close_session=True)
    return found


async def um_streams(client):
    sockets = await client.websocket_streams.create_connection()
    handles = {
        "kline": await sockets.kline_candlestick_streams(symbol="btcusdt", interval="1m"),
        "aggTrade": await sockets.aggregate_trade_streams(symbol="btcusdt"),
        "book ticker": await sockets.individual_symbol_book_ticker_streams(symbol="btcusdt"),
        "depth": await sockets.diff_book_depth_streams(symbol="btcusdt"),
    }
    found = dict(zip(handles, await asyncio.gather(*map(first, handles.values())), strict=True))
    listen_key = client.rest_api.start_user_data_stream().data().listen_key
    told = asyncio.ensure_future(first(await sockets.user_data(listen_key)))
    # Its subscribe does not wait for the answer; this one comes after it on the same connection.
    private = next(one for one in sockets.connections if one.url_path == "private")
    asked = {"method": "LIST_SUBSCRIPTIONS", "id": "x"}
    answer = await asyncio.wait_for(await sockets.send_message(asked, private), WAIT_S)
    found["private"] = ["the listenKey" if name == listen_key else name for name in answer["result"]]
    api = await client.websocket_api.create_connection()
    placed = await api.new_order(
        symbol="BTCUSDT", side="BUY", type="LIMIT", time_in_force="GTC", quantity=0.001, price=50000
    )
    found["order"] = plain(placed.data().result)
    found["event"] = plain(await told)
    found["paths"] = [one.url_path for one in sockets.connections]
    await api.close_connection(close_session=True)
    await sockets.close_connection(close_session=True)
    return found


async def main():
    spot, um = Spot(**configured("spot")), DerivativesTradingUsdsFutures(**configured("um"))
    found = await asyncio.gather(spot_streams(spot), spot_api(spot), um_streams(um))
    return dict(zip(("spot", "spot api", "um"), found, strict=True))


json.dump(asyncio.run(main()), sys.stdout, default=str)
