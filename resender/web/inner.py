"""The collector's port for the workers beside it: loopback only, and only for who knows the secret.

What comes in is answered as at the clients' port; the address is that of the client whose connection was handed over.
A worker that wants streams for its own clients comes in under a name instead of an address.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable
from typing import Any, cast

from tornado import httputil

from resender.core.cluster.worker import INNER_HEADER, INSIDER, Worker
from resender.services import Services
from resender.web.application import GatewayDelegate, GatewayServer, make_app
from resender.web.client.request import RequestDelegate
from resender.web.connection import IDLE_GRACE_S, ClientConnection

logger = logging.getLogger("resender.workers")


class _InnerDelegate(GatewayDelegate):
    """Makes an `_InnerRequest` for every request."""

    def __init__(self, services: Services, application: Any, worker: Worker) -> None:
        super().__init__(services, application)
        self._worker = worker

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        connection = cast(ClientConnection, request_conn)
        return _InnerRequest(self.services, self.application, server_conn, connection, self._worker.secret)


class _InnerRequest(RequestDelegate):
    """A request on a connection that another worker has opened."""

    def __init__(
        self,
        services: Services,
        application: Any,
        server_conn: object,
        connection: ClientConnection,
        secret: str,
    ) -> None:
        super().__init__(services, application, server_conn, connection)
        self._secret = secret

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        context: Any = self.connection.context
        if not getattr(context, "is_known", False):
            # The other worker writes it above what the client wrote, whatever that is.
            first = next(iter(headers.get_list(INNER_HEADER)), "")
            secret, _, address = first.partition(" ")
            if not hmac.compare_digest(secret.encode(), self._secret.encode()):
                logger.warning("somebody on this machine called the inner port without its secret")
                self.connection.detach().close()
                return None
            context.is_known = True
            context.is_insider = address.startswith(INSIDER)
            context.remote_ip = address
            if self.services.config.tls_cert:
                context.protocol = "https"  # so the client came to the other worker
            del headers[INNER_HEADER]
        return super().headers_received(start_line, headers)


def make_inner_server(services: Services, worker: Worker) -> GatewayServer:
    """Build the server; the caller binds, starts and stops it."""
    return GatewayServer(
        cast(Any, _InnerDelegate(services, make_app(services), worker)),
        xheaders=False,
        idle_connection_timeout=services.config.client_idle_s + IDLE_GRACE_S,
        body_timeout=services.config.read_timeout_s,
        decompress_request=False,
    )
