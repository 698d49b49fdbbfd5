"""Calls for funding, continuous candles and those without a stream: what is understood, and what is left to Binance."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.endpoints import ENDED_KLINES
from resender.core.binance.markets import Market
from resender.core.market.requests import (
    MISS_REASONS,
    ContinuousRequest,
    EndedRequest,
    FundingRequest,
    KlineRequest,
    Miss,
    parse_continuous,
    parse_ended,
    parse_funding,
    parse_klines,
    parse_symbols,
)

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
AT = 1_790_000_000_000
PLAIN = "pair=BTCUSDT&contractType=PERPETUAL&interval=1m"


# --- funding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("symbol=BTCUSDT&limit=100", ("BTCUSDT", 100, None, None)),
        ("limit=1000&symbol=BTCUSD_PERP", ("BTCUSD_PERP", 1000, None, None)),
        (f"symbol=BTCUSDT&limit=7&startTime={AT}", ("BTCUSDT", 7, AT, None)),
        (f"symbol=BTCUSDT&limit=7&startTime={AT}&endTime={AT}", ("BTCUSDT", 7, AT, AT)),
        ("symbol=%E5%B8%81USDT&limit=1&startTime=0", ("币USDT", 1, 0, None)),
    ],
)
def test_funding_call_is_read(query: str, values: tuple[Any, ...]) -> None:
    for market in (UM, CM):
        assert parse_funding(market, query) == FundingRequest(market, *values)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "all symbols"),
        ("limit=5", "all symbols"),
        ("x=1", "odd parameter"),
        ("symbol=", "odd parameter"),
        ("symbol=btcusdt", "odd parameter"),
        ("symbol=BTCUSDT&symbol=BTCUSDT", "odd parameter"),
        ("symbol=BTCUSDT&limit=0", "odd parameter"),
        ("symbol=BTCUSDT&limit=05", "odd parameter"),
        ("symbol=BTCUSDT&limit=-1", "odd parameter"),
        ("symbol=BTCUSDT&limit=1001", "limit"),
        ("symbol=BTCUSDT", "limit"),
        ("symbol=BTCUSDT&startTime=1790000000", "odd parameter"),
        ("symbol=BTCUSDT&startTime=x", "odd parameter"),
        (f"symbol=BTCUSDT&endTime={AT}", "odd range"),
        (f"symbol=BTCUSDT&startTime={AT}&endTime={AT - 1}", "odd range"),
        ("symbol=BTCUSDT&timestamp=1", "odd parameter"),
        ("symbol=BTCUSDT&signature=a", "odd parameter"),
    ],
)
def test_odd_funding_call_is_left_to_binance(query: str, reason: str) -> None:
    assert parse_funding(UM, query) == Miss(reason)


# --- continuous candles ---------------------------------------------------------------------------


@pytest.mark.parametrize("market", [UM, CM])
def test_continuous_call_is_read(market: Market) -> None:
    klines = KlineRequest(market, "X", "1m", 500, None, None)
    assert parse_continuous(market, PLAIN) == ContinuousRequest("BTCUSDT", "PERPETUAL", klines)
    found = parse_continuous(
        market, f"limit=7&endTime={AT}&interval=4h&contractType=NEXT_QUARTER&pair=BTCUSD"
    )
    klines = KlineRequest(market, "X", "4h", 7, None, AT)
    assert found == ContinuousRequest("BTCUSD", "NEXT_QUARTER", klines)


@pytest.mark.parametrize(
    "query",
    [
        "", "pair=BTCUSDT", "pair=BTCUSDT&contractType=PERPETUAL", "pair=BTCUSDT&interval=1m",
        "contractType=PERPETUAL&interval=1m", f"{PLAIN}&symbol=BTCUSDT", f"{PLAIN}&pair=BTCUSDT", f"{PLAIN}&",
        f"{PLAIN}&contractType=PERPETUAL", f"{PLAIN}&limit=1501", f"{PLAIN}&limit=0", f"{PLAIN}&x=1",
        f"{PLAIN}&timeZone=0", f"{PLAIN}&startTime=1", f"{PLAIN}&startTime={AT}&endTime={AT - 1}",
        "pair=btcusdt&contractType=PERPETUAL&interval=1m", "pair=BTCUSDT&contractType=perpetual&interval=1m",
        "pair=BTCUSDT&contractType=A%26B&interval=1m", "pair=BTCUSDT&contractType=PERPETUAL&interval=1s",
        "pair=BTC/USDT&contractType=PERPETUAL&interval=1m", "pair=BTC%26&contractType=PERPETUAL&interval=1m",
    ],
)  # fmt: skip
def test_odd_continuous_call_is_left_to_binance(query: str) -> None:
    for market in (UM, CM):
        assert isinstance(parse_continuous(market, query), Miss)


# --- candles without a stream ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "name", "query", "symbol", "word"),
    [
        (SPOT, "uiKlines", "symbol=BTCUSDT&interval=1s", "BTCUSDT", "uiKlines_1s"),
        (UM, "markPriceKlines", "symbol=BTCUSDT&interval=1m", "BTCUSDT", "markPriceKlines_1m"),
        (UM, "indexPriceKlines", "pair=BTCUSDT&interval=1M", "BTCUSDT", "indexPriceKlines_1M"),
        (CM, "indexPriceKlines", "interval=1w&pair=BTCUSD", "BTCUSD", "indexPriceKlines_1w"),
        (CM, "premiumIndexKlines", "symbol=BTCUSD_PERP&interval=1d", "BTCUSD_PERP", "premiumIndexKlines_1d"),
    ],
)
def test_call_for_candles_without_a_stream_is_read(
    market: Market, name: str, query: str, symbol: str, word: str
) -> None:
    interval = word.rpartition("_")[2]
    klines = KlineRequest(market, symbol, interval, 500, None, None)
    assert parse_ended(market, name, query) == EndedRequest(symbol, word, klines)


@pytest.mark.parametrize(
    ("market", "name", "query"),
    [
        (UM, "indexPriceKlines", "symbol=BTCUSDT&interval=1m"),
        (UM, "indexPriceKlines", "pair=BTCUSDT&symbol=BTCUSDT&interval=1m"),
        (UM, "indexPriceKlines", "pair=BTCUSDT&pair=BTCUSDT&interval=1m"),
        (UM, "markPriceKlines", "pair=BTCUSDT&interval=1m"),
        (UM, "markPriceKlines", "symbol=BTCUSDT&pair=BTCUSDT&interval=1m"),
        (UM, "markPriceKlines", "symbol=BTCUSDT&interval=1s"),
        (UM, "markPriceKlines", "symbol=BTCUSDT&interval=1m&limit=1501"),
        (SPOT, "uiKlines", "symbol=BTCUSDT&interval=1d&timeZone=8"),
        (SPOT, "uiKlines", "symbol=BTCUSDT&interval=1d&timeZone=0"),
        (SPOT, "uiKlines", ""),
        (SPOT, "uiKlines", "pair=BTCUSDT&interval=1m"),
    ],
)
def test_odd_call_for_candles_without_a_stream_is_left_to_binance(
    market: Market, name: str, query: str
) -> None:
    assert isinstance(parse_ended(market, name, query), Miss)


# --- candles of UTC+8 -----------------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h"])
def test_candles_that_open_at_the_same_moments_are_those_of_utc(interval: str) -> None:
    plain = parse_klines(SPOT, f"symbol=BTCUSDT&interval={interval}")
    for zone in ("0", "8"):
        assert parse_klines(SPOT, f"symbol=BTCUSDT&interval={interval}&timeZone={zone}") == plain


@pytest.mark.parametrize("interval", ["6h", "12h", "1d", "3d", "1w"])
def test_candles_that_open_by_the_time_of_utc_8_are_others(interval: str) -> None:
    found = parse_klines(SPOT, f"symbol=BTCUSDT&interval={interval}&timeZone=8")
    assert found == KlineRequest(SPOT, "BTCUSDT", interval, 500, None, None, word=f"{interval}@+08:00")
    plain = parse_klines(SPOT, f"symbol=BTCUSDT&interval={interval}")
    assert isinstance(plain, KlineRequest)
    assert plain.word == ""


@pytest.mark.parametrize("zone", ["08", "8:00", "%2B8", "%2B08:00", "-8", "7", "9", "5:45", "", "+8", "8 "])
def test_other_zones_are_left_to_binance(zone: str) -> None:
    assert isinstance(parse_klines(SPOT, f"symbol=BTCUSDT&interval=1d&timeZone={zone}"), Miss)


def test_month_of_another_zone_and_zones_of_futures_are_left_to_binance() -> None:
    assert isinstance(parse_klines(SPOT, "symbol=BTCUSDT&interval=1M&timeZone=8"), Miss)
    for market in (UM, CM):
        assert isinstance(parse_klines(market, "symbol=BTCUSDT&interval=1d&timeZone=8"), Miss)


# --- whatever comes -------------------------------------------------------------------------------

NAMES = (
    "symbol",
    "pair",
    "contractType",
    "interval",
    "limit",
    "startTime",
    "endTime",
    "timeZone",
    "type",
    "symbols",
)
VALUES = (
    "BTCUSDT",
    "BTCUSD_PERP",
    "PERPETUAL",
    "1m",
    "1d",
    "1M",
    "5",
    "0",
    "8",
    "1500",
    str(AT),
    "MINI",
    "%5B%22A%22%5D",
)
ODD = st.text(st.characters(max_codepoint=255), max_size=12)
QUERIES = st.lists(st.tuples(st.sampled_from(NAMES) | ODD, st.sampled_from(VALUES) | ODD), max_size=6).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)


@given(QUERIES | st.text(st.characters(max_codepoint=255), max_size=80))
def test_no_query_breaks_a_reader(query: str) -> None:
    for market in (SPOT, UM, CM):
        found: list[Any] = [
            read(market, query) for read in (parse_funding, parse_continuous, parse_symbols, parse_klines)
        ]
        found += [parse_ended(market, name, query) for name in ENDED_KLINES[market]]
        assert all(each.reason in MISS_REASONS for each in found if isinstance(each, Miss))


@given(QUERIES)
def test_whatever_is_understood_names_each_parameter_once_and_no_other(query: str) -> None:
    names = [each.partition("=")[0] for each in query.split("&")]
    found: list[tuple[Any, set[str]]] = [
        (parse_funding(UM, query), {"symbol", "limit", "startTime", "endTime"}),
        (parse_continuous(UM, query), {"pair", "contractType", "interval", "limit", "startTime", "endTime"}),
    ]
    for name in ENDED_KLINES[UM]:
        key = "pair" if name == "indexPriceKlines" else "symbol"
        found.append((parse_ended(UM, name, query), {key, "interval", "limit", "startTime", "endTime"}))
    for request, its in found:
        if not isinstance(request, Miss):
            assert len(set(names)) == len(names)
            assert set(names) <= its
