"""When the candle streams of a market push, and what goes wrong with their final events.

`CandleFeed` owns the push state of the subscribed candle streams. It is driven by `tick` with
the exchange's time and hands finished events to `emit`.
"""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from resender.core.binance.markets import Market

from . import intervals as iv
from . import stream_payloads as payloads
from .exchange import Exchange
from .faults import StreamFaults
from .final_delays import final_delay_ms
from .market import MarketStore
from .opens import silent_ms, zero_push_ms
from .series import Candle
from .stream_names import Stream

Emit = Callable[[str, str], None]
_ALWAYS = ("indexPriceKline", "markPriceKline")
_CATCH_UP = 50  # finished candles pushed after a jump of the clock, at most


@dataclass(slots=True)
class _KlineState:
    stream: Stream
    store: MarketStore
    symbol: str
    open_ms: int
    end_ms: int
    due_ms: int
    pushed: Candle | None = None
    waiting: int = 0  # finals held back by a delay
    final_due_ms: float = 0.0


@dataclass(slots=True)
class _Final:
    """A closed candle whose event is still to be sent."""

    state: _KlineState
    open_ms: int
    end_ms: int
    candle: Candle


class CandleFeed:
    """The candle streams of one market."""

    def __init__(self, exchange: Exchange, market: Market, faults: StreamFaults, emit: Emit) -> None:
        self._exchange = exchange
        self._market = market
        self._store = exchange.stores[market]
        self._faults = faults
        self._emit = emit
        self._klines: dict[str, _KlineState] = {}
        self._late: list[tuple[float, int, str, str]] = []
        self._finals: list[tuple[float, int, _Final]] = []
        self._order = itertools.count()

    @property
    def next_final_ms(self) -> float | None:
        """When the next final event is due, None when none is waiting."""
        return self._finals[0][0] if self._finals else None

    def add(self, stream: Stream, now_ms: int) -> None:
        """Begin to push a stream; nothing is pushed before its next change."""
        found = self._candle_source(stream)
        if found is None:
            return
        store, symbol = found
        start = iv.open_time(stream.interval, now_ms, stream.offset_ms)
        end = iv.next_open(stream.interval, start, stream.offset_ms)
        due = now_ms + self._push_ms(stream)
        if self._exchange.config.measured:  # not all that were subscribed together at once
            due -= zlib.crc32(stream.name.encode()) % self._push_ms(stream)
        self._klines[stream.name] = _KlineState(stream, store, symbol, start, end, due)

    def discard(self, name: str) -> None:
        """Stop pushing a stream nobody wants any more."""
        self._klines.pop(name, None)

    def tick(self, now_ms: int, mono: float) -> None:
        """Push everything that is due."""
        while self._late and self._late[0][0] <= mono:
            _, _, name, text = heapq.heappop(self._late)
            self._emit(name, text)
        for state in list(self._klines.values()):
            if now_ms >= state.end_ms or now_ms >= state.due_ms:
                self._tick_kline(state, now_ms, mono)
        while self._finals and self._finals[0][0] <= now_ms:
            self._send_final(heapq.heappop(self._finals)[2], now_ms)

    def _candle_source(self, stream: Stream) -> tuple[MarketStore, str] | None:
        if self._market is Market.SPOT:
            return (self._store, stream.symbol) if stream.symbol in self._store.series else None
        if stream.kind == "kline":
            store = self._exchange.futures_store(stream.symbol, self._market)
            return (store, stream.symbol) if store else None
        if stream.kind == "indexPriceKline":
            first = self._store.symbol_of_pair(stream.symbol)
            return (self._store, first) if first else None
        if stream.kind == "markPriceKline":
            return (self._store, stream.symbol) if stream.symbol in self._store.series else None
        for spec in self._store.symbols:
            if spec.pair == stream.symbol and spec.contract_type == stream.contract_type:
                return self._store, spec.symbol
        return None

    def _push_ms(self, stream: Stream) -> int:
        return self._exchange.config.push_ms(self._market.value, stream.interval)

    def _tick_kline(self, state: _KlineState, now: int, mono: float) -> None:
        stream, store = state.stream, state.store
        series = store.series.get(state.symbol)
        if series is None:
            return  # delisted: silence
        if now - state.end_ms > _CATCH_UP * (state.end_ms - state.open_ms):
            state.open_ms = iv.open_time(stream.interval, now, stream.offset_ms)
            state.end_ms = iv.next_open(stream.interval, state.open_ms, stream.offset_ms)
            state.pushed = None
        while now >= state.end_ms:
            candle = store.candle(state.symbol, stream.interval, state.open_ms, state.end_ms, now)
            final = None
            # Futures push "if existing": a candle without trades never gets its x:true.
            if candle is not None and (
                self._market is Market.SPOT or candle.trades or stream.kind in _ALWAYS
            ):
                final = _Final(state, state.open_ms, state.end_ms, candle)
            state.open_ms = state.end_ms
            state.end_ms = iv.next_open(stream.interval, state.open_ms, stream.offset_ms)
            state.pushed = None
            if final is not None:
                self._push_final(final, now, mono)
        # A delayed final is followed, not overtaken, by the next candle.
        if now >= state.due_ms and (not state.waiting or self._faults.next_before_final):
            state.due_ms = now + self._push_ms(stream)
            self._push_open(state, now, is_forced=False)

    def _push_open(self, state: _KlineState, now: int, is_forced: bool) -> None:
        candle = state.store.candle(state.symbol, state.stream.interval, state.open_ms, state.end_ms, now)
        if candle is None or (not is_forced and not self._is_shown(state, candle, now)):
            return
        state.pushed = candle
        text = payloads.kline(
            state.store, state.stream, state.symbol, state.open_ms, state.end_ms, candle, False, now
        )
        self._emit(state.stream.name, text)

    def _is_shown(self, state: _KlineState, candle: Candle, now: int) -> bool:
        if state.stream.kind in _ALWAYS:
            return True  # prices of every second, traded or not
        if candle == state.pushed:
            return False
        seed, since_ms = self._exchange.config.seed, now - state.open_ms
        if not candle.trades:
            is_due = self._market is Market.SPOT and self._faults.zero_open
            return is_due and since_ms >= zero_push_ms(seed, state.symbol, state.open_ms)
        is_silent = self._market is Market.UM and self._faults.silent_open
        return not is_silent or since_ms >= silent_ms(seed, state.symbol, state.open_ms)

    def _push_final(self, final: _Final, now: int, mono: float) -> None:
        faults, state = self._faults, final.state
        if faults.next_before_final:
            self._push_open(state, now, is_forced=True)
        if faults.swallow_final:
            return
        late_s = faults.late_final_by_symbol.get(state.symbol, faults.late_final_s)
        if late_s > 0:
            text = self._final_text(final, now)
            heapq.heappush(self._late, (mono + late_s, next(self._order), state.stream.name, text))
        elif faults.final_delay is not None:
            delay = final_delay_ms(
                faults.final_delay,
                self._exchange.config.seed,
                state.symbol,
                final.end_ms,
                is_spot=self._market is Market.SPOT,
                is_continuous=state.stream.kind == "continuousKline",
            )
            state.waiting += 1
            state.final_due_ms = max(state.final_due_ms, final.end_ms + delay)
            heapq.heappush(self._finals, (state.final_due_ms, next(self._order), final))
        else:
            self._emit(state.stream.name, self._final_text(final, now))

    def _send_final(self, final: _Final, now: int) -> None:
        state = final.state
        state.waiting -= 1
        if self._klines.get(state.stream.name) is state and state.symbol in state.store.series:
            self._emit(state.stream.name, self._final_text(final, now))

    def _final_text(self, final: _Final, now: int) -> str:
        state = final.state
        return payloads.kline(
            state.store, state.stream, state.symbol, final.open_ms, final.end_ms, final.candle, True, now
        )
