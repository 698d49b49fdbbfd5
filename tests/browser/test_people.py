"""Log-in, log-out, users, sessions, tokens, and what the audit tells of them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.support.browser import PASSWORD, USER, Admin
from tests.support.processes import GatewayProcess

pytestmark = pytest.mark.browser


def log_in(page: Page, user: str = USER, password: str = PASSWORD) -> None:
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def test_log_in_leads_to_the_page_one_wanted_and_nowhere_else(
    visit: Visitor, gateway: GatewayProcess
) -> None:
    one = visit(cookie="")
    page = one.page
    page.goto("/admin/logs?status=4xx")
    expect(page).to_have_url(re.compile(r"/admin/login\?next="))
    log_in(page)
    expect(page).to_have_url(f"{gateway.url}/admin/logs?status=4xx")
    expect(page.get_by_label("Status")).to_have_value("4xx")
    for evil in ("//example.com/", "https://example.com/admin/logs", "javascript:alert(1)", "/\\example.com"):
        page.goto("about:blank")  # or the page would go on asking, and be refused
        one.context.clear_cookies()
        page.goto(f"/admin/login?next={evil}")
        log_in(page)
        expect(page).to_have_url(f"{gateway.url}/admin/dashboard")


def test_wrong_password_is_told_and_too_many_have_to_wait(visit: Visitor, gateway: GatewayProcess) -> None:
    one = visit(cookie="")
    one.watch.allow("40[13] POST /admin/api/login", "429 POST /admin/api/login")
    page = one.page
    page.goto("/admin/login")
    submit = page.locator("#login [type=submit]")
    log_in(page, "nobody-known", "wrong password")
    expect(page.get_by_role("alert")).to_contain_text("User name or password is wrong.")
    expect(page.get_by_label("User name")).to_have_value("nobody-known")
    for _ in range(6):
        submit.click()
        expect(submit).not_to_have_attribute("aria-busy", "true")
        if page.get_by_text("Too many failed tries").count():
            break
    expect(page.get_by_role("alert")).to_contain_text("Too many failed tries")
    expect(submit).to_be_disabled()
    expect(submit).to_have_text(re.compile(r"Wait \d+ s"))
    expect(submit).to_be_enabled()  # it counts down by itself
    expect(submit).to_have_text("Log in")


def test_ended_session_leads_to_the_log_in_and_back(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    mine = Admin.log_in(gateway)
    one = visit(mine.cookie)
    one.watch.allow("401 (GET|PATCH|POST) /admin/api/")
    page = one.open("whitelist")
    expect(page.get_by_role("button", name="Add addresses").first).to_be_visible()
    session = next(item for item in mine.items("sessions") if item["current"])
    admin.do("DELETE", f"sessions/{session['id']}")
    page.get_by_role("switch", name="127.0.0.1 may call").click()
    expect(page).to_have_url(re.compile(r"/admin/login\?next=%2Fadmin%2Fwhitelist$"))
    log_in(page)
    expect(page).to_have_url(f"{gateway.url}/admin/whitelist")
    # And of a page that only looks on, as the dashboard does.
    one.open("dashboard")
    mine.cookie = next(
        cookie["value"] for cookie in one.context.cookies() if cookie["name"] == "resender_session"
    )
    mine.do("POST", "logout", {})
    expect(page).to_have_url(re.compile(r"/admin/login\?next=%2Fadmin%2Fdashboard$"))


def test_new_user_gets_a_password_once_and_has_to_change_it(visit: Visitor, gateway: GatewayProcess) -> None:
    one = visit()
    one.watch.allow("409 POST /admin/api/users")
    page = one.open("users")
    page.get_by_role("button", name="Add user").click()
    dialog = page.get_by_role("dialog", name="Add user")
    dialog.get_by_label("User name").fill("li wei!")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.locator("#username-error")).to_be_visible()
    dialog.get_by_label("User name").fill("root")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.locator("#username-error")).to_contain_text("There is a user root already.")
    dialog.get_by_label("User name").fill("liwei")
    dialog.get_by_role("button", name="Add", exact=True).click()
    shown = page.get_by_role("dialog", name="Password of liwei")
    expect(shown).to_contain_text("Shown only this once.")
    password = shown.locator("code").inner_text()
    shown.get_by_role("button", name="Done").click()
    row = page.locator("#users tr", has_text="liwei")
    expect(row).to_contain_text("has to change the password")
    page.reload()
    expect(row).to_have_count(1)
    assert password not in page.content()

    other = visit(cookie="").page
    other.goto("/admin/login")
    log_in(other, "liwei", password)
    expect(other.get_by_role("heading", name="Change password")).to_be_visible()
    for label in ("New password", "New password again"):
        other.get_by_label(label, exact=True).fill("eight rivers north")
    other.get_by_label("Current password").fill(password)
    other.get_by_role("button", name="Change password").click()
    expect(other).to_have_url(f"{gateway.url}/admin/dashboard")
    page.reload()
    expect(row).not_to_contain_text("has to change the password")
    expect(row).to_contain_text("127.0.0.1")


def test_user_switched_off_is_out_at_once_and_the_last_one_stays(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    admin.do("POST", "users", {"username": "temp", "password": "some long words"})
    theirs = Admin.log_in(gateway, "some long words", "temp")
    page = visit().open("users")
    switch = page.get_by_role("switch", name="temp may log in")
    switch.click()
    dialog = page.get_by_role("dialog", name="Switch temp off?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(switch).to_be_checked()
    assert theirs.call("GET", "me").status == 200
    switch.click()
    dialog.get_by_role("button", name="Switch off").click()
    expect(page.locator("#toasts")).to_contain_text("temp has been switched off.")
    expect(switch).not_to_be_checked()
    assert theirs.call("GET", "me").status == 401
    expect(page.get_by_role("switch", name="root may log in")).to_be_disabled()
    page.get_by_role("button", name="Delete temp").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#users tr", has_text="temp")).to_have_count(0)


def test_token_is_shown_once_works_and_ends_when_revoked(visit: Visitor, gateway: GatewayProcess) -> None:
    page = visit().open("account")
    page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog", name="New token")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.locator("#token-name-error")).to_be_visible()
    dialog.get_by_label("Name").fill("nightly script")
    dialog.get_by_label("write", exact=False).last.check()
    dialog.get_by_role("button", name="Create").click()
    shown = page.get_by_role("dialog", name="Token nightly script")
    token = shown.locator("code").inner_text()
    assert token.startswith("rsr_")
    shown.get_by_role("button", name="Done").click()
    row = page.locator("#tokens tr", has_text="nightly script")
    expect(row).to_contain_text("write")
    script = Admin(gateway)
    header = {"Authorization": f"Bearer {token}"}
    assert script.call("POST", "whitelist", {"address": "192.0.2.1"}, header).status == 201
    assert script.call("GET", "whitelist", None, {"Authorization": f"Bearer {token}x"}).status == 401
    page.reload()
    expect(row).to_contain_text("127.0.0.1")  # last used from there
    assert token not in page.content()
    row.get_by_role("button", name="Revoke nightly script").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    assert script.call("GET", "whitelist", None, header).status == 401


def test_log_out_elsewhere_ends_the_others_and_keeps_this_one(
    visit: Visitor, gateway: GatewayProcess
) -> None:
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile Safari/604.1"
    mine, other = Admin.log_in(gateway), Admin.log_in(gateway, agent=phone)
    third = Admin.log_in(gateway, agent="curl/8")
    page = visit(mine.cookie).open("account")
    rows = page.locator("#sessions tr")
    expect(rows.first).to_contain_text("this one")
    expect(rows.filter(has_text="Safari 19, iOS")).to_have_count(1)
    rows.filter(has_text="curl/8").get_by_role("button", name="Log out").click()
    expect(rows.filter(has_text="curl/8")).to_have_count(0)
    assert (third.call("GET", "me").status, other.call("GET", "me").status) == (401, 200)
    page.get_by_role("button", name="Log out everywhere else").click()
    page.get_by_role("dialog").get_by_role("button", name="Log out everywhere else").click()
    expect(rows).to_have_count(1)
    assert (other.call("GET", "me").status, mine.call("GET", "me").status) == (401, 200)


def test_audit_tells_who_did_what_from_where(visit: Visitor, gateway: GatewayProcess) -> None:
    admin = Admin.log_in(gateway)
    entry = admin.do("POST", "whitelist", {"address": "192.0.2.50", "note": "old words"})
    admin.do("PATCH", f"whitelist/{entry['id']}", {"note": "new words", "enabled": False})
    page = visit(admin.cookie).open("audit")
    row = page.locator("#rows tr").first
    for text in (USER, "127.0.0.1", "Whitelist: changed", "192.0.2.50", "note: old words → new words"):
        expect(row).to_contain_text(text)
    row.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("new words")
    dialog.locator(".dialog-foot").get_by_role("button", name="Close").click()
    page.get_by_label("Action").select_option("login.failed")
    expect(page.locator("#rows tr", has_text="Whitelist: changed")).to_have_count(0)
    page.get_by_label("Action").select_option("")
    page.get_by_label("User", exact=True).fill("nobody")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#rows")).to_contain_text("No entry fits")
