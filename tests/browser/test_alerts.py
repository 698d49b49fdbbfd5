"""The page "Alerts": a channel's whole life, mistakes at their field, silence, what is wrong now and what was told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from resender.core.alerts.channels import CHANNELS
from resender.store import open_repository
from tests.browser.conftest import Visitor
from tests.browser.test_all_pages import serious, sideways
from tests.support.alert_events import FIELDS, MARK, VALUES
from tests.support.alert_robots import Robot, RobotThread
from tests.support.browser import NARROW, Admin
from tests.support.processes import ROOT, GatewayProcess, SandboxThread, until
from tests.support.upstream import Peer, Request, response

pytestmark = pytest.mark.browser
# Short enough for a name; a console error fails a test.
MARKUP = "<img src=x onerror=console.error(1)><script>1</script>"
LOCALES = {"en-GB": "en", "zh-CN": "zh"}
EACH_LOCALE = pytest.mark.parametrize("locale", LOCALES)


class Words:
    """The page's own words in a language."""

    def __init__(self, locale: str) -> None:
        path = ROOT / "admin_static" / "i18n" / f"{LOCALES[locale]}.json"
        self._words: dict[str, str] = json.loads(path.read_text("utf-8"))

    def __call__(self, key: str, /, **values: Any) -> str:
        return self._words[key].format(**values)


@pytest.fixture(scope="module")
def robot() -> Iterator[Robot]:
    with RobotThread("webhook") as running:
        yield running


@pytest.fixture(autouse=True)
def no_channels(admin: Admin, robot: Robot) -> Iterator[None]:
    """Each test begins with nobody told and nothing silent."""
    yield
    for channel in admin.do("GET", "alerts")["channels"]:
        admin.do("DELETE", f"alerts/channels/{channel['id']}")
    for kind in admin.do("GET", "alerts")["silences"]:
        admin.do("POST", "alerts/silence", {"kind": kind, "hours": 0})
    robot.answer = None


def row_of(page: Page, name: str) -> Locator:
    return page.locator("#channels tr", has_text=name)


def fill_in(dialog: Locator, name: str, kind: str, **fields: str) -> None:
    dialog.locator("#channel-name").fill(name)
    dialog.locator("#channel-kind").select_option(kind)
    for field, value in fields.items():
        place = dialog.locator(f"#channel-{field}")
        if field == "security":
            place.select_option(value)
        else:
            place.fill(value)


def toast(page: Page, text: str) -> None:
    expect(page.get_by_text(text).first).to_be_visible()


@EACH_LOCALE
def test_secret_that_is_not_needed_is_taken_away_in_the_form(
    visit: Visitor, admin: Admin, robot: Robot, locale: str
) -> None:
    t, page = Words(locale), visit(locale=locale).open("alerts")
    page.locator("#add").click()
    dialog = page.get_by_role("dialog", name=t("alerts.add"))
    fill_in(dialog, "Mine", "webhook", url=robot.fields["url"], secret=robot.fields["secret"])
    expect(dialog.get_by_label(t("alerts.drop"))).to_have_count(0)
    dialog.get_by_role("button", name=t("alerts.add"), exact=True).click()
    page.get_by_role("button", name=t("alerts.edit_of", name="Mine")).click()
    dialog = page.get_by_role("dialog", name=t("alerts.edit"))
    # The address is needed: it can be replaced, not taken away.
    drop = dialog.get_by_label(t("alerts.drop"))
    expect(drop).to_have_count(1)
    dialog.locator("#channel-secret").fill("changed my mind")
    drop.check()
    expect(dialog.locator("#channel-secret")).to_have_value("")
    expect(dialog.locator("#channel-secret")).to_be_disabled()
    assert not serious(page, "dialog[open]")
    dialog.get_by_role("button", name=t("app.save"), exact=True).click()
    toast(page, t("alerts.saved", name="Mine"))
    # What comes now has no signature.
    refused = len(robot.refusals)
    page.get_by_role("button", name=t("alerts.test_of", name="Mine")).click()
    until(lambda: len(robot.refusals) > refused, "the robot misses the signature")


