"""A client's connection: how a body in chunks is read, what is promised, and words for what cannot be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from tornado.iostream import UnsatisfiableReadError
from tornado.web import Application, RequestHandler

from resender.web import connection as module
from resender.web.application import GatewayServer
from resender.web.connection import (
    HEADERS_TOO_LARGE,
    IDLE_GRACE_S,
    MALFORMED_REQUEST,
    TORNADO_BAD_REQUEST,
    URI_TOO_LONG,
    answer_unreadable,
    connection_tokens,
)
from tests.support.client import exchange, parse
from tests.support.kept import assert_promise, kept


class Echo(RequestHandler):
    """Sends back the body it got; `GET /close` wants the connection to end."""

    def get(self, what: str) -> None:
        if what == "close":
            self.set_header("Connection", "close")
        self.write(b"hello")

    def post(self, what: str) -> None:
        self.write(self.request.body)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = Application([("/(.*)", Echo)], log_function=lambda handler: None)
    server = GatewayServer(cast(Any, app), idle_connection_timeout=30 + IDLE_GRACE_S)
    server.listen(0, "127.0.0.1")
    yield next(iter(server._sockets.values())).getsockname()[1]
    server.stop()
    await server.close_all_connections()


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


# --- bodies in chunks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n1;name=value\r\nd\r\n0\r\n\r\n", b"abcd"),
        (b"000000000000000A \r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"3\r\nabc\r\n0\r\nTrailer: x\r\nAnother: y\r\n\r\n", b"abc"),
    ],
)
async def test_chunks_are_joined_and_extensions_and_trailers_left_out(
    port: int, chunks: bytes, body: bytes
) -> None:
    reply = parse(await exchange(port, HEAD + chunks))
    assert (reply.status, reply.body) == (200, body)


async def test_many_small_chunks_arrive_whole(port: int) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % (97 + number % 26) for number in range(2000))
    reply = parse(await exchange(port, HEAD + chunks + b"0\r\n\r\n"))
    assert len(reply.body) == 2000


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"3_0\r\nabc\r\n0\r\n\r\n",
        b"11111111111111111\r\nabc",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n",
        b"FFFFFFFFFFFFFFFF\r\nabc",
    ],
)
async def test_body_whose_chunks_are_wrong_is_refused_in_words(port: int, chunks: bytes) -> None:
    reply = parse(await exchange(port, HEAD + chunks))
    assert (reply.status, reply.header("x-resender-error")) == (400, "bad_request")
    assert reply.header("connection") == "close"


# --- promises -------------------------------------------------------------------------------------


def test_connection_header_is_a_list_of_words_in_any_case() -> None:
    assert connection_tokens("Keep-Alive ,  Upgrade") == {"keep-alive", "upgrade"}
    assert connection_tokens("") == {""}


@pytest.mark.parametrize(
    ("request_line", "headers", "is_kept"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"Connection: Close\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: x, close\r\n", False),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
        (b"GET / HTTP/1.0", b"Connection: x, keep-alive\r\n", True),
        (b"GET /close HTTP/1.1", b"", False),
        (b"GET /close HTTP/1.0", b"Connection: keep-alive\r\n", False),
        (b"POST / HTTP/1.1", b"Content-Length: 0\r\n", True),
        (b"POST / HTTP/1.1", b"Content-Length: 00\r\n", True),
    ],
)
async def test_connection_does_what_its_answer_says(
    port: int, request_line: bytes, headers: bytes, is_kept: bool
) -> None:
    async with kept(port) as one:
        await one.send(request_line + b"\r\nHost: x\r\n" + headers + b"\r\n")
        version = request_line[-3:].decode()
        reply = await one.answer(request_line.split()[0].decode(), version)
        if is_kept:
            assert reply.header("keep-alive") == "timeout=30"
            await one.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await one.answer()).body == b"hello"
        else:
            assert not await assert_promise(one, reply, version)


@pytest.mark.parametrize("word", [b"100-continue", b"100-Continue", b" 100-CONTINUE "])
async def test_client_that_waits_for_a_word_gets_it_however_it_asks(port: int, word: bytes) -> None:
    async with kept(port) as one:
        await one.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect:" + word + b"\r\n\r\n")
        await asyncio.sleep(0)
        await one.send(b"{}")
        assert (await one.answer("POST")).body == b"{}"
        assert one.interim == [100]


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "name"),
    [
        (MALFORMED_REQUEST, 400, "bad_request"),
        (URI_TOO_LONG, 414, "uri_too_long"),
        (HEADERS_TOO_LARGE, 431, "headers_too_large"),
    ],
)
def test_last_words_are_whole_answers(words: bytes, status: int, name: str) -> None:
    reply = parse(words)
    assert reply.complete
    assert (reply.status, reply.header("x-resender-error")) == (status, name)
    assert reply.header("connection") == "close"
    assert set(json.loads(reply.body)) == {"code", "msg", "data"}


class Stream:
    """The part of a stream that is replaced."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closes: list[Any] = []
        self.socket = None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self, exc_info: Any = False) -> None:
        self.closes.append(exc_info)

    def closed(self) -> bool:
        return bool(self.closes)


def test_only_the_word_for_what_cannot_be_parsed_is_exchanged() -> None:
    stream = Stream()
    answer_unreadable(cast(Any, stream))
    for data in (TORNADO_BAD_REQUEST, b"HTTP/1.1 200 OK\r\n\r\n", memoryview(b"x")):
        stream.write(data)  # type: ignore[arg-type]
    assert stream.written == [MALFORMED_REQUEST, b"HTTP/1.1 200 OK\r\n\r\n", b"x"]


def test_only_a_message_without_end_gets_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(module, "_say_and_linger", said.append)
    for reason in (False, ConnectionResetError(), UnsatisfiableReadError()):
        stream = Stream()
        answer_unreadable(cast(Any, stream))
        stream.close(reason)
        assert stream.closes == [reason]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * 70_000, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70_000, 431),
    ],
)
async def test_head_without_end_is_answered_by_what_is_too_long(port: int, data: bytes, status: int) -> None:
    assert parse(await exchange(port, data)).status == status
