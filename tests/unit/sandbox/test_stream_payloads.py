"""What streams bring of the simulated market: who follows the changes of a book sees what a snapshot shows."""

import json

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import shapes
from resender.sandbox import stream_payloads as payloads
from resender.sandbox.config import SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "ETHUSDT", Market.CM: "BTCUSD_PERP"}


def store_of(market):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: NOW), NOW)


@pytest.mark.parametrize("market", SYMBOL)
@pytest.mark.parametrize("step_ms", [100, 1000, 5000])
def test_book_kept_out_of_the_changes_has_the_best_levels_of_the_snapshot(market, step_ms):
    store, symbol = store_of(market), SYMBOL[market]
    update_id, _, bids, asks = shapes.depth(store, symbol, 1000, NOW - 400)
    book = {"b": {float(p): q for p, q in bids}, "a": {float(p): q for p, q in asks}}
    before = update_id - 2  # the stream began before the snapshot was taken
    moved = 0
    for now in range(NOW, NOW + 60_000, step_ms):
        newest = store.update_id(symbol, now)
        if newest <= before:
            continue
        event = json.loads(payloads.depth_diff(store, symbol, before, newest, now))
        assert (event["U"], event["u"]) == (before + 1, newest)
        for side, levels in book.items():
            for price, quantity in event[side]:
                if float(quantity):
                    moved += float(price) not in levels
                    levels[float(price)] = quantity
                else:
                    levels.pop(float(price), None)
        before = newest
        _, _, bids, asks = shapes.depth(store, symbol, 5, now)
        best = sorted(book["b"].items(), reverse=True)[:5], sorted(book["a"].items())[:5]
        assert best == ([(float(p), q) for p, q in bids], [(float(p), q) for p, q in asks])
    assert moved > 10
