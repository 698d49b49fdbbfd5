"""All upstream streams of the gateway, each opened once for any number of listeners.

A `Feed` is the streams of one market and URL path on one `StreamPool`; a listener subscribes to
names and gets every frame as it came and parsed. What a frame means is the listener's. `Feeds` owns
every pool; it starts a feed with its first user and stops all of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from resender.aio import Clock, Tasks
from resender.core.binance.markets import STREAM_PATHS, Market
from resender.core.binance.stream_pacing import StreamLimits
from resender.core.egress.spec import EgressSpec
from resender.upstream.streams.connects import Connects
from resender.upstream.streams.pool import ConnectionInfo, StreamPool
from resender.upstream.streams.session import Opens
from resender.upstream.streams.spread import Health, SpreadSessions

# The streams of the cache's second source have a connection of their own: it must not fall silent
# together with what it vouches for.
WITNESS = "witness"
# Times in microseconds are asked for in the URL and hold for the whole connection.
MICROSECOND = "microsecond"
# Streams for clients that another node may have for the whole installation.
SHARED, SHARED_MICROSECOND = "shared", "shared-microsecond"


class Listener(Protocol):
    """Who subscribes to streams; called on the loop, must not block.

    Shape: `on_frame` gets the stream's name, the payload as parsed and the whole message as it came; it
        returns False or raises ValueError, KeyError or TypeError if the data is unusable. `on_live`
        names streams that have become subscribed, `on_lost` those no connection carries any more.
        `is_relay` tells that it passes messages on as they came, in order: it is handed no payload
        where nobody else wants it read.
    """

    is_relay: bool

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None: ...
    def on_live(self, names: list[str]) -> None: ...
    def on_lost(self, names: list[str]) -> None: ...


class Feed:
    """The streams of one market and path, with counted listeners."""

    def __init__(self, make_pool: Callable[[Feed], StreamPool]) -> None:
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self.raw_names: set[str] = set()
        self.relayed_names: set[str] = set()
        self.pool = make_pool(self)
        self._is_started = False

    async def start(self) -> None:
        """Open connections for what is wanted; later calls do nothing."""
        if not self._is_started:
            self._is_started = True
            await self.pool.start()

    async def stop(self) -> None:
        await self.pool.stop()

    def subscribe(self, names: Iterable[str], listener: Listener) -> None:
        """Let a listener have these streams; what is live already is told to it soon.

        Raises: ValueError for a name that cannot be one; then none is taken.
        """
        fresh = [name for name in dict.fromkeys(names) if listener not in self._listeners.get(name, ())]
        self.pool.want(fresh)
        there = [name for name in fresh if name in self._listeners and self.pool.proof_mono(name) is not None]
        for name in fresh:
            self._hear(name, (*self._listeners.get(name, ()), listener))
        if there:
            asyncio.get_running_loop().call_soon(self._tell_late, there, listener)

    def _tell_late(self, names: list[str], listener: Listener) -> None:
        still = [
            name
            for name in names
            if listener in self._listeners.get(name, ()) and self.pool.proof_mono(name) is not None
        ]
        if still:
            listener.on_live(still)

    def unsubscribe(self, names: Iterable[str], listener: Listener) -> None:
        """A listener wants these no longer; the last one takes the stream with it."""
        unwanted = []
        for name in names:
            left = tuple(each for each in self._listeners.get(name, ()) if each is not listener)
            if not left and name in self._listeners:
                unwanted.append(name)
            self._hear(name, left)
        self.pool.drop(unwanted)

    def _hear(self, name: str, listeners: tuple[Listener, ...]) -> None:
        if listeners:
            self._listeners[name] = listeners
        else:
            self._listeners.pop(name, None)
        relays = sum(listener.is_relay for listener in listeners)
        (self.relayed_names.add if relays else self.relayed_names.discard)(name)
        (self.raw_names.add if relays and relays == len(listeners) else self.raw_names.discard)(name)

    def shift(self, name: str, mute_s: float) -> None:
        """Carry a stream on another connection, see `StreamPool.shift`."""
        self.pool.shift(name, mute_s)

    def proof_mono(self, name: str) -> float | None:
        """Return when the stream's connection last gave a sign of life, see `StreamPool.proof_mono`."""
        return self.pool.proof_mono(name)

    def is_proven(self, name: str) -> bool:
        """Tell whether its connection has brought anything, see `StreamPool.is_proven`."""
        return self.pool.is_proven(name)

    def carrier(self, name: str) -> object:
        """Return what stands for the connection of a stream, the same for all streams it carries."""
        return self.pool.carrier(name)

    @property
    def connections(self) -> list[ConnectionInfo]:
        return self.pool.connections

    # --- what the pool says ----------------------------------------------------------------

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        listeners = self._listeners.get(name, ())
        if data is None and name not in self.raw_names:
            # Kept back unread by a rotation, and since then somebody came who wants it read.
            data = orjson.loads(raw)["data"]
        if len(listeners) == 1:
            return listeners[0].on_frame(name, data, raw)
        # One that cannot use a frame must not keep it from the others.
        verdict: bool | None = None
        failure: Exception | None = None
        for listener in listeners:
            try:
                if listener.on_frame(name, data, raw) is False:
                    verdict = False
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return verdict

    def on_live(self, names: list[str]) -> None:
        self._tell(names, lambda listener, mine: listener.on_live(mine))

    def on_lost(self, names: list[str]) -> None:
        self._tell(names, lambda listener, mine: listener.on_lost(mine))

    def _tell(self, names: list[str], tell: Callable[[Listener, list[str]], None]) -> None:
        by_listener: dict[int, tuple[Listener, list[str]]] = {}
        for name in names:
            for listener in self._listeners.get(name, ()):
                by_listener.setdefault(id(listener), (listener, []))[1].append(name)
        failure: Exception | None = None
        for listener, mine in by_listener.values():
            try:
                tell(listener, mine)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure


