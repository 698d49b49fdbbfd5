"""Newest update wins; REST's exact shape on each market."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.market.book_ticker import BookTicker

SPOT = {"u": 7, "s": "BTCUSDT", "b": "1.10", "B": "2", "a": "1.20", "A": "3"}
UM = SPOT | {"e": "bookTicker", "E": 1790000000123, "T": 1790000000120, "ps": "BTCUSDT", "st": 1}
CM = UM | {"s": "BTCUSD_PERP", "ps": "BTCUSD"}
WIRE = {Market.SPOT: SPOT, Market.UM: UM, Market.CM: CM}
REST = {
    Market.SPOT: b'{"symbol":"BTCUSDT","bidPrice":"1.10","bidQty":"2","askPrice":"1.20","askQty":"3"}',
    Market.UM: b'{"symbol":"BTCUSDT","bidPrice":"1.10","bidQty":"2","askPrice":"1.20","askQty":"3",'
    b'"time":1790000000120}',
    Market.CM: b'[{"lastUpdateId":7,"symbol":"BTCUSD_PERP","pair":"BTCUSD","bidPrice":"1.10","bidQty":"2",'
    b'"askPrice":"1.20","askQty":"3","time":1790000000120}]',
}


@pytest.mark.parametrize("market", list(WIRE))
def test_event_becomes_the_rest_answer(market: Market) -> None:
    ticker = BookTicker(market)
    assert not ticker.is_valid
    assert ticker.apply(WIRE[market])
    assert ticker.is_valid
    assert ticker.body() == REST[market]


@pytest.mark.parametrize("market", list(WIRE))
def test_older_and_repeated_updates_change_nothing(market: Market) -> None:
    ticker = BookTicker(market)
    ticker.apply(WIRE[market])
    version = ticker.version
    assert not ticker.apply(WIRE[market])
    assert not ticker.apply(WIRE[market] | {"u": 6, "b": "9"})
    assert (ticker.version, ticker.body()) == (version, REST[market])
    assert ticker.apply(WIRE[market] | {"u": 8, "b": "9"})
    assert b'"bidPrice":"9"' in ticker.body()


def test_ids_that_start_over_are_noticed() -> None:
    ticker = BookTicker(Market.SPOT)
    ticker.apply(SPOT | {"u": 1_000_000})
    with pytest.raises(ValueError, match="went back"):
        for n in range(200):
            ticker.apply(SPOT | {"u": n})
    ticker.lose()
    assert ticker.apply(SPOT | {"u": 5})


@pytest.mark.parametrize("market", list(WIRE))
def test_seed_is_taken_only_while_the_stream_has_not_spoken(market: Market) -> None:
    import json

    row = json.loads(REST[market])
    row = row[0] if isinstance(row, list) else row
    ticker = BookTicker(market)
    assert ticker.seed(row)
    assert ticker.body() == REST[market]
    assert ticker.apply(WIRE[market] | {"u": 9, "b": "9"})
    assert not ticker.seed(row)
    ticker.lose()
    assert not ticker.is_valid
    assert ticker.seed(row)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"u": "7"},
        SPOT | {"u": 7.5},
        SPOT | {"b": None},
        SPOT | {"b": 1.1},
        SPOT | {"b": '1","x":"'},
        SPOT | {"a": ""},
        SPOT | {"A": "-1"},
    ],
)
def test_unusable_event_is_refused_and_changes_nothing(data: dict) -> None:
    ticker = BookTicker(Market.SPOT)
    ticker.apply(SPOT | {"u": 1})
    before = ticker.body()
    with pytest.raises((ValueError, KeyError, TypeError)):
        ticker.apply(data)
        ticker.body()
        raise AssertionError("it was taken")
    assert ticker.body() == before
