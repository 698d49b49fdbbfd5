"""Signed routes of the futures hosts: orders, account, positions, listen keys.

Handlers turn parameters into JSON data; orders live in the exchange's order desk.
Conditional orders (algoOrder) are kept here, they never trigger.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

from resender.core.binance.markets import Market

from . import shapes, weights
from .exchange import Exchange
from .model import ApiError, Context, Placement, Route, Table
from .orders import Order
from .params import read_limit
from .signing import mandatory

_BALANCES = {Market.UM: (("USDT", "100000.00000000"), ("USDC", "5000.00000000"), ("BNB", "10.00000000")),
             Market.CM: (("BTC", "2.00000000"), ("ETH", "30.00000000"))}  # fmt: skip


class FuturesTrading:
    """Trading routes of one futures host."""

    def __init__(self, exchange: Exchange, market: Market, host: str) -> None:
        self.exchange = exchange
        self.market = market
        self.host = host
        self.is_cm = market is Market.CM
        self.store = exchange.stores[market]
        self._algo: dict[int, dict[str, Any]] = {}
        self._leverage: dict[tuple[str, str], int] = {}
        self._dual: dict[str, bool] = {}

    def symbol(self, text: str) -> str:
        if not text:
            raise mandatory("symbol")
        if text.upper() not in self.store.series:
            raise ApiError(-1121, "Invalid symbol.")
        return text.upper()

    def row(self, order: Order, is_ack: bool = False) -> dict[str, Any]:
        return shapes.futures_order_row(order, self.store.spec(order.symbol), is_ack)

    # -- orders --------------------------------------------------------------------------

    def _place(self, ctx: Context, params: dict[str, str]) -> dict[str, Any]:
        symbol = self.symbol(params.get("symbol", ""))
        spec = self.store.series[symbol].spec
        ticker = self.store.book_ticker(symbol, ctx.now_ms)
        order = self.exchange.desk.place(spec, params, ctx.api_key, ticker, ctx.now_ms)
        self.exchange.orders.append(Placement(ctx.host, ctx.api_key, dict(params), order.order_id, None))
        ten_s, minute = self.exchange.count_order(ctx.host, ctx.api_key, ctx.now_ms)
        ctx.extra_headers["x-mbx-order-count-10s"] = str(ten_s)
        ctx.extra_headers["x-mbx-order-count-1m"] = str(minute)
        row = self.row(order, is_ack=True)
        if params.get("newOrderRespType", "ACK") == "ACK":
            row |= {"executedQty": "0", "cumQty": "0"}
            if order.status == "FILLED":
                row["status"] = "NEW"
        return row

    def place(self, ctx: Context) -> Any:
        return self._place(ctx, ctx.params)

    def test_place(self, ctx: Context) -> Any:
        spec = self.store.series[self.symbol(ctx.get("symbol"))].spec
        self.exchange.desk.check(spec, ctx.params)
        return {}

    def _batch(self, ctx: Context, name: str) -> list[Any]:
        try:
            items = orjson.loads(ctx.get(name))
        except orjson.JSONDecodeError:
            items = None
        if not isinstance(items, list) or not items:
            raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
        return items

    def batch_place(self, ctx: Context) -> Any:
        items = self._batch(ctx, "batchOrders")
        if len(items) > 5:
            raise ApiError(-4082, "Invalid number of batch place orders.")
        result: list[Any] = []
        for item in items:
            params = {str(k): str(v) for k, v in item.items()} if isinstance(item, dict) else {}
            try:
                result.append(self._place(ctx, params))
            except ApiError as error:
                placement = Placement(ctx.host, ctx.api_key, params, None, error.code)
                self.exchange.orders.append(placement)
                result.append({"code": error.code, "msg": error.msg})
        return result

    def _find(self, ctx: Context) -> Order | None:
        symbol = self.symbol(ctx.get("symbol"))
        return self.exchange.desk.find(self.market, ctx.api_key, symbol, ctx.params)

    def query_order(self, ctx: Context) -> Any:
        order = self._find(ctx)
        if order is None:
            raise ApiError(-2013, "Order does not exist.")
        return self.row(order)

    def query_open_order(self, ctx: Context) -> Any:
        order = self._find(ctx)
        if order is None or order.status != "NEW":
            raise ApiError(-2013, "Order does not exist.")
        return self.row(order)

    def cancel(self, ctx: Context) -> Any:
        return self.row(self.exchange.desk.cancel(self._find(ctx), ctx.now_ms), is_ack=True)

    def modify(self, ctx: Context) -> Any:
        for name in ("price", "quantity"):
            if not ctx.get(name):
                raise mandatory(name)
        order = self._find(ctx)
        if order is None or order.status != "NEW":
            raise ApiError(-2013, "Order does not exist.")
        spec = self.store.series[order.symbol].spec
        side = ctx.get("side") or order.side
        checked = {"side": side, "type": "LIMIT", "timeInForce": "GTC"}
        self.exchange.desk.check(spec, {**ctx.params, **checked})
        order.price, order.qty, order.update_ms = ctx.get("price"), ctx.get("quantity"), ctx.now_ms
        return self.row(order, is_ack=True)

    def open_orders(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol")) if "symbol" in ctx.params else None
        orders = self.exchange.desk.open_orders(self.market, ctx.api_key, symbol)
        return [self.row(order) for order in orders]

    def cancel_all(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        for order in self.exchange.desk.open_orders(self.market, ctx.api_key, symbol):
            self.exchange.desk.cancel(order, ctx.now_ms)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def batch_cancel(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        result: list[Any] = []
        # Binance takes the lower case spelling of ccxt too.
        names = ("orderIdList", "orderidlist", "origClientOrderIdList", "origclientorderidlist")
        name = next((name for name in names if ctx.get(name)), names[0])
        key = "orderId" if name.lower() == "orderidlist" else "origClientOrderId"
        for reference in self._batch(ctx, name):
            try:
                found = self.exchange.desk.find(self.market, ctx.api_key, symbol, {key: str(reference)})
                result.append(self.row(self.exchange.desk.cancel(found, ctx.now_ms), is_ack=True))
            except ApiError as error:
                result.append({"code": error.code, "msg": error.msg})
        return result

    def all_orders(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        limit = read_limit(ctx, 500, 1000, clamp=False)
        orders = self.exchange.desk.book(self.market, ctx.api_key).values()
        return [self.row(order) for order in orders if order.symbol == symbol][-limit:]

    def user_trades(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        return [
            {
                "symbol": symbol,
                "id": order.trade_id,
                "orderId": order.order_id,
                "side": order.side,
                "price": order.avg_price,
                "qty": order.executed,
                "realizedPnl": "0",
                ("baseQty" if self.is_cm else "quoteQty"): order.quote,
                "commission": "0",
                "commissionAsset": self.store.series[symbol].spec.base if self.is_cm else "USDT",
                "time": order.time_ms,
                "positionSide": order.position_side,
                "buyer": order.side == "BUY",
                "maker": False,
            }
            for order in self.exchange.desk.book(self.market, ctx.api_key).values()
            if order.symbol == symbol and order.status == "FILLED"
        ]

    # -- conditional orders ----------------------------------------------------------------

    def place_algo(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        for name in ("side", "type"):
            if not ctx.get(name):
                raise mandatory(name)
        algo_id = 2_000_000 + len(self._algo)
        row = {
            "algoId": algo_id,
            "clientAlgoId": ctx.get("clientAlgoId") or f"algo{algo_id}",
            "algoType": ctx.get("algoType") or "CONDITIONAL",
            "orderType": ctx.get("type"),
            "symbol": symbol,
            "side": ctx.get("side"),
            "positionSide": ctx.get("positionSide") or "BOTH",
            "timeInForce": ctx.get("timeInForce") or "GTC",
            "quantity": ctx.get("quantity") or "0",
            "algoStatus": "NEW",
            "actualOrderId": "",
            "actualPrice": "0",
            "triggerPrice": ctx.get("triggerPrice") or "0",
            "price": ctx.get("price") or "0",
            "createTime": ctx.now_ms,
            "updateTime": ctx.now_ms,
            "triggerTime": 0,
            "goodTillDate": 0,
        }
        self._algo[algo_id] = row | {"key": ctx.api_key}
        self.exchange.orders.append(Placement(ctx.host, ctx.api_key, dict(ctx.params), algo_id, None))
        return row

    def open_algo(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol")) if "symbol" in ctx.params else None
        return [
            {name: value for name, value in row.items() if name != "key"}
            for row in self._algo.values()
            if row["key"] == ctx.api_key and row["algoStatus"] == "NEW" and symbol in (None, row["symbol"])
        ]

    def cancel_algo(self, ctx: Context) -> Any:
        text = ctx.get("algoId")
        row = self._algo.get(int(text)) if text.isdigit() else None
        if row is None or row["key"] != ctx.api_key or row["algoStatus"] != "NEW":
            raise ApiError(-2011, "Unknown order sent.")
        row |= {"algoStatus": "CANCELED", "updateTime": ctx.now_ms}
        return {"algoId": row["algoId"], "clientAlgoId": row["clientAlgoId"], "code": "200", "msg": "success"}

    # -- account -----------------------------------------------------------------------------

    def balance(self, ctx: Context) -> Any:
        return [
            {
                "accountAlias": "SgsR",
                "asset": asset,
                "balance": amount,
                "crossWalletBalance": amount,
                "crossUnPnl": "0.00000000",
                "availableBalance": amount,
                ("withdrawAvailable" if self.is_cm else "maxWithdrawAmount"): amount,
                "updateTime": ctx.now_ms,
            }
            for asset, amount in _BALANCES[self.market]
        ]

    def account(self, ctx: Context) -> Any:
        total = _BALANCES[self.market][0][1]
        assets = [
            {
                "asset": asset,
                "walletBalance": amount,
                "unrealizedProfit": "0.00000000",
                "marginBalance": amount,
                "maintMargin": "0.00000000",
                "initialMargin": "0.00000000",
                "positionInitialMargin": "0.00000000",
                "openOrderInitialMargin": "0.00000000",
                "crossWalletBalance": amount,
                "crossUnPnl": "0.00000000",
                "availableBalance": amount,
                "maxWithdrawAmount": amount,
                "updateTime": ctx.now_ms,
            }
            for asset, amount in _BALANCES[self.market]
        ]
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "multiAssetsMargin": False,
            "updateTime": 0,
            "totalInitialMargin": "0.00000000",
            "totalMaintMargin": "0.00000000",
            "totalWalletBalance": total,
            "totalUnrealizedProfit": "0.00000000",
            "totalMarginBalance": total,
            "totalPositionInitialMargin": "0.00000000",
            "totalOpenOrderInitialMargin": "0.00000000",
            "totalCrossWalletBalance": total,
            "totalCrossUnPnl": "0.00000000",
            "availableBalance": total,
            "maxWithdrawAmount": total,
            "assets": assets,
            "positions": self.positions(ctx),
        }

    def positions(self, ctx: Context) -> Any:
        wanted = ctx.get("symbol").upper()
        only_open = ctx.call.path.startswith("/fapi/v3") or ctx.call.path.endswith("/account")
        rows = []
        for spec in self.store.symbols:
            held = self.exchange.desk.positions.get((self.market, ctx.api_key, spec.symbol), Decimal(0))
            if (wanted and spec.symbol != wanted) or (only_open and not held):
                continue
            rows.append(
                {
                    "symbol": spec.symbol,
                    "positionAmt": str(held),
                    "entryPrice": "0.0",
                    "breakEvenPrice": "0.0",
                    "markPrice": self.store.book_ticker(spec.symbol, ctx.now_ms).ask,
                    "unRealizedProfit": "0.00000000",
                    "liquidationPrice": "0",
                    "leverage": str(self._leverage.get((ctx.api_key, spec.symbol), 20)),
                    "maxNotionalValue": "25000",
                    "marginType": "cross",
                    "isolatedMargin": "0.00000000",
                    "isAutoAddMargin": "false",
                    "positionSide": "BOTH",
                    "notional": "0",
                    "isolatedWallet": "0",
                    "updateTime": ctx.now_ms,
                }
            )
        return rows

    def leverage(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        text = ctx.get("leverage")
        if not text.isdigit() or not 1 <= int(text) <= 125:
            raise ApiError(-4028, f"Leverage {text} is not valid")
        self._leverage[(ctx.api_key, symbol)] = int(text)
        key = "maxQty" if self.is_cm else "maxNotionalValue"
        return {"symbol": symbol, "leverage": int(text), key: "1000000"}

    def leverage_bracket(self, ctx: Context) -> Any:
        bracket = {"bracket": 1, "initialLeverage": 125, "notionalCap": 50000, "notionalFloor": 0,
                   "maintMarginRatio": 0.004, "cum": 0.0}  # fmt: skip
        rows = [{"symbol": spec.symbol, "brackets": [bracket]} for spec in self.store.symbols]
        wanted = ctx.get("symbol").upper()
        return [row for row in rows if not wanted or row["symbol"] == wanted]

    def margin_type(self, ctx: Context) -> Any:
        self.symbol(ctx.get("symbol"))
        if ctx.get("marginType") not in ("ISOLATED", "CROSSED"):
            raise ApiError(-1130, "Data sent for parameter 'marginType' is not valid.")
        return {"code": 200, "msg": "success"}

    def get_dual(self, ctx: Context) -> Any:
        return {"dualSidePosition": self._dual.get(ctx.api_key, False)}

    def set_dual(self, ctx: Context) -> Any:
        self._dual[ctx.api_key] = ctx.get("dualSidePosition").lower() == "true"
        return {"code": 200, "msg": "success"}

    # -- listen keys ---------------------------------------------------------------------------

    def create_key(self, ctx: Context) -> Any:
        return {"listenKey": self.exchange.create_listen_key(self.host, ctx.api_key, ctx.now_ms)}

    def keep_key(self, ctx: Context) -> Any:
        key = self.exchange.keep_listen_key(self.host, ctx.api_key, ctx.now_ms)
        if key is None:
            raise ApiError(-1125, "This listenKey does not exist.")
        return {"listenKey": key}

    def close_key(self, ctx: Context) -> Any:
        self.exchange.close_listen_key(self.host, ctx.api_key)
        return {}

    def table(self) -> Table:
        """Return the signed routes of this host."""
        one_forty = weights.by_symbol(1, 40)
        symbol = ("symbol",)
        routes: dict[tuple[str, str], Route] = {
            ("POST", "order"): Route(self.place, 0, "signed", required=symbol),
            ("POST", "order/test"): Route(self.test_place, 0, "signed", required=symbol),
            ("GET", "order"): Route(self.query_order, 1, "signed", required=symbol),
            ("PUT", "order"): Route(self.modify, 1, "signed", required=symbol),
            ("DELETE", "order"): Route(self.cancel, 1, "signed", required=symbol),
            ("POST", "batchOrders"): Route(self.batch_place, 5, "signed", required=("batchOrders",)),
            ("DELETE", "batchOrders"): Route(self.batch_cancel, 1, "signed", required=symbol),
            ("GET", "openOrder"): Route(self.query_open_order, 1, "signed", required=symbol),
            ("GET", "openOrders"): Route(self.open_orders, one_forty, "signed"),
            ("DELETE", "allOpenOrders"): Route(self.cancel_all, 1, "signed", required=symbol),
            ("GET", "allOrders"): Route(self.all_orders, 5, "signed", required=symbol),
            ("GET", "userTrades"): Route(self.user_trades, 5, "signed", required=symbol),
            ("POST", "algoOrder"): Route(self.place_algo, 0, "signed", required=symbol),
            ("DELETE", "algoOrder"): Route(self.cancel_algo, 1, "signed", required=("algoId",)),
            ("GET", "openAlgoOrders"): Route(self.open_algo, one_forty, "signed"),
            ("POST", "leverage"): Route(self.leverage, 1, "signed", required=("symbol", "leverage")),
            ("GET", "leverageBracket"): Route(self.leverage_bracket, 1, "signed"),
            ("POST", "marginType"): Route(self.margin_type, 1, "signed", required=("symbol", "marginType")),
            ("GET", "positionSide/dual"): Route(self.get_dual, 30, "signed"),
            ("POST", "positionSide/dual"): Route(self.set_dual, 1, "signed", required=("dualSidePosition",)),
            ("POST", "listenKey"): Route(self.create_key, 1, "key"),
            ("PUT", "listenKey"): Route(self.keep_key, 1, "key"),
            ("DELETE", "listenKey"): Route(self.close_key, 1, "key"),
        }
        table = {(method, f"/{self.host}/v1/{path}"): route for (method, path), route in routes.items()}
        versions = ("v1",) if self.is_cm else ("v1", "v2", "v3")
        for version in versions:
            root = f"/{self.host}/{version}"
            table[("GET", f"{root}/account")] = Route(self.account, 5, "signed")
            table[("GET", f"{root}/balance")] = Route(self.balance, 5, "signed")
            table[("GET", f"{root}/positionRisk")] = Route(self.positions, 5, "signed")
        if self.is_cm:
            table[("GET", "/dapi/v2/leverageBracket")] = routes[("GET", "leverageBracket")]
        return table
