"""`run.py doctor` opens and pings the WebSocket API of each market as a client would be served it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resender.core.binance.markets import WS_API_PATHS, Market
from resender.doctor import Examination, examine, table
from resender.sandbox import Sandbox
from resender.sandbox.config import system_clock_ms
from tests.support.authority import client_context
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.proxies import Proxy
from tests.support.running import running
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

ONLY_SPOT = dict.fromkeys(("upstream_fapi", "upstream_dapi", "upstream_eapi", "upstream_papi"), "off")
COST = {Market.SPOT: "2 + 1", Market.UM: "5 + 1", Market.CM: "5 + 1"}


@pytest.fixture
async def exchange() -> AsyncIterator[Sandbox]:
    async with Sandbox(small_exchange(system_clock_ms)) as sandbox:
        yield sandbox


async def examined(folder: Path, exchange: Sandbox, **settings: object) -> list[Examination]:
    config = gateway_config(folder, exchange, **{"cache_enabled": False, **settings})
    return [found async for found in examine(config, ssl_context=client_context())]


def assert_fails(found: Examination, *words: str) -> None:
    assert not found.is_ok
    assert found.verdict.startswith("REST answers, but the WebSocket API does not (")
    assert found.verdict.endswith("orders over /ws-api/v3 are refused")
    assert all(word in found.verdict for word in words), found.verdict
    assert found.ping_ms is None


async def test_websocket_api_of_each_market_has_its_line_with_what_it_cost(
    tmp_path: Path, exchange: Sandbox
) -> None:
    results = await examined(tmp_path, exchange)
    found = {one.market: one for one in results if one.url.startswith("wss:")}
    assert list(found) == list(COST)
    for market, one in found.items():
        assert one.url == exchange.urls[f"WS_API_{market.upper()}"] + WS_API_PATHS[market]
        assert one.verdict == f"ok: the handshake and a ping cost {COST[market]} of the weight"
        assert one.is_ok
        assert (one.ping_ms or 0) > 0
        assert (one.status, one.used_weight.isdigit()) == (200, True)
        # It is opened once and asked for nothing else.
        api = exchange.ws_apis[market]
        assert (api.accepted, api.requests) == (1, [("ping", "doctor")])
    assert not exchange.orders
    # Each comes after the REST host it belongs to.
    order = [(one.market, one.url.startswith("wss:")) for one in results]
    assert order[:4] == [(Market.SPOT, False), (Market.SPOT, True), (Market.UM, False), (Market.UM, True)]
    assert all(one.url in line for one, line in zip(results, table(results)[1:], strict=True))


async def test_websocket_api_is_not_tried_where_no_client_is_served_one(
    tmp_path: Path, exchange: Sandbox
) -> None:
    results = await examined(tmp_path, exchange, max_stream_clients=0)
    assert [one.market for one in results] == list(Market)
    assert not any(api.accepted for api in exchange.ws_apis.values())


async def test_websocket_api_is_not_tried_where_rest_does_not_answer(
    tmp_path: Path, exchange: Sandbox
) -> None:
    exchange.ban("127.0.0.1", "spot", 60)
    (result,) = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert "banned (418)" in result.verdict
    assert not exchange.ws_apis[Market.SPOT].accepted


@pytest.mark.parametrize("status", [403, 503])
async def test_refused_handshake_is_told(tmp_path: Path, exchange: Sandbox, status: int) -> None:
    exchange.ws_apis[Market.SPOT].faults.refuse_status = status
    rest, found = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert rest.is_ok
    assert_fails(found, f"answered the handshake with {status}")


async def test_websocket_api_that_does_not_answer_is_told(
    tmp_path: Path, exchange: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resender.doctor._STREAM_WAIT_S", 0.5)
    exchange.ws_apis[Market.SPOT].faults.silent = True
    _, found = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert_fails(found, "no answer to a ping came within 0.5 s")
    exchange.ws_apis[Market.SPOT].faults.reset_before = "ping"
    _, found = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert_fails(found, "the connection")


async def test_error_in_answer_to_the_ping_is_told(tmp_path: Path, exchange: Sandbox) -> None:
    exchange.ws_apis[Market.SPOT].answer = lambda *args: {"id": "doctor", "status": 429, "error": {}}  # type: ignore[method-assign]
    _, found = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert (found.is_ok, found.status) == (False, 429)
    assert found.verdict == "the WebSocket API answers a ping with status 429"
    exchange.ws_apis[Market.SPOT].answer = lambda *args: {"hello": 1}  # type: ignore[method-assign]
    _, found = await examined(tmp_path, exchange, **ONLY_SPOT)
    assert_fails(found, "not like Binance")


async def test_host_out_of_reach_is_told(tmp_path: Path, exchange: Sandbox) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"wss://127.0.0.1:{bound.getsockname()[1]}"
        _, found = await examined(tmp_path, exchange, ws_api_spot=nobody, **ONLY_SPOT)
    assert_fails(found, "127.0.0.1", "refused")
    async with RawUpstream(tls=False) as plain:  # that is what the test is about
        url = f"wss://127.0.0.1:{plain.port}"
        _, found = await examined(tmp_path, exchange, ws_api_spot=url, connect_timeout_s=1, **ONLY_SPOT)
    assert_fails(found, "127.0.0.1")


async def test_websocket_api_is_tried_through_each_way_out_that_carries_websockets(
    tmp_path: Path, exchange: Sandbox
) -> None:
    inner = gateway_config(tmp_path / "inner", exchange)
    async with Proxy("http") as proxy, running(inner) as run:
        egress = ["default", f"via={proxy.url}", f"there=resender://127.0.0.1:{run.port}"]
        results = await examined(tmp_path / "outer", exchange, egress=egress, **ONLY_SPOT)
        assert [(one.egress, one.url.startswith("wss:")) for one in results] == [
            ("default", False), ("default", True), ("via", False), ("via", True), ("there", False),
        ]  # fmt: skip
        assert all(one.is_ok for one in results)
        assert proxy.accepted >= 2
        assert exchange.ws_apis[Market.SPOT].accepted == 2
