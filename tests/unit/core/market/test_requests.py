"""What the cache understands, and that everything odd is left to Binance."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.requests import (
    MISS_REASONS,
    BookTickerRequest,
    KlineRequest,
    Miss,
    bypass_reason,
    parse_book_ticker,
    parse_klines,
    parse_query,
    parse_symbol_list,
)

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM


@pytest.mark.parametrize(
    ("market", "query", "expected"),
    [
        (SPOT, "symbol=BTCUSDT&interval=1m", KlineRequest(SPOT, "BTCUSDT", "1m", 500, None, None)),
        (SPOT, "interval=1M&symbol=BTCUSDT&limit=7", KlineRequest(SPOT, "BTCUSDT", "1M", 7, None, None)),
        (SPOT, "symbol=BTCUSDT&interval=1s&limit=1001", KlineRequest(SPOT, "BTCUSDT", "1s", 1000, None, None)),
        (SPOT, "symbol=BTCUSDT&interval=1m&timeZone=0", KlineRequest(SPOT, "BTCUSDT", "1m", 500, None, None)),
        (UM, "symbol=BTC_261225&interval=1m&limit=1500", KlineRequest(UM, "BTC_261225", "1m", 1500, None, None)),
        (UM, "symbol=%E5%B8%81%E5%AE%89USDT&interval=1m", KlineRequest(UM, "币安USDT", "1m", 500, None, None)),
        (
            CM,
            "symbol=BTCUSD_PERP&interval=1d&startTime=1790000000000&endTime=1790000000001",
            KlineRequest(CM, "BTCUSD_PERP", "1d", 500, 1790000000000, 1790000000001),
        ),
        (UM, "symbol=BTCUSDT&interval=1m&startTime=0", KlineRequest(UM, "BTCUSDT", "1m", 500, 0, None)),
    ],
)  # fmt: skip
def test_kline_call_is_read(market: Market, query: str, expected: KlineRequest) -> None:
    assert parse_klines(market, query) == expected


@pytest.mark.parametrize(
    ("market", "query"),
    [
        (SPOT, ""),
        (SPOT, "symbol=BTCUSDT"),
        (SPOT, "interval=1m"),
        (SPOT, "symbol=&interval=1m"),
        (SPOT, "symbol=BTCUSDT&interval=1m&"),
        (SPOT, "symbol=BTCUSDT&&interval=1m"),
        (SPOT, "symbol=BTCUSDT&interval=1m&symbol=BTCUSDT"),
        (SPOT, "symbol=btcusdt&interval=1m"),
        (UM, "symbol=btcusdt&interval=1m"),
        (UM, "symbol=BTCUSDT&interval=1s"),
        (SPOT, "symbol=BTCUSDT&interval=1x"),
        (SPOT, "symbol=BTCUSDT&interval=1m/ethusdt@trade"),
        (SPOT, "symbol=BTCUSDT&interval=1m&limit=0"),
        (SPOT, "symbol=BTCUSDT&interval=1m&limit=-1"),
        (SPOT, "symbol=BTCUSDT&interval=1m&limit=01"),
        (SPOT, "symbol=BTCUSDT&interval=1m&limit=1.0"),
        (SPOT, "symbol=BTCUSDT&interval=1m&limit=9999999"),
        (UM, "symbol=BTCUSDT&interval=1m&limit=1501"),
        (CM, "symbol=BTCUSD_PERP&interval=1m&limit=1501"),
        (SPOT, "symbol=BTCUSDT&interval=1M&timeZone=8"),
        (SPOT, "symbol=BTCUSDT&interval=1m&timeZone=00"),
        (UM, "symbol=BTCUSDT&interval=1m&timeZone=0"),
        (SPOT, "symbol=BTCUSDT&interval=1m&startTime=1790000000"),
        (SPOT, "symbol=BTCUSDT&interval=1m&startTime=1790000000000000"),
        (SPOT, "symbol=BTCUSDT&interval=1m&startTime=x"),
        (SPOT, "symbol=BTCUSDT&interval=1m&startTime=1790000000001&endTime=1790000000000"),
        (SPOT, "symbol=BTCUSDT&interval=1m&signature=abc"),
        (SPOT, "symbol=BTCUSDT&interval=1m&timestamp=1790000000000"),
        (SPOT, "symbol=BTC+USDT&interval=1m"),
        (SPOT, "symbol=%FF&interval=1m"),
        (SPOT, "symbol=BTC%22USDT&interval=1m"),
        (SPOT, "symbol=BTCUSDT%0a&interval=1m"),
        (SPOT, "Symbol=BTCUSDT&interval=1m"),
    ],
)
def test_odd_kline_call_is_left_to_binance(market: Market, query: str) -> None:
    assert isinstance(parse_klines(market, query), Miss)


def test_book_ticker_call_is_read() -> None:
    assert parse_book_ticker(UM, "symbol=BTCUSDT") == BookTickerRequest(UM, ("BTCUSDT",), False)
    for market in (SPOT, UM, CM):
        assert parse_book_ticker(market, "") == BookTickerRequest(market, (), True)
    listed = "symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D"
    assert parse_book_ticker(SPOT, listed) == BookTickerRequest(SPOT, ("BTCUSDT", "ETHUSDT"), True)
    assert parse_book_ticker(SPOT, 'symbols=["BTCUSDT"]') == BookTickerRequest(SPOT, ("BTCUSDT",), True)


@pytest.mark.parametrize(
    ("market", "query"),
    [
        (SPOT, "&"),
        (SPOT, "symbol=BTCUSDT&symbolStatus=TRADING"),
        (SPOT, 'symbol=BTCUSDT&symbols=["BTCUSDT"]'),
        (UM, 'symbols=["BTCUSDT"]'),
        (CM, "pair=BTCUSD"),
        (SPOT, "symbols=[]"),
        (SPOT, "symbols=[1]"),
        pytest.param(SPOT, "symbols=" + "[" * 20_000, id="nested too deep"),
        (SPOT, 'symbols=["BTCUSDT",%20"ETHUSDT"]'),
        (SPOT, 'symbols=["BTCUSDT","BTCUSDT"]'),
        (SPOT, 'symbols=["btcusdt"]'),
        (SPOT, 'symbols={"a":1}'),
        (SPOT, "symbols=nonsense"),
        (SPOT, "symbol=BTCUSDT&x=1"),
    ],
)
def test_odd_book_ticker_call_is_left_to_binance(market: Market, query: str) -> None:
    assert isinstance(parse_book_ticker(market, query), Miss)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("Cache-Control", "no-cache"), "no-cache"),
        (("cache-control", "max-age=0, No-Cache"), "no-cache"),
        (("X-Mbx-Time-Unit", "MICROSECOND"), "other format"),
        (("X-MBX-SBE", "1:0"), "other format"),
        (("Accept", "application/sbe"), "other format"),
        (("Accept", "*/*"), None),
        (("X-Mbx-Apikey", "abc"), None),
        (("Cache-Control", "max-age=0"), None),
    ],
)
def test_headers_that_keep_a_call_from_the_cache(header: tuple[str, str], expected: str | None) -> None:
    assert bypass_reason([("Host", "x"), header]) == expected


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_no_query_breaks_the_reader(query: str) -> None:
    parse_query(query)
    for market in (SPOT, UM, CM):
        found = parse_klines(market, query)
        assert isinstance(found, (Miss, KlineRequest))
        parse_book_ticker(market, query)


@given(st.text(max_size=60))
def test_no_symbol_list_breaks_the_reader(text: str) -> None:
    assert isinstance(parse_symbol_list(text), tuple)


def test_program_gives_no_reason_of_a_miss_that_is_not_in_the_list() -> None:
    package = Path(__file__).parents[4] / "resender"
    found = set()
    for path in package.rglob("*.py"):
        found |= set(
            re.findall(r"""\b(?:Miss|Need|_?Lack|Unproven)\(\s*"([^"]+)\"""", path.read_text("utf-8"))
        )
    assert len(found) > 12
    assert found <= set(MISS_REASONS)
    assert len(set(MISS_REASONS)) == len(MISS_REASONS)
