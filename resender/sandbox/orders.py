"""One order of a simulated account, and how the parameters of a placement become one.

Values and checks only: what happens to an order is `order_desk.py`'s part, how it is written
`shapes.py`'s and `user_events.py`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from resender.core.binance.markets import Market

from .model import ApiError, Params
from .signing import mandatory
from .symbols import SymbolSpec

_CLIENT_ID = re.compile(r"[\.A-Z\:/a-z0-9_\-]{1,36}")
_MAX_QTY = {Market.SPOT: Decimal(9_000_000), Market.UM: Decimal(1_000_000), Market.CM: Decimal(1_000_000)}
OPEN = ("NEW", "PARTIALLY_FILLED", "PENDING_NEW")
_SPOT_TYPES = {"LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT",
               "TAKE_PROFIT_LIMIT"}  # fmt: skip
SPOT_STOPS = {"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"}
CONDITIONAL = {"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"}
ZERO = Decimal(0)


class Fill(NamedTuple):
    """One trade of an order.

    Shape: `quote` is the quote volume, on COIN-M the base volume; `realized` the profit of a position.
    """

    trade_id: int
    price: Decimal
    qty: Decimal
    quote: Decimal
    commission: Decimal
    commission_asset: str
    time_ms: int
    is_maker: bool
    realized: Decimal = ZERO


@dataclass(slots=True, eq=False)
class Order:
    """One order.

    Shape: `working_ms` is -1 until it is on the book; `is_waiting` while a stop has not been triggered;
        `cancel_id` is the id of the request that cancelled it; `locked` is what it still holds of a
        spot balance; `steps` and `next_fill_ms` belong to a fill in several parts that has begun.
    """

    market: Market
    symbol: str
    client_id: str
    side: str
    type: str
    time_in_force: str
    price: Decimal
    qty: Decimal
    quote_qty: Decimal = ZERO
    stop_price: Decimal = ZERO
    iceberg_qty: Decimal = ZERO
    position_side: str = "BOTH"
    reduce_only: bool = False
    close_position: bool = False
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    price_match: str = "NONE"
    stp: str = "EXPIRE_MAKER"
    good_till_ms: int = 0
    strategy_id: int | None = None
    strategy_type: int | None = None
    trailing_delta: int | None = None
    orig_type: str = ""
    account: str = ""
    order_id: int = 0
    time_ms: int = 0
    update_ms: int = 0
    status: str = "NEW"
    executed: Decimal = ZERO
    quote: Decimal = ZERO
    list_id: int = -1
    list_client_id: str = ""
    working_ms: int = -1
    is_waiting: bool = False
    cancel_id: str = ""
    expiry_reason: str | None = None
    locked: Decimal = ZERO
    steps: int = 0
    next_fill_ms: int = 0
    amendments: int = 0
    fills: list[Fill] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def is_buy(self) -> bool:
        return self.side == "BUY"

    @property
    def left(self) -> Decimal:
        """What is not filled yet."""
        return self.qty - self.executed

    @property
    def key(self) -> tuple[str, int]:
        """Order ids are unique per symbol only."""
        return self.symbol, self.order_id

    def average(self, spec: SymbolSpec | None) -> Decimal:
        """Return the average price in the symbol's ticks."""
        if not self.executed:
            return ZERO
        total = sum((fill.price * fill.qty for fill in self.fills), ZERO)
        digits = spec.price_decimals if spec is not None else 8
        return (total / self.executed).quantize(Decimal(1).scaleb(-digits))


