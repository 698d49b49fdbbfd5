"""Small tools for asyncio: owned tasks, back-off, time.

No policy lives here. `Tasks` holds the tasks it started; everything else is stateless or
owned by its creator.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

logger = logging.getLogger("resender")

T = TypeVar("T")

_CANCEL_TRIES = 10


def _mono() -> float:
    """Seconds that also pass while the machine sleeps: what was proven before is old afterwards."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the services see it; tests pass their own.

    Units: `now_ms` epoch milliseconds (Binance's unit), `mono` monotonic seconds.
    """

    now_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)
    mono: Callable[[], float] = field(default=_mono if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic)


async def within(awaitable: Awaitable[T], longest_s: float) -> T:
    """Await something, for so long at the most.

    Before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes just when what it waits for is
    done: a task that is to end goes on. This one never does.

    Units: seconds. Raises: asyncio.TimeoutError.
    """
    async with timeout(longest_s):
        return await awaitable


async def end_tasks(running: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, for some ten seconds at the most.

    Once may not be enough: a library may swallow a cancellation that comes just when what it waits
    for is done, as `asyncio.wait_for` does before Python 3.12 (see `within`).
    """
    for _ in range(_CANCEL_TRIES):
        tasks = {task for task in running if not task.done()}
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
    names = ", ".join(sorted(task.get_name() for task in running if not task.done()))
    if names:
        logger.error("tasks that do not end are left behind: %s", names)


class Tasks:
    """Tasks with a name and an owner. A task that fails is logged, never lost."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)

    def names(self) -> list[str]:
        """List the names of the tasks that run."""
        return [task.get_name() for task in self._tasks]

    async def join(self, timeout_s: float) -> int:
        """Wait for the tasks to end; return how many did not in time."""
        if not self._tasks:
            return 0
        _, pending = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return len(pending)

    async def cancel(self) -> None:
        """Cancel what still runs and wait for it to end."""
        await end_tasks(self._tasks)


@dataclass(slots=True)
class Backoff:
    """Growing pauses with jitter, for whatever is tried again.

    Units: seconds. The pause is drawn from [delay/2, delay]; `delay` doubles up to `cap_s`
    and starts over after `reset()`.
    """

    first_s: float = 0.5
    cap_s: float = 30.0
    random: random.Random = field(default_factory=random.Random)
    _delay_s: float = 0.0

    def next_s(self) -> float:
        self._delay_s = min(self.cap_s, self._delay_s * 2 or self.first_s)
        return self._delay_s * (0.5 + self.random.random() / 2)

    def reset(self) -> None:
        self._delay_s = 0.0
