"""DNS names of the whitelist: looked up again and again, and never believed for longer than their answer counts."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from resender.aio import Clock, Tasks
from resender.name_watch import NameWatch, NoSuchName, look_up
from tests.support.fast_loop import FastLoop

ROOT = Path(__file__).resolve().parents[2]
HOME, AWAY = "home.example.com", "away.example.net"
Answer = list[str] | Exception | float


class World:
    """A resolver that says what it is told, on a loop on which waiting takes no time.

    Shape: an answer that is a number takes so many seconds and then fails; `looks` are the moments, from the start on.
    """

    def __init__(self, loop: FastLoop) -> None:
        self._began = loop.time()
        self._loop = loop
        self.answers: dict[str, Answer] = {}
        self.looks: list[tuple[float, str]] = []
        self.changes: list[tuple[float, dict[str, tuple[str, ...]]]] = []
        self.tasks = Tasks()
        self.watch = NameWatch(Clock(mono=loop.time), self.tasks, self._changed, lookup=self._look)

    @property
    def now(self) -> float:
        return self._loop.time() - self._began

    def looks_at(self, name: str) -> list[float]:
        return [round(moment, 3) for moment, each in self.looks if each == name]

    def address(self, name: str = HOME) -> tuple[str, ...]:
        return self.watch.resolved[name]

    async def until(self, moment: float) -> None:
        await asyncio.sleep(moment - self.now)

    def _changed(self) -> None:
        self.changes.append((self.now, dict(self.watch.resolved)))

    async def _look(self, name: str) -> list[str]:
        self.looks.append((self.now, name))
        answer = self.answers[name]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = socket.gaierror(socket.EAI_AGAIN, "late")
        if isinstance(answer, Exception):
            raise answer
        return answer


Play = Callable[[World], Coroutine[Any, Any, None]]


def play(story: Play) -> World:
    """Run a story to its end; nothing of it may be left."""
    loop = FastLoop()

    async def told() -> World:
        world = World(loop)
        try:
            await story(world)
        finally:
            await world.tasks.cancel()
        assert not len(world.tasks)
        return world

    try:
        return loop.run_until_complete(told())
    finally:
        loop.close()


AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_new_name_is_looked_up_at_once_and_then_each_minute() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        assert world.address() == ()
        await world.until(0.1)
        assert world.address() == ("192.0.2.1",)
        await world.until(310)

    world = play(story)
    assert world.looks_at(HOME) == [0, 60, 120, 180, 240, 300]
    assert [names for _, names in world.changes] == [{HOME: ("192.0.2.1",)}]


def test_without_names_nothing_is_done() -> None:
    async def story(world: World) -> None:
        world.watch.set_names([])
        await world.until(300)
        assert not len(world.tasks)

    assert play(story).looks == []


def test_changed_address_replaces_the_old_one_within_a_look() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1", "2001:db8::1"]
        world.watch.set_names([HOME])
        await world.until(1)
        world.answers[HOME] = ["192.0.2.7"]
        await world.until(61)
        assert world.address() == ("192.0.2.7",)

    assert [round(moment) for moment, _ in play(story).changes] == [0, 60]


def test_other_order_of_the_same_addresses_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(59)
        world.answers[HOME] = ["192.0.2.2", "192.0.2.1"]
        await world.until(200)

    assert len(play(story).changes) == 1
    assert caplog.messages == [f"whitelist entry {HOME} is 192.0.2.1, 192.0.2.2 now"]


def test_name_that_is_gone_lets_nobody_in_from_that_look_on() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(1)
        world.answers[HOME] = NoSuchName(HOME)
        await world.until(61)
        assert world.address() == ()
        await world.until(72)
        world.answers[HOME] = ["192.0.2.1"]
        await world.until(76)
        assert world.address() == ("192.0.2.1",)

    # Soon again as long as it is not there.
    assert play(story).looks_at(HOME) == [0, 60, 65, 70, 75]


def test_answer_without_an_address_is_none() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(1)
        world.answers[HOME] = []
        await world.until(61)
        assert world.address() == ()

    play(story)


def test_dns_that_does_not_answer_leaves_the_last_address_for_two_minutes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(1)
        world.answers[HOME] = AGAIN
        await world.until(119)
        assert world.address() == ("192.0.2.1",)
        assert caplog.messages == []
        await world.until(120.1)
        assert world.address() == ()
        await world.until(400)

    world = play(story)
    assert world.looks_at(HOME)[:5] == [0, 60, 65, 70, 75]
    assert [round(moment) for moment, _ in world.changes] == [0, 120]
    assert caplog.messages == [f"whitelist entry {HOME} cannot be resolved: it lets nobody in"]


def test_answer_in_between_counts_for_two_minutes_more() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(1)
        for begin in (60, 170, 280):
            world.answers[HOME] = AGAIN
            await world.until(begin + 50)
            world.answers[HOME] = ["192.0.2.1"]
            await world.until(begin + 60)
            assert world.address() == ("192.0.2.1",)

    assert len(play(story).changes) == 1


def test_dns_that_hangs_leaves_the_last_address_for_two_minutes_and_no_longer() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(1)
        world.answers[HOME] = 3600.0
        await world.until(119)
        assert world.address() == ("192.0.2.1",)
        await world.until(120.5)
        assert world.address() == ()

    play(story)


def test_look_up_that_hangs_is_given_up_and_tried_again() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = 3600.0
        world.watch.set_names([HOME])
        await world.until(40)

    assert play(story).looks_at(HOME) == [0, 15, 30]


def test_name_that_was_never_found_is_told_once_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = AGAIN
        world.watch.set_names([HOME])
        await world.until(100)
        assert world.address() == ()

    assert play(story).changes == []
    assert caplog.messages == [f"whitelist entry {HOME} cannot be resolved: it lets nobody in"]


def test_name_that_comes_and_goes_is_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = NoSuchName(HOME)
        world.watch.set_names([HOME])
        for _ in range(3):
            world.answers[HOME] = NoSuchName(HOME)
            await world.until(world.now + 70)
            world.answers[HOME] = ["192.0.2.1"]
            await world.until(world.now + 70)

    play(story)
    assert len(caplog.messages) == 3


@pytest.mark.parametrize(
    "error", [UnicodeError("label too long"), RuntimeError("can't start new thread"), ValueError("what?")]
)
def test_whatever_a_look_up_raises_the_next_one_is_made(error: Exception) -> None:
    async def story(world: World) -> None:
        world.answers = {HOME: error, AWAY: ["192.0.2.9"]}
        world.watch.set_names([HOME, AWAY])
        await world.until(1)
        assert world.address(AWAY) == ("192.0.2.9",)
        world.answers[HOME] = ["192.0.2.1"]
        await world.until(6)
        assert world.address() == ("192.0.2.1",)

    play(story)


def test_name_that_is_taken_off_is_looked_up_no_more() -> None:
    async def story(world: World) -> None:
        world.answers = {HOME: ["192.0.2.1"], AWAY: ["192.0.2.9"]}
        world.watch.set_names([HOME, AWAY])
        await world.until(1)
        world.watch.set_names([AWAY])
        assert dict(world.watch.resolved) == {AWAY: ("192.0.2.9",)}
        await world.until(200)

    world = play(story)
    assert world.looks_at(HOME) == [0]
    assert world.looks_at(AWAY) == [0, 60, 120, 180]


def test_answer_that_comes_after_its_name_was_taken_off_is_for_nobody() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = 5.0
        world.watch.set_names([HOME])
        await world.until(1)
        world.watch.set_names([])
        await world.until(10)
        assert dict(world.watch.resolved) == {}

    assert play(story).changes == []


def test_name_that_is_put_back_begins_anew() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = ["192.0.2.1"]
        world.watch.set_names([HOME])
        await world.until(1)
        world.watch.set_names([])
        world.answers[HOME] = AGAIN
        world.watch.set_names([HOME])
        assert world.address() == ()
        await world.until(3)
        assert world.address() == ()

    play(story)


def test_names_that_stay_are_not_looked_up_anew_when_others_come() -> None:
    async def story(world: World) -> None:
        world.answers = {HOME: ["192.0.2.1"], AWAY: ["192.0.2.9"]}
        world.watch.set_names([HOME])
        await world.until(10)
        world.watch.set_names([AWAY, HOME])
        await world.until(10.2)
        assert world.address(AWAY) == ("192.0.2.9",)
        await world.until(75)

    world = play(story)
    assert world.looks_at(HOME) == [0, 60]
    assert world.looks_at(AWAY) == [10, 70]


def test_name_that_hangs_holds_up_no_other() -> None:
    async def story(world: World) -> None:
        world.answers = {HOME: 3600.0, AWAY: ["192.0.2.9"]}
        world.watch.set_names([HOME])
        await world.until(1)
        world.watch.set_names([HOME, AWAY])
        await world.until(1.5)
        assert world.address(AWAY) == ("192.0.2.9",)

    play(story)


def test_name_with_very_many_addresses_lets_in_some() -> None:
    async def story(world: World) -> None:
        world.answers[HOME] = [f"192.0.2.{number}" for number in range(200)]
        world.watch.set_names([HOME])
        await world.until(1)
        assert len(world.address()) == 16

    play(story)


def test_start_waits_for_the_first_look_but_not_for_ever() -> None:
    async def story(world: World) -> None:
        await world.watch.ready(3)
        assert world.now == 0
        world.answers = {HOME: ["192.0.2.1"], AWAY: NoSuchName(AWAY)}
        world.watch.set_names([HOME, AWAY])
        await world.watch.ready(3)
        assert world.now < 0.1
        assert world.address() == ("192.0.2.1",)
        world.answers["slow.example.com"] = 3600.0
        world.watch.set_names([HOME, "slow.example.com"])
        before = world.now
        await world.watch.ready(3)
        assert 3 <= world.now - before < 3.1

    play(story)


# --- the system's resolver ------------------------------------------------------------------------


def resolver(monkeypatch: pytest.MonkeyPatch, *addresses: str, error: int | None = None) -> None:
    def answer(host: str, port: object, *args: object, **options: object) -> list[Any]:
        if error is not None:
            raise socket.gaierror(error, "no")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


async def test_addresses_of_the_system_are_taken_without_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, "192.0.2.1", "2001:db8::1", "fe80::1%eth0")
    assert await look_up(HOME) == ["192.0.2.1", "2001:db8::1", "fe80::1"]


async def test_addresses_of_nobody_and_of_many_let_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What blocks advertisements answers 0.0.0.0 for names it does not like."""
    resolver(monkeypatch, "0.0.0.0", "::", "224.0.0.1", "ff02::1", "192.0.2.1")
    assert await look_up(HOME) == ["192.0.2.1"]


