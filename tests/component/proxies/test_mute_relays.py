"""Relays over a line that falls silent, behind the shipped nginx.conf and Caddyfile: nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Sandbox
from tests.component.proxies.test_streams_behind import client, opened
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.mute_link import MuteLink
from tests.support.reverse_proxies import CLIENT, ReverseProxy
from tests.support.running import Running, running, wait_until

pytestmark = pytest.mark.component

PATIENCE_S = 15


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(small_exchange()) as sandbox:
        yield sandbox


@pytest.fixture
async def link(sandbox: Sandbox) -> AsyncIterator[MuteLink]:
    async with MuteLink(sandbox.urls["WS_API_SPOT"]) as link:
        yield link


@pytest.fixture
async def user_link(sandbox: Sandbox) -> AsyncIterator[MuteLink]:
    async with MuteLink(sandbox.urls["STREAM_UM"]) as link:
        yield link


@pytest.fixture
async def behind(
    sandbox: Sandbox, link: MuteLink, user_link: MuteLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """A gateway that takes a second for what it takes a minute for otherwise."""
    monkeypatch.setattr("resender.upstream.streams.relays._PING_EVERY_S", 0.5)
    settings = {"whitelist": CLIENT, "trusted_proxies": "127.0.0.1"}
    urls = {"ws_api_spot": link.url, "stream_um": user_link.url}
    async with running(gateway_config(tmp_path / "data", sandbox, **settings, **urls)) as run:
        yield run


async def test_request_whose_answer_never_comes_ends_with_its_name(
    front: ReverseProxy, behind: Running, link: MuteLink
) -> None:
    async with client() as session, opened(session, front, "/ws-api/v3") as ear:
        await ear.socket.send_str('{"id":"a","method":"time"}')
        assert orjson.loads(await ear.next_text())["status"] == 200
        link.fall_mute()
        await ear.socket.send_str('{"id":"b","method":"order.place","params":{"symbol":"BTCUSDT"}}')
        code, reason = await asyncio.wait_for(ear.closed(), PATIENCE_S)
        assert code == 1011
        assert "outcome unknown" in reason
        assert "order.place" in reason
    await wait_until(lambda: not behind.gateway.fanout.guests)
    link.speak()
    async with client() as session, opened(session, front, "/ws-api/v3") as ear:
        await ear.socket.send_str('{"id":"c","method":"time"}')
        assert orjson.loads(await ear.next_text())["id"] == "c", "and the next connection is a good one"


async def test_quiet_connection_is_kept_as_long_as_pings_are_answered(
    front: ReverseProxy, behind: Running
) -> None:
    async with client() as session, opened(session, front, "/ws-api/v3") as ear:
        await ear.socket.send_str('{"id":"a","method":"time"}')
        assert orjson.loads(await ear.next_text())["status"] == 200
        await asyncio.sleep(3.0)
        await ear.socket.send_str('{"id":"b","method":"time"}')
        assert orjson.loads(await ear.next_text())["id"] == "b"


async def test_user_data_over_a_mute_line_ends_with_a_code_that_means_come_again(
    front: ReverseProxy, sandbox: Sandbox, behind: Running, user_link: MuteLink
) -> None:
    key = next(iter(sandbox.config.accounts))
    reply = await front.call("POST", "/fapi/v1/listenKey", (("X-MBX-APIKEY", key),))
    listen_key = reply.json()["listenKey"]
    async with client() as session, opened(session, front, f"/private/ws?listenKey={listen_key}") as ear:
        await wait_until(lambda: any(listen_key in names for names in sandbox.subscriptions(Market.UM)))
        user_link.fall_mute()
        assert await asyncio.wait_for(ear.closed(), PATIENCE_S) == (1012, "upstream lost")
    assert listen_key not in front.logs()