@EACH_LOCALE
def test_channel_is_added_tried_changed_and_removed(
    visit: Visitor, admin: Admin, robot: Robot, locale: str
) -> None:
    t, one = Words(locale), visit(locale=locale)
    page = one.open("alerts")
    expect(page.locator("#channels")).to_contain_text(t("alerts.no_channels"))
    expect(page.locator("#force")).to_contain_text(t("alerts.nothing"))
    page.locator("#add").click()
    dialog = page.get_by_role("dialog", name=t("alerts.add"))
    expect(dialog.locator("#channel-language")).to_have_value(LOCALES[locale])
    fill_in(dialog, "Mine", "webhook", url=robot.fields["url"], secret=robot.fields["secret"])
    dialog.locator("#channel-quiet").fill("23:00-07:00 +08:00")
    assert not serious(page, "dialog[open]")
    dialog.get_by_role("button", name=t("alerts.add"), exact=True).click()
    toast(page, t("alerts.added", name="Mine"))
    row = row_of(page, "Mine")
    for text in ("127.0.0.1", t("alerts.least.warning"), t("alerts.quiet_at", time="23:00-07:00 +08:00"),
                 t("alerts.nothing_yet"), t("alerts.type.webhook")):  # fmt: skip
        expect(row).to_contain_text(text)

    page.get_by_role("button", name=t("alerts.test_of", name="Mine")).click()
    toast(page, t("alerts.test_sent", name="Mine"))
    begin = {"en": "This is a test", "zh": "这是一条测试消息"}[LOCALES[locale]]
    assert begin in robot.texts[-1]

    # What is not given stays: the signature still fits.
    page.get_by_role("button", name=t("alerts.edit_of", name="Mine")).click()
    dialog = page.get_by_role("dialog", name=t("alerts.edit"))
    for field in ("url", "secret"):
        expect(dialog.locator(f"#channel-{field}")).to_have_value("")
        expect(dialog.locator(f"#channel-{field}")).to_have_attribute("placeholder", t("alerts.kept"))
    expect(dialog.locator("#channel-kind")).to_be_disabled()
    expect(dialog.locator("#channel-quiet")).to_have_value("23:00-07:00 +08:00")
    assert not serious(page, "dialog[open]")
    dialog.locator("#channel-name").fill("Yours")
    dialog.locator("#channel-least").select_option("critical")
    dialog.get_by_role("button", name=t("app.save"), exact=True).click()
    toast(page, t("alerts.saved", name="Yours"))
    expect(row_of(page, "Yours")).to_contain_text(t("alerts.least.critical"))
    told = len(robot.texts)
    page.get_by_role("button", name=t("alerts.test_of", name="Yours")).click()
    toast(page, t("alerts.test_sent", name="Yours"))
    assert len(robot.texts) == told + 1

    page.get_by_role("switch", name=t("alerts.on_of", name="Yours")).click()
    toast(page, t("alerts.now_off", name="Yours"))
    expect(row_of(page, "Yours")).to_contain_text(t("alerts.is_off"))
    page.get_by_role("button", name=t("alerts.remove_of", name="Yours")).click()
    dialog = page.get_by_role("dialog", name=t("alerts.remove_title"))
    expect(dialog).to_contain_text(t("alerts.remove_text", name="Yours"))
    page.keyboard.press("Escape")
    expect(row_of(page, "Yours")).to_have_count(1)
    page.get_by_role("button", name=t("alerts.remove_of", name="Yours")).click()
    dialog.get_by_role("button", name=t("alerts.remove"), exact=True).click()
    toast(page, t("alerts.removed", name="Yours"))
    expect(page.locator("#channels")).to_contain_text(t("alerts.no_channels"))
    assert admin.do("GET", "alerts")["channels"] == []
    assert MARK not in page.content()
    assert not serious(page)


@EACH_LOCALE
def test_test_that_fails_says_why_and_shows_no_secret(
    visit: Visitor, robot: Robot, admin: Admin, locale: str
) -> None:
    admin.do("POST", "alerts", {"name": "Mine", "kind": "webhook", "fields": robot.fields})
    t, page = Words(locale), visit(locale=locale).open("alerts")

    async def refuse(request: Request, peer: Peer) -> None:
        await peer.send(response(b'{"message":"no hook %s"}' % MARK.encode(), "404 Not Found"))

    robot.answer = refuse
    page.get_by_role("button", name=t("alerts.test_of", name="Mine")).click()
    toast(page, t("alerts.test_failed", name="Mine", problem="HTTP 404: no hook"))
    assert MARK not in page.content()


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, dict[str, str], str, str]] = [
    ("webhook", {"url": "nonsense"}, "url", "an address such as https://host/path"),
    ("webhook", {"url": "ftp://hooks.example/x"}, "url", "an address such as https://host/path"),
    ("telegram", {"token": "short", "chat_id": "7"}, "token", "A bot's token looks like"),
    (
        "email",
        {"host": "mail.example", "port": "0", "sender": "a@b.c", "to": "d@e.f"},
        "port",
        "from 1 to 65535",
    ),
    ("email", {"host": "mail.example", "sender": "robot", "to": "d@e.f"}, "sender", "an e-mail address"),
    (
        "email",
        {"host": "mail.example", "sender": "a@b.c", "to": "d@e.f", "password": "word", "security": "none"},
        "security",
        "not sent without TLS",
    ),
]


