"""A model of orders as an exchange keeps them: random lives, their events, and the rows REST would give.

Written apart from the program: it says what is true, in the texts of each market.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

OPEN = ("NEW", "PARTIALLY_FILLED")
# A second snapshot tells apart what REST shows late, if it is not later than this.
REST_BEHIND_MS = 4500
STYLES = ("spot", "um padded", "um plain")


@dataclass(slots=True)
class ModelOrder:
    symbol: str
    number: int
    client_id: str
    price: Decimal
    qty: Decimal
    created_ms: int
    time_ms: int
    status: str = "NEW"
    done: Decimal = Decimal(0)
    quote: Decimal = Decimal(0)


def plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass
class OrderModel:
    """One account of one market."""

    style: str
    rnd: random.Random
    now_ms: int = 1_796_000_000_000
    orders: dict[tuple[str, int], ModelOrder] = field(default_factory=dict)
    #: All events in order: (time, the event as the stream carries it).
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    #: What openOrders was from which event on: index of the event, bytes.
    truths: list[bytes] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    trades: int = 0

    def __post_init__(self) -> None:
        self.truths.append(b"[]")

    # --- lives -----------------------------------------------------------------------------

    def step(self) -> None:
        """Let something happen."""
        self.now_ms += self.rnd.choice([1, 3, 40, 900])
        alive = [order for order in self.orders.values() if order.status in OPEN]
        kind = self.rnd.random()
        if not alive or (kind < 0.45 and len(alive) < 12):
            self.place()
        elif kind < 0.65:
            self.fill(self.rnd.choice(alive))
        elif kind < 0.72:
            self.amend(self.rnd.choice(alive))
        else:
            self.end(self.rnd.choice(alive), self.rnd.choice(["CANCELED", "EXPIRED"]))

    def place(self) -> ModelOrder:
        symbol = self.rnd.choice(["BTCUSDT", "ETHUSDT"])
        number = self.numbers[symbol] = self.numbers.get(symbol, 100) + 1  # unique for a symbol only
        order = ModelOrder(
            symbol, number, f"c{symbol[0]}{number}", Decimal(self.rnd.randrange(10_00, 99_00)) / 100,
            Decimal(self.rnd.randrange(1000, 9000)) / 1000, self.now_ms, self.now_ms,
        )  # fmt: skip
        self.orders[symbol, number] = order
        self._tell(order, "NEW")
        return order

    def fill(self, order: ModelOrder) -> None:
        left = order.qty - order.done
        part = left if self.rnd.random() < 0.4 else (left / 2).quantize(Decimal("0.001"))
        part = part or left
        order.done += part
        order.quote += part * order.price
        order.status = "FILLED" if order.done == order.qty else "PARTIALLY_FILLED"
        order.time_ms = self.now_ms
        self.trades += 1
        self._tell(order, "TRADE", part)

    def amend(self, order: ModelOrder) -> None:
        order.qty = order.done + (order.qty - order.done) / 2 + Decimal("0.001")
        order.qty = order.qty.quantize(Decimal("0.001"))
        order.time_ms = self.now_ms
        self._tell(order, "REPLACED" if self.style == "spot" else "AMENDMENT")

    def end(self, order: ModelOrder, status: str) -> None:
        order.status, order.time_ms = status, self.now_ms
        self._tell(order, status)

    # --- texts -----------------------------------------------------------------------------

    def _tell(self, order: ModelOrder, execution: str, part: Decimal = Decimal(0)) -> None:
        event = (
            self._spot_event(order, execution, part)
            if self.style == "spot"
            else self._um_event(order, execution, part)
        )
        self.events.append((self.now_ms, event))
        self.truths.append(self.truth())

    def _spot_event(self, order: ModelOrder, execution: str, part: Decimal) -> dict[str, Any]:
        return {
            "e": "executionReport", "E": self.now_ms, "s": order.symbol,
            "c": f"x{order.client_id}" if execution == "CANCELED" else order.client_id, "S": "BUY", "o": "LIMIT",
            "f": "GTC", "q": f"{order.qty:.8f}", "p": f"{order.price:.8f}", "P": "0.00000000", "F": "0.00000000",
            "g": -1, "C": order.client_id if execution == "CANCELED" else "", "x": execution, "X": order.status,
            "r": "NONE", "i": order.number, "l": f"{part:.8f}", "z": f"{order.done:.8f}",
            "L": f"{order.price if part else 0:.8f}", "T": self.now_ms, "t": self.trades if part else -1,
            "w": order.status in OPEN, "O": order.created_ms, "Z": f"{order.quote:.8f}", "Q": "0.00000000",
            "W": order.created_ms, "V": "EXPIRE_MAKER",
        }  # fmt: skip

    def _um_event(self, order: ModelOrder, execution: str, part: Decimal) -> dict[str, Any]:
        return {
            "s": order.symbol, "c": order.client_id, "S": "BUY", "o": "LIMIT", "f": "GTC", "q": plain(order.qty),
            "p": plain(order.price), "ap": plain(order.price) if order.done else "0", "sp": "0", "x": execution,
            "X": order.status, "i": order.number, "l": plain(part), "z": plain(order.done),
            "L": plain(order.price) if part else "0", "T": self.now_ms, "t": self.trades if part else 0, "R": False,
            "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH", "cp": False, "pP": False, "V": "EXPIRE_MAKER",
            "pm": "NONE", "gtd": 0,
        }  # fmt: skip

    def row(self, order: ModelOrder) -> dict[str, Any]:
        if self.style == "spot":
            return {
                "symbol": order.symbol, "orderId": order.number, "orderListId": -1,
                "clientOrderId": order.client_id, "price": f"{order.price:.8f}", "origQty": f"{order.qty:.8f}",
                "executedQty": f"{order.done:.8f}", "cummulativeQuoteQty": f"{order.quote:.8f}",
                "status": order.status, "timeInForce": "GTC", "type": "LIMIT", "side": "BUY",
                "stopPrice": "0.00000000", "icebergQty": "0.00000000", "time": order.created_ms,
                "updateTime": order.time_ms, "isWorking": True, "workingTime": order.created_ms,
                "origQuoteOrderQty": "0.00000000", "selfTradePreventionMode": "EXPIRE_MAKER",
            }  # fmt: skip

        def text(value: Decimal | int, digits: int) -> str:
            return plain(Decimal(value)) if self.style == "um plain" else f"{value:.{digits}f}"

        return {
            "orderId": order.number, "symbol": order.symbol, "status": order.status,
            "clientOrderId": order.client_id, "price": text(order.price, 2),
            "avgPrice": text(order.price if order.done else 0, 2), "origQty": text(order.qty, 3),
            "executedQty": text(order.done, 3), "cumQuote": text(order.quote, 5), "timeInForce": "GTC",
            "type": "LIMIT", "reduceOnly": False, "closePosition": False, "side": "BUY", "positionSide": "BOTH",
            "stopPrice": text(0, 2), "workingType": "CONTRACT_PRICE", "priceProtect": False, "origType": "LIMIT",
            "priceMatch": "NONE", "selfTradePreventionMode": "EXPIRE_MAKER", "goodTillDate": 0,
            "time": order.created_ms, "updateTime": order.time_ms,
        }  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        alive = [order for order in self.orders.values() if order.status in OPEN]
        return [self.row(order) for order in sorted(alive, key=lambda each: (each.created_ms, each.number))]

    def shown(self, behind: int) -> int:
        """Return which truth REST shows that is so many changes behind, but by less than `REST_BEHIND_MS`."""
        index = len(self.events)
        while behind and index and self.events[index - 1][0] > self.now_ms - REST_BEHIND_MS:
            index, behind = index - 1, behind - 1
        return index

    def truth(self) -> bytes:
        return orjson.dumps(self.rows())
