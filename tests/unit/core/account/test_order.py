"""One order, and lists of them, where what is told is odd: late by less than a moment, left out, in other forms."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from resender.core.account.dialects import ALGO, SPOT, UM, BadEvent, Dialect, read_event
from resender.core.account.lore import Lore
from resender.core.account.orders import Applied, Orders

AT_MS = 1_796_000_000_000
SPOT_PATH, UM_PATH, ALGO_PATH = "/api/v3/openOrders", "/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"
DAY_MS = 86_400_000


def spot_row(number: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": number, "orderListId": -1, "clientOrderId": "mine",
        "price": "9000.00000000", "origQty": "1.00000000", "executedQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000", "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "side": "BUY",
        "stopPrice": "0.00000000", "icebergQty": "0.00000000", "time": AT_MS, "updateTime": AT_MS,
        "isWorking": True, "workingTime": AT_MS, "origQuoteOrderQty": "0.00000000",
        "selfTradePreventionMode": "NONE", **more,
    }  # fmt: skip


def spot_event(number: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "s": "BTCUSDT", "c": "mine", "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "1.00000000", "p": "9000.00000000",
        "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "", "x": "NEW", "X": "NEW", "i": number,
        "l": "0.00000000", "z": "0.00000000", "L": "0.00000000", "T": AT_MS, "t": -1, "w": True, "O": AT_MS,
        "Z": "0.00000000", "Q": "0.00000000", "W": AT_MS, "V": "NONE", **more,
    }  # fmt: skip


def um_row(number: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "orderId": number, "symbol": "BTCUSDT", "status": "NEW", "clientOrderId": "mine", "price": "9000.00",
        "avgPrice": "0.00", "origQty": "1.000", "executedQty": "0.000", "cumQuote": "0.00000",
        "timeInForce": "GTC", "type": "LIMIT", "reduceOnly": False, "closePosition": False, "side": "BUY",
        "positionSide": "BOTH", "stopPrice": "0.00", "workingType": "CONTRACT_PRICE", "priceProtect": False,
        "origType": "LIMIT", "priceMatch": "NONE", "selfTradePreventionMode": "NONE", "goodTillDate": 0,
        "time": AT_MS, "updateTime": AT_MS, **more,
    }  # fmt: skip


def um_event(number: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "s": "BTCUSDT", "c": "mine", "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "1", "p": "9000", "ap": "0",
        "sp": "0", "x": "NEW", "X": "NEW", "i": number, "l": "0", "z": "0", "L": "0", "T": AT_MS, "t": 0, "R": False,
        "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH", "cp": False, "pP": False, "V": "NONE", "pm": "NONE",
        "gtd": 0, **more,
    }  # fmt: skip


class Desk:
    """The orders of one account."""

    def __init__(self, dialect: Dialect, path: str, lore: Lore | None = None) -> None:
        self.dialect, self.path = dialect, path
        self.lore = lore or Lore(dialect)
        self.orders = Orders(dialect, self.lore, keep_ms=DAY_MS)

    def event(self, said: dict[str, Any], event_ms: int | None = None) -> Applied:
        return self.orders.apply(read_event(self.dialect, said, event_ms))

    def merge(self, *rows: dict[str, Any], symbol: str | None = None, at_ms: int = AT_MS + 10) -> list[str]:
        return self.orders.merge(self.path, rows, symbol, at_ms).differences

    def listed(self, symbol: str | None = None) -> list[dict[str, Any]] | None:
        body = self.orders.listed(self.path, symbol)
        return None if body is None else list(orjson.loads(body))

    def found(self, path: str, number: int = 7) -> dict[str, Any] | None:
        held = self.orders.find("BTCUSDT", number, None)
        body = None if held is None else held.row(path, self.lore)
        return None if body is None else dict(orjson.loads(body))


def spot() -> Desk:
    desk = Desk(SPOT, SPOT_PATH)
    desk.merge(at_ms=AT_MS - 10)
    return desk


def um() -> Desk:
    """Orders of futures of which every field has agreed with REST once."""
    desk = Desk(UM, UM_PATH)
    desk.merge(at_ms=AT_MS - 20_000)
    for number in (1, 2):
        desk.event(um_event(number, T=AT_MS - 19_000))
    filled: dict[str, Any] = {"X": "PARTIALLY_FILLED", "z": "0.5", "ap": "9000"}
    desk.event(um_event(2, T=AT_MS - 18_000, x="TRADE", l="0.5", L="9000", t=1, **filled))
    assert desk.merge(
        um_row(1, time=AT_MS - 19_000, updateTime=AT_MS - 19_000),
        um_row(2, time=AT_MS - 19_000, updateTime=AT_MS - 18_000, status="PARTIALLY_FILLED", executedQty="0.500",
               avgPrice="9000.00", cumQuote="4500.00000"),
        at_ms=AT_MS - 17_000,
    ) == []  # fmt: skip
    for number, done in ((1, "0"), (2, "0.5")):
        desk.event(um_event(number, T=AT_MS - 16_000, x="CANCELED", X="CANCELED", z=done))
    assert desk.listed() == []
    return desk


# --- the row -----------------------------------------------------------------------------------


def test_order_of_spot_is_told_out_of_its_event_alone() -> None:
    desk = spot()
    desk.event(spot_event())
    assert desk.listed() == [spot_row()]


def test_order_of_futures_is_told_out_of_its_events_once_all_fields_have_agreed() -> None:
    desk = um()
    desk.event(um_event(x="NEW"))
    assert desk.listed() == [um_row()]
    desk.event(
        um_event(T=AT_MS + 1, x="TRADE", X="PARTIALLY_FILLED", l="0.25", z="0.25", L="9000", ap="9000", t=4)
    )
    desk.event(
        um_event(T=AT_MS + 2, x="TRADE", X="PARTIALLY_FILLED", l="0.5", z="0.75", L="9003", ap="9002", t=5)
    )
    assert desk.listed() == [
        um_row(status="PARTIALLY_FILLED", executedQty="0.750", avgPrice="9002.00", cumQuote="6751.50000",
               updateTime=AT_MS + 2)
    ]  # fmt: skip


def test_order_of_futures_is_not_told_before_that() -> None:
    desk = Desk(UM, UM_PATH)
    desk.merge(um_row(1), at_ms=AT_MS)
    desk.event(um_event())
    assert desk.listed() is None


def test_row_of_rest_is_told_as_it_is_whatever_fields_it_has() -> None:
    desk = um()
    rows = [um_row(7), um_row(8, newField=1), {**um_row(9), "price": 9000}]
    del rows[2]["goodTillDate"]
    desk.merge(*rows)
    assert desk.listed() == rows
    desk.event(um_event(10, T=AT_MS + 1))
    assert desk.listed() is None, "which of these fields has an order that REST did not show?"


def test_changed_row_keeps_its_own_fields() -> None:
    desk = um()
    desk.merge(um_row(7), um_row(8, newField=1))
    desk.event(um_event(7, T=AT_MS + 1, x="AMENDMENT", q="2"))
    assert desk.listed() == [um_row(7, origQty="2.000", updateTime=AT_MS + 1), um_row(8, newField=1)]
    desk.event(um_event(8, T=AT_MS + 1, x="AMENDMENT", q="2"))
    assert desk.listed() is None, "no event tells the new field"


def test_number_that_comes_as_no_text_is_not_written() -> None:
    desk = um()
    desk.event(um_event(p=9000))
    assert desk.listed() is None
    desk.merge(um_row())
    desk.event(um_event(T=AT_MS + 1, x="AMENDMENT", p=9000, q="2"))
    assert desk.listed() == [um_row(origQty="2.000", updateTime=AT_MS + 1)], (
        "it has not changed: nor has its text"
    )


def test_field_that_only_an_earlier_event_told_makes_no_row() -> None:
    desk = spot()
    desk.merge(spot_row(1, preventedMatchId=1, preventedQuantity="0.10000000"))
    desk.event(spot_event(2))
    changed = {"x": "TRADE_PREVENTION", "v": 1, "A": "0.10000000", "T": AT_MS + 20}
    desk.event(spot_event(2, **changed))
    expected = spot_row(2, updateTime=AT_MS + 20, preventedMatchId=1, preventedQuantity="0.10000000")
    assert desk.listed() == [spot_row(1, preventedMatchId=1, preventedQuantity="0.10000000"), expected]
    fill: dict[str, Any] = {
        "x": "TRADE", "X": "PARTIALLY_FILLED", "l": "0.50000000", "z": "0.50000000", "Z": "4500.00000000",
        "T": AT_MS + 30, "t": 1,
    }  # fmt: skip
    desk.event(spot_event(2, **fill))
    assert desk.listed() is None, "REST may show it on"
    full = {**expected, "status": "PARTIALLY_FILLED", "executedQty": "0.50000000",
            "cummulativeQuoteQty": "4500.00000000", "updateTime": AT_MS + 30}  # fmt: skip
    desk.merge(spot_row(1, preventedMatchId=1, preventedQuantity="0.10000000"), full, at_ms=AT_MS + 40)
    assert desk.listed() == [spot_row(1, preventedMatchId=1, preventedQuantity="0.10000000"), full]


def test_second_prevention_of_one_millisecond_is_not_the_first() -> None:
    desk = spot()
    desk.merge(spot_row(1, preventedMatchId=1, preventedQuantity="0.10000000"))
    desk.event(spot_event(2))
    for part in ("0.10000000", "0.20000000"):
        desk.event(spot_event(2, x="TRADE_PREVENTION", v=1, A=part, T=AT_MS + 20))
    listed = desk.listed()
    assert listed is not None
    assert listed[1]["preventedQuantity"] == "0.20000000"


@pytest.mark.parametrize("more", [{"d": 100, "D": -1}, {"gP": "PRIMARY_PEG", "gp": "9000.00000000"}])
def test_trailing_and_pegged_orders_are_never_told_even_if_only_one_event_said_so(
    more: dict[str, Any],
) -> None:
    desk = spot()
    desk.event(spot_event(**more))
    assert desk.listed() is None
    desk.event(spot_event(x="REPLACED", q="0.5", T=AT_MS + 1))
    held = desk.orders.open["BTCUSDT", 7]
    assert held.is_moving
    assert desk.listed() is None


def test_rejected_order_is_not_told() -> None:
    desk = spot()
    desk.lore.compare_working({"last": False, "open": True, "true": True}, False)
    assert desk.event(spot_event(x="REJECTED", X="REJECTED", w=False)) is Applied.CHANGED
    assert desk.listed() == []
    assert desk.found("/api/v3/order") is None


def test_ended_order_of_spot_is_told_once_is_working_is_certain() -> None:
    desk = spot()
    desk.event(spot_event())
    desk.event(spot_event(T=AT_MS + 5, x="CANCELED", X="CANCELED", C="mine", c="x", w=False))
    assert desk.found("/api/v3/order") is None
    row = spot_row(status="CANCELED", updateTime=AT_MS + 5)
    desk.orders.see("/api/v3/order", row, AT_MS + 9)
    assert desk.found("/api/v3/order") == row
    desk.event(spot_event(8))
    desk.event(spot_event(8, T=AT_MS + 6, x="CANCELED", X="CANCELED", w=False))
    assert desk.found("/api/v3/order", 8) == {**row, "orderId": 8, "updateTime": AT_MS + 6}


def test_time_of_work_of_an_order_seen_only_to_end_is_not_told() -> None:
    desk = Desk(SPOT, SPOT_PATH)
    desk.lore.compare_working({"last": False, "open": None, "true": True}, True)
    ended: dict[str, Any] = {
        "x": "TRADE",
        "X": "FILLED",
        "l": "1.00000000",
        "z": "1.00000000",
        "w": False,
        "t": 4,
    }
    said = spot_event(T=AT_MS + 5, **ended)
    del said["W"]
    desk.event(said)
    assert desk.found("/api/v3/order") is None, "it was on the book, nobody saw since when"
    desk.event(spot_event(8))
    later = spot_event(8, T=AT_MS + 5, **ended)
    del later["W"]
    desk.event(later)
    found = desk.found("/api/v3/order", 8)
    assert found is not None
    assert found["workingTime"] == AT_MS


def test_order_that_waits_does_not_work_since_any_time() -> None:
    desk = spot()
    waiting = spot_event(o="STOP_LOSS_LIMIT", P="9500.00000000", w=False)
    del waiting["W"]
    desk.event(waiting)
    row = spot_row(type="STOP_LOSS_LIMIT", stopPrice="9500.00000000", isWorking=False, workingTime=-1)
    assert desk.listed() == [row]
    desk.event({**waiting, "x": "CANCELED", "X": "CANCELED", "T": AT_MS + 5})
    desk.lore.compare_working({"last": False, "open": False, "true": True}, False)
    found = desk.found("/api/v3/order")
    assert found is not None
    assert found["workingTime"] == -1


def test_order_that_may_have_begun_to_work_unseen_is_not_told() -> None:
    desk = spot()
    desk.lore.compare_working({"last": False, "open": True, "true": False}, False)
    waiting = spot_event(o="STOP_LOSS_LIMIT", P="9500.00000000", w=False)
    del waiting["W"]
    desk.event(waiting)
    desk.orders.unsettle()
    desk.event({**waiting, "x": "CANCELED", "X": "CANCELED", "T": AT_MS + 5})
    assert desk.found("/api/v3/order") is None


def test_row_tells_nothing_of_how_rest_writes_what_nobody_saw() -> None:
    desk = spot()
    desk.merge(spot_row(isWorking=False, workingTime=-1))
    desk.event(spot_event(T=AT_MS + 5, x="CANCELED", X="CANCELED", w=False))
    ended = spot_row(status="CANCELED", updateTime=AT_MS + 5)
    desk.orders.see("/api/v3/order", ended, AT_MS + 9)
    assert desk.lore.working == {"open", "true"}


# --- fills -------------------------------------------------------------------------------------


def fill(total: str, last: str, at_ms: int, number: int = 7, price: str = "9000") -> dict[str, Any]:
    return um_event(
        number, T=at_ms, x="TRADE", X="PARTIALLY_FILLED", l=last, z=total, L=price, ap="9000", t=at_ms
    )


def test_what_fills_were_worth_is_not_told_if_one_in_between_was_missed() -> None:
    desk = um()
    desk.orders.unsettle()
    desk.event(fill("0.5", "0.1", AT_MS + 30))
    older = um_row(executedQty="0.200", status="PARTIALLY_FILLED", cumQuote="1800.00000", avgPrice="9000.00",
                   updateTime=AT_MS + 10)  # fmt: skip
    desk.merge(older, at_ms=AT_MS + 40)
    assert desk.listed() is None, "0.2 in between are worth nobody knows what"
    newer = {**older, "executedQty": "0.400", "cumQuote": "3601.00000", "updateTime": AT_MS + 20}
    desk.merge(newer, at_ms=AT_MS + 40)
    told = {**newer, "executedQty": "0.500", "cumQuote": "4501.00000", "updateTime": AT_MS + 30}
    assert desk.listed() == [told]
    desk.merge(older, at_ms=AT_MS + 50)
    assert desk.listed() == [told], "an older row takes nothing away"


def test_what_fills_were_worth_needs_the_worth_of_those_before() -> None:
    desk = um()
    row = um_row(status="PARTIALLY_FILLED", executedQty="0.100", avgPrice="9000.00")
    del row["cumQuote"]
    desk.orders.merge("/fapi/v1/other", [row], None, AT_MS + 10)
    desk.event(fill("0.3", "0.2", AT_MS + 20))
    assert desk.listed() is None


def test_worth_of_fills_is_not_rounded() -> None:
    desk = um()
    desk.event(um_event(q="987654321987654321.125"))
    desk.event(fill("987654321987654321.125", "987654321987654321.125", AT_MS + 5, price="123456789.12345"))
    held = desk.orders.open["BTCUSDT", 7]
    cents = 987654321987654321125 * 12345678912345
    assert held._quote() == f"{cents // 10**8}.{cents % 10**8:08d}"


@pytest.mark.parametrize("is_again", [False, True])
def test_hundreds_of_fills_of_one_millisecond_add_up(is_again: bool) -> None:
    desk = um()
    desk.event(um_event(q="300"))
    for number in range(1, 251):
        said = fill(str(number), "1", AT_MS + 5) | {"t": number, "q": "300"}
        assert desk.event(said) is Applied.CHANGED
        if is_again:
            assert desk.event(said) is Applied.DOUBLE
    listed = desk.listed()
    assert listed is not None
    assert (listed[0]["executedQty"], listed[0]["cumQuote"]) == ("250.000", "2250000.00000")


# --- one millisecond ---------------------------------------------------------------------------


def test_row_of_the_same_millisecond_does_not_undo_what_an_event_told() -> None:
    """A waiting order comes to life within the millisecond of its placing; REST still shows it waiting."""
    desk = spot()
    desk.lore.learn_pending(True)
    waiting = spot_event(X="PENDING_NEW", w=False)
    del waiting["W"]
    desk.event(waiting)
    desk.event(spot_event())
    assert desk.merge(spot_row(status="PENDING_NEW", isWorking=False, workingTime=-1)) == []
    assert desk.listed() == [spot_row()]
    assert desk.lore.refuted == set()
    assert desk.event(waiting) is Applied.DOUBLE


def test_event_of_the_same_millisecond_is_not_taken_for_known_because_of_an_older_row() -> None:
    desk = spot()
    desk.lore.learn_pending(True)
    desk.merge(spot_row(status="PENDING_NEW", isWorking=False, workingTime=-1))
    assert desk.event(spot_event()) is Applied.CHANGED
    assert desk.listed() == [spot_row()]


def test_row_of_before_an_amendment_of_the_same_millisecond_is_older() -> None:
    desk = um()
    desk.event(um_event())
    desk.event(um_event(x="AMENDMENT", q="2"))
    assert desk.merge(um_row()) == []
    assert desk.listed() == [um_row(origQty="2.000")]
    assert desk.lore.refuted == set()
    assert desk.merge(um_row(origQty="2.000")) == []
    desk.orders.see(UM_PATH, um_row(), AT_MS)
    desk.merge(um_row())
    assert desk.listed() == [um_row(origQty="2.000")]


def test_row_with_less_prevented_is_older_although_events_do_not_repeat_it() -> None:
    desk = spot()
    prevented = {"preventedMatchId": 2, "preventedQuantity": "0.50000000"}
    desk.merge(spot_row(**prevented))  # ahead of both events
    assert desk.event(spot_event()) is Applied.DOUBLE
    assert desk.orders.is_doubted(None), "the event of the prevention is still to come"
    assert desk.event(spot_event(x="TRADE_PREVENTION", v=2, A="0.50000000")) is Applied.DOUBLE
    assert not desk.orders.is_doubted(None)
    assert desk.merge(spot_row()) == []  # of before it, by REST that is behind
    assert desk.listed() == [spot_row(**prevented)]


def test_row_of_before_a_change_is_older_although_the_change_is_seen_after_a_gap() -> None:
    desk = spot()
    first = {"preventedMatchId": 1, "preventedQuantity": "0.25000000"}
    desk.merge(spot_row(**first, updateTime=AT_MS - 9), at_ms=AT_MS - 5)
    desk.orders.unsettle()
    filled: dict[str, Any] = {"X": "PARTIALLY_FILLED", "z": "0.12500000", "Z": "1125.00000000"}
    desk.event(spot_event(x="TRADE", l="0.12500000", t=3, **filled))
    desk.event(spot_event(x="TRADE_PREVENTION", v=2, A="0.50000000", **filled))
    row = spot_row(status="PARTIALLY_FILLED", executedQty="0.12500000", cummulativeQuoteQty="1125.00000000")
    last = {**row, "preventedMatchId": 2, "preventedQuantity": "0.50000000"}
    desk.merge(last)
    desk.merge({**row, **first})
    assert desk.listed() == [last]


def test_event_of_before_a_row_of_its_millisecond_does_not_work_since_that_row() -> None:
    """A stop is placed and triggered within a millisecond; REST shows it working before any event has come."""
    desk = spot()
    desk.merge(spot_row())
    placed = spot_event(w=False)
    del placed["W"]
    assert desk.event(placed) is Applied.CHANGED
    assert desk.listed() == [spot_row(isWorking=False, workingTime=-1)]
    desk.event(spot_event())
    assert desk.listed() == [spot_row()]


def test_order_with_an_event_that_did_not_fit_is_not_told() -> None:
    desk = spot()
    desk.merge()
    desk.event(spot_event())
    desk.event(spot_event(x="CANCELED", X="CANCELED", T=AT_MS + 20, w=False))
    desk.lore.compare_working({"last": True, "open": False, "true": True}, False)
    assert desk.event(spot_event(x="TRADE_PREVENTION", v=1, A="0.5", T=AT_MS + 10)) is Applied.MISFIT
    assert desk.found("/api/v3/order") is None


def test_amendment_that_a_row_holds_with_later_fills_is_known() -> None:
    desk = um()
    desk.merge(um_row(origQty="2.000", executedQty="0.500", status="PARTIALLY_FILLED", avgPrice="9000.00",
                      cumQuote="4500.00000"))  # fmt: skip
    assert desk.event(um_event(x="AMENDMENT", q="2")) is Applied.DOUBLE
    assert desk.event(um_event(x="TRADE", X="PARTIALLY_FILLED", q="2", l="0.5", z="0.5")) is Applied.DOUBLE


def test_row_that_is_newer_than_the_events_is_taken_and_they_are_known_then() -> None:
    desk = spot()
    desk.event(spot_event())
    row = spot_row(executedQty="0.25000000", cummulativeQuoteQty="2250.00000000", status="PARTIALLY_FILLED",
                   updateTime=AT_MS + 8)  # fmt: skip
    assert desk.merge(row) == []
    told: dict[str, Any] = {"x": "TRADE", "X": "PARTIALLY_FILLED", "z": "0.25000000", "l": "0.25000000", "t": 3,
                            "T": AT_MS + 8, "Z": "2250.00000000"}  # fmt: skip
    assert desk.event(spot_event(**told)) is Applied.DOUBLE
    assert desk.listed() == [row]
    assert desk.event(spot_event(T=AT_MS + 8, x="CANCELED", X="CANCELED", z="0.25000000")) is Applied.CHANGED
    assert desk.listed() == []
    assert desk.merge(row) == []
    assert desk.listed() == [], "a late row does not bring it back"


def test_change_no_event_told_of_is_a_difference_when_it_is_old() -> None:
    desk = spot()
    desk.event(spot_event())
    row = spot_row(origQty="0.50000000", updateTime=AT_MS + 8)
    assert desk.merge(row, at_ms=AT_MS + 5009) == ["a change of which no event told"]
    assert desk.merge(row, spot_row(9), at_ms=AT_MS + 5009) == ["an open order of which no event told"]
    desk.event(spot_event(9, T=AT_MS + 20, x="CANCELED", X="CANCELED"))
    assert desk.merge(row, spot_row(9, updateTime=AT_MS + 21), at_ms=AT_MS + 30) == [
        "an order that had ended is open"
    ]


# --- snapshots that are odd --------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"status": "FILLED"}, {"status": "NEW_INSURANCE"}, {"status": None}, {"updateTime": AT_MS * 1000},
        {"time": AT_MS * 1000}, {"time": str(AT_MS)}, {"time": None}, {"updateTime": str(AT_MS)}, {"price": "1e9999"},
        {"orderId": 6},
    ],
    ids=str,
)  # fmt: skip
def test_snapshot_with_a_row_that_is_not_understood_is_not_taken(bad: dict[str, Any]) -> None:
    desk = spot()
    with pytest.raises(BadEvent):
        desk.merge(spot_row(6), spot_row(7, **bad))
    assert desk.orders.open == {}


@pytest.mark.parametrize(
    "bad", [{"updateTime": AT_MS * 1000}, {"time": AT_MS * 1000}, {"origQty": "x"}], ids=str
)
def test_row_of_one_order_that_is_not_understood_is_not_taken(bad: dict[str, Any]) -> None:
    """A client may have asked for microseconds: others have not."""
    desk = spot()
    desk.event(spot_event())
    with pytest.raises(BadEvent):
        desk.orders.see("/api/v3/order", spot_row(**bad), AT_MS)
    assert desk.listed() == [spot_row()]
    assert desk.lore.refuted == set()


def test_symbol_nobody_has_heard_of_is_not_answered() -> None:
    """REST answers an error if there is no such symbol."""
    desk = spot()
    desk.merge(at_ms=AT_MS)
    assert desk.listed("FOOBAR") is None
    assert desk.listed() == []
    desk.merge(symbol="ETHUSDT", at_ms=AT_MS)
    assert desk.listed("ETHUSDT") == []
    desk.event(spot_event())
    desk.event(spot_event(T=AT_MS + 5, x="CANCELED", X="CANCELED"))
    desk.orders.unsettle()
    desk.merge(at_ms=AT_MS + 10)
    assert desk.listed("BTCUSDT") == []


def test_same_number_on_two_symbols_is_listed_twice() -> None:
    desk = spot()
    desk.event(spot_event())
    desk.event(spot_event(s="ETHUSDT", O=AT_MS + 1, T=AT_MS + 1, W=AT_MS + 1))
    later = {"time": AT_MS + 1, "updateTime": AT_MS + 1, "workingTime": AT_MS + 1}
    assert desk.listed() == [spot_row(), spot_row(symbol="ETHUSDT", **later)]
    desk.event(spot_event(T=AT_MS + 5, x="CANCELED", X="CANCELED"))
    assert desk.listed() == [spot_row(symbol="ETHUSDT", **later)]
    assert desk.listed("BTCUSDT") == []


def test_symbol_of_any_script_is_written_as_it_is() -> None:
    desk = spot()
    desk.event(spot_event(s="币安人生USDT"))
    body = desk.orders.listed(SPOT_PATH, "币安人生USDT")
    assert body is not None
    assert '"symbol":"币安人生USDT"'.encode() in body


# --- the order of rows -------------------------------------------------------------------------


def rows_of(*places: tuple[int, str, int]) -> list[dict[str, Any]]:
    return [
        spot_row(number, symbol=symbol, time=AT_MS + at, updateTime=AT_MS + at, workingTime=AT_MS + at)
        for number, symbol, at in places
    ]


@pytest.mark.parametrize(
    ("shown", "then"),
    [
        ([(9, "B", 1), (5, "A", 2)], [(9, "B", 1), (5, "A", 2), (7, "A", 3)]),
        ([(5, "B", 2), (9, "A", 1)], [(5, "B", 2), (7, "A", 3), (9, "A", 1)]),
        ([(9, "A", 1), (5, "A", 2), (3, "B", 0)], [(9, "A", 1), (5, "A", 2), (7, "A", 3), (3, "B", 0)]),
    ],
    ids=["time", "number", "symbol"],
)
def test_order_of_rows_is_learned(
    shown: list[tuple[int, str, int]], then: list[tuple[int, str, int]]
) -> None:
    desk = spot()
    assert desk.merge(*rows_of(*shown)) == []
    desk.event(spot_event(7, s="A", T=AT_MS + 3, O=AT_MS + 3, W=AT_MS + 3))
    assert desk.listed() == rows_of(*then)


def test_rows_sorted_by_nothing_that_is_known_are_not_answered_but_alone() -> None:
    desk = spot()
    shown = rows_of((9, "A", 3), (3, "B", 1), (5, "A", 2))
    assert desk.merge(*shown) == []
    assert desk.listed() is None
    assert desk.listed("B") == shown[1:2]
    desk.orders.unsettle()
    desk.merge(*rows_of((3, "A", 1), (5, "B", 2)))
    assert desk.listed() == rows_of((3, "A", 1), (5, "B", 2)), "a new beginning"


def test_orders_of_one_millisecond_in_any_order_teach_nothing() -> None:
    desk = spot()
    for shown in ([(9, "A", 1), (3, "B", 1)], [(3, "B", 1), (9, "A", 1)]):
        assert desk.merge(*rows_of(*shown)) == []
    desk.event(spot_event(7, s="C", T=AT_MS + 3, O=AT_MS + 3, W=AT_MS + 3))
    listed = desk.listed()
    assert listed is not None
    assert listed[2]["orderId"] == 7


# --- waiting orders ----------------------------------------------------------------------------


def waiting_list(desk: Desk) -> tuple[dict[str, Any], dict[str, Any]]:
    waiting = spot_event(8, X="PENDING_NEW", w=False, g=3)
    del waiting["W"]
    desk.event(spot_event(7, g=3))
    desk.event(waiting)
    return spot_row(7, orderListId=3), spot_row(
        8, orderListId=3, status="PENDING_NEW", isWorking=False, workingTime=-1
    )


def test_waiting_order_whose_end_is_under_way_does_not_teach_that_none_are_listed() -> None:
    desk = spot()
    waiting_list(desk)
    desk.merge(at_ms=AT_MS + 70_000)
    assert desk.lore.lists_pending is None
    assert desk.orders.is_doubted(None)
    for number in (7, 8):
        desk.event(spot_event(number, g=3, T=AT_MS + 69_999, x="CANCELED", X="CANCELED", w=False))
    assert desk.listed() == []
    assert not desk.orders.is_doubted(None)


def test_what_one_account_shows_of_waiting_orders_counts_for_others_at_once() -> None:
    lore = Lore(SPOT)
    one, other = Desk(SPOT, SPOT_PATH, lore), Desk(SPOT, SPOT_PATH, lore)
    for desk in (one, other):
        desk.merge(at_ms=AT_MS - 10)
        working, waiting = waiting_list(desk)
    one.merge(working, at_ms=AT_MS + 60_001)
    assert other.listed() == [working]
    one.merge(working, waiting, at_ms=AT_MS + 60_002)
    assert other.listed() == [working, waiting]


# --- many, and other kinds ---------------------------------------------------------------------


def test_ten_thousand_orders_are_listed_found_and_ended_in_time() -> None:
    desk = spot()
    begun = time.perf_counter()
    for number in range(10_000):
        desk.event(spot_event(number, c=f"c{number}", T=AT_MS + number, O=AT_MS + number, W=AT_MS + number))
    listed = desk.listed()
    assert listed is not None
    assert [row["orderId"] for row in listed] == list(range(10_000))
    assert desk.merge(*listed, at_ms=AT_MS + 10_000) == []
    assert desk.listed() == listed
    held = desk.orders.find("BTCUSDT", None, "c777")
    assert held is desk.orders.open["BTCUSDT", 777]
    for number in range(10_000):
        desk.event(spot_event(number, T=AT_MS + 20_000, x="CANCELED", X="CANCELED"))
    assert desk.listed() == []
    assert len(desk.orders.ended) == 5000
    assert time.perf_counter() - begun < 15


def test_order_told_more_often_than_is_remembered_is_unproven_rather_than_wrong() -> None:
    desk = um()
    desk.event(um_event(q="300"))
    told = [fill(str(number), "1", AT_MS + number) | {"q": "300"} for number in range(1, 101)]
    for said in told:
        desk.event(said)
    assert desk.event(told[0]) is Applied.MISFIT
    listed = desk.listed()
    assert listed is not None
    assert listed[0]["executedQty"] == "100.000", "what is known is newer"


def algo_event(**more: Any) -> dict[str, Any]:
    return {
        "aid": 5, "caid": "a", "at": "CONDITIONAL", "o": "STOP", "s": "BTCUSDT", "S": "BUY", "ps": "BOTH",
        "f": "GTC", "q": "1", "X": "NEW", "ai": "", "ap": "0", "tp": "9500", "p": "9600", "V": "NONE",
        "wt": "CONTRACT_PRICE", "pm": "NONE", "cp": False, "pP": False, "R": False, "tt": 0, "gtd": 0, **more,
    }  # fmt: skip


def algo_row(**more: Any) -> dict[str, Any]:
    return {
        "algoId": 5, "clientAlgoId": "a", "algoType": "CONDITIONAL", "orderType": "STOP", "symbol": "BTCUSDT",
        "side": "BUY", "positionSide": "BOTH", "timeInForce": "GTC", "quantity": "1", "algoStatus": "NEW",
        "actualOrderId": "", "actualPrice": "0", "triggerPrice": "9500", "price": "9600", "icebergQuantity": None,
        "selfTradePreventionMode": "NONE", "workingType": "CONTRACT_PRICE", "priceMatch": "NONE",
        "closePosition": False, "priceProtect": False, "reduceOnly": False, "createTime": AT_MS,
        "updateTime": AT_MS, "triggerTime": 0, "goodTillDate": 0, **more,
    }  # fmt: skip


def test_conditional_order_is_told_when_rest_has_shown_what_no_event_tells() -> None:
    desk = Desk(ALGO, ALGO_PATH)
    desk.merge(at_ms=AT_MS - 10)
    desk.event(algo_event(), AT_MS)
    assert desk.listed() is None
    desk.merge(algo_row())
    assert desk.listed() == [algo_row()]
    desk.event(algo_event(X="TRIGGERING"), AT_MS + 20)
    assert desk.listed() is None, "nobody knows how REST shows that moment"
    desk.event(algo_event(X="TRIGGERED", ai="77"), AT_MS + 21)
    assert desk.listed() == []
    assert desk.event(algo_event(X="FINISHED", ai="77"), AT_MS + 90) is Applied.CHANGED
    assert desk.event(algo_event(X="FINISHED", ai="77"), AT_MS + 90) is Applied.DOUBLE
    assert desk.event(algo_event(X="NEW"), AT_MS + 91) is Applied.MISFIT


def test_people_are_told_what_is_known() -> None:
    desk = um()
    desk.event(um_event())
    desk.event(um_event(8, T=AT_MS + 5))
    desk.event(um_event(8, T=AT_MS + 6, x="CANCELED", X="CANCELED"))
    assert [row["orderId"] for row in desk.orders.known()] == [7]
    assert desk.orders.known()[0]["time"] == AT_MS
    assert desk.orders.known(is_ended=True)[0]["orderId"] == 8
    assert desk.orders.known("ETHUSDT") == []
