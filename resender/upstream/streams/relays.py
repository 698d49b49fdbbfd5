"""WebSockets that belong to one client each: user data and the WebSocket API.

It opens them through an egress of choice, within what the venue allows an address, and charges what is asked
over them; what is said it does not read beyond that. `Relays` owns one session for each egress and host.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp import WSMsgType

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.binance.stream_pacing import CONNECT_WINDOW_S
from resender.core.egress.governor import CLIENT, Governor
from resender.core.egress.spec import EgressSpec
from resender.core.egress.state import Egress, Grant
from resender.core.fanout.protocol import UNSPOKEN_CODES
from resender.core.weights.rules import Charge
from resender.core.weights.ws_api import handshake_charge, method_charge
from resender.core.window_budget import WindowBudget
from resender.errors import Busy, EgressExhausted, UpstreamUnreachable
from resender.upstream.rest import readable
from resender.upstream.streams.session import Socket, StreamBroken, StreamSession
from resender.upstream.streams.spread import make_stream_session

logger = logging.getLogger("resender.upstream")

# Beside what the gateway's own pools of that market may open, see `Feeds`: 300 in 5 minutes for an address.
# User data and the WebSocket API have a half each: neither uses up what the other needs to trade.
_CONNECTS = 30
# The gateway's own watch over accounts has a count of its own; the WebSocket API's host has no pools beside it.
_ACCOUNT_CONNECTS, _ACCOUNT_API_CONNECTS = 20, 200
ACCOUNT = "account"
NoRoom = Callable[[Market, Charge, str | None, Egress | None], Awaitable[bool]]
_CONNECT_TIMEOUT_S = 10.0
_CLOSE_S = 2.0
_DRAIN_STEP_S = 0.02
_MAX_ID_CHARS = 128
# User data may be quiet for hours: without pings nobody would see that the connection is gone.
_PING_EVERY_S = 20.0
_SILENCES = 3
_SIGNS = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})
_MAX_MESSAGE_BYTES = 16 << 20
_MAX_KEYS = 4096
_LISTEN_KEY = re.compile(rb'"listenKey"\s*:\s*"([A-Za-z0-9]{20,200})"')
_STATUS = re.compile(rb'"status":(\d{3})')
_ID = re.compile(rb'"id":("(?:[^"\\]|\\.){0,200}"|-?\d{1,20}|null)')
_USED = re.compile(rb'"rateLimitType":"REQUEST_WEIGHT"[^}]*?"count":(\d{1,9})')
_RETRY_AFTER = re.compile(rb'"retryAfter":(\d{13})')
_HEAD_BYTES, _TAIL_BYTES = 512, 2048
# Source: rest-api.md of 2026-07-21: bans last from 2 minutes to 3 days.
_BAN_S, _MAX_PAUSE_S = 120.0, 4 * 86_400.0


class RelayConnection:
    """One upstream WebSocket of one client."""

    def __init__(self, socket: Socket, egress: Egress, tasks: Tasks) -> None:
        self._tasks = tasks
        self._closing: asyncio.Task[None] | None = None
        self._socket = socket
        self._ws = socket.ws
        self.egress = egress
        self.close_code = 1006
        self.close_reason = ""
        self._ping_every_s = _PING_EVERY_S
        self._silences = _SILENCES
        self._on_sign: Callable[[], None] = lambda: None

    def watch(self, ping_every_s: float, silent_s: float, on_sign: Callable[[], None]) -> None:
        """Ping it more often than others; `on_sign` is called with every sign of life, pongs too.

        Units: seconds; it is at its end after a silence of `silent_s`.
        """
        self._ping_every_s = ping_every_s
        self._silences = max(2, round(silent_s / ping_every_s))
        self._on_sign = on_sign

    async def receive(self) -> str | bytes | None:
        """Return the next message; None at the end.

        Shape: text comes as `str`, binary as `bytes`. Pings are answered here; a connection that does not
            answer those of the gateway is at its end.
        """
        silences = 0
        while True:
            try:
                kind, data, extra = await self._ws.receive(timeout=self._ping_every_s)
            except asyncio.TimeoutError:
                silences += 1
                if silences >= self._silences or not await self.ping():
                    self.close_code = 1006
                    return None
                continue
            silences = 0
            if kind in _SIGNS:
                self._on_sign()
            if kind is WSMsgType.TEXT:
                try:
                    return data if isinstance(data, str) else bytes(data).decode()
                except UnicodeDecodeError:
                    self.close_code = 1006
                    return None
            if kind is WSMsgType.BINARY:
                return bytes(data)
            if kind is WSMsgType.PING:
                await self._send(bytes(data), WSMsgType.PONG)
            elif kind is not WSMsgType.PONG:
                if kind is WSMsgType.CLOSE:
                    self.close_code = int(data or 1005)
                    self.close_reason = str(extra or "")
                elif self._ws.close_code:
                    self.close_code = self._ws.close_code
                return None

    async def send(self, message: str | bytes) -> bool:
        """Pass a message on; False if the connection is gone and it has not been sent whole."""
        if isinstance(message, str):
            return await self._send(message.encode(), WSMsgType.TEXT)
        return await self._send(message, WSMsgType.BINARY)

    async def ping(self) -> bool:
        return await self._send(b"", WSMsgType.PING)

    async def _send(self, data: bytes, kind: WSMsgType) -> bool:
        try:
            await self._ws.send_frame(data, kind)
        except (aiohttp.ClientError, OSError):
            return False
        return True

    async def close(self, code: int = 1000) -> None:
        """Close it, once; who waits for that may be cancelled without leaving it half closed."""
        if self._closing is None:
            self._closing = self._tasks.spawn(self._close(code), name="relay:close")
        await asyncio.shield(self._closing)

    async def _close(self, code: int) -> None:
        spoken = code if 1000 <= code < 5000 and code not in UNSPOKEN_CODES else 1000
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._socket.close(spoken)


class Relays:
    """Opens connections for clients and keeps them within weight and limits.

    Shape: `urls` are base URLs by the name a route gives (`stream_um`, `ws_api_spot`).
    """

    def __init__(
        self,
        specs: Sequence[EgressSpec],
        urls: Mapping[str, str],
        governor: Governor,
        *,
        clock: Clock,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs if spec.has_streams}
        self._urls = dict(urls)
        self._governor = governor
        self._clock = clock
        self._ssl_context = ssl_context
        self._sessions: dict[tuple[str, str], StreamSession] = {}
        self._connects: dict[tuple[str, str], WindowBudget] = {}
        self._desks: set[ApiDesk] = set()
        self._listen_keys: dict[bytes, str] = {}
        self._turn = 0
        self._tasks = Tasks()
        # Asked where a request has found no room, see `EgressPool`.
        self.on_no_room: NoRoom | None = None

    async def stop(self) -> None:
        await self._tasks.join(_CLOSE_S)
        await self._tasks.cancel()
        for session in self._sessions.values():
            await session.stop()

    # --- which egress ------------------------------------------------------------------------

    def note_listen_key(self, listen_key: str, egress: str) -> None:
        """Remember through which egress a listenKey was made; the key itself is not kept."""
        if len(self._listen_keys) >= _MAX_KEYS:
            del self._listen_keys[next(iter(self._listen_keys))]
        self._listen_keys[_digest(listen_key)] = egress

    def note_made(self, body: bytes, egress: str) -> None:
        """Read the listenKey off an answer that gives one."""
        found = _LISTEN_KEY.search(readable(body))
        if found is not None:
            self.note_listen_key(found[1].decode(), egress)

    def has_choice(self, market: Market) -> bool:
        """Tell whether it matters whose API key a connection is for."""
        return len(self._governor.egresses_of(market)) > 1

    def _carries(self, egress: Egress) -> bool:
        return egress.name in self._specs

    def _choose(self, market: Market, api_key: str | None, listen_key: str) -> Egress:
        mono = self._clock.mono()
        egresses = [egress for egress in self._governor.egresses_of(market) if self._carries(egress)]
        bound = self._listen_keys.get(_digest(listen_key)) if listen_key else None
        found = next((egress for egress in egresses if egress.name == bound), None)
        if found is not None:
            return found
        if api_key and len(self._governor.egresses_of(market)) > 1:
            egress = self._governor.egress_of_key(market, api_key, mono)
            if self._carries(egress):
                return egress
            raise UpstreamUnreachable(
                f"The egress {egress.name} of this API key is another gateway and carries no WebSockets."
            )
        if not egresses:
            raise UpstreamUnreachable(f"No entry of EGRESS carries WebSockets of {market}.")
        usable = [egress for egress in egresses if not egress.is_quarantined(market, mono)] or egresses
        self._turn += 1
        return usable[self._turn % len(usable)]

    # --- opening -----------------------------------------------------------------------------

    async def open(
        self,
        host: str,
        target: str,
        market: Market,
        *,
        api_key: str | None = None,
        listen_key: str = "",
        client: str = "",
        purpose: str = "",
    ) -> RelayConnection:
        """Open one connection for one client, once.

        Shape: `purpose` is `ACCOUNT` for the gateway's own watch over an account.
        Raises: UpstreamUnreachable; Busy, with the time until there is room, if the address has opened as
            many as it may; EgressExhausted if the handshake of the WebSocket API does not fit.
        """
        egress = self._choose(market, api_key, listen_key)
        mono = self._clock.mono()
        most = _CONNECTS
        if purpose:
            most = _ACCOUNT_API_CONNECTS if host.startswith("ws_api") else _ACCOUNT_CONNECTS
        connects = self._connects.setdefault(
            (egress.name, host + purpose), WindowBudget(most, CONNECT_WINDOW_S)
        )
        wait_s = connects.wait_s(mono)
        if wait_s > 0:
            raise Busy(
                f"This address has opened as many connections to {market} as Binance allows in 5 minutes; "
                f"try again in {int(wait_s) + 1} s.",
                retry_after_s=int(wait_s) + 1,
            )
        grant = None
        if host.startswith("ws_api"):
            charge = handshake_charge(market)
            try:
                grant = self._admit(market, charge, egress, client)
            except EgressExhausted:
                if not await self.has_more_room(market, charge, None, egress):
                    raise
                grant = self._admit(market, charge, egress, client)
        connects.take(mono)
        try:
            session = await self._session(egress.name, host)
            socket = await session.open(target, _MAX_MESSAGE_BYTES)
        except StreamBroken as error:
            if grant is not None:
                self._governor.unanswered(grant, self._clock.mono())
            if error.retry_after_s:
                raise Busy(f"{error}", retry_after_s=int(error.retry_after_s) + 1) from None
            raise UpstreamUnreachable(f"No WebSocket to {market}: {error}.") from None
        except BaseException:
            if grant is not None:
                self._governor.unanswered(grant, self._clock.mono())
            raise
        if grant is not None:
            self._governor.answered(grant, 101, None, self._clock.mono())
        return RelayConnection(socket, egress, self._tasks)

    async def _session(self, egress: str, host: str) -> StreamSession:
        session = self._sessions.get((egress, host))
        if session is None:
            session = make_stream_session(
                self._specs[egress], self._urls[host], _CONNECT_TIMEOUT_S, ssl_context=self._ssl_context
            )
            await session.start()
            self._sessions[egress, host] = session
        return session

    # --- weight ------------------------------------------------------------------------------

    def _admit(
        self, market: Market, charge: Charge, egress: Egress, client: str, key: str | None = None
    ) -> Grant:
        others = [other for other in self._governor.egresses_of(market) if other is not egress]
        return self._governor.admit(
            market, charge, self._clock.mono(), key=key, client=client, priority=CLIENT, excluding=others
        )

    async def has_more_room(self, market: Market, charge: Charge, key: str | None, egress: Egress) -> bool:
        """Have more weight granted where nodes share an address; tell whether it is worth trying again."""
        return self.on_no_room is not None and await self.on_no_room(market, charge, key, egress)

    def fits(self, market: Market, api_key: str, egress: Egress) -> bool:
        """Tell whether a connection through this egress may carry what an API key signs."""
        if not self.has_choice(market):
            return True
        return self._governor.egress_of_key(market, api_key, self._clock.mono()) is egress

    def desk(self, market: Market, egress: Egress, client: str) -> ApiDesk:
        """Make what keeps the books of one connection to the WebSocket API."""
        desk = ApiDesk(self, market, egress, client)
        self._desks.add(desk)
        return desk

    async def drain(self, longest_s: float) -> None:
        """Wait until every request that was sent has its answer."""
        end = self._clock.mono() + longest_s
        while any(desk.unanswered for desk in self._desks) and self._clock.mono() < end:
            await asyncio.sleep(_DRAIN_STEP_S)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under way."""

    method: str
    grant: Grant
    key: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer of one request; `status` is that of the JSON."""

    method: str
    status: int
    duration_ms: float


class ApiDesk:
    """Charges each request of one WebSocket API connection before it is sent."""

    def __init__(self, relays: Relays, market: Market, egress: Egress, client: str) -> None:
        self._relays = relays
        self._governor = relays._governor
        self._clock = relays._clock
        self._market = market
        self._egress = egress
        self._client = client
        # By the JSON text of the id, in the order they were sent.
        self._open: dict[bytes, list[_Asked]] = {}
        # Whose orders they are, if the requests do not say so themselves: of `session.logon`.
        self._session_key: str | None = None

    @property
    def unanswered(self) -> list[str]:
        """The methods of the requests under way."""
        return [asked.method for waiting in self._open.values() for asked in waiting]

    def admit(self, request: dict[str, Any]) -> bytes | None:
        """Reserve the weight of a request; return the error Binance would send if it does not fit.

        Shape: the request as parsed, with a `method` that is text.
        """
        method, params = request["method"], request.get("params")
        charge = method_charge(self._market, method, params if isinstance(params, dict) else {})
        message_id = orjson.dumps(request.get("id"))
        key = key_of(request) or self._session_key
        try:
            grant = self._relays._admit(self._market, charge, self._egress, self._client, key)
        except EgressExhausted as error:
            return self._refusal(message_id, error)
        if method == "session.logon":
            self._session_key = key
        self._open.setdefault(message_id, []).append(_Asked(method, grant, key))
        return None

    async def has_more_room(self, request: dict[str, Any]) -> bool:
        """Have more weight granted for a request that was refused, see `Relays.has_more_room`."""
        params = request.get("params")
        charge = method_charge(self._market, request["method"], params if isinstance(params, dict) else {})
        key = key_of(request) or self._session_key
        return await self._relays.has_more_room(self._market, charge, key, self._egress)

    def _refusal(self, message_id: bytes, error: EgressExhausted) -> bytes:
        """Source: web-socket-api.md of 2026-07-21, "Response format" and "IP limits"."""
        now_ms = int(self._governor.clock.low_ms(self._clock.mono()))
        data = {"serverTime": now_ms, "retryAfter": now_ms + error.retry_after_s * 1000}
        text = orjson.dumps(
            {"status": error.answer.status, "error": {"code": -1003, "msg": error.msg, "data": data}}
        )
        return b'{"id":' + message_id + b"," + text[1:]

    def note(self, message: str) -> Answered | None:
        """Learn from a message of the upstream; None for what answers no request, such as an event."""
        if not self._open:
            return None
        head = message[:_HEAD_BYTES].encode()
        status = _STATUS.search(head)
        if status is None:
            return None
        found = _ID.search(head)
        asked = self._take(found[1] if found is not None else b"")
        if asked is None:
            return None
        grant = asked.grant
        tail = message[-_TAIL_BYTES:].encode()
        used = _USED.search(tail)
        mono = self._clock.mono()
        code = int(status[1])
        self._governor.answered(
            grant, code if code in (418, 429) else 200, int(used[1]) if used else None, mono
        )
        if code in (418, 429):
            self._close(asked, code, tail, mono)
        return Answered(asked.method, code, (mono - grant.sent_mono) * 1000)

    def _take(self, message_id: bytes) -> _Asked | None:
        """Take the request that is answered. One whose id nobody knows answers no order, as far as is known."""
        waiting = self._open.get(message_id)
        if waiting is None:
            others = (each for each, asked in self._open.items() if not asked[0].grant.charge.is_order)
            first = next(others, None)
            if first is None:
                return None
            message_id, waiting = first, self._open[first]
        asked = waiting.pop(0)
        if not waiting:
            del self._open[message_id]
        return asked

    def _close(self, asked: _Asked, status: int, tail: bytes, mono: float) -> None:
        """A 429 or 418 came: nothing more goes into that pool there, by REST neither."""
        grant = asked.grant
        found = _RETRY_AFTER.search(tail)
        pause_s = _BAN_S if status == 418 else 60.0
        if found is not None:
            pause_s = (int(found[1]) - self._governor.clock.low_ms(mono)) / 1000
        pause_s = min(_MAX_PAUSE_S, max(1.0, pause_s))
        if status == 429 and grant.charge.is_order and b"-1015" in tail:
            # The account's own limit of orders, by REST too.
            self._governor.pause_orders(asked.key or "", grant.charge.pool, mono + pause_s)
            return
        self._governor.close(grant, status, pause_s, mono)
        logger.warning(
            "the WebSocket API of %s answers %d through %s: nothing is sent there to %s for %d s",
            self._market, status, self._egress.name, grant.charge.pool, int(pause_s),
        )  # fmt: skip

    def end(self) -> list[str]:
        """The connection is gone; return the methods of the requests that have no answer."""
        self._relays._desks.discard(self)
        left = self.unanswered
        for waiting in self._open.values():
            for asked in waiting:
                self._governor.unanswered(asked.grant, self._clock.mono())
        self._open.clear()
        return left


def key_of(request: dict[str, Any]) -> str | None:
    """Return the API key a request of the WebSocket API carries."""
    params = request.get("params")
    key = params.get("apiKey") if isinstance(params, dict) else None
    return key if isinstance(key, str) and key else None


def is_request(request: Any) -> bool:
    """Tell whether this is a request whose answer can be told from others: id and method are plain."""
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return False
    number = request.get("id")
    return number is None or type(number) is int or (isinstance(number, str) and len(number) <= _MAX_ID_CHARS)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
