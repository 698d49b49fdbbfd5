"""Remembers over restarts how many stream connections were opened: the venue counts them all the same.

Where it is kept is handed in. `Connects` owns the budgets of all pools and at most one task that saves.
Source: web-socket-streams.md of 2026-07-21: 300 connections in 5 minutes for an address.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from resender.aio import Clock, Tasks
from resender.core.binance.stream_pacing import CONNECT_WINDOW_S
from resender.core.window_budget import WindowBudget
from resender.errors import StoreError

logger = logging.getLogger("resender.upstream")

# Under which name the store keeps them.
CONNECTS_KEY = "stream_connects"
# Connections come in bursts, each of which is saved once.
_SAVE_S = 0.5


class Connects:
    """The connect budgets of all stream pools, by the pool's name."""

    def __init__(
        self,
        load: Callable[[], Awaitable[str | None]],
        save: Callable[[str], Awaitable[None]],
        *,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._load = load
        self._save = save
        self._clock = clock
        self._tasks = tasks
        self._budgets: dict[str, WindowBudget] = {}
        self._before: dict[str, list[float]] = {}
        self._saving: asyncio.Task[None] | None = None
        self._is_due = False

    def budget(self, name: str, limit: int) -> WindowBudget:
        """Return the budget of a pool; what was opened before the start counts too."""
        budget = self._budgets.get(name)
        if budget is None:
            budget = self._budgets[name] = WindowBudget(limit, CONNECT_WINDOW_S, self._changed)
            budget.restore(self._before.pop(name, ()))
        return budget

    async def load(self) -> None:
        """Take over what the last process opened in the last minutes."""
        mono, now_ms = self._clock.mono(), self._clock.now_ms()
        try:
            found = json.loads(await self._load() or "{}")
        except ValueError:
            found = {}
        if not isinstance(found, dict):
            return
        for name, times in found.items():
            if not isinstance(times, list):
                continue
            # One that lies ahead was written by a clock that was wrong: it counts from now.
            ages_s = [max(0.0, (now_ms - each) / 1000) for each in times if type(each) is int]
            recent = [mono - age_s for age_s in ages_s if age_s < CONNECT_WINDOW_S]
            if name in self._budgets:
                self._budgets[name].restore(recent)
            elif recent:
                self._before[name] = recent

    def _changed(self) -> None:
        self._is_due = True
        if self._saving is None or self._saving.done():
            self._saving = self._tasks.spawn(self._write_soon(), name="connects-save")

    async def _write_soon(self) -> None:
        while self._is_due:
            await asyncio.sleep(_SAVE_S)
            await self._write()

    async def save_last(self) -> None:
        """What was opened at the very end counts like the rest."""
        if self._is_due:
            await self._write()

    async def _write(self) -> None:
        self._is_due = False
        mono, now_ms = self._clock.mono(), self._clock.now_ms()
        found = {
            name: [now_ms - round((mono - each) * 1000) for each in budget.times(mono)]
            for name, budget in self._budgets.items()
        }
        try:
            await self._save(json.dumps(found))
        except StoreError as error:
            logger.error("the stream connections opened lately could not be saved: %s", error)
        except BaseException:
            self._is_due = True
            raise
