"""Every kind of REST fault, seen from a raw socket or a client."""

import asyncio
import contextlib
import gzip
import zlib

import aiohttp
import pytest
from yarl import URL

from resender.sandbox import Fault
from tests.support.authority import client_context

pytestmark = pytest.mark.component
TARGET = "/api/v3/depth?symbol=BTCUSDT"
ORDER = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.5&price=50000"


class RawClient:
    """One TCP connection; reads until the server ends it or falls silent."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, sandbox):
        url = URL(sandbox.urls["UPSTREAM_API"])
        return cls(*await asyncio.open_connection(url.host, url.port, ssl=client_context()))

    def ask(self, target=TARGET, method="GET"):
        self.writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())

    async def until_end(self):
        """Return what came, and "eof" or "reset"."""
        data = b""
        try:
            while part := await asyncio.wait_for(self.reader.read(65536), 5):
                data += part
        except ConnectionResetError:
            return data, "reset"
        return data, "eof"

    async def head(self):
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)).lower()

    async def is_silent(self, seconds=0.15):
        try:
            await asyncio.wait_for(self.reader.read(1), seconds)
        except asyncio.TimeoutError:
            return True
        return False


@pytest.fixture
async def raw(sandbox):
    client = await RawClient.to(sandbox)
    yield client
    client.writer.close()
    with contextlib.suppress(ConnectionResetError):
        await client.writer.wait_closed()


@pytest.mark.parametrize(("kind", "end"), [("reset_before", "reset"), ("close_before", "eof")])
async def test_connection_lost_before_the_answer(sandbox, raw, kind, end):
    fault = sandbox.faults.add(Fault(kind, match="/depth"))
    raw.ask()
    assert await raw.until_end() == (b"", end)
    assert (fault.hits, sandbox.count("GET", "/api/v3/depth")) == (1, 1)


@pytest.mark.parametrize("chunked", [False, True])
async def test_reset_in_mid_body_comes_after_full_headers_and_half_the_body(sandbox, raw, chunked):
    sandbox.faults.add(Fault("reset_mid_body", chunked=chunked))
    raw.ask()
    head = await raw.head()
    body, end = await raw.until_end()
    assert head.startswith(b"http/1.1 200 ok")
    assert end == "reset"
    if chunked:
        assert b"transfer-encoding: chunked" in head
        assert b"content-length" not in head
        assert not body.endswith(b"0\r\n\r\n")
    else:
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        assert len(body) == length // 2


async def test_truncated_gzip_is_a_whole_http_answer_with_half_a_gzip_stream(sandbox, raw):
    sandbox.faults.add(Fault("truncated_gzip"))
    raw.ask()
    head = await raw.head()
    assert b"content-encoding: gzip" in head
    body = await raw.reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    with pytest.raises((EOFError, zlib.error)):
        gzip.decompress(body)
    raw.ask("/api/v3/ping")
    assert (await raw.head()).startswith(b"http/1.1 200 ok")


async def test_partial_status_line_ends_after_a_few_bytes(sandbox, raw):
    sandbox.faults.add(Fault("partial_status_line"))
    raw.ask()
    assert await raw.until_end() == (b"HTTP/1.1 2", "eof")


async def test_close_idle_answers_whole_and_then_closes_without_announcing_it(sandbox, raw):
    sandbox.faults.add(Fault("close_idle"))
    raw.ask("/api/v3/ping")
    data, end = await raw.until_end()
    assert data.endswith(b"\r\n\r\n{}")
    assert end == "eof"
    assert b"connection: close" not in data.lower()


async def test_drop_never_answers_and_keeps_the_connection_open(sandbox, raw):
    fault = sandbox.faults.add(Fault("drop"))
    raw.ask()
    assert await raw.is_silent()
    assert fault.hits == 1
    assert not raw.reader.at_eof()


async def test_body_delay_sends_headers_first(sandbox, raw):
    sandbox.faults.add(Fault("body_delay", seconds=0.6))
    raw.ask("/api/v3/ping")
    await raw.head()
    assert await raw.is_silent(0.1)
    assert await asyncio.wait_for(raw.reader.readexactly(2), 5) == b"{}"


async def test_slow_body_comes_whole_in_many_parts(sandbox, http):
    sandbox.faults.add(Fault("slow_body", seconds=0.2))
    parts = 0
    async with http.session.get(sandbox.urls["UPSTREAM_API"] + TARGET) as response:
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            parts += 1
        assert size == int(response.headers["content-length"])
    assert parts >= 4


async def test_delay_answers_in_the_end(sandbox, raw):
    sandbox.faults.add(Fault("delay", seconds=0.6))
    raw.ask()
    assert await raw.is_silent(0.1)
    assert (await raw.head()).startswith(b"http/1.1 200 ok")


async def test_status_answers_as_told(sandbox, http):
    body = '{"code":0,"msg":"Service unavailable from a restricted location"}'
    sandbox.faults.add(Fault("status", status=451, body=body, headers={"retry-after": "7"}))
    status, answer, headers = await http.call(sandbox.urls["UPSTREAM_API"], TARGET)
    assert (status, answer["code"], headers["retry-after"]) == (451, 0, "7")
    assert (await http.call(sandbox.urls["UPSTREAM_API"], TARGET))[0] == 200


async def test_html_is_a_403_page(sandbox, http):
    sandbox.faults.add(Fault("html"))
    status, text, headers = await http.call(sandbox.urls["UPSTREAM_API"], TARGET)
    assert status == 403
    assert text.startswith("<html>")
    assert headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_answer_has_the_size_asked_for(sandbox, http, chunked):
    sandbox.faults.add(Fault("large", megabytes=3, chunked=chunked))
    async with http.session.get(sandbox.urls["UPSTREAM_API"] + TARGET) as response:
        assert ("content-length" in response.headers) is not chunked
        size = sum([len(part) async for part in response.content.iter_any()])
    assert 3 * 1024 * 1024 <= size < 3 * 1024 * 1024 + 1024


async def test_order_lost_after_processing_was_really_placed(sandbox, http):
    where = sandbox.urls["UPSTREAM_API"]
    sandbox.faults.add(Fault("reset_before", match="/api/v3/order", method="POST", after=True))
    with pytest.raises(aiohttp.ClientError):
        await http.signed(where, "/api/v3/order", ORDER, "POST")
    assert len(sandbox.orders) == 1
    _, rows, _ = await http.signed(where, "/api/v3/openOrders", "symbol=BTCUSDT")
    assert [row["orderId"] for row in rows] == [sandbox.orders[0].order_id]


async def test_order_lost_before_processing_was_not_placed(sandbox, http):
    sandbox.faults.add(Fault("close_before", match="/api/v3/order", method="POST"))
    with pytest.raises(aiohttp.ClientError):
        await http.signed(sandbox.urls["UPSTREAM_API"], "/api/v3/order", ORDER, "POST")
    assert sandbox.count("POST", "/api/v3/order") == 1
    assert sandbox.orders == []


async def test_fault_strikes_only_its_path_and_wears_off(sandbox, http):
    where = sandbox.urls["UPSTREAM_API"]
    fault = sandbox.faults.add(Fault("status", match="/time", status=503, times=2))
    seen = [(await http.call(where, f"/api/v3/{path}"))[0] for path in ("ping", "time", "time", "time")]
    assert (seen, fault.hits) == ([200, 503, 503, 200], 2)


async def test_stop_ends_calls_that_hang(sandbox_with):
    sandbox = await sandbox_with()
    sandbox.faults.add(Fault("drop"))
    client = await RawClient.to(sandbox)
    client.ask()
    assert await client.is_silent(0.1)
    await asyncio.wait_for(sandbox.stop(), 5)
    assert (await client.until_end())[0] == b""
    client.writer.close()
