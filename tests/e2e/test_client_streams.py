"""Streams with the real libraries, unmodified, all at once through one gateway, each with an account of its own.

What a script does with its library, and with which addresses, is in `clients/<library>_streams.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import SandboxConfig
from tests.support.processes import GatewayProcess, SandboxThread, Start, assert_no_secrets, run_client

pytestmark = pytest.mark.e2e

LIBRARIES = (
    "python_binance", "ccxt", "binance_connector", "binance_futures_connector", "binance_sdk", "unicorn_binance",
)  # fmt: skip
ACCOUNTS = {name: (f"Key0{name}".ljust(64, "0"), f"Secret0{name}".ljust(64, "0")) for name in LIBRARIES}
HOSTS = {"spot": "api", "um": "fapi", "cm": "dapi"}
SYMBOLS = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
EVERY_MARKET = pytest.mark.parametrize("market", ["spot", "um", "cm"])
Results = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def exchange() -> Iterator[SandboxThread]:
    with SandboxThread(SandboxConfig(accounts=dict(ACCOUNTS.values()))) as thread:
        yield thread


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    return start_for_module()


@pytest.fixture(scope="module")
def results(gateway: GatewayProcess) -> Results:
    """Start all libraries; the function returned waits for one and raises what went wrong with it."""
    with ThreadPoolExecutor(len(LIBRARIES)) as pool:
        running: dict[str, Future[dict[str, Any]]] = {
            name: pool.submit(run_client, name, gateway.url, "streams", ACCOUNTS[name]) for name in LIBRARIES
        }
    return lambda name: running[name].result()


def assert_kline(
    event: dict[str, Any], exchange: SandboxThread, market: str, symbol: str = "", *, units: int = 1
) -> None:
    """Assert an event of the one-minute candle of a symbol that the exchange has like this.

    Units: so many `units` of its times are a millisecond.
    """
    symbol = symbol or SYMBOLS[market]
    kline = event["k"]
    assert (event["s"], kline["s"], kline["i"]) == (symbol, symbol, "1m")
    open_ms, rest = divmod(kline["t"], units)
    assert not rest
    assert kline["o"] == open_price(exchange, market, symbol, open_ms)


def open_price(exchange: SandboxThread, market: str, symbol: str, open_time: int) -> Any:
    rows = exchange.ask(lambda sandbox: sandbox.market(Market(market)).kline_rows(symbol, "1m", limit=10))
    return {row[0]: row[1] for row in rows}[open_time]


def placed(exchange: SandboxThread, library: str, market: str) -> list[tuple[str, int | None]]:
    """List the orders of a library that reached the exchange, as symbol and order id."""
    orders = exchange.ask(lambda sandbox: list(sandbox.orders))
    key, host = ACCOUNTS[library][0], HOSTS[market]
    return [(o.params["symbol"], o.order_id) for o in orders if (o.api_key, o.host) == (key, host)]


def is_book(bids: list[Any], asks: list[Any]) -> bool:
    return bool(bids and asks) and float(bids[0][0]) < float(asks[0][0])


# --- python-binance ----------------------------------------------------------------------------


def test_python_binance_hears_the_streams_of_all_markets(results: Results, exchange: SandboxThread) -> None:
    found = results("python_binance")["market"]
    assert_kline(found["kline"], exchange, "spot")
    assert (found["trade"]["e"], found["trade"]["s"]) == ("trade", "BTCUSDT")
    assert (found["depth"]["e"], found["depth"]["s"]) == ("depthUpdate", "BTCUSDT")
    assert [len(found["depth5"][side]) for side in ("bids", "asks")] == [5, 5]
    for name, pair in (("um kline", "BTCUSDT"), ("cm kline", "BTCUSD")):
        assert (found[name]["e"], found[name]["ps"]) == ("continuous_kline", pair)
    for name, stream, kind in (
        ("um aggTrade", "btcusdt@aggTrade", "aggTrade"),
        ("um depth", "btcusdt@depth10", "depthUpdate"),
        ("um mark price", "btcusdt@markPrice@1s", "markPriceUpdate"),
        ("cm bookTicker", "btcusd_perp@bookTicker", "bookTicker"),
    ):
        assert (found[name]["stream"], found[name]["data"]["e"]) == (stream, kind)


@pytest.mark.parametrize(("name", "market"), [("multiplex", "spot"), ("um multiplex", "um")])
def test_python_binance_hears_several_streams_on_one_socket(
    results: Results, exchange: SandboxThread, name: str, market: str
) -> None:
    found = results("python_binance")["market"][name]
    assert found["btcusdt@bookTicker"]["s"] == "BTCUSDT"
    assert_kline(found["ethusdt@kline_1m"], exchange, market, "ETHUSDT")


@pytest.mark.parametrize("market", ["um", "cm"])
def test_python_binance_hears_of_orders_by_listen_key(
    results: Results, exchange: SandboxThread, market: str
) -> None:
    found = results("python_binance")["user data"][market]
    (event,) = found["events"]
    order = found["order"]
    assert event["e"] == "ORDER_TRADE_UPDATE"
    assert (event["o"]["s"], event["o"]["i"], event["o"]["X"]) == (SYMBOLS[market], order["orderId"], "NEW")
    assert placed(exchange, "python_binance", market).count((SYMBOLS[market], order["orderId"])) == 1


def test_python_binance_trades_and_hears_of_it_over_the_websocket_api(
    results: Results, exchange: SandboxThread
) -> None:
    found = results("python_binance")
    user, api = found["user data"]["spot"], found["ws api"]
    number = user["order"]["orderId"]
    assert [(e["e"], e["i"], e["X"]) for e in user["events"]] == [
        ("executionReport", number, "NEW"),
        ("executionReport", number, "CANCELED"),
    ]
    assert user["cancel"]["status"] == "CANCELED"
    assert placed(exchange, "python_binance", "spot") == [("BTCUSDT", number)]
    assert is_book(api["depth"]["bids"], api["depth"]["asks"])
    assert {row["asset"] for row in api["account"]["balances"]} >= {"BTC", "USDT"}
    assert api["error"] == {"status": 400, "code": -2011}
    assert ("ETHUSDT", api["um order"]["orderId"]) in placed(exchange, "python_binance", "um")


def test_python_binance_keeps_order_books(results: Results) -> None:
    for market, book in results("python_binance")["books"].items():
        assert book["bid"][0] < book["ask"][0], market


def test_python_binance_listens_in_a_thread_and_stops(results: Results, exchange: SandboxThread) -> None:
    found = results("python_binance")["threaded"]
    assert_kline(found["events"][0], exchange, "spot")
    assert found["is alive"] is False


# --- ccxt.pro ----------------------------------------------------------------------------------

UNIFIED = {
    "spot": ("BTC/USDT", "ETH/USDT"),
    "um": ("BTC/USDT:USDT", "ETH/USDT:USDT"),
    "cm": ("BTC/USD:BTC", "ETH/USD:ETH"),
}


@EVERY_MARKET
def test_ccxt_watches_a_market(results: Results, exchange: SandboxThread, market: str) -> None:
    found, (symbol, other) = results("ccxt")[market], UNIFIED[market]
    open_time, opened = found["ohlcv"][-1][:2]
    assert opened == float(open_price(exchange, market, SYMBOLS[market], open_time))
    for name, ticker in found["bids asks"].items():
        assert name in (symbol, other)
        assert ticker["bid"] < ticker["ask"]
    assert {(row["symbol"], row["price"] > 0) for row in found["trades"]} == {(symbol, True)}
    assert found["ticker"]["symbol"] == symbol
    assert found["ticker"]["last"] > 0


@EVERY_MARKET
def test_ccxt_keeps_an_order_book(results: Results, market: str) -> None:
    books = results("ccxt")[market]["books"]
    assert {book["symbol"] for book in books} == {UNIFIED[market][0]}
    nonces = [book["nonce"] for book in books]
    assert nonces == sorted(nonces)
    assert nonces[0] < nonces[-1]
    assert all(book["bid"] < book["ask"] for book in books)


@EVERY_MARKET
def test_ccxt_watches_its_orders(results: Results, exchange: SandboxThread, market: str) -> None:
    found = results("ccxt")[market]
    number = found["orders"]["order"]["id"]
    assert found["orders"]["seen"] == [[number, "open"], [number, "canceled"]]
    by_ws_api = found["by ws api"]
    assert by_ws_api["seen"]["id"] == by_ws_api["order"]["id"]
    assert by_ws_api["cancel"]["status"] == "canceled"
    wanted = [(SYMBOLS[market], int(number)), (SYMBOLS[market], int(by_ws_api["order"]["id"]))]
    assert placed(exchange, "ccxt", market) == wanted


def test_ccxt_takes_the_paths_it_takes_at_binance(results: Results) -> None:
    paths = {
        name: {url.split("/", 3)[3] for url in found["sockets"]} for name, found in results("ccxt").items()
    }
    assert {path.rpartition("/")[0] for path in paths["spot"]} == {"stream.binance.com/ws", "ws-api"}
    classes = {path.split("/")[1] for path in paths["um"] if path.startswith("fstream")}
    assert classes == {"public", "market", "private"}
    assert all(path.startswith(("dstream.binance.com/ws/", "ws-dapi/v1")) for path in paths["cm"])


# --- Binance's older connectors ----------------------------------------------------------------


def test_binance_connector_hears_streams(results: Results, exchange: SandboxThread) -> None:
    found = results("binance_connector")
    assert found["ack"] == {"result": None, "id": 11}
    assert found["list"] == {"result": ["btcusdt@kline_1m", "ethusdt@bookTicker"], "id": 12}
    assert found["unsubscribed"] == {"result": None, "id": 13}
    assert_kline(found["kline"], exchange, "spot")
    assert found["bookTicker"]["s"] == "ETHUSDT"
    assert found["trade"]["data"]["s"] == found["depth"]["data"]["s"] == "BTCUSDT"
    assert_kline(found["microseconds"], exchange, "spot", units=1000)
    assert found["pong"] == {"pong": True}
    assert found["alive"] is False


def test_binance_connector_trades_over_the_websocket_api(results: Results, exchange: SandboxThread) -> None:
    found = results("binance_connector")
    assert found["ping"]["status"] == 200
    assert len(found["order book"]["result"]["bids"]) == 5
    order = found["order"]["result"]
    assert placed(exchange, "binance_connector", "spot") == [("BTCUSDT", order["orderId"])]
    assert (found["cancel"]["result"]["orderId"], found["cancel"]["status"]) == (order["orderId"], 200)
    assert (found["error"]["status"], found["error"]["error"]["code"]) == (400, -2011)


def test_binance_futures_connector_hears_all_classes_on_the_path_binance_has_silenced(
    results: Results, exchange: SandboxThread
) -> None:
    found = results("binance_futures_connector")
    assert found["ack"] == {"result": None, "id": 11}
    names = ["btcusdt@kline_1m", "ethusdt@bookTicker", "btcusdt@markPrice@1s", "btcusdt@aggTrade"]
    assert found["list"] == {"result": names, "id": 12}
    assert_kline(found["kline"], exchange, "um")
    assert found["bookTicker"]["s"] == "ETHUSDT"
    assert found["markPriceUpdate"]["s"] == found["aggTrade"]["s"] == "BTCUSDT"
    for name in ("btcusdt@depth@100ms", "btcusdt@kline_1m"):
        assert found[name]["data"]["s"] == "BTCUSDT"
    assert_kline(found["cm kline"], exchange, "cm")


def test_binance_futures_connector_hears_of_an_order_on_the_same_socket(
    results: Results, exchange: SandboxThread
) -> None:
    found = results("binance_futures_connector")
    assert found["user data ack"] == {"result": None, "id": 13}
    number = found["order"]["orderId"]
    assert (found["order event"]["o"]["i"], found["order event"]["o"]["s"]) == (number, "BTCUSDT")
    assert placed(exchange, "binance_futures_connector", "um") == [("BTCUSDT", number)]


# --- Binance's SDKs ----------------------------------------------------------------------------


def test_binance_sdk_of_spot_hears_streams(results: Results, exchange: SandboxThread) -> None:
    found = results("binance_sdk")["spot"]
    assert_kline(found["kline"], exchange, "spot")
    for name in ("book ticker", "depth", "trade"):
        assert found[name]["s"] == "BTCUSDT", name
    names = ["btcusdt@kline_1m", "btcusdt@bookTicker", "btcusdt@depth@100ms", "btcusdt@trade"]
    assert found["list"] == names
    assert found["list after"] == names[:3]


def test_binance_sdk_of_spot_trades_and_hears_of_it_over_the_websocket_api(
    results: Results, exchange: SandboxThread
) -> None:
    found = results("binance_sdk")["spot api"]
    assert found["ping"]["status"] == 200
    number = found["order"]["orderId"]
    assert (found["event"]["i"], found["event"]["s"], found["event"]["X"]) == (number, "BTCUSDT", "NEW")
    assert placed(exchange, "binance_sdk", "spot") == [("BTCUSDT", number)]
    assert "REQUEST_WEIGHT" in found["used weight"][0]


def test_binance_sdk_of_usd_m_hears_its_three_sockets(results: Results, exchange: SandboxThread) -> None:
    found = results("binance_sdk")["um"]
    assert found["paths"] == ["market", "public", "private"]
    assert_kline(found["kline"], exchange, "um")
    for name in ("aggTrade", "book ticker", "depth"):
        assert found[name]["s"] == "BTCUSDT", name
    assert found["private"] == ["the listenKey"]
    number = found["order"]["orderId"]
    assert (found["event"]["o"]["i"], found["event"]["o"]["s"]) == (number, "BTCUSDT")
    assert placed(exchange, "binance_sdk", "um") == [("BTCUSDT", number)]


# --- unicorn-binance-websocket-api -------------------------------------------------------------


@EVERY_MARKET
def test_unicorn_binance_hears_streams(results: Results, exchange: SandboxThread, market: str) -> None:
    found = results("unicorn_binance")[market]
    symbol, other = ("btcusd_perp", "ethusd_perp") if market == "cm" else ("btcusdt", "ethusdt")
    assert_kline(found[f"{symbol}@kline_1m"]["data"], exchange, market)
    assert found[f"{symbol}@aggTrade"]["data"]["s"] == symbol.upper()
    assert found[f"{other}@bookTicker"]["data"]["s"] == other.upper()
    book = found["later"]["data"]
    assert is_book(book.get("bids") or book["b"], book.get("asks") or book["a"])


@pytest.mark.parametrize("market", ["spot", "um"])
def test_unicorn_binance_trades_by_websocket_and_hears_of_it(
    results: Results, exchange: SandboxThread, market: str
) -> None:
    found = results("unicorn_binance")[f"{market} account"]
    client_id, answer = found["order"]
    number = answer["result"]["orderId"]
    event = found["event"]["event"] if market == "spot" else found["event"]["o"]
    assert (event["i"], event["c"], event["s"]) == (number, client_id, "BTCUSDT")
    assert placed(exchange, "unicorn_binance", market) == [("BTCUSDT", number)]


def test_no_account_was_written_down(results: Results, gateway: GatewayProcess) -> None:
    results("ccxt")
    assert_no_secrets(gateway.folder, [word for account in ACCOUNTS.values() for word in account])
