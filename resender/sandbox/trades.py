"""The trades of a symbol and their aggregates: single ones by id, and lists as REST gives them.

Pure: everything follows from the price path, so that streams and REST agree. Trades of a time
in which nothing was traded (a halt, a gap) do not exist; their ids are skipped.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from resender.core.binance.markets import Market

from .decimals import fixed, rounded
from .market import MarketStore
from .prices import STEP_MS, mix
from .series import Series
from .symbols import SymbolSpec

_HOLES = 16  # of so many aggregates one is missing, where there are holes
_RPI = 8  # of so many USD-M trades one involves a retail price improvement order


class Trade(NamedTuple):
    """One trade. Units: price in ticks, quantity in lot steps."""

    id: int
    price: int
    qty: int
    time_ms: int
    is_buyer_maker: bool
    is_rpi: bool


class Aggregate(NamedTuple):
    """Trades of one order at one price; `normal_qty` leaves RPI trades out."""

    id: int
    price: int
    qty: int
    normal_qty: int
    first: int
    last: int
    time_ms: int
    is_buyer_maker: bool


def last_trade_id(store: MarketStore, symbol: str, now_ms: int) -> int:
    """Return the id of the latest trade at a moment."""
    series = store.series[symbol]
    return series.path.trade_id_at(_traded_until(series, now_ms))


def last_aggregate_id(store: MarketStore, symbol: str, now_ms: int) -> int:
    """Return the id of the latest aggregate at a moment, one that is a hole included."""
    series = store.series[symbol]
    return series.path.aggregate_id_at(_traded_until(series, now_ms))


def trade_at(store: MarketStore, symbol: str, trade_id: int) -> Trade | None:
    """Return one trade, None when nothing was traded at its time."""
    series = store.series[symbol]
    aggregate_id = series.path.aggregate_id_of(trade_id)
    at_ms = series.path.time_of_aggregate(aggregate_id)
    if not _is_traded(series, at_ms):
        return None
    return _trade(series, trade_id, aggregate_id, at_ms)


def aggregate_at(store: MarketStore, symbol: str, aggregate_id: int) -> Aggregate | None:
    """Return one aggregate, None when it is a hole."""
    series = store.series[symbol]
    if store.has_aggregate_holes and mix(aggregate_id, 17, _code(series.spec)) % _HOLES == 0:
        return None
    at_ms = series.path.time_of_aggregate(aggregate_id)
    if not _is_traded(series, at_ms):
        return None
    first, last = series.path.trades_of_aggregate(aggregate_id)
    parts = [_trade(series, trade_id, aggregate_id, at_ms) for trade_id in range(first, last + 1)]
    normal = sum(part.qty for part in parts if not part.is_rpi)
    total = sum(part.qty for part in parts)
    return Aggregate(aggregate_id, parts[0].price, total, normal, first, last, at_ms, parts[0].is_buyer_maker)


def trade_rows(
    store: MarketStore, symbol: str, limit: int, now_ms: int, from_id: int | None = None
) -> list[dict[str, Any]]:
    """Return trades as REST lists them, ascending: the newest, or those from an id on."""
    newest = last_trade_id(store, symbol, now_ms)
    found = _collect(store, symbol, trade_at, _Ids(store, symbol, False), limit, newest, from_id)
    return [trade_row(store, symbol, trade) for trade in found]


def trade_row(store: MarketStore, symbol: str, trade: Trade) -> dict[str, Any]:
    """Return one trade as REST writes it."""
    spec = store.series[symbol].spec
    price, qty = written(store, spec, trade.price, trade.qty)
    row: dict[str, Any] = {"id": trade.id, "price": price, "qty": qty}
    if spec.contract_size:
        # Contracts times dollars per contract, divided by the price.
        base = trade.qty * spec.contract_size * 10 ** (8 + spec.price_decimals) // trade.price
        row["baseQty"] = fixed(base, 8, 8)
    else:
        write = rounded if store.rounds_quote_qty else fixed
        shown = 8 if store.market is Market.SPOT else spec.price_decimals + spec.qty_decimals
        row["quoteQty"] = write(trade.price * trade.qty, spec.price_decimals + spec.qty_decimals, shown)
    row |= {"time": trade.time_ms, "isBuyerMaker": trade.is_buyer_maker}
    if store.market is Market.SPOT:
        row["isBestMatch"] = True
    elif store.market is Market.UM:
        row["isRPITrade"] = trade.is_rpi
    return row


def aggregate_rows(
    store: MarketStore,
    symbol: str,
    limit: int,
    now_ms: int,
    from_id: int | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> list[dict[str, Any]]:
    """Return aggregates as REST lists them, ascending.

    Shape: with `from_id` or `start_ms` the oldest from there on, else the newest.
    """
    path = store.series[symbol].path
    newest = last_aggregate_id(store, symbol, now_ms)
    if from_id is None and end_ms is not None:
        newest = min(newest, path.aggregate_id_at(end_ms))
    if from_id is None and start_ms is not None:
        from_id = path.aggregate_id_at(start_ms - 1) + 1
    found = _collect(store, symbol, aggregate_at, _Ids(store, symbol, True), limit, newest, from_id)
    return [aggregate_row(store, symbol, one) for one in found]


def aggregate_row(store: MarketStore, symbol: str, aggregate: Aggregate) -> dict[str, Any]:
    """Return one aggregate as REST writes it; streams have the same keys in the same order."""
    spec = store.series[symbol].spec
    price, qty = written(store, spec, aggregate.price, aggregate.qty)
    row: dict[str, Any] = {"a": aggregate.id, "p": price, "q": qty}
    if store.market is Market.UM:
        row["nq"] = fixed(aggregate.normal_qty, spec.qty_decimals, spec.qty_decimals)
    row |= {"f": aggregate.first, "l": aggregate.last, "T": aggregate.time_ms, "m": aggregate.is_buyer_maker}
    if store.market is Market.SPOT:
        row["M"] = True
    return row


def written(store: MarketStore, spec: SymbolSpec, price: int, qty: int) -> tuple[str, str]:
    """Write a price and a quantity the market's way."""
    if store.market is Market.SPOT:
        return fixed(price, spec.price_decimals, 8), fixed(qty, spec.qty_decimals, 8)
    return (
        fixed(price, spec.price_decimals, spec.price_decimals),
        fixed(qty, spec.qty_decimals, spec.qty_decimals),
    )


