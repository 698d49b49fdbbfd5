"""Final candles that come late, REST that trails behind and candles off the grid, over the wire."""

import asyncio

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Outage
from resender.sandbox.final_delays import final_delay_ms

pytestmark = pytest.mark.component
MINUTE = 60_000


@pytest.fixture
def close(clock):
    """Put the clock a moment before a close and return the close."""
    end = (clock() // MINUTE + 1) * MINUTE
    clock.now_ms = end - 2_000
    return end


def stream(*names):
    return f"/market/stream?streams={'/'.join(names)}"


async def finals(client, count, timeout_s=5.0):
    return [(await client.until(lambda e: e["data"]["k"]["x"], timeout_s))["data"] for _ in range(count)]


# -- late finals -----------------------------------------------------------------------------


async def test_a_fixed_delay_stamps_the_final_late_and_the_next_candle_waits(sandbox, connect, clock, close):
    client = await connect(sandbox, Market.UM, stream("btcusdt@kline_1m"))
    sandbox.faults.stream(Market.UM).final_delay = 900
    clock.now_ms = close - 1
    assert (await client.next())["data"]["k"]["x"] is False
    for since in (300, 899):
        clock.now_ms = close + since
        assert await client.is_silent(0.15)
    clock.now_ms = close + 905
    final = (await client.next())["data"]
    assert (final["k"]["x"], final["E"], final["k"]["T"]) == (True, close + 905, close - 1)
    row = sandbox.market(Market.UM).kline_rows("BTCUSDT", "1m", limit=2)[0]
    assert (final["k"]["c"], final["k"]["n"]) == (row[4], row[8])
    following = (await client.next())["data"]["k"]
    assert (following["t"], following["x"]) == (close, False)


async def test_next_before_final_lets_the_next_candle_overtake_a_delayed_final(
    sandbox, connect, clock, close
):
    client = await connect(sandbox, Market.UM, stream("btcusdt@kline_1m"))
    switches = sandbox.faults.stream(Market.UM)
    switches.final_delay, switches.next_before_final = 900, True
    clock.now_ms = close + 300
    assert (await client.next())["data"]["k"]["t"] == close
    clock.now_ms = close + 1_000
    kinds = [(await client.next())["data"]["k"]["x"] for _ in range(2)]
    assert sorted(kinds) == [False, True]


async def test_measured_finals_differ_by_stream_and_follow_their_profile(sandbox_with, connect, clock, close):
    sandbox = await sandbox_with(final_delay="measured", um_symbols=40)
    specs = [spec for spec in sandbox.market(Market.UM).symbols if spec.symbol.isascii() and not spec.quiet]
    perpetual = [spec.symbol for spec in specs if spec.contract_type == "PERPETUAL"]
    plain = [f"{symbol.lower()}@kline_1m" for symbol in perpetual]
    continuous = [f"{symbol.lower()}_perpetual@continuousKline_1m" for symbol in perpetual]
    client = await connect(sandbox, Market.UM, stream(*plain))
    other = await connect(sandbox, Market.UM, stream(*continuous))
    spot = await connect(sandbox, Market.SPOT, "/stream?streams=btcusdt@kline_1m")
    clock.now_ms = close + 130
    assert (await finals(spot, 1))[0]["E"] == clock()
    events = await finals(other, len(perpetual))
    assert {event["ps"] for event in events} == set(perpetual)
    seen = {}
    for since in range(200, 3_200, 200):
        clock.now_ms = close + since
        await asyncio.sleep(0.04)
    while len(seen) < len(perpetual):
        (event,) = await finals(client, 1)
        seen[event["s"]] = event["E"] - close
    for symbol, came in seen.items():
        due = final_delay_ms("plain", 1, symbol, close, is_spot=False, is_continuous=False)
        assert due <= came <= due + 600, symbol


async def test_delayed_finals_of_several_candles_stay_in_order(sandbox, connect, clock, close):
    client = await connect(sandbox, Market.UM, stream("btcusdt@kline_1m"))
    sandbox.faults.stream(Market.UM).final_delay = "plain"
    clock.now_ms = close + 5 * MINUTE + 3_100
    events = await finals(client, 6)
    assert [event["k"]["t"] for event in events] == [close + n * MINUTE for n in range(-1, 5)]


async def test_finals_of_single_symbols_are_held_back_longer(sandbox, connect, clock, close):
    client = await connect(
        sandbox, Market.UM, stream("btcusdt@kline_1m", "ethusdt@kline_1m", "bnbusdt@kline_1m")
    )
    switches = sandbox.faults.stream(Market.UM)
    switches.late_final_s = 0.2
    switches.late_final_by_symbol = {"BTCUSDT": 0.6, "BNBUSDT": 0.0}
    clock.now_ms = close + 20
    assert [event["s"] for event in await finals(client, 3)] == ["BNBUSDT", "ETHUSDT", "BTCUSDT"]


async def test_a_delayed_final_of_a_stream_that_was_left_is_not_sent(sandbox, connect, clock, close):
    name = "btcusdt@kline_1m"
    client = await connect(sandbox, Market.UM, stream(name))
    sandbox.faults.stream(Market.UM).final_delay = 500
    clock.now_ms = close + 20
    await asyncio.sleep(0.1)
    await client.ask("UNSUBSCRIBE", [name])
    await client.ask("SUBSCRIBE", [name])
    clock.now_ms = close + 600
    assert (await client.next())["data"]["k"]["t"] == close
    sandbox.delist(Market.UM, "BTCUSDT")
    clock.now_ms = close + 2 * MINUTE
    assert await client.is_silent()


# -- REST behind -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "host", "target"),
    [
        (Market.SPOT, "API", "/api/v3/klines?symbol=BTCUSDT"),
        (Market.SPOT, "API", "/api/v3/uiKlines?symbol=BTCUSDT"),
        (Market.UM, "FAPI", "/fapi/v1/klines?symbol=BTCUSDT"),
        (Market.UM, "FAPI", "/fapi/v1/continuousKlines?pair=BTCUSDT&contractType=PERPETUAL"),
        (Market.UM, "FAPI", "/fapi/v1/markPriceKlines?symbol=BTCUSDT"),
        (Market.UM, "FAPI", "/fapi/v1/indexPriceKlines?pair=BTCUSDT"),
        (Market.CM, "DAPI", "/dapi/v1/klines?symbol=BTCUSD_PERP"),
        (Market.CM, "DAPI", "/dapi/v1/continuousKlines?pair=BTCUSD&contractType=PERPETUAL"),
    ],
)
async def test_every_kline_path_trails_behind_after_a_close(
    sandbox, http, clock, close, market, host, target
):
    base = sandbox.urls[f"UPSTREAM_{host}"]
    sandbox.faults.stream(market).rest_lag_ms = 1000

    async def closes():
        _, rows, _ = await http.call(base, f"{target}&interval=1m&limit=2")
        return [row[0] for row in rows], rows[-1][4]

    clock.now_ms = close - 500
    early = await closes()
    clock.now_ms = close + 500
    assert await closes() == early
    assert early[0][-1] == close - MINUTE
    time_path = {"API": "/api/v3/time", "FAPI": "/fapi/v1/time", "DAPI": "/dapi/v1/time"}[host]
    assert (await http.call(base, time_path))[1] == {"serverTime": close + 500}
    clock.now_ms = close + 1000
    assert (await closes())[0] == [close - MINUTE, close]
    sandbox.faults.stream(market).rest_lag_ms = 0
    clock.now_ms = close + MINUTE
    assert (await closes())[0] == [close, close + MINUTE]


