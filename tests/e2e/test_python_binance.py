"""python-binance 1.0.37, drop-in: its addresses changed and nothing else."""

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

ORDER_PATHS = {"spot": "/api/v3/order", "um": "/fapi/v1/order", "cm": "/dapi/v1/order"}
SYMBOLS = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
EVERY_MARKET = pytest.mark.parametrize("market", ["spot", "um", "cm"])
BANNED = '{"code":-1003,"msg":"Way too much request weight used; IP banned until 1795335999000."}'


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    return start_for_module(UPSTREAM_PAPI="https://127.0.0.1:9")


@pytest.fixture(scope="module")
def results(gateway: GatewayProcess, exchange: SandboxThread) -> dict[str, Any]:
    exchange.sandbox.faults.add(
        Fault("status", match="/api/v3/avgPrice", status=418, body=BANNED, headers={"retry-after": "120"})
    )
    return run_client("python_binance", gateway.url)


def test_construction_pings_through_the_gateway(results: dict[str, Any], exchange: SandboxThread) -> None:
    first = exchange.client_calls()[0]
    assert (first.host, first.method, first.target) == ("api", "GET", "/api/v3/ping")
    assert results["time"]["serverTime"] > 0


@EVERY_MARKET
def test_market_data_is_that_of_the_market(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    found, symbol = results[market], SYMBOLS[market]
    assert_klines(found["klines"], exchange, Market(market), symbol)
    ticker = found["bookTicker"][0] if market == "cm" else found["bookTicker"]
    assert ticker["symbol"] == symbol
    assert float(ticker["bidPrice"]) < float(ticker["askPrice"])
    truth = exchange.ask(lambda sandbox: [spec.symbol for spec in sandbox.market(Market(market)).symbols])
    assert found["info"] == truth


@EVERY_MARKET
def test_order_is_placed_seen_and_cancelled_once(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    found, order = results[market], results[market]["order"]
    assert (order["symbol"], order["status"]) == (SYMBOLS[market], "NEW")
    assert float(order["price"]) == 50000.1
    assert [row["orderId"] for row in found["open"]] == [order["orderId"]]
    assert found["get"]["clientOrderId"] == order["clientOrderId"]
    assert (found["cancel"]["orderId"], found["cancel"]["status"]) == (order["orderId"], "CANCELED")
    assert found["open after"] == []
    assert_one_order(exchange, ORDER_PATHS[market], SYMBOLS[market], order["orderId"])
    assert len(exchange.calls(ORDER_PATHS[market], "POST")) == 1


@EVERY_MARKET
def test_account_is_the_one_of_the_market(results: dict[str, Any], market: str) -> None:
    rows = results[market]["account"]["balances" if market == "spot" else "assets"]
    assert rows[0]["asset"] == ("USDT" if market == "um" else "BTC")


@EVERY_MARKET
def test_used_weight_can_be_read_from_the_answers(results: dict[str, Any], market: str) -> None:
    found = results[market]
    assert int(found["klines headers"]["x-mbx-used-weight-1m"]) > 0
    placed = found["order headers"]
    assert placed["x-mbx-order-count-10s"].isdigit()
    assert placed["x-mbx-order-count-1d" if market == "spot" else "x-mbx-order-count-1m"].isdigit()
    assert placed["x-mbx-used-weight-1m"].isdigit()


@EVERY_MARKET
def test_error_of_binance_becomes_the_exception_of_the_library(
    results: dict[str, Any], exchange: SandboxThread, market: str
) -> None:
    nothing_else = {"status": 400, "retry after": None, "by gateway": None}
    symbol, order = results[market]["unknown symbol"], results[market]["unknown order"]
    assert symbol == {"code": -1121, "message": "Invalid symbol.", **nothing_else}
    assert order == {"code": -2011, "message": "Unknown order sent.", **nothing_else}
    # One for the order, one for the order that never was: none was repeated.
    assert len(exchange.calls(ORDER_PATHS[market], "DELETE")) == 2


def test_wrong_signature_is_refused_by_the_exchange(results: dict[str, Any]) -> None:
    assert (results["wrong secret"]["status"], results["wrong secret"]["code"]) == (400, -1022)


def test_ban_arrives_with_its_retry_after(results: dict[str, Any]) -> None:
    banned = results["banned"]
    assert (banned["status"], banned["code"], banned["retry after"]) == (418, -1003, "120")
    assert "banned until 1795335999000" in banned["message"]
    assert banned["by gateway"] is None


def test_error_of_the_gateway_becomes_the_exception_of_the_library(results: dict[str, Any]) -> None:
    answer = results["unreachable"]
    assert (answer["status"], answer["code"], answer["by gateway"]) == (502, -2, "unreachable")


def test_other_paths_reach_their_hosts(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert results["sapi"] == {"status": 0, "msg": "normal"}
    assert [one.host for one in exchange.calls("/sapi/v1/system/status")] == ["api"]
    assert [len(rows) for rows in results["klines kinds"].values()] == [3, 3]
    assert results["data"]["um"][0]["symbol"] == "BTCUSDT"
    assert results["data"]["cm"][0]["pair"] == "BTCUSD"
    assert [one.host for one in exchange.calls("/futures/data/openInterestHist")] == ["fapi", "dapi"]


def test_symbol_outside_ascii_is_served(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert [len(row) for row in results["non-ascii"]] == [12, 12]
    queries = [one.query for one in exchange.calls("/fapi/v1/klines")]
    assert any("symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT" in query for query in queries)


def test_listen_key_lives_through_the_gateway(results: dict[str, Any], exchange: SandboxThread) -> None:
    assert len(results["listen key"]) == 64
    assert results["listen key kept"] == {"listenKey": results["listen key"]}
    assert results["listen key closed"] == {}
    assert [one.method for one in exchange.calls("/fapi/v1/listenKey")] == ["POST", "PUT", "DELETE"]


def test_calls_arrive_as_the_library_sent_them(results: dict[str, Any], exchange: SandboxThread) -> None:
    calls = exchange.client_calls()
    assert_faithful(calls, exchange)
    for one in calls:
        assert (one.header("user-agent") or "").startswith("Mozilla/5.0")
        form = "application/x-www-form-urlencoded"
        assert one.header("content-type") == (form if one.method != "GET" else "application/json")
    # It signs what it puts into the body of POST and DELETE.
    changing = [one for one in calls if one.method in ("POST", "DELETE") and is_signed(one)]
    assert len(changing) == 9
    assert all(one.query == "" and b"&signature=" in one.body for one in changing)
