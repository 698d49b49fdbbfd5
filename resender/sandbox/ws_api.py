"""A minimal spot WebSocket API: ping, time and user data subscriptions by signature.

Enough for a gateway that passes this service through. It holds its open sockets.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from resender.core.binance.markets import Market

from .exchange import Exchange
from .exchange_info import rate_limits
from .http_server import CountingServer, Listener

_PATH = "/ws-api/v3"


class WsApi:
    """The ws_api service."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.server = CountingServer(self._handle)
        self.listener = Listener(exchange.config.host, exchange.config.ports.get("ws_api", 0), self.server)

    async def start(self) -> None:
        """Listen."""
        await self.listener.open()

    async def stop(self) -> None:
        """Cut every connection and close the port."""
        for transport in self.server.transports():
            transport.abort()
        await self.listener.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        if request.path != _PATH or not socket.can_prepare(request):
            return web.Response(status=404, text="Not Found")
        await socket.prepare(request)
        peer = request.transport.get_extra_info("peername")[0] if request.transport else ""
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await socket.send_str(orjson.dumps(self.answer(message.data, peer)).decode())
        return socket

    def answer(self, text: str | bytes, peer: str) -> dict[str, Any]:
        """Answer one request."""
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict) or "method" not in request:
            return {"id": None, "status": 400, "error": {"code": -1135, "msg": "Invalid JSON Request"}}
        now = self._exchange.now()
        number, method = request.get("id"), request["method"]
        limit = rate_limits(Market.SPOT, self._exchange.config)[0]
        verdict = self._exchange.pools.spend(peer, "spot", 2 if "user" in method else 1, now)
        limit["count"] = verdict.used
        reply: dict[str, Any] = {"id": number, "status": 200}
        if verdict.status:
            data = {"serverTime": now, "retryAfter": now + verdict.retry_after_s * 1000}
            msg = "Too much request weight used; please use WebSocket Streams for live updates."
            reply |= {"status": verdict.status, "error": {"code": -1003, "msg": msg, "data": data}}
        elif method == "ping":
            reply["result"] = {}
        elif method == "time":
            reply["result"] = {"serverTime": now}
        elif method == "userDataStream.subscribe.signature":
            reply |= self._subscribe(request.get("params") or {})
        else:
            reply |= {"status": 400, "error": {"code": -1100, "msg": "Invalid method."}}
        reply["rateLimits"] = [limit]
        return reply

    def _subscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        secret = self._exchange.config.accounts.get(str(params.get("apiKey")))
        if secret is None:
            return {"status": 401, "error": {"code": -2015, "msg": "Invalid API-key, IP, or permissions."}}
        text = "&".join(f"{k}={params[k]}" for k in sorted(params) if k != "signature")
        expected = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, str(params.get("signature"))):
            msg = "Signature for this request is not valid."
            return {"status": 400, "error": {"code": -1022, "msg": msg}}
        return {"result": {"subscriptionId": 0}}
