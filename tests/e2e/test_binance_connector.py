"""binance-connector 3.13.0, Binance's own spot library: `Spot(base_url=URL)`."""

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
    run_client,
)

pytestmark = pytest.mark.e2e

ORDER = "/api/v3/order"
TOO_FAST = '{"code":-1003,"msg":"Too much request weight used; current limit is 6000."}'


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    return start_for_module()


@pytest.fixture(scope="module")
def results(gateway: GatewayProcess, exchange: SandboxThread) -> dict[str, Any]:
    headers = {"retry-after": "9", "x-mbx-used-weight-1m": "6001"}
    exchange.sandbox.faults.add(
        Fault("status", match="/api/v3/avgPrice", status=429, body=TOO_FAST, headers=headers)
    )
    return run_client("binance_connector", gateway.url)


def test_market_data_is_that_of_the_market(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert results["time"]["serverTime"] > 0
    assert results["ticker"]["symbol"] == "BTCUSDT"
    assert_klines(results["klines"], exchange, Market.SPOT, "BTCUSDT")


def test_list_of_symbols_arrives_byte_for_byte(results: dict[str, Any], exchange: SandboxThread) -> None:
    both = ["BTCUSDT", "ETHUSDT"]
    for name in ("list", "24hr list", "info list"):
        assert [row["symbol"] for row in results[name]] == both, name
    for path in ("ticker/bookTicker", "ticker/24hr", "exchangeInfo"):
        queries = [one.query for one in exchange.calls(f"/api/v3/{path}")]
        assert "symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D" in queries


def test_time_unit_reaches_the_exchange(results: dict[str, Any]) -> None:
    assert results["microseconds"]["serverTime"] > 1000 * results["time"]["serverTime"]


def test_base_url_with_a_trailing_slash_works(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert results["slash"] == {}
    assert [one.target for one in exchange.calls("/api/v3/ping")] == ["/api/v3/ping"]


def test_order_is_placed_seen_and_cancelled_once(results: dict[str, Any], exchange: SandboxThread) -> None:
    order = results["order"]
    assert (order["clientOrderId"], order["status"]) == ("e2e-connector-1", "NEW")
    assert [row["orderId"] for row in results["open"]] == [order["orderId"]]
    assert (results["cancel"]["orderId"], results["cancel"]["status"]) == (order["orderId"], "CANCELED")
    assert results["open after"] == []
    assert_one_order(exchange, ORDER, "BTCUSDT", order["orderId"])
    ids = [one for one in exchange.calls(ORDER, "POST") if "e2e-connector-1" in one.query]
    assert len(ids) == 1
    # Placed, at market, for the headers, and the one that was refused.
    assert len(exchange.calls(ORDER, "POST")) == 4
    assert len(exchange.calls(ORDER, "DELETE")) == 1


def test_market_order_is_filled(results: dict[str, Any]) -> None:
    assert results["market order"]["status"] == "FILLED"
    assert len(results["market order"]["fills"]) == 1


def test_account_and_wallet_are_served(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert [row["asset"] for row in results["account"]["balances"]] == ["BTC", "ETH", "BNB", "USDT"]
    assert "BTC" in [row["coin"] for row in results["sapi"]]
    assert [one.host for one in exchange.calls("/sapi/v1/capital/config/getall")] == ["api"]


def test_limit_usage_and_headers_can_be_read(results: dict[str, Any]) -> None:
    usage = results["usage"]["limit_usage"]
    assert {
        "x-mbx-used-weight",
        "x-mbx-used-weight-1m",
        "x-mbx-order-count-10s",
        "x-mbx-order-count-1d",
    } == set(usage)
    names = {name.lower() for name in results["usage"]["header"]}
    assert {"content-type", "date"} <= names
    assert not {"set-cookie", "strict-transport-security"} & names


@pytest.mark.parametrize(
    ("name", "code"),
    [("unknown symbol", -1121), ("duplicate", -1151), ("refused order", -1013), ("wrong secret", -1022)],
)
def test_client_error_carries_status_code_and_headers(results: dict[str, Any], name: str, code: int) -> None:
    error = results[name]
    assert (error["status"], error["code"], error["data"]) == (400, code, None)
    assert error["message"]
    assert int(error["headers"]["x-mbx-used-weight-1m"]) > 0
    assert "x-resender-error" not in error["headers"]


def test_rate_limit_carries_retry_after(results: dict[str, Any]) -> None:
    error = results["limit"]
    assert (error["status"], error["code"]) == (429, -1003)
    assert (error["headers"]["retry-after"], error["headers"]["x-mbx-used-weight-1m"]) == ("9", "6001")


def test_answer_of_the_gateway_is_a_client_error_too(results: dict[str, Any]) -> None:
    error = results["no route"]
    assert (error["status"], error["code"], error["data"]) == (404, -3, {})
    assert error["headers"]["x-resender-error"] == "not_found"


def test_calls_arrive_as_the_library_sent_them(results: dict[str, Any], exchange: SandboxThread) -> None:
    calls = exchange.client_calls()
    assert_faithful(calls, exchange)
    assert {one.host for one in calls} == {"api"}
    for one in calls:
        assert one.header("user-agent") == "binance-connector-python/3.13.0"
        assert one.body == b""
    assert sum(map(is_signed, calls)) >= 10
