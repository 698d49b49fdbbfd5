"""The way of an account's events to its streams: in order, a moment after what they tell of.

`UserFeed` owns the queue of each market and applies the faults of accounts. The doors (stream
hubs, WebSocket APIs) register in `doors` and write what they are given. It needs a running event
loop; without one (in unit tests) events only reach `told`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from resender.core.binance.markets import Market

from .account_faults import AccountFaults

Event = dict[str, Any]
Door = Callable[[Market, str, Event], None]
_KEPT = 20_000


class UserFeed:
    """All events of all accounts."""

    def __init__(self, faults: dict[Market, AccountFaults], delay_ms: float) -> None:
        self.doors: list[Door] = []
        # Every event made, lost ones too: market, account, event.
        self.told: deque[tuple[Market, str, Event]] = deque(maxlen=_KEPT)
        self._faults = faults
        self._delay_ms = delay_ms
        self._queues: dict[Market, deque[tuple[float, str, Event]]] = {m: deque() for m in Market}
        self._timers: dict[Market, asyncio.TimerHandle] = {}

    def tell(self, market: Market, account: str, event: Event) -> None:
        """Take an event in."""
        self.told.append((market, account, event))
        faults = self._faults[market]
        if faults.loses(event):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        due = loop.time() + (self._delay_ms + faults.delay_ms) / 1000
        queue = self._queues[market]
        if queue:
            due = max(due, queue[-1][0])
        for _ in range(2 if faults.twice else 1):
            queue.append((due, account, event))
        if market not in self._timers:
            self._timers[market] = loop.call_at(due, self._pass, market)

    def _pass(self, market: Market) -> None:
        loop, queue = asyncio.get_running_loop(), self._queues[market]
        del self._timers[market]
        # The timer may be early by the clock's resolution.
        now = loop.time() + 0.001
        while queue and queue[0][0] <= now:
            _, account, event = queue.popleft()
            if not self._faults[market].silent:
                for door in self.doors:
                    door(market, account, event)
        if queue:
            self._timers[market] = loop.call_at(queue[0][0], self._pass, market)

    def stop(self) -> None:
        """Forget what is still on its way."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for queue in self._queues.values():
            queue.clear()
