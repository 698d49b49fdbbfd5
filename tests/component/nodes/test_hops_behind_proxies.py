"""Hops as they are made: over TLS, through the shipped proxy files, many at once, while the line goes mute or dies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Sandbox
from resender.upstream import shared_streams
from tests.support.egress_lab import KEYS, LIMIT_ORDER, Lab, code_of, exchange_config
from tests.support.mute_link import MuteLink
from tests.support.node_lab import know_each_other, node
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_server
from tests.support.relays import Relay
from tests.support.reverse_proxies import ReverseProxy, reverse_proxy
from tests.support.running import wait_until

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


# --- streams that one node has for all -------------------------------------------------------------

STREAM = "btcusdt@bookTicker"


def opened(sandbox: Sandbox) -> int:
    return sum(names.count(STREAM) for names in sandbox.subscriptions(Market.SPOT))


async def listen(stack: AsyncExitStack, lab: Lab, count: int) -> list[aiohttp.ClientWebSocketResponse]:
    """Have so many clients listen from the same moment on; each has had an event."""
    session = await stack.enter_async_context(aiohttp.ClientSession())

    async def one() -> aiohttp.ClientWebSocketResponse:
        ws = await session.ws_connect(f"ws://127.0.0.1:{lab.run.port}/stream.binance.com/ws/{STREAM}")
        assert orjson.loads((await ws.receive(timeout=20)).data)["s"] == "BTCUSDT"
        return ws

    return await asyncio.gather(*(one() for _ in range(count)))


async def newer(ws: aiohttp.ClientWebSocketResponse, sandbox: Sandbox, seconds: float) -> None:
    """Wait for an event that the exchange has only now."""
    least = sandbox.market(Market.SPOT).update_id("BTCUSDT")
    end = time.monotonic() + seconds
    while orjson.loads((await ws.receive(timeout=seconds)).data)["u"] < least:
        assert time.monotonic() < end


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_forty_clients_get_one_stream_of_another_node_over_tls_and_go_on_when_its_line_is_reset(
    kind: str, tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(
            reverse_proxy(kind, tmp_path / kind, port, allowed="127.0.0.1")
        )
        line = await stack.enter_async_context(Relay(proxy.port))
        more = {"port": port, "node_url": f"https://localhost:{line.port}", "trusted_proxies": "127.0.0.1"}
        a = await stack.enter_async_context(node(tmp_path, server, sandbox, "a", A, **more))
        b = await stack.enter_async_context(node(tmp_path, server, sandbox, "b", B))
        await know_each_other(a, b)
        clients = await listen(stack, b, 40)
        assert (opened(sandbox), len(a.gateway.fanout.clients), len(b.gateway.fanout.clients)) == (1, 1, 40)
        await line.__aexit__()
        await asyncio.gather(*(newer(ws, sandbox, 20) for ws in clients))
        # The other node's has nobody any more, and lingers.
        await wait_until(lambda: opened(sandbox) == 1 and not a.gateway.fanout.clients, 30)
        assert not sandbox.violations
        assert "Resender-Node" not in proxy.logs()


async def test_streams_go_on_when_the_line_to_the_node_that_has_them_falls_mute_and_move_back(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_streams, "_MOVE_EVERY_S", 0.5)
    monkeypatch.setattr(shared_streams, "_AVOID_S", 1.0)
    port = free_port()
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(MuteLink(f"http://127.0.0.1:{port}"))
        more = {"port": port, "node_url": line.url}
        a = await stack.enter_async_context(node(tmp_path, server, sandbox, "a", A, **more))
        b = await stack.enter_async_context(node(tmp_path, server, sandbox, "b", B))
        await know_each_other(a, b)
        clients = await listen(stack, b, 40)
        line.fall_mute()
        await asyncio.sleep(0.5)
        await asyncio.gather(*(newer(ws, sandbox, 20) for ws in clients))
        line.speak()
        await wait_until(lambda: a.gateway.fanout.clients, 30)
        await asyncio.gather(*(newer(ws, sandbox, 20) for ws in clients))
        await wait_until(lambda: opened(sandbox) == 1, 20)
        assert not any(ws.closed for ws in clients)