class Feeds:
    """Every feed of the gateway.

    Shape: `urls` are the stream hosts by market; `silence_s` and `streams_per_connection` as in
        `StreamLimits`; `health` is what is known of the egresses, `connects` what was opened lately;
        `open_with` makes what opens connections to a URL within so many seconds, in place of the egresses;
        `share_with` makes that of shared streams of a market out of what opens them at Binance.
    """

    def __init__(
        self,
        egresses: Sequence[EgressSpec],
        urls: Mapping[Market, str],
        *,
        silence_s: float,
        streams_per_connection: int,
        clock: Clock,
        tasks: Tasks,
        ssl_context: ssl.SSLContext,
        health: Health | None = None,
        connects: Connects | None = None,
        open_with: Callable[[str, float], Opens] | None = None,
        share_with: Callable[[Market, Opens], Opens] | None = None,
    ) -> None:
        self._connects = connects
        self._open_with = open_with
        self._share_with = share_with
        self._egresses = egresses
        self._urls = urls
        self._silence_s = silence_s
        self._streams_per_connection = streams_per_connection
        self._clock = clock
        self._tasks = tasks
        self._ssl_context = ssl_context
        self._health = health
        self._feeds: dict[tuple[Market, str, str], Feed] = {}

    def feed(self, market: Market, what: str, role: str = "") -> Feed:
        """Return the feed that carries a kind of stream (`kline`, `bookTicker`, `miniTicker`).

        Shape: feeds of another `role` have connections of their own.
        """
        return self.at(market, STREAM_PATHS[market][what], role)

    def at(self, market: Market, path: str, role: str = "") -> Feed:
        """Return the feed of a URL path of the market's stream host, see `StreamPool`.

        Shape: with the role `MICROSECOND` times come in microseconds; spot only.
        """
        key = (market, path, role)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(lambda feed: self._make_pool(*key, feed))
        return feed

    def renew_shared(self, markets: Iterable[Market]) -> None:
        """Open the connections of shared streams of these markets anew: another node has them now."""
        among = set(markets)
        for (market, _, role), feed in self._feeds.items():
            if market in among and role in (SHARED, SHARED_MICROSECOND):
                feed.pool.renew()

    async def stop(self) -> None:
        for feed in self._feeds.values():
            await feed.stop()

    def _make_pool(self, market: Market, path: str, role: str, feed: Feed) -> StreamPool:
        # Spot allows 5 messages a second, pings and pongs included, futures 10.
        # Source: web-socket-streams.md of 2026-07-21; um and cm general info.
        limits = StreamLimits(
            streams_per_connection=self._streams_per_connection,
            messages_per_s=3.0 if market is Market.SPOT else 6.0,
            # 300 in 5 minutes for an address: 60 are left to what clients relay, 30 to each other role;
            # on USD-M two pools share the rest.
            connects_per_5_min=30 if role else 90 if market is Market.UM else 180,
            silence_s=self._silence_s,
            ping_every_s=min(3.0, self._silence_s * 0.45),
        )
        url = self._urls[market]

        connects = None
        if self._connects is not None:
            name = f"{market}{path}{role and ':' + role}"
            connects = self._connects.budget(name, limits.connects_per_5_min)

        def make_session() -> Opens:
            own: Opens
            if self._open_with is not None:
                own = self._open_with(url, limits.connect_timeout_s)
            else:
                own = SpreadSessions(
                    self._egresses,
                    url,
                    limits.connect_timeout_s,
                    market=market,
                    ssl_context=self._ssl_context,
                    clock=self._clock,
                    health=self._health,
                )
            if self._share_with is not None and role in (SHARED, SHARED_MICROSECOND):
                return self._share_with(market, own)
            return own

        return StreamPool(
            market, url, path, limits,
            on_frame=feed.on_frame, on_live=feed.on_live, on_lost=feed.on_lost,
            tasks=self._tasks, clock=self._clock, role=role, session_factory=make_session, connects=connects,
            query="?timeUnit=MICROSECOND" if role in (MICROSECOND, SHARED_MICROSECOND) else "",
            raw_names=feed.raw_names, relayed_names=feed.relayed_names,
        )  # fmt: skip
