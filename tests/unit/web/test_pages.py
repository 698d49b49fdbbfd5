"""The small public pages: what they say, and that only the figures are for clients alone."""

from __future__ import annotations

import base64
import hashlib

from tornado.routing import URLSpec

from resender import __version__
from resender.web.pages import (
    AdminFrontHandler,
    FrontHandler,
    HealthHandler,
    MetricsHandler,
    front_page,
    style_hash,
)
from tests.support.client import Reply, call
from tests.unit.web.serving import make_services, served


async def ask(handler: type, method: str = "GET", services=None, **more) -> Reply:
    services = services or make_services()
    async with served(services, [URLSpec("/x", handler, {"services": services, **more})]) as port:
        return await call(port, method, "/x")


def test_style_of_a_page_is_allowed_by_its_hash() -> None:
    digest = base64.b64encode(hashlib.sha256(b"a{b:c}").digest()).decode()
    assert style_hash("<style>a{b:c}</style><style>x</style>") == f"'sha256-{digest}'"
    assert style_hash("no style").startswith("'sha256-")


def test_front_page_shows_the_version_and_the_way_to_the_admin_pages_where_there_are_some() -> None:
    page = front_page()
    assert __version__ in page
    assert '<a href="/admin">' in page
    assert "/admin" not in front_page(has_admin=False)
    assert "{{" not in page


async def test_front_page_allows_its_own_style_and_nothing_else() -> None:
    page = front_page()
    reply = await ask(FrontHandler, page=page)
    policy = reply.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'; ")
    assert style_hash(page) in policy
    assert "unsafe" not in policy
    assert reply.body.decode() == page


async def test_health_is_good_only_while_calls_are_taken() -> None:
    services = make_services()
    reply = await ask(HealthHandler, services=services)
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
    services.calls.is_open = False
    reply = await ask(HealthHandler, services=services)
    assert (reply.status, reply.json()) == (503, {"status": "stopping"})
    assert reply.header("cache-control") == "no-store"


async def test_health_is_told_to_strangers_and_figures_are_not() -> None:
    services = make_services()
    services.access.set_whitelist([])
    assert (await ask(HealthHandler, services=services)).status == 200
    assert (await ask(MetricsHandler, services=services)).status == 403


async def test_figures_are_prometheus_text() -> None:
    reply = await ask(MetricsHandler)
    assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert b"resender_build_info" in reply.body


async def test_front_of_the_admin_port_leads_to_the_pages() -> None:
    reply = await ask(AdminFrontHandler)
    assert (reply.status, reply.header("location")) == (302, "/admin")


async def test_head_is_answered_without_a_body() -> None:
    for handler, more in ((FrontHandler, {"page": "x"}), (HealthHandler, {}), (MetricsHandler, {})):
        reply = await ask(handler, "HEAD", **more)
        assert (reply.status, reply.body) == (200, b"")
