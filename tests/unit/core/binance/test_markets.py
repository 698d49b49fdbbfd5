"""The table of markets: every fact stands once, and what it says of the hosts fits together."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from resender.core.binance.markets import (
    BY_MARKET,
    BY_PREFIX,
    INTERVALS,
    MARKETS,
    STREAM_HOSTS,
    STREAM_MARGIN,
    STREAM_PATHS,
    WS_API_HOSTS,
    Market,
    MarketFacts,
)


def test_every_market_stands_in_the_table_once_under_a_prefix_of_its_own() -> None:
    assert [facts.market for facts in MARKETS] == list(Market)
    assert list(BY_MARKET.values()) == list(BY_PREFIX.values()) == list(MARKETS)
    assert len({facts.rest_setting for facts in MARKETS}) == len(MARKETS)


@pytest.mark.parametrize("facts", MARKETS, ids=lambda facts: facts.market.value)
def test_cheapest_calls_of_a_market_are_paths_of_its_own_host(facts: MarketFacts) -> None:
    assert facts.ping_path.split("/")[1] in facts.roots
    assert facts.time_path == "" or facts.time_path.split("/")[1] in facts.roots
    assert facts.roots[0] == facts.prefix


@pytest.mark.parametrize("facts", MARKETS, ids=lambda facts: facts.market.value)
def test_default_upstream_is_the_host_of_the_prefix_over_tls(facts: MarketFacts) -> None:
    url = urlsplit(facts.rest_default)
    assert (url.scheme, url.path, url.port) == ("https", "", None)
    assert url.hostname == f"{facts.prefix}.binance.com"


def test_only_sapi_and_futures_data_live_on_a_host_of_another_name() -> None:
    roots = [(facts.market, root) for facts in MARKETS for root in facts.roots if root != facts.prefix]
    assert roots == [(Market.SPOT, "sapi"), (Market.UM, "futures"), (Market.CM, "futures")]


def test_only_portfolio_margin_has_no_clock() -> None:
    assert [facts.market for facts in MARKETS if not facts.time_path] == [Market.PM]


def test_streams_are_known_of_the_markets_with_candles_and_go_over_tls() -> None:
    assert set(STREAM_HOSTS) == set(STREAM_PATHS) == set(INTERVALS)
    assert {
        urlsplit(url).scheme for url in (*STREAM_HOSTS.values(), *WS_API_HOSTS.values(), STREAM_MARGIN)
    } == {"wss"}
    everywhere = {"kline", "bookTicker", "miniTicker", "depth", "aggTrade", "trade", "ticker"}
    assert {market: set(paths) for market, paths in STREAM_PATHS.items()} == {
        Market.SPOT: everywhere,
        Market.UM: {*everywhere, "markPrice"},
        Market.CM: {*everywhere, "markPrice"},
    }


def test_usd_m_streams_are_split_by_path_and_the_others_are_not() -> None:
    assert STREAM_PATHS[Market.UM] == {
        "kline": "/market",
        "bookTicker": "/public",
        "miniTicker": "/market",
        "depth": "/public",
        "aggTrade": "/market",
        "trade": "/market",
        "ticker": "/market",
        "markPrice": "/market",
    }
    assert {path for market in (Market.SPOT, Market.CM) for path in STREAM_PATHS[market].values()} == {""}


def test_candles_of_a_second_exist_on_spot_only_and_the_rest_everywhere() -> None:
    assert INTERVALS[Market.SPOT][0] == "1s"
    assert INTERVALS[Market.UM] == INTERVALS[Market.CM] == INTERVALS[Market.SPOT][1:]


def test_market_is_written_as_its_word() -> None:
    assert f"{Market.UM}" == str(Market.UM) == "um"
    assert Market("cm") is Market.CM
