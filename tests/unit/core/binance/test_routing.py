"""All URL shapes, and that no request can name its own upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from resender.core.binance.markets import MARKETS, Market
from resender.core.binance.routing import encode_high_bytes, has_signature, resolve
from resender.errors import AnswerError, BadRequest, RouteError


@pytest.mark.parametrize(
    ("target", "market", "upstream"),
    [
        # prefix form
        (
            "/api/api/v3/ticker/bookTicker?symbol=BTCUSDT",
            Market.SPOT,
            "/api/v3/ticker/bookTicker?symbol=BTCUSDT",
        ),
        ("/api/sapi/v1/account/status", Market.SPOT, "/sapi/v1/account/status"),
        ("/fapi/fapi/v1/klines?a=1&b=%20", Market.UM, "/fapi/v1/klines?a=1&b=%20"),
        (
            "/fapi/futures/data/openInterestHist?symbol=X",
            Market.UM,
            "/futures/data/openInterestHist?symbol=X",
        ),
        ("/dapi/dapi/v1/klines", Market.CM, "/dapi/v1/klines"),
        ("/dapi/futures/data/basis", Market.CM, "/futures/data/basis"),
        ("/eapi/eapi/v1/mark", Market.OPTIONS, "/eapi/v1/mark"),
        ("/papi/papi/v1/um/order", Market.PM, "/papi/v1/um/order"),
        # drop-in form
        ("/api/v3/time", Market.SPOT, "/api/v3/time"),
        ("/api/v12/time", Market.SPOT, "/api/v12/time"),
        ("/sapi/v1/system/status", Market.SPOT, "/sapi/v1/system/status"),
        ("/sapi/v4/sub-account/assets", Market.SPOT, "/sapi/v4/sub-account/assets"),
        ("/fapi/v1/time", Market.UM, "/fapi/v1/time"),
        ("/fapi/v3/account?x", Market.UM, "/fapi/v3/account?x"),
        ("/dapi/v1/time", Market.CM, "/dapi/v1/time"),
        ("/eapi/v1/time", Market.OPTIONS, "/eapi/v1/time"),
        ("/papi/v1/ping", Market.PM, "/papi/v1/ping"),
        ("/futures/data/topLongShortPositionRatio?a", Market.UM, "/futures/data/topLongShortPositionRatio?a"),
        # Binance's own host name in front
        ("/api.binance.com/api/v3/time", Market.SPOT, "/api/v3/time"),
        ("/api3.binance.com/sapi/v1/system/status?a=1", Market.SPOT, "/sapi/v1/system/status?a=1"),
        ("/data-api.binance.vision/api/v3/klines?x", Market.SPOT, "/api/v3/klines?x"),
        ("/fapi.binance.com/fapi/v1/klines?a=%20", Market.UM, "/fapi/v1/klines?a=%20"),
        ("/fapi.binance.com:443/fapi/v1/time", Market.UM, "/fapi/v1/time"),
        ("/FAPI.Binance.com/fapi/v1/time", Market.UM, "/fapi/v1/time"),
        ("//fapi.binance.com//fapi/v1/time", Market.UM, "/fapi/v1/time"),
        ("/dapi.binance.com/futures/data/basis", Market.CM, "/futures/data/basis"),
        ("/eapi.binance.com/eapi/v1/mark", Market.OPTIONS, "/eapi/v1/mark"),
        ("/papi.binance.com/papi/v1/um/order", Market.PM, "/papi/v1/um/order"),
        ("/api.binance.com/api/v3/x@fapi.binance.com/y", Market.SPOT, "/api/v3/x@fapi.binance.com/y"),
        # slashes: in front they come from a base URL that ends in one, elsewhere they stay
        ("//api/api/v3/time", Market.SPOT, "/api/v3/time"),
        ("///fapi/v1/time", Market.UM, "/fapi/v1/time"),
        ("/api/v3/time/", Market.SPOT, "/api/v3/time/"),
        ("/api/v3//time", Market.SPOT, "/api/v3//time"),
        ("/api/api/v3//evil.example/x", Market.SPOT, "/api/v3//evil.example/x"),
        ("/api/v3/http://evil.example/x", Market.SPOT, "/api/v3/http://evil.example/x"),
        ("/api/v3/@evil.example", Market.SPOT, "/api/v3/@evil.example"),
        ("/api/v3/time?u=..&v=//x#y", Market.SPOT, "/api/v3/time?u=..&v=//x#y"),
        ("/api/v3/a...b/x..y", Market.SPOT, "/api/v3/a...b/x..y"),
    ],
)
def test_target_resolves_to_market_and_upstream_target(target: str, market: Market, upstream: str) -> None:
    route = resolve(target)
    assert (route.market, route.target) == (market, upstream)
    assert route.path == upstream.partition("?")[0]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/x",
        "/api",
        "/api/",
        "/api/x",
        "/api/api",
        "/api/fapi/v1/time",
        "/fapi/dapi/v1/time",
        "/fapi/sapi/v1/time",
        "/sapi/sapi/v1/x",
        "/futures/v1/x",
        "/futures/data",
        "/futures/x/y",
        "/api//127.0.0.1:80/x",
        "/api/http://127.0.0.1:80/x",
        "/api///127.0.0.1:80/x",
        "/api/vx/time",
        "/api/v/time",
        "/api/v³/time",
        "/API/v3/time",
        "/api%2Fv3/time",
        "/wapi/v3/x",
        "/@evil.example/api/v3/time",
        "/evil.example/api/v3/time",
        "/\\evil.example/api/v3/time",
        "/api.binance.com",
        "/api.binance.com/",
        "/api.binance.com/api",
        "/api.binance.com/fapi/v1/time",
        "/fapi.binance.com/api/v3/time",
        "/api.binance.com:/api/v3/time",
        "/api.binance.com:x/api/v3/time",
        "/api.binance.com:٤٤/api/v3/time",
        "/api.binance.com:443:80/api/v3/time",
        "/api.binance.com./api/v3/time",
        "/x.api.binance.com/api/v3/time",
        "/api.binance.com.evil.example/api/v3/time",
        "/api.binance.com@evil.example/api/v3/time",
        "/evil.example@api.binance.com/api/v3/time",
        "/www.binance.com/api/v3/time",
        "/api.binance.com/api.binance.com/api/v3/time",
        "/stream.binance.com/ws/btcusdt@trade",
    ],
)
def test_anything_else_is_no_route(target: str) -> None:
    with pytest.raises(RouteError):
        resolve(target)


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/api/v3/time",
        "evil.example:443",
        "*",
        "api/v3/time",
        "/api/v3/../x",
        "/api/v3/..",
        "/api/../fapi/v1/time",
        "/api/v3/./x",
        "/api/v3/%2e%2E/x",
        "/api/v3/.%2e/x",
        "/..//evil.example/api",
        "/api/v3/x#y",
    ],
)
def test_malformed_target_is_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        resolve(target)


NASTY = st.lists(
    st.sampled_from(
        ["/", "//", "..", ".", "api", "sapi", "fapi", "futures", "data", "v3", "v1", "http:", "evil.example", "@",
         ":80", "\\", "%2f", "%2e", "?", "#", "a=b", "[::1]", "[", "\xff", ";",
         "api.binance.com", "fapi.binance.com", ":443"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(st.one_of(NASTY, NASTY.map(lambda s: "/api/" + s), NASTY.map(lambda s: "/api/v3/" + s), st.text()))
def test_no_target_can_change_the_upstream_host(target: str) -> None:
    try:
        route = resolve(target)
    except AnswerError:
        return
    assert route.target.startswith("/")
    assert target.endswith(route.target) or target.lstrip("/").endswith(route.target.lstrip("/"))
    facts = next(f for f in MARKETS if f.market is route.market)
    assert route.target.split("/")[1] in facts.roots
    # As resender/upstream/rest.py builds it: whatever the target, authority and bytes stay.
    if route.target.isascii():
        url = URL.build(scheme="https", authority="api.binance.com", path=route.target, encoded=True)
        assert (url.raw_host, url.port, url.raw_path_qs) == ("api.binance.com", 443, route.target)


@given(st.binary(max_size=60))
def test_only_high_bytes_are_encoded(raw: bytes) -> None:
    encoded = encode_high_bytes(raw.decode("latin-1"))
    assert encoded.isascii()
    expected = "".join(chr(b) if b < 0x80 else f"%{b:02X}" for b in raw)
    assert encoded == expected


@pytest.mark.parametrize(
    ("target", "body", "signed"),
    [
        ("/x?signature=1", b"", True),
        ("/x?a=1&signature=", b"", True),
        ("/x?asignature=1", b"", False),
        ("/x?a=signature=1", b"", False),
        ("/signature=1", b"", False),
        ("/x", b"signature=1", True),
        ("/x", b"a=1&signature=1", True),
        ("/x", b"a=1&xsignature=1", False),
        ("/x", b"", False),
    ],
)
def test_signature_is_found_in_query_and_body(target: str, body: bytes, signed: bool) -> None:
    assert has_signature(target, body) is signed
