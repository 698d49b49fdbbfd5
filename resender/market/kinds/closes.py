"""Waiting for a close: rows up to the last candle that is over, as soon as that one is final.

A closed row never changes, so what is answered here needs no fresh stream: it needs the row of the
candle that has just closed. Whoever waits is woken by that row; REST is read only for those somebody
waits for, and only when the event is overdue. It keeps nothing; `Klines` owns what is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from resender.core.binance.intervals import INTERVAL_MS, next_open
from resender.core.binance.markets import Market
from resender.core.market.row_store import Buffer
from resender.market.freshness import settles_quiet_soon
from resender.market.kinds.klines import Klines
from resender.market.series import FinalWaiter, KeptKlines
from resender.turns import next_turn

# A call so shortly before a close means that close.
EARLY_MS = 250
MAX_WAIT_MS = 8000
# How long after a close the event is awaited before REST is read, where somebody waits.
# Source: hours of September and October 2026: finals of plain USD-M streams come up to 3,002 ms late.
_EVENT_MS = 500
_PLAIN_UM_EVENT_MS = 3200
# By so long after a close the witness has spoken of all that was traded before it.
_WITNESS_MS = 3500
_LOOK_S = 0.25
_SLICE = 100
_NEVER_MS = 1 << 62
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """How long an answer of closed rows stays what it is.

    Shape: `changes` is the count of its series' changes. Units: epoch milliseconds of the exchange, from
        the latest close it is about until the next one of any of its series.
    """

    changes: int
    from_ms: int
    until_ms: int


@dataclass(slots=True)
class Closes:
    """What became of a call that wanted closed rows.

    Shape: `rows` by symbol, JSON arrays without their brackets and in pieces, of what is settled;
        `counts` how many; `pending` the reason of each that is not. Units: `close_ms` epoch milliseconds of
        the exchange: the latest close the call was about, 0 if nothing is known.
    """

    close_ms: int = 0
    rows: dict[str, list[Buffer]] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    pending: dict[str, str] = field(default_factory=dict)
    stamp: Stamp | None = None


def boundary_ms(interval: str, anchor_ms: int, now_ms: int) -> int:
    """Return the latest close that has passed.

    Shape: `anchor_ms` is a time at which a candle of this series opened.
    """
    length = INTERVAL_MS[interval]
    if 0 < length <= _DAY_MS:
        return now_ms // length * length  # also after a candle that ended early, off the grid
    if length:
        return anchor_ms + (now_ms - anchor_ms) // length * length
    while (following := next_open(interval, anchor_ms)) <= now_ms:
        anchor_ms = following
    return anchor_ms


def holds(klines: Klines, interval: str, stamp: Stamp, *, wait_ms: int = 0) -> bool:
    """Tell whether an answer made before is still what a call would get now."""
    if klines.changes[interval].count != stamp.changes or not klines.facts.server.is_set:
        return False
    now_ms = klines.facts.now_ms()
    return stamp.from_ms <= now_ms and now_ms + (EARLY_MS if wait_ms else 0) < stamp.until_ms


async def wait_for_closes(
    klines: Klines,
    symbols: Sequence[str],
    interval: str,
    *,
    limit: int,
    wait_ms: int = 0,
    since_ms: int | None = None,
) -> Closes:
    """Collect the closed rows of some series, waiting for the last close up to `wait_ms` after it."""
    call = _Call(klines, interval, limit, since_ms, EARLY_MS if wait_ms else 0)
    for symbol in symbols:
        call.add(symbol)
    if wait_ms:
        await call.wait(wait_ms)
    return await call.result()


class _Call:
    """One call: which series it wants, the close each has to reach, and those still missing."""

    def __init__(
        self, klines: Klines, interval: str, limit: int, since_ms: int | None, early_ms: int
    ) -> None:
        self._klines = klines
        self._facts = klines.facts
        self._interval = interval
        self._limit = limit
        self._since_ms = since_ms
        self._wanted: dict[str, KeptKlines] = {}
        self._close_ms: dict[str, int] = {}
        self._pending: dict[str, str] = {}
        self._waiter = FinalWaiter()
        self._changes = klines.changes[interval]
        # All of a call is judged by one moment: a close that comes meanwhile is the next call's.
        is_known = self._facts.server.is_set
        self._moment_ms = self._facts.now_ms() + early_ms if is_known else 0

    def add(self, symbol: str) -> None:
        kept = self._klines.kept.get((symbol, self._interval))
        if kept is None:
            self._pending[symbol] = self._klines.desk.begin(self._klines.market, symbol, self._interval)
            kept = self._klines.kept.get((symbol, self._interval))
            if kept is None:
                return
        kept.used_mono = self._klines.clock.mono()
        self._wanted[symbol] = kept

    def _due_ms(self, kept: KeptKlines) -> int | None:
        """Return the close a series has to reach, None if nothing of it is known yet."""
        last = kept.series.last_close
        if last < 0 or not kept.series.read_ms or not self._moment_ms:
            return None  # rows that were saved are told only once a read has confirmed them
        return boundary_ms(self._interval, last + 1, self._moment_ms)

    async def wait(self, wait_ms: int) -> None:
        if not self._moment_ms:
            return
        for kept in self._wanted.values():
            self._watch(kept)
        try:
            await self._wait(wait_ms)
        finally:
            self._waiter.leave()

    async def _wait(self, wait_ms: int) -> None:
        facts, loop = self._facts, asyncio.get_running_loop()
        begun_s = loop.time()
        latest_ms = max(self._close_ms.values(), default=facts.now_ms())
        while True:
            # Whatever happened to one that is only being read: it is looked at again.
            unread = [kept for kept in self._wanted.values() if self._is_unread(kept)]
            missing = list(self._waiter.missing.values())
            now_ms, waited_s = facts.now_ms(), loop.time() - begun_s
            is_early = now_ms < latest_ms
            left_ms = float(latest_ms + wait_ms - now_ms)
            if unread:
                # It is waited for as long as a close would be.
                left_ms = max(left_ms, wait_ms - waited_s * 1000)
            is_there = not missing and not is_early
            if is_there or left_ms <= 0 or waited_s > MAX_WAIT_MS / 1000:
                return
            step_s = min(_LOOK_S, left_ms / 1000)
            if is_early:
                await asyncio.sleep(min(step_s, (latest_ms - now_ms) / 1000))
                continue
            for kept in missing:
                self._settle(kept, latest_ms, now_ms)
            if self._waiter.missing:
                await self._waiter.wait(step_s)

    def _is_unread(self, kept: KeptKlines) -> bool:
        return kept.symbol not in self._close_ms and not kept.is_dropped and not self._watch(kept)

    def _watch(self, kept: KeptKlines) -> bool:
        """Wait for a series; return whether the close it has to reach is known."""
        due_ms = self._close_ms.get(kept.symbol)
        if due_ms is None and (due_ms := self._due_ms(kept)) is not None:
            self._close_ms[kept.symbol] = due_ms
        self._waiter.watch(kept, due_ms or 0)
        return due_ms is not None

    def _settle(self, kept: KeptKlines, latest_ms: int, now_ms: int) -> None:
        """Let the witness or one read settle a close that is overdue.

        Units: `latest_ms` the close of a series that knows none yet.
        """
        series, final_after_ms = kept.series, self._klines.options.final_after_ms
        due_ms = self._close_ms.get(kept.symbol, latest_ms)
        is_slow = self._klines.market is Market.UM and not kept.is_continuous
        event_ms = _PLAIN_UM_EVENT_MS if is_slow else _EVENT_MS
        # Before that the event may come, or no read proves anything.
        if now_ms < due_ms + max(event_ms, final_after_ms):
            return
        if not series.read_ms:
            return  # a long read is about to come, and is compared with what is held
        if self._klines.settle_quiet(kept):
            kept.wake()
            if series.last_close + 1 >= due_ms:
                return
        if series.read_ms >= due_ms + final_after_ms:
            return  # REST has been asked, and told all it knew
        if now_ms < due_ms + _WITNESS_MS and settles_quiet_soon(kept, self._klines.witness):
            return  # the witness will say so without a read
        self._klines.read_soon(kept)

    async def result(self) -> Closes:
        found = Closes(pending=dict(self._pending))
        until_ms, changes = _NEVER_MS, self._changes.count
        for number, (symbol, kept) in enumerate(self._wanted.items(), 1):
            if not number % _SLICE:
                await next_turn()  # a whole market takes milliseconds: others get their turn
            if kept.is_dropped:
                found.pending[symbol] = "not held yet"
                continue
            due_ms = self._close_ms.get(symbol)
            if due_ms is None:
                due_ms = self._due_ms(kept)
            if due_ms is None or not kept.series.read_ms:  # what has come into doubt meanwhile too
                found.pending[symbol] = "not read yet" if self._moment_ms else "starting"
                continue
            found.close_ms = max(found.close_ms, due_ms)
            until_ms = min(until_ms, next_open(self._interval, due_ms))
            series = kept.series
            if series.last_close + 1 < due_ms:
                found.pending[symbol] = "not settled" if kept.is_live else "stream not live"
                continue
            span = series.closed_span(due_ms - 1, self._limit, self._since_ms)
            if span is None:
                found.pending[symbol] = "range not held"
                continue
            found.pending.pop(symbol, None)
            found.rows[symbol] = series.closed_views(span)
            found.counts.append(span.last - span.first)
        if found.close_ms and not self._pending:  # what is only begun is asked for again
            found.stamp = Stamp(changes, found.close_ms, until_ms)
        return found
