"""A client's connection that stays open: one answer after the other, and what becomes of it.

`Kept` knows the framing of answers exactly, so it can tell whether what a server announced about a
connection (`Connection`, `Keep-Alive`) is what it does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support.client import Reply

_NO_BODY = (204, 304)
#: The request that is sent on a connection that was promised.
NEXT = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"


class NoAnswer(AssertionError):
    """The connection ended, or fell silent, where an answer was due."""


@dataclass
class Kept:
    """One connection. Shape: `interim` holds the status of each 1xx answer, in order."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    timeout_s: float = 10.0
    interim: list[int] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        """Send bytes; that the server has hung up is seen where its answer is read."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self, method: str = "GET", version: str = "1.1") -> Reply:
        """Read one answer to its end as its framing says; further bytes stay for the next.

        Shape: `method` and `version` are those of the request.

        Raises: NoAnswer.
        """
        try:
            return await asyncio.wait_for(self._answer(method, version), self.timeout_s)
        except asyncio.TimeoutError:
            raise NoAnswer("no whole answer in time") from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise NoAnswer(f"the connection ended instead of an answer: {error!r}") from None

    async def _answer(self, method: str, version: str) -> Reply:
        while True:
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head[:-4].decode("latin-1").split("\r\n")
            version, status_text, *_ = lines[0].split(" ")
            assert version == "HTTP/1.1", lines[0]
            status = int(status_text)
            if not 100 <= status < 200:
                break
            self.interim.append(status)
        pairs = (line.partition(":") for line in lines[1:])
        headers = [(name.strip(), value.strip()) for name, _, value in pairs]
        reply = Reply(head, status, headers, b"", True)
        if method != "HEAD" and status not in _NO_BODY:
            reply.body = await self._body(reply, version)
        return reply

    async def _body(self, reply: Reply, version: str) -> bytes:
        lengths = [value for name, value in reply.headers if name.lower() == "content-length"]
        if reply.header("transfer-encoding") == "chunked":
            assert not lengths, "a length beside chunks"
            body = b""
            while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return body
        if lengths:
            assert len(lengths) == 1, "more than one length"
            return await self.reader.readexactly(int(lengths[0]))
        assert not is_announced_kept(reply, version), (
            "a body without an end on a connection that is to be kept"
        )
        return await self.reader.read()

    async def ended(self, within_s: float = 5.0) -> bool:
        """Tell whether the server ends the connection, and sends nothing before it does."""
        try:
            return await asyncio.wait_for(self.reader.read(1), within_s) == b""
        except ConnectionError:
            return True
        except asyncio.TimeoutError:
            return False


def connection_tokens(reply: Reply) -> set[str]:
    """Return what an answer's `Connection` headers say."""
    lines = [value for name, value in reply.headers if name.lower() == "connection"]
    return {token.strip().lower() for line in lines for token in line.split(",") if token.strip()}


def is_announced_kept(reply: Reply, version: str = "1.1") -> bool:
    """Tell whether a client may send its next request on the connection."""
    tokens = connection_tokens(reply)
    if "close" in tokens:
        assert "keep-alive" not in tokens, "both close and keep-alive"
        return False
    return version == "1.1" or "keep-alive" in tokens


@asynccontextmanager
async def kept(port: int, *, timeout_s: float = 10.0, host: str = "127.0.0.1") -> AsyncIterator[Kept]:
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    try:
        yield Kept(reader, writer, timeout_s)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@dataclass(frozen=True)
class Shape:
    """How a request is written. Shape: `body` is "", "empty", "length", "chunks" or "late"."""

    version: str = "1.1"
    connection: str = ""
    body: str = ""

    def parts(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), content: bytes = b"{}"
    ) -> tuple[bytes, bytes]:
        """Return what is sent before and what is sent after a moment."""
        lines = [f"{method} {target} HTTP/{self.version}", "Host: gateway"]
        if self.connection:
            lines.append(f"Connection: {self.connection}")
        if self.body == "chunks":
            lines.append("Transfer-Encoding: chunked")
        elif self.body:
            lines.append(f"Content-Length: {0 if self.body == 'empty' else len(content)}")
        lines += [f"{name}: {value}" for name, value in headers]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if self.body == "late":
            return head, content
        if self.body == "chunks":
            return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content), b""
        return head + (content if self.body == "length" else b""), b""


SHAPES_11 = [Shape(body=body) for body in ("", "empty", "length", "chunks", "late")]
SHAPES_11 += [Shape(connection="close", body=body) for body in ("", "length")]
SHAPES_10 = [
    Shape("1.0", connection, body) for connection in ("", "keep-alive") for body in ("", "empty", "length")
]


async def assert_promise(one: Kept, reply: Reply, version: str = "1.1") -> bool:
    """Assert that a connection's fate is the announced one; return whether it was kept."""
    said = f"status {reply.status}, Connection {reply.header('connection')!r}"
    if not is_announced_kept(reply, version):
        assert reply.header("keep-alive") is None, f"{said}: a time for a connection that is closed"
        assert await one.ended(), f"{said}: is not closed"
        return False
    announced = reply.header("keep-alive") or ""
    assert re.fullmatch(r"timeout=[1-9][0-9]*", announced), f"{said}: Keep-Alive is {announced!r}"
    await one.send(NEXT)
    try:
        second = await one.answer()
    except NoAnswer as error:
        raise AssertionError(f"{said}: promised, but {error}") from None
    assert (second.status, second.body) == (200, b'{"status":"ok"}'), f"{said}: then {second.raw!r}"
    return True
