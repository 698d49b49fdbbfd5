"""Reading candles by REST: first ones, older ones, and what a lost stream may have missed.

One `Backfill` serves all series of one weight pool, most wanted first, within the share of the
pool's weight that own reads may use. It does not decide which series exist and talks to no
stream. How to fetch is handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from resender.aio import Backoff, Clock, Tasks, within
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.intervals import candles_between
from resender.core.binance.markets import Market
from resender.core.market.costs import cheapest_piece
from resender.core.market.klines import KlineSeries
from resender.core.market.requests import MAX_LIMIT
from resender.market.close_pause import PauseS, no_pause
from resender.market.kline_reads import kline_target, read_klines
from resender.market.reader import Reader, ReadFailed
from resender.market.series import KeptKlines

logger = logging.getLogger("resender.market")

_AT_ONCE = 4
_DAY_MS = 86_400_000
# COIN-M looks back 200 days from endTime, so a short answer there need not be the listing.
_CM_WINDOW_MS = 200 * _DAY_MS
_MAX_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """One read that is about to be made.

    Shape: `epoch` as `KlineSeries.apply_read` wants it; `end_ms` is set for older rows.
    """

    limit: int
    target: str
    made_ms: int
    epoch: int | None
    end_ms: int | None
    permit: Any


def _is_urgent(kept: KeptKlines) -> bool:
    """Tell what comes first: what was live before, and what a client asked for, before the rules' first rows."""
    return not kept.series.is_synced and (kept.series.last_final is not None or not kept.is_preload)


