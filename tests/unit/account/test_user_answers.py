from __future__ import annotations

import orjson
import pytest

from resender.account.user_answers import Broken, Refused, parsed, plain, read
from resender.core.binance.fetched import Fetched


def test_words_of_others_fit_a_header() -> None:
    assert plain("bad\r\n\u00fc" + "x" * 300) == "bad???" + "x" * 194
    assert plain("as it is") == "as it is"


@pytest.mark.parametrize(("message", "found"), [('{"e":1}', {"e": 1}), ("[1]", {}), ("no json", {})])
def test_messages_that_are_no_objects_are_empty_ones(message: str, found: object) -> None:
    assert parsed(message) == found


def test_good_answer_is_read() -> None:
    assert read(fetched(200, {"listenKey": "k"})) == {"listenKey": "k"}


@pytest.mark.parametrize(
    ("status", "told", "raised"),
    [
        (400, {"code": -2015, "msg": "Invalid API-key"}, Refused),
        (400, {"code": -1125, "msg": "This listenKey does not exist."}, Refused),
        (400, {"code": -1003, "msg": "Too many requests"}, Broken),
        (502, "<html>", Broken),
        (200, [1], Broken),
    ],
)
def test_refusals_are_told_from_what_may_be_better_later(
    status: int, told: object, raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        read(fetched(status, told))


def fetched(status: int, told: object) -> Fetched:
    return Fetched(status=status, headers={}, body=orjson.dumps(told))
