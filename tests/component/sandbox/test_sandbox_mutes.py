"""Connections that live on while their streams say nothing any more."""

import asyncio
import re

import pytest
from aiohttp import WSMsgType

from resender.core.binance.markets import Market

pytestmark = pytest.mark.component
PATH = "/public/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker"
BOOK = "btcusdt@bookTicker"


@pytest.fixture
def names_after(clock):
    """Let a second pass and return the streams that brought something."""

    async def watch(*clients):
        clock.now_ms += 1000
        names = []
        for client in clients:
            seen = set()
            while (event := await client.maybe(0.3)) is not None:
                seen.add(event.get("stream"))
            names.append(seen)
        return names[0] if len(names) == 1 else names

    return watch


async def test_a_muted_stream_stays_mute_on_its_connection_and_works_on_a_new_one(
    sandbox, connect, names_after
):
    old = await connect(sandbox, Market.UM, PATH)
    assert sandbox.faults.mute(Market.UM, BOOK) == 1
    new = await connect(sandbox, Market.UM, PATH)
    other = {"ethusdt@bookTicker"}
    assert await names_after(old, new) == [other, {BOOK, *other}]
    assert (await old.ask("UNSUBSCRIBE", [BOOK]))["result"] is None
    assert (await old.ask("SUBSCRIBE", [BOOK]))["result"] is None
    assert await names_after(old) == other
    assert set((await old.ask("LIST_SUBSCRIPTIONS"))["result"]) == {BOOK, *other}
    sandbox.faults.unmute(Market.UM)
    assert await names_after(old, new) == [{BOOK, *other}] * 2


async def test_muted_everywhere_means_new_connections_too(sandbox, connect, names_after):
    sandbox.faults.mute(Market.UM, "@bookTicker", everywhere=True)
    client = await connect(sandbox, Market.UM, PATH)
    assert await names_after(client) == set()
    assert sandbox.faults.mute(Market.UM, "@bookTicker") == 2
    sandbox.faults.unmute(Market.UM)
    assert len(await names_after(client)) == 2
    assert len(await names_after(await connect(sandbox, Market.UM, PATH))) == 2


async def test_with_all_data_muted_acks_pings_and_pongs_go_on(sandbox_with, connect, clock):
    sandbox = await sandbox_with(spot_ping_s=0.3)
    client = await connect(sandbox, Market.SPOT, f"/stream?streams={BOOK}/btcusdt@kline_1m", autoping=False)
    assert sandbox.faults.mute(Market.SPOT, "") == 2
    clock.now_ms += 5000
    await client.socket.ping(b"still there?")
    await client.socket.send_str('{"method":"SUBSCRIBE","params":["ethusdt@bookTicker"],"id":7}')
    kinds = set()
    while kinds != {WSMsgType.PONG, WSMsgType.TEXT, WSMsgType.PING}:
        message = await asyncio.wait_for(client.socket.receive(), 5)
        kinds.add(message.type)
        assert message.type is not WSMsgType.TEXT or message.data == '{"result":null,"id":7}'
    clock.now_ms += 5000
    assert (await asyncio.wait_for(client.socket.receive(), 5)).type is WSMsgType.PING


async def test_mutes_match_by_part_of_the_name_and_by_expression(sandbox, connect, names_after):
    names = {"btcusdt@kline_1m", "btcusdt@kline_15m", "ethusdt@kline_1m"}
    client = await connect(sandbox, Market.UM, f"/market/stream?streams={'/'.join(sorted(names))}")
    assert sandbox.faults.mute(Market.UM, "@kline_1m") == 2
    assert await names_after(client) == {"btcusdt@kline_15m"}
    sandbox.faults.unmute(Market.UM)
    assert sandbox.faults.mute(Market.UM, r"^btc.*_1\d?m$") == 2
    assert await names_after(client) == {"ethusdt@kline_1m"}
    with pytest.raises(re.error):
        sandbox.faults.mute(Market.UM, "(")
    sandbox.faults.clear()
    assert await names_after(client) == names


async def test_bursts_and_damaged_events_respect_mutes(sandbox, connect):
    client = await connect(sandbox, Market.UM, PATH)
    other = await connect(sandbox, Market.SPOT, f"/stream?streams={BOOK}")
    sandbox.faults.mute(Market.UM, BOOK)
    await sandbox.burst(Market.UM, "BTCUSDT", 300)
    sandbox.faults.mute(Market.UM, "ethusdt")
    sandbox.faults.send_wrong_types(Market.UM)
    assert await client.is_silent()
    await sandbox.burst(Market.SPOT, "BTCUSDT", 1)
    assert (await other.next())["stream"] == BOOK


async def test_subscriptions_can_be_acknowledged_and_never_start(sandbox, connect, names_after):
    early = await connect(sandbox, Market.UM, "/public/stream?streams=ethusdt@bookTicker")
    sandbox.faults.never_start(Market.UM, "btcusdt@")
    late = await connect(sandbox, Market.UM, "/public/stream")
    for client in (early, late):
        assert (await client.ask("SUBSCRIBE", [BOOK, "solusdt@bookTicker"]))["result"] is None
        assert BOOK in (await client.ask("LIST_SUBSCRIPTIONS"))["result"]
    assert await names_after(early, late) == [
        {"ethusdt@bookTicker", "solusdt@bookTicker"},
        {"solusdt@bookTicker"},
    ]
    await sandbox.burst(Market.UM, "BTCUSDT", 3)
    assert await early.is_silent()
    sandbox.faults.never_start(Market.UM, "btcusdt@", on=False)
    assert BOOK not in await names_after(early)  # what never started stays dead
    await early.ask("UNSUBSCRIBE", [BOOK])
    await early.ask("SUBSCRIBE", [BOOK])
    assert BOOK in await names_after(early)
    assert BOOK not in await names_after(late)


async def test_never_started_streams_do_not_trouble_another_market(sandbox, connect, names_after):
    sandbox.faults.never_start(Market.UM, "")
    um = await connect(sandbox, Market.UM, PATH)
    spot = await connect(sandbox, Market.SPOT, f"/stream?streams={BOOK}")
    assert await names_after(um, spot) == [set(), {BOOK}]
    sandbox.faults.clear()
    assert len(await names_after(await connect(sandbox, Market.UM, PATH))) == 2
