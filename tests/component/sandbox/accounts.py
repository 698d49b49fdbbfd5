"""What the tests of accounts share: user streams and WebSocket API sessions of the sandbox."""

import asyncio

import orjson

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, sign

ROOT = {Market.SPOT: "/api/v3", Market.UM: "/fapi/v1", Market.CM: "/dapi/v1", Market.PM: "/papi/v1"}
REST = {Market.SPOT: "UPSTREAM_API", Market.UM: "UPSTREAM_FAPI", Market.CM: "UPSTREAM_DAPI",
        Market.PM: "UPSTREAM_PAPI"}  # fmt: skip
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}
QTY = {Market.SPOT: "0.5", Market.UM: "0.5", Market.CM: "5"}


class Trader:
    """One API key that calls a sandbox and listens to it."""

    def __init__(self, sandbox, http, connect, key=API_KEY, secret=API_SECRET):
        self.sandbox, self.http, self.connect = sandbox, http, connect
        self.key, self.secret = key, secret
        self.sockets = []

    async def ask(self, market, path, query="", method="GET", status=200):
        target = path if path.startswith("/") else f"{ROOT[market]}/{path}"
        got, body, _ = await self.http.signed(
            self.sandbox.urls[REST[market]], target, query, method, self.key, self.secret
        )
        assert got == status, body
        return body

    async def limit(self, market, price="50000", side="BUY", status=200, **more):
        fields = {"symbol": SYMBOL[market], "side": side, "type": "LIMIT", "timeInForce": "GTC",
                  "quantity": QTY[market], "price": price} | more  # fmt: skip
        query = "&".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return await self.ask(market, "order", query, "POST", status)

    async def open_orders(self, market):
        return await self.ask(market, "openOrders")

    def truth(self, market):
        return orjson.loads(self.sandbox.exchange.open_orders_bytes(market, self.key))

    def order(self, market, row):
        return self.sandbox.exchange.order(market, self.key, row["symbol"], row["orderId"])

    async def key_call(self, market, path, method="POST", status=200):
        target = path if path.startswith("/") else f"{ROOT[market]}/{path}"
        got, body, _ = await self.http.call(
            self.sandbox.urls[REST[market]], target, method, headers={"X-MBX-APIKEY": self.key}
        )
        assert got == status, body
        return body

    async def listen(self, market, path="", host=None):
        """Open a user stream by listenKey; `path` may have {} for the key."""
        key = (await self.key_call(market, "listenKey"))["listenKey"]
        path = (
            path
            or {Market.UM: "/private/ws?listenKey={}", Market.CM: "/ws/{}", Market.PM: "/pm/ws/{}"}[market]
        )
        return key, await self.connect(self.sandbox, host or (Market.UM if market is Market.PM else market),
                                       path.format(key))  # fmt: skip

    async def session(self):
        """Open a WebSocket API connection."""
        socket = await self.http.session.ws_connect(
            self.sandbox.urls["WS_API_SPOT"] + "/ws-api/v3", autoping=False
        )
        self.sockets.append(socket)
        return Session(self, socket)

    async def subscribed(self):
        """Open one that brings the spot account's events."""
        session = await self.session()
        answer = await session.ask("userDataStream.subscribe.signature", session.signed())
        assert answer["status"] == 200, answer
        return session

    async def close(self):
        for socket in self.sockets:
            await socket.close()


class Session:
    """A connection of the WebSocket API."""

    def __init__(self, trader, socket):
        self.trader, self.socket = trader, socket
        self.number = 0
        self.kept = []

    def signed(self, **params):
        params |= {"apiKey": self.trader.key, "timestamp": self.trader.http.clock()}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return params | {"signature": sign(self.trader.secret, text.encode())}

    async def ask(self, method, params=None):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params or {}}
        await self.socket.send_str(orjson.dumps(request).decode())
        while True:
            frame = await self._frame()
            if frame.get("id") == self.number:
                return frame
            self.kept.append(frame)

    async def _frame(self, timeout_s=5.0):
        message = await asyncio.wait_for(self.socket.receive(), timeout_s)
        assert message.type.name == "TEXT", message
        return orjson.loads(message.data)

    async def frame(self, timeout_s=5.0):
        return self.kept.pop(0) if self.kept else await self._frame(timeout_s)

    async def event(self, timeout_s=5.0):
        return (await self.frame(timeout_s))["event"]

    async def events(self, count):
        return [await self.event() for _ in range(count)]

    async def is_silent(self, seconds=0.25):
        if self.kept:
            return False
        try:
            await asyncio.wait_for(self.socket.receive(), seconds)
        except asyncio.TimeoutError:
            return True
        return False
