"""What the TLS tests share: servers of one TLS version, calls and what is counted of them."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.authority import AUTHORITY
from tests.support.client import Reply, build, call, parse
from tests.support.upstream import Peer, RawUpstream, Request, response

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
ORDER = "/api/v3/order"
BROKEN = {("unreachable", 502): -2, ("lost", 502): -6, ("timeout", 504): -7}


def server_context(version: ssl.TLSVersion | None = None, *names: str) -> ssl.SSLContext:
    """Make a server's context for one TLS version only."""
    context = AUTHORITY.server_context(*names)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def closing(request: Request, peer: Peer) -> None:
    """Answer and end the connection, so that the next call needs a new one."""
    body = b"" if request.method == "HEAD" else b'{"ok":true}'
    await peer.send(response(body, headers=(("connection", "close"),)))
    peer.close()


@dataclass
class Orders:
    """Calls that each carry a number, so that one sent twice is seen."""

    port: int
    upstream: RawUpstream
    last: int = 0
    methods: dict[int, str] = field(default_factory=dict)

    async def send(self, methods: Iterable[str]) -> list[Reply]:
        """Make calls at once, each on a connection of its own."""
        calls = []
        for method in methods:
            self.last += 1
            self.methods[self.last] = method
            calls.append(call(self.port, method, f"{ORDER}?n={self.last}"))
        return list(await asyncio.gather(*calls))

    def assert_none_is_sent_twice(self) -> None:
        arrived = Counter(
            int(request.target.partition(b"n=")[2])
            for request in self.upstream.requests
            if request.target.startswith(ORDER.encode())
        )
        twice = {n: count for n, count in arrived.items() if count > 1 and self.methods[n] != "GET"}
        assert not twice, twice
        assert all(count <= 2 for count in arrived.values())


def assert_words(reply: Reply, method: str) -> str:
    """Assert that a call that was hit is told so in words; return the error's name."""
    name = reply.header("x-resender-error") or ""
    assert (name, reply.status) in BROKEN, reply.raw
    assert reply.header("content-type") == "application/json"
    body = reply.json()
    assert body["code"] == BROKEN[name, reply.status]
    assert "\n" not in body["msg"]
    is_unknown = name != "unreachable" and method not in ("GET", "HEAD")
    assert ("execution status is unknown" in body["msg"]) is is_unknown, body["msg"]
    return name


async def call_watched(port: int, method: str, target: str, on_body: Callable[[], object]) -> Reply:
    """Make a call on a connection of its own; `on_body` is called when the body has begun to arrive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(build(method, target))
        received = b""
        has_begun = False
        with suppress(ConnectionError):
            while data := await asyncio.wait_for(reader.read(65536), 20):
                received += data
                if not has_begun and received.partition(b"\r\n\r\n")[2]:
                    has_begun = True
                    on_body()
        return parse(received)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