@pytest.mark.parametrize(("kind", "fields", "field", "words"), MISTAKES)
def test_mistake_is_shown_at_its_field_and_gone_when_it_is_corrected(
    visit: Visitor, kind: str, fields: dict[str, str], field: str, words: str
) -> None:
    one = visit()
    one.watch.allow("400 POST /admin/api/alerts")
    page = one.open("alerts")
    page.locator("#add").click()
    dialog = page.get_by_role("dialog", name="Add a channel")
    fill_in(dialog, "Mine", kind, **fields)
    dialog.get_by_role("button", name="Add a channel", exact=True).click()
    place = dialog.locator(f"#channel-{field}")
    expect(dialog.locator(f"#channel-{field}-error")).to_contain_text(words)
    expect(place).to_have_attribute("aria-invalid", "true")
    expect(place).to_be_focused()
    assert not serious(page, "dialog[open]")
    if field == "security":
        place.select_option("tls")
    else:
        place.fill(FIELDS[kind].get(field) or "1")
    expect(dialog.locator(f"#channel-{field}-error")).to_have_count(0)
    expect(dialog.locator("#channel-name")).to_have_value("Mine")


def test_what_is_missing_is_told_before_anything_is_sent(visit: Visitor) -> None:
    one = visit()
    page = one.open("alerts")
    page.locator("#add").click()
    dialog = page.get_by_role("dialog", name="Add a channel")
    for kind, specs in CHANNELS.items():
        dialog.locator("#channel-kind").select_option(kind)
        dialog.get_by_role("button", name="Add a channel", exact=True).click()
        for spec in specs:
            count = 1 if spec.is_needed else 0
            expect(dialog.locator(f"#channel-{spec.name}-error")).to_have_count(count)
        expect(dialog.locator("#channel-name-error")).to_have_count(1)
    assert not [url for url in one.watch.requests if url.endswith("/admin/api/alerts/channels")]


@EACH_LOCALE
def test_name_that_is_taken_and_hours_nobody_can_read_are_told_at_their_field(
    visit: Visitor, admin: Admin, robot: Robot, locale: str
) -> None:
    t, one = Words(locale), visit(locale=locale)
    one.watch.allow("(400|409) POST /admin/api/alerts")
    admin.do("POST", "alerts", {"name": "Mine", "kind": "webhook", "fields": robot.fields})
    page = one.open("alerts")
    page.locator("#add").click()
    dialog = page.get_by_role("dialog", name=t("alerts.add"))
    fill_in(dialog, "mINE", "slack", url="https://hooks.example/x")
    dialog.locator("#channel-quiet").fill("at night")
    add = dialog.get_by_role("button", name=t("alerts.add"), exact=True)
    add.click()
    expect(dialog.locator("#channel-quiet-error")).to_have_text(t("error.reason.quiet"))
    dialog.locator("#channel-quiet").fill("")
    add.click()
    expect(dialog.locator("#channel-name-error")).to_have_text(t("error.reason.channel_exists"))
    assert not serious(page, "dialog[open]")


def test_mistake_is_told_in_the_language_of_the_page(visit: Visitor) -> None:
    one = visit(locale="zh-CN")
    one.watch.allow("400 POST /admin/api/alerts")
    t, page = Words("zh-CN"), one.open("alerts")
    page.locator("#add").click()
    dialog = page.get_by_role("dialog", name=t("alerts.add"))
    fill_in(dialog, "Mine", "webhook", url="nonsense")
    dialog.get_by_role("button", name=t("alerts.add"), exact=True).click()
    note = dialog.locator("#channel-url-error")
    expect(note).to_be_visible()
    assert re.search(r"[\u4e00-\u9fff]", note.inner_text())


# --- secrets --------------------------------------------------------------------------------------


def test_forms_hold_no_secret_and_ask_no_browser_to_keep_one(visit: Visitor, admin: Admin) -> None:
    for kind in CHANNELS:
        fields = {name: text for name, text in FIELDS[kind].items() if text}
        admin.do("POST", "alerts", {"name": kind, "kind": kind, "fields": fields})
    page = visit().open("alerts")
    expect(page.locator("#channels tr")).to_have_count(len(CHANNELS))
    assert MARK not in page.content()
    for kind, specs in CHANNELS.items():
        page.get_by_role("button", name=f"Change {kind}", exact=True).click()
        dialog = page.get_by_role("dialog", name="Change the channel")
        for spec in specs:
            place = dialog.locator(f"#channel-{spec.name}")
            if spec.is_secret:
                expect(place).to_have_value("")
                expect(place).to_have_attribute("autocomplete", "off")
                if spec.kind != "url":
                    expect(place).to_have_attribute("type", "password")
            else:
                expect(place).to_have_value(FIELDS[kind][spec.name])
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
    assert MARK not in page.content()


