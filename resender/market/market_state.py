"""One market of the cache: its symbols, its clock, its streams and what it keeps.

It does not answer clients; `cache.py` does. It owns the stream pools and the entries of its
market, and changes them on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from resender.aio import Backoff, Clock, Tasks, end_tasks
from resender.core.binance.markets import BY_MARKET, INTERVALS, STREAM_PATHS, Market
from resender.core.binance.stream_names import MINI_TICKERS, book_ticker_stream, kline_stream
from resender.core.market.book_ticker import BookTicker
from resender.core.market.candles import parse_event
from resender.core.market.costs import exchange_info_weight
from resender.core.market.klines import FINAL_AFTER_MS, KlineSeries
from resender.core.market.server_clock import ServerClock
from resender.market.backfill import Backfill, Reader, ReadFailed
from resender.market.freshness import brings, kline_proof, note_event, note_traded
from resender.market.pools import MakePool
from resender.market.series import BOOK_TICKER, KeptKlines, KeptTicker
from resender.market.symbols import EXCHANGE_INFO, SymbolTable
from resender.market.witness import TickerWitness, TradeWitness

logger = logging.getLogger("resender.market")

_RESYNC_S = 600.0
_RESYNC_PAUSE_S = 5.0
# A slower answer says too little about what time it is.
_MAX_TIME_TRIP_S = 1.0
# A stream found mute is moved at once, the next times after growing pauses.
_MUTE_PAUSE_S = 15.0
_MUTE_MAX_S = 600.0
_MUTE_FORGET_S = 1800.0
_WITNESS_SILENCE_S = 10.0
_FUTURE_MS = 2000  # a time so far beyond the latest possible one is not believed


class MarketState:
    """Everything the cache keeps of one market."""

    def __init__(
        self,
        market: Market,
        *,
        reader: Reader,
        make_pool: MakePool,
        clock: Clock,
        tasks: Tasks,
        depth: int,
        refresh_s: float,
        on_symbols: Callable[[MarketState], None],
        on_created: Callable[[KeptKlines], None],
        on_limit: Callable[[Market, int], int] = lambda market, limit: limit,
        quiet_s: float = 10.0,
        final_after_ms: int = FINAL_AFTER_MS,
    ) -> None:
        self.market = market
        self.quiet_s = quiet_s
        self._final_after_ms = final_after_ms
        # Streams found mute, and rows a late final event has corrected.
        self.mutes = 0
        self.corrected = 0
        self._event_mono = clock.mono()
        self._of_symbol: dict[str, list[KeptKlines]] = {}
        self.symbols = SymbolTable(market)
        self.server = ServerClock()
        self.klines: dict[tuple[str, str], KeptKlines] = {}
        self.tickers: dict[str, KeptTicker] = {}
        self.backfill: Backfill | None = None
        self.reader = reader
        self._by_stream: dict[str, KeptKlines | KeptTicker] = {}
        self._clock = clock
        self._tasks = tasks
        self._depth = depth
        self._refresh_s = refresh_s
        self._on_symbols = on_symbols
        self._on_created = on_created
        self._on_limit = on_limit
        self.requested: dict[tuple[str, str], None] = {}
        self._task: asyncio.Task[None] | None = None
        self._resync = asyncio.Event()
        self._seeding: asyncio.Task[None] | None = None
        paths = STREAM_PATHS[market]
        by_path = {
            path: make_pool(market, path, self._on_frame, self._on_live, self._on_lost)
            for path in dict.fromkeys((paths["kline"], paths["bookTicker"]))
        }
        self.witness = TradeWitness(self._on_traded, clock, self._latest_ms)
        self._watch: asyncio.Task[None] | None = None
        self._witness_pool = make_pool(
            market,
            paths["miniTicker"],
            self.witness.on_frame,
            lambda names: None,
            self.witness.on_lost,
            is_witness=True,
        )
        self.ticker_witness = TickerWitness(
            market.value,
            lambda: list(self.tickers.values()),
            self._read_rows,
            self.mute,
            quiet_s=quiet_s,
            clock=clock,
            tasks=tasks,
        )
        self.pools = [*by_path.values(), self._witness_pool]
        self.kline_pool = by_path[paths["kline"]]
        self.ticker_pool = by_path[paths["bookTicker"]]

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow this market; the first call does it, later ones do nothing."""
        if self._task is None:
            self._event_mono = self._clock.mono()
            self._task = self._tasks.spawn(self._follow(), name=f"market-follow:{self.market}")
            self._watch = self._tasks.spawn(self._watch_witness(), name=f"witness-watch:{self.market}")

    async def stop(self) -> None:
        await end_tasks([task for task in (self._task, self._watch) if task is not None])
        for pool in self.pools:
            await pool.stop()

    @property
    def heard_mono(self) -> float:
        """When any candle event or array of the witness came last, at first the start."""
        return max(self._event_mono, self.witness.heard_mono)

    @property
    def is_started(self) -> bool:
        return self._task is not None

    @property
    def is_ready(self) -> bool:
        """Whether symbols and clock are known."""
        return self.symbols.is_loaded and self.server.is_set

    def now_ms(self) -> int:
        return self.server.now_ms(self._clock.mono())

    async def _follow(self) -> None:
        """Keep clock and symbols current."""
        for pool in self.pools:
            await pool.start()
        backoff = Backoff(first_s=1.0, cap_s=15.0)
        synced_mono = read_mono = -1e9
        while True:
            mono = self._clock.mono()
            wait_s = self._refresh_s
            try:
                if not self.server.is_set or mono - synced_mono > _RESYNC_S or self._resync.is_set():
                    self._resync.clear()
                    await self._read_time()
                    synced_mono = mono
                if not self.symbols.is_loaded or mono - read_mono >= self._refresh_s:
                    await self._read_symbols()
                    read_mono = mono
                backoff.reset()
            except ReadFailed as error:
                wait_s = backoff.next_s()
                logger.warning("%s: symbols or time cannot be read: %s", self.market, error)
                await asyncio.sleep(wait_s)
                continue
            # The clock is asked again at most every few seconds, however odd the events are.
            await asyncio.sleep(min(wait_s, _RESYNC_PAUSE_S))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._resync.wait(), max(0.0, wait_s - _RESYNC_PAUSE_S))

    async def _read_time(self) -> None:
        target = BY_MARKET[self.market].time_path
        await self._get(target, 1)  # opens the connection, so that the next one tells the time
        sent_mono = self._clock.mono()
        body = await self._get(target, 1)
        mono = self._clock.mono()
        try:
            server_ms = orjson.loads(body)["serverTime"]
        except (ValueError, KeyError, TypeError):
            raise ReadFailed("an answer to /time without serverTime") from None
        if type(server_ms) is not int:
            raise ReadFailed("an answer to /time without serverTime")
        if mono - sent_mono > _MAX_TIME_TRIP_S and self.server.is_set:
            raise ReadFailed(f"/time took {mono - sent_mono:.1f} s")
        self.server.set(server_ms, sent_mono, mono)

    async def _read_symbols(self) -> None:
        body = await self._get(EXCHANGE_INFO[self.market], exchange_info_weight(self.market))
        was_loaded = self.symbols.is_loaded
        try:
            changed = self.symbols.load(body)
        except ValueError as error:
            raise ReadFailed(str(error)) from None
        if self.symbols.weight_limit is not None:
            self.reader.share.limit = self._on_limit(self.market, self.symbols.weight_limit)
        if not changed:
            return
        self._drop_untradable()
        requested, self.requested = self.requested, {}
        for symbol, what in requested:
            self.add(symbol, what)
        self._on_symbols(self)
        if not was_loaded:
            logger.info("%s: %d symbols can be traded", self.market, len(self.symbols.tradable))

    async def _get(self, target: str, weight: int) -> bytes:
        while not self.reader.share.take(weight, self.any_ms(), self._clock.mono(), is_urgent=True):
            # A ban is waited out; the clients' calls go on meanwhile.
            wait_s = self.reader.share.wait_s(self.any_ms(), self._clock.mono())
            await asyncio.sleep(max(0.2, min(60.0, wait_s)))
        return await self.reader.get(self.market, target)

    def any_ms(self) -> int:
        """Return the exchange's time or, before it is known, the machine's."""
        return self.now_ms() if self.server.is_set else self._clock.now_ms()

    # --- what is kept ----------------------------------------------------------------------

    def request_later(self, symbol: str, what: str) -> None:
        """Remember what was asked for before the symbols were known."""
        self.requested[symbol, what] = None

    @property
    def on_demand(self) -> int:
        """How many entries no rule stands behind."""
        return sum(not entry.is_preload for entry in self.entries())

    def add(self, symbol: str, what: str, *, is_preload: bool = False) -> KeptKlines | KeptTicker | None:
        """Begin to keep an interval of a symbol, or its bookTicker; None if it cannot be traded."""
        if symbol not in self.symbols:
            return None
        now = self._clock.mono()
        entry: KeptKlines | KeptTicker
        if what == BOOK_TICKER:
            known = self.tickers.get(symbol)
            if known is not None:
                known.is_preload |= is_preload
                return known
            stream = book_ticker_stream(symbol)
            entry = KeptTicker(self.market, symbol, stream, now, is_preload, ticker=BookTicker(self.market))
            self.tickers[symbol] = entry
            self._by_stream[stream] = entry
            self.ticker_pool.want([stream])
            return entry
        if what not in INTERVALS[self.market]:
            return None
        kept = self.klines.get((symbol, what))
        if kept is not None:
            kept.is_preload |= is_preload
            return kept
        stream = kline_stream(symbol, what)
        series = KlineSeries(what, self._depth, self._final_after_ms)
        entry = KeptKlines(self.market, symbol, stream, now, is_preload, interval=what, series=series)
        self.klines[symbol, what] = entry
        self._of_symbol.setdefault(symbol, []).append(entry)
        self.witness.start(self._witness_pool)
        self._by_stream[stream] = entry
        self._on_created(entry)
        self.kline_pool.want([stream])
        return entry

    def remove(self, entry: KeptKlines | KeptTicker) -> None:
        """Stop keeping an entry."""
        entry.is_dropped = True
        entry.is_live = False
        self._by_stream.pop(entry.stream, None)
        if isinstance(entry, KeptKlines):
            self.klines.pop((entry.symbol, entry.interval), None)
            self._of_symbol[entry.symbol].remove(entry)
            if not self._of_symbol[entry.symbol]:
                del self._of_symbol[entry.symbol]
            self.kline_pool.drop([entry.stream])
        else:
            self.tickers.pop(entry.symbol, None)
            self.ticker_pool.drop([entry.stream])
        entry.wake()

    def entries(self) -> list[KeptKlines | KeptTicker]:
        return [*self.klines.values(), *self.tickers.values()]

    def _drop_untradable(self) -> None:
        for entry in self.entries():
            if entry.symbol not in self.symbols:
                logger.info("%s: %s cannot be traded any more and is dropped", self.market, entry.symbol)
                self.remove(entry)

    # --- what the streams say --------------------------------------------------------------

    def _on_frame(self, name: str, data: dict[str, Any]) -> bool | None:
        entry = self._by_stream.get(name)
        if entry is None:
            return None
        if isinstance(entry, KeptTicker):
            if data["s"] != entry.symbol:
                raise ValueError("a book ticker of another symbol")
            if entry.ticker.apply(data) or data["u"] == entry.ticker.update_id:
                entry.event_mono = self._clock.mono()
                entry.unheard_mono = None
                entry.is_mute = False
            return None
        symbol, interval, candle = parse_event(data)
        if symbol != entry.symbol or interval != entry.interval:
            raise ValueError("a kline of another series")
        event_ms = data["E"]
        if candle.open_time > event_ms:
            raise ValueError("a kline from the future")
        self._event_mono = mono = self._clock.mono()
        if not self.server.observe(event_ms, mono) and self.server.is_set:
            # Either this event or our idea of the time is wrong: neither is built upon.
            self._resync.set()
            entry.series.is_synced = False
            if self.backfill is not None:
                self.backfill.wake()
            return None
        series = entry.series
        if series.is_current(candle):
            note_event(entry, event_ms, data["k"]["c"])
            entry.is_mute = False
        elif entry.unheard_ms and brings(candle, entry.unheard):
            entry.unheard_ms = 0  # late, but what REST knew has come
            entry.is_mute = False
        corrected = series.corrected
        if series.apply_event(candle):
            if series.corrected != corrected:
                self.corrected += 1
                logger.warning(
                    "%s %s %s: a late final event corrects the candle of %d that REST had settled",
                    *entry.key, candle.open_time,
                )  # fmt: skip
            if entry.waiters:
                entry.wake()
        return None

    def _on_traded(self, symbol: str, event_ms: int, price: str) -> None:
        for entry in self._of_symbol.get(symbol, ()):
            note_traded(entry, event_ms, price)

    def proof(self, entry: KeptKlines | KeptTicker) -> tuple[int | None, str]:
        """Tell how old the last proof of an entry is and of which kind; None if it has none now.

        Shape: kinds are `event`, `rest`, `witness` and "". Units: milliseconds.
        """
        mono = self._clock.mono()
        if isinstance(entry, KeptTicker):
            if not entry.is_live or not entry.ticker.is_valid:
                return None, ""
            kind = "event" if entry.event_mono >= entry.seeded_mono else "rest"
            return int((mono - entry.proof_mono) * 1000), kind
        if not entry.is_live or not entry.series.is_synced or not self.server.is_set:
            return None, ""
        now_ms = self.server.now_ms(mono)
        proof, _ = kline_proof(entry, self.witness, now_ms, self.quiet_s)
        return max(0, now_ms - proof.at_ms), proof.kind

    # --- mute streams ----------------------------------------------------------------------

    def mute(self, entry: KeptKlines | KeptTicker) -> None:
        """A witness contradicts a stream: no hits, and another connection, at growing intervals."""
        now = self._clock.mono()
        if entry.is_dropped or entry.is_mute or not entry.is_live:
            return
        if now - entry.moved_mono > _MUTE_FORGET_S:
            entry.mutes = 0
        entry.mutes += 1
        self.mutes += 1
        entry.is_mute = True
        pause_s = 0.0 if entry.mutes == 1 else min(_MUTE_MAX_S, _MUTE_PAUSE_S * 2 ** (entry.mutes - 2))
        logger.warning(
            "%s %s %s: its stream brings nothing although there is something new; "
            "it is subscribed again on another connection%s",
            *entry.key, f" in {pause_s:.0f} s" if pause_s else "",
        )  # fmt: skip
        self._tasks.spawn(self._move(entry, pause_s), name=f"stream-move:{entry.stream}")

    def _latest_ms(self) -> int | None:
        if not self.server.is_set:
            return None
        return self.server.latest_ms(self._clock.mono()) + _FUTURE_MS

    async def _watch_witness(self) -> None:
        """The witness' own stream may fall mute like any other: then it is moved, too."""
        backoff = Backoff(_WITNESS_SILENCE_S, _MUTE_MAX_S)
        while True:
            await asyncio.sleep(backoff.next_s())
            if self.witness.silent_s() < _WITNESS_SILENCE_S:
                backoff.reset()
            elif self._witness_pool.proof_mono(MINI_TICKERS) is not None:
                self.mutes += 1
                logger.warning("%s: %s brings nothing; it is subscribed again", self.market, MINI_TICKERS)
                self._witness_pool.shift(MINI_TICKERS, self.quiet_s)

    async def _move(self, entry: KeptKlines | KeptTicker, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        if entry.is_dropped or not entry.is_mute:
            return  # it has spoken meanwhile
        entry.moved_mono = self._clock.mono()
        pool = self.ticker_pool if isinstance(entry, KeptTicker) else self.kline_pool
        pool.shift(entry.stream, self.quiet_s)

    async def _read_rows(self, entries: list[KeptTicker]) -> tuple[float, dict[str, dict[str, Any]]]:
        from resender.market.seeds import read_rows

        return await read_rows(self, entries)

    def _on_live(self, names: list[str]) -> None:
        needs_seed = False
        for name in names:
            entry = self._by_stream.get(name)
            if entry is None:
                continue
            entry.is_live = True
            entry.is_mute = False
            if isinstance(entry, KeptTicker):
                needs_seed |= not entry.ticker.is_valid
            else:
                entry.not_before_mono = 0.0
                entry.live_ms = self.now_ms() if self.server.is_set else 0
        if self.backfill is not None:
            self.backfill.wake()
        if needs_seed and self._seeding is None:
            self._seeding = self._tasks.spawn(self._seed_all(), name=f"ticker-seed:{self.market}")

    def _on_lost(self, names: list[str]) -> None:
        for name in names:
            entry = self._by_stream.get(name)
            if entry is None:
                continue
            entry.is_live = False
            if isinstance(entry, KeptTicker):
                entry.ticker.lose()
                entry.epoch += 1
                entry.unheard_mono = None
            else:
                entry.series.lose()
                entry.unheard_ms = entry.doubt_ms = entry.event_ms = 0

    # --- seeds of book tickers -------------------------------------------------------------

    async def _seed_all(self) -> None:
        """Read the tickers that have no value yet, until none is left."""
        from resender.market.seeds import seed

        backoff = Backoff(first_s=1.0, cap_s=30.0)
        try:
            # Streams come alive in batches; most of them bring their own first value at once.
            await asyncio.sleep(0.2)
            while missing := [e for e in self.tickers.values() if e.is_live and not e.ticker.is_valid]:
                try:
                    done = await seed(self, missing)
                    backoff.reset()
                except ReadFailed as error:
                    logger.warning("%s: book tickers cannot be read: %s", self.market, error)
                    done = 0
                if not done:
                    await asyncio.sleep(backoff.next_s())
        finally:
            self._seeding = None

    async def read(self, target: str, weight: int) -> bytes:
        """Make an own read that may wait for nobody.

        Raises: ReadFailed, also if there is no weight for it now.
        """
        if not self.reader.share.take(weight, self.any_ms(), self._clock.mono(), is_urgent=True):
            raise ReadFailed("no weight left for own reads this minute")
        return await self.reader.get(self.market, target)

    def mono(self) -> float:
        return self._clock.mono()
