"""The dashboard's answers: figures once, as events, and the points of its charts."""

from __future__ import annotations

import pytest

from resender.web.admin.api import status as module
from resender.web.admin.readings import MAX_STREAMS
from tests.support.admin import assert_error
from tests.support.running import wait_until
from tests.unit.web.serving import NOW_MS, administered, reading


async def test_figures_are_those_of_the_shared_reading() -> None:
    async with administered() as one:
        reply = await one.send("GET", "status")
        assert reply.body == one.live.status_body()
        assert reply.header("content-type") == "application/json"


async def test_events_bring_the_same_figures_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY_S", 0.01)
    async with administered() as one, reading(one.port, "/admin/api/events") as reader:
        for _ in range(2):
            await reader.readuntil(b"event: status\ndata: {")
        assert one.live.streams_open == 1
        one.services.calls.is_open = False
        rest = await reader.read()
        await wait_until(lambda: one.live.streams_open == 0)
    assert b'event: end\ndata: {"reason":"stopping"}\n\n' in rest


async def test_more_streams_than_there_are_places_for_are_refused_in_words() -> None:
    async with administered() as one:
        one.live.streams_open = MAX_STREAMS
        assert_error(await one.send("GET", "events"), 503, -8, reason="streams_many", most=MAX_STREAMS)


@pytest.mark.parametrize(
    ("query", "name"), [("", "hour"), ("?range=hour", "hour"), ("?range=day&since=5", "day")]
)
async def test_points_of_a_range_are_columns(query: str, name: str) -> None:
    async with administered() as one:
        found = await one.get(f"history{query}")
    assert found["range"] == name
    points = found["points"]
    assert {len(points[column]) for column in points if column != "weights"} == {len(points["time"])}


async def test_only_points_the_page_does_not_have_yet_are_sent() -> None:
    async with administered() as one:
        points = (await one.get("history"))["points"]["time"]
        assert len(points) > 2
        newer = (await one.get(f"history?since={points[-2]}"))["points"]["time"]
    assert newer == points[-2:]
    assert points[-1] < NOW_MS


@pytest.mark.parametrize("query", ["range=week", "since=-1", "since=x"])
async def test_range_that_is_none_is_refused(query: str) -> None:
    async with administered() as one:
        assert_error(await one.send("GET", f"history?{query}"), 400, -4, field=query.partition("=")[0])
