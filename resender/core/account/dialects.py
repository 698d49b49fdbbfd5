"""How each market writes orders: the fields of a REST row, and which field of an event says the same.

Pure tables and the reading of one event; what is known of an order over time is orders.py's.
Source: research.md B4 (rest-api.md, user-data-stream.md of 2026-07-21; binance-connector-python of 2026-08-21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

Row = dict[str, Any]
Key = tuple[str, int]
# How far an order has come: when, filled how much, in which state.
Stage = tuple[int, Decimal, int]

OPEN = frozenset({"NEW", "PARTIALLY_FILLED", "PENDING_NEW", "TRIGGERING"})
# What else an order can be; of any other state nobody knows whether REST shows the order as open.
_ENDED = frozenset({"FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH", "TRIGGERED", "FINISHED"})
# An event that begins an order, or tells that there will be none.
_FIRST = frozenset({"NEW", "REJECTED"})
_FILLS = frozenset({"TRADE", "CALCULATED", "LIQUIDATION"})
AMENDED = frozenset({"REPLACED", "AMENDMENT", "TRADE_PREVENTION"})
# What can be written in a line again.
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,2})?")


# Of one moment and with as much filled, the later state is the higher one.
_RANKS = {"PENDING_NEW": 0, "NEW": 1, "PARTIALLY_FILLED": 2}
# What is multiplied and added up is not rounded.
EXACT = Context(prec=100)


class BadEvent(ValueError):
    """An event that cannot be read as what it says it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One kind of orders of one market.

    Shape: `direct` names the event's field for each of a row's; `id_name` is the row's order number. `optional`
        are those only some rows have; `numbers` are decimal texts that REST may write with other digits;
        `constant` are fields no event carries and nothing changes while an order lives; `moving` are fields
        that change without an event: orders that have one are never answered. `documented` is the row's order
        of fields where that is settled, else it is learned from rows.
    """

    name: str
    id_name: str
    direct: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()
    constant: frozenset[str] = frozenset()
    moving: frozenset[str] = frozenset()
    documented: tuple[str, ...] = ()
    status: str = "status"
    created: str = "time"
    # The sum of all fills in quote asset; the event carries it, or it is summed up here.
    quote: str = ""
    sums_quote: bool = False
    has_pair: bool = False


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """What one event says of one order.

    Shape: `values` by the names of REST rows, in the event's own texts; `executed` is what has been filled
        altogether, `last` by this event. Units: `time_ms` epoch milliseconds of the matching engine.
    """

    key: Key
    execution: str
    status: str
    time_ms: int
    executed: Decimal
    last: Decimal
    last_quote: Decimal
    trade_id: int
    values: Row

    @property
    def stage(self) -> Stage:
        return self.time_ms, self.executed, rank(self.status)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def is_first(self) -> bool:
        return self.execution in _FIRST

    @property
    def is_fill(self) -> bool:
        return self.execution in _FILLS

    @property
    def sign(self) -> tuple[object, ...]:
        """What tells it from every other event of the order: two that are equal are one."""
        values = self.values
        return (
            self.execution, self.status, self.time_ms, self.trade_id, self.executed,
            values.get("origQty"), values.get("price"), values.get("clientOrderId"), values.get("stopPrice"),
            values.get("isWorking"), values.get("preventedQuantity"),
        )  # fmt: skip


_SPOT_ROW = (
    "symbol", "orderId", "orderListId", "clientOrderId", "price", "origQty", "executedQty",
    "cummulativeQuoteQty", "status", "timeInForce", "type", "side", "stopPrice", "icebergQty", "time",
    "updateTime", "isWorking", "workingTime", "origQuoteOrderQty", "selfTradePreventionMode",
)  # fmt: skip
SPOT = Dialect(
    "spot",
    "orderId",
    {
        "symbol": "s", "orderId": "i", "orderListId": "g", "clientOrderId": "c", "price": "p", "origQty": "q",
        "executedQty": "z", "cummulativeQuoteQty": "Z", "status": "X", "timeInForce": "f", "type": "o",
        "side": "S", "stopPrice": "P", "icebergQty": "F", "time": "O", "updateTime": "T", "isWorking": "w",
        "origQuoteOrderQty": "Q", "selfTradePreventionMode": "V",
    },
    optional={
        "strategyId": "j", "strategyType": "J", "trailingDelta": "d", "trailingTime": "D",
        "preventedMatchId": "v", "preventedQuantity": "A", "usedSor": "uS", "workingFloor": "k",
        "pegPriceType": "gP", "pegOffsetType": "gOT", "pegOffsetValue": "gOV", "peggedPrice": "gp",
        "expiryReason": "eR",
    },
    numbers=frozenset(
        {"price", "origQty", "executedQty", "cummulativeQuoteQty", "stopPrice", "icebergQty", "origQuoteOrderQty"}
    ),
    moving=frozenset({"trailingDelta", "trailingTime", "peggedPrice", "pegPriceType"}),
    documented=_SPOT_ROW,
    quote="cummulativeQuoteQty",
)  # fmt: skip

_FUTURES = {
    "symbol": "s", "orderId": "i", "clientOrderId": "c", "price": "p", "avgPrice": "ap", "origQty": "q",
    "executedQty": "z", "status": "X", "timeInForce": "f", "type": "o", "reduceOnly": "R",
    "closePosition": "cp", "side": "S", "positionSide": "ps", "stopPrice": "sp", "workingType": "wt",
    "priceProtect": "pP", "origType": "ot", "priceMatch": "pm", "selfTradePreventionMode": "V",
    "goodTillDate": "gtd", "updateTime": "T", "activatePrice": "AP", "priceRate": "cr",
}  # fmt: skip
_FUTURES_NUMBERS = frozenset(
    {"price", "avgPrice", "origQty", "executedQty", "stopPrice", "activatePrice", "priceRate", "cumQuote",
     "cumBase"}
)  # fmt: skip
# A trailing stop's price follows the market without an event.
_TRAILING = frozenset({"activatePrice", "priceRate"})
UM = Dialect(
    "um",
    "orderId",
    _FUTURES,
    numbers=_FUTURES_NUMBERS,
    moving=_TRAILING,
    quote="cumQuote",
    sums_quote=True,
    has_pair=True,
)
# What a coin-margined fill is worth depends on the contract's size: no event tells it.
CM = Dialect(
    "cm",
    "orderId",
    _FUTURES,
    numbers=_FUTURES_NUMBERS,
    moving=_TRAILING,
    quote="cumBase",
    has_pair=True,
)
ALGO = Dialect(
    "algo",
    "algoId",
    {
        "algoId": "aid", "clientAlgoId": "caid", "algoType": "at", "orderType": "o", "symbol": "s",
        "side": "S", "positionSide": "ps", "timeInForce": "f", "quantity": "q", "algoStatus": "X",
        "actualOrderId": "ai", "actualPrice": "ap", "triggerPrice": "tp", "price": "p",
        "selfTradePreventionMode": "V", "workingType": "wt", "priceMatch": "pm", "closePosition": "cp",
        "priceProtect": "pP", "reduceOnly": "R", "triggerTime": "tt", "goodTillDate": "gtd",
        "updateTime": "T",
    },
    numbers=frozenset({"quantity", "actualPrice", "triggerPrice", "price"}),
    constant=frozenset(
        {"createTime", "icebergQuantity", "tpTriggerPrice", "tpPrice", "slTriggerPrice", "slPrice",
         "tpOrderType", "activatePrice", "callbackRate"}
    ),
    moving=frozenset({"callbackRate"}),
    status="algoStatus",
    created="createTime",
)  # fmt: skip


def rank(status: str) -> int:
    """Tell the states of one moment apart: the later one is higher."""
    return _RANKS.get(status, 3)


def number(value: object) -> Decimal:
    """Read a quantity or price, None and "" as 0.

    Raises: BadEvent.
    """
    if value is None or value == "":
        return Decimal(0)
    text = str(value)
    if _NUMBER.fullmatch(text) is None:
        raise BadEvent("a number cannot be read")
    return Decimal(text)


def moment_ms(value: object) -> int:
    """Read a time that may come as text, in milliseconds or microseconds.

    Raises: BadEvent.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is not int or value < 0:
        raise BadEvent("a time cannot be read")
    return value if value < 10**15 else value // 1000


