"""One call to one host: what is written, what is repeated, and the words of failures."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from resender.core.binance.headers import Pairs
from resender.errors import OUTCOME_UNKNOWN, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.upstream.connector import EgressRoute, EgressUnusable, Timeouts
from resender.upstream.rest import RestClient, gunzip
from tests.support.authority import client_context
from tests.support.ports import free_port
from tests.support.upstream import Peer, RawUpstream, Request, response

HEADERS: Pairs = [("X-One", "1"), ("x-two", "2"), ("User-Agent", "client/1")]


@asynccontextmanager
async def client_of(url: str, **options) -> AsyncIterator[RestClient]:
    timeouts = options.pop("timeouts", Timeouts(2.0, 2.0, 5.0))
    client = RestClient(url, timeouts, ssl_context=client_context(), **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def read(answer) -> bytes:
    body = b""
    while chunk := await answer.next_chunk():
        body += chunk
    answer.close()
    return body


@pytest.mark.parametrize(
    "target",
    [
        "/api/v3/order?symbol=A%2CB&x=%7E~%20+&signature=ab",
        "/api//v3/../time",
        "//evil.example/api/v3/time",
        "/@evil.example/?a=b?c#d",
    ],
)
async def test_target_and_headers_are_written_byte_for_byte(target: str) -> None:
    async with RawUpstream() as upstream, client_of(upstream.url) as client:
        await read(await client.send("GET", target, HEADERS, b""))
        (request,) = upstream.requests
    assert request.target == target.encode()
    assert [pair for pair in request.headers if pair[0] != "Host"] == HEADERS


async def test_prefix_of_the_route_stands_before_the_target() -> None:
    async with (
        RawUpstream() as upstream,
        client_of(upstream.url, egress=EgressRoute("there", prefix="/fapi", is_gateway=True)) as client,
    ):
        await read(await client.send("GET", "/fapi/v1/time", [], b""))
        assert upstream.requests[0].target == b"/fapi/fapi/v1/time"


async def test_body_is_read_in_pieces_and_can_be_looked_at_first() -> None:
    async with RawUpstream() as upstream, client_of(upstream.url) as client:
        answer = await client.send("GET", "/x", [], b"")
        assert await answer.peek() == await answer.peek() == b'{"ok":true}'
        assert not answer.at_end()
        assert await answer.next_chunk() == b'{"ok":true}'
        assert await answer.next_chunk() == b""
        assert answer.at_end()
        answer.close()


async def test_body_over_the_limit_is_given_up() -> None:
    async with RawUpstream() as upstream, client_of(upstream.url) as client:
        answer = await client.send("GET", "/x", [], b"")
        with pytest.raises(UpstreamLost, match="more than 5 bytes"):
            async for _ in answer.chunks(5):
                pass
        answer.close()


async def answer_once(request: Request, peer: Peer) -> None:
    """Answer the first call of a connection and hang up at the second."""
    if getattr(peer, "has_answered", False):
        peer.close()
        return
    peer.has_answered = True  # type: ignore[attr-defined]
    await peer.send(response(b"{}"))


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("DELETE", 2), ("PUT", 2), ("POST", 2)])
async def test_only_a_read_is_sent_again_when_a_kept_connection_was_dead(method: str, sent: int) -> None:
    async with RawUpstream(answer=answer_once) as upstream, client_of(upstream.url) as client:
        await read(await client.send("GET", "/first", [], b""))
        if method == "GET":
            await read(await client.send(method, "/second", [], b""))
        else:
            with pytest.raises(UpstreamLost, match="execution status is unknown"):
                await client.send(method, "/second", [], b"")
        assert len(upstream.requests) == sent
        assert client.stats.repeats == int(method == "GET")


async def test_answer_that_broke_off_in_its_head_is_not_asked_for_again() -> None:
    """A kept connection over which something came was not dead: Binance has counted the call."""

    async def break_off(request: Request, peer: Peer) -> None:
        if request.target == b"/first":
            await peer.send(response(b"{}"))
            return
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-")
        peer.close()

    async with RawUpstream(answer=break_off) as upstream, client_of(upstream.url) as client:
        await read(await client.send("GET", "/first", [], b""))
        with pytest.raises(UpstreamLost):
            await client.send("GET", "/second", [], b"")
        assert [request.target for request in upstream.requests] == [b"/first", b"/second"]
        assert client.stats.connections_new == 1


async def test_new_connection_that_ends_without_an_answer_is_not_tried_again() -> None:
    async def hang_up(request: Request, peer: Peer) -> None:
        peer.close()

    async with RawUpstream(answer=hang_up) as upstream, client_of(upstream.url) as client:
        with pytest.raises(UpstreamLost) as caught:
            await client.send("GET", "/x", [], b"")
        assert len(upstream.requests) == 1
    assert OUTCOME_UNKNOWN not in caught.value.msg


async def test_connections_are_counted_as_new_or_kept() -> None:
    async with RawUpstream() as upstream, client_of(upstream.url) as client:
        for _ in range(3):
            await read(await client.send("GET", "/x", [], b""))
        assert (client.stats.connections_new, client.stats.connections_reused) == (1, 2)


async def test_silence_is_a_timeout_whose_words_depend_on_the_method() -> None:
    async def silent(request: Request, peer: Peer) -> None:
        pass

    timeouts = Timeouts(2.0, 0.05, 5.0)
    async with RawUpstream(answer=silent) as upstream, client_of(upstream.url, timeouts=timeouts) as client:
        for method in ("GET", "POST"):
            with pytest.raises(UpstreamTimeout, match="did not answer in time") as caught:
                await client.send(method, "/x", [], b"")
            assert (OUTCOME_UNKNOWN in caught.value.msg) == (method == "POST")


async def test_something_that_is_not_http_is_called_so() -> None:
    async def other(request: Request, peer: Peer) -> None:
        await peer.send(b"220 mail.example ESMTP\r\n\r\n")

    async with RawUpstream(answer=other) as upstream, client_of(upstream.url) as client:
        with pytest.raises(UpstreamLost, match="not HTTP"):
            await client.send("GET", "/x", [], b"")


@pytest.mark.parametrize(
    ("route", "kind", "words"),
    [
        (EgressRoute(), UpstreamUnreachable, "The upstream 127.0.0.1 cannot be reached: it refused"),
        (EgressRoute("home"), UpstreamUnreachable, "127.0.0.1 cannot be reached through home: it refused"),
        (EgressRoute("gw", is_gateway=True), EgressUnusable, "The upstream gw cannot be reached: it refused"),
    ],
)
async def test_refused_connection_names_host_and_egress(route: EgressRoute, kind: type, words: str) -> None:
    async with client_of(f"https://127.0.0.1:{free_port()}", egress=route) as client:
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.send("POST", "/x", [], b"")
    assert type(caught.value) is kind
    assert words in caught.value.msg


async def test_redirect_is_an_answer_and_is_not_followed() -> None:
    async def away(request: Request, peer: Peer) -> None:
        await peer.send(response(b"", "302 Found", (("Location", "/elsewhere"),)))

    async with RawUpstream(answer=away) as upstream, client_of(upstream.url) as client:
        answer = await client.send("GET", "/x", [], b"")
        assert answer.status == 302
        await read(answer)
        assert len(upstream.requests) == 1


def test_damaged_compression_is_a_lost_answer() -> None:
    packed = gzip.compress(b"{}" * 100)
    assert gunzip(packed) == b"{}" * 100
    for damaged in (packed[:-4], b"{}", packed[:20] + b"\0" * 20):
        with pytest.raises(UpstreamLost):
            gunzip(damaged)
