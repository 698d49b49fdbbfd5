"""The pages themselves: language and colours of the reader, and where one goes after the log-in."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest

from resender.core.market.words import ALL_WORDS, WORDS
from resender.web.admin.pages.pages import HOME, PAGES, preferred_language, safe_next
from resender.web.admin.sessions import Login
from tests.support.admin import assert_error
from tests.unit.web.serving import SESSION, USER, administered, token


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/admin/logs", "/admin/logs"),
        ("/admin/logs?status=4xx&ip=::1", "/admin/logs?status=4xx&ip=%3A%3A1"),
        ("/admin/logs#x", "/admin/logs"),
        ("", HOME),
        ("/admin/nowhere", HOME),
        ("/admin/api/users", HOME),
        ("/admin/../logs", HOME),
        ("https://evil.example/admin/logs", HOME),
        ("//evil.example/admin/logs", HOME),
        ("/\\evil.example/admin/logs", HOME),
        ("javascript:alert(1)", HOME),
        ("http://[", HOME),
        ("/admin/logs?a=\r\nSet-Cookie: x", "/admin/logs?a=Set-Cookie%3A%20x"),
    ],
)
def test_log_in_leads_to_one_of_our_own_pages(target: str, found: str) -> None:
    assert safe_next(target) == found


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB,zh;q=0.9", "en"), ("fr,zh;q=0.5", "zh"), ("fr", "en"),
        ("zh;q=0.5,en;q=0.6", "en"), ("zh;q=0", "en"), ("ZH-TW", "zh"), ("zh;q=x", "en"), ("en,zh", "en"),
        ("zhx", "en"), ("*", "en"),
    ],
)  # fmt: skip
def test_chinese_is_for_who_wants_it_before_english(accepted: str, language: str) -> None:
    assert preferred_language(accepted) == language


@pytest.mark.parametrize("page", [*PAGES, "login"])
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_every_page_is_there_in_both_languages(page: str, language: str) -> None:
    async with administered() as one:
        if page == "login":
            one.cookies = {}
        one.cookies["resender_lang"] = language
        reply = await one.send("GET", f"/admin/{page}")
    assert reply.status == 200
    assert reply.header("content-language") == {"en": "en", "zh": "zh-CN"}[language]
    assert "{{" not in reply.body.decode()


async def test_page_of_streams_offers_all_that_can_be_kept_and_tells_what_each_market_has() -> None:
    async with administered() as one:
        page = (await one.send("GET", "/admin/streams")).body.decode()
    offered = re.search(r'name="interval".*?</select>', page, re.DOTALL)
    told = re.search('data-words="([^"]*)"', page)
    assert offered is not None
    assert told is not None
    assert sorted(re.findall('value="([^"]+)"', offered[0])) == sorted(ALL_WORDS)
    assert json.loads(html.unescape(told[1])) == {
        market.value: list(words) for market, words in WORDS.items()
    }


async def test_reader_chooses_by_cookie_and_else_by_browser() -> None:
    async with administered() as one:
        headers = ("Accept-Language", "zh-CN")
        assert (await one.send("GET", "/admin/audit", None, headers)).header("content-language") == "zh-CN"
        one.cookies["resender_lang"] = "en"
        assert (await one.send("GET", "/admin/audit", None, headers)).header("content-language") == "en"
        one.cookies["resender_lang"] = "<b>"
        assert (await one.send("GET", "/admin/audit", None, headers)).header("content-language") == "zh-CN"


async def test_colours_are_three_and_nothing_else_gets_into_the_page() -> None:
    async with administered() as one:
        one.cookies["resender_theme"] = "dark"
        assert b'"dark"' in (await one.send("GET", "/admin/audit")).body
        one.cookies["resender_theme"] = "evil"
        assert b'"evil"' not in (await one.send("GET", "/admin/audit")).body


async def test_name_of_the_reader_is_text_and_no_html() -> None:
    async with administered() as one:
        one.logins.login = Login(replace(USER, username="<b>root"), session=SESSION)
        body = (await one.send("GET", "/admin/audit")).body
    assert b"<b>root" not in body
    assert b"&lt;b&gt;root" in body


async def test_who_has_to_change_the_password_is_led_there_from_every_page() -> None:
    async with administered() as one:
        one.logins.login = Login(replace(USER, must_change=True), session=SESSION)
        assert (await one.send("GET", "/admin/logs")).header("location") == "/admin/password"
        assert (await one.send("GET", "/admin/password")).status == 200


async def test_token_gets_no_pages() -> None:
    async with administered() as one:
        one.logins.login = token("write")
        assert_error(await one.send("GET", "/admin/logs"), 404, -3)


async def test_who_is_logged_in_goes_on_from_the_log_in_at_once() -> None:
    async with administered() as one:
        assert (await one.send("GET", "/admin/login?next=/admin/logs")).header("location") == "/admin/logs"
        one.logins.login = token("write")
        assert (await one.send("GET", "/admin/login")).status == 200
        assert (await one.send("GET", "/admin")).header("location") == HOME


async def test_unknown_page_asks_for_the_log_in_before_it_says_so() -> None:
    async with administered() as one:
        assert_error(await one.send("GET", "/admin/nowhere"), 404, -3)
        one.cookies = {}
        assert (await one.send("GET", "/admin/nowhere")).status == 302
        assert_error(await one.send("GET", "nowhere"), 401, -11)
