"""REST calls through every kind of egress keep the guarantees they have without one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resender.core.egress.spec import EgressSpec
from resender.errors import UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.upstream.connector import EgressUnusable, Timeouts
from resender.upstream.tls import make_context
from tests.support.authority import AUTHORITY, Authority
from tests.support.egress_ways import (
    EVERY,
    PASSWORD,
    PROXIES,
    TUNNELS,
    address,
    client_on,
    egress_of,
    get,
    make_proxy,
)
from tests.support.proxies import Proxy
from tests.support.running import wait_until
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, reset, response

pytestmark = pytest.mark.component

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
TRADING = ["POST", "PUT", "DELETE"]
TARGET = "/api/v3/order?symbol=%2C~%7E'&a=b%20c+d&signature=A%2fb"


@pytest.mark.parametrize("kind", EVERY)
async def test_call_passes_every_way_byte_for_byte(kind: str, upstream: RawUpstream, tmp_path: Path) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(b"\x00\xff{", "418 I'm a teapot", (("X-Mbx-Used-Weight-1m", "7"),)))

    upstream.answer = answer
    async with egress_of(kind, upstream.url, tmp_path) as (spec, _), client_on(spec, upstream.url) as client:
        headers = [("User-Agent", "t"), ("X-MBX-APIKEY", "abc"), ("Accept-Encoding", "identity")]
        got = await get(client, "POST", TARGET, headers, b"quantity=1&x=\xff")
    assert (got.status, got.body, got.headers["x-mbx-used-weight-1m"]) == (418, b"\x00\xff{", "7")
    (request,) = upstream.requests
    assert request.line == f"POST {TARGET} HTTP/1.1".encode()
    assert request.body == b"quantity=1&x=\xff"
    assert request.header("host") == upstream.url.removeprefix("https://")
    assert request.header("x-mbx-apikey") == "abc"
    assert request.header("proxy-authorization") is None


@pytest.mark.parametrize("kind", EVERY)
async def test_connection_is_kept(kind: str, upstream: RawUpstream, tmp_path: Path) -> None:
    async with (
        egress_of(kind, upstream.url, tmp_path) as (spec, proxy),
        client_on(spec, upstream.url) as client,
    ):
        for method in ("GET", "POST", "DELETE"):
            assert (await get(client, method)).status == 200
        assert upstream.connections == 1
        assert (client.stats.connections_new, client.stats.connections_reused) == (1, 2)
        if proxy is not None:
            assert proxy.accepted == 1
    if proxy is not None:
        await wait_until(lambda: not proxy.open_tunnels)


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("method", METHODS)
async def test_call_lost_on_a_fresh_connection_is_sent_once(
    kind: str, method: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    upstream.answer = reset
    async with egress_of(kind, upstream.url, tmp_path) as (spec, _), client_on(spec, upstream.url) as client:
        with pytest.raises(UpstreamLost) as caught:
            await get(client, method)
    assert len(upstream.requests) == 1
    assert ("execution status is unknown" in caught.value.msg) is (method in TRADING)


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("method", METHODS)
async def test_call_lost_on_a_kept_connection_is_repeated_only_if_it_cannot_trade(
    kind: str, method: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async def once(request: Request, peer: Peer) -> None:
        upstream.answer = answer_ok
        peer.reset()

    async with egress_of(kind, upstream.url, tmp_path) as (spec, _), client_on(spec, upstream.url) as client:
        await get(client)
        upstream.answer = once
        if method in TRADING:
            with pytest.raises(UpstreamLost):
                await get(client, method)
            assert [r.method for r in upstream.requests] == ["GET", method]
        else:
            assert (await get(client, method)).status == 200
            assert [r.connection for r in upstream.requests] == [1, 1, 2]
            assert client.stats.repeats == 1


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("method", METHODS)
async def test_proxy_that_dies_under_a_call_loses_it_once(
    kind: str, method: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async def wait(request: Request, peer: Peer) -> None:
        await asyncio.sleep(30)

    upstream.answer = wait
    async with (
        egress_of(kind, upstream.url, tmp_path) as (spec, proxy),
        client_on(spec, upstream.url) as client,
    ):
        assert proxy is not None
        held = asyncio.ensure_future(get(client, method))
        await wait_until(lambda: upstream.requests)
        assert proxy.cut() == 1
        with pytest.raises(UpstreamLost):
            await held
        assert len(upstream.requests) == 1
        upstream.answer = answer_ok
        assert (await get(client, method)).status == 200


@pytest.mark.parametrize("kind", PROXIES)
async def test_kept_connection_the_proxy_closed_costs_nothing(
    kind: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async with (
        egress_of(kind, upstream.url, tmp_path) as (spec, proxy),
        client_on(spec, upstream.url) as client,
    ):
        assert proxy is not None
        for number in range(1, 4):
            assert (await get(client, "DELETE")).status == 200
            assert len(upstream.requests) == number
            proxy.cut()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("body", ["length", "chunked", "until close"])
async def test_body_that_breaks_off_is_noticed(
    kind: str, body: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    head = {"length": b"content-length: 9\r\n", "chunked": b"transfer-encoding: chunked\r\n"}.get(body, b"")
    text = b"5\r\nhello\r\n" if body == "chunked" else b"hello"

    async with (
        egress_of(kind, upstream.url, tmp_path) as (spec, proxy),
        client_on(spec, upstream.url) as client,
    ):

        async def answer(request: Request, peer: Peer) -> None:
            await peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + text)
            await asyncio.sleep(0.05)
            if proxy is not None:
                proxy.cut()
            peer.reset()

        upstream.answer = answer
        got = await client.send("GET", "/api/v3/x", [("User-Agent", "t")], b"")
        assert got.status == 200
        with pytest.raises(UpstreamLost, match="in the middle of its answer"):
            _ = [chunk async for chunk in got.chunks(1000)]
        got.close()
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("kind", TUNNELS)
async def test_silent_upstream_is_a_timeout_with_unknown_outcome(
    kind: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async def silent(request: Request, peer: Peer) -> None:
        await asyncio.sleep(30)

    upstream.answer = silent
    async with (
        egress_of(kind, upstream.url, tmp_path) as (spec, _),
        client_on(spec, upstream.url, timeouts=Timeouts(2.0, 0.2, 5.0)) as client,
    ):
        with pytest.raises(UpstreamTimeout, match="execution status is unknown"):
            await get(client, "POST")
    assert len(upstream.requests) == 1


# --- source addresses ------------------------------------------------------------------------------


async def test_upstream_sees_the_source_address(upstream: RawUpstream) -> None:
    async def tell(request: Request, peer: Peer) -> None:
        await peer.send(response(peer.writer.get_extra_info("peername")[0].encode()))

    upstream.answer = tell
    for ip in ("127.0.0.2", "127.0.0.3"):
        async with client_on(address(ip), upstream.url) as client:
            assert (await get(client)).body == ip.encode()


async def test_address_that_is_not_on_this_machine_is_told(upstream: RawUpstream) -> None:
    async with client_on(address("203.0.113.9", "sg2"), upstream.url) as client:
        with pytest.raises(EgressUnusable) as caught:
            await get(client, "POST")
    assert caught.value.msg == (
        "The upstream 127.0.0.1 cannot be reached through sg2: "
        "cannot bind 203.0.113.9: not an address of this machine."
    )
    assert not upstream.connections


async def test_refused_connection_is_not_the_fault_of_the_address(upstream: RawUpstream) -> None:
    await upstream.stop()
    async with client_on(address("127.0.0.2"), upstream.url) as client:
        with pytest.raises(UpstreamUnreachable, match=r"through 127\.0\.0\.2: it refused") as caught:
            await get(client)
    assert not isinstance(caught.value, EgressUnusable)


@pytest.fixture
async def both_families() -> AsyncIterator[tuple[int, list[str]]]:
    """A server on the IPv4 and the IPv6 loopback, on one port; the peers it has seen."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(headers=(("connection", "close"),)))
        await writer.drain()
        writer.close()

    context = AUTHORITY.server_context("api.example.test")
    try:
        first = await asyncio.start_server(serve, "::1", 0, ssl=context)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    yield port, seen
    first.close()
    second.close()


