"""How the event loop has work done on the database thread: what comes back, and what becomes of a call too slow."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import Repository
from resender.store.calls import Calls


class FakeThread:
    """The database thread: it does a job when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, bool, Future[Any]]] = []

    def submit(self, run: Any, *, is_write: bool) -> Future[Any]:
        future: Future[Any] = Future()
        self.jobs.append((run, is_write, future))
        return future

    def do(self, repository: object = "repository") -> None:
        run, _, future = self.jobs.pop(0)
        assert future.set_running_or_notify_cancel()
        try:
            future.set_result(run(repository))
        except Exception as error:
            future.set_exception(error)


class Asked(Calls):
    """Calls of a thread that is made up."""

    def __init__(self, timeout_s: float = 10.0) -> None:
        self.thread = FakeThread()
        self._thread = self.thread  # type: ignore[assignment]
        self._call_timeout_s = timeout_s


def joined(repository: Any, first: str, *, second: str = "") -> str:
    return f"{repository} {first} {second}"


async def begun(one: Asked, *args: Any, **kwargs: Any) -> asyncio.Task[str]:
    task = asyncio.create_task(one.run(joined, *args, **kwargs))
    await asyncio.sleep(0)
    return task


async def test_function_gets_the_repository_and_its_arguments_and_its_result_comes_back() -> None:
    one = Asked()
    task = await begun(one, "a", second="b")
    one.thread.do()
    assert await task == "repository a b"


async def test_call_that_always_writes_says_so() -> None:
    one = Asked()
    tasks = [asyncio.create_task(call(joined, "a")) for call in (one.run, one.write)]
    await asyncio.sleep(0)
    assert [is_write for _, is_write, _ in one.thread.jobs] == [False, True]
    for task in tasks:
        one.thread.do()
        await task


async def test_what_the_function_raises_comes_out() -> None:
    one = Asked()

    def refuse(repository: Repository) -> None:
        raise ValueError("not so")

    task = asyncio.create_task(one.run(refuse))
    await asyncio.sleep(0)
    one.thread.do()
    with pytest.raises(ValueError, match="not so"):
        await task


async def test_call_that_was_not_begun_in_time_is_taken_back_and_says_so() -> None:
    one = Asked(timeout_s=0.01)
    with pytest.raises(StoreError, match="nothing was done"):
        await one.run(joined, "a")
    _, _, future = one.thread.jobs[0]
    assert future.cancelled()


async def test_outcome_of_a_call_that_is_under_way_too_long_is_unknown() -> None:
    one = Asked(timeout_s=0.01)
    task = await begun(one, "a")
    _, _, future = one.thread.jobs[0]
    future.set_running_or_notify_cancel()
    with pytest.raises(StoreError, match="the outcome is unknown"):
        await task
    future.set_result("late")
    await asyncio.sleep(0)


async def test_caller_that_leaves_takes_back_what_was_not_begun() -> None:
    one = Asked()
    task = await begun(one, "a")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.thread.jobs[0][2].cancelled()


async def test_result_of_another_thread_wakes_the_caller() -> None:
    one = Asked()
    task = await begun(one, "a")
    threading.Thread(target=one.thread.do).start()
    assert await asyncio.wait_for(task, 10) == "repository a "
