"""What the exchange closes stays closed to its end, here, at that egress and in that pool, and no further."""

from __future__ import annotations

import asyncio
import gzip
import time
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.core.weights.table import charge
from resender.sandbox import Fault, Sandbox
from tests.support.egress_lab import (
    KEYS,
    LIMIT_ORDER,
    Client,
    Lab,
    code_of,
    egress_of,
    exchange_config,
    gateway_on,
    is_refused_here,
    lab,
    repeat_until,
)

pytestmark = pytest.mark.component

ONE, TWO = "127.0.0.2", "127.0.0.3"
SPOT, UM, CM = (
    "/api/v3/depth?symbol=BTCUSDT&limit=",
    "/fapi/v1/trades?symbol=BTCUSDT&limit=",
    "/dapi/v1/ping?n=",
)
HIT = "/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=5"
ORDER = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"


async def key_on(one: Lab, egress: str, count: int = 1) -> list[str]:
    """Find keys that stick to a way."""
    cost = charge(Market.SPOT, "GET", "/api/v3/account", "")
    governor, mono = one.gateway.egress.governor, one.gateway.clock.mono()
    found = []
    for key in KEYS:
        grant = governor.admit(Market.SPOT, cost, mono, key=key)
        grant.reservation.budget.release(grant.reservation)
        if grant.egress.name == egress:
            found.append(key)
    assert len(found) >= count
    return found[:count]


async def is_open(client: Client, target: str) -> bool:
    return (await client.get(target)).status == 200


@pytest.mark.slow
async def test_a_ban_is_honoured_to_its_end_across_a_restart(tmp_path: Path) -> None:
    settings = {"egress": ONE, "cache_enabled": True, "preload": "um:BTCUSDT@1h", "kline_depth": 30}
    ban_s = 12.0
    async with Sandbox(exchange_config()) as sandbox:
        async with gateway_on(tmp_path, sandbox, **settings) as one:
            client = one.client()
            await repeat_until(
                lambda: client.get(HIT), lambda reply: reply.header("x-resender-cache") == "hit"
            )
            sandbox.ban(ONE, "futures", ban_s)
            begun = time.monotonic()
            mark = one.mark()
            real = await client.get(UM + "1")
            assert (real.status, real.header("x-resender-error")) == (418, None)
            assert (real.header("retry-after"), egress_of(real)) == ("12", ONE)
            assert b"IP(127.0.0.2) banned until" in real.body
            for number, target in enumerate((UM, CM, UM, CM, "/futures/data/basis?n=")):
                reply = await client.get(f"{target}{number + 2}")
                assert is_refused_here(reply, 418), reply.raw
                left = int(reply.header("retry-after") or 0)
                assert ban_s - 3 <= left <= ban_s + 1
                until_ms = int(reply.json()["msg"].partition("banned until ")[2][:13])
                assert abs(until_ms / 1000 - time.time() - left) < 2.5
            reply = await client.signed("POST", "/fapi/v1/order", ORDER)
            assert is_refused_here(reply, 418)
            assert await is_open(client, SPOT + "1")
            for _ in range(30):
                assert (await client.get(HIT)).header("x-resender-cache") == "hit"
                await asyncio.sleep(0.02)
            assert len([c for c in list(sandbox.calls)[mark:] if c.host != "api"]) == 1
            assert one.row(ONE, "futures")["state"] == "banned"
        async with gateway_on(tmp_path, sandbox, **settings) as one:
            client = one.client()
            while time.monotonic() < begun + ban_s - 1.0:
                reply = await client.get(UM + "3")
                assert is_refused_here(reply, 418), reply.raw
                left = int(reply.header("retry-after") or 0)
                assert abs(left - (begun + ban_s - time.monotonic())) <= 2
                assert await is_open(client, SPOT + "2")
                await asyncio.sleep(0.25)
            # Nothing was sent into the pool, by the cache's own reads neither.
            assert len([c for c in list(sandbox.calls)[mark:] if c.host != "api"]) == 1
            await repeat_until(lambda: client.get(UM + "4"), lambda reply: reply.status == 200, 3.0)
            assert time.monotonic() >= begun + ban_s - 0.2
            assert len(sandbox.violations) == 1
            await repeat_until(
                lambda: client.get(HIT), lambda reply: reply.header("x-resender-cache") == "hit"
            )


