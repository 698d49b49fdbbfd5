"""What a preload rule costs: weight once, connections and memory for good."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.market.costs import backfill_weight
from resender.core.market.preload import parse_rule
from resender.core.market.preload_cost import CANDLE_BYTES, ENTRY_BYTES, Cost, estimate


def cost(rule: tuple[str, str, str], symbols: int, **more: Any) -> Cost:
    values: dict[str, Any] = {
        "held": set(),
        "depth": 1500,
        "weight_limit": 2400,
        "weight_share": 0.5,
        "streams_per_connection": 200,
    }
    return estimate(parse_rule(*rule), [f"S{i}USDT" for i in range(symbols)], **(values | more))


def test_whole_futures_market_at_one_minute_costs_what_the_backfill_needs() -> None:
    found = cost(("um", "*USDT", "1m"), 400)
    assert (found.symbols, found.series, found.held) == (400, 400, 0)
    # 1,500 rows in the cheapest pieces weigh 7.
    assert found.weight == 400 * backfill_weight(parse_rule("um", "*", "1m").market, 1500) == 2800
    assert found.minutes == pytest.approx(2800 / (2400 * 0.5 * 0.9), abs=0.1)
    assert found.connections == 2
    assert found.memory_bytes == 400 * 1500 * CANDLE_BYTES + 400 * ENTRY_BYTES


def test_tickers_and_klines_of_usd_m_share_no_connection_but_those_of_spot_do() -> None:
    assert cost(("um", "*", "1m,bookTicker"), 100).connections == 2
    assert cost(("spot", "*", "1m,bookTicker"), 100).connections == 1


def test_many_tickers_are_read_all_at_once() -> None:
    assert cost(("spot", "*", "bookTicker"), 500).weight == 4
    assert cost(("um", "*", "bookTicker"), 500).weight == 5
    assert cost(("spot", "*", "bookTicker"), 1).weight == 2


@pytest.mark.parametrize(
    ("market", "what", "symbols", "weight"),
    [
        # Each by itself, however many there are: no call reads the books or trades of all symbols.
        ("spot", "depth20", 500, 500 * 5),
        ("spot", "depth", 10, 10 * 50),
        ("um", "depth", 10, 10 * 20),
        ("spot", "aggTrade", 10, 10 * 4),
        ("um", "aggTrade", 10, 10 * 20),
        ("spot", "trade", 10, 10 * 25),
        # One by one as long as that is cheaper than all at once.
        ("spot", "ticker", 10, 10 * 2),
        ("spot", "ticker", 500, 80),
        ("um", "ticker", 10, 10),
        ("um", "ticker", 500, 40),
        ("um", "markPrice", 5, 5),
        ("um", "markPrice", 500, 10),
        ("spot", "bookTicker", 2, 4),
        ("spot", "bookTicker", 3, 4),
        ("um", "1m,depth20,aggTrade", 10, 10 * (7 + 2 + 20)),
    ],
)
def test_first_read_of_each_word_costs_what_its_calls_do(
    market: str, what: str, symbols: int, weight: int
) -> None:
    assert cost((market, "*", what), symbols).weight == weight


def test_what_is_kept_of_a_symbol_takes_the_memory_it_was_measured_to() -> None:
    def each(what: str, market: str = "spot") -> float:
        return cost((market, "*", what), 10).memory_bytes / 10 - ENTRY_BYTES

    assert each("bookTicker") == 0
    found = [
        each("markPrice", "um"),
        each("ticker"),
        each("depth20"),
        each("fundingRate", "um"),
        each("depth"),
    ]
    assert found == sorted(found)
    assert found[0] > 0
    assert each("depth") < each("aggTrade") < each("trade") < 500_000
    candles = cost(("spot", "*", "1m"), 10).memory_bytes
    both = cost(("spot", "*", "1m,depth"), 10).memory_bytes
    assert both == candles + cost(("spot", "*", "depth"), 10).memory_bytes, "only candles have a depth"


def test_streams_of_one_path_share_connections() -> None:
    # Candles, trades and mark prices of USD-M come over one path, books and tickers over the other.
    assert cost(("um", "*", "1m,aggTrade,ticker,markPrice"), 50).connections == 1
    assert cost(("um", "*", "bookTicker,depth20,depth"), 60).connections == 1
    assert cost(("um", "*", "1m,depth"), 50).connections == 2
    assert cost(("spot", "*", "1m,depth,trade,aggTrade"), 50).connections == 1
    assert cost(("cm", "*", "1m,depth,aggTrade,markPrice"), 51).connections == 2


def test_what_is_held_already_costs_no_weight_but_memory_and_connections() -> None:
    held = {(f"S{i}USDT", "1m") for i in range(10)}
    found = cost(("spot", "*", "1m"), 10, held=held)
    assert (found.series, found.held, found.weight, found.minutes) == (10, 10, 0, 0.0)
    assert found.memory_bytes > 0
    assert found.connections == 1
    half = cost(("spot", "*", "1m,5m"), 10, held=held)
    assert (half.series, half.held) == (20, 10)
    assert half.weight == 10 * 4


def test_rule_that_means_no_symbol_costs_nothing() -> None:
    assert cost(("um", "X*", "1m,bookTicker"), 0) == Cost(0, 0, 0, 0, 0.0, 0, 0)
