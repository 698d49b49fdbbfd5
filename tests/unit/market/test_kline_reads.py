"""Reads of candles: what is asked for, and which answers are none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.core.market.candles import Candle, parse_rows
from resender.market.kline_reads import kline_target, read_klines
from resender.market.reader import Reader, ReadFailed
from resender.market.series import KeptKlines
from tests.support.fixtures import MARKETS, SYMBOL, raw, wire
from tests.support.market_fakes import MINUTE, T0, World, row

PATHS = {Market.SPOT: "/api/v3/klines", Market.UM: "/fapi/v1/klines", Market.CM: "/dapi/v1/klines"}


def kept(market: Market, symbol: str = "", interval: str = "1m") -> KeptKlines:
    return KeptKlines(market, symbol or SYMBOL[market], "", 0.0, interval=interval)


@pytest.mark.parametrize("market", MARKETS)
def test_latest_rows_are_asked_for_without_a_time(market: Market) -> None:
    wanted = f"{PATHS[market]}?symbol={SYMBOL[market]}&interval=1m&limit=7"
    assert kline_target(kept(market), 7) == wanted
    assert kline_target(kept(market), 7, 1234) == f"{wanted}&endTime=1234"
    assert kline_target(kept(market), 7, 0) == f"{wanted}&endTime=0"


def test_symbol_of_another_script_is_encoded_for_the_url() -> None:
    target = kline_target(kept(Market.UM, "币安人生USDT", "1M"), 1)
    assert "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&interval=1M" in target


@pytest.mark.parametrize("market", MARKETS)
async def test_rows_come_as_candles_with_the_time_before_which_they_were_not_made(
    world: World, market: Market
) -> None:
    world.door.answers[PATHS[market]] = lambda *_: raw(market, "http_klines")
    one = kept(market)
    candles = await read_klines(Reader(world.door, market), one, kline_target(one, 5), 99)
    rows = wire(market, "http_klines")
    assert [candle.open_time for candle in candles] == [row[0] for row in rows]
    assert {candle.seen_ms for candle in candles} == {99}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        {"code": -1121, "msg": "Invalid symbol."},
        [[1, 2]],
        Fetched(400, {}, b'{"code":-1121}'),
    ],
)
async def test_answer_that_is_no_rows_is_a_failed_read(world: World, answer: Any) -> None:
    world.door.answers[PATHS[Market.UM]] = lambda *_: answer
    one = kept(Market.UM)
    with pytest.raises(ReadFailed):
        await read_klines(world.reader, one, kline_target(one, 5), 0)


async def test_rows_of_another_interval_are_a_failed_read(world: World) -> None:
    world.door.answers[PATHS[Market.UM]] = lambda *_: raw(Market.UM, "http_klines")
    one = kept(Market.UM, interval="5m")
    rows = wire(Market.UM, "http_klines")
    rows[0][6] = rows[0][0] + 600_000
    world.door.answers[PATHS[Market.UM]] = lambda *_: rows
    with pytest.raises(ReadFailed, match="another interval"):
        await read_klines(world.reader, one, kline_target(one, 5), 0)


# -- many rows ----------------------------------------------------------------------------------

SLICE = 500


def many(count: int) -> list[list[Any]]:
    return [row(T0 + number * MINUTE, 1 + number % 9) for number in range(count)]


class Ready:
    """A reader of an answer that is there."""

    def __init__(self, rows: Any) -> None:
        self.body = orjson.dumps(rows)

    async def get(self, target: str, permit: Any = None) -> bytes:
        return self.body


async def read(rows: Any, made_ms: int = 7) -> list[Candle] | str:
    """Return the candles, or the words of the refusal."""
    try:
        return await read_klines(Ready(rows), kept(Market.UM), "", made_ms)  # type: ignore[arg-type]
    except ReadFailed as error:
        return str(error)


def at_once(rows: Any, made_ms: int = 7) -> list[Candle] | str:
    """Do the same without slices."""
    try:
        return parse_rows(rows, "1m", orjson.dumps, made_ms=made_ms)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 999, 1000, 1001, 1500])
async def test_many_rows_come_as_they_would_at_once(count: int) -> None:
    rows = many(count)
    found = await read(rows)
    assert found == at_once(rows)
    assert len(found) == count


def same(rows: list[list[Any]], number: int) -> None:
    rows[number] = list(rows[number - 1])


def overlapping(rows: list[list[Any]], number: int) -> None:
    rows[number][0] -= 1  # the last millisecond of the one before it
    rows[number][6] -= 1


def falling(rows: list[list[Any]], number: int) -> None:
    rows[number - 1], rows[number] = rows[number], rows[number - 1]


def too_long(rows: list[list[Any]], number: int) -> None:
    rows[number][6] += 1


def too_short_of_columns(rows: list[list[Any]], number: int) -> None:
    rows[number].pop()


def of_other_types(rows: list[list[Any]], number: int) -> None:
    rows[number][4] = 1.5


def far_behind(rows: list[list[Any]], number: int) -> None:
    for each in rows[number:]:
        each[0] += MINUTE
        each[6] += MINUTE


def closes_early(rows: list[list[Any]], number: int) -> None:
    rows[number - 1][6] -= 1


Change = Callable[[list[list[Any]], int], None]
FAULTS: list[Change] = [same, overlapping, falling, too_long, too_short_of_columns, of_other_types]


@pytest.mark.parametrize("number", [1, 250, 499, 500, 501, 999, 1000, 1001, 1199])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_fault_is_refused_wherever_it_lies(fault: Change, number: int) -> None:
    rows = many(1200)
    fault(rows, number)
    found = await read(rows)
    assert isinstance(found, str)
    assert found == at_once(rows)


@pytest.mark.parametrize("number", [499, 500, 501, 1000])
@pytest.mark.parametrize("change", [far_behind, closes_early], ids=lambda change: change.__name__)
async def test_real_hole_is_no_fault_wherever_it_lies(change: Change, number: int) -> None:
    rows = many(1200)
    change(rows, number)
    found = await read(rows)
    assert len(found) == 1200
    assert found == at_once(rows)


@settings(max_examples=40)
@given(st.data())
def test_rows_with_any_faults_are_judged_as_they_would_be_at_once(data: st.DataObject) -> None:
    rows = many(data.draw(st.sampled_from([499, 500, 501, 1001])))
    places = [each for each in (1, 2, 498, 499, 500, 501, 1000) if each < len(rows)]
    changes = st.tuples(st.sampled_from([*FAULTS, far_behind, closes_early]), st.sampled_from(places))
    for change, number in data.draw(st.lists(changes, max_size=3)):
        if len(rows[number]) == len(rows[number - 1]) == 12:
            change(rows, number)
    found, wanted = asyncio.run(read(rows)), at_once(rows)
    assert isinstance(found, str) is isinstance(wanted, str)
    assert isinstance(found, str) or found == wanted


async def test_others_get_their_turn_while_many_rows_are_read() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await read(many(3 * SLICE))
    task.cancel()
    assert turns >= 2
