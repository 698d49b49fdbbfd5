"""The market cache: answers calls from memory when it can prove the answer.

It writes no HTTP and opens no connection: the door out and the feeds of streams are handed in. It
owns the state of each market and decides what is kept; what is answered is each kind's (`kinds/`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from resender.aio import Clock, Tasks
from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.costs import POOLS
from resender.core.market.klines import FINAL_AFTER_MS
from resender.core.market.preload import PreloadRule, wanted
from resender.core.market.requests import Miss
from resender.core.market.words import BUSY
from resender.market.backfill import Backfill
from resender.market.bodies import FleetingBodies
from resender.market.candle_saving import CandleSaving
from resender.market.close_pause import ClosePause
from resender.market.kinds import KINDS, PATHS, Klines
from resender.market.kinds.base import Feeds, Hit, Kind, KindOptions, Outcome, Shared
from resender.market.market_state import MarketState
from resender.market.reader import Door, Reader
from resender.market.series import Kept, KeptKlines

AnyKind = TypeVar("AnyKind", bound=Kind[Any])
logger = logging.getLogger("resender.market")

CACHED_MARKETS = tuple(INTERVALS)
_SWEEP_S = 15.0
# What brings much is dropped sooner.
_BUSY_IDLE_S = 300.0
# Bodies that kinds do not compress by themselves: from when on it is worth it, and up to where at once.
_PACKED_FROM = 4096
_PACKED_AT_ONCE = 128 << 10
# Queries no longer than this are remembered as they were read.
_MAX_REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Settings of the cache.

    Units: names ending in `_s` seconds, `_ms` milliseconds, `_minutes` minutes.
    """

    depth: int = 1500
    idle_minutes: float = 30.0
    max_on_demand: int = 300
    max_on_demand_books: int = 50
    settle_wait_ms: int = 250
    quiet_s: float = 10.0
    final_after_ms: int = FINAL_AFTER_MS
    refresh_s: float = 60.0
    um_kline_stream: str = "plain"


_remembered = lru_cache(maxsize=2048)(lambda parse, market, query: parse(market, query))


def _parse(parse: Callable[[Market, str], Any], market: Market, query: str) -> Any:
    """Read a query; the same few come again and again. Nothing long or signed is kept."""
    if len(query) > _MAX_REMEMBERED or "signature" in query:
        return parse(market, query)
    return _remembered(parse, market, query)


