"""The table of our own answers."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from resender import errors
from resender.errors import (
    ANSWERS,
    RETRIED_BY_CLIENTS,
    AnswerError,
    EgressExhausted,
    Forbidden,
    TooManyLogins,
    error_body,
)

TABLE = {
    "forbidden": (403, -1),
    "unreachable": (502, -2),
    "not_found": (404, -3),
    "method_not_allowed": (405, -3),
    "bad_request": (400, -4),
    "too_large": (413, -5),
    "uri_too_long": (414, -5),
    "headers_too_large": (431, -5),
    "lost": (502, -6),
    "timeout": (504, -7),
    "busy": (503, -8),
    "internal": (500, -9),
    "not_ready": (503, -10),
    "unauthorized": (401, -11),
    "denied": (403, -12),
    "conflict": (409, -13),
    "too_many_logins": (429, -14),
    "egress_away": (503, -15),
    "no_weight": (429, -1003),
    "banned": (418, -1003),
}
# Refused before anything was sent, so that repeating is what the client should do.
NOTHING_SENT = {"no_weight", "banned"}
KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, AnswerError) and kind is not AnswerError
]


def test_table_is_as_documented() -> None:
    assert {name: (a.status, a.code) for name, a in ANSWERS.items()} == TABLE


def test_no_code_of_ours_makes_a_client_library_repeat_the_call() -> None:
    assert {-1001, -1003, -1004, -1007, -1008, -1016} == RETRIED_BY_CLIENTS
    assert not RETRIED_BY_CLIENTS & {a.code for a in ANSWERS.values() if a.name not in NOTHING_SENT}


def test_every_row_has_its_error_and_every_error_its_row() -> None:
    names = {kind.name for kind in KINDS if kind is not EgressExhausted}
    # The last words of a connection whose request cannot be read are no exceptions.
    assert sorted(names | NOTHING_SENT | {"uri_too_long", "headers_too_large"}) == sorted(TABLE)
    assert EgressExhausted("x", 1).name == "no_weight"
    assert EgressExhausted("x", 1, is_ban=True).name == "banned"


def make(kind: type[AnswerError], text: str) -> AnswerError:
    if kind is TooManyLogins:
        return TooManyLogins(7)
    return EgressExhausted(text, 7) if kind is EgressExhausted else kind(text)


@pytest.mark.parametrize("kind", KINDS)
def test_body_is_the_one_shape(kind: type[AnswerError]) -> None:
    error = make(kind, "1.2.3.4")
    body = json.loads(error.body())
    assert list(body) == ["code", "msg", "data"]
    assert body["code"] == error.answer.code
    data: dict[str, Any] = {"reason": "throttled", "seconds": 7} if kind is TooManyLogins else {}
    if kind is Forbidden:
        assert "whitelist add 1.2.3.4" in body["data"].pop("hint")
    assert body["data"] == data
    assert ("7 s" if kind is TooManyLogins else "1.2.3.4") in body["msg"]


@pytest.mark.parametrize("msg", ['quote " and \\', "中文", "\x00\n", "lone \udcff surrogate"])
def test_body_is_always_valid_json_and_utf_8(msg: str) -> None:
    assert "msg" in json.loads(error_body(-9, msg).decode("utf-8"))
