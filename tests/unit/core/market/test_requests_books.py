"""Calls for order books, newest trades and prices: what the cache understands, and what is left to Binance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.requests import (
    DepthRequest,
    Miss,
    SymbolsRequest,
    TradesRequest,
    parse_depth,
    parse_symbols,
    parse_trades,
)

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
# What no call may have.
ODD = (
    "", "symbol=", "symbol=btcusdt", "symbol=BTCUSDT&x=1", "symbol=BTCUSDT&symbol=BTCUSDT", "symbol=BTCUSDT&limit=",
    "symbol=BTCUSDT&limit=0", "symbol=BTCUSDT&limit=-5", "symbol=BTCUSDT&limit=05", "symbol=BTCUSDT&limit=5.0",
    "symbol=BTCUSDT&limit=1000000", "symbol=BTCUSDT&limit=x", "symbol=BTCUSDT&", "limit=5", "symbol=BTC%00",
    'symbols=["BTCUSDT"]', "symbol=BTCUSDT&symbolStatus=TRADING",
)  # fmt: skip


# --- order books ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "query", "symbol", "limit"),
    [
        (SPOT, "symbol=BTCUSDT", "BTCUSDT", 100),
        (SPOT, "limit=7&symbol=BTCUSDT", "BTCUSDT", 7),
        (SPOT, "symbol=BTCUSDT&limit=5000", "BTCUSDT", 5000),
        (SPOT, "symbol=BTCUSDT&limit=5001", "BTCUSDT", 5000),
        (SPOT, "symbol=%E5%B8%81%E5%AE%89USDT&limit=1", "币安USDT", 1),
        (UM, "symbol=BTCUSDT", "BTCUSDT", 500),
        (CM, "symbol=BTCUSD_PERP", "BTCUSD_PERP", 500),
        *[(UM, f"symbol=BTCUSDT&limit={limit}", "BTCUSDT", limit) for limit in (5, 10, 20, 50, 100, 500, 1000)],
    ],
)  # fmt: skip
def test_depth_call_is_read(market: Market, query: str, symbol: str, limit: int) -> None:
    assert parse_depth(market, query) == DepthRequest(market, symbol, limit)


@pytest.mark.parametrize("market", [UM, CM])
@pytest.mark.parametrize("limit", [1, 7, 499, 1001, 5000])
def test_limit_futures_do_not_take_is_left_to_binance(market: Market, limit: int) -> None:
    assert parse_depth(market, f"symbol=BTCUSDT&limit={limit}") == Miss("limit")


@pytest.mark.parametrize("market", [SPOT, UM, CM])
@pytest.mark.parametrize("query", ODD)
def test_odd_depth_call_is_left_to_binance(market: Market, query: str) -> None:
    assert parse_depth(market, query) == Miss("odd parameter")


# --- trades ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "query", "limit"),
    [
        (SPOT, "symbol=BTCUSDT", 500),
        (UM, "symbol=BTCUSDT", 500),
        (CM, "symbol=BTCUSDT&limit=1", 1),
        (UM, "symbol=BTCUSDT&limit=1000", 1000),
        (SPOT, "symbol=BTCUSDT&limit=1001", 1000),
        (SPOT, "symbol=BTCUSDT&limit=999999", 1000),
    ],
)
def test_call_for_the_newest_trades_is_read(market: Market, query: str, limit: int) -> None:
    assert parse_trades(market, query) == TradesRequest(market, "BTCUSDT", limit)


@pytest.mark.parametrize("market", [UM, CM])
def test_more_trades_than_there_may_be_are_left_to_futures(market: Market) -> None:
    assert parse_trades(market, "symbol=BTCUSDT&limit=1001") == Miss("limit")


@pytest.mark.parametrize("market", [SPOT, UM, CM])
@pytest.mark.parametrize(
    "more", ["fromId=5", "startTime=1790000000000", "endTime=1790000000000", "limit=5&fromId=x"]
)
def test_trades_of_a_range_or_from_an_id_on_are_not_held(market: Market, more: str) -> None:
    assert parse_trades(market, f"symbol=BTCUSDT&{more}") == Miss("range not held")


@pytest.mark.parametrize("market", [SPOT, UM, CM])
@pytest.mark.parametrize("query", ODD)
def test_odd_call_for_trades_is_left_to_binance(market: Market, query: str) -> None:
    assert parse_trades(market, query) == Miss("odd parameter")


# --- one symbol, a list, or all -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "query", "symbols", "is_list", "form"),
    [
        (SPOT, "symbol=BTCUSDT", ("BTCUSDT",), False, ""),
        (CM, "symbol=BTCUSD_PERP", ("BTCUSD_PERP",), False, ""),
        (SPOT, "symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D", ("BTCUSDT", "ETHUSDT"), True, ""),
        (SPOT, 'symbols=["BTCUSDT"]', ("BTCUSDT",), True, ""),
        (SPOT, "", (), True, ""),
        (UM, "", (), True, ""),
        (SPOT, "type=MINI", (), True, "MINI"),
        (SPOT, "type=FULL&symbol=BTCUSDT", ("BTCUSDT",), False, "FULL"),
        (SPOT, 'symbols=["BTCUSDT"]&type=MINI', ("BTCUSDT",), True, "MINI"),
    ],
)
def test_call_about_symbols_is_read(
    market: Market, query: str, symbols: tuple[str, ...], is_list: bool, form: str
) -> None:
    assert parse_symbols(market, query) == SymbolsRequest(market, symbols, is_list, form)


@pytest.mark.parametrize(
    ("market", "query"),
    [
        (SPOT, "symbol="),
        (SPOT, "symbol=btcusdt"),
        (SPOT, "symbol=BTCUSDT&x=1"),
        (SPOT, 'symbol=BTCUSDT&symbols=["BTCUSDT"]'),
        (SPOT, "symbols=[]"),
        (SPOT, 'symbols=["BTCUSDT","BTCUSDT"]'),
        (SPOT, 'symbols=["BTCUSDT",%20"ETHUSDT"]'),
        (SPOT, "symbol=BTCUSDT&type=mini"),
        (SPOT, "symbol=BTCUSDT&type=FULL&type=FULL"),
        (SPOT, "symbolStatus=TRADING"),
        (UM, 'symbols=["BTCUSDT"]'),
        (UM, "symbol=BTCUSDT&type=FULL"),
        (CM, "pair=BTCUSD"),
    ],
)
def test_odd_call_about_symbols_is_left_to_binance(market: Market, query: str) -> None:
    assert parse_symbols(market, query) == Miss("odd parameter")


# --- whatever comes -------------------------------------------------------------------------------


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_no_query_breaks_a_reader(query: str) -> None:
    for market in (SPOT, UM, CM):
        assert isinstance(parse_depth(market, query), (Miss, DepthRequest))
        assert isinstance(parse_trades(market, query), (Miss, TradesRequest))
        assert isinstance(parse_symbols(market, query), (Miss, SymbolsRequest))
