"""Owned tasks and back-off."""

from __future__ import annotations

import asyncio
import random

import pytest

from resender.aio import Backoff, Clock, Tasks, within


def test_backoff_grows_to_its_cap_with_jitter_and_starts_over() -> None:
    backoff = Backoff(first_s=1, cap_s=8, random=random.Random(1))
    for ceiling in (1, 2, 4, 8, 8, 8):
        assert ceiling / 2 <= backoff.next_s() <= ceiling
    backoff.reset()
    assert backoff.next_s() <= 1
    pauses = {Backoff(first_s=4).next_s() for _ in range(20)}
    assert len(pauses) > 10, "without jitter all clients come back at once"


def test_clock_tells_milliseconds_and_seconds() -> None:
    clock = Clock()
    assert isinstance(clock.now_ms(), int)
    assert clock.now_ms() > 1_700_000_000_000
    assert clock.mono() <= clock.mono()


async def test_failed_task_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("boom")

    tasks = Tasks()
    tasks.spawn(fail(), name="thing-do")
    await tasks.join(1)
    await asyncio.sleep(0)
    assert len(tasks) == 0
    assert "thing-do" in caplog.text
    assert "boom" in caplog.text


async def test_join_tells_how_many_did_not_end_and_cancel_ends_them() -> None:
    tasks = Tasks()
    never = tasks.spawn(asyncio.sleep(60), name="sleep-long")
    tasks.spawn(asyncio.sleep(0), name="sleep-short")
    assert await tasks.join(0.05) == 1
    await tasks.cancel()
    assert never.cancelled()
    assert await tasks.join(0.05) == 0


async def test_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed >= 3:
                    raise

    tasks = Tasks()
    task = tasks.spawn(stubborn(), name="task-stubborn")
    await asyncio.sleep(0)
    await tasks.cancel()
    assert task.cancelled()
    assert swallowed == 3


async def test_limit_of_time_swallows_no_cancellation_that_comes_with_the_answer() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(within(answer, 60))
    await asyncio.sleep(0)
    answer.set_result(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_limit_of_time_hands_on_the_answer_or_ends_what_takes_too_long() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def fail() -> None:
        raise ValueError("own")

    assert await within(asyncio.sleep(0, "answer"), 60) == "answer"
    with pytest.raises(asyncio.TimeoutError):
        await within(slow(), 0.01)
    assert ended.is_set()
    with pytest.raises(ValueError, match="own"):
        await within(fail(), 60)
