"""The words for what is kept of a symbol: which a market has, their order, and how a person may write them."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import INTERVALS, STREAM_PATHS, Market
from resender.core.binance.stream_names import check_stream_name, symbol_stream
from resender.core.market.costs import FIRST_READS
from resender.core.market.preload import parse_rule
from resender.core.market.preload_cost import STREAM_OF
from resender.core.market.words import ALL_WORDS, WORDS, interval_of, read_word, shown_words

OTHERS = {"bookTicker", "depth20", "depth", "aggTrade", "ticker"}


def test_every_market_with_candles_has_words_each_once_its_intervals_first() -> None:
    assert set(WORDS) == set(INTERVALS)
    for market, words in WORDS.items():
        assert len(words) == len(set(words))
        assert words[: len(INTERVALS[market])] == INTERVALS[market]


def test_single_trades_are_words_of_spot_and_mark_prices_of_futures() -> None:
    others = {market: {word for word in words if not interval_of(word)} for market, words in WORDS.items()}
    assert others == {
        Market.SPOT: {*OTHERS, "trade"},
        Market.UM: {*OTHERS, "markPrice", "fundingRate"},
        Market.CM: {*OTHERS, "markPrice", "fundingRate"},
    }


def test_all_words_are_those_of_the_markets_each_once_and_no_others() -> None:
    assert len(ALL_WORDS) == len(set(ALL_WORDS))
    assert set(ALL_WORDS) == {word for words in WORDS.values() for word in words}
    assert ALL_WORDS[: len(INTERVALS[Market.SPOT])] == INTERVALS[Market.SPOT]


@pytest.mark.parametrize("word", ALL_WORDS)
def test_word_is_read_as_itself(word: str) -> None:
    assert read_word(word) == word


@pytest.mark.parametrize("word", [word for word in ALL_WORDS if not interval_of(word)])
def test_case_of_what_is_no_interval_does_not_matter(word: str) -> None:
    for written in (word.lower(), word.upper(), word.swapcase(), word.title()):
        assert read_word(written) == word


def test_continuous_candles_are_words_of_futures_with_every_interval() -> None:
    for market in (Market.UM, Market.CM):
        assert {f"continuousKline_{interval}" for interval in INTERVALS[market]} <= set(WORDS[market])
    assert not any(word.startswith("continuousKline") for word in WORDS[Market.SPOT])
    assert read_word("CONTINUOUSKLINE_1M") == "continuousKline_1M"
    assert read_word("continuouskline_1m") == "continuousKline_1m"


@pytest.mark.parametrize(
    ("word", "interval"),
    [
        ("1m", "1m"),
        ("1M", "1M"),
        ("continuousKline_1M", "1M"),
        ("continuousKline_5m@CURRENT_QUARTER", "5m"),
        ("depth20", None),
        ("continuousKline_7m", None),
        ("continuousKline", None),
    ],
)
def test_words_of_candles_tell_their_interval(word: str, interval: str | None) -> None:
    assert interval_of(word) == interval


def test_words_beside_intervals_are_told_to_people() -> None:
    assert shown_words(Market.SPOT) == "bookTicker, depth20, depth, aggTrade, trade, ticker"
    assert "markPrice, fundingRate, continuousKline_ with an interval behind it" in shown_words(Market.UM)


def test_case_of_intervals_matters() -> None:
    assert (read_word("1m"), read_word("1M")) == ("1m", "1M")
    assert read_word("1H") == "1H"
    with pytest.raises(ValueError, match="'1H'"):
        parse_rule("um", "BTCUSDT", "1H")


@pytest.mark.parametrize(
    "text", ["", " ", " depth", "depth ", "depth5", "book", "ticker@1h", "ＤＥＰＴＨ", "İ"]
)
def test_what_is_no_word_stays_as_it_is(text: str) -> None:
    assert read_word(text) == text


@pytest.mark.parametrize(
    ("market", "word"),
    [(market, word) for market, words in WORDS.items() for word in words if not interval_of(word)],
)
def test_every_other_word_has_its_stream_its_first_read_and_a_rule(market: Market, word: str) -> None:
    assert STREAM_OF[word] in STREAM_PATHS[market]
    assert market in FIRST_READS[word][0]
    stream = "markPrice" if word == "fundingRate" else word  # which tells when the next rate is due
    assert check_stream_name(symbol_stream("BTCUSDT", stream)) == f"btcusdt@{stream}"
    assert parse_rule(market.value, "BTCUSDT", word.upper()).streams == (word,)
