"""Which calls are equal, and what may be remembered."""

from __future__ import annotations

import gzip
import zlib

import pytest

from resender.core.binance.headers import headers_up
from resender.core.binance.markets import Market
from resender.core.sharing import memory_s, share_key, worth_remembering

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
        key(("Accept", "application/sbe")),
        key(("Accept", "application/sbe, application/json")),
        key(("Accept", "text/html")),
        key(("Accept", "application/json"), ("Accept", "application/sbe")),
        key(("X-MBX-TIME-UNIT", "MICROSECOND")),
        key(("X-MBX-SBE", "3:0")),
        key(target=TARGET + "&limit=5"),
        key(market=Market.UM),
    ],
)
def test_calls_whose_answers_differ_are_not_equal(other: object) -> None:
    assert other is not None
    assert other != key()


def test_every_word_about_the_form_counts() -> None:
    forms = [
        (),
        (("X-MBX-SBE", "3:1"),),
        (("X-MBX-SBE", "3:0"),),
        (("X-MBX-SBE", "3:1"), ("Accept", "application/sbe")),
        (("X-MBX-SBE", "3:1"), ("Accept", "application/sbe, application/json")),
        (("X-MBX-SBE", "3:1"), ("X-MBX-TIME-UNIT", "MICROSECOND")),
        (("X-MBX-SBE", "3:1"), ("Accept-Encoding", "gzip")),
        (("Accept-Encoding", "gzip"),),
        (("Accept-Encoding", "gzip;q=0"),),
        (("Accept-Encoding", "gzip, br"),),
        (("Accept-Encoding", "gzip"), ("Accept-Encoding", "deflate")),
    ]
    assert len({key(*form) for form in forms}) == len(forms)
    assert key(("Accept-Encoding", "deflate,  GZIP")) == key(("Accept-Encoding", "gzip, deflate"))
    assert key(("Accept-Encoding", "gzip"), ("Accept-Encoding", "deflate")) == key(
        ("Accept-Encoding", "deflate, gzip")
    )
    for accept in (
        "*/*",
        "application/json",
        "application/json, text/plain, */*",
        "text/html;q=0.9, */*;q=0.8",
    ):
        assert key(("Accept", accept)) == key(), accept


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


# --- what is worth remembering -----------------------------------------------------------------

INFO, DEPTH = "/api/v3/exchangeInfo", "/api/v3/depth"
JSON = (b"Content-Type", b"application/json;charset=UTF-8")
WHOLE = b'{"timezone":"UTC","symbols":[{"symbol":"BTCUSDT"}]}'
LONG = b'{"symbols":[' + b",".join(b'{"symbol":"S%dUSDT"}' % n for n in range(10_000)) + b"]}"
CUT = LONG[: LONG.index(b"}", 100_000) + 1]


def packed(*words: str) -> list[tuple[bytes, bytes]]:
    return [JSON, *((b"content-encoding", word.encode()) for word in words)]


CASES: list[tuple[str, list[tuple[bytes, bytes]], bytes, bool]] = [
    (INFO, [JSON], WHOLE, True),
    (INFO, [], WHOLE, True),
    (INFO, [(b"content-type", b"text/plain")], WHOLE, False),
    (INFO, [JSON], b'{"optionSymbols":[],"optionContracts":[]}', True),
    (INFO, [JSON], b"  \r\n" + WHOLE + b" \n", True),
    (INFO, [JSON], LONG, True),
    (INFO, packed("gzip"), gzip.compress(WHOLE), True),
    (INFO, packed(" GZIP "), gzip.compress(LONG), True),
    (INFO, packed("x-gzip"), gzip.compress(WHOLE), True),
    (INFO, packed("identity"), WHOLE, True),
    # not whole
    (INFO, [JSON], b"", False),
    (INFO, [JSON], b"   ", False),
    (INFO, [JSON], WHOLE[:-1], False),
    (INFO, [JSON], WHOLE[1:], False),
    (INFO, [JSON], WHOLE[:-2], False),
    (INFO, [JSON], CUT, False),
    (INFO, packed("gzip"), gzip.compress(CUT), False),
    (INFO, packed("gzip"), gzip.compress(WHOLE)[:-1], False),
    (INFO, packed("gzip"), gzip.compress(LONG)[:2000], False),
    (INFO, packed("gzip"), gzip.compress(b""), False),
    (INFO, packed("gzip"), b"", False),
    (INFO, packed("gzip"), WHOLE, False),
    # nothing here can read it
    (INFO, packed("br"), b"\x0b\x02\x80{}\x03", False),
    (INFO, packed("deflate"), zlib.compress(WHOLE), False),
    (INFO, packed("gzip, gzip"), gzip.compress(gzip.compress(WHOLE)), False),
    # no JSON, or not what the path promises
    (INFO, [(b"content-type", b"text/html")], b"<html>", False),
    (INFO, [JSON], b"<html>", False),
    (INFO, [JSON], b"{no json}", False),
    (INFO, [JSON], b'{"a":1}{"b":2}', False),
    (INFO, [JSON], b"null", False),
    (INFO, [JSON], b'"symbols"', False),
    (INFO, [JSON], b'{"code":0,"msg":"maintenance"}', False),
    (INFO, [JSON], b"{" * 60_000 + b"}" * 60_000, False),
    # other paths promise JSON only
    (DEPTH, [JSON], b'{"bids":[],"asks":[]}', True),
    (DEPTH, [JSON], b"[]", True),
    (DEPTH, [JSON], b"[1,2", False),
    (DEPTH, [JSON], b"[" * 20_000 + b"]" * 20_000, False),
    (DEPTH, [(b"Content-Type", b"application/sbe")], b"{}", False),
]


# Numbers for names: packed bodies hold the time they were made.
@pytest.mark.parametrize(("path", "headers", "body", "is_worth"), CASES, ids=range(len(CASES)))
def test_only_whole_json_with_what_its_path_promises_is_worth_remembering(
    path: str, headers: list[tuple[bytes, bytes]], body: bytes, is_worth: bool
) -> None:
    assert worth_remembering(path, headers, body) is is_worth
