"""Connections of CONNECT: which egress opens them, how long that may take, and words without secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from resender.core.egress.spec import EgressSpec, parse_egress
from resender.errors import BadRequest, UpstreamUnreachable
from resender.upstream.tunnels import Tunnels
from tests.support.ports import free_port
from tests.support.proxies import Proxy

SECRET = "hush-hush-1"
DIRECT = EgressSpec("own", "default")


class Echo:
    """A server that says what it hears; `peers` are the addresses it was called from."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: list[str] = []
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername")[0])
        while data := await reader.read(1000):
            writer.write(data)
        self.ended += 1
        writer.close()


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


async def says(tunnels: Tunnels, port: int, egress: str | None = None, host: str = "127.0.0.1") -> bytes:
    """Open a connection, say something and return what comes back."""
    reader, writer = await tunnels.open(host, port, egress)
    writer.write(b"hello")
    heard = await asyncio.wait_for(reader.readexactly(5), 5)
    writer.close()
    await writer.wait_closed()
    return heard


async def fault(tunnels: Tunnels, port: int, host: str = "127.0.0.1", egress: str | None = None) -> str:
    with pytest.raises(UpstreamUnreachable) as caught:
        await tunnels.open(host, port, egress)
    assert SECRET not in caught.value.msg
    assert caught.value.msg.endswith("Nothing was sent.")
    return caught.value.msg


async def test_own_route_and_an_address_reach_the_host() -> None:
    async with echo() as server:
        for spec in (DIRECT, EgressSpec("there", "address", address="127.0.0.2")):
            assert await says(Tunnels([spec], 2), server.port) == b"hello"
    assert server.peers == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize("kind", ["http", "socks5", "socks4"])
async def test_proxy_is_asked_for_the_host_by_its_name(kind: str) -> None:
    async with echo() as server, Proxy(kind, names={"api.example": "127.0.0.1"}) as proxy:
        assert await says(Tunnels([proxy.spec()], 2), server.port, host="api.example") == b"hello"
    assert proxy.targets == [("api.example", server.port)]


async def test_first_egress_of_the_settings_is_taken_unless_one_is_named() -> None:
    async with echo() as server:
        specs = [EgressSpec(f"e{n}", "address", address=f"127.0.0.{n}") for n in (3, 2, 4)]
        tunnels = Tunnels(specs, 2)
        for egress in (None, None, "e4", "e2"):
            await says(tunnels, server.port, egress)
    assert [peer[-1] for peer in server.peers] == ["3", "3", "4", "2"]


async def test_next_egress_is_tried_when_one_cannot_connect() -> None:
    async with echo() as server:
        gone = EgressSpec("gone", "proxy", scheme="http", host="127.0.0.1", port=free_port())
        foreign = EgressSpec("foreign", "address", address="192.0.2.1")
        six = EgressSpec("six", "address", address="::1")
        assert await says(Tunnels([gone, foreign, six, DIRECT], 2), server.port) == b"hello"


async def test_named_egress_is_not_replaced_by_another() -> None:
    async with echo() as server:
        gone = EgressSpec("gone", "proxy", scheme="socks5", host="127.0.0.1", port=free_port())
        words = await fault(Tunnels([gone, DIRECT], 2), server.port, egress="gone")
    assert "the proxy refused the connection" in words
    assert server.peers == []


@pytest.mark.parametrize("name", ["", "nowhere", "OWN", "own ", "own\r\nX: y", "x" * 5000, "gate"])
async def test_egress_there_is_not_is_a_wrong_request(name: str) -> None:
    gate = EgressSpec("gate", "resender", scheme="http", host="127.0.0.1", port=1)
    with pytest.raises(BadRequest) as caught:
        await Tunnels([DIRECT, gate], 2).open("127.0.0.1", 1, name)
    assert len(caught.value.msg) < 150
    assert "\n" not in caught.value.msg


async def test_another_gateway_carries_no_connections() -> None:
    words = await fault(Tunnels(parse_egress(["resender://127.0.0.1:8000"]), 2), 1)
    assert "no egress carries connections" in words
    assert "no egress carries connections" in await fault(Tunnels([], 2), 1)


async def test_host_that_refuses_or_has_no_name_is_told_and_not_why_in_the_systems_words() -> None:
    tunnels = Tunnels([DIRECT], 2)
    assert await fault(tunnels, free_port()) == (
        "Cannot connect to 127.0.0.1: the connection failed. Nothing was sent."
    )
    assert "the connection failed" in await fault(tunnels, 443, host="nothing.invalid")


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_proxy_that_is_silent_costs_the_time_of_connecting_and_no_more(kind: str) -> None:
    async with Proxy(kind, hangs=True) as proxy:
        started = time.monotonic()
        words = await fault(Tunnels([proxy.spec()], 0.3), 443)
        assert time.monotonic() - started < 2
    assert "no connection within 0.3 s" in words


async def test_egress_behind_a_silent_one_still_has_its_time() -> None:
    async with echo() as server, Proxy("http", hangs=True) as proxy:
        assert await says(Tunnels([proxy.spec(), DIRECT], 0.3), server.port) == b"hello"


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_wrong_login_at_a_proxy_is_told_without_the_password(kind: str) -> None:
    async with Proxy(kind, username="user", password="right") as proxy:
        words = await fault(Tunnels([proxy.spec(password=SECRET)], 2), 443)
    assert "user name or password" in words
    assert "user" not in words.replace("user name", "")


async def test_last_reason_is_told_when_none_can() -> None:
    async with Proxy("http", refuse=403) as proxy:
        gone = EgressSpec("gone", "proxy", scheme="http", host="127.0.0.1", port=free_port())
        assert "(HTTP 403)" in await fault(Tunnels([gone, proxy.spec()], 2), 443)


async def test_proxy_that_breaks_off_or_talks_nonsense_is_a_fault_of_the_line() -> None:
    for proxy in (
        Proxy("http", drops=True),
        Proxy("http", raw_answer=b"SSH-2.0\r\n\r\n"),
        Proxy("socks5", drops=True),
    ):
        async with proxy:
            assert "the proxy" in await fault(Tunnels([proxy.spec()], 2), 443)


async def test_connection_is_ended_with_whoever_waits_for_it() -> None:
    async with Proxy("http", hangs=True) as proxy:
        task = asyncio.create_task(Tunnels([proxy.spec()], 30).open("127.0.0.1", 443))
        while not proxy.accepted:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
