"""The egresses: a session through the machine's route, a source address, a proxy or another gateway.

It decides neither which way a call takes nor how often one is tried; it makes what `RestClient`
and `StreamSession` need for one way, and `SpreadSessions`, which spreads stream connections over
several. A `SpreadSessions` owns one session for each way; its owner starts and stops it.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import random as random_module
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from resender.aio import Backoff, Clock
from resender.core.binance.markets import BY_MARKET, Market
from resender.core.egress.spec import EgressSpec
from resender.upstream.proxies import ProxyConnector
from resender.upstream.rest import DIRECT, Connector, EgressFault, EgressRoute, RestClient, Timeouts
from resender.upstream.streams.link import Socket, StreamBroken, StreamSession
from resender.upstream.tls import make_context

logger = logging.getLogger("resender.upstream")

_BACKOFF_FIRST_S = 1.0
_BACKOFF_CAP_S = 60.0
_NO_STREAMS_PAUSE_S = 600.0
_GOOD_LIFE_S = 20.0  # a way whose connections end sooner is one that fails


class SourceConnector(Connector):
    """Connects from one local address, to upstream addresses of the same family only."""

    def __init__(self, address: str, **options: Any) -> None:
        self._address = ipaddress.ip_address(address)
        family = socket.AF_INET6 if self._address.version == 6 else socket.AF_INET
        super().__init__(local_addr=(address, 0), family=family, **options)

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
        words = f"IPv{self._address.version}"
        try:
            is_literal = ipaddress.ip_address(host).version != self._address.version
        except ValueError:
            is_literal = False
        if is_literal:
            raise EgressFault(f"its address is not {words} and the source address is", is_whole=False)
        try:
            return await super()._resolve_host(host, port, traces)
        except OSError:
            raise EgressFault(f"its name cannot be resolved to an {words} address", is_whole=False) from None

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> Any:
        try:
            return await super()._wrap_create_connection(*args, **options)
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL):
                raise
            raise EgressFault(
                bind_problem(str(self._address)) or "the machine has no free port left"
            ) from None


def bind_problem(address: str) -> str:
    """Say why a connection cannot come from an address; empty if it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return f"cannot bind {address}: not an address of this machine"
        return f"cannot bind {address}: {(error.strerror or 'refused by the system').lower()}"
    return ""


def make_route(spec: EgressSpec, market: Market | None = None) -> EgressRoute:
    """Turn an entry of `EGRESS` into what a session needs; `market` is for another gateway."""
    if spec.kind == "address":
        return EgressRoute(spec.name, functools.partial(SourceConnector, spec.address))
    if spec.kind == "proxy":
        return EgressRoute(spec.name, functools.partial(ProxyConnector, spec))
    if spec.kind == "resender":
        assert market is not None, "the prefix of another gateway depends on the market"
        return EgressRoute(spec.name, prefix=f"/{BY_MARKET[market].prefix}", is_gateway=True)
    return DIRECT


def gateway_url(spec: EgressSpec) -> str:
    """Return the base URL of another gateway."""
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    return f"{spec.scheme}://{host}:{spec.port}"


def make_rest_client(
    spec: EgressSpec,
    market: Market,
    base_url: str,
    timeouts: Timeouts,
    *,
    keepalive_s: float = 55.0,
    dns_cache_s: float = 300.0,
    ssl_context: ssl.SSLContext | None = None,
    resender_ssl_context: ssl.SSLContext | None = None,
) -> RestClient:
    """Make the session of one egress to one market's host; start it before use.

    Through another gateway targets go in prefix form (`/fapi` + `/fapi/v1/...`) and its own
    host stands for `base_url`. `resender_ssl_context` is for `resenders://`, else `ssl_context`.
    """
    if spec.kind == "resender":
        base_url = gateway_url(spec)
        ssl_context = resender_ssl_context or ssl_context
    return RestClient(
        base_url,
        timeouts,
        keepalive_s=keepalive_s,
        dns_cache_s=dns_cache_s,
        ssl_context=ssl_context,
        egress=make_route(spec, market),
    )


def make_stream_session(
    spec: EgressSpec, base_url: str, connect_timeout_s: float, *, ssl_context: ssl.SSLContext | None = None
) -> StreamSession:
    """Make what opens WebSockets through one egress.

    Raises: ValueError for another gateway, which forwards REST only.
    """
    if not spec.has_streams:
        raise ValueError("another Binance Resender has no streams")
    options = {} if ssl_context is None else {"ssl_context": ssl_context}
    return StreamSession(base_url, connect_timeout_s, egress=make_route(spec), **options)


