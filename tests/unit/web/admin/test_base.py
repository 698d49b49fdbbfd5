"""What every admin route shares: who gets in, bodies of strangers, cookies, words of refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tornado.routing import URLSpec

from resender.errors import StoreError
from resender.web.admin.base import AdminHandler, AdminOpenHandler
from resender.web.admin.fields import Field
from resender.web.admin.sessions import Login
from resender.web.admin.shared import AdminSite
from tests.support.admin import assert_error
from tests.support.client import Reply, call
from tests.unit.web.serving import SESSION, USER, FakeLogins, make_services, served, token


class Open(AdminOpenHandler):
    """Reads the query and the body, without a log-in."""

    async def get(self) -> None:
        login = await self.find_login()
        self.send(
            {
                "who": None if login is None else login.actor,
                "n": self.query_int("n", 5, 0, 9),
                "flag": self.query_flag("flag"),
                "text": self.query_text("text", "none"),
                "tls": self.is_tls,
            }
        )

    def post(self) -> None:
        self.set_session_cookie("new-secret")
        self.send(self.read_json({"a": Field(int, 0)}), 201)


class Guarded(AdminHandler):
    """For those who have logged in."""

    body_max = 100

    def get(self) -> None:
        self.send({"who": self.login.actor})

    async def post(self) -> None:
        await self.audit("thing.do", "thing", None, {"a": 1})
        self.send({})


class LoginOnly(Guarded):
    login_only_writes = True


class FreeForNew(Guarded):
    free_for_new = True


class Page(Guarded):
    is_page = True


class Down(Guarded):
    def get(self) -> None:
        raise StoreError("postgresql://me:hush-hush-1@db is down")


ROUTES = {
    "open": Open,
    "guarded": Guarded,
    "login-only": LoginOnly,
    "new": FreeForNew,
    "page": Page,
    "down": Down,
}


class World:
    def __init__(self, port: int, services: Any, logins: FakeLogins) -> None:
        self.port = port
        self.services = services
        self.logins = logins

    async def send(
        self, method: str, path: str, body: bytes = b"", *, is_known: bool = True, **headers: str
    ) -> Reply:
        given = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if is_known:
            given.append(("Cookie", "resender_session=good"))
        return await call(self.port, method, f"/admin/{path}", tuple(given), body)


@asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    services = make_services(**settings)
    site = AdminSite(services)
    logins = FakeLogins()
    site.logins = logins  # type: ignore[assignment]
    common = {"services": services, "site": site}
    routes = [URLSpec(f"/admin/{name}", handler, common) for name, handler in ROUTES.items()]
    async with served(services, routes) as port:
        yield World(port, services, logins)


# --- who gets in ----------------------------------------------------------------------------------


async def test_nobody_outside_the_list_of_addresses_gets_in_and_the_page_says_why() -> None:
    async with world(admin_whitelist=("10.0.0.0/8",)) as one:
        reply = await one.send("GET", "open")
        assert_error(reply, 403, -1, reason="admin_whitelist", ip="127.0.0.1")
        assert one.logins.asked == []


async def test_log_in_is_asked_for_and_a_page_leads_to_it() -> None:
    async with world() as one:
        assert_error(await one.send("GET", "guarded", is_known=False), 401, -11)
        reply = await one.send("GET", "page?a=b&c=/d", is_known=False)
        assert reply.status == 302
        assert reply.header("location") == "/admin/login?next=/admin/page%3Fa%3Db%26c%3D/d"
        assert_error(await one.send("POST", "page", is_known=False), 401, -11)


async def test_token_in_front_of_a_cookie_is_the_whole_story() -> None:
    async with world() as one:
        assert (await one.send("GET", "guarded", Authorization="bearer good")).json() == {"who": "root"}
        for value in ("Bearer bad", "Basic good", "good", ""):
            assert_error(await one.send("GET", "guarded", Authorization=value), 401, -11)


async def test_reading_uses_the_memory_and_writing_does_not() -> None:
    async with world() as one:
        await one.send("GET", "guarded")
        await one.send("GET", "guarded", X_Background="1")
        await one.send("POST", "guarded")
        assert one.logins.asked == [("good", True, False), ("good", False, False), ("good", True, True)]


async def test_token_that_may_only_read_changes_nothing() -> None:
    async with world() as one:
        one.logins.login = token("read")
        assert (await one.send("GET", "guarded")).status == 200
        assert "only read" in assert_error(await one.send("POST", "guarded"), 403, -12)["msg"]
        assert one.services.store.audit == []


async def test_token_that_may_write_changes_no_log_ins() -> None:
    async with world() as one:
        one.logins.login = token("write")
        assert (await one.send("POST", "guarded")).status == 200
        assert (
            "log in with the password" in assert_error(await one.send("POST", "login-only"), 403, -12)["msg"]
        )


async def test_who_has_to_change_the_password_may_read_and_do_that_alone() -> None:
    async with world() as one:
        one.logins.login = Login(replace(USER, must_change=True), session=SESSION)
        assert (await one.send("GET", "guarded")).status == 200
        assert_error(await one.send("POST", "guarded"), 403, -12, reason="must_change")
        assert (await one.send("POST", "new")).status == 200


async def test_page_of_another_site_changes_nothing_and_may_not_be_told_by_its_host() -> None:
    async with world() as one:
        for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            assert_error(await one.send("POST", "guarded", **headers), 403, -12, reason="origin")
        given = {"Origin": "http://pages.example", "X_Forwarded_Host": "pages.example"}
        assert_error(await one.send("POST", "guarded", **given), 403, -12, reason="origin")
        assert (await one.send("GET", "guarded", Origin="http://evil.example")).status == 200


async def test_trusted_proxy_tells_the_host_and_tls() -> None:
    async with world(trusted_proxies=("127.0.0.1",)) as one:
        given = {"Origin": "https://pages.example", "X_Forwarded_Host": "pages.example, inner"}
        assert (await one.send("POST", "guarded", **given)).status == 200
        assert (await one.send("GET", "open", X_Forwarded_Proto="HTTPS, http")).json()["tls"] is True
        reply = await one.send("POST", "open", X_Forwarded_Proto="https")
        assert "; Secure" in (reply.header("set-cookie") or "")
    async with world() as one:
        assert (await one.send("GET", "open", X_Forwarded_Proto="https")).json()["tls"] is False


async def test_failed_token_is_written_down_for_programs_that_ban(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as one:
        await one.send("GET", "guarded", is_known=False)
        assert "failed log-in" not in caplog.text
        await one.send("GET", "guarded", Authorization="Bearer bad")
        assert "failed log-in from 127.0.0.1" in caplog.text


# --- reading --------------------------------------------------------------------------------------


async def test_query_is_read_or_refused_by_the_name_of_its_part() -> None:
    async with world() as one:
        found = (await one.send("GET", "open?n=%207&flag=yes&text=%20a%20b%20")).json()
        assert (found["n"], found["flag"], found["text"]) == (7, True, "a b")
        found = (await one.send("GET", "open?n=&flag=")).json()
        assert (found["n"], found["flag"], found["text"]) == (5, False, "none")
        assert_error(await one.send("GET", "open?n=10"), 400, -4, field="n", reason="range")
        assert_error(await one.send("GET", "open?flag=maybe"), 400, -4, field="flag")


async def test_body_is_read_as_the_fields_it_may_have() -> None:
    async with world() as one:
        assert (await one.send("POST", "open", b'{"a":7}')).json() == {"a": 7}
        assert_error(await one.send("POST", "open", b'{"b":7}'), 400, -4, field="b")


async def test_body_over_the_limit_of_its_route_is_refused_once_it_is_all_there() -> None:
    async with world() as one:
        assert_error(await one.send("POST", "guarded", b"x" * 101), 413, -5, reason="body_large", most=100)
        assert one.services.store.audit == []
        assert (await one.send("POST", "open", b'{"a":1}' + b" " * 1000)).status == 201


async def test_stranger_gets_his_answer_after_what_he_sent_whatever_its_size() -> None:
    async with world() as one:
        assert_error(await one.send("POST", "guarded", b"x" * 1_000_000, is_known=False), 401, -11)


# --- writing --------------------------------------------------------------------------------------


async def test_every_answer_forbids_frames_foreign_content_and_keeping() -> None:
    async with world() as one:
        for path, is_known in (("guarded", True), ("guarded", False), ("open", False)):
            reply = await one.send("GET", path, is_known=is_known)
            assert reply.header("cache-control") == "no-store"
            assert reply.header("x-frame-options") == "DENY"
            assert "frame-ancestors 'none'" in (reply.header("content-security-policy") or "")
            assert "unsafe" not in (reply.header("content-security-policy") or "")
            assert reply.header("etag") is None


async def test_session_cookie_is_for_these_pages_and_no_script() -> None:
    async with world(admin_session_hours=2) as one:
        cookie = (await one.send("POST", "open")).header("set-cookie") or ""
    assert {part.strip() for part in cookie.split(";")} >= {
        "Path=/admin", "HttpOnly", "SameSite=Strict", "Max-Age=7200",
    }  # fmt: skip
    assert "Secure" not in cookie


async def test_database_in_trouble_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as one:
        reply = await one.send("GET", "down")
    body = assert_error(reply, 503, -8, reason="database")
    assert "the gateway itself goes on" in body["msg"]
    assert b"hush-hush-1" not in reply.raw
    assert reply.header("retry-after") == "1"
    assert "GET /admin/down: " in caplog.text


async def test_change_is_written_down_with_who_made_it_and_from_where() -> None:
    async with world() as one:
        one.logins.login = token("write")
        await one.send("POST", "guarded")
        assert one.services.store.audit == [
            ("root/token 9", "127.0.0.1", "thing.do", "thing", None, {"a": 1})
        ]
