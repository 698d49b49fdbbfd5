"""A fault of the line costs the calls it hits and nothing else, whatever phase of TLS it comes in."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.handshake_breaker import Fault, HandshakeBreaker, Harm, Phase
from tests.support.running import Captured, Running, make_config, running
from tests.support.tls_calls import Orders, assert_words
from tests.support.upstream import RawUpstream, answer_ok

pytestmark = pytest.mark.component

MIXED = ("GET", "POST", "DELETE", "PUT")
# Before the request has left for certain nothing can have been executed.
SAFE = (Phase.ACCEPTED, Phase.HELLO, Phase.SERVER_HELLO)
# Silence takes its time; all its phases come up together below.
FAULTS = [Fault(harm, phase) for harm in Harm for phase in Phase if harm is not Harm.SILENCE]
FAULTS.append(Fault(Harm.SILENCE, Phase.HELLO))


def quick(harm: Harm, silence_s: float = 0.8) -> dict[str, Any]:
    """Return settings that wait no longer than needed where somebody is silent."""
    wait_s = silence_s if harm is Harm.SILENCE else 5.0
    return {"connect_timeout_s": wait_s, "read_timeout_s": wait_s, "cache_enabled": False}


def orders_on(run: Running, upstream: RawUpstream) -> Orders:
    return Orders(run.port, upstream)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept connections", "new connections"])
async def test_forty_first_calls_at_once_are_all_answered(
    exchange: RawUpstream, tmp_path: Path, keeps: bool
) -> None:
    if keeps:
        exchange.answer = answer_ok
    async with running(make_config(tmp_path, exchange.url, cache_enabled=False)) as run:
        orders = orders_on(run, exchange)
        for _ in range(3):
            replies = await orders.send(MIXED * 10)
            assert [reply.status for reply in replies] == [200] * 40
    orders.assert_none_is_sent_twice()
    assert len(exchange.requests) == 120


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_first_handshakes_that_break_cost_the_calls_they_are_made_for_and_no_other(
    exchange: RawUpstream, front: HandshakeBreaker, tmp_path: Path, fault: Fault
) -> None:
    async with running(make_config(tmp_path, front.url, **quick(fault.harm))) as run:
        orders = orders_on(run, exchange)
        front.fault = fault
        replies = await orders.send(MIXED)
        front.fault = None
        names = {assert_words(reply, method) for reply, method in zip(replies, MIXED, strict=True)}
        assert front.struck == 4
        assert (names == {"unreachable"}) is (fault.phase in SAFE), names
        if fault.phase is not Phase.REQUEST:
            assert not exchange.requests
        # The very next ones, at once and one by one.
        after = [*await orders.send(MIXED), *await orders.send(["POST"]), *await orders.send(["GET"])]
        assert [reply.status for reply in after] == [200] * 6
        orders.assert_none_is_sent_twice()


@pytest.mark.parametrize("harm", Harm, ids=str)
async def test_faults_in_all_phases_at_once_cost_the_calls_they_hit_at_the_start_and_later(
    exchange: RawUpstream,
    front: HandshakeBreaker,
    tmp_path: Path,
    harm: Harm,
    caplog: pytest.LogCaptureFixture,
) -> None:
    phases = list(Phase)
    async with running(make_config(tmp_path, front.url, **quick(harm))) as run:
        orders = orders_on(run, exchange)
        for moment in ("at the start", "later"):
            begun, struck = front.accepted, front.struck
            front.choose = lambda number, begun=begun: Fault(harm, phases[(number - begun) % 5])  # type: ignore[misc]
            replies = await orders.send(MIXED * 5)
            front.choose = lambda number: None
            names = [assert_words(reply, method) for reply, method in zip(replies, MIXED * 5, strict=True)]
            assert front.struck - struck == 20, moment
            assert names.count("unreachable") == 4 * len(SAFE), moment
            after = [*await orders.send(MIXED * 2), *await orders.send(["POST"])]
            assert [reply.status for reply in after] == [200] * 9, moment
        orders.assert_none_is_sent_twice()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


@pytest.mark.parametrize("harm", Harm, ids=str)
async def test_some_of_forty_first_handshakes_break_and_the_others_are_answered(
    exchange: RawUpstream, front: HandshakeBreaker, tmp_path: Path, harm: Harm
) -> None:
    phases = list(Phase)
    front.choose = lambda number: Fault(harm, phases[number // 4 % 5]) if number % 4 == 0 else None
    async with running(make_config(tmp_path, front.url, **quick(harm, 2.5))) as run:
        orders = orders_on(run, exchange)
        replies = await orders.send(MIXED * 10)
        bad = [(r, m) for r, m in zip(replies, MIXED * 10, strict=True) if r.status != 200]
        for reply, method in bad:
            assert_words(reply, method)
        assert len(bad) == front.struck == 10
        front.choose = lambda number: None
        assert [reply.status for reply in await orders.send(MIXED * 5)] == [200] * 20
        orders.assert_none_is_sent_twice()


@pytest.mark.parametrize("fault", [Fault(harm, Phase.HELLO) for harm in Harm], ids=str)
async def test_one_broken_handshake_after_a_session_was_remembered_costs_one_call(
    exchange: RawUpstream, version: ssl.TLSVersion, front: HandshakeBreaker, tmp_path: Path, fault: Fault
) -> None:
    async with running(make_config(tmp_path, front.url, **quick(fault.harm))) as run:
        orders = orders_on(run, exchange)
        assert [reply.status for reply in await orders.send(["POST"] * 3)] == [200] * 3
        broken = front.accepted + 1
        front.choose = lambda number: fault if number == broken else None
        replies = []
        for _ in range(6):
            replies += await orders.send(["POST"])
        assert_words(replies[0], "POST")
        assert [reply.status for reply in replies[1:]] == [200] * 5
        assert exchange.context is not None
        assert exchange.context.session_stats()["hits"] >= 4, "sessions are no longer resumed"
        orders.assert_none_is_sent_twice()


async def test_log_of_a_broken_handshake_names_no_call(
    front: HandshakeBreaker, exchange: RawUpstream, tmp_path: Path
) -> None:
    captured = Captured()
    logger = logging.getLogger("resender")
    logger.addHandler(captured)
    try:
        async with running(make_config(tmp_path, front.url, **quick(Harm.PLAIN_TEXT))) as run:
            front.fault = Fault(Harm.PLAIN_TEXT, Phase.SERVER_HELLO)
            (reply,) = await orders_on(run, exchange).send(["POST"])
            assert_words(reply, "POST")
    finally:
        logger.removeHandler(captured)
    assert "n=1" not in captured.text
    assert "Traceback" not in captured.text
