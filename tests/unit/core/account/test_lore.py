"""What rows of REST teach of how a market writes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.account.dialects import ALGO, CM, SPOT, UM, BadEvent, number
from resender.core.account.lore import Lore, digits, plain

PATH = "/fapi/v1/openOrders"


def row(**more: Any) -> dict[str, Any]:
    return {"orderId": 1, "symbol": "BTCUSDT", "price": "9000.10", "origQty": "0.500", "avgPrice": "0.00",
            "origType": "LIMIT", **more}  # fmt: skip


def test_digits_and_plain_writing() -> None:
    assert [digits(text) for text in ("1", "1.", "1.50", "0.00000000")] == [0, 0, 2, 8]
    assert [plain(Decimal(text)) for text in ("1", "100", "1.50", "0.000", "1E+3", "1E-7")] == [
        "1", "100", "1.5", "0", "1000", "0.0000001",
    ]  # fmt: skip


# --- numbers -----------------------------------------------------------------------------------


def test_number_is_written_only_where_every_reading_agrees() -> None:
    lore = Lore(UM)
    assert lore.text("BTCUSDT", "price", "9000.10") is None, "nobody has seen how many digits REST writes"
    lore.see(PATH, row())
    assert lore.text("BTCUSDT", "price", "8000.55") == "8000.55"
    assert lore.text("BTCUSDT", "price", "8000.5") is None, "as told or with two digits"
    assert lore.text("BTCUSDT", "price", "8000.555") is None
    assert lore.text("ETHUSDT", "price", "8000.55") is None, "another symbol has other digits"
    assert lore.text("BTCUSDT", "price", 8000) is None, "a number that is no text is written otherwise"
    assert lore.text("BTCUSDT", "price", None) is None


def test_padded_numbers_are_learned_from_one_row() -> None:
    lore = Lore(UM)
    lore.see(PATH, row())
    assert lore.compare({"price": "9000.1"}, row()) == []
    assert lore.text("BTCUSDT", "price", "8000") == "8000.00"
    assert lore.text("BTCUSDT", "price", "8000.123") is None, "more digits than REST has"
    assert lore.text("BTCUSDT", "price", "8000.120") == "8000.12"
    assert lore.text("ETHUSDT", "price", "8000.12") is None


def test_numbers_as_events_write_them_are_learned_from_digits_that_vary() -> None:
    lore = Lore(UM)
    for price in ("9000.10", "9000.1"):
        lore.see(PATH, row(price=price))
    lore.compare({"price": "9000.1"}, row(price="9000.1"))
    assert lore.text("BTCUSDT", "price", "8000.5") == "8000.5"
    assert lore.text("ETHUSDT", "price", "8000") == "8000"


def test_numbers_that_are_neither_are_not_written() -> None:
    lore = Lore(UM)
    for price in ("9000.10", "9000.1"):
        lore.see(PATH, row(price=price))
    lore.compare({"price": "9000.1000"}, row(price="9000.1"))
    assert lore.text("BTCUSDT", "price", "9000.1000") is None
    assert lore.text("BTCUSDT", "price", "9000.1") is None


def test_numbers_rest_may_write_without_zeros_wait_for_a_row_with_some() -> None:
    lore = Lore(UM)
    for price in ("9000.1", "9000.25"):
        lore.see(PATH, row(price=price))
    assert lore.compare({"price": "9000.25"}, row(price="9000.25")) == []
    assert lore.text("BTCUSDT", "price", "9000.20") is None, "the event pads, REST may not"
    assert lore.text("BTCUSDT", "price", "9000.22") == "9000.22"
    lore.see(PATH, row(price="9000.30"))
    assert lore.text("BTCUSDT", "price", "9000.20") == "9000.20"


def test_same_text_where_fixed_digits_would_give_another_rules_those_out() -> None:
    lore = Lore(UM)
    lore.see(PATH, row(price="9000.10"))
    lore.compare({"price": "9000.3"}, row(price="9000.3"))
    assert lore.text("BTCUSDT", "price", "8000.4") == "8000.4"


def test_spot_is_written_as_told() -> None:
    lore = Lore(SPOT)
    assert lore.text("BTCUSDT", "price", "1.50000000") == "1.50000000"
    assert lore.text("BTCUSDT", "price", "1.5") == "1.5"


def test_spot_that_is_not_written_as_told_gets_the_digits_seen() -> None:
    lore = Lore(SPOT)
    lore.see("/p", {"symbol": "BTCUSDT", "price": "1.50000000"})
    lore.compare({"price": "1.5"}, {"symbol": "BTCUSDT", "price": "1.50000000"})
    assert lore.text("BTCUSDT", "price", "1.7") == "1.70000000"
    assert lore.text("ETHUSDT", "price", "1.7") is None


@pytest.mark.parametrize("is_padded", [True, False])
@given(values=st.lists(st.decimals(0, 100_000, places=4, allow_nan=False), min_size=1, max_size=12))
def test_text_is_never_wrong_whichever_way_rest_writes(is_padded: bool, values: list[Decimal]) -> None:
    lore = Lore(UM)
    for value in values:
        told = plain(value)
        truth = f"{value:.4f}" if is_padded else told
        guess = lore.text("BTCUSDT", "price", told)
        if lore.is_trusted("price", told):
            assert guess in (None, truth)
        real = row(price=truth)
        lore.see(PATH, real)
        assert lore.compare({"price": told}, real) == []


@given(values=st.lists(st.decimals(0, 100, places=3, allow_nan=False), min_size=1, max_size=12))
def test_text_is_never_wrong_where_events_pad_and_rest_does_not(values: list[Decimal]) -> None:
    lore = Lore(UM)
    for value in values:
        told, truth = f"{value:.3f}", plain(value)
        guess = lore.text("BTCUSDT", "price", told)
        if lore.is_trusted("price", told):
            assert guess in (None, truth)
        real = row(price=truth)
        lore.see(PATH, real)
        lore.compare({"price": told}, real)


@pytest.mark.parametrize("bad", ["x", "NaN", "1e999999999", "１"])
def test_row_with_a_number_that_cannot_be_read_teaches_nothing(bad: str) -> None:
    lore = Lore(UM)
    with pytest.raises(BadEvent):
        lore.see(PATH, row(price=bad))
    lore.see(PATH, row())
    assert lore.text("BTCUSDT", "price", "1.11") == "1.11"


# --- fields ------------------------------------------------------------------------------------


def test_field_of_futures_is_trusted_once_rest_has_agreed() -> None:
    lore = Lore(UM)
    assert not lore.is_trusted("side", "BUY")
    assert lore.compare({"side": "BUY", "avgPrice": "0", "nothing": 1, "price": None}, row(side="BUY")) == []
    assert lore.is_trusted("side", "SELL")
    assert lore.is_trusted("avgPrice", "0.00")
    assert not lore.is_trusted("avgPrice", "9000"), "agreed only where it was nothing"
    lore.compare({"avgPrice": "9000"}, row(avgPrice="9000.00"))
    assert lore.is_trusted("avgPrice", "9000")
    assert not lore.is_trusted("price", "1"), "a field that was not told has not agreed"


def test_field_that_was_wrong_once_is_never_trusted_again() -> None:
    for dialect in (SPOT, UM, CM, ALGO):
        lore = Lore(dialect)
        before = lore.version
        assert lore.compare({"side": "BUY", "price": "1"}, row(side="SELL", price="2.00")) == [
            "side",
            "price",
        ]
        assert lore.version > before
        lore.compare({"side": "SELL", "price": "2"}, row(side="SELL", price="2.00"))
        assert not lore.is_trusted("side", "SELL")
        assert not lore.is_trusted("price", "2")


def test_field_of_spot_is_trusted_until_it_was_wrong() -> None:
    assert Lore(SPOT).is_trusted("side", "BUY")


def test_order_of_fields_is_learned_by_path_and_kind_of_order() -> None:
    lore = Lore(UM)
    assert lore.template(PATH, row()) is None
    lore.see(PATH, row())
    assert lore.template(PATH, row(price="1")) == tuple(row())
    assert lore.template("/fapi/v1/order", row()) is None
    assert lore.template(PATH, row(origType="STOP")) is None


def test_order_of_fields_of_spot_is_documented_but_not_with_more_fields() -> None:
    lore = Lore(SPOT)
    assert lore.template("/p", {"symbol": "BTCUSDT"}) == SPOT.documented
    assert lore.template("/p", {"symbol": "BTCUSDT", "strategyId": 1}) is None
    lore.see("/p", {"symbol": "BTCUSDT", "orderId": 1, "newField": 2})
    assert lore.template("/p", {"symbol": "BTCUSDT"}) == ("symbol", "orderId", "newField")


def test_rows_of_one_kind_with_fields_that_vary_tell_no_order_of_fields() -> None:
    lore = Lore(UM)
    lore.see(PATH, row())
    lore.see(PATH, row(goodTillDate=0))
    assert lore.template(PATH, row()) is None, "which of them has an order nobody has seen a row of?"
    for _ in range(20):
        lore.see(PATH, row(goodTillDate=0))
    assert lore.template(PATH, row()) == (*row(), "goodTillDate"), "Binance has a new field now"


def test_version_rises_with_what_is_learned_and_only_then() -> None:
    lore = Lore(UM)
    lore.see(PATH, row())
    lore.compare({"price": "9000.1"}, row())
    before = lore.version
    lore.see(PATH, row())
    lore.compare({"price": "9000.1"}, row())
    assert lore.version == before
    lore.compare({"origQty": "0.5"}, row())
    assert lore.version > before


# --- isWorking, waiting orders -----------------------------------------------------------------


def test_reading_of_is_working_that_was_wrong_is_left_out() -> None:
    lore = Lore(SPOT)
    lore.compare_working({"last": False, "open": True, "true": True}, True)
    assert lore.working == {"open", "true"}
    lore.compare_working({"last": False, "open": None, "true": True}, True)
    assert lore.working == {"open", "true"}, "what nobody saw proves nothing"
    lore.compare_working({"last": False, "open": False, "true": True}, True)
    assert lore.working == {"true"}


def test_whether_waiting_orders_are_listed_is_learned_and_a_row_is_stronger() -> None:
    lore = Lore(SPOT)
    before = lore.version
    lore.learn_pending(False)
    assert lore.lists_pending is False
    assert lore.version > before, "what other accounts were told out of it is made anew"
    before = lore.version
    lore.learn_pending(True)
    assert lore.version > before
    lore.learn_pending(False)
    assert lore.lists_pending is True


def test_number_and_zero() -> None:
    assert number("0.000") == 0
    lore = Lore(UM)
    lore.see(PATH, row())
    assert lore.text("BTCUSDT", "avgPrice", "0") is None
    lore.compare({"avgPrice": "0"}, row())
    assert lore.text("BTCUSDT", "avgPrice", "0") == "0.00"
