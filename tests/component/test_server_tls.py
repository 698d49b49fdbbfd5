"""The gateway's own TLS: everything a client may do over it, and everything a stranger may do to it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import random
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from cryptography import x509

from resender.cli import serve as module
from resender.config import Config
from resender.core.binance.markets import Market
from resender.errors import ANSWERS, StartError
from resender.gateway import Gateway
from resender.log import _QUIET, set_up_logging
from resender.sandbox import Sandbox
from resender.sandbox.authority import Certificate
from resender.web import application
from resender.web.client import tunnel
from tests.component.streams.test_stream_losses import read_updates
from tests.component.test_connection_errors import UNREADABLE
from tests.support import admin
from tests.support.admin import PASSWORD, Browser
from tests.support.authority import AUTHORITY, client_context
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.client import Reply, build, call
from tests.support.kept import Kept, is_announced_kept
from tests.support.ports import free_port
from tests.support.running import make_config, running, wait_until
from tests.support.stream_client import Listener
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, response

pytestmark = pytest.mark.component

CLIENT = client_context()
BOOK = "btcusdt@bookTicker"


class Pair:
    """The files of a certificate."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self.renew()

    def renew(self) -> Certificate:
        """Write another certificate, as a program does that knows nothing of this one."""
        issued = AUTHORITY.issue("localhost", "127.0.0.1")
        self.cert.write_bytes(issued.certificate_pem)
        self.key.write_bytes(issued.key_pem)
        return issued

    @property
    def settings(self) -> dict[str, str]:
        return {"tls_cert": str(self.cert), "tls_key": str(self.key)}


class Served:
    """A gateway that `serve` runs in this process, stopped by an event instead of a signal."""

    def __init__(
        self,
        gateway: Gateway,
        options: dict[str, Any],
        url: str,
        stop: asyncio.Event,
        task: asyncio.Future[int],
    ) -> None:
        self.gateway, self.url, self.stop, self.task = gateway, url, stop, task
        self.certificate_ends: Callable[[], Any] = options["certificate_ends"]
        self.port = int(url.rpartition(":")[2])

    async def call(self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> Reply:
        return await call(self.port, method, target, headers, body, context=CLIENT)


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Served]:
    """Serve; afterwards nothing of it may be left."""
    stop = asyncio.Event()
    urls: list[str] = []
    made: list[tuple[Gateway, dict[str, Any]]] = []

    def make(*args: Any, **options: Any) -> Gateway:
        made.append((Gateway(*args, **options), options))
        return made[0][0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "stop_on_signal", lambda **_: stop)
        patched.setattr(module, "Gateway", make)
        patched.setattr(module, "_TLS_LOOK_S", 0.05)
        for name in ("raise_file_limit", "tune_allocator", "tune_collector"):
            patched.setattr(module, name, lambda: None)
        task = asyncio.ensure_future(module.serve(config, announce=urls.append, ssl_context=client_context()))
        try:
            await wait_until(lambda: urls or task.done())
            if task.done():
                task.result()
            yield Served(*made[0], urls[0], stop, task)
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)
    assert task.result() == 0
    (gateway, _) = made[0]
    assert not len(gateway.tasks)
    assert not len(gateway.calls.tasks)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
async def served(upstream: RawUpstream, tmp_path: Path, pair: Pair) -> AsyncIterator[Served]:
    config = make_config(tmp_path / "data", upstream.url, max_body_bytes=16 << 20, **pair.settings)
    async with serving(config) as one:
        yield one


@pytest.fixture
async def exchange() -> AsyncIterator[Sandbox]:
    async with Sandbox(small_exchange(book_ticker_hz=5.0)) as sandbox:
        yield sandbox


@pytest.fixture
async def streams(exchange: Sandbox, tmp_path: Path, pair: Pair) -> AsyncIterator[Served]:
    config = gateway_config(
        tmp_path / "data", exchange, client_queue_bytes=65_536, proxy_hosts="localhost", **pair.settings
    )
    async with serving(config) as one:
        yield one


@asynccontextmanager
async def listener(one: Served) -> AsyncIterator[Listener]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=CLIENT)) as session:
        yield Listener(session, f"wss://127.0.0.1:{one.port}")