@dataclass(slots=True, eq=False)
class _StreamEgress:
    """One egress and what is known of it.

    Units: monotonic seconds. `due` is when a way that failed may be tried again, `closed_until`
        when the venue wants to hear of it again.
    """

    spec: EgressSpec
    session: StreamSession
    backoff: Backoff
    due: float = 0.0
    closed_until: float = 0.0
    failures: int = 0
    opening: int = 0
    turn: int = 0
    sockets: list[tuple[Socket, float]] = field(default_factory=list)

    def load(self, now: float) -> int:
        """Count what is open or being opened; learn from what has ended since."""
        ended = [opened for socket, opened in self.sockets if socket.transport.is_closing()]
        if any(now - opened >= _GOOD_LIFE_S for _, opened in self.sockets):
            self.backoff.reset()
        if ended:
            self.sockets = [entry for entry in self.sockets if not entry[0].transport.is_closing()]
            if now - max(ended) < _GOOD_LIFE_S and self.due <= now:
                self.quarantine(now)
        return len(self.sockets) + self.opening

    def quarantine(self, now: float) -> None:
        self.failures += 1
        self.due = max(self.due, now + self.backoff.next_s())


class SpreadSessions:
    """Opens each WebSocket on the egress with the fewest; a way that fails is set aside for a while.

    It serves as the session of a `StreamPool`. Every `open` tries each usable way at most once
    and then, of those set aside, the one due soonest. A way is also set aside when its connection
    ended soon. One the venue has told to wait (`Retry-After`) is left alone until then.
    """

    def __init__(
        self,
        specs: Sequence[EgressSpec],
        base_url: str,
        connect_timeout_s: float,
        *,
        market: Market | None = None,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        random: random_module.Random | None = None,
    ) -> None:
        self._clock = clock or Clock()
        if ssl_context is None and base_url.startswith("wss:"):
            ssl_context = make_context()
        random = random or random_module.Random()
        self._egresses = [
            _StreamEgress(
                spec,
                make_stream_session(spec, base_url, connect_timeout_s, ssl_context=ssl_context),
                Backoff(_BACKOFF_FIRST_S, _BACKOFF_CAP_S, random),
            )
            for spec in specs
            if spec.has_streams and (market is None or spec.serves(market))
        ]
        self._turn = 0

    async def start(self) -> None:
        for egress in self._egresses:
            await egress.session.start()

    async def stop(self) -> None:
        for egress in self._egresses:
            await egress.session.stop()

    @property
    def open_sockets(self) -> dict[str, int]:
        """Open WebSockets by the name of the egress."""
        now = self._clock.mono()
        return {egress.spec.name: egress.load(now) - egress.opening for egress in self._egresses}

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        """Open one WebSocket on one of the ways.

        Raises: StreamBroken with the reason of the last way tried; `retry_after_s` only if all
            ways have been told to wait.
        """
        if not self._egresses:
            raise StreamBroken(
                "no entry of EGRESS carries streams: another Binance Resender forwards REST only",
                _NO_STREAMS_PAUSE_S,
            )
        tried: list[_StreamEgress] = []
        why = "every egress has been told to wait"
        is_last = False
        while not is_last and (egress := self._next(tried)) is not None:
            is_last = egress.due > self._clock.mono()
            tried.append(egress)
            try:
                return await self._open(egress, target, max_message_bytes)
            except StreamBroken as error:
                why = str(error)
                if len(self._egresses) > 1:
                    logger.warning("egress %s: no stream connection: %s", egress.spec.name, error)
        now = self._clock.mono()
        raise StreamBroken(why, max(0.0, min(egress.closed_until for egress in self._egresses) - now))

    def _next(self, tried: list[_StreamEgress]) -> _StreamEgress | None:
        now = self._clock.mono()
        loads = [(egress.load(now), egress.turn, egress) for egress in self._egresses]
        left = [egress for egress in self._egresses if egress not in tried and egress.closed_until <= now]
        usable = [entry for entry in loads if entry[2] in left and entry[2].due <= now]
        if usable:
            return min(usable, key=lambda entry: entry[:2])[2]
        return min(left, key=lambda egress: egress.due, default=None)

    async def _open(self, egress: _StreamEgress, target: str, max_message_bytes: int) -> Socket:
        self._turn += 1
        egress.turn = self._turn
        egress.opening += 1
        failures = egress.failures
        try:
            socket = await egress.session.open(target, max_message_bytes)
        except StreamBroken as error:
            now = self._clock.mono()
            if egress.failures == failures:  # of several that fail at once, one counts
                egress.quarantine(now)
            if error.retry_after_s:
                egress.closed_until = now + error.retry_after_s
            raise
        finally:
            egress.opening -= 1
        egress.due = egress.closed_until = 0.0
        egress.sockets.append((socket, self._clock.mono()))
        return socket
