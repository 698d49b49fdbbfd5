"""Orders out of snapshots and events: nothing is told that REST never was, whatever is late, lost or said twice."""

from __future__ import annotations

import os
import random
from typing import Any

import orjson
import pytest

from resender.core.account.dialects import ALGO, CM, SPOT, UM, Dialect, read_event
from resender.core.account.lore import Lore
from resender.core.account.orders import Applied, Orders, read_rows
from resender.core.account.proof import Proof
from tests.support.order_model import STYLES, OrderModel

PATH = {"spot": "/api/v3/openOrders", "um": "/fapi/v1/openOrders"}
HISTORIES = int(os.environ.get("ORDER_HISTORIES", "25"))
DAY_MS = 86_400_000


def dialect_of(style: str) -> tuple[Dialect, str]:
    return (SPOT, PATH["spot"]) if style == "spot" else (UM, PATH["um"])


class Watcher:
    """An account that follows a model as `resender.account` does, on a clock of its own."""

    def __init__(self, model: OrderModel) -> None:
        self.model = model
        self.dialect, self.path = dialect_of(model.style)
        self.orders = Orders(self.dialect, Lore(self.dialect), keep_ms=DAY_MS)
        self.proof = Proof(1e9)
        self.heard = 0
        self.asked = self.hits = 0

    @property
    def mono(self) -> float:
        return self.model.now_ms / 1000

    def open(self) -> None:
        """The stream begins: what happened before is not told."""
        self.orders.unsettle()
        self.proof.opened(self.mono)
        self.heard = len(self.model.events)

    def lose(self) -> None:
        self.proof.closed("lost")
        self.orders.unsettle()

    def hear(self, until: int, *, twice: bool = False) -> None:
        """Take the events that have come by now."""
        if not self.proof.is_open:
            return
        for _, said in self.model.events[self.heard : until]:
            for _ in range(2 if twice else 1):
                applied = self.orders.apply(read_event(self.dialect, said))
                if applied is Applied.MISFIT:
                    self.proof.restart("misfit", self.mono)
                    self.orders.unsettle()
        self.heard = max(self.heard, until)

    def snapshot(self, body: bytes) -> None:
        if not self.proof.is_open:
            return
        asked = self.mono
        merged = self.orders.merge(self.path, read_rows(body), None, self.model.now_ms)
        if merged.differences:
            self.proof.restart("differs", self.mono)
            self.orders.unsettle()
        else:
            self.proof.snapshot(None, asked)

    def judge(self) -> None:
        """What is answered was true at some moment since the events heard last."""
        self.asked += 1
        if self.proof.lack(None, self.mono) is not None or self.orders.is_doubted(None):
            return
        told = self.orders.listed(self.path)
        if told is None:
            return
        self.hits += 1
        allowed = {as_set(truth) for truth in self.model.truths[self.heard :]}
        assert as_set(told) in allowed, (told, self.model.truths[self.heard])


def as_set(body: bytes) -> tuple[bytes, ...]:
    """Return the rows in any order: that of ties is nobody's promise. Each row is compared byte for byte."""
    return tuple(sorted(orjson.dumps(row) for row in orjson.loads(body)))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_every_answer_was_true_whatever_is_late_twice_or_lost(style: str, seed: int) -> None:
    rnd = random.Random(f"{style} {seed}")
    model = OrderModel(style, rnd)
    for _ in range(rnd.randrange(0, 20)):
        model.step()
    watcher = Watcher(model)
    watcher.open()
    for _ in range(250):
        fate = rnd.random()
        if fate < 0.5:
            model.step()
        elif fate < 0.52:
            watcher.lose()
        elif fate < 0.6 and not watcher.proof.is_open:
            model.now_ms += 500
            watcher.open()
        elif fate < 0.72:
            model.now_ms += rnd.choice([100, 3000, 6000])
        late = rnd.choice([0, 0, 0, 1, 3])
        watcher.hear(max(watcher.heard, len(model.events) - late), twice=rnd.random() < 0.1)
        if rnd.random() < 0.3:
            watcher.snapshot(model.truths[model.shown(rnd.choice([0, 0, 0, 1, 2]))])
        watcher.judge()


@pytest.mark.parametrize("style", STYLES)
def test_quiet_life_is_answered_nearly_always(style: str) -> None:
    rnd = random.Random(7)
    model = OrderModel(style, rnd)
    watcher = Watcher(model)
    watcher.open()
    watcher.snapshot(model.truth())
    model.now_ms += 6000
    watcher.snapshot(model.truth())
    for _ in range(300):
        model.step()
        watcher.hear(len(model.events))
        before = watcher.hits
        watcher.judge()
        if watcher.hits == before:
            watcher.snapshot(model.truth())  # as the client's own call is forwarded then
    assert watcher.hits >= (300 if style == "spot" else 280)


def um_event(number: int, execution: str, status: str, at: int, **more: Any) -> Any:
    said = {
        "s": "BTCUSDT",
        "i": number,
        "x": execution,
        "X": status,
        "T": at,
        "q": "2",
        "z": "0",
        "l": "0",
        **more,
    }
    return read_event(UM, said)


