"""Nodes send calls through each other: a key keeps its egress wherever its calls come in, and nothing leaves twice."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from resender.api_keys import digest_of
from resender.core.binance.markets import Market
from resender.core.cluster.homes import Peer
from resender.core.cluster.node_proof import NODE_HEADER, make_proof
from resender.sandbox import Sandbox, sign
from resender.upstream import shared_streams
from tests.support.egress_lab import ACCOUNTS, KEYS, LIMIT_ORDER, Lab, code_of, egress_of, exchange_config
from tests.support.node_lab import SECRET, know_each_other, node
from tests.support.redis_server import RedisServer, redis_server
from tests.support.relays import Distance
from tests.support.running import wait_until

pytestmark = pytest.mark.component

A, B = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(exchange_config()) as started:
        yield started


@pytest.fixture
async def pair(tmp_path: Path, server: RedisServer, sandbox: Sandbox) -> AsyncIterator[tuple[Lab, Lab]]:
    async with node(tmp_path, server, sandbox, "a", A) as a, node(tmp_path, server, sandbox, "b", B) as b:
        await know_each_other(a, b)
        yield a, b


def addresses_of_keys(sandbox: Sandbox, since: int = 0) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for call in list(sandbox.calls)[since:]:
        if key := call.header("x-mbx-apikey"):
            found[key].add(call.peer)
    return found


def orders_asked(sandbox: Sandbox) -> int:
    return sum(call.path.endswith("/order") for call in sandbox.calls)


async def test_key_leaves_from_one_address_wherever_its_calls_come_in(
    pair: tuple[Lab, Lab], sandbox: Sandbox
) -> None:
    for lab in pair:
        client = lab.client()
        for key in KEYS:
            reply = await client.signed("GET", "/api/v3/account", key=key)
            assert reply.status == 200, reply.body
            order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
            for is_body in (False, True):
                placed = await client.signed("POST", "/api/v3/order", order, key=key, body=is_body)
                assert placed.status == 200, placed.body
    found = addresses_of_keys(sandbox)
    assert {key: len(addresses) for key, addresses in found.items()} == dict.fromkeys(KEYS, 1)
    assert set.union(*found.values()) == {A, B}
    assert len(sandbox.orders) == 4 * len(KEYS), "none was sent twice"
    told = [lab.gateway.hops.calls for lab in pair if lab.gateway.hops is not None]
    assert sum(told) == 3 * len(KEYS), "one half of all calls had to hop, once"


async def test_answer_of_another_node_names_it_and_is_the_exchanges_own(pair: tuple[Lab, Lab]) -> None:
    told = {}
    for lab in pair:
        client = lab.client()
        for key in KEYS[:6]:
            reply = await client.signed("GET", "/fapi/v2/account", key=key)
            assert reply.status == 200
            assert code_of(reply) == 0
            name = lab.gateway.config.node_name
            told[name, key] = egress_of(reply).partition("/")[0] if "/" in egress_of(reply) else name
            assert (
                len([value for header, value in reply.headers if header.lower() == "x-resender-egress"]) == 1
            )
            assert not reply.header("resender-waited")
    assert all(told["a", key] == told["b", key] for key in KEYS[:6])
    refused = await pair[0].client().signed("GET", "/api/v3/order", "symbol=BTCUSDT&orderId=1", key=KEYS[0])
    assert (refused.status, code_of(refused)) == (400, -2013)


async def test_pinned_key_gets_a_clear_answer_while_its_node_is_gone_and_others_move(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    pins = f"{KEYS[0][:10]}=b/ip"
    async with node(tmp_path, server, sandbox, "a", A, egress_pins=pins) as a:
        async with node(tmp_path, server, sandbox, "b", B, egress_pins=pins) as b:
            await know_each_other(a, b)
            assert (await a.client().signed("GET", "/api/v3/account", key=KEYS[0])).status == 200
            assert addresses_of_keys(sandbox)[KEYS[0]] == {B}
        since = len(sandbox.calls)
        for _ in range(3):
            order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
            reply = await a.client().signed("POST", "/api/v3/order", order, key=KEYS[0])
            assert (reply.status, code_of(reply)) == (503, -15)
            assert reply.header("x-resender-error") == "egress_away"
            assert b"b/ip" in reply.body
        for key in KEYS[1:]:
            assert (await a.client().signed("GET", "/api/v3/account", key=key)).status == 200
        assert KEYS[0] not in addresses_of_keys(sandbox, since)
        assert set.union(*addresses_of_keys(sandbox, since).values()) == {A}


async def test_pinned_key_leaves_from_its_own_egress_of_several(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    pins = ",".join(f"{key[:10]}=b/second" for key in KEYS[:6])
    async with node(tmp_path, server, sandbox, "a", A, egress_pins=pins) as a:
        both = f"first={B},second=127.0.0.4"
        async with node(tmp_path, server, sandbox, "b", B, egress_pins=pins, egress=both) as b:
            await know_each_other(a, b)
            for lab in (a, b):
                for key in KEYS[:6]:
                    assert (await lab.client().signed("GET", "/api/v3/account", key=key)).status == 200
            assert set.union(*addresses_of_keys(sandbox).values()) == {"127.0.0.4"}


async def test_order_a_node_of_another_secret_is_handed_is_sent_by_nobody(
    pair: tuple[Lab, Lab], sandbox: Sandbox
) -> None:
    a, b = pair
    key = await key_of(a, sandbox, B)
    b.gateway.services.proofs._secret = "another secret"
    since = len(sandbox.calls)
    reply = await a.client().signed(
        "POST", "/api/v3/order", f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}", key=key
    )
    assert (reply.status, code_of(reply)) == (403, -12)
    assert b"NODE_SECRET" in reply.body
    assert key not in addresses_of_keys(sandbox, since)


async def key_of(lab: Lab, sandbox: Sandbox, address: str) -> str:
    """Find a key whose calls leave from an address."""
    for key in KEYS:
        since = len(sandbox.calls)
        await lab.client().signed("GET", "/api/v3/account", key=key)
        if addresses_of_keys(sandbox, since)[key] == {address}:
            return key
    raise AssertionError("no key leaves from there")


@pytest.mark.parametrize("wrong", ["old", "secret", "node", "method", "target", "twice", "garbage", "body"])
async def test_word_of_another_node_is_believed_only_if_it_shows_it(
    pair: tuple[Lab, Lab], sandbox: Sandbox, wrong: str
) -> None:
    a, _ = pair
    now_ms = time.time_ns() // 1_000_000
    method, target = "POST", f"/api/api/v3/order?symbol=BTCUSDT&side=BUY&price=1&{LIMIT_ORDER}"
    proof = make_proof(
        "x" * 40 if wrong == "secret" else SECRET,
        "b" if wrong == "node" else "a",
        now_ms - 60_000 if wrong == "old" else now_ms,
        "GET" if wrong == "method" else method,
        "/other" if wrong == "target" else target,
        b"other" if wrong == "body" else b"",
        "127.0.0.1",
    )
    if wrong == "garbage":
        proof = "1 2 3 \xff"
    client = a.client()
    if wrong == "twice":
        first = await client.call(method, target, ((NODE_HEADER, proof),))
        assert first.status == 401, "the exchange wants a key"
    before = orders_asked(sandbox)
    reply = await client.call(method, target, ((NODE_HEADER, proof),))
    assert reply.status == (400 if wrong == "body" else 403)
    assert reply.header("x-resender-error") == ("bad_request" if wrong == "body" else "denied")
    assert orders_asked(sandbox) == before
    assert SECRET.encode() not in reply.body


async def test_client_of_another_node_has_to_be_in_the_whitelist_here_too(pair: tuple[Lab, Lab]) -> None:
    target = "/api/api/v3/time"
    proof = make_proof(SECRET, "a", time.time_ns() // 1_000_000, "GET", target, b"", "203.0.113.9")
    reply = await pair[0].client().call("GET", target, ((NODE_HEADER, proof),))
    assert (reply.status, code_of(reply)) == (403, -1)
    assert b"203.0.113.9" in reply.body


async def test_front_without_a_route_serves_everything_through_others(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(
            node(tmp_path, server, sandbox, "a", A, cache_enabled=True, preload="spot:BTCUSDT@1m")
        )
        front = await stack.enter_async_context(node(tmp_path, server, sandbox, "f"))
        await know_each_other(a, front)
        client = front.client()
        assert (await client.get("/api/v3/time")).status == 200
        reply = await client.signed("GET", "/api/v3/account", key=KEYS[0])
        assert reply.status == 200
        assert egress_of(reply) == "a/ip"

        async def hit() -> bool:
            reply = await client.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5")
            assert reply.status == 200
            return reply.header("x-resender-cache") == "hit"

        end = time.monotonic() + 15
        while not await hit():
            assert time.monotonic() < end
            await asyncio.sleep(0.2)
        local = await client.get("/local/spot/klines?symbols=all&interval=1m&limit=2")
        assert local.status == 200, local.body
        assert (await client.get("/local/status")).status == 200
        fresh = await client.get(
            "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5", ("Cache-Control", "no-cache")
        )
        assert (fresh.header("x-resender-cache") or "").startswith("miss")
        async with aiohttp.ClientSession() as session:
            url = f"ws://127.0.0.1:{front.run.port}"
            async with session.ws_connect(f"{url}/stream.binance.com/ws/btcusdt@bookTicker") as ws:
                assert orjson.loads((await ws.receive(timeout=10)).data)["s"] == "BTCUSDT"
            async with session.ws_connect(f"{url}/ws-api.binance.com/ws-api/v3") as ws:
                await ws.send_str('{"id":1,"method":"ping"}')
                assert orjson.loads((await ws.receive(timeout=10)).data)["status"] == 200
        assert {call.peer for call in sandbox.calls} == {A}


async def test_front_goes_over_to_another_collector_and_its_streams_go_on(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(node(tmp_path, server, sandbox, "b", B, cache_enabled=True))
        front = await stack.enter_async_context(node(tmp_path, server, sandbox, "f"))
        async with node(tmp_path, server, sandbox, "a", A, cache_enabled=True) as a:
            await know_each_other(a, b, front)
            async with aiohttp.ClientSession() as session:
                url = f"ws://127.0.0.1:{front.run.port}/stream.binance.com/ws/btcusdt@bookTicker"
                async with session.ws_connect(url) as ws:
                    await ws.receive(timeout=10)
                    assert a.gateway.fanout.clients
                    assert not b.gateway.fanout.clients
                    stopping = asyncio.create_task(a.gateway.stop())
                    await stopping
                    await wait_until(lambda: b.gateway.fanout.clients, 15)
                    assert orjson.loads((await ws.receive(timeout=10)).data)["s"] == "BTCUSDT"
            assert (await front.client().get("/api/v3/time")).status in (200, 503)


async def first_event(session: aiohttp.ClientSession, lab: Lab, path: str) -> aiohttp.ClientWebSocketResponse:
    """Open a stream of a node and wait for its first event."""
    ws = await session.ws_connect(f"ws://127.0.0.1:{lab.run.port}{path}")
    assert orjson.loads((await ws.receive(timeout=10)).data)["s"] == "BTCUSDT"
    return ws


def asked_for(sandbox: Sandbox, name: str) -> int:
    return sum(names.count(name) for names in sandbox.subscriptions(Market.SPOT))


async def test_stream_is_opened_once_for_the_clients_of_all_nodes(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with AsyncExitStack() as stack:
        labs = [
            await stack.enter_async_context(node(tmp_path, server, sandbox, name, f"127.0.0.{number}"))
            for number, name in enumerate("abc", 2)
        ]
        labs.append(await stack.enter_async_context(node(tmp_path, server, sandbox, "f")))
        await know_each_other(*labs)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        for lab in labs[::-1]:  # those first that have none of their own
            await first_event(session, lab, "/stream.binance.com/ws/btcusdt@bookTicker")
            await first_event(session, lab, "/stream.binance.com/ws/btcusdt@trade?timeUnit=MICROSECOND")
        for name in ("btcusdt@bookTicker", "btcusdt@trade"):
            assert asked_for(sandbox, name) == 1
        assert not sandbox.violations


async def test_streams_move_with_whoever_has_them_and_no_event_is_lost_by_a_drain(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_streams, "_MOVE_EVERY_S", 0.5)
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(node(tmp_path, server, sandbox, "b", B))
        c = await stack.enter_async_context(node(tmp_path, server, sandbox, "c", "127.0.0.4"))
        a_stack = await stack.enter_async_context(AsyncExitStack())
        a = await a_stack.enter_async_context(node(tmp_path, server, sandbox, "a", A))
        await know_each_other(a, b, c)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ws = await first_event(session, c, "/stream.binance.com/ws/btcusdt@trade")
        seen: list[int] = []

        async def listen() -> None:
            async for message in ws:
                seen.append(orjson.loads(message.data)["t"])

        listening = asyncio.create_task(listen())
        assert (len(a.gateway.fanout.clients), len(b.gateway.fanout.clients)) == (1, 0)
        assert c.gateway.cluster is not None
        assert await c.gateway.cluster.drain("a", True)
        await wait_until(lambda: (len(a.gateway.fanout.clients), len(b.gateway.fanout.clients)) == (0, 1), 20)
        # And back.
        assert await c.gateway.cluster.drain("a", False)
        await wait_until(lambda: (len(a.gateway.fanout.clients), len(b.gateway.fanout.clients)) == (1, 0), 20)
        await asyncio.sleep(0.5)
        assert not listening.done()
        assert seen == list(range(seen[0], seen[0] + len(seen))), "none is lost, none comes twice"
        # One that stops hands over, too.
        state = await first_event(session, c, "/stream.binance.com/ws/btcusdt@bookTicker")
        await a_stack.aclose()
        await wait_until(lambda: b.gateway.fanout.clients, 20)
        while not state.closed:
            event = orjson.loads((await state.receive(timeout=10)).data)
            if event["u"] and b.gateway.fanout.clients:
                break
        listening.cancel()
        assert asked_for(sandbox, "btcusdt@bookTicker") == 1


async def test_node_that_gets_no_streams_of_another_one_opens_them_itself(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node(tmp_path, server, sandbox, "a", A, max_stream_clients=0))
        b = await stack.enter_async_context(node(tmp_path, server, sandbox, "b", B))
        alone = await stack.enter_async_context(
            node(tmp_path, server, sandbox, "c", "127.0.0.4", share_streams=False)
        )
        await know_each_other(a, b, alone)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await first_event(session, b, "/stream.binance.com/ws/btcusdt@bookTicker")
        assert asked_for(sandbox, "btcusdt@bookTicker") == 1
        await first_event(session, alone, "/stream.binance.com/ws/btcusdt@bookTicker")
        assert asked_for(sandbox, "btcusdt@bookTicker") == 2


async def test_user_data_and_requests_over_websockets_leave_from_the_home_of_their_key(
    pair: tuple[Lab, Lab], sandbox: Sandbox
) -> None:
    a, _ = pair
    key = await key_of(a, sandbox, B)
    made = await a.client().call("POST", "/fapi/v1/listenKey", (("X-MBX-APIKEY", key),))
    listen_key = orjson.loads(made.body)["listenKey"]
    async with aiohttp.ClientSession() as session:
        url = f"ws://127.0.0.1:{a.run.port}"
        async with session.ws_connect(f"{url}/fstream.binance.com/private/ws?listenKey={listen_key}") as ws:
            await asyncio.sleep(0.2)
            order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
            assert (await a.client().signed("POST", "/fapi/v1/order", order, key=key)).status == 200
            while (event := orjson.loads((await ws.receive(timeout=10)).data))["e"] != "ORDER_TRADE_UPDATE":
                pass
            assert event["o"]["X"] == "NEW"
        async with session.ws_connect(f"{url}/ws-api.binance.com/ws-api/v3") as ws:
            for number in range(2):
                params = {"apiKey": key, "timestamp": time.time_ns() // 1_000_000, "recvWindow": 60000}
                text = "&".join(f"{name}={params[name]}" for name in sorted(params))
                params["signature"] = sign(ACCOUNTS[key], text.encode())
                request = {"id": number, "method": "account.status", "params": params}
                await ws.send_str(orjson.dumps(request).decode())
                answer = orjson.loads((await ws.receive(timeout=10)).data)
                assert (answer["id"], answer["status"]) == (number, 200), answer
    told = [
        peer for api in sandbox.ws_apis.values() for method, peer in api.peers if method == "account.status"
    ]
    assert told == [B, B]


async def test_account_is_watched_by_one_node_and_answered_by_all(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node(tmp_path, server, sandbox, "a", A, database_url=url))
        b = await stack.enter_async_context(node(tmp_path, server, sandbox, "b", B, database_url=url))
        front = await stack.enter_async_context(node(tmp_path, server, sandbox, "f", database_url=url))
        await know_each_other(a, b, front)
        await a.gateway.store.account_change(
            lambda repository: repository.account_add(
                "one", "um", "key", digest=digest_of(KEYS[0]), hint="xxxx", source="linked"
            )
        )
        await wait_until(lambda: len(a.gateway.accounts.all) + len(b.gateway.accounts.all) == 1, 5)
        assert not front.gateway.accounts.all

        async def hit(lab: Lab) -> list[dict[str, Any]]:
            """Ask as a bot does until the answer comes out of memory."""
            end = time.monotonic() + 25
            while True:
                reply = await lab.client().signed("GET", "/fapi/v1/openOrders", key=KEYS[0])
                assert reply.status == 200, reply.body
                if reply.header("x-resender-cache") == "hit":
                    return list(orjson.loads(reply.body))
                assert time.monotonic() < end, reply.headers
                await asyncio.sleep(0.3)

        order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
        for number, lab in enumerate((a, b, front), 1):
            assert (await lab.client().signed("POST", "/fapi/v1/order", order, key=KEYS[0])).status == 200
            for asked in (a, b, front):
                assert len(await hit(asked)) == number
        assert len(a.gateway.accounts.all) + len(b.gateway.accounts.all) == 1
        for asked in (a, b, front):
            local = await asked.client().get("/local/um/openOrders", ("X-MBX-APIKEY", KEYS[0]))
            assert local.status == 200, local.body
            assert len(orjson.loads(local.body)["orders"]) == 3
            url = f"ws://127.0.0.1:{asked.run.port}/local/um/account"
            async with aiohttp.ClientSession(headers={"X-MBX-APIKEY": KEYS[0]}) as session:
                async with session.ws_connect(url) as ws:
                    assert len(orjson.loads((await ws.receive(timeout=10)).data)["orders"]) == 3


async def test_late_answer_of_a_nodes_memory_is_not_told(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    """The line between the nodes holds back what was proven when it was told."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(
            node(tmp_path, server, sandbox, "a", A, cache_enabled=True, preload="spot:BTCUSDT@1m,bookTicker")
        )
        front = await stack.enter_async_context(node(tmp_path, server, sandbox, "f"))
        await know_each_other(a, front)
        target = "/api/v3/ticker/bookTicker?symbol=BTCUSDT"

        async def told() -> str:
            return (await front.client().get(target)).header("x-resender-cache") or ""

        end = time.monotonic() + 15
        while await told() != "hit":
            assert time.monotonic() < end
            await asyncio.sleep(0.2)
        async with Distance(a.run.url, 0.4) as line:  # there and back
            hops = front.gateway.hops
            assert hops is not None
            mine = [peer for peer in hops.homes.peers if peer.name == "a"]
            hops.homes._collectors = tuple(Peer("a", line.url) for _ in mine)
            reply = await front.client().get(target)
            assert reply.status == 200
            assert reply.header("x-resender-cache") != "hit"
            assert hops.late == 1


