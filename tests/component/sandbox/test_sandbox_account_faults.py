"""Faults of accounts: lost, doubled, late events, silence, expiry, REST behind, and the truth to judge by."""

import asyncio
import time

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType

from resender.core.binance.markets import Market
from resender.sandbox import Fault
from tests.component.sandbox.accounts import SYMBOL

pytestmark = pytest.mark.component


async def pong(socket, seconds=0.5):
    """Tell whether a ping is answered."""
    await socket.ping(b"here?")
    try:
        while True:
            message = await asyncio.wait_for(socket.receive(), seconds)
            if message.type is WSMsgType.PONG:
                return message.data == b"here?"
            if message.type in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                return False
    except asyncio.TimeoutError:
        return False


async def test_events_that_fit_are_lost_and_no_other(trader):
    session = await trader.subscribed()
    faults = trader.sandbox.faults.accounts[Market.SPOT]
    faults.lose_next["executionReport CANCELED"] = 1
    first, second = await trader.limit(Market.SPOT), await trader.limit(Market.SPOT)
    for order in (first, second):
        await trader.ask(Market.SPOT, "order", f"symbol=BTCUSDT&orderId={order['orderId']}", "DELETE")
    told = [event for event in await session.events(7) if event["e"] == "executionReport"]
    assert [(event["x"], event["i"]) for event in told] == [
        ("NEW", first["orderId"]), ("NEW", second["orderId"]), ("CANCELED", second["orderId"]),
    ]  # fmt: skip
    assert faults.lost == 1
    # What was lost was made all the same.
    made = [event for _, _, event in trader.sandbox.exchange.feed.told if event.get("x") == "CANCELED"]
    assert len(made) == 2


async def test_events_come_twice(trader):
    trader.sandbox.faults.accounts[Market.UM].twice = True
    _, ear = await trader.listen(Market.UM)
    await trader.limit(Market.UM)
    assert await ear.next() == await ear.next()
    assert await ear.is_silent(0.1)


async def test_late_events_keep_their_order_and_the_answer_comes_before(trader):
    session = await trader.subscribed()
    faults = trader.sandbox.faults.accounts[Market.SPOT]
    faults.delay_ms = 300
    begun = time.monotonic()
    first = await trader.limit(Market.SPOT)
    faults.delay_ms = 0
    second = await trader.limit(Market.SPOT)
    assert time.monotonic() - begun < 0.25
    told = await session.events(4)
    assert time.monotonic() - begun >= 0.3
    assert [event["i"] for event in told if "i" in event] == [first["orderId"], second["orderId"]]


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
async def test_silence_answers_pings_and_mute_nothing(trader, market):
    if market is Market.SPOT:
        ear = await trader.subscribed()
    else:
        _, ear = await trader.listen(market)
        ear.socket._autoping = False
    faults = trader.sandbox.faults.accounts[market]
    faults.silent = True
    await trader.limit(market)
    assert await pong(ear.socket)
    faults.silent, faults.mute = False, True
    await trader.limit(market)
    assert not await pong(ear.socket)
    faults.mute = False
    assert await pong(ear.socket)
    await trader.limit(market)
    event = await (ear.event() if market is Market.SPOT else ear.next())
    assert (event["i"] if market is Market.SPOT else event["o"]["i"]) == trader.truth(market)[-1]["orderId"]


async def test_mute_of_accounts_leaves_market_streams_alone(trader, connect, clock):
    market = await connect(trader.sandbox, Market.UM, "/public/ws/btcusdt@bookTicker")
    trader.sandbox.faults.accounts[Market.UM].mute = True
    clock.now_ms += 1000
    assert (await market.next())["e"] == "bookTicker"


async def test_drop_resets_connections_of_accounts_only(trader, connect):
    session = await trader.subscribed()
    idle = await trader.session()
    _, ear = await trader.listen(Market.UM)
    market = await connect(trader.sandbox, Market.UM, "/public/ws/btcusdt@bookTicker")
    faults = trader.sandbox.faults.accounts
    assert (faults[Market.SPOT].drop(), faults[Market.UM].drop(), faults[Market.CM].drop()) == (1, 1, 0)
    assert await ear.close_code() == 1006
    assert (await session.socket.receive()).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert (await idle.ask("ping"))["status"] == 200
    assert (await market.ask("LIST_SUBSCRIPTIONS"))["result"] == ["btcusdt@bookTicker"]