@pytest.mark.parametrize("error", [socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)])
async def test_system_that_knows_that_there_is_no_such_name_is_believed(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    resolver(monkeypatch, error=error)
    with pytest.raises(NoSuchName):
        await look_up(HOME)


@pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM])
async def test_system_that_does_not_know_says_nothing_about_the_name(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    resolver(monkeypatch, error=error)
    with pytest.raises(OSError, match="no"):
        await look_up(HOME)


async def test_many_names_are_all_found_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(host: str, *args: object, **options: object) -> list[Any]:
        time.sleep(0.02)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    tasks = Tasks()
    watch = NameWatch(Clock(), tasks, lambda: None)
    watch.set_names([f"n{number}.example.com" for number in range(50)])
    await watch.ready(3)
    await tasks.cancel()
    assert set(watch.resolved.values()) == {("192.0.2.1",)}
    assert caplog.messages == []


ENDS = """
import asyncio, socket, time
from resender.aio import Clock, Tasks
from resender.name_watch import NameWatch
socket.getaddrinfo = lambda *args, **options: time.sleep(20)
async def main():
    tasks = Tasks()
    NameWatch(Clock(), tasks, lambda: None).set_names(["home.example.com"])
    await asyncio.sleep(0.1)
    await tasks.cancel()
asyncio.run(main())
"""


def test_dns_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", ENDS], cwd=ROOT, check=True, timeout=30)
    assert time.monotonic() - began < 10


async def within(work: Awaitable[Any], limit_s: float = 2.0) -> bool:
    try:
        await asyncio.wait_for(work, limit_s)
    except asyncio.TimeoutError:
        return False
    return True


async def test_dns_that_hangs_takes_nobody_else_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are packed, candles saved and Binance's own names looked up in them."""
    over = threading.Event()
    ask = socket.getaddrinfo

    def hang(host: str, *args: Any, **options: Any) -> Any:
        if host.endswith(".example.com"):
            over.wait(20)
            raise AGAIN
        return ask(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    tasks = Tasks()
    watch = NameWatch(Clock(), tasks, lambda: None)
    try:
        watch.set_names([f"n{number}.example.com" for number in range(40)])
        await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        assert await within(asyncio.to_thread(int))
        assert await within(loop.getaddrinfo("127.0.0.1", 80))
    finally:
        over.set()
        await tasks.cancel()