@asynccontextmanager
async def kept(port: int, context: ssl.SSLContext | None = CLIENT) -> AsyncIterator[Kept]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24, ssl=context)
    try:
        yield Kept(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Return what the program has in its log at INFO."""
    root, general = logging.getLogger(), logging.getLogger("tornado.general")
    loggers = [root, *(logging.getLogger(name) for name in _QUIET)]
    levels, handlers, filters = [each.level for each in loggers], list(root.handlers), list(general.filters)
    set_up_logging("INFO")
    root.handlers = handlers
    yield lambda: [each.getMessage() for each in caplog.records if "migrations" not in each.name]
    general.filters = filters
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


# --- calls ----------------------------------------------------------------------------------------

REQUESTS = [
    build("GET", "/api/v3/x?a=%2c&b=~!*'()&c=%E4%B8%AD&e=&signature=ab", (("X-MBX-APIKEY", "k"), ("X-Odd", "a  b"))),
    build("POST", "/fapi/v1/order?symbol=BTCUSDT&signature=cd", (("content-type", "text/odd"),), b"\0\xff\r\n\r\n"),
    build("DELETE", "/dapi/v1/order?orderId=1&signature=ef"),
    build("PUT", "/api/v3/userDataStream", body=b"listenKey=abc"),
    build("HEAD", "/api/v3/time"),
    build("GET", "/api.binance.com/api/v3/ping"),
]  # fmt: skip


@pytest.mark.parametrize("raw", REQUESTS, ids=lambda raw: raw.split()[0].decode())
async def test_call_and_its_answer_are_the_same_bytes_as_without_tls(
    served: Served, upstream: RawUpstream, tmp_path: Path, raw: bytes
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        body = b"" if request.method == "HEAD" else b'{"odd" : [1,2 ] }'
        await peer.send(
            response(body, "299 Odd Words", (("X-Odd", "1"), ("x-odd", "2"), ("Retry-After", "7")))
        )

    upstream.answer = answer
    async with running(make_config(tmp_path / "plain", upstream.url)) as plain:
        came = []
        for port, context in ((served.port, CLIENT), (plain.port, None)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(raw)
            came.append(await asyncio.wait_for(reader.read(), 10))
            writer.close()
    assert came[0] == came[1]
    assert b"299 Odd Words" in came[0]
    over_tls, without = upstream.requests
    assert (over_tls.head, over_tls.body) == (without.head, without.body)


async def test_forty_clients_at_once_are_answered_from_the_first_second(
    upstream: RawUpstream, tmp_path: Path, pair: Pair
) -> None:
    async with serving(make_config(tmp_path / "data", upstream.url, **pair.settings)) as one:
        replies = await asyncio.gather(*(one.call("GET", f"/api/v3/time?n={n}") for n in range(40)))
        assert [reply.status for reply in replies] == [200] * 40
        assert one.url.startswith("https://")


async def test_large_bodies_pass_both_ways(served: Served, upstream: RawUpstream) -> None:
    data = random.Random(1).randbytes(1_000_000)

    async def echo(request: Request, peer: Peer) -> None:
        await peer.send(response(request.body * 6))

    upstream.answer = echo
    replies = await asyncio.gather(*(served.call("POST", "/api/v3/order", body=data) for _ in range(3)))
    for reply in replies:
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(data * 6).digest()
        assert reply.complete


async def test_body_in_chunks_passes(served: Served, upstream: RawUpstream) -> None:
    pieces = [random.Random(n).randbytes(n * 997) for n in range(1, 40)]
    async with kept(served.port) as one:
        await one.send(b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            await one.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        await one.send(b"0\r\n\r\n")
        assert (await one.answer("POST")).status == 200
    assert upstream.requests[-1].body == b"".join(pieces)


async def test_client_that_reads_slowly_gets_a_large_answer_whole(
    served: Served, upstream: RawUpstream
) -> None:
    data = random.Random(1).randbytes(20 << 20)

    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(data))

    upstream.answer = answer
    async with kept(served.port) as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await one.send(build("GET", "/api/v3/x"))
        await asyncio.sleep(0.3)
        # Others are served meanwhile.
        upstream.answer = answer_ok
        assert (await served.call("GET", "/api/v3/time")).status == 200
        one.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await one.answer()).body == data


async def test_connection_is_kept_as_it_is_promised(served: Served) -> None:
    async with kept(served.port) as one:
        for _ in range(3):
            await one.send(build("GET", "/api/v3/time", close=False))
            assert is_announced_kept(await one.answer())
        await one.send(build("GET", "/api/v3/time"))
        assert not is_announced_kept(await one.answer())
        assert await one.ended()


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_is_told_so_in_json(served: Served, name: str) -> None:
    for raw in UNREADABLE[name]:
        async with kept(served.port) as one:
            await one.send(build("GET", "/api/v3/time", close=False) + raw)
            assert (await one.answer()).status == 200
            reply = await one.answer()
            assert reply.header("x-resender-error") == name
            assert (reply.status, reply.json()["code"]) == (ANSWERS[name].status, ANSWERS[name].code)
            assert not is_announced_kept(reply)
            assert await one.ended()


async def test_head_without_end_is_answered_while_it_is_still_being_sent(served: Served) -> None:
    async with kept(served.port) as one:
        await one.send(b"GET /api/v3/time HTTP/1.1\r\nHost: g\r\nX-A: " + b"b" * 3_000_000)
        assert (await one.answer()).status == 431


async def test_stranger_is_refused_in_words(upstream: RawUpstream, tmp_path: Path, pair: Pair) -> None:
    config = make_config(tmp_path / "data", upstream.url, whitelist="203.0.113.5", **pair.settings)
    async with serving(config) as one:
        reply = await one.call("POST", "/api/v3/order", body=b"x" * 50_000)
        assert (reply.status, reply.header("x-resender-error")) == (403, "forbidden")
        assert not upstream.requests


# --- streams --------------------------------------------------------------------------------------


async def test_streams_and_closes_and_the_websocket_api_are_spoken(streams: Served) -> None:
    async with listener(streams) as ears:
        async with ears.open(f"/public/ws/{BOOK}") as ear:
            first = (await ear.event())["u"]
            assert (await ear.event())["u"] > first
            await ear.say("SUBSCRIBE", "ethusdt@bookTicker")
            assert await ear.reply() == '{"result":null,"id":1}'
            await ear.event(s="ETHUSDT")
        async with ears.open(f"/stream?streams={BOOK}/btcusdt@depth") as ear:
            assert (await ear.next())["stream"]
        async with ears.open("/ws-api/v3") as ear:
            await ear.socket.send_str('{"id":"a","method":"ping"}')
            assert (await ear.next())["status"] == 200
            await ear.socket.send_str("nonsense")
            assert (await ear.next())["status"] == 400


async def test_many_listeners_get_every_event(streams: Served, exchange: Sandbox) -> None:
    async with listener(streams) as ears:

        async def listen() -> list[int]:
            async with ears.open(f"/public/ws/{BOOK}") as ear:
                return [(await ear.event())["u"] for _ in range(6)]

        found = await asyncio.gather(*(listen() for _ in range(20)))
    for updates in found:
        assert updates == sorted(set(updates))


async def slow(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket and read nothing of it, as over a line that takes little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(
        sock=connection, limit=1024, ssl=CLIENT, server_hostname="127.0.0.1"
    )
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_slow_reader_of_states_gets_the_newest_and_delays_nobody(
    streams: Served, exchange: Sandbox
) -> None:
    fanout = streams.gateway.fanout
    async with listener(streams) as ears, ears.open(f"/public/ws/{BOOK}") as quick:
        reader, writer = await slow(streams.port, f"/public/ws/{BOOK}")
        await wait_until(lambda: len(fanout.clients) == 2)
        slow_one = list(fanout.clients.values())[1]
        last = 0
        for _ in range(150):
            last = await exchange.burst(Market.UM, "BTCUSDT", 500)
            data = await quick.event()
            while data["u"] < last:
                data = await quick.event()
            if slow_one.dropped:
                break
        assert slow_one.dropped
        assert slow_one.backlog.size <= 65_536
        updates = await read_updates(reader, last)
        assert updates == sorted(set(updates))
        assert updates[-1] >= last
        writer.transport.abort()
    assert fanout.stats.closed_slow == 0


async def test_slow_reader_is_not_behind_by_more_than_without_tls(streams: Served, exchange: Sandbox) -> None:
    fanout = streams.gateway.fanout
    _, writer = await slow(streams.port, f"/public/ws/{BOOK}")
    await wait_until(lambda: fanout.clients)
    (slow_one,) = fanout.clients.values()
    (source,) = [s for s in fanout._sources.values() if s.market is Market.UM]
    topic, sent = source.topics[BOOK], 0
    while not slow_one.dropped:
        last = await exchange.burst(Market.UM, "BTCUSDT", 500)
        await wait_until(lambda last=last: orjson.loads(topic.last or b'{"u":0}')["u"] >= last, 20)  # type: ignore[misc]
        sent += 500
        assert sent < 50_000
    writer.transport.abort()
    # Some 150 bytes each; 128 KiB in the kernel, 64 KiB in the queue, and what is on its way.
    assert sent <= 7_000


async def test_slow_reader_of_a_sequence_is_closed_with_words(streams: Served) -> None:
    fanout = streams.gateway.fanout
    async with listener(streams) as ears, ears.open("/public/ws/btcusdt@depth") as quick:
        reader, writer = await slow(streams.port, "/public/ws/btcusdt@depth")
        await wait_until(lambda: len(fanout.clients) == 2)
        await quick.event()
        (source,) = [s for s in fanout._sources.values() if s.market is Market.UM]
        topic = source.topics["btcusdt@depth"]
        number = topic.sequence._last
        for n in range(40_000):
            body = b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":%d,"u":%d,"pu":%d,"b":[%s],"a":[]}' % (
                number + 1, number + 1, number, b'["1","2"],' * 40 + b'["1","2"]',
            )  # fmt: skip
            number += 1
            fanout.publish(topic, body)
            if not n % 50:
                await asyncio.sleep(0)
            if fanout.stats.closed_slow:
                break
        assert fanout.stats.closed_slow == 1
        assert len(fanout.clients) == 1
        raw = b""
        while b"too slow" not in raw:
            more = await asyncio.wait_for(reader.read(65536), 10)
            assert more, "the end came without a word"
            raw = raw[-200:] + more
        writer.transport.abort()


async def test_connect_passes_tls_in_tls(
    streams: Served, exchange: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(exchange.urls["UPSTREAM_API"]).port
    assert port is not None
    monkeypatch.setattr(tunnel, "_PORT", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", streams.port, ssl=CLIENT)
    writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head == b"HTTP/1.1 200 Connection Established\r\n\r\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"GET /api/v3/time HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"serverTime" in await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await wait_until(lambda: "tunnel:up" not in streams.gateway.tasks.names())


# --- the admin pages ------------------------------------------------------------------------------


def cookies(reply: Reply) -> list[str]:
    return [value for name, value in reply.headers if name.lower() == "set-cookie"]


async def test_cookie_of_a_log_in_is_for_tls_only(
    upstream: RawUpstream, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "call", functools.partial(call, context=CLIENT))
    config = make_config(tmp_path / "data", upstream.url, admin_password=PASSWORD, **pair.settings)
    async with serving(config) as one:
        browser = Browser(
            one.port, ("Origin", f"https://gateway:{one.port}"), ("Host", f"gateway:{one.port}")
        )
        given = cookies(await browser.log_in())
        assert any(cookie.startswith("resender_session=") for cookie in given)
        for cookie in given:
            assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/admin"} <= set(cookie.split("; "))
        assert (await browser.get("me"))["username"] == "root"
        assert (await browser.send("GET", "/admin/dashboard")).status == 200
        reply = await browser.send("POST", "logout", {})
        assert reply.status == 200, reply.body
        assert all("Secure" in cookie for cookie in cookies(reply))


async def test_log_in_page_warns_of_an_open_line_only_where_there_is_one(
    upstream: RawUpstream, tmp_path: Path, pair: Pair
) -> None:
    settings = {"admin_password": PASSWORD, "trusted_proxies": "127.0.0.1"}
    # A proxy says that somebody from elsewhere asks; how he came to it, it does not say.
    headers = (("X-Forwarded-For", "203.0.113.9"),)
    async with running(make_config(tmp_path / "plain", upstream.url, **settings)) as plain:
        page = await call(plain.port, "GET", "/admin/login", headers)
        assert b"ssh -N -L" in page.body
        page = await call(plain.port, "GET", "/admin/login")
        assert b"ssh -N -L" not in page.body
    async with serving(make_config(tmp_path / "data", upstream.url, **settings, **pair.settings)) as one:
        page = await one.call("GET", "/admin/login", *headers)
        assert page.status == 200
        assert b"ssh -N -L" not in page.body


@pytest.mark.parametrize(("host", "has_tls"), [("0.0.0.0", True), ("127.0.0.1", False)])
async def test_admin_port_has_tls_unless_nobody_else_can_reach_it(
    upstream: RawUpstream, tmp_path: Path, pair: Pair, host: str, has_tls: bool
) -> None:
    port = free_port()
    config = make_config(
        tmp_path / "data", upstream.url,
        admin_password=PASSWORD, admin_port=port, admin_host=host, **pair.settings,
    )  # fmt: skip
    async with serving(config) as one:
        reply = await call(port, "GET", "/admin/login", context=CLIENT if has_tls else None)
        assert reply.status == 200
        assert (await one.call("GET", "/admin/login")).status == 404
        if has_tls:
            pair.renew()
            before = await shown(port)
            await wait_until_shown(port, lambda number: number != before or number == serial(pair))


# --- those who speak something else ---------------------------------------------------------------

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def tls_1_1_hello() -> bytes:
    """Make the first message of a client that knows nothing newer."""
    suites = struct.pack(">H4H", 8, 0xC014, 0xC013, 0x0035, 0x002F)
    body = b"\x03\x02" + bytes(32) + b"\0" + suites + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


async def say(port: int, data: bytes, within_s: float = 5.0) -> bytes:
    """Send bytes on a plain connection; return what comes before its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(data)
        with suppress(ConnectionError):
            while more := await asyncio.wait_for(reader.read(65536), within_s):
                received += more
    finally:
        writer.transport.abort()
    return received


async def test_plain_http_is_not_answered_and_leaves_nothing_in_the_log(
    served: Served, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(application, "_HANDSHAKE_S", 1.0)
    before = len(lines())
    async with kept(served.port) as one:
        for raw in (build("GET", "/api/v3/time"), b"\0" * 100, random.Random(3).randbytes(400)):
            said = await asyncio.gather(*(say(served.port, raw) for _ in range(10)))
            assert not any(b"HTTP/1.1 200" in each for each in said)
        await one.send(build("GET", "/api/v3/time"))
        assert (await one.answer()).status == 200
    assert len(lines()) - before <= 3, lines()
    assert "Traceback" not in "\n".join(lines())


async def test_client_that_knows_tls_1_1_only_is_told_so(
    served: Served, lines: Callable[[], list[str]]
) -> None:
    before = len(lines())
    for _ in range(10):
        alert = await say(served.port, tls_1_1_hello())
        assert alert[0] == 21  # an alert
        assert alert[5:7] == bytes((2, 70))  # fatal: protocol version
    assert len(lines()) - before <= 3, lines()


async def test_client_that_does_not_trust_the_certificate_leaves_nothing_in_the_log(
    served: Served, lines: Callable[[], list[str]]
) -> None:
    before = len(lines())
    for _ in range(10):
        with pytest.raises(ssl.SSLCertVerificationError):
            await call(served.port, "GET", "/healthz", context=ssl.create_default_context())
    assert (await served.call("GET", "/healthz")).status == 200
    assert len(lines()) - before <= 3, lines()


async def test_client_that_is_gone_before_its_turn_leaves_nothing_in_the_log(
    served: Served, lines: Callable[[], list[str]]
) -> None:
    """Port scans, and balancers that look whether somebody listens."""
    before = len(lines())
    for data in (b"", build("GET", "/"), HELLO):
        for is_reset in (True, False):
            for _ in range(3):  # the loop gets no turn meanwhile
                with socket.create_connection(("127.0.0.1", served.port)) as scan:
                    scan.sendall(data)
                    if is_reset:
                        scan.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert (await served.call("GET", "/healthz")).status == 200
    assert len(lines()) - before <= 3, lines()


async def test_client_that_does_not_begin_or_does_not_end_its_handshake_is_let_go(
    served: Served, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(application, "_HANDSHAKE_S", 0.4)
    async with kept(served.port) as good:
        began = time.monotonic()
        idle = [
            asyncio.ensure_future(say(served.port, data))
            for data in (b"", HELLO[:1], HELLO)
            for _ in range(5)
        ]
        # They hold up nobody.
        assert (await served.call("GET", "/api/v3/time")).status == 200
        assert await asyncio.gather(*idle) == [b""] * len(idle)
        assert 0.3 < time.monotonic() - began < 3
        # Who has shaken hands in time may take his time then.
        await good.send(build("GET", "/api/v3/time"))
        assert (await good.answer()).status == 200
    assert "Traceback" not in "\n".join(lines())


async def test_many_mute_clients_do_not_keep_others_out(served: Served) -> None:
    mute = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(100)]
    try:
        replies = await asyncio.gather(*(served.call("GET", "/api/v3/time") for _ in range(20)))
        assert {reply.status for reply in replies} == {200}
    finally:
        for _, writer in mute:
            writer.transport.abort()


# --- renewals -------------------------------------------------------------------------------------


def serial(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number


async def shown(port: int) -> int:
    """Return the serial number of the certificate a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=CLIENT)
    found = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(found).serial_number


async def wait_until_shown(port: int, fits: Callable[[int], bool]) -> None:
    end = time.monotonic() + 5
    while not fits(await shown(port)):
        assert time.monotonic() < end, "the new certificate is not shown"
        await asyncio.sleep(0.02)


async def test_certificate_is_renewed_while_connections_are_open(
    streams: Served, pair: Pair, lines: Callable[[], list[str]]
) -> None:
    old = serial(pair)
    assert await shown(streams.port) == old
    async with kept(streams.port) as one, listener(streams) as ears, ears.open(f"/public/ws/{BOOK}") as ear:
        await ear.event()
        new = pair.renew()
        await wait_until_shown(streams.port, lambda number: number == serial(pair))
        assert serial(pair) == x509.load_pem_x509_certificate(new.certificate_pem).serial_number != old
        await one.send(build("GET", "/api/v3/time"))
        assert (await one.answer()).status == 200
        await ear.event()
    assert any("the new certificate" in line for line in lines())


async def test_renewal_that_does_not_fit_harms_nobody(
    served: Served, pair: Pair, lines: Callable[[], list[str]]
) -> None:
    old = serial(pair)
    pair.key.write_bytes(AUTHORITY.issue("localhost").key_pem)
    await wait_until(lambda: any("the old one stays" in line for line in lines()))
    assert await shown(served.port) == old
    pair.renew()
    await wait_until_shown(served.port, lambda number: number == serial(pair))


async def test_end_of_the_certificate_reaches_the_alerts(served: Served, pair: Pair) -> None:
    ends = x509.load_pem_x509_certificate(pair.cert.read_bytes()).not_valid_after_utc
    assert served.certificate_ends() == ends


# --- the start and the end ------------------------------------------------------------------------


async def test_wrong_certificate_is_one_line_before_anything_is_started(
    upstream: RawUpstream, tmp_path: Path, pair: Pair
) -> None:
    pair.key.write_bytes(AUTHORITY.issue("localhost").key_pem)
    config = make_config(tmp_path / "data", upstream.url, **pair.settings)
    with pytest.raises(StartError, match="the private key does not belong to the certificate"):
        await module.serve(config, ssl_context=client_context())
    assert not (tmp_path / "data" / "resender.db").exists()


async def test_calls_in_flight_are_answered_when_it_is_stopped(
    served: Served, upstream: RawUpstream, lines: Callable[[], list[str]]
) -> None:
    gate = asyncio.Event()

    async def late(request: Request, peer: Peer) -> None:
        await gate.wait()
        await answer_ok(request, peer)

    upstream.answer = late
    asked = [asyncio.ensure_future(served.call("POST", f"/api/v3/order?n={n}")) for n in range(10)]
    await wait_until(lambda: len(upstream.requests) == 10)
    # Somebody who does not end his handshake is no call in flight.
    mute = await asyncio.open_connection("127.0.0.1", served.port)
    mute[1].write(HELLO)
    async with kept(served.port) as idle:
        served.stop.set()
        await asyncio.sleep(0.1)
        with pytest.raises(OSError):
            await served.call("GET", "/healthz")
        gate.set()
        replies = await asyncio.gather(*asked)
        assert {reply.status for reply in replies} == {200}
        assert not any(is_announced_kept(reply) for reply in replies)
        assert await asyncio.wait_for(served.task, 5) == 0
        assert await idle.ended()
    mute[1].transport.abort()
    assert not [line for line in lines() if "Exception" in line or "SSL" in line]


async def test_streams_are_told_the_end(streams: Served) -> None:
    async with listener(streams) as ears, ears.open(f"/public/ws/{BOOK}") as ear:
        await ear.event()
        streams.stop.set()
        code, _ = await ear.closed()
        assert code in (1001, 1012)
    assert await asyncio.wait_for(streams.task, 10) == 0
