"""Fair shares between clients, limits the exchange tells, and gateways behind gateways."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from resender.sandbox import Fault, Sandbox
from tests.support.egress_lab import (
    KEYS,
    LIMIT_ORDER,
    egress_of,
    exchange_config,
    gateway_on,
    is_refused_here,
    lab,
)
from tests.support.running import wait_until

pytestmark = pytest.mark.component

ORDER = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"
GREEDY, MODEST = "127.0.1.1", "127.0.1.2"


async def test_a_greedy_client_takes_its_share_and_leaves_the_rest(tmp_path: Path) -> None:
    exchange = exchange_config(20.0, weight_limits={"spot": 400})
    settings = {"client_weight_share": 0.25, "whitelist": "127.0.0.0/8"}
    async with lab(tmp_path, exchange, **settings) as one:
        await one.get("/api/v3/ping")
        await one.room(9.0)
        greedy, modest = one.client(GREEDY), one.client(MODEST)
        answers: Counter[bool] = Counter()
        for number in range(150):
            if number % 2:
                reply = await greedy.get(f"/api/v3/aggTrades?symbol=BTCUSDT&limit={number + 1}")
                answers[reply.status == 200] += 4
            else:
                reply = await greedy.signed(
                    "GET", "/api/v3/openOrders", "symbol=BTCUSDT", key=KEYS[number % 5]
                )
                answers[reply.status == 200] += 6
            assert reply.status == 200 or is_refused_here(reply)
        assert 290 <= answers[True] <= 300
        assert answers[False] > 300
        # Its orders go on, and so does everybody else.
        for key in KEYS[:5]:
            assert (await greedy.signed("POST", "/api/v3/order", ORDER, key=key)).status == 200
        taken = 0
        for number in range(60):
            reply = await modest.get(f"/api/v3/aggTrades?symbol=BTCUSDT&limit={number + 300}")
            taken += 4 if reply.status == 200 else 0
        assert taken == 240
        rows = {row["ip"]: row for row in one.gateway.status.clients()}
        assert rows[GREEDY]["refused"] > 50
        assert rows[MODEST]["refused"] == 0
        assert rows[MODEST]["weight_minute"] == 240
        one.assert_no_offence()


@pytest.mark.slow
async def test_the_greedy_client_starts_anew_with_the_next_window(tmp_path: Path) -> None:
    exchange = exchange_config(5.0, weight_limits={"spot": 400})
    async with lab(tmp_path, exchange, client_weight_share=0.1) as one:
        client = one.client()
        for _ in range(2):
            await one.next_window(1.2)
            good = 0
            for number in range(60):
                reply = await client.get(f"/api/v3/aggTrades?symbol=BTCUSDT&limit={number + 1}")
                good += reply.status == 200
            assert good == 30


@pytest.mark.parametrize("is_cached", [False, True])
async def test_limits_are_learned_from_exchange_info(is_cached: bool, tmp_path: Path) -> None:
    limits = {"spot": 4321, "futures": 1234, "options": 321}
    exchange = exchange_config(weight_limits=limits)
    settings = {f"weight_limit_{pool}": 100 for pool in limits}
    async with lab(tmp_path, exchange, cache_enabled=is_cached, **settings) as one:
        governor = one.gateway.egress.governor
        for target in ("/api/v3/ping", "/dapi/v1/ping", "/eapi/v1/ping"):
            assert (await one.get(target)).status == 200
        await wait_until(lambda: all(governor.limit(pool) == limit for pool, limit in limits.items()))
        assert governor.limit("pm") == 6000
        # At once and everywhere: a call that would not have fitted before.
        assert (await one.get("/api/v3/depth?symbol=BTCUSDT&limit=1000&n=1")).status in (200, 400)
        assert (await one.get("/api/v3/depth?symbol=BTCUSDT&limit=5000")).status == 200
        assert one.row("127.0.0.2", "spot")["limit"] == 4321
        one.assert_no_offence()


async def test_limits_that_cannot_be_read_leave_the_settings_in_force(tmp_path: Path) -> None:
    async with lab(tmp_path, weight_limit_spot=777) as one:
        one.sandbox.faults.add(Fault("status", match="exchangeInfo", body=b"[", status=200, times=None))
        for _ in range(3):
            assert (await one.get("/api/v3/ping")).status == 200
        await asyncio.sleep(0.3)
        assert one.gateway.egress.governor.limit("spot") == 777


async def test_no_limit_is_asked_for_before_a_market_is_used(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await one.get("/api/v3/ping")
        await wait_until(lambda: one.sandbox.count("GET", "/api/v3/exchangeInfo"))
        await asyncio.sleep(0.2)
        assert {call.host for call in one.sandbox.calls} == {"api"}


# -- a gateway behind a gateway -----------------------------------------------------------------------


async def test_an_old_answer_of_the_gateway_behind_does_not_turn_the_clock_back(tmp_path: Path) -> None:
    info = "/fapi/v1/exchangeInfo"
    async with Sandbox(exchange_config()) as sandbox:
        async with gateway_on(tmp_path / "in", sandbox, egress="127.0.0.2") as inner:
            await inner.get(info)
            behind = f"resender://127.0.0.1:{inner.run.port}"
            async with gateway_on(
                tmp_path / "out", sandbox, egress=f"behind={behind}", exchange_info_memory_s=0
            ) as outer:
                clock, mono = outer.gateway.egress.governor.clock, outer.gateway.clock.mono
                await outer.get("/fapi/v1/ping")
                await asyncio.sleep(3.2)
                now = mono()
                low, high = clock.low_ms(now), clock.high_ms(now)
                old = await outer.get(info)
                assert egress_of(old) == "behind"
                assert inner.of_clients(info) == 1  # the answer is one from three seconds ago
                now = mono() - now
                assert clock.low_ms(mono()) - low == pytest.approx(now * 1000, abs=50)
                assert clock.high_ms(mono()) - high == pytest.approx(now * 1000, abs=50)


async def test_a_refusal_of_the_gateway_behind_leaves_the_way_open_for_orders(tmp_path: Path) -> None:
    async with Sandbox(exchange_config(30.0, weight_limits={"spot": 60})) as sandbox:
        async with gateway_on(tmp_path / "in", sandbox, window_s=30.0, egress="127.0.0.2") as inner:
            behind = f"resender://127.0.0.1:{inner.run.port}"
            # The outer one believes in a limit that is far too high.
            async with gateway_on(
                tmp_path / "out", sandbox, window_s=30.0, egress=f"behind={behind}", weight_limit_spot=5000
            ) as outer:
                sandbox.faults.add(Fault("status", match="exchangeInfo", status=500, times=None))
                await outer.room(8.0)
                client = outer.client()
                for number in range(20):
                    reply = await client.get(f"/api/v3/aggTrades?symbol=BTCUSDT&limit={number + 1}")
                    if reply.status != 200:
                        break
                assert reply.status == 429
                assert egress_of(reply) == "behind"
                made = len(sandbox.calls)
                assert is_refused_here(await client.get("/api/v3/ping"))
                assert outer.row("behind", "spot")["state"] == "ok"
                assert (await client.signed("POST", "/api/v3/order", ORDER)).status == 200
                assert len(sandbox.calls) == made + 1
        assert not sandbox.violations
