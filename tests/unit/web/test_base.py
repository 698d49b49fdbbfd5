"""What every handler shares: errors in one shape, no traceback, and who may use a client's route."""

from __future__ import annotations

import logging

import pytest
from tornado.routing import URLSpec
from tornado.web import HTTPError

from resender.errors import AnswerError, Busy, Conflict, TooManyLogins
from resender.web.base import BaseHandler, ClientHandler, PublicHandler
from tests.support.client import Reply, call
from tests.unit.web.serving import make_services, served


class Failing(PublicHandler):
    """Raises what it is given."""

    def initialize(self, services, error: BaseException) -> None:  # type: ignore[no-untyped-def, override]
        super().initialize(services)
        self.error = error

    def get(self) -> None:
        raise self.error


class Hello(ClientHandler):
    def get(self) -> None:
        self.write(b"hello")

    def put(self) -> None:
        self.write(b"hello")


async def fail(error: BaseException, method: str = "GET") -> tuple[Reply, object]:
    services = make_services()
    async with served(services, [URLSpec("/x", Failing, {"services": services, "error": error})]) as port:
        return await call(port, method, "/x"), services


@pytest.mark.parametrize(
    ("error", "status", "code", "name"),
    [
        (Conflict("There already.", {"id": 5}), 409, -13, "conflict"),
        (HTTPError(404), 404, -3, "not_found"),
        (HTTPError(400, "secret"), 400, -4, "bad_request"),
        (HTTPError(403), 500, -9, "internal"),
        (RuntimeError("secret"), 500, -9, "internal"),
    ],
)
async def test_error_leaves_in_the_one_shape_and_tells_no_secret(
    error: BaseException, status: int, code: int, name: str
) -> None:
    reply, services = await fail(error)
    assert reply.status == status
    body = reply.json()
    assert (body["code"], set(body)) == (code, {"code", "msg", "data"})
    assert reply.header("x-resender-error") == name
    assert reply.header("content-type") == "application/json"
    assert reply.header("server") is None
    assert reply.header("x-content-type-options") == "nosniff"
    assert b"secret" not in reply.raw
    assert f'resender_answers_total{{name="{name}"}} 1.0' in services.metrics.render().decode()  # type: ignore[attr-defined]


async def test_data_of_an_error_is_told() -> None:
    reply, _ = await fail(Conflict("There already.", {"id": 5}))
    assert (reply.json()["msg"], reply.json()["data"]) == ("There already.", {"id": 5})


@pytest.mark.parametrize(
    ("error", "wait"), [(Busy("x"), "1"), (TooManyLogins(7), "7"), (Conflict("x"), None)]
)
async def test_only_an_answer_that_will_change_says_when(error: AnswerError, wait: str | None) -> None:
    reply, _ = await fail(error)
    assert reply.header("retry-after") == wait


async def test_method_a_route_lacks_is_refused_with_those_it_has() -> None:
    services = make_services()
    async with served(services, [URLSpec("/x", Hello, {"services": services})]) as port:
        reply = await call(port, "DELETE", "/x")
    assert (reply.status, reply.json()["code"]) == (405, -3)
    assert reply.header("allow") == "GET, PUT"
    assert Hello.methods() == ["GET", "PUT"]
    assert BaseHandler.methods() == []


async def test_only_a_failure_nobody_meant_is_logged_with_its_origin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "resender.web"):
        await fail(Conflict("x"))
        await fail(HTTPError(404))
        assert caplog.records == []
        await fail(RuntimeError("a bug"))
    assert "GET /x failed" in caplog.text
    assert "RuntimeError: a bug" in caplog.text


async def test_route_for_clients_refuses_and_notes_a_stranger(caplog: pytest.LogCaptureFixture) -> None:
    services = make_services()
    async with served(services, [URLSpec("/x", Hello, {"services": services})]) as port:
        assert (await call(port, "GET", "/x")).body == b"hello"
        services.access.set_whitelist([])
        reply = await call(port, "GET", "/x")
    assert (reply.status, reply.json()["msg"]) == (403, "Forbidden IP: 127.0.0.1")
    assert "refused 127.0.0.1: not in the whitelist" in caplog.text


async def test_whatever_has_no_route_is_not_found_by_any_method() -> None:
    services = make_services()
    async with served(services, []) as port:
        for method in ("GET", "POST", "DELETE"):
            reply = await call(port, method, "/nowhere")
            assert (reply.status, reply.json()["msg"]) == (404, "Unknown route.")
