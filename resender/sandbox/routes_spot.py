"""The routes of the spot host under /api/v3, orders and accounts left out (`routes_spot_orders.py`).

Handlers turn parameters into JSON data; they own nothing. Names and shapes follow
rest-api.md of 2026-07-21.
"""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.binance.markets import Market

from . import exchange_info, weights
from .decimals import fixed
from .exchange import Exchange
from .intervals import parse_time_zone
from .market import MarketStore
from .model import ApiError, Context, Route, Table
from .params import check_spot_symbol, read_limit, read_number, read_symbols, read_time
from .signing import illegal, mandatory
from .stream_micros import moment_us
from .tickers import AVERAGE_MINUTES, average_price, day_row, mini_row
from .trades import aggregate_rows, last_trade, trade_rows

_MANY = ("symbol", "symbols", "symbolStatus")
_CANDLE_LIMIT = 1000


class SpotRoutes:
    """What the handlers of the spot host share, and its market data."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.store: MarketStore = exchange.stores[Market.SPOT]

    def symbol(self, ctx: Context) -> str:
        text = ctx.get("symbol")
        if not text:
            raise mandatory("symbol")
        check_spot_symbol(text)
        if text not in self.store.series:
            raise ApiError(-1121, "Invalid symbol.")
        return text

    def several(self, ctx: Context) -> tuple[list[str], bool]:
        """Return the symbols meant and whether one object is to be answered."""
        if "symbol" in ctx.params and "symbols" in ctx.params:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        status = ctx.get("symbolStatus")
        if "symbol" in ctx.params:
            symbol = self.symbol(ctx)
            if status and self.store.series[symbol].spec.status != status:
                raise ApiError(-1220, "The symbol's status does not match the requested symbolStatus.")
            return [symbol], True
        if "symbols" in ctx.params:
            names = read_symbols(ctx.params["symbols"])
            if any(name not in self.store.series for name in names):
                raise ApiError(-1121, "Invalid symbol.")
        else:
            names = list(self.store.series)
        if status:
            names = [name for name in names if self.store.series[name].spec.status == status]
        return names, False

    def is_micro(self, ctx: Context) -> bool:
        return (ctx.call.header("x-mbx-time-unit") or "").upper() == "MICROSECOND"

    # -- market data -------------------------------------------------------------------

    def ping(self, ctx: Context) -> Any:
        return {}

    def time(self, ctx: Context) -> Any:
        return {"serverTime": ctx.now_ms * (1000 if self.is_micro(ctx) else 1)}

    def info(self, ctx: Context) -> Any:
        if len({"symbol", "symbols", "permissions"} & set(ctx.params)) > 1:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        names, _ = self.several(ctx)
        specs = [self.store.series[name].spec for name in names]
        show_sets = ctx.get("showPermissionSets", "true") != "false"
        if ctx.params:
            return exchange_info.spot_info(specs, self.exchange.config, ctx.now_ms, show_sets)
        # The full list is large: the symbols are kept until one of them changes.
        cached = self.exchange.info_cache.get("api")
        if cached is None or cached[0] != self.store.version:
            info = exchange_info.spot_info(specs, self.exchange.config, 0, True)
            cached = (self.store.version, orjson.dumps(info["symbols"]))
            self.exchange.info_cache["api"] = cached
        head = orjson.dumps(exchange_info.spot_info([], self.exchange.config, ctx.now_ms, True))
        return head[:-3] + cached[1] + b"}"

    def klines(self, ctx: Context, chart: bool = False) -> Any:
        symbol = self.symbol(ctx)
        interval = ctx.get("interval")
        if not interval:
            raise mandatory("interval")
        if not self.store.has_interval(interval):
            raise ApiError(-1120, "Invalid interval.")
        offset = 0
        if "timeZone" in ctx.params:
            parsed = parse_time_zone(ctx.params["timeZone"])
            if parsed is None:
                raise illegal("timeZone", r"^([+-]?)([0-9]{1,2})(:[0-9]{2})?$")
            offset = parsed
        limit = read_limit(ctx, 500, _CANDLE_LIMIT, clamp=True)
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        rows = self.exchange.rest_klines(self.store, symbol, interval, start, end, limit, ctx.now_ms, offset)
        if not chart and not self.is_micro(ctx):
            return rows
        decoded = orjson.loads(rows)
        for row in decoded:
            if self.is_micro(ctx):
                row[0], row[6] = row[0] * 1000, row[6] * 1000 + 999
            if chart:
                # uiKlines are "modified for charts": here the trade count is left out.
                row[8] = 0
        return decoded

    def ui_klines(self, ctx: Context) -> Any:
        return self.klines(ctx, chart=self.exchange.config.ui_klines_modified)

    def book_ticker(self, ctx: Context) -> Any:
        names, is_one = self.several(ctx)
        rows = []
        for name in names:
            ticker = self.store.book_ticker(name, ctx.now_ms)
            rows.append(
                {
                    "symbol": name,
                    "bidPrice": ticker.bid,
                    "bidQty": ticker.bid_qty,
                    "askPrice": ticker.ask,
                    "askQty": ticker.ask_qty,
                }
            )
        return rows[0] if is_one else rows

    def price(self, ctx: Context) -> Any:
        names, is_one = self.several(ctx)
        rows = [{"symbol": name, "price": self._last(name, ctx.now_ms)} for name in names]
        return rows[0] if is_one else rows

    def _last(self, symbol: str, now_ms: int) -> str:
        price = last_trade(self.store, symbol, now_ms).price
        return fixed(price, self.store.series[symbol].spec.price_decimals, 8)

    def day(self, ctx: Context) -> Any:
        kind = ctx.get("type") or "FULL"
        if kind not in ("FULL", "MINI"):
            raise illegal("type", "^(FULL|MINI)$")
        names, is_one = self.several(ctx)
        rows = [day_row(self.store, name, ctx.now_ms) for name in names]
        if kind == "MINI":
            rows = [mini_row(row) for row in rows]
        self._with_times(ctx, rows, "openTime", "closeTime")
        return rows[0] if is_one else rows

    def depth(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx)
        limit = read_limit(ctx, 100, 5000, clamp=True)
        update_id, _, bids, asks = self.exchange.rest_book(self.store, symbol, limit, ctx.now_ms)
        return {"lastUpdateId": update_id, "bids": bids, "asks": asks}

    def _trades_now(self, ctx: Context) -> int:
        return ctx.now_ms - self.exchange.faults.stream(Market.SPOT).trades_lag_ms

    def trades(self, ctx: Context) -> Any:
        symbol, limit = self.symbol(ctx), read_limit(ctx, 500, 1000, clamp=True)
        rows = trade_rows(self.store, symbol, limit, self._trades_now(ctx), read_number(ctx, "fromId"))
        return self._with_times(ctx, rows, "time")

    def agg_trades(self, ctx: Context) -> Any:
        symbol, limit = self.symbol(ctx), read_limit(ctx, 500, 1000, clamp=True)
        from_id = read_number(ctx, "fromId")
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        if from_id is not None and (start, end) != (None, None):
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        rows = aggregate_rows(self.store, symbol, limit, self._trades_now(ctx), from_id, start, end)
        return self._with_times(ctx, rows, "T")

    def _with_times(self, ctx: Context, rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
        if self.is_micro(ctx):
            for row in rows:
                row.update({name: moment_us(row[name]) for name in names})
        return rows

    def avg_price(self, ctx: Context) -> Any:
        price, traded_ms = average_price(self.store, self.symbol(ctx), ctx.now_ms)
        row = {"mins": AVERAGE_MINUTES, "price": price, "closeTime": traded_ms}
        return self._with_times(ctx, [row], "closeTime")[0]

    def retired(self, ctx: Context) -> Any:
        # Retired on 2026-02-20; what the dead endpoint answers is not documented.
        raise ApiError(-1000, "This endpoint has been retired.", 410)


def spot_table(exchange: Exchange) -> Table:
    """Return the routes of /api/v3."""
    spot = SpotRoutes(exchange)
    two_or_four = weights.by_symbol(2, 4)
    candles = ("symbol", "interval", "startTime", "endTime", "timeZone", "limit")
    need = ("symbol", "interval")
    routes: dict[tuple[str, str], Route] = {
        ("GET", "ping"): Route(spot.ping),
        ("GET", "time"): Route(spot.time),
        ("GET", "exchangeInfo"): Route(
            spot.info, 20, params=(*_MANY, "permissions", "showPermissionSets")
        ),
        ("GET", "klines"): Route(spot.klines, 2, params=candles, required=need),
        ("GET", "uiKlines"): Route(spot.ui_klines, 2, params=candles, required=need),
        ("GET", "ticker/bookTicker"): Route(spot.book_ticker, two_or_four, params=_MANY),
        ("GET", "ticker/price"): Route(spot.price, two_or_four, params=_MANY),
        ("GET", "ticker/24hr"): Route(spot.day, weights.spot_24hr_weight, params=(*_MANY, "type")),
        ("GET", "depth"): Route(
            spot.depth, weights.spot_depth_weight, params=("symbol", "limit", "symbolStatus"),
            required=("symbol",),
        ),
        ("GET", "trades"): Route(spot.trades, 25, params=("symbol", "limit"), required=("symbol",)),
        ("GET", "historicalTrades"): Route(
            spot.trades, 25, params=("symbol", "limit", "fromId"), required=("symbol",)
        ),
        ("GET", "aggTrades"): Route(
            spot.agg_trades, 4, params=("symbol", "limit", "fromId", "startTime", "endTime"),
            required=("symbol",),
        ),
        ("GET", "avgPrice"): Route(spot.avg_price, 2, params=("symbol",), required=("symbol",)),
    }  # fmt: skip
    for method in ("POST", "PUT", "DELETE"):
        routes[(method, "userDataStream")] = Route(spot.retired, 2, params=None)
    return {(method, f"/api/v3/{path}"): route for (method, path), route in routes.items()}
