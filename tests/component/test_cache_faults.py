"""Faults under the eyes of clients that never stop asking: no wrong answer at any moment, hits again soon.

Each round strikes the three markets with a fault of their own, just before a minute closes, while candles
of 1s go on closing on spot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.market import Klines
from resender.sandbox import Fault, Sandbox
from tests.support.cache_bench import (
    LOCAL_SERVICES,
    MARKETS,
    SYMBOL,
    TICKERS,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    kline_target,
    side_by_side,
    small_exchange,
    subscribed,
)
from tests.support.cache_judge import ticker_body
from tests.support.cache_watch import Watch
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.alone]

MINUTE_MS = 60_000
LEAD_S = 1.2
Act = Callable[[Sandbox, Market], Awaitable[None]]


def watch_all(one: Bench) -> Watch:
    watch = Watch(one)
    for market in MARKETS:
        watch.klines(market, SYMBOL[market], "1m")
        watch.ticker(market, SYMBOL[market])
    watch.klines(Market.SPOT, "BTCUSDT", "1s")
    watch.klines(Market.UM, "NKNUSDT", "1m")
    return watch


async def until_close(one: Bench, early_ms: int) -> int:
    """Wait until shortly before the minute closes, or a moment if it has closed; return the close."""
    close = (one.clock() // MINUTE_MS + 1) * MINUTE_MS
    left_ms = close - early_ms - one.clock()
    await asyncio.sleep(left_ms / 1000 if 0 < left_ms < 3000 else 0.2)
    return close


def kline_frame(market: Market, now: int, **fields: Any) -> str:
    """Build an event of the open candle, with some fields changed."""
    symbol, start = SYMBOL[market], now // MINUTE_MS * MINUTE_MS
    k = {"t": start, "T": start + MINUTE_MS - 1, "s": symbol, "i": "1m", "f": 1, "L": 2, "o": "1", "c": "1",
         "h": "1", "l": "1", "v": "1", "n": 10**6, "x": False, "q": "1", "V": "1", "Q": "1", "B": "0"}  # fmt: skip
    outer = {"e": "kline", "E": fields.pop("E", now), "s": fields.pop("outer", symbol), "k": {**k, **fields}}
    name = f"{symbol.lower()}@kline_1m"
    return orjson.dumps({"stream": name, "data": outer}).decode()


async def unexpected(sandbox: Sandbox, market: Market) -> None:
    """Send well-formed frames that cannot be true."""
    now = sandbox.config.clock_ms()
    start = now // MINUTE_MS * MINUTE_MS
    ahead = start + 5 * MINUTE_MS
    for frame in (
        kline_frame(market, now, t=start + MINUTE_MS, T=start + 2 * MINUTE_MS - 1),
        kline_frame(market, now, t=ahead, T=ahead + MINUTE_MS - 1),
        kline_frame(market, now, t=ahead, T=ahead + MINUTE_MS - 1, E=ahead + 1000),
        kline_frame(market, now, s="ETHUSDT"),
        kline_frame(market, now, outer="ETHUSDT", s="ETHUSDT"),
        kline_frame(market, now, i="5m"),
        kline_frame(market, now, T=start + 2 * MINUTE_MS - 1),
        kline_frame(market, now, t=start - MINUTE_MS, T=start - 1, x=True),
        '{"stream":"nosuch@kline_1m","data":{"e":"kline"}}',
        '{"stream":"!ticker@arr","data":[]}',
        '{"result":null,"id":424242}',
        '{"e":"somethingNew","E":1}',
        "[]",
        "null",
        "17",
        '"text"',
        "{}",
    ):
        sandbox.faults.send_raw(market, frame)
        await asyncio.sleep(0.03)


async def early_final(sandbox: Sandbox, market: Market) -> None:
    """Send the present numbers of the open candle as its final ones, long before it is over."""
    now = sandbox.config.clock_ms() - 400
    t, o, h, low, c, v, _, q, n, tv, tq, _ = sandbox.market(market).kline_rows(
        SYMBOL[market], "1m", limit=1, now_ms=now
    )[-1]
    numbers = {"t": t, "o": o, "h": h, "l": low, "c": c, "v": v, "q": q, "n": n, "V": tv, "Q": tq}
    sandbox.faults.send_raw(market, kline_frame(market, now, x=True, **numbers))


async def refused(sandbox: Sandbox, market: Market, status: int = 503) -> None:
    sandbox.faults.refuse_streams(market, status=status)
    sandbox.faults.drop_streams(market)
    await asyncio.sleep(1.2)
    sandbox.faults.refuse_streams(market, on=False)


async def silent(sandbox: Sandbox, market: Market) -> None:
    sandbox.faults.silence(market)
    await asyncio.sleep(2.5)
    sandbox.faults.silence(market, on=False)


async def shutdown(sandbox: Sandbox, market: Market) -> None:
    sandbox.faults.server_shutdown(market)
    await asyncio.sleep(1.0)
    # What has not moved by now would be cut.


def at_once(strike: Callable[[Sandbox, Market], object]) -> Act:
    async def act(sandbox: Sandbox, market: Market) -> None:
        strike(sandbox, market)

    return act


ACTS: dict[str, Act] = {
    "reset": at_once(lambda sandbox, market: sandbox.faults.drop_streams(market)),
    "closed": at_once(lambda sandbox, market: sandbox.faults.drop_streams(market, 1001)),
    "refused": refused,
    "cut in the handshake": lambda sandbox, market: refused(sandbox, market, 0),
    "garbage": at_once(lambda sandbox, market: sandbox.faults.send_raw(market, "\x00garbage{")),
    "binary": at_once(lambda sandbox, market: sandbox.faults.send_raw(market, b"\xff\x00\x01")),
    "truncated": at_once(lambda sandbox, market: sandbox.faults.send_truncated(market)),
    "wrong types": at_once(lambda sandbox, market: sandbox.faults.send_wrong_types(market)),
    "huge": at_once(lambda sandbox, market: sandbox.faults.send_huge(market)),
    "unexpected": unexpected,
    "early final": early_final,
    "silent": silent,
    "shutdown": shutdown,
}
# Spot, USD-M and COIN-M of one gateway each; the gateways of a group run side by side.
GROUPS = [
    [("reset", "truncated", "garbage"), ("binary", "closed", "wrong types")],
    [("huge", "unexpected", "early final"), ("unexpected", "early final", "shutdown")],
    [
        ("silent", "silent", "silent"),
        ("refused", "cut in the handshake", "reset"),
        ("shutdown", "shutdown", "truncated"),
    ],
]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "; ".join(", ".join(each) for each in group))
async def test_fault_gives_no_wrong_answer_and_hits_come_back(
    tmp_path: Path, group: list[tuple[str, str, str]]
) -> None:
    await side_by_side(*(strike(tmp_path / "-".join(acts), acts) for acts in group))


async def strike(folder: Path, acts: tuple[str, str, str]) -> None:
    """Strike each market of one gateway with a fault just before a close."""
    async with bench(folder, small_exchange(ExchangeClock.before_close(LEAD_S))) as one:
        watch = watch_all(one)
        await watch.ready()
        async with watch.polling(0.025):
            await until_close(one, 150)
            await asyncio.gather(
                *(ACTS[name](one.sandbox, market) for name, market in zip(acts, MARKETS, strict=True))
            )
            # The back-off after what was refused is part of it.
            assert await watch.until_all_hit(15) < 10
            await asyncio.sleep(0.3)
        assert watch.hits > 40
        assert not watch.errors
        assert not one.sandbox.violations


async def test_planned_move_to_another_connection_costs_no_hit(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30))) as one:
        watch = watch_all(one)
        await watch.ready()
        await asyncio.sleep(0.5)
        async with watch.polling():
            for market in MARKETS:
                one.sandbox.faults.server_shutdown(market)
            pools = [
                pool for market in MARKETS for pool in [feed.pool for feed in one.cache.states[market].feeds]
            ]
            await wait_until(lambda: all(pool.stats.rotations == 1 for pool in pools), 10)
            await asyncio.sleep(0.3)
        assert not watch.misses
        assert watch.hits > 100


async def test_forced_close_at_the_end_of_a_connections_life_is_survived_again_and_again(
    tmp_path: Path,
) -> None:
    exchange = small_exchange(ExchangeClock.before_close(2.4), max_age_s=1.2)
    async with bench(tmp_path, exchange) as one:
        watch = watch_all(one)
        async with watch.polling():
            await wait_until(lambda: min(one.sandbox.stream_accepted.values()) >= 3, 15)
            await watch.until_all_hit(10)
        assert watch.hits > 50


async def test_restart_of_the_exchange_is_survived(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(LEAD_S))) as one:
        watch = watch_all(one)
        await watch.ready()
        async with watch.polling():
            await until_close(one, 150)
            for service in LOCAL_SERVICES:
                await one.sandbox.stop_listening(service)
            await asyncio.sleep(1.2)
            down = dict(watch.last_hit)
            await asyncio.sleep(0.3)
            assert watch.last_hit == down  # nothing can be proven now
            assert set(watch.misses) <= {
                "",
                "miss; stream not live",
                "miss; not read yet",
                "miss; not settled",
            }
            for service in LOCAL_SERVICES:
                await one.sandbox.start_listening(service)
            assert await watch.until_all_hit(15) < 12
            await asyncio.sleep(0.2)


async def test_exchange_that_is_away_while_the_gateway_starts_is_followed_later(tmp_path: Path) -> None:
    async with Sandbox(small_exchange()) as sandbox:
        for service in LOCAL_SERVICES:
            await sandbox.stop_listening(service)
        async with gateway_on(tmp_path, sandbox, preload="um:BTCUSDT@1m,bookTicker") as one:
            await asyncio.sleep(0.6)
            for service in LOCAL_SERVICES:
                await sandbox.start_listening(service)
            one.check(
                await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m")), Market.UM, "BTCUSDT", "1m"
            )


async def test_frames_twice_and_out_of_order_change_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(LEAD_S))) as one:
        watch = watch_all(one)
        await watch.ready()
        for market in MARKETS:
            one.sandbox.faults.stream(market).duplicate = True
            one.sandbox.faults.stream(market).reorder = True
        shown: dict[str, list[int]] = {"um": [], "cm": []}
        async with watch.polling():
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                for market in (Market.UM, Market.CM):
                    timed = await one.book_ticker(market, SYMBOL[market])
                    row = timed.rows[0] if market is Market.CM else timed.rows
                    shown[market.value].append(row["time"])
                await asyncio.sleep(0.02)
        # A read that settles a close may take longer than calls wait for it.
        assert not watch.misses.keys() - {"miss; not settled"}
        for times in shown.values():
            assert times == sorted(times)
            assert len(set(times)) > 5  # of 15 updates; the loop is shared with everything else


@pytest.mark.parametrize("market", MARKETS)
async def test_burst_of_20000_updates_ends_with_the_last_one(tmp_path: Path, market: Market) -> None:
    async with bench(tmp_path, small_exchange(book_ticker_hz=0.01)) as one:
        symbol, store = SYMBOL[market], one.store(market)
        target = f"{TICKERS[market]}?symbol={symbol}"
        await one.until_hit(target)
        burst = asyncio.create_task(one.sandbox.burst(market, symbol, 20_000))
        seen = []
        while not burst.done():
            timed = await one.get(target)
            assert timed.is_hit
            seen.append(timed.body)
            await asyncio.sleep(0.01)
        last = await burst
        ended = time.monotonic()
        while (timed := await one.get(target)).body != ticker_body(store, symbol):
            assert timed.is_hit
            assert time.monotonic() < ended + 3
            await asyncio.sleep(0.01)
        assert len(set(seen)) > 3
        assert store.update_id(symbol, one.clock()) == last
        assert not one.calls(TICKERS[market], len(one.sandbox.calls))


async def test_halt_delisting_and_listing_under_the_eyes_of_clients(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(LEAD_S))
    async with bench(tmp_path, exchange, symbol_refresh_s=1) as one:
        watch = Watch(one)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            watch.klines(Market.UM, symbol, "1m")
            watch.klines(Market.SPOT, symbol, "1m")
            watch.ticker(Market.UM, symbol)
            watch.ticker(Market.SPOT, symbol)
        await watch.ready()
        gone_target = kline_target(Market.UM, "SOLUSDT", "1m")
        await one.until_hit(gone_target)
        async with watch.polling():
            await until_close(one, 500)
            for market in (Market.UM, Market.SPOT):
                one.sandbox.halt(market, "ETHUSDT")
            one.sandbox.delist(Market.UM, "SOLUSDT")
            one.sandbox.list_symbol(Market.UM, "FRESHUSDT")
            # The symbols are read again as soon as the close is over.
            await wait_until(lambda: "miss; unknown symbol" in watch.misses, 15)
            deadline = time.monotonic() + 5  # each market reads its symbols at its own time
            while (gone := await one.get(gone_target)).status != 400:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            assert gone.cache == "miss; unknown symbol"
            fresh = await one.until_hit(kline_target(Market.UM, "FRESHUSDT", "1m"))
            one.check(fresh, Market.UM, "FRESHUSDT", "1m")
            for market in (Market.UM, Market.SPOT):
                one.sandbox.resume(market, "ETHUSDT")
            await watch.until_all_hit(10)
            await asyncio.sleep(0.3)
        assert not watch.errors


async def test_book_ticker_of_a_connection_that_never_spoke_survives_rest_errors(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(book_ticker_hz=0.01)) as one:
        targets = [f"{TICKERS[market]}?symbol={SYMBOL[market]}" for market in MARKETS]
        for target in targets:
            await one.until_hit(target)
        fault = one.sandbox.faults.add(Fault("status", match="bookTicker", times=None, status=500))
        mark, end = one.mark(), time.monotonic() + 1.6
        while time.monotonic() < end:
            for target in targets:
                await one.get(target)
            await asyncio.sleep(0.02)
        assert len(one.own_calls(since=mark)) <= 4 * len(targets)
        one.sandbox.faults.remove(fault)
        for market, target in zip(MARKETS, targets, strict=True):
            one.check_ticker(await one.until_hit(target, 5), market, SYMBOL[market])


async def test_stream_that_is_acknowledged_and_silent_is_never_trusted(tmp_path: Path) -> None:
    """As USD-M candles are on the wrong path: connected, acknowledged, no event ever."""
    exchange = small_exchange(ExchangeClock.before_close(30))
    async with bench(tmp_path, exchange) as one:
        # The connection for candles leads to the path of tickers.
        pool = one.cache.states[Market.UM].kind(Klines).feed.pool
        pool.path = "/public"
        watch = Watch(one)
        watch.klines(Market.UM, "BTCUSDT", "1m")
        # Only REST proves anything here, once a second: its answer may be a second old.
        watch.slack_ms += 1100
        await watch.ready()
        async with watch.polling():
            await asyncio.sleep(1.8)
        assert watch.hits > 20
        assert subscribed(one) == [["btcusdt@kline_1m"]]
