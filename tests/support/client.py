"""A raw HTTP client: exact bytes out, exact bytes in, one connection for each call.

The gateway speaks plain HTTP to its clients; with `context` the call goes to an exchange.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass

import orjson


@dataclass
class Reply:
    """A response taken apart; `complete` tells whether it ended as its own framing says."""

    raw: bytes
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def json(self) -> dict:
        return orjson.loads(self.body)


async def exchange(
    port: int,
    request: bytes,
    *,
    timeout_s: float = 20,
    host: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
) -> bytes:
    """Send bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(request)
        await writer.drain()
        received = b""
        with suppress(ConnectionError):
            while data := await asyncio.wait_for(reader.read(65536), timeout_s):
                received += data
        return received
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def build(
    method: str,
    target: str | bytes,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    *,
    version: str = "1.1",
    close: bool = True,
) -> bytes:
    """Build a request; a body gets a Content-Length."""
    raw_target = target if isinstance(target, bytes) else target.encode("latin-1")
    lines = [b"%s %s HTTP/%s" % (method.encode(), raw_target, version.encode())]
    if not any(name == "Host" for name, _ in headers):
        lines.append(b"Host: gateway")
    if close:
        lines.append(b"Connection: close")
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    if body or method in ("POST", "PUT", "DELETE"):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def parse(raw: bytes, *, is_head: bool = False) -> Reply:
    """Take one response apart."""
    head, mark, rest = raw.partition(b"\r\n\r\n")
    if not mark:
        return Reply(raw, 0, [], b"", False)
    lines = head.decode("latin-1").split("\r\n")
    headers = [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
    status = int(lines[0].split(" ")[1])
    fields = {name.lower(): value for name, value in headers}
    if is_head or status in (204, 304):
        return Reply(raw, status, headers, rest, rest == b"")
    if fields.get("transfer-encoding") == "chunked":
        body, complete = b"", False
        while rest:
            size, mark, rest = rest.partition(b"\r\n")
            if not mark:
                break
            length = int(size, 16)
            if length == 0:
                complete = True
                break
            body += rest[:length]
            rest = rest[length + 2 :]
        return Reply(raw, status, headers, body, complete)
    if "content-length" in fields:
        length = int(fields["content-length"])
        return Reply(raw, status, headers, rest[:length], len(rest) == length)
    return Reply(raw, status, headers, rest, True)


async def call(
    port: int,
    method: str,
    target: str | bytes,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    *,
    version: str = "1.1",
    timeout_s: float = 20,
    context: ssl.SSLContext | None = None,
) -> Reply:
    """Make one call on a connection of its own."""
    request = build(method, target, headers, body, version=version)
    raw = await exchange(port, request, timeout_s=timeout_s, context=context)
    return parse(raw, is_head=method == "HEAD")


async def read_answer(reader: asyncio.StreamReader) -> Reply:
    """Read one answer of a connection that is kept; it has a Content-Length or is chunked."""
    raw = await reader.readuntil(b"\r\n\r\n")
    reply = parse(raw)
    if reply.header("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(reply.header("content-length") or 0))
    return Reply(raw + body, reply.status, reply.headers, body, True)
