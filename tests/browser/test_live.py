"""What moves by itself: the dashboard, the streams page, the doctor."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from resender.sandbox import Fault
from tests.browser.conftest import Visitor
from tests.support.browser import PASSWORD, Admin, settle
from tests.support.processes import GatewayProcess, SandboxThread, Start, until

pytestmark = pytest.mark.browser
SETTINGS = {
    "ADMIN_PASSWORD": PASSWORD,
    "PRELOAD": "spot:BTCUSDT@1s,1m,bookTicker,depth20,depth",
    "BACKFILL_WEIGHT_SHARE": 0.9,
}
PRICE = "/api/v3/ticker/bookTicker?symbol=BTCUSDT"


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start(**SETTINGS)


def hits_of(page: Page) -> int:
    """Read from the dashboard how many calls were answered from memory."""
    found = re.search(r"([\d,]+) hits", page.locator("#tile-hit_rate").inner_text())
    return int(found[1].replace(",", "")) if found else -1


def watch_it_count(page: Page, gateway: GatewayProcess) -> None:
    """Assert that calls made now are shown without a reload."""
    page.evaluate("window.isSame = true")
    before = hits_of(page)
    for _ in range(7):
        assert gateway.call("GET", PRICE).status == 200
    until(lambda: hits_of(page) >= before + 7, "the dashboard counts the calls")
    assert page.evaluate("window.isSame") is True


def test_dashboard_counts_calls_without_a_reload(visit: Visitor, gateway: GatewayProcess) -> None:
    page = visit().open("dashboard")
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#tile-series")).to_contain_text("5/ 5")
    watch_it_count(page, gateway)
    expect(page.locator("#tile-calls b")).not_to_have_text("0")
    expect(page.locator("#tile-hit_rate b")).to_contain_text("%")
    expect(page.get_by_role("meter", name="Default route, Spot")).to_have_attribute("aria-valuemax", "6000")
    until(lambda: page.locator("[data-chart=calls] canvas").count(), "the charts are drawn")
    page.get_by_role("button", name="Last day").click()
    expect(page.get_by_role("button", name="Last day")).to_have_attribute("aria-pressed", "true")


def test_dashboard_without_its_event_stream_polls(visit: Visitor, gateway: GatewayProcess) -> None:
    one = visit()
    one.watch.allow("503 GET /admin/api/events")
    one.page.route("**/admin/api/events", lambda route: route.fulfill(status=503))
    page = one.open("dashboard")
    expect(page.locator("#link")).to_have_text("Polling every 3 s")
    watch_it_count(page, gateway)


def test_dashboard_says_in_words_that_binance_banned_us_and_for_how_long(
    visit: Visitor, gateway: GatewayProcess, exchange: SandboxThread
) -> None:
    page = visit().open("dashboard")
    fault = Fault("status", match="/eapi/v1/time", status=418, headers={"Retry-After": "900"})
    exchange.ask(lambda sandbox: sandbox.faults.add(fault))
    assert gateway.call("GET", "/eapi/v1/time").status == 418
    alert = page.locator("#alerts .notice", has_text="418")
    expect(alert).to_contain_text("Options")
    countdown = alert.locator(".countdown")
    expect(countdown).to_have_text(re.compile("ends in 14 min"))
    before = countdown.inner_text()
    until(lambda: countdown.inner_text() != before, "the countdown runs")
    expect(page.locator("#upstreams li", has_text="Options")).to_contain_text("Wait until the ban ends")


def test_rule_is_added_changed_and_removed_with_its_cost_in_sight(visit: Visitor, admin: Admin) -> None:
    page = visit().open("streams")
    expect(page.locator("#rules tr", has_text="From the setting PRELOAD")).to_have_count(1)
    page.get_by_role("button", name="Add rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("Name at least one symbol.")
    expect(dialog.get_by_label("1s")).to_be_disabled()  # USD-M has no such candles
    expect(dialog.get_by_role("checkbox", name="Mark price")).to_be_visible()
    dialog.get_by_label("Market").select_option("spot")
    expect(dialog.get_by_role("checkbox", name="Mark price")).to_be_hidden()
    expect(dialog.get_by_role("checkbox", name="Trades trade")).to_have_accessible_description(
        re.compile("ticker/price")
    )
    dialog.get_by_label("Market").select_option("um")
    dialog.get_by_label("Symbols", exact=True).fill("BTC*")
    cost = dialog.get_by_role("region", name="What this rule will cost")
    for fact in ("Symbols that match now", "Series", "Weight, once", "Memory", "Connections", "Time to fill"):
        expect(cost.locator("div", has=page.get_by_text(fact, exact=True)).locator("dd")).not_to_have_text("")
    assert admin.items("preload")[0]["source"] == "settings"  # the estimate has saved nothing
    assert len(admin.items("preload")) == 1
    dialog.get_by_role("button", name="Save").click()
    row = page.locator("#rules tr", has_text="BTC*")
    row.get_by_role("button", name=re.compile("Edit")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("5m", exact=True).check()
    dialog.get_by_role("checkbox", name="Best 20 levels").check()
    dialog.get_by_role("button", name="Save").click()
    expect(row.locator(".tag")).to_have_text(["1m", "5m", "depth20"])
    row.get_by_role("button", name=re.compile("Remove")).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)


def test_series_are_listed_filtered_and_drawn(visit: Visitor) -> None:
    page = visit().open("streams")
    rows = page.locator("#all tr")
    expect(rows.filter(has_text="BTCUSDT").filter(has_text="Live")).not_to_have_count(0)
    page.get_by_label("Kind").select_option("1s")
    expect(rows).to_have_count(1)
    page.get_by_placeholder("Search symbols").fill("nothing of the kind")
    expect(rows).to_have_text(["No series matches the filters."])
    page.get_by_role("button", name="Clear filters").click()
    expect(rows.filter(has_text="bookTicker")).not_to_have_count(0)
    expect(page.get_by_role("progressbar").first).to_have_attribute("aria-valuenow", "100")
    head = page.locator("#candle-head")
    for interval in ("1s", "1m"):
        page.locator("#chart-intervals").get_by_role("button", name=interval, exact=True).click()
        expect(head).to_contain_text(f"BTCUSDT · Spot · {interval}")
        text = head.inner_text()
        until(lambda: head.inner_text() != text, "the newest candle moves")  # noqa: B023
    # A chart has an address of its own.
    page.goto("/admin/streams?market=spot&symbol=BTCUSDT&interval=1s")
    expect(head).to_contain_text("BTCUSDT · Spot · 1s")


def test_book_has_a_ladder_that_moves_and_shows_what_binance_wrote(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    page = visit().open("streams")
    row = page.locator("#all tr", has_text="Whole order book")
    expect(row).to_contain_text("levels")
    row.get_by_role("button", name="Order book of BTCUSDT").click()
    head, ladder = page.locator("#candle-head"), page.locator("#ladder")
    for word, name in (("depth", "Whole order book"), ("depth20", "Best 20 levels")):
        page.locator("#chart-intervals").get_by_role("button", name=name).click()
        expect(head).to_contain_text(f"BTCUSDT · Spot · {name}")
        expect(head).to_contain_text("by the stream")
        for side in ("Bids", "Asks"):
            expect(ladder.get_by_role("table", name=side).locator("tbody tr")).to_have_count(20)
        best = ladder.get_by_role("table", name="Asks").locator("tbody td.price").first
        before = head.inner_text()
        until(lambda: head.inner_text() != before, "the ladder moves")  # noqa: B023
        path = f"book?market=spot&symbol=BTCUSDT&interval={word}"
        until(lambda: best.inner_text() == admin.do("GET", path)["asks"][0][0], "the price is as it is held")  # noqa: B023
        assert f"interval={word}" in page.url
    assert gateway.call("GET", "/api/v3/depth?symbol=BTCUSDT&limit=20").status == 200
    page = visit().open("dashboard")
    expect(page.locator("#tile-saved")).to_contain_text("order books")


def test_ladder_is_asked_for_again_and_again_where_its_event_stream_fails(visit: Visitor) -> None:
    one = visit()
    one.watch.allow("503 GET /admin/api/book/events")
    one.page.route("**/admin/api/book/events*", lambda route: route.fulfill(status=503))
    one.page.goto("/admin/streams?market=spot&symbol=BTCUSDT&interval=depth20")
    expect(one.page.locator("#chart-link")).to_have_text("Polling every 3 s")
    expect(one.page.locator("#ladder tbody tr")).to_have_count(40)


def test_chart_moves_by_polling_where_its_event_stream_fails(visit: Visitor) -> None:
    one = visit()
    one.watch.allow("503 GET /admin/api/klines/events")
    one.page.route("**/admin/api/klines/events*", lambda route: route.fulfill(status=503))
    page = one.page
    page.goto("/admin/streams?market=spot&symbol=BTCUSDT&interval=1s")
    expect(page.locator("#chart-link")).to_have_text("Polling every 3 s")
    head = page.locator("#candle-head")
    text = head.inner_text()
    until(lambda: head.inner_text() != text, "the newest candle moves")


def test_chart_library_is_loaded_only_where_a_chart_is(visit: Visitor) -> None:
    one = visit()
    for name, wanted in (("whitelist", False), ("logs", False), ("settings", False), ("streams", True)):
        one.watch.requests.clear()
        one.open(name)
        assert any("lightweight-charts" in url for url in one.watch.requests) is wanted, name


def test_doctor_writes_a_line_as_soon_as_it_has_one(
    visit: Visitor, exchange: SandboxThread, admin: Admin
) -> None:
    exchange.ask(lambda sandbox: sandbox.faults.add(Fault("delay", host="papi", seconds=2.0, times=None)))
    page = visit().open("settings")
    state, lines = page.locator("#doctor-state"), page.locator("#examined li")
    run = page.get_by_role("button", name="Run the checks")
    run.click()
    expect(lines.first).to_contain_text("https://127.0.0.1:")
    expect(run).to_be_disabled()  # it is still at work on the slow one
    expect(lines).to_have_count(8)  # the WebSocket APIs of three of the five
    expect(run).to_be_enabled()
    expect(state).to_contain_text("8")
    exchange.ask(lambda sandbox: sandbox.faults.clear())
    assert admin.items("audit")[0]["action"] == "doctor.run"


def test_settings_are_shown_with_secrets_masked(visit: Visitor) -> None:
    page = visit().open("settings")
    rows = page.locator("#rows tr")
    expect(rows.filter(has_text="RESENDER_ADMIN_PASSWORD")).to_contain_text("***")
    assert PASSWORD not in page.content()
    page.get_by_placeholder("Search settings").fill("share of the weight per minute")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("BACKFILL_WEIGHT_SHARE")
    page.get_by_placeholder("Search settings").fill("")
    page.get_by_role("switch", name="Changed ones only").check()
    expect(rows.filter(has_text="BACKFILL_WEIGHT_SHARE")).to_contain_text("Default: 0.5")
    expect(rows.filter(has_text="MAX_IN_FLIGHT")).to_have_count(0)


def test_dashboard_outlives_a_restart_of_the_gateway(
    visit: Visitor, start: Start, gateway: GatewayProcess
) -> None:
    # The last test of this file: the gateway it leaves running is another process.
    one = visit()
    one.watch.allow("ERR_", "503 GET")
    page = one.open("dashboard")
    expect(page.locator("#link")).to_have_text("Live")
    gateway.stop()
    expect(page.locator("#link")).to_have_text("No connection, trying again…")
    fresh = start(**SETTINGS, PORT=gateway.port)
    expect(page.locator("#link")).to_have_text(re.compile("Polling|Live"))
    expect(page.locator("#tile-series")).to_contain_text("5/ 5")
    watch_it_count(page, fresh)
    settle(page)