# --- silence, what is wrong now, history ----------------------------------------------------------


@EACH_LOCALE
def test_silence_is_shown_and_ended(visit: Visitor, admin: Admin, locale: str) -> None:
    t, page = Words(locale), visit(locale=locale).open("alerts")
    page.locator("#silence").click()
    dialog = page.get_by_role("dialog", name=t("alerts.silence"))
    assert not serious(page, "dialog[open]")
    dialog.locator("#silence-kind").select_option("disk")
    dialog.locator("#silence-hours").select_option("4")
    dialog.get_by_role("button", name=t("alerts.silence"), exact=True).click()
    disk = t("alerts.kind.disk")
    toast(page, t("alerts.silence_done", kind=disk))
    force = page.locator("#force")
    expect(force).to_contain_text(t("alerts.silent", kind=disk))
    assert set(admin.do("GET", "alerts")["silences"]) == {"disk"}
    page.locator("#silence").click()
    dialog.get_by_role("button", name=t("alerts.silence"), exact=True).click()
    every = t("alerts.kind.all")
    expect(force).to_contain_text(t("alerts.silent", kind=every))
    for kind in (disk, every):
        page.get_by_role("button", name=t("alerts.unsilence_of", kind=kind)).click()
        toast(page, t("alerts.unsilence_done", kind=kind))
        expect(force).not_to_contain_text(t("alerts.silent", kind=kind))
    assert admin.do("GET", "alerts")["silences"] == {}
    expect(force).to_contain_text(t("alerts.nothing"))


def test_ban_is_shown_in_both_languages_and_told_to_the_channel(
    visit: Visitor, admin: Admin, robot: Robot, exchange: SandboxThread
) -> None:
    admin.do("POST", "alerts", {"name": MARKUP, "kind": "webhook", "fields": robot.fields})
    exchange.ask(lambda sandbox: sandbox.ban("127.0.0.1", "options", 600))
    try:
        admin.gateway.call("GET", "/eapi/v1/time")
        until(lambda: any("has banned" in text for text in robot.texts), "the webhook is told")
        for locale, wrong in (("en-GB", "Binance has banned"), ("zh-CN", "封禁")):
            t, page = Words(locale), visit(locale=locale, viewport=NARROW, has_touch=True).open("alerts")
            expect(page.locator("#force")).to_contain_text(wrong)
            expect(page.locator("#force")).to_contain_text(t("alerts.level.critical"))
            row = page.locator("#history tr", has_text=wrong).first
            told = row.locator(".told [title]")
            expect(told).to_have_attribute("title", t("alerts.what.ok"))
            expect(told).to_have_text(MARKUP)
            expect(row_of(page, MARKUP)).to_contain_text(t("alerts.works"))
            assert page.locator("main script, main img").count() == 0
            assert sideways(page) == []
            assert not serious(page)
    finally:
        exchange.ask(lambda sandbox: sandbox.ban("127.0.0.1", "options", 0))


def write_history(gateway: GatewayProcess, count: int) -> None:
    with open_repository(f"sqlite:///{gateway.data / 'resender.db'}") as repository:
        for number in range(count):
            repository.alert_event_add(
                "gw1", "banned", "own", "critical", number if number % 2 else None, VALUES["banned"],
                {"Mine": "ok" if number % 3 else "HTTP 503: <b>later</b>"}, 1_790_000_000_000 + number,
            )  # fmt: skip


def test_history_is_read_on_page_by_page(visit: Visitor, admin: Admin, gateway: GatewayProcess) -> None:
    before = len(admin.do("GET", "alerts")["events"])
    write_history(gateway, 120)
    page = visit().open("alerts")
    rows = page.locator("#history tr")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("over")
    expect(rows.first).to_contain_text("Over after 119 s: Binance has banned")
    expect(page.locator("#history b")).to_have_count(0)
    older = page.get_by_role("button", name="Older")
    for count in (100, 120 + before):
        older.click()
        expect(rows).to_have_count(count)
    expect(older).to_be_hidden()


def test_new_rows_push_no_older_one_out_of_the_history(visit: Visitor, gateway: GatewayProcess) -> None:
    write_history(gateway, 120)
    page = visit().open("alerts")
    page.get_by_role("button", name="Older").click()
    rows = page.locator("#history tr")
    expect(rows).to_have_count(100)
    write_history(gateway, 5)
    expect(rows).to_have_count(105, timeout=10_000)
