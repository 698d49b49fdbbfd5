"""What calls look like through the shipped nginx.conf and Caddyfile: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from resender.config import Config
from tests.support.admin import PASSWORD
from tests.support.client import Reply
from tests.support.kept import NoAnswer
from tests.support.reverse_proxies import (
    CLIENT,
    DEPLOY,
    STRANGER,
    ReverseProxy,
    Visitor,
    find_program,
    reverse_proxy,
)
from tests.support.running import Running
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, response

pytestmark = pytest.mark.component

VISITS = ("/admin", "/admin/x", "/admin/api/me")
ORDERS = 300
# As many connections of clients as share the proxy's connections to the gateway.
VISITORS = 16


def arrivals(upstream: RawUpstream) -> Counter[int]:
    return Counter(int(r.target.rpartition(b"n=")[2]) for r in upstream.requests if b"n=" in r.target)


async def test_orders_beside_visits_of_the_admin_pages_are_all_answered_and_none_is_sent_twice(
    front: ReverseProxy, upstream: RawUpstream
) -> None:
    todo = [("POST", f"/api/v3/order?n={n}") for n in range(ORDERS)]
    todo += [("GET", VISITS[n % 3]) for n in range(2 * ORDERS)]
    random.Random(9).shuffle(todo)
    statuses: Counter[tuple[str, int]] = Counter()

    async def work() -> None:
        visitor = Visitor(front)
        try:
            while todo:
                method, target = todo.pop()
                reply = await visitor.call(method, target)
                statuses[target.partition("?")[0], reply.status] += 1
        finally:
            await visitor.close()

    await asyncio.gather(*(work() for _ in range(VISITORS)))
    assert statuses == {
        ("/api/v3/order", 200): ORDERS,
        ("/admin", 302): 200,
        ("/admin/x", 302): 200,
        ("/admin/api/me", 401): 200,
    }
    assert arrivals(upstream) == Counter(range(ORDERS))


TARGETS = [
    "/api/v3/order?symbol=BTCUSDT&signature=ab%2Bcd%2F%3D%3D",
    "/api/v3/order?signature=ab+cd/ef==&x=1",
    "/api/v3/x?symbols=%5b%22BTCUSDT%22,%22ETHUSDT%22%5d",
    "/api/v3/x?symbols=%5B%22BTCUSDT%22%2c%22ETHUSDT%22%5D",
    '/api/v3/x?s=["A","B"]',
    "/api/v3/x?a=1&&b=&a=2&",
    "/api/v3/x?a=%40b&c=d@e&f=%7e~",
    "/api/v3/x?s=%e5%b8%81",
    "/api/v3/x?a=b+c%20d;e",
    "/api/v3/x?",
    "/api/v3/x?a=b?c=d",
    "/api/v3/x/",
    "/api/v3//x///y?a=b",
    "/api/v3/x%2Fy%2f",
    "/api/v3/x?" + "a=" + "b" * 6000,
]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_target_and_body_arrive_byte_for_byte(
    front: ReverseProxy, upstream: RawUpstream, method: str
) -> None:
    body = b"" if method == "GET" else b"symbol=BTCUSDT&a=%5b&&b=@+ \x00\xff\r\n\r\nsignature=ab+/="
    visitor = Visitor(front)
    wrong = []
    for target in TARGETS:
        reply = await visitor.call(method, target, body)
        assert reply.status == 200, (target, reply.body)
        sent = upstream.requests[-1]
        if sent.target != target.encode():
            wrong.append((target, sent.target))
        assert sent.body == body
    await visitor.close()
    assert not wrong


async def test_headers_of_binance_pass_and_the_clients_address_does_not(
    front: ReverseProxy, upstream: RawUpstream
) -> None:
    headers = (("X-MBX-APIKEY", "kEy"), ("User-Agent", "bot/1"), ("Accept-Encoding", "gzip"))
    assert (await front.call("POST", "/api/v3/order", headers)).status == 200
    sent = upstream.requests[-1]
    assert sent.header("x-mbx-apikey") == "kEy"
    assert sent.header("user-agent") == "bot/1"
    assert sent.header("accept-encoding") == "gzip"
    assert CLIENT.encode() not in sent.head
    for name in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "forwarded"):
        assert sent.header(name) is None, name


FORGED = (
    (("X-Forwarded-For", "127.0.0.1"),),
    (("X-Forwarded-For", CLIENT), ("X-Forwarded-For", "203.0.113.7")),
    (("x-forwarded-for", f"{CLIENT}, 127.0.0.1"),),
    (("X-Real-IP", "203.0.113.7"), ("Forwarded", "for=203.0.113.7")),
    (("X-Forwarded-For", "127.0.0.1:80@x"),),
)


@pytest.mark.parametrize("headers", FORGED)
async def test_address_a_client_claims_is_replaced_by_the_one_the_proxy_sees(
    front: ReverseProxy, behind: Running, headers: tuple[tuple[str, str], ...]
) -> None:
    assert (await front.call("GET", "/api/v3/time", headers)).status == 200
    (entry,) = await behind.gateway.store.whitelist_list()
    await behind.gateway.store.whitelist_update(entry.id, enabled=False)
    await behind.gateway.store.whitelist_add("203.0.113.7")
    reply = await front.call("GET", "/api/v3/time", headers)
    assert (reply.status, reply.json()["msg"]) == (403, f"Forbidden IP: {CLIENT}")


async def test_stranger_is_stopped_before_the_gateway(front: ReverseProxy, upstream: RawUpstream) -> None:
    try:
        reply = await front.call("POST", "/api/v3/order", source=STRANGER)
    except NoAnswer:
        pass
    else:
        assert reply.status == 403
        assert reply.header("x-resender-error") is None
    assert not upstream.requests


@pytest.mark.parametrize("spelling", ["100-continue", "100-Continue"])
async def test_client_that_expects_100_gets_it_and_its_body_arrives(
    front: ReverseProxy, upstream: RawUpstream, spelling: str
) -> None:
    body = b"symbol=BTCUSDT&signature=ab"
    head = front.build("POST", "/api/v3/order", (("Expect", spelling),), body)[: -len(body)]
    async with front.connection() as one:
        await one.send(head)
        interim = await asyncio.wait_for(one.reader.readuntil(b"\r\n\r\n"), 5)
        assert interim.startswith(b"HTTP/1.1 100 ")
        await one.send(body)
        assert (await one.answer("POST")).status == 200
    assert [request.body for request in upstream.requests] == [body]


@pytest.mark.parametrize("framing", ["length", "chunked", "until close", "gzip"])
async def test_large_answer_passes_whole_and_unchanged(
    front: ReverseProxy, upstream: RawUpstream, framing: str
) -> None:
    plain = json.dumps([{"symbol": f"S{n}USDT", "price": n} for n in range(250_000)]).encode()
    body = gzip.compress(plain, 1, mtime=0) if framing == "gzip" else plain
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

    async def answer(request: Request, peer: Peer) -> None:
        if framing == "chunked":
            await peer.send(head + b"transfer-encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 100_000):
                part = body[start : start + 100_000]
                await peer.send(b"%x\r\n%b\r\n" % (len(part), part))
            await peer.send(b"0\r\n\r\n")
        elif framing == "until close":
            await peer.send(head + b"\r\n" + body)
            peer.close()
        else:
            packed = (("content-encoding", "gzip"),) if framing == "gzip" else ()
            await peer.send(response(body, headers=(("content-type", "application/json"), *packed)))

    upstream.answer = answer
    reply = await front.call("GET", "/api/v3/exchangeInfo", (("Accept-Encoding", "gzip"),))
    assert reply.status == 200
    assert reply.header("content-encoding") == ("gzip" if framing == "gzip" else None)
    assert len(reply.body) == len(body)
    assert reply.body == body


async def test_body_that_breaks_off_never_looks_complete(front: ReverseProxy, upstream: RawUpstream) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        if request.target.endswith(b"chunked"):
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asyncio.sleep(0.05)
        peer.reset()

    for framing in ("chunked", "length"):
        upstream.answer = answer
        try:
            reply = await front.call("POST", f"/api/v3/order?{framing}")
        except NoAnswer:
            pass
        else:
            # Caddy before 2.7 ends a chunked body that broke off as if it were whole.
            assert (front.kind, framing, reply.body) == ("caddy", "chunked", b"hello")
        upstream.answer = answer_ok
        assert (await front.call("POST", "/api/v3/order")).status == 200
    assert len(upstream.requests) == 4


async def test_error_of_the_gateway_passes_as_it_is(front: ReverseProxy, upstream: RawUpstream) -> None:
    await upstream.stop()
    for method in ("GET", "POST"):
        reply = await front.call(method, "/api/v3/order")
        assert (reply.status, reply.header("x-resender-error")) == (502, "unreachable")
        assert reply.json()["code"] == -2
    reply = await front.call("POST", "/nothing")
    assert (reply.status, reply.json()["code"]) == (404, -3)


def assert_gateway_down(reply: Reply) -> None:
    assert reply.status == 502
    assert reply.header("content-type") == "application/json"
    assert reply.json()["code"] == -6
    assert "The execution status is unknown" in reply.json()["msg"]


async def test_gateway_that_is_down_is_told_in_json(kind: str, tmp_path: Path) -> None:
    async with RawUpstream(tls=False) as gone:  # in the place of a gateway, which speaks plain HTTP
        port = gone.port
    async with reverse_proxy(kind, tmp_path / "front", port) as front:
        for method, body in (("POST", b"a=b"), ("GET", b""), ("DELETE", b"")):
            assert_gateway_down(await front.call(method, "/api/v3/order?signature=ab", body=body))
        async with RawUpstream(tls=False, port=port):
            assert (await front.call("POST", "/api/v3/order", body=b"a=b")).status == 200


@pytest.mark.parametrize("moment", ["first", "kept"])
async def test_order_the_gateway_died_under_is_told_and_never_sent_twice(
    kind: str, tmp_path: Path, moment: str
) -> None:
    async def die(request: Request, peer: Peer) -> None:
        peer.reset()

    async with RawUpstream(tls=False) as gateway:  # in the place of a gateway, which speaks plain HTTP
        async with reverse_proxy(kind, tmp_path / "front", gateway.port) as front:
            visitor = Visitor(front)
            if moment == "kept":
                assert (await visitor.call("POST", "/api/v3/order?n=0", b"a=b")).status == 200
            gateway.answer = die
            for number, method in enumerate(("POST", "DELETE", "PUT"), 1):
                reply = await visitor.call(method, f"/api/v3/order?n={number}", b"a=b")
                assert_gateway_down(reply)
            gateway.answer = answer_ok
            assert (await visitor.call("POST", "/api/v3/order?n=9", b"a=b")).status == 200
            await visitor.close()
        assert max(arrivals(gateway).values()) == 1


def test_connections_of_the_samples_end_before_the_gateways_do() -> None:
    for name, directive in (("nginx.conf", "keepalive_timeout"), ("Caddyfile", "keepalive")):
        found = re.findall(rf"^\s+{directive} (\d+)s;?$", (DEPLOY / name).read_text("utf-8"), re.MULTILINE)
        assert len(found) == 1, name
        assert int(found[0]) < Config().client_idle_s, name


async def test_connection_that_was_idle_longer_than_the_proxy_keeps_it_costs_no_order(
    behind: Running, upstream: RawUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_program("nginx")
    shipped = (DEPLOY / "nginx.conf").read_text("utf-8")
    folder = tmp_path / "deploy"
    folder.mkdir()
    assert shipped.count("keepalive_timeout 60s;") == 1
    # Its 60 s would take too long for a test.
    (folder / "nginx.conf").write_text(shipped.replace("keepalive_timeout 60s;", "keepalive_timeout 1s;"))
    monkeypatch.setattr("tests.support.reverse_proxies.DEPLOY", folder)
    async with reverse_proxy("nginx", tmp_path / "front", behind.port) as front:
        for pause_s in (0.0, 0.2, 1.3, 0.9, 1.0, 1.1):
            await asyncio.sleep(pause_s)
            assert (await front.call("POST", "/api/v3/order")).status == 200, pause_s
    assert len(upstream.requests) == 6


async def test_log_in_through_the_proxy_is_known_to_be_over_tls(front: ReverseProxy) -> None:
    body = json.dumps({"username": "root", "password": PASSWORD}).encode()
    headers = (("Origin", front.url), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/json"))
    reply = await front.call("POST", "/admin/api/login", headers, body)
    assert reply.status == 200, reply.body
    lines = [value for name, value in reply.headers if name.lower() == "set-cookie"]
    assert lines
    assert all("Secure" in line for line in lines if "resender_session" in line)
    cookie = next(line.partition(";")[0] for line in lines if line.startswith("resender_session="))
    # Live figures come at once, not when a buffer is full.
    async with front.connection() as one:
        await one.send(front.build("GET", "/admin/api/events", (("Cookie", cookie),)))
        head = await asyncio.wait_for(one.reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await asyncio.wait_for(one.reader.readuntil(b"\n\n"), 10)
    foreign = (("Origin", "https://evil.example"), ("Cookie", cookie))
    assert (await front.call("POST", "/admin/api/logout", foreign)).status == 403


async def test_size_of_a_body_is_judged_by_the_gateway(front: ReverseProxy, behind: Running) -> None:
    limit = behind.gateway.config.max_body_bytes
    assert (await front.call("POST", "/api/v3/order", body=b"x" * limit)).status == 200
    reply = await front.call("POST", "/api/v3/order", body=b"x" * (limit + 1))
    assert (reply.status, reply.header("content-type")) == (413, "application/json")
    assert reply.json()["code"] == -5
    # A list of addresses to import is the largest body there is.
    text = "".join(f"# {'x' * 90} {n}\n" for n in range(20_000))
    body = json.dumps({"text": text, "dry_run": True}).encode()
    assert 1 << 20 < len(body) < 4 << 20
    login = json.dumps({"username": "root", "password": PASSWORD}).encode()
    cookie = (await front.call("POST", "/admin/api/login", body=login)).header("set-cookie") or ""
    headers = (("Cookie", cookie.partition(";")[0]),)
    reply = await front.call("POST", "/admin/api/whitelist/import", headers, body)
    assert reply.status == 200, reply.body[:300]


@pytest.mark.parametrize("size", [7_000, 20_000, 60_000])
async def test_long_list_of_symbols_passes_as_it_does_without_a_proxy(
    front: ReverseProxy, upstream: RawUpstream, size: int
) -> None:
    target = "/api/v3/ticker/price?symbols=%5B" + "%22BTCUSDT%22%2C" * (size // 16) + "%22A%22%5D"
    reply = await front.call("GET", target)
    assert reply.status == 200, reply.raw
    assert upstream.requests[-1].target == target.encode()
