"""The list of kinds: every cached path has one, and no word of a rule has two."""

from __future__ import annotations

import pytest

from resender.core.binance.endpoints import BOOK_TICKERS, KLINES
from resender.core.binance.markets import INTERVALS, STREAM_PATHS, Market
from resender.market.kinds import KINDS, PATHS, BookTickers, Klines


def test_every_path_leads_to_the_kind_and_the_market_of_its_endpoint() -> None:
    assert len(PATHS) == 6
    for market, path in KLINES.items():
        assert PATHS[path] == (Klines, market)
    for market, path in BOOK_TICKERS.items():
        assert PATHS[path] == (BookTickers, market)


@pytest.mark.parametrize("market", list(INTERVALS))
def test_no_word_of_a_rule_stands_for_two_kinds(market: Market) -> None:
    words = [word for kind in KINDS for word in kind.words(market)]
    assert len(words) == len(set(words))
    assert set(words) == {*INTERVALS[market], "bookTicker"}


@pytest.mark.parametrize("market", list(STREAM_PATHS))
def test_every_kind_has_a_stream_the_market_is_known_to_have(market: Market) -> None:
    assert {kind.stream for kind in KINDS} <= set(STREAM_PATHS[market])


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
