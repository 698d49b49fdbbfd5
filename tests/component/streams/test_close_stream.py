"""`/local/{market}/closes`: one message for the market as soon as every series is final by proof."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import Bench, ExchangeClock, bench, series_of, small_exchange
from tests.support.cache_watch import MINUTE_MS, next_close, until_ms
from tests.support.running import wait_until
from tests.support.stream_client import listener

pytestmark = pytest.mark.component

M = Market.UM
BUSY = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


def truth(one: Bench, symbol: str, close_ms: int) -> list[object]:
    import orjson

    rows = orjson.loads(
        one.store(M).kline_bytes(symbol, "1m", close_ms - MINUTE_MS, close_ms - 1, 1, one.clock())
    )
    return list(rows[0])


async def ready(one: Bench, count: int) -> None:
    kept = series_of(one.cache.states[M])
    await wait_until(lambda: sum(each.state == "live" for each in kept.values()) == count, 20)


async def test_close_of_the_whole_market_is_told_once_for_all_listeners(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(6.0), final_delay="measured")
    async with (
        bench(tmp_path, exchange, preload="um:*@1m", um_kline_stream="continuous") as one,
        listener(one) as ears,
        ears.open("/local/um/closes?interval=1m") as ear,
        ears.open("/local/um/closes?interval=1m&symbols=all") as second,
        ears.open('/local/um/closes?interval=1m&symbols=["BTCUSDT"]') as single,
    ):
        await ready(one, 5)
        close_ms = next_close(one)
        told = await ear.next(75)
        assert (told["interval"], told["open_time"], told["missing"]) == ("1m", close_ms - MINUTE_MS, [])
        assert told["rows"] == {symbol: truth(one, symbol, close_ms) for symbol in told["rows"]}
        assert len(told["rows"]) == 5
        assert 0 < told["settled_ms"] < 8000
        assert await second.next_text(2) == ear.texts[-1]
        alone = await single.next(2)
        assert alone["rows"] == {"BTCUSDT": told["rows"]["BTCUSDT"]}
        assert one.run.gateway.fanout.size == 3


async def test_what_is_not_proven_in_time_is_named_and_follows(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(6.0))
    async with (
        bench(tmp_path, exchange, preload="um:BTCUSDT,ETHUSDT,SOLUSDT@1m", close_deadline_ms=600) as one,
        listener(one) as ears,
        ears.open("/local/um/closes?interval=1m") as ear,
    ):
        await ready(one, 3)
        close_ms = next_close(one)
        one.sandbox.faults.stream(M).late_final_by_symbol = {"ETHUSDT": 20_000}
        told = await ear.next(75)
        assert told["open_time"] == close_ms - MINUTE_MS
        assert told["missing"] == ["ETHUSDT"]
        assert sorted(told["rows"]) == ["BTCUSDT", "SOLUSDT"]
        late = await ear.next(15)
        assert late["open_time"] == told["open_time"]
        assert late["missing"] == []
        assert late["rows"] == {"ETHUSDT": truth(one, "ETHUSDT", close_ms)}
        assert late["settled_ms"] > told["settled_ms"]


async def test_first_message_may_go_out_early(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(6.0))
    settings = {"close_first_ms": 300, "preload": "um:BTCUSDT,ETHUSDT,SOLUSDT@1m"}
    async with (
        bench(tmp_path, exchange, **settings) as one,
        listener(one) as ears,
        ears.open("/local/um/closes?interval=1m") as ear,
    ):
        await ready(one, 3)
        one.sandbox.faults.stream(M).late_final_by_symbol = {"ETHUSDT": 1000}
        first, second = await ear.next(75), await ear.next(10)
        assert (sorted(first["rows"]), first["missing"]) == (["BTCUSDT", "SOLUSDT"], ["ETHUSDT"])
        assert (sorted(second["rows"]), second["missing"]) == (["ETHUSDT"], [])


async def test_market_of_which_nothing_is_kept_has_closes_without_rows(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(ExchangeClock.before_close(4.0))) as one, listener(one) as ears:
        async with ears.open("/local/cm/closes?interval=1m") as ear:
            told = await ear.next(75)
            assert (told["rows"], told["missing"]) == ({}, [])


async def test_nothing_is_waited_for_once_nobody_listens(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(5.0))
    async with bench(tmp_path, exchange, preload="um:BTCUSDT@1m") as one, listener(one) as ears:
        async with ears.open("/local/um/closes?interval=1m"):
            await wait_until(
                lambda: any(name.startswith("closes:") for name in one.run.gateway.tasks.names())
            )
        await wait_until(
            lambda: not any(name.startswith("closes:") for name in one.run.gateway.tasks.names())
        )
        await until_ms(one, next_close(one) + 100)
        await asyncio.sleep(0)


async def test_wrong_wishes_are_refused_before_the_upgrade(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        await wait_until(lambda: one.cache.states[M].symbols.is_loaded or one.cache.states[M].start() or True)
        for query in (
            "",
            "interval=2m",
            "interval=1M",
            "interval=1m&symbols=BTC",
            "interval=1m&limit=5",
            "interval=",
        ):
            assert (await ears.refused(f"/local/um/closes?{query}"))[0] == 400, query
        assert (await ears.refused("/local/pm/closes?interval=1m"))[0] == 404
        assert (await ears.refused("/local/um/klines?interval=1m"))[0] == 404
    async with bench(tmp_path / "2", cache_enabled=False) as one, listener(one) as ears:
        assert (await ears.refused("/local/um/closes?interval=1m"))[0] == 404
