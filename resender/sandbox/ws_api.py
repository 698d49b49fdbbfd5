"""The WebSocket APIs: requests answered by the REST routes they stand for, and user data of spot.

A `WsApi` is one market's service; it holds its open sockets and what they have subscribed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from resender.core.binance.markets import WS_API_PATHS, Market

from .exchange import Exchange
from .exchange_info import rate_limits
from .http_faults import reset
from .http_server import CountingServer, Listener
from .model import Call
from .rest import RestDesk

SERVICES = {Market.SPOT: "ws_api", Market.UM: "ws_api_um", Market.CM: "ws_api_cm"}
_HOSTS = {Market.SPOT: "api", Market.UM: "fapi", Market.CM: "dapi"}
_ROOTS = {Market.SPOT: "/api/v3/", Market.UM: "/fapi/v1/", Market.CM: "/dapi/v1/"}
_ROUTES: dict[str, tuple[str, str]] = {
    "ping": ("GET", "ping"),
    "time": ("GET", "time"),
    "exchangeInfo": ("GET", "exchangeInfo"),
    "depth": ("GET", "depth"),
    "klines": ("GET", "klines"),
    "ticker.price": ("GET", "ticker/price"),
    "ticker.book": ("GET", "ticker/bookTicker"),
    "order.place": ("POST", "order"),
    "order.test": ("POST", "order/test"),
    "order.status": ("GET", "order"),
    "order.cancel": ("DELETE", "order"),
    "openOrders.status": ("GET", "openOrders"),
    "account.status": ("GET", "account"),
    "userDataStream.start": ("POST", "listenKey"),
    "userDataStream.ping": ("PUT", "listenKey"),
    "userDataStream.stop": ("DELETE", "listenKey"),
}
# In the order of the sandbox: its own weights, read off the REST table for all others.
_WEIGHTS = {"userDataStream.subscribe.signature": 2, "userDataStream.unsubscribe": 2, "session.logon": 2}


@dataclass(slots=True)
class WsApiFaults:
    """Switches of one WebSocket API.

    Shape: `reset_after` and `reset_before` are patterns of methods: the request is carried out, or not, and the
        connection reset instead of an answer; `refuse_status` answers handshakes, 0 accepts them.
    """

    reset_after: str = ""
    reset_before: str = ""
    refuse_status: int = 0
    silent: bool = False
    delay_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Session:
    socket: web.WebSocketResponse
    api_key: str = ""
    subscriptions: dict[int, str] = field(default_factory=dict)
    count: int = 0


class WsApi:
    """One ws_api service."""

    def __init__(self, market: Market, exchange: Exchange, desk: RestDesk) -> None:
        self.market = market
        self.faults = WsApiFaults()
        # Every request received: method and id.
        self.requests: list[tuple[str, Any]] = []
        # The method of each and the address it came from.
        self.peers: list[tuple[str, str]] = []
        self.accepted = 0
        self._exchange = exchange
        self._desk = desk
        self._sessions: set[_Session] = set()
        # Events of accounts, sent by one task: what a request brings about comes after its answer.
        self._waiting: list[tuple[_Session, bytes]] = []
        self._answering = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.server = CountingServer(self._handle)
        port = exchange.config.ports.get(SERVICES[market], 0)
        self.listener = Listener(exchange.config.host, port, self.server)
        exchange.order_ears.append(self._order_changed)

    async def start(self) -> None:
        """Listen."""
        await self.listener.open()
        self._task = asyncio.create_task(self._tell(), name=f"sandbox-ws-api:{self.market}")

    async def stop(self) -> None:
        """Cut every connection and close the port."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for transport in self.server.transports():
            transport.abort()
        await self.listener.stop()

    def drop_all(self) -> None:
        """Reset every connection."""
        for transport in self.server.transports():
            reset(transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        if request.path != WS_API_PATHS[self.market] or not socket.can_prepare(request):
            return web.Response(status=404, text="Not Found")
        if self.faults.refuse_status:
            return web.Response(status=self.faults.refuse_status, headers={"Retry-After": "7"})
        await socket.prepare(request)
        self.accepted += 1
        peer = request.transport.get_extra_info("peername")[0] if request.transport else ""
        session = _Session(socket)
        self._sessions.add(session)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._serve(session, message.data, peer, request)
        finally:
            self._sessions.discard(session)
        return socket

    async def _serve(self, session: _Session, text: str | bytes, peer: str, request: web.BaseRequest) -> None:
        faults = self.faults
        try:
            parsed = orjson.loads(text)
            method = str(parsed["method"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            parsed, method = None, ""
        self.requests.append((method, parsed.get("id") if isinstance(parsed, dict) else None))
        self.peers.append((method, peer))
        if faults.reset_before and re.search(faults.reset_before, method):
            reset(request.transport)
            return
        self._answering += 1
        try:
            reply = self.answer(session, parsed, method, peer)
            if faults.reset_after and re.search(faults.reset_after, method):
                reset(request.transport)
            elif not faults.silent:
                if faults.delay_s:
                    await asyncio.sleep(faults.delay_s)
                await session.socket.send_str(orjson.dumps(reply).decode())
        finally:
            self._answering -= 1
            self._wake.set()

    async def _tell(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                session, event = self._waiting.pop(0)
                with contextlib.suppress(ConnectionError):
                    await session.socket.send_str(event.decode())

    def answer(self, session: _Session, request: Any, method: str, peer: str) -> dict[str, Any]:
        """Answer one request."""
        if not isinstance(request, dict) or not method:
            return {"id": None, "status": 400, "error": {"code": -1135, "msg": "Invalid JSON Request"}}
        params = request.get("params") or {}
        reply: dict[str, Any] = {"id": request.get("id"), "status": 200}
        if method in _ROUTES:
            reply |= self._by_rest(session, method, params, peer)
        elif method.startswith(("userDataStream.", "session.")) and self.market is Market.SPOT:
            reply |= self._user_data(session, method, params, peer)
        else:
            reply |= {"status": 400, "error": {"code": -1100, "msg": "Invalid method."}}
        if params.get("returnRateLimits") is not False:
            limit = rate_limits(self.market, self._exchange.config)[0]
            limit["count"] = self._exchange.pools.used(peer, self._pool, self._exchange.now())
            reply["rateLimits"] = [limit]
        return reply

    @property
    def _pool(self) -> str:
        return "spot" if self.market is Market.SPOT else "futures"

    def _by_rest(self, session: _Session, method: str, params: dict[str, Any], peer: str) -> dict[str, Any]:
        how, path = _ROUTES[method]
        key = str(params.get("apiKey") or session.api_key)
        names = sorted(name for name in params if name not in ("apiKey", "signature", "returnRateLimits"))
        signed = "&".join(f"{name}={_text(params[name])}" for name in names)
        if params.get("signature"):
            # The signature of the WebSocket API is made over all parameters, the key too; checked here.
            whole = "&".join(
                f"{name}={_text(params[name])}" for name in sorted(params) if name != "signature"
            )
            secret = self._exchange.config.accounts.get(key, "")
            expected = hmac.new(secret.encode(), whole.encode(), hashlib.sha256).hexdigest()
            if not hmac.compare_digest(expected, str(params["signature"])):
                msg = "Signature for this request is not valid."
                return {"status": 400, "error": {"code": -1022, "msg": msg}}
            signed += "&signature=" + hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        root = _ROOTS[self.market]
        call = Call(
            host=_HOSTS[self.market], method=how, target=f"{root}{path}?{signed}", path=root + path,
            query=signed, headers=[(b"x-mbx-apikey", key.encode())] if key else [], body=b"",
            peer=peer, connection=0, received_ms=self._exchange.now(),
        )  # fmt: skip
        answer = self._desk.answer(call)
        data = orjson.loads(answer.body)
        if answer.status == 200:
            return {"result": data}
        error = dict(data)
        if answer.status in (418, 429):
            now = self._exchange.now()
            retry_after = now + int(answer.headers.get("retry-after", "1")) * 1000
            error["data"] = {"serverTime": now, "retryAfter": retry_after}
        return {"status": answer.status, "error": error}

    def _user_data(self, session: _Session, method: str, params: dict[str, Any], peer: str) -> dict[str, Any]:
        self._exchange.pools.spend(peer, self._pool, _WEIGHTS.get(method, 2), self._exchange.now())
        if method == "userDataStream.unsubscribe":
            session.subscriptions.clear()
            return {"result": {}}
        if method == "session.status":
            return {"result": {"apiKey": session.api_key or None}}
        secret = self._exchange.config.accounts.get(str(params.get("apiKey")))
        if secret is None:
            return {"status": 401, "error": {"code": -2015, "msg": "Invalid API-key, IP, or permissions."}}
        text = "&".join(f"{k}={params[k]}" for k in sorted(params) if k != "signature")
        expected = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, str(params.get("signature"))):
            msg = "Signature for this request is not valid."
            return {"status": 400, "error": {"code": -1022, "msg": msg}}
        if method == "session.logon":
            session.api_key = str(params["apiKey"])
            return {"result": {"apiKey": session.api_key}}
        number, session.count = session.count, session.count + 1
        session.subscriptions[number] = str(params["apiKey"])
        return {"result": {"subscriptionId": number}}

    def _order_changed(self, host: str, api_key: str, event: dict[str, Any]) -> None:
        if host != "api" or self.market is not Market.SPOT:
            return
        for session in self._sessions:
            for number, owner in session.subscriptions.items():
                if owner == api_key:
                    text = orjson.dumps({"subscriptionId": number, "event": event})
                    self._waiting.append((session, text))
        if not self._answering:
            self._wake.set()


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return ""  # nested too deeply
