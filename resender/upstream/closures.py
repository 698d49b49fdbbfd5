"""Remembers over restarts which weight pools are closed: a ban is not forgotten by a new start.

Where it is kept is handed in. `Closures` owns at most one task that saves.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from resender.aio import Clock, Tasks
from resender.core.egress.governor import Governor
from resender.errors import StoreError

logger = logging.getLogger("resender.gateway")

# Under which name the store keeps them.
CLOSED_KEY = "egress_closed"


class Closures:
    """Loads and saves the closed pools of a `Governor`."""

    def __init__(
        self,
        governor: Governor,
        load: Callable[[], Awaitable[str | None]],
        save: Callable[[str], Awaitable[None]],
        *,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._governor = governor
        self._load = load
        self._save = save
        self._clock = clock
        self._tasks = tasks
        self._saving: asyncio.Task[None] | None = None
        self._is_due = False

    async def load(self) -> None:
        """Take over the bans and pauses that the last process knew of."""
        try:
            rows = json.loads(await self._load() or "[]")
        except ValueError:
            rows = []
        if not isinstance(rows, list):
            return
        rows = [row for row in rows if isinstance(row, dict)]
        count = self._governor.load(rows, self._clock.mono(), self._clock.now_ms())
        if count:
            logger.warning("%d weight pools stay closed: a ban or pause from before the restart lasts", count)

    def changed(self) -> None:
        """Save soon: a pool was closed."""
        if self._saving is None or self._saving.done():
            self._saving = self._tasks.spawn(self._write(), name="egress-save")
        else:
            self._is_due = True

    async def save_last(self) -> None:
        """A ban that came at the very end must not be forgotten either."""
        if any(egress.closed for egress in self._governor.egresses):
            await self._write()

    async def _write(self) -> None:
        self._is_due = True
        while self._is_due:
            self._is_due = False
            rows = self._governor.dump(self._clock.mono(), self._clock.now_ms())
            try:
                await self._save(json.dumps(rows))
            except StoreError as error:
                logger.error("closed weight pools could not be saved: %s", error)
