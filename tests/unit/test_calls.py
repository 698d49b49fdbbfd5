"""The calls under way, and how a stop treats them."""

from __future__ import annotations

import asyncio

import pytest

from resender.calls import Calls


async def test_no_calls_are_taken_before_the_gateway_has_started() -> None:
    assert Calls().is_open is False


async def test_drain_takes_no_new_calls_and_waits_for_those_in_flight() -> None:
    calls, may_end, done = Calls(), asyncio.Event(), []
    calls.is_open = True

    async def work() -> None:
        await may_end.wait()
        done.append(1)

    calls.tasks.spawn(work(), name="call")
    draining = asyncio.ensure_future(calls.drain(10))
    await asyncio.sleep(0)
    assert not calls.is_open
    assert not draining.done()
    may_end.set()
    await draining
    assert done == [1]


async def test_call_that_takes_too_long_is_cut_off_and_may_still_say_a_last_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls, said = Calls(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("outcome unknown")
            raise

    for number in range(3):
        calls.tasks.spawn(work(), name=f"call-{number}")
    await asyncio.sleep(0)
    await calls.drain(0)
    assert said == ["outcome unknown"] * 3
    assert len(calls.tasks) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "3 calls did not end within 0 s and are cut off"
    ]


async def test_drain_of_nothing_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()
    calls.is_open = True
    await calls.drain(60)
    assert not calls.is_open
    assert caplog.records == []
