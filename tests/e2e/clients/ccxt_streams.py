"""Listen through a gateway with ccxt.pro and print what came, as one JSON document.

Run by tests/e2e/test_client_streams.py with the library's own Python:
`ccxt_streams.py URL KEY SECRET HEADERS`.
"""

import asyncio
import json
import re
import sys

import ccxt.pro

URL, KEY, SECRET = sys.argv[1:4]
WS = URL.replace("http", "ws", 1)
WAIT_S = 10

STREAMS = {
    "spot": f"{WS}/stream.binance.com/ws",
    "margin": f"{WS}/stream.binance.com/ws",
    "linear": f"{WS}/fstream.binance.com/ws",
    "inverse": f"{WS}/dstream.binance.com/ws",
    "ws-api": {
        "spot": f"{WS}/ws-api/v3",
        "linear": f"{WS}/ws-fapi/v1",
        "inverse": f"{WS}/ws-dapi/v1",
    },
}


def build(kind):
    """Make an exchange object whose addresses lead to the gateway."""
    exchange = getattr(ccxt.pro, kind)({"apiKey": KEY, "secret": SECRET, "enableRateLimit": False})
    exchange.options["fetchMargins"] = False
    api = exchange.urls["api"]
    for name, url in api.items():
        if isinstance(url, str):
            api[name] = re.sub(r"^https://(\w+)\.binance\.com", rf"{URL}/\1", url)
    api["ws"].update(STREAMS)
    return exchange


async def once(awaitable):
    return await asyncio.wait_for(awaitable, WAIT_S)


async def orders_of(exchange, symbol, amount):
    """Watch the orders of an account while one is placed and cancelled."""
    watching = asyncio.ensure_future(once(exchange.watch_orders(symbol)))
    # The order must not be there before the account is listened to, and nothing tells when it is.
    await asyncio.sleep(1)
    order = await once(exchange.create_order(symbol, "limit", "buy", amount, 50000))
    seen = [(row["id"], row["status"]) for row in await watching]
    # What comes while nobody watches is not told.
    watching = asyncio.ensure_future(once(exchange.watch_orders(symbol)))
    cancel = await once(exchange.cancel_order(order["id"], symbol))
    seen += [(row["id"], row["status"]) for row in await watching]
    return {"order": order, "cancel": cancel, "seen": seen}


async def watch(kind, symbol, other, amount):
    exchange = build(kind)
    try:
        await exchange.load_markets()
        ohlcv, best, book, trades, ticker = await asyncio.gather(
            once(exchange.watch_ohlcv(symbol, "1m")),
            once(exchange.watch_bids_asks([symbol, other])),
            books(exchange, symbol),
            once(exchange.watch_trades(symbol)),
            once(exchange.watch_ticker(symbol)),
        )
        return {
            "ohlcv": ohlcv,
            "bids asks": best,
            "books": book,
            "trades": trades,
            "ticker": ticker,
            "orders": await orders_of(exchange, symbol, amount),
            "by ws api": await orders_of_ws(exchange, symbol, amount),
            "sockets": [name for name in exchange.clients if name.startswith("ws")],
        }
    finally:
        await exchange.close()


async def books(exchange, symbol):
    """Return what an order book showed: a snapshot and the changes since."""
    found = []
    for _ in range(6):
        book = await once(exchange.watch_order_book(symbol))
        row = {"symbol": book["symbol"], "bid": book["bids"][0][0], "ask": book["asks"][0][0]}
        found.append({**row, "nonce": book["nonce"]})
    return found


async def orders_of_ws(exchange, symbol, amount):
    order = await once(exchange.create_order_ws(symbol, "limit", "buy", amount, 50000))
    seen = await once(exchange.fetch_order_ws(order["id"], symbol))
    cancel = await once(exchange.cancel_order_ws(order["id"], symbol))
    return {"order": order, "seen": seen, "cancel": cancel}


async def main():
    asked = {
        "spot": ("binance", "BTC/USDT", "ETH/USDT", 0.001),
        "um": ("binanceusdm", "BTC/USDT:USDT", "ETH/USDT:USDT", 0.001),
        "cm": ("binancecoinm", "BTC/USD:BTC", "ETH/USD:ETH", 1),
    }
    found = await asyncio.gather(*(watch(*one) for one in asked.values()))
    return dict(zip(asked, found, strict=True))


json.dump(asyncio.run(main()), sys.stdout)
