"""The WebSocket APIs: requests answered by the REST routes they stand for, and user data of spot.

A `WsApi` is one market's service; it holds its open sockets and what they have subscribed.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from .model import ApiError, Call
from .rest import RestDesk
from .signing import check_time
from .user_feed import Event

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
    "order.cancelReplace": ("POST", "order/cancelReplace"),
    "order.amend.keepPriority": ("PUT", "order/amend/keepPriority"),
    "order.modify": ("PUT", "order"),
    "openOrders.status": ("GET", "openOrders"),
    "openOrders.cancelAll": ("DELETE", "openOrders"),
    "orderList.place": ("POST", "order/oco"),
    "orderList.place.oco": ("POST", "orderList/oco"),
    "orderList.place.oto": ("POST", "orderList/oto"),
    "orderList.place.otoco": ("POST", "orderList/otoco"),
    "orderList.status": ("GET", "orderList"),
    "orderList.cancel": ("DELETE", "orderList"),
    "openOrderLists.status": ("GET", "openOrderList"),
    "algoOrder.place": ("POST", "algoOrder"),
    "algoOrder.cancel": ("DELETE", "algoOrder"),
    "account.status": ("GET", "account"),
    "userDataStream.start": ("POST", "listenKey"),
    "userDataStream.ping": ("PUT", "listenKey"),
    "userDataStream.stop": ("DELETE", "listenKey"),
}
# In the order of the sandbox: its own weights, read off the REST table for all others.
_USER_DATA_WEIGHT = 2
_SILENT_METHODS = ("userDataStream.", "session.")


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


@dataclass(slots=True)
class _Subscription:
    account: str
    until_ms: int | None = None  # of one by listenToken
    by_logon: bool = False  # ends with the logon


@dataclass(slots=True, eq=False)
class _Session:
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    opened: float
    api_key: str = ""
    subscriptions: dict[int, _Subscription] = field(default_factory=dict)
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
        self._account_faults = exchange.faults.accounts[market]
        # Events of accounts, sent by one task.
        self._waiting: list[tuple[_Session, str]] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.server = CountingServer(self._handle)
        port = exchange.config.ports.get(SERVICES[market], 0)
        self.listener = Listener(exchange.config.host, port, self.server)
        if market is Market.SPOT:
            exchange.feed.doors.append(self._bring)
            self._account_faults.bind(self)

    async def start(self) -> None:
        """Listen."""
        await self.listener.open()
        for name, work in (("tell", self._tell()), ("look-after", self._look_after())):
            self._tasks.append(asyncio.create_task(work, name=f"sandbox-ws-api-{name}:{self.market}"))

    async def stop(self) -> None:
        """Cut every connection and close the port."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for transport in self.server.transports():
            transport.abort()
        await self.listener.stop()

    def drop_all(self) -> None:
        """Reset every connection."""
        for transport in self.server.transports():
            reset(transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, timeout=1.0, autoping=False)
        if request.path != WS_API_PATHS[self.market] or not socket.can_prepare(request):
            return web.Response(status=404, text="Not Found")
        if self.faults.refuse_status:
            return web.Response(status=self.faults.refuse_status, headers={"Retry-After": "7"})
        await socket.prepare(request)
        self.accepted += 1
        peer = request.transport.get_extra_info("peername")[0] if request.transport else ""
        session = _Session(socket, request.transport, asyncio.get_running_loop().time())
        self._sessions.add(session)
        try:
            async for message in socket:
                if self._is_mute(session):
                    continue
                if message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
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
        reply = self.answer(session, parsed, method, peer)
        if faults.reset_after and re.search(faults.reset_after, method):
            reset(request.transport)
        elif not faults.silent:
            if faults.delay_s:
                await asyncio.sleep(faults.delay_s)
            await session.socket.send_str(orjson.dumps(reply).decode())

    def _is_mute(self, session: _Session) -> bool:
        return self._account_faults.mute and bool(session.subscriptions)

    async def _tell(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                session, event = self._waiting.pop(0)
                with contextlib.suppress(ConnectionError):
                    await session.socket.send_str(event)

    async def _look_after(self) -> None:
        # Pings as the exchange's, and the end of subscriptions whose token is over.
        config, loop = self._exchange.config, asyncio.get_running_loop()
        ping_s = config.spot_ping_s if self.market is Market.SPOT else config.futures_ping_s
        next_ping = loop.time() + ping_s
        while True:
            await asyncio.sleep(0.05)
            now_ms = self._exchange.now()
            for session in list(self._sessions):
                for number, one in list(session.subscriptions.items()):
                    if one.until_ms is not None and one.until_ms <= now_ms:
                        self._terminate(session, number)
                if loop.time() - session.opened >= config.max_age_s and session.transport is not None:
                    session.transport.close()
                elif loop.time() >= next_ping and not self._is_mute(session):
                    with contextlib.suppress(ConnectionError):
                        await session.socket.ping(str(now_ms).encode())
            if loop.time() >= next_ping:
                next_ping = loop.time() + ping_s

    def answer(self, session: _Session, request: Any, method: str, peer: str) -> dict[str, Any]:
        """Answer one request."""
        if not isinstance(request, dict) or not method:
            return {"id": None, "status": 400, "error": {"code": -1135, "msg": "Invalid JSON Request"}}
        params = request.get("params") or {}
        reply: dict[str, Any] = {"id": request.get("id"), "status": 200}
        if method in _ROUTES:
            reply |= self._by_rest(session, method, params, peer)
        elif method.startswith(_SILENT_METHODS) and self.market is Market.SPOT:
            self._exchange.pools.spend(peer, self._pool, _USER_DATA_WEIGHT, self._exchange.now())
            try:
                reply["result"] = self._user_data(session, method, params)
            except ApiError as error:
                reply |= {"status": error.status, "error": {"code": error.code, "msg": error.msg}}
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
        # The signature of the WebSocket API is made over all parameters, the key too; checked here.
        signed = "&".join(f"{name}={_text(params[name])}" for name in names)
        is_trusted = bool(session.api_key) and not params.get("apiKey")
        if params.get("signature"):
            try:
                self._check(key, params)
            except ApiError as refused:
                return {"status": refused.status, "error": {"code": refused.code, "msg": refused.msg}}
            is_trusted = True
        root = _ROOTS[self.market]
        call = Call(
            host=_HOSTS[self.market], method=how, target=f"{root}{path}?{signed}", path=root + path,
            query=signed, headers=[(b"x-mbx-apikey", key.encode())] if key else [], body=b"",
            peer=peer, connection=0, received_ms=self._exchange.now(),
        )  # fmt: skip
        answer = self._desk.answer(call, is_trusted)
        data = orjson.loads(answer.body)
        if answer.status == 200:
            return {"result": data}
        error = dict(data)
        if answer.status in (418, 429):
            now = self._exchange.now()
            retry_after = now + int(answer.headers.get("retry-after", "1")) * 1000
            error["data"] = {"serverTime": now, "retryAfter": retry_after}
        return {"status": answer.status, "error": error}

    def _check(self, key: str, params: dict[str, Any]) -> None:
        text = "&".join(f"{name}={_text(params[name])}" for name in sorted(params) if name != "signature")
        self._exchange.accounts.key(key).check_text(text, str(params.get("signature", "")))

    # -- user data -----------------------------------------------------------------------

    def _user_data(self, session: _Session, method: str, params: dict[str, Any]) -> Any:
        now_ms = self._exchange.now()
        if method == "userDataStream.unsubscribe":
            number = params.get("subscriptionId")
            if number is None:
                session.subscriptions.clear()
            elif session.subscriptions.pop(number, None) is None:
                raise ApiError(-2036, "User Data Stream subscription not active.")
            return {}
        if method == "session.subscriptions":
            return [{"subscriptionId": number} for number in session.subscriptions]
        if method == "session.status":
            return {"apiKey": session.api_key or None, "serverTime": now_ms}
        if method == "session.logout":
            session.api_key = ""
            for number in [number for number, one in session.subscriptions.items() if one.by_logon]:
                self._terminate(session, number)
            return {"apiKey": None, "serverTime": now_ms}
        if method == "userDataStream.subscribe.listenToken":
            return self._by_token(session, str(params.get("listenToken", "")), now_ms)
        if method == "userDataStream.subscribe":
            if not session.api_key:
                raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            return self._subscribe(session, session.api_key, by_logon=True)
        if method not in ("userDataStream.subscribe.signature", "session.logon"):
            raise ApiError(-1100, "Invalid method.")
        key = str(params.get("apiKey", ""))
        self._check(key, params)
        check_time({name: _text(value) for name, value in params.items()}, now_ms)
        if method == "session.logon":
            session.api_key = key
            return {"apiKey": key, "authorizedSince": now_ms, "serverTime": now_ms}
        return self._subscribe(session, key)

    def _subscribe(self, session: _Session, api_key: str, by_logon: bool = False) -> dict[str, int]:
        account = self._exchange.accounts.of(api_key).name
        if any(one.account == account and one.until_ms is None for one in session.subscriptions.values()):
            raise ApiError(-2035, "User Data Stream subscription already active.")
        return {"subscriptionId": self._number(session, _Subscription(account, by_logon=by_logon))}

    @staticmethod
    def _number(session: _Session, made: _Subscription) -> int:
        number, session.count = session.count, session.count + 1
        session.subscriptions[number] = made
        return number

    def _by_token(self, session: _Session, token: str, now_ms: int) -> dict[str, int]:
        # A new token of the same account prolongs its subscription.
        found = self._exchange.listen_keys.token(token, now_ms)
        if found is None:
            raise ApiError(-1209, "Invalid listenToken.")
        account, until = found
        for number, one in session.subscriptions.items():
            if one.account == account and one.until_ms is not None:
                one.until_ms = until
                return {"subscriptionId": number, "expirationTime": until}
        made = self._number(session, _Subscription(account, until))
        return {"subscriptionId": made, "expirationTime": until}

    def _bring(self, market: Market, account: str, event: Event) -> None:
        if market is not self.market or self._account_faults.mute:
            return
        for session in self._sessions:
            for number, one in session.subscriptions.items():
                if one.account == account:
                    self._wrap(session, number, event)

    def _wrap(self, session: _Session, number: int, event: Event) -> None:
        self._waiting.append((session, orjson.dumps({"subscriptionId": number, "event": event}).decode()))
        self._wake.set()

    def _terminate(self, session: _Session, number: int, notice: bool = True) -> None:
        session.subscriptions.pop(number, None)
        if notice and not self._account_faults.mute:
            self._wrap(session, number, {"e": "eventStreamTerminated", "E": self._exchange.now()})

    def announce_shutdown(self) -> None:
        """Send the serverShutdown notice to every connection; they stay until dropped."""
        text = orjson.dumps({"event": {"e": "serverShutdown", "E": self._exchange.now()}}).decode()
        self._waiting += [(session, text) for session in self._sessions]
        self._wake.set()

    # -- faults of accounts ----------------------------------------------------------------

    def drop_users(self) -> int:
        """Reset every connection with a subscription."""
        users = [session for session in self._sessions if session.subscriptions]
        for session in users:
            reset(session.transport)
        return len(users)

    def terminate(self, notice: bool) -> int:
        """End every subscription."""
        ended = [(session, number) for session in self._sessions for number in session.subscriptions]
        for session, number in ended:
            self._terminate(session, number, notice)
        return len(ended)

    def expire_keys(self, notice: bool) -> int:
        """End nothing: there are no listen keys here."""
        return 0

    def send_users(self, event: Event) -> int:
        """Send an event to every subscription."""
        told = [(session, number) for session in self._sessions for number in session.subscriptions]
        for session, number in told:
            self._wrap(session, number, event)
        return len(told)


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return ""  # nested too deeply
