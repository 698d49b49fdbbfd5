"""A small browser for the admin API: cookies, JSON bodies, a clock that can be moved."""

from __future__ import annotations

import time
from typing import Any

import orjson

from resender.aio import Clock
from tests.support.client import Reply, call

PASSWORD = "open sesame 42"


class MovedClock:
    """Real time plus what a test adds to it."""

    def __init__(self) -> None:
        self.added_s = 0.0
        self.clock = Clock(
            now_ms=lambda: time.time_ns() // 1_000_000 + int(self.added_s * 1000),
            mono=lambda: time.monotonic() + self.added_s,
        )

    def move(self, seconds: float) -> None:
        self.added_s += seconds


class Browser:
    """Keeps cookies; `headers` go with every request."""

    def __init__(self, port: int, *headers: tuple[str, str]) -> None:
        self.port = port
        self.headers = headers
        self.cookies: dict[str, str] = {}

    async def send(
        self, method: str, path: str, body: Any = None, *headers: tuple[str, str], raw: bytes | None = None
    ) -> Reply:
        """Make a call; a path without a slash in front is one of the API."""
        target = path if path.startswith("/") else f"/admin/api/{path}"
        data = raw if raw is not None else b"" if body is None else orjson.dumps(body)
        sent = list(self.headers) + list(headers)
        if self.cookies:
            sent.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        reply = await call(self.port, method, target, tuple(sent), data)
        for name, value in reply.headers:
            if name.lower() == "set-cookie":
                cookie, _, rest = value.partition(";")
                key, _, text = cookie.partition("=")
                if "expires=Thu, 01 Jan 1970" in rest or text in ("", '""'):
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = text
        return reply

    async def get(self, path: str, *headers: tuple[str, str]) -> Any:
        """GET what has to be there."""
        reply = await self.send("GET", path, None, *headers)
        assert reply.status == 200, (path, reply.status, reply.body)
        return reply.json()

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        """POST what has to work."""
        reply = await self.send("POST", path, {} if body is None else body)
        assert reply.status == status, (path, reply.status, reply.body)
        return reply.json()

    async def log_in(self, username: str = "root", password: str = PASSWORD) -> Reply:
        return await self.send("POST", "login", {"username": username, "password": password})

    def again(self) -> Browser:
        """Another browser at the same place."""
        return Browser(self.port, *self.headers)


def assert_error(reply: Reply, status: int, code: int, **data: Any) -> dict[str, Any]:
    """Assert the one shape of errors."""
    assert reply.status == status, reply.body
    body = reply.json()
    assert set(body) == {"code", "msg", "data"}
    assert body["code"] == code
    assert body["msg"]
    assert reply.header("x-resender-error")
    assert reply.header("content-type") == "application/json"
    for name, value in data.items():
        assert body["data"].get(name) == value, body
    return body
