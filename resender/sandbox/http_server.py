"""The REST listeners: one port per host, every call recorded as it arrived.

`RestHost` owns one listening socket and the connections accepted on it. Judging calls is
`rest.py`'s part, breaking connections `http_faults.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
from email.utils import formatdate
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from .exchange import Exchange
from .faults import NEEDS_ANSWER, Faults
from .http_faults import before_answer, reset, send_large, status_reply, with_answer
from .model import Call, Reply
from .rest import RestDesk

_GZIP_FROM_BYTES = 1000
_MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_LINE = 64 * 1024


def _peer(transport: asyncio.BaseTransport | None) -> str:
    name = transport.get_extra_info("peername") if transport is not None else None
    return name[0] if name else ""


class CountingServer(web.Server):
    """aiohttp's low-level server that numbers its connections."""

    def __init__(self, handler: Any, **kwargs: Any) -> None:
        super().__init__(
            handler,
            request_factory=self._new_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=600.0,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            **kwargs,
        )
        self.accepted = 0
        # False while nobody is let in; with TLS a handshake may still be under way then.
        self.is_open = False
        # Addresses whose connections are reset as soon as they are made.
        self.cut_off: set[str] = set()
        self._numbers: dict[web.RequestHandler, int] = {}

    def _new_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_BYTES
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self.accepted += 1
        self._numbers[handler] = self.accepted
        super().connection_made(handler, transport)
        if _peer(transport) in self.cut_off:
            reset(transport)
        elif not self.is_open:
            transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._numbers.pop(handler, None)

    def number_of(self, handler: web.RequestHandler) -> int:
        """Return the number of a connection, from 1, in order of acceptance."""
        return self._numbers.get(handler, 0)

    def transports(self) -> list[asyncio.Transport]:
        """List the open connections."""
        return list(self._connections.values())


class Listener:
    """A port that can be closed and opened again. Shape: `context` None means without TLS."""

    context: ssl.SSLContext | None = None

    def __init__(self, host: str, port: int, server: CountingServer) -> None:
        self._host = host
        self.port = port
        self.server = server
        self._listening: asyncio.Server | None = None
        self._reserved: socket.socket | None = None

    async def open(self) -> None:
        """Listen; the first time with port 0 the system chooses, later it stays the same."""
        if self._listening is not None:
            return
        self._release()
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            self.server, self._host, self.port, backlog=1024, ssl=self.context
        )
        self.port = listening.sockets[0].getsockname()[1]
        self._listening = listening
        self.server.is_open = True

    def close(self, drop: bool = True) -> None:
        """Refuse new connections; with `drop` cut the open ones too."""
        self.server.is_open = False
        if self._listening is not None:
            family = self._listening.sockets[0].family
            self._listening.close()
            self._listening = None
            self._reserve(family)
        if drop:
            for transport in self.server.transports():
                transport.abort()

    async def stop(self) -> None:
        """Close for good."""
        self.close(drop=False)
        self._release()
        await self.server.shutdown(0.5)

    def _reserve(self, family: int) -> None:
        """Keep the port: the system must not give it to a connection somebody makes meanwhile."""
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            reserved.bind((self._host, self.port))
        self._reserved = reserved

    def _release(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None


class RestHost:
    """One REST host on its own port."""

    def __init__(self, name: str, exchange: Exchange, desk: RestDesk, faults: Faults) -> None:
        config = exchange.config
        self.name = name
        self._exchange = exchange
        self._desk = desk
        self._faults = faults
        self.server = CountingServer(self._handle)
        self.listener = Listener(config.host, config.ports.get(name, 0), self.server)

    async def stop(self) -> None:
        """Cut every connection and close the port."""
        for transport in self.server.transports():
            transport.abort()
        await self.listener.stop()

    def cut_off(self, peer: str) -> None:
        """Reset every connection of an address, and each new one."""
        self.server.cut_off.add(peer)
        for transport in self.server.transports():
            if _peer(transport) == peer:
                reset(transport)

    def let_in(self, peer: str) -> None:
        self.server.cut_off.discard(peer)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.read()
        call = self._record(request, body)
        struck = self._faults.strike(self.name, call.method, call.path, call.peer)
        reply: Reply | None = None
        for fault in struck:
            if fault.after or fault.kind in NEEDS_ANSWER:
                reply = self._desk.answer(call)
                break
        main = None
        for fault in struck:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
            else:
                main = fault
        if main is None:
            return self._response(call, reply or self._desk.answer(call))
        if main.kind in ("status", "html"):
            return self._response(call, status_reply(main))
        if main.kind == "large":
            return await send_large(request, main)
        if reply is not None and main.kind in NEEDS_ANSWER:
            headers = self._headers(reply)
            return await with_answer(request, main, reply, headers)
        return await before_answer(request, main)

    def _record(self, request: web.BaseRequest, body: bytes) -> Call:
        target = request.raw_path
        path, _, query = target.partition("?")
        call = Call(
            host=self.name,
            method=request.method,
            target=target,
            path=path,
            query=query,
            headers=[(bytes(k), bytes(v)) for k, v in request.raw_headers],
            body=body,
            peer=_peer(request.transport),
            connection=self.server.number_of(request.protocol),
            received_ms=self._exchange.now(),
        )
        self._exchange.calls.append(call)
        return call

    def _headers(self, reply: Reply) -> dict[str, str]:
        return {
            **reply.headers,
            "date": formatdate(self._exchange.now() // 1000, usegmt=True),
            "server": "nginx",
            "strict-transport-security": "max-age=31536000; includeSubdomains",
            "x-content-type-options": "nosniff",
        }

    def _response(self, call: Call, reply: Reply) -> web.Response:
        self._exchange.statuses[call.peer, reply.status] += 1
        headers, body = self._headers(reply), reply.body
        accepts = (call.header("accept-encoding") or "").lower()
        if self._exchange.config.gzip and "gzip" in accepts and len(body) > _GZIP_FROM_BYTES:
            body = gzip.compress(body, 1, mtime=0)
            headers["content-encoding"] = "gzip"
            headers["vary"] = "accept-encoding"
        headers["content-length"] = str(len(body))
        return web.Response(status=reply.status, body=body, headers=headers)
