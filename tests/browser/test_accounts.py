"""Accounts: a key that was seen is watched, orders come and go live, keys are linked, an account is removed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET, SandboxConfig
from tests.browser.conftest import Visitor
from tests.browser.test_all_pages import serious, sideways
from tests.support.browser import NARROW, PASSWORD, Admin
from tests.support.processes import KEY_HEADER, GatewayProcess, SandboxThread, Start, signed, until

pytestmark = pytest.mark.browser
ORDER = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.010&price=60000"


@pytest.fixture(scope="module")
def exchange() -> Iterator[SandboxThread]:
    """Let a minute be enough for what these tests ask."""
    with SandboxThread(SandboxConfig(weight_limits={"spot": 60_000, "futures": 60_000})) as thread:
        yield thread


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start(ADMIN_PASSWORD=PASSWORD)


@pytest.fixture(autouse=True)
def _nothing_left(admin: Admin) -> Iterator[None]:
    """Leave no account behind."""
    yield
    for item in admin.items("accounts"):
        admin.do("DELETE", f"accounts/{item['id']}")


def trade(gateway: GatewayProcess, method: str, path: str, query: str = "") -> Any:
    """Make one signed call of a client."""
    answer = gateway.call(method, signed(path, query), KEY_HEADER)
    assert answer.status == 200, answer.body
    return answer.json()


def watched(gateway: GatewayProcess, admin: Admin, **more: Any) -> int:
    """Have the client's USD-M account watched; return its number."""
    body = {"name": "bot", "market": "um", "mode": "key", "key": API_KEY} | more
    item = admin.do("POST", "accounts", body)
    trade(gateway, "GET", "/fapi/v1/openOrders")
    until(lambda: admin.do("GET", f"accounts/{item['id']}")["state"] == "syncing", "the stream is open")
    return int(item["id"])


def stub(page: Page, number: int, whole: Callable[[], dict[str, Any]]) -> None:
    """Let an account look otherwise than it is."""
    page.route(f"**/admin/api/accounts/{number}/events", lambda route: route.fulfill(status=503))
    page.route(f"**/admin/api/accounts/{number}", lambda route: route.fulfill(json=whole()))


def test_key_that_was_seen_is_watched_with_a_name_and_its_orders_come_and_go_live(
    visit: Visitor, gateway: GatewayProcess
) -> None:
    page = visit().open("accounts")
    expect(page.locator("#accounts")).to_contain_text("No account is watched")
    trade(gateway, "GET", "/fapi/v1/openOrders")
    row = page.locator("#seen tr", has_text="USD-M")
    expect(row).to_contain_text("127.0.0.1")
    row.get_by_role("button", name="Watch").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("…0000")
    expect(dialog).to_contain_text("cannot sign")
    expect(dialog.locator("[type=password]")).to_have_count(0)
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_role("button", name="Watch").click()
    expect(dialog).to_contain_text("This must be filled in.")
    dialog.get_by_label("Name").fill("grid bot")
    dialog.get_by_role("button", name="Watch").click()
    expect(dialog).to_contain_text("Only letters, digits")
    dialog.get_by_label("Name").fill("grid-bot")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1, name="grid-bot")).to_be_visible()
    expect(page.locator("#one-lead")).to_have_text("USD-M · watched by its key")
    expect(page.locator("#one-why")).to_contain_text("Waits for its key")
    trade(gateway, "GET", "/fapi/v1/openOrders")
    expect(page.locator("#one-why")).to_contain_text("openOrders")
    page.evaluate("window.isSame = true")
    order = trade(gateway, "POST", "/fapi/v1/order", ORDER)
    row = page.locator("#orders tr", has_text=f"#{order['orderId']}")
    expect(row).to_contain_text("Buy Limit")
    expect(row).to_contain_text("60000")
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuenow", "0")
    row.get_by_role("button", name="Details").click()
    expect(page.get_by_role("dialog")).to_contain_text("clientOrderId")
    page.keyboard.press("Escape")
    trade(gateway, "DELETE", "/fapi/v1/order", f"symbol=BTCUSDT&orderId={order['orderId']}")
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Ended").click()
    expect(row).to_contain_text("Cancelled")

    # Two openOrders, the second five seconds after the stream began: what any bot does.
    def asked() -> bool:
        trade(gateway, "GET", "/fapi/v1/openOrders")
        page.wait_for_timeout(500)  # as a bot that polls
        return page.locator("#one-state").inner_text() == "Live"

    until(asked, "the account gets live")
    expect(page.locator("#figures")).to_contain_text("calls")
    assert page.evaluate("window.isSame") is True
    page.get_by_role("link", name="All accounts").click()
    row = page.locator("#accounts tr", has_text="grid-bot")
    expect(row).to_contain_text("Live")
    expect(page.get_by_role("link", name="grid-bot")).to_be_focused()
    expect(page.locator("#seen")).to_contain_text("No other key has been seen")


