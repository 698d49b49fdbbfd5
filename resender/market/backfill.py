"""Reading candles by REST: first ones, older ones, and what a lost stream may have missed.

One `Backfill` serves all series of one weight pool, most wanted first, within the share of the
pool's weight that own reads may use. It does not decide which series exist and talks to no
stream. How to fetch is handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

import orjson

from resender.aio import Backoff, Clock, Tasks
from resender.core.binance.intervals import candles_between
from resender.core.binance.markets import Market
from resender.core.market.candles import Candle, parse_rows
from resender.core.market.costs import WeightShare, cheapest_piece, kline_weight
from resender.core.market.klines import KlineSeries
from resender.core.market.requests import MAX_LIMIT
from resender.core.market.server_clock import ServerClock
from resender.errors import AnswerError, EgressExhausted
from resender.market.series import KeptKlines

logger = logging.getLogger("resender.market")

KLINE_PATH: dict[Market, str] = {
    Market.SPOT: "/api/v3/klines",
    Market.UM: "/fapi/v1/klines",
    Market.CM: "/dapi/v1/klines",
}
_AT_ONCE = 4
_DAY_MS = 86_400_000
# COIN-M looks back 200 days from endTime, so a short answer there need not be the listing.
_CM_WINDOW_MS = 200 * _DAY_MS
_MAX_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer to one of the gateway's own reads: names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Fetch = Callable[[Market, str], Awaitable[Fetched]]


class ReadFailed(Exception):
    """An own read brought nothing; the text is for the log."""


def retry_after_ms(fetched: Fetched) -> int:
    """Return the pause a 429 or 418 asks for; a minute if it says nothing."""
    text = fetched.headers.get("retry-after", "")
    return max(1, int(text) if text.isdigit() and len(text) < 10 else 60) * 1000


class Reader:
    """Makes own reads of one pool: counts their weight, notices limits."""

    def __init__(self, fetch: Fetch, share: WeightShare, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self.share = share

    async def get(self, market: Market, target: str) -> bytes:
        """Read one target; its weight is reserved already.

        Raises: ReadFailed if there is no usable answer.
        """
        try:
            fetched = await self._fetch(market, target)
        except EgressExhausted as error:
            # The clients need the weight, or a ban lasts: own reads come last.
            self.share.close(self._clock.mono() + error.retry_after_s)
            raise ReadFailed(error.msg) from None
        except AnswerError as error:
            raise ReadFailed(error.msg) from None
        if fetched.status in (418, 429):
            pause_ms = retry_after_ms(fetched)
            self.share.close(self._clock.mono() + pause_ms / 1000)
            logger.warning(
                "%s answers %d: own reads pause for %d s", market, fetched.status, pause_ms // 1000
            )
        if fetched.status != 200:
            raise ReadFailed(f"HTTP {fetched.status}: {fetched.body[:120].decode('utf-8', 'replace')}")
        return fetched.body

    async def klines(
        self, entry: KeptKlines, limit: int, server_ms: int, end_ms: int | None = None
    ) -> list[Candle]:
        """Read the latest rows of a series, or the latest up to a time.

        Raises: ReadFailed.
        """
        symbol = quote(entry.symbol, safe="")
        target = f"{KLINE_PATH[entry.market]}?symbol={symbol}&interval={entry.interval}&limit={limit}"
        if end_ms is not None:
            target += f"&endTime={end_ms}"
        body = await self.get(entry.market, target)
        try:
            return parse_rows(orjson.loads(body), entry.interval, orjson.dumps, made_ms=server_ms)
        except ValueError as error:
            raise ReadFailed(str(error)) from None


class Backfill:
    """The queue of one pool."""

    def __init__(
        self,
        name: str,
        reader: Reader,
        entries: Callable[[], Iterable[KeptKlines]],
        server_clock: Callable[[Market], ServerClock],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self.name = name
        self._reader = reader
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
                entry, wait_s = self._next()
            except BaseException:
                self._slots.release()
                raise
            if entry is None:
                self._slots.release()
                self._wake.clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
                continue
            entry.is_reading = True
            self._tasks.spawn(self._fill(entry), name=f"backfill-read:{entry.symbol}@{entry.interval}")

    def _next(self) -> tuple[KeptKlines | None, float]:
        """Choose the most wanted series that lacks something and whose read fits the weight."""
        now_mono = self._clock.mono()
        best: KeptKlines | None = None
        best_rank: tuple[int, int] = (-1, -1)
        wait_s = _MAX_PAUSE_S
        for entry in self._entries():
            if entry.is_reading or not entry.is_live or (entry.series.is_synced and entry.is_filled):
                continue
            if entry.not_before_mono > now_mono:
                wait_s = min(wait_s, entry.not_before_mono - now_mono)
                continue
            rank = (0 if entry.series.is_synced else 1, entry.hits + entry.misses.total())
            if rank > best_rank:
                best, best_rank = entry, rank
        if best is None:
            return None, wait_s
        now_ms = self._server_clock(best.market).now_ms(now_mono)
        weight = kline_weight(best.market, self._limit(best, now_ms))
        # What was live before, or what a client asked for, comes before the rules' first rows.
        is_urgent = not best.series.is_synced and (best.series.last_final is not None or not best.is_preload)
        if not self._reader.share.take(weight, now_ms, now_mono, is_urgent=is_urgent):
            return None, min(_MAX_PAUSE_S, max(0.05, self._reader.share.wait_s(now_ms, now_mono)))
        return best, 0.0

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

    async def _fill(self, entry: KeptKlines) -> None:
        try:
            await self._fill_one(entry)
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

    async def _fill_one(self, entry: KeptKlines) -> None:
        series = entry.series
        now_ms = self._server_clock(entry.market).now_ms(self._clock.mono())
        limit = self._limit(entry, now_ms)
        epoch = series.epoch if entry.is_live else None
        if not series.is_synced:
            candles = await self._reader.klines(entry, limit, now_ms)
            self.rows_read += len(candles)
            if entry.series is not series:
                return
            if series.contradicts(candles, now_ms):
                # Saved under another exchange, or damaged in a way no checksum shows.
                logger.warning("%s %s %s: what was held is not what the exchange says", *entry.key)
                self._start_over(entry)
                return
            if not series.apply_read(candles, now_ms, epoch=epoch, is_whole=len(candles) < limit):
                self._widen(entry, limit)
            elif series.is_whole or len(series) >= series.depth:
                entry.is_filled = True
            entry.wake()
            return
        first = series.first_open
        if first is None or series.is_whole or len(series) >= series.depth:
            entry.is_filled = True
            return
        candles = await self._reader.klines(entry, limit, now_ms, first - 1)
        self.rows_read += len(candles)
        if entry.series is not series or series.first_open != first:
            return
        is_whole = len(candles) < limit
        if is_whole and entry.market is Market.CM:
            earliest = candles[0].open_time if candles else first
            is_whole = earliest - (first - 1 - _CM_WINDOW_MS) > 35 * _DAY_MS
        taken = series.prepend(candles, now_ms, is_whole=is_whole)
        # The newest of them may not be over yet for certain (candles of a second): then once more.
        is_early = bool(candles) and candles[-1].close_time + series.final_after_ms > now_ms
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
        entry.series = KlineSeries(entry.interval, old.depth, old.final_after_ms)
        entry.series.version = old.version + 1
        entry.identity = object()
        entry.sync_limit = 0
        entry.is_filled = False
