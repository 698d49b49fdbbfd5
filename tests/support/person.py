"""What the tests of the live data share: a log-in, calls with it, and a reader of streamed answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from resender.gateway import Gateway
from resender.web.admin.base import SESSION_COOKIE
from resender.web.admin.sessions import digest, new_secret
from tests.support.client import Reply, build, call


@dataclass
class Person:
    """Somebody who has logged in and calls the admin API."""

    port: int
    gateway: Gateway
    secret: str
    session_id: int
    user_id: int

    @property
    def cookie(self) -> tuple[str, str]:
        return "Cookie", f"{SESSION_COOKIE}={self.secret}"

    async def get(self, path: str, *headers: tuple[str, str]) -> Reply:
        return await call(self.port, "GET", f"/admin/api/{path}", (self.cookie, *headers))

    async def json(self, path: str) -> Any:
        reply = await self.get(path)
        assert reply.status == 200, reply.body
        assert reply.header("content-type") == "application/json"
        return reply.json()

    async def send(self, method: str, path: str, body: Any = None) -> Reply:
        data = orjson.dumps(body) if body is not None else b""
        return await call(self.port, method, f"/admin/api/{path}", (self.cookie,), data)

    async def audit(self, action: str) -> list[Any]:
        return await self.gateway.store.audit_list(action=action)

    @asynccontextmanager
    async def stream(self, path: str, method: str = "GET", **headers: str) -> AsyncIterator[Streamed]:
        """Open an answer that goes on for long."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            pairs = (self.cookie, *((name.replace("_", "-"), value) for name, value in headers.items()))
            writer.write(build(method, f"/admin/api/{path}", pairs, close=False))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            yield Streamed(reader, writer, int(head.split(" ")[1]), head.lower())
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Streamed:
    """An answer in chunks, read as it comes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    head: str
    is_whole: bool = False
    _rest: bytes = b""
    names: list[str] = field(default_factory=list)

    async def chunk(self, timeout_s: float = 10.0) -> bytes:
        """Read one chunk; nothing at the end, when `is_whole` tells whether it was a proper one."""
        async with _limit(timeout_s):
            line = await self.reader.readline()
            if not line.strip():
                return b""
            size = int(line, 16)
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            self.is_whole = size == 0
            return data

    async def event(self, timeout_s: float = 10.0) -> tuple[str, Any] | None:
        """Read the next event, None at the end; comments and `retry` are passed over."""
        while True:
            while b"\n\n" not in self._rest:
                data = await self.chunk(timeout_s)
                if not data:
                    return None
                self._rest += data
            block, _, self._rest = self._rest.partition(b"\n\n")
            lines = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
            if "event" in lines:
                self.names.append(lines["event"])
                return lines["event"], orjson.loads(lines["data"])

    async def until(self, name: str, timeout_s: float = 10.0) -> Any:
        """Read until an event of this name has come; return its data."""
        async with _limit(timeout_s):
            while (found := await self.event(timeout_s)) is not None:
                if found[0] == name:
                    return found[1]
        raise AssertionError(f"no event {name}, only {self.names}")

    async def rest(self, timeout_s: float = 30.0) -> bytes:
        body = b""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while data := await self.chunk(timeout_s):
                body += data
        return body


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    task = asyncio.current_task()
    assert task is not None
    handle = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise AssertionError(f"nothing came within {seconds} s") from None
    finally:
        handle.cancel()


async def log_in(gateway: Gateway, port: int, name: str = "tester") -> Person:
    """Make an account and a session of it, without the log-in page."""
    secret, now_ms = new_secret(), gateway.clock.now_ms()
    user = await gateway.store.user_add(name, "no hash", must_change=False)
    session = await gateway.store.session_add(user.id, digest(secret), "127.0.0.1", "test", now_ms)
    return Person(port, gateway, secret, session.id, user.id)
