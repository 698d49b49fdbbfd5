"""Read your own writes: what an answer to an order makes unproven, until events have told it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.account import writes as module
from resender.core.account.calls import Change
from resender.core.account.dialects import ALGO, SPOT, UM, Dialect, read_event
from resender.core.account.lore import Lore
from resender.core.account.orders import Orders
from resender.core.account.writes import SUSPECT_S, UNKNOWN_CODES, Writes

AT_MS = 1_796_000_000_000
WAIT_S = 0.3
EXAMPLES = int(os.environ.get("ACCOUNT_WRITES", "40"))


class Desk:
    """An account's orders, its expectations and a clock. Units: `mono` 0 is `AT_MS`."""

    def __init__(self, dialect: Dialect = SPOT) -> None:
        self.orders = Orders(dialect, Lore(dialect), keep_ms=86_400_000)
        self.algo = Orders(ALGO, Lore(ALGO), keep_ms=86_400_000)
        self.writes = Writes(self.orders, self.algo, WAIT_S)
        self.mono = 0.0
        self.orders.merge("/p", [], None, AT_MS - 100_000)

    @property
    def now_ms(self) -> int:
        return AT_MS + int(self.mono * 1000)

    def answered(
        self,
        told: object,
        change: Change = Change.ORDERS,
        status: int = 200,
        took_s: float = 0.0,
        **params: str,
    ) -> bool:
        body = told if isinstance(told, bytes) else orjson.dumps(told)
        is_known = self.writes.answered(
            change, {"symbol": "BTCUSDT", **params}, status, body,
            sent_mono=self.mono - took_s, mono=self.mono, now_ms=self.now_ms,
        )  # fmt: skip
        self.settle()
        return is_known

    def settle(self, mono: float | None = None) -> None:
        self.mono = self.mono if mono is None else mono
        self.writes.settle(self.mono, self.now_ms)

    def event(self, number: int = 7, status: str = "NEW", execution: str = "", symbol: str = "BTCUSDT",
              **more: Any) -> None:  # fmt: skip
        executions = {"PARTIALLY_FILLED": "TRADE", "FILLED": "TRADE"}
        said = {
            "s": symbol, "i": number, "x": execution or executions.get(status, status), "X": status,
            "T": self.now_ms, "q": "1.00000000", "p": "9000.00000000", "z": "0", "l": "0", "O": self.now_ms,
            **more,
        }  # fmt: skip
        self.orders.apply(read_event(self.orders.dialect, said))
        self.settle()

    def algo_event(self, number: int = 5, status: str = "NEW", symbol: str = "BTCUSDT") -> None:
        self.algo.apply(read_event(ALGO, {"s": symbol, "aid": number, "X": status, "q": "1"}, self.now_ms))
        self.settle()

    @property
    def is_pending(self) -> bool:
        return self.writes.is_pending("BTCUSDT")


def placed(number: int = 7, status: str = "NEW", **more: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": number, "orderListId": -1, "clientOrderId": "mine", "transactTime": AT_MS,
        "price": "9000.00000000", "origQty": "1.00000000", "executedQty": "0.00000000", "status": status,
        "type": "LIMIT", "side": "BUY", "fills": [], **more,
    }  # fmt: skip


# --- one call ----------------------------------------------------------------------------------


def test_placed_order_is_pending_until_its_event() -> None:
    desk = Desk()
    assert desk.answered(placed())
    assert desk.is_pending
    assert desk.writes.is_pending(None)
    assert not desk.writes.is_pending("ETHUSDT")
    assert not desk.writes.is_pending("BTCUSDT", is_algo=True)
    desk.event()
    assert not desk.is_pending
    assert desk.writes.count == 0


def test_event_that_came_before_the_answer_leaves_nothing_pending() -> None:
    desk = Desk()
    desk.event()
    assert desk.answered(placed())
    assert not desk.is_pending


def test_event_of_another_symbol_with_the_same_number_is_not_it() -> None:
    desk = Desk()
    desk.answered(placed())
    desk.event(symbol="ETHUSDT")
    assert desk.is_pending


@pytest.mark.parametrize("told", [{"symbol": "BTCUSDT", "orderId": 7, "transactTime": AT_MS},
                                  {"orderId": 7, "clientOrderId": "a"}])  # fmt: skip
