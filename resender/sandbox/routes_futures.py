"""The routes of the USD-M and COIN-M hosts.

One family with two dialects; what differs is asked of `self.is_cm`. Handlers own
nothing. Shapes follow the SDKs of 2026-08-21.
"""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.binance.markets import Market

from . import exchange_info, shapes, weights
from .decimals import fixed
from .exchange import Exchange
from .intervals import HOUR_MS
from .market import MarketStore
from .model import ApiError, Context, Route, Table
from .params import read_limit, read_number, read_time
from .routes_trading import FuturesTrading
from .signing import mandatory
from .trades import aggregate_rows, last_trade, trade_rows

_MAX_ROWS = 1500
_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
_PERIODS = {"5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d"}


class _Futures:
    def __init__(self, exchange: Exchange, host: str) -> None:
        self.exchange = exchange
        self.host = host
        self.market = Market.UM if host == "fapi" else Market.CM
        self.is_cm = self.market is Market.CM
        self.store: MarketStore = exchange.stores[self.market]

    def symbol(self, ctx: Context) -> str:
        text = ctx.get("symbol")
        if not text:
            raise mandatory("symbol")
        text = text.upper()
        if text not in self.store.series:
            raise ApiError(-1121, "Invalid symbol.")
        return text

    # -- general -------------------------------------------------------------------------

    def ping(self, ctx: Context) -> Any:
        return {}

    def time(self, ctx: Context) -> Any:
        return {"serverTime": ctx.now_ms}

    def info(self, ctx: Context) -> Any:
        cached = self.exchange.info_cache.get(self.host)
        if cached is None or cached[0] != self.store.version:
            full = exchange_info.futures_info(self.market, self.store.symbols, self.exchange.config, 0)
            cached = (self.store.version, orjson.dumps(full["symbols"]))
            self.exchange.info_cache[self.host] = cached
        head = orjson.dumps(exchange_info.futures_info(self.market, [], self.exchange.config, ctx.now_ms))
        return head[:-3] + cached[1] + b"}"

    # -- candles -------------------------------------------------------------------------

    def klines(self, ctx: Context) -> bytes:
        text = ctx.get("symbol").upper()
        store = self.exchange.futures_store(text, self.market)
        return self._rows(ctx, store, text)

    def _rows(self, ctx: Context, store: MarketStore | None, symbol: str) -> bytes:
        interval = ctx.get("interval")
        if store is None:
            raise ApiError(-1121, "Invalid symbol.")
        if not store.has_interval(interval):
            raise ApiError(-1120, "Invalid interval.")
        limit = read_limit(ctx, 500, _MAX_ROWS, clamp=False)
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        if start is not None and end is not None and start > end:
            raise ApiError(-1023, "Start time is greater than end time.")
        return self.exchange.rest_klines(store, symbol, interval, start, end, limit, ctx.now_ms)

    def continuous_klines(self, ctx: Context) -> bytes:
        pair, contract = ctx.get("pair").upper(), ctx.get("contractType")
        if contract not in ("PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL"):
            raise ApiError(-1186, "Invalid contractType.")
        for store in (self.store, self.exchange.stores[Market.CM if not self.is_cm else Market.UM]):
            for spec in store.symbols:
                if spec.pair == pair and spec.contract_type == contract:
                    return self._rows(ctx, store, spec.symbol)
        raise ApiError(-1121, "Invalid symbol.")

    def price_klines(self, ctx: Context) -> Any:
        """Mark, index and premium candles: prices of the symbol, volumes zero."""
        text = (ctx.get("symbol") or ctx.get("pair")).upper()
        store = self.exchange.futures_store(text, self.market)
        if store is None:
            for spec in self.store.symbols:
                if spec.pair == text:
                    store, text = self.store, spec.symbol
                    break
        rows = orjson.loads(self._rows(ctx, store, text))
        for row in rows:
            row[5] = row[7] = row[9] = row[10] = "0"
        return rows

    # -- tickers -------------------------------------------------------------------------

    def _names(self, ctx: Context) -> tuple[list[str], bool]:
        if "symbol" in ctx.params:
            if self.is_cm and "pair" in ctx.params:
                raise ApiError(-1128, "Combination of optional parameters invalid.")
            return [self.symbol(ctx)], not self.is_cm
        if self.is_cm and "pair" in ctx.params:
            pair = ctx.get("pair").upper()
            names = [spec.symbol for spec in self.store.symbols if spec.pair == pair]
            if not names:
                raise ApiError(-1121, "Invalid symbol.")
            return names, False
        return list(self.store.series), False

    def book_ticker(self, ctx: Context) -> Any:
        names, is_one = self._names(ctx)
        rows = []
        for name in names:
            ticker = self.store.book_ticker(name, ctx.now_ms)
            row: dict[str, Any] = {"symbol": name}
            if self.is_cm:
                row = {"lastUpdateId": ticker.update_id, "symbol": name}
                row["pair"] = self.store.series[name].spec.pair
            row |= {
                "bidPrice": ticker.bid,
                "bidQty": ticker.bid_qty,
                "askPrice": ticker.ask,
                "askQty": ticker.ask_qty,
                "time": ticker.time_ms,
            }
            rows.append(row)
        return rows[0] if is_one else rows

    def last(self, symbol: str, now_ms: int) -> str:
        spec = self.store.series[symbol].spec
        return fixed(last_trade(self.store, symbol, now_ms).price, spec.price_decimals, spec.price_decimals)

    def price(self, ctx: Context) -> Any:
        names, is_one = self._names(ctx)
        rows: list[dict[str, Any]] = []
        for name in names:
            row: dict[str, Any] = {"symbol": name}
            if self.is_cm:
                row["ps"] = self.store.series[name].spec.pair
            row |= {"price": self.last(name, ctx.now_ms), "time": ctx.now_ms}
            rows.append(row)
        return rows[0] if is_one else rows

    def day(self, ctx: Context) -> Any:
        names, is_one = self._names(ctx)
        rows = [shapes.day_change(self.store, name, ctx.now_ms) for name in names]
        return rows[0] if is_one else rows

    def depth(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx)
        text = ctx.get("limit") or "500"
        if not text.isascii() or not text.isdigit() or int(text) not in _DEPTH_LIMITS:
            raise ApiError(-4021, f"{text} is not valid depth limit")
        update_id, at_ms, bids, asks = self.exchange.rest_book(self.store, symbol, int(text), ctx.now_ms)
        book: dict[str, Any] = {"lastUpdateId": update_id, "E": ctx.now_ms, "T": at_ms}
        if self.is_cm:
            book |= {"symbol": symbol, "pair": self.store.series[symbol].spec.pair}
        return book | {"bids": bids, "asks": asks}

    def _trades_now(self, ctx: Context) -> int:
        return ctx.now_ms - self.exchange.faults.stream(self.market).trades_lag_ms

    def trades(self, ctx: Context) -> Any:
        limit, symbol = read_limit(ctx, 500, 1000, clamp=False), self.symbol(ctx)
        return trade_rows(self.store, symbol, limit, self._trades_now(ctx))

    def historical_trades(self, ctx: Context) -> Any:
        limit, symbol = read_limit(ctx, 100, 500, clamp=False), self.symbol(ctx)
        return trade_rows(self.store, symbol, limit, self._trades_now(ctx), read_number(ctx, "fromId"))

    def agg_trades(self, ctx: Context) -> Any:
        symbol, limit = self.symbol(ctx), read_limit(ctx, 500, 1000, clamp=False)
        from_id = read_number(ctx, "fromId")
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        if start is not None and end is not None:
            if start > end:
                raise ApiError(-1023, "Start time is greater than end time.")
            if end - start > HOUR_MS:
                raise ApiError(-1127, "More than 1 hours between startTime and endTime.")
        return aggregate_rows(self.store, symbol, limit, self._trades_now(ctx), from_id, start, end)

    def premium_index(self, ctx: Context) -> Any:
        names, is_one = self._names(ctx)
        rows = []
        for name in names:
            price = self.last(name, ctx.now_ms)
            spec = self.store.series[name].spec
            is_perpetual = spec.contract_type == "PERPETUAL"
            row: dict[str, Any] = {"symbol": name}
            if self.is_cm:
                row["pair"] = spec.pair
            row |= {
                "markPrice": price,
                "indexPrice": price,
                "estimatedSettlePrice": price,
                "lastFundingRate": "0.00010000" if is_perpetual else "",
                "interestRate": "0.00010000" if is_perpetual else "",
                "nextFundingTime": (ctx.now_ms // 28_800_000 + 1) * 28_800_000 if is_perpetual else 0,
                "time": ctx.now_ms,
            }
            rows.append(row)
        return rows[0] if is_one else rows

    def funding_rate(self, ctx: Context) -> Any:
        limit = read_limit(ctx, 100, 1000, clamp=False)
        name = self.symbol(ctx) if "symbol" in ctx.params or self.is_cm else next(iter(self.store.series))
        last = ctx.now_ms // 28_800_000
        return [
            {
                "symbol": name,
                "fundingRate": "0.00010000",
                "fundingTime": step * 28_800_000,
                "markPrice": self.last(name, step * 28_800_000),
            }
            for step in range(last - limit + 1, last + 1)
        ]

    def open_interest(self, ctx: Context) -> Any:
        name = self.symbol(ctx)
        spec = self.store.series[name].spec
        row: dict[str, Any] = {"symbol": name, "openInterest": "10659.509", "time": ctx.now_ms}
        if self.is_cm:
            row |= {"pair": spec.pair, "contractType": spec.contract_type}
        return row

    def open_interest_hist(self, ctx: Context) -> Any:
        """Answer /futures/data/openInterestHist: `symbol` on UM, `pair` on CM."""
        if ctx.get("period") not in _PERIODS:
            raise ApiError(-1130, "Data sent for parameter 'period' is not valid.")
        limit = read_limit(ctx, 30, 500, clamp=False)
        key = "pair" if self.is_cm else "symbol"
        name = ctx.get(key).upper()
        known = {getattr(spec, key) for spec in self.store.symbols}
        if name not in known:
            raise ApiError(-1121, "Invalid symbol.")
        row: dict[str, Any] = {key: name}
        if self.is_cm:
            row["contractType"] = ctx.get("contractType", "ALL")
        last = ctx.now_ms // 300_000
        return [
            row
            | {
                "sumOpenInterest": "20403.63700000",
                "sumOpenInterestValue": "150570784.07809979",
                "timestamp": step * 300_000,
            }
            for step in range(last - limit + 1, last + 1)
        ]


def futures_table(exchange: Exchange, host: str) -> Table:
    """Return the routes of /fapi or /dapi, with /futures/data."""
    desk = _Futures(exchange, host)
    trading = FuturesTrading(exchange, desk.market, host)
    candle_weight = weights.kline_weight
    symbol = ("symbol",)
    one_forty = weights.by_symbol(1, 40)
    get: dict[str, Route] = {
        "ping": Route(desk.ping),
        "time": Route(desk.time),
        "exchangeInfo": Route(desk.info),
        "klines": Route(desk.klines, candle_weight, required=("symbol", "interval")),
        "continuousKlines": Route(
            desk.continuous_klines, candle_weight, required=("pair", "contractType", "interval")
        ),
        "markPriceKlines": Route(desk.price_klines, candle_weight, required=("symbol", "interval")),
        "premiumIndexKlines": Route(desk.price_klines, candle_weight, required=("symbol", "interval")),
        "indexPriceKlines": Route(desk.price_klines, candle_weight, required=("pair", "interval")),
        "ticker/bookTicker": Route(desk.book_ticker, weights.by_symbol(2, 5)),
        "ticker/price": Route(desk.price, weights.by_symbol(1, 2)),
        "ticker/24hr": Route(desk.day, one_forty),
        "depth": Route(desk.depth, weights.futures_depth_weight, required=symbol),
        "trades": Route(desk.trades, 5, required=symbol),
        "historicalTrades": Route(desk.historical_trades, 200, required=symbol),
        "aggTrades": Route(desk.agg_trades, 20, required=symbol),
        "premiumIndex": Route(desk.premium_index, 10 if desk.is_cm else weights.by_symbol(1, 10)),
        "fundingRate": Route(desk.funding_rate, 0, required=symbol if desk.is_cm else ()),
        "openInterest": Route(desk.open_interest, required=symbol),
    }
    table = {("GET", f"/{host}/v1/{path}"): route for path, route in get.items()}
    if not desk.is_cm:
        table[("GET", "/fapi/v2/ticker/price")] = get["ticker/price"]
    for name in ("openInterestHist", "topLongShortPositionRatio", "globalLongShortAccountRatio"):
        table[("GET", f"/futures/data/{name}")] = Route(
            desk.open_interest_hist, 1, required=("pair" if desk.is_cm else "symbol", "period")
        )
    return table | trading.table()
