"""The signed routes of the spot host: orders, order lists, the account.

Handlers turn parameters into JSON data; orders live in the exchange's order desk. Names and
shapes follow rest-api.md of 2026-07-21.
"""

from __future__ import annotations

from typing import Any

from resender.core.binance.markets import Market

from . import shapes, weights
from .decimals import eight
from .exchange import Exchange
from .model import ApiError, Context, Params, Placement, Route, Table
from .order_lists import OrderList, cancelled_answer, placed_answer
from .orders import Order, check_client_id, check_qty, read_order
from .params import read_limit
from .routes_spot import SpotRoutes
from .signing import mandatory

_ORDER_PARAMS = (
    "symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "newClientOrderId",
    "strategyId", "strategyType", "stopPrice", "trailingDelta", "icebergQty", "newOrderRespType",
    "selfTradePreventionMode", "computeCommissionRates", "pegPriceType", "pegOffsetValue", "pegOffsetType",
)  # fmt: skip
_REPLACE_PARAMS = (
    *_ORDER_PARAMS, "cancelReplaceMode", "cancelNewClientOrderId", "cancelOrigClientOrderId",
    "cancelOrderId", "cancelRestrictions", "orderRateLimitExceededMode",
)  # fmt: skip
_ORDER_REF = ("symbol", "orderId", "origClientOrderId", "newClientOrderId", "cancelRestrictions")
_AMEND_PARAMS = ("symbol", "orderId", "origClientOrderId", "newClientOrderId", "newQty")
_LIST_REF = ("symbol", "orderListId", "listClientOrderId", "origClientOrderId", "newClientOrderId")
_MAX_AMENDMENTS = 10


