"""Who may call."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.access.whitelist import TrustedProxies, Whitelist, normalise_address


@dataclass(frozen=True)
class Row:
    id: int
    address: str
    enabled: bool = True


def whitelist(*addresses: str) -> Whitelist:
    return Whitelist(Row(n, address) for n, address in enumerate(addresses, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.5", "203.0.113.5"),
        (" 203.0.113.5 ", "203.0.113.5"),
        ("203.0.113.5/32", "203.0.113.5"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.0/255.255.255.0", "203.0.113.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1/128", "::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_address_is_normalised(text: str, expected: str) -> None:
    assert normalise_address(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "203.0.113", "203.0.113.256", "203.0.113.5/33", "203.0.113.5/24", "10.0.0.1/8", "fe80::1%eth0",
     "1.2.3.4,5.6.7.8", "1.2.3.4 5", "localhost", "2001:db8::/129", "/24", "1.2.3.4/", "01.2.3.4", "😀", "1" * 5000],
)  # fmt: skip
def test_bad_address_is_refused_with_a_text(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        normalise_address(text)
    assert 10 < len(str(caught.value)) < 300


def test_host_inside_a_network_is_refused_with_both_ways_out() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8 .*10\.0\.0\.1 "):
        normalise_address("10.0.0.1/8")


def test_empty_whitelist_lets_nobody_in() -> None:
    for ip in ("127.0.0.1", "::1", "203.0.113.5", "unknown", ""):
        assert Whitelist().match(ip) is None


@pytest.mark.parametrize(
    ("entries", "ip", "matches"),
    [
        (["203.0.113.5"], "203.0.113.5", True),
        (["203.0.113.5"], "::ffff:203.0.113.5", True),
        (["203.0.113.5"], "::FFFF:203.0.113.5", True),
        (["203.0.113.5"], "::ffff:cb00:7105", True),
        (["203.0.113.5"], "203.0.113.6", False),
        (["::ffff:203.0.113.5"], "203.0.113.5", True),
        (["203.0.113.0/24"], "203.0.113.255", True),
        (["203.0.113.0/24"], "203.0.114.0", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["fe80::1"], "fe80::1%eth0", True),
        (["0.0.0.0/0"], "8.8.8.8", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::/0"], "8.8.8.8", False),
        (["::/0"], "::1", True),
        (["127.0.0.1"], "localhost", False),
        (["127.0.0.1"], "127.0.0.1 ", False),
        (["127.0.0.1"], "127.1", False),
    ],
)
def test_match(entries: list[str], ip: str, matches: bool) -> None:
    assert (whitelist(*entries).match(ip) is not None) is matches
    # The second answer comes from the memory of the first.
    found = whitelist(*entries)
    assert found.match(ip) == found.match(ip)


def test_entry_that_is_switched_off_does_not_match() -> None:
    assert Whitelist([Row(1, "203.0.113.5", enabled=False)]).match("203.0.113.5") is None


def test_row_that_cannot_be_read_lets_nobody_in() -> None:
    found = Whitelist([Row(1, "nonsense"), Row(2, "203.0.113.5")])
    assert (found.size, found.unreadable) == (1, 1)
    assert found.match("203.0.113.5") == 2


def test_narrowest_entry_is_named() -> None:
    found = whitelist("203.0.0.0/16", "203.0.113.5", "203.0.113.0/24")
    assert found.match("203.0.113.5") == 2
    assert found.match("203.0.113.6") == 3
    assert found.match("203.0.1.1") == 1


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
# Few distinct high bits, so that matches do happen.
close_v4 = st.integers(0, 0x3FF).map(lambda n: ipaddress.IPv4Address(0xCB007000 + n))
networks = st.tuples(close_v4, st.integers(20, 32)).map(
    lambda pair: ipaddress.ip_network((int(pair[0]) >> (32 - pair[1]) << (32 - pair[1]), pair[1]))
)


@given(st.lists(networks, max_size=8), st.one_of(close_v4, addresses))
def test_match_agrees_with_a_plain_search(nets, ip) -> None:
    expected = any(ip in net for net in nets if net.version == ip.version)
    if ip.version == 6 and ip.ipv4_mapped:
        expected = any(ip.ipv4_mapped in net for net in nets)
    assert (whitelist(*map(str, nets)).match(str(ip)) is not None) is expected


def test_check_with_ten_thousand_entries_looks_at_few_of_them() -> None:
    nets = [f"{a}.{b}.0.0/16" for a in range(1, 80) for b in range(64)]
    hosts = [f"200.{n >> 8 & 255}.{n & 255}.7" for n in range(5000)]
    found = whitelist(*nets, *hosts)
    assert found.size > 10_000
    # One look-up for each prefix length in use, not one for each entry.
    assert len(found._v4.tables) == 2
    assert found.match("200.0.1.7") is not None
    assert found.match("79.63.1.1") is not None
    assert found.match("201.0.0.1") is None


def test_memory_of_answers_stays_bounded() -> None:
    found = whitelist("10.0.0.0/8")
    for n in range(20_000):
        found.match(f"11.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(found._known) <= 4096


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "real", "expected"),
    [
        # nobody is trusted: headers are ignored
        ([], "198.51.100.1", ["127.0.0.1"], ["127.0.0.1"], "198.51.100.1"),
        # the peer is not the trusted one
        (["10.0.0.1"], "198.51.100.1", ["127.0.0.1"], ["127.0.0.1"], "198.51.100.1"),
        # trusted: the rightmost address that is not trusted
        (["10.0.0.1"], "10.0.0.1", ["203.0.113.9"], [], "203.0.113.9"),
        (["10.0.0.1"], "10.0.0.1", ["127.0.0.1, 203.0.113.9"], [], "203.0.113.9"),
        (["10.0.0.0/8"], "10.0.0.1", ["203.0.113.9, 10.0.0.2,10.0.0.3"], [], "203.0.113.9"),
        # several lines are one list
        (["10.0.0.1"], "10.0.0.1", ["127.0.0.1", "203.0.113.9"], [], "203.0.113.9"),
        (["10.0.0.0/8"], "10.0.0.1", ["127.0.0.1, 203.0.113.9", "10.0.0.7"], [], "203.0.113.9"),
        # all trusted: the leftmost
        (["10.0.0.0/8"], "10.0.0.1", ["10.0.0.9, 10.0.0.2"], [], "10.0.0.9"),
        # X-Real-IP only where the other is absent
        (["10.0.0.1"], "10.0.0.1", ["203.0.113.9"], ["203.0.113.1"], "203.0.113.9"),
        (["10.0.0.1"], "10.0.0.1", [], ["203.0.113.1"], "203.0.113.1"),
        (["10.0.0.1"], "10.0.0.1", [], ["203.0.113.1", "127.0.0.1"], "unknown"),
        (["10.0.0.1"], "10.0.0.1", [], [], "10.0.0.1"),
        # spellings
        (["10.0.0.1"], "::ffff:10.0.0.1", ["::ffff:203.0.113.9"], [], "203.0.113.9"),
        (["10.0.0.1"], "10.0.0.1", ["203.0.113.9:5678"], [], "203.0.113.9"),
        (["10.0.0.1"], "10.0.0.1", ["[2001:db8::1]:80"], [], "2001:db8::1"),
        (["10.0.0.1"], "10.0.0.1", ["2001:db8::1"], [], "2001:db8::1"),
        # what cannot be read lets nobody in
        (["10.0.0.1"], "10.0.0.1", ["203.0.113.9, unknown"], [], "unknown"),
        (["10.0.0.1"], "10.0.0.1", ["203.0.113.9, "], [], "unknown"),
        (["10.0.0.1"], "10.0.0.1", [""], ["127.0.0.1"], "unknown"),
        (["10.0.0.1"], "10.0.0.1", [], ["x"], "unknown"),
        ([], "not an address", [], [], "unknown"),
    ],
)
def test_client_ip(trusted, peer, forwarded, real, expected) -> None:
    assert TrustedProxies(trusted).client_ip(peer, forwarded, real) == expected


@given(st.lists(st.text(max_size=30), max_size=4), st.lists(st.text(max_size=30), max_size=2))
def test_a_stranger_is_never_believed(forwarded: list[str], real: list[str]) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.client_ip("198.51.100.1", forwarded, real) == "198.51.100.1"
    assert isinstance(proxies.client_ip("10.0.0.1", forwarded, real), str)
