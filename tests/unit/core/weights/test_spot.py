"""Weights of the spot host: what a call costs there, with the figures of Binance's rest-api.md."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.weights import spot
from resender.core.weights.table import Charge, charge, table_lines

LINES = [line for line in table_lines() if line[1].startswith(spot.ROOT)]


def of(method: str, target: str) -> Charge:
    path, _, query = target.partition("?")
    return charge(Market.SPOT, method, spot.ROOT + path, query)


@pytest.mark.parametrize(
    ("limit", "weight"), [(1, 5), (100, 5), (101, 25), (500, 25), (501, 50), (1000, 50), (1001, 250)]
)
def test_depth_costs_by_its_limit(limit: int, weight: int) -> None:
    assert of("GET", f"depth?symbol=BTCUSDT&limit={limit}").weight == weight


@pytest.mark.parametrize(("count", "weight"), [(1, 2), (20, 2), (21, 40), (100, 40), (101, 80)])
def test_day_tickers_cost_by_the_number_of_symbols(count: int, weight: int) -> None:
    names = ",".join(f'"S{number}"' for number in range(count))
    assert of("GET", f"ticker/24hr?symbols=[{names}]").weight == weight


@pytest.mark.parametrize("path", ["ticker", "ticker/tradingDay"])
def test_tickers_of_a_window_cost_four_for_each_symbol_up_to_fifty(path: str) -> None:
    def weight(count: int) -> int:
        names = ",".join(f'"S{number}"' for number in range(count))
        return of("GET", f"{path}?symbols=[{names}]").weight

    assert [weight(1), weight(10), weight(49), weight(50), weight(99)] == [4, 40, 196, 200, 200]


def test_candles_cost_the_same_whatever_the_limit() -> None:
    assert {of("GET", f"klines?symbol=BTCUSDT&limit={limit}").weight for limit in (1, 500, 1000)} == {2}


@pytest.mark.parametrize(
    ("path", "with_symbol", "without"),
    [("ticker/price", 2, 4), ("ticker/bookTicker", 2, 4), ("openOrders", 6, 80)],
)
def test_calls_for_all_symbols_cost_more(path: str, with_symbol: int, without: int) -> None:
    assert of("GET", f"{path}?symbol=BTCUSDT").weight == with_symbol
    assert of("GET", path).weight == without


def test_everything_is_metered_in_one_pool_by_address() -> None:
    assert {pool for _, _, _, pool, _ in LINES} == {"spot"}
    assert not any("uid" in words for *_, words in LINES)


def test_call_that_tests_an_order_with_its_commission_is_dearer() -> None:
    assert of("POST", "order/test").weight == 1
    assert of("POST", "order/test?computeCommissionRates=true").weight == 20


def test_only_signed_or_keyed_paths_are_not_public() -> None:
    kept = {path.removeprefix(spot.ROOT) for method, path, *_, words in LINES if "public" in words}
    assert {"depth", "klines", "ticker/bookTicker", "exchangeInfo", "time", "ping"} <= kept
    assert not kept & {"historicalBlockTrades", "account", "myTrades", "rateLimit/order"}
