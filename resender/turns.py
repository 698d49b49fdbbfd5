"""Whose turn it is on the event loop: an order needs several, and none of them waits behind many pieces of other work.

What takes long is done in pieces, and each piece waits for its turn here instead of with `asyncio.sleep(0)`: one
piece at a time of all that is under way, once a turn of the loop was a quiet one, and not while an order is on its
way. Every wait has an end, so nothing starves. State: one line of waiters for each event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

# A turn in which a call was worked on takes longer, seconds.
_QUIET_S = 0.0001
# So many turns, and so long while orders are on their way, a piece waits at most.
_TURNS = 8
_ORDER_S = 0.004
_LOOK_S = 0.0005

T = TypeVar("T")


class _Line:
    """Those that wait for a turn of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.orders = 0
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._since = 0.0
        self._last = 0.0
        self._turns = 0

    async def wait(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            self._begin()
        await future

    def _begin(self) -> None:
        self._since = self._last = time.perf_counter()
        self._turns = 0
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.perf_counter()
        was_quiet, self._last = now - self._last < _QUIET_S, now
        self._turns += 1
        if self.orders and now - self._since < _ORDER_S:
            self._loop.call_later(_LOOK_S, self._turn)
        elif was_quiet or self._turns >= _TURNS:
            self._let_one()
        else:
            self._loop.call_soon(self._turn)

    def _let_one(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():  # else who waited has been cancelled
                future.set_result(None)
                break
        if self._waiting:
            self._begin()


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()


def _line() -> _Line:
    loop = asyncio.get_running_loop()
    found = _lines.get(loop)
    if found is None:
        found = _lines[loop] = _Line(loop)
    return found


async def next_turn() -> None:
    """Let other work go first; to be awaited between the pieces, each below a millisecond, of what takes long."""
    await _line().wait()


@contextmanager
def order_pending() -> Iterator[None]:
    """Have pieces of other work wait while an order is on its way, for some milliseconds each."""
    line = _line()
    line.orders += 1
    try:
        yield
    finally:
        line.orders -= 1


async def as_order(send: Callable[[T], Awaitable[None]], argument: T) -> None:
    """Send an order: pieces of other work wait for it."""
    with order_pending():
        await send(argument)
