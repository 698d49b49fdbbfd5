"""WebSockets through the shipped nginx.conf and Caddyfile, at once from the first second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Sandbox
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.reverse_proxies import CLIENT, NAME, STRANGER, ReverseProxy
from tests.support.running import Running, running, wait_until
from tests.support.stream_client import Ears

pytestmark = pytest.mark.component


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(small_exchange()) as sandbox:
        yield sandbox


@pytest.fixture
async def behind(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway on an exchange, in the place of the one that forwards only."""
    settings = {"whitelist": CLIENT, "trusted_proxies": "127.0.0.1"}
    async with running(gateway_config(tmp_path / "data", sandbox, **settings)) as run:
        yield run


@asynccontextmanager
async def client(source: str = CLIENT) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(local_addr=(source, 0), limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@asynccontextmanager
async def opened(session: aiohttp.ClientSession, front: ReverseProxy, path: str) -> AsyncIterator[Ears]:
    url = f"wss://{NAME}:{front.port}{path}"
    async with session.ws_connect(url, ssl=front.context, autoclose=False) as socket:
        yield Ears(socket)


async def test_forty_clients_at_once_get_their_streams(front: ReverseProxy, behind: Running) -> None:
    async def one(session: aiohttp.ClientSession, number: int) -> None:
        path = ("/ws", "/fstream.binance.com/market/stream")[number % 2]
        async with opened(session, front, path) as ear:
            await ear.say("SUBSCRIBE", "btcusdt@aggTrade", "ethusdt@kline_1m", message_id=number)
            assert await ear.reply(15) == f'{{"result":null,"id":{number}}}'
            for _ in range(3):
                await ear.event(15)

    async with client() as session:
        await asyncio.gather(*(one(session, number) for number in range(40)))
    await wait_until(lambda: not behind.gateway.fanout.size)


async def test_requests_of_the_websocket_api_and_user_data_pass(
    front: ReverseProxy, sandbox: Sandbox
) -> None:
    key = next(iter(sandbox.config.accounts))
    reply = await front.call("POST", "/fapi/v1/listenKey", (("X-MBX-APIKEY", key),))
    listen_key = reply.json()["listenKey"]
    async with client() as session:
        async with opened(session, front, "/ws-api/v3") as ear:
            await ear.socket.send_str('{"id":"a","method":"time"}')
            assert orjson.loads(await ear.next_text())["status"] == 200
        async with opened(session, front, f"/private/ws?listenKey={listen_key}"):
            await wait_until(lambda: any(listen_key in names for names in sandbox.subscriptions(Market.UM)))
        async with opened(session, front, f"/fstream.binance.com/ws/{listen_key}"):
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.2)
    assert listen_key not in front.logs()


async def test_who_may_not_enter_gets_no_stream(front: ReverseProxy, behind: Running) -> None:
    async with client(STRANGER) as session:
        with pytest.raises(aiohttp.ClientError):
            async with opened(session, front, "/ws"):
                pass
    behind.gateway.access.set_whitelist([])
    async with client() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with opened(session, front, "/ws"):
                pass
    assert refused.value.status == 403


async def test_losses_reach_the_client_with_their_words(
    front: ReverseProxy, sandbox: Sandbox, behind: Running
) -> None:
    async with client() as session:
        async with opened(session, front, "/public/ws/btcusdt@depth") as ear:
            await ear.event(10)
            sandbox.faults.drop_streams(Market.UM)
            assert await ear.closed() == (1012, "upstream lost")
        async with opened(session, front, "/ws/btcusdt@bookTicker") as ear:
            await ear.event(10)
            await behind.gateway.fanout.stop()
            assert await ear.closed() == (1012, "the gateway stops")


async def test_ordinary_calls_keep_their_connection_beside_websockets(front: ReverseProxy) -> None:
    async with client() as session, opened(session, front, "/ws/btcusdt@trade"), front.connection() as one:
        for _ in range(3):
            await one.send(front.build("GET", "/api/v3/time"))
            assert (await one.answer("GET")).status == 200
