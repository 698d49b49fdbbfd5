"""Order lists of spot: OCO, OTO and OTOCO.

`OrderLists` owns the lists; their orders are the desk's. In a pair of an OCO the first that fills
or is triggered ends the other; a waiting leg of an OTO begins when its working order is filled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from resender.core.binance.markets import Market

from .model import ApiError, Params
from .order_desk import OrderDesk
from .orders import Order, check_client_id, read_order
from .shapes import spot_cancel_row, spot_order_ack
from .signing import mandatory
from .symbols import SymbolSpec
from .user_events import Event, list_status

_FIELDS = ("TimeInForce", "Price", "StopPrice", "TrailingDelta", "IcebergQty", "StrategyId", "StrategyType")
_KEPT = ("symbol", "newOrderRespType", "selfTradePreventionMode")


@dataclass(slots=True, eq=False)
class OrderList:
    """One list.

    Shape: `pair` are the two legs of an OCO, `working` the order they wait for in an OTOCO, `pending`
        the single one of an OTO.
    """

    list_id: int
    account: str
    symbol: str
    client_id: str
    kind: str
    made_ms: int
    orders: list[Order]
    working: Order | None = None
    pair: list[Order] = field(default_factory=list)
    status: str = "EXEC_STARTED"
    order_status: str = "EXECUTING"

    def row(self) -> dict[str, Any]:
        """Return the list as REST shows it."""
        return {
            "orderListId": self.list_id,
            "contingencyType": self.kind,
            "listStatusType": self.status,
            "listOrderStatus": self.order_status,
            "listClientOrderId": self.client_id,
            "transactionTime": self.made_ms,
            "symbol": self.symbol,
            "orders": [
                {"symbol": order.symbol, "orderId": order.order_id, "clientOrderId": order.client_id}
                for order in self.orders
            ],
        }


class OrderLists:
    """All order lists of all accounts."""

    def __init__(self, desk: OrderDesk, tell: Callable[[Market, str, Event], None]) -> None:
        self._desk = desk
        self._tell = tell
        self._lists: dict[int, OrderList] = {}
        self._busy: set[int] = set()
        desk.after.append(self._heard)

    def of(self, account: str, only_open: bool = False) -> list[OrderList]:
        """List the lists of an account, the oldest first."""
        return [
            one
            for one in self._lists.values()
            if one.account == account and not (only_open and one.order_status == "ALL_DONE")
        ]

    def find(self, account: str, list_id: str, client_id: str) -> OrderList | None:
        """Find a list by one of its ids."""
        for one in reversed(self.of(account)):
            if (list_id and str(one.list_id) == list_id) or (not list_id and one.client_id == client_id):
                return one
        return None

    # -- placing -------------------------------------------------------------------------

    def place_oco(self, spec: SymbolSpec, params: Params, account: str, now_ms: int) -> OrderList:
        """Place a pair above and below the price.

        Raises: as a placement, and -1106 or -2010 for types or prices that make no pair.
        """
        pair = [
            read_order(spec, _leg(params, name, params.get("side", ""), params.get("quantity", "")))
            for name in ("above", "below")
        ]
        _check_pair(pair)
        return self._open(spec, params, account, now_ms, None, pair)

    def place_oto(self, spec: SymbolSpec, params: Params, account: str, now_ms: int) -> OrderList:
        """Place an order and one that waits for it."""
        working = self._working(spec, params)
        pending = read_order(
            spec, _leg(params, "pending", params.get("pendingSide", ""), params.get("pendingQuantity", ""))
        )
        return self._open(spec, params, account, now_ms, working, [pending])

    def place_otoco(self, spec: SymbolSpec, params: Params, account: str, now_ms: int) -> OrderList:
        """Place an order and a pair that waits for it."""
        side, qty = params.get("pendingSide", ""), params.get("pendingQuantity", "")
        names = ["pendingAbove", "pendingBelow"] if params.get("pendingBelowType") else ["pendingAbove"]
        pair = [read_order(spec, _leg(params, name, side, qty)) for name in names]
        _check_pair(pair)
        return self._open(spec, params, account, now_ms, self._working(spec, params), pair)

    def place_legacy(self, spec: SymbolSpec, params: Params, account: str, now_ms: int) -> OrderList:
        """Place an OCO by the names of POST /api/v3/order/oco."""
        limit, stop = ("above", "below") if params.get("side") == "SELL" else ("below", "above")
        kind = "STOP_LOSS_LIMIT" if params.get("stopLimitPrice") else "STOP_LOSS"
        renamed = {
            f"{limit}Type": "LIMIT_MAKER", f"{limit}Price": params.get("price", ""),
            f"{limit}ClientOrderId": params.get("limitClientOrderId", ""), f"{stop}Type": kind,
            f"{stop}StopPrice": params.get("stopPrice", ""), f"{stop}Price": params.get("stopLimitPrice", ""),
            f"{stop}ClientOrderId": params.get("stopClientOrderId", ""),
            f"{stop}TimeInForce": params.get("stopLimitTimeInForce", ""),
        }  # fmt: skip
        return self.place_oco(spec, params | renamed, account, now_ms)

    @staticmethod
    def _working(spec: SymbolSpec, params: Params) -> Order:
        leg = _leg(params, "working", params.get("workingSide", ""), params.get("workingQuantity", ""))
        if leg["type"] not in ("LIMIT", "LIMIT_MAKER"):
            raise ApiError(-1165, "Working order must be of type LIMIT or LIMIT_MAKER.")
        return read_order(spec, leg)

    def _open(
        self, spec: SymbolSpec, params: Params, account: str, now_ms: int, working: Order | None,
        others: list[Order],
    ) -> OrderList:  # fmt: skip
        desk = self._desk
        client_id = check_client_id(params, "listClientOrderId") or desk.new_client_id()
        if any(one.client_id == client_id for one in self.of(account, only_open=True)):
            raise ApiError(-2010, "Duplicate order sent.")
        orders = [working, *others] if working is not None else others
        admitted: list[Order] = []
        try:
            for order in orders:
                # The dearer leg of a pair locks for both, pending ones lock when they begin.
                is_first = order is (working or max(others, key=lambda one: desk.need(one)[1]))
                desk.admit(order, account, now_ms, with_lock=is_first)
                admitted.append(order)
        except ApiError:
            for order in admitted:
                desk.give_up(order)
            raise
        kind = "OCO" if working is None else "OTO"
        number = len(self._lists) + 1
        made = OrderList(number, account, spec.symbol, client_id, kind, now_ms, orders, working)
        made.pair = others if len(others) == 2 else []
        for order in orders:
            order.list_id, order.list_client_id = number, client_id
        self._lists[number] = made
        self._say(made, now_ms)
        self._busy.add(number)
        for order in others:
            desk.begin(order, now_ms, is_pending=working is not None)
        self._busy.discard(number)
        if working is not None:
            desk.begin(working, now_ms)
        return made

    # -- what happens to the orders ---------------------------------------------------------

    def cancel(self, one: OrderList | None, now_ms: int, cancel_id: str = "") -> OrderList:
        """Cancel what is open of a list.

        Raises: ApiError -2011 when there is nothing.
        """
        if one is None or one.order_status == "ALL_DONE":
            raise ApiError(-2011, "Unknown order list sent.")
        self._busy.add(one.list_id)
        for order in one.orders:
            if order.is_open:
                self._desk.cancel(order, now_ms, cancel_id)
        self._busy.discard(one.list_id)
        self._finish(one, now_ms)
        return one

    def _heard(self, order: Order, what: str, now_ms: int) -> None:
        one = self._lists.get(order.list_id) if order.market is Market.SPOT else None
        if one is None or order.list_id in self._busy:
            return
        if what == "FILLING":
            for other in one.pair if order in one.pair else []:
                self._hand_over(other, order)
            return
        self._busy.add(one.list_id)
        if order is one.working:
            if order.status == "FILLED":
                for other in one.orders:
                    if other is not order:
                        self._busy.discard(one.list_id)
                        self._release(one, other, now_ms)
                        self._busy.add(one.list_id)
            elif not order.is_open:
                self._end_all(one, order.status, now_ms)
        elif order in one.pair and (what in ("TRADE", "TRIGGERED") or not order.is_open):
            ended = "CANCELED" if order.status == "CANCELED" else "EXPIRED"
            for other in one.pair:
                if other is not order and other.is_open:
                    self._hand_over(other, order)
                    self._finish_leg(other, ended, now_ms)
        self._busy.discard(one.list_id)
        self._finish(one, now_ms)

    def _release(self, one: OrderList, order: Order, now_ms: int) -> None:
        # The second leg of a pair is covered by what the first has locked.
        is_second = order in one.pair and order is not one.pair[0]
        self._desk.release(order, now_ms, with_lock=not is_second)

    def _hand_over(self, other: Order, order: Order) -> None:
        # What the ended leg had locked for both is held by the one that goes on.
        if other is not order and order.is_open and other.locked:
            order.locked, other.locked = order.locked + other.locked, Decimal(0)

    def _finish_leg(self, order: Order, status: str, now_ms: int) -> None:
        if status == "CANCELED":
            self._desk.cancel(order, now_ms)
        else:
            self._desk.end(order, "EXPIRED", now_ms)

    def _end_all(self, one: OrderList, status: str, now_ms: int) -> None:
        for other in one.orders:
            if other.is_open:
                self._finish_leg(other, status, now_ms)

    def _finish(self, one: OrderList, now_ms: int) -> None:
        if one.order_status != "ALL_DONE" and not any(order.is_open for order in one.orders):
            one.status = one.order_status = "ALL_DONE"
            self._say(one, now_ms)

    def renamed(self, order: Order, now_ms: int) -> None:
        """Tell that an order of a list has a new client order id."""
        one = self._lists.get(order.list_id)
        if one is not None:
            self._say(one, now_ms, "UPDATED")

    def _say(self, one: OrderList, now_ms: int, status: str = "") -> None:
        event = list_status(
            one.symbol, one.list_id, one.kind, status or one.status, one.order_status, one.client_id,
            one.orders, now_ms,
        )  # fmt: skip
        self._tell(Market.SPOT, one.account, event)


def placed_answer(one: OrderList, response: str) -> dict[str, Any]:
    """Return the answer to the placement of a list."""
    reports = [spot_order_ack(order, "RESULT" if response == "FULL" else response) for order in one.orders]
    return {**one.row(), "orderReports": reports}


def cancelled_answer(one: OrderList, now_ms: int) -> dict[str, Any]:
    """Return the answer to the cancellation of a list."""
    reports = [spot_cancel_row(order) for order in one.orders]
    return {**one.row(), "transactionTime": now_ms, "orderReports": reports}


def _leg(params: Params, name: str, side: str, qty: str) -> Params:
    kind = params.get(f"{name}Type", "")
    if not kind:
        raise mandatory(f"{name}Type")
    leg = {field: params[field] for field in _KEPT if field in params}
    leg |= {"side": side, "quantity": qty, "type": kind}
    leg["newClientOrderId"] = params.get(f"{name}ClientOrderId", "")
    for field_name in _FIELDS:
        value = params.get(f"{name}{field_name}", "")
        if value:
            leg[field_name[0].lower() + field_name[1:]] = value
    return leg


def _check_pair(pair: list[Order]) -> None:
    # One leg takes the profit or makes the price, the other stops the loss; above is above.
    if len(pair) < 2:
        return
    kinds = ["STOP" if order.type.startswith("STOP_LOSS") else "PROFIT" for order in pair]
    if sorted(kinds) != ["PROFIT", "STOP"]:
        raise ApiError(-1106, "Parameter 'aboveType' sent when not required.")
    above, below = (order.stop_price or order.price for order in pair)
    if above <= below:
        raise ApiError(-2010, "The relationship of the prices for the orders is not correct.")
