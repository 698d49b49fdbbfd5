from __future__ import annotations

import orjson
import pytest

from resender.core.account.states import merge_states, told_states


def told(at_ms: int, *numbers: int) -> str:
    return orjson.dumps({"at_ms": at_ms, "accounts": {str(n): {"state": "live"} for n in numbers}}).decode()


def test_accounts_of_other_nodes_stay_until_nobody_tells_of_them_any_more() -> None:
    text = merge_states(
        told(100_000, 7), told(100_000, 1)
    )  # 7 was written by an older version, without its time
    assert list(orjson.loads(text)["accounts"]) == ["1"]
    text = merge_states(text, told(160_000, 2))
    assert sorted(orjson.loads(text)["accounts"]) == ["1", "2"]
    text = merge_states(text, told(190_001, 2))
    found = orjson.loads(text)
    assert found == {"at_ms": 190_001, "accounts": {"2": {"state": "live", "at_ms": 190_001}}}


@pytest.mark.parametrize("before", [None, "", "no json", "[1]", '{"accounts": 3}', '{"accounts": {"1": 2}}'])
def test_whatever_stands_there_what_is_told_is_kept(before: str | None) -> None:
    assert list(orjson.loads(merge_states(before, told(5, 1)))["accounts"]) == ["1"]


def test_what_nobody_has_told_lately_is_not_read() -> None:
    text = merge_states(told(100_000, 1), told(160_000, 2))
    assert told_states(text, 160_000) == {2: {"state": "live", "at_ms": 160_000}}
    assert told_states(text, 260_000) == {}


@pytest.mark.parametrize("text", [None, "", "no json", "[1]", '{"accounts": 3}', '{"accounts": {"1": 2}}',
                                  '{"accounts": {"1": {"state": "live"}}}'])  # fmt: skip
def test_what_cannot_be_read_tells_of_no_account(text: str | None) -> None:
    assert told_states(text, 5) == {}
