"""`/local/{market}/klines?closed=true`: closed rows only, as soon as the close is settled, and never wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import (
    KLINES,
    Bench,
    ExchangeClock,
    bench,
    kline_target,
    series_of,
    small_exchange,
)
from tests.support.cache_watch import until_ms
from tests.support.client import Reply, call
from tests.support.running import wait_until

pytestmark = pytest.mark.component

M = Market.UM
MINUTE_MS = 60_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "NKNUSDT")


def target(query: str, market: Market = M) -> str:
    return f"/local/{market.value}/klines?interval=1m&limit=3&closed=true&{query}"


def listed(*symbols: str) -> str:
    return "symbols=" + quote(orjson.dumps(list(symbols or SYMBOLS)).decode(), safe="")


async def get(one: Bench, query: str, market: Market = M) -> Reply:
    return await call(one.run.port, "GET", target(query, market))


def truth(one: Bench, symbol: str, close_ms: int, limit: int = 3, market: Market = M) -> list[Any]:
    """Return the final rows up to a close, as the exchange has them once all is settled."""
    rows = orjson.loads(one.store(market).kline_bytes(symbol, "1m", limit=limit + 9, now_ms=one.clock()))
    return [row for row in rows if row[6] < close_ms][-limit:]


async def ready(one: Bench, *symbols: str, market: Market = M) -> None:
    for symbol in symbols or SYMBOLS:
        await one.until_hit(kline_target(market, symbol, "1m"))


def next_close(one: Bench) -> int:
    return (one.clock() // MINUTE_MS + 1) * MINUTE_MS


async def test_only_closed_rows_are_answered_and_they_are_the_exchanges(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30))) as one:
        await ready(one)
        close_ms = next_close(one) - MINUTE_MS
        reply = await get(one, "symbol=BTCUSDT")
        assert reply.status == 200
        assert reply.header("x-resender-close") == str(close_ms)
        assert reply.header("x-resender-pending") is None
        assert reply.json() == truth(one, "BTCUSDT", close_ms)
        many = await get(one, listed())
        assert many.json() == {symbol: truth(one, symbol, close_ms) for symbol in SYMBOLS}
        assert (await get(one, "symbols=all")).json() == many.json()


@pytest.mark.parametrize("profile", ["continuous", "plain"])
async def test_calls_that_wait_get_the_candle_that_closes_when_it_is_final(
    tmp_path: Path, profile: str
) -> None:
    exchange = small_exchange(ExchangeClock.before_close(4.0), final_delay="measured")
    async with bench(tmp_path, exchange, um_kline_stream=profile) as one:
        await ready(one)
        close_ms, mark = next_close(one), one.mark()
        await until_ms(one, close_ms - 150)  # held to the close
        replies = await asyncio.gather(
            get(one, f"{listed()}&wait=5000&all=true"), *(get(one, f"symbol={s}&wait=5000") for s in SYMBOLS)
        )
        assert [reply.status for reply in replies] == [200] * 5
        assert replies[0].json() == {symbol: truth(one, symbol, close_ms) for symbol in SYMBOLS}
        for symbol, reply in zip(SYMBOLS, replies[1:], strict=True):
            assert reply.header("x-resender-close") == str(close_ms)
            assert reply.json() == truth(one, symbol, close_ms)
        # Only the one that is not traded has no event: one read for all who wait for it.
        own = [each.query.split("&")[0] for each in one.own_calls(KLINES[M], mark)]
        if profile == "continuous":
            assert own in ([], ["symbol=NKNUSDT"])


async def test_what_is_not_settled_in_time_is_named_and_the_rest_is_answered(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(4.0))
    async with bench(tmp_path, exchange) as one:
        await ready(one)
        close_ms = next_close(one)
        one.sandbox.faults.stream(M).late_final_by_symbol = {"ETHUSDT": 20_000}
        await until_ms(one, close_ms + 50)
        busy = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        reply = await get(one, f"{listed(*busy)}&wait=600&detail=1")
        told = reply.json()
        assert reply.status == 200
        assert reply.header("x-resender-pending") == "ETHUSDT"
        assert told["close"] == close_ms
        assert told["pending"] == {"ETHUSDT": "not settled"}
        assert sorted(told["settled"]) == ["BTCUSDT", "SOLUSDT"]
        assert told["klines"] == {symbol: truth(one, symbol, close_ms) for symbol in told["settled"]}
        assert (await get(one, f"{listed(*busy)}&wait=100&all=true")).status == 503
        assert (await get(one, "symbol=ETHUSDT")).status == 503
        # REST settles it for whoever waits long enough, with one read.
        mark = one.mark()
        replies = await asyncio.gather(*(get(one, "symbol=ETHUSDT&wait=8000") for _ in range(10)))
        assert [each.json() for each in replies] == [truth(one, "ETHUSDT", close_ms)] * 10
        assert len(one.own_calls(KLINES[M], mark)) == 1


async def test_nobody_waiting_costs_no_read(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(3.0), final_delay="plain")
    async with bench(tmp_path, exchange) as one:
        await ready(one)
        close_ms, mark = next_close(one), one.mark()
        await until_ms(one, close_ms + 30)
        for _ in range(20):
            await get(one, "symbols=all")
            await asyncio.sleep(0.05)
        assert not one.own_calls(KLINES[M], mark)


async def test_two_hundred_different_calls_wait_and_none_is_refused(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(12.0), final_delay="measured", um_symbols=40)
    async with bench(tmp_path, exchange, preload="um:*@1m", um_kline_stream="continuous") as one:
        line = one.cache.states[M]
        await wait_until(lambda: sum(e.state == "live" for e in series_of(line).values()) == 40, 10)
        names = [symbol for symbol, _ in series_of(line)]
        close_ms = next_close(one)
        await until_ms(one, close_ms + 5)
        replies = await asyncio.gather(
            *(get(one, f"{listed(*(names[(n + k) % 40] for k in range(5)))}&wait=4000") for n in range(200))
        )
        assert {reply.status for reply in replies} == {200}
        for n, reply in enumerate(replies):
            wanted = [names[(n + k) % 40] for k in range(5)]
            assert reply.json() == {symbol: truth(one, symbol, close_ms) for symbol in wanted}


async def test_post_takes_a_long_list_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30))) as one:
        await ready(one)

        async def post(value: object, path: str = "/local/um/klines") -> Reply:
            body = value if isinstance(value, bytes) else orjson.dumps(value)
            return await call(one.run.port, "POST", path, body=body)

        close_ms = next_close(one) - MINUTE_MS
        good = {"symbols": list(SYMBOLS), "interval": "1m", "limit": 3, "closed": True, "wait": 100}
        assert (await post(good)).json() == {symbol: truth(one, symbol, close_ms) for symbol in SYMBOLS}
        for bad in (
            b"no json",
            b"[]",
            {**good, "odd": 1},
            {**good, "symbols": "BTCUSDT"},
            {**good, "symbols": ["BTCUSDT", "BTCUSDT"]},
            {**good, "symbols": ["btcusdt"]},
            {**good, "symbols": ["NOSUCHUSDT"]},
            {**good, "wait": 8001},
            {**good, "wait": -1},
            {**good, "closed": "perhaps"},
            {**good, "closed": False},
            {**good, "limit": [1]},
        ):
            reply = await post(bad)
            assert (reply.status, reply.json()["code"]) == (400, -4), bad
        assert (await post(good, "/local/um/bookTicker")).status == 405
        assert (await post(good, "/local/um/klines?interval=1m")).status == 400


async def test_rows_from_a_time_on(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30))) as one:
        await ready(one, "BTCUSDT")
        close_ms = next_close(one) - MINUTE_MS
        since = close_ms - 2 * MINUTE_MS
        reply = await call(
            one.run.port, "GET", f"/local/um/klines?symbol=BTCUSDT&interval=1m&closed=true&since={since}"
        )
        assert [row[0] for row in reply.json()] == [since, since + MINUTE_MS]
        assert (await get(one, f"symbol=BTCUSDT&since={close_ms}")).json() == []
        far = await call(one.run.port, "GET", "/local/um/klines?symbol=BTCUSDT&interval=1m&since=1")
        assert far.status == 400


async def test_series_nobody_asked_for_yet_is_started_and_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(30))) as one:
        await ready(one, "BTCUSDT")
        reply = await get(one, "symbol=SOLUSDT&wait=8000")
        assert reply.status in (200, 503)
        await wait_until(lambda: ("SOLUSDT", "1m") in series_of(one.cache.states[M]))
        again = await get(one, "symbol=SOLUSDT&wait=8000")
        assert again.json() == truth(one, "SOLUSDT", next_close(one) - MINUTE_MS)