def last_trade(store: MarketStore, symbol: str, now_ms: int) -> Trade:
    """Return the latest trade at a moment; a symbol that never traded shows its first price."""
    found = trade_at(store, symbol, last_trade_id(store, symbol, now_ms))
    if found is None:
        path = store.series[symbol].path
        found = Trade(-1, path.price_at(now_ms), 0, now_ms, is_buyer_maker=False, is_rpi=False)
    return found


def _trade(series: Series, trade_id: int, aggregate_id: int, at_ms: int) -> Trade:
    spec = series.spec
    noise = mix(trade_id, spec.price_ticks)
    lot: int = 10 ** max(0, spec.qty_decimals - 2)
    # Odd lots now and then, so that price times quantity has all its decimals.
    qty = lot * (1 + noise % 400) + (noise >> 20) % lot
    is_rpi = spec.market is Market.UM and (noise >> 50) % _RPI == 0
    is_buyer_maker = bool(mix(aggregate_id, spec.price_ticks) >> 40 & 1)
    return Trade(trade_id, series.path.price_at(at_ms), qty, at_ms, is_buyer_maker, is_rpi)


def _code(spec: SymbolSpec) -> int:
    return zlib.crc32(spec.symbol.encode())


def _is_traded(series: Series, at_ms: int) -> bool:
    return series.is_whole(at_ms - STEP_MS, at_ms)


def _traded_until(series: Series, now_ms: int) -> int:
    # The latest moment up to which something could be traded: the begin of a gap that goes on.
    until = now_ms // STEP_MS * STEP_MS
    for start, end in reversed(series.gaps):
        if start < until <= end:
            until = start
    return until


class _Ids:
    """Ids of trades or of aggregates, stepping over times in which nothing was traded."""

    def __init__(self, store: MarketStore, symbol: str, of_aggregates: bool) -> None:
        series = store.series[symbol]
        path = series.path
        self._series = series
        self._id_at: Callable[[int], int] = path.aggregate_id_at if of_aggregates else path.trade_id_at
        self._time_of: Callable[[int], int] = path.time_of_aggregate if of_aggregates else path.time_of_trade
        self._first = self._id_at(series.spec.listed_ms) + 1

    def down(self, newest: int) -> Iterator[int]:
        """Yield ids from the newest to the first ever."""
        while newest >= self._first:
            yield newest
            newest -= 1
            if self._series.gaps and newest >= self._first:
                newest = min(newest, self._id_at(_traded_until(self._series, self._time_of(newest))))

    def up(self, first: int, newest: int) -> Iterator[int]:
        """Yield ids from `first` to the newest."""
        first = max(first, self._first)
        while first <= newest:
            yield first
            first += 1
            at_ms = self._time_of(first) if self._series.gaps else 0
            for start, end in self._series.gaps:
                if start < at_ms <= end:
                    first = self._id_at(end) + 1


def _collect(
    store: MarketStore,
    symbol: str,
    find: Callable[[MarketStore, str, int], Any],
    ids: _Ids,
    limit: int,
    newest: int,
    from_id: int | None,
) -> list[Any]:
    found: list[Any] = []
    for one in ids.down(newest) if from_id is None else ids.up(from_id, newest):
        item = find(store, symbol, one)
        if item is not None:
            found.append(item)
            if len(found) >= limit:
                break
    return found[::-1] if from_id is None else found
