"""A reader asks the collector over a real socket: what comes back, and what is not believed."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.aio import Clock, Tasks
from resender.core.cluster.asks import Question
from resender.core.market.requests import COLLECTOR_SILENT, COLLECTOR_SLOW, Miss
from resender.market import Hit, Outcome, Wanting
from resender.workers import Asks, AskServer
from tests.support.running import wait_until

HIT = Hit(b"[1,2]", None, 40, content_type="application/json", cost=2)


class Time:
    """A clock that a test may move."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.clock = Clock(mono=lambda: asyncio.get_running_loop().time() + self.passed_s)


class Pair:
    def __init__(self, path: str, answer: Callable[[Question], Outcome]) -> None:
        self.answers = answer
        self.asked: list[Question] = []
        self.time, self.tasks = Time(), Tasks()
        self.server = AskServer(path, self._answer, self.time.clock, self.tasks)
        self.asks = Asks(path, self.time.clock, self.tasks)

    def _answer(self, question: Question) -> Outcome:
        self.asked.append(question)
        return self.answers(question)

    async def ask(self, path: str = "/api/v3/klines", query: str = "symbol=A", **more: Any) -> Hit | Miss:
        found = self.asks.ask(path, query, **{"packed": False, "max_age_ms": 0, **more})
        return await found if isinstance(found, Awaitable) else found


@asynccontextmanager
async def pair(folder: Path, answer: Callable[[Question], Outcome]) -> AsyncIterator[Pair]:
    made = Pair(str(folder / "ask.sock"), answer)
    made.asks.start()
    await made.server.start()
    await wait_until(lambda: made.asks.is_up)
    try:
        yield made
    finally:
        made.asks.stop()
        await made.server.stop()
        await made.tasks.cancel()


async def test_hit_comes_back_as_it_is(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda _: HIT) as one:
        found = await one.ask("/fapi/v1/klines", "symbol=ü", packed=True, max_age_ms=5)
        assert isinstance(found, Hit)
        assert (found.body, found.packed, found.content_type, found.cost) == (
            b"[1,2]",
            None,
            HIT.content_type,
            2,
        )
        assert 40 <= found.age_ms < 1000
        assert one.asked[0].path == "/fapi/v1/klines"
        assert (one.asked[0].query, one.asked[0].packed, one.asked[0].max_age_ms) == ("symbol=ü", True, 5)
        assert stat.S_IMODE((tmp_path / "ask.sock").stat().st_mode) == 0o600
        assert one.asks.hits == 1


async def test_packed_hit_a_miss_and_one_that_is_waited_for(tmp_path: Path) -> None:
    left = []

    async def later() -> Hit | Miss:
        await asyncio.sleep(0.05)
        return HIT

    outcomes: dict[str, Outcome] = {
        "packed": Hit(b"", b"\x1f\x8b", 1),
        "miss": Miss("gap"),
        "wanting": Wanting("not held yet", leave=lambda: left.append(1)),
        "later": later(),
    }
    async with pair(tmp_path, lambda question: outcomes[question.query]) as one:
        packed = await one.ask(query="packed", packed=True)
        assert isinstance(packed, Hit)
        assert (packed.body, packed.packed) == (b"", b"\x1f\x8b")
        assert await one.ask(query="miss") == Miss("gap")
        assert await one.ask(query="wanting") == Miss("not held yet")
        assert left, "the answer comes down elsewhere"
        assert isinstance(await one.ask(query="later"), Hit)


async def test_many_at_once_get_each_its_own(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda q: Hit(q.query.encode(), None, 0)) as one:
        found = await asyncio.gather(*(one.ask(query=str(number)) for number in range(500)))
        assert [each.body for each in found if isinstance(each, Hit)] == [
            str(number).encode() for number in range(500)
        ]


async def test_fault_of_an_answer_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(question: Question) -> Outcome:
        raise RuntimeError("a bug")

    async with pair(tmp_path, fail) as one:
        assert await one.ask() == Miss(COLLECTOR_SILENT)
        assert await one.ask() == Miss(COLLECTOR_SILENT)
    assert "a question of another worker could not be answered" in caplog.text


async def test_answer_that_was_long_on_its_way_is_not_used(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda _: HIT) as one:

        def answer(question: Question) -> Outcome:
            one.time.passed_s += 0.6  # the reader was stopped meanwhile
            return HIT

        one.answers = answer
        assert await one.ask() == Miss(COLLECTOR_SLOW)
        assert (one.asks.late, one.asks.miss_reasons[COLLECTOR_SLOW]) == (1, 1)


async def test_what_was_waited_for_does_not_count_as_way(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda _: HIT) as one:

        async def later() -> Hit | Miss:
            one.time.passed_s += 0.6
            return HIT

        one.answers = lambda _: later()
        found = await one.ask()
        assert isinstance(found, Hit)
        assert found.age_ms < 300


async def test_what_is_said_to_have_waited_for_long_was_stopped_on_its_way(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda _: HIT) as one:

        async def later() -> Hit | Miss:
            one.time.passed_s += 15.0
            return HIT

        one.answers = lambda _: later()
        assert isinstance(await one.ask(), Miss)


async def test_collector_that_says_nothing_is_neither_asked_nor_waited_for(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda _: asyncio.get_running_loop().create_future()) as one:
        waiting = asyncio.ensure_future(one.ask())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        beat = next(task for task in asyncio.all_tasks() if task.get_name() == "worker-beat")
        beat.cancel()
        one.time.passed_s += 1.1
        assert await asyncio.wait_for(waiting, 2.0) == Miss(COLLECTOR_SILENT)
        assert one.asks.ask("/x", "", packed=False, max_age_ms=0) == Miss(COLLECTOR_SILENT)


async def test_collector_that_is_gone_costs_what_was_asked_and_is_found_again(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda _: asyncio.get_running_loop().create_future()) as one:
        waiting = asyncio.ensure_future(one.ask())
        await asyncio.sleep(0.05)
        await one.server.stop()
        assert await asyncio.wait_for(waiting, 2.0) == Miss(COLLECTOR_SILENT)
        assert not one.asks.is_up
        assert await one.ask() == Miss(COLLECTOR_SILENT)
        again = AskServer(str(tmp_path / "ask.sock"), lambda _: HIT, one.time.clock, one.tasks)
        await again.start()
        await wait_until(lambda: one.asks.is_up)
        assert isinstance(await one.ask(), Hit)
        await again.stop()


async def test_what_is_no_frame_ends_the_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with pair(tmp_path, lambda _: HIT) as one:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "ask.sock"))
        writer.write(b"\xff" * 64)
        while await asyncio.wait_for(reader.read(100), 2.0):
            pass
        writer.close()
        assert isinstance(await one.ask(), Hit)
    assert "what is no frame" in caplog.text
