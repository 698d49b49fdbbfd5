"""Ten clients that never rest, three source addresses, an exchange that punishes: nobody is punished."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.client import Reply
from tests.support.egress_lab import (
    KEYS,
    LIMIT_ORDER,
    WAYS,
    Client,
    Lab,
    code_of,
    egress_of,
    exchange_config,
    is_refused_here,
    lab,
)

pytestmark = pytest.mark.component

WINDOW_S = 8.0
LIMITS = {"spot": 600, "futures": 500}
# What the order reserve of a tenth leaves.
LEFT = 0.9
CACHED = (
    "/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=20",
    "/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=20",
)


@dataclass
class Seen:
    """What the clients met."""

    answers: Counter[str] = field(default_factory=Counter)
    refusal_s: list[float] = field(default_factory=list)
    order_ids: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    hits: int = 0
    not_hits: Counter[str] = field(default_factory=Counter)

    def judge(self, what: str, reply: Reply, begun: float) -> None:
        """Sort an answer: good, refused here and well, or a problem."""
        now = time.time()
        took_s = time.monotonic() - begun
        if reply.status == 200:
            self.answers[f"{what} ok"] += 1
        elif is_refused_here(reply) and what != "order":
            self.answers[f"{what} refused"] += 1
            self.refusal_s.append(took_s)
            wait_s = int(reply.header("retry-after") or 0)
            # Judged a little earlier: when the call was made, by a gateway sure of the time to 0.5 s.
            next_window = (int((now - took_s - 0.5) / WINDOW_S) + 1) * WINDOW_S
            if not next_window - now - 0.001 <= wait_s <= WINDOW_S + 2:
                self.problems.append(f"Retry-After {wait_s}, {next_window - now:.3f} s are left")
        else:
            self.problems.append(f"{what}: {reply.status} {reply.body[:200]!r}")


async def hammer(seed: int, one: Client, seen: Seen) -> None:
    chance = random.Random(seed)
    key = KEYS[seed]
    for number in itertools.count():
        unique = seed * 97 + number % 97  # of no other client, so that no calls are joined
        start = f"startTime={1_790_000_000_000 + (seed * 100_000 + number) * 60_000}"
        begun = time.monotonic()
        draw = chance.random()
        if draw < 0.75:
            target = chance.choice(
                [
                    f"/api/v3/klines?symbol=BTCUSDT&interval=1m&{start}",  # 2
                    f"/api/v3/aggTrades?symbol=BTCUSDT&limit={unique + 1}",  # 4
                    f"/api/v3/trades?symbol=BTCUSDT&limit={unique + 1}",  # 25
                    f"/api/v3/depth?symbol=BTCUSDT&limit={seed * 10 + number % 10 + 1}",  # 5
                    f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=99&{start}",  # 1
                    f"/fapi/v1/trades?symbol=BTCUSDT&limit={unique + 1}",  # 5
                    f"/fapi/v1/aggTrades?symbol=BTCUSDT&limit={unique + 1}",  # 20
                    f"/dapi/v1/klines?symbol=BTCUSD_PERP&interval=1m&limit=99&{start}",  # 1
                ]
            )
            seen.judge("unsigned", await one.get(target), begun)
        else:
            path, query = chance.choice(
                [
                    ("/api/v3/account", ""),  # 20
                    ("/api/v3/openOrders", "symbol=BTCUSDT"),  # 6
                    ("/fapi/v3/account", ""),  # 5
                    ("/fapi/v1/openOrders", "symbol=BTCUSDT"),  # 1
                ]
            )
            seen.judge("signed", await one.signed("GET", path, query, key=key), begun)
        await asyncio.sleep(chance.uniform(0.0, 0.02))


async def trade(seed: int, one: Client, seen: Seen) -> None:
    """Place and cancel orders, rarely enough for the reserve of one address."""
    key = KEYS[seed]
    for number in itertools.count():
        name = f"o{seed}-{number}"
        root = ("/api/v3", "/fapi/v1")[number % 2]
        seen.order_ids.append(name)
        begun = time.monotonic()
        query = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}&newClientOrderId={name}"
        seen.judge("order", await one.signed("POST", f"{root}/order", query, key=key), begun)
        query = f"symbol=BTCUSDT&origClientOrderId={name}"
        begun = time.monotonic()
        seen.judge("order", await one.signed("DELETE", f"{root}/order", query, key=key), begun)
        await asyncio.sleep(WINDOW_S / 6)


async def read_cached(one: Client, seen: Seen) -> None:
    while True:
        for target in CACHED:
            reply = await one.get(target)
            if reply.header("x-resender-cache") == "hit":
                seen.hits += 1
            else:
                seen.not_hits[f"{reply.status} {reply.header('x-resender-cache')}"] += 1
        await asyncio.sleep(0.02)


async def until_cached(one: Lab) -> None:
    client = one.client()
    for target in CACHED:
        deadline = time.monotonic() + 20
        while (await client.get(target)).header("x-resender-cache") != "hit":
            assert time.monotonic() < deadline, "the cache did not fill"
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("machine_ms", [700, -30_000])
async def test_ten_hammering_clients_use_what_there_is_and_earn_no_punishment(
    machine_ms: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`machine_ms`: by so much the gateway's own clock is wrong."""
    exchange = exchange_config(WINDOW_S, weight_limits=LIMITS)
    settings = {
        "cache_enabled": True,
        "preload": "spot:BTCUSDT@1h; um:BTCUSDT@1h",
        "kline_depth": 60,
        "machine_ms": machine_ms,
        "weight_limit_spot": 6000,  # exchangeInfo tells the real one
    }
    seen = Seen()
    async with lab(tmp_path, exchange, **settings) as one:
        await until_cached(one)
        first = await one.next_window()
        jobs = [asyncio.create_task(hammer(seed, one.client(), seen)) for seed in range(10)]
        jobs += [asyncio.create_task(trade(seed, one.client(), seen)) for seed in range(10)]
        jobs.append(asyncio.create_task(read_cached(one.client(), seen)))
        await one.next_window()
        await one.next_window()
        for job in jobs:
            job.cancel()
        done = await asyncio.gather(*jobs, return_exceptions=True)
        await asyncio.sleep(0.3)
        assert not [each for each in done if isinstance(each, Exception)]
        lines = [f"answers {dict(seen.answers)}, hits {seen.hits}, not hits {dict(seen.not_hits)}"]
        for pool, limit in LIMITS.items():
            for window in (first, first + 1):
                used = {
                    egress: next(
                        (use for use in one.sandbox.past_weights(egress, pool) if use.window == window), None
                    )
                    for egress in WAYS
                }
                assert all(used.values()), used
                total = sum(use.used for use in used.values() if use)
                peak = max(use.peak for use in used.values() if use)
                part = total / (3 * limit * LEFT)
                lines.append(f"{pool} {window - first}: used {total} = {part:.1%}, peak {peak} of {limit}")
        refused = sorted(seen.refusal_s)
        lines.append(
            f"refusals {len(refused)}: median {statistics.median(refused) * 1000:.1f} ms, "
            f"99 % {refused[int(len(refused) * 0.99)] * 1000:.1f} ms"
        )
        with capsys.disabled():
            print("", *lines, sep="\n  ")
        assert not seen.problems, (len(seen.problems), seen.problems[:5])
        one.assert_no_offence()
        for egress in WAYS:
            for pool, limit in LIMITS.items():
                assert all(use.peak <= limit for use in one.sandbox.past_weights(egress, pool))
        for line in lines[1:5]:
            assert float(line.partition("= ")[2].partition("%")[0]) >= 95.0, lines
        # Orders: each arrived once, none was refused.
        arrived = Counter(order.params["newClientOrderId"] for order in one.sandbox.orders)
        assert set(arrived.values()) == {1}
        assert set(arrived) >= set(seen.order_ids[:-10])
        assert all(order.error_code is None for order in one.sandbox.orders)
        assert seen.hits > 200
        assert not seen.not_hits
        assert statistics.median(refused) < 0.1


