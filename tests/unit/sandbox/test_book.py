"""The book as a function of its update id: whole, as a difference, deep, and left behind by the price."""

import itertools
import random

import pytest

from resender.core.binance.markets import Market
from resender.sandbox.config import SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "ETHUSDT", Market.CM: "BTCUSD_PERP"}
COARSE = {Market.SPOT: "DOGEUSDT", Market.UM: "XRPUSDT", Market.CM: "ADAUSD_PERP"}


def store_of(market, **options):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: NOW, **options), NOW)


def whole(book, update_id):
    return dict(book.bids(update_id)), dict(book.asks(update_id))


def apply(sides, changes):
    for levels, changed in zip(sides, changes, strict=True):
        for price, qty in changed:
            if qty:
                levels[price] = qty
            else:
                del levels[price]  # a change tells only what was there


@pytest.mark.parametrize("symbols", [SYMBOL, COARSE])
@pytest.mark.parametrize("market", SYMBOL)
def test_thousands_of_differences_lead_to_the_whole_book(market, symbols):
    store = store_of(market)
    book = store.book(symbols[market])
    first = store.update_id(symbols[market], NOW)
    sides = whole(book, first)
    begun = [set(side) for side in sides]
    most = 0
    for update_id in range(first + 1, first + 2001):
        changes = book.changes(update_id - 1, update_id)
        most = max(most, *map(len, changes))
        apply(sides, changes)
        assert max(sides[0]) < min(sides[1])
        if update_id % 100 == 0:
            assert sides == whole(book, update_id)
    assert sides == whole(book, first + 2000)
    assert most < 400
    # Levels have come and gone, deep ones too.
    for old, new in zip(begun, sides, strict=True):
        assert set(new) - old
        assert old - set(new)


@pytest.mark.parametrize("market", SYMBOL)
def test_a_difference_over_many_updates_is_the_difference_of_the_two_books(market):
    rng = random.Random(5)
    store = store_of(market, book_ticker_hz=50.0)
    book = store.book(SYMBOL[market])
    update_id = store.update_id(SYMBOL[market], NOW)
    sides = whole(book, update_id)
    for step in [1, 2, 3, 7, 40, 200, 900, 5000, 100_000, *(rng.randrange(1, 60) for _ in range(20))]:
        before, update_id = update_id, update_id + step
        changes = book.changes(before, update_id)
        for side, changed, reverse in zip(sides, changes, (True, False), strict=True):
            prices = [price for price, _ in changed]
            assert prices == sorted(set(prices), reverse=reverse)
            assert all(side.get(price, 0) != qty for price, qty in changed)
        apply(sides, changes)
        assert sides == whole(book, update_id)


@pytest.mark.parametrize("market", SYMBOL)
def test_an_event_leads_to_the_whole_book_from_any_update_it_tells_of(market):
    store = store_of(market, book_ticker_hz=50.0)
    book = store.book(SYMBOL[market])
    first = store.update_id(SYMBOL[market], NOW)
    again = 0
    for before in range(first, first + 90, 9):
        newest = before + 9
        told = book.told(before, newest)
        again += len(told[0]) - len(book.changes(before, newest)[0])
        for known in range(before, newest):
            sides = whole(book, known)
            for levels, changed in zip(sides, told, strict=True):
                for price, qty in changed:
                    levels[price] = qty
            assert [{p: q for p, q in side.items() if q} for side in sides] == list(whole(book, newest))
    assert again, "levels that are what they were are among them"
    assert book.told(first, first + 5000) == book.changes(first, first + 5000)


@pytest.mark.parametrize(("market", "least"), [(Market.SPOT, 6000), (Market.UM, 1500), (Market.CM, 1500)])
def test_a_book_has_the_levels_promised(market, least):
    store = store_of(market)
    view = store.book_at(SYMBOL[market])
    assert len(view.bids) >= least
    assert len(view.asks) >= least
    assert [float(p) for p, _ in view.bids] == sorted({float(p) for p, _ in view.bids}, reverse=True)
    assert [float(p) for p, _ in view.asks] == sorted({float(p) for p, _ in view.asks})
    assert all(float(q) > 0 for _, q in view.bids + view.asks)
    few = store_of(market, book_levels={market.value: 12}).book_at(SYMBOL[market])
    assert 12 <= len(few.bids) < 100


def test_a_short_book_ends_where_the_price_does():
    store = store_of(Market.SPOT, spot_symbols=["NKNUSDT"], book_levels={"spot": 200_000})
    view = store.book_at("NKNUSDT", limit=5)
    assert len(view.bids) == 5
    bids = store.book_at("NKNUSDT").bids
    assert float(bids[-1][0]) > 0


def test_books_of_two_exchanges_of_one_seed_are_equal():
    one, other = store_of(Market.SPOT), store_of(Market.SPOT)
    update_id = one.update_id("BTCUSDT", NOW)
    other.book_at("BTCUSDT", update_id + 3000)  # what was asked before makes no difference
    assert one.book_at("BTCUSDT", update_id) == other.book_at("BTCUSDT", update_id)
    assert one.book_at("BTCUSDT", update_id) != store_of(Market.SPOT, seed=2).book_at("BTCUSDT", update_id)


def test_best_levels_are_those_of_the_book_ticker():
    store = store_of(Market.UM)
    for now in range(NOW, NOW + 10_000, 130):
        ticker, view = (
            store.book_ticker("BTCUSDT", now),
            store.book_at("BTCUSDT", store.update_id("BTCUSDT", now), 5),
        )
        assert (ticker.update_id, ticker.time_ms) == (view.update_id, view.time_ms)
        assert view.bids[0] == [ticker.bid, ticker.bid_qty]
        assert view.asks[0] == [ticker.ask, ticker.ask_qty]


def test_the_price_leaves_the_range_of_a_snapshot():
    store = store_of(Market.SPOT, book_stride=1)
    snapshot = store.book_at("BTCUSDT", limit=1000)
    worst_bid, worst_ask = float(snapshot.bids[-1][0]), float(snapshot.asks[-1][0])
    later = (store.book_at("BTCUSDT", snapshot.update_id + n, 1) for n in range(0, 40_000, 40))
    assert any(not worst_bid <= float(view.bids[0][0]) <= worst_ask for view in later)


def test_most_updates_touch_one_of_the_first_twenty_levels_and_not_only_the_best():
    store = store_of(Market.SPOT)
    first = store.update_id("BTCUSDT", NOW)
    views = [store.book_at("BTCUSDT", first + n, 20) for n in range(200)]
    assert sum(a.bids[1:] != b.bids[1:] for a, b in itertools.pairwise(views)) > 150


def test_a_still_book_never_changes():
    store = store_of(Market.UM, still_symbols=["BTCUSDT"])
    views = {
        str(store.book_at("BTCUSDT", store.update_id("BTCUSDT", NOW + n * 3_600_000))) for n in range(50)
    }
    assert len(views) == 1
    assert store.update_id("ETHUSDT", NOW + 3_600_000) > store.update_id("ETHUSDT", NOW)


def test_a_burst_does_not_change_the_books_before_it():
    store = store_of(Market.SPOT)
    newest = store.update_id("BTCUSDT", NOW)
    ahead = store.book_at("BTCUSDT", newest + 5, 20)
    before = [store.book_at("BTCUSDT", newest - n, 20) for n in range(10)]
    jump = store.next_update("BTCUSDT", NOW)
    assert jump.update_id == newest + 1
    assert [store.book_at("BTCUSDT", newest - n, 20) for n in range(10)] == before
    assert store.book_at("BTCUSDT", newest + 5, 20).time_ms < ahead.time_ms
