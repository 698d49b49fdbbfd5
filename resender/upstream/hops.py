"""Calls and WebSockets that another node of this installation sends to Binance: one hop, never two.

The other node's answer passes as it came. `Hops` owns one pooled session for each node; which node it is,
`Homes` decides.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from resender.aio import Clock
from resender.core.account.spec import AccountMarket
from resender.core.binance.headers import Pairs
from resender.core.binance.markets import BY_MARKET
from resender.core.cluster.homes import Homes, Peer
from resender.core.cluster.node_proof import ANYBODY, NODE_HEADER, WAITED_HEADER, make_proof
from resender.errors import EgressAway, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.log import Seldom
from resender.upstream.connector import EgressRoute, Timeouts
from resender.upstream.egress import Call
from resender.upstream.rest import REPEATABLE, RestClient, RestResponse
from resender.upstream.streams.session import Socket, StreamBroken, StreamSession

logger = logging.getLogger("resender.cluster")

# An answer out of memory may take so long from the moment it holds for until it is here.
_LONGEST_S = 0.5
_TRIES = 3
_CONNECT_S = 5.0
_SAY_EVERY_S = 60.0
_OURS = b"x-resender-"
_EGRESS = b"x-resender-egress"
_ERROR, _AWAY = b"x-resender-error", EgressAway.name.encode()
_CACHE = b"x-resender-cache"
_WAITED = WAITED_HEADER.lower().encode()
_KEPT = (b"hit", b"shared")


class Hops:
    """The way to the other nodes."""

    def __init__(
        self,
        homes: Homes,
        secret: str,
        timeouts: Timeouts,
        *,
        clock: Clock,
        keepalive_s: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self.homes = homes
        self._secret = secret
        self._timeouts = timeouts
        self._clock = clock
        self._keepalive_s = keepalive_s
        self._ssl_context = ssl_context
        self._clients: dict[str, RestClient] = {}
        self._sessions: dict[str, StreamSession] = {}
        # Market, name and the SHA-256 of each key of the accounts of the installation, whoever watches them.
        self.accounts: tuple[tuple[AccountMarket, str, str], ...] = ()
        self._seldom = Seldom(logger, _SAY_EVERY_S)
        # What was sent through other nodes, and what of their memory came too late to be used.
        self.calls = self.late = self.moved = 0

    async def stop(self) -> None:
        for client in [*self._clients.values(), *self._sessions.values()]:
            await client.stop()

    # --- calls -----------------------------------------------------------------------------

    async def send(self, call: Call) -> RestResponse | None:
        """Send a call through the node it is to leave from; None if that is this one.

        A node that cannot be reached is passed over, since nothing was sent: whatever may have left is never sent
        again. Raises: AnswerError; EgressAway where the one node that may send the call is not there.
        """
        error: UpstreamUnreachable | None = None
        for _ in range(_TRIES):
            peer = self.homes.home(call.market, call.key, self._clock.mono())
            if peer is None:
                return None
            target = f"/{BY_MARKET[call.market].prefix}{call.target}"
            try:
                return await self.pass_on(peer, call.method, target, call.headers, call.body, call.client)
            except UpstreamUnreachable as unreachable:
                error = unreachable
        assert error is not None
        raise error

    def home_of_local(self, account: AccountMarket | None, key: str | None, name: str | None) -> Peer | None:
        """Return the node that answers an endpoint below `/local/`, None if it is this one.

        Shape: `account` is the market of one that is about accounts, with the key that is shown or posted, or the
            name that is given with a token. Raises: EgressAway.
        """
        homes, mono = self.homes, self._clock.mono()
        if account is not None and key:
            return homes.home(account.host, key, mono)
        if account is not None:
            for market, known, digest in self.accounts:
                if market is account and (name is None or known.lower() == name.lower()):
                    return homes.home_of_digest(market.host, bytes.fromhex(digest), mono)
        if not homes.is_front:
            return None
        peer = homes.collector(mono)
        if peer is None:
            raise EgressAway("No node that has market data is there now.")
        return peer

    def avoid(self, peer: Peer, why: str) -> None:
        """A node could not be reached: others take its place for some seconds."""
        self.homes.avoid(peer, self._clock.mono())
        self.moved += 1
        self._seldom.say(logging.WARNING, peer.name, self._clock.mono(), f"node {peer.name}: {why}")

    async def ask_collector(
        self, method: str, target: str, headers: Pairs, body: bytes, client: str
    ) -> RestResponse:
        """Have the node that serves market data answer a request as it is. Raises: AnswerError."""
        error: UpstreamUnreachable | None = None
        for _ in range(_TRIES):
            peer = self.homes.collector(self._clock.mono())
            if peer is None:
                break
            try:
                return await self.pass_on(peer, method, target, headers, body, client)
            except UpstreamUnreachable as unreachable:
                error = unreachable
        raise error or EgressAway("No node that has market data is there now.")

    async def pass_on(
        self, peer: Peer, method: str, target: str, headers: Pairs, body: bytes, client: str
    ) -> RestResponse:
        """Have a node answer a request as one of its own clients'.

        Raises: AnswerError; UpstreamUnreachable if nothing was sent, and then the node is avoided for a while.
        """
        self.calls += 1
        began = self._clock.mono()
        try:
            response = await self._ask(peer, method, target, headers, body, client)
        except (UpstreamUnreachable, UpstreamTimeout) as error:
            self.avoid(peer, error.msg)
            raise
        if response.status == 503 and _header(response, _ERROR) == _AWAY:
            response.close()
            self.avoid(peer, "it is stopping")
            raise UpstreamUnreachable(f"The node {peer.name} is stopping; nothing was sent.")
        if method in REPEATABLE and self._is_late(response, began):
            # What was proven when it was told is not now: it was stopped on its way.
            response.close()
            self.late += 1
            began = self._clock.mono()
            response = await self._ask(peer, method, target, _fresh(headers), body, client)
            if self._is_late(response, began):
                response.close()
                raise UpstreamLost(f"The node {peer.name} answers too slowly.")
        _tidy(response, peer)
        return response

    async def _ask(
        self, peer: Peer, method: str, target: str, headers: Pairs, body: bytes, client: str
    ) -> RestResponse:
        proof = make_proof(self._secret, peer.name, self._clock.now_ms(), method, target, body, client)
        session = self._clients.get(peer.url)
        if session is None:
            session = self._clients[peer.url] = RestClient(
                peer.url,
                self._timeouts,
                keepalive_s=self._keepalive_s,
                dns_cache_s=30.0,
                ssl_context=self._ssl_context,
                egress=EgressRoute(f"node {peer.name}", is_gateway=True, prefix=urlsplit(peer.url).path),
            )
            await session.start()
        return await session.send(method, target, [*headers, (NODE_HEADER, proof)], body)

    def _is_late(self, response: RestResponse, began: float) -> bool:
        if not _is_kept(response):
            return False
        told = _header(response, _WAITED)
        waited_s = int(told) / 1000 if told.isdigit() and len(told) < 7 else 0.0
        return self._clock.mono() - began - waited_s > _LONGEST_S

    # --- WebSockets ------------------------------------------------------------------------

    async def open(
        self,
        peer: Peer,
        target: str,
        client: str,
        max_message_bytes: int,
        headers: Mapping[str, str] | None = None,
    ) -> Socket:
        """Open a WebSocket of a node as one of its own clients, once. Raises: StreamBroken."""
        session = self._sessions.get(peer.url)
        if session is None:
            session = self._sessions[peer.url] = StreamSession(
                "ws" + peer.url.removeprefix("http"), _CONNECT_S, ssl_context=self._ssl_context
            )
            await session.start()
        proof = make_proof(self._secret, peer.name, self._clock.now_ms(), "GET", target, b"", client)
        return await session.open(target, max_message_bytes, {**(headers or {}), NODE_HEADER: proof})


class CollectorSession:
    """Opens streams of whichever node serves market data now. Shape: `name` is that of Binance's host."""

    def __init__(self, hops: Hops, clock: Clock, name: str) -> None:
        self._hops = hops
        self._clock = clock
        self._name = name

    async def start(self) -> None:
        """Nothing has to be: sessions are those of `Hops`."""

    async def stop(self) -> None:
        """See `start`."""

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        """Open one WebSocket, once. Raises: StreamBroken."""
        peer = self._hops.homes.collector(self._clock.mono())
        if peer is None:
            raise StreamBroken("no node that has streams is there now", 1.0)
        try:
            return await self._hops.open(peer, f"/{self._name}{target}", ANYBODY, max_message_bytes)
        except StreamBroken as error:
            if not error.retry_after_s:
                self._hops.avoid(peer, str(error))
            raise


