"""How a request may be written: tokens, expectations, chunks, limits; each is read as HTTP says."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.client import build, parse
from tests.support.kept import Kept, assert_promise, is_announced_kept, kept
from tests.support.running import Running, make_config, running
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

ORDER = b"symbol=BTCUSDT&side=BUY&signature=ab"


@pytest.mark.parametrize(
    ("version", "lines", "is_kept"),
    [
        ("1.1", ["TE, close"], False),
        ("1.1", ["close, TE"], False),
        ("1.1", ["close,TE"], False),
        ("1.1", [" Close"], False),
        ("1.1", ["keep-alive, CLOSE"], False),
        ("1.1", ["TE", "close"], False),
        ("1.1", ["close", "keep-alive"], False),
        ("1.1", ["Upgrade, HTTP2-Settings, close"], False),
        ("1.1", ["TE"], True),
        ("1.1", ["closed, close-not"], True),
        ("1.1", [""], True),
        ("1.1", ["keep-alive"], True),
        ("1.0", ["Keep-Alive"], True),
        ("1.0", ["keep-alive, TE"], True),
        ("1.0", ["TE, Keep-Alive"], True),
        ("1.0", ["keep-alive, close"], False),
        ("1.0", ["TE"], False),
        ("1.0", [], False),
    ],
)
async def test_connection_header_is_read_as_a_list_of_tokens(
    gateway: Running, version: str, lines: list[str], is_kept: bool
) -> None:
    headers = tuple(("Connection", line) for line in lines)
    for target in ("/api/v3/order", "/healthz", "/admin/api/me", "/nothing"):
        async with kept(gateway.port) as one:
            await one.send(build("GET", target, headers, version=version, close=False))
            reply = await one.answer(version=version)
            assert await assert_promise(one, reply, version) is is_kept, target


# --- Expect ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["100-continue", "100-Continue", "100-CONTINUE", " 100-Continue "])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_client_that_expects_100_gets_it_at_once_and_its_body_arrives(
    gateway: Running, upstream: RawUpstream, spelling: str, is_chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(ORDER)}"
    head = f"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nExpect:{spelling}\r\n{framing}\r\n\r\n".encode()
    async with kept(gateway.port) as one:
        for number in (1, 2):
            await one.send(head)
            # The client of this test never sends its body before it is told to.
            interim = await asyncio.wait_for(one.reader.readuntil(b"\r\n\r\n"), 2)
            assert interim.startswith(b"HTTP/1.1 100 ")
            assert len(upstream.requests) == number - 1
            await one.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(ORDER), ORDER) if is_chunked else ORDER)
            reply = await one.answer("POST")
            assert reply.status == 200
            assert upstream.requests[-1].body == ORDER
            assert upstream.requests[-1].header("expect") is None
        assert await assert_promise(one, reply)


@pytest.mark.usefixtures("with_admin_pages")
@pytest.mark.parametrize(
    ("target", "status", "settings"),
    [
        ("/api/v3/order", 403, {"whitelist": "203.0.113.5"}),
        ("/api/v3/order", 413, {"max_body_bytes": 1024}),
        ("/nothing", 404, {}),
        ("/healthz", 413, {}),
        ("/admin/api/users", 401, {}),
    ],
)
async def test_client_that_expects_100_and_is_refused_sends_no_body_for_nothing(
    upstream: RawUpstream, tmp_path: Path, target: str, status: int, settings: dict[str, object]
) -> None:
    async with running(make_config(tmp_path, upstream.url, **settings)) as run:
        async with kept(run.port) as one:
            headers = (("Expect", "100-Continue"), ("Content-Length", "5000"))
            await one.send(build("GET", target, headers, close=False).replace(b"GET", b"POST", 1))
            # A refusal that waits for the body says 100 first, one that does not ends the connection.
            head = await asyncio.wait_for(one.reader.readuntil(b"\r\n\r\n"), 2)
            if parse(head).status == 100:
                await one.send(b"x" * 5000)
                reply = await one.answer("POST")
                await assert_promise(one, reply)
            else:
                reply = parse(head)
                assert not is_announced_kept(reply)
                await one.reader.readexactly(int(reply.header("content-length") or 0))
                assert await one.ended()
            assert reply.status == status
    assert not upstream.requests


# --- chunks ----------------------------------------------------------------------------------------

CHUNKED = b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b'5;a;b="c;d"\r\nhello\r\n06;x\r\n world\r\n0;last=1\r\n\r\n',
        b"5 ; spaced = yes\r\nhello\r\n6 \r\n world\r\n000\r\n\r\n",
        b"b\r\nhello world\r\n0\r\nX-Checksum: abc\r\n\r\n",
        b"B\r\nhello world\r\n0\r\nX-MBX-APIKEY: other\r\nContent-Length: 99\r\nX-Empty:\r\n\r\n",
        b"B;" + b"x" * 3000 + b"\r\nhello world\r\n0\r\nX: " + b"y" * 10_000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_slow", [False, True])
async def test_chunk_extensions_and_trailers_are_read_and_left_out(
    gateway: Running, upstream: RawUpstream, body: bytes, is_slow: bool
) -> None:
    async with kept(gateway.port) as one:
        raw = CHUNKED.replace(b"Host: g", b"Host: g\r\nX-MBX-APIKEY: mine") + body
        if is_slow:
            half = len(raw) // 2
            for part in (raw[:half], *(raw[n : n + 1] for n in range(half, min(half + 200, len(raw))))):
                await one.send(part)
                await asyncio.sleep(0)
            await one.send(raw[half + 200 :])
        else:
            await one.send(raw)
        reply = await one.answer("POST")
        assert reply.status == 200
        (sent,) = upstream.requests
        assert sent.body == b"hello world"
        assert sent.header("content-length") == "11"
        assert sent.header("x-mbx-apikey") == "mine"
        assert sent.header("transfer-encoding") is None
        assert sent.header("x-checksum") is None
        # The next request begins exactly behind the trailers.
        assert await assert_promise(one, reply)


@pytest.mark.parametrize(
    "body",
    [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b";x\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
        b"11111111111111111\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
)
async def test_malformed_chunks_are_a_json_400_and_nothing_is_forwarded(
    gateway: Running, upstream: RawUpstream, body: bytes
) -> None:
    async with kept(gateway.port) as one:
        await one.send(CHUNKED + body)
        reply = await one.answer("POST")
        assert (reply.status, reply.header("x-resender-error")) == (400, "bad_request")
        assert reply.json()["code"] == -4
        assert not is_announced_kept(reply)
        assert await one.ended()
    assert not upstream.requests


async def test_ten_thousand_chunks_of_one_byte_arrive_whole_and_hold_nobody_up(
    gateway: Running, upstream: RawUpstream
) -> None:
    body = bytes(97 + n % 26 for n in range(10_000))
    raw = CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with kept(gateway.port) as one, kept(gateway.port) as other:
        sending = asyncio.create_task(one.send(raw))
        for _ in range(5):
            await other.send(build("GET", "/healthz", close=False))
            assert (await other.answer()).status == 200
        await sending
        reply = await one.answer("POST")
        assert reply.status == 200
        assert await assert_promise(one, reply)
    assert upstream.requests[-1].body == body


# --- limits ----------------------------------------------------------------------------------------


def _long(kind: str, size: int) -> bytes:
    if kind == "target":
        return b"GET /api/v3/time?a=" + b"b" * size + b" HTTP/1.1\r\nHost: g\r\n\r\n"
    if kind == "one header":
        return b"GET /api/v3/time HTTP/1.1\r\nHost: g\r\nX-Long: " + b"b" * size + b"\r\n\r\n"
    return b"GET /api/v3/time HTTP/1.1\r\nHost: g\r\n" + b"X-Many: 0123456789\r\n" * (size // 20) + b"\r\n"


@pytest.mark.parametrize("size", [70_000, 200_000, 3 << 20])
@pytest.mark.parametrize("pieces", ["one write", "many writes"])
@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [
        ("target", 414, "uri_too_long"),
        ("one header", 431, "headers_too_large"),
        ("many headers", 431, "headers_too_large"),
    ],
)
async def test_too_long_request_is_told_even_to_a_client_that_reads_only_when_it_has_sent_all(
    gateway: Running, upstream: RawUpstream, size: int, pieces: str, kind: str, status: int, name: str
) -> None:
    raw = _long(kind, size)
    async with kept(gateway.port) as one:
        for start in range(0, len(raw), len(raw) if pieces == "one write" else 30_000):
            await one.send(raw[start : start + (len(raw) if pieces == "one write" else 30_000)])
        reply = await one.answer()
        assert (reply.status, reply.header("x-resender-error")) == (status, name)
        assert reply.json()["code"] == -5
        assert reply.header("content-type") == "application/json"
        assert not is_announced_kept(reply)
        assert await one.ended()
    assert not upstream.requests
    async with kept(gateway.port) as one:
        await one.send(build("GET", "/api/v3/time", close=False))
        assert (await one.answer()).status == 200


async def test_client_that_goes_on_for_ever_after_a_431_is_cut_off(gateway: Running) -> None:
    async def pour(one: Kept) -> None:
        with suppress(ConnectionError):
            while not one.writer.is_closing():
                one.writer.write(b"X-Many: 0123456789\r\n" * 1000)
                await one.writer.drain()

    async with kept(gateway.port) as one:
        await one.send(b"GET /api/v3/time HTTP/1.1\r\n")
        pouring = asyncio.create_task(pour(one))
        assert (await one.answer()).status == 431
        await asyncio.wait_for(pouring, 10)


@pytest.mark.parametrize("size", [60_000, 64_000])
async def test_request_just_below_the_limit_passes(
    gateway: Running, upstream: RawUpstream, size: int
) -> None:
    for kind in ("target", "one header"):
        async with kept(gateway.port) as one:
            await one.send(_long(kind, size))
            assert (await one.answer()).status == 200
    assert len(upstream.requests[0].target) > size


async def test_empty_line_before_a_request_is_passed_over(gateway: Running) -> None:
    # Source: RFC 9112 section 2.2; some clients end a body with a line break too many.
    async with kept(gateway.port) as one:
        for _ in range(2):
            await one.send(b"\r\n" + build("GET", "/api/v3/time", close=False))
            assert (await one.answer()).status == 200
