"""The rules behind the weight column: presence, limits, numbers of symbols, borrowing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.weights.rules import Charge, Rule, build, count_symbols, has_hidden_name, has_parameter


def make(value: int) -> Charge:
    return Charge(value, "pool")


def weigh(text: str, query: str) -> int:
    found = build(text, make)
    return found.read(query).weight if isinstance(found, Rule) else found.weight


def test_a_number_is_a_fixed_charge() -> None:
    assert build("7", make) == Charge(7, "pool")


@pytest.mark.parametrize(
    "text", ["", "x", "symbol:1", "symbol:1/", "limit=500", "limit=:5", "each:4", "-1", "1.5", "limit=5:5=1"]
)
def test_anything_else_than_a_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no weight rule"):
        build(text, make)


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("symbol=BTCUSDT", 1),
        ("a=1&symbol=BTCUSDT&timestamp=1&signature=ab%2Bcd", 1),
        ("symbol=%E5%B8%81USDT", 1),
        ("", 40),
        ("timestamp=1&signature=ab%2B", 40),
        ("symbol=", 40),
        ("symbol=&a=1", 40),
        ("symbols=A", 40),
        ("Symbol=A", 40),
        ("xsymbol=A", 40),
        # Which of two counts is not documented: the dearer.
        ("symbol=A&symbol=", 40),
        ("symbol=A&symbol", 40),
        ("symbol=A&%73ymbol=", 40),
        ("%73ymbol=A", 40),
        ("x=%26symbol=A", 40),
        ("symbol=A&symbolStatus=TRADING", 1),
    ],
)
def test_presence_of_a_parameter(query: str, weight: int) -> None:
    assert weigh("symbol:1/40", query) == weight


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("", 1),
        ("computeCommissionRates=true", 20),
        ("computeCommissionRates=false", 20),
        ("compute%43ommissionRates=true", 20),
        ("a=%20", 1),
        ("computeCommissionRates=", 20),
    ],
)
def test_presence_of_a_parameter_that_makes_dearer(query: str, weight: int) -> None:
    assert weigh("computeCommissionRates:20/1", query) == weight


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("", 5),
        ("symbol=A", 5),
        ("limit=1", 1),
        ("limit=99&symbol=A", 1),
        ("symbol=A&limit=100", 2),
        ("limit=499", 2),
        ("limit=500", 5),
        ("limit=1000", 5),
        ("limit=1001", 10),
        ("limit=99999999", 10),
        ("xlimit=1", 5),
        # What Binance makes of these is not documented; no row is dearer than the last.
        ("limit=", 10),
        ("limit=0", 10),
        ("limit=-5", 10),
        ("limit=1e3", 10),
        ("limit=\u00b2", 10),
        ("limit=1&limit=1000", 10),
        ("limit=1&limit", 10),
        ("limit=1&l%69mit=1000", 10),
        ("%6cimit=1", 10),
        ("l%69mit=1500", 10),
        ("symbol=%E5%B8%81&limit=7", 1),
        ("limit=%31%30", 10),
    ],
)
def test_limits(query: str, weight: int) -> None:
    assert weigh("limit=500:99=1,499=2,1000=5,10", query) == weight


def quoted(count: int) -> str:
    return "symbols=[" + ",".join(f'"S{n}"' for n in range(count)) + "]"


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("symbol=A", 2),
        ("", 80),
        ("symbolStatus=TRADING", 80),
        (quoted(1), 2),
        (quoted(20), 2),
        (quoted(21), 40),
        (quoted(100), 40),
        (quoted(101), 80),
        (quoted(21).replace('"', "%22"), 40),
        ("symbols=[A,B]", 80),
        ("symbols=", 80),
        (quoted(1) + "&symbols=", 80),
        ("symbol=A&%73ymbols=" + quoted(21)[8:], 80),
        ("symbol=A&" + quoted(21), 40),
    ],
)
def test_numbers_of_symbols(query: str, weight: int) -> None:
    assert weigh("count:20=2,100=40,80", query) == weight


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("symbol=A", 4),
        (quoted(1), 4),
        (quoted(7), 28),
        (quoted(49), 196),
        (quoted(50), 200),
        (quoted(51), 200),
        ("", 200),
    ],
)
def test_weight_for_each_symbol(query: str, weight: int) -> None:
    assert weigh("each:4/200", query) == weight


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("sideEffectType=MARGIN_BUY", 1500),
        ("sideEffectType=AUTO_BORROW_REPAY&a=1", 1500),
        ("sideEffectType=MARGIN%5FBUY", 1500),
        ("sideEffectType=SOMETHING_NEW", 1500),
        ("sideEffectType=AUTO_REPAY&sideEffectType=MARGIN_BUY", 1500),
        ("side%45ffectType=MARGIN_BUY", 1500),
        ("a=1&sideEffectType=NO_SIDE_EFFECT&signature=ab%2B", 6),
        ("sideEffectType=AUTO_REPAY", 6),
        ("", 6),
    ],
)
def test_a_margin_order_that_borrows_is_dearer(query: str, weight: int) -> None:
    assert weigh("borrow:1500/6", query) == weight


TEXTS = [
    "symbol:1/40",
    "computeCommissionRates:20/1",
    "limit=100:100=5,500=25,1000=50,250",
    "count:20=2,100=40,80",
    "each:4/200",
    "borrow:1500/6",
]


@given(
    st.sampled_from(TEXTS),
    st.text(st.characters(max_codepoint=255), max_size=60)
    | st.lists(
        st.sampled_from(["symbol=A", "limit=", "limit=5", "&", "%", "%6", '"', "%22", "%6c", "="]), max_size=9
    ).map("".join),
)
def test_no_query_breaks_a_rule_or_goes_beyond_its_dearest(text: str, query: str) -> None:
    found = build(text, make)
    assert isinstance(found, Rule)
    assert 0 <= found.read(query).weight <= found.dearest.weight


def test_has_parameter_looks_for_whole_names() -> None:
    assert has_parameter("a=1&limit=5", "limit")
    assert not has_parameter("a=1&sublimit=5", "limit")


def test_count_symbols_counts_quotes_either_way() -> None:
    assert count_symbols('symbols=["A","B"]') == count_symbols("symbols=%5B%22A%22,%22B%22%5D") == 2
    assert count_symbols("symbol=A") == 0
    assert count_symbols("symbols=A") == -1


@given(st.text("ab=&%", max_size=30))
def test_hidden_names_are_found_as_splitting_finds_them(query: str) -> None:
    split = any("%" in pair.partition("=")[0] for pair in query.split("&"))
    assert has_hidden_name(query) == split