def test_short_answer_is_enough(told: dict[str, Any]) -> None:
    desk = Desk()
    assert desk.answered(told)
    assert desk.is_pending
    desk.event()
    assert not desk.is_pending


def test_filled_order_is_pending_until_all_of_its_fills_were_told() -> None:
    desk = Desk()
    desk.answered(placed(status="FILLED", executedQty="1.00000000"))
    desk.event()
    assert desk.is_pending
    desk.event(status="PARTIALLY_FILLED", z="0.4", l="0.4", t=1)
    assert desk.is_pending
    desk.event(status="FILLED", z="1", l="0.6", t=2)
    assert not desk.is_pending


def test_order_that_was_filled_in_part_is_pending_until_that_much_was_told() -> None:
    desk = Desk()
    desk.answered(placed(status="PARTIALLY_FILLED", executedQty="0.40000000"))
    desk.event()
    assert desk.is_pending
    desk.event(status="PARTIALLY_FILLED", z="0.4", l="0.4", t=1)
    assert not desk.is_pending


def test_cancelled_order_is_pending_until_it_has_ended() -> None:
    desk = Desk()
    desk.event()
    desk.answered({**placed(status="CANCELED"), "origClientOrderId": "mine", "clientOrderId": "x"})
    assert desk.is_pending
    desk.event(status="CANCELED")
    assert not desk.is_pending


def test_cancelled_order_that_was_filled_instead_is_not_pending() -> None:
    desk = Desk()
    desk.event()
    desk.answered(placed(status="CANCELED"))
    desk.event(status="FILLED", z="1", l="1", t=1)
    assert not desk.is_pending


def test_amended_order_is_pending_until_its_new_quantity_was_told() -> None:
    desk = Desk()
    desk.event()
    desk.mono = 1.0
    amended = {
        "transactTime": desk.now_ms, "executionId": 60, "amendedOrder": {
            "symbol": "BTCUSDT", "orderId": 7, "orderListId": -1, "origClientOrderId": "mine",
            "clientOrderId": "new", "price": "9000.00000000", "qty": "0.50000000", "executedQty": "0.00000000",
            "preventedQty": "0.00000000", "quoteOrderQty": "0.00000000", "cumulativeQuoteQty": "0.00000000",
            "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "side": "BUY", "workingTime": AT_MS,
        },
    }  # fmt: skip
    assert desk.answered(amended)
    assert desk.is_pending
    desk.event(execution="REPLACED", q="0.50000000", O=AT_MS)
    assert not desk.is_pending


def test_both_legs_of_an_amended_pair_are_pending() -> None:
    desk = Desk()
    desk.event(7, g=3)
    desk.event(8, g=3)
    desk.mono = 1.0
    legs = [{"symbol": "BTCUSDT", "orderId": number, "clientOrderId": f"c{number}"} for number in (7, 8)]
    amended = {
        "transactTime": desk.now_ms, "executionId": 60,
        "amendedOrder": {"symbol": "BTCUSDT", "orderId": 7, "orderListId": 3, "qty": "0.50000000", "status": "NEW"},
        "listStatus": {"orderListId": 3, "contingencyType": "OCO", "symbol": "BTCUSDT", "orders": legs},
    }  # fmt: skip
    assert desk.answered(amended)
    desk.event(7, execution="REPLACED", q="0.50000000", O=AT_MS)
    assert desk.is_pending, "the other leg has its new quantity with the next event"
    desk.event(8, execution="REPLACED", q="0.50000000", O=AT_MS)
    assert not desk.is_pending


def test_modified_order_of_futures_is_pending_until_price_and_quantity_were_told() -> None:
    desk = Desk(UM)
    desk.event()
    desk.mono = 1.0
    desk.answered({"symbol": "BTCUSDT", "orderId": 7, "status": "NEW", "price": "8000.0", "origQty": "2",
                   "executedQty": "0", "updateTime": desk.now_ms})  # fmt: skip
    assert desk.is_pending
    desk.event(execution="AMENDMENT", p="8000", q="2.000")
    assert not desk.is_pending


