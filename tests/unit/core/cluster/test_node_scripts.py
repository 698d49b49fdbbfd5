"""The list of nodes in a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from resender.core.cluster.node_scripts import BEAT, DRAIN, FORGET_MS, KEYS, LEAVE
from tests.support.plain_redis import plain_redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with plain_redis(tmp_path_factory.mktemp("redis")) as client:
        yield client


@pytest.fixture
def memory(server: redis.Redis) -> redis.Redis:
    server.flushall()
    return server


def beat(memory: redis.Redis, node: str, text: str, forget_ms: int = FORGET_MS) -> list[Any]:
    return memory.eval(BEAT, len(KEYS), *KEYS, node, text, forget_ms)


def test_node_that_says_so_is_listed_and_one_that_reads_is_not(memory: redis.Redis) -> None:
    assert beat(memory, "a", "A")[1][::3] == [b"a"]
    now, said, drained = beat(memory, "", "")
    assert (said[0], said[2], drained) == (b"a", b"A", [])
    assert 0 <= int(now) - int(said[1]) < 1000
    assert beat(memory, "b", "")[1][::3] == [b"a"]


def test_node_that_leaves_is_listed_no_more(memory: redis.Redis) -> None:
    beat(memory, "a", "A")
    beat(memory, "b", "B")
    memory.eval(LEAVE, len(KEYS), *KEYS, "a")
    assert beat(memory, "", "")[1][::3] == [b"b"]


def test_node_is_forgotten_in_the_end_and_nothing_stays_for_ever(memory: redis.Redis) -> None:
    beat(memory, "a", "A")
    memory.zadd("nodes:seen", {"a": memory.time()[0] * 1000 - FORGET_MS - 1})
    assert beat(memory, "b", "B")[1][::3] == [b"b"]
    assert memory.hkeys("nodes") == [b"b"]
    assert 0 < memory.pttl("nodes") <= FORGET_MS
    assert 0 < memory.pttl("nodes:seen") <= FORGET_MS


def test_drained_name_stays_until_it_is_taken_back(memory: redis.Redis) -> None:
    def drain(name: str, on: str) -> int:
        return memory.eval(DRAIN, len(KEYS), *KEYS, name, on)

    assert [drain("one", "1"), drain("one", "1")] == [1, 0]
    assert beat(memory, "a", "A")[2] == [b"one"]
    assert [drain("one", "0"), drain("one", "0")] == [1, 0]
    assert beat(memory, "", "")[2] == []
