"""The routes of the USD-M and COIN-M hosts.

One family with two dialects; what differs is asked of `self.is_cm`. Handlers own
nothing. Shapes follow the SDKs of 2026-08-21.
"""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.binance.markets import Market

from . import exchange_info, marks, weights
from .decimals import fixed
from .exchange import Exchange
from .intervals import HOUR_MS
from .market import MarketStore
from .model import ApiError, Context, Route, Table
from .params import read_limit, read_number, read_time
from .routes_trading import FuturesTrading
from .signing import mandatory
from .tickers import day_row
from .trades import aggregate_rows, last_trade, trade_rows

_MAX_ROWS = 1500
_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
_DATA = (
    "openInterestHist", "topLongShortPositionRatio", "topLongShortAccountRatio", "globalLongShortAccountRatio",
)  # fmt: skip


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

    def _rows(self, ctx: Context, store: MarketStore | None, symbol: str, kind: str = "") -> bytes:
        interval = ctx.get("interval")
        if store is None:
            raise ApiError(-1121, "Invalid symbol.")
        if not store.has_interval(interval):
            raise ApiError(-1120, "Invalid interval.")
        limit = read_limit(ctx, 500, _MAX_ROWS, clamp=False)
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        if start is not None and end is not None and start > end:
            raise ApiError(-1023, "Start time is greater than end time.")
        return self.exchange.rest_klines(store, symbol, interval, start, end, limit, ctx.now_ms, kind=kind)

    def continuous_klines(self, ctx: Context) -> bytes:
        pair, contract = ctx.get("pair").upper(), ctx.get("contractType")
        if contract not in ("PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL"):
            raise ApiError(-1186, "Invalid contractType.")
        for store in (self.store, self.exchange.stores[Market.CM if not self.is_cm else Market.UM]):
            for spec in store.symbols:
                if spec.pair == pair and spec.contract_type == contract:
                    return self._rows(ctx, store, spec.symbol)
        raise ApiError(-1121, "Invalid symbol.")

    def mark_klines(self, ctx: Context) -> bytes:
        text = ctx.get("symbol").upper()
        return self._rows(ctx, self.exchange.futures_store(text, self.market), text, "mark")

    def premium_klines(self, ctx: Context) -> bytes:
        text = ctx.get("symbol").upper()
        return self._rows(ctx, self.exchange.futures_store(text, self.market), text, "premium")

    def index_klines(self, ctx: Context) -> bytes:
        pair = ctx.get("pair").upper()
        for store in (self.store, self.exchange.stores[Market.CM if not self.is_cm else Market.UM]):
            symbol = store.symbol_of_pair(pair)
            if symbol is not None:
                return self._rows(ctx, store, symbol, "index")
        raise ApiError(-1121, "Invalid symbol.")

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

    def price(self, ctx: Context) -> Any:
        names, is_one = self._names(ctx)
        rows: list[dict[str, Any]] = []
        for name in names:
            row: dict[str, Any] = {"symbol": name}
            if self.is_cm:
                row["ps"] = self.store.series[name].spec.pair
            digits = self.store.series[name].spec.price_decimals
            newest = last_trade(self.store, name, ctx.now_ms)
            row |= {"price": fixed(newest.price, digits, digits), "time": newest.time_ms}
            rows.append(row)
        return rows[0] if is_one else rows

    def day(self, ctx: Context) -> Any:
        names, is_one = self._names(ctx)
        rows = [day_row(self.store, name, ctx.now_ms) for name in names]
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
            mark = marks.mark_at(self.store, name, ctx.now_ms)
            row: dict[str, Any] = {"symbol": name}
            if self.is_cm:
                row["pair"] = self.store.series[name].spec.pair
            row |= {
                "markPrice": mark.mark,
                "indexPrice": mark.index_price,
                "estimatedSettlePrice": mark.settle,
                "lastFundingRate": mark.funding_rate,
                "interestRate": mark.interest_rate,
                "nextFundingTime": mark.next_funding_ms,
                "time": mark.time_ms,
            }
            rows.append(row)
        return rows[0] if is_one else rows

    # -- history of funding and positions ------------------------------------------------

    def _span(self, ctx: Context) -> tuple[int, int | None, int | None]:
        """Return the moment up to which periods are shown, and the times asked for."""
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        if start is not None and end is not None and start > end:
            raise ApiError(-1023, "Start time is greater than end time.")
        return ctx.now_ms - self.exchange.faults.stream(self.market).periods_lag_ms, start, end

    def funding_rate(self, ctx: Context) -> Any:
        limit = read_limit(ctx, 100, 1000, clamp=False)
        names = [self.symbol(ctx)] if "symbol" in ctx.params or self.is_cm else list(self.store.series)
        return marks.funding_rows(self.store, names, limit, *self._span(ctx))

    def funding_info(self, ctx: Context) -> Any:
        return marks.funding_info(self.store)

    def open_interest(self, ctx: Context) -> Any:
        return marks.open_interest(self.store, self.symbol(ctx), ctx.now_ms)

    def data(self, ctx: Context) -> Any:
        """Answer /futures/data/*: `symbol` on UM, `pair` on CM and for the basis."""
        name = ctx.call.path.rpartition("/")[2]
        if ctx.get("period") not in marks.PERIODS:
            raise ApiError(-1130, "Data sent for parameter 'period' is not valid.")
        limit = read_limit(ctx, 30, 500, clamp=False)
        key = "pair" if self.is_cm or name == "basis" else "symbol"
        wanted = ctx.get(key).upper()
        contract = ctx.get("contractType")
        specs = [spec for spec in self.store.symbols if getattr(spec, key) == wanted]
        if not specs:
            raise ApiError(-1121, "Invalid symbol.")
        if contract not in ("", "ALL"):
            specs = [spec for spec in specs if spec.contract_type == contract]
        if not specs:
            raise ApiError(-1130, "Data sent for parameter 'contractType' is not valid.")
        head: dict[str, Any] = {} if name in ("basis", "takerlongshortRatio") else {key: wanted}
        if self.is_cm and name == "openInterestHist":
            head["contractType"] = contract or "ALL"
        return marks.data_rows(self.store, specs[0], name, head, ctx.get("period"), limit, *self._span(ctx))


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
        "markPriceKlines": Route(desk.mark_klines, candle_weight, required=("symbol", "interval")),
        "premiumIndexKlines": Route(desk.premium_klines, candle_weight, required=("symbol", "interval")),
        "indexPriceKlines": Route(desk.index_klines, candle_weight, required=("pair", "interval")),
        "ticker/bookTicker": Route(desk.book_ticker, weights.by_symbol(2, 5)),
        "ticker/price": Route(desk.price, weights.by_symbol(1, 2)),
        "ticker/24hr": Route(desk.day, one_forty),
        "depth": Route(desk.depth, weights.futures_depth_weight, required=symbol),
        "trades": Route(desk.trades, 5, required=symbol),
        "historicalTrades": Route(desk.historical_trades, 200, required=symbol),
        "aggTrades": Route(desk.agg_trades, 20, required=symbol),
        "premiumIndex": Route(desk.premium_index, 10 if desk.is_cm else weights.by_symbol(1, 10)),
        "fundingRate": Route(desk.funding_rate, 0, required=symbol if desk.is_cm else ()),
        "fundingInfo": Route(desk.funding_info, 0),
        "openInterest": Route(desk.open_interest, required=symbol),
    }
    table = {("GET", f"/{host}/v1/{path}"): route for path, route in get.items()}
    if not desk.is_cm:
        table[("GET", "/fapi/v2/ticker/price")] = get["ticker/price"]
    taker = "takerBuySellVol" if desk.is_cm else "takerlongshortRatio"
    for name in (*_DATA, taker, "basis"):
        key = "pair" if desk.is_cm or name == "basis" else "symbol"
        table[("GET", f"/futures/data/{name}")] = Route(desk.data, 1, required=(key, "period"))
    return table | trading.table()
