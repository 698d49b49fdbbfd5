"""Which calls are equal, and what may be remembered."""

from __future__ import annotations

import pytest

from resender.core.headers import headers_up
from resender.core.markets import Market
from resender.core.sharing import memory_s, share_key

TARGET = "/api/v3/depth?symbol=BTCUSDT"


def key(*headers: tuple[str, str], target: str = TARGET, market: Market = Market.SPOT) -> object:
    return share_key(market, target, headers_up(headers, "gateway"))[0]


def test_calls_that_differ_in_nothing_that_matters_are_equal() -> None:
    plain = key()
    assert plain is not None
    assert key(("User-Agent", "a"), ("Accept", "*/*"), ("Accept-Language", "de")) == plain
    assert key(("Content-Type", "application/json"), ("X-Forwarded-For", "1.2.3.4")) == plain
    assert key(("Cache-Control", "no-cache")) == plain


@pytest.mark.parametrize(
    "other",
    [
        key(("Accept-Encoding", "gzip")),
        key(("X-MBX-TIME-UNIT", "MICROSECOND")),
        key(("X-MBX-SBE", "3:0")),
        key(target=TARGET + "&limit=5"),
        key(market=Market.UM),
    ],
)
def test_calls_whose_answers_differ_are_not_equal(other: object) -> None:
    assert other is not None
    assert other != key()


@pytest.mark.parametrize(
    "header", ["X-MBX-APIKEY", "X-MBX-Anything", "If-None-Match", "If-Modified-Since", "X-Sapi-X"]
)
def test_a_call_with_a_header_of_its_own_is_shared_with_nobody(header: str) -> None:
    assert key((header, "x")) is None


def test_a_signed_call_is_shared_with_nobody() -> None:
    assert key(target="/api/v3/account?timestamp=1&signature=ab") is None


@pytest.mark.parametrize(
    ("header", "value", "is_fresh"),
    [
        ("Cache-Control", "no-cache", True),
        ("Cache-Control", "max-age=0", True),
        ("Cache-Control", "private, No-Store", True),
        ("Pragma", "no-cache", True),
        ("Cache-Control", "max-age=60", False),
    ],
)
def test_a_client_may_ask_for_a_fresh_answer(header: str, value: str, is_fresh: bool) -> None:
    assert share_key(Market.SPOT, TARGET, headers_up([(header, value)], "gateway"))[1] is is_fresh


@pytest.mark.parametrize(
    ("path", "is_public", "seconds"),
    [
        ("/api/v3/depth", True, 1.5),
        ("/api/v3/depth", False, 0.0),
        ("/fapi/v1/exchangeInfo", True, 60.0),
        ("/fapi/v1/exchangeInfo", False, 0.0),
        ("/api/v3/time", True, 0.0),
        ("/api/v3/ping", True, 0.0),
    ],
)
def test_memory_is_for_public_data_that_is_no_clock(path: str, is_public: bool, seconds: float) -> None:
    found = memory_s(path, is_public=is_public, get_memory_s=1.5, exchange_info_memory_s=60.0)
    assert found == seconds
