"""A tiny raw HTTPS server: it records every byte it receives and answers with exact bytes.

It understands just enough HTTP to know where a request ends, so nothing is hidden by a parser.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.authority import AUTHORITY

LINGER_OFF = struct.pack("ii", 1, 0)


@dataclass
class Request:
    """One request as it arrived."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def method(self) -> str:
        return self.line.split(b" ")[0].decode()

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return [(name.strip(), value.strip()) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        return {n.lower(): v for n, v in self.headers}.get(name.lower())


@dataclass
class Peer:
    """The server's end of one connection, for answers that misbehave."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self.writer.transport.abort()

    def close(self) -> None:
        """End the connection properly."""
        self.writer.close()


Answer = Callable[[Request, Peer], Awaitable[None]]


def response(
    body: bytes = b"{}",
    status: str = "200 OK",
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json;charset=UTF-8"),),
) -> bytes:
    """Build a response with a Content-Length."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\n{head}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body


async def answer_ok(request: Request, peer: Peer) -> None:
    await peer.send(response(b"" if request.method == "HEAD" else b'{"ok":true}'))


async def reset(request: Request, peer: Peer) -> None:
    peer.reset()


def answering(
    status: str = "200 OK", body: bytes = b"{}", server_ms: int | None = None, **headers: str
) -> Answer:
    """Build an answer that tells the time where it is asked for, and the same everywhere else."""

    async def answer(request: Request, peer: Peer) -> None:
        down = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        if request.target.endswith(b"/time"):
            now_ms = server_ms if server_ms is not None else int(time.time() * 1000)
            await peer.send(response(b'{"serverTime":%d}' % now_ms, headers=down))
        else:
            await peer.send(response(body, status, down))

    return answer


@dataclass
class RawUpstream:
    """The server. `answer` may be replaced at any time; `requests` holds what came.

    Shape: `tls` False is plain HTTP; `context` may be one of a test's own; `connections` are those
        whose TLS handshake was made.
    """

    answer: Answer = answer_ok
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    port: int = 0
    tls: bool = True
    context: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> RawUpstream:
        if self.tls and self.context is None:
            self.context = AUTHORITY.server_context()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        peer = Peer(reader, writer, self.connections)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                    request = Request(head, b"", peer.number)
                    length = int(request.header("content-length") or 0)
                    request.body = await reader.readexactly(length)
                    self.requests.append(request)
                    await self.answer(request, peer)
        finally:
            writer.close()
            # TLS has a goodbye of both sides; who stops the server does not wait for it.
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(writer.wait_closed(), 1)
            writer.transport.abort()
