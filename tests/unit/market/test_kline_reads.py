"""Reads of candles: what is asked for, and which answers are none."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.market.kline_reads import kline_target, read_klines
from resender.market.reader import Reader, ReadFailed
from resender.market.series import KeptKlines
from tests.support.fixtures import MARKETS, SYMBOL, raw, wire
from tests.support.market_fakes import World

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