def test_market_order_fills_and_its_position_shows(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    number = watched(gateway, admin)
    page = visit().page
    page.goto(f"/admin/accounts?account={number}")
    expect(page.locator("#positions")).to_contain_text("No position is known")
    trade(gateway, "POST", "/fapi/v1/order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.020")
    expect(page.locator("#positions tr", has_text="BTCUSDT")).to_contain_text(re.compile(r"long 0\.\d+"))
    expect(page.locator("#balances tr", has_text="USDT")).to_contain_text("by an event")
    page.get_by_role("button", name="Ended").click()
    row = page.locator("#orders tr", has_text="Market")
    expect(row.first).to_contain_text("100 %")
    trade(gateway, "POST", "/fapi/v1/order", "symbol=BTCUSDT&side=SELL&type=MARKET&quantity=0.020")


def test_secret_is_explained_checked_and_never_stays_in_the_page(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    one = visit()
    one.watch.allow("400 POST /admin/api/accounts")
    page = one.open("accounts")
    page.get_by_role("button", name="Watch an account").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Market").select_option("um")
    ways = dialog.get_by_role("radio")
    assert [way.get_attribute("value") for way in ways.all()] == ["key", "secret"]  # least trust first
    dialog.get_by_label("Market").select_option("spot")
    assert [way.get_attribute("value") for way in ways.all()] == ["signed", "secret"]
    ways.last.check()
    expect(dialog).to_contain_text("A key that may trade, withdraw or transfer is refused.")
    expect(dialog.locator("[data-plain]")).to_have_count(0)  # it is this very machine
    key, secret = dialog.get_by_label("API key", exact=True), dialog.get_by_label("Secret", exact=True)
    for field in (key, secret):
        assert field.get_attribute("type") == "password"
        assert field.get_attribute("autocomplete") == "off"
    dialog.get_by_label("Name").fill("main")
    # A key that may trade.
    key.fill(API_KEY)
    secret.fill(API_SECRET)
    dialog.get_by_role("button", name="Watch").click()
    expect(dialog).to_contain_text("The key was not stored. This key may more than read")
    expect(secret).to_have_value("")
    expect(dialog).to_contain_text("no longer in this page")
    key.fill(READ_KEY)
    dialog.get_by_role("button", name="Show: Secret").click()
    secret.fill(READ_SECRET)
    dialog.get_by_role("button", name="Watch").click()
    expect(page.get_by_role("heading", level=1, name="main")).to_be_visible()
    expect(page.locator("#one-state")).to_have_text("Live")
    expect(page.locator("#keys")).to_contain_text("its own, read-only")
    values = page.evaluate("[...document.querySelectorAll('input, textarea')].map((one) => one.value).join()")
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    for word in (READ_SECRET, READ_KEY, API_SECRET):
        assert word not in page.content() + values + stored

    # The bot's own key is linked.
    trade(gateway, "GET", "/api/v3/openOrders")
    page.get_by_role("button", name="Link a key").click()
    dialog = page.get_by_role("dialog")
    until(lambda: admin.do("GET", "accounts")["seen"], "the key is seen")
    if dialog.get_by_label("Which key").count() == 0:  # it was opened before the page had asked
        dialog.get_by_label("API key", exact=True).fill(API_KEY)
    dialog.get_by_role("button", name="Link a key").click()
    expect(page.locator("#keys li")).to_have_count(2)
    expect(page.locator("#keys")).to_contain_text("believed from 127.0.0.1")
    page.get_by_role("button", name="Unlink the key").click()
    page.get_by_role("dialog").get_by_role("button", name="Unlink").click()
    expect(page.locator("#keys li")).to_have_count(1)
    # The stream of the account began anew, and the page follows the new one.
    expect(page.locator("#one-state")).to_have_text("Live")
    expect(page.locator("#one-link")).to_be_hidden()


def test_page_warns_where_a_secret_would_travel_readable(visit: Visitor, gateway: GatewayProcess) -> None:
    one = visit()
    page = one.page
    script = "resender-form"

    def elsewhere(route: Route) -> None:
        body = route.fetch().text().replace("location.hostname", f"'{script}.example'")
        route.fulfill(body=body, content_type="text/javascript")

    page.route("**/account_form.js", elsewhere)
    one.open("accounts")
    page.get_by_role("button", name="Watch an account").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[data-plain]")).to_have_count(0)
    dialog.get_by_role("radio").last.check()
    expect(dialog.locator("[data-plain]")).to_contain_text("not encrypted")


def test_removing_says_what_is_deleted_and_leads_back(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    number = watched(gateway, admin)
    one = visit()
    one.watch.allow(f"404 GET /admin/api/accounts/{number}")
    page = one.page
    page.goto(f"/admin/accounts?account={number}")
    page.get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("taken out of memory")
    expect(dialog).to_contain_text("no secret was ever stored")
    dialog.get_by_role("button", name="Cancel").click()
    assert len(admin.items("accounts")) == 1
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#accounts")).to_contain_text("No account is watched")
    assert admin.items("accounts") == []
    assert admin.items("audit")[0]["action"] == "account.remove"
    page.goto(f"/admin/accounts?account={number}")
    expect(page.get_by_role("heading", level=1)).to_have_text("This account is not watched")


def test_account_removed_elsewhere_is_told(visit: Visitor, gateway: GatewayProcess, admin: Admin) -> None:
    number = watched(gateway, admin)
    one = visit()
    one.watch.allow(f"404 GET /admin/api/accounts/{number}")
    page = one.page
    page.goto(f"/admin/accounts?account={number}")
    expect(page.locator("#one-body")).to_be_visible()
    admin.do("DELETE", f"accounts/{number}")
    expect(page.get_by_role("heading", level=1)).to_have_text("This account is not watched")
    expect(page.locator("#one-body")).to_be_hidden()


def very_full(count: int) -> dict[str, Any]:
    """An account with so many orders, in the shape of the API."""
    symbols = ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT")
    orders = [
        {
            "kind": "um", "symbol": symbols[n % 3], "orderId": str(8389765600000000000 + n),
            "side": ("BUY", "SELL")[n % 2], "type": "LIMIT",
            "timeInForce": "GTC", "price": str(100 + n), "origQty": "2", "executedQty": "0.5",
            "status": "PARTIALLY_FILLED", "time": 1790000000000 + n, "updateTime": 1790000000000 + n,
        }
        for n in range(count)
    ]  # fmt: skip
    return {
        "state": "syncing", "why": "an order nobody told of: TRADE", "since": 1790000000000, "open_orders": count,
        "hits": 90, "misses": {"no-cache": 10}, "differences": 2, "events": 9, "unknown_events": {"NEW_THING": 3},
        "orders": orders, "ended": [], "balances": [], "positions": [],
        "last_differences": [{"time": 1790000000000, "what": "the end of an order of which no event told"}],
    }  # fmt: skip


def test_thousand_orders_are_shown_in_parts_sorted_and_filtered_without_a_standstill(
    visit: Visitor, gateway: GatewayProcess, admin: Admin
) -> None:
    number = watched(gateway, admin)
    one = visit()
    one.watch.allow("503 GET /admin/api/accounts")
    page = one.page
    stub(page, number, lambda: very_full(1000))
    page.add_init_script(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) => "
        "{ window.longest = Math.max(window.longest, one.duration); })).observe({entryTypes: ['longtask']});"
    )
    page.goto(f"/admin/accounts?account={number}")
    rows = page.locator("#orders tr")
    expect(rows).to_have_count(100)
    expect(page.locator("#one-link")).to_have_text("Polling every 3 s")
    expect(page.locator("#orders-hint")).to_have_text("1 to 100 of 1,000")
    expect(page.locator("#one-why")).to_contain_text("An event of an order nobody told of (TRADE)")
    expect(page.locator("#figures .bad-text")).to_have_text("2")
    expect(page.locator("#trouble")).to_contain_text("NEW_THING")
    expect(rows.first).to_contain_text("#8389765600000000999")  # newest first, to the last digit
    expect(rows.first.get_by_role("meter")).to_have_attribute("aria-valuenow", "25")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#orders-hint")).to_have_text("101 to 200 of 1,000")
    head = page.locator("#orders-table th", has_text="Symbol")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_contain_text("1000PEPEUSDT")
    head.get_by_role("button").click()
    expect(rows.first).to_contain_text("ETHUSDT")
    page.get_by_label("Filter by symbol").fill("btc")
    expect(page.locator("#orders-count")).to_have_text("334 of 1,000")
    expect(rows.filter(has_text="ETHUSDT")).to_have_count(0)
    page.get_by_label("Filter by symbol").fill("nothing")
    expect(rows).to_have_text(["No order of “NOTHING”"])
    assert page.evaluate("window.longest") < 1000


@pytest.mark.parametrize(("theme", "locale"), [("light", "en-GB"), ("dark", "zh-CN")])
def test_account_is_accessible_and_fits_a_narrow_screen(
    visit: Visitor, gateway: GatewayProcess, admin: Admin, theme: str, locale: str
) -> None:
    number = watched(gateway, admin)
    one = visit(color_scheme=theme, locale=locale, viewport=NARROW if theme == "dark" else None)
    one.watch.allow("503 GET /admin/api/accounts")
    page = one.page
    page.emulate_media(reduced_motion="reduce", color_scheme=theme)
    stub(page, number, lambda: very_full(30))
    page.goto(f"/admin/accounts?account={number}")
    expect(page.locator("#orders tr")).to_have_count(30)
    assert not serious(page)
    assert not sideways(page)
    for opener in ("#link", "#remove", "#orders button >> nth=0"):
        page.locator(opener).click()
        assert not serious(page, "dialog[open]")
        page.keyboard.press("Escape")
        expect(page.locator(opener)).to_be_focused()
    if locale == "zh-CN":
        text = page.locator("main").inner_text()
        assert not re.search(r"accounts\.|\{\w+\}", text)
        assert "部分成交" in text


def test_texts_from_outside_are_only_text(visit: Visitor, gateway: GatewayProcess, admin: Admin) -> None:
    number = watched(gateway, admin)
    evil = "<img src=x onerror=\"console.error('script ran')\">"
    one = visit()
    one.watch.allow("503 GET /admin/api/accounts")
    page = one.page
    full = very_full(1)
    full |= {"why": f"Binance refuses the key: {evil}", "unknown_events": {evil: 1}, "misses": {evil: 2}}
    full["orders"][0] |= {
        "symbol": evil,
        "type": evil,
        "status": evil,
        "clientOrderId": evil,
        "timeInForce": evil,
    }
    full["balances"] = [
        {"asset": evil, "walletBalance": "1", "crossWalletBalance": evil, "time": 1, "source": evil}
    ]
    stub(page, number, lambda: json.loads(json.dumps(full)))
    page.goto(f"/admin/accounts?account={number}")
    expect(page.locator("#orders")).to_contain_text("<img")
    page.locator("#orders button").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("<img")
    assert page.locator("main img, dialog img").count() == 0
