"""What a gateway has for the workers beside it, by what it is itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from resender.access import Access
from resender.aio import Clock, Tasks
from resender.core.cluster.worker import INNER_HEADER, Worker
from resender.core.market.requests import Miss
from resender.market import Hit, MarketCache
from resender.metrics import Metrics
from resender.savings import Savings
from resender.workers import Team, open_inner
from tests.support.running import wait_until


class FakeCache:
    """Answers everything with its query."""

    def ask(self, path: str, query: str, *, packed: bool, max_age_ms: int = 0) -> Hit | Miss:
        return Hit(f"{path} {query} {packed} {max_age_ms}".encode(), None, 0)


def team(number: int, folder: Path, tasks: Tasks, *, has_cache: bool = True) -> Team:
    clock = Clock()
    cache = cast(MarketCache, FakeCache()) if number == 0 and has_cache else None
    return Team(
        Worker(number, 2, 1, 1, 1, "ab" * 32), folder, cache,
        has_cache=has_cache, metrics=Metrics(), savings=Savings(clock), refused=Access((), clock).refused,
        figures=lambda: (0, 0, 0.0), weights=list, clock=clock, tasks=tasks,
    )  # fmt: skip


async def test_collector_answers_and_the_other_asks_and_tells(tmp_path: Path) -> None:
    tasks = Tasks()
    collector, reader = team(0, tmp_path, tasks), team(1, tmp_path, tasks)
    await collector.start()
    await reader.start()
    assert (collector.asks, reader.crew) == (None, None)
    assert reader.asks is not None
    await wait_until(lambda: reader.asks is not None and reader.asks.is_up)
    outcome: Any = reader.asks.ask("/api/v3/klines", "a=b", packed=True, max_age_ms=7)
    found = await asyncio.wait_for(outcome, 2.0)
    assert found.body == b"/api/v3/klines a=b True 7"
    await wait_until(lambda: [row["number"] for row in collector.rows()] == [1])
    assert reader.rows() == []
    await reader.stop()
    await collector.stop()
    await tasks.cancel()


async def test_without_a_cache_nobody_is_asked(tmp_path: Path) -> None:
    tasks = Tasks()
    collector, reader = (team(number, tmp_path, tasks, has_cache=False) for number in (0, 1))
    await collector.start()
    await reader.start()
    assert reader.asks is None
    assert not (tmp_path / "ask.sock").exists()
    await reader.stop()
    await collector.stop()
    await tasks.cancel()


async def test_streams_of_the_collector_are_opened_as_a_worker() -> None:
    session = open_inner(Worker(1, 2, 1, 1, 1, "ab" * 32))("ws://127.0.0.1:1/stream.binance.com", 1.0)
    assert session._headers[INNER_HEADER] == f"{'ab' * 32} worker 1"
