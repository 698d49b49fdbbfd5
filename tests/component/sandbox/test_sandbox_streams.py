"""The rules of stream connections and what is pushed, over real sockets."""

import asyncio

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, SandboxConfig

pytestmark = pytest.mark.component


# -- modes and control messages --------------------------------------------------------------


async def test_raw_and_combined_mode_wrap_as_asked(sandbox, connect, clock):
    raw = await connect(sandbox, Market.SPOT, "/ws/btcusdt@bookTicker")
    combined = await connect(sandbox, Market.SPOT, "/stream?streams=btcusdt@bookTicker")
    await sandbox.burst(Market.SPOT, "BTCUSDT", 1)
    event = await raw.next()
    wrapped = await combined.next()
    assert wrapped == {"stream": "btcusdt@bookTicker", "data": event}
    await raw.ask("SET_PROPERTY", ["combined", True])
    assert (await raw.ask("GET_PROPERTY", ["combined"]))["result"] is True
    await sandbox.burst(Market.SPOT, "BTCUSDT", 1)
    assert (await raw.next())["stream"] == "btcusdt@bookTicker"


async def test_subscribe_list_and_unsubscribe(sandbox, connect):
    client = await connect(sandbox, Market.SPOT, "/stream")
    answer = await client.ask("SUBSCRIBE", ["btcusdt@bookTicker", "ethusdt@bookTicker", "no-such-thing"])
    assert answer == {"result": None, "id": 1}
    names = (await client.ask("LIST_SUBSCRIPTIONS"))["result"]
    assert set(names) == {"btcusdt@bookTicker", "ethusdt@bookTicker", "no-such-thing"}
    assert sandbox.subscriptions(Market.SPOT) == [names]
    await client.ask("UNSUBSCRIBE", ["btcusdt@bookTicker", "never@subscribed"])
    await sandbox.burst(Market.SPOT, "BTCUSDT", 1)
    await sandbox.burst(Market.SPOT, "ETHUSDT", 1)
    assert (await client.next())["stream"] == "ethusdt@bookTicker"


async def test_upper_case_names_are_acknowledged_and_silent(sandbox, connect):
    client = await connect(sandbox, Market.SPOT, "/ws")
    assert (await client.ask("SUBSCRIBE", ["BTCUSDT@bookTicker", "btcusdt@bookticker"]))["result"] is None
    await sandbox.burst(Market.SPOT, "BTCUSDT", 2)
    assert await client.is_silent()


async def test_unknown_paths_are_404(sandbox, http):
    for path in ("/", "/other", "/market/ws/btcusdt@kline_1m"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + path)
        assert caught.value.status == 404


async def test_malformed_json_is_answered_with_code_3(sandbox, connect):
    spot = await connect(sandbox, Market.SPOT, "/ws")
    await spot.socket.send_str("{nonsense")
    assert (await spot.next())["code"] == 3
    um = await connect(sandbox, Market.UM, "/ws")
    await um.socket.send_str("{nonsense")
    assert (await um.next())["error"]["code"] == 3


# -- the USD-M split -------------------------------------------------------------------------

UM_CASES = [
    ("/public", True, False),
    ("/market", False, True),
    ("/private", False, False),
    ("", True, False),
]


@pytest.mark.parametrize(("path", "has_book", "has_kline"), UM_CASES)
async def test_um_path_decides_what_is_delivered(sandbox, connect, clock, path, has_book, has_kline):
    url = f"{path}/stream?streams=btcusdt@bookTicker/btcusdt@kline_1m"
    client = await connect(sandbox, Market.UM, url)
    late = await client.ask("SUBSCRIBE", ["ethusdt@bookTicker", "ethusdt@kline_1m"])
    assert late["result"] is None
    expected = ({"bookTicker"} if has_book else set()) | ({"kline_1m"} if has_kline else set())
    clock.now_ms += 1000
    seen = {(await client.next())["stream"].partition("@")[2] for _ in range(2 * len(expected))}
    assert seen == expected
    assert await client.is_silent()


async def test_cm_delivers_both_classes_on_one_socket(sandbox, connect, clock):
    url = "/stream?streams=btcusd_perp@bookTicker/btcusd_perp@kline_1m"
    client = await connect(sandbox, Market.CM, url)
    clock.now_ms += 1000
    assert {(await client.next())["stream"] for _ in range(2)} == {
        "btcusd_perp@bookTicker",
        "btcusd_perp@kline_1m",
    }


