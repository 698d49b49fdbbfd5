"""The whitelist and the request log: what one types, looks for, takes in and takes out."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visitor
from tests.support.browser import PASSWORD, Admin, settle
from tests.support.processes import GatewayProcess, Start, until

pytestmark = pytest.mark.browser
CHECKED_ROWS = 230


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start(ADMIN_PASSWORD=PASSWORD, TRUSTED_PROXIES="127.0.0.1")


@pytest.fixture(scope="module")
def logged(gateway: GatewayProcess, admin: Admin) -> None:
    """Rows in the log: many of one kind, a few of others."""
    admin.do("PUT", "log", {"enabled": True})
    for _ in range(CHECKED_ROWS):
        gateway.call("GET", "/api/v3/nowhere")
    for _ in range(3):
        gateway.call("GET", "/fapi/v1/time", {"X-Forwarded-For": "127.0.0.1"})
        gateway.call("GET", "/api/v3/time", {"X-Forwarded-For": "198.18.0.7"})
    until(lambda: admin.do("GET", "log")["rows"] == CHECKED_ROWS + 6, "the rows are written")
    admin.do("PUT", "log", {"enabled": False})


def entries(page: Page, text: str = "") -> Locator:
    return page.locator("#entries tr[data-key]", has_text=text)


def status_for(gateway: GatewayProcess, address: str) -> int:
    return gateway.call("GET", "/api/v3/time", {"X-Forwarded-For": address}).status


def test_several_lines_are_added_at_once_and_a_mistake_costs_nothing(
    visit: Visitor, gateway: GatewayProcess
) -> None:
    one = visit()
    one.watch.allow("409 POST /admin/api/whitelist$")
    page = one.open("whitelist")
    page.get_by_role("button", name="Add addresses").first.click()
    dialog = page.get_by_role("dialog")
    field, note = dialog.get_by_label("Addresses or networks"), dialog.get_by_label("Note")
    add = dialog.get_by_role("button", name="Add", exact=True)
    add.click()
    expect(dialog.locator("#add-address-error")).to_be_visible()
    typed = "203.0.113.5 desk 5\n203.0.113.300\n198.51.100.7/24\n2001:db8::/32"
    field.fill(typed)
    note.fill("several at once")
    add.click()
    explained = dialog.locator("#add-address-error")
    expect(explained).to_contain_text("Line 2")
    expect(explained).to_contain_text("Write 198.51.100.0/24 for the whole network")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value(typed)
    expect(note).to_have_value("several at once")
    field.fill(typed.replace("300", "30").replace("100.7/24", "100.0/24"))
    add.click()
    expect(entries(page)).to_have_count(5)
    expect(entries(page, "203.0.113.5")).to_contain_text("desk 5")
    expect(entries(page, "2001:db8::/32")).to_contain_text("several at once")
    assert status_for(gateway, "198.51.100.200") == 200
    # One that is there already is said so, beside the field.
    page.get_by_role("button", name="Add addresses").first.click()
    field.fill("203.0.113.5")
    add.click()
    expect(explained).to_contain_text("203.0.113.5 is in the list already")


def test_a_huge_network_is_asked_about(visit: Visitor, admin: Admin) -> None:
    page = visit().open("whitelist")
    page.get_by_role("button", name="Add addresses").first.click()
    page.get_by_label("Addresses or networks").fill("0.0.0.0/0")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    question = page.get_by_role("dialog", name="A very large network")
    expect(question).to_contain_text("0.0.0.0/0")
    question.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Addresses or networks")).to_have_value("0.0.0.0/0")
    assert "0.0.0.0/0" not in [item["address"] for item in admin.items("whitelist")]


def test_switch_edit_and_search_work_on_the_very_next_request(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    admin.do("POST", "whitelist", {"address": "192.0.2.77", "note": "东京 desk"})
    page = visit().open("whitelist")
    row = entries(page, "192.0.2.77")
    assert status_for(gateway, "192.0.2.77") == 200
    page.get_by_role("switch", name="192.0.2.77 may call").uncheck()
    expect(page.locator("#toasts")).to_contain_text("192.0.2.77 is refused from now on.")
    assert status_for(gateway, "192.0.2.77") == 403
    row.get_by_role("button", name="Edit 192.0.2.77").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address", exact=True).fill("192.0.2.78")
    dialog.get_by_role("switch", name="May call the gateway").check()
    dialog.get_by_role("button", name="Save").click()
    expect(entries(page, "192.0.2.78")).to_contain_text("东京 desk")
    assert (status_for(gateway, "192.0.2.77"), status_for(gateway, "192.0.2.78")) == (403, 200)
    page.get_by_label("Search address or note").fill("东京")
    expect(entries(page)).to_have_count(1)
    page.get_by_label("Search address or note").fill("no such")
    expect(page.locator("#entries")).to_contain_text("No entry fits")
    page.get_by_role("button", name="Show all").click()
    expect(entries(page, "192.0.2.78")).to_have_count(1)


def test_several_entries_are_deleted_after_a_question(visit: Visitor, admin: Admin) -> None:
    for number in (1, 2, 3):
        admin.do("POST", "whitelist", {"address": f"100.64.0.{number}", "note": "batch"})
    page = visit().open("whitelist")
    page.get_by_label("Search address or note").fill("batch")
    expect(entries(page)).to_have_count(3)
    page.get_by_label("Select 100.64.0.1").check()
    page.get_by_label("Select 100.64.0.3").check()
    expect(page.locator("#bulk-count")).to_have_text("2 selected")
    page.locator("#bulk").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("100.64.0.1")
    expect(dialog).not_to_contain_text("100.64.0.2")
    dialog.get_by_role("button", name="Cancel").click()
    expect(entries(page)).to_have_count(3)
    page.locator("#bulk").get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(entries(page)).to_have_count(1)
    expect(page.locator("#toasts")).to_contain_text("2 entries deleted.")


def test_export_comes_back_by_import_and_mistakes_are_listed_first(
    visit: Visitor, admin: Admin, tmp_path: Path
) -> None:
    admin.do("POST", "whitelist", {"address": "192.0.2.90", "note": '办公室, "two"', "enabled": False})
    page = visit().open("whitelist")
    with page.expect_download() as started:
        page.get_by_role("link", name="Export CSV").click()
    file = tmp_path / started.value.suggested_filename
    started.value.save_as(file)
    rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    assert {"address": "192.0.2.90", "note": '办公室, "two"', "enabled": "false"} in rows
    item = next(item for item in admin.items("whitelist") if item["address"] == "192.0.2.90")
    admin.do("DELETE", f"whitelist/{item['id']}")

    page.get_by_role("button", name="Import", exact=True).click()
    dialog = page.get_by_role("dialog")
    broken = tmp_path / "broken.csv"
    broken.write_text("address,note,enabled\n192.0.2.91,fine,true\n192.0.2.999,bad,true\n", "utf-8")
    dialog.get_by_label("File (CSV or text)").set_input_files(broken)
    result = dialog.locator("#import-result")
    expect(result).to_contain_text("1 line has a mistake; nothing has been written.")
    expect(result.locator("tbody tr")).to_contain_text("192.0.2.999")
    expect(dialog.locator("#import-now")).to_be_disabled()
    dialog.get_by_label("File (CSV or text)").set_input_files(file)
    expect(result).to_contain_text("1 added")
    dialog.locator("#import-now").click()
    expect(dialog).to_have_count(0)
    row = entries(page, "192.0.2.90")
    expect(row).to_contain_text('办公室, "two"')
    expect(row.get_by_role("switch")).not_to_be_checked()


@pytest.mark.usefixtures("logged")
def test_log_is_turned_page_by_page(visit: Visitor) -> None:
    page = visit().open("logs")
    rows, foot = page.locator("#rows tr[data-key]"), page.locator("#foot-text")
    seen: list[str] = []
    for number, count in ((1, 100), (2, 100), (3, CHECKED_ROWS + 6 - 200)):
        expect(foot).to_have_text(f"Page {number}, {count} rows")
        seen += page.evaluate("[...document.querySelectorAll('#rows tr')].map((row) => row.dataset.key)")
        if number < 3:
            page.get_by_role("button", name="Older").click()
    assert seen == sorted(set(seen), key=int, reverse=True)
    assert len(seen) == CHECKED_ROWS + 6
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    page.get_by_role("button", name="Newest").click()
    expect(foot).to_have_text("Page 1, 100 rows")
    expect(rows.first).to_have_attribute("data-key", seen[0])


@pytest.mark.usefixtures("logged")
def test_log_filters_hold_for_the_rows_the_address_and_the_export(visit: Visitor, tmp_path: Path) -> None:
    page = visit(timezone_id="Asia/Shanghai").open("logs")
    rows = page.locator("#rows tr[data-key]")
    page.get_by_label("Status").select_option("403")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("198.18.0.7")
    # Times are those of the browser's zone, with the UTC value for the mouse.
    clock = rows.first.locator("time")
    utc, local = clock.get_attribute("title") or "", clock.inner_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC", utc)
    assert (int(local[11:13]) - int(utc[11:13])) % 24 == 8
    with page.expect_download() as started:
        page.get_by_role("link", name="Export CSV").click()
    file = tmp_path / "log.csv"
    started.value.save_as(file)
    exported = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert [(row["status"], row["ip"], row["path"]) for row in exported] == [
        ("403", "198.18.0.7", "/api/v3/time")
    ] * 3
    # The filters are in the page's address: a reload keeps them.
    page.reload()
    settle(page)
    expect(page.get_by_label("Status")).to_have_value("403")
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Reset filters").click()
    expect(rows).to_have_count(100)
    page.get_by_label("Path contains").fill("fapi")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(3)
    page.get_by_label("Market").select_option("spot")
    expect(page.locator("#rows")).to_contain_text("No row fits these filters")
    page.locator("#rows").get_by_role("button", name="Reset filters").click()
    page.get_by_label("Errors only").check()
    expect(rows.first).to_contain_text("403")
    rows.first.get_by_role("button").click()
    details = page.get_by_role("dialog")
    expect(details).to_contain_text("Forbidden IP: 198.18.0.7")
    details.get_by_role("button", name="Only this client").click()
    expect(rows).to_have_count(3)


@pytest.mark.usefixtures("logged")
def test_log_keeps_what_it_is_told_and_is_cleared_after_a_question(visit: Visitor, admin: Admin) -> None:
    page = visit().open("logs")
    change = page.get_by_role("button", name="Change")
    change.click()
    days = page.get_by_label("Days to keep")
    days.fill("0")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#retention-days-error")).to_be_visible()
    days.fill("5")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog", name="Keep less than now?").get_by_role("button", name="Save").click()
    expect(page.locator("#retention-text")).to_contain_text("kept 5 days")
    assert admin.do("GET", "log")["retention_days"] == 5
    page.get_by_role("button", name="Clear", exact=True).click()
    dialog = page.get_by_role("dialog", name="Clear the request log")
    dialog.get_by_label("All rows").check()
    dialog.get_by_role("button", name="Cancel").click()
    assert admin.do("GET", "log")["rows"] == CHECKED_ROWS + 6
    page.get_by_role("button", name="Clear", exact=True).click()
    dialog.get_by_label("All rows").check()
    dialog.get_by_role("button", name="Delete rows").click()
    expect(page.locator("#toasts")).to_contain_text(f"{CHECKED_ROWS + 6} rows deleted.")
    expect(page.locator("#rows")).to_contain_text("The request log is switched off")
