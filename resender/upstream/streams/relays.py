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

import aiohttp
from aiohttp import WSMsgType

from resender.aio import Clock, Tasks
from resender.core.binance.markets import MARGIN_STREAM_NAME, STREAM_NAMES, WS_API_NAMES, Market
from resender.core.binance.stream_pacing import CONNECT_WINDOW_S
from resender.core.cluster.homes import Peer
from resender.core.cluster.node_proof import ANYBODY
from resender.core.egress.governor import CLIENT, Governor
from resender.core.egress.spec import EgressSpec
from resender.core.egress.state import Egress, Grant
from resender.core.fanout.protocol import UNSPOKEN_CODES
from resender.core.weights.rules import Charge
from resender.core.weights.ws_api import handshake_charge
from resender.core.window_budget import WindowBudget
from resender.errors import Busy, EgressExhausted, UpstreamUnreachable
from resender.upstream.hops import Hops
from resender.upstream.rest import readable
from resender.upstream.streams.api_desk import ApiDesk
from resender.upstream.streams.session import Socket, StreamBroken, StreamSession
from resender.upstream.streams.spread import make_stream_session

logger = logging.getLogger("resender.upstream")

# Beside what the gateway's own pools of that market may open, see `Feeds`: 300 in 5 minutes for an address.
# User data and the WebSocket API have a half each: neither uses up what the other needs to trade.
_CONNECTS = 30
# The gateway's own watch over accounts has a count of its own; the WebSocket API's host has no pools beside it.
_ACCOUNT_CONNECTS, _ACCOUNT_API_CONNECTS = 20, 200
ACCOUNT = "account"
_BINANCE_NAMES = {
    **{f"stream_{market}": name for name, market in reversed(STREAM_NAMES.items())},
    **{f"ws_api_{market}": name for name, market in WS_API_NAMES.items()},
    "stream_margin": MARGIN_STREAM_NAME,
}
NoRoom = Callable[[Market, Charge, str | None, Egress | None], Awaitable[bool]]
_CONNECT_TIMEOUT_S = 10.0
_CLOSE_S = 2.0
_DRAIN_STEP_S = 0.02
# User data may be quiet for hours: without pings nobody would see that the connection is gone.
_PING_EVERY_S = 20.0
_SILENCES = 3
_SIGNS = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})
_MAX_MESSAGE_BYTES = 16 << 20
_MAX_KEYS = 4096
_LISTEN_KEY = re.compile(rb'"listenKey"\s*:\s*"([A-Za-z0-9]{20,200})"')


