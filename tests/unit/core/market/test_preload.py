"""What the cache is told to keep ready."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.preload import (
    SYMBOL_MAX,
    BadRule,
    PreloadRule,
    matches,
    parse_preload,
    parse_rule,
    wanted,
)
from resender.core.market.words import WORDS

UM_1M = PreloadRule(Market.UM, ("*USDT",), ("1m",))


def test_setting_is_read_rule_by_rule() -> None:
    assert parse_preload("spot:BTCUSDT,ETHUSDT@1m,1h,bookTicker;um:*USDT@1m") == (
        PreloadRule(Market.SPOT, ("BTCUSDT", "ETHUSDT"), ("1m", "1h", "bookTicker")),
        UM_1M,
    )


@pytest.mark.parametrize("text", ["", " ", ";", " ; ;"])
def test_empty_setting_has_no_rules(text: str) -> None:
    assert parse_preload(text) == ()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("um:*usdt@1m", "um:*USDT@1m"),
        (" UM : *usdt , @ bookticker ,1m,", "um:*USDT@1m,bookTicker"),
        ("cm:btcusd_perp,BTCUSD_PERP,ethusd_261225@1M,1m,1m", "cm:BTCUSD_PERP,ETHUSD_261225@1m,1M"),
        ("spot:BTC*,?ETH@BOOKTICKER,bookTicker,1s", "spot:BTC*,?ETH@1s,bookTicker"),
        ("um:币安人生usdt@1m", "um:币安人生USDT@1m"),
        ("um:\n*USDT\n@\n1m\n", "um:*USDT@1m"),
        ("um:*USDT@MARKPRICE,aggtrade,Depth,DEPTH20,1m", "um:*USDT@1m,depth20,depth,aggTrade,markPrice"),
        ("spot:BTCUSDT@ticker,TRADE,trade,bookTicker", "spot:BTCUSDT@bookTicker,trade,ticker"),
    ],
)
def test_rule_has_one_canonical_text(text: str, canonical: str) -> None:
    (rule,) = parse_preload(text)
    assert str(rule) == canonical
    assert parse_preload(canonical) == (rule,)


def test_rules_that_say_the_same_are_one() -> None:
    assert parse_preload("um:*USDT@1m;;um:*usdt,*USDT@1m,1m;") == (UM_1M,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("BTCUSDT", "market:symbols@what"),
        ("um:BTCUSDT", "market:symbols@what"),
        ("BTCUSDT@1m", "market:symbols@what"),
        ("options:BTC-1@1m", "allowed are spot, um, cm"),
        ("pm:BTCUSDT@1m", "allowed are spot, um, cm"),
        (":BTCUSDT@1m", "no market ''"),
        ("fapi:BTCUSDT@1m", "no market 'fapi'"),
        ("um:@1m", "no symbol"),
        ("um: , @1m", "no symbol"),
        ("um:BTCUSDT@", "does not say what to keep"),
        ("um:BTCUSDT@1s", "um has no interval '1s'"),
        ("cm:BTCUSD_PERP@1s", "cm has no interval '1s'"),
        ("spot:BTCUSDT@1H", "no interval '1H'"),
        ("spot:BTCUSDT@7m", "1s, 1m, 3m"),
        ("spot:BTCUSDT@1m@1h", "no interval '1m@1h'"),
        ("um:BTCUSDT@trade", "um has no trade; allowed besides intervals are bookTicker, depth20, depth"),
        ("cm:BTCUSD_PERP@1m,TRADE", "cm has no trade; allowed"),
        ("spot:BTCUSDT@markprice", "spot has no markPrice; allowed"),
        ("spot:BTCUSDT@depth5", "spot has no interval 'depth5'"),
        (
            "um:BTCUSDT@7m",
            "(m is a minute, M a month), bookTicker, depth20, depth, aggTrade, ticker, markPrice",
        ),
        (
            "um:BTCUSDT@",
            "bookTicker, depth20, depth, aggTrade, ticker, markPrice, fundingRate, "
            "continuousKline_ with an interval behind it.",
        ),
        ("um:[BE]*@1m", "character '['"),
        ("um:BTC/USDT@1m", "character '/'"),
        ("um:BTCUSDT ETHUSDT@1m", "character ' '"),
        ("um:BTCUSDT，ETHUSDT@1m", "character '，'"),
        ("um:\ud800@1m", "character '\\ud800'"),
        ("um:A\0@1m", "character '\\x00'"),
        ("um:" + "A" * 51 + "@1m", "51 characters"),
        ("um:" + ",".join(f"A{n:09d}" for n in range(1000)) + "@1m", "several rules"),
        ("um:*USDT@1m;um:*USDC@2m", "rule 'um:*USDC@2m'"),
    ],
)
def test_bad_rule_is_refused_with_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_preload(text)
    message = str(caught.value)
    assert words in message
    assert message.startswith("preload rule '")
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize(
    ("parts", "field", "data"),
    [
        (("um", "A", "trade"), "what", {"reason": "rule_word", "word": "trade"}),
        (("spot", "A", "MARKPRICE"), "what", {"reason": "rule_word", "word": "markPrice"}),
        (("um", "A", "1s"), "what", {"reason": "rule_interval", "interval": "1s"}),
        (("um", "A", "x" * 200), "what", {"reason": "rule_interval", "interval": "x" * 80}),
        (("um", "A", " , "), "what", {"reason": "rule_what"}),
        (("eapi", "A", "1m"), "market", {"reason": "rule_market"}),
        (("um", ",", "1m"), "symbols", {"reason": "rule_symbols"}),
    ],
)
def test_bad_rule_tells_programs_which_part_and_why(
    parts: tuple[str, str, str], field: str, data: dict[str, object]
) -> None:
    with pytest.raises(BadRule) as caught:
        parse_rule(*parts)
    assert (caught.value.field, caught.value.data) == (field, data)


def test_rule_of_the_command_line_is_shown_as_it_was_given() -> None:
    with pytest.raises(ValueError, match=r"rule 'um:\*usdt@1x': um has no interval '1x'"):
        parse_rule("um", "*usdt", "1x")


@pytest.mark.parametrize("market", ["um;spot", "um:", "", "um\n;cm"])
def test_separators_inside_a_part_are_refused(market: str) -> None:
    for parts in ((market, "BTCUSDT", "1m"), ("um", "BTC;cm:ETH", "1m"), ("um", "BTC@1h", "1m")):
        with pytest.raises(ValueError):
            parse_rule(*parts)


SYMBOL_CHARACTERS = st.one_of(
    st.sampled_from("ABCXYZ0123456789_-.*?"), st.characters(categories=["Lu", "Lo", "Nd", "Ll"])
)


def _becomes_a_symbol(text: str) -> bool:
    upper = text.upper()
    return len(upper) <= SYMBOL_MAX and all(c.isalnum() or c in "_-.*?" for c in upper)


@given(
    market=st.sampled_from(sorted(INTERVALS)),
    symbols=st.lists(
        st.text(SYMBOL_CHARACTERS, min_size=1, max_size=20).filter(_becomes_a_symbol), min_size=1, max_size=8
    ),
    data=st.data(),
)
def test_canonical_text_is_read_back_as_the_same_rule(
    market: Market, symbols: list[str], data: st.DataObject
) -> None:
    words = st.sampled_from(WORDS[market])
    what = data.draw(st.lists(words, min_size=1, max_size=20))
    rule = parse_rule(market.value, ",".join(symbols), ",".join(what))
    assert parse_preload(str(rule)) == (rule,)
    assert parse_rule(market.value, rule.symbols_text, rule.what) == rule
    assert set(rule.streams) == set(what)
    assert set(rule.symbols) == {symbol.upper() for symbol in symbols}


@given(st.text(st.sampled_from("um:spot@;,1mM*[bBoOkTicker \n\0é币")))
def test_any_text_is_read_or_refused_with_a_text(text: str) -> None:
    message = ""
    rules: tuple[PreloadRule, ...] = ()
    try:
        rules = parse_preload(text)
    except ValueError as error:
        message = str(error)
    assert message.isprintable()
    assert parse_preload(";".join(map(str, rules))) == rules


def test_names_and_globs_match_in_the_order_of_the_symbols() -> None:
    rule = parse_rule("um", "ETHUSDT,BTC*,?????USDC,币*", "1m")
    symbols = ["币安人生USDT", "BTCUSDT", "BTCUSD_261225", "ETHUSDT", "ETHUSDTX", "1INCHUSDC", "SOLUSDC"]
    assert matches(rule, symbols) == ["币安人生USDT", "BTCUSDT", "BTCUSD_261225", "ETHUSDT", "1INCHUSDC"]


@pytest.mark.parametrize(
    ("symbols", "found"),
    [
        ("*", ["AUSDT", "A.B", "AXB"]),
        ("A.B", ["A.B"]),
        ("A?B", ["A.B", "AXB"]),
        ("*a*", ["AUSDT", "A.B", "AXB"]),
        ("?", []),
        ("AUSD", []),
    ],
)
def test_only_asterisk_and_question_mark_are_special(symbols: str, found: list[str]) -> None:
    assert matches(parse_rule("um", symbols, "1m"), iter(["AUSDT", "A.B", "AXB"])) == found


@given(st.text("AB*?", min_size=1, max_size=8), st.lists(st.text("AB", max_size=6)))
def test_glob_means_what_fnmatch_means(pattern: str, symbols: list[str]) -> None:
    rule = parse_rule("um", pattern, "1m")
    assert matches(rule, symbols) == [symbol for symbol in symbols if fnmatchcase(symbol, pattern)]


def test_wanted_lists_each_series_once_in_the_order_of_the_rules() -> None:
    rules = parse_preload("um:BTC*@1h,bookTicker;spot:BTCUSDT@1m;um:*USDT@1m,1h;cm:*@1m")
    tradable = {Market.UM: ["ETHUSDT", "BTCUSDT"], Market.SPOT: ("BTCUSDT",)}
    assert wanted(rules, tradable) == [
        (Market.UM, "BTCUSDT", "1h"),
        (Market.UM, "BTCUSDT", "bookTicker"),
        (Market.SPOT, "BTCUSDT", "1m"),
        (Market.UM, "ETHUSDT", "1m"),
        (Market.UM, "ETHUSDT", "1h"),
        (Market.UM, "BTCUSDT", "1m"),
    ]
    assert wanted([], tradable) == wanted(rules, {}) == []


def test_rule_is_matched_against_thousands_of_symbols_quickly() -> None:
    symbols = [f"SYM{n}USDT" for n in range(5000)]
    rule = parse_rule("um", "*A*A*A*A*A*A*A*A*B,*USDT", "1m")
    assert len(matches(rule, symbols * 4)) == 20_000
