"""The best 20 levels of a book: each frame is the whole of them, and is written as REST writes it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.levels import Head
from resender.core.market.partial_book import PartialBook

MARKETS = (Market.SPOT, Market.UM, Market.CM)


def levels(first: int, step: int, count: int = 20, quantity: str = "1.50") -> list[list[str]]:
    return [[f"{first + step * n}.10", quantity] for n in range(count)]


def rest(market: Market, update_id: int, count: int = 20, **changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"lastUpdateId": update_id}
    if market is not Market.SPOT:
        body |= {"E": 1000 + update_id, "T": 900 + update_id}
    if market is Market.CM:
        body |= {"symbol": "BTCUSD_PERP", "pair": "BTCUSD"}
    return body | {"bids": levels(999, -1, count), "asks": levels(1000, 1, count)} | changed


def frame(market: Market, update_id: int, count: int = 20, quantity: str = "1.50") -> dict[str, Any]:
    bids, asks = levels(999, -1, count, quantity), levels(1000, 1, count, quantity)
    if market is Market.SPOT:
        return {"lastUpdateId": update_id, "bids": bids, "asks": asks}
    data = {"e": "depthUpdate", "E": 1000 + update_id, "T": 900 + update_id, "s": "BTCUSD_PERP",
            "U": update_id - 5, "u": update_id, "pu": update_id - 9, "b": bids, "a": asks}  # fmt: skip
    return data | ({"ps": "BTCUSD"} if market is Market.CM else {})


def book(market: Market) -> PartialBook:
    head = Head()
    head.learn(rest(market, 1))
    return PartialBook(market, head)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("limit", [5, 10, 20])
def test_frame_is_answered_as_rest_writes_it(market: Market, limit: int) -> None:
    held = book(market)
    assert held.apply(frame(market, 7))
    expected = rest(market, 7)
    expected |= {"bids": expected["bids"][:limit], "asks": expected["asks"][:limit]}
    assert held.body(limit) == orjson.dumps(expected)
    assert held.body(limit) is held.body(limit), "encoded once"


@pytest.mark.parametrize("market", MARKETS)
def test_read_is_answered_as_it_was_read(market: Market) -> None:
    held = book(market)
    assert held.seed(rest(market, 7))
    assert held.body(20) == orjson.dumps(rest(market, 7))


@pytest.mark.parametrize("market", MARKETS)
def test_thin_book_is_answered_whole(market: Market) -> None:
    held = book(market)
    held.apply(frame(market, 7, count=3))
    assert held.body(20) == held.body(5) == orjson.dumps(rest(market, 7, count=3))


def test_new_frame_replaces_what_was_encoded() -> None:
    held = book(Market.SPOT)
    held.apply(frame(Market.SPOT, 7))
    old = held.body(5)
    held.apply(frame(Market.SPOT, 8, quantity="2.50"))
    assert orjson.loads(held.body(5))["bids"][0] == ["999.10", "2.50"]
    assert held.body(5) != old


@pytest.mark.parametrize("market", MARKETS)
def test_older_frame_changes_nothing_and_an_equal_one_is_no_older(market: Market) -> None:
    held = book(market)
    held.apply(frame(market, 7))
    assert not held.apply(frame(market, 6, quantity="9.99"))
    assert held.apply(frame(market, 7))
    assert held.update_id == 7
    assert held.bids[0] == ["999.10", "1.50"]


def test_read_that_is_no_newer_is_not_taken() -> None:
    held = book(Market.UM)
    held.apply(frame(Market.UM, 7))
    assert not held.seed(rest(Market.UM, 7, bids=[]))
    assert not held.seed(rest(Market.UM, 6, bids=[]))
    assert held.seed(rest(Market.UM, 8))
    assert held.update_id == 8


def test_what_was_read_is_known_as_such_until_a_frame_tells_of_it() -> None:
    held = book(Market.UM)
    held.seed(rest(Market.UM, 8))
    assert held.is_read
    held.apply(frame(Market.UM, 7))
    assert held.is_read, "older"
    held.apply(frame(Market.UM, 8))
    assert not held.is_read
    held.seed(rest(Market.UM, 9))
    held.apply(frame(Market.UM, 10))
    assert not held.is_read


def test_ids_that_go_back_for_long_are_an_error_and_two_sockets_in_turn_are_none() -> None:
    held = book(Market.SPOT)
    for update_id in range(1000, 1500):
        held.apply(frame(Market.SPOT, update_id))
        assert not held.apply(frame(Market.SPOT, update_id - 1))
    with pytest.raises(ValueError, match="went back"):
        for update_id in range(200):
            held.apply(frame(Market.SPOT, update_id))


def test_lost_stream_may_count_anew() -> None:
    held = book(Market.SPOT)
    held.apply(frame(Market.SPOT, 1000))
    held.lose()
    assert not held.is_valid
    assert held.apply(frame(Market.SPOT, 3, quantity="4.00"))
    assert held.is_valid
    assert held.update_id == 3


def test_body_is_compared_by_value_and_by_text() -> None:
    held = book(Market.UM)
    held.apply(frame(Market.UM, 7))
    same = rest(Market.UM, 9)
    assert held.shows(same)
    assert held.writes(same)
    other_text = rest(Market.UM, 9, bids=levels(999, -1, quantity="1.5"))
    assert held.shows(other_text)
    assert not held.writes(other_text)
    assert not held.shows(rest(Market.UM, 9, bids=levels(999, -1, quantity="1.6")))
    assert not held.shows(rest(Market.UM, 9, bids=levels(999, -1, 19)))


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data, keys: data.pop(keys[0]),
        lambda data, keys: data.pop(keys[1]),
        lambda data, keys: data.update({keys[0]: "7"}),
        lambda data, keys: data.update({keys[0]: True}),
        lambda data, keys: data.update({keys[1]: [["1", 2]]}),
        lambda data, keys: data.update({keys[2]: None}),
    ],
)
def test_frame_that_is_none_changes_nothing(market: Market, damage: Any) -> None:
    held = book(market)
    held.apply(frame(market, 7))
    before = held.body(20)
    data = frame(market, 8, quantity="3.00")
    damage(data, ("lastUpdateId", "bids", "asks") if market is Market.SPOT else ("u", "b", "a"))
    with pytest.raises((ValueError, KeyError, TypeError)):
        held.apply(data)
    assert (held.update_id, held.body(20)) == (7, before)
    data = rest(market, 8)
    damage(data, ("lastUpdateId", "bids", "asks"))
    with pytest.raises((ValueError, KeyError, TypeError)):
        held.seed(data)
    assert (held.update_id, held.body(20)) == (7, before)


def test_frame_without_what_rest_has_is_not_answered() -> None:
    held = book(Market.UM)
    data = frame(Market.UM, 7)
    del data["T"]
    held.apply(data)
    with pytest.raises(KeyError):
        held.body(5)
