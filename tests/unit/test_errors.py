"""The table of our own answers."""

from __future__ import annotations

import inspect
import json

import pytest

from resender import errors
from resender.errors import ANSWERS, RETRIED_BY_CLIENTS, AnswerError, error_body

TABLE = {
    "forbidden": (403, -1),
    "unreachable": (502, -2),
    "not_found": (404, -3),
    "method_not_allowed": (405, -3),
    "bad_request": (400, -4),
    "too_large": (413, -5),
    "lost": (502, -6),
    "timeout": (504, -7),
    "busy": (503, -8),
    "internal": (500, -9),
    "not_ready": (503, -10),
}
KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, AnswerError) and kind is not AnswerError
]


def test_table_is_as_documented() -> None:
    assert {name: (a.status, a.code) for name, a in ANSWERS.items()} == TABLE


def test_no_code_of_ours_makes_a_client_library_repeat_the_call() -> None:
    assert {-1001, -1003, -1004, -1007, -1008, -1016} == RETRIED_BY_CLIENTS
    assert not RETRIED_BY_CLIENTS & {answer.code for answer in ANSWERS.values()}


def test_every_row_has_its_error_and_every_error_its_row() -> None:
    assert sorted(kind.name for kind in KINDS) == sorted(TABLE)


@pytest.mark.parametrize("kind", KINDS)
def test_body_is_the_one_shape(kind: type[AnswerError]) -> None:
    error = kind("1.2.3.4")
    body = json.loads(error.body())
    assert list(body) == ["code", "msg", "data"]
    assert body["code"] == error.answer.code
    assert body["data"] == {}
    assert "1.2.3.4" in body["msg"]


@pytest.mark.parametrize("msg", ['quote " and \\', "中文", "\x00\n", "lone \udcff surrogate"])
def test_body_is_always_valid_json_and_utf_8(msg: str) -> None:
    assert "msg" in json.loads(error_body(-9, msg).decode("utf-8"))