@pytest.mark.parametrize("machine_ms", [-5000, 5000])
async def test_clock_of_a_node_may_be_wrong_by_some_seconds(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox, machine_ms: int
) -> None:
    async with node(tmp_path, server, sandbox, "a", A) as a:
        async with node(tmp_path, server, sandbox, "b", B, machine_ms=machine_ms) as b:
            await know_each_other(a, b)
            order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
            for lab in (a, b):
                for key in KEYS[:8]:
                    assert (await lab.client().signed("POST", "/api/v3/order", order, key=key)).status == 200
            assert {len(found) for found in addresses_of_keys(sandbox).values()} == {1}


async def test_clock_that_is_wrong_by_more_is_told_in_words(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with node(tmp_path, server, sandbox, "a", A) as a:
        async with node(tmp_path, server, sandbox, "b", B, machine_ms=60_000) as b:
            await know_each_other(a, b)
            order = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
            replies = [await a.client().signed("POST", "/api/v3/order", order, key=key) for key in KEYS[:8]]
            assert {reply.status for reply in replies} == {200, 403}
            assert any(b"the clocks of the nodes differ" in reply.body for reply in replies)


async def test_collector_that_is_no_front_serves_other_nodes_only(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with node(tmp_path, server, sandbox, "a", A, roles="collector") as a:
        async with node(tmp_path, server, sandbox, "f") as front:
            await know_each_other(a, front)
            own = await a.client().get("/api/v3/time")
            assert (own.status, code_of(own)) == (403, -12)
            assert (await front.client().get("/api/v3/time")).status == 200
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await session.ws_connect(f"ws://127.0.0.1:{a.run.port}/ws/btcusdt@trade")


async def test_front_alone_says_that_nobody_is_there(
    tmp_path: Path, server: RedisServer, sandbox: Sandbox
) -> None:
    async with node(tmp_path, server, sandbox, "f") as front:
        for reply in (
            await front.client().get("/api/v3/time"),
            await front.client().signed("GET", "/api/v3/account", key=KEYS[0]),
            await front.client().get("/local/spot/klines?symbols=all&interval=1m"),
        ):
            assert (reply.status, code_of(reply)) == (503, -15)
        assert not sandbox.calls