async def test_a_ban_in_the_last_moment_before_the_end_is_not_forgotten(tmp_path: Path) -> None:
    async with Sandbox(exchange_config()) as sandbox:
        async with gateway_on(tmp_path, sandbox, egress=ONE) as one:
            sandbox.ban(ONE, "spot", 60)
            assert (await one.get(SPOT + "1")).status == 418
        mark = len(sandbox.calls)
        async with gateway_on(tmp_path, sandbox, egress=f"{TWO},{ONE}") as one:
            client = one.client()
            for number in range(6):
                assert egress_of(await client.get(f"{SPOT}{number + 1}")) == TWO
            assert one.row(ONE, "spot")["closed_s"] > 50
        assert {call.peer for call in list(sandbox.calls)[mark:]} == {TWO}


async def test_with_two_ways_unsigned_calls_go_to_the_other_and_keys_stay(tmp_path: Path) -> None:
    async with lab(tmp_path, egress=f"{ONE},{TWO}") as one:
        (mine,), (other,) = await key_on(one, ONE), await key_on(one, TWO)
        one.sandbox.ban(ONE, "spot", 30)
        client = one.client()
        told = [await client.get(f"{SPOT}{number + 1}") for number in range(20)]
        # The one call that met the ban was told so.
        assert sorted(reply.status for reply in told) == [200] * 19 + [418]
        assert {egress_of(reply) for reply in told if reply.status == 200} == {TWO}
        assert (await client.signed("GET", "/api/v3/account", key=other)).status == 200
        reply = await client.signed("GET", "/api/v3/account", key=mine)
        assert is_refused_here(reply, 418)
        assert is_refused_here(await client.signed("POST", "/api/v3/order", ORDER, key=mine), 418)
        assert (await client.signed("POST", "/fapi/v1/order", ORDER, key=mine)).status == 200
        assert len(one.sandbox.violations) == 1


async def test_many_calls_in_flight_into_a_ban_are_all_that_it_costs(tmp_path: Path) -> None:
    async with lab(tmp_path, egress=ONE) as one:
        client = one.client()
        await client.get(SPOT + "1")
        one.sandbox.ban(ONE, "spot", 30)
        clients = [one.client() for _ in range(15)]
        first = await asyncio.gather(*(c.get(f"{SPOT}{n + 1}") for n, c in enumerate(clients)))
        assert {reply.status for reply in first} == {418}
        mark = one.mark()
        later = await asyncio.gather(*(c.get(f"{SPOT}{n + 1}") for n, c in enumerate(clients)))
        assert all(is_refused_here(reply, 418) for reply in later)
        assert one.mark() == mark


# -- 429 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["retry-after", "body", "body in gzip", "nothing"])
@pytest.mark.parametrize("status", [429, 418])
async def test_the_pause_is_what_the_answer_tells(told: str, status: int, tmp_path: Path) -> None:
    window_s = 3.0
    async with lab(tmp_path, exchange_config(window_s), egress=f"{ONE},{TWO}") as one:
        client = one.client()
        await client.get(SPOT + "1")
        await one.room(2.6)
        pause_s = 2.0
        until_ms = int((time.time() + pause_s) * 1000)
        body = b'{"code":-1003,"msg":"Way too many requests; IP banned until %d. Please use"}' % until_ms
        headers = {"content-type": "application/json"}
        if told == "retry-after":
            body, headers["Retry-After"] = b'{"code":-1003,"msg":"Too many requests"}', "2"
        elif told == "body in gzip":
            body, headers["content-encoding"] = gzip.compress(body), "gzip"
        elif told == "nothing":
            body = b'{"code":-1003,"msg":"Too many requests"}'
        one.sandbox.faults.add(Fault("status", peer=ONE, status=status, body=body, headers=headers))
        begun = time.monotonic()
        number = 0
        while True:
            number += 1
            reply = await client.get(f"{SPOT}{number}", ("Accept-Encoding", "gzip"))
            if reply.status != 200:
                break
        assert (reply.status, code_of(reply), egress_of(reply)) == (status, -1003, ONE)
        assert reply.header("x-resender-error") is None
        mark = one.mark()
        row = one.row(ONE, "spot")
        assert row["state"] == ("banned" if status == 418 else "closed")
        if told == "nothing":
            left = 120 if status == 418 else one.window_left_s()
            assert left - 0.1 <= row["closed_s"] <= left + 2.1
            return
        assert row["closed_s"] in (2, 3)
        while time.monotonic() < begun + pause_s - 0.2:
            number += 1
            assert egress_of(await client.get(f"{SPOT}{number}")) == TWO
            assert (await client.get(UM + "1")).status == 200  # another pool
            await asyncio.sleep(0.03)
        assert ONE not in one.peers("/api/v3/depth", since=mark)
        await repeat_until(lambda: client.get(SPOT + "77"), lambda reply: egress_of(reply) == ONE, 5.0)
        assert time.monotonic() >= begun + pause_s - 0.05


