"""Which routes have a page, on which port, and the limits of the servers."""

from __future__ import annotations

import pytest
from tornado.routing import PathMatches
from tornado.web import Application

from resender.web.application import GatewayDelegate, make_admin_app, make_admin_server, make_app, make_server
from resender.web.base import NotFoundHandler
from resender.web.client.request import RequestDelegate
from resender.web.client.streams import StreamHandler, UpgradeMatcher
from resender.web.connection import IDLE_GRACE_S
from tests.support.client import call, exchange, parse
from tests.unit.web.serving import FakeConnection, make_services


def paths(app: Application) -> set[str]:
    matchers = [rule.matcher for rule in app.wildcard_router.rules]
    return {matcher.regex.pattern for matcher in matchers if isinstance(matcher, PathMatches)}


def has_admin(app: Application) -> bool:
    return any(path.startswith("/admin") for path in paths(app))


async def test_pages_and_admin_share_a_port_unless_told_otherwise() -> None:
    services = make_services()
    app = make_app(services)
    assert {"/$", "/healthz$", "/metrics$"} <= paths(app)
    assert has_admin(app)
    await services.tasks.cancel()


@pytest.mark.parametrize("settings", [{"admin_port": 8001}, {"admin_enabled": False}])
async def test_admin_pages_elsewhere_or_nowhere_are_not_on_the_clients_port(settings) -> None:
    app = make_app(make_services(**settings))
    assert not has_admin(app)
    page = next(rule for rule in app.wildcard_router.rules if rule.name == "front").target_kwargs["page"]
    assert "/admin" not in page


async def test_handshake_of_a_websocket_goes_before_every_page_on_the_clients_port_alone() -> None:
    services = make_services(admin_port=8001)
    first, *others = make_app(services).wildcard_router.rules
    assert isinstance(first.matcher, UpgradeMatcher)
    assert first.target is StreamHandler
    assert all(isinstance(rule.matcher, PathMatches) for rule in others)
    assert all(
        isinstance(rule.matcher, PathMatches) for rule in make_admin_app(services).wildcard_router.rules
    )
    await services.tasks.cancel()


async def test_admin_port_has_the_admin_pages_alone() -> None:
    services = make_services(admin_port=8001)
    app = make_admin_app(services)
    assert has_admin(app)
    assert "/metrics$" not in paths(app)
    assert app.settings["default_handler_class"] is NotFoundHandler
    await services.tasks.cancel()


async def test_every_request_on_the_clients_port_takes_the_hot_path() -> None:
    services = make_services(admin_enabled=False)
    delegate = GatewayDelegate(services, make_app(services))
    assert isinstance(delegate.start_request(object(), FakeConnection()), RequestDelegate)  # type: ignore[arg-type]


async def test_servers_believe_no_header_about_the_peer_and_keep_idle_connections_a_little_longer() -> None:
    services = make_services(client_idle_s=30.0)
    for server in (make_server(services), make_admin_server(services)):
        assert not server.xheaders
        assert server.conn_params.header_timeout == 30 + IDLE_GRACE_S
        assert not server.conn_params.decompress
    await services.tasks.cancel()


async def test_admin_server_has_a_limit_for_bodies() -> None:
    services = make_services()
    assert make_admin_server(services).conn_params.max_body_size == 64 << 20
    await services.tasks.cancel()


async def test_request_that_cannot_be_read_gets_words_on_both_ports() -> None:
    services = make_services()
    for make in (make_server, make_admin_server):
        server = make(services)
        server.listen(0, "127.0.0.1")
        port = next(iter(server._sockets.values())).getsockname()[1]
        reply = parse(await exchange(port, b"no http at all\r\n\r\n"))
        assert (reply.status, reply.json()["msg"]) == (400, "Malformed HTTP request.")
        assert (await call(port, "GET", "/healthz" if make is make_server else "/")).status in (200, 302)
        server.stop()
        await server.close_all_connections()
    await services.tasks.cancel()
