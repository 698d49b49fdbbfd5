"""The program as a process, with the system's certificates: its first calls over TLS, all at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.handshake_breaker import Fault, HandshakeBreaker, Harm, Phase
from tests.support.processes import GatewayProcess
from tests.support.tls_calls import Orders, assert_words
from tests.support.upstream import RawUpstream

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_factories=["uvloop"])]

MIXED = ("GET", "POST", "DELETE", "PUT")


async def test_forty_first_calls_of_the_program_are_all_answered_and_a_broken_handshake_costs_one(
    exchange: RawUpstream, front: HandshakeBreaker, tmp_path: Path
) -> None:
    program = await asyncio.to_thread(
        GatewayProcess, tmp_path, UPSTREAM_API=front.url, CACHE_ENABLED=False, CONNECT_TIMEOUT_S=1
    )
    try:
        orders = Orders(program.port, exchange)
        assert [reply.status for reply in await orders.send(MIXED * 10)] == [200] * 40
        for harm in Harm:
            broken = front.accepted + 1
            fault = Fault(harm, Phase.HELLO)
            front.choose = lambda number, fault=fault, broken=broken: fault if number == broken else None  # type: ignore[misc]
            (reply,) = await orders.send(["POST"])
            assert assert_words(reply, "POST") == "unreachable"
            assert [reply.status for reply in await orders.send(MIXED * 5)] == [200] * 20
        orders.assert_none_is_sent_twice()
        await asyncio.to_thread(program.stop)
    finally:
        program.kill()
