"""`run.py doctor` tries a stream of each market as the cache uses it, and tells what is wrong with it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.doctor import Examination, examine, table
from resender.sandbox import Sandbox
from resender.sandbox.config import system_clock_ms
from resender.sandbox.faults import Faults
from tests.support.authority import client_context
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.person import log_in
from tests.support.proxies import Proxy
from tests.support.running import running
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

WITH_STREAMS = (Market.SPOT, Market.UM, Market.CM)
ONLY_SPOT = dict.fromkeys(("upstream_fapi", "upstream_dapi", "upstream_eapi", "upstream_papi"), "off")
ONLY_UM = dict.fromkeys(("upstream_api", "upstream_dapi", "upstream_eapi", "upstream_papi"), "off")


@pytest.fixture
async def exchange() -> AsyncIterator[Sandbox]:
    async with Sandbox(small_exchange(system_clock_ms)) as sandbox:
        yield sandbox


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resender.doctor._STREAM_WAIT_S", 1.5)


async def examined(folder: Path, exchange: Sandbox, **settings: object) -> dict[Market, Examination]:
    config = gateway_config(folder, exchange, **{"max_stream_clients": 0, **settings})
    return {found.market: found async for found in examine(config, ssl_context=client_context())}


def assert_streams_fail(found: Examination, *words: str) -> None:
    assert not found.is_ok
    assert found.stream_ms is None
    assert found.verdict.startswith("REST answers, but its streams do not (")
    assert "none is answered from memory" in found.verdict
    assert all(word in found.verdict for word in words), found.verdict
    assert "\n" not in found.verdict
    # What was measured before is told all the same.
    assert found.status == 200
    assert found.ping_ms is not None


async def test_stream_of_each_market_is_tried(tmp_path: Path, exchange: Sandbox) -> None:
    found = await examined(tmp_path, exchange)
    assert list(found) == [Market.SPOT, Market.UM, Market.CM, Market.OPTIONS, Market.PM]
    for market, result in found.items():
        assert (result.is_ok, result.verdict) == (True, "ok")
        assert (result.stream_ms is not None) is (market in WITH_STREAMS)
    for market in WITH_STREAMS:
        assert 0 < (found[market].stream_ms or 0) < 5000
        assert exchange.subscriptions(market) == [], "nothing stays open"
    head, *lines = table(found.values())
    column = head.index("stream ms")
    shown = [line[column:].split()[0] for line in lines]
    assert [text == "-" for text in shown] == [False, False, False, True, True]


async def test_streams_are_not_tried_where_none_are_used(tmp_path: Path, exchange: Sandbox) -> None:
    for market in WITH_STREAMS:
        exchange.faults.refuse_streams(market)
    for result in (await examined(tmp_path, exchange, cache_enabled=False)).values():
        assert (result.is_ok, result.stream_ms, result.verdict) == (True, None, "ok")


@pytest.mark.parametrize(("status", "words"), [(503, ("the handshake", "503")), (403, ("403",)), (0, ())])
async def test_refused_handshake_is_told(
    tmp_path: Path, exchange: Sandbox, status: int, words: tuple[str, ...]
) -> None:
    exchange.faults.refuse_streams(Market.UM, status=status)
    found = await examined(tmp_path, exchange, **ONLY_UM)
    assert_streams_fail(found[Market.UM], "127.0.0.1", *words)


def mute(faults: Faults) -> None:
    faults.mute(Market.SPOT, "", everywhere=True)


def never_start(faults: Faults) -> None:
    faults.never_start(Market.SPOT, "")


def silence(faults: Faults) -> None:
    faults.silence(Market.SPOT)


@pytest.mark.parametrize("strike", [mute, never_start, silence])
@pytest.mark.usefixtures("short_wait")
async def test_stream_that_brings_nothing_is_told(
    tmp_path: Path, exchange: Sandbox, strike: Callable[[Faults], None]
) -> None:
    strike(exchange.faults)
    found = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert_streams_fail(found[Market.SPOT], "nothing came within 1.5 s")


@pytest.mark.parametrize("name", ["@bookTicker", "!miniTicker"])
@pytest.mark.usefixtures("short_wait")
async def test_one_path_of_two_that_brings_nothing_is_told(
    tmp_path: Path, exchange: Sandbox, name: str
) -> None:
    exchange.faults.mute(Market.UM, name, everywhere=True)
    found = await examined(tmp_path, exchange, **ONLY_UM)
    assert_streams_fail(found[Market.UM], "nothing came within 1.5 s")


async def test_stream_host_that_is_out_of_reach_is_told(tmp_path: Path, exchange: Sandbox) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"wss://127.0.0.1:{bound.getsockname()[1]}"
        found = await examined(
            tmp_path,
            exchange,
            stream_spot=nobody,
            stream_um="wss://no-such-host.invalid",
            stream_cm=exchange.urls["UPSTREAM_API"].replace("https:", "wss:"),
        )
    assert_streams_fail(found[Market.SPOT], "127.0.0.1", "refused")
    assert_streams_fail(found[Market.UM], "no-such-host.invalid", "resolved")
    assert_streams_fail(found[Market.CM], "the handshake")


async def test_stream_host_that_speaks_no_tls_is_told(tmp_path: Path, exchange: Sandbox) -> None:
    async with RawUpstream(tls=False) as plain:  # that is what the test is about
        url = f"wss://127.0.0.1:{plain.port}"
        found = await examined(tmp_path, exchange, stream_spot=url, connect_timeout_s=1, **ONLY_SPOT)
    assert_streams_fail(found[Market.SPOT], "127.0.0.1")


async def test_streams_are_tried_through_the_way_out_that_carries_them(
    tmp_path: Path, exchange: Sandbox
) -> None:
    async with Proxy("http") as proxy:
        found = await examined(tmp_path, exchange, egress=proxy.url, **ONLY_SPOT)
        assert found[Market.SPOT].is_ok
        assert found[Market.SPOT].stream_ms is not None
        assert proxy.accepted >= 2, "one connection for REST, one for the stream"
        exchange.faults.refuse_streams(Market.SPOT)
        found = await examined(tmp_path, exchange, egress=proxy.url, **ONLY_SPOT)
        assert_streams_fail(found[Market.SPOT], "503")


@pytest.mark.usefixtures("with_admin_pages")
async def test_admin_api_tells_how_long_a_stream_took(tmp_path: Path, exchange: Sandbox) -> None:
    exchange.faults.refuse_streams(Market.CM)
    config = gateway_config(tmp_path, exchange, upstream_papi="off", max_stream_clients=0)
    async with running(config) as run:
        me = await log_in(run.gateway, run.port)
        async with me.stream("doctor", "POST") as stream:
            body = await stream.rest()
    rows = {row["market"]: row for row in (orjson.loads(line) for line in body.splitlines() if line)}
    assert rows["spot"]["stream_ms"] > 0
    assert rows["um"]["stream_ms"] > 0
    assert (rows["cm"]["ok"], rows["cm"]["stream_ms"]) == (False, None)
    assert "its streams do not" in rows["cm"]["verdict"]
    assert (rows["options"]["ok"], rows["options"]["stream_ms"]) == (True, None)
