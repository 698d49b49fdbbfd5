"""The texts of `EGRESS` and `EGRESS_PINS`."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.egress.spec import DEFAULT_ROUTE, EgressSpec, parse_egress, parse_pins

KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"


def one(text: str) -> EgressSpec:
    (spec,) = parse_egress([text])
    return spec


def test_no_entry_is_the_default_route() -> None:
    assert parse_egress([]) == (DEFAULT_ROUTE,)
    assert (DEFAULT_ROUTE.name, DEFAULT_ROUTE.kind, DEFAULT_ROUTE.markets) == ("default", "default", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", EgressSpec("default", "default")),
        ("home=default", EgressSpec("home", "default")),
        ("default;shared=office-nat", EgressSpec("default", "default", shared="office-nat")),
        (
            "203.0.113.5;markets=um;shared=a.b_c",
            EgressSpec("203.0.113.5", "address", address="203.0.113.5", markets=frozenset({Market.UM}),
                       shared="a.b_c"),
        ),
        ("203.0.113.5", EgressSpec("203.0.113.5", "address", address="203.0.113.5")),
        ("sg2=203.0.113.6", EgressSpec("sg2", "address", address="203.0.113.6")),
        ("2001:DB8::0:5", EgressSpec("2001:db8::5", "address", address="2001:db8::5")),
        ("six=[2001:db8::5]", EgressSpec("six", "address", address="2001:db8::5")),
        ("  203.0.113.5  ", EgressSpec("203.0.113.5", "address", address="203.0.113.5")),
        (
            "socks5://host:1080",
            EgressSpec("host:1080", "proxy", scheme="socks5", host="host", port=1080, shared="proxy host:1080"),
        ),
        (
            "hk=http://us%40er:p%3Aw%2F@proxy.example:3128/",
            EgressSpec(
                "hk", "proxy", scheme="http", host="proxy.example", port=3128,
                username="us@er", password="p:w/", shared="proxy proxy.example:3128",
            ),
        ),
        (
            "socks4://[2001:db8::1]:9",
            EgressSpec("[2001:db8::1]:9", "proxy", scheme="socks4", host="2001:db8::1", port=9,
                       shared="proxy 2001:db8::1:9"),
        ),
        (
            "resender://10.0.0.2:8000",
            EgressSpec("10.0.0.2:8000", "resender", scheme="http", host="10.0.0.2", port=8000),
        ),
        (
            "far=resenders://gate.example:443",
            EgressSpec("far", "resender", scheme="https", host="gate.example", port=443),
        ),
    ],
)  # fmt: skip
def test_entry_is_read(text: str, expected: EgressSpec) -> None:
    assert one(text) == expected


def test_markets_of_an_entry_limit_what_it_serves() -> None:
    spec = one("sg2=203.0.113.6 ; markets = um + cm")
    assert spec.markets == {Market.UM, Market.CM}
    assert [market for market in Market if spec.serves(market)] == [Market.UM, Market.CM]
    assert all(one("203.0.113.6").serves(market) for market in Market)


@pytest.mark.parametrize(
    ("text", "streams"),
    [("default", True), ("203.0.113.5", True), ("http://h:1", True), ("resender://h:1", False)],
)
def test_only_another_gateway_has_no_streams(text: str, streams: bool) -> None:
    assert one(text).has_streams is streams


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "neither an IP address"),
        ("203.0.113.0/24", "neither an IP address"),
        ("", "neither an IP address"),
        ("0.0.0.0", "cannot be a source address"),
        ("::", "cannot be a source address"),
        ("224.0.0.1", "cannot be a source address"),
        ("https://user:hunter2@host:1", "https:// is not known"),
        ("ftp://host:1", "ftp:// is not known"),
        ("http://user:hunter2@host", "needs a host and a port"),
        ("http://user:hunter2@:1", "needs a host and a port"),
        ("http://user:hunter2@host:0", "needs a host and a port"),
        ("http://user:hunter2@host:70000", "not a usable URL"),
        ("http://user:hunter2@host:x", "not a usable URL"),
        ("http://user:hunter2@host:1/path", "nothing behind them"),
        ("http://user:hunter2@host:1?x=1", "nothing behind them"),
        ("http://user:hunter2@h ost:1", "characters a URL cannot hold"),
        ("http://user:hünter2@host:1", "characters a URL cannot hold"),
        ("http://[::1:1", "not a usable URL"),
        ("resender://user:hunter2@host:1", "knows no user name"),
        ("203.0.113.5;market=um", "only one `markets=`"),
        ("203.0.113.5;markets=um;markets=cm", "only one `markets=`"),
        ("203.0.113.5;markets=um+coin", "markets are spot, um, cm"),
        ("203.0.113.5;markets=", "markets are spot, um, cm"),
    ],
)
def test_bad_entry_is_refused_by_its_number_and_without_its_password(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"entry 2") as caught:
        parse_egress(["default", text])
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hünter2" not in str(caught.value)


@pytest.mark.parametrize(
    "items", [["a=203.0.113.5", "a=203.0.113.6"], ["203.0.113.5", "203.0.113.5"], ["default", "default"]]
)
def test_names_are_unique(items: list[str]) -> None:
    with pytest.raises(ValueError, match="two entries are named"):
        parse_egress(items)


def test_password_is_not_in_the_text_of_a_spec() -> None:
    assert "hunter2" not in repr(one("http://user:hunter2@host:1"))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        specs = parse_egress([text])
    except ValueError:
        return
    assert len(specs) == 1
    assert specs[0].name
    assert specs[0].kind in ("default", "address", "proxy", "resender")


def test_key_is_found_by_its_beginning_the_longest_first() -> None:
    pins = parse_pins(["vmPUZE6m=near", f"{KEY[:12]} = far", "abcdefgh=near"])
    assert pins.find(KEY) == "far"
    assert pins.find("vmPUZE6mxxxxxxxxxx") == "near"
    assert pins.find("vmPUZE6") is None
    assert pins.find("") is None
    assert pins.names() == {"near", "far"}
    assert pins


def test_key_is_found_by_its_digest_before_its_beginning() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    pins = parse_pins([f"sha256:{digest.upper()}=exact", f"{KEY[:8]}=prefix"])
    assert pins.find(KEY) == "exact"
    assert pins.find(KEY[:-1] + "B") == "prefix"
    assert pins.find("\udcff") is None


def test_no_pins_are_false() -> None:
    assert not parse_pins([])
    assert parse_pins([]).find(KEY) is None


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["vmPUZE6m"], "needs the form"),
        (["vmPUZE6m="], "needs the form"),
        (["=near"], "first 8 or more"),
        (["vmPUZE6=near"], "first 8 or more"),
        (["vmPUZE6-vmPUZE6=near"], "first 8 or more"),
        (["sha256:abc=near"], "first 8 or more"),
        (["vmPUZE6m=near", "vmPUZE6m=far"], "bound to two egresses"),
    ],
)
def test_bad_pin_is_refused_without_repeating_the_key(items: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=f"entry {len(items)}") as caught:
        parse_pins(items)
    assert words in str(caught.value)
    assert "vmPUZE6" not in str(caught.value)


def test_node_has_its_own_egresses_by_their_names_alone() -> None:
    digest = "0" * 64
    pins = parse_pins(["abcdefgh=gw2/hk", "ijklmnop=gw1/hk", "qrstuvwx=jp", f"sha256:{digest}=gw2/jp"]).at(
        "gw2"
    )
    assert [pins.find(key) for key in ("abcdefgh1", "ijklmnop1", "qrstuvwx1")] == ["hk", "gw1/hk", "jp"]
    assert pins.digests == {digest: "jp"}
