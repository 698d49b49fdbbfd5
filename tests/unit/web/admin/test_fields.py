"""Bodies and queries: values in, a value or a refusal out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.errors import BadRequest
from resender.web.admin.fields import ABSENT, Field, read_flag, read_int, read_object

FIELDS = {
    "name": Field(str, longest=5),
    "count": Field(int, 1, low=0, high=10),
    "scope": Field(str, "read", choices=("read", "write")),
    "ids": Field(list, (), longest=2, items=int),
    "when": Field(int, None, nullable=True),
    "word": Field(str, ABSENT, nullable=True),
    "on": Field(bool, False),
}


def test_fields_are_read_and_defaults_filled_in() -> None:
    assert read_object(b'{"name":"a","when":null,"ids":[1,2],"word":null}', FIELDS) == {
        "name": "a", "count": 1, "scope": "read", "ids": [1, 2], "when": None, "word": None, "on": False,
    }  # fmt: skip
    assert read_object(b'{"name":"a"}', FIELDS)["word"] is ABSENT
    assert read_object(b"  ", {}) == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "name"), (b'{"name":null}', "name"), (b'{"name":5}', "name"), (b'{"name":"abcdef"}', "name"),
        (b'{"name":"a","count":true}', "count"), (b'{"name":"a","count":11}', "count"),
        (b'{"name":"a","count":1.0}', "count"), (b'{"name":"a","scope":"root"}', "scope"),
        (b'{"name":"a","ids":[1,2,3]}', "ids"), (b'{"name":"a","ids":["1"]}', "ids"),
        (b'{"name":"a","ids":[true]}', "ids"), (b'{"name":"a","when":"x"}', "when"),
        (b'{"name":"a","on":1}', "on"), (b'{"name":"a","other":1}', "other"),
        (b'{"name":"a","when":99999999999999999999}', None), (b"[]", None), (b"nul", None), (b"\xff", None),
    ],
)  # fmt: skip
def test_wrong_body_is_refused_and_the_field_named(body: bytes, field: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        read_object(body, FIELDS)
    assert caught.value.msg
    if field is not None:
        assert caught.value.data["field"] == field


@given(st.binary(max_size=100))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    with suppress(BadRequest):
        read_object(body, FIELDS)


def test_numbers_and_flags_of_a_query_are_read_or_refused() -> None:
    assert read_int("n", " 7 ", 0, 10) == 7
    assert read_int("n", "-7", -10, 10) == -7
    for text in ("", "11", "1.0", "1e3", "٣", "--1", "0x1", "9" * 30):
        with pytest.raises(BadRequest):
            read_int("n", text, 0, 10)
    assert read_flag("f", "TRUE")
    assert not read_flag("f", "0")
    with pytest.raises(BadRequest):
        read_flag("f", "maybe")