@pytest.mark.parametrize("market", [Market.UM, Market.CM, Market.PM])
@pytest.mark.parametrize("notice", [True, False])
async def test_listen_keys_end_with_and_without_notice(trader, clock, market, notice):
    key, ear = await trader.listen(market)
    faults = trader.sandbox.faults.accounts[Market.CM if market is Market.CM else Market.UM]
    faults.expired_as_text = notice
    assert faults.expire_keys(notice) == 1
    if notice:
        assert await ear.next() == {"e": "listenKeyExpired", "E": str(clock()), "listenKey": key}
    assert (await trader.key_call(market, "listenKey", "PUT", 400))["code"] == -1125
    await trader.limit(Market.CM if market is Market.CM else Market.UM)
    assert await ear.is_silent(0.1)
    fresh, other = await trader.listen(market)
    assert fresh != key
    await trader.limit(Market.CM if market is Market.CM else Market.UM)
    assert (await other.next())["e"] == "ORDER_TRADE_UPDATE"
    assert await ear.is_silent(0.1)


async def test_listen_key_lives_as_long_as_set_and_is_prolonged_by_post_and_put(
    sandbox_with, trader_of, clock
):
    trader = trader_of(await sandbox_with(listen_key_ms=60_000))
    key, ear = await trader.listen(Market.UM)
    for method in ("POST", "PUT"):
        clock.now_ms += 59_000
        assert (await trader.key_call(Market.UM, "listenKey", method))["listenKey"] == key
        assert await ear.is_silent(0.1)
    clock.now_ms += 60_000
    assert (await ear.next())["e"] == "listenKeyExpired"
    _, again = await trader.listen(Market.UM, f"/private/ws?listenKey={key}&x={{}}")
    await trader.limit(Market.UM)
    assert await again.is_silent(0.1)


async def test_terminated_subscriptions_are_told_once_and_can_be_made_anew(trader, clock):
    session = await trader.subscribed()
    faults = trader.sandbox.faults.accounts[Market.SPOT]
    assert faults.terminate() == 1
    assert await session.frame() == {
        "subscriptionId": 0,
        "event": {"e": "eventStreamTerminated", "E": clock()},
    }
    await trader.limit(Market.SPOT)
    assert await session.is_silent(0.1)
    answer = await session.ask("userDataStream.subscribe.signature", session.signed())
    assert answer["result"] == {"subscriptionId": 1}
    assert faults.terminate(notice=False) == 1
    await trader.limit(Market.SPOT)
    assert await session.is_silent(0.1)


async def test_shutdown_is_announced_and_old_connections_are_closed(sandbox_with, trader_of, clock):
    trader = trader_of(await sandbox_with(max_age_s=0.6, spot_ping_s=0.2))
    session = await trader.subscribed()
    trader.sandbox.ws_apis[Market.SPOT].announce_shutdown()
    assert await session.frame() == {"event": {"e": "serverShutdown", "E": clock()}}
    seen = []
    while not seen or seen[-1] not in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSE):
        seen.append((await asyncio.wait_for(session.socket.receive(), 3)).type)
    assert WSMsgType.PING in seen[:-1]


async def test_order_ended_by_maintenance_says_why(trader):
    session = await trader.subscribed()
    order = await trader.limit(Market.SPOT)
    await session.events(2)
    trader.sandbox.exchange.expire(trader.order(Market.SPOT, order))
    told = await session.event()
    assert (told["x"], told["X"], told["eR"]) == ("EXPIRED", "EXPIRED", "EXCHANGE_CANCELED")
    row = await trader.ask(Market.SPOT, "order", f"symbol=BTCUSDT&orderId={order['orderId']}")
    assert row["expiryReason"] == "EXCHANGE_CANCELED"


