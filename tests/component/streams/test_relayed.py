"""User data and the WebSocket API: relayed one to one, sent once, charged before."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import Bench, bench, small_exchange
from tests.support.client import call
from tests.support.running import Captured, wait_until
from tests.support.stream_client import Ears, listener

pytestmark = pytest.mark.component

WS_API = {Market.SPOT: "/ws-api/v3", Market.UM: "/ws-fapi/v1", Market.CM: "/ws-dapi/v1"}
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}


def account(one: Bench) -> tuple[str, str]:
    return next(iter(one.sandbox.config.accounts.items()))


def signed(one: Bench, **params: Any) -> dict[str, Any]:
    key, secret = account(one)
    values = {"apiKey": key, "timestamp": int(one.clock()), **params}
    text = "&".join(f"{name}={values[name]}" for name in sorted(values))
    return {**values, "signature": hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()}


async def ask(
    ear: Ears, method: str, params: dict[str, Any] | None = None, message_id: Any = 1
) -> dict[str, Any]:
    request = {"id": message_id, "method": method, **({"params": params} if params is not None else {})}
    await ear.socket.send_str(orjson.dumps(request).decode())
    while True:
        data = await ear.next()
        if "status" in data:
            return dict(data)


async def listen_key(one: Bench, root: str = "/fapi/v1") -> str:
    reply = await call(one.run.port, "POST", f"{root}/listenKey", (("X-MBX-APIKEY", account(one)[0]),))
    return str(reply.json()["listenKey"])


async def place(one: Bench, root: str, **order: str) -> None:
    key, secret = account(one)
    query = "&".join(f"{k}={v}" for k, v in {**ORDER, **order, "timestamp": str(one.clock())}.items())
    sign = hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()
    reply = await call(
        one.run.port, "POST", f"{root}/order?{query}&signature={sign}", (("X-MBX-APIKEY", key),)
    )
    assert reply.status == 200, reply.body


@pytest.mark.parametrize(
    "path",
    [
        "/private/ws?listenKey={}", "/fstream.binance.com/private/ws?listenKey={}&events=ORDER_TRADE_UPDATE",
        "/fstream.binance.com/private/stream?listenKey={}", "/fstream.binance.com/ws/{}", "/private/ws/{}",
        "/fstream.binance.com/ws?listenKey={}", "/fstream.binance.com?listenKey={}",
    ],
)  # fmt: skip
async def test_user_data_of_usd_m_comes_by_every_shape_of_url(tmp_path: Path, path: str) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        key = await listen_key(one)
        async with ears.open(path.format(key)) as ear:
            await place(one, "/fapi/v1")
            data = await ear.next()
            assert ("stream" in data) is ("/stream?" in path)
            event = data.get("data", data)
            assert event["e"] == "ORDER_TRADE_UPDATE"
            assert event["o"]["s"] == "BTCUSDT"
            assert one.run.gateway.fanout.size == 1
        await wait_until(lambda: not one.run.gateway.fanout.size)
        await wait_until(lambda: not one.sandbox.stream_connections["um"])


@pytest.mark.parametrize("path", ["/private/stream", "/private/ws", "/fstream.binance.com/ws"])
async def test_listen_key_may_be_subscribed_beside_market_streams(tmp_path: Path, path: str) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open(path) as ear:
        key = await listen_key(one)
        await ear.say("SUBSCRIBE", key, "btcusdt@bookTicker", message_id="u")
        assert await ear.reply() == '{"result":null,"id":"u"}'
        # Who has been answered misses nothing.
        assert any(key in names for names in one.sandbox.subscriptions(Market.UM))
        await place(one, "/fapi/v1")
        data = await ear.event(e="ORDER_TRADE_UPDATE")
        assert data.get("stream", key) == key
        await ear.event(e="bookTicker")
        await ear.say("UNSUBSCRIBE", key, message_id="v")
        await ear.reply()
        await wait_until(lambda: not any(key in names for names in one.sandbox.subscriptions(Market.UM)))
        await ear.say("SUBSCRIBE", key, message_id="w")
        await wait_until(lambda: any(key in names for names in one.sandbox.subscriptions(Market.UM)))
        one.sandbox.faults.drop_streams(Market.UM)
        assert await ear.closed() == (1012, "upstream lost")


async def test_end_of_one_side_is_the_end_of_the_other(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        key = await listen_key(one, "/dapi/v1")
        async with ears.open(f"/dstream.binance.com/ws/{key}") as ear:
            one.sandbox.faults.drop_streams(Market.CM, 1001)
            assert (await ear.closed())[0] == 1001
        async with ears.open(f"/dstream.binance.com/ws/{key}") as ear:
            one.sandbox.faults.drop_streams(Market.CM)
            assert await ear.closed() == (1012, "upstream lost")
        one.sandbox.faults.stream(Market.CM).refuse = True
        status, body, headers = await ears.refused(f"/dstream.binance.com/ws/{key}")
        assert (status, headers["X-Resender-Error"]) == (502, "unreachable")
        assert key not in body["msg"]


async def test_listen_key_is_written_down_nowhere(tmp_path: Path) -> None:
    captured = Captured()
    logging.getLogger().addHandler(captured)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        async with bench(tmp_path) as one, listener(one) as ears:
            await one.run.gateway.store.set_log_enabled(True)
            key = await listen_key(one)
            for path in (f"/ws/{key}", f"/private/ws?listenKey={key}", f"/private/ws/{key}", f"/pm/ws/{key}"):
                with suppress(aiohttp.WSServerHandshakeError):
                    async with ears.open(path) as ear:
                        await ear.say("LIST_SUBSCRIPTIONS")
            await asyncio.sleep(0.3)
            metrics = await call(one.run.port, "GET", "/metrics")
            status = await call(one.run.port, "GET", "/local/status")
            rows = await one.run.gateway.store.log_query()
            assert rows
            assert key not in repr(rows)
            assert key.encode() not in metrics.body + status.body
    finally:
        logging.getLogger().removeHandler(captured)
        logging.getLogger().setLevel(logging.WARNING)
    assert key not in captured.text


# --- the WebSocket API -----------------------------------------------------------------------------


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
async def test_order_over_the_websocket_api_is_placed_once(tmp_path: Path, market: Market) -> None:
    symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
    quantity = "1" if market is Market.CM else "0.01"
    async with bench(tmp_path) as one, listener(one) as ears, ears.open(WS_API[market]) as ear:
        assert (await ask(ear, "time"))["status"] == 200
        params = signed(one, **{**ORDER, "symbol": symbol, "quantity": quantity})
        data = await ask(ear, "order.place", params, "0b1c2d3e-aaaa-bbbb-cccc-0123456789ab")
        assert data["id"] == "0b1c2d3e-aaaa-bbbb-cccc-0123456789ab"
        assert data["status"] == 200, data
        assert data["result"]["symbol"] == symbol
        assert len(one.sandbox.orders) == 1
        assert one.sandbox.orders[0].params["quantity"] == quantity


async def test_user_data_of_spot_comes_by_a_subscription_the_client_signed(tmp_path: Path) -> None:
    async with (
        bench(tmp_path) as one,
        listener(one) as ears,
        ears.open("/ws-api.binance.com:443/ws-api/v3") as ear,
    ):
        assert (await ask(ear, "userDataStream.subscribe.signature", signed(one)))["result"] == {
            "subscriptionId": 0
        }
        await ask(ear, "order.place", signed(one, **ORDER), 2)
        data = await ear.next()
        assert data["subscriptionId"] == 0
        assert data["event"]["e"] == "executionReport"


async def test_answer_that_never_came_leaves_the_outcome_unknown_and_nothing_is_sent_again(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        api = one.sandbox.ws_apis[Market.SPOT]
        api.faults.reset_after = "order.place"
        async with ears.open("/ws-api/v3") as ear:
            await ear.socket.send_str(
                orjson.dumps({"id": 7, "method": "order.place", "params": signed(one, **ORDER)}).decode()
            )
            assert await ear.closed() == (1011, "upstream lost: outcome unknown of order.place")
        await asyncio.sleep(1)
        assert [method for method, _ in api.requests] == ["order.place"]
        assert api.accepted == 1
        assert len(one.sandbox.orders) == 1


async def test_requests_are_charged_before_they_are_sent_and_refused_in_binances_words(
    tmp_path: Path,
) -> None:
    exchange = small_exchange(weight_limits={"spot": 200})
    async with bench(tmp_path, exchange, weight_limit_spot=200) as one, listener(one) as ears:
        async with ears.open("/ws-api/v3") as ear:
            api = one.sandbox.ws_apis[Market.SPOT]
            answers = [await ask(ear, "account.status", signed(one), n) for n in range(12)]
            refused = answers[-1]
            assert (refused["id"], refused["status"], refused["error"]["code"]) == (11, 429, -1003)
            assert refused["error"]["data"]["retryAfter"] > refused["error"]["data"]["serverTime"]
            assert len(api.requests) < 12
            assert 429 not in {answer["status"] for answer in answers[: len(api.requests)]}
            assert not one.sandbox.violations
            # What is left is kept for orders.
            assert (await ask(ear, "order.place", signed(one, **ORDER), 99))["status"] == 200
            # REST of the same address knows.
            reply = await call(one.run.port, "GET", "/api/v3/exchangeInfo")
            assert reply.status == 429


async def test_garbage_goes_nowhere(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open("/ws-api/v3") as ear:
        for text in ("{", "[]", '"x"', '{"id":1}', '{"id":1,"method":5}'):
            await ear.socket.send_str(text)
            data = await ear.next()
            assert (data["status"], data["error"]["code"]) == (400, -1135)
        assert not one.sandbox.ws_apis[Market.SPOT].requests


async def test_large_messages_pass_both_ways_unchanged(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open("/ws-api/v3") as ear:
        text = orjson.dumps({"id": "x", "method": "nothing", "params": {"note": "ä" * 500_000}}).decode()
        await ear.socket.send_str(text)
        assert (await ear.next(10))["error"]["code"] == -1100
        assert one.sandbox.ws_apis[Market.SPOT].requests == [("nothing", "x")]
        info = await ask(ear, "exchangeInfo", {}, 2)
        assert info["result"]["symbols"]


async def test_requests_are_in_the_log_without_what_they_say(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        await one.run.gateway.store.set_log_enabled(True)
        async with ears.open("/ws-api/v3") as ear:
            await ask(ear, "order.place", signed(one, **ORDER))
        store = one.run.gateway.store
        for _ in range(100):
            rows = await store.log_query()
            if len(rows) >= 2:
                break
            await asyncio.sleep(0.05)
        assert [(row.method, row.path, row.status) for row in rows] == [
            ("WS", "/ws-api/v3 order.place", 200),
            ("WS", "/ws-api/v3", 101),
        ]
        assert account(one)[0] not in repr(rows)


async def test_too_many_connections_are_refused_with_the_time_to_wait(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        for _ in range(30):
            async with ears.open("/ws-dapi/v1"):
                pass
        status, _, headers = await ears.refused("/ws-dapi/v1")
        assert (status, headers["X-Resender-Error"]) == (503, "busy")
        assert 200 < int(headers["Retry-After"]) <= 301
        assert one.sandbox.ws_apis[Market.CM].accepted == 30
        async with ears.open("/ws-fapi/v1") as ear:
            assert (await ask(ear, "ping"))["status"] == 200


async def test_gateway_that_stops_tells_every_client(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        async with ears.open("/ws/btcusdt@trade") as ear, ears.open("/ws-api/v3") as api:
            await ask(api, "ping")
            begun = time.monotonic()
            await one.run.gateway.fanout.stop()
            assert await ear.closed() == (1012, "the gateway stops")
            assert await api.closed() == (1012, "the gateway stops")
            assert time.monotonic() - begun < 5


async def test_stop_waits_for_an_order_and_tells_what_it_cannot_wait_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        api, gateway = one.sandbox.ws_apis[Market.SPOT], one.run.gateway
        async with ears.open("/ws-api/v3") as ear:
            api.faults.delay_s = 0.5
            await ear.socket.send_str(
                orjson.dumps({"id": 7, "method": "order.place", "params": signed(one, **ORDER)}).decode()
            )
            await wait_until(lambda: api.requests)
            await gateway.drain()
            assert (await ear.next(1))["status"] == 200
            await ear.socket.send_str('{"id":8,"method":"time"}')
            assert await ear.next(1) == {
                "id": 8, "status": 503, "error": {"code": -8, "msg": "The gateway is stopping; nothing was sent."},
            }  # fmt: skip
            gateway.calls.is_open = True
            api.faults.silent = True
            await ear.socket.send_str(
                orjson.dumps(
                    {"id": 9, "method": "order.cancel", "params": signed(one, symbol="BTCUSDT")}
                ).decode()
            )
            await wait_until(lambda: len(api.requests) == 2)
            assert await gateway.store.whitelist_remove("127.0.0.1")
            code, words = await ear.closed()
            assert code == 1011
            assert words.endswith("outcome unknown of order.cancel")


async def test_key_bound_to_an_egress_trades_through_it_alone(tmp_path: Path) -> None:
    exchange = small_exchange()
    key = next(iter(exchange.accounts))
    settings = {"egress": "a=127.0.0.2,b=127.0.0.3", "egress_pins": f"{key}=b"}
    async with bench(tmp_path, exchange, **settings) as one, listener(one) as ears:
        api = one.sandbox.ws_apis[Market.SPOT]
        for _ in range(3):
            async with ears.open("/ws-api/v3") as ear:
                await ask(ear, "time", None, 1)
                assert (await ask(ear, "order.place", signed(one, **ORDER), 2))["status"] == 200
        orders = [peer for method, peer in api.peers if method == "order.place"]
        assert orders == ["127.0.0.3"] * 3


async def test_odd_ids_and_deep_nests_are_answered_here(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open("/ws-api/v3") as ear:
        deep = "[" * 300 + "]" * 300
        for message_id in (deep, "{}", f'"{"x" * 300}"', "1.5", "true"):
            await ear.socket.send_str(f'{{"id":{message_id},"method":"time"}}')
            assert (await ear.next())["error"]["code"] == -1135
        await ear.socket.send_str(f'{{"id":1,"method":"ticker.price","params":{{"symbol":{deep}}}}}')
        assert (await ear.next())["id"] == 1


async def test_forty_first_connections_at_once_are_all_served(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:

        async def ping(number: int) -> int:
            path = ("/ws-api/v3", "/ws-fapi/v1")[number % 2]
            async with ears.open(path) as ear:
                return int((await ask(ear, "ping", None, number))["status"])

        assert await asyncio.gather(*(ping(number) for number in range(40))) == [200] * 40


async def test_nothing_in_a_path_can_break_a_line_of_the_log(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        store = one.run.gateway.store
        await store.set_log_enabled(True)
        assert (await ears.refused("/nowhere%0Afake%1b%00"))[0] == 404
        for _ in range(100):
            if rows := await store.log_query():
                break
            await asyncio.sleep(0.05)
        assert [row.path for row in rows] == ["/nowhere?fake??"]


async def test_address_taken_off_while_its_upstream_is_opened_does_not_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        gateway = one.run.gateway
        opens = gateway.relays.open

        async def slow(*args: Any, **options: Any) -> Any:
            upstream = await opens(*args, **options)
            assert await gateway.store.whitelist_remove("127.0.0.1")
            return upstream

        monkeypatch.setattr(gateway.relays, "open", slow)
        async with ears.open("/ws-api/v3") as ear:
            assert await ear.closed() == (1008, "the address is not in the whitelist any more")
        await wait_until(lambda: not gateway.fanout.size)


async def test_more_listen_keys_than_are_served_are_not_acknowledged(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open("/private/ws") as ear:
        await ear.say("SUBSCRIBE", *(f"{number:064d}x" for number in range(11)))
        assert (await ear.next())["error"]["code"] == 4
        assert (await ear.closed())[0] == 1008
