"""The market store: the one source of candles and book tickers behind REST and streams.

Pure: it is asked with a time and reads no clock. It owns the symbols, their series, the
row cache (bounded) and the book ticker counters, and is used from the event loop only.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import orjson

from resender.core.binance.markets import INTERVALS, Market

from . import intervals as iv
from .book import Book, Level
from .config import Outage, SandboxConfig
from .decimals import fixed
from .series import Candle, Series
from .symbols import SymbolSpec, build_symbols, make_spec
from .update_ids import UpdateIds

_FOREVER_MS = 1 << 50
_CACHED_ROWS = 150_000
_CM_RANGE_MS = 200 * iv.DAY_MS
# Rows are kept in chunks of this length, by interval.
_CHUNK_MS = {"1s": iv.HOUR_MS, "1m": iv.DAY_MS, "3m": iv.DAY_MS, "5m": iv.DAY_MS}
# Levels of a book a side, unless the configuration says otherwise.
_BOOK_LEVELS = {Market.SPOT: 6_000, Market.UM: 1_500, Market.CM: 1_500}


class BookTicker(NamedTuple):
    """Best bid and ask; prices and quantities are the strings on the wire."""

    update_id: int
    bid: str
    bid_qty: str
    ask: str
    ask_qty: str
    time_ms: int


class BookView(NamedTuple):
    """A book as it stood at an update: rows of price and quantity, the best first."""

    update_id: int
    time_ms: int
    bids: list[list[str]]
    asks: list[list[str]]


@dataclass(slots=True)
class _Chunk:
    rows: list[bytes]
    next_open: int


class MarketStore:
    """Candles, book tickers and symbols of one market."""

    def __init__(self, market: Market, config: SandboxConfig, now_ms: int) -> None:
        self.market = market
        self._config = config
        # Where the aggregates of trades have holes, and how price times quantity is written.
        self.has_aggregate_holes = config.aggregate_holes and market is not Market.SPOT
        self.rounds_quote_qty = config.rounds_quote_qty
        self.version = 0  # grows with every change of the symbol list
        self.series: dict[str, Series] = {}
        self._chunks: OrderedDict[tuple[str, str, int, int], _Chunk] = OrderedDict()
        self._cached_rows = 0
        self._books: dict[str, Book] = {}
        self._pairs: tuple[int, dict[str, str]] = (-1, {})
        self._started_ms = now_ms
        wanted = {
            Market.SPOT: config.spot_symbols, Market.UM: config.um_symbols, Market.CM: config.cm_symbols
        }.get(market)  # fmt: skip
        for spec in build_symbols(market, wanted, now_ms, config.quiet_symbols, config.listings):
            self._add(spec)
        for gap in config.gaps:
            if gap.market == market.value:
                self.add_gap(gap.symbol, gap.start_ms, gap.end_ms)
        for outage in config.outages:
            if outage.market == market.value:
                self.add_outage(outage)

    # -- symbols ---------------------------------------------------------------------

    @property
    def symbols(self) -> list[SymbolSpec]:
        return [series.spec for series in self.series.values()]

    def spec(self, symbol: str) -> SymbolSpec | None:
        """Return the description of a symbol, None when it is not listed."""
        series = self.series.get(symbol)
        return series.spec if series else None

    def symbol_of_pair(self, pair: str) -> str | None:
        """Return the first contract of a pair: its price is the one the pair's index follows."""
        if self._pairs[0] != self.version:
            found: dict[str, str] = {}
            for spec in self.symbols:
                found.setdefault(spec.pair, spec.symbol)
            self._pairs = (self.version, found)
        return self._pairs[1].get(pair)

    def has_interval(self, interval: str) -> bool:
        """Tell whether the market knows an interval."""
        return interval in INTERVALS.get(self.market, INTERVALS[Market.UM])

    def list_symbol(self, symbol: str, now_ms: int) -> SymbolSpec:
        """Start trading a new symbol at `now_ms`, rounded down to the minute."""
        listed = {symbol: now_ms // iv.MINUTE_MS * iv.MINUTE_MS}
        spec = make_spec(self.market, symbol, now_ms, self._config.quiet_symbols, listed)
        self._add(spec)
        return spec

    def halt(self, symbol: str, now_ms: int, status: str = "") -> None:
        """Stop trading: no candles and no updates until `resume`."""
        series = self.series[symbol]
        series.add_gap(now_ms, _FOREVER_MS)
        series.spec.status = status or ("HALT" if self.market is Market.SPOT else "TRADING_HALT")
        self.hold_book(symbol, now_ms)
        self.version += 1

    def resume(self, symbol: str, now_ms: int) -> None:
        """Trade again after `halt`; the time between stays without candles."""
        series = self.series[symbol]
        series.close_gap(now_ms)
        series.spec.status = "TRADING"
        self.release_book(symbol)
        self.version += 1

    def delist(self, symbol: str, now_ms: int) -> None:
        """End a symbol for good: it leaves exchangeInfo and is unknown from now on."""
        self.halt(symbol, now_ms)
        del self.series[symbol]
        self._forget_rows(symbol)
        self.version += 1

    def add_gap(self, symbol: str | None, start_ms: int, end_ms: int) -> None:
        """Take a range out of the history of one symbol or of all."""
        for name in [symbol] if symbol else list(self.series):
            if name in self.series:
                self.series[name].add_gap(start_ms, end_ms)
                self._forget_rows(name)

    def add_outage(self, outage: Outage) -> None:
        """Take an outage out of the history of its symbol or of all."""
        for name in [outage.symbol] if outage.symbol else list(self.series):
            if name in self.series:
                self.series[name].add_outage(outage)
                self._forget_rows(name)

    def _add(self, spec: SymbolSpec) -> None:
        self.series[spec.symbol] = Series(self._config.seed, spec)
        self._forget_rows(spec.symbol)
        self.version += 1

    # -- candles ---------------------------------------------------------------------

    def kline_rows(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
        now_ms: int | None = None,
        offset_ms: int = 0,
    ) -> list[list[int | str]]:
        """Return REST rows, the open candle included.

        Shape: 12 elements each, ascending. Without `now_ms` the configured clock is read.
        """
        rows = self.kline_bytes(symbol, interval, start_ms, end_ms, limit, now_ms, offset_ms)
        decoded: list[list[int | str]] = orjson.loads(rows)
        return decoded

    def kline_bytes(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
        now_ms: int | None = None,
        offset_ms: int = 0,
    ) -> bytes:
        """Return the rows as the JSON bytes REST sends; see `kline_rows`."""
        now = self._config.clock_ms() if now_ms is None else now_ms
        latest = start_ms is None
        if self.market is Market.CM and (start_ms is not None or end_ms is not None):
            # COIN-M answers with the newest rows of a window of at most 200 days.
            if end_ms is None:
                end_ms = min(now, (start_ms or 0) + _CM_RANGE_MS)
            if start_ms is None:
                start_ms = end_ms - _CM_RANGE_MS
            latest = True
        series = self.series[symbol]
        end = now if end_ms is None else min(now, end_ms)
        start = series.spec.listed_ms if start_ms is None else start_ms
        first = iv.open_time(interval, max(start, series.spec.listed_ms), offset_ms)
        # Rows are asked for by the open time they show, which may lie off the grid.
        span = (start if start > series.spec.listed_ms else first, end)
        if end < span[0]:
            return b"[]"
        cut = self._newest if latest else self._oldest
        return b"[" + b",".join(cut(series, interval, first, span, limit, now, offset_ms)) + b"]"

    def candle(self, symbol: str, interval: str, start_ms: int, end_ms: int, now_ms: int) -> Candle | None:
        """Return a candle as it stands at `now_ms`, None when REST and streams do not have it."""
        return self._candle(self.series[symbol], interval, start_ms, end_ms, now_ms)

    def columns(self, spec: SymbolSpec, candle: Candle) -> tuple[str, ...]:
        """Write a candle the market's way: o h l c v q V Q.

        Source: on COIN-M v is contracts and q is the base asset's volume.
        """
        digits, lots = spec.price_decimals, spec.qty_decimals
        if self.market is Market.SPOT:
            shown, shown_lots, shown_quote = 8, 8, 8
        else:
            shown, shown_lots, shown_quote = digits, lots, digits + lots
        prices = tuple(fixed(value, digits, shown) for value in candle[:4])
        if spec.contract_size:
            quote = _base_volume(spec, candle.volume, candle.quote)
            taker_quote = _base_volume(spec, candle.taker, candle.taker_quote)
        else:
            quote = fixed(candle.quote, digits + lots, shown_quote)
            taker_quote = fixed(candle.taker_quote, digits + lots, shown_quote)
        volume, taker = fixed(candle.volume, lots, shown_lots), fixed(candle.taker, lots, shown_lots)
        return (*prices, volume, quote, taker, taker_quote)

    def _candle(self, series: Series, interval: str, start: int, end: int, now: int) -> Candle | None:
        candle = series.candle(start, end, now)
        is_hole = candle is not None and interval == "1s" and self._config.holes_1s and not candle.trades
        return None if is_hole else candle

    def _row(self, spec: SymbolSpec, start: int, end: int, candle: Candle) -> bytes:
        o, h, l, c, v, q, tv, tq = self.columns(spec, candle)  # noqa: E741
        return (
            f'[{start},"{o}","{h}","{l}","{c}","{v}",{end - 1},"{q}",{candle.trades},"{tv}","{tq}","0"]'
        ).encode()

    def _chunk(self, series: Series, interval: str, offset: int, number: int, now: int) -> list[bytes]:
        # Finished candles of a chunk. Today's chunk grows: `next_open` is where it goes on.
        length = _CHUNK_MS.get(interval, 20 * iv.DAY_MS)
        key = (series.spec.symbol, interval, offset, number)
        start, stop = number * length, (number + 1) * length
        chunk = self._chunks.get(key)
        if chunk is None:
            first = iv.open_time(interval, start, offset)
            if first < start:
                first = iv.next_open(interval, first, offset)
            chunk = self._chunks[key] = _Chunk([], first)
            self._cached_rows += 1
        else:
            self._chunks.move_to_end(key)
        before = len(chunk.rows)
        spec, step = series.spec, iv.FIXED_MS.get(interval, 0)
        fast = not offset and iv.MINUTE_MS <= step <= iv.DAY_MS
        while chunk.next_open < stop:
            begin = chunk.next_open
            day_end = begin + iv.DAY_MS
            if fast and begin % iv.DAY_MS == 0 and day_end <= now and series.is_whole(begin, day_end):
                candles = series.block_rows(begin // iv.DAY_MS, step // iv.MINUTE_MS)
                opens = range(begin, day_end, step)
                chunk.rows += [self._row(spec, t, t + step, c) for t, c in zip(opens, candles, strict=True)]
                chunk.next_open = day_end
                continue
            end = iv.next_open(interval, begin, offset)
            if end > now:
                break
            candle = self._candle(series, interval, begin, end, now)
            if candle is not None:
                shown = series.shown_open(begin, end), series.shown_end(begin, end)
                chunk.rows.append(self._row(spec, *shown, candle))
            chunk.next_open = end
        self._cached_rows += len(chunk.rows) - before
        while self._cached_rows > _CACHED_ROWS and len(self._chunks) > 1:
            _, dropped = self._chunks.popitem(last=False)
            self._cached_rows -= len(dropped.rows) + 1
        return chunk.rows

    def _forget_rows(self, symbol: str) -> None:
        for key in [key for key in self._chunks if key[0] == symbol]:
            self._cached_rows -= len(self._chunks.pop(key).rows) + 1

    # -- the book ----------------------------------------------------------------------

    def book(self, symbol: str) -> Book:
        """Return the book behind bookTicker, REST depth and the depth streams of a symbol."""
        found = self._books.get(symbol)
        if found is None or found.spec is not self.series[symbol].spec:
            found = self._books[symbol] = self._make_book(self.series[symbol])
        return found

    def _make_book(self, series: Series) -> Book:
        config, spec = self._config, series.spec
        hz = 0.0 if spec.symbol in config.still_symbols else config.book_ticker_hz / (40 if spec.quiet else 1)
        ids = UpdateIds(hz, zlib.crc32(spec.symbol.encode()) % 1000, self._started_ms)
        levels = config.book_levels.get(self.market.value, _BOOK_LEVELS.get(self.market, 1_500))
        return Book(config.seed, spec, series.path, ids, levels, config.book_stride)

    def update_id(self, symbol: str, now_ms: int | None = None) -> int:
        """Return the number of the latest change of a symbol's book (default: by the clock)."""
        return self.book(symbol).ids.current(self._config.clock_ms() if now_ms is None else now_ms)

    def book_ticker(self, symbol: str, now_ms: int | None = None) -> BookTicker:
        """Return the best bid and ask as they stand at `now_ms` (default: the clock)."""
        return self.ticker_at(symbol, self.update_id(symbol, now_ms))

    def ticker_at(self, symbol: str, update_id: int) -> BookTicker:
        """Return the best bid and ask of an update."""
        book = self.book(symbol)
        top = book.top(update_id)
        prices, lots = self._shown(book.spec)
        return BookTicker(
            update_id,
            fixed(top.bid, *prices),
            fixed(top.bid_qty, *lots),
            fixed(top.ask, *prices),
            fixed(top.ask_qty, *lots),
            top.at_ms,
        )

    def book_at(self, symbol: str, update_id: int | None = None, limit: int | None = None) -> BookView:
        """Return the book of an update (default: the latest), `limit` levels a side or all."""
        wanted = self.update_id(symbol) if update_id is None else update_id
        book = self.book(symbol)
        bids, asks = islice(book.bids(wanted), limit), islice(book.asks(wanted), limit)
        return BookView(
            wanted, book.top(wanted).at_ms, self._written(book.spec, bids), self._written(book.spec, asks)
        )

    def book_changes(self, symbol: str, before: int, newest: int) -> BookView:
        """Return the levels changed since an update as they stand at `newest`, 0 for gone ones."""
        book = self.book(symbol)
        bids, asks = book.told(before, newest)
        return BookView(
            newest, book.top(newest).at_ms, self._written(book.spec, bids), self._written(book.spec, asks)
        )

    def next_update(self, symbol: str, now_ms: int) -> BookTicker:
        """Change a book at once, out of its rhythm, and return its best bid and ask."""
        book = self.book(symbol)
        book.forget()
        return self.ticker_at(symbol, book.ids.insert(now_ms))

    def restart_book(self, symbol: str, now_ms: int, jump: int = 1_000_000) -> int:
        """Let the update ids jump ahead, as after a restart of the exchange; return the new one."""
        book = self.book(symbol)
        book.forget()
        return book.ids.restart(now_ms, jump)

    def hold_book(self, symbol: str, now_ms: int) -> None:
        """Let a book change no more until `release_book`."""
        self.book(symbol).ids.hold(now_ms)

    def release_book(self, symbol: str) -> None:
        """Let a book change again; its update id goes on growing."""
        self.book(symbol).ids.release()

    def _shown(self, spec: SymbolSpec) -> tuple[tuple[int, int], tuple[int, int]]:
        # Decimals kept and shown, of prices and of quantities.
        price, qty = spec.price_decimals, spec.qty_decimals
        return ((price, 8), (qty, 8)) if self.market is Market.SPOT else ((price, price), (qty, qty))

    def _written(self, spec: SymbolSpec, levels: Iterable[Level]) -> list[list[str]]:
        (price, shown), (qty, lots) = self._shown(spec)
        return [[fixed(at, price, shown), fixed(size, qty, lots)] for at, size in levels]

    # -- slices ----------------------------------------------------------------------

    def _newest(
        self,
        series: Series,
        interval: str,
        first: int,
        span: tuple[int, int],
        limit: int,
        now: int,
        offset: int,
    ) -> list[bytes]:
        length = _CHUNK_MS.get(interval, 20 * iv.DAY_MS)
        last = iv.open_time(interval, span[1], offset)
        tail = self._open_row(series, interval, last, span, now, offset)
        parts: list[bytes] = []
        number = last // length
        while len(parts) + len(tail or ()) < limit and number >= first // length:
            chunk = self._chunk(series, interval, offset, number, now)
            parts = _between(chunk, span[0], span[1] if tail is None else last - 1) + parts
            number -= 1
        return (parts + (tail or []))[-limit:]

    def _oldest(
        self,
        series: Series,
        interval: str,
        first: int,
        span: tuple[int, int],
        limit: int,
        now: int,
        offset: int,
    ) -> list[bytes]:
        length = _CHUNK_MS.get(interval, 20 * iv.DAY_MS)
        last = iv.open_time(interval, span[1], offset)
        tail = self._open_row(series, interval, last, span, now, offset)
        parts: list[bytes] = []
        for number in range(first // length, last // length + 1):
            chunk = self._chunk(series, interval, offset, number, now)
            parts += _between(chunk, span[0], span[1] if tail is None else last - 1)
            if len(parts) >= limit:
                return parts[:limit]
        return (parts + (tail or []))[:limit]

    def _open_row(
        self, series: Series, interval: str, start: int, span: tuple[int, int], now: int, offset: int
    ) -> list[bytes] | None:
        # None: the candle is finished and comes from its chunk.
        end = iv.next_open(interval, start, offset)
        if end <= now:
            return None
        candle = self._candle(series, interval, start, end, now)
        shown = series.shown_open(start, end)
        if candle is None or not span[0] <= shown <= span[1]:
            return []
        return [self._row(series.spec, shown, end, candle)]


def _between(rows: list[bytes], first: int, last: int) -> list[bytes]:
    # Rows carry their open time in front; most chunks lie wholly inside.
    if not rows or (_open_of(rows[0]) >= first and _open_of(rows[-1]) <= last):
        return rows
    return [row for row in rows if first <= _open_of(row) <= last]


def _open_of(row: bytes) -> int:
    return int(row[1 : row.index(b",")])


def _base_volume(spec: SymbolSpec, contracts: int, quote: int) -> str:
    # COIN-M: contracts times dollars per contract, divided by the volume-weighted price.
    if not contracts:
        return "0.00000000"
    value = contracts * contracts * spec.contract_size * 10 ** (8 + spec.price_decimals) // quote
    return fixed(value, 8, 8)