def test_order_modified_twice_at_once_waits_for_no_state_that_is_over() -> None:
    desk = Desk(UM)
    desk.event()
    answers = []
    for price in ("8000", "7000"):
        desk.mono += 0.01
        answers.append({"symbol": "BTCUSDT", "orderId": 7, "status": "NEW", "price": price, "origQty": "1",
                        "updateTime": desk.now_ms})  # fmt: skip
        desk.event(execution="AMENDMENT", p=price)
    for answer in answers:
        assert desk.answered(answer)
    assert not desk.is_pending, "the second event is newer than the first answer"


def test_every_order_of_a_list_is_pending() -> None:
    desk = Desk()
    desk.answered(
        {
            "orderListId": 3, "contingencyType": "OTO", "symbol": "BTCUSDT",
            "orders": [{"symbol": "BTCUSDT", "orderId": number, "clientOrderId": "a"} for number in (7, 8)],
            "orderReports": [placed(7), placed(8, "PENDING_NEW")],
        }
    )  # fmt: skip
    desk.event(7)
    assert desk.is_pending
    desk.event(8, "PENDING_NEW", "NEW")
    assert not desk.is_pending


def test_cancellation_and_replacement_are_both_pending() -> None:
    desk = Desk()
    desk.event(7)
    desk.answered({"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS", "cancelResponse": placed(7, "CANCELED"),
                   "newOrderResponse": placed(8)})  # fmt: skip
    desk.event(7, "CANCELED")
    assert desk.is_pending
    desk.event(8)
    assert not desk.is_pending


def test_half_of_a_replacement_is_pending_and_one_that_failed_whole_is_not() -> None:
    desk = Desk()
    desk.event(7)
    failed = {"code": -2010, "msg": "Account has insufficient balance for requested action."}
    half = {"code": -2021, "msg": "Order cancel-replace partially failed.", "data": {
        "cancelResult": "SUCCESS", "newOrderResult": "FAILURE", "cancelResponse": placed(7, "CANCELED"),
        "newOrderResponse": failed}}  # fmt: skip
    assert desk.answered(half, status=409)
    assert desk.is_pending
    desk.event(7, "CANCELED")
    assert not desk.is_pending
    none = {"code": -2022, "msg": "Order cancel-replace failed.", "data": {
        "cancelResult": "FAILURE", "newOrderResult": "NOT_ATTEMPTED", "cancelResponse": failed,
        "newOrderResponse": None}}  # fmt: skip
    assert desk.answered(none, status=400)
    assert not desk.is_pending


def test_half_of_a_replacement_that_nobody_knows_of_is_not_known() -> None:
    desk = Desk()
    told = {"code": -2021, "data": {"cancelResult": "SUCCESS", "cancelResponse": placed(7, "CANCELED"),
                                    "newOrderResponse": {"code": -1007, "msg": "Timeout"}}}  # fmt: skip
    assert not desk.answered(told, status=409)


def test_batch_is_pending_for_each_order_that_was_taken() -> None:
    desk = Desk(UM)
    refused = {"code": -2019, "msg": "Margin is insufficient."}
    assert desk.answered([placed(7), refused, placed(8)])
    desk.event(7)
    assert desk.is_pending
    desk.event(8)
    assert not desk.is_pending
    assert desk.answered([refused, refused])
    assert not desk.is_pending
    assert not desk.answered([placed(9), {"code": -1006, "msg": "status unknown"}])


def test_conditional_order_is_pending_apart_from_the_others() -> None:
    desk = Desk(UM)
    assert desk.answered({"algoId": 5, "symbol": "BTCUSDT", "algoStatus": "NEW"}, Change.ALGO)
    assert not desk.is_pending
    assert desk.writes.is_pending("BTCUSDT", is_algo=True)
    desk.event(5)
    assert desk.writes.is_pending(None, is_algo=True)
    desk.algo_event()
    assert not desk.writes.is_pending(None, is_algo=True)
    assert desk.answered(
        {"algoId": 5, "clientAlgoId": "a", "code": "200", "msg": "success"}, Change.ALGO, symbol=""
    )
    assert desk.writes.is_pending("BTCUSDT", is_algo=True), "its symbol is known by its number"
    desk.algo_event(status="CANCELED")
    assert not desk.writes.is_pending(None, is_algo=True)


@pytest.mark.parametrize("code", [200, "200"])
def test_cancelled_conditional_order_nobody_told_of_is_not_known(code: object) -> None:
    told = {"algoId": 6, "clientAlgoId": "a", "code": code, "msg": "success"}
    assert not Desk(UM).answered(told, Change.ALGO, symbol="")


