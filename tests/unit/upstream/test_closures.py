"""Closed pools outlive a restart: what is loaded, when it is saved, and trouble with the store."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from resender.aio import Tasks
from resender.core.egress.governor import Governor
from resender.errors import StoreError
from resender.upstream.closures import Closures
from tests.unit.upstream.fakes import START_MS, Time, make_pool, settle


class Kept:
    """Where closures are kept; a save waits while `gate` is set and not open."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.saves = 0
        self.gate: asyncio.Event | None = None
        self.error: StoreError | None = None

    async def load(self) -> str | None:
        return self.text

    async def save(self, text: str) -> None:
        self.saves += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.text = text

    @property
    def rows(self) -> list[dict[str, object]]:
        return json.loads(self.text or "[]")


class World:
    def __init__(self) -> None:
        self.time = Time()
        self.tasks = Tasks()
        self.kept = Kept()
        self.governor: Governor = make_pool(self.time, "default,127.0.0.2")[0].governor
        self.closures = Closures(
            self.governor, self.kept.load, self.kept.save, clock=self.time.clock, tasks=self.tasks
        )

    def close(self, pool: str, status: int = 429, pause_s: float = 60.0, egress: str = "default") -> None:
        self.governor.close_pool(self.governor.by_name[egress], pool, status, self.time.mono + pause_s)
        self.closures.changed()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.cancel()


def row(**changes: object) -> dict[str, object]:
    return {"egress": "default", "pool": "spot", "status": 418, "until_ms": START_MS + 90_000} | changes


async def test_ban_from_before_the_restart_lasts_for_the_rest_of_its_time(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.kept.text = json.dumps([row()])
    await world.closures.load()
    closure = world.governor.by_name["default"].closure("spot", world.time.mono)
    assert closure is not None
    assert (closure.status, closure.until_mono) == (418, world.time.mono + 90)
    assert world.governor.by_name["127.0.0.2"].closure("spot", world.time.mono) is None
    assert "1 weight pools stay closed" in caplog.text


async def test_what_is_over_or_of_an_egress_that_is_gone_closes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.kept.text = json.dumps([row(until_ms=START_MS), row(egress="gone")])
    await world.closures.load()
    assert not any(egress.closed for egress in world.governor.egresses)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no json",
        "{}",
        "7",
        "null",
        '["x", 5]',
        '[{"egress":"default"}]',
        '[{"egress":[]}]',
        '[{"egress":"default","pool":"spot","status":418,"until_ms":Infinity}]',
    ],
)
async def test_text_that_cannot_be_read_keeps_nobody_from_starting(world: World, text: str | None) -> None:
    world.kept.text = text
    await world.closures.load()
    assert not any(egress.closed for egress in world.governor.egresses)


async def test_row_that_cannot_be_read_does_not_take_the_others_with_it(world: World) -> None:
    world.kept.text = json.dumps([row(until_ms="soon"), "x", row(pool="futures", status=429)])
    await world.closures.load()
    assert list(world.governor.by_name["default"].closed) == ["futures"]


async def test_what_is_saved_is_what_the_next_start_loads(world: World) -> None:
    world.close("spot", 418, 120)
    world.close("sapi", 429, 30, "127.0.0.2")
    await world.tasks.join(1)
    other = World()
    other.kept.text = world.kept.text
    other.time.mono += 50
    await other.closures.load()
    assert other.governor.by_name["127.0.0.2"].closed == {}
    left = other.governor.by_name["default"].closure("spot", other.time.mono)
    assert left is not None
    assert (left.status, left.until_mono) == (418, other.time.mono + 70)


async def test_changes_while_a_save_is_under_way_become_one_more_save(world: World) -> None:
    world.kept.gate = asyncio.Event()
    world.close("spot")
    await settle()
    for pool in ("futures", "sapi", "options"):
        world.close(pool)
    assert world.kept.saves == 1
    world.kept.gate.set()
    await world.tasks.join(1)
    assert world.kept.saves == 2
    assert {each["pool"] for each in world.kept.rows} == {"spot", "futures", "sapi", "options"}


async def test_save_that_fails_is_logged_and_the_next_change_is_saved(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.kept.error = StoreError("the disk is full")
    with caplog.at_level(logging.ERROR, "resender.gateway"):
        world.close("spot")
        await world.tasks.join(1)
    assert [record.getMessage() for record in caplog.records] == [
        "closed weight pools could not be saved: the disk is full"
    ]
    world.kept.error = None
    world.close("futures")
    await world.tasks.join(1)
    assert {each["pool"] for each in world.kept.rows} == {"spot", "futures"}


async def test_last_save_is_made_only_while_something_is_closed(world: World) -> None:
    await world.closures.save_last()
    assert world.kept.saves == 0
    world.governor.close_pool(world.governor.egresses[0], "spot", 418, world.time.mono + 60)
    await world.closures.save_last()
    assert [each["pool"] for each in world.kept.rows] == ["spot"]