async def test_private_path_accepts_a_listen_key_in_the_query(sandbox, connect, http):
    headers = {"X-MBX-APIKEY": API_KEY}
    _, body, _ = await http.call(sandbox.urls["UPSTREAM_FAPI"], "/fapi/v1/listenKey", "POST", headers=headers)
    path = f"/private/ws?listenKey={body['listenKey']}&events=ORDER_TRADE_UPDATE"
    client = await connect(sandbox, Market.UM, path)
    assert (await client.ask("LIST_SUBSCRIPTIONS"))["result"] == [body["listenKey"]]


# -- payloads --------------------------------------------------------------------------------


async def test_book_tickers_have_each_markets_keys_and_match_rest(sandbox, connect, clock):
    keys = {
        Market.SPOT: ["u", "s", "b", "B", "a", "A"],
        Market.UM: ["e", "u", "E", "T", "s", "b", "B", "a", "A", "ps", "st"],
        Market.CM: ["e", "u", "E", "T", "s", "b", "B", "a", "A", "ps", "st"],
    }
    for market, names in keys.items():
        symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
        client = await connect(sandbox, market, f"/ws/{symbol.lower()}@bookTicker")
        assert await client.is_silent(0.1)
        clock.now_ms += 1000
        event = await client.next()
        assert list(event) == names
        truth = sandbox.market(market).book_ticker(symbol)
        assert (event["u"], event["b"], event["A"]) == (truth.update_id, truth.bid, truth.ask_qty)
        clock.now_ms += 1000
        assert (await client.next())["u"] > event["u"]


def as_row(event):
    k = event["k"]
    return [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], k["B"]]


STREAM_OF = {
    Market.SPOT: ("/ws/btcusdt@kline_1m", "BTCUSDT", 2000),
    Market.UM: ("/market/ws/btcusdt@kline_1m", "BTCUSDT", 250),
    Market.CM: ("/ws/btcusd_perp@kline_1m", "BTCUSD_PERP", 250),
}


@pytest.mark.parametrize("market", list(STREAM_OF))
async def test_kline_events_are_the_rest_rows_of_their_moment(sandbox, connect, clock, market):
    path, symbol, push_ms = STREAM_OF[market]
    client = await connect(sandbox, market, path)
    store = sandbox.market(market)
    clock.now_ms += push_ms
    event = await client.next()
    assert (event["e"], event["s"], event["k"]["x"], event["E"]) == ("kline", symbol, False, clock())
    assert as_row(event) == store.kline_rows(symbol, "1m", limit=1)[0]
    assert event["k"]["L"] - event["k"]["f"] + 1 == event["k"]["n"]
    clock.now_ms = event["k"]["T"] + 30
    final = await client.until(lambda e: e["k"]["x"])
    closed, fresh = store.kline_rows(symbol, "1m", limit=2)
    assert as_row(final) == closed
    clock.now_ms += push_ms
    following = await client.until(lambda e: e["k"]["t"] == fresh[0])
    assert following["k"]["x"] is False
    assert following["k"]["f"] == final["k"]["L"] + 1


async def test_a_jump_of_the_clock_yields_every_final_candle_in_order(sandbox, connect, clock):
    client = await connect(sandbox, Market.UM, "/market/ws/btcusdt@kline_1m")
    first = clock() // 60_000 * 60_000
    clock.now_ms = first + 5 * 60_000 + 100
    finals = [await client.until(lambda e: e["k"]["x"]) for _ in range(5)]
    assert [e["k"]["t"] for e in finals] == [first + i * 60_000 for i in range(5)]


async def test_quiet_candles_end_with_an_event_on_spot_and_without_on_futures(sandbox_with, connect, clock):
    sandbox = await sandbox_with(quiet_symbols=["BTCUSDT"])
    spot = await connect(sandbox, Market.SPOT, "/ws/btcusdt@kline_1m")
    um = await connect(sandbox, Market.UM, "/market/ws/btcusdt@kline_1m")
    start = clock() // 60_000 * 60_000
    clock.now_ms = start + 30 * 60_000 + 100
    events = [await spot.until(lambda e: e["k"]["x"]) for _ in range(30)]
    flat = [e["k"] for e in events if e["k"]["n"] == 0]
    assert flat
    assert all(k["f"] == k["L"] == -1 for k in flat)
    rows = sandbox.market(Market.UM).kline_rows("BTCUSDT", "1m", start, start + 30 * 60_000 - 1, 100)
    traded = [row[0] for row in rows if row[8]]
    assert 0 < len(traded) < 30
    assert [(await um.until(lambda e: e["k"]["x"]))["k"]["t"] for _ in traded] == traded


