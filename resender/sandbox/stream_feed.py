"""What a market's streams push and when, for the streams somebody has subscribed.

`StreamFeed` owns the push state of every subscribed stream. It is driven by `tick` with
the exchange's time and hands finished events to `emit`; it knows no connections.
"""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from resender.core.binance.markets import Market

from . import intervals as iv
from . import shapes
from . import stream_payloads as payloads
from .exchange import Exchange
from .faults import StreamFaults
from .final_delays import final_delay_ms
from .market import MarketStore
from .opens import silent_ms, zero_push_ms
from .series import Candle
from .stream_names import Stream

Emit = Callable[[str, str], None]
_CATCH_UP = 50  # finished candles pushed after a jump of the clock, at most
_SLOW_MS = {"markPrice": 3000, "miniTicker": 2000, "allMarkPrice": 3000}
# USD-M relays a symbol on !bookTicker at most this often, COIN-M at once.
_RELAY_MS = 5000
_RELAY_LOOK_MS = 250


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


@dataclass(slots=True)
class _BookState:
    symbol: str
    update_id: int


@dataclass(slots=True)
class _SlowState:
    stream: Stream
    due_ms: int
    since_ms: int
    marks: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _RelayState:
    """An all-market bookTicker: update ids sent, and when each symbol may be sent again."""

    look_ms: int
    sent: dict[str, int]
    due_ms: dict[str, int]