class MarketCache:
    """What is kept of all markets."""

    def __init__(
        self,
        options: CacheOptions,
        *,
        door: Door,
        feeds: Feeds,
        clock: Clock,
        tasks: Tasks,
        files: CandleSaving | None = None,
        on_limit: Callable[[Market, int], None] = lambda market, limit: None,
    ) -> None:
        self.options = options
        self._clock = clock
        self._tasks = tasks
        self._files = files
        self._rules: tuple[PreloadRule, ...] = ()
        self.hits = 0
        self.misses = 0
        self.miss_reasons: Counter[str] = Counter()
        of_kinds = KindOptions(
            depth=options.depth,
            settle_wait_ms=options.settle_wait_ms,
            quiet_s=options.quiet_s,
            final_after_ms=options.final_after_ms,
            um_kline_stream=options.um_kline_stream,
        )
        shared = Shared(tasks)
        # Whole answers about many series, for whoever puts them together.
        self.joined = shared.joined
        self._fleeting = FleetingBodies()
        self._pause = ClosePause(self._held_intervals, self._exchange_ms)
        shared.pause_s = self._pause.wait_s
        self.states: dict[Market, MarketState] = {
            market: MarketState(
                Reader(door, market),
                KINDS,
                of_kinds,
                feeds=feeds,
                desk=self,
                shared=shared,
                clock=clock,
                tasks=tasks,
                refresh_s=options.refresh_s,
                on_symbols=self._on_symbols,
                on_limit=on_limit,
            )
            for market in CACHED_MARKETS
        }
        self._at = {path: self.states[at.market].kind(at.kind) for path, at in PATHS.items()}
        self.backfills: dict[str, Backfill] = {
            pool: Backfill(
                pool,
                {market: state.reader for market, state in self.states.items()},
                lambda pool=pool: self._filled(pool),  # type: ignore[misc]
                lambda market: self.states[market].facts.server,
                clock,
                tasks,
                self._pause.wait_s,
                lambda kept, last_close: self._note_read(kept, last_close),
            )
            for pool in dict.fromkeys(POOLS.values())
        }
        if files is not None:
            for state in self.states.values():
                state.kind(Klines).on_created = lambda kept: files.restore(
                    kept, lambda done: self.fill(done.market)
                )

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; nothing is asked of an exchange before a call or a rule wants something."""
        for backfill in self.backfills.values():
            backfill.start()
        self._tasks.spawn(self._sweep(), name="cache-sweep")
        if self._files is not None:
            self._files.start(lambda: list(self._series()), self._pause.wait_s)

    async def stop(self) -> None:
        for state in self.states.values():
            await state.stop()
        if self._files is not None:
            await self._files.stop()

    def _series(self, pool: str | None = None) -> Iterator[KeptKlines]:
        for market, state in self.states.items():
            if pool in (None, POOLS[market]):
                yield from (kept for kept in state.kind(Klines).kept.values() if not kept.word)

    def _filled(self, pool: str) -> Iterator[KeptKlines]:
        """Yield all series that are filled by reads."""
        for market, state in self.states.items():
            if POOLS[market] == pool:
                for kind in state.kinds:
                    if isinstance(kind, Klines):
                        yield from kind.kept.values()

    def _note_read(self, kept: KeptKlines, last_close: int) -> None:
        kind = self.states[kept.market].kind_of(kept)
        assert isinstance(kind, Klines)
        kind.note_read(kept, last_close)

    def _held_intervals(self) -> set[str]:
        return {word for state in self.states.values() for word in state.kind(Klines).held}

    def _exchange_ms(self) -> int:
        """Return a time the exchanges have passed, the machine's as long as none has told its own."""
        for state in self.states.values():
            if state.facts.server.is_set:
                return state.facts.now_ms()
        return self._clock.now_ms()

    async def _sweep(self) -> None:
        """Drop what nobody has asked for in a long time."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            while pause_s := self._pause.wait_s():
                await asyncio.sleep(pause_s)
            for pool, backfill in self.backfills.items():
                if queued := backfill.queued():
                    count = sum(1 for _ in self._series(pool))
                    logger.info("%s: %d of %d series are still being filled", pool, queued, count)
            mono, idle_s = self._clock.mono(), self.options.idle_minutes * 60
            for state in self.states.values():
                for kept in state.entries():
                    longest_s = min(idle_s, _BUSY_IDLE_S) if kept.what in BUSY else idle_s
                    if not kept.is_preload and kept.used_mono < mono - longest_s:
                        state.remove(kept)

    # --- rules -----------------------------------------------------------------------------

    def set_rules(self, rules: Sequence[PreloadRule]) -> None:
        """Put new preload rules in force."""
        self._rules = tuple(rules)
        for market in {rule.market for rule in self._rules}:
            self.states[market].start()
        for state in self.states.values():
            if state.symbols.is_loaded:
                self._on_symbols(state)

    def _on_symbols(self, state: MarketState) -> None:
        """Symbols or rules changed: keep what the rules want now."""
        rules = [rule for rule in self._rules if rule.market is state.market]
        keys = set()
        for _, symbol, what in wanted(rules, {state.market: list(state.symbols.tradable)}):
            keys.add((symbol, what))
            state.add(symbol, what, is_preload=True)
        for kept in state.entries():
            if kept.is_preload and (kept.symbol, kept.what) not in keys:
                state.set_preload(kept, False)
                kept.used_mono = self._clock.mono()
                if not kept.hits and not kept.misses:
                    state.remove(kept)

    # --- answers ---------------------------------------------------------------------------

    def ask(self, path: str, query: str, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call on one of the cached paths, or say why not; see `Kind.answer`."""
        at = PATHS[path]
        request = _parse(at.parse, at.market, query)
        if isinstance(request, Miss):
            self.count_miss(request.reason)
            return request
        return self.answer(path, request, packed=packed, max_age_ms=max_age_ms)

    def answer(self, path: str, request: Any, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call on one of the cached paths, as its `CachedPath.parse` has read it; see `Kind.answer`."""
        outcome = self._at[path].answer(request, packed=packed, max_age_ms=max_age_ms)
        if not packed or isinstance(outcome, Miss):
            return outcome
        key = path, request
        if not isinstance(outcome, Hit):
            return self._pack_later(key, outcome)
        if len(outcome.body) < _PACKED_FROM:
            return outcome
        if len(outcome.body) > _PACKED_AT_ONCE and not self._fleeting.has(key, outcome.body):
            return self._pack_beside(key, outcome)
        return replace(outcome, body=b"", packed=self._fleeting.pack(key, outcome.body))

    async def _pack_later(self, key: Hashable, outcome: Awaitable[Hit | Miss]) -> Hit | Miss:
        found = await outcome
        if isinstance(found, Miss) or len(found.body) < _PACKED_FROM:
            return found
        return await self._pack_beside(key, found)

    async def _pack_beside(self, key: Hashable, hit: Hit) -> Hit:
        """Compress in a thread what would hold up others."""
        if len(hit.body) > _PACKED_AT_ONCE and not self._fleeting.has(key, hit.body):
            began = self._clock.mono()
            packed = await asyncio.to_thread(self._fleeting.pack, key, hit.body)
            age_ms = hit.age_ms + int((self._clock.mono() - began) * 1000)
            return replace(hit, body=b"", packed=packed, age_ms=age_ms)
        return replace(hit, body=b"", packed=self._fleeting.pack(key, hit.body))

    def symbols_of(self, market: Market, words: Sequence[str]) -> tuple[str, ...]:
        """Return the symbols of a market of which one of these words is kept."""
        kept = self.states[market].entries()
        return tuple(dict.fromkeys(each.symbol for each in kept if each.what in words))

    def kind(self, kind: type[AnyKind], market: Market) -> AnyKind:
        """Return one kind of one market."""
        return self.states[market].kind(kind)

    # --- for the kinds ---------------------------------------------------------------------

    def begin(self, market: Market, symbol: str, what: str) -> str:
        """Begin to keep what a call asked for; return why it is not there yet."""
        state = self.states[market]
        state.start()
        if state.symbols.is_loaded and symbol not in state.symbols:
            return "unknown symbol"
        count = sum(each.on_demand + len(each.requested) for each in self.states.values())
        if count >= self.options.max_on_demand:
            return "too many series"
        if what in BUSY and self._busy() >= self.options.max_on_demand_books:
            return "too many series"
        if not state.symbols.is_loaded:
            state.request_later(symbol, what)
            return "starting"
        state.add(symbol, what)
        return "not held yet"

    def _busy(self) -> int:
        """Count what brings much and no rule stands behind."""
        states = self.states.values()
        requested = sum(what in BUSY for state in states for _, what in state.requested)
        return requested + sum(state.on_demand_busy for state in states)

    def fill(self, market: Market) -> None:
        """A series of a market lacks rows: read them."""
        self.backfills[POOLS[market]].wake()

    def count_hit(self, kept: Kept) -> None:
        kept.hits += 1
        self.hits += 1

    def count_miss(self, reason: str) -> None:
        """Count a call that goes to the exchange; reasons are words of ours, never a client's."""
        self.misses += 1
        self.miss_reasons[reason] += 1

    def miss(self, kept: Kept | None, reason: str) -> Miss:
        self.count_miss(reason)
        if kept is not None:
            kept.misses[reason] += 1
        return Miss(reason)


__all__ = ["CACHED_MARKETS", "CacheOptions", "Hit", "MarketCache", "Outcome"]
