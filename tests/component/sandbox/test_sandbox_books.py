"""Order books over real sockets: REST, both depth streams and bookTicker show one book."""

from __future__ import annotations

import itertools

import pytest

from resender.core.binance.markets import Market

from .conftest import NOW

pytestmark = pytest.mark.component

REST = {Market.SPOT: ("API", "/api/v3"), Market.UM: ("FAPI", "/fapi/v1"), Market.CM: ("DAPI", "/dapi/v1")}
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


async def rest_book(sandbox, http, market, query=""):
    host, root = REST[market]
    target = f"{root}/depth?symbol={SYMBOL[market]}{query}"
    return await http.call(sandbox.urls[f"UPSTREAM_{host}"], target)


@pytest.mark.parametrize(
    ("market", "query", "levels"),
    [
        (Market.SPOT, "", 100), (Market.SPOT, "&limit=1", 1), (Market.SPOT, "&limit=37", 37),
        (Market.SPOT, "&limit=5000", 5000), (Market.SPOT, "&limit=60000", 5000),
        (Market.UM, "", 500), (Market.UM, "&limit=5", 5), (Market.UM, "&limit=1000", 1000),
        (Market.CM, "", 500), (Market.CM, "&limit=20", 20),
    ],
)  # fmt: skip
async def test_rest_depth_is_the_book_of_its_update_id(sandbox, http, market, query, levels):
    status, body, _ = await rest_book(sandbox, http, market, query)
    assert status == 200
    assert body["lastUpdateId"] == sandbox.update_id(market, SYMBOL[market])
    truth = sandbox.book_at(market, SYMBOL[market], body["lastUpdateId"], levels)
    assert (body["bids"], body["asks"]) == (truth.bids, truth.asks)
    assert (len(body["bids"]), len(body["asks"])) == (levels, levels)
    expected = {
        Market.SPOT: ["lastUpdateId", "bids", "asks"],
        Market.UM: ["lastUpdateId", "E", "T", "bids", "asks"],
        Market.CM: ["lastUpdateId", "E", "T", "symbol", "pair", "bids", "asks"],
    }
    assert list(body) == expected[market]


@pytest.mark.parametrize("limit", ["0", "7", "5000", "1001", "x", "-5"])
@pytest.mark.parametrize("market", [Market.UM, Market.CM])
async def test_futures_depth_refuses_other_limits(sandbox, http, market, limit):
    status, body, _ = await rest_book(sandbox, http, market, f"&limit={limit}")
    assert (status, body) == (400, {"code": -4021, "msg": f"{limit} is not valid depth limit"})


async def test_rest_depth_may_trail_behind(sandbox, http):
    sandbox.faults.stream(Market.UM).depth_lag_ms = 2000
    _, body, _ = await rest_book(sandbox, http, Market.UM, "&limit=5")
    assert body["lastUpdateId"] == sandbox.market(Market.UM).update_id("BTCUSDT", NOW - 2000)


async def test_streams_and_rest_show_one_book(sandbox, http, connect, clock):
    client = await connect(
        sandbox, Market.SPOT, "/stream?streams=btcusdt@depth@100ms/btcusdt@depth20@100ms/btcusdt@bookTicker"
    )
    _, snapshot, _ = await rest_book(sandbox, http, Market.SPOT, "&limit=5000")
    book = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
    last, seen = snapshot["lastUpdateId"], set()
    for _ in range(20):
        clock.now_ms += 300
        while (event := await client.maybe(0.1)) is not None:
            data, kind = event["data"], event["stream"].partition("@")[2]
            seen.add(kind)
            if kind == "bookTicker":
                ticker = sandbox.market(Market.SPOT).ticker_at("BTCUSDT", data["u"])
                assert (data["b"], data["B"], data["a"], data["A"]) == tuple(ticker)[1:5]
            elif kind == "depth20@100ms":
                truth = sandbox.book_at(Market.SPOT, "BTCUSDT", data["lastUpdateId"], 20)
                assert (data["bids"], data["asks"]) == (truth.bids, truth.asks)
            elif data["u"] > last:
                assert data["U"] <= last + 1
                last = data["u"]
                for side, levels in book.items():
                    for price, quantity in data[side]:
                        levels[price] = quantity
                        if not float(quantity):
                            del levels[price]
    assert len(seen) == 3
    bids = sorted(book["b"].items(), key=lambda row: -float(row[0]))
    asks = sorted(book["a"].items(), key=lambda row: float(row[0]))
    _, truth, _ = await rest_book(sandbox, http, Market.SPOT, "&limit=1000")
    assert truth["lastUpdateId"] == last > snapshot["lastUpdateId"] + 20
    assert [list(row) for row in bids[:1000]] == truth["bids"]
    assert [list(row) for row in asks[:1000]] == truth["asks"]


@pytest.mark.parametrize("fault", ["lose_once", "repeat_once", "swap_once", "lose_next"])
async def test_one_diff_event_goes_wrong_and_only_one(sandbox, connect, clock, fault):
    client = await connect(sandbox, Market.UM, "/public/ws/btcusdt@depth@100ms")
    switches, events = sandbox.faults.stream(Market.UM), []
    for turn in range(8):
        if turn == 3:
            setattr(switches, fault, {"@depth": 2} if fault == "lose_next" else "@depth")
        clock.now_ms += 300
        while (event := await client.maybe(0.1)) is not None:
            events.append((event["pu"], event["u"]))
    follows = [event[0] == before[1] for before, event in itertools.pairwise(events)]
    count, breaks = {
        "lose_once": (7, 1), "lose_next": (6, 1), "repeat_once": (9, 1), "swap_once": (8, 3)
    }[fault]  # fmt: skip
    assert (len(events), follows.count(False)) == (count, breaks)
    assert getattr(switches, fault) in (None, {"@depth": 0})
    assert (len(set(events)) < len(events)) == (fault == "repeat_once")
    assert (events == sorted(events)) == (fault != "swap_once")
