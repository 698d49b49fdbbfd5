"""Orders of the simulated accounts: LIMIT rests, MARKET fills at once.

`OrderDesk` owns every order of every account and market. It does no I/O and knows no
wire shapes; the route modules write orders the way their market does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from resender.core.binance.markets import Market

from .market import BookTicker
from .model import ApiError, Params
from .signing import mandatory
from .symbols import SymbolSpec

_CLIENT_ID = re.compile(r"[\.A-Z\:/a-z0-9_\-]{1,36}")
_MAX_QTY = {Market.SPOT: Decimal(9_000_000), Market.UM: Decimal(1_000_000), Market.CM: Decimal(1_000_000)}
OPEN = ("NEW", "PARTIALLY_FILLED")
_SPOT_TYPES = {"LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT",
               "TAKE_PROFIT_LIMIT"}  # fmt: skip
CONDITIONAL = {"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"}


@dataclass(slots=True)
class Order:
    """One order; quantities and prices are the strings on the wire."""

    market: Market
    api_key: str
    symbol: str
    order_id: int
    client_id: str
    side: str
    type: str
    time_in_force: str
    price: str
    qty: str
    time_ms: int
    update_ms: int
    status: str = "NEW"
    executed: str = "0"
    quote: str = "0"
    avg_price: str = "0"
    quote_qty: str = "0"
    stop_price: str = "0"
    position_side: str = "BOTH"
    reduce_only: bool = False
    trade_id: int = 0


class OrderDesk:
    """All orders, and positions as the sum of fills."""

    def __init__(self) -> None:
        self._orders: dict[tuple[Market, str], dict[int, Order]] = {}
        self.positions: dict[tuple[Market, str, str], Decimal] = {}
        self._next_id = 1_000_000

    def book(self, market: Market, api_key: str) -> dict[int, Order]:
        """Return the orders of an account in one market, by id."""
        return self._orders.setdefault((market, api_key), {})

    def check(self, spec: SymbolSpec, params: Params) -> Order:
        """Judge a placement without booking it.

        Raises: ApiError -1102, -1116, -1117, -1013 (spot), -1111, -4003, -4005, -4014.
        """
        side, kind = params.get("side", ""), params.get("type", "")
        is_spot = spec.market is Market.SPOT
        if not side:
            raise mandatory("side")
        if side not in ("BUY", "SELL"):
            raise ApiError(-1117, "Invalid side.")
        if not kind:
            raise mandatory("type")
        if kind in CONDITIONAL and spec.market is Market.UM:
            raise ApiError(
                -4120,
                "Order type not supported for this endpoint. "
                "Please use the Algo Order API endpoints instead.",
            )
        if kind not in (_SPOT_TYPES if is_spot else {"LIMIT", "MARKET"} | CONDITIONAL):
            raise ApiError(-1116, "Invalid orderType.")
        quote_qty = params.get("quoteOrderQty", "")
        if not (quote_qty and is_spot and kind == "MARKET"):
            if not params.get("quantity"):
                raise mandatory("quantity")
            _check_qty(spec, params["quantity"])
        needs_price = kind in ("LIMIT", "LIMIT_MAKER", "STOP", "TAKE_PROFIT") or kind.endswith("_LIMIT")
        if needs_price and not (is_spot and kind == "TAKE_PROFIT"):
            if not params.get("price") and not params.get("priceMatch"):
                raise mandatory("price")
            if params.get("price"):
                _check_price(spec, params["price"])
        if kind == "LIMIT" and not params.get("timeInForce"):
            raise mandatory("timeInForce")
        if params.get("timeInForce", "GTC") not in ("GTC", "IOC", "FOK", "GTX", "GTD"):
            raise ApiError(-1115, "Invalid timeInForce.")
        client_id = params.get("newClientOrderId", "")
        if client_id and not _CLIENT_ID.fullmatch(client_id):
            raise ApiError(
                -1100,
                "Illegal characters found in parameter 'newClientOrderId'; "
                r"legal range is '^[\.A-Z\:/a-z0-9_-]{1,36}$'.",
            )
        return Order(
            market=spec.market,
            api_key="",
            symbol=spec.symbol,
            order_id=0,
            client_id=client_id,
            side=side,
            type=kind,
            time_in_force=params.get("timeInForce") or "GTC",
            price=params.get("price") or "0",
            qty=params.get("quantity") or "0",
            time_ms=0,
            update_ms=0,
            quote_qty=quote_qty or "0",
            stop_price=params.get("stopPrice") or "0",
            position_side=params.get("positionSide") or "BOTH",
            reduce_only=params.get("reduceOnly", "").lower() == "true",
        )

    def place(self, spec: SymbolSpec, params: Params, api_key: str, ticker: BookTicker, now_ms: int) -> Order:
        """Book an order; MARKET is filled at the book ticker, IOC and FOK expire.

        Raises: as `check`, and -2010 (spot) or -4116 for a client order id still open.
        """
        order = self.check(spec, params)
        if spec.status != "TRADING":
            raise ApiError(-1013 if spec.market is Market.SPOT else -4108, "Market is closed.")
        orders = self.book(spec.market, api_key)
        if order.client_id and any(
            o.client_id == order.client_id and o.symbol == order.symbol and o.status in OPEN
            for o in orders.values()
        ):
            if spec.market is Market.SPOT:
                raise ApiError(-2010, "Duplicate order sent.")
            raise ApiError(-4116, "ClientOrderId is duplicated.")
        self._next_id += 1
        order.order_id, order.api_key = self._next_id, api_key
        order.time_ms = order.update_ms = now_ms
        order.client_id = order.client_id or f"sandbox{self._next_id}"
        if order.type == "MARKET":
            self._fill(spec, order, ticker)
        elif order.time_in_force in ("IOC", "FOK"):
            order.status = "EXPIRED"
        orders[order.order_id] = order
        return order

    def find(self, market: Market, api_key: str, symbol: str, params: Params) -> Order | None:
        """Find an order by `orderId` or `origClientOrderId`.

        Raises: ApiError -1102 when neither was sent.
        """
        order_id, client_id = params.get("orderId", ""), params.get("origClientOrderId", "")
        if not order_id and not client_id:
            if market is Market.SPOT:
                raise ApiError(
                    -1102,
                    "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
                )
            raise mandatory("orderId")
        orders = self.book(market, api_key)
        if order_id:
            order = orders.get(int(order_id)) if order_id.isdigit() else None
            return order if order is not None and order.symbol == symbol else None
        for order in reversed(orders.values()):
            if order.client_id == client_id and order.symbol == symbol:
                return order
        return None

    def cancel(self, order: Order | None, now_ms: int) -> Order:
        """Cancel an open order.

        Raises: ApiError -2011 when there is none.
        """
        if order is None or order.status not in OPEN:
            raise ApiError(-2011, "Unknown order sent.")
        order.status, order.update_ms = "CANCELED", now_ms
        return order

    def open_orders(self, market: Market, api_key: str, symbol: str | None = None) -> list[Order]:
        """List open orders, of one symbol or of all."""
        return [
            order
            for order in self.book(market, api_key).values()
            if order.status in OPEN and (symbol is None or order.symbol == symbol)
        ]

    def _fill(self, spec: SymbolSpec, order: Order, ticker: BookTicker) -> None:
        price = Decimal(ticker.ask if order.side == "BUY" else ticker.bid)
        if order.qty == "0" and order.quote_qty != "0":
            lot = Decimal(1).scaleb(-spec.qty_decimals)
            order.qty = str((Decimal(order.quote_qty) / price) // lot * lot)
        qty = Decimal(order.qty)
        order.status, order.executed, order.avg_price = "FILLED", order.qty, str(price)
        size = Decimal(spec.contract_size) / price if spec.contract_size else price
        order.quote = f"{qty * size:.8f}"
        order.trade_id = order.order_id
        if spec.market is not Market.SPOT:
            key = (spec.market, order.api_key, order.symbol)
            signed = qty if order.side == "BUY" else -qty
            self.positions[key] = self.positions.get(key, Decimal(0)) + signed


def _number(text: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ApiError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is "
            "'^([0-9]{1,20})(\\.[0-9]{1,20})?$'.",
        )
    return value


def _check_qty(spec: SymbolSpec, text: str) -> None:
    value = _number(text, "quantity")
    lot = Decimal(1).scaleb(-spec.qty_decimals)
    if spec.market is Market.SPOT:
        if value <= 0:
            raise ApiError(-1013, "Invalid quantity.")
        if value > _MAX_QTY[spec.market] or value < lot or value % lot:
            raise ApiError(-1013, "Filter failure: LOT_SIZE")
        return
    if value <= 0:
        raise ApiError(-4003, "Quantity less than or equal to zero.")
    if value > _MAX_QTY[spec.market]:
        raise ApiError(-4005, "Quantity greater than max quantity.")
    if value % lot:
        raise ApiError(-1111, "Precision is over the maximum defined for this asset.")


def _check_price(spec: SymbolSpec, text: str) -> None:
    value = _number(text, "price")
    tick = Decimal(1).scaleb(-spec.price_decimals)
    if spec.market is Market.SPOT:
        if value <= 0 or value % tick:
            raise ApiError(-1013, "Filter failure: PRICE_FILTER")
        return
    if value <= 0:
        raise ApiError(-4001, "Price less than 0.")
    if value % tick:
        raise ApiError(-4014, "Price not increased by tick size.")
