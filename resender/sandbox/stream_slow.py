"""The streams that push at their own pace: depth, trades, tickers, marks.

`SlowFeed` owns when each subscribed one is due and what it has told already. It is driven by
`tick` with the exchange's time and hands finished events to `emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from resender.core.binance.markets import Market

from . import stream_payloads as payloads
from . import trades
from .exchange import Exchange
from .faults import StreamFaults
from .market import MarketStore
from .stream_names import Stream

Emit = Callable[[str, str], None]
_MOST_TRADES = 2000  # told at once after a jump of the clock
_SLOW_MS = {"markPrice": 3000, "miniTicker": 2000, "allMarkPrice": 3000}


@dataclass(slots=True)
class _SlowState:
    stream: Stream
    due_ms: int
    since_ms: int
    marks: dict[str, int] = field(default_factory=dict)
    # Of depth streams: the update told last, the one before it, restarts of the book seen.
    update_id: int | None = None
    before: int = 0
    restarts: int | None = None
    # Of trade streams: the id told last.
    last_id: int | None = None


class SlowFeed:
    """The streams of one market that are neither candles nor bookTicker."""

    def __init__(self, exchange: Exchange, market: Market, faults: StreamFaults, emit: Emit) -> None:
        self._exchange = exchange
        self._market = market
        self._store = exchange.stores[market]
        self._faults = faults
        self._emit = emit
        self._slow: dict[str, _SlowState] = {}

    def add(self, stream: Stream, now_ms: int) -> None:
        """Begin to push a stream."""
        self._slow[stream.name] = _SlowState(stream, now_ms + self._slow_ms(stream), now_ms)

    def discard(self, name: str) -> None:
        """Stop pushing a stream nobody wants any more."""
        self._slow.pop(name, None)

    def tick(self, now_ms: int) -> None:
        """Push everything that is due."""
        for slow in list(self._slow.values()):
            if now_ms >= slow.due_ms:
                slow.due_ms = now_ms + self._slow_ms(slow.stream)
                self._tick_slow(slow, now_ms)

    def _slow_ms(self, stream: Stream) -> int:
        if stream.push_ms:
            return stream.push_ms
        if stream.detail == "1s":
            return 1000
        if stream.kind in ("aggTrade", "trade"):
            return 100
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
            self._push_partial(state, store, now)
        else:
            self._push_trades(state, store, now)

    def _push_diff(self, state: _SlowState, store: MarketStore, now: int) -> None:
        """Push the changes since the last event, if there are any; ids follow each other without a hole."""
        symbol = state.stream.symbol
        newest, restarts = store.update_id(symbol, now), store.book(symbol).ids.restarts
        if state.restarts not in (None, restarts):
            state.update_id = newest - 1  # what came before is not told any more
        state.restarts = restarts
        before = newest - 1 if state.update_id is None else state.update_id
        if newest > before:
            state.update_id = newest
            self._emit(state.stream.name, payloads.depth_diff(store, symbol, before, newest, now))

    def _push_partial(self, state: _SlowState, store: MarketStore, now: int) -> None:
        symbol = state.stream.symbol
        newest = store.update_id(symbol, now)
        if newest == state.update_id:
            if self._faults.partial_on_change:
                return
        else:
            state.before = newest - 1 if state.update_id is None else state.update_id
            state.update_id = newest
        book = store.book_at(symbol, newest, int(state.stream.detail))
        self._emit(state.stream.name, payloads.depth(store, symbol, book, state.before, now))

    def _push_trades(self, state: _SlowState, store: MarketStore, now: int) -> None:
        symbol, is_aggregate = state.stream.symbol, state.stream.kind == "aggTrade"
        last_id = trades.last_aggregate_id if is_aggregate else trades.last_trade_id
        newest = last_id(store, symbol, now)
        before = last_id(store, symbol, state.since_ms) if state.last_id is None else state.last_id
        state.last_id = newest
        for one in range(max(before, newest - _MOST_TRADES) + 1, newest + 1):
            if is_aggregate:
                aggregate = trades.aggregate_at(store, symbol, one)
                if aggregate is not None:
                    self._emit(state.stream.name, payloads.aggregate(store, symbol, aggregate, now))
            else:
                trade = trades.trade_at(store, symbol, one)
                if trade is not None:
                    self._emit(state.stream.name, payloads.trade(store, symbol, trade, now))

    def _changed(self, state: _SlowState, now: int) -> list[tuple[MarketStore, str]]:
        changed = []
        for store, symbol in self._exchange.universe(self._market):
            update_id = store.update_id(symbol, now)
            if update_id != state.marks.get(symbol):
                state.marks[symbol] = update_id
                changed.append((store, symbol))
        return changed

    def _traded(self, state: _SlowState, now: int) -> list[tuple[MarketStore, str]]:
        since, state.since_ms = state.since_ms, now
        return [
            (store, symbol)
            for store, symbol in self._exchange.universe(self._market)
            if store.series[symbol].has_traded(since, now)
        ]
