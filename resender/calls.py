"""The clients' calls under way, and whether new ones are taken."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from resender.aio import Tasks

logger = logging.getLogger("resender.gateway")


class Calls:
    """Calls in flight, each a task of its own.

    Shape: `is_open` tells that new calls are taken; `in_flight` is counted by who takes them.
    """

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.is_open = False
        self.in_flight = 0
        # Calls of which another worker is asked whether it holds the answer.
        self.asked: set[asyncio.Future[Any]] = set()

    async def drain(self, longest_s: float) -> None:
        """Take no new calls and wait for those in flight.

        A call that takes longer is cut off and answered that its outcome is unknown.
        """
        self.is_open = False
        if self.asked:
            await asyncio.wait(self.asked, timeout=longest_s)
        left = await self.tasks.join(longest_s)
        if left:
            logger.warning("%d calls did not end within %g s and are cut off", left, longest_s)
            await self.tasks.cancel()
