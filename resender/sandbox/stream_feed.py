"""What a market's streams push and when, for the streams somebody has subscribed.

`StreamFeed` owns the push state of every subscribed stream. It is driven by `tick` with
the exchange's time and hands finished events to `emit`; it knows no connections.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from resender.core.binance.markets import Market

from . import stream_payloads as payloads
from .exchange import Exchange
from .faults import StreamFaults
from .stream_candles import CandleFeed, Emit
from .stream_names import Stream
from .stream_slow import SlowFeed

# USD-M relays a symbol on !bookTicker at most this often, COIN-M at once.
_RELAY_MS = 5000
_RELAY_LOOK_MS = 250
_CANDLES = ("kline", "continuousKline", "indexPriceKline", "markPriceKline")


@dataclass(slots=True)
class _BookState:
    symbol: str
    update_id: int


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
        self._candles = CandleFeed(exchange, market, faults, emit)
        self._slow = SlowFeed(exchange, market, faults, emit)
        self._books: dict[str, _BookState] = {}
        self._relays: dict[str, _RelayState] = {}

    @property
    def next_final_ms(self) -> float | None:
        """When the next final event is due, None when none is waiting."""
        return self._candles.next_final_ms

    def add(self, stream: Stream, now_ms: int) -> None:
        """Begin to push a stream; nothing is pushed before its next change."""
        if stream.kind in _CANDLES:
            self._candles.add(stream, now_ms)
        elif stream.kind == "bookTicker":
            if stream.symbol in self._store.series:
                update_id = self._store.update_id(stream.symbol, now_ms)
                self._books[stream.name] = _BookState(stream.symbol, update_id)
        elif stream.kind == "allBookTicker":
            self._relays[stream.name] = self._new_relay(now_ms)
        else:
            self._slow.add(stream, now_ms)

    def discard(self, name: str) -> None:
        """Stop pushing a stream nobody wants any more."""
        self._candles.discard(name)
        self._slow.discard(name)
        self._books.pop(name, None)
        self._relays.pop(name, None)

    def mark_pushed(self, symbol: str, update_id: int) -> None:
        """Note a book ticker that was pushed out of rhythm."""
        state = self._books.get(f"{symbol.lower()}@bookTicker")
        if state is not None:
            state.update_id = update_id

    def tick(self, now_ms: int, mono: float) -> None:
        """Push everything that is due."""
        self._candles.tick(now_ms, mono)
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
        self._slow.tick(now_ms)

    def _is_frozen(self, symbol: str) -> bool:
        frozen = self._faults.frozen
        return bool(frozen) and (symbol in frozen or "*" in frozen)

    def _new_relay(self, now: int) -> _RelayState:
        sent, due = {}, {}
        for store, symbol in self._exchange.universe(self._market):
            sent[symbol] = store.update_id(symbol, now)
            # Spread over the pause, so that not all symbols come at once.
            due[symbol] = now + zlib.crc32(symbol.encode()) % _RELAY_MS
        return _RelayState(now, sent, due)

    def _tick_relay(self, name: str, relay: _RelayState, now: int) -> None:
        is_slow = self._market is Market.UM
        relay.look_ms = now + _RELAY_LOOK_MS if is_slow else now
        for store, symbol in self._exchange.universe(self._market):
            if (is_slow and now < relay.due_ms.get(symbol, 0)) or self._is_frozen(symbol):
                continue
            update_id = store.update_id(symbol, now)
            if update_id <= relay.sent.get(symbol, 0):
                continue
            relay.sent[symbol], relay.due_ms[symbol] = update_id, now + _RELAY_MS
            ticker = store.book_ticker(symbol, now)
            self._emit(name, payloads.book_ticker(store, symbol, ticker, now))
