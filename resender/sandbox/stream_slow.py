"""The streams that push at their own pace: depth, trades, tickers, marks.

`SlowFeed` owns when each subscribed one is due and what it has told already. It is driven by
`tick` with the exchange's time and hands finished events to `emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resender.core.binance.markets import Market

from . import stream_payloads as payloads
from . import trades
from .exchange import Exchange
from .faults import StreamFaults
from .market import MarketStore
from .stream_names import Stream

Emit = Callable[[str, str], None]
_MOST_TRADES = 2000  # told at once after a jump of the clock
_MARKS = ("markPrice", "allMarkPrice", "indexPrice")
_TICKER_MS = {Market.SPOT: 1000, Market.UM: 2000, Market.CM: 500}


_PLAIN: dict[str, Callable[[MarketStore, str, int], str]] = {
    "markPrice": payloads.mark_price,
    "miniTicker": payloads.mini_ticker,
    "ticker": payloads.day_ticker,
    "avgPrice": payloads.average,
}


@dataclass(slots=True)
class _SlowState:
    stream: Stream
    due_ms: int
    since_ms: int
    # Of contractInfo: the status of each contract told last.
    statuses: dict[str, str] | None = None
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
        state = _SlowState(stream, now_ms + self._slow_ms(stream), now_ms)
        if stream.kind == "contractInfo":
            self._push_contracts(state, now_ms)
        self._slow[stream.name] = state

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
        if stream.kind in _MARKS:
            return 3000
        if stream.kind in ("ticker", "miniTicker"):
            return _TICKER_MS[self._market]
        return 1000

    def _tick_slow(self, state: _SlowState, now: int) -> None:
        stream, name = state.stream, state.stream.name
        if not stream.symbol:
            self._tick_all(state, now)
            return
        store, symbol = self._store, stream.symbol
        if stream.kind == "markPrice" and self._market is not Market.SPOT:
            store = self._exchange.futures_store(symbol, self._market) or store
        if stream.kind == "indexPrice":
            for spec in store.symbols:
                if spec.pair == symbol:
                    self._emit(name, payloads.index_price(symbol, store, spec.symbol, now))
                    return
        if symbol not in store.series:
            return
        plain = _PLAIN.get(stream.kind)
        if plain is not None:
            self._emit(name, plain(store, symbol, now))
        elif stream.kind == "diffDepth":
            self._push_diff(state, store, now)
        elif stream.kind == "depth":
            self._push_partial(state, store, now)
        else:
            self._push_trades(state, store, now)

    def _tick_all(self, state: _SlowState, now: int) -> None:
        if state.stream.kind == "contractInfo":
            self._push_contracts(state, now)
            return
        frames: list[list[str]] = [[]]
        if state.stream.kind == "allMarkPrice":
            frames = [[], []]
            for store, symbol in self._exchange.universe(self._market):
                # On USD-M contracts on shares and metals come in a frame of their own.
                is_apart = self._market is Market.UM and "TRADIFI" in store.series[symbol].spec.contract_type
                frames[is_apart].append(payloads.mark_price(store, symbol, now))
        else:
            write = payloads.day_ticker if state.stream.kind == "allTicker" else payloads.mini_ticker
            frames[0] = [write(*traded, now) for traded in self._traded(state, now)]
        for rows in frames:
            if rows:
                self._emit(state.stream.name, f"[{','.join(rows)}]")

    def _push_contracts(self, state: _SlowState, now: int) -> None:
        """Tell of contracts that are new, gone or have another status."""
        known = {}
        for store, symbol in self._exchange.universe(self._market):
            spec = store.series[symbol].spec
            known[symbol] = spec.status
            if state.statuses is not None and state.statuses.get(symbol) != spec.status:
                self._emit(state.stream.name, payloads.contract_info(store, spec, now))
        state.statuses = known

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

    def _traded(self, state: _SlowState, now: int) -> list[tuple[MarketStore, str]]:
        since, state.since_ms = state.since_ms, now
        return [
            (store, symbol)
            for store, symbol in self._exchange.universe(self._market)
            if store.series[symbol].has_traded(since, now)
        ]
