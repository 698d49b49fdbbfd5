"""Names of our own for Binance's hosts, and bulk files: a label chooses an entry of a table, nothing else counts."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.host_names import DOWNLOAD_NAME, behind_host, download_of, is_unknown_name
from resender.core.binance.markets import (
    MARGIN_STREAM_NAME,
    REST_NAMES,
    STREAM_NAMES,
    WS_API_NAMES,
    Market,
)
from resender.core.binance.routing import resolve
from resender.core.binance.stream_urls import resolve_stream
from resender.errors import RouteError

SUFFIX = "gw.example"
NAMES = (*REST_NAMES, *STREAM_NAMES, *WS_API_NAMES, MARGIN_STREAM_NAME)


# --- names of our own ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_first_label_of_every_name_of_binances_stands_for_it(name: str) -> None:
    host = f"{name.partition('.')[0]}.{SUFFIX}"
    assert behind_host("/x?y", host, SUFFIX) == f"/{name}/x?y"


def test_no_two_names_of_binances_begin_with_one_label() -> None:
    assert len({name.partition(".")[0] for name in NAMES}) == len(set(NAMES))


@pytest.mark.parametrize(
    ("host", "suffix"),
    [
        ("FAPI.GW.Example", SUFFIX),
        ("fapi.gw.example:8443", SUFFIX),
        ("fapi.gw.example", "GW.EXAMPLE"),
        ("fapi.example", "example"),
        ("fapi.a.b.c.d", "a.b.c.d"),
    ],
)
def test_name_is_known_with_any_port_and_in_any_case(host: str, suffix: str) -> None:
    assert behind_host("/fapi/v1/time", host, suffix) == "/fapi.binance.com/fapi/v1/time"


@pytest.mark.parametrize(
    "host",
    [
        None, "", ".", ":", ":443", "gw.example", ".gw.example", "fapi", "fapi.", "fapi:443", "evil.gw.example",
        "fapi.gw.example.evil.com", "fapi.evil.com", "evil.fapi.gw.example",
        "fapi..gw.example", "fapigw.example", "fapi.gw.example/../x", "fapi.gw.example@evil.com", "fapi.gw.example,x",
        "fapi.gw.example, fapi.gw.example", "fapi.gw.example\x00", " fapi.gw.example", "fapi .gw.example",
        "fapi%2egw.example", "fapi.binance.com", "[::1]:443", "10.0.0.1:8000", "fapi.gw.example\r\nX: y",
    ],
)  # fmt: skip
def test_host_that_is_no_name_of_ours_changes_nothing(host: str | None) -> None:
    assert behind_host("/fapi/v1/time", host, SUFFIX) == "/fapi/v1/time"


@pytest.mark.parametrize(
    ("target", "host", "is_unknown"),
    [
        ("/ws/x", "fstrem.gw.example", True),
        ("/stream?streams=a.b", "fstream-auth.gw.example:443", True),
        ("/ws/x", "fstream.gw.example.", False),
        ("/fstream.binance.com/ws", "gateway.gw.example", False),
        ("/local/um/closes", "gateway.gw.example", False),
        ("/ws-api/v3", "gateway.gw.example", False),
        ("/ws/x", "gw.example", False),
        ("/ws/x", "other.example", False),
        ("/ws/x", None, False),
    ],
)
def test_stream_of_a_misspelled_name_is_no_other_markets(
    target: str, host: str | None, is_unknown: bool
) -> None:
    assert is_unknown_name(target, host, SUFFIX) is is_unknown
    assert not is_unknown_name(target, host, "")


def test_final_dot_of_a_name_is_none_of_its_letters() -> None:
    assert behind_host("/fapi/v1/time", "fapi.gw.example.", SUFFIX) == "/fapi.binance.com/fapi/v1/time"


def test_bulk_files_have_a_name_too() -> None:
    assert behind_host("/data/x.zip", "data.gw.example", SUFFIX) == "/data.binance.vision/data/x.zip"


@pytest.mark.parametrize("host", ["fapi.gw.example", "fapi.", "fapi", "fapi:443", "", None])
def test_without_a_suffix_no_host_means_anything(host: str | None) -> None:
    assert behind_host("/fapi/v1/time", host, "") == "/fapi/v1/time"


@pytest.mark.parametrize(
    "target", ["/local/status", "/local/um/closes?interval=1m", "*", "", "http://x/fapi/v1/time", "fapi.gw.example:443"]
)  # fmt: skip
def test_paths_of_ours_and_what_is_no_path_stay(target: str) -> None:
    assert behind_host(target, "fapi.gw.example", SUFFIX) == target


@pytest.mark.parametrize(
    "target",
    [
        "/dapi.binance.com/dapi/v1/time", "/api/v3/time", "//dapi.binance.com/dapi/v1/time", "/@evil.com/fapi/v1/time",
        "/", "//", "/localhost/x", "/local", "/.evil.com/fapi/v1/time", "/:1/fapi/v1/time",
    ],
)  # fmt: skip
def test_path_behind_a_name_cannot_reach_another_market(target: str) -> None:
    with pytest.raises(RouteError):
        resolve(behind_host(target, "fapi.gw.example", SUFFIX))


def test_path_both_futures_hosts_have_goes_where_the_name_says() -> None:
    for label, market in (("fapi", Market.UM), ("dapi", Market.CM)):
        target = behind_host("/futures/data/basis?pair=BTCUSD", f"{label}.gw.example", SUFFIX)
        assert resolve(target).market is market


def test_streams_behind_a_name_are_those_of_its_market() -> None:
    for label, market in (("stream", Market.SPOT), ("fstream", Market.UM), ("dstream", Market.CM)):
        route = resolve_stream(behind_host("/ws/btcusdt@trade", f"{label}.gw.example", SUFFIX))
        assert (route.market, route.names) == (market, ("btcusdt@trade",))
    with pytest.raises(RouteError):
        resolve_stream(behind_host("/ws/btcusdt@trade", "ws-api.gw.example", SUFFIX))
    with pytest.raises(RouteError):  # one market's streams are not the margin host's
        resolve_stream(behind_host("/ws/btcusdt@trade", "margin-stream.gw.example", SUFFIX))


@given(st.text(max_size=40), st.text(max_size=60))
def test_whatever_a_request_says_only_a_name_of_the_table_comes_in_front(rest: str, host: str) -> None:
    target = f"/{rest}"
    for sent in (host, f"{host}.{SUFFIX}", f"fapi.{SUFFIX}{host}"):
        found = behind_host(target, sent, SUFFIX)
        first = found[1:].partition("/")[0]
        assert found == target or (first in NAMES and found == f"/{first}{target}")


# --- bulk files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/data.binance.vision/data/spot/x.zip?a=b", "/data/spot/x.zip?a=b"),
        ("/DATA.Binance.Vision:443/x", "/x"),
        ("/data.binance.vision/", "/"),
        ("//data.binance.vision/x", "/x"),  # a base URL that ends in a slash
        ("/data.binance.vision//evil.example/x", "//evil.example/x"),  # RestClient writes it as it is
        ("/data.binance.vision/http://evil.example/", "/http://evil.example/"),
        ("/data.binance.vision/?/x", "/?/x"),
    ],
)
def test_path_behind_the_name_of_the_bulk_files_is_theirs(target: str, path: str) -> None:
    assert download_of(target) == path


@pytest.mark.parametrize(
    "target",
    [
        "/data.binance.vision", "/data.binance.vision?x=/y", "/data.binance.vision.evil.com/x",
        "/evil.data.binance.vision/x", "/xdata.binance.vision/x", "/data.binance.vision@evil.com/x",
        "/x/data.binance.vision/x", "/data-api.binance.vision/x", "/", "//", "", "*", "/api/v3/time",
    ],
)  # fmt: skip
def test_other_targets_are_no_bulk_files(target: str) -> None:
    assert download_of(target) is None


@pytest.mark.parametrize(
    "target", ["xdata.binance.vision/data/x", "data.binance.vision/x", "http://data.binance.vision/x"]
)
def test_target_that_is_no_path_is_no_bulk_file(target: str) -> None:
    assert download_of(target) is None


def test_name_of_the_bulk_files_is_no_name_of_an_api() -> None:
    assert DOWNLOAD_NAME not in NAMES
    assert urlsplit(f"https://{DOWNLOAD_NAME}").hostname == DOWNLOAD_NAME
    with pytest.raises(RouteError):
        resolve(f"/{DOWNLOAD_NAME}/api/v3/time")
