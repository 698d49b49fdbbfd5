"""A made-up exchange that remembers: lives of orders of every kind, their events, and what REST showed when.

Written apart from the program: it says what is true, in the texts of each market. Every change has an index;
what REST shows may be asked for as of any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import orjson

STYLES = ("spot", "um padded", "um plain", "cm")
SYMBOLS = {
    "spot": ("BTCUSDT", "ETHUSDT"),
    "um": ("BTCUSDT", "ETHUSDT"),
    "cm": ("BTCUSD_PERP", "ETHUSD_261225"),
}
OPEN = ("NEW", "PARTIALLY_FILLED", "PENDING_NEW")
ZERO = Decimal(0)
Key = tuple[str, int]


@dataclass(eq=False)
class Life:
    """An order. `rows` holds from which index on REST shows what of it, None once it has ended."""

    symbol: str
    number: int
    client_id: str
    price: Decimal
    qty: Decimal
    created_ms: int
    kind: str = "LIMIT"
    status: str = "NEW"
    time_ms: int = 0
    done: Decimal = ZERO
    worth: Decimal = ZERO
    prevented: Decimal = ZERO
    match: int = 0
    list_id: int = -1
    other: Life | None = None
    is_waiting: bool = False  # a stop that has not been triggered
    worked_ms: int | None = None
    delta: int = 0
    strategy: int = 0
    rows: list[tuple[int, dict[str, Any] | None]] = field(default_factory=list)
    # The same as REST tells it of one order, ended or not.
    alone: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.symbol, self.number

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    def shown(self, index: int) -> dict[str, Any] | None:
        """Return what REST shows of it as of an index, None if nothing."""
        for at, row in reversed(self.rows):
            if at <= index:
                return row
        return None


def plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class OrderExchange:
    """One account of one market."""

    def __init__(self, style: str, random: Random) -> None:
        self.style, self.random = style, random
        self.market = style.partition(" ")[0]
        self.now_ms = 1_796_000_000_000
        self.lives: dict[Key, Life] = {}
        # What changed: when, whose, and the event; the first index is 1.
        self.changes: list[tuple[int, Key, dict[str, Any]]] = []
        self.numbers: dict[str, int] = {}
        self.trades = self.lists = self.matches = 0
        # How this exchange does what no source settles.
        self.lists_pending = random.random() < 0.7
        self.repeats_prevented = random.random() < 0.5
        self.working_rule = random.choice(["last", "open", "true"])
        self.has_moving = random.random() < 0.15

    @property
    def index(self) -> int:
        return len(self.changes)

    def index_at(self, at_ms: int) -> int:
        """Return the index of the last change up to a time."""
        index = self.index
        while index and self.changes[index - 1][0] > at_ms:
            index -= 1
        return index

    # --- lives -----------------------------------------------------------------------------

    def step(self) -> None:
        """Let something happen, perhaps within the same millisecond."""
        random = self.random
        self.now_ms += random.choice([0, 0, 1, 2, 40, 900, 2500])
        alive = [life for life in self.lives.values() if life.is_open and life.status != "PENDING_NEW"]
        kind = random.random()
        if not alive or (kind < 0.4 and len(alive) < 9):
            self.begin()
        else:
            self.go_on(random.choice(alive))

    def begin(self) -> None:
        random = self.random
        kind = random.random()
        if self.market == "spot" and kind < 0.12:
            self.pair()
        elif self.market == "spot" and kind < 0.24:
            self.one_after_other()
        elif self.market == "spot" and kind < 0.28:
            life = self.make()
            life.status = "REJECTED"
            self.tell(life, "REJECTED")
        else:
            life = self.make()
            if self.market == "spot" and random.random() < 0.1:
                life.strategy = 5
            if self.market == "spot" and self.has_moving and random.random() < 0.3:
                life.delta = 100
            self.tell(life, "NEW")
            if random.random() < 0.2:
                self.fill(life)

    def go_on(self, life: Life) -> None:
        kind = self.random.random()
        if life.is_waiting and kind < 0.5:
            life.is_waiting, life.worked_ms = False, self.now_ms
            self.tell(life, "NEW")
        elif kind < 0.4 and not life.is_waiting:
            self.fill(life)
        elif kind < 0.5 and self.market == "spot" and not life.is_waiting:
            self.prevent(life)
        elif kind < 0.65:
            self.amend(life)
        else:
            self.end(life, self.random.choice(["CANCELED", "EXPIRED"]))

    def make(self, **more: Any) -> Life:
        random = self.random
        symbol = more.pop("symbol", None) or random.choice(SYMBOLS[self.market])
        number = self.numbers[symbol] = self.numbers.get(symbol, 100) + 1  # unique for a symbol only
        life = Life(
            symbol, number, f"c{number}", Decimal(random.randrange(1000, 9900)) / random.choice([1, 10, 100]),
            Decimal(random.randrange(1000, 9000)) / random.choice([10, 1000]), self.now_ms, worked_ms=self.now_ms,
            **more,
        )  # fmt: skip
        self.lives[life.key] = life
        return life

    def pair(self) -> None:
        """OCO: a stop that waits, and a limit order; one of them is done."""
        self.lists += 1
        one = self.make(list_id=self.lists)
        two = self.make(symbol=one.symbol, list_id=self.lists, kind="STOP_LOSS_LIMIT", is_waiting=True)
        one.other, two.other, two.worked_ms = two, one, None
        self.tell(two, "NEW")
        self.tell(one, "NEW")

    def one_after_other(self) -> None:
        """OTO: the second order waits until the first is filled."""
        self.lists += 1
        one = self.make(list_id=self.lists)
        two = self.make(symbol=one.symbol, list_id=self.lists, status="PENDING_NEW")
        one.other, two.other, two.worked_ms = two, one, None
        self.tell(one, "NEW")
        self.tell(two, "NEW")
        if self.random.random() < 0.3:
            self.fill(one)

    def fill(self, life: Life) -> None:
        left = life.qty - life.done - life.prevented
        part = left if self.random.random() < 0.35 else (left / 2).quantize(Decimal("0.001"))
        part = part or left
        price = life.price + self.random.choice([0, 0, Decimal("0.5")])
        life.done += part
        life.worth += part * price
        life.status = "FILLED" if part == left else "PARTIALLY_FILLED"
        self.trades += 1
        self.tell(life, "TRADE", part, price)
        self.after(life)

    def prevent(self, life: Life) -> None:
        """Trade with oneself was prevented: the order becomes less."""
        left = life.qty - life.done - life.prevented
        part = (left / 2).quantize(Decimal("0.001")) if self.random.random() < 0.7 else left
        self.matches += 1
        life.match, life.prevented = self.matches, life.prevented + part
        if part == left:
            life.status = "EXPIRED_IN_MATCH"
        self.tell(life, "TRADE_PREVENTION")
        self.after(life)

    def amend(self, life: Life) -> None:
        legs = [life]
        if life.other is not None and life.other.is_open and life.kind != life.other.kind:
            legs.append(life.other)
        qty = (life.done + life.prevented + (life.qty - life.done - life.prevented) / 2).quantize(
            Decimal("0.001")
        )
        for leg in legs:
            if qty > leg.done + leg.prevented:
                leg.qty = qty
                if self.market == "spot":
                    leg.client_id += "a"
                else:
                    leg.price += Decimal("0.1")
                self.tell(leg, "REPLACED" if self.market == "spot" else "AMENDMENT")

    def end(self, life: Life, status: str) -> None:
        life.status = status
        self.tell(life, status)
        self.after(life)

    def after(self, life: Life) -> None:
        """What follows for the other order of its list, within the same millisecond."""
        other = life.other
        if life.is_open or other is None or not other.is_open:
            return
        if other.status == "PENDING_NEW" and life.status == "FILLED":
            other.status, other.worked_ms = "NEW", self.now_ms
            self.tell(other, "NEW")
            if self.random.random() < 0.2:
                self.fill(other)
        else:
            other.status = "EXPIRED" if life.status == "FILLED" else "CANCELED"
            self.tell(other, other.status)

    # --- what is told ----------------------------------------------------------------------

    def tell(self, life: Life, execution: str, part: Decimal = ZERO, price: Decimal = ZERO) -> None:
        life.time_ms = self.now_ms
        write = self._spot_event if self.market == "spot" else self._futures_event
        self.changes.append((self.now_ms, life.key, write(life, execution, part, price)))
        if life.status == "REJECTED":
            del self.lives[life.key]
            return
        was_open = life.last.get("isWorking")
        life.last = self.row(life, was_open)
        life.alone.append((self.index, life.last))
        is_shown = life.is_open and (life.status != "PENDING_NEW" or self.lists_pending)
        life.rows.append((self.index, life.last if is_shown else None))

    def _is_working(self, life: Life) -> bool:
        return life.is_open and life.status != "PENDING_NEW" and not life.is_waiting

    def _spot_event(self, life: Life, execution: str, part: Decimal, price: Decimal) -> dict[str, Any]:
        is_ended = execution == "CANCELED"
        said = {
            "e": "executionReport", "E": str(self.now_ms + 1), "s": life.symbol,
            "c": f"x{life.client_id}" if is_ended else life.client_id, "S": "BUY", "o": life.kind, "f": "GTC",
            "q": f"{life.qty:.8f}", "p": f"{life.price:.8f}", "P": f"{life.price if life.kind != 'LIMIT' else 0:.8f}",
            "F": "0.00000000", "g": life.list_id, "C": life.client_id if is_ended else "", "x": execution,
            "X": life.status, "r": "NONE", "i": life.number, "l": f"{part:.8f}", "z": f"{life.done:.8f}",
            "L": f"{price:.8f}", "n": "0", "N": None, "T": self.now_ms, "t": self.trades if part else -1,
            "w": self._is_working(life), "O": life.created_ms, "Z": f"{life.worth:.8f}", "Q": "0.00000000",
            "V": "DECREMENT", "I": self.index,
        }  # fmt: skip
        if self._is_working(life):
            said["W"] = life.worked_ms
        if life.match and (self.repeats_prevented or execution == "TRADE_PREVENTION"):
            said.update(v=life.match, A=f"{life.prevented:.8f}")
        if life.strategy:
            said["j"] = life.strategy
        if life.delta:
            said.update(d=life.delta, D=-1)
        return said

    def _futures_event(self, life: Life, execution: str, part: Decimal, price: Decimal) -> dict[str, Any]:
        return {
            "s": life.symbol, "c": life.client_id, "S": "BUY", "o": "LIMIT", "f": "GTC", "q": plain(life.qty),
            "p": plain(life.price), "ap": plain(self._average(life)), "sp": "0", "x": execution, "X": life.status,
            "i": life.number, "l": plain(part), "z": plain(life.done), "L": plain(price), "T": self.now_ms,
            "t": self.trades if part else 0, "R": False, "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH",
            "cp": False, "pP": False, "V": "EXPIRE_MAKER", "pm": "NONE", "gtd": 0,
        }  # fmt: skip

    def _average(self, life: Life) -> Decimal:
        return (life.worth / life.done).quantize(Decimal("0.00001")) if life.done else ZERO

    # --- what REST shows -------------------------------------------------------------------

    def row(self, life: Life, was_working: object) -> dict[str, Any]:
        return self._spot_row(life, was_working) if self.market == "spot" else self._futures_row(life)

    def _spot_row(self, life: Life, was_working: object) -> dict[str, Any]:
        is_working: object = self._is_working(life)
        if not life.is_open:
            is_working = {"last": False, "open": was_working, "true": True}[self.working_rule]
        row = {
            "symbol": life.symbol, "orderId": life.number, "orderListId": life.list_id,
            "clientOrderId": life.client_id, "price": f"{life.price:.8f}", "origQty": f"{life.qty:.8f}",
            "executedQty": f"{life.done:.8f}", "cummulativeQuoteQty": f"{life.worth:.8f}", "status": life.status,
            "timeInForce": "GTC", "type": life.kind, "side": "BUY",
            "stopPrice": f"{life.price if life.kind != 'LIMIT' else 0:.8f}", "icebergQty": "0.00000000",
            "time": life.created_ms, "updateTime": life.time_ms, "isWorking": is_working,
            "workingTime": -1 if life.worked_ms is None else life.worked_ms, "origQuoteOrderQty": "0.00000000",
            "selfTradePreventionMode": "DECREMENT",
        }  # fmt: skip
        if life.match:
            row.update(preventedMatchId=life.match, preventedQuantity=f"{life.prevented:.8f}")
        if life.strategy:
            row["strategyId"] = life.strategy
        if life.delta:
            row.update(trailingDelta=life.delta, trailingTime=self.random.randrange(9))
        return row

    def _futures_row(self, life: Life) -> dict[str, Any]:
        def text(value: Decimal, digits: int) -> str:
            return plain(value) if self.style == "um plain" else f"{value:.{digits}f}"

        row: dict[str, Any] = {
            "orderId": life.number, "symbol": life.symbol, "status": life.status, "clientOrderId": life.client_id,
            "price": text(life.price, 2), "avgPrice": text(self._average(life), 5), "origQty": text(life.qty, 3),
            "executedQty": text(life.done, 3),
        }  # fmt: skip
        if self.market == "cm":
            row["cumBase"] = text(life.worth / 100000, 8)
        else:
            row["cumQuote"] = text(life.worth, 5)
        row |= {
            "timeInForce": "GTC", "type": "LIMIT", "reduceOnly": False, "closePosition": False, "side": "BUY",
            "positionSide": "BOTH", "stopPrice": text(ZERO, 1), "workingType": "CONTRACT_PRICE",
            "priceProtect": False, "origType": "LIMIT", "priceMatch": "NONE",
            "selfTradePreventionMode": "EXPIRE_MAKER", "time": life.created_ms, "updateTime": life.time_ms,
        }  # fmt: skip
        if self.market == "cm":
            return {**row, "pair": life.symbol.partition("_")[0]}
        return {**row, "goodTillDate": 0}

    def rows(self, indexes: dict[Key, int], symbol: str | None) -> list[dict[str, Any]]:
        """Return what REST lists if it shows each order as of an index of its own."""
        found = [
            (life, row)
            for life in self.lives.values()
            if (symbol in (None, life.symbol)) and (row := life.shown(indexes[life.key])) is not None
        ]
        found.sort(key=lambda each: (each[0].created_ms, each[0].number, each[0].symbol))
        return [row for _, row in found]

    def body(self, index: int, symbol: str | None = None) -> bytes:
        return orjson.dumps(self.rows(dict.fromkeys(self.lives, index), symbol))
