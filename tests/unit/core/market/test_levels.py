"""Levels of order books: what is one, when two are the same, what stands before them in an answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from resender.core.market.levels import Head, check_levels, same_levels

SPOT = {"lastUpdateId": 7, "bids": [], "asks": []}
UM = {"lastUpdateId": 7, "E": 1, "T": 2, "bids": [], "asks": []}
CM = {"lastUpdateId": 7, "E": 1, "T": 2, "symbol": "BTCUSD_PERP", "pair": "BTCUSD", "bids": [], "asks": []}


def test_levels_are_lists_of_two_texts_that_are_numbers() -> None:
    for levels in ([], [["1", "2"]], [["0.00000001", "123456789.50000000"], ["12345678901234567890", "0"]]):
        assert check_levels(levels) is levels


@pytest.mark.parametrize(
    "levels",
    [
        None, {}, "12", ["12"], [{"1": "2", "3": "4"}], [("1", "2")], [["1"]], [["1", "2", "3"]],
        [["1", "2"], ["3"]], [["1"], ["2", "3", "4"]], [[1, "2"]], [["1", 2]], [["1", None]], [[1.5, 2.5]],
        [["-1", "2"]], [["1e3", "2"]], [["1.", "2"]], [[".5", "2"]], [["", "2"]], [["1 ", "2"]],
        [["1,2", "3"]], [["1", "2\n"]], [["١", "2"]], [["NaN", "2"]], [["1" * 21, "2"]],
        [["1", '2"]']], [["1", "2"], None],
    ],
)  # fmt: skip
def test_anything_else_is_refused(levels: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        check_levels(levels)


def test_levels_are_compared_by_value_and_all_of_them() -> None:
    held = [["1.50", "2"], ["1.40", "3"]]
    assert same_levels(held, [["1.5", "2.000"], ["1.40", "3"]])
    assert not same_levels(held, [["1.50", "2"], ["1.40", "4"]])
    assert not same_levels(held, [["1.50", "2"], ["1.41", "3"]])
    assert not same_levels(held, held[:1]), "one is gone"
    assert not same_levels(held, [*held, ["1.30", "1"]]), "one has come"
    assert same_levels([], [])
    assert not same_levels(held, [["x", "2"], ["1.40", "3"]])


@pytest.mark.parametrize("body", [SPOT, UM, CM, dict(reversed(CM.items())) | {"bids": [], "asks": []}])
def test_head_is_written_as_it_was_seen(body: dict[str, Any]) -> None:
    ordered = {key: body[key] for key in body if key not in ("bids", "asks")} | {"bids": [], "asks": []}
    head = Head()
    head.learn(ordered)
    assert head.before(7, ordered) + b'"bids":[],"asks":[]}' == orjson.dumps(ordered)


def test_event_has_the_names_under_other_keys() -> None:
    head = Head()
    head.learn(CM)
    data = {"e": "depthUpdate", "E": 3, "T": 4, "s": "BTCUSD_PERP", "ps": "BTCUSD", "u": 8, "b": [], "a": []}
    expected = b'{"lastUpdateId":8,"E":3,"T":4,"symbol":"BTCUSD_PERP","pair":"BTCUSD",'
    assert head.before(8, data) == expected


def test_name_is_written_as_it_is_read() -> None:
    head = Head()
    head.learn(CM)
    assert '"symbol":"币安\\"","pair":"x",'.encode() in head.before(1, CM | {"symbol": '币安"', "pair": "x"})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"lastUpdateId": 1, "bids": []},
        {"bids": [], "asks": []},
        SPOT | {"bids": []} | {"news": 1},
        {"news": 1, **SPOT},
        {"lastUpdateId": 1, "asks": [], "bids": []},
        {"bids": [], "asks": [], "lastUpdateId": 1},
    ],
)
def test_body_with_other_keys_is_refused_and_takes_the_order_along(body: dict[str, Any]) -> None:
    head = Head()
    head.learn(UM)
    with pytest.raises(ValueError, match="keys"):
        head.learn(body)
    assert head.keys == ()


@pytest.mark.parametrize("body", [None, 5])
def test_no_object_is_no_body(body: Any) -> None:
    with pytest.raises(TypeError):
        Head().learn(body)


EVENT = {"E": 3, "T": 4, "s": "BTCUSD_PERP", "ps": "BTCUSD"}


@pytest.mark.parametrize(
    "change",
    [{"E": None}, {"T": "2"}, {"T": True}, {"T": 1.5}, {"s": 5}, {"ps": None}, {"T": ...}, {"s": ...}],
)
def test_what_is_missing_or_of_another_kind_is_not_made_up(change: dict[str, Any]) -> None:
    head = Head()
    head.learn(CM)
    assert head.before(1, EVENT)
    data = {key: value for key, value in (EVENT | change).items() if value is not ...}
    with pytest.raises((KeyError, TypeError)):
        head.before(1, data)
