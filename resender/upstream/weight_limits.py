"""Learns the weight limits of each pool from exchangeInfo, whoever reads it.

The market cache reads it anyway for the markets it follows and tells what it found; for the others
the cheapest exchangeInfo is read once the market has told a used weight, and every few hours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson

from resender.aio import Tasks
from resender.core.binance.endpoints import LIMITS
from resender.core.binance.markets import Market
from resender.core.egress.budget import MINUTE_MS
from resender.core.weights.table import POOL_OF, read_rate_limits
from resender.errors import AnswerError
from resender.upstream.dispatch import Dispatch

logger = logging.getLogger("resender.gateway")

_EVERY_S = 6 * 3600.0
_RETRY_S = 600.0


class WeightLimits:
    """Follows the limits of all pools.

    Shape: `is_followed(market)` tells that somebody else reads the market's exchangeInfo.
    """

    def __init__(
        self, dispatch: Dispatch, tasks: Tasks, is_followed: Callable[[Market], bool] = lambda market: False
    ) -> None:
        self._dispatch = dispatch
        self._governor = dispatch.egress.governor
        self._tasks = tasks
        self._is_followed = is_followed

    def note(self, market: Market, limit: int) -> None:
        """Take the limit of one address that an exchangeInfo told."""
        self._governor.set_limit(POOL_OF[market], limit)

    def learn(self, market: Market) -> None:
        """A market has told its used weight for the first time: ask for its limit once too."""
        pool = POOL_OF[market]
        if pool in LIMITS and not any(name == f"limits-learn:{pool}" for name in self._tasks.names()):
            self._tasks.spawn(self._follow(pool), name=f"limits-learn:{pool}")

    async def _follow(self, pool: str) -> None:
        sources = LIMITS[pool]
        while True:
            served = [source for source in sources if source[0] in self._dispatch.egress.markets]
            market, target = (served or sources)[0]
            wait_s = _EVERY_S
            if not self._is_followed(market):
                wait_s = _EVERY_S if await self._read(market, target) else _RETRY_S
            await asyncio.sleep(wait_s)

    async def _read(self, market: Market, target: str) -> bool:
        try:
            fetched = await self._dispatch.fetch(market, target)
            info = orjson.loads(fetched.body) if fetched.status == 200 else {}
        except (AnswerError, ValueError) as error:
            logger.info("%s: its limits cannot be read: %s", market, error)
            return False
        for limit in read_rate_limits(info):
            is_ours = limit.window_ms in (self._governor.window_ms, MINUTE_MS)
            if limit.kind == "REQUEST_WEIGHT" and is_ours:
                self.note(market, limit.limit)
                return True
        return False