# --- all of a symbol ---------------------------------------------------------------------------


def test_cancellation_of_all_is_pending_until_none_is_open_that_was() -> None:
    desk = Desk(UM)
    desk.event(7)
    desk.event(8)
    desk.event(9, symbol="ETHUSDT")
    desk.mono = 1.0
    assert desk.answered({"code": 200, "msg": "The operation of cancel all open order is done."}, Change.ALL)
    assert desk.is_pending
    assert desk.writes.is_pending(None)
    assert not desk.writes.is_pending("ETHUSDT")
    desk.event(7, "CANCELED")
    desk.settle(1.0 + WAIT_S)
    assert desk.is_pending
    desk.event(8, "CANCELED")
    assert not desk.is_pending


def test_cancellation_of_all_waits_for_orders_whose_begin_is_under_way() -> None:
    desk = Desk(UM)
    desk.answered({"code": 200, "msg": "done"}, Change.ALL)
    assert desk.is_pending
    desk.settle(WAIT_S - 0.001)
    assert desk.is_pending
    desk.settle(WAIT_S)
    assert not desk.is_pending


def test_order_placed_after_all_were_cancelled_is_none_of_them() -> None:
    desk = Desk(UM)
    desk.event(7)
    desk.mono = 1.0
    desk.answered({"code": 200, "msg": "done"}, Change.ALL, took_s=0.1)
    desk.event(7, "CANCELED")
    # By the exchange's clock, which may be behind the latest it can be.
    desk.event(8, O=desk.now_ms - 50, T=desk.now_ms - 50)
    desk.settle(1.0 + WAIT_S)
    assert not desk.is_pending


def test_cancellation_of_all_conditional_orders_is_apart() -> None:
    desk = Desk(UM)
    desk.event(7)
    desk.algo_event(5)
    desk.mono = 1.0
    desk.answered({"code": 200, "msg": "done"}, Change.ALL_ALGO)
    assert not desk.is_pending
    desk.algo_event(5, "CANCELED")
    desk.settle(1.0 + WAIT_S)
    assert not desk.writes.is_pending(None, is_algo=True)


def test_countdown_makes_the_symbol_pending_when_it_has_run_out() -> None:
    desk = Desk(UM)
    desk.event(7)
    assert desk.answered(
        {"symbol": "BTCUSDT", "countdownTime": "5000"}, Change.COUNTDOWN, countdownTime="5000"
    )
    desk.settle(4.999)
    assert not desk.is_pending
    desk.settle(5.0)
    assert desk.is_pending
    desk.event(7, "CANCELED")
    desk.settle(5.0 + WAIT_S)
    assert not desk.is_pending


def test_countdown_put_off_or_ended_cancels_nothing() -> None:
    desk = Desk(UM)
    desk.event(7)
    for text in ("5000", "9000", "0"):
        assert desk.answered({"symbol": "BTCUSDT"}, Change.COUNTDOWN, countdownTime=text)
        desk.settle(desk.mono + 3.0)
    desk.settle(60.0)
    assert not desk.is_pending


def test_order_placed_after_a_countdown_had_run_out_is_none_of_those() -> None:
    desk = Desk(UM)
    desk.answered({"symbol": "BTCUSDT"}, Change.COUNTDOWN, countdownTime="1000")
    desk.mono = 1.2
    desk.orders.apply(read_event(UM, {"s": "BTCUSDT", "i": 8, "x": "NEW", "X": "NEW", "T": desk.now_ms}))
    desk.settle(1.3)
    assert desk.is_pending
    desk.settle(1.3 + WAIT_S)
    assert not desk.is_pending


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "²", "１２", "9" * 13])
def test_countdown_that_cannot_be_read_is_not_known(text: str) -> None:
    assert not Desk(UM).answered({"symbol": "BTCUSDT"}, Change.COUNTDOWN, countdownTime=text)
    assert not Desk(UM).answered({"symbol": "BTCUSDT"}, Change.COUNTDOWN, countdownTime="5", symbol="")


# --- what went wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(UNKNOWN_CODES))
@pytest.mark.parametrize("status", [400, 408, 500, 503])
def test_outcome_binance_does_not_know_is_not_known(code: int, status: int) -> None:
    assert not Desk().answered({"code": code, "msg": "?"}, status=status)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 408, 202, 204, 302])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"code":-2010}'])
