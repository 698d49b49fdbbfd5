"""Tickers, marks and ended periods over real sockets: forms of calls and their errors."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import marks
from resender.sandbox.tickers import day_row, mini_row

from .conftest import NOW

pytestmark = pytest.mark.component

HOURS_8 = 28_800_000


async def test_spot_days_of_one_some_and_all_symbols(sandbox, http):
    store, url = sandbox.market(Market.SPOT), sandbox.urls["UPSTREAM_API"] + "/api/v3/ticker/24hr"
    _, one, _ = await http.call(url, "?symbol=BTCUSDT")
    assert one == day_row(store, "BTCUSDT", NOW)
    _, some, _ = await http.call(url, '?symbols=["ETHUSDT","BTCUSDT"]&type=MINI')
    assert some == [mini_row(day_row(store, name, NOW)) for name in ("ETHUSDT", "BTCUSDT")]
    _, everything, _ = await http.call(url, "?type=FULL")
    assert [row["symbol"] for row in everything] == list(store.series)
    status, body, _ = await http.call(url, "?type=SMALL")
    assert (status, body["code"]) == (400, -1100)


@pytest.mark.parametrize(
    ("host", "market", "path"), [("FAPI", Market.UM, "/fapi/v1"), ("DAPI", Market.CM, "/dapi/v1")]
)
async def test_premium_index_of_one_and_all(sandbox, http, host, market, path):
    url, store = sandbox.urls[f"UPSTREAM_{host}"] + path + "/premiumIndex", sandbox.market(market)
    _, everything, _ = await http.call(url, "")
    assert [row["symbol"] for row in everything] == list(store.series)
    name = next(iter(store.series))
    _, one, _ = await http.call(url, f"?symbol={name}")
    assert one == (everything[0] if market is Market.UM else everything[:1])
    mark = marks.mark_at(store, name, NOW)
    assert (everything[0]["markPrice"], everything[0]["time"]) == (mark.mark, NOW // 1000 * 1000)


async def test_funding_rows_appear_after_the_period_or_late(sandbox, http, clock):
    url = sandbox.urls["UPSTREAM_FAPI"] + "/fapi/v1/fundingRate"
    _, before, headers = await http.call(url, "?symbol=BTCUSDT")
    assert len(before) == 100
    assert "x-mbx-used-weight-1m" not in headers
    sandbox.faults.stream(Market.UM).periods_lag_ms = 60_000
    clock.now_ms = (NOW // HOURS_8 + 1) * HOURS_8 + 1000
    _, after, _ = await http.call(url, "?symbol=BTCUSDT")
    assert after == before
    clock.now_ms += 60_000
    _, after, _ = await http.call(url, "?symbol=BTCUSDT")
    assert after[:-1] == before[1:]
    _, body, headers = await http.call(sandbox.urls["UPSTREAM_FAPI"], "/fapi/v1/fundingInfo")
    assert body[0]["fundingIntervalHours"] == 8
    assert "x-mbx-used-weight-1m" not in headers


@pytest.mark.parametrize(
    ("host", "target", "keys"),
    [
        ("FAPI", "openInterestHist?symbol=BTCUSDT", "symbol sumOpenInterest sumOpenInterestValue timestamp"),
        ("FAPI", "topLongShortAccountRatio?symbol=BTCUSDT", "symbol longShortRatio longAccount shortAccount timestamp"),
        ("FAPI", "takerlongshortRatio?symbol=BTCUSDT", "buySellRatio buyVol sellVol timestamp"),
        ("FAPI", "basis?pair=BTCUSDT&contractType=PERPETUAL",
         "indexPrice contractType basisRate futuresPrice annualizedBasisRate basis pair timestamp"),
        ("DAPI", "topLongShortPositionRatio?pair=BTCUSD", "pair longShortRatio longPosition shortPosition timestamp"),
        ("DAPI", "openInterestHist?pair=BTCUSD&contractType=PERPETUAL",
         "pair contractType sumOpenInterest sumOpenInterestValue timestamp"),
    ],
)  # fmt: skip
async def test_rows_of_futures_data_have_their_keys(sandbox, http, host, target, keys):
    _, rows, _ = await http.call(sandbox.urls[f"UPSTREAM_{host}"], f"/futures/data/{target}&period=15m")
    assert len(rows) == 30
    assert list(rows[0]) == keys.split()
    assert rows[-1]["timestamp"] == NOW // 900_000 * 900_000


@pytest.mark.parametrize("bad", ["period=7m", "period=5m&limit=501"])
async def test_bad_calls_of_futures_data_are_refused(sandbox, http, bad):
    target = f"/futures/data/openInterestHist?symbol=BTCUSDT&{bad}"
    status, body, _ = await http.call(sandbox.urls["UPSTREAM_FAPI"], target)
    assert (status, body["code"]) == (400, -1130)


async def test_microsecond_header_turns_times_of_spot_rows(sandbox, http):
    url, micro = sandbox.urls["UPSTREAM_API"], {"X-MBX-TIME-UNIT": "MICROSECOND"}
    _, row, _ = await http.call(url, "/api/v3/ticker/24hr?symbol=BTCUSDT", headers=micro)
    assert row["closeTime"] // 1000 == NOW
    _, rows, _ = await http.call(url, "/api/v3/aggTrades?symbol=BTCUSDT&limit=3", headers=micro)
    assert all(NOW * 1000 - 10**8 < row["T"] < NOW * 1000 + 1000 for row in rows)


async def test_stream_url_asks_for_microseconds_and_others_stay_as_they_are(sandbox, connect, clock):
    names = "btcusdt@kline_1s/btcusdt@trade/btcusdt@ticker/btcusdt@depth5@100ms/!miniTicker@arr"
    plain, micro = [
        await connect(sandbox, Market.SPOT, f"/stream?streams={names}{unit}")
        for unit in ("", "&timeUnit=microsecond")
    ]
    clock.now_ms += 1500
    pairs = {}
    for place, client in enumerate((plain, micro)):
        while (frame := await client.maybe(0.2)) is not None:
            pairs.setdefault(frame["stream"], ([], []))[place].append(frame["data"])
    assert len(pairs) == 5
    for name, (in_ms, in_us) in pairs.items():
        one, other = in_ms[0], in_us[0]
        if "Ticker" in name:
            one, other = one[0], other[0]
        times = {"kline": "E", "trade": "ET", "ticker": "EOC"}.get(
            name.partition("@")[2].partition("_")[0], "E"
        )
        for key, value in one.items():
            if key == "k":
                assert (other["k"]["t"], other["k"]["T"]) == (value["t"] * 1000, value["T"] * 1000 + 999)
                assert {**other["k"], "t": 0, "T": 0} == {**value, "t": 0, "T": 0}
            else:
                assert (other[key] // 1000 if key in times else other[key]) == value


async def test_futures_know_no_time_unit(sandbox, connect, clock):
    client = await connect(sandbox, Market.UM, "/market/ws/btcusdt@aggTrade?timeUnit=MICROSECOND")
    clock.now_ms += 1500
    assert (await client.next())["E"] == clock.now_ms
