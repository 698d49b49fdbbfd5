"""Clients' signed calls: which may be answered, and what calls that change something do."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.account.calls import (
    ANSWERED,
    READS,
    Change,
    SignedRead,
    What,
    change_of,
    read_params,
    read_signed,
    signed_payload,
)
from resender.core.binance.markets import Market

AT_MS = 1_796_000_000_000
HEX = "0123456789abcdefABCDEF0123456789" * 2
ED25519 = "A" * 86 + "=="
RSA = "Ab+/" * 86
SIGNED = f"timestamp={AT_MS}&signature={HEX}"
SPOT_OPEN, UM_OPEN = "/api/v3/openOrders", "/fapi/v1/openOrders"


def read(query: str, path: str = SPOT_OPEN, market: Market = Market.SPOT) -> SignedRead:
    found = read_signed(market, path, query)
    assert isinstance(found, SignedRead), found
    return found


def why(query: str, path: str = SPOT_OPEN, market: Market = Market.SPOT) -> str:
    found = read_signed(market, path, query)
    assert isinstance(found, str), found
    return found


# --- reading -----------------------------------------------------------------------------------


def test_call_is_read_whole() -> None:
    found = read(f"symbol=BTCUSDT&orderId=7&recvWindow=6000&{SIGNED}", "/api/v3/order")
    assert found == SignedRead(
        what=What.ORDER, path="/api/v3/order", symbol="BTCUSDT", order_id=7, client_id=None, omits_zeros=False,
        timestamp_ms=AT_MS, window_ms=6000.0, signature=HEX,
        payload=f"symbol=BTCUSDT&orderId=7&recvWindow=6000&timestamp={AT_MS}".encode(),
    )  # fmt: skip


def test_every_path_that_is_answered_is_read() -> None:
    more = {
        What.ORDER: "symbol=BTCUSDT&origClientOrderId=a&",
        What.OPEN_ORDER: "symbol=BTCUSDT&orderId=1&",
        What.ALGO_ORDER: "algoId=1&",
    }
    for (market, path), what in READS.items():
        assert read(more.get(what, "") + SIGNED, path, market).what is what
    assert {What.OTHER_OPEN_ORDERS, What.BALANCE, What.POSITIONS} == set(What) - ANSWERED


@pytest.mark.parametrize(
    ("market", "path"),
    [
        (Market.SPOT, "/api/v3/openOrders/"), (Market.SPOT, "/api/v3//openOrders"), (Market.SPOT, UM_OPEN),
        (Market.UM, SPOT_OPEN), (Market.UM, "/fapi/v2/openOrders"), (Market.PM, UM_OPEN), (Market.SPOT, ""),
        (Market.SPOT, "/api/v3/OPENORDERS"), (Market.SPOT, "/api/v3/allOrders"), (Market.OPTIONS, SPOT_OPEN),
    ],
)  # fmt: skip
def test_other_paths_are_forwarded(market: Market, path: str) -> None:
    assert why(SIGNED, path, market) == "path"


@pytest.mark.parametrize(
    "query",
    [
        f"symbol=BTCUSDT&symbol=BTCUSDT&{SIGNED}", f"{SIGNED}&signature={HEX}", f"{SIGNED}&timestamp={AT_MS}",
        f"symbol=A&s%79mbol=B&{SIGNED}", f"=1&{SIGNED}", f"symbol=&{SIGNED}", f"symbol&{SIGNED}",
        f"symbol=btcusdt&{SIGNED}", f"symbol=BTCUSDt&{SIGNED}", f"symbols=BTCUSDT&{SIGNED}",
        f"orderId=5&{SIGNED}", f"limit=5&{SIGNED}", f"SYMBOL=BTCUSDT&{SIGNED}", f"apiKey=x&{SIGNED}",
        f"pair=BTCUSD&{SIGNED}", f"symbol=币安人生USDT&{SIGNED}", f"symbol=å¸USDT&{SIGNED}",
    ],
)  # fmt: skip
def test_parameters_that_are_not_understood_are_forwarded(query: str) -> None:
    assert why(query) == "parameters"


def test_symbol_may_be_of_any_script_if_it_is_encoded() -> None:
    symbol = "币安人生USDT"
    found = read(f"symbol={quote(symbol)}&{SIGNED}", UM_OPEN, Market.UM)
    assert found.symbol == symbol
    assert found.payload.startswith(b"symbol=%E5%B8%81")
    assert read(f"symbol={quote(symbol).lower().replace('usdt', 'USDT')}&{SIGNED}").symbol == symbol


@pytest.mark.parametrize("signature", [HEX, HEX.lower(), HEX.upper(), quote(ED25519, safe=""), quote(RSA, safe=""),
                                       ED25519, "A" * 683 + "="])  # fmt: skip
def test_signature_of_each_kind_of_key_is_taken(signature: str) -> None:
    found = read(f"timestamp={AT_MS}&signature={signature}")
    assert found.payload == f"timestamp={AT_MS}".encode()
    assert "%" not in found.signature


@pytest.mark.parametrize(
    "signature",
    ["", "x", HEX[:-1], HEX + "0", HEX[:-1] + "g", "A" * 79, "A" * 800, "A" * 86 + "===", "A" * 40 + "=" + "A" * 45,
     RSA.replace("+", " "), RSA, "é" * 64, HEX + "%0A", HEX + "%00", "%20" + HEX],
)  # fmt: skip
def test_signature_of_odd_form_is_forwarded(signature: str) -> None:
    assert why(f"timestamp={AT_MS}&signature={signature}") in ("signature", "parameters")


def test_signature_may_stand_anywhere_and_what_was_signed_keeps_its_bytes() -> None:
    assert read(f"signature={HEX}&symbol=BTCUSDT&timestamp={AT_MS}").payload == (
        f"symbol=BTCUSDT&timestamp={AT_MS}".encode()
    )
    assert signed_payload("a=%5b&&b=&signature=x&c=%20+") == b"a=%5b&&b=&c=%20+"
    assert signed_payload("%73ignature=x&a=1") == b"%73ignature=x&a=1"


@pytest.mark.parametrize(
    "more",
    [
        "", "timestamp=", "timestamp=now", "timestamp=-1", "timestamp=1.5", "timestamp=12345678901234567890",
        "timestamp=%EF%BC%91", f"timestamp={AT_MS}&recvWindow=0", f"timestamp={AT_MS}&recvWindow=60001",
        f"timestamp={AT_MS}&recvWindow=60000.001", f"timestamp={AT_MS}&recvWindow=-1",
        f"timestamp={AT_MS}&recvWindow=1e3", f"timestamp={AT_MS}&recvWindow=5000.1234",
        f"timestamp={AT_MS}&recvWindow=5000.", f"timestamp={AT_MS}&recvWindow=", f"timestamp={AT_MS}&recvWindow=nan",
        f"timestamp={AT_MS}&recvWindow=+5000", f"timestamp=%20{AT_MS}", f"timestamp={AT_MS}%0A",
    ],
)  # fmt: skip
def test_time_that_binance_may_refuse_is_forwarded(more: str) -> None:
    assert why(f"{more}&signature={HEX}") == "timestamp"


def test_window_with_a_fraction_is_spots_alone() -> None:
    query = f"recvWindow=5000.125&{SIGNED}"
    assert read(query).window_ms == 5000.125
    assert why(query, UM_OPEN, Market.UM) == "timestamp"
    assert read(SIGNED).window_ms == 5000.0
    assert read(f"recvWindow=60000&{SIGNED}").window_ms == 60_000.0


def test_time_in_microseconds_is_read() -> None:
    assert read(f"timestamp={AT_MS * 1000 + 999}&signature={HEX}").timestamp_ms == AT_MS


def test_time_is_in_the_window_only_if_it_is_by_every_clock_binance_may_have() -> None:
    found = read(f"recvWindow=5000&{SIGNED}")
    assert found.is_in_window(AT_MS, AT_MS)
    assert found.is_in_window(AT_MS - 999, AT_MS)
    assert not found.is_in_window(AT_MS - 1000, AT_MS)
    assert found.is_in_window(AT_MS, AT_MS + 5000)
    assert not found.is_in_window(AT_MS, AT_MS + 5000.001)
    narrow = read(f"recvWindow=1&{SIGNED}")
    assert narrow.is_in_window(AT_MS, AT_MS + 1)
    assert not narrow.is_in_window(AT_MS, AT_MS + 2)


@given(st.floats(-6000, 6000), st.floats(0, 200), st.sampled_from([1, 1000, 5000, 60_000]))
def test_what_is_in_the_window_binance_takes_wherever_its_clock_is(
    off: float, width: float, window: int
) -> None:
    found = read(f"recvWindow={window}&{SIGNED}")
    low = AT_MS + off
    if found.is_in_window(low, low + width):
        for server_ms in (low, low + width / 2, low + width):
            assert server_ms + 1000 > AT_MS
            assert server_ms - AT_MS <= window


@pytest.mark.parametrize(
    ("query", "path", "market"),
    [
        ("symbol=BTCUSDT", "/api/v3/order", Market.SPOT),
        ("orderId=1", "/api/v3/order", Market.SPOT),
        ("symbol=BTCUSDT&orderId=1&origClientOrderId=a", "/api/v3/order", Market.SPOT),
        ("symbol=BTCUSDT&orderId=x", "/api/v3/order", Market.SPOT),
        ("symbol=BTCUSDT&orderId=-1", "/api/v3/order", Market.SPOT),
        ("symbol=BTCUSDT&orderId=%EF%BC%91", "/api/v3/order", Market.SPOT),
        ("symbol=BTCUSDT&orderId=1.0", "/fapi/v1/order", Market.UM),
        ("symbol=BTCUSDT&orderId=", "/fapi/v1/openOrder", Market.UM),
        ("symbol=BTCUSDT&origClientOrderId=", "/dapi/v1/order", Market.CM),
        ("algoId=1&clientAlgoId=a", "/fapi/v1/algoOrder", Market.UM),
        ("", "/fapi/v1/algoOrder", Market.UM),
        ("omitZeroBalances=1", "/api/v3/account", Market.SPOT),
        ("omitZeroBalances=", "/api/v3/account", Market.SPOT),
        ("symbol=BTCUSDT", "/api/v3/account", Market.SPOT),
        ("symbol=BTCUSDT", "/fapi/v2/balance", Market.UM),
    ],
)
def test_call_that_does_not_name_one_thing_is_forwarded(query: str, path: str, market: Market) -> None:
    assert why(f"{query}&{SIGNED}".lstrip("&"), path, market) == "parameters"


def test_order_is_named_by_number_or_by_the_clients_id() -> None:
    found = read(
        f"symbol=BTCUSDT&origClientOrderId=my%2Fid%20%E5%B8%81&{SIGNED}", "/fapi/v1/order", Market.UM
    )
    assert (found.order_id, found.client_id) == (None, "my/id 币")
    assert read(f"algoId=5&{SIGNED}", "/fapi/v1/algoOrder", Market.UM).order_id == 5
    zeros = read(f"omitZeroBalances=true&{SIGNED}", "/api/v3/account")
    assert zeros.omits_zeros
    assert not read(f"omitZeroBalances=false&{SIGNED}", "/api/v3/account").omits_zeros


@given(st.text(alphabet="aB&=%+ 0signaturesymbol\x00é币;", max_size=60))
def test_any_query_is_read_or_forwarded(query: str) -> None:
    for text in (query, f"{query}&{SIGNED}"):
        read_signed(Market.SPOT, SPOT_OPEN, text)
        read_params(text)


# --- what changes something --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "method", "path", "change"),
    [
        (Market.SPOT, "GET", "/api/v3/order", Change.NOTHING),
        (Market.SPOT, "POST", "/api/v3/order", Change.ORDERS),
        (Market.SPOT, "POST", "/api/v3/order/test", Change.NOTHING),
        (Market.SPOT, "POST", "/api/v3/order/cancelReplace", Change.ORDERS),
        (Market.SPOT, "PUT", "/api/v3/order/amend/keepPriority", Change.ORDERS),
        (Market.SPOT, "POST", "/api/v3/orderList/otoco", Change.ORDERS),
        (Market.SPOT, "DELETE", "/api/v3/orderList", Change.ORDERS),
        (Market.SPOT, "DELETE", "/api/v3/openOrders", Change.ORDERS),
        (Market.SPOT, "POST", "/api/v3/something", Change.UNKNOWN),
        (Market.SPOT, "POST", "/api/v3/order/", Change.UNKNOWN),
        (Market.SPOT, "POST", "/sapi/v1/asset/transfer", Change.BALANCES),
        (Market.UM, "POST", "/fapi/v1/order", Change.ORDERS),
        (Market.UM, "PUT", "/fapi/v1/batchOrders", Change.ORDERS),
        (Market.UM, "DELETE", "/fapi/v1/allOpenOrders", Change.ALL),
        (Market.UM, "DELETE", "/fapi/v1/algoOpenOrders", Change.ALL_ALGO),
        (Market.UM, "POST", "/fapi/v1/algoOrder", Change.ALGO),
        (Market.UM, "POST", "/fapi/v1/countdownCancelAll", Change.COUNTDOWN),
        (Market.UM, "POST", "/fapi/v1/positionMargin", Change.BALANCES),
        (Market.UM, "POST", "/fapi/v1/listenKey", Change.NOTHING),
        (Market.UM, "POST", "/dapi/v1/order", Change.UNKNOWN),
        (Market.CM, "DELETE", "/dapi/v1/allOpenOrders", Change.ALL),
        (Market.PM, "POST", "/papi/v1/um/order", Change.UNKNOWN),
        (Market.UM, "PATCH", "/fapi/v1/order", Change.NOTHING),
    ],
)
def test_what_a_call_does(market: Market, method: str, path: str, change: Change) -> None:
    assert change_of(market, method, path) is change
