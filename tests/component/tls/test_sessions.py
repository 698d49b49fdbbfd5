"""TLS sessions are resumed where the server can, and nothing fails where it cannot."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.upstream.tls import resumed
from tests.support.authority import client_context
from tests.support.client import call
from tests.support.running import make_config, running
from tests.support.tls_calls import Orders, closing, server_context
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

MIXED = ("GET", "POST", "DELETE", "PUT")


def hits(upstream: RawUpstream) -> int:
    """Count the handshakes that resumed a session."""
    assert upstream.context is not None
    return upstream.context.session_stats()["hits"]


def handshakes(upstream: RawUpstream) -> int:
    assert upstream.context is not None
    return upstream.context.session_stats()["accept_good"]


@asynccontextmanager
async def exchange_of(context: ssl.SSLContext, port: int = 0) -> AsyncIterator[RawUpstream]:
    async with RawUpstream(answer=closing, context=context, port=port) as upstream:
        yield upstream


async def test_every_new_connection_but_the_first_resumes_the_session(
    exchange: RawUpstream, tmp_path: Path
) -> None:
    async with running(make_config(tmp_path, exchange.url, cache_enabled=False)) as run:
        orders = Orders(run.port, exchange)
        for _ in range(6):
            assert (await orders.send(["POST"]))[0].status == 200
        assert (hits(exchange), handshakes(exchange)) == (5, 6)
        # At once, too: a session may be offered by several connections.
        replies = await orders.send(MIXED * 5)
        assert [reply.status for reply in replies] == [200] * 20
        assert hits(exchange) >= 20
        orders.assert_none_is_sent_twice()


@pytest.mark.parametrize("harm", ["no tickets", "none handed out"])
async def test_server_without_tickets_is_called_all_the_same(
    version: ssl.TLSVersion, tmp_path: Path, harm: str
) -> None:
    context = server_context(version)
    context.options |= ssl.OP_NO_TICKET
    if harm == "none handed out":
        context.num_tickets = 0
    is_resumable = version is ssl.TLSVersion.TLSv1_2 or harm == "no tickets"
    async with exchange_of(context) as upstream:
        async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
            orders = Orders(run.port, upstream)
            for _ in range(4):
                assert (await orders.send(["POST"]))[0].status == 200
            # TLS 1.2 resumes by session id, TLS 1.3 by a ticket that stands for the server's memory.
            assert hits(upstream) == (3 if is_resumable else 0)
            # In TLS 1.3 such a ticket serves once: one of these resumes, the others do it in full.
            replies = await orders.send(MIXED * 5)
            assert [reply.status for reply in replies] == [200] * 20
            assert [reply.status for reply in await orders.send(MIXED)] == [200] * 4
            orders.assert_none_is_sent_twice()


async def test_tickets_the_server_has_forgotten_cost_nothing_but_a_full_handshake(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    async with exchange_of(server_context(version)) as upstream:
        port, url = upstream.port, upstream.url
        config = make_config(tmp_path, url, cache_enabled=False)
        async with running(config) as run:
            assert (await call(run.port, "POST", "/api/v3/order?n=0")).status == 200
            await upstream.stop()
            for round_number in range(3):
                # A new key and an empty memory each time, as behind a load balancer.
                async with exchange_of(server_context(version), port) as fresh:
                    orders = Orders(run.port, fresh)
                    methods = ("POST", "GET", "DELETE") if round_number != 1 else MIXED * 5
                    assert {reply.status for reply in await orders.send(methods)} == {200}
                    assert len(fresh.requests) == len(methods)
                    before = hits(fresh)
                    for _ in range(3):
                        assert (await orders.send(["POST"]))[0].status == 200
                    assert hits(fresh) == before + 3, "it does not resume any more"
                    orders.assert_none_is_sent_twice()


@pytest.mark.parametrize("also", ["same name", "another TLS version", "no tickets"])
async def test_two_servers_of_one_name_do_not_disturb_each_other(
    version: ssl.TLSVersion, tmp_path: Path, also: str
) -> None:
    # One name, many machines: each knows only its own tickets.
    other = server_context(
        {ssl.TLSVersion.TLSv1_2: ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3: ssl.TLSVersion.TLSv1_2}[
            version
        ]
        if also == "another TLS version"
        else version
    )
    if also == "no tickets":
        other.options |= ssl.OP_NO_TICKET
        other.num_tickets = 0
    async with exchange_of(server_context(version)) as spot, exchange_of(other) as um:
        config = make_config(tmp_path, spot.url, upstream_fapi=um.url, cache_enabled=False)
        async with running(config) as run:
            for _ in range(5):
                for target in ("/api/v3/order", "/fapi/v1/order"):
                    assert (await call(run.port, "POST", target)).status == 200
            assert len(spot.requests) == len(um.requests) == 5
            assert {market for _, market in run.gateway.egress.clients} >= {Market.SPOT, Market.UM}


async def test_session_is_not_offered_to_another_name(version: ssl.TLSVersion, tmp_path: Path) -> None:
    context = server_context(version)
    async with exchange_of(context) as upstream:
        config = make_config(
            tmp_path, upstream.url, upstream_fapi=f"https://localhost:{upstream.port}", cache_enabled=False
        )
        async with running(config) as run:
            assert (await call(run.port, "GET", "/api/v3/time")).status == 200
            assert (await call(run.port, "GET", "/fapi/v1/time")).status == 200
            assert hits(upstream) == 0
            assert (await call(run.port, "GET", "/api/v3/time")).status == 200
            assert (await call(run.port, "GET", "/fapi/v1/time")).status == 200
            assert hits(upstream) == 2


async def test_session_of_one_gateway_is_not_another_ones(exchange: RawUpstream, tmp_path: Path) -> None:
    for name in ("one", "two"):
        context = client_context()
        config = make_config(tmp_path / name, exchange.url, cache_enabled=False)
        async with running(config, ssl_context=context) as run:
            before = hits(exchange)
            assert (await call(run.port, "GET", "/api/v3/time")).status == 200
            assert hits(exchange) == before
            assert resumed(context, "127.0.0.1") is False
            assert (await call(run.port, "GET", "/api/v3/time")).status == 200
            assert resumed(context, "127.0.0.1") is True