async def test_candles_of_another_time_zone_can_be_subscribed_on_spot(sandbox, connect, clock):
    client = await connect(sandbox, Market.SPOT, "/stream?streams=btcusdt@kline_1d@%2B08:00")
    clock.now_ms += 2000
    event = await client.next()
    assert event["stream"] == "btcusdt@kline_1d@+08:00"
    assert (event["data"]["k"]["t"] + 8 * 3_600_000) % 86_400_000 == 0


async def test_continuous_klines_carry_pair_and_contract_type(sandbox, connect, clock):
    client = await connect(sandbox, Market.CM, "/ws/btcusd_perpetual@continuousKline_1m")
    clock.now_ms += 1000
    event = await client.next()
    assert (event["e"], event["ps"], event["ct"]) == ("continuous_kline", "BTCUSD", "PERPETUAL")
    assert "s" not in event["k"]


async def test_continuous_klines_are_the_plain_ones_but_for_the_ids(sandbox, connect, clock):
    plain = await connect(sandbox, Market.UM, "/market/ws/btcusdt@kline_1m")
    for name in ("btcusdt_perpetual", "tslausdt_tradifi_perpetual"):
        client = await connect(sandbox, Market.UM, f"/market/ws/{name}@continuousKline_1m")
        clock.now_ms += 1000
        event, other = await client.next(), await plain.next()
        if name == "btcusdt_perpetual":
            same = [key for key in event["k"] if key not in ("f", "L")]
            assert {key: event["k"][key] for key in same} == {key: other["k"][key] for key in same}
            assert event["k"]["L"] - event["k"]["f"] > event["k"]["n"], "these are no trade ids"
        else:
            assert event["ct"] == "TRADIFI_PERPETUAL"


async def test_all_market_streams_are_merged_on_futures(sandbox, connect, clock):
    client = await connect(sandbox, Market.CM, "/ws/!markPrice@arr@1s")
    clock.now_ms += 1000
    rows = await client.next()
    assert {row["st"] for row in rows} == {1, 2}
    dated = next(row for row in rows if row["s"].endswith("261225"))
    assert (dated["r"], dated["T"]) == ("", 0)


@pytest.mark.parametrize(
    ("market", "name", "kind"),
    [
        (Market.SPOT, "btcusdt@miniTicker", "24hrMiniTicker"),
        (Market.SPOT, "btcusdt@ticker", "24hrTicker"),
        (Market.SPOT, "btcusdt@aggTrade", "aggTrade"),
        (Market.SPOT, "btcusdt@trade", "trade"),
        (Market.UM, "btcusdt@markPrice", "markPriceUpdate"),
        (Market.UM, "btcusdt@depth5", "depthUpdate"),
        (Market.UM, "!bookTicker", "bookTicker"),
    ],
)
async def test_other_streams_deliver_their_event(sandbox, connect, clock, market, name, kind):
    prefix = ("/public" if "ook" in name or "depth" in name else "/market") if market is Market.UM else ""
    client = await connect(sandbox, market, f"{prefix}/ws/{name}")
    clock.now_ms += 6000
    assert (await client.next())["e"] == kind


async def test_symbol_outside_ascii_streams_as_utf8(sandbox, connect, clock):
    client = await connect(sandbox, Market.UM, "/public/stream")
    await client.ask("SUBSCRIBE", ["币安人生usdt@bookTicker"])
    clock.now_ms += 1000
    event = await client.next()
    assert (event["stream"], event["data"]["s"]) == ("币安人生usdt@bookTicker", "币安人生USDT")


async def test_burst_of_20000_updates_arrives_whole_and_in_order(sandbox, connect):
    clients = [await connect(sandbox, Market.UM, "/public/ws/btcusdt@bookTicker") for _ in range(2)]

    async def collect(client):
        return [orjson.loads((await client.socket.receive()).data)["u"] for _ in range(20_000)]

    last, *seen = await asyncio.gather(
        sandbox.burst(Market.UM, "BTCUSDT", 20_000), *(collect(client) for client in clients)
    )
    for ids in seen:
        assert ids == list(range(ids[0], ids[0] + 20_000))
        assert ids[-1] == last
    assert sandbox.market(Market.UM).book_ticker("BTCUSDT").update_id == last


# -- limits and life -------------------------------------------------------------------------


async def test_the_1025th_stream_closes_the_connection(sandbox, connect):
    names = [f"x{number}@bookTicker" for number in range(1025)]
    client = await connect(sandbox, Market.UM, "/public/ws/" + "/".join(names[:1000]))
    assert (await client.ask("SUBSCRIBE", names[1000:1024]))["result"] is None
    answer = await client.ask("SUBSCRIBE", names[1024:])
    assert answer == {"error": {"code": 4, "msg": "Too many subscriptions"}}
    assert await client.close_code() == 1008


