"""Bulk files and connections of CONNECT: what is passed on, counted and logged, whoever ends first."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.netutil import bind_sockets

from resender.errors import BadRequest, RouteError, UpstreamLost, UpstreamUnreachable
from resender.upstream.shared_answers import SharedAnswers
from resender.web.application import make_server
from resender.web.client.side_calls import Tunnel
from tests.support.client import Reply, call
from tests.support.running import wait_until
from tests.unit.upstream.fakes import FakeAnswer
from tests.unit.web.serving import Entry, make_services

HOST = "fapi.binance.com"
FILE = "/data.binance.vision/data/spot/x.zip"


class Upstreams:
    """In the place of `Tunnels` and `Downloads`: waits for `gate`, then raises `error` or answers.

    Shape: `peers` are the host's ends of the connections that were opened.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.answer = FakeAnswer(b"PK", headers=[("Content-Length", "2")])
        self.peers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.server: asyncio.Server | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def _pass(self, *asked: Any) -> None:
        self.asked.append(asked)
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def open(self, host: str, port: int, egress: str | None) -> Any:
        await self._pass(host, port, egress)
        self.server = self.server or await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return await asyncio.open_connection(*self.server.sockets[0].getsockname()[:2])

    def _accept(self, *streams: Any) -> None:
        self.peers.put_nowait(streams)
        self.writers.append(streams[1])

    async def get(self, method: str, target: str, headers: Any) -> FakeAnswer:
        await self._pass(method, target, headers)
        self.answer.egress = "own"
        return self.answer


class One:
    """A gateway's clients' port, its services made by hand."""

    def __init__(self, **settings: Any) -> None:
        self.services = make_services(admin_enabled=False, proxy_hosts=(HOST,), **settings)
        self.upstreams = Upstreams()
        self.services.tunnels = self.services.downloads = self.upstreams
        self.services.dispatch.shared_answers = SharedAnswers(time.monotonic)
        self.services.store.log_enabled = True
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The request log."""
        return [(row.method, row.path, row.status, row.bytes, row.error) for row in self.services.store.rows]

    @property
    def in_flight(self) -> int:
        found: int = self.services.calls.in_flight
        return found

    def counted(self, name: str) -> float:
        return float(getattr(self.services.metrics, name)._value.get())

    async def get(self, path: str = FILE, method: str = "GET", *headers: tuple[str, str]) -> Reply:
        return await call(self.port, method, path, headers)

    async def connect(self, *lines: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        head = [f"CONNECT {HOST}:443 HTTP/1.1", f"Host: {HOST}:443", *lines, "", ""]
        writer.write("\r\n".join(head).encode())
        return reader, writer

    async def tunnel(self) -> Ends:
        reader, writer = await self.connect()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head == b"HTTP/1.1 200 Connection Established\r\n\r\n"
        return Ends(reader, writer, *await asyncio.wait_for(self.upstreams.peers.get(), 5))

    async def ended(self, count: int = 1) -> None:
        """Wait until so many calls have been logged; nothing of them may be left."""
        await wait_until(lambda: len(self.rows) >= count)
        assert len(self.rows) == count
        await wait_until(lambda: not len(self.services.calls.tasks) and not len(self.services.tasks))
        assert self.in_flight == 0
        assert self.services.fanout.guests == {}


class Ends:
    """Both ends of a tunnel."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
        host_reader: asyncio.StreamReader, host_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self.reader, self.writer = reader, writer
        self.host_reader, self.host_writer = host_reader, host_writer


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[One]:
    made = One(**settings)
    server = make_server(made.services)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    made.port = sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        for writer in (*made.writers, *made.upstreams.writers):
            writer.transport.abort()
        server.stop()
        await made.services.calls.tasks.cancel()
        await server.close_all_connections()
        await made.services.tasks.cancel()
        if made.upstreams.server is not None:
            made.upstreams.server.close()


@pytest.fixture
async def one() -> AsyncIterator[One]:
    async with gateway() as made:
        yield made