def read_order(spec: SymbolSpec, params: Params) -> Order:
    """Judge a placement without booking it.

    Raises: ApiError -1102, -1116, -1117, -1013 (spot), -1111, -4003, -4005, -4014, -4120 (USD-M stops).
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
            "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
        )
    if kind not in (_SPOT_TYPES if is_spot else {"LIMIT", "MARKET"} | CONDITIONAL):
        raise ApiError(-1116, "Invalid orderType.")
    closes = not is_spot and _is_true(params, "closePosition")
    if not (params.get("quoteOrderQty") and is_spot and kind == "MARKET") and not closes:
        if not params.get("quantity"):
            raise mandatory("quantity")
        check_qty(spec, params["quantity"])
    needs_price = kind in ("LIMIT", "LIMIT_MAKER", "STOP", "TAKE_PROFIT") or kind.endswith("_LIMIT")
    if needs_price and not (is_spot and kind == "TAKE_PROFIT"):
        if not params.get("price") and not params.get("priceMatch"):
            raise mandatory("price")
        if params.get("price"):
            check_price(spec, params["price"])
    if is_spot and kind in SPOT_STOPS and not (params.get("stopPrice") or params.get("trailingDelta")):
        raise ApiError(-1102, "Param 'stopPrice' or 'trailingDelta' must be sent, but both were empty/null!")
    if params.get("stopPrice"):
        check_price(spec, params["stopPrice"])
    if (kind == "LIMIT" or (is_spot and kind.endswith("_LIMIT"))) and not params.get("timeInForce"):
        raise mandatory("timeInForce")
    if params.get("timeInForce", "GTC") not in ("GTC", "IOC", "FOK", "GTX", "GTD"):
        raise ApiError(-1115, "Invalid timeInForce.")
    return Order(
        market=spec.market,
        symbol=spec.symbol,
        client_id=check_client_id(params, "newClientOrderId"),
        side=side,
        type=kind,
        orig_type=kind,
        time_in_force=params.get("timeInForce") or "GTC",
        price=_decimal(params, "price") if needs_price else ZERO,
        qty=_decimal(params, "quantity"),
        quote_qty=_decimal(params, "quoteOrderQty"),
        stop_price=_decimal(params, "stopPrice"),
        iceberg_qty=_decimal(params, "icebergQty"),
        position_side=params.get("positionSide") or "BOTH",
        reduce_only=_is_true(params, "reduceOnly"),
        close_position=closes,
        working_type=params.get("workingType") or "CONTRACT_PRICE",
        price_protect=_is_true(params, "priceProtect"),
        price_match=params.get("priceMatch") or "NONE",
        stp=params.get("selfTradePreventionMode") or "EXPIRE_MAKER",
        good_till_ms=_number(params, "goodTillDate") or 0,
        strategy_id=_number(params, "strategyId"),
        strategy_type=_number(params, "strategyType"),
        trailing_delta=_number(params, "trailingDelta"),
    )


def check_client_id(params: Params, name: str) -> str:
    """Return a client order id, empty when none was sent.

    Raises: ApiError -1100 for one with characters that may not be in it.
    """
    text = params.get(name, "")
    if text and not _CLIENT_ID.fullmatch(text):
        legal = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"
        raise ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
    return text


def check_qty(spec: SymbolSpec, text: str) -> Decimal:
    """Return a quantity or raise what the market's filter says."""
    value = _read(text, "quantity")
    lot = lot_of(spec)
    if spec.market is Market.SPOT:
        if value <= 0:
            raise ApiError(-1013, "Invalid quantity.")
        if value > _MAX_QTY[spec.market] or value < lot or value % lot:
            raise ApiError(-1013, "Filter failure: LOT_SIZE")
        return value
    if value <= 0:
        raise ApiError(-4003, "Quantity less than or equal to zero.")
    if value > _MAX_QTY[spec.market]:
        raise ApiError(-4005, "Quantity greater than max quantity.")
    if value % lot:
        raise ApiError(-1111, "Precision is over the maximum defined for this asset.")
    return value


def check_price(spec: SymbolSpec, text: str) -> Decimal:
    """Return a price or raise what the market's filter says."""
    value = _read(text, "price")
    tick = Decimal(1).scaleb(-spec.price_decimals)
    if spec.market is Market.SPOT:
        if value <= 0 or value % tick:
            raise ApiError(-1013, "Filter failure: PRICE_FILTER")
        return value
    if value <= 0:
        raise ApiError(-4001, "Price less than 0.")
    if value % tick:
        raise ApiError(-4014, "Price not increased by tick size.")
    return value


def lot_of(spec: SymbolSpec) -> Decimal:
    """Return the step of a symbol's quantities."""
    return Decimal(1).scaleb(-spec.qty_decimals)


def _decimal(params: Params, name: str) -> Decimal:
    text = params.get(name, "")
    return _read(text, name) if text else ZERO


def _number(params: Params, name: str) -> int | None:
    text = params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _is_true(params: Params, name: str) -> bool:
    return params.get(name, "").lower() == "true"


def _read(text: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value.adjusted() > 20:
        raise ApiError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is "
            "'^([0-9]{1,20})(\\.[0-9]{1,20})?$'.",
        )
    return value
