"""The one list of routes that have a page, and the server that carries them and the hot path.

Whatever is not in the list is a call for an upstream: `web/client/request.py`. No state but Tornado's.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any, cast

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, SSLIOStream
from tornado.routing import Rule, URLSpec
from tornado.web import Application

from resender.services import Services
from resender.web.accepting import accept_gently
from resender.web.admin.routes import admin_routes
from resender.web.base import NotFoundHandler
from resender.web.client.request import RequestDelegate
from resender.web.client.streams import StreamHandler, UpgradeMatcher
from resender.web.connection import IDLE_GRACE_S, ClientConnection, answer_unreadable
from resender.web.pages import (
    AdminFrontHandler,
    FrontHandler,
    HealthHandler,
    MetricsHandler,
    ReadyHandler,
    front_page,
)

# The admin pages' own server takes no larger bodies; a list of addresses to import is the largest.
_ADMIN_BODY_BYTES = 64 << 20
# A TLS handshake that has not ended after so long is given up.
_HANDSHAKE_S = 10.0


def make_app(services: Services) -> Application:
    """Build the Tornado application of the pages."""
    config, common = services.config, {"services": services}
    has_admin = config.admin_enabled and not config.admin_port
    return _application(
        services,
        [
            Rule(UpgradeMatcher(), StreamHandler, common),
            URLSpec("/", FrontHandler, common | {"page": front_page(has_admin)}, name="front"),
            URLSpec("/healthz", HealthHandler, common, name="health"),
            URLSpec("/readyz", ReadyHandler, common, name="ready"),
            URLSpec("/metrics", MetricsHandler, common, name="metrics"),
            *(admin_routes(services) if has_admin else ()),
        ],
    )


def make_admin_app(services: Services) -> Application:
    """Build the Tornado application of the admin pages on a port of their own."""
    front = URLSpec("/", AdminFrontHandler, {"services": services}, name="front")
    return _application(services, [front, *admin_routes(services)])


def _application(services: Services, routes: list[Rule]) -> Application:
    return Application(
        routes,
        default_handler_class=NotFoundHandler,
        default_handler_args={"services": services},
        log_function=lambda handler: None,
        compress_response=False,
    )


class GatewayDelegate(httputil.HTTPServerConnectionDelegate):
    """Makes a `RequestDelegate` for every request."""

    def __init__(self, services: Services, application: Application) -> None:
        self.services = services
        self.application = application

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        return RequestDelegate(
            self.services, self.application, server_conn, cast(ClientConnection, request_conn)
        )

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)


class GatewayServer(HTTPServer):
    """Tornado's server with `ClientConnection`s, which says in JSON what it cannot read."""

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            self._sockets[listening.fileno()] = listening
            self._handlers[listening.fileno()] = accept_gently(listening, self._handle_connection)

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        if self.ssl_options is not None:
            try:
                connection.getpeername()
            except OSError:  # it left before TLS began: port scans, probes of balancers
                connection.close()
                return
        try:
            super()._handle_connection(connection, address)
        except OSError:
            connection.close()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        answer_unreadable(stream)
        if isinstance(stream, SSLIOStream):
            _limit_handshake(stream)
        # Tornado would switch it on and off again for each answer: two system calls for nothing.
        stream.set_nodelay(True)
        stream.set_nodelay = lambda value: None  # type: ignore[method-assign]
        super().handle_stream(stream, address)

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        # Tornado names the class itself and offers no way to choose another.
        request_conn.__class__ = ClientConnection
        return super().start_request(server_conn, request_conn)


def _limit_handshake(stream: SSLIOStream) -> None:
    """Close a connection that does not begin to speak TLS, or does not end doing so."""
    timer = IOLoop.current().call_later(_HANDSHAKE_S, stream.close)

    def done(future: Any) -> None:
        IOLoop.current().remove_timeout(timer)
        if not future.cancelled():
            future.exception()  # its connection is gone, and nobody asks why

    stream.wait_for_handshake().add_done_callback(done)


def make_server(services: Services, tls: ssl.SSLContext | None = None) -> GatewayServer:
    """Build the server of a gateway; the caller binds, starts and stops it."""
    return GatewayServer(
        cast(Any, GatewayDelegate(services, make_app(services))),
        ssl_options=tls,
        xheaders=False,  # it would believe anybody's X-Forwarded-For
        idle_connection_timeout=services.config.client_idle_s + IDLE_GRACE_S,
        body_timeout=services.config.read_timeout_s,
        decompress_request=False,
    )


def make_admin_server(services: Services, tls: ssl.SSLContext | None = None) -> GatewayServer:
    """Build the server of the admin pages' own port; the caller binds, starts and stops it."""
    return GatewayServer(
        cast(Any, make_admin_app(services)),
        ssl_options=tls,
        xheaders=False,
        idle_connection_timeout=services.config.client_idle_s + IDLE_GRACE_S,
        body_timeout=services.config.read_timeout_s,
        decompress_request=False,
        max_body_size=_ADMIN_BODY_BYTES,
    )