async def heard(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Read an answer to its end; return status and body."""
    text = await asyncio.wait_for(reader.read(), 5)
    head, _, body = text.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


# --- bulk files ------------------------------------------------------------------------------------


async def test_file_is_passed_on_with_its_headers_and_counted(one: One) -> None:
    one.upstreams.answer = FakeAnswer(
        b"PK", b"rest", headers=[("Content-Length", "6"), ("ETag", '"x"'), ("Set-Cookie", "a=b")]
    )
    reply = await one.get(f"{FILE}?versionId=1", "GET", ("If-None-Match", '"y"'))
    assert (reply.status, reply.body, reply.header("etag")) == (200, b"PKrest", '"x"')
    assert (reply.header("x-resender-egress"), reply.header("set-cookie")) == ("own", None)
    ((method, target, headers),) = one.upstreams.asked
    assert (method, target) == ("GET", "/data/spot/x.zip?versionId=1")
    assert ("If-None-Match", '"y"') in headers
    await one.ended()
    assert one.rows == [("GET", FILE, 200, 6, None)]
    assert one.counted("bytes_sent") == 6
    assert one.upstreams.answer.is_closed
    assert one.services.store.seen == [(1, one.services.store.rows[0].time_ms)]


async def test_no_secret_and_no_address_of_the_client_goes_to_the_host_of_files(one: One) -> None:
    secrets = {
        "X-MBX-APIKEY": "hush", "x-mbx-apikey": "hush", "X-Sapi-X": "hush", "Cookie": "hush", "Authorization": "hush",
        "Proxy-Authorization": "hush", "X-Forwarded-For": "hush", "X-Resender-Egress": "hush",
    }  # fmt: skip
    await one.get(FILE, "GET", *secrets.items(), ("Accept", "*/*"))
    ((_, _, headers),) = one.upstreams.asked
    assert "hush" not in str(headers)
    assert ("Accept", "*/*") in headers


async def test_head_of_a_file_has_no_body(one: One) -> None:
    one.upstreams.answer = FakeAnswer(headers=[("Content-Length", "1000")])
    reply = await one.get(method="HEAD")
    assert (reply.status, reply.body, reply.header("content-length")) == (200, b"", "1000")
    await one.ended()
    assert one.upstreams.answer.is_closed


async def test_high_bytes_of_a_path_are_written_in_ascii(one: One) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(b"GET /data.binance.vision/\xe5\xb8\x81 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert one.upstreams.asked[0][1] == "/%E5%B8%81"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", FILE, 405), ("PUT", FILE, 405), ("DELETE", FILE, 405), ("OPTIONS", FILE, 405),
        ("GET", "/data.binance.vision/../x", 400), ("GET", "/data.binance.vision/a/%2E%2e/x", 400),
        ("GET", "/data.binance.vision", 404), ("GET", "/data.binance.vision.evil.example/x", 404),
    ],
)  # fmt: skip
async def test_what_is_no_reading_of_a_file_is_refused_here(
    one: One, method: str, path: str, status: int
) -> None:
    reply = await one.get(path, method)
    assert reply.status == status
    assert one.upstreams.asked == []
    assert one.in_flight == 0


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (UpstreamUnreachable("no way"), 502, "unreachable"),
        (UpstreamLost("broke off"), 502, "lost"),
        (RouteError("not served"), 404, "not_found"),
        (ValueError("a bug; key=hush"), 500, "internal"),
    ],
)
async def test_failure_is_answered_once_and_logged(
    one: One, error: Exception, status: int, name: str
) -> None:
    one.upstreams.error = error
    reply = await one.get()
    assert (reply.status, reply.header("x-resender-error")) == (status, name)
    assert "hush" not in reply.json()["msg"]
    await one.ended()
    ((_, _, logged, sent, problem),) = one.rows
    assert (logged, sent, problem) == (status, len(reply.body), reply.json()["msg"])


async def test_file_that_breaks_off_breaks_the_clients_connection_and_is_told_whole_to_nobody(
    one: One,
) -> None:
    one.upstreams.answer = FakeAnswer(b"PK", UpstreamLost("broke off"), headers=[("Content-Length", "100")])
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    text = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert text.endswith(b"\r\n\r\nPK")
    assert text.count(b"HTTP/1.1") == 1
    await one.ended()
    assert one.rows == [("GET", FILE, 200, 2, "broke off")]


async def test_bug_in_the_middle_of_a_file_adds_no_second_answer(one: One) -> None:
    class Broken(FakeAnswer):
        async def next_chunk(self) -> bytes:
            if len(self.pieces) == 1:
                raise ValueError("a bug")
            return await super().next_chunk()

    one.upstreams.answer = Broken(b"PK", b"rest", headers=[("Content-Length", "100")])
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    text = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert text.count(b"HTTP/1.1") == 1
    await one.ended()
    assert one.rows[0][2] == 500
    assert one.upstreams.answer.is_closed


async def test_client_that_leaves_stops_the_asking_for_its_file(one: One) -> None:
    one.upstreams.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await wait_until(lambda: one.in_flight == 1)
    writer.close()
    await one.ended()
    assert one.rows == [("GET", FILE, 0, 0, "client gone")]


async def test_file_under_way_is_cut_off_when_the_gateway_stops(one: One) -> None:
    one.upstreams.gate.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await wait_until(lambda: one.in_flight == 1)
    await one.services.calls.drain(0.05)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await one.ended()
    assert one.rows[0][4] == "gateway stopped"


@pytest.mark.parametrize("what", ["stranger", "stopping", "full"])
async def test_file_is_admitted_like_a_call(one: One, what: str) -> None:
    if what == "stranger":
        one.services.access.set_whitelist([])
    elif what == "stopping":
        one.services.calls.is_open = False
    else:
        one.services.calls.in_flight = one.services.config.max_in_flight
    assert (await one.get()).status == (403 if what == "stranger" else 503)
    assert one.upstreams.asked == []


# --- connections -----------------------------------------------------------------------------------


async def test_tunnel_carries_bytes_is_seen_and_counted_when_it_has_ended(one: One) -> None:
    ends = await one.tunnel()
    ends.writer.write(b"up")
    assert await asyncio.wait_for(ends.host_reader.readexactly(2), 5) == b"up"
    ends.host_writer.write(b"down")
    assert await asyncio.wait_for(ends.reader.readexactly(4), 5) == b"down"
    ((number, guest),) = one.services.fanout.guests.items()
    assert (number, guest.kind, guest.path, guest.address) == (1, "tunnel", f"{HOST}:443", "127.0.0.1")
    assert one.in_flight == 0, "it may last for days and is no call under way"
    assert one.rows == []
    assert one.counted("tunnels") == 0
    ends.writer.close()
    assert await asyncio.wait_for(ends.host_reader.read(), 5) == b""
    await one.ended()
    assert one.rows == [("CONNECT", f"{HOST}:443", 200, 6, None)]
    assert (one.counted("tunnels"), one.counted("tunnel_bytes")) == (1, 6)


async def test_host_that_ends_first_ends_the_clients_connection(one: One) -> None:
    ends = await one.tunnel()
    ends.host_writer.write(b"bye")
    ends.host_writer.close()
    assert await asyncio.wait_for(ends.reader.read(), 5) == b"bye"
    await one.ended()
    assert one.rows == [("CONNECT", f"{HOST}:443", 200, 3, None)]


async def test_egress_the_client_names_is_asked_and_the_header_goes_nowhere(one: One) -> None:
    await one.connect("X-Resender-Egress: second")
    _, writer = await asyncio.wait_for(one.upstreams.peers.get(), 5)
    assert one.upstreams.asked == [(HOST, 443, "second")]
    writer.close()
    await one.ended()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamUnreachable("Cannot connect"), 502),
        (BadRequest("There is no egress 'x'"), 400),
        (ValueError("a bug; key=hush"), 500),
        (UnicodeError("label too long"), 500),
    ],
)
async def test_tunnel_that_cannot_be_opened_is_answered_and_leaves_nothing(
    one: One, error: Exception, status: int
) -> None:
    one.upstreams.error = error
    reader, _ = await one.connect()
    found, body = await heard(reader)
    assert found == status
    assert "hush" not in body["msg"]
    await one.ended()
    ((_, _, logged, sent, problem),) = one.rows
    assert (logged, sent, problem) == (status, 0, body["msg"])


async def test_client_that_goes_away_while_its_tunnel_is_opened_leaves_no_connection(one: One) -> None:
    one.upstreams.gate.clear()
    _, writer = await one.connect()
    await wait_until(lambda: one.in_flight == 1)
    writer.close()
    await asyncio.sleep(0.05)
    one.upstreams.gate.set()
    host_reader, _ = await asyncio.wait_for(one.upstreams.peers.get(), 5)
    assert await asyncio.wait_for(host_reader.read(), 5) == b"", "nothing was said to it"
    await one.ended()
    assert one.rows == [("CONNECT", f"{HOST}:443", 0, 0, "client gone")]
    assert one.counted("tunnels") == 0


async def test_client_that_goes_away_before_a_tunnel_fails_is_answered_nothing(one: One) -> None:
    one.upstreams.gate.clear()
    one.upstreams.error = UpstreamUnreachable("no way")
    _, writer = await one.connect()
    await wait_until(lambda: one.in_flight == 1)
    writer.close()
    await asyncio.sleep(0.05)
    one.upstreams.gate.set()
    await one.ended()
    assert one.rows[0][2:] == (502, 0, "no way")


async def test_tunnel_being_opened_is_given_up_when_the_gateway_stops(one: One) -> None:
    one.upstreams.gate.clear()
    reader, _ = await one.connect()
    await wait_until(lambda: one.in_flight == 1)
    await one.services.calls.drain(0.05)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await one.ended()
    assert one.rows[0][2:] == (0, 0, "gateway stopped")


async def test_open_tunnel_is_cut_off_when_the_gateway_stops(one: One) -> None:
    ends = await one.tunnel()
    await one.services.calls.drain(5)  # it is no call: nobody waits for it
    await one.services.fanout.stop()
    assert await asyncio.wait_for(ends.reader.read(), 5) == b""
    assert await asyncio.wait_for(ends.host_reader.read(), 5) == b""
    await one.ended()


async def test_tunnels_take_no_place_from_calls() -> None:
    async with gateway(max_in_flight=1) as one:
        for _ in range(3):
            await one.tunnel()
        assert len(one.services.fanout.guests) == 3
        assert (await one.get()).status == 200


@pytest.mark.parametrize("way", ["disconnect", "whitelist", "stop"])
async def test_tunnel_is_ended_from_outside(one: One, way: str) -> None:
    ends = await one.tunnel()
    fanout = one.services.fanout
    if way == "disconnect":
        next(iter(fanout.guests.values())).close(1012, "disconnected by the administrator")
    elif way == "whitelist":
        fanout.expel(lambda address: address != "127.0.0.1")
    else:
        await fanout.stop()
    assert await asyncio.wait_for(ends.reader.read(), 5) == b""
    await one.ended()
    ends.host_writer.close()


async def test_tunnel_of_another_client_goes_on(one: One) -> None:
    one.services.access.set_whitelist([Entry(1, "127.0.0.1")])
    ends = await one.tunnel()
    one.services.fanout.expel(lambda address: address == "127.0.0.1")
    ends.writer.write(b"x")
    assert await asyncio.wait_for(ends.host_reader.readexactly(1), 5) == b"x"


async def test_tunnel_whose_host_takes_nothing_is_ended_from_outside_too(one: One) -> None:
    ends = await one.tunnel()
    ends.writer.write(bytes(32 << 20))
    await asyncio.sleep(0.3)  # every buffer on the way is full
    assert one.rows == []
    one.services.fanout.expel(lambda address: False)
    await one.ended()


def test_tunnel_can_be_ended_twice() -> None:
    calls: list[str] = []
    guest = Tunnel("10.0.0.1", f"{HOST}:443", 0, [lambda: calls.append("a"), lambda: calls.append("b")])
    guest.close(1012, "x")
    guest.close(1012, "x")
    assert calls == ["a", "b"] * 2
    assert (guest.frames_in, guest.frames_out, guest.bytes_out, guest.market) == (0, 0, 0, "")