class Backfill:
    """The queue of one pool."""

    def __init__(
        self,
        name: str,
        readers: Mapping[Market, Reader],
        entries: Callable[[], Iterable[KeptKlines]],
        server_clock: Callable[[Market], ExchangeClock],
        clock: Clock,
        tasks: Tasks,
        pause_s: PauseS = no_pause,
        on_read: Callable[[KeptKlines, int], None] = lambda kept, last_close: None,
    ) -> None:
        self._pause_s = pause_s
        # Told of each read of the latest rows, and of the newest closed row before it.
        self._on_read = on_read
        self.name = name
        self._readers = readers
        self._entries = entries
        self._server_clock = server_clock
        self._clock = clock
        self._tasks = tasks
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._task: asyncio.Task[None] | None = None
        self.rows_read = 0

    def start(self) -> None:
        if self._task is None:
            self._task = self._tasks.spawn(self._run(), name=f"backfill-run:{self.name}")

    def queued(self) -> int:
        """Return how many series still lack something."""
        return sum(not (entry.series.is_synced and entry.is_filled) for entry in self._entries())

    def wake(self) -> None:
        """There may be something to read."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._slots.acquire()
            try:
                entry, plan, wait_s = self._next()
            except BaseException:
                self._slots.release()
                raise
            if entry is None or plan is None:
                self._slots.release()
                self._wake.clear()
                with suppress(asyncio.TimeoutError):
                    await within(self._wake.wait(), wait_s)
                continue
            entry.is_reading = True
            self._tasks.spawn(self._fill(entry, plan), name=f"backfill-read:{entry.symbol}@{entry.interval}")

    def _next(self) -> tuple[KeptKlines | None, _Plan | None, float]:
        """Choose the most wanted series that lacks something and whose read fits the weight."""
        now_mono = self._clock.mono()
        best: KeptKlines | None = None
        best_rank = (-1, -1, -1)
        wait_s = _MAX_PAUSE_S
        pause_s = self._pause_s()
        for entry in self._entries():
            if entry.is_reading or not entry.is_live or (entry.series.is_synced and entry.is_filled):
                continue
            if entry.not_before_mono > now_mono:
                wait_s = min(wait_s, entry.not_before_mono - now_mono)
                continue
            if pause_s and entry.series.is_synced and not entry.final_waiters:
                wait_s = min(wait_s, pause_s)  # older rows come when no candle closes
                continue
            wanted = entry.hits + entry.misses.total()
            rank = (int(not entry.series.is_synced), int(_is_urgent(entry)), wanted)
            if rank > best_rank:
                best, best_rank = entry, rank
        if best is None:
            return None, None, wait_s
        series = best.series
        now_ms = self._server_clock(best.market).now_ms(now_mono)
        limit = self._limit(best, now_ms)
        first = series.first_open
        if series.is_synced and (first is None or series.is_whole or len(series) >= series.depth):
            best.is_filled = True
            return None, None, 0.0
        end_ms = first - 1 if series.is_synced and first is not None else None
        target = kline_target(best, limit, end_ms)
        try:
            permit = self._readers[best.market].admit(target, is_urgent=_is_urgent(best))
        except ReadFailed as error:
            return None, None, min(_MAX_PAUSE_S, max(0.05, error.retry_after_s))
        return best, _Plan(limit, target, now_ms, series.epoch, end_ms, permit), 0.0

    def _limit(self, entry: KeptKlines, now_ms: int) -> int:
        """Return how many rows the next read of a series asks for."""
        series, most = entry.series, MAX_LIMIT[entry.market]
        if series.is_synced:
            return min(most, cheapest_piece(entry.market, series.depth - len(series)))
        last = series.last_final
        if last is None:
            return min(most, cheapest_piece(entry.market, series.depth))
        missing = candles_between(entry.interval, last, now_ms) + 2
        return min(most, max(missing, entry.sync_limit))

    async def _fill(self, entry: KeptKlines, plan: _Plan) -> None:
        try:
            await self._fill_one(entry, plan)
            entry.failures = 0
        except ReadFailed as error:
            entry.failures += 1
            backoff = Backoff(first_s=min(30.0, 0.5 * 2**entry.failures), cap_s=_MAX_PAUSE_S)
            entry.not_before_mono = self._clock.mono() + backoff.next_s()
            if entry.failures in (1, 5, 25):
                logger.warning("%s %s %s cannot be read: %s", *entry.key, error)
        finally:
            entry.is_reading = False
            self._slots.release()
            self._wake.set()

    async def _fill_one(self, entry: KeptKlines, plan: _Plan) -> None:
        series, limit, made_ms = entry.series, plan.limit, plan.made_ms
        first = series.first_open
        candles = await read_klines(self._readers[entry.market], entry, plan.target, made_ms, plan.permit)
        self.rows_read += len(candles)
        if entry.series is not series:
            return
        if plan.end_ms is None:
            last_close = series.last_close
            if series.contradicts(candles, made_ms):
                # Saved under another exchange, or damaged in a way no checksum shows.
                logger.warning("%s %s %s: what was held is not what the exchange says", *entry.key)
                self._start_over(entry)
                return
            if not series.apply_read(candles, made_ms, epoch=plan.epoch, is_whole=len(candles) < limit):
                self._widen(entry, limit)
            elif series.is_whole or len(series) >= series.depth:
                entry.is_filled = True
            if entry.series is series:
                self._on_read(entry, last_close)
            entry.wake()
            return
        if series.first_open != first:
            return
        is_whole = len(candles) < limit
        if is_whole and entry.market is Market.CM:
            earliest = candles[0].open_time if candles else plan.end_ms
            is_whole = earliest - (plan.end_ms - _CM_WINDOW_MS) > 35 * _DAY_MS
        taken = series.prepend(candles, made_ms, is_whole=is_whole)
        # The newest of them may not be over yet for certain (candles of a second): then once more.
        is_early = bool(candles) and candles[-1].close_time + series.final_after_ms > made_ms
        is_over = not taken and not is_early
        entry.is_filled = series.is_whole or is_over or len(series) >= series.depth

    def _widen(self, entry: KeptKlines, limit: int) -> None:
        """The read did not reach back to what is held: ask for more, or start over."""
        most = MAX_LIMIT[entry.market]
        if limit < most:
            entry.sync_limit = min(most, limit * 4)
            return
        self._start_over(entry)

    def _start_over(self, entry: KeptKlines) -> None:
        old = entry.series
        entry.series = KlineSeries(entry.interval, old.depth, old.final_after_ms, old.closed.changes)
        old.closed.changes.count += 1
        entry.series.version = old.version + 1
        entry.identity = object()
        entry.sync_limit = 0
        entry.is_filled = False