def collector_sessions(hops: Hops, clock: Clock) -> Callable[[str, float], CollectorSession]:
    """Return what opens streams of other nodes for a URL that names Binance's host after its scheme."""
    return lambda url, timeout_s: CollectorSession(hops, clock, urlsplit(url).netloc)


def _header(response: RestResponse, name: bytes) -> bytes:
    return next((value for key, value in response.headers if key.lower() == name), b"")


def _is_kept(response: RestResponse) -> bool:
    return bool(_header(response, _WAITED)) or _header(response, _CACHE) in _KEPT


def _fresh(headers: Pairs) -> Pairs:
    others = [(name, value) for name, value in headers if name.lower() != "cache-control"]
    return [*others, ("Cache-Control", "no-cache")]


def _tidy(response: RestResponse, peer: Peer) -> None:
    """Set apart what the other node tells the client; it names the egress there."""
    kept = []
    egress = ""
    for name, value in response.headers:
        lower, text = name.lower(), value.decode("latin-1")
        if lower == _EGRESS:
            egress = text
        elif lower.startswith(_OURS):
            response.told.append((name.decode("latin-1"), text))
        elif lower != _WAITED:
            kept.append((name, value))
    response.egress = f"{peer.name}/{egress}".rstrip("/")
    response.headers = tuple(kept)