class RelayConnection:
    """One upstream WebSocket of one client."""

    def __init__(self, socket: Socket, egress: Egress | None, tasks: Tasks, peer: Peer | None = None) -> None:
        self._tasks = tasks
        self._closing: asyncio.Task[None] | None = None
        self._socket = socket
        self._ws = socket.ws
        # The one it leaves through, or the node that has that one.
        self.egress = egress
        self.peer = peer
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
        self.governor = governor
        self.clock = clock
        self._ssl_context = ssl_context
        self._sessions: dict[tuple[str, str], StreamSession] = {}
        self._connects: dict[tuple[str, str], WindowBudget] = {}
        self.desks: set[ApiDesk] = set()
        self._listen_keys: dict[bytes, str] = {}
        self._turn = 0
        self._tasks = Tasks()
        # Asked where a request has found no room, see `EgressPool`.
        self.on_no_room: NoRoom | None = None
        # Where there are other nodes: what opens connections through them.
        self.hops: Hops | None = None

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
        is_among_nodes = self.hops is not None and self.hops.homes.has_others
        return is_among_nodes or len(self.governor.egresses_of(market)) > 1

    def _carries(self, egress: Egress) -> bool:
        return egress.name in self._specs

    def _choose(self, market: Market, api_key: str | None, listen_key: str) -> Egress:
        mono = self.clock.mono()
        egresses = [egress for egress in self.governor.egresses_of(market) if self._carries(egress)]
        bound = self._listen_keys.get(_digest(listen_key)) if listen_key else None
        found = next((egress for egress in egresses if egress.name == bound), None)
        if found is not None:
            return found
        if api_key and len(self.governor.egresses_of(market)) > 1:
            egress = self.governor.egress_of_key(market, api_key, mono)
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

    def _peer_of(self, market: Market, api_key: str | None, listen_key: str) -> Peer | None:
        """Return the node a connection is to leave from, None if that is this one. Raises: EgressAway."""
        if self.hops is None:
            return None
        homes, mono = self.hops.homes, self.clock.mono()
        bound = self._listen_keys.get(_digest(listen_key), "") if listen_key else ""
        if "/" in bound:
            return homes.peer(bound.partition("/")[0], mono)
        return homes.home(market, None if bound else api_key, mono)

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
        is_hop: bool = False,
    ) -> RelayConnection:
        """Open one connection for one client, once.

        Shape: `purpose` is `ACCOUNT` for the gateway's own watch over an account; with `is_hop` another node has
            asked for it.
        Raises: UpstreamUnreachable; Busy, with the time until there is room, if the address has opened as
            many as it may; EgressExhausted if the handshake of the WebSocket API does not fit.
        """
        peer = None if purpose or is_hop else self._peer_of(market, api_key, listen_key)
        if peer is not None:
            return await self._open_through(peer, host, target, market, api_key, client)
        egress = self._choose(market, api_key, listen_key)
        mono = self.clock.mono()
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
                grant = self.admit(market, charge, egress, client)
            except EgressExhausted:
                if not await self.has_more_room(market, charge, None, egress):
                    raise
                grant = self.admit(market, charge, egress, client)
        connects.take(mono)
        try:
            session = await self._session(egress.name, host)
            socket = await session.open(target, _MAX_MESSAGE_BYTES)
        except StreamBroken as error:
            if grant is not None:
                self.governor.unanswered(grant, self.clock.mono())
            if error.retry_after_s:
                raise Busy(f"{error}", retry_after_s=int(error.retry_after_s) + 1) from None
            raise UpstreamUnreachable(f"No WebSocket to {market}: {error}.") from None
        except BaseException:
            if grant is not None:
                self.governor.unanswered(grant, self.clock.mono())
            raise
        if grant is not None:
            self.governor.answered(grant, 101, None, self.clock.mono())
        return RelayConnection(socket, egress, self._tasks)

    async def _open_through(
        self, peer: Peer, host: str, target: str, market: Market, api_key: str | None, client: str
    ) -> RelayConnection:
        """Have another node open a connection; what is asked over it is charged there."""
        path = f"/{_BINANCE_NAMES[host]}{target}"
        return await self._open_at(peer, path, market, api_key, client, {})

    async def open_local(
        self,
        peer: Peer,
        target: str,
        market: Market,
        *,
        api_key: str | None,
        client: str,
        headers: Mapping[str, str],
    ) -> RelayConnection:
        """Open a WebSocket below `/local/` of another node. Raises: UpstreamUnreachable, Busy."""
        return await self._open_at(peer, target, market, api_key, client, headers)

    async def _open_at(
        self,
        peer: Peer,
        path: str,
        market: Market,
        api_key: str | None,
        client: str,
        headers: Mapping[str, str],
    ) -> RelayConnection:
        assert self.hops is not None
        shown = {**headers} if api_key is None else {**headers, "X-MBX-APIKEY": api_key}
        try:
            socket = await self.hops.open(peer, path, client or ANYBODY, _MAX_MESSAGE_BYTES, shown)
        except StreamBroken as error:
            if error.retry_after_s:
                raise Busy(f"{error}", retry_after_s=int(error.retry_after_s) + 1) from None
            self.hops.avoid(peer, str(error))
            raise UpstreamUnreachable(f"No WebSocket to {market} by node {peer.name}: {error}.") from None
        return RelayConnection(socket, None, self._tasks, peer)

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

    def admit(
        self, market: Market, charge: Charge, egress: Egress, client: str, key: str | None = None
    ) -> Grant:
        others = [other for other in self.governor.egresses_of(market) if other is not egress]
        return self.governor.admit(
            market, charge, self.clock.mono(), key=key, client=client, priority=CLIENT, excluding=others
        )

    async def has_more_room(self, market: Market, charge: Charge, key: str | None, egress: Egress) -> bool:
        """Have more weight granted where nodes share an address; tell whether it is worth trying again."""
        return self.on_no_room is not None and await self.on_no_room(market, charge, key, egress)

    def fits(
        self, market: Market, api_key: str, connection: RelayConnection, *, is_hop: bool = False
    ) -> bool:
        """Tell whether a connection may carry what an API key signs. Raises: EgressAway if none may now."""
        if not self.has_choice(market):
            return True
        if not is_hop and self._peer_of(market, api_key, "") != connection.peer:
            return False
        if connection.peer is not None or len(self.governor.egresses_of(market)) == 1:
            return True
        return self.governor.egress_of_key(market, api_key, self.clock.mono()) is connection.egress

    def desk(self, market: Market, egress: Egress | None, client: str) -> ApiDesk:
        """Make what keeps the books of one connection to the WebSocket API."""
        desk = ApiDesk(self, market, egress, client)
        self.desks.add(desk)
        return desk

    async def drain(self, longest_s: float) -> None:
        """Wait until every request that was sent has its answer."""
        end = self.clock.mono() + longest_s
        while any(desk.unanswered for desk in self.desks) and self.clock.mono() < end:
            await asyncio.sleep(_DRAIN_STEP_S)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
