"""Lists of addresses as text, read and written."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.access.whitelist_text import LINES_MAX, read_whitelist, write_whitelist


def read(text: str) -> list[tuple[str, str | None, bool | None]]:
    wishes, errors = read_whitelist(text, note_max=1000)
    assert not errors
    return [(wish.address, wish.note, wish.enabled) for wish in wishes]


def test_line_holds_an_address_with_or_without_a_note() -> None:
    text = "\ufeff203.0.113.5\r\n# old ones\n\n 10.0.0.0/8 the office, second floor\n2001:DB8::1,home,false\n"
    assert read(text) == [
        ("203.0.113.5", None, None),
        ("10.0.0.0/8", "the office, second floor", None),
        ("2001:db8::1", "home", False),
    ]


def test_header_names_the_columns_in_any_order() -> None:
    text = 'Enabled,Address\r\nno,10.0.0.1\r\n,"10.0.0.2"\r\n'
    assert read(text) == [("10.0.0.1", None, False), ("10.0.0.2", None, None)]


def test_wrong_lines_are_told_with_their_number_and_text() -> None:
    text = (
        "10.0.0.1\nnot an address\n10.0.0.1/8\n\n10.0.0.2,note,maybe\n10.0.0.3,a,b,c\n10.0.0.1,other note\n"
    )
    wishes, errors = read_whitelist(text, note_max=1000)
    assert [wish.address for wish in wishes] == ["10.0.0.1"]
    assert [(error.line, error.text) for error in errors] == [
        (2, "not an address"),
        (3, "10.0.0.1/8"),
        (5, "10.0.0.2,note,maybe"),
        (6, "10.0.0.3,a,b,c"),
        (7, "10.0.0.1,other note"),
    ]
    assert [error.reason for error in errors] == ["address", "address", "enabled", "columns", "twice"]
    assert "10.0.0.0/8" in errors[1].msg
    assert "line 1" in errors[4].msg


def test_address_that_comes_twice_and_says_the_same_counts_once() -> None:
    assert read("10.0.0.1\n10.0.0.1/32\n::ffff:10.0.0.1\n") == [("10.0.0.1", None, None)]


def test_too_long_a_note_and_too_many_lines_are_errors() -> None:
    _, errors = read_whitelist(f"10.0.0.1,{'x' * 11}", note_max=10)
    assert "11 characters" in errors[0].msg
    wishes, errors = read_whitelist("10.0.0.1\n" * (LINES_MAX + 5), note_max=10)
    assert len(wishes) == 1
    assert [error.line for error in errors] == [LINES_MAX + 1]


@pytest.mark.parametrize(
    "note", ["=1+1", "+1", "-1", "@x", "\tx", "'=1+1", "''-1", "'quoted'", "a,b", 'a"b', "a\nb"]
)
def test_note_that_looks_like_a_formula_is_masked_and_comes_back(note: str) -> None:
    text = write_whitelist([("10.0.0.1", note, True)])
    cell = list(csv.reader(io.StringIO(text, newline="")))[1][1]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert read(text) == [("10.0.0.1", note, True)]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
            st.booleans(),
        ),
        unique_by=lambda row: row[0],
        max_size=20,
    )
)
def test_whatever_is_written_can_be_read_again(rows: list[tuple[int, str, bool]]) -> None:
    import ipaddress

    entries = [(str(ipaddress.IPv4Address(number)), note, enabled) for number, note, enabled in rows]
    expected = [(address, note.replace("\0", "\u2400"), enabled) for address, note, enabled in entries]
    assert read(write_whitelist(entries)) == expected


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    read_whitelist(text, note_max=100)
