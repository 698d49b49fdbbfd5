"""Tiny real proxies on loopback: SOCKS4a, SOCKS5 (with or without a log-in) and HTTP CONNECT.

They count, refuse, hang and cut at will. Names are resolved here, `names` first.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

from resender.core.egress.spec import EgressSpec
from tests.support.upstream import LINGER_OFF


@dataclass
class Proxy:
    """The server. `kind` is "http", "socks5" or "socks4".

    Shape: `targets` holds what it was asked for, as asked; `refuse` is the status or reply code of
        a refusal; `raw_answer` replaces the answer to a good CONNECT; `pieces` sends answers
        byte by byte; `hangs` never answers; `drops` hangs up before the answer.
    """

    kind: str = "socks5"
    username: str = ""
    password: str = ""
    refuse: int = 0
    hangs: bool = False
    drops: bool = False
    pieces: bool = False
    raw_answer: bytes = b""
    names: dict[str, str] = field(default_factory=dict)
    targets: list[tuple[str, int]] = field(default_factory=list)
    handshakes: list[bytes] = field(default_factory=list)
    accepted: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tunnels: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _dialled: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)

    async def __aenter__(self) -> Proxy:
        await self.listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def spec(self, name: str = "via", *, password: str | None = None) -> EgressSpec:
        """Return the egress through it."""
        return EgressSpec(
            name, "proxy", scheme=self.kind, host="127.0.0.1", port=self.port, username=self.username,
            password=self.password if password is None else password,
        )  # fmt: skip

    @property
    def url(self) -> str:
        login = f"{self.username}:{self.password}@" if self.username else ""
        return f"{self.kind}://{login}127.0.0.1:{self.port}"

    @property
    def open_tunnels(self) -> int:
        return len(self._tunnels)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def cut(self) -> int:
        """Reset every tunnel that is open; return how many there were."""
        tunnels, self._tunnels = self._tunnels, []
        for pair in tunnels:
            for writer in pair:
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF
                    )
                writer.transport.abort()
        return len(tunnels)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if self.hangs:
                    await asyncio.sleep(3600)
                handshake = {"http": self._http, "socks5": self._socks5, "socks4": self._socks4}[self.kind]
                target = await handshake(reader, writer)
                if target is not None:
                    await self._relay(reader, writer, *target)
        finally:
            up_writer = self._dialled.pop(task, None)
            for side in filter(None, (writer, up_writer)):
                side.close()
                with suppress(Exception):
                    await asyncio.wait_for(side.wait_closed(), 1)

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        pair = (writer, up_writer)
        self._tunnels.append(pair)
        pumps = {
            asyncio.get_running_loop().create_task(_pump(a, b))
            for a, b in ((reader, up_writer), (up_reader, writer))
        }
        try:
            # When one side ends, both do, as with a proxy that forwards closing.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if pair in self._tunnels:
                self._tunnels.remove(pair)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.drops:
            raise ConnectionAbortedError
        for piece in [data[i : i + 1] for i in range(len(data))] if self.pieces else [data]:
            writer.write(piece)
            await writer.drain()
            if self.pieces:
                await asyncio.sleep(0.001)

    async def _dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.targets.append((host, port))
        reader, writer = await asyncio.open_connection(self.names.get(host, host), port)
        self._dialled[asyncio.current_task()] = writer
        return reader, writer

    async def _http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.handshakes.append(head)
        if self.username:
            login = base64.b64encode(f"{self.username}:{self.password}".encode())
            if b"\r\nProxy-Authorization: Basic " + login + b"\r\n" not in head:
                await self._say(
                    writer,
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b'Proxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
                )
                return None
        method, authority, _ = head.split(b"\r\n")[0].decode().split(" ")
        if method != "CONNECT" or self.refuse:
            await self._say(writer, b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % (self.refuse or 405))
            return None
        host, _, port = authority.rpartition(":")
        try:
            up = await self._dial(host.strip("[]"), int(port))
        except OSError:
            await self._say(writer, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return None
        await self._say(
            writer, self.raw_answer or b"HTTP/1.1 200 Connection established\r\nVia: 1.1 tiny\r\n\r\n"
        )
        return up

    async def _socks5(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        self.handshakes.append(methods)
        wanted = 2 if self.username else 0
        if self.raw_answer:
            await self._say(writer, self.raw_answer)
            return None
        if wanted not in methods:
            await self._say(writer, b"\x05\xff")
            return None
        await self._say(writer, bytes([5, wanted]))
        if wanted:
            _, length = await reader.readexactly(2)
            name = await reader.readexactly(length)
            (length,) = await reader.readexactly(1)
            word = await reader.readexactly(length)
            is_good = (name.decode(), word.decode()) == (self.username, self.password)
            await self._say(writer, b"\x01" + bytes([0 if is_good else 1]))
            if not is_good:
                return None
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            (length,) = await reader.readexactly(1)
            host = (await reader.readexactly(length)).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        code = self.refuse
        up = None
        if not code:
            try:
                up = await self._dial(host, port)
            except OSError:
                code = 5
        await self._say(writer, bytes([5, code, 0, 1, 127, 0, 0, 1, 0, 0]))
        return up

    async def _socks4(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        _, _, port, address = struct.unpack("!BBH4s", await reader.readexactly(8))
        user = (await reader.readuntil(b"\0"))[:-1].decode()
        self.handshakes.append(user.encode())
        host = str(ipaddress.ip_address(address))
        if host.startswith("0.0.0."):
            host = (await reader.readuntil(b"\0"))[:-1].decode()
        code = 93 if user != self.username else self.refuse
        up = None
        if not code:
            try:
                up = await self._dial(host, port)
            except OSError:
                code = 91
        await self._say(writer, bytes([0, code or 90, 0, 0, 0, 0, 0, 0]))
        return up


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
