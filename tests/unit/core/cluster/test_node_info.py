"""What nodes tell of themselves, and what is read of what other versions wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.cluster.node_info import (
    NodeEgress,
    NodeInfo,
    PoolLoad,
    aged,
    in_order,
    parse_node,
    pool_loads,
    without_replaced,
)

NODE = NodeInfo(
    "a1",
    "one",
    "http://10.0.0.1:8000",
    "1.2.3",
    1_700_000_000_000,
    (NodeEgress("default", "default"), NodeEgress("via", "proxy")),
    7,
    (PoolLoad("futures", 12, 2400), PoolLoad("spot", 100, 12000)),
    1.5,
    3,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
)


def test_node_is_read_as_it_was_written() -> None:
    assert parse_node("a1", NODE.to_text()) == NODE
    assert parse_node("a1", replace(NODE, is_drained=True).to_text(), seen_ms=5) == replace(
        NODE, is_drained=True, seen_ms=5
    )


def test_fields_of_another_version_do_not_matter() -> None:
    fields = json.loads(NODE.to_text()) | {
        "role": "front",
        "weights": {"spot": {"used": 1}},
        "lag_ms": "much",
    }
    del fields["egresses"], fields["streams"]
    assert parse_node("a1", json.dumps(fields)) == replace(
        NODE, egresses=(), streams=0, weights=(), lag_ms=0.0
    )


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "{}", '{"name":5}', '{"name":" "}', "[" * 5000])
def test_what_is_no_node_is_none(text: str) -> None:
    assert parse_node("a1", text) is None


@given(st.dictionaries(st.sampled_from([*json.loads(NODE.to_text())]), JSON))
def test_no_text_breaks_the_reader(fields: dict[str, Any]) -> None:
    node = parse_node("a1", json.dumps(fields | {"name": "n"}))
    assert node is not None
    assert json.dumps(node.row())


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "9" * 400, "-5", "true"])
def test_odd_numbers_are_read_as_something(number: str) -> None:
    node = parse_node("a1", f'{{"name":"n","lag_ms":{number},"in_flight":{number}}}')
    assert node is not None
    assert 0 <= node.lag_ms <= 1 << 53


def test_own_node_comes_first_then_those_that_are_up() -> None:
    own, b, gone, c = (
        replace(NODE, id=name, name=name, seen_ms=seen, is_own=name == "z")
        for name, seen in (("z", 0), ("b", 10), ("a", 60_000), ("c", 0))
    )
    assert [node.name for node in in_order([c, gone, b, own])] == ["z", "b", "c", "a"]


def test_what_a_node_was_before_its_restart_is_left_out() -> None:
    def node(node_id: str, seen_ms: int, name: str = "one") -> NodeInfo:
        return replace(NODE, id=node_id, name=name, seen_ms=seen_ms)

    def ids(*nodes: NodeInfo) -> list[str]:
        return [each.id for each in without_replaced(nodes)]

    assert ids(node("old", 60_000), node("new", 0)) == ["new"]
    assert ids(node("old", 90_000), node("newer", 60_000)) == ["newer"]
    assert ids(node("a", 0), node("b", 1000)) == ["a", "b"]  # two of one name, both up
    assert ids(node("gone", 60_000, "two"), node("b", 0)) == ["gone", "b"]


def test_node_that_is_not_heard_of_is_gone_after_six_seconds() -> None:
    assert NODE.is_up
    assert aged(NODE, 6000).is_up
    assert not aged(NODE, 6001).is_up
    assert aged(replace(NODE, is_own=True), 60_000).is_up


def test_weights_of_all_egresses_are_added_up_by_pool() -> None:
    rows = [
        {"egress": "a", "pool": "spot", "used": 10, "limit": 6000},
        {"egress": "b", "pool": "spot", "used": 5, "limit": 6000},
        {"egress": "a", "pool": "sapi:/sapi/v1/x", "used": 5, "limit": 12000},
        {"egress": "a", "pool": "futures", "used": 1, "limit": 2400},
    ]
    assert pool_loads(rows) == (PoolLoad("futures", 1, 2400), PoolLoad("spot", 15, 12000))