class StreamFeed:
    """The pushes of one market."""

    def __init__(self, exchange: Exchange, market: Market, faults: StreamFaults, emit: Emit) -> None:
        self._exchange = exchange
        self._market = market
        self._store = exchange.stores[market]
        self._faults = faults
        self._emit = emit
        self._klines: dict[str, _KlineState] = {}
        self._books: dict[str, _BookState] = {}
        self._slow: dict[str, _SlowState] = {}
        self._relays: dict[str, _RelayState] = {}
        self._late: list[tuple[float, int, str, str]] = []
        self._finals: list[tuple[float, int, _Final]] = []
        self._order = itertools.count()

    @property
    def next_final_ms(self) -> float | None:
        """When the next final event is due, None when none is waiting."""
        return self._finals[0][0] if self._finals else None

    def add(self, stream: Stream, now_ms: int) -> None:
        """Begin to push a stream; nothing is pushed before its next change."""
        if stream.kind in ("kline", "continuousKline"):
            found = self._candle_source(stream)
            if found is not None:
                store, symbol = found
                start = iv.open_time(stream.interval, now_ms, stream.offset_ms)
                end = iv.next_open(stream.interval, start, stream.offset_ms)
                due = now_ms + self._push_ms(stream)
                if self._exchange.config.measured:  # not all that were subscribed together at once
                    due -= zlib.crc32(stream.name.encode()) % self._push_ms(stream)
                self._klines[stream.name] = _KlineState(stream, store, symbol, start, end, due)
        elif stream.kind == "bookTicker":
            if stream.symbol in self._store.series:
                update_id = self._store.update_id(stream.symbol, now_ms)
                self._books[stream.name] = _BookState(stream.symbol, update_id)
        elif stream.kind == "allBookTicker":
            self._relays[stream.name] = self._new_relay(now_ms)
        else:
            self._slow[stream.name] = _SlowState(stream, now_ms + self._slow_ms(stream), now_ms)

    def discard(self, name: str) -> None:
        """Stop pushing a stream nobody wants any more."""
        self._klines.pop(name, None)
        self._books.pop(name, None)
        self._slow.pop(name, None)
        self._relays.pop(name, None)

    def mark_pushed(self, symbol: str, update_id: int) -> None:
        """Note a book ticker that was pushed out of rhythm."""
        state = self._books.get(f"{symbol.lower()}@bookTicker")
        if state is not None:
            state.update_id = update_id

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
        for name, book in list(self._books.items()):
            if book.symbol not in self._store.series or self._is_frozen(book.symbol):
                continue
            update_id = self._store.update_id(book.symbol, now_ms)
            if update_id > book.update_id:
                book.update_id = update_id
                ticker = self._store.book_ticker(book.symbol, now_ms)
                self._emit(name, payloads.book_ticker(self._store, book.symbol, ticker, now_ms))
        for name, relay in list(self._relays.items()):
            if now_ms >= relay.look_ms:
                self._tick_relay(name, relay, now_ms)
        for slow in list(self._slow.values()):
            if now_ms >= slow.due_ms:
                slow.due_ms = now_ms + self._slow_ms(slow.stream)
                self._tick_slow(slow, now_ms)

    def _is_frozen(self, symbol: str) -> bool:
        frozen = self._faults.frozen
        return bool(frozen) and (symbol in frozen or "*" in frozen)

    # -- candles ---------------------------------------------------------------------------

    def _candle_source(self, stream: Stream) -> tuple[MarketStore, str] | None:
        if self._market is Market.SPOT:
            return (self._store, stream.symbol) if stream.symbol in self._store.series else None
        if stream.kind == "kline":
            store = self._exchange.futures_store(stream.symbol, self._market)
            return (store, stream.symbol) if store else None
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
            if candle is not None and (self._market is Market.SPOT or candle.trades):
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

    # -- slower streams --------------------------------------------------------------------

    def _slow_ms(self, stream: Stream) -> int:
        if stream.detail == "1s":
            return 1000
        if stream.kind == "diffDepth":
            return int(stream.detail or (1000 if self._market is Market.SPOT else 250))
        if stream.kind in ("aggTrade", "trade", "depth"):
            return 250
        if self._market is Market.UM or stream.kind == "markPrice":
            return _SLOW_MS.get(stream.kind, 1000)
        return 500 if stream.kind == "miniTicker" and self._market is Market.CM else 1000

    def _tick_slow(self, state: _SlowState, now: int) -> None:
        stream, name = state.stream, state.stream.name
        if stream.kind in ("allMiniTicker", "allMarkPrice"):
            if stream.kind == "allMiniTicker":
                rows = [payloads.mini_ticker(*traded, now) for traded in self._traded(state, now)]
            else:
                rows = [payloads.mark_price(*changed, now) for changed in self._changed(state, now)]
            if rows:
                self._emit(name, f"[{','.join(rows)}]")
            return
        store = self._store
        if stream.kind == "markPrice" and self._market is not Market.SPOT:
            store = self._exchange.futures_store(stream.symbol, self._market) or store
        if stream.symbol not in store.series:
            return
        if stream.kind == "markPrice":
            self._emit(name, payloads.mark_price(store, stream.symbol, now))
        elif stream.kind == "miniTicker":
            self._emit(name, payloads.mini_ticker(store, stream.symbol, now))
        elif stream.kind == "ticker":
            self._emit(name, payloads.day_ticker(store, stream.symbol, now))
        elif stream.kind == "diffDepth":
            self._push_diff(state, store, now)
        elif stream.kind == "depth":
            self._emit(name, payloads.depth(store, stream.symbol, int(stream.detail), now))
        else:
            self._push_trades(state, store, now)

    def _push_diff(self, state: _SlowState, store: MarketStore, now: int) -> None:
        """Push the changes since the last event, if there are any; ids follow each other without a hole."""
        symbol = state.stream.symbol
        newest = store.update_id(symbol, now)
        before = state.marks.setdefault(symbol, newest - 1)
        if newest > before:
            state.marks[symbol] = newest
            self._emit(state.stream.name, payloads.depth_diff(store, symbol, before, newest, now))

    def _push_trades(self, state: _SlowState, store: MarketStore, now: int) -> None:
        symbol = state.stream.symbol
        newest = store.series[symbol].path.trade_id_at(now)
        before = state.marks.get(symbol, newest - 1)
        if store.series[symbol].spec.status != "TRADING":
            return
        state.marks[symbol] = newest
        for row in shapes.trades(store, symbol, min(20, newest - before), now, newest):
            is_aggregate = state.stream.kind == "aggTrade"
            self._emit(state.stream.name, payloads.trade(store, symbol, row, is_aggregate, now))

    # -- streams of all symbols ------------------------------------------------------------

    def _universe(self) -> list[tuple[MarketStore, str]]:
        # All-market streams of the futures hosts carry both kinds of symbols since 2026-06.
        markets = [self._market] if self._market is Market.SPOT else [Market.UM, Market.CM]
        stores = [self._exchange.stores[market] for market in markets]
        return [(store, symbol) for store in stores for symbol in store.series]

    def _changed(self, state: _SlowState, now: int) -> list[tuple[MarketStore, str]]:
        changed = []
        for store, symbol in self._universe():
            update_id = store.update_id(symbol, now)
            if update_id != state.marks.get(symbol):
                state.marks[symbol] = update_id
                changed.append((store, symbol))
        return changed

    def _traded(self, state: _SlowState, now: int) -> list[tuple[MarketStore, str]]:
        since, state.since_ms = state.since_ms, now
        return [
            (store, symbol)
            for store, symbol in self._universe()
            if store.series[symbol].has_traded(since, now)
        ]

    def _new_relay(self, now: int) -> _RelayState:
        sent, due = {}, {}
        for store, symbol in self._universe():
            sent[symbol] = store.update_id(symbol, now)
            # Spread over the pause, so that not all symbols come at once.
            due[symbol] = now + zlib.crc32(symbol.encode()) % _RELAY_MS
        return _RelayState(now, sent, due)

    def _tick_relay(self, name: str, relay: _RelayState, now: int) -> None:
        is_slow = self._market is Market.UM
        relay.look_ms = now + _RELAY_LOOK_MS if is_slow else now
        for store, symbol in self._universe():
            if (is_slow and now < relay.due_ms.get(symbol, 0)) or self._is_frozen(symbol):
                continue
            update_id = store.update_id(symbol, now)
            if update_id <= relay.sent.get(symbol, 0):
                continue
            relay.sent[symbol], relay.due_ms[symbol] = update_id, now + _RELAY_MS
            ticker = store.book_ticker(symbol, now)
            self._emit(name, payloads.book_ticker(store, symbol, ticker, now))
