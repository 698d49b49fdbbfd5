"""TLS connections that end where they should not: in the middle of a body, or while they are kept."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Reply, call
from tests.support.line_server import End, Line, LineServer, answer_ok
from tests.support.running import make_config, running
from tests.support.tls_calls import assert_words, call_watched, server_context
from tests.support.upstream import Request, response

pytestmark = [
    pytest.mark.component,
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # the one the program runs on
]

METHODS = ("GET", "POST", "DELETE")
BODY = b'{"a":"' + b"0123456789" * 3000 + b'"}'


@pytest.fixture
def server(version: ssl.TLSVersion) -> Iterator[LineServer]:
    with LineServer(server_context(version)) as line_server:
        yield line_server


def order(method: str, number: int) -> tuple[str, str]:
    return method, f"/api/v3/order?n={number}"


def arrivals(server: LineServer) -> Counter[int]:
    """Count how often each call arrived."""
    return Counter(int(request.target.partition(b"n=")[2]) for request in server.requests)


def assert_lost(reply: Reply, method: str) -> None:
    assert reply.status == 502, reply.raw
    assert assert_words(reply, method) == "lost"


@pytest.mark.parametrize(
    ("framing", "end"),
    [
        *((framing, end) for framing in ("length", "chunked") for end in End),
        # A proper end is how such a body ends.
        ("until close", End.RESET),
    ],
    ids=str,
)
async def test_line_that_ends_in_the_middle_of_a_body_never_looks_complete(
    server: LineServer, tmp_path: Path, framing: str, end: End
) -> None:
    def answer(line: Line, request: Request) -> End:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        if framing == "length":
            line.send(head + b"content-length: %d\r\n\r\n" % len(BODY) + BODY[:20_000])
        elif framing == "chunked":
            line.send(head + b"transfer-encoding: chunked\r\n\r\n4e20\r\n" + BODY[:20_000] + b"\r\n")
        else:
            line.send(head + b"\r\n" + BODY[:20_000])
        return end

    async with running(make_config(tmp_path, server.url, cache_enabled=False)) as run:
        number = 0
        for was_kept in (False, True):
            for method in ("GET", "POST"):
                if was_kept:
                    number += 1
                    assert (await call(run.port, *order("GET", number))).status == 200
                server.answer = answer
                number += 1
                reply = await call_watched(run.port, *order(method, number), server.may_reset.release)
                server.answer = answer_ok
                # That an answer began must be seen: a library repeats a call that brought nothing.
                assert reply.status == 200, reply.raw
                assert not reply.complete, (method, was_kept)
                assert BODY.startswith(reply.body)
                assert arrivals(server)[number] == 1
                number += 1
                assert (await call(run.port, *order(method, number))).status == 200
        assert set(arrivals(server).values()) == {1}
        assert run.gateway.calls.in_flight == 0


@pytest.mark.parametrize("end", End, ids=str)
async def test_line_that_ends_behind_a_whole_body_takes_nothing_from_it(
    server: LineServer, tmp_path: Path, end: End
) -> None:
    def answer(line: Line, request: Request) -> End:
        line.send(response(BODY, headers=(("connection", "close"),)))
        return end

    server.answer = answer
    async with running(make_config(tmp_path, server.url, cache_enabled=False)) as run:
        for number in range(1, 7):
            server.may_reset.release()  # at once: a reset may overtake what was sent before it
            reply = await call(run.port, *order("POST", number))
            if reply.status == 200:
                assert reply.body == BODY if reply.complete else end is End.RESET
            else:
                assert end is End.RESET
                assert_lost(reply, "POST")
        assert set(arrivals(server).values()) <= {1}


@pytest.mark.parametrize("pause_s", [0.0, 0.05], ids=["at once", "a moment later"])
@pytest.mark.parametrize("end", End, ids=str)
async def test_kept_line_that_ended_meanwhile_costs_no_read_and_sends_no_order_twice(
    server: LineServer, tmp_path: Path, end: End, pause_s: float
) -> None:
    def answer(line: Line, request: Request) -> End | None:
        answer_ok(line, request)
        return end if request.target.endswith(b"0") else None

    server.answer = answer
    async with running(make_config(tmp_path, server.url, cache_enabled=False)) as run:
        replies: dict[int, tuple[str, Reply]] = {}
        number = 0
        for method in METHODS:
            number += 10
            # The line of this call ends as soon as it is answered ...
            assert (await call(run.port, *order("GET", number))).status == 200
            server.may_reset.release()
            await asyncio.sleep(pause_s)
            # ... and this call may find it in the pool.
            replies[number + 1] = method, await call(run.port, *order(method, number + 1))
            # Nobody pays twice.
            replies[number + 2] = "POST", await call(run.port, *order("POST", number + 2))
        arrived = arrivals(server)
        for number, (method, reply) in replies.items():
            if method == "GET":
                assert reply.status == 200, number
            elif reply.status != 200:
                assert number % 10 == 1, "the second call pays for the first one's line"
                assert_lost(reply, method)
            assert arrived[number] <= (2 if method == "GET" else 1), number
            assert arrived[number] >= (reply.status == 200), number
        assert run.gateway.calls.in_flight == 0


@pytest.mark.parametrize("end", End, ids=str)
async def test_kept_line_that_ends_under_a_call_loses_an_order_and_repeats_a_read_once(
    server: LineServer, tmp_path: Path, end: End
) -> None:
    def once(line: Line, request: Request) -> End:
        server.answer = answer_ok
        server.may_reset.release()
        return end

    async with running(make_config(tmp_path, server.url, cache_enabled=False)) as run:
        number = 0
        for method in METHODS:
            number += 1
            assert (await call(run.port, *order("GET", number))).status == 200
            server.answer = once
            number += 1
            reply = await call(run.port, *order(method, number))
            if method == "GET":
                assert reply.status == 200
                assert arrivals(server)[number] == 2
            else:
                assert_lost(reply, method)
                assert arrivals(server)[number] == 1
            number += 1
            assert (await call(run.port, *order("POST", number))).status == 200
        assert run.gateway.calls.in_flight == 0


@pytest.mark.parametrize("end", End, ids=str)
async def test_forty_kept_lines_that_end_at_once_cost_no_read_and_are_replaced(
    server: LineServer, tmp_path: Path, end: End
) -> None:
    # Each call waits for the others, so that each has a line of its own.
    all_are_there = threading.Barrier(40)

    def last(line: Line, request: Request) -> End:
        all_are_there.wait(20)
        answer_ok(line, request)
        return end

    async with running(make_config(tmp_path, server.url, cache_enabled=False)) as run:
        server.answer = last
        first = [call(run.port, *order("GET", n)) for n in range(40)]
        assert {reply.status for reply in await asyncio.gather(*first)} == {200}
        server.may_reset.release(40)
        server.answer = answer_ok
        more = [call(run.port, *order("GET", 100 + n)) for n in range(40)]
        assert {reply.status for reply in await asyncio.gather(*more)} == {200}
    assert max(arrivals(server).values()) <= 2
