"""Answers that go on for long: they end with the client, its log-in or the gateway, and say why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.routing import URLSpec

from resender.errors import StoreError
from resender.web.admin import long_answers
from resender.web.admin.long_answers import EventHandler, LiveHandler, LongHandler
from resender.web.admin.readings import Live
from resender.web.admin.shared import AdminSite
from tests.support.admin import assert_error
from tests.support.client import Reply, call
from tests.support.running import wait_until
from tests.unit.web.serving import FakeLogins, make_services, reading, served


class Words(LiveHandler):
    def get(self) -> None:
        market = self.query_cached_market(is_needed=True)
        self.send({"market": market, "word": self.query_word("word", ("a", "b"))})

    def post(self) -> None:
        self.cache()


class Events(EventHandler):
    seen: list[bool]

    async def get(self) -> None:
        if await self.begin():
            while await self.event("tick", b"{}") and await self.goes_on(0.01):
                pass
        self.seen.append(self.is_gone)


class Breaking(LongHandler):
    """Fails in the middle of its answer, or before it."""

    async def get(self) -> None:
        if self.query_flag("late"):
            await self.push(b"begun")
        error = self.query_text("error")
        raise StoreError("down") if error == "store" else RuntimeError("a bug")


class World:
    def __init__(self, port: int, services: Any, logins: FakeLogins, seen: list[bool]) -> None:
        self.port = port
        self.services = services
        self.logins = logins
        self.seen = seen

    async def send(self, path: str, method: str = "GET") -> Reply:
        return await call(self.port, method, f"/admin/{path}", (("Cookie", "resender_session=good"),))


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    services = make_services()
    services.status.answers()
    site = AdminSite(services)
    logins, seen = FakeLogins(), []
    site.logins = logins  # type: ignore[assignment]
    common = {"services": services, "site": site, "live": Live(services)}
    events = type("Seen", (Events,), {"seen": seen})
    routes = [
        URLSpec(f"/admin/{name}", handler, common)
        for name, handler in (("words", Words), ("events", events), ("breaking", Breaking))
    ]
    async with served(services, routes) as port:
        yield World(port, services, logins, seen)


async def test_market_without_series_and_unknown_words_are_refused_with_those_there_are() -> None:
    async with world() as one:
        assert (await one.send("words?market=um&word=b")).json() == {"market": "um", "word": "b"}
        assert (await one.send("words?market=um")).json()["word"] is None
        body = assert_error(await one.send("words?market=options"), 400, -4, field="market")
        assert body["msg"] == "'market' has to be one of: spot, um, cm."
        assert_error(await one.send("words"), 400, -4, field="market")
        assert_error(await one.send("words?market=um&word=c"), 400, -4, field="word")


async def test_cache_that_is_switched_off_is_told() -> None:
    async with world() as one:
        assert_error(await one.send("words", "POST"), 404, -3, reason="cache_off")


async def test_events_end_with_the_gateway_and_say_so() -> None:
    async with world() as one:
        asking = asyncio.ensure_future(one.send("events"))
        await wait_until(lambda: one.logins.asked)
        one.services.calls.is_open = False
        reply = await asking
    assert reply.header("content-type") == "text/event-stream; charset=utf-8"
    assert reply.body.startswith(b"retry: 3000\n\nevent: tick\ndata: {}\n\n")
    assert reply.body.endswith(b'event: end\ndata: {"reason":"stopping"}\n\n')
    assert reply.complete


async def test_events_end_with_the_log_in_and_do_not_keep_it_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_answers, "_LOGIN_EVERY_S", 0.02)
    async with world() as one:
        asking = asyncio.ensure_future(one.send("events"))
        await wait_until(lambda: len(one.logins.asked) > 2)
        one.logins.login = None
        reply = await asking
    assert reply.body.endswith(b'event: end\ndata: {"reason":"logged out"}\n\n')
    assert {touch for _, touch, _ in one.logins.asked[1:]} == {False}


async def test_silent_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_answers, "_BEAT_EVERY_S", -1.0)
    async with world() as one, reading(one.port, "/admin/events") as reader:
        await reader.readuntil(b"\r\n:\n\n\r\n")


async def test_client_that_leaves_ends_its_answer() -> None:
    async with world() as one:
        async with reading(one.port, "/admin/events") as reader:
            await reader.readuntil(b"retry: 3000")
        await wait_until(lambda: one.seen)
    assert one.seen == [True]


@pytest.mark.parametrize(("error", "status"), [("bug", 500), ("store", 503)])
async def test_failure_before_the_answer_is_an_answer(error: str, status: int) -> None:
    async with world() as one:
        assert (await one.send(f"breaking?error={error}")).status == status


@pytest.mark.parametrize(("error", "is_logged"), [("bug", True), ("store", False)])
async def test_failure_in_the_middle_breaks_the_connection_so_that_it_is_seen(
    error: str, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with world() as one:
        reply = await one.send(f"breaking?late=1&error={error}")
    assert reply.status == 200
    assert reply.body == b"begun"
    assert not reply.complete
    assert ("GET /admin/breaking failed" in caplog.text) is is_logged