async def test_orders_have_their_reserve_to_the_last_unit(tmp_path: Path) -> None:
    exchange = exchange_config(20.0, weight_limits={"spot": 200})
    async with lab(tmp_path, exchange, egress="127.0.0.2") as one:
        await one.get("/api/v3/ping")
        await one.room(8.0)
        client = one.client()
        for number in range(60):
            await client.get(f"/api/v3/aggTrades?symbol=BTCUSDT&limit={number + 1}")
        used = one.row("127.0.0.2", "spot")["used"]  # with what the gateway read for itself
        assert 176 <= used <= 180
        assert is_refused_here(await client.signed("GET", "/api/v3/openOrders", "symbol=BTCUSDT"))
        placed = 0
        for number in range(40):
            query = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}&newClientOrderId=n{number}"
            reply = await client.signed("POST", "/api/v3/order", query)
            if reply.status != 200:
                break
            placed += 1
        assert is_refused_here(reply), reply
        assert placed == 200 - used
        assert len(one.sandbox.orders) == placed
        one.assert_no_offence()


async def test_refusals_tell_the_limit_in_the_exchanges_words(tmp_path: Path) -> None:
    exchange = exchange_config(weight_limits={"spot": 50, "futures": 10})
    async with lab(tmp_path, exchange, egress="127.0.0.2") as one:
        await one.room(3.0)
        for target, words in (
            (
                "/api/v3/ticker/24hr",
                "Too much request weight used; current limit is 50 request weight per 1 MINUTE.",
            ),
            ("/fapi/v1/ticker/24hr", "Too many requests; current limit of IP is 10 requests per minute."),
        ):
            reply = await one.get(target)
            assert is_refused_here(reply)
            assert code_of(reply) == -1003
            assert reply.json()["msg"].startswith(words)
            assert egress_of(reply) == ""
            assert 1 <= int(reply.header("retry-after") or 0) <= 62
        assert not one.sandbox.calls