def test_status_that_tells_nothing_is_not_known(status: int, body: bytes) -> None:
    for change in (Change.ORDERS, Change.ALL, Change.COUNTDOWN):
        assert not Desk().answered(body, change, status=status, countdownTime="5")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, {"code": -2010, "msg": "no"}), (400, {"code": -1013, "msg": "filter"}), (401, {"code": -2015}),
        (403, b"<html>"), (418, {"code": -1003}), (429, {"code": -1003}), (400, b""), (400, {"code": -2011}),
        (400, {"code": [1]}), (400, [1]),
    ],
)  # fmt: skip
def test_refused_call_has_done_nothing(status: int, told: object) -> None:
    desk = Desk()
    assert desk.answered(told, status=status)
    assert not desk.is_pending


@pytest.mark.parametrize(
    "told",
    [b"", b"x", b"\x00\x01sbe", {}, {"orderId": "7"}, {"symbol": 5, "orderId": 7}, [{}], 3, "ok", None,
     {"code": 200, "msg": "done"}, {"code": 0}, [placed(), {"code": -1001}], {"code": "-1001"}],
)  # fmt: skip
def test_good_answer_that_names_no_order_is_not_known(told: object) -> None:
    assert not Desk().answered(told)


def test_change_that_is_not_understood_is_not_known() -> None:
    assert not Desk().answered(placed(), Change.UNKNOWN)
    assert Desk().answered({"leverage": 5}, Change.NOTHING)


def test_event_that_does_not_come_in_two_seconds_is_overdue() -> None:
    desk = Desk()
    desk.answered(placed())
    assert not desk.writes.overdue(SUSPECT_S)
    assert desk.writes.overdue(SUSPECT_S + 0.001)
    desk.settle(1.9)
    desk.event()
    assert not desk.writes.overdue(100.0)


def test_cancellation_of_all_is_overdue_after_its_wait_too() -> None:
    desk = Desk(UM)
    desk.event(7)
    desk.answered({"code": 200}, Change.ALL)
    desk.settle(SUSPECT_S + WAIT_S)
    assert not desk.writes.overdue(desk.mono)
    assert desk.writes.overdue(desk.mono + 0.001)


def test_more_than_can_be_expected_stay_pending_until_all_is_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_EXPECTED", 3)
    desk = Desk()
    for number in range(5):
        desk.answered(placed(number))
    for number in range(5):
        desk.event(number)
    desk.settle(1.0)
    assert desk.writes.is_pending("ETHUSDT"), "which were left out is not known"
    assert desk.writes.count <= 3
    assert desk.writes.overdue(SUSPECT_S + 0.001)
    desk.writes.clear()
    assert not desk.writes.is_pending(None)


def test_values_that_are_no_numbers_do_not_count() -> None:
    desk = Desk()
    assert desk.answered(placed(price="?", executedQty=[], origQty=True))
    desk.event()
    assert not desk.is_pending


# --- many calls --------------------------------------------------------------------------------


@dataclass
class ModelOrder:
    number: int
    symbol: str
    qty: float
    price: float
    created_ms: int
    status: str = "NEW"
    done: float = 0.0


