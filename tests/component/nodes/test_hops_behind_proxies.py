"""Hops as they are made: over TLS, through the shipped proxy files, many at once, while the line goes mute or dies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from resender.sandbox import Sandbox
from tests.support.egress_lab import KEYS, LIMIT_ORDER, Lab, code_of, exchange_config
from tests.support.mute_link import MuteLink
from tests.support.node_lab import know_each_other, node
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_server
from tests.support.relays import Relay
from tests.support.reverse_proxies import ReverseProxy, reverse_proxy

pytestmark = pytest.mark.component

A, B = "127.0.0.2", "127.0.0.3"
PINS = ",".join(f"{key[:10]}=b/ip" for key in KEYS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(exchange_config()) as started:
        yield started


@asynccontextmanager
async def pair(
    kind: str, folder: Path, server: RedisServer, sandbox: Sandbox
) -> AsyncIterator[tuple[Lab, ReverseProxy, Relay]]:
    """Run two nodes; all keys belong to the second, which stands behind a proxy that speaks TLS."""
    port = free_port()
    more = {"egress_pins": PINS, "trusted_proxies": "127.0.0.1", "read_timeout_s": 2}
    async with (
        reverse_proxy(kind, folder / kind, port, allowed="127.0.0.1") as proxy,
        Relay(proxy.port) as line,
    ):
        url = f"https://localhost:{line.port}"
        async with node(folder, server, sandbox, "b", B, port=port, node_url=url, **more) as b:
            async with node(folder, server, sandbox, "a", A, **more) as a:
                await know_each_other(a, b)
                yield a, proxy, line


def arrived(sandbox: Sandbox) -> Counter[str]:
    return Counter(str(order.params["newClientOrderId"]) for order in sandbox.orders)


async def place(lab: Lab, number: int) -> tuple[str, int, int]:
    name = f"o{number}"
    query = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}&newClientOrderId={name}"
    reply = await lab.client().signed(
        "POST", "/api/v3/order", query, key=KEYS[number % len(KEYS)], body=number % 2 == 0
    )
    return name, reply.status, code_of(reply)


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_forty_orders_at_once_from_the_first_second_leave_once_from_their_home(
    kind: str, tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with pair(kind, tmp_path, server, sandbox) as (a, proxy, _):
        told = await asyncio.gather(*(place(a, number) for number in range(40)))
        assert {status for _, status, _ in told} == {200}
        assert arrived(sandbox) == dict.fromkeys((name for name, *_ in told), 1)
        assert {call.peer for call in sandbox.calls if call.path == "/api/v3/order"} == {B}
        made = await a.client().call("POST", "/fapi/v1/listenKey", (("X-MBX-APIKEY", KEYS[0]),))
        listen_key = orjson.loads(made.body)["listenKey"]
        url = f"ws://127.0.0.1:{a.run.port}/fstream.binance.com/private/ws?listenKey={listen_key}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
            assert (await a.client().signed("POST", "/fapi/v1/order", order, key=KEYS[0])).status == 200
            while orjson.loads((await ws.receive(timeout=10)).data)["e"] != "ORDER_TRADE_UPDATE":
                pass
        assert "Resender-Node" not in proxy.logs()


async def test_line_that_is_reset_in_the_middle_costs_what_was_under_way_and_sends_nothing_twice(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with pair("nginx", tmp_path, server, sandbox) as (a, _, line):
        assert (await place(a, 99))[1] == 200
        running = [asyncio.create_task(place(a, number)) for number in range(40)]
        await asyncio.sleep(0.08)
        await line.__aexit__()
        told = await asyncio.gather(*running)
        late = [await place(a, number) for number in range(40, 44)]
        found = arrived(sandbox)
        assert max(found.values()) == 1
        for name, status, code in told:
            assert (status, code) in {(200, 0), (502, -6), (502, -2), (503, -15)}, (name, status, code)
            if status == 200:
                assert found[name] == 1
            elif code in (-2, -15):
                assert found[name] == 0, "nothing was sent"
        assert any(status == 502 for _, status, _ in told), "some were under way"
        assert {(status, code) for _, status, code in late} <= {(502, -2), (503, -15)}
        assert {call.peer for call in sandbox.calls if call.path == "/api/v3/order"} == {B}


async def test_line_between_nodes_that_falls_mute_is_no_wrong_answer_and_no_second_order(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    port = free_port()
    more = {"egress_pins": PINS, "read_timeout_s": 1}
    async with MuteLink(f"http://127.0.0.1:{port}") as line:
        async with node(tmp_path, server, sandbox, "b", B, port=port, node_url=line.url, **more) as b:
            async with node(tmp_path, server, sandbox, "a", A, **more) as a:
                await know_each_other(a, b)
                assert {(await place(a, number))[1] for number in range(8)} == {200}
                line.fall_mute()
                began = time.monotonic()
                told = await asyncio.gather(*(place(a, number) for number in range(8, 48)))
                assert time.monotonic() - began < 15
                assert {(status, code) for _, status, code in told} <= {
                    (504, -7),
                    (502, -6),
                    (502, -2),
                    (503, -15),
                }
                line.speak()
                await asyncio.sleep(1.0)
                assert max(arrived(sandbox).values()) == 1
                end = time.monotonic() + 10
                while (await place(a, 1000 + int(time.monotonic() * 1000)))[1] != 200:
                    assert time.monotonic() < end, "it is used again"
                    await asyncio.sleep(0.3)
                assert max(arrived(sandbox).values()) == 1
