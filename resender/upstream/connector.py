"""Connections to upstream hosts: a pool that reports to the call it serves, and the words of its failures.

It sends no call; `rest.py` and `streams/session.py` do. What aiohttp offers no other way of knowing
(was the connection new, has it answered) goes through the context variable `current_attempt`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import ssl
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from resender.core.redact import redact
from resender.errors import UpstreamUnreachable

logger = logging.getLogger("resender.upstream")

# On Python 3.10 asyncio's TimeoutError is no OSError.
FAILURES = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


class EgressFault(aiohttp.ClientError):
    """A connection could not be made for a reason in the egress; nothing was sent.

    Shape: `reason` is for people and holds no secret; `is_whole` tells that nothing can leave
        through this egress now, whatever the host is, as far as one can tell; `is_certain` that it
        said so itself: a proxy may break off because of the one host it was asked for.
    """

    def __init__(self, reason: str, *, is_whole: bool = True, is_certain: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_whole = is_whole
        self.is_certain = is_whole and is_certain


class EgressUnusable(UpstreamUnreachable):
    """The egress itself failed: its address, its proxy or the other gateway. Nothing was sent.

    Shape: `is_certain` tells that the egress said so; a proxy that is silent may be waiting for this
        one host, and another gateway that is silent for its own upstream.
    """

    is_certain = True


@dataclass(slots=True)
class Attempt:
    """What became of one try of one call, filled in by the connector.

    Shape: `waits_for` is what a connection under way waits for, when it is not the upstream.
    """

    must_be_new: bool = False
    waits_for: str = ""
    connected: bool = False
    reused: bool = False
    protocol: _Protocol | None = None

    @property
    def answered(self) -> bool:
        return self.protocol is not None and self.protocol.answered


current_attempt: contextvars.ContextVar[Attempt] = contextvars.ContextVar("attempt")


class _Protocol(ResponseHandler):
    """aiohttp's connection, which also remembers whether it was used and answered before."""

    used = False
    answered = False
    # As long as the connection lives; aiohttp forgets its own when it begins to close.
    socket_transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.socket_transport = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if data:
            self.answered = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.socket_transport = None
        # aiohttp takes the end of a body without length for its proper end, even after a reset.
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(
                aiohttp.ClientPayloadError("connection reset in the middle of the body")
            )
        super().connection_lost(exc)


class Connector(aiohttp.TCPConnector):
    """A connection pool that reports to the current `Attempt`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made: weakref.WeakSet[_Protocol] = weakref.WeakSet()
        self._made = made
        loop = asyncio.get_running_loop()

        def make() -> _Protocol:
            protocol = _Protocol(loop=loop)
            made.add(protocol)
            return protocol

        # The factory is private to aiohttp; a test notices when a new version stops using it.
        factory: Any = make
        self._factory = factory

    def abort_all(self) -> None:
        """End every connection at once, those that wait for the other side's goodbye too."""
        for protocol in list(self._made):
            if protocol.socket_transport is not None:
                protocol.socket_transport.abort()

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        attempt = current_attempt.get()
        connection: Any = await super().connect(req, traces, timeout)
        while attempt.must_be_new and connection.protocol.used:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        protocol: _Protocol = connection.protocol
        attempt.connected = True
        attempt.reused = protocol.used
        attempt.protocol = protocol
        protocol.used = True
        protocol.answered = False
        return connection


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The waits of a call.

    Units: seconds. `connect_s` DNS, TCP and TLS; `read_s` silence of the upstream; `total_s` all.
    """

    connect_s: float
    read_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class EgressRoute:
    """How a client leaves this machine.

    Shape: `name` is shown in texts, empty for the machine's own route; `connector` makes the
        connection pool; `prefix` is put before every target; `is_gateway` tells that the host
        is another gateway, so that its being out of reach is a fault of the egress.
    """

    name: str = ""
    connector: Callable[..., Connector] = Connector
    prefix: str = ""
    is_gateway: bool = False


DIRECT = EgressRoute()


def note_unexpected(host: str, error: BaseException) -> None:
    """Log where an error came from that is none of the network's."""
    if not isinstance(error, FAILURES):
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        logger.error("unexpected failure of a call to %s: %s", host, redact(text))


# Source: OpenSSL, x509_vfy.h.
_CERTIFICATE_WORDS = {
    9: "its TLS certificate is not valid yet (is this machine's clock right?)",
    10: "its TLS certificate has expired (or this machine's clock is wrong)",
    18: "its TLS certificate is self-signed",
    19: "its TLS certificate is signed by an authority this machine does not trust",
    20: "its TLS certificate is signed by an authority this machine does not trust",
    21: "its TLS certificate is signed by an authority this machine does not trust",
    62: "its TLS certificate is for another name",
    64: "its TLS certificate is for another name",
}


def handshake_words(error: BaseException | None) -> str:
    """Say why a TLS handshake failed."""
    code = getattr(error, "verify_code", None)
    if code is not None:
        return _CERTIFICATE_WORDS.get(code, "its TLS certificate is not valid")
    reason = getattr(error, "reason", None) or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return "it does not answer with TLS"
    if reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"):
        return "it speaks no TLS version this machine accepts"
    return "the TLS handshake failed"


def why_not(error: BaseException, attempt: Attempt, timeouts: Timeouts) -> str:
    """Say in plain words why no connection was made; never the text of the error itself."""
    if isinstance(error, asyncio.TimeoutError):
        return f"no {attempt.waits_for or 'connection'} within {timeouts.connect_s:g} s"
    if isinstance(error, EgressFault):
        return error.reason
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return handshake_words(error.certificate_error)
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):
        return handshake_words(cause)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "the TLS handshake failed"
    if isinstance(cause, ConnectionRefusedError):
        return "it refused the connection"
    if isinstance(cause, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(cause, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return "it broke off the connection"
    return "the connection failed"
