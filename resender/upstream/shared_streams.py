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
_SHARED = {"": SHARED, MICROSECOND: SHARED_MICROSECOND}
# A node that gave no stream is not asked for so long.
_AVOID_S = 30.0


class SharedStreams:
    """Whose streams the clients of this node get. One belongs to one gateway."""

    def __init__(self, hops: Hops, clock: Clock) -> None:
        self._hops = hops
        self._clock = clock
        # The node the newest connection leads to, "" for Binance; None before the first.
        self._origin: str | None = None
        self._moved_mono = float("-inf")
        # When a node did not give a stream. It may send calls all the same.
        self._failed: dict[str, float] = {}
        self._seldom = Seldom(logger, _MOVE_EVERY_S)

    def role(self, own: str) -> str:
        """Return the role of the feeds a client gets its streams from; `own` is that of this node's own ones.

        Shape: of the node that has the streams it is `own`, so that they are those the cache has, too.
        """
        return own if self._home() is None else _SHARED[own]

    def must_move(self) -> bool:
        """Tell whether connections lead to another node than they should, seldom enough to act upon it."""
        mono = self._clock.mono()
        home = self._home()
        wanted = home.name if home is not None else ""
        if self._origin in (None, wanted) or mono - self._moved_mono < _MOVE_EVERY_S:
            return False
        self._moved_mono = mono
        return True

    def _home(self) -> Peer | None:
        mono = self._clock.mono()
        peer = self._hops.homes.streams_of(mono)
        if peer is None or mono - self._failed.get(peer.name, float("-inf")) < _AVOID_S:
            return None
        return peer

    def session(self, market: Market, own: Opens) -> SharedSession:
        """Make what opens the streams of a market; `own` opens them at Binance."""
        return SharedSession(self, market, own)

    async def open(self, market: Market, own: Opens, target: str, max_message_bytes: int) -> Socket:
        """Open one WebSocket of whoever has the streams now. Raises: StreamBroken."""
        peer = self._home()
        if peer is not None:
            path = f"/{urlsplit(NODE_STREAM_URLS[market]).netloc}{target}"
            try:
                socket = await self._hops.open(peer, path, ANYBODY, max_message_bytes)
            except StreamBroken as error:
                mono = self._clock.mono()
                self._failed[peer.name] = mono
                self._seldom.say(
                    logging.WARNING, peer.name, mono, f"node {peer.name} gives no streams: {error}"
                )
            else:
                self._origin = peer.name
                return socket
        socket = await own.open(target, max_message_bytes)
        self._origin = ""
        return socket


class ReaderStreams:
    """The same in a worker that has its streams from the collector beside it.

    The collector decides. It is only told which streams are for clients of this node: what another node asks for it
    never asks of a third one.
    """

    def __init__(self, open_for_clients: Callable[[Market], Opens]) -> None:
        self._open_for_clients = open_for_clients

    def role(self, own: str) -> str:
        """See `SharedStreams.role`."""
        return _SHARED[own]

    def must_move(self) -> bool:
        """See `SharedStreams.must_move`: the collector moves."""
        return False

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