# -- off the grid ----------------------------------------------------------------------------


async def test_the_stream_shows_the_candle_after_an_outage_as_rest_does(sandbox, connect, http, clock, close):
    end = close + 5 * MINUTE + 23_750
    sandbox.add_outage(Outage("um", "BTCUSDT", close + 10_000, end, early_close=True))
    client = await connect(sandbox, Market.UM, stream("btcusdt@kline_1m"))
    clock.now_ms = close + 2 * MINUTE
    events = await finals(client, 2)
    assert [event["k"]["t"] for event in events] == [close - MINUTE, close]
    clock.now_ms = end
    assert await client.is_silent()
    clock.now_ms = end + 1_000
    event = (await client.next())["data"]
    assert (event["k"]["t"], event["k"]["T"]) == (end, close + 6 * MINUTE - 1)
    _, rows, _ = await http.call(
        sandbox.urls["UPSTREAM_FAPI"], f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime={close}"
    )
    assert [(row[0], row[6]) for row in rows] == [(close, close + 9_999), (end, close + 6 * MINUTE - 1)]
    assert rows[1][4] == event["k"]["c"]
    clock.now_ms = close + 6 * MINUTE + 50
    final = (await finals(client, 1))[0]
    assert final["k"]["t"] == end


async def test_seconds_without_trades_bring_no_event_where_holes_are_wanted(sandbox_with, connect, clock):
    sandbox = await sandbox_with(holes_1s=True, spot_symbols=["NKNUSDT"])
    client = await connect(sandbox, Market.SPOT, "/stream?streams=nknusdt@kline_1s")
    start = clock() // 1000 * 1000
    path = sandbox.market(Market.SPOT).series["NKNUSDT"].path
    seconds = range(start, start + 40 * MINUTE, 1000)
    traded = [at for at in seconds if path.trade_id_at(at + 1000) > path.trade_id_at(at)]
    assert traded
    for at in range(start, traded[0] + 3_000, 30_000):
        clock.now_ms = at
        await asyncio.sleep(0.03)
    clock.now_ms = traded[0] + 3_000
    assert (await finals(client, 1))[0]["k"]["t"] == traded[0]
