from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.candles import Candle
from resender.core.market.klines import KlineSeries
from resender.web.admin.api.series import newest_rows, rows_from
from tests.support.cache_bench import bench, kline_target, series_of, small_exchange
from tests.support.person import log_in
from tests.support.running import make_config, running

pytestmark = pytest.mark.component
RULES = "spot:BTCUSDT,ETHUSDT@1m,1h,bookTicker;um:*USDT@1m"


async def test_series_are_listed_with_state_rows_and_age(tmp_path: Path) -> None:
    async with bench(tmp_path, preload=RULES) as one:
        me = await log_in(one.run.gateway, one.run.port)
        await one.until_hit(kline_target(Market.SPOT, "BTCUSDT", "1m"))
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            found = await me.json("series")
            if found["total"] == 11 and set(found["states"]) == {"live"}:
                break
            assert asyncio.get_running_loop().time() < deadline, found["states"]
            await asyncio.sleep(0.1)
        keys = [(row["market"], row["symbol"], row["interval"]) for row in found["items"]]
        assert keys[:3] == [
            ("spot", "BTCUSDT", "1m"), ("spot", "BTCUSDT", "1h"), ("spot", "BTCUSDT", "bookTicker"),
        ]  # fmt: skip
        first = found["items"][0]
        assert first["rows"] >= 60
        assert first["depth"] == 60
        assert first["hits"] >= 1
        assert first["misses"] == sum(first["miss_reasons"].values())
        assert first["preload"]
        assert 0 <= first["age_ms"] < 5000
        assert found["next"] is None

        # Page by page the same rows come, each once.
        pages: list[tuple[str, str, str]] = []
        before = ""
        while True:
            page = await me.json(f"series?limit=3&before={before.replace(' ', '%20')}")
            assert page["total"] == 11
            pages += [(row["market"], row["symbol"], row["interval"]) for row in page["items"]]
            if page["next"] is None:
                break
            before = page["next"]
        assert pages == keys

        assert (await me.json("series?market=um"))["total"] == 5
        assert (await me.json("series?symbol=eth"))["total"] == 4
        assert (await me.json("series?interval=bookTicker"))["total"] == 2
        none = await me.json("series?state=connecting")
        assert (none["total"], none["items"], none["states"]) == (0, [], {"live": 11})
        status = await me.json("status")
        assert status["series"] == {"total": 11, "live": 11}
        spot = status["streams"][0]
        # One connection for what is kept, one for its witness.
        assert (spot["market"], spot["live"], spot["streams"]) == ("spot", 2, 7)
        assert spot["oldest_age_s"] > 0

        filled = {row["pool"]: row for row in (await me.json("backfill"))["items"]}
        assert (filled["spot"]["total"], filled["spot"]["queued"], filled["spot"]["filled"]) == (4, 0, 4)
        assert filled["spot"]["rows_read"] == filled["spot"]["rows_wanted"] >= 4 * 60
        assert filled["spot"]["minutes"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("market=xx", "market"), ("market=pm", "market"), ("interval=7m", "interval"), ("state=x", "state"),
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("before=x", "before"),
    ],
)  # fmt: skip
async def test_wrong_filter_of_the_series_is_named(tmp_path: Path, query: str, field: str) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        reply = await me.get(f"series?{query}")
    assert (reply.status, reply.json()["code"], reply.json()["data"]["field"]) == (400, -4, field)


async def test_chart_has_the_rows_rest_would_send_and_then_moves(tmp_path: Path) -> None:
    # The shortest candle closes every second: the chart sees final rows and new ones.
    async with bench(tmp_path, small_exchange(), preload="spot:BTCUSDT@1s,1m") as one:
        me = await log_in(one.run.gateway, one.run.port)
        await one.until_hit(kline_target(Market.SPOT, "BTCUSDT", "1s"))
        query = "market=spot&symbol=BTCUSDT&interval=1s"
        rows = await me.json(f"klines?{query}&limit=50")
        assert len(rows) == 50
        assert all(len(row) == 12 for row in rows)
        assert [row[0] for row in rows] == [rows[0][0] + 1000 * i for i in range(50)]
        assert len(await me.json(f"klines?{query}")) >= 60

        seen: dict[int, list] = {}
        states = []
        async with me.stream(f"klines/events?{query}") as stream:
            assert stream.status == 200
            begun = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - begun < 6:
                name, data = await stream.event() or ("", None)
                if name == "kline":
                    assert len(data) == 12
                    seen[data[0]] = data
                else:
                    assert name == "state"
                    states.append(data["state"])
        assert states[-1] == "live"
        times = sorted(seen)
        assert len(times) >= 5
        assert times == list(range(times[0], times[-1] + 1000, 1000)), "no candle is left out"
        truth = orjson.loads(one.store(Market.SPOT).kline_bytes("BTCUSDT", "1s", limit=60))
        final = {row[0]: row for row in truth}
        for moment in times[:-2]:
            assert seen[moment] == final[moment], "the last word on a closed candle has come"


async def test_chart_of_what_is_not_held_is_404(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        me = await log_in(one.run.gateway, one.run.port)
        for path in ("klines", "klines/events"):
            reply = await me.get(f"{path}?market=spot&symbol=BTCUSDT&interval=1m")
            assert (reply.status, reply.json()["code"]) == (404, -3)
            for query in (
                "market=spot&symbol=BTCUSDT",
                "symbol=A&interval=1m",
                "market=um&symbol=A&interval=1s",
            ):
                reply = await me.get(f"{path}?{query}")
                assert (reply.status, reply.json()["code"]) == (400, -4)
        assert not series_of(one.cache.states[Market.SPOT]), "looking starts nothing"


async def test_chart_ends_when_its_series_is_dropped(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="spot:BTCUSDT@1m") as one:
        me = await log_in(one.run.gateway, one.run.port)
        await one.until_hit(kline_target(Market.SPOT, "BTCUSDT", "1m"))
        line = one.cache.states[Market.SPOT]
        async with me.stream("klines/events?market=spot&symbol=BTCUSDT&interval=1m") as stream:
            await stream.until("kline")
            line.remove(series_of(line)["BTCUSDT", "1m"])
            assert await stream.until("end") == {"reason": "dropped"}


async def test_without_a_market_cache_the_pages_say_so(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, cache_enabled=False)) as run:
        me = await log_in(run.gateway, run.port)
        for path in ("series", "klines?market=spot&symbol=A&interval=1m"):
            reply = await me.get(path)
            assert reply.status == 404
            assert "switched off" in reply.json()["msg"]
        assert await me.json("backfill") == {"items": []}


def test_rows_come_from_closed_and_open_candles_alike() -> None:
    series = KlineSeries("1m", 100)

    def candle(index: int, *, is_final: bool) -> Candle:
        row = f'[{index * 60000},"1","1","1","1","1",{index * 60000 + 59999},"1",1,"1","1","0"]'.encode()
        return Candle(index * 60000, index * 60000 + 59999, row, 1, is_final, index * 60000)

    assert newest_rows(series, 5) == b"[]"
    assert rows_from(series, 0, 5) == []
    series.apply_read([candle(i, is_final=False) for i in range(10)], 9 * 60000, epoch=0)
    series.apply_event(candle(10, is_final=False))
    assert [moment // 60000 for moment, _ in rows_from(series, 8 * 60000, 50)] == [8, 9, 10]
    assert [moment // 60000 for moment, _ in rows_from(series, 0, 4)] == [0, 1, 2, 3]
    assert [row[0] // 60000 for row in orjson.loads(newest_rows(series, 3))] == [8, 9, 10]
    assert len(orjson.loads(newest_rows(series, 500))) == 11
