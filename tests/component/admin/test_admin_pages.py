"""The pages, their headers, their files, and text from outside in them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from resender.places import STATIC as FOLDER
from resender.store import LogRecord
from resender.web.admin.assets import Assets
from resender.web.admin.pages.pages import PAGES, preferred_language, safe_next
from tests.support.admin import Browser, assert_error
from tests.support.client import Reply
from tests.support.running import Running, wait_until

pytestmark = pytest.mark.component

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ user }}"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def assert_headers(reply: Reply, *, kept: bool = False) -> None:
    assert reply.header("content-security-policy") == POLICY
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("x-frame-options") == "DENY"
    assert reply.header("referrer-policy") == "no-referrer"
    assert reply.header("cross-origin-opener-policy") == "same-origin"
    assert reply.header("server") is None
    expected = "public, max-age=31536000, immutable" if kept else "no-store"
    assert reply.header("cache-control") == expected
    assert reply.header("access-control-allow-origin") is None


async def test_every_answer_below_admin_carries_the_security_headers(admin: Running, root: Browser) -> None:
    stranger = root.again()
    for browser in (root, stranger):
        for path in ("/admin", "/admin/login", "/admin/nope", "me", "nope", "whitelist/export"):
            assert_headers(await browser.send("GET", path))
        assert_headers(await browser.send("POST", "whitelist", {"address": "nonsense"}))
        assert_headers(await browser.send("PUT", "me", {}))
        assert_headers(await browser.send("POST", "login", {}, ("Origin", "https://evil.example")))
    for page in PAGES:
        assert_headers(await root.send("GET", f"/admin/{page}"))


async def test_every_page_has_its_address_and_no_inline_script_or_style(
    admin: Running, root: Browser
) -> None:
    for page in (*PAGES, "login"):
        browser = root.again() if page == "login" else root
        reply = await browser.send("GET", f"/admin/{page}")
        assert reply.status == 200, page
        assert reply.header("content-type") == "text/html; charset=utf-8"
        html = reply.body.decode()
        assert not re.search(r"<script(?![^>]*\ssrc=)", html), page
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html), page
        links = re.findall(r'(?:src|href)="([^"#]+)', html)
        assert links
        for link in links:
            if link == "https://www.tradingview.com/":  # a link only: the charts' licence wants it named
                assert f'<a href="{link}"' in html
                continue
            assert link.startswith("/"), (page, link)
            if link.startswith(("/admin/static/", "/admin/vendor/")):
                assert (await browser.send("GET", link)).status == 200, (page, link)
        head = await browser.send("HEAD", f"/admin/{page}")
        assert (head.status, head.body) == (200, b"")


async def test_page_without_a_log_in_leads_to_the_log_in_and_back(admin: Running, root: Browser) -> None:
    stranger = root.again()
    reply = await stranger.send("GET", "/admin/logs?ip=10.0.0.1&text=a%26b")
    assert reply.status == 302
    assert reply.header("location") == "/admin/login?next=/admin/logs%3Fip%3D10.0.0.1%26text%3Da%2526b"
    login = await stranger.send("GET", reply.header("location") or "")
    assert login.status == 200
    # Who is logged in already goes on.
    onward = await root.send("GET", reply.header("location") or "")
    assert (onward.status, onward.header("location")) == (302, "/admin/logs?ip=10.0.0.1&text=a%26b")
    assert (await root.send("GET", "/admin")).header("location") == "/admin/dashboard"


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/admin/logs", "//evil.example/admin/logs", "/\\evil.example", "javascript:alert(1)",
     "/admin/login", "/admin/api/logout", "/admin/../x", "/api/v3/time", "", "\r\nSet-Cookie: a=b", "http://[",],
)  # fmt: skip
def test_log_in_leads_to_no_other_place_than_a_page_of_ours(target: str) -> None:
    assert safe_next(target) == "/admin/dashboard"


async def test_language_is_the_browsers_until_one_is_chosen(admin: Running) -> None:
    browser = Browser(admin.port)

    async def language(*headers: tuple[str, str]) -> str | None:
        reply = await browser.send("GET", "/admin/login", None, *headers)
        html = reply.body.decode()
        tag = re.search(r'<html lang="([^"]+)"', html)
        assert tag is not None
        assert tag.group(1) == reply.header("content-language")
        return tag.group(1)

    assert await language() == "en"
    assert await language(("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8")) == "zh-CN"
    browser.cookies["resender_lang"] = "en"
    assert await language(("Accept-Language", "zh-CN")) == "en"
    browser.cookies["resender_lang"] = "zh"
    assert await language(("Accept-Language", "en")) == "zh-CN"
    browser.cookies["resender_lang"] = "../../etc/passwd"
    assert await language() == "en"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"), ("de", "en"), ("zh", "zh"), ("zh-Hant-TW", "zh"), ("en,zh", "en"), ("de,zh;q=0.5,en;q=0.3", "zh"),
        ("zh;q=0", "en"), ("zh;q=x", "en"), (";;,,q=", "en"), ("fr;q=1, ZH-cn;q=0.2", "zh"),
    ],
)  # fmt: skip
def test_language_is_read_from_the_header(accepted: str, language: str) -> None:
    assert preferred_language(accepted) == language


async def test_theme_is_taken_from_its_cookie_and_nothing_else_is(admin: Running) -> None:
    browser = Browser(admin.port)
    for value, shown in (("dark", "dark"), ("light", "light"), ("auto", "auto"), ('"><script>', "auto")):
        browser.cookies["resender_theme"] = value
        html = (await browser.send("GET", "/admin/login")).body.decode()
        assert f'data-theme="{shown}"' in html
        assert "<script>" not in html


def test_both_catalogues_have_the_same_keys_and_only_texts() -> None:
    texts = {name: json.loads((FOLDER / "i18n" / f"{name}.json").read_text("utf-8")) for name in ("en", "zh")}
    assert set(texts["en"]) == set(texts["zh"])
    for name in texts:
        assert all(isinstance(text, str) and text.strip() for text in texts[name].values())
    for key, text in texts["en"].items():
        places = re.findall(r"\{\w+\}", text)
        assert sorted(set(places)) == sorted(set(re.findall(r"\{\w+\}", texts["zh"][key]))), key


async def test_files_are_kept_for_good_under_a_url_that_changes_with_them(admin: Running) -> None:
    browser = Browser(admin.port)
    assets = Assets(FOLDER)
    paths = [assets.url(name) for name in ("css/admin.css", "js/core.js", "i18n/en.json", "i18n/zh.json")]
    vendor = ("bootstrap.min.css", "bootstrap.bundle.min.js", "lightweight-charts.standalone.production.js")
    paths += [assets.vendor_url(name) for name in vendor]
    for path in paths:
        plain = await browser.send("GET", path)
        assert plain.status == 200, path
        assert_headers(plain, kept=True)
        packed = await browser.send("GET", path, None, ("Accept-Encoding", "br, gzip"))
        assert packed.header("content-encoding") == "gzip"
        assert packed.header("vary") == "Accept-Encoding"
        assert gzip.decompress(packed.body) == plain.body
        assert packed.header("etag") != plain.header("etag")
        for reply, coding in ((plain, "identity"), (packed, "gzip")):
            known = (("If-None-Match", reply.header("etag") or ""), ("Accept-Encoding", coding))
            again = await browser.send("GET", path, None, *known)
            assert (again.status, again.body) == (304, b"")
            assert again.header("etag") == reply.header("etag")
        head = await browser.send("HEAD", path)
        assert (head.status, head.header("content-length")) == (200, str(len(plain.body)))
    kinds = [(await browser.send("GET", path)).header("content-type") for path in paths[:3]]
    assert kinds == ["text/css; charset=utf-8", "text/javascript; charset=utf-8", "application/json"]
    none = await browser.send("GET", paths[0], None, ("Accept-Encoding", "gzip;q=0"))
    assert none.header("content-encoding") is None


async def test_nothing_but_the_listed_files_can_be_fetched(admin: Running) -> None:
    browser, assets = Browser(admin.port), Assets(FOLDER)
    for path in (
        assets.url("templates/base.html"),
        assets.url("front.html"),
        assets.url("../run.py"),
        assets.url("..%2f..%2frun.py"),
        assets.url("%2e%2e/settings.py"),
        assets.url("css/"),
        assets.url("css/admin.css%00.js"),
        "/admin/static/000000000000/css/admin.css",
        "/admin/vendor/5.3.8/bootstrap.min.css",
        "/admin/vendor/missing/bootstrap.min.css",
        assets.vendor_url("bootstrap.min.css") + ".map",
    ):
        reply = await browser.send("GET", path)
        # Paths that are no file's are pages that do not exist: one has to log in to learn that.
        assert reply.status in (404, 401, 302), path
        assert b"import" not in reply.body
        if reply.status == 404:
            assert_error(reply, 404, -3)


def test_url_of_the_files_changes_when_one_of_them_does(tmp_path: Path) -> None:
    (tmp_path / "js").mkdir()
    (tmp_path / "templates").mkdir()
    file = tmp_path / "js" / "a.js"
    file.write_text("1")
    before = Assets(tmp_path)
    (tmp_path / "templates" / "a.js").write_text("no file of browsers")
    (tmp_path / "js" / ".hidden.js").write_text("no file of browsers")
    assert Assets(tmp_path).version == before.version
    assert set(before.own) == {"js/a.js"}
    file.write_text("2")
    assert Assets(tmp_path).version != before.version


async def test_text_from_outside_never_becomes_markup(admin: Running, root: Browser) -> None:
    store = admin.gateway.store
    await root.send("PUT", "log", {"enabled": True})
    store.log(LogRecord(1, HOSTILE, "GET", "spot", f"/{HOSTILE}", 403, None, 1.0, 1, HOSTILE))
    await wait_until(lambda: store.stats.log_written == 1)
    await root.post("whitelist", {"address": "10.0.0.1", "note": HOSTILE}, 201)
    await root.post("tokens", {"name": HOSTILE}, 201)
    await root.send("POST", "login", {"username": HOSTILE, "password": "x"}, ("User-Agent", HOSTILE))
    admin.gateway.access.refused.note("10.9.9.9", f"/{HOSTILE}", 1)
    # The API gives it back as it is, as JSON that no browser takes for a page ...
    for path in ("logs", "whitelist", "tokens", "audit", "refused"):
        reply = await root.send("GET", path)
        assert reply.status == 200
        assert reply.header("content-type") == "application/json"
        assert reply.header("x-content-type-options") == "nosniff"
        assert HOSTILE[:20] in json.dumps(reply.json()), path
    for reply in (
        await root.send("GET", f"audit?limit={HOSTILE}".replace(" ", "%20")),
        await root.send("POST", "whitelist", {"address": HOSTILE}),
        await root.send("POST", "whitelist", {HOSTILE: 1, "address": "10.0.0.2"}),
    ):
        assert_error(reply, 400, -4)
    # ... and no page holds a word of it before a script has put it there as text.
    for page in PAGES:
        html = (await root.send("GET", f"/admin/{page}")).body.decode()
        assert "alert(" not in html
    stranger = root.again()
    stranger.cookies = {"resender_lang": HOSTILE.replace(";", ""), "resender_theme": HOSTILE}
    for query in (f"next={HOSTILE}", f"{HOSTILE}={HOSTILE}"):
        html = (await stranger.send("GET", f"/admin/login?{query}".replace(" ", "%20"))).body.decode()
        assert "alert(" not in html


def test_templates_escape_what_they_are_given_and_scripts_build_no_markup_of_text() -> None:
    for path in (FOLDER / "templates").glob("*.html"):
        text = path.read_text("utf-8")
        assert "{% raw" not in text, path.name
        assert "autoescape" not in text, path.name
    for path in (FOLDER / "js").rglob("*.js"):
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text("utf-8"), flags=re.DOTALL)
        pattern = r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
        assert not re.search(pattern, code), path.name


async def test_token_opens_no_page(admin: Running, root: Browser) -> None:
    token = (await root.post("tokens", {"name": "t"}, 201))["token"]
    script = Browser(admin.port, ("Authorization", f"Bearer {token}"))
    assert (await script.send("GET", "/admin/dashboard")).status == 404


def own_files(html: str) -> set[str]:
    """Collect our own scripts and style sheets a page loads, imports of imports too.

    What it loads later, at a click, is not among them.
    """
    found = set(re.findall(r'(?:src|href)="/admin/static/[0-9a-f]{12}/([^"]+\.(?:js|css))"', html))
    waiting = list(found)
    while waiting:
        path = waiting.pop()
        text = (FOLDER / path).read_text("utf-8")
        for name in re.findall(r"""(?:from|import)\s*['"]\./([^'"]+)['"]""", text):
            other = f"{Path(path).parent.as_posix()}/{name}"
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


async def test_page_loads_at_most_100_kb_of_our_own_and_charts_only_where_there_are_some(
    admin: Running, root: Browser
) -> None:
    for page in (*PAGES, "login"):
        browser = root.again() if page == "login" else root
        html = (await browser.send("GET", f"/admin/{page}")).body.decode()
        size = sum((FOLDER / path).stat().st_size for path in own_files(html))
        assert 0 < size <= 100_000, page
        assert ("lightweight-charts" in html) == (page in ("dashboard", "streams", "closes")), page


def test_every_text_that_is_asked_for_by_name_is_in_the_catalogues() -> None:
    keys = set(json.loads((FOLDER / "i18n" / "en.json").read_text("utf-8")))
    for path in (*(FOLDER / "templates").glob("*.html"), *(FOLDER / "js").glob("*.js")):
        text = path.read_text("utf-8")
        for key in re.findall(r"\bt\(\s*'([\w.]+)'\s*[,)]", text):
            assert key in keys, (path.name, key)
        for key in re.findall(r"\btn\(\s*'([\w.]+)'\s*[,)]", text):
            assert {f"{key}.one", f"{key}.other"} <= keys, (path.name, key)
