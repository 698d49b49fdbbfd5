"""The table of endpoint weights: figures, pools, orders, public paths, unknown paths, rate limits."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import MARKETS, Market
from resender.core.binance.routing import METHODS, resolve
from resender.core.market.costs import book_ticker_weight, exchange_info_weight, kline_weight
from resender.core.weights.table import (
    EXTRA_LIMITS,
    POOL_OF,
    UNKNOWN_SAPI_POOL,
    Charge,
    RateLimit,
    charge,
    read_rate_limits,
    table_lines,
)

SPOT, UM, CM, OPTIONS, PM = Market.SPOT, Market.UM, Market.CM, Market.OPTIONS, Market.PM
ROOTS = {root: facts.market for facts in reversed(MARKETS) for root in facts.roots}
LINES = list(table_lines())


def of(line: str, has_body: bool = False, body: bytes = b"") -> Charge:
    method, _, target = line.partition(" ")
    route = resolve(target)
    return charge(route.market, method, route.path, target.partition("?")[2], has_body, body)


@pytest.mark.parametrize(
    ("line", "weight", "pool"),
    [
        ("GET /api/v3/ping", 1, "spot"),
        ("GET /api/v3/exchangeInfo?symbol=BTCUSDT", 20, "spot"),
        ("GET /api/v3/depth?symbol=BTCUSDT", 5, "spot"),
        ("GET /api/v3/depth?symbol=BTCUSDT&limit=101", 25, "spot"),
        ("GET /api/v3/depth?symbol=BTCUSDT&limit=1000", 50, "spot"),
        ("GET /api/v3/depth?symbol=BTCUSDT&limit=5000", 250, "spot"),
        ("GET /api/v3/depth?symbol=BTCUSDT&limit=9999", 250, "spot"),
        ("GET /api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1000", 2, "spot"),
        ("GET /api/v3/ticker/24hr", 80, "spot"),
        ("GET /api/v3/ticker/24hr?symbol=BTCUSDT", 2, "spot"),
        ("GET /api/v3/ticker/price?symbol=BTCUSDT", 2, "spot"),
        ("GET /api/v3/ticker/price", 4, "spot"),
        ('GET /api/v3/ticker/bookTicker?symbols=["BTCUSDT"]', 4, "spot"),
        ('GET /api/v3/ticker?symbols=["BTCUSDT","ETHUSDT"]', 8, "spot"),
        ("GET /api/v3/openOrders?symbol=BTCUSDT&timestamp=1&signature=0", 6, "spot"),
        ("GET /api/v3/openOrders?timestamp=1&signature=0", 80, "spot"),
        ("GET /api/v3/account?timestamp=1", 20, "spot"),
        ("GET /api/v3/order?symbol=BTCUSDT", 4, "spot"),
        ("POST /api/v3/order?symbol=BTCUSDT", 1, "spot"),
        ("DELETE /api/v3/openOrders?symbol=BTCUSDT", 1, "spot"),
        ("PUT /api/v3/order/amend/keepPriority", 4, "spot"),
        ("GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m", 5, "futures"),
        ("GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500", 10, "futures"),
        ("GET /dapi/v1/klines?symbol=BTCUSD_PERP&interval=1m&limit=99", 1, "futures"),
        ("GET /fapi/v1/depth?symbol=BTCUSDT", 10, "futures"),
        ("GET /fapi/v1/depth?symbol=BTCUSDT&limit=50", 2, "futures"),
        ("GET /fapi/v1/ticker/24hr", 40, "futures"),
        ("GET /fapi/v1/premiumIndex?symbol=BTCUSDT", 1, "futures"),
        ("GET /dapi/v1/premiumIndex?symbol=BTCUSD_PERP", 10, "futures"),
        ("GET /fapi/v1/openOrders", 40, "futures"),
        ("POST /fapi/v1/order?symbol=BTCUSDT", 0, "futures"),
        ("POST /dapi/v1/batchOrders", 5, "futures"),
        ("GET /fapi/v3/account", 5, "futures"),
        ("GET /fapi/v1/income/asyn", 1000, "futures"),
        ("GET /fapi/v1/historicalTrades?symbol=BTCUSDT", 200, "futures"),
        ("GET /eapi/v1/depth?symbol=BTC-261225-90000-C&limit=1000", 20, "options"),
        ("GET /eapi/v1/ticker", 40, "options"),
        ("GET /papi/v1/um/openOrders", 40, "pm"),
        ("GET /papi/v1/cm/userTrades?pair=BTCUSD", 40, "pm"),
        ("POST /papi/v1/margin/repay-debt", 3000, "pm"),
        ("GET /sapi/v1/capital/config/getall", 10, "sapi:/sapi/v1/capital/config/getall"),
        ("GET /sapi/v1/accountSnapshot?type=SPOT", 2400, "sapi:/sapi/v1/accountSnapshot"),
        ("POST /sapi/v1/margin/order", 6, "sapi-uid:/sapi/v1/margin/order"),
        ("POST /sapi/v1/margin/order?sideEffectType=MARGIN_BUY", 1500, "sapi-uid:/sapi/v1/margin/order"),
        ("GET /sapi/v1/margin/order", 10, "sapi:/sapi/v1/margin/order"),
    ],
)
def test_documented_weights(line: str, weight: int, pool: str) -> None:
    found = of(line)
    assert (found.weight, found.pool) == (weight, pool)


def test_no_line_stands_twice() -> None:
    counted = Counter((method, path) for method, path, *_ in LINES)
    assert [key for key, count in counted.items() if count > 1] == []


def test_every_line_is_well_formed_and_reached() -> None:
    words_known = {"public", "order", "uid", *EXTRA_LIMITS}
    for method, path, _, pool, words in LINES:
        assert method in METHODS
        assert words <= words_known, path
        market = ROOTS[path.split("/")[1]]
        found = charge(market, method, path, "")
        assert found.pool == pool
        assert pool.startswith(("sapi:", "sapi-uid:")) or pool == POOL_OF[market]


@pytest.mark.parametrize("market", list(Market))
def test_a_head_costs_what_the_get_costs(market: Market) -> None:
    path = {
        SPOT: "/api/v3/depth",
        UM: "/fapi/v1/depth",
        CM: "/dapi/v1/depth",
        OPTIONS: "/eapi/v1/depth",
        PM: "/papi/v1/balance",
    }[market]
    assert charge(market, "HEAD", path, "limit=1000") == charge(market, "GET", path, "limit=1000")


def test_funding_calls_share_an_allowance_of_their_own() -> None:
    for path in ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo"):
        assert charge(UM, "GET", path, "").extra == ("um-funding", 1)
    assert charge(CM, "GET", "/dapi/v1/fundingRate", "").extra is None
    assert EXTRA_LIMITS["um-funding"] == (500, 300_000)


def test_futures_data_has_a_hidden_allowance_on_both_hosts() -> None:
    for market in (UM, CM):
        for name in ("openInterestHist", "basis", "not-known-yet"):
            found = charge(market, "GET", f"/futures/data/{name}", "symbol=BTCUSDT")
            assert (found.pool, found.extra) == ("futures", ("futures-data", 1))


# --- orders and public paths -------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "POST /api/v3/order",
        "POST /api/v3/order/test",
        "DELETE /api/v3/order",
        "DELETE /api/v3/openOrders",
        "POST /api/v3/order/cancelReplace",
        "POST /api/v3/orderList/otoco",
        "DELETE /api/v3/orderList",
        "POST /api/v3/sor/order",
        "PUT /api/v3/order/amend/keepPriority",
        "POST /fapi/v1/order",
        "PUT /fapi/v1/batchOrders",
        "DELETE /fapi/v1/allOpenOrders",
        "POST /fapi/v1/countdownCancelAll",
        "POST /fapi/v1/algoOrder",
        "DELETE /dapi/v1/algoOpenOrders",
        "POST /fapi/v1/leverage",
        "POST /dapi/v1/positionMargin",
        "DELETE /eapi/v1/allOpenOrdersByUnderlying",
        "POST /eapi/v1/countdownCancelAllHeartBeat",
        "POST /papi/v1/um/conditional/order",
        "DELETE /papi/v1/margin/orderList",
        "POST /sapi/v1/margin/order/oco",
        "DELETE /sapi/v1/algo/futures/order",
        # Not in the table.
        "POST /fapi/v2/order",
        "POST /api/v3/orderList/something",
        "DELETE /sapi/v9/order",
        "POST /papi/v1/um/autoCancelAll",
    ],
)
def test_calls_that_place_change_or_cancel_are_orders(line: str) -> None:
    assert of(line).is_order


@pytest.mark.parametrize(
    "line",
    [
        "GET /api/v3/order",
        "GET /fapi/v1/openOrders",
        "GET /sapi/v1/margin/allOrders",
        "GET /fapi/v9/orders",
        "POST /fapi/v1/listenKey",
        "POST /sapi/v1/capital/withdraw/apply",
        "POST /fapi/v1/positionSide/dual",
    ],
)
def test_reads_and_settings_are_no_orders(line: str) -> None:
    assert not of(line).is_order


def test_every_path_with_order_words_that_is_no_get_is_an_order() -> None:
    for method, path, _, _, words in LINES:
        last = path.rpartition("/")[2].lower()
        if method != "GET" and ("order" in last or "cancel" in last) and "mining" not in path:
            assert "order" in words, (method, path)
        if method == "GET":
            assert "order" not in words, path


def test_public_are_gets_without_secrets_only() -> None:
    for method, path, _, _, words in LINES:
        if "public" in words:
            assert method == "GET"
            for word in ("account", "order", "position", "balance", "listen", "margin", "user"):
                is_known = path.startswith("/futures/data/") or path == "/fapi/v1/insuranceBalance"
                assert is_known or word not in path.lower(), path


@pytest.mark.parametrize(
    "line",
    [
        "GET /api/v3/klines",
        "GET /api/v3/exchangeInfo",
        "GET /api/v3/ticker/tradingDay",
        "GET /fapi/v1/premiumIndex",
        "GET /fapi/v2/ticker/price",
        "GET /fapi/v1/fundingRate",
        "GET /dapi/v1/openInterest",
        "GET /futures/data/takerlongshortRatio",
        "GET /eapi/v1/mark",
        "GET /papi/v1/ping",
        "GET /sapi/v1/system/status",
    ],
)
def test_market_data_is_public(line: str) -> None:
    assert of(line).is_public


@pytest.mark.parametrize(
    "line",
    [
        "GET /fapi/v1/historicalTrades",
        "GET /api/v3/account",
        "GET /api/v3/unknown",
        "GET /futures/data/unknown",
        "POST /api/v3/klines",
    ],
)
def test_keyed_and_unknown_paths_are_not_public(line: str) -> None:
    assert not of(line).is_public


# --- bodies and unknown paths --------------------------------------------------------------------


def test_parameters_in_a_body_count() -> None:
    line = "POST /api/v3/order/test"
    assert of(line).weight == 1
    assert of(line, True, b"symbol=BTCUSDT&side=BUY").weight == 1
    assert of(line, True, b"symbol=BTCUSDT&computeCommissionRates=true").weight == 20
    assert of(line, True, b"\xff\x00=").weight == 1


def test_a_body_that_is_not_passed_counts_as_the_dearest() -> None:
    assert of("POST /api/v3/order/test", True).weight == 20


def test_a_margin_order_in_a_body_counts_as_a_plain_one_unless_the_body_tells_otherwise() -> None:
    line = "POST /sapi/v1/margin/order"
    assert of(line, True).weight == 6
    assert of(line, True, b"side=BUY&sideEffectType=AUTO_BORROW_REPAY").weight == 1500


def test_the_body_of_a_get_says_nothing() -> None:
    assert of("GET /api/v3/openOrders", True, b"symbol=BTCUSDT").weight == 80
    assert of("GET /api/v3/openOrders?symbol=BTCUSDT", True).weight == 6


@pytest.mark.parametrize(
    ("line", "weight", "pool"),
    [
        ("GET /api/v3/somethingNew", 20, "spot"),
        ("POST /api/v3/somethingNew", 1, "spot"),
        ("GET /fapi/v9/somethingNew", 1, "futures"),
        ("GET /dapi/v1/somethingNew", 1, "futures"),
        ("GET /eapi/v1/somethingNew", 1, "options"),
        ("POST /papi/v1/somethingNew", 1, "pm"),
        ("GET /sapi/v1/somethingNew", 1, UNKNOWN_SAPI_POOL),
    ],
)
def test_unknown_paths_have_a_default(line: str, weight: int, pool: str) -> None:
    found = of(line)
    assert (found.weight, found.pool) == (weight, pool)


def test_unknown_sapi_paths_cannot_multiply_pools() -> None:
    assert len({charge(SPOT, "GET", f"/sapi/v1/made/up/{n}", "").pool for n in range(100)}) == 1


@pytest.mark.parametrize(
    "path", ["/api/v3/depth/", "/api/v3//depth", "/api/v3/%64epth", "//api/v3/depth", "/api%2Fv3/depth"]
)
def test_other_spellings_of_a_path_cost_the_same(path: str) -> None:
    assert charge(SPOT, "GET", path, "limit=5000") == charge(SPOT, "GET", "/api/v3/depth", "limit=5000")


@given(
    st.sampled_from(list(Market)),
    st.sampled_from(sorted(METHODS)),
    st.sampled_from([path for _, path, *_ in LINES]) | st.text(st.characters(max_codepoint=255), max_size=40),
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.booleans(),
    st.binary(max_size=20),
)
def test_any_call_gets_a_charge(
    market: Market, method: str, path: str, query: str, has_body: bool, body: bytes
) -> None:
    found = charge(market, method, path, query, has_body, body)
    assert found.weight >= 0
    assert found.pool in POOL_OF.values() or found.pool.startswith("sapi")


# --- the market cache's helpers -------------------------------------------------------------------


def test_the_market_cache_reads_the_same_table() -> None:
    assert [kline_weight(SPOT, 1000), kline_weight(UM, 499), kline_weight(CM, 1500)] == [2, 2, 10]
    assert [book_ticker_weight(m, is_all=False) for m in (SPOT, UM, CM)] == [2, 2, 2]
    assert [book_ticker_weight(m, is_all=True) for m in (SPOT, UM, CM)] == [4, 5, 5]
    assert [exchange_info_weight(m) for m in (SPOT, UM, CM)] == [20, 1, 1]


def test_a_charge_is_looked_up_in_microseconds() -> None:
    # The figure is about 0.3 µs; the bound only catches something of another order.
    calls = [
        (SPOT, "GET", "/api/v3/depth", "symbol=BTCUSDT&limit=1000"),
        (UM, "POST", "/fapi/v1/order", "symbol=BTCUSDT&side=BUY"),
        (UM, "GET", "/fapi/v1/openOrders", "symbol=BTCUSDT&timestamp=1700000000000&signature=00"),
    ]
    best = 1.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(1000):
            for call in calls:
                charge(*call)
        best = min(best, (time.perf_counter() - begin) / 3000)
    assert best < 20e-6


# --- rate limits of exchangeInfo ------------------------------------------------------------------


def test_rate_limits_are_read() -> None:
    info = {
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
            {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200000},
        ]
    }
    assert read_rate_limits(info) == [
        RateLimit("REQUEST_WEIGHT", 60_000, 2400),
        RateLimit("ORDERS", 10_000, 300),
        RateLimit("RAW_REQUESTS", 300_000, 61_000),
        RateLimit("ORDERS", 86_400_000, 200_000),
    ]


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"rateLimits": None},
        {"rateLimits": {"a": 1}},
        {"rateLimits": [None, 5, "x", {}]},
        {"rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "EON", "limit": 5}]},
        {"rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "limit": "5"}]},
        {"rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "limit": 0}]},
        {"rateLimits": [{"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": -1, "limit": 5}]},
        {"rateLimits": [{"rateLimitType": 5, "interval": "DAY", "intervalNum": 1, "limit": 5}]},
        [],
        None,
        "text",
    ],
)
def test_rate_limits_that_are_not_understood_are_left_out(info: Any) -> None:
    assert read_rate_limits(info) == []
