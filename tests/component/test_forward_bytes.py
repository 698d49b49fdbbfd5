"""What goes up and comes down is, byte for byte, what was sent."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.support.client import build, call, exchange, parse
from tests.support.running import Running
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component

TARGETS = [
    "/api/v3/order?symbol=BTCUSDT&signature=ab%2Bcd%2F%3D%3D",
    "/api/v3/x?symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D",
    "/api/v3/x?symbols=%5b%22BTCUSDT%22,%22ETHUSDT%22%5d",
    '/api/v3/x?s=["A","B"]',
    "/api/v3/x?a=1&&b=&a=2&",
    "/api/v3/x?a=%40b&c=d@e&f=%7e~",
    "/api/v3/x?s=%e5%b8%81",
    "/api/v3/x?a=b+c%20d",
    "/api/v3/x?a=#fragment&b=%23",
    "/api/v3/x?",
    "/api/v3/x?a=b?c=d",
    "/api/v3/x/",
    "/api/v3//x///y",
    "/api/v3/x%2Fy%2f",
    "/api/v3/x;p=1?u=http://elsewhere/x&v=//host",
    "/api/v3/x?" + "a=" + "b" * 9000,
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("target", TARGETS)
async def test_target_arrives_byte_for_byte(
    gateway: Running, upstream: RawUpstream, method: str, target: str
) -> None:
    reply = await call(gateway.port, method, target)
    assert reply.status == 200
    assert upstream.requests[-1].target == target.encode()
    assert upstream.requests[-1].method == method


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_body_arrives_byte_for_byte(gateway: Running, upstream: RawUpstream, method: str) -> None:
    body = b"symbol=BTCUSDT&a=%5B&&b=@+ \x00\xff\r\n\r\nsignature=abc"
    await call(
        gateway.port,
        method,
        "/fapi/v1/order?x=1",
        (("Content-Type", "application/x-www-form-urlencoded"),),
        body,
    )
    sent = upstream.requests[-1]
    assert sent.body == body
    assert sent.header("content-type") == "application/x-www-form-urlencoded"
    assert sent.header("content-length") == str(len(body))
    assert sent.header("transfer-encoding") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_call_without_body_has_length_zero(
    gateway: Running, upstream: RawUpstream, method: str
) -> None:
    await call(gateway.port, method, "/api/v3/order?x=1")
    assert upstream.requests[-1].header("content-length") == "0"
    assert upstream.requests[-1].header("content-type") is None


async def test_chunked_body_of_a_client_arrives_whole(gateway: Running, upstream: RawUpstream) -> None:
    raw = (
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )
    assert parse(await exchange(gateway.port, raw)).status == 200
    assert upstream.requests[-1].body == b"hello world"


async def test_raw_high_bytes_are_encoded_when_unsigned(gateway: Running, upstream: RawUpstream) -> None:
    reply = await call(gateway.port, "GET", "/fapi/v1/klines?symbol=币安%41&x=\xff".encode())
    assert reply.status == 200
    expected = b"/fapi/v1/klines?symbol=%E5%B8%81%E5%AE%89%41&x=%C3%BF"
    assert upstream.requests[-1].target == expected


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/api/v3/order?symbol=币&signature=ab", b""),
        ("GET", "/api/v3/order?signature=ab&symbol=币", b""),
        ("POST", "/api/v3/order?symbol=币", b"a=b&signature=ab"),
        ("POST", "/api/v3/order?symbol=币", b"signature=ab"),
    ],
)
async def test_raw_high_bytes_are_refused_when_signed(
    gateway: Running, upstream: RawUpstream, method: str, target: str, body: bytes
) -> None:
    reply = await call(gateway.port, method, target.encode(), body=body)
    assert reply.status == 400
    assert reply.json()["code"] == -4
    assert "Percent-encode" in reply.json()["msg"]
    assert not upstream.requests


async def test_headers_binance_reads_go_up_and_others_do_not(gateway: Running, upstream: RawUpstream) -> None:
    passed = {
        "X-MBX-APIKEY": "kEy",
        "X-MBX-TIME-UNIT": "MICROSECOND",
        "X-MBX-SBE": "1:0",
        "X-MBX-SOMETHING-NEW": "1",
        "Accept": "application/sbe",
        "Content-Type": "application/json;charset=utf-8",
        "User-Agent": "binance-api",
    }
    dropped = {
        "X-Forwarded-For": "198.51.100.7",
        "X-Forwarded-Host": "home.example",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "198.51.100.7",
        "Forwarded": "for=198.51.100.7",
        "Via": "1.1 home",
        "CF-Connecting-IP": "198.51.100.7",
        "True-Client-IP": "198.51.100.7",
        "X-Client-IP": "198.51.100.7",
        "Cookie": "session=abc",
        "Authorization": "Bearer abc",
        "Proxy-Authorization": "Basic abc",
        "Proxy-Connection": "keep-alive",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Upgrade": "websocket",
        "Origin": "http://home.example",
        "Referer": "http://home.example/",
        "X-Resender-Token": "abc",
    }
    await call(gateway.port, "GET", "/api/v3/time", tuple((passed | dropped).items()))
    sent = upstream.requests[-1]
    for name, value in passed.items():
        assert sent.header(name) == value, name
    for name in dropped:
        assert sent.header(name) is None, name
    assert b"198.51.100.7" not in sent.head
    assert sent.header("host") == f"127.0.0.1:{upstream.port}"
    assert ("X-MBX-APIKEY", "kEy") in sent.headers


async def test_empty_api_key_header_goes_up_as_it_is(gateway: Running, upstream: RawUpstream) -> None:
    await call(gateway.port, "GET", "/api/v3/time", (("X-MBX-APIKEY", ""),))
    assert upstream.requests[-1].header("x-mbx-apikey") == ""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [((), "identity"), ((("Accept-Encoding", "gzip, deflate, br"),), "gzip, deflate, br")],
)
async def test_encodings_the_client_accepts_go_up(
    gateway: Running, upstream: RawUpstream, sent: tuple[tuple[str, str], ...], expected: str
) -> None:
    await call(gateway.port, "GET", "/api/v3/time", sent)
    assert upstream.requests[-1].header("accept-encoding") == expected


async def test_call_without_user_agent_gets_one(gateway: Running, upstream: RawUpstream) -> None:
    await call(gateway.port, "GET", "/api/v3/time")
    assert (upstream.requests[-1].header("user-agent") or "").startswith("binance-resender/")


@pytest.mark.parametrize(
    "status",
    ["200 OK", "400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "409 Conflict",
     "418 I'm a teapot", "429 Too Many Requests", "451 Unavailable For Legal Reasons",
     "500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Time-out"],
)  # fmt: skip
async def test_status_headers_and_body_come_down_unchanged(
    gateway: Running, upstream: RawUpstream, status: str
) -> None:
    body = b'<html>\xff not even UTF-8</html>{"code":-1003,"msg":1.10}'
    down = (
        ("content-type", "text/html; charset=weird"),
        ("retry-after", "7"),
        ("x-mbx-used-weight", "12"),
        ("x-mbx-used-weight-1m", "12"),
        ("x-mbx-order-count-10s", "1"),
        ("x-mbx-uuid", "abc"),
        ("x-sapi-used-ip-weight-1m", "3"),
        ("date", "Sun, 22 Nov 2026 07:00:00 GMT"),
        ("etag", '"x"'),
    )
    dropped = (
        ("set-cookie", "a=b"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", 'h3=":443"'),
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("x-resender-cache", "hit"),
    )

    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(body, status, down + dropped))

    upstream.answer = answer
    reply = await call(gateway.port, "GET", "/api/v3/x")
    assert reply.raw.startswith(f"HTTP/1.1 {status}\r\n".encode())
    assert reply.body == body
    assert reply.complete
    for pair in down:
        assert pair in reply.headers, pair
    for name, _ in dropped:
        if name != "connection":
            assert reply.header(name) is None, name


@pytest.mark.parametrize("chunked", [False, True])
async def test_compressed_body_passes_without_being_unpacked(
    gateway: Running, upstream: RawUpstream, chunked: bool
) -> None:
    packed = gzip.compress(b'{"symbols":[]}' * 5000, mtime=0)

    async def answer(request: Request, peer: Peer) -> None:
        if chunked:
            half = len(packed) // 2
            await peer.send(
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
                + b"%x\r\n%b\r\n" % (half, packed[:half])
            )
            await asyncio.sleep(0.02)
            await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed) - half, packed[half:]))
        else:
            await peer.send(response(packed, headers=(("content-encoding", "gzip"),)))

    upstream.answer = answer
    reply = await call(gateway.port, "GET", "/api/v3/exchangeInfo", (("Accept-Encoding", "gzip"),))
    assert reply.header("content-encoding") == "gzip"
    assert reply.body == packed
    assert reply.complete


async def test_redirect_is_passed_down_and_not_followed(gateway: Running, upstream: RawUpstream) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(b"", "302 Found", (("location", f"{upstream.url}/api/v3/elsewhere"),)))

    upstream.answer = answer
    reply = await call(gateway.port, "GET", "/api/v3/x")
    assert reply.status == 302
    assert len(upstream.requests) == 1


async def test_cookie_of_the_upstream_is_not_kept(gateway: Running, upstream: RawUpstream) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(headers=(("set-cookie", "user=one; Path=/"),)))

    upstream.answer = answer
    await call(gateway.port, "GET", "/api/v3/x")
    await call(gateway.port, "GET", "/api/v3/x")
    assert upstream.requests[-1].header("cookie") is None


async def test_head_keeps_length_and_has_no_body(gateway: Running, upstream: RawUpstream) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

    upstream.answer = answer
    reply = await call(gateway.port, "HEAD", "/api/v3/ping")
    assert upstream.requests[-1].method == "HEAD"
    assert reply.header("content-length") == "12345"
    assert reply.body == b""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_status_without_body_passes(gateway: Running, upstream: RawUpstream, status: str) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(f"HTTP/1.1 {status}\r\netag: x\r\n\r\n".encode())

    upstream.answer = answer
    raw = await exchange(gateway.port, build("GET", "/api/v3/x"))
    assert raw.startswith(f"HTTP/1.1 {status}".encode())
    assert raw.endswith(b"\r\n\r\n")
    assert b"ransfer-" not in raw


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", ["length", "chunked", "until close"])
async def test_every_framing_of_the_upstream_reaches_every_client(
    gateway: Running, upstream: RawUpstream, version: str, kind: str
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        if kind == "length":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234")
        elif kind == "chunked":
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n")
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n01234")
        await asyncio.sleep(0.02)
        await peer.send(b"5\r\n56789\r\n0\r\n\r\n" if kind == "chunked" else b"56789")
        if kind == "until close":
            peer.close()

    upstream.answer = answer
    # Keep-alive is what makes a missing length dangerous: the client would wait for ever.
    raw = build("GET", "/api/v3/x", (("Connection", "keep-alive"),), version=version, close=False)
    if version == "1.1":
        raw = build("GET", "/api/v3/x")
    reply = parse(await asyncio.wait_for(_until_done(gateway.port, raw), 10))
    assert reply.body == b"0123456789"
    assert reply.complete


async def _until_done(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        received = b""
        while data := await reader.read(65536):
            received += data
            reply = parse(received)
            if reply.header("content-length") and reply.complete:
                break
        return received
    finally:
        writer.close()
        await writer.wait_closed()


async def test_pipelined_and_kept_connections_answer_in_order(
    gateway: Running, upstream: RawUpstream
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(request.target))

    upstream.answer = answer
    names = [*"abcdefghijklmnopqrst", "last"]
    raw = b"".join(build("GET", f"/api/v3/{name}", close=name == "last") for name in names)
    received = await exchange(gateway.port, raw)
    bodies = [part.split(b"\r\n\r\n")[1] for part in received.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [f"/api/v3/{name}".encode() for name in names]


async def test_one_hundred_calls_in_a_row_open_one_upstream_connection(
    gateway: Running, upstream: RawUpstream
) -> None:
    for n in range(100):
        method = ("GET", "POST", "DELETE", "PUT")[n % 4]
        assert (await call(gateway.port, method, f"/api/v3/order?n={n}")).status == 200
    assert upstream.connections == 1
    assert len(upstream.requests) == 100


async def test_recorded_binance_responses_come_through_identical(
    gateway: Running, upstream: RawUpstream, recorded
) -> None:
    files = sorted(p for p in recorded.iterdir() if p.suffix in (".json", ".gz", ".zip"))
    assert len(files) >= 8
    for file in files:
        content = file.read_bytes()
        plain = gzip.decompress(content) if file.suffix == ".gz" else content
        for packed in (False, True):
            body = gzip.compress(plain, mtime=0) if packed else plain

            async def answer(request: Request, peer: Peer, body: bytes = body, packed: bool = packed) -> None:
                headers = (("content-type", "application/json;charset=UTF-8"),)
                await peer.send(
                    response(body, headers=headers + ((("content-encoding", "gzip"),) if packed else ()))
                )

            upstream.answer = answer
            reply = await call(
                gateway.port, "GET", "/api/v3/depth?symbol=BTCUSDT", (("Accept-Encoding", "gzip"),)
            )
            assert reply.body == body, file.name
            assert reply.complete
            assert (reply.header("content-encoding") == "gzip") is packed
