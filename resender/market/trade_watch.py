"""The second source of a market: one witness of all trades for every kind, kept alive.

It decides nothing about a series; kinds listen and ask `witness`. Owned by the market and touched on the
event loop only. What the witness is: `witness.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from resender.aio import Backoff, Clock, Tasks, end_tasks
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS
from resender.market.witness import ServedFeed, TradeWitness

logger = logging.getLogger("resender.market")

WITNESS_ROLE = "witness"  # the role of its feed: a connection of its own
_SILENCE_S = 10.0
_MAX_S = 600.0

OnTraded = Callable[[str, int, str], None]


class TradeWatch:
    """The witness of one market and its stream.

    Units: `quiet_s` seconds, see `StreamPool.shift`.
    """

    def __init__(
        self,
        market: Market,
        feed: ServedFeed,
        *,
        quiet_s: float,
        latest_ms: Callable[[], int | None],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._market = market
        self._quiet_s = quiet_s
        self._tasks = tasks
        self._listeners: tuple[OnTraded, ...] = ()
        self._watching: asyncio.Task[None] | None = None
        self.feed = feed
        self.witness = TradeWitness(self._on_traded, clock, latest_ms)
        # How often it was found mute.
        self.mutes = 0

    def start(self) -> None:
        self._watching = self._tasks.spawn(self._watch(), name=f"witness-watch:{self._market}")

    async def stop(self) -> None:
        if self._watching is not None:
            await end_tasks([self._watching])

    def listen(self, on_traded: OnTraded) -> None:
        """Be told of every symbol that trades: `on_traded(symbol, event_ms, price)`."""
        self._listeners = (*self._listeners, on_traded)

    def want(self) -> None:
        """Somebody needs it from now on; later calls do nothing."""
        self.witness.start(self.feed)

    def _on_traded(self, symbol: str, event_ms: int, price: str) -> None:
        for on_traded in self._listeners:
            on_traded(symbol, event_ms, price)

    async def _watch(self) -> None:
        """The witness' own stream may fall mute like any other: then it is moved, too."""
        await self.feed.start()
        backoff = Backoff(_SILENCE_S, _MAX_S)
        while True:
            await asyncio.sleep(backoff.next_s())
            if self.witness.silent_s() < _SILENCE_S:
                backoff.reset()
            elif self.feed.proof_mono(MINI_TICKERS) is not None:
                self.mutes += 1
                logger.warning("%s: %s brings nothing; it is subscribed again", self._market, MINI_TICKERS)
                self.feed.shift(MINI_TICKERS, self._quiet_s)
