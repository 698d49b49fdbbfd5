"""What streams bring of the simulated market: who follows the changes of a book sees what a snapshot shows."""

import json

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import stream_payloads as payloads
from resender.sandbox.config import SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "ETHUSDT", Market.CM: "BTCUSD_PERP"}


def store_of(market):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: NOW), NOW)


@pytest.mark.parametrize("market", SYMBOL)
@pytest.mark.parametrize("step_ms", [100, 1000, 5000])
def test_book_kept_out_of_the_changes_is_the_book_of_rest(market, step_ms):
    store, symbol = store_of(market), SYMBOL[market]
    snapshot = store.book_at(symbol, store.update_id(symbol, NOW - 400))
    book = {"b": dict(snapshot.bids), "a": dict(snapshot.asks)}
    before = snapshot.update_id
    events = 0
    for now in range(NOW, NOW + 60_000, step_ms):
        newest = store.update_id(symbol, now)
        if newest <= before:
            continue
        event = json.loads(payloads.depth_diff(store, symbol, before, newest, now))
        assert (event["U"], event["u"], event.get("pu", before)) == (before + 1, newest, before)
        for side, levels in book.items():
            for price, quantity in event[side]:
                if float(quantity):
                    levels[price] = quantity
                else:
                    levels.pop(price, None)  # perhaps it was there in between only
        before, events = newest, events + 1
        if events % 10 == 0 or step_ms == 5000:
            truth = store.book_at(symbol, newest)
            assert book == {"b": dict(truth.bids), "a": dict(truth.asks)}
    assert events > 10


def test_depth_frames_have_the_keys_of_their_market_in_order():
    store = store_of(Market.SPOT)
    view = store.book_at("BTCUSDT", limit=5)
    partial = json.loads(payloads.depth(store, "BTCUSDT", view, view.update_id - 3, NOW))
    assert list(partial) == ["lastUpdateId", "bids", "asks"]
    assert (partial["lastUpdateId"], len(partial["bids"]), len(partial["asks"])) == (view.update_id, 5, 5)
    event = json.loads(payloads.depth_diff(store, "BTCUSDT", view.update_id - 3, view.update_id, NOW))
    assert list(event) == ["e", "E", "s", "U", "u", "b", "a"]
    for market, symbol, family in ((Market.UM, "BTCUSDT", 1), (Market.CM, "BTCUSD_PERP", 2)):
        store = store_of(market)
        view = store.book_at(symbol, limit=20)
        event = json.loads(payloads.depth(store, symbol, view, view.update_id - 3, NOW))
        assert list(event) == ["e", "E", "T", "s", "U", "u", "pu", "b", "a", "ps", "st"]
        assert (event["U"], event["u"], event["pu"]) == (
            view.update_id - 2,
            view.update_id,
            view.update_id - 3,
        )
        assert (event["b"], event["a"], event["st"]) == (view.bids, view.asks, family)
