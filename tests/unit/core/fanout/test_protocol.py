"""Control messages of clients: what each asks for, and the words of every refusal."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.fanout.protocol import METHODS, Command, Refused, read_command, result

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM


def message(method: Any, params: Any = None, message_id: Any = 1) -> bytes:
    return orjson.dumps({"method": method, "params": params, "id": message_id})


def refusal(market: Market, text: str | bytes) -> Any:
    with pytest.raises(Refused) as caught:
        read_command(market, text)
    return orjson.loads(caught.value.reply)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (message("SUBSCRIBE", ["a@trade", "b@trade"]), Command("SUBSCRIBE", ("a@trade", "b@trade"), b"1")),
        (message("SUBSCRIBE", []), Command("SUBSCRIBE", (), b"1")),
        (message("UNSUBSCRIBE", ["a@trade"]), Command("UNSUBSCRIBE", ("a@trade",), b"1")),
        (message("LIST_SUBSCRIPTIONS"), Command("LIST_SUBSCRIPTIONS", (), b"1")),
        (message("LIST_SUBSCRIPTIONS", {"x": 1}), Command("LIST_SUBSCRIPTIONS", (), b"1")),
        (message("SET_PROPERTY", ["combined", True]), Command("SET_PROPERTY", ("combined", True), b"1")),
        (message("SET_PROPERTY", ["combined", False]), Command("SET_PROPERTY", ("combined", False), b"1")),
        (message("GET_PROPERTY", ["combined"]), Command("GET_PROPERTY", ("combined",), b"1")),
        # Names that are no streams are acknowledged like the others.
        (message("SUBSCRIBE", ["", "BTCUSDT@TRADE", '"'], "x"), Command("SUBSCRIBE", ("", "BTCUSDT@TRADE", '"'),
        b'"x"')),
        (b' {"id" : 7, "method":"LIST_SUBSCRIPTIONS"} ', Command("LIST_SUBSCRIPTIONS", (), b"7")),
        ('{"method":"LIST_SUBSCRIPTIONS"}', Command("LIST_SUBSCRIPTIONS", (), b"null")),
    ],
)  # fmt: skip
def test_message_is_read_whatever_the_market(text: str | bytes, command: Command) -> None:
    assert all(read_command(market, text) == command for market in (SPOT, UM, CM))


@pytest.mark.parametrize(
    "written",
    ["0", "1", "-1", "9223372036854775807", "18446744073709551615", '""', '"7"', '"a-b\\n\\u00e4"',
    f'"{"x" * 128}"', "null"],
)  # fmt: skip
def test_id_comes_back_with_the_value_and_the_type_it_had(written: str) -> None:
    command = read_command(SPOT, f'{{"method":"LIST_SUBSCRIPTIONS","id":{written}}}')
    assert orjson.loads(command.message_id) == orjson.loads(written)
    reply = orjson.loads(result(command.message_id))
    assert reply == {"result": None, "id": orjson.loads(written)}
    assert type(reply["id"]) is type(orjson.loads(written))


@pytest.mark.parametrize("written", ["1.5", "true", "[]", "{}", "18446744073709551616", f'"{"x" * 129}"'])
@pytest.mark.parametrize("market", [SPOT, UM])
def test_id_that_is_none_is_refused_and_not_repeated(market: Market, written: str) -> None:
    found = refusal(market, f'{{"method":"LIST_SUBSCRIPTIONS","id":{written}}}')
    assert found["id"] is None
    assert found["error"]["code"] == 2
    assert "request ID" in found["error"]["msg"]


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (b"", 3, "Invalid JSON"),
        (b"{", 3, "Invalid JSON"),
        (b"\xff", 3, "Invalid JSON"),
        (b"[" * 5000, 3, "Invalid JSON"),
        ("\ud800", 3, "Invalid JSON"),
        (b"{'method':1}", 3, "Invalid JSON"),
        (b"[]", 2, "expected struct"),
        (b'"SUBSCRIBE"', 2, "expected struct"),
        (b"7", 2, "expected struct"),
        (b"{}", 2, "missing field `method`"),
        (message("subscribe", []), 2, "unknown variant `subscribe`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`"),
        (message(["SUBSCRIBE"], []), 2, "unknown variant"),
        (message({"a": "x" * 500}, []), 2, "unknown variant"),
        (message("SUBSCRIBE"), 2, "missing field `params`"),
        (message("UNSUBSCRIBE", "a@trade"), 2, "expected a sequence"),
        (message("SUBSCRIBE", {"0": "a"}), 2, "expected a sequence"),
        (message("SUBSCRIBE", ["a@trade", 7]), 2, "sequence of strings"),
        (message("SUBSCRIBE", [["a@trade"]]), 2, "sequence of strings"),
        (message("SUBSCRIBE", ["x" * 201]), 2, "sequence of strings"),
        (message("SET_PROPERTY", []), 0, "Unknown property"),
        (message("GET_PROPERTY", ["Combined"]), 0, "Unknown property"),
        (message("GET_PROPERTY"), 2, "missing field `params`"),
        (message("SET_PROPERTY", ["combined"]), 1, "expected Boolean"),
        (message("SET_PROPERTY", ["combined", 1]), 1, "expected Boolean"),
        (message("SET_PROPERTY", ["combined", "true"]), 1, "expected Boolean"),
        (message("SET_PROPERTY", ["combined", True, True]), 1, "expected Boolean"),
    ],
)  # fmt: skip
def test_message_that_cannot_be_read_is_refused_in_binances_words(
    text: str | bytes, code: int, part: str
) -> None:
    for market in (SPOT, UM, CM):
        error = refusal(market, text)["error"]
        assert error["code"] == code
        assert part in error["msg"]
        assert len(error["msg"]) < 300


def test_refusal_is_flat_and_nested_on_spot_and_nested_alone_on_futures() -> None:
    text = message("NO", [], 7)
    spot, um = refusal(SPOT, text), refusal(UM, text)
    assert spot == {"code": 2, "msg": spot["msg"], "error": {"code": 2, "msg": spot["msg"]}, "id": 7}
    assert um == {"error": {"code": 2, "msg": spot["msg"]}, "id": 7} == refusal(CM, text)


def test_result_is_written_as_binance_writes_it() -> None:
    assert result(b"7") == b'{"result":null,"id":7}'
    assert result(b'"x"', b'["a@trade"]') == b'{"result":["a@trade"],"id":"x"}'


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.binary(max_size=60)
    | st.text(max_size=60)
    | st.fixed_dictionaries(
        {}, optional={"method": st.sampled_from(METHODS) | _values, "params": _values, "id": _values, "x": _values}
    ).map(orjson.dumps)
)  # fmt: skip
def test_any_message_is_a_command_or_refused_in_json(text: str | bytes) -> None:
    for market in (SPOT, UM):
        try:
            command = read_command(market, text)
        except Refused as refused:
            orjson.loads(refused.reply)
        else:
            assert command.method in METHODS
            orjson.loads(result(command.message_id))
