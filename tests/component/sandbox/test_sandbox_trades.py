"""Trades over real sockets: parameters, errors, REST behind the stream, events that are lost."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import trades

from .conftest import NOW

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("host", "target", "count"),
    [
        ("API", "/api/v3/aggTrades?symbol=BTCUSDT", 500),
        ("API", "/api/v3/aggTrades?symbol=BTCUSDT&limit=5000", 1000),
        ("API", "/api/v3/trades?symbol=BTCUSDT", 500),
        ("API", "/api/v3/historicalTrades?symbol=BTCUSDT&limit=3", 3),
        ("FAPI", "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1000", 1000),
        ("FAPI", "/fapi/v1/trades?symbol=BTCUSDT", 500),
        ("FAPI", f"/fapi/v1/aggTrades?symbol=BTCUSDT&startTime={NOW}&endTime={NOW + 3_600_000}", 1),
        ("DAPI", "/dapi/v1/aggTrades?symbol=BTCUSD_PERP", 500),
        ("DAPI", "/dapi/v1/historicalTrades?symbol=BTCUSD_PERP", 100),
    ],
)
async def test_lists_of_trades_have_their_default_and_greatest_length(sandbox, http, host, target, count):
    status, rows, _ = await http.call(sandbox.urls[f"UPSTREAM_{host}"], target)
    assert status == 200
    assert len(rows) == count or (count == 1 and len(rows) < 2)


@pytest.mark.parametrize(
    ("host", "target", "code"),
    [
        ("API", "/api/v3/aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", -1128),
        ("API", "/api/v3/aggTrades?symbol=BTCUSDT&fromId=x", -1100),
        ("API", "/api/v3/trades?symbol=BTCUSDT&fromId=1", -1104),
        ("FAPI", "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1001", -1130),
        ("FAPI", "/fapi/v1/aggTrades?symbol=BTCUSDT&startTime=1&endTime=3600002", -1127),
        ("FAPI", "/fapi/v1/aggTrades?symbol=BTCUSDT&startTime=2&endTime=1", -1023),
    ],
)
async def test_bad_calls_are_refused(sandbox, http, host, target, code):
    status, body, _ = await http.call(sandbox.urls[f"UPSTREAM_{host}"], target)
    assert (status, body["code"]) == (400, code)


async def test_rest_trails_behind_the_stream(sandbox, http, clock):
    sandbox.faults.stream(Market.UM).trades_lag_ms = 5000
    target = "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=20"
    _, rows, _ = await http.call(sandbox.urls["UPSTREAM_FAPI"], target)
    assert rows == trades.aggregate_rows(sandbox.market(Market.UM), "BTCUSDT", 20, NOW - 5000)
    clock.now_ms += 5000
    _, rows, _ = await http.call(sandbox.urls["UPSTREAM_FAPI"], target)
    assert rows == trades.aggregate_rows(sandbox.market(Market.UM), "BTCUSDT", 20, NOW)


async def test_lost_events_leave_a_hole_that_rest_does_not_have(sandbox, connect, http, clock):
    client = await connect(sandbox, Market.SPOT, "/ws/btcusdt@aggTrade")
    sandbox.faults.stream(Market.SPOT).lose_next["@aggTrade"] = 3
    seen = []
    for turn in range(12):
        if turn == 6:
            sandbox.faults.stream(Market.SPOT).lose_next["@aggTrade"] = 3
        clock.now_ms += 1000
        while (event := await client.maybe(0.08)) is not None:
            seen.append(event["a"])
    missing = set(range(seen[0], seen[-1] + 1)) - set(seen)
    assert len(missing) == 3
    _, rows, _ = await http.call(sandbox.urls["UPSTREAM_API"], "/api/v3/aggTrades?symbol=BTCUSDT&limit=200")
    assert missing < {row["a"] for row in rows}


async def test_price_is_that_of_the_last_trade(sandbox, http, clock):
    for _ in range(10):
        clock.now_ms += 350
        _, price, _ = await http.call(sandbox.urls["UPSTREAM_API"], "/api/v3/ticker/price?symbol=BTCUSDT")
        _, (last,), _ = await http.call(sandbox.urls["UPSTREAM_API"], "/api/v3/trades?symbol=BTCUSDT&limit=1")
        assert price == {"symbol": "BTCUSDT", "price": last["price"]}