def whole(value: object) -> int:
    """Read an order number.

    Raises: BadEvent.
    """
    if type(value) is not int:
        raise BadEvent("an order number cannot be read")
    return value


def read_event(dialect: Dialect, said: Mapping[str, Any], event_ms: object = None) -> OrderEvent:
    """Read one event of one order.

    Shape: `said` is the event of spot, the object `o` of futures; `event_ms` the envelope's time, where
        `said` itself has none.
    Raises: BadEvent.
    """
    symbol = said.get("s")
    if not isinstance(symbol, str) or not symbol or not isinstance(said.get("X"), str):
        raise BadEvent("an order without symbol or status")
    if said["X"] not in OPEN and said["X"] not in _ENDED:
        raise BadEvent(f"an order of an unknown state: {said['X'][:40]}")
    time_ms = moment_ms(said.get("T", event_ms))
    values: Row = {
        name: said[letter] for name, letter in dialect.direct.items() if letter in said and letter != "T"
    }
    values["updateTime"] = time_ms
    for name, letter in dialect.optional.items():
        if said.get(letter) not in (None, ""):
            values[name] = said[letter]
    for name in dialect.numbers:
        number(values.get(name))
    execution = str(said.get("x", said["X"]))
    if dialect is SPOT:
        if execution == "CANCELED" and said.get("C"):
            values["clientOrderId"] = said["C"]
        if "O" in said:
            values["time"] = moment_ms(said["O"])
        if "W" in said:
            values["workingTime"] = said["W"] if said["W"] == -1 else moment_ms(said["W"])
    last = number(said.get("l"))
    return OrderEvent(
        key=(symbol, whole(said.get(dialect.direct[dialect.id_name]))),
        execution=execution,
        status=said["X"],
        time_ms=time_ms,
        executed=number(said.get("z")),
        last=last,
        last_quote=EXACT.multiply(last, number(said.get("L"))),
        trade_id=said["t"] if type(said.get("t")) is int else -1,
        values=values,
    )


def pair_of(symbol: str) -> str:
    """Return the pair of a contract: `BTCUSD_PERP` is one of `BTCUSD`."""
    return symbol.partition("_")[0]
