"""ccxt 4.5.90 as the README says: each of Binance's host names becomes the prefix of its market."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Fault
from tests.support.processes import (
    GatewayProcess,
    SandboxThread,
    Start,
    assert_faithful,
    assert_one_order,
    is_signed,
    run_client,
)

pytestmark = pytest.mark.e2e

ORDER_PATHS = {"spot": "/api/v3/order", "um": "/fapi/v1/order", "cm": "/dapi/v1/order"}
IDS = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
SYMBOLS = {"spot": "BTC/USDT", "um": "BTC/USDT:USDT", "cm": "BTC/USD:BTC"}
EVERY_MARKET = pytest.mark.parametrize("market", ["spot", "um", "cm"])
BANNED = '{"code":-1003,"msg":"Way too much request weight used; IP banned until 1795335999000."}'
NO_MARGIN = '{"code":-2019,"msg":"Margin is insufficient."}'
TOO_FAST = '{"code":-1003,"msg":"Too many requests; current limit of IP(203.0.113.1) is 2400 requests."}'


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    return start_for_module()


@pytest.fixture(scope="module")
def results(gateway: GatewayProcess, exchange: SandboxThread) -> dict[str, Any]:
    # These strike calls the script makes at its end and nowhere else.
    later = {"retry-after": "7"}
    for fault in (
        Fault("status", match="/fapi/v1/order", method="PUT", status=400, body=NO_MARGIN),
        Fault("status", match="/api/v3/depth", status=418, body=BANNED, headers=later),
        Fault("status", match="/fapi/v1/depth", status=429, body=TOO_FAST, headers=later),
    ):
        exchange.sandbox.faults.add(fault)
    return run_client("ccxt", gateway.url)


@EVERY_MARKET
def test_markets_are_loaded(results: dict[str, Any], exchange: SandboxThread, market: str) -> None:
    found = results[market]
    assert SYMBOLS[market] in found["markets"]
    assert {"BTC", "ETH"} <= set(found["currencies"])
    truth = exchange.ask(lambda sandbox: len(sandbox.market(Market(market)).symbols))
    kinds = {"spot": lambda s: ":" not in s, "um": lambda s: ":USD" in s, "cm": lambda s: "/USD:" in s}
    assert len([symbol for symbol in found["markets"] if kinds[market](symbol)]) == truth


@EVERY_MARKET
def test_prices_are_those_of_the_market(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    rows = results[market]["ohlcv"]
    truth = exchange.ask(
        lambda sandbox: sandbox.market(Market(market)).kline_rows(IDS[market], "1m", limit=10)
    )
    known = {row[0]: [row[0], *map(float, row[1:6])] for row in truth}
    # The volume of COIN-M is in contracts for Binance and in coins for ccxt, so it is left out.
    assert [known[row[0]][:5] for row in rows[:2]] == [row[:5] for row in rows[:2]]
    assert len(rows) == 3
    best = results[market]["bids asks"]
    assert best["symbol"] == SYMBOLS[market]
    assert 0 < best["bid"] < best["ask"]
    assert results[market]["ticker"]["last"] > 0


@EVERY_MARKET
def test_order_is_placed_seen_and_cancelled_once(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    found, order = results[market], results[market]["order"]
    assert (order["symbol"], order["status"], order["price"]) == (SYMBOLS[market], "open", 50000)
    assert [row["id"] for row in found["open"]] == [order["id"]]
    assert (found["cancel"]["id"], found["cancel"]["status"]) == (order["id"], "canceled")
    assert found["open after"] == []
    assert_one_order(exchange, ORDER_PATHS[market], IDS[market], int(order["id"]))
    buys = [one for one in exchange.calls(ORDER_PATHS[market], "POST") if b"side=BUY" in one.body]
    assert len(buys) == 1


@EVERY_MARKET
def test_balance_is_the_one_of_the_market(results: dict[str, Any], market: str) -> None:
    coin, amount = {"spot": ("BTC", 1), "um": ("USDT", 100_000), "cm": ("BTC", 2)}[market]
    assert results[market]["balance"][coin] == amount


@EVERY_MARKET
def test_error_of_binance_becomes_the_exception_of_the_library(results: dict[str, Any], market: str) -> None:
    assert results[market]["unknown order"]["classes"][0] == "OrderNotFound"
    assert "-2011" in results[market]["unknown order"]["text"]


def test_error_class_of_a_market_is_found_behind_the_gateway(
    results: dict[str, Any], exchange: SandboxThread
) -> None:
    assert results["no margin"]["classes"][0] == "InsufficientFunds"
    assert len(exchange.calls("/fapi/v1/order", "PUT")) == 1


def test_markets_are_loaded_with_the_defaults_of_the_library(results: dict[str, Any]) -> None:
    assert results["margin pairs"] is None


def test_ban_raises_the_error_that_makes_users_stop(results: dict[str, Any]) -> None:
    banned = results["banned"]
    assert "DDoSProtection" in banned["classes"]
    assert "418" in banned["text"]
    assert "banned until 1795335999000" in banned["text"]
    assert results["banned headers"]["retry-after"] == "7"


def test_too_many_calls_raise_the_error_that_makes_users_wait(results: dict[str, Any]) -> None:
    # It takes 429 for 418's sister; either class is a NetworkError, which users wait for.
    fast = results["too fast"]
    assert {"DDoSProtection", "RateLimitExceeded"} & set(fast["classes"])
    assert "NetworkError" in fast["classes"]
    assert "429" in fast["text"]
    assert results["too fast headers"]["retry-after"] == "7"


def test_data_path_reaches_the_host_of_its_prefix(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert len(results["history"]) == 2
    assert [one.host for one in exchange.calls("/futures/data/openInterestHist")] == ["fapi"]
    assert results["time"] > 0


def test_calls_arrive_as_the_library_sent_them(results: dict[str, Any], exchange: SandboxThread) -> None:
    calls = exchange.client_calls()
    assert_faithful(calls, exchange)
    assert {one.host for one in calls} == {"api", "fapi", "dapi"}
    assert {one.host for one in calls if one.path.startswith("/sapi/")} == {"api"}
    assert sum(map(is_signed, calls)) > 15
