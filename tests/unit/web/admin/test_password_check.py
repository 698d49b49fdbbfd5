"""Comparing passwords: who is asked to wait, what takes as long as what, and the mark of a browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from resender.aio import Clock
from resender.errors import TooManyLogins
from resender.web.admin import password_check as module
from resender.web.admin.password_check import PasswordCheck, make_mark, read_mark
from tests.unit.web.serving import NOW_MS, USER, FakeStore

GOOD = "open sesame 42"
IP = "192.0.2.9"


class World:
    """Passwords that are compared at once; `hashed` holds with which hash, `gate` holds them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mono = 100.0
        self.user: Any = USER
        self.hashed: list[str | None] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.is_old = False
        self.store = FakeStore(
            user_get=lambda name: self.user if name in ("root", USER.id) else None, user_rehash=None
        )
        clock = Clock(now_ms=lambda: NOW_MS, mono=lambda: self.mono)
        self.check_ = PasswordCheck(cast(Any, self.store), clock)
        monkeypatch.setattr(module, "verify_password", self._verify)
        monkeypatch.setattr(module, "needs_rehash", lambda password_hash: self.is_old)
        monkeypatch.setattr(module, "hash_password", lambda password: f"hash of {password}")

    def _verify(self, password_hash: str | None, password: str) -> bool:
        self.gate.wait(5)
        self.threads.add(threading.get_ident())
        self.hashed.append(password_hash)
        return password_hash is not None and password == GOOD

    async def check(
        self, password: str = GOOD, name: str = "root", *, ip: str = IP, mark: str | None = None
    ) -> Any:
        return await self.check_.check(name, password, ip, mark)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World(monkeypatch)
    yield made
    made.gate.set()
    made.check_._pool.shutdown()


async def test_right_password_gives_the_account_and_a_wrong_one_nothing(world: World) -> None:
    assert await world.check() is USER
    assert await world.check("wrong") is None


async def test_account_that_is_not_there_or_disabled_costs_a_comparison_all_the_same(world: World) -> None:
    assert await world.check(name="nobody") is None
    world.user = replace(USER, enabled=False)
    assert await world.check() is None
    assert world.hashed == [None, USER.password_hash]


async def test_comparing_never_holds_up_the_loop(world: World) -> None:
    await world.check()
    assert threading.get_ident() not in world.threads


async def test_failures_of_an_address_make_it_wait_before_anything_is_compared(world: World) -> None:
    async def guess() -> None:
        for _ in range(20):
            await world.check("wrong")

    with pytest.raises(TooManyLogins) as caught:
        await guess()
    assert 1 <= caught.value.retry_after_s <= 60
    count = len(world.hashed)
    with pytest.raises(TooManyLogins):
        await world.check(GOOD)
    assert len(world.hashed) == count


async def test_more_than_the_queue_takes_are_sent_away_at_once(world: World) -> None:
    world.gate.clear()
    tries = [asyncio.ensure_future(world.check(ip=f"10.0.{n}.1", name=f"user{n}")) for n in range(40)]
    for _ in range(5):
        await asyncio.sleep(0)
    refused = [each for each in tries if each.done()]
    assert len(refused) == 8
    assert all(each.exception().retry_after_s == 1 for each in refused)  # type: ignore[union-attr]
    world.gate.set()
    await asyncio.wait(tries)
    assert world.check_._queued == 0


async def test_known_browser_gets_in_while_strangers_fill_the_queue(world: World) -> None:
    world.gate.clear()
    tries = [asyncio.ensure_future(world.check(ip=f"10.0.{n}.1", name=f"user{n}")) for n in range(32)]
    for _ in range(5):
        await asyncio.sleep(0)
    with pytest.raises(TooManyLogins):
        await world.check()
    owner = asyncio.ensure_future(world.check(mark=make_mark(USER)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not owner.done()
    world.gate.set()
    assert await owner is USER
    await asyncio.wait(tries)


async def test_old_hash_is_made_anew_for_who_knows_the_password(world: World) -> None:
    world.is_old = True
    assert await world.check("wrong") is None
    assert await world.check() is USER
    asked = [args for name, args, _ in world.store.asked if name == "user_rehash"]
    assert asked == [(USER.id, USER.password_hash, f"hash of {GOOD}")]


# --- marks ----------------------------------------------------------------------------------------


def test_mark_is_good_for_its_account_and_password_only() -> None:
    mark = make_mark(USER)
    assert read_mark(USER, mark) == mark.partition(".")[0]
    assert read_mark(replace(USER, id=8), mark) is None
    assert read_mark(replace(USER, password_hash="another"), mark) is None
    assert read_mark(None, mark) is None
    assert make_mark(USER) != make_mark(USER)


@pytest.mark.parametrize(
    "mark", [None, "", ".", "x" * 32, f"{'x' * 32}.", f"{'x' * 32}.höst", "x.y.z", "ü" * 32 + ".a"]
)
def test_what_is_no_mark_is_nobodys(mark: str | None) -> None:
    assert read_mark(USER, mark) is None
