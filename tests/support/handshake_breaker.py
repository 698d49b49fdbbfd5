"""A front before a TLS server that spoils handshakes: which ones, in which phase, in which way.

It passes TLS records on without reading more of them than their five bytes of head, so what the
gateway sees is a real handshake up to the moment it is spoilt.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from tests.support.upstream import LINGER_OFF

_CHANGE_CIPHER, _DATA = 20, 23
# What a web server says to somebody who is at the wrong port.
PLAIN_TEXT = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Phase(Enum):
    """When a connection is spoilt."""

    ACCEPTED = "before the client hello"
    HELLO = "after the client hello"
    SERVER_HELLO = "after the server hello"
    FINISHED = "at the first application bytes"
    REQUEST = "when the request has passed"

    def __str__(self) -> str:
        return self.value


class Harm(Enum):
    """How a connection is spoilt."""

    RESET = "reset"
    CLOSE = "close"
    PLAIN_TEXT = "plain text"
    SILENCE = "silence"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Fault:
    """One way to spoil a connection."""

    harm: Harm
    phase: Phase

    def __str__(self) -> str:
        return f"{self.harm} {self.phase}"


@dataclass
class HandshakeBreaker:
    """The front.

    Shape: `choose` gets a connection's number, from 1, and says what becomes of it; `fault`, while
        set, is for those it says nothing about. `struck` counts what was spoilt.
    """

    server_port: int
    fault: Fault | None = None
    choose: Callable[[int], Fault | None] = lambda number: None
    accepted: int = 0
    struck: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open: set[asyncio.Future[Harm]] = field(default_factory=set)

    async def __aenter__(self) -> HandshakeBreaker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def cut(self, harm: Harm) -> int:
        """Spoil every connection that is open; return how many there were."""
        cut = [stop for stop in self._open if not stop.done()]
        for stop in cut:
            stop.set_result(harm)
        return len(cut)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        fault = self.choose(self.accepted) or self.fault
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if fault is not None and fault.phase is Phase.ACCEPTED:
                    await self._strike(fault.harm, reader, writer)
                    return
                up = await asyncio.open_connection("127.0.0.1", self.server_port)
                await self._relay(fault, (reader, writer), up)
        finally:
            writer.transport.abort()

    async def _relay(
        self,
        fault: Fault | None,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        reader, writer = client
        up_reader, up_writer = up
        stop: asyncio.Future[Harm] = asyncio.get_running_loop().create_future()
        self._open.add(stop)

        def reached(phase: Phase) -> bool:
            if fault is not None and fault.phase is phase and not stop.done():
                stop.set_result(fault.harm)
            return stop.done()

        pumps = [
            asyncio.ensure_future(_client_records(reader, up_writer, reached)),
            asyncio.ensure_future(_server_records(up_reader, writer, reached)),
        ]
        try:
            await asyncio.wait([*pumps, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._open.discard(stop)
            up_writer.close()
        if stop.done():
            await self._strike(stop.result(), reader, writer)
        else:
            stop.cancel()
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), 1)

    async def _strike(self, harm: Harm, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.struck += 1
        if harm is Harm.SILENCE:
            while await reader.read(65536):
                pass
            return
        if harm is Harm.RESET:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
            writer.transport.abort()
            return
        if harm is Harm.PLAIN_TEXT:
            writer.write(PLAIN_TEXT)
            await writer.drain()
        # A socket closed with unread bytes would be reset; the end is to be a proper one.
        writer.write_eof()
        while await reader.read(65536):
            pass


async def _record(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one TLS record. Source: RFC 8446 section 5.1."""
    head = await reader.readexactly(5)
    return head[0], head + await reader.readexactly(int.from_bytes(head[3:5], "big"))


async def _client_records(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reached: Callable[[Phase], bool]
) -> None:
    """Pass on what the client sends; its Finished is the record behind its ChangeCipherSpec."""
    is_first = True
    changed = finished = False
    while True:
        kind, data = await _record(reader)
        if is_first and reached(Phase.HELLO):
            return
        is_first = False
        is_data = finished and kind == _DATA
        if is_data and reached(Phase.FINISHED):
            return
        finished = finished or changed
        changed = changed or kind == _CHANGE_CIPHER
        writer.write(data)
        await writer.drain()
        if is_data and reached(Phase.REQUEST):
            return


async def _server_records(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reached: Callable[[Phase], bool]
) -> None:
    while True:
        _, data = await _record(reader)
        writer.write(data)
        await writer.drain()
        if reached(Phase.SERVER_HELLO):
            return
