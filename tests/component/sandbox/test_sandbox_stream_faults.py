"""Faults of streams, switched while connections are open."""

import asyncio

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType

from resender.core.binance.markets import Market

pytestmark = pytest.mark.component


@pytest.fixture
async def um(sandbox, http):
    """A USD-M kline socket and its sandbox."""
    url = sandbox.urls["STREAM_UM"] + "/market/stream?streams=btcusdt@kline_1m"
    async with http.session.ws_connect(url) as socket:
        yield socket


@pytest.fixture
async def spot(sandbox, http):
    """A spot bookTicker socket."""
    url = sandbox.urls["STREAM_SPOT"] + "/stream?streams=btcusdt@bookTicker"
    async with http.session.ws_connect(url) as socket:
        yield socket


async def text(socket, timeout_s=5.0):
    message = await asyncio.wait_for(socket.receive(), timeout_s)
    assert message.type is WSMsgType.TEXT, message
    return message.data


async def event(socket):
    return orjson.loads(await text(socket))["data"]


async def is_silent(socket, seconds=0.2):
    try:
        await asyncio.wait_for(socket.receive(), seconds)
    except asyncio.TimeoutError:
        return True
    return False


def next_minute(clock):
    clock.now_ms = (clock() // 60_000 + 1) * 60_000 + 20


async def test_dropped_connections_end_without_a_closing_handshake(sandbox, spot, wait_until):
    assert sandbox.faults.drop_streams(Market.SPOT) == 1
    message = await asyncio.wait_for(spot.receive(), 5)
    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert spot.close_code == 1006
    await wait_until(lambda: sandbox.stream_connections["spot"] == 0)


async def test_connections_can_be_closed_with_a_code(sandbox, spot):
    sandbox.faults.drop_streams(Market.SPOT, code=1012)
    message = await asyncio.wait_for(spot.receive(), 5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)


async def test_new_connections_are_refused_and_open_ones_stay(sandbox, spot, http):
    sandbox.faults.refuse_streams(Market.SPOT)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + "/ws")
    assert caught.value.status == 503
    sandbox.faults.refuse_streams(Market.SPOT, status=0)
    with pytest.raises(aiohttp.ClientError):
        await http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + "/ws")
    await sandbox.burst(Market.SPOT, "BTCUSDT", 1)
    assert (await event(spot))["s"] == "BTCUSDT"
    sandbox.faults.refuse_streams(Market.SPOT, on=False)
    async with http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + "/ws"):
        pass


async def test_silence_sends_nothing_not_even_pongs_and_ends_when_switched_off(sandbox, http, clock):
    url = sandbox.urls["STREAM_SPOT"] + "/ws/btcusdt@bookTicker"
    async with http.session.ws_connect(url, autoping=False) as socket:
        sandbox.faults.silence(Market.SPOT)
        await socket.ping(b"x")
        await socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        clock.now_ms += 1000
        assert await is_silent(socket)
        sandbox.faults.silence(Market.SPOT, on=False)
        clock.now_ms += 1000
        assert "BTCUSDT" in await text(socket)


async def test_any_frame_can_be_sent(sandbox, spot):
    sandbox.faults.send_raw(Market.SPOT, "}{ not json")
    assert await text(spot) == "}{ not json"
    sandbox.faults.send_raw(Market.SPOT, b"\x00\xff")
    message = await spot.receive()
    assert (message.type, message.data) == (WSMsgType.BINARY, b"\x00\xff")
    sandbox.faults.send_huge(Market.SPOT, 1.5)
    assert len(await text(spot)) > 1_500_000


async def test_truncated_json_and_wrong_types(sandbox, spot, um):
    for market, socket in ((Market.SPOT, spot), (Market.UM, um)):
        sandbox.faults.send_truncated(market)
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(await text(socket))
        sandbox.faults.send_wrong_types(market)
        wrong = await event(socket)
        assert not isinstance(wrong["s"], str)


async def test_every_frame_can_be_doubled(sandbox, spot, clock):
    sandbox.faults.stream(Market.SPOT).duplicate = True
    clock.now_ms += 1000
    assert await text(spot) == await text(spot)


