"""The WebSocket door for clients: who may enter, what they want, and their connection to it.

Everything below the handshake is Tornado's; what is said on market streams is `fanout/`, what is relayed one to
one is `stream_relay.py`. One handler belongs to one connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

from tornado import httputil
from tornado.iostream import IOStream
from tornado.routing import Matcher
from tornado.websocket import WebSocketHandler

from resender.account import WatchedAccount
from resender.core.account.calls import read_params
from resender.core.account.spec import AccountMarket
from resender.core.binance.host_names import behind_host, is_unknown_name
from resender.core.binance.markets import STREAM_HOSTS
from resender.core.binance.stream_kinds import stream_kind
from resender.core.binance.stream_urls import StreamRoute, is_listen_key, resolve_stream
from resender.core.cluster.homes import Peer
from resender.core.cluster.node_proof import ANYBODY
from resender.core.cluster.worker import FOR_OWN_CLIENTS, INSIDER
from resender.core.fanout.frames import DEFLATE_BITS
from resender.core.fanout.protocol import CLOSE_TOO_MANY, TOO_MANY_SUBSCRIPTIONS, Refused, read_command
from resender.core.redact import path_only
from resender.errors import AnswerError, BadRequest, Busy, Denied, Forbidden, RouteError
from resender.fanout import EXPELLED, StreamClient
from resender.services import Services
from resender.store import LogRecord
from resender.turns import next_turn
from resender.web.base import BaseHandler
from resender.web.client.hop_calls import read_caller
from resender.web.client.local_accounts import Caller
from resender.web.client.stream_account import listen_to_account, read_wanted_account
from resender.web.client.stream_closes import WantedCloses, listen_to_closes, read_wanted_closes
from resender.web.client.stream_relay import Relay, carry_user_data
from resender.web.client.stream_sink import TornadoSink
from resender.web.connection import connection_tokens
from resender.web.origin import foreign_origin

logger = logging.getLogger("resender.streams")

# A SUBSCRIBE of 1024 names is some 40 KiB.
# A message with so many names is looked into piece by piece before it is acted upon.
_LONG_BYTES = 4096
_LOOKED_UP_AT_ONCE = 16
_MAX_MESSAGE_BYTES = 131_072
_MAX_RELAYED_BYTES = 4 << 20
# So many listenKeys may be subscribed on one connection of market streams.
_MAX_LISTEN_KEYS = 10
MICROSECOND = "microsecond"
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\U0010ffff]")
_EXTENSIONS = "Sec-WebSocket-Extensions"
_NO_CONTEXT = "server_no_context_takeover; client_no_context_takeover"
_AGREED = f"permessage-deflate; {_NO_CONTEXT}; server_max_window_bits={DEFLATE_BITS}"


def wants_upgrade(method: str, headers: httputil.HTTPHeaders) -> bool:
    """Tell the handshake of a WebSocket. Source: RFC 6455 section 4.2.1."""
    return (
        method == "GET"
        and "Upgrade" in headers
        and headers["Upgrade"].strip().lower() == "websocket"
        and "upgrade" in connection_tokens(headers.get("Connection", ""))
    )


class UpgradeMatcher(Matcher):
    """Matches every handshake, whatever its path."""

    def match(self, request: httputil.HTTPServerRequest) -> dict[str, Any] | None:
        return {} if wants_upgrade(request.method or "", request.headers) else None


class StreamHandler(BaseHandler, WebSocketHandler):
    """One WebSocket of one client."""

    route: StreamRoute
    client: StreamClient | None = None
    relay: Relay | None = None
    wanted: WantedCloses
    account: WatchedAccount
    leave: Callable[[], None] | None = None

    async def prepare(self) -> None:
        """Decide who may enter and for what; what is relayed has its upstream before it is accepted."""
        try:
            self._admit()
            if self.route.what in ("user", "ws_api"):
                self.relay = await self._make_relay()
            elif (peer := self._peer_of_local()) is not None:
                self.relay = await self._relay_to(peer)
            elif self.route.what == "closes":
                self.wanted = read_wanted_closes(self.services, self.route)
            elif self.route.what == "account":
                headers = self.request.headers
                caller = Caller(self.ip, headers.get("X-Mbx-Apikey"), headers.get("Authorization"))
                self.account = await read_wanted_account(self.services, self.route, caller)
        except AnswerError as error:
            self._note_call(error.answer.status, error.msg)
            self.services.metrics.tally.note_refused()
            raise

    async def _make_relay(self) -> Relay:
        services, route = self.services, self.route
        key = self.request.headers.get("X-Mbx-Apikey")
        upstream = None
        # Where it matters whose key it is, the first request tells.
        if route.what == "user" or key is not None or not services.relays.has_choice(route.market):
            upstream = await services.relays.open(
                route.host, route.target, route.market,
                api_key=key, listen_key=route.listen_key, client=self.ip, is_hop=self.is_hop,
            )  # fmt: skip
        return Relay(
            services,
            route,
            upstream,
            address=self.ip,
            is_hop=self.is_hop,
            path=self._shown_path()[:200],
            note_call=self._note_method,
        )

    def _peer_of_local(self) -> Peer | None:
        """Return the node that can tell what is wanted below `/local/`, None if it is this one. Raises: EgressAway."""
        hops, route = self.services.dispatch.hops, self.route
        if hops is None or self.is_hop or route.what not in ("closes", "account"):
            return None
        headers = self.request.headers
        if route.what == "closes":
            return hops.home_of_local(None, None, None)
        key = None if "Authorization" in headers else headers.get("X-Mbx-Apikey")
        name = (read_params(route.query) or {}).get("account")
        return hops.home_of_local(AccountMarket(route.target), key, name)

    async def _relay_to(self, peer: Peer) -> Relay:
        services, headers = self.services, self.request.headers
        kept = {"Authorization": word} if (word := headers.get("Authorization")) else {}
        upstream = await services.relays.open_local(
            peer, self.request.uri or "/", self.route.market,
            api_key=headers.get("X-Mbx-Apikey"), client=self.ip, headers=kept,
        )  # fmt: skip
        return Relay(
            services, self.route, upstream,
            address=self.ip, is_hop=False, path=self._shown_path()[:200], note_call=self._note_method,
        )  # fmt: skip

    def _shown_path(self) -> str:
        """Return the path as it may be shown: of a listenKey nothing, however it is written."""
        path = path_only(unquote(self.request.uri or "/"))
        return path if path.isprintable() else _UNPRINTABLE.sub("?", path)

    def _admit(self) -> None:
        services, headers = self.services, self.request.headers
        context: Any = getattr(self.request.connection, "context")  # noqa: B009
        self.is_insider = getattr(context, "is_insider", False)
        self.ip, self.entry_id, self.is_hop = self.client_ip(), None, False
        request = self.request
        target = request.uri or "/"
        connection = cast(Any, request.connection)
        self.ip, hop = read_caller(services, connection, headers, request.method or "", target)
        self.is_hop = hop is not None
        if self.is_insider:
            self.ip = context.remote_ip
        elif self.is_hop and self.ip == ANYBODY:  # streams for clients of another node
            self.is_insider, self.ip = True, f"{INSIDER}node"
        self.entry_id = None if self.is_insider else services.access.whitelist.match(self.ip)
        if self.entry_id is None and not self.is_insider:
            services.access.refused.note(self.ip, path_only(target), services.clock.now_ms())
            services.access.note_stranger(self.ip, f"refused {self.ip}: not in the whitelist")
            raise Forbidden(self.ip)
        # A page of any site could listen with the address of whoever looks at it. Some libraries that are no
        # browser name this server itself there: Python's websocket-client does.
        origin = foreign_origin(
            headers.get("Origin"), headers.get("Sec-Fetch-Site"), [headers.get("Host", "")]
        )
        if origin is not None:
            raise Denied(f"A page of another site may not open streams ({origin}).")
        if "Origin" in headers and headers.get("User-Agent", "").startswith("Mozilla/"):
            # Its name may have been made to lead here.
            raise Denied("A browser may not open streams.")
        is_old = self.request.version == "HTTP/1.0"
        if is_old or headers.get("Sec-WebSocket-Version") != "13" or not headers.get("Sec-WebSocket-Key"):
            raise BadRequest("This is no WebSocket handshake of version 13.")
        host, suffix = headers.get("Host"), services.config.host_suffix
        self.route = resolve_stream(behind_host(target, host, suffix))
        if is_unknown_name(target, host, suffix):
            raise RouteError("Unknown route: no host of Binance has this name.")
        if not services.calls.is_open:
            raise Busy("The gateway is stopping.")
        if not services.fanout.has_room:
            services.fanout.stats.refused += 1
            raise Busy("There are as many clients of streams as MAX_STREAM_CLIENTS allows.")
        if self.route.market not in services.dispatch.egress.markets:
            raise RouteError(
                f"The market {self.route.market} is switched off in the settings of this gateway."
            )

    # --- what Tornado asks -------------------------------------------------------------------

    def check_origin(self, origin: str) -> bool:
        return True  # `_admit` has

    @property
    def max_message_size(self) -> int:
        return _MAX_MESSAGE_BYTES if self.relay is None else _MAX_RELAYED_BYTES

    def get_compression_options(self) -> dict[str, Any] | None:
        """Agree on compression without context only: then one compressed frame serves all clients.

        Source: RFC 7692 section 7.1.1: a server may ask for these where the client offers less.
        """
        self.is_deflated = False
        if self.relay is not None or not self.services.config.stream_deflate:
            return None
        offers = self.request.headers.get(_EXTENSIONS, "")
        for offer in offers.split(","):
            name, *words = [word.strip() for word in offer.split(";")]
            params = {word.partition("=")[0]: word.partition("=")[2] for word in words}
            window = params.get("server_max_window_bits", "15").strip('"')
            if (
                name == "permessage-deflate"
                and window.isascii()
                and window.isdigit()
                and int(window) >= DEFLATE_BITS
            ):
                # Tornado overlooks parameters without a value; `set_header` takes the values away again.
                self.request.headers[_EXTENSIONS] = _AGREED.replace("takeover;", "takeover=;")
                self.is_deflated = True
                return {"compression_level": 1, "mem_level": 5}
        return None

    def set_header(self, name: str, value: Any) -> None:
        super().set_header(name, _AGREED if name == _EXTENSIONS else value)

    async def get(self, *args: Any, **kwargs: Any) -> None:
        connection = self.request.connection
        if connection is None or getattr(connection, "stream").closed():  # noqa: B009
            self._note_call(0, "client gone")
            if self.relay is not None:
                await self.relay.finish()
            return
        self._note_call(101, None)
        self.user_data: dict[str, asyncio.Task[None]] = {}
        try:
            await WebSocketHandler.get(self, *args, **kwargs)
        finally:
            if self.relay is not None:
                await self.relay.finish()

    def open(self, *args: Any, **kwargs: Any) -> None:
        services, route = self.services, self.route
        connection = self.ws_connection
        assert connection is not None
        stream = cast(IOStream, connection.stream)
        self.set_nodelay(True)
        # It may have been taken off while the upstream was being opened.
        if not self.is_insider and services.access.whitelist.match(self.ip) is None:
            connection.close(*EXPELLED)
            return
        if self.relay is not None:
            self.relay.start(lambda drained: TornadoSink(connection, stream, drained))
            return
        sink = TornadoSink(connection, stream, self._drained)
        self.client = StreamClient(
            sink,
            route.market,
            address=self.ip,
            path=self._shown_path()[:200],
            is_combined=route.is_combined,
            is_deflated=self.is_deflated,
            role=self._role(),
            max_streams=route.max_streams,
            queue_bytes=services.config.client_queue_bytes,
        )
        services.fanout.add(self.client, route.names)
        for key in [name for name in self.client.names if is_listen_key(name)][:_MAX_LISTEN_KEYS]:
            self._follow_user_data(self.client, key)
        if route.what == "closes":
            self.leave = listen_to_closes(services, route.market, self.wanted, self.client)
        elif route.what == "account":
            self.leave = listen_to_account(services, self.account, self.client)

    def _role(self) -> str:
        """Name the feeds its streams come from; what another node asks for never goes to a third one."""
        role = MICROSECOND if self.route.is_microsecond else ""
        shared = self.services.shared_streams
        is_of_others = self.is_hop or (self.is_insider and not self.ip.endswith(FOR_OWN_CLIENTS))
        return role if shared is None or is_of_others else shared.role(self.route.market, role)

    def _drained(self) -> None:
        if self.client is not None:
            self.client.drained()

    async def on_message(self, message: str | bytes) -> None:
        self._note_sign()
        if self.relay is not None:
            await self.relay.hear(message)
            return
        client = self.client
        if client is None or client.is_closed or self.route.what != "market":
            return
        if len(message) > _LONG_BYTES:
            await self._look_up(client, message)
        await self._open_user_data(client, message)
        if not client.is_closed:
            self.services.fanout.hear(client, message)
            self._drop_user_data(client)

    async def _look_up(self, client: StreamClient, message: str | bytes) -> None:
        """Find out what the names of a long message mean, so that others get their turn meanwhile."""
        try:
            command = read_command(client.market, message)
        except Refused:
            return  # the answer will tell
        for number, name in enumerate(map(str, command.params), 1):
            for market in STREAM_HOSTS:  # what is no stream of one is looked for in the others
                stream_kind(market, name)
            if not number % _LOOKED_UP_AT_ONCE:
                await next_turn()

    async def _open_user_data(self, client: StreamClient, message: str | bytes) -> None:
        """Open what a message subscribes of user data: it is answered when no event can be missed any more."""
        try:
            command = read_command(client.market, message)
        except Refused:
            return  # the answer will tell
        if command.method != "SUBSCRIBE":
            return
        opening = []
        for name in command.params:
            if not is_listen_key(name) or name in self.user_data:
                continue
            if len(self.user_data) >= _MAX_LISTEN_KEYS:
                self.services.fanout.send(client, TOO_MANY_SUBSCRIPTIONS)
                self.services.fanout.close(client, *CLOSE_TOO_MANY)
                return
            opening.append(self._follow_user_data(client, name))
        for is_open in opening:
            await is_open.wait()

    def _follow_user_data(self, client: StreamClient, listen_key: str) -> asyncio.Event:
        """Begin to bring user data; the event is set when that has succeeded or failed."""
        is_open = asyncio.Event()
        task = self.services.tasks.spawn(
            carry_user_data(self.services, client, client.market, listen_key, is_open), name="relay:user-data"
        )
        task.add_done_callback(lambda _: is_open.set())
        self.user_data[listen_key] = task
        return is_open

    def _drop_user_data(self, client: StreamClient) -> None:
        """End what brings user data that is not subscribed any more."""
        for key in [key for key in self.user_data if key not in client.names or client.is_closed]:
            self.user_data.pop(key).cancel()

    def on_ping(self, data: bytes) -> None:
        self._note_sign()

    def on_pong(self, data: bytes) -> None:
        self._note_sign()

    def _note_sign(self) -> None:
        one = self.client if self.relay is None else self.relay
        if one is not None:
            one.last_sign = self.services.clock.mono()

    def on_close(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            if self.leave is not None:
                self.leave()
            self.services.fanout.remove(client)
            for task in self.user_data.values():
                task.cancel()
        if self.relay is not None:
            self.relay.end()

    # --- the log -------------------------------------------------------------------------------

    def _note_method(self, method: str, status: int, duration_ms: float, error: str | None) -> None:
        """Log one request of the WebSocket API, without its parameters."""
        path = f"{self._shown_path()} {method[:60]}"
        self._note_call(status, error, path=path, duration_ms=duration_ms)

    def _note_call(self, status: int, error: str | None, *, path: str = "", duration_ms: float = 0.0) -> None:
        services: Services = self.services
        now_ms = services.clock.now_ms()
        if self.entry_id is not None:
            services.store.note_seen(self.entry_id, now_ms)
        if services.store.log_enabled:
            route = getattr(self, "route", None)
            services.store.log(
                LogRecord(
                    time_ms=now_ms,
                    ip=self.ip,
                    method="WS",
                    market=route.market.value if route is not None else "",
                    path=(path or self._shown_path())[:512],
                    status=status,
                    upstream_status=status if path and error is None else None,
                    duration_ms=round(duration_ms, 3),
                    bytes=0,
                    error=error,
                )
            )
