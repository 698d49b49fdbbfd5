"""One kline series: what is proven, what is not, and the bytes a REST answer is made of.

Pure: fed with stream events, REST reads and times, it never asks for anything. The cache that
owns a series decides what to do about a `Need`. Rows are kept as the bytes REST would send.

How a candle becomes final: by its event with `x:true`, or by a REST read made so long after its
close that the exchange's own answers have caught up. A late `x:true` corrects a row that only REST
has settled. A newer candle's first event proves nothing about the old one's numbers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from resender.core.market.candles import Candle, close_of
from resender.core.market.row_store import Changes, RowStore
from resender.core.market.spans import Selection, Span

# Rows that are not final yet: the open one, and those whose final event is late.
_MAX_PENDING = 8
# How long a read that showed no newer candle stands for a symbol that pushes nothing.
REREAD_MS = 1000
# A REST row is final if the read was made so long after the close. Measured on the live exchange:
# answers lag up to 942 ms behind a close (kline-proxy's figures of September 2026).
FINAL_AFTER_MS = 1500
# A final event so late after the close is still believed; they were seen 24 s late on futures.
_CORRECTABLE_MS = 60_000
_MAX_BY_READ = 64


@dataclass(frozen=True, slots=True)
class Need:
    """Why a series cannot answer now.

    Shape: `reason` is a word for people; `can_settle` tells that one small REST read of the
        latest rows would help; `may_come` that the stream itself may bring it within moments.
    """

    reason: str
    can_settle: bool = False
    may_come: bool = False


class KlineSeries(Selection):
    """The candles of one market, symbol and interval.

    Shape: `changes` is told of every change of its closed rows, see `RowStore`.
    Units: every time is epoch milliseconds of the exchange's clock.
    """

    __slots__ = (
        "_after_hole", "_by_read", "_last_close", "_pending", "closed", "corrected", "depth", "epoch",
        "final_after_ms", "interval", "is_synced", "is_whole", "read_ms", "version",
    )  # fmt: skip

    def __init__(
        self,
        interval: str,
        depth: int,
        final_after_ms: int = FINAL_AFTER_MS,
        changes: Changes | None = None,
    ) -> None:
        self.interval = interval
        self.depth = depth
        self.final_after_ms = final_after_ms
        # Close time of the newest closed row, -1 before the first.
        self._last_close = -1
        # Open times of closed rows that a read settled soon after their close: a late final event
        # still has the last word. None if there are none.
        self._by_read: set[int] | None = None
        # Rows a late final event has corrected.
        self.corrected = 0
        # Candles proven final; those that are not wait in `_pending`.
        self.closed = RowStore(changes)
        self._pending: list[Candle] = []
        # Open times of rows that REST showed right behind a hole: the hole is real.
        self._after_hole: set[int] = set()
        # Grows with every loss of the stream: a read from before a loss proves nothing after it.
        self.epoch = 0
        # Nothing exists before the first row: the series starts with the symbol's listing.
        self.is_whole = False
        # Everything since the last final candle has been seen or re-read since the stream is live.
        self.is_synced = False
        # When the exchange made its latest answer that is in here (at the earliest).
        self.read_ms = 0
        self.version = 0

    def __len__(self) -> int:
        return len(self._opens) + len(self._pending)

    @property
    def last_open(self) -> int | None:
        """Open time of the newest candle known."""
        if self._pending:
            return self._pending[-1].open_time
        return self._opens[-1] if self._opens else None

    @property
    def last_final(self) -> int | None:
        """Open time of the newest candle proven final."""
        return self._opens[-1] if self._opens else None

    @property
    def last_close(self) -> int:
        """Close time of the newest candle proven final, -1 before the first."""
        return self._last_close

    @property
    def unsettled_close(self) -> int:
        """Close time of the oldest candle that is not final, or of the newest one."""
        for candle in self._pending:
            if not candle.is_final:
                return candle.close_time
        return self._pending[-1].close_time if self._pending else max(0, self._last_close)

    @property
    def unsettled_seen_ms(self) -> int:
        """When the exchange showed the oldest candle that is not final as it is held, 0 if there is none."""
        for candle in self._pending:
            if not candle.is_final:
                return candle.seen_ms
        return 0

    def rows(self) -> Iterator[bytes]:
        """Yield all rows, closed ones first."""
        yield from self.closed
        for candle in self._pending:
            yield candle.row

    def closed_rows(self) -> tuple[bytes, array[int]]:
        """Return the final rows, joined by commas, and their open times, for saving."""
        return self.closed.part(0, len(self.closed))[:-1], array("q", self._opens)

    def lose(self) -> None:
        """The stream was lost: what is not final may have changed unseen."""
        self.epoch += 1
        self.is_synced = False
        if self._pending:
            self._pending.clear()
            self.version += 1

    def distrust(self) -> None:
        """What the stream brought is in doubt: nothing is told before a read has judged it."""
        self.lose()
        self.read_ms = 0
        self.closed.changes.count += 1

    def is_current(self, candle: Candle) -> bool:
        """Tell whether an event shows at least what is held of the newest candle."""
        if not self._pending:
            return not self._opens or candle.open_time > self._opens[-1]
        newest = self._pending[-1]
        if candle.open_time == newest.open_time:
            return candle.trades >= newest.trades
        return candle.open_time > newest.open_time

    def apply_event(self, candle: Candle) -> bool:
        """Take a stream event; return whether it changed anything.

        Older, repeated and reordered events change nothing: within a candle the number of trades
        only grows, and a final event is the last word, also on a row that a read has settled.
        """
        if self._opens and candle.open_time <= self._opens[-1]:
            return candle.is_final and self._correct(candle)
        if not self._merge(candle):
            return False
        self._promote()
        self.version += 1
        return True

    def _correct(self, candle: Candle) -> bool:
        """Take a final event of a row that only a read has settled; return whether the row was wrong."""
        was_wrong = self._replace(candle)
        if self._by_read is not None:
            self._by_read.discard(candle.open_time)
        return was_wrong

    def _replace(self, candle: Candle) -> bool:
        """Put a later word in the place of a row that a read has settled; return whether it differs."""
        if self._by_read is None or candle.open_time not in self._by_read:
            return False
        index = bisect_left(self._opens, candle.open_time)
        if index >= len(self._opens) or self._opens[index] != candle.open_time:
            return False  # it has been dropped with the oldest rows
        if self.closed.part(index, index + 1)[:-1] == candle.row:
            return False
        self.closed.replace(index, candle.row)
        self.corrected += 1
        self.version += 1
        return True

    def news(self, candles: Sequence[Candle]) -> Candle | None:
        """Return the newest candle of a read with trades that are not held, final ones left out."""
        last = self._opens[-1] if self._opens else -1
        known = {candle.open_time: candle for candle in self._pending}
        for candle in reversed(candles):
            if candle.open_time > last and candle.trades:
                held = known.get(candle.open_time)
                if held is None or (not held.is_final and candle.trades > held.trades):
                    return candle
        return None

    def apply_read(
        self, candles: Sequence[Candle], made_ms: int, *, epoch: int | None, is_whole: bool = False
    ) -> bool:
        """Take a REST read of the latest rows; return whether it joins what is here.

        Shape: `candles` end with the newest row the exchange had; `is_whole` tells that the
            exchange has nothing before the first of them. `epoch` is the series' epoch when the
            call was sent, None if the stream was not live then: such a read adds final rows, but
            what happened between it and the stream is not known.
        Units: `made_ms` is a time before which the exchange cannot have made the answer; candles
            that closed `final_after_ms` before it are final.
        """
        last = self._opens[-1] if self._opens else None
        if not candles:
            if last is not None or not is_whole:
                return False
            self._note_whole(not self._pending)
            self._synced(epoch, made_ms)
            return True
        if last is not None and candles[0].open_time > self._last_close + 1:
            return False
        if last is None:
            self.is_whole = False
        changed = False
        previous = candles[0]
        told = {each.open_time: each for each in self._pending if each.is_final}
        is_open = False
        for candle in candles:
            if candle is not previous and candle.open_time != previous.close_time + 1:
                self._after_hole.add(candle.open_time)
            previous = candle
            if last is not None and candle.open_time <= last:
                if self._by_read and self._is_over(candle, made_ms):
                    changed |= self._replace(candle)
                continue
            if candle.open_time in told and not is_open:
                self._append(told[candle.open_time])  # its final event has the last word
                last = candle.open_time
                changed = True
            elif self._is_over(candle, made_ms) and not is_open:
                self._append(candle)
                if made_ms - candle.close_time < _CORRECTABLE_MS:
                    self._note_read(candle.open_time)
                last = candle.open_time
                changed = True
            else:
                is_open = True  # what comes after it stays behind it
                if epoch == self.epoch:
                    changed |= self._merge(candle)
        if changed and self._opens:
            self._pending = [c for c in self._pending if c.open_time > self._opens[-1]]
        if self._opens and candles[0].open_time < self._opens[0] <= candles[-1].open_time:
            self.prepend(candles, made_ms)
        if is_whole and self.first_open == candles[0].open_time:
            self._note_whole(True)
        self._synced(epoch, made_ms)
        self._promote()
        self.version += changed
        return True

    def _note_whole(self, is_whole: bool) -> None:
        if is_whole != self.is_whole:
            self.is_whole = is_whole
            self.closed.changes.count += 1  # a range may be held from now on

    def _is_over(self, candle: Candle, made_ms: int) -> bool:
        """Tell whether a read made then shows a candle's last word."""
        return candle.close_time + self.final_after_ms <= made_ms

    def settle_quiet(self, since_ms: int, until_ms: int) -> None:
        """Take candles as final that ended while nothing was traded.

        Units: no trade happened between `since_ms` and `until_ms`, by a witness of the exchange; a
            state seen after `since_ms` is then the last word on a candle that closed before
            `until_ms`; its last millisecond may still have had a trade after the witness spoke.
        """
        pending = self._pending
        while pending:
            candle = pending[0]
            if not candle.is_final and not (candle.seen_ms >= since_ms and candle.close_time < until_ms):
                return
            if not self._follows(candle):
                return  # only what joins is settled: a final event must find the others still open
            if not candle.is_final:
                self._note_read(candle.open_time)
            self._append(candle)
            del pending[0]

    def _note_read(self, open_time: int) -> None:
        if self._by_read is None:
            self._by_read = set()
        self._by_read.add(open_time)
        if len(self._by_read) > _MAX_BY_READ:
            self._by_read.remove(min(self._by_read))

    def _synced(self, epoch: int | None, made_ms: int) -> None:
        if epoch == self.epoch:
            self.is_synced = True
            if not self.read_ms:
                self.closed.changes.count += 1  # from now on its rows are believed
            self.read_ms = max(self.read_ms, made_ms)

    def contradicts(self, candles: Sequence[Candle], made_ms: int) -> bool:
        """Tell whether a read shows other numbers for a candle that is held as final."""
        for candle in candles:
            index = bisect_left(self._opens, candle.open_time)
            if index < len(self._opens) and self._opens[index] == candle.open_time:
                row = self.closed_part(Span(index, index + 1, ()))[:-1]
                is_provisional = self._by_read is not None and candle.open_time in self._by_read
                if self._is_over(candle, made_ms) and row != candle.row and not is_provisional:
                    return True
        return False

    def prepend(self, candles: Sequence[Candle], made_ms: int, *, is_whole: bool = False) -> int:
        """Put older rows before the first; return how many were taken.

        Shape: `candles` end at or after the candle before the first one here, as REST answered a
            call with `endTime` just before it: holes between them are real.
        """
        first = self._opens[0] if self._opens else None
        older = [c for c in candles if first is None or c.open_time < first]
        if older and not self._is_over(older[-1], made_ms):
            return 0  # a read from before its end: without it there would be a hole
        if is_whole:
            self._note_whole(True)
        if not older or first is None:
            return 0
        self.closed.prepend([c.open_time for c in older], [c.row for c in older])
        self.version += 1
        return len(older)

    def restore(self, rows: bytes, open_times: Sequence[int]) -> None:
        """Fill an empty series with final rows that were saved, joined by commas."""
        if not open_times:
            return
        self.closed.restore(rows, open_times)
        self._last_close = close_of(self.closed.part(len(open_times) - 1, len(open_times)))
        # The stream may have spoken while the file was read.
        self._pending = [c for c in self._pending if c.open_time > open_times[-1]]
        self.version += 1
        self._fold()

    def _merge(self, candle: Candle) -> bool:
        """Put a candle among those that are not final, if it is news."""
        pending = self._pending
        for index, known in enumerate(pending):
            if known.open_time == candle.open_time:
                if not candle.is_news_to(known):
                    if candle.row == known.row and candle.seen_ms > known.seen_ms and not known.is_final:
                        pending[index] = replace(known, seen_ms=candle.seen_ms)  # so it was still then
                    return False
                pending[index] = candle
                return True
            if known.open_time > candle.open_time:
                pending.insert(index, candle)
                break
        else:
            pending.append(candle)
        if len(pending) > _MAX_PENDING:
            # So many at once is a long silence of final events: read everything again.
            del pending[0]
            self.is_synced = False
        return True

    def _promote(self) -> None:
        """Move final candles that join the closed ones over to them."""
        pending = self._pending
        while pending and pending[0].is_final:
            candle = pending[0]
            if not self._follows(candle):
                return
            self._append(candle)
            del pending[0]

    def _follows(self, candle: Candle) -> bool:
        """Tell whether nothing can lie between the last closed candle and this one."""
        if not self._opens:
            return self.is_synced and self._is_first(candle)
        return candle.open_time == self._last_close + 1 or candle.open_time in self._after_hole

    def _is_first(self, candle: Candle) -> bool:
        """Tell whether a read has shown that nothing lies before it: answers lag behind a close."""
        return self.read_ms >= candle.open_time + self.final_after_ms

    def _append(self, candle: Candle) -> None:
        self._after_hole.discard(candle.open_time)
        self._last_close = candle.close_time
        # Rows get other numbers when the oldest are dropped: what was made of them is void.
        self.version += 1
        if self.closed.append(candle.open_time, candle.row):
            self._fold()

    def _fold(self) -> None:
        """Drop the oldest rows beyond the depth."""
        if self.closed.fold(self.depth):
            self.is_whole = False

    # --- what is missing -------------------------------------------------------------------

    def check(self, now_ms: int, latest_ms: int, push_ms: int) -> Need | None:
        """Tell what is missing before the series may answer as of now, None if nothing is.

        Units: the exchange's clock has passed `now_ms` and not `latest_ms`; `push_ms` is how often
            the market's stream pushes a changed candle.
        """
        if not self.is_synced:
            return Need("not read yet")
        pending = self._pending
        last = self._opens[-1] if self._opens else None
        if pending:
            expected = self._last_close + 1 if last is not None else pending[0].open_time
            if last is None and not self._is_first(pending[0]):
                return Need("gap", can_settle=True, may_come=True)
            for candle in pending:
                if candle.open_time != expected and candle.open_time not in self._after_hole:
                    return Need("gap", can_settle=True, may_come=True)
                if candle.close_time < latest_ms and not candle.is_final:
                    return Need("not settled", can_settle=True, may_come=True)
                if candle is not pending[-1] and not candle.is_final:
                    return Need("not settled", can_settle=True, may_come=True)
                expected = candle.close_time + 1
            newest_close = pending[-1].close_time
        elif last is not None:
            newest_close = self._last_close
        else:
            # The exchange has no candle of this symbol at all, as of the last read.
            return None if now_ms - self.read_ms <= REREAD_MS else Need("no candle yet", can_settle=True)
        # The newest candle is over: the exchange may show the next one already.
        was_read = self.read_ms > newest_close and now_ms - self.read_ms <= REREAD_MS
        if now_ms - newest_close - 1 > push_ms and not was_read:
            return Need("no new candle seen", can_settle=True, may_come=True)
        return None
