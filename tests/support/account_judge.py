"""Judges answers about open orders that came out of memory: each has to have been true while it was asked for.

A `Trader` changes the orders of one market, through the gateway and behind its back, and asks all the while;
what it saw is judged afterwards by what the exchange knows of every moment. One belongs to one test.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from resender.core.binance.markets import Market
from tests.support.account_lab import OPEN_ORDERS, ORDER, AccountLab, is_hit
from tests.support.client import Reply

SYMBOLS = {
    Market.SPOT: ("BTCUSDT", "ETHUSDT"),
    Market.UM: ("BTCUSDT", "ETHUSDT"),
    Market.CM: ("BTCUSD_PERP", "ETHUSD_PERP"),
}
_QUANTITIES = {Market.SPOT: "0.02", Market.UM: "0.02", Market.CM: "2"}
_PARTS = {Market.SPOT: "0.01", Market.UM: "0.01", Market.CM: "1"}
# How long after a silence began the last answer may come: what is not heard from for so long proves nothing.
PROOF_MS = 3000
# Exchange, gateway and client share one loop here: events may wait for their turn behind a call.
_LOOP_MS = 150
_MOST_OPEN = 12


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer out of memory. Units: epoch milliseconds; `floor_ms` when the last own write of it had its answer."""

    symbol: str | None
    start_ms: int
    end_ms: int
    floor_ms: int
    body: bytes


def now_ms() -> int:
    return int(time.time() * 1000)


class Trader:
    """A bot and its market.

    Shape: `late_ms` is how old an answer may be, `is_outside` whether orders are filled behind its back.
    """

    def __init__(self, lab: AccountLab, market: Market, seed: int = 1, *, is_outside: bool = True) -> None:
        self.lab = lab
        self.market = market
        self.late_ms = 0.0
        self.is_outside = is_outside
        self.seen: list[Seen] = []
        self.misses: dict[str, int] = {}
        self.hits = 0
        self.last: Reply | None = None
        self.writes = 0
        # When the last own write had its answer, by symbol.
        self._floors: dict[str, int] = {}
        # A cancellation alone may be lost on Python 3.11: `wait_for` swallows one that comes with the result.
        self._is_over = False
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Trader:
        self._tasks = [
            asyncio.create_task(work(), name=f"trader:{self.market}") for work in (self._ask, self._trade)
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        for found in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(found, Exception):
                raise found

    # --- what it does ----------------------------------------------------------------------

    async def _ask(self) -> None:
        number = 0
        while not self._is_over:
            number += 1
            symbol = SYMBOLS[self.market][0] if number % 5 == 0 else None
            reply = await self.ask(symbol)
            # What is no hit costs weight: who asks too often is refused.
            await asyncio.sleep(0.03 if is_hit(reply) else 0.4)

    async def ask(self, symbol: str | None = None) -> Reply:
        """Ask once and keep what is to be judged."""
        floors = [at for name, at in self._floors.items() if symbol in (None, name)]
        floor_ms, start_ms = max(floors, default=0), now_ms()
        params = {} if symbol is None else {"symbol": symbol}
        reply = self.last = await self.lab.signed("GET", OPEN_ORDERS[self.market], **params)
        assert reply.status == 200, reply.raw
        if is_hit(reply):
            self.hits += 1
            self.seen.append(Seen(symbol, start_ms, now_ms(), floor_ms, reply.body))
        else:
            reason = reply.header("X-Resender-Cache") or "nothing"
            self.misses[reason] = self.misses.get(reason, 0) + 1
        return reply

    def price(self, symbol: str) -> str:
        """Return a price at which a buy rests."""
        spec = self.lab.sandbox.exchange.spec(self.market, symbol)
        assert spec is not None
        ticker = self.lab.sandbox.market(self.market).book_ticker(symbol, self.lab.sandbox.exchange.now())
        return f"{float(ticker.bid) * self._random.uniform(0.7, 0.9):.{spec.price_decimals}f}"

    async def _trade(self) -> None:
        while not self._is_over:
            await self.step()
            await asyncio.sleep(self._random.uniform(0.02, 0.25))

    async def step(self) -> None:
        """Change something: place or cancel, or have the exchange fill or end an order."""
        exchange, account = self.lab.sandbox.exchange, self.lab.sandbox.accounts.of(self.lab.key).name
        found = exchange.desk.open_orders(self.market, account)
        choice = self._random.random()
        if not found or (choice < 0.5 and len(found) < _MOST_OPEN):
            symbol = self._random.choice(SYMBOLS[self.market])
            await self.lab.place(
                self.market, symbol, quantity=_QUANTITIES[self.market], price=self.price(symbol)
            )
            self._wrote(symbol)
            return
        order = self._random.choice(found)
        if choice < 0.75 or not self.is_outside:
            reply = await self.lab.signed(
                "DELETE", ORDER[self.market], symbol=order.symbol, orderId=order.order_id
            )
            assert reply.status == 200, reply.raw
            self._wrote(order.symbol)
        elif choice < 0.85 and not order.executed:
            exchange.fill(order, _PARTS[self.market])
        elif choice < 0.95:
            exchange.fill(order)
        else:
            exchange.expire(order)

    def _wrote(self, symbol: str) -> None:
        self.writes += 1
        self._floors[symbol] = now_ms()

    # --- what is to be seen ----------------------------------------------------------------

    async def until_hits(self, count: int = 5, seconds: float = 30.0) -> None:
        """Wait until answers come out of memory, some in a row's time."""
        wanted, end = self.hits + count, time.monotonic() + seconds
        while self.hits < wanted:
            self.check_running()
            states = [account.state() for account in self.lab.gateway.accounts.all]
            assert time.monotonic() < end, (self.market, self.misses, states)
            await asyncio.sleep(0.05)

    async def until_miss(self, seconds: float = 15.0) -> None:
        """Wait until an answer has to be fetched."""
        before, end = sum(self.misses.values()), time.monotonic() + seconds
        while sum(self.misses.values()) == before:
            self.check_running()
            assert time.monotonic() < end, f"{self.market}: everything is a hit"
            await asyncio.sleep(0.05)

    def check_running(self) -> None:
        """Raise what ended one of the two halves."""
        for task in self._tasks:
            if task.done():
                task.result()

    def check(self, late_ms: float | None = None) -> None:
        """Assert of every answer out of memory that it was true at some moment while it was asked for.

        Units: `late_ms` is how far before the question that may have been, without the event's own way.
        """
        exchange = self.lab.sandbox.exchange
        delay_ms = exchange.config.event_delay_ms + _LOOP_MS + (self.late_ms if late_ms is None else late_ms)
        histories: dict[str | None, dict[bytes, list[tuple[int, int]]]] = {}
        for symbol in {each.symbol for each in self.seen}:
            states = exchange.open_orders_history(self.market, self.lab.key, symbol)
            ends = [start for start, _ in states[1:]] + [1 << 62]
            found = histories[symbol] = {}
            for (start, body), end in zip(states, ends, strict=True):
                found.setdefault(body, []).append((start, end))
        for each in self.seen:
            spans = histories[each.symbol].get(each.body)
            assert spans is not None, f"{self.market}: never true: {each}"
            least = max(each.start_ms - delay_ms, each.floor_ms)
            assert any(start <= each.end_ms and end >= least for start, end in spans), (
                f"{self.market}: not true at its time: {each} {spans} least {least}"
            )
