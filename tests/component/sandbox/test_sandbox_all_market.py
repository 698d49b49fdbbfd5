"""The streams of all symbols: !miniTicker@arr and !bookTicker."""

from itertools import pairwise

import pytest

from resender.core.binance.markets import Market

pytestmark = pytest.mark.component
ARRAY = "!miniTicker@arr"
PATH = {Market.SPOT: "", Market.UM: "/market", Market.CM: ""}
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


def row_of(rows, symbol):
    return next(row for row in rows if row["s"] == symbol)


@pytest.mark.parametrize("market", list(PATH))
async def test_array_of_mini_tickers_carries_the_last_trade_of_each_symbol(sandbox, connect, clock, market):
    symbol = SYMBOL[market]
    names = f"{ARRAY}/{symbol.lower()}@kline_1m"
    client = await connect(sandbox, market, f"{PATH[market]}/stream?streams={names}")
    for _ in range(3):
        clock.now_ms += 2000
        events = [await client.next() for _ in range(2)]
        array = next(event for event in events if event["stream"] == ARRAY)["data"]
        candle = next(event for event in events if event["stream"] != ARRAY)["data"]["k"]
        row = row_of(array, symbol)
        assert list(row)[:9] == ["e", "E", "s", "c", "o", "h", "l", "v", "q"]
        assert (row["e"], row["E"]) == ("24hrMiniTicker", clock())
        assert row["c"] == candle["c"] == sandbox.market(market).kline_rows(symbol, "1m", limit=1)[0][4]
        assert ("ps" in row, "st" in row) == ((False, False) if market is Market.SPOT else (True, True))
        assert {row.get("st") for row in array} == ({None} if market is Market.SPOT else {1, 2})


async def test_array_is_bare_in_raw_mode(sandbox, connect, clock):
    client = await connect(sandbox, Market.SPOT, f"/ws/{ARRAY}")
    clock.now_ms += 1000
    rows = await client.next()
    assert {row["e"] for row in rows} == {"24hrMiniTicker"}


async def test_array_holds_only_what_has_traded_and_is_not_sent_when_nothing_has(
    sandbox_with, connect, clock
):
    sandbox = await sandbox_with(spot_symbols=["BTCUSDT", "ETHUSDT", "NKNUSDT"])
    client = await connect(sandbox, Market.SPOT, f"/stream?streams={ARRAY}")
    path = sandbox.market(Market.SPOT).series["NKNUSDT"].path
    has_been_quiet = False
    for _ in range(3):
        before = path.trade_id_at(clock())
        clock.now_ms += 1000
        symbols = {row["s"] for row in (await client.next())["data"]}
        quiet = path.trade_id_at(clock()) == before
        assert symbols == {"BTCUSDT", "ETHUSDT"} | (set() if quiet else {"NKNUSDT"})
        has_been_quiet |= quiet
    assert has_been_quiet
    sandbox.halt(Market.SPOT, "BTCUSDT")
    clock.now_ms += 1000
    last = sandbox.market(Market.SPOT).kline_rows("BTCUSDT", "1m", limit=1)[0]
    assert {row["s"] for row in (await client.next())["data"]} <= {"ETHUSDT", "NKNUSDT"}
    for symbol in ("ETHUSDT", "NKNUSDT"):
        sandbox.halt(Market.SPOT, symbol)
    clock.now_ms += 1000
    assert await client.is_silent()
    sandbox.resume(Market.SPOT, "BTCUSDT")
    clock.now_ms += 1000
    (row,) = (await client.next())["data"]
    assert row["s"] == "BTCUSDT"
    assert row["c"] == sandbox.market(Market.SPOT).kline_rows("BTCUSDT", "1m", limit=1)[0][4] != last[4]


async def test_array_can_be_subscribed_listed_and_left(sandbox, connect, clock):
    client = await connect(sandbox, Market.UM, "/market/stream")
    assert (await client.ask("SUBSCRIBE", [ARRAY]))["result"] is None
    assert (await client.ask("LIST_SUBSCRIPTIONS"))["result"] == [ARRAY]
    clock.now_ms += 1000
    assert (await client.next())["stream"] == ARRAY
    await client.ask("UNSUBSCRIBE", [ARRAY])
    clock.now_ms += 1000
    assert await client.is_silent()


async def test_array_is_silent_on_the_public_path_of_usd_m(sandbox, connect, clock):
    for path in ("/public", "/private", ""):
        client = await connect(sandbox, Market.UM, f"{path}/stream?streams={ARRAY}")
        assert (await client.ask("LIST_SUBSCRIPTIONS"))["result"] == [ARRAY]
        clock.now_ms += 1000
        assert await client.is_silent(0.1)


async def test_array_is_struck_by_silence_and_drops(sandbox, connect, clock, wait_until):
    client = await connect(sandbox, Market.CM, f"/stream?streams={ARRAY}")
    sandbox.faults.silence(Market.CM)
    clock.now_ms += 1000
    assert await client.is_silent()
    sandbox.faults.silence(Market.CM, on=False)
    assert sandbox.faults.mute(Market.CM, "miniTicker") == 1
    clock.now_ms += 1000
    assert await client.is_silent()
    sandbox.faults.unmute(Market.CM)
    clock.now_ms += 1000
    assert (await client.next())["stream"] == ARRAY
    sandbox.faults.drop_streams(Market.CM)
    await client.close_code()
    await wait_until(lambda: sandbox.stream_connections["cm"] == 0)


async def test_book_tickers_of_all_symbols_come_every_5_seconds_at_most_on_usd_m(
    sandbox_with, connect, clock
):
    sandbox = await sandbox_with(um_symbols=["BTCUSDT", "ETHUSDT"], cm_symbols=["BTCUSD_PERP"])
    client = await connect(sandbox, Market.UM, "/public/stream?streams=!bookTicker")
    sent = {}
    for _ in range(48):
        clock.now_ms += 250
        while (event := await client.maybe(0.04)) is not None:
            row = event["data"]
            store = sandbox.market(Market.CM if row["st"] == 2 else Market.UM)
            truth = store.book_ticker(row["s"], row["E"])
            assert (event["stream"], row["e"]) == ("!bookTicker", "bookTicker")
            assert (row["u"], row["b"]) == (truth.update_id, truth.bid)
            sent.setdefault(row["s"], []).append(row["E"])
    assert set(sent) == {"BTCUSDT", "ETHUSDT", "BTCUSD_PERP"}
    for times in sent.values():
        assert len(times) >= 2
        assert all(5000 <= b - a <= 5500 for a, b in pairwise(times))


async def test_book_tickers_of_all_symbols_come_at_once_on_coin_m(sandbox_with, connect, clock):
    sandbox = await sandbox_with(um_symbols=["BTCUSDT"], cm_symbols=["BTCUSD_PERP"])
    client = await connect(sandbox, Market.CM, "/stream?streams=!bookTicker")
    for _ in range(4):
        clock.now_ms += 250
        seen = {(await client.next())["data"]["s"] for _ in range(2)}
        assert seen == {"BTCUSDT", "BTCUSD_PERP"}
    sandbox.faults.freeze_book_ticker(Market.CM)
    clock.now_ms += 1000
    assert await client.is_silent()


async def test_book_tickers_of_all_symbols_left_spot(sandbox, connect, clock):
    client = await connect(sandbox, Market.SPOT, "/stream?streams=!bookTicker")
    clock.now_ms += 6000
    assert await client.is_silent()
