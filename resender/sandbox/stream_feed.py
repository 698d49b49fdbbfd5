"""What a market's streams push and when, for the streams somebody has subscribed.

`StreamFeed` owns the push state of every subscribed stream. It is driven by `tick` with
the exchange's time and hands finished events to `emit`; it knows no connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from resender.core.markets import Market

from . import intervals as iv
from . import shapes
from . import stream_payloads as payloads
from .exchange import Exchange
from .faults import StreamFaults
from .market import MarketStore
from .series import Candle
from .stream_names import Stream

Emit = Callable[[str, str], None]
_CATCH_UP = 50  # finished candles pushed after a jump of the clock, at most
_SLOW_MS = {"markPrice": 3000, "miniTicker": 2000, "allBookTicker": 5000, "allMarkPrice": 3000}


@dataclass(slots=True)
class _KlineState:
    stream: Stream
    store: MarketStore
    symbol: str
    open_ms: int
    end_ms: int
    due_ms: int
    pushed: Candle | None = None


@dataclass(slots=True)
class _BookState:
    symbol: str
    update_id: int


@dataclass(slots=True)
class _SlowState:
    stream: Stream
    due_ms: int
    marks: dict[str, int] = field(default_factory=dict)


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
        self._late: deque[tuple[float, str, str]] = deque()

    def add(self, stream: Stream, now_ms: int) -> None:
        """Begin to push a stream; nothing is pushed before its next change."""
        if stream.kind in ("kline", "continuousKline"):
            found = self._candle_source(stream)
            if found is not None:
                store, symbol = found
                start = iv.open_time(stream.interval, now_ms, stream.offset_ms)
                end = iv.next_open(stream.interval, start, stream.offset_ms)
                due = now_ms + self._push_ms(stream)
                self._klines[stream.name] = _KlineState(stream, store, symbol, start, end, due)
        elif stream.kind == "bookTicker":
            if stream.symbol in self._store.series:
                update_id = self._store.update_id(stream.symbol, now_ms)
                self._books[stream.name] = _BookState(stream.symbol, update_id)
        else:
            self._slow[stream.name] = _SlowState(stream, now_ms + self._slow_ms(stream))

    def discard(self, name: str) -> None:
        """Stop pushing a stream nobody wants any more."""
        self._klines.pop(name, None)
        self._books.pop(name, None)
        self._slow.pop(name, None)

    def mark_pushed(self, symbol: str, update_id: int) -> None:
        """Note a book ticker that was pushed out of rhythm."""
        state = self._books.get(f"{symbol.lower()}@bookTicker")
        if state is not None:
            state.update_id = update_id

    def tick(self, now_ms: int, mono: float) -> None:
        """Push everything that is due."""
        while self._late and self._late[0][0] <= mono:
            _, name, text = self._late.popleft()
            self._emit(name, text)
        for state in list(self._klines.values()):
            if now_ms >= state.end_ms or now_ms >= state.due_ms:
                self._tick_kline(state, now_ms, mono)
        frozen = self._faults.frozen
        for name, book in list(self._books.items()):
            if book.symbol not in self._store.series or (frozen and (book.symbol in frozen or "*" in frozen)):
                continue
            update_id = self._store.update_id(book.symbol, now_ms)
            if update_id > book.update_id:
                book.update_id = update_id
                ticker = self._store.book_ticker(book.symbol, now_ms)
                self._emit(name, payloads.book_ticker(self._store, book.symbol, ticker, now_ms))
        for slow in list(self._slow.values()):
            if now_ms >= slow.due_ms:
                slow.due_ms = now_ms + self._slow_ms(slow.stream)
                self._tick_slow(slow, now_ms)

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
            candle = series.candle(state.open_ms, state.end_ms, now)
            text = None
            # Futures push "if existing": a candle without trades never gets its x:true.
            if candle is not None and (self._market is Market.SPOT or candle.trades):
                text = payloads.kline(
                    store, stream, state.symbol, state.open_ms, state.end_ms, candle, True, now
                )
            state.open_ms = state.end_ms
            state.end_ms = iv.next_open(stream.interval, state.open_ms, stream.offset_ms)
            state.pushed = None
            if text is not None:
                self._push_final(state, text, now, mono)
        if now >= state.due_ms:
            state.due_ms = now + self._push_ms(stream)
            self._push_open(state, now, is_forced=False)

    def _push_open(self, state: _KlineState, now: int, is_forced: bool) -> None:
        candle = state.store.series[state.symbol].candle(state.open_ms, state.end_ms, now)
        if candle is None or (not is_forced and (candle == state.pushed or not candle.trades)):
            return
        state.pushed = candle
        text = payloads.kline(
            state.store, state.stream, state.symbol, state.open_ms, state.end_ms, candle, False, now
        )
        self._emit(state.stream.name, text)

    def _push_final(self, state: _KlineState, text: str, now: int, mono: float) -> None:
        faults = self._faults
        if faults.next_before_final:
            self._push_open(state, now, is_forced=True)
        if faults.swallow_final:
            return
        if faults.late_final_s > 0:
            self._late.append((mono + faults.late_final_s, state.stream.name, text))
        else:
            self._emit(state.stream.name, text)

    # -- slower streams --------------------------------------------------------------------

    def _slow_ms(self, stream: Stream) -> int:
        if stream.detail == "1s":
            return 1000
        if stream.kind in ("aggTrade", "trade", "depth"):
            return 250
        if stream.kind == "allBookTicker" and self._market is Market.CM:
            return 1000
        if self._market is Market.UM or stream.kind == "markPrice":
            return _SLOW_MS.get(stream.kind, 1000)
        return 500 if stream.kind == "miniTicker" and self._market is Market.CM else 1000

    def _tick_slow(self, state: _SlowState, now: int) -> None:
        stream, name = state.stream, state.stream.name
        if stream.kind == "allBookTicker":
            for store, symbol in self._changed(state, now):
                ticker = store.book_ticker(symbol, now)
                self._emit(name, payloads.book_ticker(store, symbol, ticker, now))
            return
        if stream.kind in ("allMiniTicker", "allMarkPrice"):
            make = payloads.mini_ticker if stream.kind == "allMiniTicker" else payloads.mark_price
            rows = [make(store, symbol, now) for store, symbol in self._changed(state, now)]
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
        elif stream.kind == "depth":
            self._emit(name, payloads.depth(store, stream.symbol, int(stream.detail), now))
        else:
            self._push_trades(state, store, now)

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

    def _changed(self, state: _SlowState, now: int) -> list[tuple[MarketStore, str]]:
        # All-market streams of the futures hosts carry both kinds of symbols since 2026-06.
        markets = [self._market] if self._market is Market.SPOT else [Market.UM, Market.CM]
        changed = []
        for market in markets:
            store = self._exchange.stores[market]
            for symbol in store.series:
                update_id = store.update_id(symbol, now)
                if update_id != state.marks.get(symbol):
                    state.marks[symbol] = update_id
                    changed.append((store, symbol))
        return changed
