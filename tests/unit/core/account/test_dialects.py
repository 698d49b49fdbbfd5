"""Events of orders as each market writes them, and what cannot be read as one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.account.dialects import (
    ALGO,
    CM,
    SPOT,
    UM,
    BadEvent,
    Dialect,
    moment_ms,
    number,
    pair_of,
    read_event,
    whole,
)

AT_MS = 1_796_000_000_000


def spot(**more: Any) -> dict[str, Any]:
    return {
        "e": "executionReport", "E": AT_MS + 1, "s": "BTCUSDT", "c": "mine", "S": "BUY", "o": "LIMIT", "f": "GTC",
        "q": "1.00000000", "p": "9000.00000000", "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "",
        "x": "NEW", "X": "NEW", "r": "NONE", "i": 7, "l": "0.00000000", "z": "0.00000000", "L": "0.00000000",
        "n": "0", "N": None, "T": AT_MS, "t": -1, "w": True, "m": False, "O": AT_MS - 5, "Z": "0.00000000",
        "Y": "0.00000000", "Q": "0.00000000", "W": AT_MS - 5, "V": "NONE", **more,
    }  # fmt: skip


def futures(**more: Any) -> dict[str, Any]:
    return {
        "s": "BTCUSDT", "c": "mine", "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "1", "p": "9000", "ap": "0",
        "sp": "0", "x": "NEW", "X": "NEW", "i": 7, "l": "0", "z": "0", "L": "0", "T": AT_MS, "t": 0, "R": False,
        "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH", "cp": False, "pP": False, "V": "NONE",
        "pm": "NONE", "gtd": 0, **more,
    }  # fmt: skip


def test_event_of_spot_tells_each_field_by_the_name_rest_has_for_it() -> None:
    event = read_event(SPOT, spot())
    assert (event.key, event.execution, event.status) == (("BTCUSDT", 7), "NEW", "NEW")
    assert (event.time_ms, event.executed, event.trade_id) == (AT_MS, 0, -1)
    assert event.is_open
    assert event.is_first
    assert not event.is_fill
    assert event.values == {
        "symbol": "BTCUSDT", "orderId": 7, "orderListId": -1, "clientOrderId": "mine", "price": "9000.00000000",
        "origQty": "1.00000000", "executedQty": "0.00000000", "cummulativeQuoteQty": "0.00000000",
        "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "side": "BUY", "stopPrice": "0.00000000",
        "icebergQty": "0.00000000", "time": AT_MS - 5, "isWorking": True, "origQuoteOrderQty": "0.00000000",
        "selfTradePreventionMode": "NONE", "updateTime": AT_MS, "workingTime": AT_MS - 5,
    }  # fmt: skip
    assert set(SPOT.documented) == set(event.values)


def test_event_of_futures_tells_each_field_by_the_name_rest_has_for_it() -> None:
    event = read_event(
        UM, futures(X="PARTIALLY_FILLED", x="TRADE", l="0.25", z="0.5", L="9001.5", t=3, ap="9001")
    )
    assert event.is_fill
    assert not event.is_first
    assert (event.last, event.last_quote, event.executed) == (
        Decimal("0.25"), Decimal("2250.375"), Decimal("0.5"),
    )  # fmt: skip
    assert event.trade_id == 3
    assert event.values["avgPrice"] == "9001"
    assert event.values["origType"] == "LIMIT"
    assert "time" not in event.values, "no event of futures tells when an order was placed"
    assert "activatePrice" not in event.values


def test_event_of_a_conditional_order_takes_its_time_from_the_envelope() -> None:
    said = {"aid": 5, "caid": "a", "s": "BTCUSDT", "X": "NEW", "q": "0.1", "tp": "7000", "p": "0"}
    event = read_event(ALGO, said, AT_MS)
    assert (event.key, event.execution, event.is_first) == (("BTCUSDT", 5), "NEW", True)
    assert event.values["updateTime"] == AT_MS
    with pytest.raises(BadEvent):
        read_event(ALGO, said)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"x": "CANCELED", "X": "CANCELED", "c": "of the request", "C": "mine"}, "mine"),
        ({"x": "CANCELED", "X": "CANCELED", "c": "mine", "C": ""}, "mine"),
        ({"x": "REPLACED", "c": "new", "C": "old"}, "new"),
        ({"x": "EXPIRED", "X": "EXPIRED", "c": "mine", "C": "other"}, "mine"),
    ],
)
def test_client_id_is_the_orders_own_and_not_that_of_its_cancellation(
    given: dict[str, Any], name: str
) -> None:
    assert read_event(SPOT, spot(**given)).values["clientOrderId"] == name


def test_fields_only_some_orders_have_are_told_only_of_those() -> None:
    plain = read_event(SPOT, spot()).values
    rich = read_event(SPOT, spot(j=1, J=1_000_000, A="0.5", v=3, uS=True, gP="", d=None)).values
    assert rich.keys() - plain.keys() == {
        "strategyId", "strategyType", "preventedQuantity", "preventedMatchId", "usedSor",
    }  # fmt: skip


def test_time_as_text_or_in_microseconds_is_read() -> None:
    event = read_event(SPOT, spot(T=str(AT_MS), O=AT_MS * 1000, W=str(AT_MS * 1000 + 999)))
    assert event.time_ms == AT_MS
    assert event.values["time"] == AT_MS
    assert event.values["workingTime"] == AT_MS, "a row holds times as numbers of milliseconds"
    assert event.values["updateTime"] == AT_MS


@pytest.mark.parametrize(
    "bad",
    [
        {"s": ""}, {"s": None}, {"s": 5}, {"X": None}, {"X": ""}, {"X": "new"}, {"X": "NEW_INSURANCE"},
        {"X": "PENDING_CANCEL"}, {"X": ["NEW"]}, {"i": "7"}, {"i": None}, {"i": 7.0}, {"i": True}, {"T": "x"},
        {"T": -1}, {"T": None}, {"T": 1.5}, {"T": True}, {"T": "１７９６"}, {"z": "x"}, {"z": "NaN"},
        {"z": "-Infinity"},
        {"l": [1]}, {"L": "1,5"}, {"q": "a"}, {"p": {}}, {"p": "1e99999999"}, {"p": "1E-99999999"}, {"P": "１"},
        {"Z": "0x1"}, {"O": "then"}, {"O": None}, {"W": "x"}, {"q": "1_000"},
    ],
    ids=str,
)  # fmt: skip
def test_event_that_cannot_be_read_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadEvent):
        read_event(SPOT, spot(**bad))


@pytest.mark.parametrize(
    "bad", [{"i": "7"}, {"ap": "?"}, {"sp": "NaN"}, {"q": True}, {"X": "NEW_ADL"}], ids=str
)
@pytest.mark.parametrize("dialect", [UM, CM], ids=lambda dialect: str(dialect.name))
def test_event_of_futures_that_cannot_be_read_is_refused(dialect: Dialect, bad: dict[str, Any]) -> None:
    with pytest.raises(BadEvent):
        read_event(dialect, futures(**bad))


def test_events_that_tell_something_else_are_not_doubles() -> None:
    base = read_event(SPOT, spot()).sign
    others: list[dict[str, Any]] = [
        {"x": "REPLACED"}, {"X": "PENDING_NEW"}, {"T": AT_MS + 1}, {"t": 5}, {"z": "0.10000000"},
        {"q": "0.90000000"}, {"p": "1.00000000"}, {"c": "other"}, {"A": "0.10000000"}, {"A": "0.20000000"},
        {"w": False}, {"P": "5.00000000"},
    ]  # fmt: skip
    signs = [base, *(read_event(SPOT, spot(**other)).sign for other in others)]
    assert all(one != two for n, one in enumerate(signs) for two in signs[:n])
    assert read_event(SPOT, spot(E="77")).sign == base, "when it was sent tells nothing of the order"


def test_number_reads_what_is_missing_as_nothing() -> None:
    assert number(None) == number("") == number("0.00000000") == 0
    assert number("1e-7") == Decimal("0.0000001")
    assert number(1) == 1


@given(st.one_of(st.text(), st.booleans(), st.floats(), st.lists(st.integers()), st.binary()))
def test_number_reads_anything_or_refuses_it(value: object) -> None:
    try:
        found = number(value)
    except BadEvent:
        return
    assert found.is_finite()
    assert abs(found.adjusted()) < 200, "what cannot be written in a line is no number"


@given(st.one_of(st.text(), st.booleans(), st.floats(), st.integers(), st.none()))
def test_moment_and_order_number_read_anything_or_refuse_it(value: object) -> None:
    for read in (moment_ms, whole):
        try:
            found = read(value)
        except BadEvent:
            continue
        assert type(found) is int


def test_moment_in_microseconds_begins_where_milliseconds_end() -> None:
    assert moment_ms(10**15 - 1) == 10**15 - 1
    assert moment_ms(10**15) == 10**12
    assert moment_ms(f"{AT_MS}") == AT_MS
    assert moment_ms(0) == 0


@pytest.mark.parametrize(
    ("symbol", "pair"), [("BTCUSD_PERP", "BTCUSD"), ("BTCUSD_261225", "BTCUSD"), ("BTCUSDT", "BTCUSDT"),
                         ("币安人生USDT", "币安人生USDT")],
)  # fmt: skip
def test_pair_of_a_contract(symbol: str, pair: str) -> None:
    assert pair_of(symbol) == pair


def test_symbol_of_any_script_is_a_symbol() -> None:
    assert read_event(UM, futures(s="币安人生USDT")).key == ("币安人生USDT", 7)
