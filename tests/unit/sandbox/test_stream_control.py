"""Control messages of a stream connection and the words of their answers."""

import orjson
import pytest

from resender.sandbox import stream_control


def control(text, names=(), combined=False, is_spot=True):
    outcome = stream_control.handle(text, list(names), combined, is_spot)
    return outcome, orjson.loads(outcome.answer)


def test_control_messages_are_answered_in_binances_words():
    outcome, answer = control('{"method":"SUBSCRIBE","params":["a@b"],"id":7}')
    assert (outcome.subscribe, answer) == (["a@b"], {"result": None, "id": 7})
    outcome, answer = control('{"method":"UNSUBSCRIBE","params":["a@b"],"id":8}')
    assert (outcome.unsubscribe, answer) == (["a@b"], {"result": None, "id": 8})
    assert control('{"method":"LIST_SUBSCRIPTIONS","id":9}', ["x"])[1] == {"result": ["x"], "id": 9}
    outcome, _ = control('{"method":"SET_PROPERTY","params":["combined",true],"id":1}')
    assert outcome.combined is True
    got = control('{"method":"GET_PROPERTY","params":["combined"],"id":1}', combined=True)[1]
    assert got == {"result": True, "id": 1}


@pytest.mark.parametrize(
    ("text", "code", "start"),
    [
        ("{", 3, "Invalid JSON"),
        ("[]", 2, "Invalid request"),
        ('{"method":"NOPE","params":[],"id":1}', 2, "Invalid request: unknown variant"),
        ('{"params":[],"id":1}', 2, "Invalid request: missing field"),
        ('{"method":"SUBSCRIBE","id":1}', 2, "Invalid request: missing field"),
        ('{"method":"SUBSCRIBE","params":"a","id":1}', 2, "Invalid request: invalid type"),
        ('{"method":"SUBSCRIBE","params":[],"id":1,"x":2}', 2, "Invalid request: too many parameters"),
        ('{"method":"SET_PROPERTY","params":["color",true],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Invalid value type"),
    ],
)
def test_bad_control_messages_are_flat_on_spot_and_nested_on_futures(text, code, start):
    flat = control(text)[1]
    assert flat["code"] == code
    assert flat["msg"].startswith(start)
    assert control(text, is_spot=False)[1]["error"] == {"code": code, "msg": flat["msg"]}


def test_request_id_may_be_text_on_spot_only():
    text = '{"method":"LIST_SUBSCRIPTIONS","id":"abc"}'
    assert control(text)[1] == {"result": [], "id": "abc"}
    assert control(text, is_spot=False)[1]["error"]["code"] == 2
