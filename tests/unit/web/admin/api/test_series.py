"""What the cache keeps, as pages of a table, as a chart's rows and as they move."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from resender.core.binance.markets import Market
from resender.core.market.klines import KlineSeries
from resender.market.series import KeptKlines, KeptTicker
from resender.web.admin.api.series import newest_rows, rows_from
from tests.support.admin import assert_error
from tests.support.client import parse
from tests.support.running import wait_until
from tests.unit.web.serving import administered, make_services, reading

T0 = 1_790_000_040_000 // 60_000 * 60_000


def candle(number: int, close: str = "2") -> bytes:
    end = T0 + number * 60_000 + 59_999
    return f'[{T0 + number * 60_000},"1","3","1","{close}","7",{end},"8",5,"3","4","0"]'.encode()


def series(count: int) -> KlineSeries:
    made = KlineSeries("1m", 1000)
    if count:
        rows = b",".join(candle(number) for number in range(count)) + b","
        made.restore(rows, [T0 + number * 60_000 for number in range(count)])
    return made


def kept(
    symbol: str, market: Market = Market.UM, interval: str = "1m", count: int = 0, **facts: Any
) -> KeptKlines:
    stream = f"{symbol.lower()}@kline_{interval}"
    return KeptKlines(market, symbol, stream, 90.0, interval=interval, series=series(count), **facts)


class Cache:
    """Keeps what it is given; says of everything that an event has proven it."""

    def __init__(self, *entries: Any) -> None:
        self.states = {market: self._state(market, entries) for market in (Market.SPOT, Market.UM, Market.CM)}
        self.backfills: dict[str, Any] = {}

    def _state(self, market: Market, entries: tuple[Any, ...]) -> Any:
        mine = [each for each in entries if each.market is market]
        return SimpleNamespace(market=market, entries=lambda: mine, proof=lambda one: (40, "event"))


def services(*entries: Any) -> Any:
    return make_services(cache=Cache(*entries))


# --- the table ------------------------------------------------------------------------------------


TABLE = (
    kept("ETHUSDT", interval="1h"),
    kept("ETHUSDT"),
    kept("BTCUSDT", is_live=True),
    KeptTicker(Market.UM, "BTCUSDT", "btcusdt@bookTicker", 90.0),
    kept("BTCUSD_PERP", Market.CM),
    kept("BTCUSDT", Market.SPOT, interval="1s"),
)
IN_ORDER = [
    "spot BTCUSDT 1s", "um BTCUSDT 1m", "um BTCUSDT bookTicker", "um ETHUSDT 1m", "um ETHUSDT 1h",
    "cm BTCUSD_PERP 1m",
]  # fmt: skip


def keys(found: Any) -> list[str]:
    return [f"{each['market']} {each['symbol']} {each['interval']}" for each in found["items"]]


async def test_pages_follow_each_other_without_a_gap_and_the_last_one_says_so() -> None:
    async with administered(services(*TABLE)) as one:
        seen: list[str] = []
        before = ""
        while True:
            found = await one.get(f"series?limit=2&before={before.replace(' ', '%20')}")
            seen += keys(found)
            if found["next"] is None:
                break
            before = found["next"]
            assert before == seen[-1]
    assert seen == IN_ORDER
    assert found["total"] == 6


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("market=um", 4),
        ("symbol=usdt", 5),
        ("symbol=eth&interval=1h", 1),
        ("state=syncing", 1),
        ("state=live", 0),
    ],
)
async def test_table_is_filtered(query: str, count: int) -> None:
    async with administered(services(*TABLE)) as one:
        found = await one.get(f"series?{query}")
    assert (len(found["items"]), found["total"]) == (count, count)


async def test_words_no_rule_has_come_last_and_pages_go_on_behind_them() -> None:
    more = [kept("BTCUSDT", word=word) for word in ("uiKlines_1m", "1m@+08:00")]
    async with administered(services(*TABLE, *more)) as one:
        found = await one.get("series?market=um&symbol=BTCUSDT")
        (before,) = [each for each in keys(found) if each.endswith("1m@+08:00")]
        rest = await one.get(f"series?market=um&symbol=BTCUSDT&before={quote(before)}")
    assert keys(found)[-1] == "um BTCUSDT uiKlines_1m"
    assert keys(rest) == keys(found)[keys(found).index(before) + 1 :]


async def test_numbers_of_the_states_do_not_depend_on_the_state_asked_for() -> None:
    async with administered(services(*TABLE)) as one:
        found = await one.get("series?state=live&market=um")
    assert found["states"] == {"connecting": 3, "syncing": 1}


@pytest.mark.parametrize("before", ["um", "um BTCUSDT", "nowhere BTCUSDT 1m", "um A B 1m"])
async def test_place_that_is_none_is_told(before: str) -> None:
    async with administered(services(*TABLE)) as one:
        reply = await one.send("GET", f"series?before={before.replace(' ', '%20')}")
        assert_error(reply, 400, -4, field="before", reason="page_gone")


async def test_row_tells_misses_by_reason_and_together() -> None:
    entry = kept("BTCUSDT", count=3, is_live=True)
    entry.misses.update({"gap": 2, "limit": 1})
    async with administered(services(entry)) as one:
        (item,) = (await one.get("series"))["items"]
    assert (item["misses"], item["miss_reasons"]) == (3, {"gap": 2, "limit": 1})
    assert (item["rows"], item["depth"], item["idle_s"], item["age_ms"]) == (3, 1000, 10.0, 40)


# --- charts ---------------------------------------------------------------------------------------


def test_newest_rows_are_those_held_however_many_are_wanted() -> None:
    assert newest_rows(series(0), 5) == b"[]"
    assert json.loads(newest_rows(series(3), 2)) == [json.loads(candle(1)), json.loads(candle(2))]
    assert len(json.loads(newest_rows(series(3), 500))) == 3


def test_rows_from_a_time_on_come_oldest_first_and_bounded() -> None:
    one = series(5)
    assert rows_from(one, 0, 2) == [(T0, candle(0)), (T0 + 60_000, candle(1))]
    assert rows_from(one, T0 + 180_000, 100) == [(T0 + 180_000, candle(3)), (T0 + 240_000, candle(4))]
    assert rows_from(one, T0 + 900_000, 100) == []
    assert rows_from(series(0), 0, 100) == []


async def test_chart_keeps_the_series_it_shows() -> None:
    entry = kept("BTCUSDT", count=3)
    async with administered(services(entry)) as one:
        rows = await one.get("klines?market=um&symbol=btcusdt&interval=1m&limit=1")
    assert rows == [json.loads(candle(2))]
    assert entry.used_mono == 100.0


async def test_candles_of_other_sorts_have_a_chart_too() -> None:
    entries = [
        kept("BTCUSDT", count=1, word="continuousKline_1m"),
        kept("BTCUSDT", count=2, word="continuousKline_1m@CURRENT_QUARTER"),
    ]
    async with administered(services(*entries)) as one:
        for count, entry in enumerate(entries, 1):
            assert len(await one.get(f"klines?market=um&symbol=BTCUSDT&interval={entry.what}")) == count
        reply = await one.send("GET", "klines?market=um&symbol=BTCUSDT&interval=depth")
    assert_error(reply, 400, -4, field="interval")


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("symbol=BTCUSDT&interval=1m", 400, "market"),
        ("market=um&interval=1m", 400, "symbol"),
        ("market=um&symbol=BTCUSDT", 400, "interval"),
        ("market=um&symbol=BTCUSDT&interval=1s", 400, "interval"),
        ("market=um&symbol=NOPE&interval=1m", 404, None),
        ("market=cm&symbol=BTCUSDT&interval=1m", 404, None),
        ("market=um&symbol=BTCUSDT&interval=1m&limit=20001", 400, "limit"),
    ],
)
async def test_chart_of_what_is_not_held_is_refused(query: str, status: int, field: str | None) -> None:
    async with administered(services(kept("BTCUSDT", count=1))) as one:
        reply = await one.send("GET", f"klines?{query}")
    assert reply.status == status
    assert reply.json()["data"].get("field") == field


async def test_series_is_told_as_it_moves_until_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resender.web.admin.api.series._LOOK_S", 0.01)
    entry = kept("BTCUSDT", count=2)
    path = "/admin/api/klines/events?market=um&symbol=BTCUSDT&interval=1m"
    async with administered(services(entry)) as one, reading(one.port, path) as reader:
        raw = await reader.readuntil(b"event: kline")
        assert one.live.streams_open == 1
        entry.series = series(3)
        entry.is_live = True
        raw += await reader.readuntil(b"event: kline")
        entry.is_dropped = True
        raw += await reader.read()
        await wait_until(lambda: one.live.streams_open == 0)
    body = parse(raw).body
    events = [part.split(b"\ndata: ") for part in body.split(b"\n\n") if part.startswith(b"event")]
    words = [name.removeprefix(b"event: ").decode() for name, _ in events]
    assert words == ["state", "kline", "state", "kline", "end"]
    assert [data for name, data in events if name == b"event: kline"] == [candle(1), candle(2)]
    assert json.loads(events[-1][1]) == {"reason": "dropped"}


async def test_filling_is_told_for_each_pool() -> None:
    made = services()
    snapshot = SimpleNamespace(
        pool="spot", total=5, queued=2, rows_read=10, rows_missing=30, minutes=1.26, paused_s=0.04
    )
    made.status = SimpleNamespace(backfills=lambda: [snapshot], answers=made.status.answers, weights=list)
    async with administered(made) as one:
        assert (await one.get("backfill"))["items"] == [
            {
                "pool": "spot", "total": 5, "filled": 3, "queued": 2, "rows_read": 10, "rows_wanted": 40,
                "minutes": 1.3, "paused_s": 0.0,
            }
        ]  # fmt: skip
