"""How the server's event loop has work done on the database thread.

It knows no table: the parts of `Store` (calls_admin.py, calls_log.py, service.py) say what is to
be done. It holds the database thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, TypeVar

from resender.errors import StoreError
from resender.store.repository import Repository
from resender.store.worker import DatabaseThread

P = ParamSpec("P")
T = TypeVar("T")


class Calls:
    """Base of the parts of `Store`; everything is called on the event loop."""

    _thread: DatabaseThread
    _call_timeout_s: float

    async def run(self, fn: Callable[Concatenate[Repository, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(repository, ...)` on the database thread and return its result.

        Raises: StoreError for trouble with the database, also when it takes too long (the outcome
            is unknown then, unless the text says it was not begun); what `fn` raises otherwise.
        """
        result: T = await self._submit(lambda repository: fn(repository, *args, **kwargs))
        return result

    async def write(
        self, fn: Callable[Concatenate[Repository, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `run`, for a function that always writes: it shows whether writing works."""
        result: T = await self._submit(lambda repository: fn(repository, *args, **kwargs), is_write=True)
        return result

    async def _submit(self, work: Callable[[Repository], Any], *, is_write: bool = False) -> Any:
        return await self._wait(self._thread.submit(work, is_write=is_write), self._call_timeout_s)

    async def _wait(self, future: Future[T], timeout_s: float) -> T:
        waiter = asyncio.wrap_future(future)
        outcome = "unknown"
        try:
            done, _ = await asyncio.wait({waiter}, timeout=timeout_s)
        finally:
            if not waiter.done():
                outcome = "nothing was done" if future.cancel() else "the outcome is unknown"
                waiter.cancel()
        if done:
            return waiter.result()
        raise StoreError(f"The database did not answer within {timeout_s:g} s: {outcome}.")
