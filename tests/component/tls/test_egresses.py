"""TLS through every kind of egress: first calls at once, and handshakes that break."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client import Reply
from tests.support.egress_ways import make_proxy
from tests.support.handshake_breaker import Fault, HandshakeBreaker, Harm, Phase
from tests.support.relays import TlsFront
from tests.support.running import Running, make_config, running
from tests.support.tls_calls import Orders, assert_words, server_context
from tests.support.upstream import RawUpstream

pytestmark = [
    pytest.mark.component,
    pytest.mark.alone,  # they judge moments
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # the one the program runs on
]

KINDS = ["address", "http", "socks5 login", "resender"]
# How long somebody silent is waited for.
SHORT_S = 0.8
MIXED = ("GET", "POST", "DELETE", "PUT")


@dataclass
class Leaving:
    """A gateway that leaves through one egress.

    Shape: `far` is the front before the exchange, `near` the one before the other gateway, if
        there is one.
    """

    run: Running
    orders: Orders
    far: HandshakeBreaker
    near: HandshakeBreaker | None


@asynccontextmanager
async def leaving_through(
    kind: str, exchange: RawUpstream, data_dir: Path, version: ssl.TLSVersion, wait_s: float = 5.0
) -> AsyncIterator[Leaving]:
    settings = {"cache_enabled": False, "connect_timeout_s": wait_s, "read_timeout_s": 2 * wait_s}
    async with AsyncExitStack() as stack:
        far = await stack.enter_async_context(HandshakeBreaker(exchange.port))
        near: HandshakeBreaker | None = None
        if kind == "address":
            egress = "127.0.0.2"
        elif kind == "resender":
            inner = await stack.enter_async_context(
                running(make_config(data_dir / "inner", far.url, **settings))
            )
            front = await stack.enter_async_context(TlsFront(inner.port, server_context(version)))
            near = await stack.enter_async_context(HandshakeBreaker(front.port))
            egress = f"resenders://127.0.0.1:{near.port}"
        else:
            proxy = await stack.enter_async_context(make_proxy(kind))
            egress = proxy.url.replace(":pass/word@", "%3Apass%2Fword@").replace("bot@desk", "bot%40desk")
        config = make_config(data_dir / "outer", far.url, egress=egress, **settings)
        run = await stack.enter_async_context(running(config))
        yield Leaving(run, Orders(run.port, exchange), far, near)


def assert_all_answered(replies: list[Reply]) -> None:
    assert [reply.status for reply in replies] == [200] * len(replies), [r.body for r in replies]


@pytest.mark.parametrize("kind", KINDS)
async def test_forty_first_calls_at_once_are_all_answered_through_every_way(
    kind: str, exchange: RawUpstream, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    async with leaving_through(kind, exchange, tmp_path, version) as one:
        for _ in range(2):
            assert_all_answered(await one.orders.send(MIXED * 10))
        one.orders.assert_none_is_sent_twice()
        assert len(exchange.requests) == 80


@pytest.mark.parametrize("kind", KINDS)
async def test_broken_handshakes_with_the_exchange_cost_one_call_each_through_every_way(
    kind: str, exchange: RawUpstream, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    async with leaving_through(kind, exchange, tmp_path, version, SHORT_S) as one:
        for harm in (Harm.RESET, Harm.SILENCE, Harm.CLOSE, Harm.PLAIN_TEXT):
            fault, broken = Fault(harm, Phase.HELLO), one.far.accepted + 1
            one.far.choose = lambda number, fault=fault, broken=broken: fault if number == broken else None  # type: ignore[misc]
            (reply,) = await one.orders.send(["POST"])
            if kind == "resender":  # what the other gateway says; the name of the error is each one's own
                assert (reply.status, reply.json()["code"]) == (502, -2), harm
                assert "cannot be reached" in reply.json()["msg"]
            else:
                assert assert_words(reply, "POST") == "unreachable", harm
            assert_all_answered(await one.orders.send(["POST"]))
            assert_all_answered(await one.orders.send(MIXED * 2))
        one.orders.assert_none_is_sent_twice()
        assert len(exchange.requests) == 4 * 9


@pytest.mark.parametrize("harm", Harm, ids=str)
async def test_broken_handshakes_with_another_gateway_cost_one_call_each(
    harm: Harm, exchange: RawUpstream, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    wait_s = SHORT_S if harm is Harm.SILENCE else 5.0
    async with leaving_through("resender", exchange, tmp_path, version, wait_s) as one:
        near = one.near
        assert near is not None
        for phase in Phase:
            near.fault = Fault(harm, phase)
            (reply,) = await one.orders.send(["POST"])
            near.fault = None
            name = assert_words(reply, "POST")
            assert (name == "unreachable") is (phase not in (Phase.FINISHED, Phase.REQUEST)), phase
            assert_all_answered(await one.orders.send(["POST"]))
            assert_all_answered(await one.orders.send(MIXED * 2))
            near.cut(Harm.CLOSE)  # so that the next call needs a new connection
            await asyncio.sleep(0.02)
        one.orders.assert_none_is_sent_twice()


@pytest.mark.parametrize("kind", KINDS)
async def test_session_is_resumed_through_every_way(
    kind: str, exchange: RawUpstream, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    async with leaving_through(kind, exchange, tmp_path, version) as one:
        for _ in range(4):
            assert_all_answered(await one.orders.send(["POST"]))
        assert exchange.context is not None
        assert exchange.context.session_stats()["hits"] == 3