class _Orders(SpotRoutes):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.desk = exchange.desk
        self.lists = exchange.lists
        self._amendments: dict[tuple[str, int], list[dict[str, Any]]] = {}

    # -- placing -------------------------------------------------------------------------

    def _place(self, ctx: Context, params: Params) -> dict[str, Any]:
        spec = self.store.series[self.symbol(ctx)].spec
        order = self.desk.place(spec, params, ctx.account, ctx.now_ms)
        self._record(ctx, order.order_id)
        default = "FULL" if order.type in ("MARKET", "LIMIT") else "ACK"
        return shapes.spot_order_ack(order, ctx.get("newOrderRespType") or default)

    def _record(self, ctx: Context, order_id: int, count: int = 1) -> None:
        self.exchange.orders.append(Placement(ctx.host, ctx.api_key, dict(ctx.params), order_id, None))
        for _ in range(count):
            ten_s, day = self.exchange.count_order(ctx.host, ctx.account, ctx.now_ms)
        ctx.extra_headers["x-mbx-order-count-10s"] = str(ten_s)
        ctx.extra_headers["x-mbx-order-count-1d"] = str(day)

    def place(self, ctx: Context) -> Any:
        return self._place(ctx, ctx.params)

    def test_place(self, ctx: Context) -> Any:
        read_order(self.store.series[self.symbol(ctx)].spec, ctx.params)
        return {}

    def cancel_replace(self, ctx: Context) -> Any:
        self.symbol(ctx)
        mode = ctx.get("cancelReplaceMode")
        if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
            raise mandatory("cancelReplaceMode")
        found = {"orderId": ctx.get("cancelOrderId"), "origClientOrderId": ctx.get("cancelOrigClientOrderId")}
        if not any(found.values()):
            raise ApiError(
                -1128,
                "Param 'cancelOrigClientOrderId' or 'cancelOrderId' must be sent, but both were empty/null!",
            )
        read_order(self.store.series[self.symbol(ctx)].spec, ctx.params)
        data: dict[str, Any] = {"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS"}
        try:
            order = self.desk.find(Market.SPOT, ctx.account, self.symbol(ctx), found)
            self.desk.cancel(order, ctx.now_ms, check_client_id(ctx.params, "cancelNewClientOrderId"))
            assert order is not None
            data["cancelResponse"] = shapes.spot_cancel_row(order)
        except ApiError as error:
            data["cancelResult"] = "FAILURE"
            data["cancelResponse"] = {"code": error.code, "msg": error.msg}
            if mode == "STOP_ON_FAILURE":
                data |= {"newOrderResult": "NOT_ATTEMPTED", "newOrderResponse": None}
                raise ApiError(-2022, "Order cancel-replace failed.", 400, data) from None
        try:
            data["newOrderResponse"] = self._place(ctx, ctx.params)
        except ApiError as error:
            data["newOrderResult"] = "FAILURE"
            data["newOrderResponse"] = {"code": error.code, "msg": error.msg}
        failures = [data["cancelResult"], data["newOrderResult"]].count("FAILURE")
        if failures == 2:
            raise ApiError(-2022, "Order cancel-replace failed.", 400, data)
        if failures:
            raise ApiError(-2021, "Order cancel-replace partially failed.", 409, data)
        return data

    # -- one order -----------------------------------------------------------------------

    def _find(self, ctx: Context) -> Order | None:
        return self.desk.find(Market.SPOT, ctx.account, self.symbol(ctx), ctx.params)

    def query_order(self, ctx: Context) -> Any:
        order = self._find(ctx)
        if order is None:
            raise ApiError(-2013, "Order does not exist.")
        return shapes.spot_order_row(order)

    def cancel(self, ctx: Context) -> Any:
        order = self._find(ctx)
        limits = {"ONLY_NEW": "NEW", "ONLY_PARTIALLY_FILLED": "PARTIALLY_FILLED"}
        wanted = limits.get(ctx.get("cancelRestrictions"))
        if wanted and order is not None and order.is_open and order.status != wanted:
            raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")
        cancel_id = check_client_id(ctx.params, "newClientOrderId")
        order = self.desk.cancel(order, ctx.now_ms, cancel_id)
        if order.list_id != -1:
            # A leg cancelled alone ends its list.
            one = self.lists.find(ctx.account, str(order.list_id), "")
            if one is not None and (one.working is None or order is one.working):
                return cancelled_answer(one, ctx.now_ms)
        return shapes.spot_cancel_row(order)

    def amend(self, ctx: Context) -> Any:
        spec, order = self.store.series[self.symbol(ctx)].spec, self._find(ctx)
        if order is None or not order.is_open:
            raise ApiError(-2013, "Order does not exist.")
        qty = check_qty(spec, ctx.get("newQty"))
        if not order.executed < qty < order.qty:
            raise ApiError(-2038, "Order amend (quantity increase) is not supported.")
        if order.amendments >= _MAX_AMENDMENTS:
            raise ApiError(-2038, "Order has already been amended the maximum number of times.")
        orig_id, orig_qty = order.client_id, order.qty
        client_id = check_client_id(ctx.params, "newClientOrderId") or self.desk.new_client_id()
        execution = self.desk.reduce(order, qty, client_id, ctx.now_ms)
        answer: dict[str, Any] = {
            "transactTime": ctx.now_ms,
            "executionId": execution,
            "amendedOrder": shapes.amended_order(order, orig_id),
        }
        one = self.lists.find(ctx.account, str(order.list_id), "") if order.list_id != -1 else None
        if one is not None:
            for other in one.pair if order in one.pair else []:
                # Both legs of a pair have the same quantity.
                if other is not order and other.is_open:
                    self.desk.reduce(other, qty, other.client_id, ctx.now_ms)
            self.lists.renamed(order, ctx.now_ms)
            row = one.row()
            names = (
                "orderListId",
                "contingencyType",
                "listOrderStatus",
                "listClientOrderId",
                "symbol",
                "orders",
            )
            answer["listStatus"] = {name: row[name] for name in names}
        self._amendments.setdefault((ctx.account, order.order_id), []).append(
            {
                "symbol": order.symbol, "orderId": order.order_id, "executionId": execution,
                "origClientOrderId": orig_id, "newClientOrderId": client_id, "origQty": eight(orig_qty),
                "newQty": eight(qty), "time": ctx.now_ms,
            }
        )  # fmt: skip
        return answer

    def amendments(self, ctx: Context) -> Any:
        rows = self._amendments.get((ctx.account, int(ctx.get("orderId") or 0)), [])
        return [row for row in rows if row["symbol"] == self.symbol(ctx)]

    # -- many orders ---------------------------------------------------------------------

    def open_orders(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx) if "symbol" in ctx.params else None
        journal = self.desk.journal(Market.SPOT, ctx.account)
        lag = self.exchange.faults.accounts[Market.SPOT].rest_lag_ms
        return journal.at(ctx.now_ms - lag, symbol) if lag else journal.now(symbol)

    def cancel_all(self, ctx: Context) -> Any:
        orders = self.desk.open_orders(Market.SPOT, ctx.account, self.symbol(ctx))
        if not orders:
            raise ApiError(-2011, "Unknown order sent.")
        rows: list[Any] = []
        for order in orders:
            if not order.is_open:
                continue
            one = self.lists.find(ctx.account, str(order.list_id), "") if order.list_id != -1 else None
            if one is None:
                rows.append(shapes.spot_cancel_row(self.desk.cancel(order, ctx.now_ms)))
            else:
                rows.append(cancelled_answer(self.lists.cancel(one, ctx.now_ms), ctx.now_ms))
        return rows

    def all_orders(self, ctx: Context) -> Any:
        symbol, limit = self.symbol(ctx), read_limit(ctx, 500, 1000, clamp=True)
        orders = self.desk.book(Market.SPOT, ctx.account).values()
        return [shapes.spot_order_row(order) for order in orders if order.symbol == symbol][-limit:]

    def my_trades(self, ctx: Context) -> Any:
        symbol, limit = self.symbol(ctx), read_limit(ctx, 500, 1000, clamp=True)
        return [
            shapes.spot_trade_row(order, number)
            for order in self.desk.book(Market.SPOT, ctx.account).values()
            if order.symbol == symbol and ctx.get("orderId") in ("", str(order.order_id))
            for number in range(len(order.fills))
        ][-limit:]

    # -- order lists -----------------------------------------------------------------------

    def _place_list(self, ctx: Context, kind: str) -> Any:
        spec = self.store.series[self.symbol(ctx)].spec
        place = {
            "oco": self.lists.place_oco, "oto": self.lists.place_oto, "otoco": self.lists.place_otoco,
            "legacy": self.lists.place_legacy,
        }[kind]  # fmt: skip
        one = place(spec, ctx.params, ctx.account, ctx.now_ms)
        self._record(ctx, one.orders[0].order_id, len(one.orders))
        return placed_answer(one, ctx.get("newOrderRespType") or "RESULT")

    def oco(self, ctx: Context) -> Any:
        return self._place_list(ctx, "oco")

    def oto(self, ctx: Context) -> Any:
        return self._place_list(ctx, "oto")

    def otoco(self, ctx: Context) -> Any:
        return self._place_list(ctx, "otoco")

    def legacy_oco(self, ctx: Context) -> Any:
        return self._place_list(ctx, "legacy")

    def _find_list(self, ctx: Context, name: str) -> OrderList | None:
        if not ctx.get("orderListId") and not ctx.get(name):
            raise ApiError(
                -1128, f"Param '{name}' or 'orderListId' must be sent, but both were empty/null!"
            )  # fmt: skip
        return self.lists.find(ctx.account, ctx.get("orderListId"), ctx.get(name))

    def query_list(self, ctx: Context) -> Any:
        one = self._find_list(ctx, "origClientOrderId")
        if one is None:
            raise ApiError(-2018, "Order list does not exist.")
        return one.row()

    def cancel_list(self, ctx: Context) -> Any:
        symbol, one = self.symbol(ctx), self._find_list(ctx, "listClientOrderId")
        if one is not None and one.symbol != symbol:
            one = None
        cancel_id = check_client_id(ctx.params, "newClientOrderId")
        return cancelled_answer(self.lists.cancel(one, ctx.now_ms, cancel_id), ctx.now_ms)

    def open_lists(self, ctx: Context) -> Any:
        return [one.row() for one in self.lists.of(ctx.account, only_open=True)]

    def all_lists(self, ctx: Context) -> Any:
        return [one.row() for one in self.lists.of(ctx.account)][-read_limit(ctx, 500, 1000, clamp=True) :]

    # -- the account ---------------------------------------------------------------------

    def account(self, ctx: Context) -> Any:
        account = self.exchange.accounts.get(ctx.account)
        rates = {"maker": "0.00100000", "taker": "0.00100000", "buyer": "0.00000000", "seller": "0.00000000"}
        hides_zeros = ctx.get("omitZeroBalances").lower() == "true"
        return {
            "makerCommission": 10,
            "takerCommission": 10,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": rates,
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": account.update_ms or ctx.now_ms,
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": eight(held.free), "locked": eight(held.locked)}
                for asset, held in account.spot.items()
                if held.free or held.locked or not hides_zeros
            ],
            "permissions": ["SPOT"],
            "uid": account.uid,
        }


