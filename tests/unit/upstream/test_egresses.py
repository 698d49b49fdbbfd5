"""What an entry of EGRESS becomes: its route, its client, and why an address cannot be used."""

from __future__ import annotations

import asyncio
import functools
import ssl

import pytest

from resender.core.binance.markets import Market
from resender.core.egress.spec import EgressSpec, parse_egress
from resender.errors import UpstreamUnreachable
from resender.upstream.connector import DIRECT, EgressUnusable, Timeouts
from resender.upstream.egresses import (
    SourceConnector,
    bind_problem,
    gateway_url,
    make_rest_client,
    make_route,
)
from resender.upstream.proxies import ProxyConnector
from tests.support.authority import client_context
from tests.support.upstream import RawUpstream
from tests.unit.upstream.fakes import TIMEOUTS

# Reserved for documentation (RFC 5737, RFC 3849): no machine has them.
NOT_OURS = ("192.0.2.7", "2001:db8::7")


def spec(text: str) -> EgressSpec:
    return parse_egress([text])[0]


def test_default_entry_is_the_machines_own_route() -> None:
    assert make_route(spec("default")) is DIRECT


@pytest.mark.parametrize(
    ("text", "connector"), [("127.0.0.2", SourceConnector), ("socks5://127.0.0.1:9", ProxyConnector)]
)
def test_address_and_proxy_have_connectors_of_their_own(text: str, connector: type) -> None:
    route = make_route(spec(f"home={text}"))
    assert isinstance(route.connector, functools.partial)
    assert route.connector.func is connector
    assert (route.name, route.prefix, route.is_gateway) == ("home", "", False)


@pytest.mark.parametrize(
    ("market", "prefix"),
    [(Market.SPOT, "/api"), (Market.UM, "/fapi"), (Market.CM, "/dapi"), (Market.PM, "/papi")],
)
def test_another_gateway_gets_targets_with_the_markets_prefix(market: Market, prefix: str) -> None:
    route = make_route(spec("there=resender://10.0.0.1:8000"), market)
    assert (route.prefix, route.is_gateway) == (prefix, True)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("resender://10.0.0.1:8000", "http://10.0.0.1:8000"),
        ("resenders://gw.example:443", "https://gw.example:443"),
        ("resender://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_another_gateway_has_a_url(text: str, url: str) -> None:
    assert gateway_url(spec(text)) == url


def test_another_gateway_stands_for_every_upstream_and_is_named_by_its_entry() -> None:
    upstream_context, gateway_context = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    client = make_rest_client(
        spec("there=resenders://10.0.0.1:8000"),
        Market.UM,
        "https://fapi.example",
        TIMEOUTS,
        ssl_context=upstream_context,
        resender_ssl_context=gateway_context,
    )
    assert str(client._base) == "https://10.0.0.1:8000"
    assert client.host == "there"
    assert client._ssl_context is gateway_context


@pytest.mark.parametrize("address", NOT_OURS)
def test_address_the_machine_lacks_is_named_as_the_problem(address: str) -> None:
    assert bind_problem(address).startswith(f"cannot bind {address}: ")


def test_loopback_is_no_problem() -> None:
    assert bind_problem("127.0.0.1") == ""


async def send_through(entry: EgressSpec, url: str, timeouts: Timeouts = TIMEOUTS) -> None:
    client = make_rest_client(entry, Market.SPOT, url, timeouts, ssl_context=client_context())
    await client.start()
    try:
        (await client.send("GET", "/api/v3/ping", [], b"")).close()
    finally:
        await client.stop()


async def test_call_leaves_from_the_source_address() -> None:
    peers: list[str] = []

    async def answer(request, peer) -> None:
        peers.append(peer.writer.get_extra_info("peername")[0])
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with RawUpstream(answer=answer) as upstream:
        await send_through(spec("127.0.0.5"), upstream.url)
    assert peers == ["127.0.0.5"]


async def test_address_the_machine_lacks_fails_as_a_whole_and_in_words() -> None:
    async with RawUpstream() as upstream:
        with pytest.raises(EgressUnusable, match=r"through lost: cannot bind 192\.0\.2\.7"):
            await send_through(spec("lost=192.0.2.7"), upstream.url)
        assert upstream.requests == []


async def test_host_of_the_other_family_is_no_fault_of_the_egress() -> None:
    with pytest.raises(UpstreamUnreachable, match="its address is not IPv4") as caught:
        await send_through(spec("127.0.0.1"), "https://[::1]:9")
    assert not isinstance(caught.value, EgressUnusable)


@pytest.mark.parametrize("scheme", ["socks5", "http"])
@pytest.mark.parametrize(
    ("way", "is_certain"), [("refuses", True), ("is silent", False), ("breaks off", False)]
)
async def test_proxy_is_blamed_for_every_host_only_if_it_failed_for_sure(
    scheme: str, way: str, is_certain: bool
) -> None:
    """A proxy that is silent or breaks off may do so because of the one host it was asked for."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if way == "is silent":
            await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    if way == "refuses":
        server.close()
    try:
        with pytest.raises(EgressUnusable) as caught:
            await send_through(
                spec(f"home={scheme}://127.0.0.1:{port}"), "https://api.invalid", Timeouts(0.2, 2.0, 5.0)
            )
    finally:
        server.close()
    assert caught.value.is_certain is is_certain
