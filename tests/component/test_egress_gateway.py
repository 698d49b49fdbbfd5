"""A whole gateway whose calls leave through a proxy, an address or another gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from resender.core.binance.markets import MARKETS, Market
from resender.core.egress.spec import EgressSpec
from resender.upstream.connector import EgressUnusable
from tests.support.client import call
from tests.support.egress_ways import (
    EVERY,
    PASSWORD,
    PROXIES,
    USER,
    client_on,
    egress_of,
    get,
    make_proxy,
)
from tests.support.proxies import Proxy
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, reset, response

pytestmark = pytest.mark.component


@asynccontextmanager
async def gateway_through(
    kind: str, upstream: RawUpstream, tmp_path: Path
) -> AsyncIterator[tuple[Running, Proxy | Running | None]]:
    """Run a gateway with one egress of a kind, named `out`; the proxy or gateway behind it."""

    @asynccontextmanager
    async def outer(egress: str) -> AsyncIterator[Running]:
        config = make_config(tmp_path / "outer", upstream.url, egress=[f"out={egress}"], cache_enabled=False)
        async with running(config) as run:
            yield run

    if kind == "resender":
        async with running(make_config(tmp_path / "inner", upstream.url, cache_enabled=False)) as inner:
            async with outer(f"resender://127.0.0.1:{inner.port}") as run:
                yield run, inner
    elif kind in PROXIES:
        async with make_proxy(kind) as proxy:
            login = f"{quote(USER, '')}:{quote(PASSWORD, '')}@" if proxy.username else ""
            async with outer(f"{proxy.kind}://{login}127.0.0.1:{proxy.port}") as run:
                yield run, proxy
    else:
        async with outer("127.0.0.2" if kind == "address" else "default") as run:
            yield run, None


@pytest.mark.parametrize("kind", EVERY)
async def test_call_passes_and_the_answer_names_the_way(
    kind: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(b'{"code":-2010}', "400 Bad Request", (("X-MBX-USED-WEIGHT-1M", "9"),)))

    upstream.answer = answer
    async with gateway_through(kind, upstream, tmp_path) as (run, _):
        target = "/dapi/dapi/v1/order?symbol=%2C~&signature=ab"
        reply = await call(run.port, "POST", target, (("X-MBX-APIKEY", "k"),), b"a=1")
    assert (reply.status, reply.body) == (400, b'{"code":-2010}')
    assert reply.header("x-mbx-used-weight-1m") == "9"
    assert reply.header("x-resender-egress") == "out"
    # When weight is counted the gateway asks for the limits by itself.
    (request,) = [r for r in upstream.requests if b"exchangeInfo" not in r.line]
    assert request.line == b"POST /dapi/v1/order?symbol=%2C~&signature=ab HTTP/1.1"
    assert request.body == b"a=1"


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_order_whose_connection_dies_is_sent_once(
    kind: str, method: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async with gateway_through(kind, upstream, tmp_path) as (run, _):
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200
        upstream.answer = reset
        reply = await call(run.port, method, "/api/v3/order?x=1")
    assert reply.status == 502
    assert reply.json()["code"] == -6
    assert "execution status is unknown" in reply.json()["msg"]
    assert [r.method for r in upstream.requests] == ["GET", method]


@pytest.mark.parametrize("kind", [*PROXIES, "resender"])
async def test_way_that_is_down_is_told_and_no_secret_with_it(
    kind: str, upstream: RawUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with gateway_through(kind, upstream, tmp_path) as (run, behind):
        if isinstance(behind, Proxy):
            await behind.stop()
        else:
            assert behind is not None
            behind.gateway.access.set_whitelist([])
        reply = await call(run.port, "POST", "/api/v3/order?x=1")
    assert not upstream.requests
    if isinstance(behind, Proxy):
        assert (reply.status, reply.json()["code"]) == (502, -2)
        assert "the proxy refused the connection" in reply.json()["msg"]
    else:
        assert (reply.status, reply.json()["code"]) == (403, -1)
    assert PASSWORD not in caplog.text + reply.raw.decode()


@pytest.mark.parametrize("kind", [*PROXIES, "resender"])
async def test_broken_body_breaks_the_clients_connection(
    kind: str, upstream: RawUpstream, tmp_path: Path
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asyncio.sleep(0.05)
        peer.reset()

    upstream.answer = answer
    async with gateway_through(kind, upstream, tmp_path) as (run, _):
        reply = await call(run.port, "GET", "/fapi/v1/x")
    assert (reply.status, reply.body, reply.complete) == (200, b"hello", False)
    assert len(upstream.requests) == 1


async def test_client_that_leaves_ends_its_get_through_two_gateways(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    ended = asyncio.Event()

    async def wait(request: Request, peer: Peer) -> None:
        assert await peer.reader.read(1) == b""
        ended.set()

    upstream.answer = wait
    async with gateway_through("resender", upstream, tmp_path) as (run, _):
        task = asyncio.get_running_loop().create_task(call(run.port, "GET", "/api/v3/time"))
        await wait_until(lambda: upstream.requests)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.wait_for(ended.wait(), 5)


# --- one session through another gateway ------------------------------------------------------------


@pytest.mark.parametrize("facts", MARKETS, ids=lambda facts: facts.market.value)
async def test_each_market_passes_a_chained_gateway(facts, upstream: RawUpstream, tmp_path: Path) -> None:
    async with egress_of("resender", upstream.url, tmp_path) as (spec, _):
        async with client_on(spec, "https://not.used", facts.market) as client:
            for root in facts.roots:
                target = f"/{root}/data/x?a=1" if root == "futures" else f"/{root}/v1/x?a=%2c"
                assert (await get(client, target=target)).status == 200
                assert upstream.requests[-1].target == target.encode()


async def test_order_lost_behind_a_chained_gateway_is_sent_once(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    upstream.answer = reset
    async with egress_of("resender", upstream.url, tmp_path) as (spec, _), client_on(spec, "") as client:
        got = await get(client, "DELETE", "/api/v3/order?x=1")
    assert got.status == 502
    assert b"execution status is unknown" in got.body
    assert got.headers["x-resender-error"] == "lost"
    assert len(upstream.requests) == 1


async def test_chained_gateway_that_does_not_know_us_answers_403(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    async with running(make_config(tmp_path, upstream.url, whitelist="192.0.2.1")) as inner:
        spec = EgressSpec("inner", "resender", scheme="http", host="127.0.0.1", port=inner.port)
        async with client_on(spec, "", Market.UM) as client:
            got = await get(client, target="/fapi/v1/time")
    assert (got.status, got.headers["x-resender-error"]) == (403, "forbidden")
    assert not upstream.requests


async def test_chained_gateway_that_is_down_is_an_unusable_way_and_only_its_name_is_told() -> None:
    async with RawUpstream() as down:
        port = down.port
    spec = EgressSpec("inner", "resender", scheme="http", host="127.0.0.1", port=port)
    async with client_on(spec, "https://api.binance.com") as client:
        with pytest.raises(EgressUnusable) as caught:
            await get(client, "POST")
    assert caught.value.msg == "The upstream inner cannot be reached: it refused the connection."
