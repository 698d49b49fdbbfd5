"""The list of kinds: every cached path has one, and no word of a rule has two."""

from __future__ import annotations

import pytest

from resender.core.binance.endpoints import (
    AGG_TRADES,
    BOOK_TICKERS,
    CONTINUOUS_KLINES,
    DAY_TICKERS,
    DEPTH,
    ENDED_KLINES,
    FUNDING_RATES,
    KLINES,
    PREMIUM_INDEX,
    PRICES,
    STATISTICS,
    TRADES,
)
from resender.core.binance.markets import INTERVALS, STREAM_PATHS, Market
from resender.core.market.requests import (
    EndedRequest,
    parse_book_ticker,
    parse_continuous,
    parse_depth,
    parse_funding,
    parse_klines,
    parse_symbols,
    parse_trades,
)
from resender.core.market.words import WORDS
from resender.market.kinds import KINDS, PATHS, BookTickers, CachedPath, Klines
from resender.market.kinds.books import Books
from resender.market.kinds.consented import DayTickers, MarkPrices
from resender.market.kinds.continuous import ContinuousKlines
from resender.market.kinds.ended import EndedKlines
from resender.market.kinds.funding import FundingRates
from resender.market.kinds.statistics import Statistics
from resender.market.kinds.trades import AggTrades, Trades


def test_every_path_leads_to_the_kind_the_market_and_the_reader_of_its_endpoint() -> None:
    ways = [
        (KLINES, Klines, parse_klines),
        (BOOK_TICKERS, BookTickers, parse_book_ticker),
        (DEPTH, Books, parse_depth),
        (AGG_TRADES, AggTrades, parse_trades),
        (TRADES, Trades, parse_trades),
        (PRICES, Trades, parse_symbols),
        (DAY_TICKERS, DayTickers, parse_symbols),
        (PREMIUM_INDEX, MarkPrices, parse_symbols),
        (CONTINUOUS_KLINES, ContinuousKlines, parse_continuous),
        (FUNDING_RATES, FundingRates, parse_funding),
    ]
    assert {
        path: CachedPath(kind, market, parse, (market.value, kind.name))
        for paths, kind, parse in ways
        for market, path in paths.items()
    } == {path: at for path, at in PATHS.items() if at.kind not in (EndedKlines, Statistics)}
    statistics = {path: at.market for path, at in PATHS.items() if at.kind is Statistics}
    assert statistics == {path: market for market, paths in STATISTICS.items() for path in paths.values()}
    ended = {path: at.market for path, at in PATHS.items() if at.kind is EndedKlines}
    assert ended == {path: market for market, paths in ENDED_KLINES.items() for path in paths.values()}
    assert len(PATHS) == 42


@pytest.mark.parametrize("market", list(INTERVALS))
def test_ended_candles_are_read_by_their_names(market: Market) -> None:
    for name, path in ENDED_KLINES[market].items():
        key = "pair" if name == "indexPriceKlines" else "symbol"
        found = PATHS[path].parse(market, f"{key}=BTCUSD&interval=1h&limit=7")
        assert isinstance(found, EndedRequest)
        assert (found.symbol, found.word, found.klines.limit) == ("BTCUSD", f"{name}_1h", 7)


@pytest.mark.parametrize("market", list(INTERVALS))
def test_no_word_of_a_rule_stands_for_two_kinds(market: Market) -> None:
    words = [word for kind in KINDS for word in kind.words(market)]
    assert len(words) == len(set(words))
    # Others are kept because somebody asks; no rule names them.
    unnamed = {*ENDED_KLINES[market], *STATISTICS.get(market, ())}
    asked = {word for word in words if "@" in word or word.partition("_")[0] in unnamed}
    assert set(words) - asked == set(WORDS[market])


@pytest.mark.parametrize("market", list(STREAM_PATHS))
def test_every_kind_has_a_stream_the_market_is_known_to_have(market: Market) -> None:
    assert {kind.stream for kind in KINDS if kind.words(market)} <= set(STREAM_PATHS[market])


@pytest.mark.parametrize("market", list(INTERVALS))
def test_kind_that_keeps_nothing_of_a_market_answers_no_path_of_it(market: Market) -> None:
    assert [kind for kind in KINDS if bool(kind.words(market)) != bool(kind.paths(market))] == []


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
