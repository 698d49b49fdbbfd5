"""The whole way of a new owner: from the password on the console to a chart that moves."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from resender.errors import Forbidden
from tests.support.browser import USER, Visit, settle
from tests.support.processes import PATIENCE_S, ROOT, GatewayProcess, Start, environment, until

pytestmark = pytest.mark.browser
NEW_PASSWORD = "correct horse battery"
# Makes a call for every line it reads: the library is imported once only.
STRATEGY = """
import json, sys
from binance_interface.api import API
market = API(proxy_host=sys.argv[1]).spot.market
for _ in sys.stdin:
    print(json.dumps(market.get_klines(symbol="BTCUSDT", interval="1m", limit=5)), flush=True)
"""
Strategy = Callable[[], Any]


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start(WHITELIST="")


@pytest.fixture
def owner(browser: Browser, gateway: GatewayProcess) -> Iterator[Visit]:
    visit = Visit(browser, gateway)
    yield visit
    visit.close()


@pytest.fixture
def strategy(gateway: GatewayProcess) -> Iterator[Strategy]:
    """Call the gateway once with binance-interface, as a strategy does, and return what that returns."""
    python = ROOT / ".venv-clients" / "binance_interface" / "bin" / "python"
    if not python.exists():
        pytest.skip("binance_interface is not installed: make .venv-clients/binance_interface/ready")
    with subprocess.Popen(
        [str(python), "-c", STRATEGY, gateway.url],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def call() -> Any:
            stdin.write("\n")
            stdin.flush()
            while not (line := stdout.readline()).startswith("{"):
                assert line, "the strategy has ended"
            return json.loads(line)

        yield call
        stdin.close()
        assert process.wait(PATIENCE_S) == 0


def printed_password(gateway: GatewayProcess) -> str:
    found = re.findall(r"log in as (\S+) with the password (\S+)", gateway.stdout + gateway.stderr)
    assert len(found) == 1
    assert found[0][0] == USER
    password: str = found[0][1]
    return password


def test_new_owner_gets_from_the_console_to_a_moving_chart(
    owner: Visit, gateway: GatewayProcess, strategy: Strategy
) -> None:
    page = owner.page
    log_in_and_change_the_password(owner, printed_password(gateway))
    assert strategy() == {"code": -1, "msg": "Forbidden IP: 127.0.0.1", "data": Forbidden("127.0.0.1").data}
    add_own_address(page)
    page.get_by_role("link", name="Request log").click()
    expect(page.get_by_text("The request log is switched off")).to_be_visible()
    switch = page.get_by_role("switch", name="Write the request log")
    switch.check()
    expect(page.locator("#toasts")).to_contain_text("The request log is written from now on.")
    assert strategy()["code"] == 200
    see_the_row(page)
    switch.uncheck()
    expect(page.locator("#toasts")).to_contain_text("Nothing is written from now on.")
    delete_own_address(page)
    assert strategy()["code"] == -1
    allow_the_refused_address(page)
    assert strategy()["code"] == 200
    add_a_rule(page)
    see_the_chart_move(page)
    see_it_all_in_the_audit(page)
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{gateway.url}/admin/login")
    page.goto("/admin/whitelist")
    expect(page).to_have_url(f"{gateway.url}/admin/login?next=/admin/whitelist")


def log_in_and_change_the_password(owner: Visit, password: str) -> None:
    page = owner.page
    page.goto("/admin")
    page.get_by_label("User name").fill(USER)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Change password")).to_be_visible()
    # Nothing else is to be had before.
    page.goto("/admin/whitelist")
    expect(page).to_have_url(re.compile("/admin/password$"))
    fields = {"Current password": password, "New password": "short", "New password again": "short"}
    for label, text in fields.items():
        page.get_by_label(label, exact=True).fill(text)
    submit = page.get_by_role("button", name="Change password")
    submit.click()
    expect(page.locator("#new-error")).to_contain_text("10")
    expect(page.get_by_label("Current password")).to_have_value(password)
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    submit.click()
    expect(page.locator("#repeat-error")).to_be_visible()
    page.get_by_label("New password again").fill(NEW_PASSWORD)
    submit.click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


def add_own_address(page: Page) -> None:
    page.get_by_role("link", name="Whitelist").click()
    page.get_by_role("button", name="Add my address").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Addresses or networks")).to_have_value("127.0.0.1")
    dialog.get_by_label("Note").fill("本机 strategy")
    dialog.get_by_role("button", name="Add", exact=True).click()
    row = page.locator("#entries tr[data-key]", has_text="127.0.0.1")
    expect(row).to_contain_text("本机 strategy")
    expect(row).to_contain_text("you")


def see_the_row(page: Page) -> None:
    row = page.locator("#rows tr", has_text="/api/v3/klines").first
    # Rows are written in batches; whoever looks again sees it.
    until(lambda: page.get_by_role("button", name="Search").click() or settle(page) or row.count(), "the row")
    for text in ("200", "127.0.0.1", "GET", "Spot"):
        expect(row).to_contain_text(text)
    row.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("/api/v3/klines")
    dialog.locator(".dialog-foot").get_by_role("button", name="Close").click()


def delete_own_address(page: Page) -> None:
    page.get_by_role("link", name="Whitelist").click()
    row = page.locator("#entries tr[data-key]", has_text="127.0.0.1")
    row.get_by_role("button", name="Delete 127.0.0.1").click()
    # The first thing offered is to leave it as it is.
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Delete 127.0.0.1").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)


def allow_the_refused_address(page: Page) -> None:
    row = page.locator("#refused tr[data-key]", has_text="127.0.0.1")
    expect(row).to_contain_text("/api/v3/klines")  # it comes without a reload
    row.get_by_role("button", name="Allow 127.0.0.1").click()
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#entries tr[data-key]", has_text="127.0.0.1")).to_have_count(1)
    expect(row).to_have_count(0)


def add_a_rule(page: Page) -> None:
    page.get_by_role("link", name="Streams").click()
    expect(page).to_have_url(re.compile("/admin/streams"))
    settle(page)  # what is clicked before its script has come is lost
    page.get_by_role("button", name="Add rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Market").select_option("spot")
    dialog.get_by_label("Symbols", exact=True).fill("NOT A SYMBOL!")
    expect(dialog.locator("#rule-symbols-error")).to_be_visible()
    dialog.get_by_label("Symbols", exact=True).fill("BTCUSDT, ETHUSDT")
    dialog.get_by_label("1s").check()
    estimate = dialog.get_by_role("region", name="What this rule will cost")
    expect(estimate).to_contain_text("Symbols that match now2")
    expect(estimate).to_contain_text("Series4")
    dialog.get_by_role("button", name="Save").click()
    rule = page.locator("#rules tr", has_text="BTCUSDT, ETHUSDT")
    expect(rule).to_contain_text("Spot")
    expect(page.locator("#all tr", has_text="Live")).to_have_count(4)


def see_the_chart_move(page: Page) -> None:
    page.get_by_role("button", name="Chart of ETHUSDT 1s").click()
    head, canvas = page.locator("#candle-head"), page.locator("#candles")
    expect(head).to_contain_text("ETHUSDT")
    expect(page.locator("#chart-link")).to_have_text("Live")
    text, picture = head.inner_text(), canvas.screenshot()
    until(lambda: head.inner_text() != text, "the newest candle changes")
    until(lambda: canvas.screenshot() != picture, "the chart moves")


def see_it_all_in_the_audit(page: Page) -> None:
    page.get_by_role("link", name="Audit log").click()
    rows = page.locator("#rows tr")
    for action in (
        "Preload rule added", "Whitelist: added", "Whitelist: removed", "Request log changed",
        "Password changed", "Log-in",
    ):  # fmt: skip
        expect(rows.filter(has_text=action).first).to_contain_text(USER)
    expect(rows.filter(has_text="Request log changed")).to_have_count(2)
