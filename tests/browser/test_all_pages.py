"""What holds for every page: reach, languages, themes, narrow screens, keyboard, hostile text."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.support.browser import NARROW, PAGES, PASSWORD, USER, Admin
from tests.support.browser_filling import MARKUP, fill
from tests.support.processes import ROOT, GatewayProcess, SandboxThread, Start, until

pytestmark = pytest.mark.browser
EVERY_PAGE = pytest.mark.parametrize("name", PAGES)
# Where a dialog is opened from, for those that are open when one looks.
DIALOGS = {
    "whitelist": ("#add", "#import", "#entries .danger >> nth=0"),
    "logs": ("#clear", "#rows button >> nth=0"),
    "streams": ("#add-rule",),
    "accounts": ("#add", "#seen .btn-primary >> nth=0"),
    "users": ("#add",),
    "alerts": ("#add",),
    "account": ("#token-add",),
    "audit": ("#rows button >> nth=0",),
}


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start(ADMIN_PASSWORD=PASSWORD, TRUSTED_PROXIES="127.0.0.1")


@pytest.fixture(scope="module")
def admin(gateway: GatewayProcess, exchange: SandboxThread) -> Admin:
    admin = Admin.log_in(gateway)
    fill(gateway, exchange, admin)
    return admin


def serious(page: Page, part: str = "html", rules: list[str] | None = None) -> list[str]:
    """List the serious and critical violations axe finds in a part of a page, by some or all rules."""
    page.evaluate(AXE_SCRIPT)
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found: dict[str, Any] = page.evaluate("([part, options]) => axe.run(part, options)", [part, options])
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def sideways(page: Page) -> list[str]:
    """List what sticks out of the window, if the page itself can be moved sideways."""
    found: list[str] = page.evaluate(
        """() => {
        const root = document.documentElement;
        if (root.scrollWidth <= root.clientWidth) return [];
        return [...document.body.querySelectorAll('*')]
            .filter((node) => node.getBoundingClientRect().right > root.clientWidth + 1)
            .map((node) => `${node.tagName}#${node.id}.${node.getAttribute('class')}`);
        }"""
    )
    return found


def test_watch_hears_what_these_tests_rely_on(visit: Visitor) -> None:
    one = visit()
    page = one.open("users")
    for script, heard in (
        ("console.error('said aloud')", "said aloud"),
        ("setTimeout(() => { throw new Error('thrown') })", "thrown"),
        ("fetch('/admin/api/nothing').then((answer) => answer.text())", "404 GET /admin/api/nothing"),
        ("fetch('https://example.com/').catch(() => {})", "example.com"),
        ("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))", "script"),
    ):
        page.evaluate(script)
        until(lambda: page.title() and one.watch.faults(), script)
        with pytest.raises(AssertionError, match=heard):
            one.watch.check()
        page.wait_for_load_state("networkidle")
        one.watch.allow(re.escape(heard))  # it may be said in more than one way
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert any(one.startswith("label:") for one in serious(page))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_accessible(visit: Visitor, theme: str) -> None:
    one = visit(color_scheme=theme)
    # Colours fade in; what axe reads must be the final ones.
    one.page.emulate_media(reduced_motion="reduce")
    # The themes differ in nothing but their colours.
    rules = ["color-contrast"] if theme == "dark" else None
    found = []
    for name in PAGES:
        page = one.open(name)
        expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
        found += [f"{name}: {violation}" for violation in serious(page, rules=rules)]
    one.page.goto("about:blank")  # or the page would go on asking, and be refused
    one.context.clear_cookies()
    found += [f"login: {violation}" for violation in serious(one.open("login"), rules=rules)]
    assert not found, "\n".join(found)


@EVERY_PAGE
def test_dialogs_are_accessible_and_close_with_escape(visit: Visitor, name: str) -> None:
    page = visit().open(name)
    for opener in DIALOGS.get(name, ()):
        page.locator(opener).click()
        dialog = page.locator("dialog[open]")
        expect(dialog).to_be_visible()
        assert not serious(page, "dialog[open]")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(page.locator(opener)).to_be_focused()


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_pages_fit_a_narrow_screen(visit: Visitor, locale: str) -> None:
    one = visit(locale=locale, viewport=NARROW, has_touch=True)
    found = []
    for name in PAGES:
        page = one.open(name)
        found += [f"{name}: {node}" for node in sideways(page)]
        for opener in DIALOGS.get(name, ()):
            page.locator(opener).click()
            dialog = page.locator("dialog[open]")
            box = dialog.bounding_box()
            if box is None or box["x"] < 0 or box["x"] + box["width"] > 360 or box["height"] > 740:
                found.append(f"{name}: dialog {opener} {box}")
            if dialog.evaluate("(node) => node.scrollWidth > node.clientWidth"):
                found.append(f"{name}: dialog {opener} scrolls sideways")
            page.keyboard.press("Escape")
    one.page.goto("about:blank")  # or the page would go on asking, and be refused
    one.context.clear_cookies()
    found += [f"login: {node}" for node in sideways(one.open("login"))]
    assert not found, "\n".join(found)


def test_menu_of_a_narrow_screen_leads_everywhere(visit: Visitor, gateway: GatewayProcess) -> None:
    page = visit(viewport=NARROW, has_touch=True).open("dashboard")
    button = page.get_by_role("button", name="Menu")
    menu = page.get_by_role("navigation", name="Menu")
    expect(menu).to_be_hidden()
    button.tap()
    expect(button).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    for name in ("Whitelist", "Request log"):
        button.tap()
        menu.get_by_role("link", name=name).tap()
        expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
        expect(menu).to_be_hidden()
    button.tap()
    page.get_by_role("link", name="My account").tap()
    expect(page).to_have_url(f"{gateway.url}/admin/account")


@EVERY_PAGE
def test_hostile_text_is_shown_as_it_is_and_runs_nowhere(visit: Visitor, name: str) -> None:
    # Every script that ran would be an error on the console: `visit` fails for it.
    page = visit().open(name)
    shown = {
        "whitelist": ["#entries", "#refused"],
        "logs": ["#rows"],
        "account": ["#sessions", "#tokens"],
        "audit": ["#rows"],
    }
    for place in shown.get(name, ()):
        expect(page.locator(place)).to_contain_text(re.compile("<script>|<img src=x"))
    assert page.locator("main script, main img").count() == 0
    if name == "whitelist":
        page.locator("#entries tr", has_text="<img").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("dialog")).to_contain_text(MARKUP)
    if name in ("logs", "audit"):
        page.locator("#rows tr", has_text="<").first.get_by_role("button").click()
        expect(page.get_by_role("dialog")).to_contain_text(re.compile("<script>|<img"))


def test_hostile_address_of_a_page_is_only_text(visit: Visitor) -> None:
    one = visit()
    one.watch.allow("40[04] GET /admin/(api/(series|logs|klines|audit)|nothing)")
    for address in (
        f"streams?market=spot&symbol={MARKUP}&interval=1m",
        f"logs?path={MARKUP}&status={MARKUP}&from={MARKUP}",
        f"audit?actor={MARKUP}&action={MARKUP}",
        f"login?next={MARKUP}",
        f"nothing/{MARKUP}",
    ):
        one.page.goto(f"/admin/{address}")
        one.page.wait_for_load_state("networkidle")
        assert one.page.locator("main script, main img").count() == 0


def test_language_is_the_browsers_until_one_is_chosen_and_stays(visit: Visitor) -> None:
    one = visit(locale="zh-CN")
    page = one.open("whitelist")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.get_by_role("heading", level=1)).to_have_text("白名单")
    page.locator("[data-set-lang=en]").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Whitelist")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    one.open("logs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Request log")
    page.locator("[data-set-lang=zh]").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("请求日志")


def test_chinese_pages_show_no_key_and_no_english_text(visit: Visitor) -> None:
    one = visit(locale="zh-CN")
    catalogue = ROOT / "admin_static" / "i18n"
    english = json.loads((catalogue / "en.json").read_text("utf-8"))
    chinese = json.loads((catalogue / "zh.json").read_text("utf-8"))
    translated = {text for key, text in english.items() if chinese[key] != text and len(text) > 12}
    for name in PAGES:
        text = one.open(name).locator("body").inner_text()
        lines = {line.strip() for line in text.splitlines()}
        assert not lines & translated, name
        assert not lines & set(english), name
        assert not re.search(r"\{\w+\}", text.replace(MARKUP, "")), name


def test_theme_follows_the_system_until_one_is_chosen_and_stays(visit: Visitor) -> None:
    one = visit(color_scheme="dark")
    page = one.open("users")
    html = page.locator("html")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    expect(html).to_have_attribute("data-bs-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(html).to_have_attribute("data-bs-theme", "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.get_by_role("button", name="Theme: dark").click()
    expect(html).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(html).to_have_attribute("data-bs-theme", "dark")
    one.open("dashboard")
    expect(html).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Theme: as the system").click()
    expect(html).to_have_attribute("data-bs-theme", "light")


def test_log_in_and_adding_an_address_need_only_the_keyboard(visit: Visitor, gateway: GatewayProcess) -> None:
    page = visit(cookie="").page
    page.goto("/admin/whitelist")
    expect(page.get_by_label("User name")).to_be_focused()
    page.keyboard.type(USER)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{gateway.url}/admin/whitelist")
    expect(page.locator("#entries tr[data-key]").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    add = page.locator("#add")
    for _ in range(5):
        page.keyboard.press("Tab")
        if add.evaluate("(node) => node === document.activeElement"):
            break
    expect(add).to_be_focused()
    ring = add.evaluate(
        "(node) => { const s = getComputedStyle(node); return s.outlineStyle + s.boxShadow; }"
    )
    assert ring != "nonenone"  # one sees where one is
    page.keyboard.press("Enter")
    expect(page.get_by_label("Addresses or networks")).to_be_focused()
    page.keyboard.type("192.0.2.201")
    page.keyboard.press("Tab")
    for _ in range(3):
        if page.locator("#add-note").evaluate("(node) => node === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator("#entries tr", has_text="192.0.2.201")).to_contain_text("by keyboard")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(add).to_be_focused()


def test_pages_load_little_of_our_own(visit: Visitor, gateway: GatewayProcess) -> None:
    one = visit()
    for name in PAGES:
        one.watch.requests.clear()
        one.open(name)
        own = {url for url in one.watch.requests if re.search(r"/admin/static/.*\.(js|css)$", url)}
        assert own
        sizes = [len(gateway.call("GET", url.removeprefix(gateway.url)).body) for url in own]
        assert sum(sizes) <= 100_000, (name, sum(sizes))
