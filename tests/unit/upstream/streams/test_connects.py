"""Connections opened before a restart count after it: what is kept, when, and what is believed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from resender.aio import Tasks
from resender.errors import StoreError
from resender.upstream.streams import connects as module
from resender.upstream.streams.connects import Connects
from tests.unit.upstream.fakes import START_MS, Time

LIMIT = 2


class World:
    """One store, and the processes that use it one after another."""

    def __init__(self) -> None:
        self.time = Time()
        self.tasks = Tasks()
        self.text: str | None = None
        self.saves = 0
        self.error: StoreError | None = None

    async def load(self) -> str | None:
        return self.text

    async def save(self, text: str) -> None:
        self.saves += 1
        if self.error is not None:
            raise self.error
        self.text = text

    def start(self) -> Connects:
        return Connects(self.load, self.save, clock=self.time.clock, tasks=self.tasks)

    def opened(self, budget: Any, count: int = 1) -> None:
        for _ in range(count):
            budget.take(self.time.mono)

    def wait_s(self, budget: Any) -> float:
        return float(budget.wait_s(self.time.mono))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "_SAVE_S", 0.001)
    made = World()
    yield made
    await made.tasks.cancel()


async def saved(world: World, count: int = 1) -> None:
    for _ in range(500):
        if world.saves >= count:
            return
        await asyncio.sleep(0.002)
    raise AssertionError("nothing was saved")


async def test_what_was_opened_before_a_restart_counts_after_it(world: World) -> None:
    world.opened(world.start().budget("um/market", LIMIT), LIMIT)
    await saved(world)
    world.time.mono += 100.0
    again = world.start()
    await again.load()
    assert world.wait_s(again.budget("um/market", LIMIT)) == pytest.approx(200.0, abs=0.01)
    assert world.wait_s(again.budget("um/public", LIMIT)) == 0, "every pool has its own"
    world.time.mono += 200.1
    assert world.wait_s(again.budget("um/market", LIMIT)) == 0


async def test_budget_that_is_there_before_the_load_counts_too(world: World) -> None:
    world.text = json.dumps({"spot": [START_MS - 1000]})
    connects = world.start()
    budget = connects.budget("spot", LIMIT)
    world.opened(budget)
    await connects.load()
    assert world.wait_s(budget) == pytest.approx(299.0, abs=0.01)


async def test_burst_is_saved_once(world: World) -> None:
    world.opened(world.start().budget("spot", 100), 50)
    await saved(world)
    await asyncio.sleep(0.02)
    assert world.saves == 1
    assert world.text is not None
    assert len(json.loads(world.text)["spot"]) == 50


async def test_last_ones_are_saved_at_the_end_and_nothing_if_there_are_none(world: World) -> None:
    connects = world.start()
    await connects.save_last()
    assert world.saves == 0
    world.opened(connects.budget("spot", LIMIT))
    await world.tasks.cancel()  # before it came to saving
    await connects.save_last()
    assert world.saves == 1


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("", 0),
        ("nonsense", 0),
        ("[1]", 0),
        ('{"spot":7}', 0),
        ('{"spot":["x",null,true,1.5]}', 0),
        (json.dumps({"spot": [START_MS - 300_000] * 5}), 0),
        (json.dumps({"spot": [START_MS + 9_000_000] * LIMIT}), 300.0),  # a clock that was wrong
    ],
)
async def test_what_cannot_be_is_not_believed(world: World, text: str, wait_s: float) -> None:
    world.text = text
    connects = world.start()
    await connects.load()
    assert world.wait_s(connects.budget("spot", LIMIT)) == pytest.approx(wait_s)


async def test_store_that_fails_is_told_and_costs_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.error = StoreError("the disk is full")
    with caplog.at_level(logging.ERROR):
        world.opened(world.start().budget("spot", LIMIT))
        await saved(world)
        await asyncio.sleep(0.01)
    assert "could not be saved: the disk is full" in caplog.text
