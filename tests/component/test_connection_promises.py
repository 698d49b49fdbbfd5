"""What an answer announces about its connection is what becomes of it, on every route.

A reverse proxy that was promised a connection puts the next client's order on it: if the gateway
closes it all the same, that order is answered "outcome unknown".
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tornado.routing import URLSpec
from tornado.web import Application

from resender.cli.serve import bind
from resender.web.application import make_admin_app, make_admin_server, make_app
from resender.web.client.streams import StreamHandler
from resender.web.connection import IDLE_GRACE_S
from tests.support.admin import PASSWORD, Browser
from tests.support.client import Reply, build, parse
from tests.support.kept import (
    NEXT,
    SHAPES_10,
    SHAPES_11,
    NoAnswer,
    Shape,
    assert_promise,
    is_announced_kept,
    kept,
)
from tests.support.running import Running, make_config, running
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component

METHODS = ("GET", "HEAD", "POST")
# No stream of these tests leads anywhere.
NO_STREAMS = dict.fromkeys(("stream_spot", "stream_um", "stream_cm"), "wss://127.0.0.1:9")
# Answers that go on for as long as somebody listens.
ENDLESS = ("/admin/api/events", "/admin/api/klines/events")
MORE_TARGETS = (
    "/admin/", "/admin/x", "/admin/api/x", "/admin/api", "/admin/static/0123456789ab/none.js", "/healthz/x",
    "/admin/api/klines?market=spot&symbol=BTCUSDT&interval=1m", "/admin/login?next=/admin/logs",
    "/local/status", "/local/x", "/local/spot/klines?symbol=BTCUSDT&interval=1m", "/local/spot/klines",
    "/nothing/here", "/api", "//", "/api/../x", "http://127.0.0.1:1/x", "*", "/api/v3/order?a=\xff&signature=1",
    "/api/v3/order?symbol=BTCUSDT&signature=ab", "/fapi//fapi/v1/time", "/sapi/v1/x", "/papi/v1/ping",
    "/api/v3/klines?symbol=BTCUSDT&interval=1m", "/api/v3/ticker/bookTicker?symbol=BTCUSDT",
    "/api/v3/exchangeInfo?symbol=BTCUSDT", "/chunked", "/api/chunked", "/api/until-close", "/api/304",
)  # fmt: skip


def targets(app: Application) -> list[str]:
    """Return one target for each route of an application."""
    found = []
    for rule in app.wildcard_router.rules:
        if not isinstance(rule, URLSpec):
            assert rule.target is StreamHandler  # its paths are those of every handshake
            continue
        path = rule.regex.pattern.removesuffix("$").replace("/admin/?", "/admin").replace(".*", "whatever")
        found.append(re.sub(r"\([^)]*\)", "1", path))
    return found


@dataclass
class Walk:
    """Sends requests, each on a connection of its own, and gathers broken promises."""

    port: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    checked: int = 0
    was_kept: int = 0
    broken: list[str] = field(default_factory=list)

    async def check(self, method: str, target: str, shape: Shape) -> Reply | None:
        name = f"{method} {target} {shape}"
        self.checked += 1
        try:
            async with kept(self.port, timeout_s=5) as one:
                begin, rest = shape.parts(method, target, self.headers)
                await one.send(begin)
                if rest:
                    await asyncio.sleep(0.002)  # so that the head may be answered without it
                    await one.send(rest)
                reply = await one.answer(method, shape.version)
                self.was_kept += await assert_promise(one, reply, shape.version)
                return reply
        except AssertionError as error:
            self.broken.append(f"{name}: {error}")
        return None

    async def all(self, paths: Iterable[str], shapes: Iterable[Shape]) -> None:
        for target, method, shape in itertools.product(paths, METHODS, shapes):
            await self.check(method, target, shape)

    def assert_kept_its_word(self) -> None:
        assert not self.broken, f"{len(self.broken)} of {self.checked}\n" + "\n".join(self.broken[:40])


@pytest.fixture
async def site(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    async def answer(request: Request, peer: Peer) -> None:
        body = b"" if request.method == "HEAD" else b'{"ok":true}'
        if request.target == b"/api/chunked":
            chunks = b"" if request.method == "HEAD" else b"5\r\n01234\r\n0\r\n\r\n"
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)
        elif request.target == b"/api/until-close":
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            peer.close()
        elif request.target == b"/api/304":
            await peer.send(b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n")
        elif b"exchangeInfo" in request.target:
            await peer.send(response(body, "429 Too Many Requests", (("retry-after", "1"),)))
        else:
            await peer.send(response(body))

    upstream.answer = answer
    config = make_config(tmp_path, upstream.url, admin_password=PASSWORD, **NO_STREAMS)
    async with running(config) as run:
        yield run


def all_targets(run: Running) -> list[str]:
    found = [path for path in targets(make_app(run.gateway.services)) if path not in ENDLESS]
    assert len(found) > 45
    return [*found, *MORE_TARGETS]


@pytest.mark.parametrize("shapes", [SHAPES_11, SHAPES_10], ids=["HTTP/1.1", "HTTP/1.0"])
async def test_connection_of_every_route_without_log_in_ends_as_announced(
    site: Running, shapes: list[Shape]
) -> None:
    walk = Walk(site.port)
    await walk.all([*all_targets(site), *ENDLESS], shapes)
    walk.assert_kept_its_word()
    assert walk.was_kept > walk.checked // 3


async def _log_in(port: int) -> list[tuple[str, str]]:
    browser = Browser(port)
    assert (await browser.log_in()).status == 200
    return [("Cookie", "; ".join(f"{name}={value}" for name, value in browser.cookies.items()))]


@pytest.mark.parametrize("shapes", [SHAPES_11, SHAPES_10], ids=["HTTP/1.1", "HTTP/1.0"])
async def test_connection_of_every_route_with_log_in_ends_as_announced(
    site: Running, shapes: list[Shape]
) -> None:
    walk = Walk(site.port, await _log_in(site.port))
    walk_last = ("/admin/api/logout", "/admin/api/doctor")
    await walk.all([path for path in all_targets(site) if path not in walk_last], shapes)
    me = await walk.check("GET", "/admin/api/me", Shape())
    assert me is not None
    assert me.status == 200, "the walk has logged itself out, what it saw is not what it is to see"
    await walk.check("GET", "/admin/api/doctor", shapes[0])
    await walk.check("POST", "/admin/api/logout", shapes[0])
    walk.assert_kept_its_word()
    assert walk.was_kept > walk.checked // 3


async def test_connection_of_a_stranger_ends_as_announced_on_every_route(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    config = make_config(
        tmp_path, upstream.url, whitelist="203.0.113.5", admin_whitelist="203.0.113.5", **NO_STREAMS
    )
    async with running(config) as run:
        walk = Walk(run.port)
        await walk.all([*all_targets(run), *ENDLESS], [SHAPES_11[0], *SHAPES_11[2:5], SHAPES_10[3]])
        walk.assert_kept_its_word()
    assert not upstream.requests


async def test_connection_of_a_gateway_that_stops_ends_as_announced_on_every_route(site: Running) -> None:
    site.gateway.calls.is_open = False
    paths = ["/api/v3/order", "/local/status", "/nothing/here", "/admin", "/", "/metrics", "/admin/api/me"]
    for target, method, shape in itertools.product(paths, METHODS, [*SHAPES_11, *SHAPES_10]):
        async with kept(site.port) as one:
            begin, rest = shape.parts(method, target)
            await one.send(begin + rest)
            reply = await one.answer(method, shape.version)
            if target == "/api/v3/order":
                assert reply.status == 503
                assert not is_announced_kept(reply, shape.version)
            if is_announced_kept(reply, shape.version):
                await one.send(NEXT)
                assert (await one.answer()).status == 503, (method, target, shape)
            else:
                assert await one.ended(), (method, target, shape)


async def test_connection_of_the_own_admin_port_ends_as_announced_on_every_route(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    config = make_config(tmp_path, upstream.url, admin_password=PASSWORD, admin_port=1, **NO_STREAMS)
    async with running(config) as run:
        server = make_admin_server(run.gateway.services)
        sockets = bind("127.0.0.1", 0)
        server.add_sockets(sockets)
        port = sockets[0].getsockname()[1]
        try:
            await _walk_admin_port(port, run)
        finally:
            server.stop()
            await server.close_all_connections()
            for one in sockets:
                one.close()


async def _walk_admin_port(port: int, run: Running) -> None:
    paths = targets(make_admin_app(run.gateway.services))
    broken: list[str] = []
    for target, method, shape in itertools.product(paths, METHODS, [*SHAPES_11[:1], *SHAPES_11[2:5]]):
        async with kept(port) as one:
            begin, rest = shape.parts(method, target)
            await one.send(begin + rest)
            reply = await one.answer(method)
            if not is_announced_kept(reply):
                if not await one.ended():
                    broken.append(f"{method} {target} {shape} is not closed")
                continue
            await one.send(build("GET", "/admin/login", close=False))
            try:
                assert (await one.answer()).status == 200
            except NoAnswer as error:
                broken.append(f"{method} {target} {shape}: {error}")
    assert not broken, broken[:20]


async def test_endless_answer_to_a_log_in_promises_no_connection_it_cannot_keep(site: Running) -> None:
    headers = await _log_in(site.port)
    for shape in (Shape(), Shape("1.0"), Shape("1.0", "keep-alive")):
        async with kept(site.port) as one:
            await one.send(shape.parts("GET", ENDLESS[0], headers)[0])
            head = parse(await one.reader.readuntil(b"\r\n\r\n"))
            assert head.status == 200
            assert await one.reader.readuntil(b"\n\n")
        # HTTP/1.0 knows no chunks: what has no length ends with its connection.
        is_chunked = head.header("transfer-encoding") == "chunked"
        assert is_chunked is (shape.version == "1.1"), shape
        assert is_announced_kept(head, shape.version) is is_chunked, shape


async def test_idle_connection_is_kept_for_longer_than_announced(
    upstream: RawUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("application", "connection"):
        monkeypatch.setattr(f"resender.web.{module}.IDLE_GRACE_S", 0.6)
    async with running(make_config(tmp_path, upstream.url, client_idle_s=1, **NO_STREAMS)) as run:
        async with kept(run.port) as one:
            for target in ("/api/v3/order", "/healthz", "/nothing", "/admin/api/me"):
                await one.send(build("GET", target, close=False))
                reply = await one.answer()
                assert reply.header("keep-alive") == "timeout=1"
            # A request that sets out at the last moment of what was announced still arrives.
            assert not await one.ended(1.05)
            await one.send(build("POST", "/api/v3/order", close=False))
            assert (await one.answer("POST")).status == 200
            begun = time.monotonic()
            assert await one.ended()
            assert time.monotonic() - begun > 1.0


async def test_announced_time_is_the_setting_and_the_real_one_is_seconds_longer(gateway: Running) -> None:
    reply = await Walk(gateway.port).check("GET", "/api/v3/time", Shape())
    assert reply is not None
    assert reply.header("keep-alive") == f"timeout={gateway.gateway.config.client_idle_s:g}"
    assert IDLE_GRACE_S >= 5
