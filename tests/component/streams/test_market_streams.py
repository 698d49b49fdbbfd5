"""Market streams of clients: the addresses, the messages, one upstream stream for all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import orjson
import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import Bench, bench, small_exchange, subscribed
from tests.support.running import wait_until
from tests.support.stream_client import listener

pytestmark = pytest.mark.component

BOOK = "btcusdt@bookTicker"


def upstream_names(one: Bench, market: Market) -> list[str]:
    return [name for names in subscribed(one, market) for name in names]


async def test_streams_of_all_hosts_and_shapes_bring_binances_own_json(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        for path, is_combined in (
            (f"/stream.binance.com/ws/{BOOK}", False),
            (f"/stream.binance.com:9443/stream?streams={BOOK}", True),
            (f"/data-stream.binance.vision/ws/{BOOK}", False),
            (f"/ws/{BOOK}", False),
            (f"/ws/{BOOK}/ethusdt@bookTicker/", False),
            ("/stream?streams=btcusdt%40bookTicker&timeUnit=MILLISECOND", True),
            (f"/fstream.binance.com/public/ws/{BOOK}", False),
            (f"/fstream.binance.com/ws/{BOOK}", False),
            (f"/fstream.binance.com/market/stream?streams={BOOK}", True),
            (f"/public/ws/{BOOK}", False),
            ("/dstream.binance.com/ws/btcusd_perp@bookTicker", False),
        ):
            async with ears.open(path) as ear:
                data = await ear.event()
                assert ("stream" in data) is is_combined, path
                payload = data["data"] if is_combined else data
                assert payload["s"] in ("BTCUSDT", "ETHUSDT", "BTCUSD_PERP")
                assert set(payload) >= {"u", "s", "b", "B", "a", "A"}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/fstream.binance.com/ws", ["btcusdt@kline_1m", BOOK, "btcusdt@markPrice@1s", "btcusdt@aggTrade"]),
        ("/fstream.binance.com/private/ws", ["btcusdt@kline_1m", BOOK]),
        ("/fstream.binance.com/public/stream", ["btcusdt@kline_1m", "!miniTicker@arr"]),
        ("/stream.binance.com/ws", ["btcusdt@kline_1s", "btcusdt@kline_1m@+08:00", "btcusdt@depth5", "btcusdt@trade"]),
        ("/dstream.binance.com/stream", ["btcusd_perp@kline_1m", "btcusd_perp@depth20@100ms"]),
    ],
)  # fmt: skip
async def test_every_class_of_stream_is_taken_on_every_path(
    tmp_path: Path, path: str, names: list[str]
) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open(path) as ear:
        await ear.say("SUBSCRIBE", *names, message_id="a-1")
        assert await ear.reply() == '{"result":null,"id":"a-1"}'
        await ear.say("SET_PROPERTY", "combined", True, message_id=2)
        missing = set(names)
        while missing:
            data = await ear.next(8)
            if isinstance(data, dict) and "stream" in data:
                missing.discard(data["stream"])


@pytest.mark.parametrize(
    "message_id", [1, 0, 2**63 - 1, "x", "0b1c2d3e-aaaa-bbbb-cccc-0123456789ab", "", None]
)
async def test_ids_come_back_as_they_were_sent(tmp_path: Path, message_id: object) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open("/ws") as ear:
        await ear.say("SUBSCRIBE", "nothing", message_id=message_id)
        assert await ear.next_text() == f'{{"result":null,"id":{orjson.dumps(message_id).decode()}}}'


async def test_control_messages_answer_as_binances_do(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        async with ears.open("/fstream.binance.com/stream") as ear:
            await ear.say("SUBSCRIBE", BOOK, "BTCUSDT@bookTicker", "nonsense", message_id=1)
            assert await ear.reply() == '{"result":null,"id":1}'
            await ear.say("UNSUBSCRIBE", "never@subscribed", message_id=2)
            assert await ear.reply() == '{"result":null,"id":2}'
            await ear.socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":3}')
            assert await ear.reply() == f'{{"result":["{BOOK}","BTCUSDT@bookTicker","nonsense"],"id":3}}'
            await ear.say("GET_PROPERTY", "combined", message_id=4)
            assert await ear.reply() == '{"result":true,"id":4}'
            await ear.say("GET_PROPERTY", "other", message_id=5)
            assert orjson.loads(await ear.reply())["error"]["code"] == 0
            await ear.say("SET_PROPERTY", "combined", 1, message_id=6)
            assert orjson.loads(await ear.reply())["error"]["code"] == 1
            for text, code in (("{", 3), ("[]", 2), ('{"method":"X","id":1}', 2), ('{"id":1}', 2)):
                await ear.socket.send_str(text)
                data = await ear.next()
                while "stream" in data:
                    data = await ear.next()
                assert data["error"]["code"] == code
            await ear.say("UNSUBSCRIBE", BOOK, message_id=7)
            assert await ear.reply() == '{"result":null,"id":7}'
            with pytest.raises(asyncio.TimeoutError):
                await ear.next(0.5)
        async with ears.open("/ws") as ear:
            await ear.socket.send_bytes(b'{"method":"X","id":1}')
            data = await ear.next()
            assert data["code"] == data["error"]["code"] == 2


async def test_number_in_the_path_is_no_stream_and_keeps_the_socket_open(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open("/stream.binance.com/ws/17") as ear:
        await ear.say("SUBSCRIBE", BOOK, message_id=1)
        assert await ear.next_text() == '{"result":null,"id":1}'
        assert (await ear.event())["s"] == "BTCUSDT"
        await ear.socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":3}')
        assert await ear.reply() == f'{{"result":["{BOOK}"],"id":3}}'


async def test_one_upstream_stream_serves_all_clients_and_the_cache_and_goes_after_the_last(
    tmp_path: Path,
) -> None:
    exchange = small_exchange()
    async with (
        bench(tmp_path, exchange, preload="um:BTCUSDT@bookTicker", stream_linger_s=0.5) as one,
        listener(one) as ears,
    ):
        await wait_until(lambda: BOOK in upstream_names(one, Market.UM))
        async with ears.open(f"/public/ws/{BOOK}") as first, ears.open(f"/public/ws/{BOOK}") as second:
            async with ears.open("/market/ws/ethusdt@aggTrade") as third:
                for ear in (first, second):
                    assert (await ear.event())["s"] == "BTCUSDT"
                assert (await third.event())["s"] == "ETHUSDT"
                assert upstream_names(one, Market.UM).count(BOOK) == 1
                assert "ethusdt@aggTrade" in upstream_names(one, Market.UM)
            await wait_until(lambda: "ethusdt@aggTrade" not in upstream_names(one, Market.UM), 5)
        await asyncio.sleep(1.6)
        assert BOOK in upstream_names(one, Market.UM)  # the cache's


async def test_newest_state_is_sent_at_once_to_who_subscribes_later(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        async with ears.open("/public/ws") as first, ears.open("/public/stream") as second:
            await first.say("SUBSCRIBE", BOOK, "btcusdt@depth@100ms", "btcusdt@kline_1m")
            for kind in ("bookTicker", "kline"):
                await first.event(e=kind)
            one.sandbox.faults.mute(Market.UM, "btcusdt")
            await asyncio.sleep(0.3)
            await second.say("SUBSCRIBE", BOOK, "btcusdt@depth@100ms", "btcusdt@kline_1m", message_id=9)
            assert await second.next_text() == '{"result":null,"id":9}'
            shown = [(await second.next(2))["stream"] for _ in range(2)]
            assert sorted(shown) == ["btcusdt@bookTicker", "btcusdt@kline_1m"]
            with pytest.raises(asyncio.TimeoutError):
                await second.next(0.3)


async def test_microseconds_have_an_upstream_of_their_own(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        async with ears.open(f"/ws/{BOOK}?timeUnit=microsecond") as ear, ears.open(f"/ws/{BOOK}") as other:
            assert (await ear.event())["s"] == (await other.event())["s"]
            assert upstream_names(one, Market.SPOT).count(BOOK) == 2
        status, body, _ = await ears.refused("/ws?timeUnit=year")
        assert (status, body["code"]) == (400, -4)


async def test_who_may_not_enter_is_told_in_json_before_the_upgrade(tmp_path: Path) -> None:
    async with bench(tmp_path, max_stream_clients=1) as one, listener(one) as ears:
        for path in (
            "/evil.com/ws", "/fapi/v1/time", "/ws-api/v4", "/stream.binance.com/x", "/", "/admin",
            "/fstream.binance.com/pm/ws/x", "/stream/ws", "/ws-api.binance.com/ws", "/stream.binance.com:x/ws",
        ):  # fmt: skip
            assert (await ears.refused(path))[0] == 404, path
        for path in ("/stream-sbe.binance.com/ws", "/ws?responseFormat=sbe"):
            status, body, _ = await ears.refused(path)
            assert status == 404
            assert "SBE" in body["msg"]
        for origin in (
            "https://evil.example", "null", "", "http://127.0.0.1", f"https://127.0.0.1:{one.run.port + 1}",
            f"http://127.0.0.1.evil.example:{one.run.port}", f"http://127.0.0.1:{one.run.port}@evil.example",
        ):  # fmt: skip
            status, body, headers = await ears.refused("/ws", Origin=origin)
            assert (status, body["code"], headers["X-Resender-Error"]) == (403, -12, "denied"), origin
        assert (await ears.refused("/ws", **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
        rebound = {"Host": "evil.example", "Origin": "http://evil.example", "User-Agent": "Mozilla/5.0 (X11)"}
        assert (await ears.refused("/ws", **rebound))[0] == 403
        assert (await ears.refused("/ws", **{"Sec-WebSocket-Version": "8"}))[0] == 400
        await wait_until(lambda: not one.run.gateway.fanout.size)
        async with ears.open("/ws"):
            status, body, headers = await ears.refused("/ws")
            assert (status, headers["Retry-After"]) == (503, "1")
        one.run.gateway.access.set_whitelist([])
        status, body, _ = await ears.refused("/ws")
        assert (status, body["msg"]) == (403, "Forbidden IP: 127.0.0.1")


async def test_client_that_names_this_server_as_its_origin_is_no_foreign_page(tmp_path: Path) -> None:
    """Python's websocket-client does, and with it Binance's own older connectors."""
    async with bench(tmp_path) as one, listener(one) as ears:
        for origin in (f"http://127.0.0.1:{one.run.port}", f"https://127.0.0.1:{one.run.port}"):
            async with ears.open(f"/ws/{BOOK}", headers={"Origin": origin}) as ear:
                assert (await ear.event())["s"] == "BTCUSDT"


async def test_too_many_streams_end_the_connection_as_on_binance(tmp_path: Path) -> None:
    async with bench(tmp_path, max_client_streams=3) as one, listener(one) as ears:
        async with ears.open("/public/ws") as ear:
            await ear.say("SUBSCRIBE", *(f"x{n}@unknown" for n in range(1025)))
            assert await ear.next_text() == '{"error":{"code":4,"msg":"Too many subscriptions"}}'
            assert await ear.closed() == (1008, "Too many subscriptions")
        async with ears.open("/ws/btcusdt@trade/ethusdt@trade/bnbusdt@trade") as ear:
            assert (await ear.event())["e"] == "trade"
            async with ears.open("/ws/btcusdt@aggTrade") as other:
                assert (await other.next())["error"]["code"] == 4
                assert (await other.closed())[0] == 1008
            async with ears.open("/ws/btcusdt@trade") as other:
                assert (await other.event())["e"] == "trade"
        async with ears.open("/nbstream.binance.com/eoptions/ws") as ear:
            await ear.say("SUBSCRIBE", *(f"x{n}@unknown" for n in range(201)))
            assert (await ear.next())["error"]["code"] == 4


async def test_compressed_frames_are_the_same_events(tmp_path: Path) -> None:
    async with bench(tmp_path, stream_deflate=True) as one, listener(one) as ears:
        async with (
            ears.open(f"/stream?streams={BOOK}", compress=15) as ear,
            ears.open(f"/ws/{BOOK}") as plain,
        ):
            assert ear.socket.compress
            for _ in range(5):
                data = await ear.event()
                assert await plain.event(u=data["data"]["u"]) == data["data"]
            await ear.say("SUBSCRIBE", "x", message_id=4)
            assert await ear.reply() == '{"result":null,"id":4}'
            await ear.socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":3}' + " " * 500)
            assert await ear.reply() == f'{{"result":["{BOOK}","x"],"id":3}}'
    async with bench(tmp_path / "2") as one, listener(one) as ears:
        async with ears.open(f"/ws/{BOOK}", compress=15) as ear:
            assert not ear.socket.compress
            await ear.event()


async def test_pings_of_clients_are_answered_and_garbage_ends_only_its_own_connection(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears, ears.open(f"/ws/{BOOK}") as other:
        async with ears.open("/ws", autoping=False) as ear:
            await ear.socket.ping(b"what")
            message = await ear.socket.receive(timeout=3)
            assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"what")
            await ear.socket.pong(b"")
            await ear.socket.send_str("x" * 200_000)
            assert (await ear.closed())[0] in (1009, 1006)
        reader, writer = await asyncio.open_connection("127.0.0.1", one.run.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\xff" * 50)
        assert await reader.read() == b""
        writer.close()
        assert (await other.event())["s"] == "BTCUSDT"
        await wait_until(lambda: len(one.run.gateway.fanout.clients) == 1)


async def test_address_taken_off_the_whitelist_loses_its_streams_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        async with ears.open(f"/ws/{BOOK}") as ear, ears.open("/ws-api/v3") as api:
            await ear.event()
            assert await one.run.gateway.store.whitelist_remove("127.0.0.1")
            words = (1008, "the address is not in the whitelist any more")
            assert await ear.closed() == words
            assert await api.closed() == words