@dataclass
class Exchange:
    """Takes calls, tells events in order, and answers as Binance does. Apart from the program."""

    random: Random
    orders: dict[int, ModelOrder] = field(default_factory=dict)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    next_number: int = 1
    last_due: float = 0.0
    now: float = 0.0

    def tell(self, order: ModelOrder, execution: str, part: float = 0.0) -> None:
        # Late by up to 3 s, never out of order.
        self.last_due = max(self.last_due, self.now + self.random.choice([0.0, 0.01, 0.2, 1.0, 3.0]))
        said = {
            "s": order.symbol, "i": order.number, "x": execution, "X": order.status,
            "T": AT_MS + round(self.now * 1000), "q": str(order.qty), "p": str(order.price),
            "z": str(order.done), "l": str(part),
            "O": order.created_ms, "t": round(order.done * 1000) if part else -1,
        }  # fmt: skip
        self.events.append((self.last_due, said))

    def row(self, order: ModelOrder, status: str = "") -> dict[str, Any]:
        return {
            "symbol": order.symbol, "orderId": order.number, "status": status or order.status,
            "price": str(order.price), "origQty": str(order.qty), "executedQty": str(order.done),
            "transactTime": AT_MS + round(self.now * 1000),
        }  # fmt: skip

    def place(self, symbol: str) -> ModelOrder:
        order = ModelOrder(self.next_number, symbol, 4.0, 100.0, AT_MS + round(self.now * 1000))
        self.next_number += 1
        self.orders[order.number] = order
        self.tell(order, "NEW")
        if self.random.random() < 0.4:
            self.fill(order)
        return order

    def fill(self, order: ModelOrder) -> None:
        part = self.random.choice([1.0, order.qty - order.done])
        order.done += part
        order.status = "FILLED" if order.done == order.qty else "PARTIALLY_FILLED"
        self.tell(order, "TRADE", part)

    def end(self, order: ModelOrder) -> None:
        order.status = "CANCELED"
        self.tell(order, "CANCELED")

    def amend(self, order: ModelOrder) -> None:
        order.qty = order.qty - 0.5 if order.qty - 0.5 > order.done else order.qty + 0.25
        self.tell(order, "REPLACED")


@given(seed=st.integers(0, 2**32))
@settings(max_examples=EXAMPLES)
def test_client_never_gets_a_list_that_is_older_than_its_write(seed: int) -> None:
    random = Random(seed)
    exchange, desk = Exchange(random), Desk()
    # For each answered call: what it touched, how many events tell it, and its deadline.
    calls: list[tuple[str, int, float]] = []
    told = 0
    for _ in range(40):
        desk.mono = exchange.now = exchange.now + random.choice([0.01, 0.05, 0.5, 1.5])
        told = deliver(exchange, desk, told)
        symbol = random.choice(["BTCUSDT", "ETHUSDT"])
        do_one(exchange, symbol)(desk)
        calls.append((symbol, len(exchange.events), desk.mono + SUSPECT_S))
        told = deliver(exchange, desk, told)
        for each in ("BTCUSDT", "ETHUSDT", None):
            touching = [call for call in calls if each in (None, call[0])]
            is_waiting = any(needed > told and any(
                said["s"] == of for _, said in exchange.events[told:needed]) for of, needed, _ in touching)  # fmt: skip
            if is_waiting:
                assert desk.writes.is_pending(each), (each, told)
    while told < len(exchange.events):
        desk.mono = exchange.now = exchange.events[told][0]
        told = deliver(exchange, desk, told)
    assert not desk.writes.is_pending(None), "all has been told"


def deliver(exchange: Exchange, desk: Desk, told: int) -> int:
    while told < len(exchange.events) and exchange.events[told][0] <= exchange.now:
        desk.orders.apply(read_event(SPOT, exchange.events[told][1]))
        desk.settle()
        told += 1
    return told


def do_one(exchange: Exchange, symbol: str) -> Callable[[Desk], None]:
    """Do something at the exchange, and return what tells the desk of the answer."""
    random = exchange.random
    alive = [
        order
        for order in exchange.orders.values()
        if order.symbol == symbol and order.status in ("NEW", "PARTIALLY_FILLED")
    ]
    kind = random.choice(["place", "cancel", "amend", "replace", "batch", "cancel all"])
    if not alive or kind == "place":
        answer: object = exchange.row(exchange.place(symbol))
    elif kind == "cancel":
        exchange.end(alive[0])
        answer = exchange.row(alive[0])
    elif kind == "amend":
        exchange.amend(alive[0])
        row = exchange.row(alive[0])
        answer = {"transactTime": row.pop("transactTime"), "amendedOrder": {**row, "qty": row.pop("origQty")}}
    elif kind == "replace":
        exchange.end(alive[0])
        cancelled = exchange.row(alive[0])
        answer = {"cancelResponse": cancelled, "newOrderResponse": exchange.row(exchange.place(symbol))}
    elif kind == "batch":
        answer = [
            exchange.row(exchange.place(symbol)),
            {"code": -2010, "msg": "no"},
            exchange.row(exchange.place(symbol)),
        ]
    else:
        for order in alive:
            exchange.end(order)
        answer = [exchange.row(order) for order in alive]

    def tell(desk: Desk) -> None:
        assert desk.answered(answer, symbol=symbol)

    return tell
