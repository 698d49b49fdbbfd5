"""Every error of the gateway's own keeps the promise its answer makes about the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resender.errors import ANSWERS
from tests.support.admin import PASSWORD, Browser
from tests.support.client import build, call
from tests.support.kept import Shape, assert_promise, is_announced_kept, kept
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, reset, response

pytestmark = pytest.mark.component

LIMIT = 100_000
LOGIN = "/admin/api/login"
Prepare = Callable[[Running, RawUpstream, pytest.MonkeyPatch], Awaitable[list[tuple[str, str]] | None]]
Answer = Callable[[Request, Peer], Awaitable[None]]
SHAPES = [Shape(version, connection) for version in ("1.1", "1.0") for connection in ("", "keep-alive")]
SHAPES += [Shape(connection="close")]


async def nothing(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


async def stop_upstream(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    await upstream.stop()


async def drain(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    run.gateway.calls.is_open = False


async def be_full(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    run.gateway.calls.in_flight = run.gateway.config.max_in_flight


async def explode(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("resender.web.client.request.headers_up", fail)


async def log_in(
    run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str]]:
    browser = Browser(run.port)
    assert (await browser.log_in()).status == 200
    return [("Cookie", "; ".join(f"{name}={value}" for name, value in browser.cookies.items()))]


async def guess(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(run.port)
    for _ in range(50):
        if (await browser.log_in("root", "wrong")).status == 429:
            return
    raise AssertionError("guessing is not slowed down")


def told(status: str, *headers: tuple[str, str]) -> Prepare:
    """Have the upstream say something once."""

    async def prepare(run: Running, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
        async def answer(request: Request, peer: Peer) -> None:
            upstream.answer = answer_ok
            await peer.send(response(b"{}", status, headers))

        upstream.answer = answer
        assert (await call(run.port, "GET", "/api/v3/time")).status == int(status[:3])

    return prepare


async def silence(request: Request, peer: Peer) -> None:
    await asyncio.sleep(30)


@dataclass(frozen=True)
class Case:
    """How to be answered with an error over HTTP."""

    name: str
    target: str = "/api/v3/order"
    method: str = "POST"
    body: bytes = b"{}"
    prepare: Prepare = nothing
    answer: Answer = answer_ok
    headers: tuple[tuple[str, str], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.method} {self.target[:30]}"


KNOWN = b'{"address":"127.0.0.1"}'
ALONE = {"redis_url": "redis://127.0.0.1:9", "node_secret": "s" * 40, "roles": "front"}
CASES = [
    Case("egress_away", settings=ALONE),
    Case("egress_away", "/local/spot/klines?symbol=BTCUSDT&interval=1m", "GET", b"", settings=ALONE),
    Case("forbidden", settings={"whitelist": "203.0.113.5"}),
    Case("forbidden", body=b"x" * (LIMIT - 1), settings={"whitelist": "203.0.113.5"}),
    Case("forbidden", "/metrics", "GET", b"", settings={"whitelist": "203.0.113.5"}),
    Case("forbidden", "/admin", "GET", b"", settings={"admin_whitelist": "203.0.113.5"}),
    Case("forbidden", LOGIN, settings={"admin_whitelist": "203.0.113.5"}),
    Case("unreachable", prepare=stop_upstream),
    Case("unreachable", "/api/v3/time", "HEAD", b"", prepare=stop_upstream),
    Case("not_found", "/nothing/here"),
    Case("not_found", "/local/x", "GET", b""),
    Case("not_found", "/admin/api/none", prepare=log_in),
    Case("method_not_allowed", method="PATCH"),
    Case("method_not_allowed", "/local/status"),
    Case("method_not_allowed", "/healthz"),
    Case("method_not_allowed", "/admin/api/me", "PUT", prepare=log_in),
    Case("bad_request", "/api/v3/../x"),
    Case("bad_request", "http://127.0.0.1:1/x"),
    Case("bad_request", "/api/v3/order?symbol=\xff&signature=1"),
    Case("bad_request", headers=(("X-MBX-APIKEY", "\xff"),)),
    Case("bad_request", LOGIN, body=b"no JSON"),
    Case("too_large", body=b"x" * (LIMIT + 1)),
    Case("too_large", "/healthz", body=b"x" * 2000),
    Case("too_large", LOGIN, body=b"x" * 20_000),
    Case("too_large", "/admin/api/whitelist/import", body=b"x" * (9 << 20), prepare=log_in),
    Case("lost", answer=reset),
    Case("lost", "/api/v3/time", "HEAD", b"", answer=reset),
    Case("timeout", answer=silence, settings={"read_timeout_s": 0.2}),
    Case("busy", prepare=be_full),
    Case("busy", prepare=drain),
    Case("internal", prepare=explode),
    Case("not_ready", "/local/spot/klines?symbol=BTCUSDT&interval=1m&limit=5", "GET", b""),
    Case("unauthorized", "/admin/api/me", "GET", b""),
    Case("unauthorized", "/admin/api/me", "HEAD", b""),
    Case("unauthorized", "/admin/api/users"),
    Case("denied", LOGIN, headers=(("Origin", "https://evil.example"),)),
    Case("denied", "/admin/api/users", headers=(("Origin", "https://evil.example"),)),
    Case("conflict", "/admin/api/whitelist", body=KNOWN, prepare=log_in),
    Case("too_many_logins", LOGIN, body=b'{"username":"root","password":"wrong"}', prepare=guess),
    Case("no_weight", "/api/v3/time", "GET", b"", prepare=told("200 OK", ("x-mbx-used-weight-1m", "999999"))),
    Case("banned", prepare=told("418 I'm a teapot", ("retry-after", "60"))),
]
# Answers to what cannot be read as a request; they are the last words of a connection.
UNREADABLE = {
    "bad_request": [b"NONSENSE\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: g\r\nContent-Length: x\r\n\r\n"],
    "uri_too_long": [b"GET /api/v3/time?a=" + b"b" * 70_000 + b" HTTP/1.1\r\nHost: g\r\n\r\n"],
    "headers_too_large": [b"GET /api/v3/time HTTP/1.1\r\nHost: g\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n"],
}


def test_every_error_there_is_has_a_case() -> None:
    assert {case.name for case in CASES} | set(UNREADABLE) == set(ANSWERS)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_error_keeps_the_promise_of_its_answer(
    case: Case, upstream: RawUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "admin_password": PASSWORD,
        "max_body_bytes": LIMIT,
        "cache_enabled": case.name == "not_ready",
    }
    async with running(make_config(tmp_path, upstream.url, **settings | case.settings)) as run:
        headers = [*case.headers, *(await case.prepare(run, upstream, monkeypatch) or ())]
        if case.answer is not answer_ok:
            upstream.answer = case.answer
        bodies = ("length", "chunks", "late") if case.body else ("", "empty")
        for shape in SHAPES:
            for body in bodies if shape.version == "1.1" else bodies[:1]:
                await _check(run.port, case, Shape(shape.version, shape.connection, body), headers)
        await wait_until(lambda: run.gateway.calls.in_flight in (0, run.gateway.config.max_in_flight))
        run.gateway.calls.in_flight = 0
        run.gateway.calls.is_open = True


async def _check(port: int, case: Case, shape: Shape, headers: list[tuple[str, str]]) -> None:
    async with kept(port) as one:
        begin, rest = shape.parts(case.method, case.target, headers, case.body)
        await one.send(begin)
        if rest:
            await asyncio.sleep(0.002)  # so that the head may be answered without it
            await one.send(rest)
        reply = await one.answer(case.method, shape.version)
        said = (shape, reply.raw)
        assert reply.header("x-resender-error") == case.name, said
        assert reply.status == ANSWERS[case.name].status, said
        assert reply.header("content-type") == "application/json", said
        if case.method != "HEAD":
            assert reply.json()["code"] == ANSWERS[case.name].code, said
        if case.prepare is drain:
            assert not is_announced_kept(reply, shape.version), said
            assert await one.ended(), said
        else:
            await assert_promise(one, reply, shape.version)


@pytest.mark.parametrize("name", UNREADABLE)
async def test_last_words_of_a_connection_announce_its_end(name: str, gateway: Running) -> None:
    for raw in UNREADABLE[name]:
        async with kept(gateway.port) as one:
            # What came before is answered, and its connection was kept as promised.
            await one.send(build("GET", "/api/v3/time", close=False) + raw)
            assert (await one.answer()).status == 200
            reply = await one.answer()
            assert reply.header("x-resender-error") == name
            assert (reply.status, reply.json()["code"]) == (ANSWERS[name].status, ANSWERS[name].code)
            assert not is_announced_kept(reply)
            assert await one.ended()
