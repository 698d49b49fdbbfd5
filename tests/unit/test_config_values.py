"""How the value of a setting is read, from Python or from a text, and the words for what cannot be."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.config_values import (
    base_url,
    integer_between,
    one_of,
    read_addresses,
    read_consent,
    read_egress,
    read_flag,
    read_fraction,
    read_items,
    read_node_name,
    read_pins,
    read_preload,
    read_redis_url,
    read_text,
    seconds_between,
    share_between,
    text_of_at_least,
)

URL = base_url("http", "https", can_be_off=True)


@pytest.mark.parametrize(
    ("parse", "given", "found"),
    [
        (read_text, "  a b ", "a b"),
        (text_of_at_least(4), " abcd ", "abcd"),
        (text_of_at_least(4), " ", ""),
        (one_of("text", "JSON"), " json ", "JSON"),
        (integer_between(0, 9000), " 8_000 ", 8000),
        (integer_between(0, 9), 7, 7),
        (integer_between(-5, 5), "-5", -5),
        (seconds_between(0, 60), "1.5", 1.5),
        (seconds_between(0, 60), 60, 60.0),
        (share_between(0, 0.9), "0", 0.0),
        (read_fraction, "1", 1.0),
        (read_flag, " Yes ", True),
        (read_flag, 0, False),
        (read_flag, True, True),
        (read_flag, "OFF", False),
        (read_items, "a, b ,,c", ("a", "b", "c")),
        (read_items, ["a", " ", " b"], ("a", "b")),
        (read_items, "", ()),
        (read_addresses, "10.0.0.1, 10.0.0.1,::1,10.0.0.0/8", ("10.0.0.1", "::1", "10.0.0.0/8")),
        (read_preload, " spot:BTCUSDT@1m ", "spot:BTCUSDT@1m"),
        (read_consent, " avgPrice=5 , um:ticker/24hr=7", ("avgPrice=5", "um:ticker/24hr=7")),
        (read_consent, [], ()),
        (read_node_name, " gw-1.example:8000 ", "gw-1.example:8000"),
        (read_node_name, "", ""),
        (read_redis_url, " redis://host/1 ", "redis://host/1"),
        (read_redis_url, "", ""),
    ],
)
def test_value_is_read_from_a_text_as_from_python(parse: Any, given: Any, found: Any) -> None:
    value = parse(given)
    assert value == found
    assert type(value) is type(found)


@pytest.mark.parametrize(
    ("parse", "given", "words"),
    [
        (read_text, 5, "must be a text"),
        (text_of_at_least(4), "abc", "must have 4 characters or more"),
        (one_of("text", "json"), "xml", "must be one of text, json"),
        (integer_between(1, 9), "0", "must lie between 1 and 9"),
        (integer_between(1, 9), True, "must be a whole number"),
        (integer_between(1, 9), 2.0, "must be a whole number"),
        (integer_between(1, 9), "2.0", "must be a whole number"),
        (seconds_between(0.5, 60), "0.4", "must lie between 0.5 and 60 seconds"),
        (seconds_between(0.5, 60), "nan", "must lie between"),
        (seconds_between(0.5, 60), "inf", "must lie between"),
        (seconds_between(0.5, 60), True, "must be a number of seconds"),
        (seconds_between(0.5, 60), None, "must be a number of seconds"),
        (read_fraction, 0, "above 0 and at most 1"),
        (read_fraction, "nan", "above 0 and at most 1"),
        (read_fraction, True, "such as 0.5"),
        (share_between(0, 0.9), 0.91, "from 0 to 0.9"),
        (share_between(0, 0.9), "some", "such as 0.1"),
        (read_flag, "maybe", "must be true or false"),
        (read_flag, 2, "must be true or false"),
        (read_items, 5, "must be a list of texts"),
        (read_items, ["a", 5], "must be a list of texts"),
        (read_addresses, "somewhere", "somewhere"),
        (read_egress, "ftp://127.0.0.1:1", "ftp:// is not known"),
        (read_pins, "short=a", "entry 1"),
        (read_preload, "spot:BTCUSDT", ""),
        (read_consent, "klines=5", "'klines' cannot be named here"),
        (read_consent, ["avgPrice"], "does not say how many milliseconds"),
        (read_consent, {"avgPrice": 5}, "must be a list of texts"),
    ],
)
def test_value_that_cannot_be_used_is_refused_in_words(parse: Any, given: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(given)
    assert words in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        (" http://127.0.0.1:8080/ ", "http://127.0.0.1:8080"),
        ("https://[::1]:443", "https://[::1]:443"),
        ("OFF", "off"),
    ],
)
def test_base_url_is_host_and_port_alone(given: str, found: str) -> None:
    assert URL(given) == found


@pytest.mark.parametrize(
    "given",
    [
        "api.example", "ftp://api.example", "wss://api.example", "https://", "https://:443", "https://h/api/v3",
        "https://h?x=1", "https://h#x", "https://u:p@h", "https://h:0", "https://h:99999", "https://h:x",
        "https://[::1", "https://a b", "https://höst",
    ],
)  # fmt: skip
def test_anything_else_is_no_base_url_and_is_not_repeated(given: str) -> None:
    with pytest.raises(ValueError) as caught:
        URL(given)
    assert str(caught.value) == "must be a base URL such as https://host or https://host:port"


def test_what_must_be_served_cannot_be_switched_off() -> None:
    with pytest.raises(ValueError):
        base_url("ws", "wss")("off")


@pytest.mark.parametrize(
    "parse",
    [
        read_text, one_of("a"), integer_between(0, 9), seconds_between(0, 9), URL, read_items, read_egress,
        read_pins, read_addresses, read_fraction, share_between(0, 1), read_flag, read_preload,
        read_consent, text_of_at_least(4),
    ],
)  # fmt: skip
@given(value=st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_no_value_breaks_a_reader(parse: Any, value: Any) -> None:
    with suppress(ValueError):
        parse(value)
