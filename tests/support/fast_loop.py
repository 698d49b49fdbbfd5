"""An event loop on which waiting takes no time: when nothing is left to do it goes to the next timer.

Its own time moves on as if everything had been waited for, so `Clock(mono=loop.time)` and every `sleep`
agree. What runs in a thread is waited for, and no time passes meanwhile; sockets are not for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any


class FastLoop(asyncio.SelectorEventLoop):
    """The loop. Its time begins at 1000 and knows nothing of the machine's."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0
        self._threads = 0

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: object) -> None:
        self._threads -= 1

    def _run_once(self) -> None:
        if not self._ready and self._scheduled and not self._threads:
            self._now = max(self._now, self._scheduled[0]._when)
        super()._run_once()


def factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return what the hook `pytest_asyncio_loop_factories` of a conftest.py returns."""
    return {"fast": FastLoop}
