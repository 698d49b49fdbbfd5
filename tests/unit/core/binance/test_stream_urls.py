"""Which handshake asks for what: the URLs of the client libraries, and those that are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.binance.stream_urls import (
    MAX_OPTION_STREAMS,
    MAX_STREAMS,
    UM_EVENTS,
    StreamRoute,
    is_listen_key,
    resolve_stream,
    user_target,
)
from resender.errors import BadRequest, ResenderError, RouteError

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
ALL_EVENTS = "/".join(UM_EVENTS)
A, B = "btcusdt@trade", "ethusdt@kline_1m"


def market(which: Market, *names: str, combined: bool = False) -> StreamRoute:
    return StreamRoute("market", which, combined, names)


def user(which: Market, target: str, *, combined: bool = False, host: str = "") -> StreamRoute:
    return StreamRoute("user", which, combined, target=target, host=host or f"stream_{which}", listen_key=KEY)


def api(which: Market, target: str) -> StreamRoute:
    return StreamRoute("ws_api", which, target=target, host=f"ws_api_{which}")


# Source: the client libraries, see docs of each; Binance's web-socket-streams.md of 2026-07-21.
@pytest.mark.parametrize(
    ("target", "route"),
    [
        # ccxt: a running number in place of a name.
        ("/stream.binance.com/ws/0", market(SPOT, "0")),
        ("/stream.binance.com:9443/ws/49", market(SPOT, "49")),
        ("/fstream.binance.com/public/ws/3", market(UM, "3")),
        ("/fstream.binance.com/market/ws/3", market(UM, "3")),
        ("/dstream.binance.com/ws/1", market(CM, "1")),
        # python-binance, go-binance, binance-api-node.
        (f"/stream.binance.com/ws/{A}", market(SPOT, A)),
        (f"/stream.binance.com/stream?streams={A}/{B}", market(SPOT, A, B, combined=True)),
        (f"/fstream.binance.com/market/stream?streams={B}", market(UM, B, combined=True)),
        (f"/fstream.binance.com/ws/{B}", market(UM, B)),
        (f"/fstream.binance.com/stream?streams={B}", market(UM, B, combined=True)),
        (
            "/fstream.binance.com/market/ws/btcusdt_perpetual@continuousKline_1m",
            market(UM, "btcusdt_perpetual@continuousKline_1m"),
        ),
        # The SDKs: names come by message, or in an empty list; any class of USD-M on any path.
        ("/stream.binance.com/stream", market(SPOT, combined=True)),
        ("/stream.binance.com/stream?streams=", market(SPOT, combined=True)),
        ("/fstream.binance.com/public/stream?streams=", market(UM, combined=True)),
        ("/fstream.binance.com/private/stream", market(UM, combined=True)),
        ("/fstream.binance.com/market/ws", market(UM)),
        # unicorn-binance-websocket-api: whole markets, a slash too much.
        ("/stream.binance.com//ws/!ticker@arr", market(SPOT, "!ticker@arr")),
        ("/dstream.binance.com/ws/!bookTicker/", market(CM, "!bookTicker")),
        # Several names, slashes at the end, everything percent-encoded.
        (f"/ws/{A}/{B}", market(SPOT, A, B)),
        ("/ws", market(SPOT)),
        ("/ws/", market(SPOT)),
        ("/stream/", market(SPOT, combined=True)),
        (f"/stream/?streams={A}//{B}/", market(SPOT, A, B, combined=True)),
        ("/ws/btcusdt%40trade", market(SPOT, A)),
        ("/stream?streams=btcusdt%40trade%2Fethusdt%40kline_1m", market(SPOT, A, B, combined=True)),
        ("/ws/btcusdt@kline_1d@+08:00", market(SPOT, "btcusdt@kline_1d@+08:00")),
        ("/ws/btcusdt@kline_1d@%2B08:00", market(SPOT, "btcusdt@kline_1d@+08:00")),
        ("/ws/%E5%B8%81usdt@trade", market(SPOT, "币usdt@trade")),
        ("/ws/币usdt@trade".encode().decode("latin-1"), market(SPOT, "币usdt@trade")),
        # A listenKey among streams.
        (f"/dstream.binance.com/stream?streams={A}/{KEY}", market(CM, A, KEY, combined=True)),
        (f"/fstream.binance.com/ws/{KEY}/{A}", market(UM, KEY, A)),
        # Without Binance's name: by the first part of the path.
        ("/public/ws", market(UM)),
        (f"/market/stream?streams={A}", market(UM, A, combined=True)),
        # Other names of a host, capitals.
        (f"/data-stream.binance.vision/ws/{A}", market(SPOT, A)),
        (f"/STREAM.Binance.Com:443/ws/{A}", market(SPOT, A)),
        # Times in microseconds: on spot alone.
        (f"/ws/{A}?timeUnit=MICROSECOND", replace(market(SPOT, A), is_microsecond=True)),
        (f"/ws/{A}?timeUnit=microsecond", replace(market(SPOT, A), is_microsecond=True)),
        (f"/ws/{A}?timeUnit=MILLISECOND", market(SPOT, A)),
        (
            f"/stream?streams={A}&timeUnit=MICROSECOND",
            replace(market(SPOT, A, combined=True), is_microsecond=True),
        ),
        (f"/fstream.binance.com/ws/{A}?timeUnit=MICROSECOND", market(UM, A)),
        # Options stand on the USD-M host.
        ("/nbstream.binance.com/eoptions/ws/x@optionTicker",
         replace(market(UM, "x@optionTicker"), max_streams=MAX_OPTION_STREAMS)),
        ("/nbstream.binance.com/eoptions/stream",
         replace(market(UM, combined=True), max_streams=MAX_OPTION_STREAMS)),
        ("/nbstream.binance.com/public/ws", replace(market(UM), max_streams=MAX_OPTION_STREAMS)),
    ],
)  # fmt: skip
def test_market_streams_are_asked_for_as_the_libraries_do(target: str, route: StreamRoute) -> None:
    assert resolve_stream(target) == route
    assert route.max_streams in (MAX_STREAMS, MAX_OPTION_STREAMS)


@pytest.mark.parametrize(
    ("target", "route"),
    [
        # USD-M has one form upstream, with every event named.
        *(
            (path, user(UM, f"/private/ws?listenKey={KEY}&events={ALL_EVENTS}"))
            for path in (
                f"/fstream.binance.com/private/ws?listenKey={KEY}",
                f"/fstream.binance.com/ws?listenKey={KEY}",
                f"/fstream.binance.com/ws/{KEY}",
                f"/fstream.binance.com/private/ws/{KEY}",
                f"/fstream.binance.com?listenKey={KEY}",
                f"/private/ws?listenKey={KEY}",
            )
        ),
        (
            f"/fstream.binance.com/private/ws?listenKey={KEY}&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE",
            user(UM, f"/private/ws?listenKey={KEY}&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE"),
        ),
        (
            f"/private/ws?listenKey={KEY}&events=A%26b%3Dc%20%0D",
            user(UM, f"/private/ws?listenKey={KEY}&events=A%26b%3Dc%20%0D"),
        ),
        (
            f"/fstream.binance.com/private/stream?listenKey={KEY}",
            user(UM, f"/private/stream?listenKey={KEY}&events={ALL_EVENTS}", combined=True),
        ),
        (
            f"/fstream.binance.com/stream?streams={KEY}",
            user(UM, f"/private/stream?listenKey={KEY}&events={ALL_EVENTS}", combined=True),
        ),
        (f"/dstream.binance.com/ws/{KEY}", user(CM, f"/ws/{KEY}")),
        (f"/dstream.binance.com/stream?streams={KEY}", user(CM, f"/stream?streams={KEY}", combined=True)),
        (f"/ws/{KEY}", user(SPOT, f"/ws/{KEY}")),
        # Portfolio margin, with Binance's name and without.
        (f"/fstream.binance.com/pm/ws/{KEY}", user(UM, f"/pm/ws/{KEY}")),
        (f"/pm/ws/{KEY}", user(UM, f"/pm/ws/{KEY}")),
        (f"/pm/ws?listenKey={KEY}", user(UM, f"/pm/ws/{KEY}")),
        (f"/pm-classic/ws/{KEY}", user(UM, f"/pm-classic/ws/{KEY}")),
        (f"/pm/stream?streams={KEY}", user(UM, f"/pm/stream?streams={KEY}", combined=True)),
        (f"/margin-stream.binance.com/ws/{KEY}", user(SPOT, f"/ws/{KEY}", host="stream_margin")),
        (f"/margin-stream.binance.com/ws?listenKey={KEY}", user(SPOT, f"/ws/{KEY}", host="stream_margin")),
    ],
)
def test_user_data_is_asked_for_as_the_libraries_do(target: str, route: StreamRoute) -> None:
    assert resolve_stream(target) == route


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/ws-api/v3", api(SPOT, "/ws-api/v3")),
        ("/ws-api/v3/", api(SPOT, "/ws-api/v3")),
        ("/ws-fapi/v1", api(UM, "/ws-fapi/v1")),
        ("/ws-dapi/v1?returnRateLimits=false", api(CM, "/ws-dapi/v1?returnRateLimits=false")),
        ("/ws-api.binance.com:443/ws-api/v3", api(SPOT, "/ws-api/v3")),
        ("/ws-api.binance.com:9443/ws-api/v3?timeUnit=MICROSECOND", api(SPOT, "/ws-api/v3?timeUnit=MICROSECOND")),
        ("/ws-fapi.binance.com/ws-fapi/v1", api(UM, "/ws-fapi/v1")),
        ("/ws-dapi.binance.com/ws-dapi/v1", api(CM, "/ws-dapi/v1")),
        ("/ws-api/v3?a=%41&b=c%20d", api(SPOT, "/ws-api/v3?a=%41&b=c%20d")),
        ("/ws-api/v3?a=b c\r\nX: y", api(SPOT, "/ws-api/v3?a=b%20c%0D%0AX:%20y")),
    ],
)  # fmt: skip
def test_websocket_api_has_a_path_of_its_own_for_each_market(target: str, route: StreamRoute) -> None:
    assert resolve_stream(target) == route


@pytest.mark.parametrize("name", ["spot", "um", "cm"])
def test_settled_closes_are_under_local(name: str) -> None:
    found = resolve_stream(f"/local/{name}/closes?interval=1m&symbols=all")
    assert found == StreamRoute("closes", Market(name), query="interval=1m&symbols=all")


@pytest.mark.parametrize(
    "target",
    [
        "/", "/x", "/evil.com/ws", "/stream.binance.com", "/stream.binance.com/x", "/stream.binance.com:x/ws",
        "/stream.binance.com:/ws", "/stream.binance.com:123456/ws", "/stream.binance.com:%D9%A3/ws",
        "/stream/btcusdt@trade",
        "/stream.binance.com.evil.com/ws", "/fstream.binance.com/private", "/fstream.binance.com/public/market/ws",
        "/dstream.binance.com/market/ws", "/stream.binance.com/public/ws", "/eoptions/ws",
        "/fstream.binance.com/eoptions/ws",
        "/pm/ws", f"/pm/ws/{A}", "/pm/ws/x", "/margin-stream.binance.com/ws", f"/margin-stream.binance.com/ws/{A}",
        f"/margin-stream.binance.com/stream/{KEY}", "/ws-api/v4", "/ws-api", "/ws-api/v3/x", "/ws-api.binance.com/ws",
        "/ws-fapi.binance.com/ws-api/v3", "/local", "/local/spot", "/local/options/closes", "/local/spot/closes/x",
        "/local/spot/klines", "/fapi/v1/time", "/api/v3/ws", "/WS", "/Stream",
    ],
)  # fmt: skip
def test_what_is_no_stream_is_an_unknown_route(target: str) -> None:
    with pytest.raises(RouteError):
        resolve_stream(target)


@pytest.mark.parametrize(
    "target",
    ["/stream-sbe.binance.com/ws", "/stream-sbe.binance.com:9443/stream", "/ws?responseFormat=sbe",
    "/ws-api/v3?responseFormat=SBE"],
)  # fmt: skip
def test_binary_encoding_is_refused_in_words(target: str) -> None:
    with pytest.raises(RouteError, match="SBE"):
        resolve_stream(target)


@pytest.mark.parametrize(
    "target",
    [
        "ws", "", "*", "/ws/%FF", "/ws/\xff", "/ws/\u5e01", "/stream?streams=%FF", "/ws/x?timeUnit=SECOND",
        "/private/ws?listenKey=x", "/private/ws?listenKey=a/../b", f"/private/ws?listenKey={KEY}%26events%3Dx",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_bad_request(target: str) -> None:
    with pytest.raises(BadRequest):
        resolve_stream(target)


def test_key_of_user_data_is_told_from_a_stream_by_its_letters() -> None:
    assert is_listen_key(KEY)
    for name in (
        A,
        "!ticker@arr",
        "0",
        "1" * 64,
        KEY[:39],
        KEY * 3,
        KEY + "@",
        KEY + "\n",
        f"{KEY}/",
        "tradingSession",
    ):
        assert not is_listen_key(name), name


def test_key_beside_market_streams_is_opened_unwrapped() -> None:
    assert user_target(UM, KEY) == f"/private/ws?listenKey={KEY}&events={ALL_EVENTS}"
    assert user_target(SPOT, KEY) == user_target(CM, KEY) == f"/ws/{KEY}"


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=60))
def test_no_target_fails_otherwise_than_in_words_and_none_leaves_its_line(text: str) -> None:
    for target in (
        text,
        f"/{text}",
        f"/ws/{text}",
        f"/private/ws?listenKey={KEY}&events={text}",
        f"/ws-api/v3?{text}",
    ):
        try:
            route = resolve_stream(target)
        except ResenderError:
            continue
        assert route.target.isascii()
        assert not set(route.target) & set(' \r\n\t\0#"\\<>')
