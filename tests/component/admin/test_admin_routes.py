"""Every route of both applications: who may, and where a write may come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tornado.routing import URLSpec
from tornado.web import Application

from resender.web.admin.base import AdminHandler, AdminOpenHandler
from resender.web.application import make_admin_app, make_app
from resender.web.base import BaseHandler, ClientHandler, NotFoundHandler, PublicHandler
from resender.web.client.streams import StreamHandler
from tests.support.admin import Browser, assert_error
from tests.support.running import Running

pytestmark = pytest.mark.component

PUBLIC = {"/", "/healthz", "/readyz"}
CLIENT = {"/metrics"}
OPEN = {
    "/admin/login",
    "/admin/api/login",
    "/admin/static/([0-9a-f]{12})/(.+)",
    "/admin/vendor/([^/]+)/([^/]+)",
}
FOREIGN = (
    (("Origin", "https://evil.example"),),
    (("Origin", "null"),),
    (("Origin", "http://gateway.evil.example"),),
    (("Origin", "http://gateway:81"),),
    (("Sec-Fetch-Site", "cross-site"),),
    (("Sec-Fetch-Site", "same-site"), ("Origin", "http://gateway")),
)


def specs(app: Application) -> list[URLSpec]:
    found = [rule for rule in app.wildcard_router.rules if isinstance(rule, URLSpec)]
    others = [rule.target for rule in app.wildcard_router.rules if not isinstance(rule, URLSpec)]
    assert others in ([], [StreamHandler])
    return found


def pattern(spec: URLSpec) -> str:
    return spec.regex.pattern.removesuffix("$")


def sample(spec: URLSpec) -> str:
    """Return a path the route answers."""
    path = pattern(spec).replace("/admin/?", "/admin").replace(".*", "whatever")
    return re.sub(r"\([^)]*\)", "1", path)


def handler(spec: URLSpec) -> type[BaseHandler]:
    kind = spec.handler_class
    assert issubclass(kind, BaseHandler)
    return kind


def admin_specs(run: Running) -> list[URLSpec]:
    return [spec for spec in specs(make_app(run.gateway.services)) if pattern(spec).startswith("/admin")]


async def test_every_route_is_public_by_name_or_for_clients_or_for_who_has_logged_in(admin: Running) -> None:
    for app in (make_app(admin.gateway.services), make_admin_app(admin.gateway.services)):
        for spec in specs(app):
            path, kind = pattern(spec), handler(spec)
            bases = (PublicHandler, ClientHandler, AdminOpenHandler, AdminHandler)
            found = [base for base in bases if issubclass(kind, base)]
            expected = (
                PublicHandler if path in PUBLIC
                else ClientHandler if path in CLIENT
                else AdminOpenHandler if path in OPEN
                else AdminHandler
            )  # fmt: skip
            assert found == [expected], path
        assert app.settings["default_handler_class"] is NotFoundHandler
    assert len(admin_specs(admin)) > 40


async def test_own_port_has_all_admin_routes_and_no_others(admin: Running) -> None:
    own = {pattern(spec) for spec in specs(make_admin_app(admin.gateway.services))}
    assert own == {pattern(spec) for spec in admin_specs(admin)} | {"/"}


async def test_every_admin_route_refuses_without_a_log_in(admin: Running) -> None:
    stranger = Browser(admin.port)
    forger = Browser(admin.port, ("Cookie", f"resender_session={'A' * 43}"))
    bearer = Browser(admin.port, ("Authorization", f"Bearer rsr_{'A' * 43}"))
    checked = 0
    for spec in admin_specs(admin):
        if pattern(spec) in OPEN:
            continue
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            for browser in (stranger, forger, bearer):
                reply = await browser.send(method, sample(spec), raw=b"{}" if method != "GET" else b"")
                name = f"{method} {sample(spec)}"
                if reply.status == 302:
                    assert method in ("GET", "HEAD"), name
                    assert not sample(spec).startswith("/admin/api/"), name
                    assert (reply.header("location") or "").startswith("/admin/login?next="), name
                    assert reply.body == b"", name
                else:
                    assert reply.status == 401, name
                    if method != "HEAD":
                        assert_error(reply, 401, -11)
                checked += 1
    assert checked > 600


async def test_every_write_refuses_a_foreign_origin(admin: Running, root: Browser) -> None:
    writes = [
        (method, spec)
        for spec in admin_specs(admin)
        for method in handler(spec).methods()
        if method not in ("GET", "HEAD")
    ]
    assert len(writes) > 20
    for method, spec in writes:
        for headers in FOREIGN:
            reply = await root.send(method, sample(spec), {}, *headers)
            assert reply.status == 403, (method, sample(spec), headers, reply.body)
            assert_error(reply, 403, -12)
    assert (await root.get("me"))["username"] == "root"


async def test_write_of_our_own_page_or_of_a_script_is_served(admin: Running, root: Browser) -> None:
    for number, headers in enumerate(
        (
            (),
            (("Origin", "http://gateway"),),
            (("Origin", "http://gateway:80"),),
            (("Origin", "https://gateway"),),
            (("Origin", "http://GATEWAY"), ("Sec-Fetch-Site", "same-origin")),
            (("Sec-Fetch-Site", "none"),),
        )
    ):
        reply = await root.send("POST", "whitelist", {"address": f"203.0.113.{number}"}, *headers)
        assert reply.status == 201, (headers, reply.body)


async def test_no_get_changes_anything(admin: Running, root: Browser) -> None:
    store = admin.gateway.store

    async def state() -> tuple[object, ...]:
        tokens = [(t.id, t.name) for t in await store.token_list()]
        users = [
            (u.id, u.username, u.password_hash, u.enabled, u.must_change) for u in await store.user_list()
        ]
        sessions = [s.id for s in await store.session_list(1)]
        rules = [(r.id, str(r)) for r in await store.preload_list()]
        entries = [(e.id, e.address, e.note, e.enabled) for e in await store.whitelist_list()]
        audit = [row.id for row in await store.audit_list(limit=1000)]
        return tokens, users, sessions, rules, entries, audit, store.log_enabled

    before = await state()
    for spec in admin_specs(admin):
        path = sample(spec)
        if "get" in handler(spec).__dict__ and "events" not in path:
            for query in ("", "?action=delete&id=1&enabled=true", "?logout=1"):
                assert (await root.send("GET", path + query)).status < 500, path
    assert await state() == before


async def test_route_modules_read_no_argument_that_could_come_from_a_body() -> None:
    # get_argument() takes a POST's body for a query; ours say which they mean.
    folder = Path(__file__).resolve().parents[3] / "resender" / "web" / "admin"
    for path in folder.rglob("*.py"):
        text = path.read_text()
        assert "get_argument(" not in text, path.name
        assert "get_body_argument(" not in text, path.name


async def test_unknown_method_is_a_json_405_that_names_the_methods(root: Browser) -> None:
    reply = await root.send("PUT", "whitelist", {})
    assert_error(reply, 405, -3)
    assert reply.header("allow") == "GET, POST"


async def test_unknown_path_is_a_json_404_for_who_has_logged_in(root: Browser) -> None:
    for path in ("nope", "whitelist/x", "users/1/2", "/admin/nope", "/admin/static/x", "/admin/api/"):
        assert_error(await root.send("GET", path), 404, -3)
