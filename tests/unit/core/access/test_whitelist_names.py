"""DNS names among the entries of the whitelist: how they are spelled, and what they let in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.access.whitelist import Whitelist, is_name, normalise_address, normalise_entry

HOME = "home.example.com"


@dataclass(frozen=True)
class Row:
    id: int
    address: str
    enabled: bool = True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HOME, HOME),
        (" Home.Example.COM. ", HOME),
        ("home.example.com.", HOME),
        ("home.example.com..", HOME),
        ("a.bc", "a.bc"),
        ("xn--fsqu00a.example", "xn--fsqu00a.example"),
        ("my_box.dyn.example.org", "my_box.dyn.example.org"),
        ("1.2.3.example", "1.2.3.example"),
        ("203.0.113.5.example", "203.0.113.5.example"),
        ("a" * 55 + ".example", "a" * 55 + ".example"),
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:DB8::1", "2001:db8::1"),
    ],
)
def test_entry_has_one_spelling(text: str, expected: str) -> None:
    assert normalise_entry(text) == expected
    assert normalise_entry(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "localhost", "home", "203.0.113.500", "203.0.113", "1.2.3.4.5", "home.example.1",
        ".example.com", "home..example.com", "-home.example.com", "home-.example.com", "home.example-",
        "home.-example", "*.example.com", "home.example.com/24", "home.example.com:443",
        "http://home.example.com", "home.example.com, a.bc", "home example.com", "家.example.com",
        "a" * 64 + ".example", "a" * 57 + ".example", "user@home.example.com", "home.exa_mple.c_m",
        "fe80::1%eth0.example", "☺.example", "home.example.com\0",
    ],
)  # fmt: skip
def test_what_is_no_name_and_no_address_is_refused_with_a_text(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        normalise_entry(text)
    assert 10 < len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["203.0.113.5", "203.0.113.0/24", "2001:db8::1", "::1", "1.2", "127.1"])
def test_address_is_never_taken_for_a_name(text: str) -> None:
    assert not is_name(text)


def test_name_is_no_address() -> None:
    with pytest.raises(ValueError, match="not an IPv4 or IPv6 address"):
        normalise_address(HOME)


@given(st.text(max_size=80))
def test_any_text_is_an_entry_or_refused(text: str) -> None:
    try:
        entry = normalise_entry(text)
    except ValueError:
        return
    assert normalise_entry(entry) == entry
    assert len(entry) <= 64
    assert entry.isascii()


@given(st.from_regex(r"([a-z0-9]{1,9}\.){1,4}[a-z]{2,8}", fullmatch=True))
def test_every_ordinary_name_is_one(text: str) -> None:
    assert is_name(normalise_entry(text.upper() + "."))


def test_name_lets_in_the_addresses_it_has_now_and_nobody_else() -> None:
    names = Whitelist([Row(1, HOME)], {HOME: ("192.0.2.1", "2001:db8::1")})
    assert names.match("192.0.2.1") == 1
    assert names.match("2001:DB8:0::1") == 1
    assert names.match("::ffff:192.0.2.1") == 1
    assert names.match("192.0.2.2") is None
    assert names.match("2001:db8::2") is None


@pytest.mark.parametrize("resolved", [{}, {HOME: ()}, {"away.example.net": ("192.0.2.1",)}])
def test_name_that_is_not_resolved_lets_nobody_in(resolved: dict[str, tuple[str, ...]]) -> None:
    names = Whitelist([Row(1, HOME)], resolved)
    assert names.match("192.0.2.1") is None
    assert (names.size, names.unreadable) == (1, 0)


def test_name_that_is_switched_off_lets_nobody_in() -> None:
    assert Whitelist([Row(1, HOME, enabled=False)], {HOME: ("192.0.2.1",)}).match("192.0.2.1") is None


@pytest.mark.parametrize("is_name_first", [True, False])
def test_call_counts_for_the_address_that_has_an_entry_of_its_own(is_name_first: bool) -> None:
    rows = [Row(1, HOME), Row(2, "192.0.2.1")]
    names = Whitelist(rows if is_name_first else rows[::-1], {HOME: ("192.0.2.1", "192.0.2.3")})
    assert names.match("192.0.2.1") == 2
    assert names.match("192.0.2.3") == 1


def test_name_is_narrower_than_the_network_its_address_is_in() -> None:
    names = Whitelist([Row(1, "192.0.2.0/24"), Row(2, HOME)], {HOME: ("192.0.2.1",)})
    assert names.match("192.0.2.1") == 2
    assert names.match("192.0.2.2") == 1


def test_two_names_of_one_address_let_it_in_until_both_have_left() -> None:
    rows = [Row(1, HOME), Row(2, "away.example.net")]
    assert Whitelist(rows, {HOME: ("192.0.2.1",), "away.example.net": ("192.0.2.1",)}).match("192.0.2.1") == 1
    assert Whitelist(rows, {HOME: (), "away.example.net": ("192.0.2.1",)}).match("192.0.2.1") == 2


def test_answer_that_is_no_address_lets_nobody_in() -> None:
    names = Whitelist([Row(1, HOME), Row(2, "192.0.2.9")], {HOME: ("by hand",)})
    assert names.match("by hand") is None
    assert names.match("192.0.2.9") == 2
    assert names.unreadable == 1


def test_word_of_a_name_is_not_believed_as_an_address() -> None:
    assert Whitelist([Row(1, HOME)], {HOME: ("192.0.2.1",)}).match(HOME) is None
