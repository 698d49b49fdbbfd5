"""An event loop on which waiting takes no time: when nothing is left to do it goes to the next timer.

Its own time moves on as if everything had been waited for, so `Clock(mono=loop.time)` and every `sleep`
agree. Only for what does not wait for anything outside, such as sockets or threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping


class FastLoop(asyncio.SelectorEventLoop):
    """The loop. Its time begins at 1000 and knows nothing of the machine's."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0]._when)
        super()._run_once()


def factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return what the hook `pytest_asyncio_loop_factories` of a conftest.py returns."""
    return {"fast": FastLoop}
