"""Klines: rows out of the stream, proven by events, a witness or REST.

What a candle needs to be final is `core/market/klines.py`, how fresh a series is `freshness.py`; older
rows are `backfill.py`'s. Here an answer is made or settled. See `kinds/base.py` for what drives this.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from resender.aio import end_tasks, within
from resender.core.binance.endpoints import KLINES
from resender.core.binance.intervals import candles_between
from resender.core.binance.markets import INTERVALS, Market
from resender.core.binance.stream_names import symbol_stream
from resender.core.market.close_log import EVENT, READ, WITNESS, CloseLog
from resender.core.market.costs import kline_weight
from resender.core.market.klines import KlineSeries
from resender.core.market.ranges import select
from resender.core.market.requests import KlineRequest, Miss, parse_klines
from resender.core.market.row_store import Changes
from resender.core.market.words import ZONE_8, ZONED
from resender.core.window_budget import WindowBudget
from resender.market.bodies import worth_packing
from resender.market.freshness import (
    PUSH_MS,
    SILENT_PUSHES,
    brings,
    note_event,
    note_traded,
    push_ms,
    settle_quiet,
    trade_proof,
    was_silent,
)
from resender.market.kinds.base import Hit, Kind, Lack, Outcome, Parse, Tools, settle_task
from resender.market.kinds.kline_streams import KlineStreams
from resender.market.kline_reads import kline_target, read_klines
from resender.market.reader import ReadFailed
from resender.market.series import KeptKlines
from resender.market.silences import Silences

logger = logging.getLogger("resender.market")

# Rows of a read that settles, more where a quiet series is behind, as many as cost no more.
_SETTLE_LIMIT = 3
_SETTLE_MOST = 99
_SETTLE_TIMEOUT_S = 3.0
_MAX_EARLY_MS = 1000
_NEW_CANDLE = frozenset({"gap", "no new candle seen"})  # only a read made after the close can tell
_REREAD_S = 1.0
_RETRY_S = 0.2
_REVIEW_S = 5.0
# Weight that reads for answers about many may cost in a minute, those that wait for a close left out: a
# whole market has hundreds of quiet symbols after each close. A read that shows a stream to be mute is
# followed by a second one when that has been moved, so the whole is at most twice as much. Beyond it a
# series is left out. A call about
# one symbol would be forwarded instead, again and again, for the same weight.
_MANY_WEIGHT = 44
_MANY_WINDOW_S = 60.0


class Klines(Kind[KeptKlines]):
    """The kline series of one market."""

    name = "klines"
    stream = "kline"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        # Rows a late final event has corrected.
        self.corrected = 0
        self._bodies = tools.shared.bodies
        self._of_symbol: dict[str, list[KeptKlines]] = {}
        # What became of the last closes of each interval.
        self.closes: dict[str, CloseLog] = {}
        # How many series of each interval are kept.
        self.held: Counter[str] = Counter()
        # Of the closed rows of all series of an interval, and of which series there are.
        self.changes: dict[str, Changes] = {word: Changes() for word in INTERVALS[tools.market]}
        self._event_mono = self.clock.mono()
        self._shared = tools.shared
        self._settle_slots = tools.shared.settle_slots
        self._silences = Silences(SILENT_PUSHES * PUSH_MS[tools.market])
        self._for_many = WindowBudget(_MANY_WEIGHT, _MANY_WINDOW_S)
        self._read_weight = kline_weight(tools.market, _SETTLE_LIMIT)
        self._watch = tools.watch
        self.witness = tools.watch.witness
        tools.watch.listen(self._on_traded)
        self.streams = KlineStreams(
            self.market, self.facts.symbols, self.feed, self.options.um_kline_stream, self._on_differing
        )
        self._review: asyncio.Task[None] | None = None
        self.on_created: Callable[[KeptKlines], None] = lambda kept: None

    def start(self) -> None:
        self._event_mono = self.clock.mono()
        self._review = self.tasks.spawn(self._review_streams(), name=f"kline-streams:{self.market}")

    async def stop(self) -> None:
        if self._review is not None:
            await end_tasks([self._review])

    # --- what is kept ----------------------------------------------------------------------

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        zoned = [f"{interval}{ZONE_8}" for interval in ZONED] if market is Market.SPOT else []
        return frozenset((*INTERVALS.get(market, ()), *zoned))

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {KLINES[market]: parse_klines}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptKlines:
        if what.endswith(ZONE_8):
            return self._make_zoned(symbol, what, now_mono, is_preload=is_preload)
        stream, contract = self.streams.choose(symbol, what, now_mono)
        return KeptKlines(
            self.market,
            symbol,
            stream,
            now_mono,
            is_preload,
            interval=what,
            series=self.new_series(what),
            contract=contract,
        )

    def _make_zoned(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptKlines:
        interval = what.removesuffix(ZONE_8)
        return KeptKlines(
            self.market,
            symbol,
            symbol_stream(symbol, f"kline_{what}"),
            now_mono,
            is_preload,
            interval=interval,
            series=self.new_series(interval),
            word=what,
            target=f"{KLINES[self.market]}?symbol={quote(symbol, safe='')}&timeZone=8",
        )

    def new_series(self, interval: str) -> KlineSeries:
        return KlineSeries(interval, self.options.depth, self.options.final_after_ms, self.changes[interval])

    def begin(self, kept: KeptKlines) -> None:
        self.changes[kept.interval].count += 1
        if not kept.word:
            self.held[kept.interval] += 1
        self._of_symbol.setdefault(kept.symbol, []).append(kept)
        self._watch.want()
        if not kept.word:
            self.on_created(kept)

    def end(self, kept: KeptKlines) -> None:
        self.changes[kept.interval].count += 1
        self.held[kept.interval] -= not kept.word
        if not self.held[kept.interval]:
            del self.held[kept.interval]
            self.closes.pop(kept.interval, None)
        of_symbol = self._of_symbol[kept.symbol]
        of_symbol.remove(kept)
        if not of_symbol:
            del self._of_symbol[kept.symbol]

    def symbols_of(self, interval: str) -> tuple[str, ...]:
        """Return the symbols of all series of an interval that are kept."""
        return tuple(symbol for symbol, each in self.kept if each == interval)

    def use(self, symbols: Iterable[str], interval: str) -> None:
        """Somebody wants these series."""
        mono, kept = self.clock.mono(), self.kept
        for symbol in symbols:
            if (found := kept.get((symbol, interval))) is not None:
                found.used_mono = mono

    @property
    def heard_mono(self) -> float:
        """When any event or array of the witness came last, at first the start."""
        return max(self._event_mono, self.witness.heard_mono)

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: KeptKlines, data: Any) -> bool | None:
        candle = self.streams.parse(kept, data)
        event_ms = data["E"]
        if candle.open_time > event_ms:
            raise ValueError("a kline from the future")
        server = self.facts.server
        self._event_mono = mono = self.clock.mono()
        self._silences.note(self.feed.carrier(kept.stream), event_ms)
        if not server.observe(event_ms, mono) and server.is_set:
            # Either this event or our idea of the time is wrong: neither is built upon.
            self.facts.doubt_time()
            kept.series.is_synced = False
            self.desk.fill(self.market)
            return None
        if candle.is_final and kept.contract is not None:
            self.streams.note_own(kept, candle)
            if kept.contract is None:
                return None  # the plain stream says something else
        series = kept.series
        if series.is_current(candle):
            note_event(kept, event_ms, data["k"]["c"])
            kept.is_mute = False
        elif kept.unheard_ms and brings(candle, kept.unheard):
            kept.unheard_ms = 0  # late, but what REST knew has come
            kept.is_mute = False
        corrected, last_close, was_synced = series.corrected, series.last_close, series.is_synced
        if series.apply_event(candle):
            if was_synced and not series.is_synced:
                self.desk.fill(self.market)  # so much waits for a final word that it has to be read again
            if series.last_close != last_close:
                self._note_close(kept, EVENT, event_ms)
            elif candle.is_final and last_close < 0 and series.is_synced:
                self.read_soon(kept)  # nothing is final before a read has shown that nothing lies before it
            if series.corrected != corrected:
                self.corrected += 1
                if not kept.word:
                    self._log_of(kept.interval).correct(candle.close_time + 1)
                logger.warning(
                    "%s %s %s: a late final event corrects the candle of %d that REST had settled",
                    *kept.key, candle.open_time,
                )  # fmt: skip
            if kept.waiters or (kept.final_waiters and candle.is_final):
                kept.wake()
        return None

    def live(self, kept: KeptKlines) -> None:
        kept.not_before_mono = 0.0
        kept.live_ms = self.facts.now_ms() if self.facts.server.is_set else 0

    def settled_live(self) -> None:
        self.desk.fill(self.market)

    def lose(self, kept: KeptKlines) -> None:
        kept.series.lose()
        kept.unheard_ms = kept.doubt_ms = kept.event_ms = 0

    def proof(self, kept: KeptKlines) -> tuple[int | None, str]:
        server = self.facts.server
        if not kept.is_live or not kept.series.is_synced or not server.is_set:
            return None, ""
        now_ms = server.now_ms(self.clock.mono())
        proof, _ = trade_proof(kept, self.witness, now_ms, self.options.quiet_s)
        return max(0, now_ms - proof.at_ms), proof.kind

    def settle_quiet(self, kept: KeptKlines) -> bool:
        """Let the witness settle what ended while nothing was traded; return whether anything was."""
        last_close = kept.series.last_close
        settle_quiet(kept, self.witness)
        if kept.series.last_close == last_close:
            return False
        self._note_close(kept, WITNESS)
        return True

    def note_read(self, kept: KeptKlines, last_close: int) -> None:
        """A read has been taken; its newest closed row was another one before, -1 if there was none."""
        if last_close >= 0 and kept.series.last_close != last_close:  # a first read settles no close
            self._note_close(kept, READ)

    def _note_close(self, kept: KeptKlines, how: str, event_ms: int = 0) -> None:
        if kept.word:
            return  # the log is of the candles of klines
        self._log_of(kept.interval).note(
            kept.series.last_close + 1,
            kept.symbol,
            self.facts.now_ms(),
            self.held[kept.interval],
            how,
            event_ms,
        )

    def _log_of(self, interval: str) -> CloseLog:
        log = self.closes.get(interval)
        if log is None:
            log = self.closes[interval] = CloseLog(interval)
        return log

    # --- its streams -----------------------------------------------------------------------

    def other_stream(self, kept: KeptKlines) -> str | None:
        if kept.word or not self.streams.leave(kept, self.clock.mono()):
            return None
        stream, kept.contract = self.streams.choose(kept.symbol, kept.interval, self.clock.mono())
        return stream

    def symbols_changed(self) -> None:
        self._choose_again(self.kept.values())

    def _choose_again(self, series: Iterable[KeptKlines]) -> None:
        """Give series the streams they should have by now."""
        mono, moves = self.clock.mono(), []
        for kept in series:
            if kept.word:
                continue  # there is but one stream
            stream, contract = self.streams.choose(kept.symbol, kept.interval, mono)
            if stream != kept.stream:
                kept.contract = contract
                moves.append((kept, stream))
        if moves:
            self._restream(moves)

    def _on_differing(self, symbol: str) -> None:
        """What the continuous stream of a symbol brought is told no more until a read has judged it."""
        series = self._of_symbol.get(symbol, ())
        for kept in series:
            kept.series.distrust()
        self._choose_again(series)

    async def _review_streams(self) -> None:
        """Give series the stream they should have by now, and compare some on both."""
        while True:
            await asyncio.sleep(_REVIEW_S)
            while pause_s := self._shared.pause_s():
                await asyncio.sleep(pause_s)
            self.symbols_changed()
            self.streams.sample(list(self.kept.values()), self.clock.mono())

    # --- the witness -----------------------------------------------------------------------

    def _on_traded(self, symbol: str, event_ms: int, price: str) -> None:
        for kept in self._of_symbol.get(symbol, ()):
            note_traded(kept, event_ms, price)

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: Any, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a kline call, perhaps after a short wait at a candle's end."""
        what = request.word or request.interval
        kept = self.kept.get((request.symbol, what))
        if kept is None:
            return self.desk.miss(None, self.desk.begin(self.market, request.symbol, what))
        kept.used_mono = self.clock.mono()
        found = self._try(kept, request, packed)
        if isinstance(found, Hit):
            self.desk.count_hit(kept)
            return found
        if found.can_settle and not (request.is_capped and self._is_hopeless(kept, found)):
            return self._settle(kept, request, packed)
        return self.desk.miss(kept, found.reason)

    def _is_hopeless(self, kept: KeptKlines, lack: Lack) -> bool:
        """Tell whether neither an event nor a read will help a call now: hundreds of a market ask at once."""
        since_ms = self.facts.now_ms() - kept.series.unsettled_close
        if lack.may_come and since_ms < self.options.settle_wait_ms:
            return False
        return settle_task(kept) is None and self._for_many.wait_s(self.clock.mono()) > 0

    def _try(self, kept: KeptKlines, request: KlineRequest, packed: bool) -> Hit | Lack:
        mono, server, series = self.clock.mono(), self.facts.server, kept.series
        if self.is_held_up(kept):
            return Lack("stream not live")
        if kept.is_mute:
            return Lack("stream mute")
        if not server.is_set:
            return Lack("starting")
        now_ms = server.now_ms(mono)
        if series.unsettled_close < now_ms:
            self.settle_quiet(kept)
        need = series.check(now_ms, server.latest_ms(mono), push_ms(kept.market, kept.interval))
        if need is not None:
            return Lack(need.reason, can_settle=need.can_settle, may_come=need.may_come)
        quiet_s = self.options.quiet_s
        is_proven = self.witness.is_current or self.feed.is_proven(kept.stream)
        if not is_proven and now_ms - series.read_ms > _REREAD_S * 1000:
            # Neither it nor its witness has said anything: only REST proves, for a short while.
            return Lack("stream not proven", can_settle=mono - self.heard_mono <= quiet_s)
        kept.resumed_ms = self._silences.resumed_ms(self.feed.carrier(kept.stream))
        proof, unproven = trade_proof(kept, self.witness, now_ms, quiet_s)
        if unproven is not None:
            if unproven.is_mute:
                self._mute(kept)
            return Lack(unproven.reason, can_settle=unproven.can_settle and not unproven.is_mute)
        span = select(series, request, now_ms)
        if span is None:
            return Lack("range not held")
        age_ms = max(0, now_ms - proof.at_ms)
        if request.is_part:
            return Hit(b"", None, age_ms, parts=series.body_views(span))
        packed = packed and worth_packing(series.closed.size(span.first, span.last))
        body = self._bodies.get(kept.identity, series, span, packed=packed)
        return Hit(b"", body, age_ms) if packed else Hit(body, None, age_ms)

    async def _settle(self, kept: KeptKlines, request: KlineRequest, packed: bool) -> Hit | Miss:
        """Wait a moment for the event, then make one read for all who wait."""
        loop = asyncio.get_running_loop()
        # The wait counts from the close: long after it no event is on its way any more.
        since_ms = self.facts.now_ms() - kept.series.unsettled_close
        longest_ms = self.options.settle_wait_ms
        deadline = loop.time() + min(longest_ms, longest_ms - since_ms) / 1000
        while True:
            found = self._try(kept, request, packed)
            if isinstance(found, Hit):
                self.desk.count_hit(kept)
                return found
            if not found.can_settle:
                return self.desk.miss(kept, found.reason)
            left_s = deadline - loop.time()
            if not found.may_come or left_s <= 0:
                break
            waiter = loop.create_future()
            kept.waiters.append(waiter)
            with suppress(asyncio.TimeoutError):
                await within(waiter, left_s)
        early_ms = kept.series.unsettled_close + 1 - self.facts.now_ms()
        if found.reason == "not settled":
            # A read made so soon after the close proves nothing about the closed candle.
            if early_ms + kept.series.final_after_ms > 0:
                return self.desk.miss(kept, found.reason)
        elif found.reason in _NEW_CANDLE and 0 < early_ms < _MAX_EARLY_MS:
            await asyncio.sleep(early_ms / 1000)
        read = self.read_soon(kept, is_capped=request.is_capped)
        if read is not None:
            # One client that leaves must not take the read away from the others.
            await asyncio.wait({read}, timeout=_SETTLE_TIMEOUT_S)
        found = self._try(kept, request, packed)
        if isinstance(found, Hit):
            self.desk.count_hit(kept)
            return found
        return self.desk.miss(kept, found.reason)

    # --- reads -----------------------------------------------------------------------------

    def read_soon(self, kept: KeptKlines, *, is_capped: bool = False) -> asyncio.Task[None] | None:
        """Return the one read under way, or begin one; None if none may be made now.

        Shape: with `is_capped` it is for an answer about many that does not wait for a close.
        """
        if (reading := settle_task(kept)) is not None:
            return reading
        mono, series = self.clock.mono(), kept.series
        # Once the exchange was asked after the close, asking again at once tells nothing new.
        knows = (
            kept.read_failed
            or series.read_ms > series.unsettled_close
            or self.facts.now_ms() < series.unsettled_close
        )
        if mono - kept.read_mono < (_REREAD_S if knows else _RETRY_S):
            return None
        if is_capped:
            if self._for_many.wait_s(mono) > 0:
                return None
            self._for_many.take(mono, self._read_weight)
        kept.read_mono = mono
        kept.read = self.tasks.spawn(self._read(kept), name=f"kline-settle:{kept.symbol}@{kept.interval}")
        return kept.read

    async def _read(self, kept: KeptKlines) -> None:
        async with self._settle_slots:
            await self._read_now(kept)

    async def _read_now(self, kept: KeptKlines) -> None:
        series = kept.series
        epoch, made_ms = series.epoch, self.facts.now_ms()
        if not kept.is_live:
            return
        kept.read_failed = True
        limit = _SETTLE_LIMIT
        if series.last_final is not None:
            behind = candles_between(kept.interval, series.last_final, made_ms)
            limit = min(_SETTLE_MOST, max(limit, behind))
        try:
            # Weight is reserved only now: those who wait for a place must not hold it.
            candles = await read_klines(self.reader, kept, kline_target(kept, limit), made_ms)
            kept.read_failed = False
        except ReadFailed as error:
            if error.retry_after_s:
                kept.read_failed = False  # nothing was asked
            else:
                logger.info("%s %s %s cannot be settled: %s", *kept.key, error)
            return
        if kept.series is not series or kept.is_dropped:
            return
        last_close = series.last_close
        news = series.news(candles) if epoch == series.epoch else None
        if news is not None and was_silent(kept, made_ms):
            kept.unheard_ms = kept.unheard_ms or made_ms  # if the stream stays silent, it is mute
            kept.unheard = news
            kept.is_uncovered |= self.witness.is_current and not kept.named_ms
        if not series.apply_read(candles, made_ms, epoch=epoch, is_whole=len(candles) < limit):
            # So far behind that the read did not reach: the backfill reads as many as it takes.
            series.is_synced = False
            self.desk.fill(self.market)
        self.note_read(kept, last_close)
        kept.wake()