async def test_a_429_at_the_only_way_is_answered_here_until_it_is_over(tmp_path: Path) -> None:
    async with lab(tmp_path, egress=ONE) as one:
        client = one.client()
        headers = {"Retry-After": "2"}
        one.sandbox.faults.add(
            Fault("status", match="/fapi", status=429, body='{"code":-1003}', headers=headers)
        )
        begun = time.monotonic()
        assert (await client.get(UM + "1")).status == 429
        mark = one.mark()
        for target in (UM + "2", CM + "3"):
            reply = await client.get(target)
            assert is_refused_here(reply)
            assert reply.header("retry-after") in ("1", "2")
        assert is_refused_here(await client.signed("POST", "/fapi/v1/order", ORDER))
        assert one.mark() == mark
        assert (await client.get(SPOT + "1")).status == 200
        await repeat_until(lambda: client.get(UM + "4"), lambda reply: reply.status == 200)
        assert time.monotonic() >= begun + 1.9


async def test_too_many_orders_pauses_the_orders_of_that_key_alone(tmp_path: Path) -> None:
    async with lab(tmp_path, egress=ONE) as one:
        client = one.client()
        one.sandbox.faults.add(
            Fault(
                "status", match="/api/v3/order", method="POST", status=429, headers={"Retry-After": "2"},
                body='{"code":-1015,"msg":"Too many new orders; current limit is 100 orders per 10 SECOND."}',
            )
        )  # fmt: skip
        begun = time.monotonic()
        reply = await client.signed("POST", "/api/v3/order", ORDER, key=KEYS[0])
        assert (reply.status, code_of(reply)) == (429, -1015)
        mark = one.mark()
        reply = await client.signed("POST", "/api/v3/order", ORDER, key=KEYS[0])
        assert is_refused_here(reply)
        assert reply.header("retry-after") in ("1", "2")
        assert one.mark() == mark
        assert (await client.signed("GET", "/api/v3/account", key=KEYS[0])).status == 200
        assert (await client.signed("POST", "/api/v3/order", ORDER, key=KEYS[1])).status == 200
        assert (await client.signed("POST", "/fapi/v1/order", ORDER, key=KEYS[0])).status == 200
        assert await is_open(client, SPOT + "1")
        assert one.row(ONE, "spot")["state"] == "ok"
        await repeat_until(
            lambda: client.signed("POST", "/api/v3/order", ORDER, key=KEYS[0]),
            lambda reply: reply.status == 200,
        )
        assert time.monotonic() >= begun + 1.9


async def test_a_429_for_an_order_that_is_about_weight_closes_the_pool(tmp_path: Path) -> None:
    async with lab(tmp_path, egress=ONE) as one:
        client = one.client()
        one.sandbox.faults.add(
            Fault("status", method="POST", status=429, body=b'{"code":-1003}', headers={"Retry-After": "9"})
        )
        assert (await client.signed("POST", "/api/v3/order", ORDER)).status == 429
        assert is_refused_here(await client.get(SPOT + "1"))


@pytest.mark.parametrize(
    ("fault", "problem"),
    [(Fault("html", times=1), "waf"), (Fault("status", status=451, body=b"{}", times=1), "region")],
)
async def test_a_firewall_and_a_region_close_nothing_and_are_shown(
    fault: Fault, problem: str, tmp_path: Path
) -> None:
    async with lab(tmp_path, egress=ONE) as one:
        client = one.client()
        fault.hits = 0
        one.sandbox.faults.add(fault)
        reply = await client.get(SPOT + "1")
        assert (reply.status, reply.header("x-resender-error")) == (
            {"waf": 403, "region": 451}[problem],
            None,
        )
        row = one.row(ONE, "spot")
        assert (row["problem"], row["state"], row["closed_s"]) == (problem, "ok", 0)
        assert await is_open(client, SPOT + "2")
        assert one.row(ONE, "spot")["problem"] == ""


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", "99999999999", "", "0"])
async def test_a_retry_after_that_means_nothing_does_no_harm(value: str, tmp_path: Path) -> None:
    async with lab(tmp_path, exchange_config(3.0), egress=ONE) as one:
        client = one.client()
        headers = {"Retry-After": value}
        one.sandbox.faults.add(Fault("status", status=429, body=b"no json", headers=headers))
        assert (await client.get(SPOT + "1")).status == 429
        assert 1 <= one.row(ONE, "spot")["closed_s"] <= 5