def settled() -> Orders:
    orders = Orders(UM, Lore(UM), keep_ms=DAY_MS)
    orders.merge(PATH["um"], [], None, 1000)
    return orders


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (um_event(9, "TRADE", "PARTIALLY_FILLED", 5000, z="1", l="1"), "an order nobody told of"),
        (um_event(9, "CANCELED", "CANCELED", 5000), "an order nobody told of"),
        (um_event(1, "TRADE", "PARTIALLY_FILLED", 5000, z="3", l="3"), "filled beyond its quantity"),
        (um_event(1, "TRADE", "PARTIALLY_FILLED", 5000, z="1.5", l="1"), "a fill is missing"),
        (um_event(1, "CANCELED", "CANCELED", 5000, z="1"), "a fill is missing"),
        (um_event(1, "AMENDMENT", "NEW", 900), "time goes backwards"),
        (um_event(2, "TRADE", "FILLED", 5000, z="2", l="2"), "an event of an order that has ended"),
    ],
)
def test_event_that_does_not_fit_is_a_misfit(event: Any, why: str) -> None:
    orders = settled()
    orders.apply(um_event(1, "NEW", "NEW", 2000))
    orders.apply(um_event(2, "NEW", "NEW", 2000))
    orders.apply(um_event(2, "CANCELED", "CANCELED", 3000))
    assert orders.apply(event) is Applied.MISFIT
    assert orders.why.startswith(why)


def test_late_row_does_not_bring_an_ended_order_back() -> None:
    orders = settled()
    orders.apply(um_event(1, "NEW", "NEW", 2000))
    orders.apply(um_event(1, "CANCELED", "CANCELED", 3000))
    row = {"symbol": "BTCUSDT", "orderId": 1, "status": "NEW", "executedQty": "0", "updateTime": 2000}
    merged = orders.merge(PATH["um"], [row], None, 3100)
    assert merged.differences == []
    assert orders.open == {}


def test_same_number_on_two_symbols_is_two_orders() -> None:
    orders = settled()
    orders.apply(um_event(1, "NEW", "NEW", 2000))
    orders.apply(read_event(UM, {"s": "ETHUSDT", "i": 1, "x": "NEW", "X": "NEW", "T": 2000}))
    orders.apply(um_event(1, "CANCELED", "CANCELED", 3000))
    assert list(orders.open) == [("ETHUSDT", 1)]
    assert orders.find("BTCUSDT", 1, None) is orders.ended["BTCUSDT", 1]


def test_order_whose_price_moves_without_an_event_is_never_answered() -> None:
    orders = settled()
    row = {
        "symbol": "BTCUSDT", "orderId": 1, "status": "NEW", "executedQty": "0", "updateTime": 2000,
        "origType": "TRAILING_STOP_MARKET", "priceRate": "0.3", "activatePrice": "9020", "time": 2000,
    }  # fmt: skip
    orders.merge(PATH["um"], [row], None, 3000)
    assert orders.listed(PATH["um"]) is None
    orders.merge(PATH["um"], [], "ETHUSDT", 3000)
    assert orders.listed(PATH["um"], "ETHUSDT") == b"[]"
    assert orders.unwhole(PATH["um"]) is None, "reading it again would not help"


def test_two_orders_of_one_client_id_are_not_told_apart() -> None:
    orders = settled()
    for number in (1, 2):
        orders.apply(um_event(number, "NEW", "NEW", 2000 + number, c="mine"))
        orders.apply(um_event(number, "CANCELED", "CANCELED", 2100 + number, c="mine"))
    assert orders.find("BTCUSDT", None, "mine") is None
    assert orders.find("BTCUSDT", None, "other") is None


@pytest.mark.parametrize("is_listed", [True, False])
def test_waiting_legs_are_told_as_rest_tells_them(is_listed: bool) -> None:
    model = OrderModel("spot", random.Random(1))
    working, waiting = model.place(), model.place()
    rows = [{**model.row(order), "orderListId": 3} for order in (working, waiting)]
    rows[1].update(status="PENDING_NEW", isWorking=False, workingTime=-1)
    orders = Orders(SPOT, Lore(SPOT), keep_ms=DAY_MS)
    orders.merge(PATH["spot"], [], None, model.now_ms - 5000)
    first, second = ({**said, "g": 3} for _, said in model.events)
    second.update(X="PENDING_NEW", w=False)
    del second["W"]
    for said in (first, second):
        orders.apply(read_event(SPOT, said))
    assert orders.listed(PATH["spot"]) is None, "nobody has seen yet whether REST shows them"
    shown = rows if is_listed else rows[:1]
    orders.merge(PATH["spot"], shown, None, model.now_ms + 10)
    assert (orders.listed(PATH["spot"]) is None) is not is_listed, "REST may lag"
    orders.merge(PATH["spot"], shown, None, model.now_ms + 60_001)
    assert orders.listed(PATH["spot"]) == orjson.dumps(shown)
    assert not orders.is_doubted(None)


def test_ended_orders_are_forgotten_in_time_and_many_do_not_pile_up() -> None:
    orders = Orders(UM, Lore(UM), keep_ms=200_000)
    orders.merge(PATH["um"], [], None, 1000)
    for number in range(6000):
        orders.apply(um_event(number, "NEW", "NEW", 2000 + number))
        orders.apply(um_event(number, "CANCELED", "CANCELED", 2000 + number))
    assert len(orders.ended) == 5000
    orders.forget(2000 + 5999 + 200_000)
    assert len(orders.ended) == 1


@pytest.mark.parametrize("dialect", [SPOT, UM, CM, ALGO], ids=lambda dialect: str(dialect.name))
def test_snapshot_that_cannot_be_read_changes_nothing(dialect: Dialect) -> None:
    orders = Orders(dialect, Lore(dialect), keep_ms=DAY_MS)
    good = {"symbol": "BTCUSDT", dialect.id_name: 1, dialect.status: "NEW", "updateTime": 5}
    for bad in ({"symbol": ""}, {dialect.id_name: "1"}, {"updateTime": "x"}, {"price": "NaN"}):
        with pytest.raises(ValueError, match=r"."):
            orders.merge("/p", [good, {**good, **bad}], None, 10)
    assert orders.open == {}
    assert not orders.is_settled


@pytest.mark.parametrize("body", [b"", b"x", b"[1]", b'["a"]', b"3", b"null"])
def test_answer_without_rows_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_rows(body)