@pytest.mark.parametrize(("market", "rate"), [(Market.SPOT, 5), (Market.UM, 10)])
async def test_too_many_messages_in_a_second_close_with_1008(sandbox, connect, market, rate):
    client = await connect(sandbox, market, "/ws")
    for number in range(rate + 1):
        await client.socket.send_str(f'{{"method":"LIST_SUBSCRIPTIONS","id":{number}}}')
    for number in range(rate):
        assert (await client.next())["id"] == number
    assert await client.close_code() == 1008


async def test_pong_frames_count_as_messages(sandbox, connect):
    client = await connect(sandbox, Market.SPOT, "/ws")
    for _ in range(6):
        await client.socket.pong(b"")
    assert await client.close_code() == 1008


async def test_messages_over_4_kilobytes_close_the_connection(sandbox, connect):
    client = await connect(sandbox, Market.SPOT, "/ws")
    assert (await client.ask("SUBSCRIBE", ["x" * 4000]))["result"] is None
    await client.socket.send_str('{"method":"SUBSCRIBE","params":["' + "x" * 4096 + '"],"id":2}')
    assert await client.close_code() == 1008


async def test_client_pings_are_answered_and_a_close_is_returned(sandbox, connect):
    client = await connect(sandbox, Market.SPOT, "/ws", autoping=False)
    await client.socket.ping(b"hello")
    message = await client.socket.receive()
    assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"hello")
    await client.socket.close()
    assert client.socket.close_code is not None


async def test_server_pings_and_an_echoed_pong_keeps_the_connection(sandbox_with, connect, wait_until):
    sandbox = await sandbox_with(spot_ping_s=0.25, pong_timeout_s=0.8)
    client = await connect(sandbox, Market.SPOT, "/ws", autoping=False)
    for _ in range(5):
        message = await asyncio.wait_for(client.socket.receive(), 5)
        assert message.type is WSMsgType.PING
        assert message.data
        await client.socket.pong(message.data)
    assert sandbox.stream_connections["spot"] == 1


async def test_pongs_with_the_wrong_payload_do_not_count(sandbox_with, connect):
    sandbox = await sandbox_with(spot_ping_s=0.1, pong_timeout_s=0.4, spot_message_rate=1000)
    client = await connect(sandbox, Market.SPOT, "/ws", autoping=False)

    async def answer_wrongly():
        while (message := await client.socket.receive()).type is WSMsgType.PING:
            await client.socket.pong(b"not " + message.data)
        return message.type

    ended = await asyncio.wait_for(answer_wrongly(), 5)
    assert ended in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert client.socket.close_code == 1006


async def test_connections_end_at_their_maximum_age(sandbox_with, connect):
    sandbox = await sandbox_with(max_age_s=0.2)
    client = await connect(sandbox, Market.CM, "/ws")
    assert await client.close_code() == 1001


async def test_connection_rate_is_limited_per_address(sandbox_with, connect):
    sandbox = await sandbox_with(connection_limit=2)
    for _ in range(2):
        await connect(sandbox, Market.SPOT, "/ws")
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await connect(sandbox, Market.SPOT, "/ws")
    assert caught.value.status == 429


async def test_connections_are_forgotten_when_clients_leave(sandbox, connect, wait_until):
    client = await connect(sandbox, Market.SPOT, "/ws/btcusdt@bookTicker")
    assert sandbox.stream_connections["spot"] == 1
    await client.socket.close()
    await wait_until(lambda: sandbox.stream_connections["spot"] == 0)
    assert sandbox.stream_accepted["spot"] == 1


async def test_ws_api_answers_ping_and_time(sandbox, http, clock):
    async with http.session.ws_connect(sandbox.urls["WS_API_SPOT"] + "/ws-api/v3") as socket:
        for method, result in (("ping", {}), ("time", {"serverTime": clock()})):
            await socket.send_json({"id": "a1", "method": method})
            answer = await socket.receive_json()
            assert (answer["id"], answer["status"], answer["result"]) == ("a1", 200, result)
        await socket.send_str("nonsense")
        assert (await socket.receive_json())["status"] == 400


def test_default_push_intervals_are_binances():
    config = SandboxConfig()
    assert config.push_ms("spot", "1m") == 2000
    assert config.push_ms("spot", "1s") == 1000
    assert config.push_ms("um", "1m") == config.push_ms("cm", "1h") == 250
