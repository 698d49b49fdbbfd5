"""The smaller hosts: /sapi on the spot host, options and portfolio margin, all minimal.

Enough for client libraries to start and for the gateway to be tried on every prefix.
Handlers own nothing.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson

from resender.core.binance.markets import Market

from . import exchange_info, weights
from .exchange import Exchange
from .model import ApiError, Context, Placement, Route, Table
from .params import read_limit, read_number, read_time
from .prices import mix
from .routes_trading import FuturesTrading
from .signing import mandatory
from .symbols import quarter_codes

_DAY_MS = 86_400_000


def sapi_table(exchange: Exchange) -> Table:
    """Return the routes of /sapi."""
    store = exchange.stores[Market.SPOT]

    def status(ctx: Context) -> Any:
        return {"status": 0, "msg": "normal"}

    def coins(ctx: Context) -> Any:
        names = sorted({spec.base for spec in store.symbols} | {spec.quote for spec in store.symbols})
        return [
            {
                "coin": name,
                "depositAllEnable": True,
                "withdrawAllEnable": True,
                "name": name,
                "free": "0",
                "locked": "0",
                "freeze": "0",
                "withdrawing": "0",
                "ipoing": "0",
                "ipoable": "0",
                "storage": "0",
                "isLegalMoney": False,
                "trading": True,
                "networkList": [],
            }
            for name in names
        ]

    def pairs(ctx: Context) -> Any:
        return [
            {
                "id": number,
                "symbol": spec.symbol,
                "base": spec.base,
                "quote": spec.quote,
                "isMarginTrade": True,
                "isBuyAllowed": True,
                "isSellAllowed": True,
            }
            for number, spec in enumerate(store.symbols, 1)
        ]

    def fees(ctx: Context) -> Any:
        wanted = ctx.get("symbol")
        names = [spec.symbol for spec in store.symbols if not wanted or spec.symbol == wanted]
        if not names:
            raise ApiError(-1121, "Invalid symbol.")
        return [{"symbol": name, "makerCommission": "0.001", "takerCommission": "0.001"} for name in names]

    def restrictions(ctx: Context) -> Any:
        return exchange.accounts.key(ctx.api_key).restrictions()

    def listen_token(ctx: Context) -> Any:
        validity = min(read_number(ctx, "validity") or _DAY_MS, _DAY_MS)
        token, until = exchange.listen_keys.create_token(ctx.account, validity, ctx.now_ms)
        return {"token": token, "expirationTime": until}

    def empty(ctx: Context) -> Any:
        return []

    return {
        ("GET", "/sapi/v1/system/status"): Route(status),
        ("GET", "/sapi/v1/capital/config/getall"): Route(coins, 10, "signed"),
        # Needs only the key; libraries sign it all the same, and the exchange does not mind.
        ("GET", "/sapi/v1/margin/allPairs"): Route(
            pairs, 1, "key", params=("symbol", "timestamp", "recvWindow", "signature")
        ),
        ("GET", "/sapi/v1/margin/isolated/allPairs"): Route(empty, 10, "signed", params=("symbol",)),
        ("GET", "/sapi/v1/asset/tradeFee"): Route(fees, 1, "signed", params=("symbol",)),
        ("GET", "/sapi/v1/account/apiRestrictions"): Route(restrictions, 1, "signed"),
        # By the key alone, as libraries call it; who signs it is served too.
        ("POST", "/sapi/v1/userListenToken"): Route(listen_token, 1, "key", params=None),
    }


class _Options:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.store = exchange.stores[Market.UM]
        self._orders: dict[int, dict[str, Any]] = {}
        code = quarter_codes(exchange.now())[0]
        expiry = dt.datetime.strptime(code, "%y%m%d").replace(hour=8, tzinfo=dt.timezone.utc)
        self.expiry_ms = int(expiry.timestamp() * 1000)
        self.symbols = {
            f"BTC-{code}-{strike}-{side}": strike for strike in (80_000, 90_000, 100_000) for side in "CP"
        }

    def symbol(self, ctx: Context) -> str:
        text = ctx.get("symbol")
        if not text:
            raise mandatory("symbol")
        if text not in self.symbols:
            raise ApiError(-1121, "Invalid symbol.")
        return text

    def _names(self, ctx: Context) -> list[str]:
        return [self.symbol(ctx)] if "symbol" in ctx.params else list(self.symbols)

    def ping(self, ctx: Context) -> Any:
        return {}

    def time(self, ctx: Context) -> Any:
        return {"serverTime": ctx.now_ms}

    def info(self, ctx: Context) -> Any:
        return {
            "timezone": "UTC",
            "serverTime": ctx.now_ms,
            "optionContracts": [
                {"baseAsset": "BTC", "quoteAsset": "USDT", "underlying": "BTCUSDT", "settleAsset": "USDT"}
            ],
            "optionAssets": [{"name": "USDT"}],
            "optionSymbols": [
                {
                    "symbol": name,
                    "side": "CALL" if name.endswith("C") else "PUT",
                    "strikePrice": str(strike),
                    "underlying": "BTCUSDT",
                    "unit": 1,
                    "expiryDate": self.expiry_ms,
                    "quoteAsset": "USDT",
                    "status": "TRADING",
                    "priceScale": 1,
                    "quantityScale": 2,
                    "minQty": "0.01",
                    "maxQty": "100",
                    "filters": [
                        {
                            "filterType": "PRICE_FILTER",
                            "minPrice": "1",
                            "maxPrice": "100000",
                            "tickSize": "1",
                        },
                        {"filterType": "LOT_SIZE", "minQty": "0.01", "maxQty": "100", "stepSize": "0.01"},
                    ],
                }
                for name, strike in self.symbols.items()
            ],
            "rateLimits": exchange_info.rate_limits(Market.OPTIONS, self.exchange.config),
        }

    def depth(self, ctx: Context) -> Any:
        name = self.symbol(ctx)
        top = 1000 + mix(ctx.now_ms // 1000, self.symbols[name]) % 500
        levels = range(read_limit(ctx, 100, 1000, clamp=False))
        return {
            "T": ctx.now_ms,
            "u": ctx.now_ms // 1000,
            "bids": [[f"{top - level}.0", "1.00"] for level in levels if level < top],
            "asks": [[f"{top + 1 + level}.0", "1.00"] for level in levels],
        }

    def klines(self, ctx: Context) -> bytes:
        self.symbol(ctx)
        interval = ctx.get("interval")
        if not self.store.has_interval(interval):
            raise ApiError(-1120, "Invalid interval.")
        limit = read_limit(ctx, 500, 1500, clamp=False)
        start, end = read_time(ctx, "startTime"), read_time(ctx, "endTime")
        # An option's candles are those of its underlying: enough to be passed through.
        underlying = "BTCUSDT" if "BTCUSDT" in self.store.series else next(iter(self.store.series))
        return self.store.kline_bytes(underlying, interval, start, end, limit, ctx.now_ms)

    def ticker(self, ctx: Context) -> Any:
        return [
            {"symbol": name, "lastPrice": "1200", "open": "1100", "high": "1300", "low": "1000",
             "volume": "10.00", "amount": "12000", "bidPrice": "1199", "askPrice": "1201",
             "openTime": ctx.now_ms - 86_400_000, "closeTime": ctx.now_ms, "tradeCount": 12,
             "strikePrice": str(self.symbols[name])}
            for name in self._names(ctx)
        ]  # fmt: skip

    def mark(self, ctx: Context) -> Any:
        return [
            {"symbol": name, "markPrice": "1200.1", "bidIV": "0.5", "askIV": "0.6", "markIV": "0.55",
             "delta": "0.5", "theta": "-10", "gamma": "0.00001", "vega": "50", "highPriceLimit": "5000",
             "lowPriceLimit": "1", "riskFreeInterest": "0.1"}
            for name in self._names(ctx)
        ]  # fmt: skip

    def index(self, ctx: Context) -> Any:
        if ctx.get("underlying") not in self.store.series:
            raise ApiError(-1121, "Invalid symbol.")
        ticker = self.store.book_ticker(ctx.get("underlying"), ctx.now_ms)
        return {"time": ctx.now_ms, "indexPrice": ticker.ask}

    def account(self, ctx: Context) -> Any:
        return {
            "asset": [{"asset": "USDT", "marginBalance": "10000", "equity": "10000", "available": "10000",
                       "locked": "0", "unrealizedPNL": "0"}],
            "greek": [],
            "time": ctx.now_ms,
            "riskLevel": "NORMAL",
        }  # fmt: skip

    def place(self, ctx: Context) -> Any:
        name = self.symbol(ctx)
        for field in ("side", "type", "quantity"):
            if not ctx.get(field):
                raise mandatory(field)
        order_id = 5_000_000 + len(self._orders)
        row = {
            "orderId": order_id, "clientOrderId": ctx.get("clientOrderId"), "symbol": name,
            "price": ctx.get("price") or "0", "quantity": ctx.get("quantity"), "executedQty": "0",
            "side": ctx.get("side"), "type": ctx.get("type"), "timeInForce": ctx.get("timeInForce") or "GTC",
            "status": "ACCEPTED", "createTime": ctx.now_ms, "updateTime": ctx.now_ms,
        }  # fmt: skip
        self._orders[order_id] = row
        self.exchange.orders.append(Placement(ctx.host, ctx.api_key, dict(ctx.params), order_id, None))
        return row

    def open_orders(self, ctx: Context) -> Any:
        wanted = set(self._names(ctx))
        return [row for row in self._orders.values() if row["symbol"] in wanted]


def options_table(exchange: Exchange) -> Table:
    """Return the routes of /eapi."""
    desk = _Options(exchange)
    one_forty = weights.by_symbol(1, 40)
    routes = {
        ("GET", "ping"): Route(desk.ping),
        ("GET", "time"): Route(desk.time),
        ("GET", "exchangeInfo"): Route(desk.info),
        ("GET", "depth"): Route(desk.depth, weights.options_depth_weight, required=("symbol",)),
        ("GET", "klines"): Route(desk.klines, 1, required=("symbol", "interval")),
        ("GET", "ticker"): Route(desk.ticker, one_forty),
        ("GET", "mark"): Route(desk.mark, 5),
        ("GET", "index"): Route(desk.index, 1, required=("underlying",)),
        ("GET", "account"): Route(desk.account, 3, "signed"),
        ("POST", "order"): Route(desk.place, 0, "signed", required=("symbol",)),
        ("GET", "openOrders"): Route(desk.open_orders, one_forty, "signed"),
    }
    return {(method, f"/eapi/v1/{path}"): route for (method, path), route in routes.items()}


def pm_table(exchange: Exchange) -> Table:
    """Return the routes of /papi; orders land in the UM and CM books."""
    um = FuturesTrading(exchange, Market.UM, "papi")
    cm = FuturesTrading(exchange, Market.CM, "papi")

    def ping(ctx: Context) -> Any:
        return {}

    def account(ctx: Context) -> Any:
        return {
            "uniMMR": "99999999", "accountEquity": "100000", "actualEquity": "100000",
            "accountInitialMargin": "0", "accountMaintMargin": "0", "accountStatus": "NORMAL",
            "virtualMaxWithdrawAmount": "100000", "totalAvailableBalance": "100000",
            "totalMarginOpenLoss": "0", "updateTime": ctx.now_ms,
        }  # fmt: skip

    def balance(ctx: Context) -> Any:
        rows = [
            {"asset": asset, "totalWalletBalance": amount, "crossMarginAsset": "0",
             "crossMarginBorrowed": "0", "crossMarginFree": "0", "crossMarginInterest": "0",
             "crossMarginLocked": "0", "umWalletBalance": amount, "umUnrealizedPNL": "0",
             "cmWalletBalance": "0", "cmUnrealizedPNL": "0", "updateTime": ctx.now_ms,
             "negativeBalance": "0"}
            for asset, amount in (("USDT", "100000"), ("BTC", "2"))
        ]  # fmt: skip
        wanted = ctx.get("asset")
        if not wanted:
            return rows
        found = [row for row in rows if row["asset"] == wanted]
        return orjson.dumps(found[0]) if found else {}

    table: Table = {
        ("GET", "/papi/v1/ping"): Route(ping),
        ("GET", "/papi/v1/account"): Route(account, 20, "signed"),
        ("GET", "/papi/v1/balance"): Route(balance, 20, "signed"),
        ("POST", "/papi/v1/listenKey"): Route(um.create_key, 1, "key"),
        ("PUT", "/papi/v1/listenKey"): Route(um.keep_key, 1, "key"),
        ("DELETE", "/papi/v1/listenKey"): Route(um.close_key, 1, "key"),
    }
    for name, desk in (("um", um), ("cm", cm)):
        desk.is_portfolio = True
        root = f"/papi/v1/{name}"
        table[("POST", f"{root}/order")] = Route(desk.place, 1, "signed", required=("symbol",))
        table[("GET", f"{root}/order")] = Route(desk.query_order, 1, "signed", required=("symbol",))
        table[("DELETE", f"{root}/order")] = Route(desk.cancel, 1, "signed", required=("symbol",))
        table[("GET", f"{root}/openOrders")] = Route(desk.open_orders, weights.by_symbol(1, 40), "signed")
        table[("DELETE", f"{root}/allOpenOrders")] = Route(desk.cancel_all, 1, "signed", required=("symbol",))
        table[("GET", f"{root}/positionRisk")] = Route(desk.positions, 5, "signed")
    return table
