"""`run.py doctor` examines every egress and tells its faults in plain words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.doctor import Examination, examine, table
from tests.support.authority import AUTHORITY
from tests.support.egress_ways import PASSWORD, PROXIES, make_proxy
from tests.support.proxies import Proxy
from tests.support.running import make_config, running
from tests.support.upstream import RawUpstream, answering

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("trusted")]

ONE_MARKET = dict.fromkeys(("upstream_dapi", "upstream_eapi", "upstream_papi"), "off")


async def examine_through(
    tmp_path: Path, url: str, *egress: str, upstream_fapi: str = "off", **settings: object
) -> list[Examination]:
    settings = {"connect_timeout_s": 0.5, **ONE_MARKET, "upstream_fapi": upstream_fapi, **settings}
    # WebSockets have tests of their own.
    values = {"cache_enabled": False, "max_stream_clients": 0, **settings}
    config = make_config(tmp_path / "outer", url, egress=list(egress), **values)
    return [result async for result in examine(config)]


async def test_each_way_and_market_has_its_line(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answering(x_mbx_used_weight_1m="17")
    async with make_proxy("socks5 login") as proxy:
        results = await examine_through(
            tmp_path,
            upstream.url,
            "default",
            "sg2=127.0.0.2;markets=um",
            f"hk={proxy.url.replace('bot@desk', 'bot%40desk').replace('pass/', 'pass%2F')}",
            upstream_fapi=upstream.url,
        )
    assert [(r.egress, r.market) for r in results] == [
        ("default", Market.SPOT),
        ("default", Market.UM),
        ("sg2", Market.UM),
        ("hk", Market.SPOT),
        ("hk", Market.UM),
    ]
    assert {r.verdict for r in results} == {"ok"}
    assert all(r.is_ok and r.ping_ms is not None and r.skew_ms is not None for r in results)
    # A proxy resolves and connects by itself.
    assert all((r.tcp_ms is None) is (r.egress == "hk") for r in results)
    lines = table(results)
    assert lines[0].split()[:3] == ["market", "upstream", "egress"]
    assert [line.split()[2] for line in lines[1:]] == ["default", "default", "sg2", "hk", "hk"]
    assert PASSWORD not in "\n".join(lines)


async def test_upstream_is_examined_from_the_source_address(tmp_path: Path) -> None:
    seen: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0, ssl=AUTHORITY.server_context())
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await examine_through(tmp_path, url, "127.0.0.3")
    server.close()
    assert set(seen) == {"127.0.0.3"}
    assert len(seen) >= 2, "the TLS step and the call"


async def test_address_that_is_not_on_this_machine_is_told_once_for_all(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    results = await examine_through(tmp_path, upstream.url, "203.0.113.9", upstream_fapi=upstream.url)
    assert len(results) == 2
    for result in results:
        assert not result.is_ok
        assert "cannot bind 203.0.113.9: not an address of this machine" in result.verdict
    assert not upstream.connections


@pytest.mark.parametrize("kind", PROXIES)
async def test_proxy_that_is_down_is_told(kind: str, tmp_path: Path, upstream: RawUpstream) -> None:
    async with make_proxy(kind.split()[0]) as proxy:
        url = proxy.url
    for result in await examine_through(tmp_path, upstream.url, url):
        assert not result.is_ok
        assert "the proxy refused the connection" in result.verdict


async def test_fault_of_a_proxy_itself_is_not_waited_for_again(tmp_path: Path, upstream: RawUpstream) -> None:
    async with Proxy("http") as proxy:
        proxy.hangs = True
        results = await examine_through(tmp_path, upstream.url, proxy.url, upstream_fapi=upstream.url)
        assert proxy.accepted == 1
    assert len({result.verdict for result in results}) == 1
    assert "no answer of the proxy within 0.5 s" in results[0].verdict


async def test_proxy_that_refuses_one_host_is_examined_further(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answering()
    async with RawUpstream() as dead:
        url = dead.url
    async with Proxy("socks5") as proxy:
        spot, um = await examine_through(tmp_path, url, proxy.url, upstream_fapi=upstream.url)
    assert "the proxy says it refused the connection" in spot.verdict
    assert um.is_ok


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            "451 Unavailable For Legal Reasons",
            "region block (451): Binance does not serve the country of the",
        ),
        ("418 I'm a teapot", "banned (418)"),
        ("403 Forbidden", "firewall"),
    ],
)
async def test_answers_through_a_proxy_are_told_in_plain_words(
    tmp_path: Path, upstream: RawUpstream, status: str, words: str
) -> None:
    upstream.answer = answering(status)
    async with Proxy("http") as proxy:
        (result,) = await examine_through(tmp_path, upstream.url, proxy.url)
    assert words in result.verdict


async def test_chained_gateway_is_examined(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answering(x_mbx_used_weight_1m="5")
    async with running(make_config(tmp_path / "inner", upstream.url, cache_enabled=False)) as inner:
        results = await examine_through(
            tmp_path,
            "https://not.used",
            f"far=resender://127.0.0.1:{inner.port}",
            upstream_fapi="https://x.y",
        )
    assert [(r.verdict, r.egress, r.used_weight) for r in results] == [("ok", "far", "5")] * 2
    assert all(r.tcp_ms is not None and r.tls_ms is None for r in results)


async def test_chained_gateway_that_does_not_whitelist_us_is_told(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    config = make_config(tmp_path / "inner", upstream.url, whitelist="192.0.2.1", cache_enabled=False)
    async with running(config) as inner:
        (result,) = await examine_through(tmp_path, "https://x.y", f"resender://127.0.0.1:{inner.port}")
    assert not result.is_ok
    assert "that Binance Resender does not whitelist this machine (Forbidden IP: 127.0.0.1)" in result.verdict


async def test_market_that_is_off_at_the_chained_gateway_is_told(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    config = make_config(tmp_path / "inner", upstream.url, upstream_api="off", cache_enabled=False)
    async with running(config) as inner:
        (result,) = await examine_through(tmp_path, "https://x.y", f"resender://127.0.0.1:{inner.port}")
    assert "that Binance Resender answers 404 not_found: The market spot is switched off" in result.verdict


async def test_chained_gateway_that_is_down_is_told(tmp_path: Path, upstream: RawUpstream) -> None:
    (result,) = await examine_through(tmp_path, "https://x.y", "resender://127.0.0.1:1")
    assert not result.is_ok
    assert "the connection to 127.0.0.1 port 1 was refused" in result.verdict
