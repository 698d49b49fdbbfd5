"""binance-interface 2.0.5, in the prefix form it was made for, through the real program."""

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
    assert_klines,
    assert_one_order,
    is_signed,
    placed,
    run_client,
)

pytestmark = pytest.mark.e2e

ORDER_PATHS = {"spot": "/api/v3/order", "um": "/fapi/v1/order", "cm": "/dapi/v1/order"}
SYMBOLS = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
EVERY_MARKET = pytest.mark.parametrize("market", ["spot", "um", "cm"])


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    # Nobody listens where portfolio margin is said to be.
    return start_for_module(UPSTREAM_PAPI="https://127.0.0.1:9")


@pytest.fixture(scope="module")
def results(gateway: GatewayProcess, exchange: SandboxThread) -> dict[str, Any]:
    faults = exchange.sandbox.faults
    faults.add(Fault("reset_before", match="/api/v3/order", method="POST", after=True))
    faults.add(Fault("close_before", match="/fapi/v1/order", method="DELETE"))
    return run_client("binance_interface", gateway.url)


def data(result: dict[str, Any]) -> Any:
    assert result["code"] == 200, result
    return result["data"]


def test_call_of_the_readme_gets_the_book_ticker(results: dict[str, Any]) -> None:
    ticker = data(results["readme"])
    assert ticker["symbol"] == "BTCUSDT"
    assert list(ticker) == ["symbol", "bidPrice", "bidQty", "askPrice", "askQty"]
    assert all(isinstance(value, str) for value in ticker.values())


def test_proxy_host_with_a_trailing_slash_works(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert data(results["slash"])["symbol"] == "BTCUSDT"
    assert data(results["slash signed"])[0]["asset"] == "USDT"
    assert all(not one.path.startswith("//") for one in exchange.client_calls())


@EVERY_MARKET
def test_klines_are_those_of_the_market(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    assert_klines(data(results[market]["klines"]), exchange, Market(market), SYMBOLS[market])


@EVERY_MARKET
def test_book_ticker_has_the_shape_of_the_market(results: dict[str, Any], market: str) -> None:
    ticker = data(results[market]["bookTicker"])
    if market == "cm":  # an array there, even for one symbol
        (ticker,) = ticker
    assert ticker["symbol"] == SYMBOLS[market]
    assert float(ticker["bidPrice"]) < float(ticker["askPrice"])


@EVERY_MARKET
def test_order_is_placed_seen_and_cancelled_once(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    found = results[market]
    order = data(found["order"])
    assert (order["symbol"], order["status"]) == (SYMBOLS[market], "NEW")
    assert [row["orderId"] for row in data(found["open"])] == [order["orderId"]]
    cancelled = data(found["cancel"])
    assert (cancelled["orderId"], cancelled["status"]) == (order["orderId"], "CANCELED")
    assert data(found["open after"]) == []
    assert_one_order(exchange, ORDER_PATHS[market], SYMBOLS[market], order["orderId"])


@EVERY_MARKET
def test_account_is_the_one_of_the_market(results: dict[str, Any], market: str) -> None:
    account = data(results[market]["account"])
    rows = account["balances" if market == "spot" else "assets"]
    assert rows[0]["asset"] == ("USDT" if market == "um" else "BTC")


@EVERY_MARKET
def test_error_of_binance_arrives_as_it_is(results: dict[str, Any], market: str) -> None:
    assert results[market]["unknown symbol"] == {"code": -1121, "msg": "Invalid symbol."}
    assert results[market]["unknown order"] == {"code": -2011, "msg": "Unknown order sent."}


def test_lost_order_is_reported_and_not_sent_again(results: dict[str, Any], exchange: SandboxThread) -> None:
    # This library repeats a call up to 50 times on some codes, orders included.
    lost = results["lost order"]
    assert lost["code"] == -6
    assert "may have been executed" in lost["msg"]
    assert [symbol for symbol, _ in placed(exchange, "api")].count("ETHUSDT") == 1
    assert sum("symbol=ETHUSDT" in one.query for one in exchange.calls("/api/v3/order", "POST")) == 1


def test_lost_cancel_is_reported_and_not_sent_again(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert results["lost cancel"]["code"] == -6
    assert sum("symbol=ETHUSDT" in one.query for one in exchange.calls("/fapi/v1/order", "DELETE")) == 1


def test_unreachable_upstream_is_reported_at_the_first_call(
    results: dict[str, Any], gateway: GatewayProcess
) -> None:
    assert results["unreachable"]["code"] == -2
    metrics = gateway.call("GET", "/metrics").body.decode()
    assert 'resender_answers_total{name="unreachable"} 1.0' in metrics.splitlines()


def test_query_arrives_byte_for_byte(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert [row["symbol"] for row in data(results["list"])] == ["BTCUSDT", "ETHUSDT"]
    queries = [one.query for one in exchange.calls("/api/v3/ticker/bookTicker")]
    assert "symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D" in queries
    # The library signs '@' unescaped: -2011 is the book's word, -1022 would be the signature's.
    assert results["at"] == {"code": -2011, "msg": "Unknown order sent."}
    assert any("origClientOrderId=a@b&" in one.query for one in exchange.calls("/fapi/v1/order", "DELETE"))


def test_wrong_signature_is_refused_by_the_exchange(results: dict[str, Any]) -> None:
    assert results["wrong secret"]["code"] == -1022


def test_every_prefix_reaches_its_own_host(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert data(results["sapi"]) == {"status": 0, "msg": "normal"}
    assert data(results["data"]["um"])[0]["symbol"] == "BTCUSDT"
    assert data(results["data"]["cm"])[0]["pair"] == "BTCUSD"
    assert data(results["options"])["serverTime"] > 0
    assert [one.host for one in exchange.calls("/sapi/v1/system/status")] == ["api"]
    assert [one.host for one in exchange.calls("/futures/data/openInterestHist")] == ["fapi", "dapi"]
    assert [one.host for one in exchange.calls("/eapi/v1/time")] == ["eapi"]
    assert exchange.calls(host="papi") == []


def test_calls_arrive_as_the_library_sent_them(results: dict[str, Any], exchange: SandboxThread) -> None:
    calls = exchange.client_calls()
    assert_faithful(calls, exchange)
    for one in calls:
        assert one.header("user-agent") == "binance-api"
        assert one.header("content-type") == "application/json;charset=utf-8"
        assert one.body == b""
        # It always sends this header, empty where it has no key.
        assert one.header("x-mbx-apikey") is not None
    assert calls[0].header("x-mbx-apikey") == ""
    assert sum(map(is_signed, calls)) > 15