def spot_orders_table(exchange: Exchange) -> Table:
    """Return the signed routes of /api/v3."""
    desk = _Orders(exchange)
    symbol = ("symbol",)
    routes: dict[tuple[str, str], Route] = {
        ("POST", "order"): Route(desk.place, 1, "signed", _ORDER_PARAMS, symbol),
        ("POST", "order/test"): Route(desk.test_place, 1, "signed", _ORDER_PARAMS, symbol),
        ("POST", "order/cancelReplace"): Route(desk.cancel_replace, 1, "signed", _REPLACE_PARAMS, symbol),
        ("GET", "order"): Route(desk.query_order, 4, "signed", _ORDER_REF, symbol),
        ("DELETE", "order"): Route(desk.cancel, 1, "signed", _ORDER_REF, symbol),
        ("PUT", "order/amend/keepPriority"): Route(
            desk.amend, 4, "signed", _AMEND_PARAMS, ("symbol", "newQty")
        ),
        ("GET", "order/amendments"): Route(
            desk.amendments, 4, "signed", ("symbol", "orderId", "fromExecutionId", "limit"),
            ("symbol", "orderId"),
        ),
        ("GET", "openOrders"): Route(desk.open_orders, weights.by_symbol(6, 80), "signed", symbol),
        ("DELETE", "openOrders"): Route(desk.cancel_all, 1, "signed", symbol, symbol),
        ("GET", "allOrders"): Route(
            desk.all_orders, 20, "signed", ("symbol", "orderId", "startTime", "endTime", "limit"), symbol
        ),
        ("GET", "myTrades"): Route(
            desk.my_trades, 20, "signed",
            ("symbol", "orderId", "startTime", "endTime", "fromId", "limit"), symbol,
        ),
        ("POST", "order/oco"): Route(desk.legacy_oco, 1, "signed", None, symbol),
        ("POST", "orderList/oco"): Route(desk.oco, 1, "signed", None, symbol),
        ("POST", "orderList/oto"): Route(desk.oto, 1, "signed", None, symbol),
        ("POST", "orderList/otoco"): Route(desk.otoco, 1, "signed", None, symbol),
        ("GET", "orderList"): Route(desk.query_list, 4, "signed", _LIST_REF),
        ("DELETE", "orderList"): Route(desk.cancel_list, 1, "signed", _LIST_REF, symbol),
        ("GET", "openOrderList"): Route(desk.open_lists, 6, "signed"),
        ("GET", "allOrderList"): Route(
            desk.all_lists, 20, "signed", ("fromId", "startTime", "endTime", "limit")
        ),
        ("GET", "account"): Route(desk.account, 20, "signed", ("omitZeroBalances",)),
    }  # fmt: skip
    return {(method, f"/api/v3/{path}"): route for (method, path), route in routes.items()}
