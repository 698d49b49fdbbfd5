"""The scripts against a real Redis: whatever is lost, cut off or forgotten, no minute gets more than its limit."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from resender.core.cluster.blocks import FALLBACK_PERMILLE, SHARED_PART, Fallback
from resender.core.cluster.scripts import BAN, CONTACT, FORGET_WINDOWS, TAKE, WINDOW_TTL_MS
from tests.support.plain_redis import plain_redis

LIMIT = 1000
CAP = int(LIMIT * SHARED_PART)
SLOTS = ["slots", "memory"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with plain_redis(tmp_path_factory.mktemp("redis")) as client:
        yield client


@pytest.fixture
def memory(server: redis.Redis) -> redis.Redis:
    server.flushall()
    return server


class Node:
    """A node that spends at once whatever it may: the worst one can do."""

    def __init__(self, name: str, memory: redis.Redis, spent: dict[int, int]) -> None:
        self.name = name
        self.memory = memory
        self.fallback = Fallback()
        self.spent = spent
        self.held: dict[int, int] = {}
        # Id of the memory Redis had at its last answer.
        self.known = ""

    def who(self, window: int, *, known: str = "", part: int = 0) -> list[Any]:
        return [
            self.name, window, self.fallback.used_window, self.fallback.permille, FORGET_WINDOWS, FALLBACK_PERMILLE,
            known, secrets.token_hex(4), part,
        ]  # fmt: skip

    def take(
        self,
        now: int,
        wanted: int,
        least: int,
        most: int,
        *,
        is_lost: bool = False,
        seen: int = 0,
        known: str = "",
        part: int = 0,
        general: int = CAP,
        for_orders: bool = False,
    ) -> int:
        """Ask for a block; `is_lost` loses the answer; of CAP `general` is for any call."""
        self.fallback.asking(now)
        args = [
            *self.who(now, known=known, part=part),
            wanted, LIMIT, CAP, least, most, seen, WINDOW_TTL_MS, self.held.get(wanted, 0), general, int(for_orders),
        ]  # fmt: skip
        answer = self.memory.eval(TAKE, 4, *SLOTS, f"window:{wanted}", "epoch", *args)
        assert isinstance(answer, list)
        if is_lost:
            return 0
        self.known = answer[5].decode()
        give = int(answer[0])
        self.fallback.told(int(answer[1]))
        self.held[wanted] = self.held.get(wanted, 0) + give
        self.spent[wanted] = self.spent.get(wanted, 0) + give
        return give

    def fall_back(self, now: int) -> int:
        more = max(0, self.fallback.share(now, LIMIT, FORGET_WINDOWS - 2) - self.held.get(now, 0))
        self.held[now] = self.held.get(now, 0) + more
        self.spent[now] = self.spent.get(now, 0) + more
        return more


@pytest.mark.parametrize("seed", range(60))
def test_no_minute_gets_more_than_its_limit_whatever_goes_wrong(memory: redis.Redis, seed: int) -> None:
    rnd = random.Random(seed)
    spent: dict[int, int] = {}
    nodes = [Node(f"n{number}", memory, spent) for number in range(rnd.randint(1, 5))]
    cut: set[str] = set()
    is_up, known, now = True, "", 100
    for _ in range(300):
        fate = rnd.random()
        if fate < 0.08:
            now += 1
        elif fate < 0.10:
            now += rnd.randint(1, 4)
        elif fate < 0.13:
            is_up = not is_up
        elif fate < 0.15:
            memory.flushall()
        elif fate < 0.19:
            cut ^= {rnd.choice(nodes).name}
        node = rnd.choice(nodes)
        if rnd.random() < 0.7:
            if is_up and node.name not in cut:
                least = rnd.choice([1, 5, 40])
                most = rnd.choice([least, 100, 1000])
                is_lost = rnd.random() < 0.15
                wanted = now + (rnd.random() < 0.1)
                for_orders = rnd.random() < 0.2
                node.take(
                    now, wanted, least, most,
                    is_lost=is_lost, known=known, general=CAP * 9 // 10, for_orders=for_orders,
                )  # fmt: skip
                known = known if is_lost else node.known
        else:
            node.fall_back(now)
        assert all(weight <= LIMIT for weight in spent.values()), (seed, spent)


def test_nodes_that_ask_get_nearly_all_of_the_limit(memory: redis.Redis) -> None:
    spent: dict[int, int] = {}
    nodes = [Node(f"n{number}", memory, spent) for number in range(4)]
    for number in range(400):
        nodes[number % 4].take(100, 100, 1, 100)
    assert spent[100] == CAP
    assert all(node.held[100] > CAP / 10 for node in nodes), "no node takes it all"


def test_blocks_for_orders_leave_other_calls_their_part_and_the_other_way_round(memory: redis.Redis) -> None:
    spent: dict[int, int] = {}
    nodes = [Node(f"n{number}", memory, spent) for number in range(6)]
    general = CAP * 9 // 10
    # The parts of the first moment are free once all know of each other.
    for now in (99, 100):
        for node in nodes:
            node.take(now, now, 1, 10, general=general)
    for node in nodes:
        assert node.take(101, 101, 1, 600, general=general, for_orders=True) > 0
    by_orders = spent[101]
    for _ in range(60):
        for node in nodes:
            node.take(101, 101, 1, 250, general=general)
    assert spent[101] - by_orders == min(general, CAP - by_orders) >= 0.9 * general
    left = CAP - spent[101]
    for _ in range(60):
        for node in nodes:
            node.take(101, 101, 1, 250, general=general, for_orders=True)
    assert spent[101] == CAP, f"orders get the {left} that are left"


def test_what_binance_tells_corrects_upwards_only(memory: redis.Redis) -> None:
    node = Node("a", memory, {})
    assert node.take(100, 100, 1, 10) == 10
    assert node.take(100, 100, 5, 1000, seen=CAP - 5) == 5, "others use this address too"
    assert node.take(100, 100, 1, 1000, seen=1) == 0


def test_part_of_a_node_that_is_silent_is_set_aside(memory: redis.Redis) -> None:
    spent: dict[int, int] = {}
    quiet, loud = Node("quiet", memory, spent), Node("loud", memory, spent)
    for node in (quiet, loud) * 3:
        node.take(100, 100, 1, 1)
    assert (quiet.fallback.permille, loud.fallback.permille) == (450, 450)
    for _ in range(50):
        loud.take(102, 102, 1, 1000)
    assert spent[102] == CAP - 450
    assert quiet.fall_back(101) == 0
    assert quiet.fall_back(102) == 450


def test_node_that_leaves_takes_nothing_with_it(memory: redis.Redis) -> None:
    one, two = Node("one", memory, {}), Node("two", memory, {})
    one.take(100, 100, 1, 1)
    two.take(100, 100, 1, 1)
    memory.eval(CONTACT, 2, *SLOTS, *two.who(100), "1")
    assert memory.hkeys("slots") == [b"one"]
    one.take(103, 103, 1, 1)
    assert one.fallback.permille == 900


def test_node_nobody_heard_of_for_an_hour_is_counted_on_no_more(memory: redis.Redis) -> None:
    one, two = Node("one", memory, {}), Node("two", memory, {})
    one.take(100, 100, 1, 1)
    two.take(100, 100, 1, 1)
    later = 100 + FORGET_WINDOWS + 1
    one.take(later, later, 1, 1)
    assert memory.hkeys("slots") == [b"one"]
    assert two.fall_back(later) == 0, "it knows that itself"


def test_node_that_comes_to_a_memory_that_is_whole_is_granted_its_part_at_once(memory: redis.Redis) -> None:
    spent: dict[int, int] = {}
    one, two = Node("one", memory, spent), Node("two", memory, spent)
    one.take(100, 100, 1, 100)
    assert two.take(100, 100, 1, 100, known=one.known) > 0, "within the minute the memory was made in"
    assert one.take(100, 100, 1, 100) > 0


def test_node_that_comes_to_another_memory_has_its_own_part_from_the_next_minute_on(
    memory: redis.Redis,
) -> None:
    spent: dict[int, int] = {}
    one, two = Node("one", memory, spent), Node("two", memory, spent)
    for node in (one, two) * 3:
        node.take(100, 100, 1, 10)
    part, known = one.fallback.permille, one.known
    memory.flushall()
    again = Node("one", memory, spent)  # started anew: what it was granted of this minute is forgotten
    assert again.take(100, 100, 1, 100, known=known, part=part) == 0
    assert again.known != known
    given = sum(again.take(102, 102, 1, 100) for _ in range(20))
    assert 0 < given <= LIMIT * part / 1000, "what the other holds is not known"
    two.take(102, 102, 1, 1)
    assert sum(again.take(103, 103, 1, 100) for _ in range(20)) > LIMIT * part / 1000


def test_last_one_that_leaves_leaves_nothing_that_could_be_lost(memory: redis.Redis) -> None:
    one, two = Node("one", memory, {}), Node("two", memory, {})
    one.take(100, 100, 1, 1)
    two.take(100, 100, 1, 1)
    leave = [memory.eval(CONTACT, 2, *SLOTS, *node.who(100), "1") for node in (one, two)]
    assert [int(nodes) for _, nodes in leave] == [2, 1]  # type: ignore[misc]
    assert not memory.exists(*SLOTS)


def test_ban_lasts_as_long_as_the_longest_and_counts_the_epoch(memory: redis.Redis) -> None:
    assert memory.eval(BAN, 2, "ban", "epoch", 429, 5000, 60_000) == 1
    assert memory.get("ban") == b"429 5000"
    assert memory.eval(BAN, 2, "ban", "epoch", 418, 4000, 60_000) == 2
    assert memory.get("ban") == b"418 5000"
    assert memory.eval(BAN, 2, "ban", "epoch", 429, 9000, 60_000) == 3
    assert memory.get("ban") == b"418 9000"
    assert 0 < int(str(memory.pttl("ban"))) <= 60_000