async def test_source_address_connects_to_its_own_family(
    both_families: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seen = both_families
    asked: list[int] = []

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        asked.append(family)
        found = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
        return [
            {"hostname": host, "host": ip, "port": port, "family": number, "proto": 0, "flags": 0}
            for number, ip in found.items()
            if family in (0, number)
        ]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    for ip in ("::1", "127.0.0.2"):
        async with client_on(address(ip), f"https://api.example.test:{port}") as client:
            assert (await get(client)).status == 200
    assert seen == ["::1", "127.0.0.2"]
    assert asked == [socket.AF_INET6, socket.AF_INET]


@pytest.mark.parametrize(("ip", "host"), [("::1", "127.0.0.1"), ("127.0.0.2", "[::1]")])
async def test_upstream_of_another_family_is_told(ip: str, host: str) -> None:
    async with client_on(address(ip), f"https://{host}:9") as client:
        with pytest.raises(UpstreamUnreachable, match="its address is not IPv") as caught:
            await get(client)
    assert not isinstance(caught.value, EgressUnusable)


async def test_name_without_an_address_of_the_family_is_told() -> None:
    async with client_on(address("127.0.0.2"), "https://no-such-host.invalid") as client:
        with pytest.raises(UpstreamUnreachable, match="cannot be resolved to an IPv4 address"):
            await get(client)


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture
async def tls_server() -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A server that closes after each answer, so that every call needs a new connection."""
    context = AUTHORITY.server_context("api.example.test", "localhost")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(headers=(("connection", "close"),)))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], context
    server.close()


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls_is_end_to_end_and_resumed(
    kind: str, is_trusted: bool, tls_server: tuple[int, ssl.SSLContext], tmp_path: Path
) -> None:
    port, server = tls_server
    file = tmp_path / "ca.pem"
    (AUTHORITY if is_trusted else Authority()).write_ca(file)
    host = "api.example.test" if kind in PROXIES else "localhost"
    async with (
        egress_of(kind, "", tmp_path) as (spec, proxy),
        client_on(spec, f"https://{host}:{port}", ssl_context=make_context(str(file))) as client,
    ):
        if proxy is not None:
            proxy.names = {"api.example.test": "127.0.0.1"}
        if not is_trusted:
            with pytest.raises(UpstreamUnreachable, match="certificate is signed by an authority") as caught:
                await get(client, "POST")
            assert not isinstance(caught.value, EgressUnusable)
            return
        for _ in range(4):
            assert (await get(client)).status == 200
        if proxy is not None:
            assert proxy.targets == [("api.example.test", port)] * 4, "the proxy is to resolve the name"
    assert server.session_stats()["hits"] == 3


@pytest.mark.parametrize("kind", PROXIES)
async def test_something_that_is_not_tls_behind_a_proxy_is_told(kind: str, tmp_path: Path) -> None:
    quick = Timeouts(0.3, 1.0, 1.0)
    async with (
        RawUpstream(tls=False) as plain,  # that is what the test is about
        egress_of(kind, "", tmp_path) as (spec, proxy),
        client_on(spec, f"https://127.0.0.1:{plain.port}", timeouts=quick) as client,
    ):
        with pytest.raises(UpstreamUnreachable, match=r"no connection within|TLS handshake failed") as caught:
            await get(client)
        assert not isinstance(caught.value, EgressUnusable)
        assert proxy is not None
        await wait_until(lambda: not proxy.open_tunnels)


# --- faults of a proxy -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROXIES)
async def test_handshake_in_many_pieces_works(kind: str, upstream: RawUpstream) -> None:
    async with make_proxy(kind) as proxy, client_on(proxy.spec(), upstream.url) as client:
        proxy.pieces = True
        assert (await get(client)).status == 200


@pytest.mark.parametrize("kind", PROXIES)
async def test_proxy_that_hangs_in_the_handshake_is_a_timeout_of_the_connection(
    kind: str, upstream: RawUpstream
) -> None:
    async with make_proxy(kind) as proxy:
        proxy.hangs = True
        async with client_on(proxy.spec(), upstream.url, timeouts=Timeouts(0.3, 5.0, 5.0)) as client:
            with pytest.raises(EgressUnusable, match=r"through via: no answer of the proxy within 0\.3 s"):
                await get(client, "POST")
            assert not client._session.connector._acquired  # type: ignore[union-attr]
    assert not upstream.connections


BAD_LOGIN = "the proxy wants another user name or password"
NO_LOGIN = "the proxy wants a user name and password"


@pytest.mark.parametrize(
    ("kind", "fault", "words", "is_whole"),
    [
        ("http", {"refuse": 403}, r"the proxy's rules do not allow it \(HTTP 403\)", False),
        ("http", {"refuse": 503}, r"cannot or will not connect to it \(HTTP 503\)", False),
        ("http", {"raw_answer": b"SSH-2.0-x\r\n\r\n"}, "something that is not HTTP", True),
        ("http", {"raw_answer": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000}, "not HTTP", True),
        ("socks5", {"refuse": 2}, "the proxy's rules do not allow it", False),
        ("socks5", {"refuse": 4}, "host is unreachable", False),
        ("socks5", {"refuse": 99}, "something that is not SOCKS", True),
        ("socks5", {"raw_answer": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "something that is not SOCKS", True),
        ("socks4", {"refuse": 91}, "cannot connect to it or refuses to", False),
        ("socks5", {"drops": True}, "closed the connection in the middle of the handshake", True),
        ("socks4", {"drops": True}, "closed the connection in the middle of the handshake", True),
        ("http", {"drops": True}, "closed the connection in the middle of the handshake", True),
        ("socks5 login", {"drops": True}, "closed the connection in the middle of the handshake", True),
    ],
)
async def test_refusal_of_a_proxy_is_told_in_plain_words(
    kind: str, fault: dict[str, object], words: str, is_whole: bool, upstream: RawUpstream
) -> None:
    async with make_proxy(kind) as proxy, client_on(proxy.spec(), upstream.url) as client:
        for name, value in fault.items():
            setattr(proxy, name, value)
        with pytest.raises(UpstreamUnreachable, match=words) as caught:
            await get(client, "POST")
        assert isinstance(caught.value, EgressUnusable) is is_whole
    assert not upstream.requests


@pytest.mark.parametrize("kind", ["socks5 login", "http login"])
@pytest.mark.parametrize(("sent", "words"), [("wr0ng-word", BAD_LOGIN), ("", NO_LOGIN)])
async def test_wrong_login_is_told_without_repeating_it(
    kind: str, sent: str, words: str, upstream: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with make_proxy(kind) as proxy:
        spec = proxy.spec(password=sent)
        if not sent:
            spec = EgressSpec("via", "proxy", scheme=spec.scheme, host=spec.host, port=spec.port)
        async with client_on(spec, upstream.url) as client:
            with pytest.raises(EgressUnusable, match=words) as caught:
                await get(client, "POST")
        text = caplog.text + caught.value.msg + repr(spec) + repr(client.__dict__)
    for secret in filter(None, (PASSWORD, sent)):
        assert secret not in text


async def test_login_that_socks_cannot_carry_is_told(upstream: RawUpstream) -> None:
    async with Proxy("socks5", "bot", "pässword") as proxy, client_on(proxy.spec(), upstream.url) as client:
        with pytest.raises(EgressUnusable, match="only ASCII") as caught:
            await get(client)
    assert "pässword" not in caught.value.msg


@pytest.mark.parametrize("kind", PROXIES)
async def test_proxy_that_is_down_is_told_and_comes_back(kind: str, upstream: RawUpstream) -> None:
    async with make_proxy(kind) as proxy, client_on(proxy.spec(), upstream.url) as client:
        await proxy.stop()
        with pytest.raises(EgressUnusable, match="through via: the proxy refused the connection"):
            await get(client, "POST")
        await proxy.listen()
        assert (await get(client, "POST")).status == 200


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_proxy_whose_name_is_unknown_is_told(scheme: str) -> None:
    spec = EgressSpec("via", "proxy", scheme=scheme, host="no-such-host.invalid", port=1080)
    async with client_on(spec, "https://127.0.0.1:9") as client:
        with pytest.raises(EgressUnusable, match="the proxy's name cannot be resolved"):
            await get(client)


@pytest.mark.parametrize("kind", PROXIES)
async def test_upstream_that_refuses_the_proxy_is_not_the_proxys_fault(kind: str) -> None:
    async with RawUpstream() as down:
        url = down.url
    async with make_proxy(kind) as proxy, client_on(proxy.spec(), url) as client:
        with pytest.raises(UpstreamUnreachable, match="the proxy") as caught:
            await get(client)
    assert not isinstance(caught.value, EgressUnusable)
