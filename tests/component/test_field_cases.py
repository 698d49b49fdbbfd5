"""Cases met in the field: what client libraries, proxies and Binance's edge really send."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from tests.support.client import build, call, exchange, parse
from tests.support.kept import assert_promise, is_announced_kept, kept
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, response

pytestmark = pytest.mark.component

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    streams = dict.fromkeys(("stream_spot", "stream_um", "stream_cm"), "wss://127.0.0.1:9")
    async with running(make_config(tmp_path, upstream.url, **streams)) as run:
        yield run


# --- answers that come before the answer, and fields that come behind it ----------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "interim",
    [HINTS, CONTINUE, CONTINUE + HINTS + HINTS, b"HTTP/1.1 102 Processing\r\n\r\n"],
    ids=["103", "100", "100 103 103", "102"],
)
async def test_interim_answers_of_the_upstream_are_passed_over(
    gateway: Running, upstream: RawUpstream, interim: bytes
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(interim)
        await asyncio.sleep(0.01)  # a packet of its own
        body = b"" if request.method == "HEAD" else b'{"final":1}'
        await peer.send(interim + response(body, headers=(("x-mbx-uuid", "u"),)))

    upstream.answer = answer
    for method, version in itertools.product(METHODS, ("1.1", "1.0")):
        reply = await call(gateway.port, method, "/api/v3/order?x=1", version=version)
        assert reply.raw.startswith(b"HTTP/1.1 200 OK\r\n")
        assert reply.header("x-mbx-uuid") == "u"
        assert reply.header("link") is None
        if method != "HEAD":
            assert (reply.body, reply.complete) == (b'{"final":1}', True)
    assert len(upstream.requests) == 10
    assert upstream.connections == 1, "the connection is not kept behind an interim answer"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_order_lost_behind_an_interim_answer_is_not_sent_again(
    gateway: Running, upstream: RawUpstream, method: str
) -> None:
    assert (await call(gateway.port, "GET", "/api/v3/time")).status == 200

    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(HINTS)
        await asyncio.sleep(0.01)
        peer.reset()

    upstream.answer = answer
    reply = await call(gateway.port, method, "/api/v3/order")
    assert (reply.status, reply.json()["code"]) == (502, -6)
    assert [request.method for request in upstream.requests] == ["GET", method]


async def test_trailers_of_the_upstream_are_left_out_and_the_connection_is_kept(
    gateway: Running, upstream: RawUpstream
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;ext=1\r\nhello\r\n0\r\nX-Checksum: abc\r\nX-MBX-USED-WEIGHT-1M: 99999\r\n\r\n"
        )

    upstream.answer = answer
    async with kept(gateway.port) as one:
        for _ in range(3):
            await one.send(build("POST", "/api/v3/order", close=False))
            reply = await one.answer("POST")
            assert (reply.status, reply.body) == (200, b"hello")
            assert reply.header("trailer") is None
            assert reply.header("x-checksum") is None
    assert upstream.connections == 1


# --- what clients offer ----------------------------------------------------------------------------

H2C = (
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA"),
)


@pytest.mark.parametrize("target", ["/api/v3/order?x=1", "/healthz", "/admin/api/me", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_offer_of_h2c_is_answered_in_http_1_1(
    gateway: Running, upstream: RawUpstream, target: str, method: str
) -> None:
    # A JDK HttpClient sends this with its first request to a plain address.
    body = b"a=b" if method == "POST" else b""
    async with kept(gateway.port) as one:
        await one.send(build(method, target, H2C, body, close=False))
        reply = await one.answer(method)
        assert reply.status != 101
        assert not one.interim
        assert reply.header("upgrade") is None
        await assert_promise(one, reply)
    for request in upstream.requests:
        assert request.body == body
        for name in ("upgrade", "http2-settings"):
            assert request.header(name) is None, name
        assert "upgrade" not in (request.header("connection") or "").lower()


async def test_client_that_begins_with_http_2_is_told_in_words(gateway: Running) -> None:
    async with kept(gateway.port) as one:
        await one.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        reply = await one.answer()
        assert (reply.status, reply.json()["code"]) == (400, -4)
        assert not is_announced_kept(reply)
        assert await one.ended()


@pytest.mark.parametrize("connection", ["", "keep-alive", "close"])
async def test_http_1_0_client_is_served_without_a_host(
    gateway: Running, upstream: RawUpstream, connection: str
) -> None:
    for method in METHODS:
        await _call_in_http_1_0(gateway, method, connection)
        request = upstream.requests[-1]
        assert request.method == method
        assert request.body == (b"" if method in ("GET", "HEAD") else b"symbol=BTCUSDT")
        assert request.header("host") == f"127.0.0.1:{upstream.port}"
    assert len(upstream.requests) == len(METHODS)


async def _call_in_http_1_0(gateway: Running, method: str, connection: str) -> None:
    body = b"symbol=BTCUSDT" if method in ("POST", "PUT", "DELETE") else b""
    lines = [f"{method} /api/v3/order?x=1 HTTP/1.0"]
    lines += [f"Connection: {connection}"] if connection else []
    lines += [f"Content-Length: {len(body)}"] if body else []
    async with kept(gateway.port) as one:
        await one.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        reply = await one.answer(method, "1.0")
        assert reply.status == 200
        assert await assert_promise(one, reply, "1.0") is (connection == "keep-alive")


@pytest.mark.usefixtures("with_admin_pages")
async def test_pipelined_calls_of_every_kind_are_answered_in_order_and_sent_once(
    gateway: Running, upstream: RawUpstream
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        if b"slow" in request.target:
            await asyncio.sleep(0.1)
        await peer.send(response(request.target + b" " + request.body))

    upstream.answer = answer
    chunked = b"POST /api/v3/d HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3;x=y\r\nd=4\r\n0\r\nT: 1\r\n\r\n"
    parts: list[tuple[bytes, str, int, bytes]] = [
        (build("POST", "/api/v3/slow", body=b"a=1", close=False), "POST", 200, b"/api/v3/slow a=1"),
        (build("GET", "/api/v3/b", close=False), "GET", 200, b"/api/v3/b "),
        (build("GET", "/nothing", close=False), "GET", 404, b""),
        (build("DELETE", "/api/v3/c", body=b"c=3", close=False), "DELETE", 200, b"/api/v3/c c=3"),
        (chunked, "POST", 200, b"/api/v3/d d=4"),
        (build("GET", "/healthz", close=False), "GET", 200, b'{"status":"ok"}'),
        (build("GET", "/admin", close=False), "GET", 302, b""),
        (build("PUT", "/api/v3/slow2", body=b"e=5", close=False), "PUT", 200, b"/api/v3/slow2 e=5"),
        (build("HEAD", "/healthz", close=False), "HEAD", 200, b""),
        (build("POST", "/api/v3/f", body=b"f=6", close=True), "POST", 200, b"/api/v3/f f=6"),
    ]
    async with kept(gateway.port) as one:
        await one.send(b"".join(raw for raw, _, _, _ in parts))
        for raw, method, status, body in parts:
            reply = await one.answer(method)
            assert reply.status == status, raw
            if status == 200 and method != "HEAD":
                assert reply.body == body
        assert not is_announced_kept(reply)
        assert await one.ended()
    sent = [request.target for request in upstream.requests]
    names = ("slow", "b", "c", "d", "slow2", "f")
    assert sent == [f"/api/v3/{name}".encode() for name in names], "in order, each once"


async def test_order_of_a_pipelining_client_that_leaves_is_finished_and_none_is_sent_twice(
    gateway: Running, upstream: RawUpstream
) -> None:
    gate = asyncio.Event()

    async def answer(request: Request, peer: Peer) -> None:
        await gate.wait()
        await answer_ok(request, peer)

    upstream.answer = answer
    async with kept(gateway.port) as one:
        await one.send(b"".join(build("POST", f"/api/v3/order?n={n}", close=False) for n in range(3)))
        await wait_until(lambda: upstream.requests)
    gate.set()
    await wait_until(lambda: gateway.gateway.calls.in_flight == 0)
    sent = [request.target for request in upstream.requests]
    # Whether those behind it are read is up to the moment it left.
    assert sent == [f"/api/v3/order?n={n}".encode() for n in range(len(sent))]


# --- what is written in targets and bodies ----------------------------------------------------------

CANCELS = [
    "/fapi/v1/batchOrders?symbol=BTCUSDT&orderidlist=%5b1%2c2%5d&timestamp=1&signature=ab",
    "/fapi/v1/batchOrders?symbol=BTCUSDT&orderIdList=%5B1%2C2%5D&signature=ab",
    "/fapi/v1/batchOrders?origClientOrderIdList=[%22a%22,%22b%22]&signature=ab",
    "/dapi/v1/batchOrders?orderId=1&orderId=2&orderId=1&signature=ab",
    "/api/v3/openOrders?symbol=BTCUSDT&symbol=ETHUSDT",
    "/sapi/v1/userDataStream?listenKey=&listenKey=abc",
]


@pytest.mark.parametrize("body", [b"", b"symbol=BTCUSDT&orderIdList=%5b1%2c2%5d&signature=ab&signature="])
async def test_delete_goes_up_as_it_was_written(gateway: Running, upstream: RawUpstream, body: bytes) -> None:
    for target, slashes in itertools.product(CANCELS, ("/", "//")):
        reply = await call(gateway.port, "DELETE", slashes + target[1:], FORM, body)
        assert reply.status == 200
        sent = upstream.requests[-1]
        assert (sent.method, sent.target, sent.body) == ("DELETE", target.encode(), body)
        assert sent.header("content-length") == str(len(body))
    assert len(upstream.requests) == 2 * len(CANCELS)


def _rsa_signer() -> Callable[[bytes], bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(payload: bytes) -> bytes:
        signature = key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        return signature

    return sign


@pytest.mark.parametrize("kind", ["RSA", "Ed25519"])
@pytest.mark.parametrize("writing", ["raw", "upper case", "lower case"])
@pytest.mark.parametrize("place", ["query", "body", "both"])
async def test_base64_signature_arrives_as_it_was_written(
    gateway: Running, upstream: RawUpstream, kind: str, writing: str, place: str
) -> None:
    sign = _rsa_signer() if kind == "RSA" else ed25519.Ed25519PrivateKey.generate().sign
    number, text = 0, ""
    # Until every character that is special in a query has come up.
    while not all(mark in text for mark in "+/="):
        number += 1
        payload = f"symbol=BTCUSDT&side=BUY&quantity=1&price=0.1&timestamp={number}"
        text = base64.b64encode(sign(payload.encode())).decode()
    if writing != "raw":
        text = quote(text, safe="")
        if writing == "lower case":
            text = text.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")
    signed = f"{payload}&signature={text}"
    query, body = signed, ""
    if place == "body":
        query, body = "", signed
    elif place == "both":
        query, body = payload, f"signature={text}"
    target = f"/api/v3/order?{query}" if query else "/api/v3/order"
    headers = (("X-MBX-APIKEY", "kEy"), *FORM)
    reply = await call(gateway.port, "POST", target, headers, body.encode())
    assert reply.status == 200
    (sent,) = upstream.requests
    assert sent.target == target.encode()
    assert sent.body == body.encode()


SYMBOL = "币安人生USDT"


@pytest.mark.parametrize("writing", ["upper case", "lower case", "mixed"])
async def test_chinese_symbol_goes_up_as_it_was_written(
    gateway: Running, upstream: RawUpstream, writing: str
) -> None:
    text = quote(SYMBOL)
    if writing != "upper case":
        text = text.lower() if writing == "lower case" else text[:12].lower() + text[12:]
        text = text.replace("usdt", "USDT")
    paths = ("/fapi/v1/order", "/fapi/v1/klines", "/fapi/v1/ticker/bookTicker")
    for path, method in itertools.product(paths, ("GET", "POST", "DELETE")):
        target = f"{path}?symbol={text}&interval=1m&signature=ab"
        assert (await call(gateway.port, method, target)).status == 200
        assert upstream.requests[-1].target == target.encode()


async def test_chinese_symbol_in_a_signed_body_goes_up_as_the_same_bytes(
    gateway: Running, upstream: RawUpstream
) -> None:
    for text in (SYMBOL.encode(), quote(SYMBOL).encode(), SYMBOL.encode("gbk")):
        body = b"symbol=" + text + b"&side=BUY&signature=ab"
        assert (await call(gateway.port, "POST", "/fapi/v1/order", FORM, body)).status == 200
        assert upstream.requests[-1].body == body


EMPTY = [
    "?",
    "?&",
    "?=",
    "?&&",
    "?symbol=",
    "?symbol",
    "?symbol=&interval=1m",
    "?=&symbol=BTCUSDT",
    "?a=&b=&",
]


@pytest.mark.parametrize(
    "path", ["/api/v3/order", "/api/v3/klines", "/api/v3/ticker/bookTicker", "/api/v3/depth"]
)
async def test_empty_parameters_go_up_as_they_were_written(
    gateway: Running, upstream: RawUpstream, path: str
) -> None:
    for query, method in itertools.product(EMPTY, ("GET", "POST", "DELETE")):
        reply = await call(gateway.port, method, path + query)
        assert reply.status == 200
        assert upstream.requests[-1].target == (path + query).encode()
        assert upstream.requests[-1].method == method


@pytest.mark.parametrize(
    "path",
    ["/api/v3/klines?symbol=BTCUSDT&interval=1m", "/api/v3/depth?symbol=BTCUSDT", "/fapi/v1/exchangeInfo"],
)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_get_with_a_body_takes_it_along_and_shares_nothing(
    gateway: Running, upstream: RawUpstream, path: str, is_chunked: bool
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await asyncio.sleep(0.05)
        await peer.send(response(request.body))

    upstream.answer = answer

    async def get(body: bytes) -> bytes:
        raw = build("GET", path, FORM, body)
        if is_chunked:
            head = raw.partition(b"\r\nContent-Length")[0]
            raw = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        reply = parse(await exchange(gateway.port, raw))
        assert reply.status == 200
        assert reply.header("x-resender-cache") in (None, "miss; body")
        return reply.body

    bodies = [b"limit=%d" % number for number in range(1, 5)]
    assert await asyncio.gather(*(get(body) for body in bodies)) == bodies
    assert sorted(request.body for request in upstream.requests) == bodies
    assert {request.target for request in upstream.requests} == {path.encode()}
