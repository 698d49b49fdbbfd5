"""The market cache: answers kline and bookTicker calls from memory when it can prove the answer.

It writes no HTTP and opens no connection: how to fetch and how to make stream pools is handed in.
It owns the market lines and what they keep; all of it changes on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from resender.aio import Clock, Tasks
from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.costs import DEFAULT_LIMITS, POOLS, WeightShare, kline_weight
from resender.core.market.klines import FINAL_AFTER_MS, Span
from resender.core.market.preload import PreloadRule, wanted
from resender.core.market.requests import BookTickerRequest, KlineRequest, Miss
from resender.market.backfill import Backfill, Fetch, Reader, ReadFailed
from resender.market.bodies import Bodies, worth_packing
from resender.market.candle_saving import WarmFiles
from resender.market.freshness import kline_proof, push_ms, settle_quiet, was_silent
from resender.market.market_state import MarketState
from resender.market.pools import MakePool
from resender.market.seeds import seed
from resender.market.series import BOOK_TICKER, Kept, KeptKlines, KeptTicker

logger = logging.getLogger("resender.market")

CACHED_MARKETS = tuple(INTERVALS)
_SETTLE_LIMIT = 3
_SETTLE_TIMEOUT_S = 3.0
_SETTLE_AT_ONCE = 32
_MAX_EARLY_MS = 1000
_NEW_CANDLE = frozenset({"gap", "no new candle seen"})  # only a read made after the close can tell
_REREAD_S = 1.0
_RETRY_S = 0.2
_SWEEP_S = 15.0
_AHEAD = 0.6  # a book ticker so near to its quiet limit is compared before it is due


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer out of memory.

    Shape: `body` as Binance sends it, or `packed` the same compressed by gzip and `body` empty.
    Units: `age_ms` since the last proof that it is current.
    """

    body: bytes
    packed: bytes | None
    age_ms: int


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Settings of the cache.

    Units: names ending in `_s` seconds, `_ms` milliseconds, `_minutes` minutes.
    """

    depth: int = 1500
    idle_minutes: float = 30.0
    max_on_demand: int = 300
    settle_wait_ms: int = 250
    quiet_s: float = 10.0
    final_after_ms: int = FINAL_AFTER_MS
    refresh_s: float = 60.0
    backfill_share: float = 0.5
    # Weight of each pool at all egresses together, until exchangeInfo tells it.
    weight_limits: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_LIMITS))


Outcome = Hit | Miss | Awaitable["Hit | Miss"]


class MarketCache:
    """Kline series and book tickers of all markets."""

    def __init__(
        self,
        options: CacheOptions,
        *,
        fetch: Fetch,
        make_pool: MakePool,
        clock: Clock,
        tasks: Tasks,
        files: WarmFiles | None = None,
        on_limit: Callable[[Market, int], int] = lambda market, limit: limit,
    ) -> None:
        self.options = options
        self._clock = clock
        self._tasks = tasks
        self._files = files
        self._rules: tuple[PreloadRule, ...] = ()
        self._bodies = Bodies()
        # A whole market may need settling at the same moment: not all on connections of their own.
        self._settle_slots = asyncio.Semaphore(_SETTLE_AT_ONCE)
        self.hits = 0
        self.misses = 0
        self.miss_reasons: Counter[str] = Counter()
        self.used_weight: dict[str, str] = {}
        self.states: dict[Market, MarketState] = {}
        self.shares: dict[str, WeightShare] = {}
        for pool, limit in DEFAULT_LIMITS.items():
            self.shares[pool] = WeightShare(options.weight_limits.get(pool, limit), options.backfill_share)
        for market in CACHED_MARKETS:
            self.states[market] = MarketState(
                market,
                reader=Reader(fetch, self.shares[POOLS[market]], clock),
                make_pool=make_pool,
                clock=clock,
                tasks=tasks,
                depth=options.depth,
                refresh_s=options.refresh_s,
                on_symbols=self._on_symbols,
                on_created=self._on_created,
                on_limit=on_limit,
                quiet_s=options.quiet_s,
                final_after_ms=options.final_after_ms,
            )
        self.backfills: dict[str, Backfill] = {}
        for pool in DEFAULT_LIMITS:
            markets = [market for market in CACHED_MARKETS if POOLS[market] == pool]
            self.backfills[pool] = Backfill(
                pool,
                self.states[markets[0]].reader,
                lambda markets=tuple(markets): [  # type: ignore[misc]
                    entry for market in markets for entry in self.states[market].klines.values()
                ],
                lambda market: self.states[market].server,
                clock,
                tasks,
            )
            for market in markets:
                self.states[market].backfill = self.backfills[pool]

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; nothing is asked of an exchange before a call or a rule wants something."""
        for backfill in self.backfills.values():
            backfill.start()
        self._tasks.spawn(self._sweep(), name="cache-sweep")
        if self._files is not None:
            self._files.start(self._snapshots)

    async def stop(self) -> None:
        for state in self.states.values():
            await state.stop()
        if self._files is not None:
            await self._files.stop()

    def _snapshots(self) -> list[KeptKlines]:
        return [entry for state in self.states.values() for entry in state.klines.values()]

    async def _sweep(self) -> None:
        """Drop what nobody has asked for in a long time."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            for name, backfill in self.backfills.items():
                if queued := backfill.queued():
                    mine = [state for state in self.states.values() if state.backfill is backfill]
                    count = sum(len(state.klines) for state in mine)
                    logger.info("%s: %d of %d series are still being filled", name, queued, count)
            limit = self._clock.mono() - self.options.idle_minutes * 60
            for state in self.states.values():
                for entry in state.entries():
                    if not entry.is_preload and entry.used_mono < limit:
                        state.remove(entry)

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
        for entry in state.entries():
            if entry.is_preload and (entry.symbol, entry.key[2]) not in keys:
                entry.is_preload = False
                entry.used_mono = self._clock.mono()
                if not entry.hits and not entry.misses:
                    state.remove(entry)

    def _on_created(self, entry: KeptKlines) -> None:
        if self._files is not None:
            self._files.restore(entry, self._wake)

    def _wake(self, entry: KeptKlines) -> None:
        self.backfills[POOLS[entry.market]].wake()

    def _start_on_demand(self, state: MarketState, symbol: str, what: str) -> str:
        """Begin to keep what a call asked for; return why it is not there yet."""
        state.start()
        if state.symbols.is_loaded and symbol not in state.symbols:
            return "unknown symbol"
        kept = sum(each.on_demand for each in self.states.values()) + len(state.requested)
        if kept >= self.options.max_on_demand:
            return "too many series"
        if not state.symbols.is_loaded:
            state.request_later(symbol, what)
            return "starting"
        state.add(symbol, what)
        return "not held yet"

    # --- klines ----------------------------------------------------------------------------

    def klines(self, request: KlineRequest, *, packed: bool) -> Outcome:
        """Answer a kline call, perhaps after a short wait at a candle's end."""
        state = self.states[request.market]
        entry = state.klines.get((request.symbol, request.interval))
        if entry is None:
            reason = self._start_on_demand(state, request.symbol, request.interval)
            return self._miss(None, reason)
        entry.used_mono = self._clock.mono()
        found = self._try_klines(state, entry, request, packed)
        if isinstance(found, Hit):
            return self._hit(entry, found)
        if found.can_settle:
            return self._settle_klines(state, entry, request, packed)
        return self._miss(entry, found.reason)

    def _try_klines(
        self, state: MarketState, entry: KeptKlines, request: KlineRequest, packed: bool
    ) -> Hit | _Lack:
        mono = self._clock.mono()
        if not entry.is_live or state.kline_pool.proof_mono(entry.stream) is None:
            return _Lack("stream not live")
        if entry.is_mute:
            return _Lack("stream mute")
        if not state.server.is_set:
            return _Lack("starting")
        now_ms = state.server.now_ms(mono)
        series = entry.series
        if series.unsettled_close < now_ms:
            settle_quiet(entry, state.witness)
        need = series.check(now_ms, state.server.latest_ms(mono), push_ms(entry.market, entry.interval))
        if need is not None:
            return _Lack(need.reason, can_settle=need.can_settle, may_come=need.may_come)
        is_proven = state.witness.is_current or state.kline_pool.is_proven(entry.stream)
        if not is_proven and now_ms - series.read_ms > _REREAD_S * 1000:
            # Neither it nor its witness has said anything: only REST proves, for a short while.
            return _Lack("stream not proven", can_settle=mono - state.heard_mono <= state.quiet_s)
        proof, unproven = kline_proof(entry, state.witness, now_ms, state.quiet_s)
        if unproven is not None:
            if unproven.is_mute:
                state.mute(entry)
            return _Lack(unproven.reason, can_settle=unproven.can_settle and not unproven.is_mute)
        span = self._select(entry, request, now_ms)
        if span is None:
            return _Lack("range not held")
        age_ms = max(0, now_ms - proof.at_ms)
        packed = packed and worth_packing(series.closed.size(span.first, span.last))
        body = self._bodies.get(entry.identity, series, span, packed=packed)
        return Hit(b"", body, age_ms) if packed else Hit(body, None, age_ms)

    def _select(self, entry: KeptKlines, request: KlineRequest, now_ms: int) -> Span | None:
        """Choose rows by the market's own rule for times."""
        series, start, end, limit = entry.series, request.start_ms, request.end_ms, request.limit
        if start is None and end is None:
            return series.latest(limit)
        if start is not None and start > now_ms:
            return None
        if request.market is Market.CM:
            # COIN-M answers with the latest rows of at most 200 days.
            # Source: binance-connector-python (cm) of 2026-08-21, market_data_api.py.
            window_ms = 200 * 86_400_000
            if start is not None and end is not None and end - start > window_ms:
                return None
            upper = end if end is not None else (start or 0) + window_ms
            lower = start if start is not None else upper - window_ms
            return series.latest_until(lower, upper, limit)
        if start is None:
            return series.latest_until(None, end or 0, limit)
        return series.first_from(start, end, limit)

    async def _settle_klines(
        self, state: MarketState, entry: KeptKlines, request: KlineRequest, packed: bool
    ) -> Hit | Miss:
        """Wait a moment for the event, then make one read for all who wait."""
        loop = asyncio.get_running_loop()
        # The wait counts from the close: long after it no event is on its way any more.
        since_ms = state.now_ms() - entry.series.unsettled_close
        wait_ms = min(self.options.settle_wait_ms, self.options.settle_wait_ms - since_ms)
        deadline = loop.time() + wait_ms / 1000
        while True:
            found = self._try_klines(state, entry, request, packed)
            if isinstance(found, Hit):
                return self._hit(entry, found)
            if not found.can_settle:
                return self._miss(entry, found.reason)
            left_s = deadline - loop.time()
            if not found.may_come or left_s <= 0:
                break
            waiter = loop.create_future()
            entry.waiters.append(waiter)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(waiter, left_s)
        early_ms = entry.series.unsettled_close + 1 - state.now_ms()
        if found.reason == "not settled":
            # A read made so soon after the close proves nothing about the closed candle.
            if early_ms + entry.series.final_after_ms > 0:
                return self._miss(entry, found.reason)
        elif found.reason in _NEW_CANDLE and 0 < early_ms < _MAX_EARLY_MS:
            await asyncio.sleep(early_ms / 1000)
        read = self._settle_read(state, entry)
        if read is not None:
            # One client that leaves must not take the read away from the others.
            await asyncio.wait({read}, timeout=_SETTLE_TIMEOUT_S)
        found = self._try_klines(state, entry, request, packed)
        return self._hit(entry, found) if isinstance(found, Hit) else self._miss(entry, found.reason)

    def _settle_read(self, state: MarketState, entry: KeptKlines) -> asyncio.Task[None] | None:
        """Return the one read under way, or begin one; None if none may be made now."""
        if entry.read is not None and not entry.read.done():
            return entry.read
        mono = self._clock.mono()
        # Once the exchange was asked after the close, asking again at once tells nothing new.
        knows = (
            entry.read_failed
            or entry.series.read_ms > entry.series.unsettled_close
            or state.now_ms() < entry.series.unsettled_close
        )
        pause_s = _REREAD_S if knows else _RETRY_S
        if mono - entry.read_mono < pause_s:
            return None
        if not state.reader.share.take(
            kline_weight(entry.market, _SETTLE_LIMIT), state.now_ms(), mono, is_urgent=True
        ):
            return None
        entry.read_mono = mono
        entry.read = self._tasks.spawn(
            self._read_latest(state, entry), name=f"kline-settle:{entry.symbol}@{entry.interval}"
        )
        return entry.read

    async def _read_latest(self, state: MarketState, entry: KeptKlines) -> None:
        async with self._settle_slots:
            await self._read_latest_now(state, entry)

    async def _read_latest_now(self, state: MarketState, entry: KeptKlines) -> None:
        series = entry.series
        epoch, made_ms = series.epoch, state.now_ms()
        if not entry.is_live:
            return
        entry.read_failed = True
        try:
            candles = await state.reader.klines(entry, _SETTLE_LIMIT, made_ms)
            entry.read_failed = False
        except ReadFailed as error:
            logger.info("%s %s %s cannot be settled: %s", *entry.key, error)
            return
        if entry.series is not series or entry.is_dropped:
            return
        news = series.news(candles) if epoch == series.epoch else None
        if news is not None and was_silent(entry, made_ms):
            entry.unheard_ms = entry.unheard_ms or made_ms  # if the stream stays silent, it is mute
            entry.unheard = news
            entry.is_uncovered |= state.witness.is_current and not entry.named_ms
        if not series.apply_read(candles, made_ms, epoch=epoch, is_whole=len(candles) < _SETTLE_LIMIT):
            # More than three candles behind: the backfill reads as many as it takes.
            series.is_synced = False
            self._wake(entry)
        entry.wake()

    # --- book tickers ----------------------------------------------------------------------

    def book_tickers(self, request: BookTickerRequest, *, packed: bool) -> Outcome:
        """Answer a bookTicker call for one symbol or a list."""
        state = self.states[request.market]
        entries = []
        for symbol in request.symbols:
            entry = state.tickers.get(symbol)
            if entry is None:
                reason = self._start_on_demand(state, symbol, BOOK_TICKER)
                # The rest of the list starts too, so that the next call finds all of it.
                for other in [each for each in request.symbols if each not in state.tickers]:
                    self._start_on_demand(state, other, BOOK_TICKER)
                return self._miss(None, reason)
            entry.used_mono = self._clock.mono()
            entries.append(entry)
        lack = self._ticker_lack(state, entries)
        if lack is None:
            oldest = min(entry.proof_mono for entry in entries)
            if self._clock.mono() - oldest > state.quiet_s * _AHEAD:
                # Before it is due, so that nobody has to wait for it; one read serves all for a while.
                state.ticker_witness.verify(not_within_s=state.quiet_s * _AHEAD)
            return self._ticker_hit(state, entries, request)
        if lack.reason == "stream quiet" or (lack.can_settle and len(entries) == 1):
            return self._settle_ticker(state, entries, request, lack)
        return self._miss(entries[0], lack.reason)

    def _ticker_lack(self, state: MarketState, entries: list[KeptTicker]) -> _Lack | None:
        pool, mono = state.ticker_pool, self._clock.mono()
        for entry in entries:
            if not entry.is_live or pool.proof_mono(entry.stream) is None:
                return _Lack("stream not live")
            if not entry.ticker.is_valid:
                return _Lack("not read yet", can_settle=True)
            if entry.is_mute:
                return _Lack("stream mute")
        # Judged last: a list settles only if nothing else is the matter.
        for entry in entries:
            if entry.unheard_mono is not None or mono - entry.proof_mono > state.quiet_s:
                return _Lack("stream quiet", can_settle=True)
        return None

    def _ticker_hit(self, state: MarketState, entries: list[KeptTicker], request: BookTickerRequest) -> Hit:
        mono = self._clock.mono()
        proof = min(entry.proof_mono for entry in entries)
        if request.is_list:
            body = b"[" + b",".join(entry.ticker.object() for entry in entries) + b"]"
        else:
            body = entries[0].ticker.body()
        for entry in entries[1:]:
            entry.hits += 1
        hit = Hit(body, None, max(0, int((mono - proof) * 1000)))
        return self._hit(entries[0], hit)

    async def _settle_ticker(
        self, state: MarketState, entries: list[KeptTicker], request: BookTickerRequest, lack: _Lack
    ) -> Hit | Miss:
        """Read the value anew: the stream has not shown yet that it works, or is quiet."""
        entry, mono = entries[0], self._clock.mono()
        if lack.reason == "stream quiet":
            reading = state.ticker_witness.verify()
            if reading is not None:
                await asyncio.wait({reading}, timeout=_SETTLE_TIMEOUT_S)
            still = self._ticker_lack(state, entries)
            if still is None:
                return self._ticker_hit(state, entries, request)
            return self._miss(entry, still.reason)
        if entry.read is None or (entry.read.done() and mono - entry.read_mono >= _REREAD_S):
            entry.read_mono = mono
            entry.read = self._tasks.spawn(self._reseed(state, entry), name=f"ticker-settle:{entry.symbol}")
        await asyncio.wait({entry.read}, timeout=_SETTLE_TIMEOUT_S)
        still = self._ticker_lack(state, entries)
        return self._ticker_hit(state, entries, request) if still is None else self._miss(entry, still.reason)

    async def _reseed(self, state: MarketState, entry: KeptTicker) -> None:
        with suppress(ReadFailed):
            await seed(state, [entry])

    # --- counting --------------------------------------------------------------------------

    def _hit(self, entry: Kept, hit: Hit) -> Hit:
        entry.hits += 1
        self.hits += 1
        return hit

    def count_miss(self, reason: str) -> None:
        """Count a call that goes to the exchange; reasons are words of ours, never a client's."""
        self.misses += 1
        self.miss_reasons[reason] += 1

    def _miss(self, entry: Kept | None, reason: str) -> Miss:
        self.count_miss(reason)
        if entry is not None:
            entry.misses[reason] += 1
        return Miss(reason)

    def note_weight(self, market: Market, used_by_all: int, used: int) -> None:
        """Take the used weight of a market's pool: at all egresses, and at the least used one."""
        pool = POOLS.get(market)
        if pool is None:
            return
        self.used_weight[pool] = str(used)
        state = self.states[market]
        if state.server.is_set:
            self.shares[pool].observe(used_by_all, state.now_ms())

    def close_pool(self, market: Market, pause_ms: int) -> None:
        """A client's call met a 429 or 418: own reads pause too."""
        pool = POOLS.get(market)
        if pool is not None:
            self.shares[pool].close(self._clock.mono() + pause_ms / 1000)


@dataclass(frozen=True, slots=True)
class _Lack:
    """What an entry lacks for an answer now."""

    reason: str
    can_settle: bool = False
    may_come: bool = False