async def test_frames_can_be_swapped(sandbox, spot, clock):
    sandbox.faults.stream(Market.SPOT).reorder = True

    async def move():
        while True:
            clock.now_ms += 250
            await asyncio.sleep(0.05)

    mover = asyncio.create_task(move())
    first, second = (await event(spot))["u"], (await event(spot))["u"]
    mover.cancel()
    assert first > second


async def test_final_candle_can_be_swallowed(sandbox, um, clock):
    sandbox.faults.stream(Market.UM).swallow_final = True
    next_minute(clock)
    await asyncio.sleep(0.05)
    clock.now_ms += 500
    assert (await event(um))["k"]["x"] is False


async def test_final_candle_can_be_late(sandbox, um, clock):
    sandbox.faults.stream(Market.UM).late_final_s = 0.3
    next_minute(clock)
    await asyncio.sleep(0.05)
    clock.now_ms += 500
    first, second = await event(um), await event(um)
    assert (first["k"]["x"], second["k"]["x"]) == (False, True)
    assert second["k"]["t"] < first["k"]["t"]


async def test_next_candle_can_come_before_the_final_one(sandbox, um, clock):
    sandbox.faults.stream(Market.UM).next_before_final = True
    next_minute(clock)
    first, second = await event(um), await event(um)
    assert (first["k"]["x"], second["k"]["x"]) == (False, True)
    assert first["k"]["t"] == second["k"]["T"] + 1


async def test_shutdown_notice_is_sent_in_the_mode_of_the_socket(sandbox, spot, http):
    async with http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + "/ws") as raw:
        sandbox.faults.server_shutdown(Market.SPOT)
        assert orjson.loads(await text(raw))["e"] == "serverShutdown"
    wrapped = orjson.loads(await text(spot))
    assert (wrapped["stream"], wrapped["data"]["e"]) == ("!serverShutdown", "serverShutdown")


async def test_frozen_book_ticker_is_silent_while_rest_moves_on(sandbox, spot, clock):
    before = sandbox.market(Market.SPOT).book_ticker("BTCUSDT")
    sandbox.faults.freeze_book_ticker(Market.SPOT, "BTCUSDT")
    clock.now_ms += 1000
    assert await is_silent(spot)
    assert sandbox.market(Market.SPOT).book_ticker("BTCUSDT").update_id > before.update_id


async def test_thawed_book_ticker_sends_the_newest_state(sandbox, spot, clock):
    sandbox.faults.freeze_book_ticker(Market.SPOT)
    clock.now_ms += 1000
    await asyncio.sleep(0.06)
    sandbox.faults.freeze_book_ticker(Market.SPOT, on=False)
    assert (await event(spot))["u"] == sandbox.market(Market.SPOT).book_ticker("BTCUSDT").update_id


async def test_halted_and_delisted_symbols_fall_silent(sandbox, um, spot, clock):
    sandbox.halt(Market.UM, "BTCUSDT")
    sandbox.delist(Market.SPOT, "BTCUSDT")
    clock.now_ms += 1000
    await event(um)  # what was traded before the halt
    clock.now_ms += 1000
    assert await is_silent(um)
    assert await is_silent(spot)
    sandbox.resume(Market.UM, "BTCUSDT")
    clock.now_ms += 1000
    assert (await event(um))["k"]["x"] is False


async def test_symbol_listed_while_running_can_be_subscribed(sandbox, spot, clock):
    sandbox.list_symbol(Market.SPOT, "FRESHUSDT")
    await spot.send_str('{"method":"SUBSCRIBE","params":["freshusdt@bookTicker"],"id":1}')
    assert orjson.loads(await text(spot))["id"] == 1
    await sandbox.burst(Market.SPOT, "FRESHUSDT", 1)
    assert (await event(spot))["s"] == "FRESHUSDT"


async def test_stream_service_can_go_away_and_come_back(sandbox, spot, http):
    await sandbox.stop_listening("stream_spot")
    message = await asyncio.wait_for(spot.receive(), 5)
    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + "/ws")
    await sandbox.start_listening("stream_spot")
    async with http.session.ws_connect(sandbox.urls["STREAM_SPOT"] + "/ws"):
        pass
