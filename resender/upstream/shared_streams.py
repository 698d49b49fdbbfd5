"""Streams for the clients of all nodes, each opened at Binance once in the whole installation.

Of the nodes with a route to Binance one has them for all, the same one for everybody (`Homes.streams_of`); the others
hand on what it sends, as they would what Binance sends. What a node keeps market data by stays its own: it must not
depend on another one. Where the other one cannot be reached a node opens streams itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from resender.aio import Clock
from resender.core.binance.markets import Market
from resender.core.cluster.homes import Peer
from resender.core.cluster.node_proof import ANYBODY
from resender.core.cluster.worker import NODE_STREAM_URLS
from resender.log import Seldom
from resender.upstream.hops import Hops
from resender.upstream.streams.feeds import MICROSECOND, SHARED, SHARED_MICROSECOND
from resender.upstream.streams.session import Opens, Socket, StreamBroken

logger = logging.getLogger("resender.upstream")

# Connections are not moved more often: whoever has the streams may come and go.
_MOVE_EVERY_S = 30.0
# A node that gave no stream is not asked for so long, and longer if that goes on.
_AVOID_S, _AVOID_MAX_S = 30.0, 600.0
_SHARED = {"": SHARED, MICROSECOND: SHARED_MICROSECOND}


class SharedStreams:
    """Whose streams the clients of this node get. One belongs to one gateway."""

    def __init__(self, hops: Hops, clock: Clock) -> None:
        self._hops = hops
        self._clock = clock
        # The node the newest connection of a market leads to, "" for Binance, and when connections were moved.
        self._origin: dict[Market, str] = {}
        self._moved: dict[Market, float] = {}
        # Until when a node is not asked for streams of a market, and for how long. It may send calls all the same.
        self._avoided: dict[tuple[str, Market], tuple[float, float]] = {}
        self._seldom = Seldom(logger, _MOVE_EVERY_S)

    def role(self, market: Market, own: str) -> str:
        """Return the role of the feeds a client gets its streams from; `own` is that of this node's own ones.

        Shape: of the node that has the streams it is `own`, so that they are those the cache has, too.
        """
        return own if self._home(market) is None else _SHARED[own]

    def misplaced(self) -> list[Market]:
        """List the markets whose connections lead to another node than they should, seldom enough to act upon it."""
        mono = self._clock.mono()
        found = []
        for market, origin in self._origin.items():
            home = self._home(market)
            is_right = origin == (home.name if home is not None else "")
            if not is_right and mono - self._moved.get(market, float("-inf")) >= _MOVE_EVERY_S:
                self._moved[market] = mono
                found.append(market)
        return found

    def _home(self, market: Market) -> Peer | None:
        mono = self._clock.mono()
        peer = self._hops.homes.streams_of(mono)
        if peer is None or mono < self._avoided.get((peer.name, market), (0.0, 0.0))[0]:
            return None
        return peer

    def session(self, market: Market, own: Opens) -> SharedSession:
        """Make what opens the streams of a market; `own` opens them at Binance."""
        return SharedSession(self, market, own)

    async def open(self, market: Market, own: Opens, target: str, max_message_bytes: int) -> Socket:
        """Open one WebSocket of whoever has the streams now. Raises: StreamBroken."""
        peer = self._home(market)
        if peer is not None:
            path = f"/{urlsplit(NODE_STREAM_URLS[market]).netloc}{target}"
            try:
                socket = await self._hops.open(peer, path, ANYBODY, max_message_bytes)
            except StreamBroken as error:
                self._avoid(peer, market, str(error))
            else:
                self._avoided.pop((peer.name, market), None)
                self._origin[market] = peer.name
                return socket
        socket = await own.open(target, max_message_bytes)
        self._origin[market] = ""
        return socket

    def _avoid(self, peer: Peer, market: Market, why: str) -> None:
        mono = self._clock.mono()
        _, before_s = self._avoided.get((peer.name, market), (0.0, 0.0))
        pause_s = min(2 * before_s, _AVOID_MAX_S) or _AVOID_S
        self._avoided[peer.name, market] = (mono + pause_s, pause_s)
        kind = f"{peer.name} {market}"
        self._seldom.say(logging.WARNING, kind, mono, f"node {peer.name} gives no streams of {market}: {why}")


class ReaderStreams:
    """The same in a worker that has its streams from the collector beside it.

    The collector decides. It is only told which streams are for clients of this node: what another node asks for it
    never asks of a third one.
    """

    def __init__(self, open_for_clients: Callable[[Market], Opens]) -> None:
        self._open_for_clients = open_for_clients

    def role(self, market: Market, own: str) -> str:
        """See `SharedStreams.role`."""
        return _SHARED[own]

    def misplaced(self) -> list[Market]:
        """See `SharedStreams.misplaced`: the collector moves."""
        return []

    def session(self, market: Market, own: Opens) -> Opens:
        """See `SharedStreams.session`."""
        return self._open_for_clients(market)


class SharedSession:
    """Opens the streams of one market, see `SharedStreams`."""

    def __init__(self, shared: SharedStreams, market: Market, own: Opens) -> None:
        self._shared = shared
        self._market = market
        self._own = own

    async def start(self) -> None:
        await self._own.start()

    async def stop(self) -> None:
        await self._own.stop()

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        """Open one WebSocket. Raises: StreamBroken."""
        return await self._shared.open(self._market, self._own, target, max_message_bytes)
