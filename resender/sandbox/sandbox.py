"""The simulated exchange as one thing to start and stop.

`Sandbox` owns the exchange, its listeners, the stream hubs and every task; after `stop`
nothing of them is left. It is used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from types import TracebackType

from resender.core.binance.markets import Market

from .accounts import Accounts
from .authority import LOOPBACK_NAMES, throwaway_authority
from .config import REST_SERVICES, Outage, SandboxConfig
from .exchange import Exchange
from .faults import Faults
from .http_server import Listener, RestHost
from .market import BookView, MarketStore
from .model import Call, Placement, Violation
from .rest import RestDesk
from .stream_hub import StreamHub
from .weights import WindowUse
from .ws_api import SERVICES, WsApi

_REST_SETTING = {
    "api": "UPSTREAM_API", "fapi": "UPSTREAM_FAPI", "dapi": "UPSTREAM_DAPI",
    "eapi": "UPSTREAM_EAPI", "papi": "UPSTREAM_PAPI",
}  # fmt: skip
_STREAM_SETTING = {
    Market.SPOT: ("stream_spot", "STREAM_SPOT"),
    Market.UM: ("stream_um", "STREAM_UM"),
    Market.CM: ("stream_cm", "STREAM_CM"),
}


_MATCH_S = 0.05


class Sandbox:
    """A simulated Binance on loopback; use as `async with Sandbox() as sandbox:`."""

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self.faults = Faults(self.config)
        self.urls: dict[str, str] = {}
        self._exchange = Exchange(self.config, self.faults)
        self._hosts: dict[str, RestHost] = {}
        self._listeners: dict[str, Listener] = {}
        self._hubs: dict[Market, StreamHub] = {}
        self.ws_apis: dict[Market, WsApi] = {}
        self._matcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open all listeners and fill `urls`."""
        desk = RestDesk(self._exchange)
        for name in REST_SERVICES:
            host = RestHost(name, self._exchange, desk, self.faults)
            self._hosts[name] = host
            self._listeners[name] = host.listener
        for market, (name, _) in _STREAM_SETTING.items():
            hub = StreamHub(name, market, self._exchange, self.faults.stream(market))
            self._hubs[market] = hub
            self._listeners[name] = hub.listener
        self.faults.bind(self._hubs)
        for market, name in SERVICES.items():
            self.ws_apis[market] = WsApi(market, self._exchange, desk)
            self._listeners[name] = self.ws_apis[market].listener
        if self.config.tls:
            names = dict.fromkeys((*LOOPBACK_NAMES, self.config.host))
            context = throwaway_authority().server_context(*names)
            for listener in self._listeners.values():
                listener.context = context
        try:
            for host in self._hosts.values():
                await host.listener.open()
            for hub in self._hubs.values():
                await hub.start()
            for api in self.ws_apis.values():
                await api.start()
        except OSError:
            await self.stop()
            raise
        self._matcher = asyncio.create_task(self._match(), name="sandbox-match")
        secure = "s" if self.config.tls else ""
        for name, setting in _REST_SETTING.items():
            self.urls[setting] = f"http{secure}://{self.config.host}:{self._listeners[name].port}"
        sockets = [
            *_STREAM_SETTING.values(),
            *((name, f"WS_API_{m.upper()}") for m, name in SERVICES.items()),
        ]
        for name, setting in sockets:
            self.urls[setting] = f"ws{secure}://{self.config.host}:{self._listeners[name].port}"

    async def stop(self) -> None:
        """Close everything; connections still open are cut."""
        if self._matcher is not None:
            self._matcher.cancel()
            await asyncio.gather(self._matcher, return_exceptions=True)
            self._matcher = None
        self._exchange.feed.stop()
        for hub in self._hubs.values():
            await hub.stop()
        for api in self.ws_apis.values():
            await api.stop()
        for host in self._hosts.values():
            await host.stop()

    async def _match(self) -> None:
        while True:
            await asyncio.sleep(_MATCH_S)
            if self._exchange.is_busy:
                self._exchange.match()

    async def stop_listening(self, service: str, drop: bool = True) -> None:
        """Refuse connections to a service and, with `drop`, cut the open ones."""
        self._listeners[service].close(drop)

    async def start_listening(self, service: str) -> None:
        """Listen again on the port the service had."""
        await self._listeners[service].open()

    def cut_off(self, peer: str) -> None:
        """Reset the REST connections of one address, and each new one at once."""
        for host in self._hosts.values():
            host.cut_off(peer)

    def let_in(self, peer: str) -> None:
        """Serve an address again that was cut off."""
        for host in self._hosts.values():
            host.let_in(peer)

    @property
    def ca_pem(self) -> bytes:
        """The certificate authority a client has to trust, PEM; the same for the whole process."""
        return throwaway_authority().ca_pem

    # -- what tests look at --------------------------------------------------------------

    @property
    def exchange(self) -> Exchange:
        """What is behind the doors: orders and accounts, with their truth and what forces a fill."""
        return self._exchange

    @property
    def accounts(self) -> Accounts:
        """The API keys and accounts; `add` registers a key."""
        return self._exchange.accounts

    @property
    def calls(self) -> deque[Call]:
        """Every REST call received, the oldest first."""
        return self._exchange.calls

    @property
    def violations(self) -> deque[Violation]:
        """Calls received while their address and pool were closed."""
        return self._exchange.violations

    @property
    def orders(self) -> list[Placement]:
        """Every order placement received, refused ones included."""
        return self._exchange.orders

    @property
    def connections(self) -> dict[str, int]:
        """Connections accepted so far, their TLS handshake made, by REST host."""
        return {name: host.server.accepted for name, host in self._hosts.items()}

    def count(self, method: str | None = None, path: str | None = None, host: str | None = None) -> int:
        """Count calls by method, exact path and host."""
        return sum(
            1
            for call in self._exchange.calls
            if method in (None, call.method) and path in (None, call.path) and host in (None, call.host)
        )

    def market(self, market: Market) -> MarketStore:
        """Return the store behind REST and streams of a market."""
        return self._exchange.stores[market]

    def update_id(self, market: Market, symbol: str) -> int:
        """Return the id of the latest change of a symbol's book."""
        return self.market(market).update_id(symbol)

    def book_at(
        self, market: Market, symbol: str, update_id: int | None = None, limit: int | None = None
    ) -> BookView:
        """Return a book as it stood at an update (default: now), `limit` levels a side or all: the truth."""
        return self.market(market).book_at(symbol, update_id, limit)

    @property
    def stream_connections(self) -> dict[str, int]:
        """Stream connections open now, by market."""
        return {market.value: len(hub.connections) for market, hub in self._hubs.items()}

    @property
    def stream_accepted(self) -> dict[str, int]:
        """Stream handshakes accepted so far, by market."""
        return {market.value: hub.accepted for market, hub in self._hubs.items()}

    def subscriptions(self, market: Market) -> list[list[str]]:
        """Return the stream names held by each open connection of a market."""
        return [list(connection.names) for connection in self._hubs[market].connections]

    async def burst(self, market: Market, symbol: str, count: int, over_s: float = 0.0) -> int:
        """Push `count` bookTicker changes, evenly over `over_s`; return the last update id."""
        return await self._hubs[market].burst(symbol, count, over_s)

    def weight(self, peer: str, pool: str) -> int:
        """Return the weight an address has used in the current window of a pool."""
        return self._exchange.pools.used(peer, pool, self._exchange.now())

    def past_weights(self, peer: str, pool: str) -> list[WindowUse]:
        """Return what an address used in each window that is over."""
        return self._exchange.pools.past(peer, pool, self._exchange.now())

    @property
    def statuses(self) -> Counter[tuple[str, int]]:
        """Answers sent in full, by address and HTTP status."""
        return self._exchange.statuses

    def ban(self, peer: str, pool: str, seconds: float) -> None:
        """Ban an address from a pool at once; 0 lifts a ban."""
        until = self._exchange.now() + int(seconds * 1000) if seconds else 0
        self._exchange.pools.ban(peer, pool, until)

    def add_outage(self, outage: Outage) -> None:
        """Take an outage out of the history of its market; it may lie ahead."""
        self.market(Market(outage.market)).add_outage(outage)

    def hold_book(self, market: Market, symbol: str) -> None:
        """Let a symbol's book change no more; its trades go on."""
        self.market(market).hold_book(symbol, self._exchange.now())

    def release_book(self, market: Market, symbol: str) -> None:
        """Let a book change again that was held."""
        self.market(market).release_book(symbol)

    def restart_book(self, market: Market, symbol: str, jump: int = 1_000_000) -> int:
        """Let a book's update ids jump ahead and its diff stream begin anew; return the new id."""
        return self.market(market).restart_book(symbol, self._exchange.now(), jump)

    def list_symbol(self, market: Market, symbol: str) -> None:
        """List a new symbol now."""
        self.market(market).list_symbol(symbol, self._exchange.now())

    def halt(self, market: Market, symbol: str, status: str = "") -> None:
        """Stop trading in a symbol."""
        self.market(market).halt(symbol, self._exchange.now(), status)

    def resume(self, market: Market, symbol: str) -> None:
        """Trade again after a halt."""
        self.market(market).resume(symbol, self._exchange.now())

    def delist(self, market: Market, symbol: str) -> None:
        """Take a symbol off the exchange."""
        self.market(market).delist(symbol, self._exchange.now())
