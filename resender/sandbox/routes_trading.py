"""Signed routes of the futures hosts about orders, normal and conditional ones.

Handlers turn parameters into JSON data; orders live in the exchange's order desk. The routes
about the account are in `routes_futures_account.py`.
"""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.binance.markets import Market

from . import shapes, weights
from .exchange import Exchange
from .journal import Journal
from .model import ApiError, Context, Params, Placement, Route, Table
from .orders import Order, check_price, check_qty, read_order
from .params import read_limit
from .routes_futures_account import FuturesAccount
from .signing import mandatory

_ALL_DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}
_SYMBOL = ("symbol",)


class FuturesTrading(FuturesAccount):
    """Trading routes of one futures host; `is_portfolio` for those of portfolio margin."""

    is_portfolio = False

    def __init__(self, exchange: Exchange, market: Market, host: str) -> None:
        super().__init__(exchange, market, host)
        self.desk = exchange.desk
        self.algo = exchange.algo

    def row(self, order: Order, is_ack: bool = False) -> dict[str, Any]:
        texts = self.exchange.config.futures_texts
        row = shapes.futures_order_row(order, self.store.spec(order.symbol), is_ack, texts)
        return shapes.portfolio_row(row) if self.is_portfolio else row

    # -- placing -------------------------------------------------------------------------

    def _place(self, ctx: Context, params: Params) -> dict[str, Any]:
        symbol = self.symbol(params.get("symbol", ""))
        spec = self.store.series[symbol].spec
        order = self.desk.place(spec, params, ctx.account, ctx.now_ms)
        self.exchange.orders.append(Placement(ctx.host, ctx.api_key, dict(params), order.order_id, None))
        self._count(ctx)
        row = self.row(order, is_ack=True)
        if params.get("newOrderRespType", "ACK") == "ACK":
            untouched = self.row(_untouched(order), is_ack=True)
            row |= {name: untouched[name] for name in ("executedQty", "cumQty", "status")}
        return row

    def _count(self, ctx: Context) -> None:
        ten_s, minute = self.exchange.count_order(ctx.host, ctx.account, ctx.now_ms)
        ctx.extra_headers["x-mbx-order-count-10s"] = str(ten_s)
        ctx.extra_headers["x-mbx-order-count-1m"] = str(minute)

    def place(self, ctx: Context) -> Any:
        return self._place(ctx, ctx.params)

    def test_place(self, ctx: Context) -> Any:
        read_order(self.store.series[self.symbol(ctx.get("symbol"))].spec, ctx.params)
        return {}

    def _batch(self, ctx: Context, name: str) -> list[Any]:
        try:
            items = orjson.loads(ctx.get(name))
        except orjson.JSONDecodeError:
            items = None
        if not isinstance(items, list) or not items:
            raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
        return items

    def _items(self, ctx: Context) -> list[Params]:
        items = self._batch(ctx, "batchOrders")
        if len(items) > 5:
            raise ApiError(-4082, "Invalid number of batch place orders.")
        return [_params(item) for item in items]

    def batch_place(self, ctx: Context) -> Any:
        result: list[Any] = []
        for params in self._items(ctx):
            try:
                result.append(self._place(ctx, params))
            except ApiError as error:
                placement = Placement(ctx.host, ctx.api_key, params, None, error.code)
                self.exchange.orders.append(placement)
                result.append({"code": error.code, "msg": error.msg})
        return result

    # -- one order -----------------------------------------------------------------------

    def _find(self, ctx: Context, params: Params) -> Order | None:
        return self.desk.find(self.market, ctx.account, self.symbol(params.get("symbol", "")), params)

    def query_order(self, ctx: Context) -> Any:
        order = self._find(ctx, ctx.params)
        if order is None:
            raise ApiError(-2013, "Order does not exist.")
        return self.row(order)

    def query_open_order(self, ctx: Context) -> Any:
        order = self._find(ctx, ctx.params)
        if order is None or not order.is_open:
            raise ApiError(-2013, "Order does not exist.")
        return self.row(order)

    def cancel(self, ctx: Context) -> Any:
        return self.row(self.desk.cancel(self._find(ctx, ctx.params), ctx.now_ms), is_ack=True)

    def _modify(self, ctx: Context, params: Params) -> dict[str, Any]:
        for name in ("price", "quantity"):
            if not params.get(name):
                raise mandatory(name)
        order = self._find(ctx, params)
        if order is None or not order.is_open:
            raise ApiError(-2013, "Order does not exist.")
        spec = self.store.series[order.symbol].spec
        if params.get("side", order.side) != order.side:
            raise ApiError(-2013, "Order does not exist.")
        price, qty = check_price(spec, params["price"]), check_qty(spec, params["quantity"])
        self.desk.modify(order, price, qty, ctx.now_ms)
        return self.row(order, is_ack=True)

    def modify(self, ctx: Context) -> Any:
        self._count(ctx)
        return self._modify(ctx, ctx.params)

    def batch_modify(self, ctx: Context) -> Any:
        return self._each(self._items(ctx), lambda params: self._modify(ctx, params))

    @staticmethod
    def _each(items: list[Any], do: Any) -> list[Any]:
        result: list[Any] = []
        for item in items:
            try:
                result.append(do(item))
            except ApiError as error:
                result.append({"code": error.code, "msg": error.msg})
        return result

    # -- many orders ---------------------------------------------------------------------

    def _shown(self, ctx: Context, journal: Journal) -> bytes:
        symbol = self.symbol(ctx.get("symbol")) if "symbol" in ctx.params else None
        lag = self.exchange.faults.accounts[self.market].rest_lag_ms
        return journal.at(ctx.now_ms - lag, symbol) if lag else journal.now(symbol)

    def open_orders(self, ctx: Context) -> Any:
        rows = self._shown(ctx, self.desk.journal(self.market, ctx.account))
        if not self.is_portfolio:
            return rows
        return [shapes.portfolio_row(row) for row in orjson.loads(rows)]

    def cancel_all(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        for order in self.desk.open_orders(self.market, ctx.account, symbol):
            self.desk.cancel(order, ctx.now_ms)
        return _ALL_DONE

    def countdown(self, ctx: Context) -> Any:
        symbol, text = self.symbol(ctx.get("symbol")), ctx.get("countdownTime")
        if not text.isdigit():
            raise mandatory("countdownTime")
        place = self.market, ctx.account, symbol
        self.exchange.countdowns.pop(place, None)
        if int(text):
            self.exchange.countdowns[place] = ctx.now_ms + int(text)
        return {"symbol": symbol, "countdownTime": text}

    def batch_cancel(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        # Binance takes the lower case spelling of ccxt too.
        names = ("orderIdList", "orderidlist", "origClientOrderIdList", "origclientorderidlist")
        name = next((name for name in names if ctx.get(name)), names[0])
        key = "orderId" if name.lower() == "orderidlist" else "origClientOrderId"

        def cancel(reference: Any) -> dict[str, Any]:
            found = self.desk.find(self.market, ctx.account, symbol, {key: str(reference)})
            return self.row(self.desk.cancel(found, ctx.now_ms), is_ack=True)

        return self._each(self._batch(ctx, name), cancel)

    def all_orders(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        limit = read_limit(ctx, 500, 1000, clamp=False)
        orders = self.desk.book(self.market, ctx.account).values()
        return [self.row(order) for order in orders if order.symbol == symbol][-limit:]

    def user_trades(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        limit = read_limit(ctx, 500, 1000, clamp=False)
        return [
            shapes.futures_trade_row(order, number)
            for order in self.desk.book(self.market, ctx.account).values()
            if order.symbol == symbol and ctx.get("orderId") in ("", str(order.order_id))
            for number in range(len(order.fills))
        ][-limit:]

    # -- conditional orders ----------------------------------------------------------------

    def place_algo(self, ctx: Context) -> Any:
        spec = self.store.series[self.symbol(ctx.get("symbol"))].spec
        if ctx.get("algoType", "CONDITIONAL") != "CONDITIONAL":
            raise ApiError(-1130, "Data sent for parameter 'algoType' is not valid.")
        algo = self.algo.place(spec, ctx.params, ctx.account, ctx.now_ms)
        placement = Placement(ctx.host, ctx.api_key, dict(ctx.params), algo.algo_id, None)
        self.exchange.orders.append(placement)
        self._count(ctx)
        return self.algo.row(algo)

    def query_algo(self, ctx: Context) -> Any:
        algo = self.algo.find(self.market, ctx.account, ctx.params)
        if algo is None:
            raise ApiError(-2013, "Order does not exist.")
        return self.algo.row(algo)

    def open_algo(self, ctx: Context) -> Any:
        return self._shown(ctx, self.algo.journal(self.market, ctx.account))

    def all_algo(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        return [self.algo.row(algo) for algo in self.algo.all(self.market, ctx.account, symbol)]

    def cancel_algo(self, ctx: Context) -> Any:
        algo = self.algo.cancel(self.algo.find(self.market, ctx.account, ctx.params), ctx.now_ms)
        return {"algoId": algo.algo_id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}

    def cancel_all_algo(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        for algo in self.algo.all(self.market, ctx.account, symbol):
            if algo.status == "NEW":
                self.algo.cancel(algo, ctx.now_ms)
        return _ALL_DONE

    def table(self) -> Table:
        """Return the signed routes of this host."""
        one_forty = weights.by_symbol(1, 40)
        routes: dict[tuple[str, str], Route] = {
            ("POST", "order"): Route(self.place, 0, "signed", required=_SYMBOL),
            ("POST", "order/test"): Route(self.test_place, 0, "signed", required=_SYMBOL),
            ("GET", "order"): Route(self.query_order, 1, "signed", required=_SYMBOL),
            ("PUT", "order"): Route(self.modify, 1, "signed", required=_SYMBOL),
            ("DELETE", "order"): Route(self.cancel, 1, "signed", required=_SYMBOL),
            ("POST", "batchOrders"): Route(self.batch_place, 5, "signed", required=("batchOrders",)),
            ("PUT", "batchOrders"): Route(self.batch_modify, 5, "signed", required=("batchOrders",)),
            ("DELETE", "batchOrders"): Route(self.batch_cancel, 1, "signed", required=_SYMBOL),
            ("GET", "openOrder"): Route(self.query_open_order, 1, "signed", required=_SYMBOL),
            ("GET", "openOrders"): Route(self.open_orders, one_forty, "signed"),
            ("DELETE", "allOpenOrders"): Route(self.cancel_all, 1, "signed", required=_SYMBOL),
            ("POST", "countdownCancelAll"): Route(
                self.countdown, 10, "signed", required=("symbol", "countdownTime")
            ),
            ("GET", "allOrders"): Route(self.all_orders, 5, "signed", required=_SYMBOL),
            ("GET", "userTrades"): Route(self.user_trades, 5, "signed", required=_SYMBOL),
            ("POST", "algoOrder"): Route(self.place_algo, 0, "signed", required=_SYMBOL),
            ("GET", "algoOrder"): Route(self.query_algo, 1, "signed"),
            ("DELETE", "algoOrder"): Route(self.cancel_algo, 1, "signed"),
            ("GET", "openAlgoOrders"): Route(self.open_algo, one_forty, "signed"),
            ("GET", "allAlgoOrders"): Route(self.all_algo, 5, "signed", required=_SYMBOL),
            ("DELETE", "algoOpenOrders"): Route(self.cancel_all_algo, 1, "signed", required=_SYMBOL),
            **self.account_routes(),
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


def _untouched(order: Order) -> Order:
    # As it was accepted: an ACK knows nothing of fills.
    made = Order(order.market, order.symbol, "", order.side, order.type, "GTC", order.price, order.qty)
    made.status = "NEW" if order.fills else order.status
    return made


def _params(item: Any) -> Params:
    if not isinstance(item, dict):
        return {}
    return {str(k): str(v).lower() if isinstance(v, bool) else str(v) for k, v in item.items()}