async def test_made_up_events_reach_who_listens(trader):
    session = await trader.subscribed()
    _, ear = await trader.listen(Market.CM)
    event = {"e": "somethingNew", "E": "soon"}
    faults = trader.sandbox.faults.accounts
    assert [faults[market].send(event) for market in (Market.SPOT, Market.UM, Market.CM)] == [1, 0, 1]
    assert await session.event() == await ear.next() == event


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
async def test_open_orders_of_rest_are_behind_by_the_set_time(trader, clock, market):
    await trader.limit(market)
    clock.now_ms += 1000
    first = await trader.open_orders(market)
    trader.sandbox.faults.accounts[market].rest_lag_ms = 500
    order = await trader.limit(market)
    await trader.ask(market, "order", f"symbol={SYMBOL[market]}&orderId={first[0]['orderId']}", "DELETE")
    assert await trader.open_orders(market) == first
    clock.now_ms += 499
    assert await trader.ask(market, "openOrders", f"symbol={SYMBOL[market]}") == first
    clock.now_ms += 1
    assert [row["orderId"] for row in await trader.open_orders(market)] == [order["orderId"]]
    assert (await trader.ask(market, "order", f"symbol={SYMBOL[market]}&orderId={order['orderId']}"))[
        "status"
    ] == "NEW"


async def test_conditional_orders_of_rest_are_behind_too(trader, clock):
    trader.sandbox.faults.accounts[Market.UM].rest_lag_ms = 500
    query = "symbol=BTCUSDT&side=SELL&type=STOP_MARKET&quantity=0.1&triggerPrice=60000"
    await trader.ask(Market.UM, "algoOrder", query, "POST")
    assert await trader.ask(Market.UM, "openAlgoOrders") == []
    clock.now_ms += 500
    rows = await trader.ask(Market.UM, "openAlgoOrders")
    assert rows == orjson.loads(trader.sandbox.exchange.open_algo_bytes(Market.UM, trader.key))
    assert len(rows) == 1


async def test_clear_ends_every_fault(trader):
    faults = trader.sandbox.faults.accounts[Market.UM]
    faults.silent = faults.mute = faults.twice = True
    faults.delay_ms, faults.rest_lag_ms, faults.lose_next["."] = 99, 99, 5
    trader.sandbox.faults.clear()
    _, ear = await trader.listen(Market.UM)
    await trader.limit(Market.UM)
    assert (await ear.next())["o"]["X"] == "NEW"
    assert await ear.is_silent(0.1)


async def test_order_carried_out_without_an_answer_is_told_all_the_same(trader):
    session = await trader.subscribed()
    trader.sandbox.faults.add(Fault("reset_before", match="/api/v3/order", method="POST", after=True))
    with pytest.raises(aiohttp.ClientError):
        await trader.limit(Market.SPOT)
    assert (await session.event())["x"] == "NEW"
    assert len(trader.truth(Market.SPOT)) == 1


# -- the truth -----------------------------------------------------------------------------


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
async def test_truth_has_the_bytes_of_rest_and_each_state_with_its_time(trader, clock, market, http):
    exchange = trader.sandbox.exchange
    begun = clock()
    order = await trader.limit(market)
    clock.now_ms += 7
    exchange.fill(trader.order(market, order), "0.1" if market is not Market.CM else "1")
    with_part = exchange.open_orders_bytes(market, trader.key)
    assert orjson.loads(with_part) == await trader.open_orders(market)
    assert orjson.dumps(await trader.open_orders(market)) == with_part
    clock.now_ms += 7
    await trader.ask(market, "order", f"symbol={SYMBOL[market]}&orderId={order['orderId']}", "DELETE")
    states = exchange.open_orders_history(market, trader.key)
    assert [moment for moment, _ in states] == [0, begun, begun + 7, begun + 14]
    assert [data for _, data in states[::2]] == [b"[]", with_part]
    assert states[-1][1] == b"[]" == exchange.open_orders_bytes(market, trader.key, SYMBOL[market])
    other = "ETHUSDT" if market is not Market.CM else "ETHUSD_PERP"
    assert exchange.open_orders_history(market, trader.key, other) == [(0, b"[]")]
