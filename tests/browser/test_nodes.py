"""The page "Nodes" with two nodes on a real Redis: what it shows, draining, a Redis that hangs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from resender.cluster import installation_of
from resender.core.binance.markets import MARKETS
from resender.core.cluster.node_info import NodeInfo
from resender.core.cluster.node_scripts import BEAT, FORGET_MS, KEYS
from tests.browser.conftest import Visitor
from tests.browser.test_all_pages import serious, sideways
from tests.support.browser import NARROW, PASSWORD
from tests.support.browser_filling import MARKUP
from tests.support.processes import GatewayProcess, SandboxThread, Start, until
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), password="HiddenWord") as started:
        yield started


@pytest.fixture(scope="module")
def gateway(start: Start, server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> GatewayProcess:
    other = tmp_path_factory.mktemp("other")
    shared = {"REDIS_URL": server.url, "CACHE_ENABLED": "false", "ADMIN_PASSWORD": PASSWORD}
    start(NODE_NAME="gw2", DATA_DIR=other, EGRESS="own=127.0.0.1,second=127.0.0.2",
          NODE_SECRET="of-all-nodes-" * 3, ROLES="front,collector", **shared)  # fmt: skip
    return start(NODE_NAME="gw1", **shared)


def test_nodes_are_shown_drained_and_taken_back(visit: Visitor) -> None:
    page = visit().open("nodes")
    other = page.locator("#rows tr", has_text="gw2")
    expect(other).to_contain_text("Up")
    expect(other).to_contain_text("own, second")
    expect(other).to_contain_text("Front: serves clients, Collector: calls Binance")
    expect(page.locator("#rows tr").first).to_contain_text("gw1 (this one)")
    expect(page.locator("#alone")).to_be_hidden()
    page.get_by_role("button", name="Drain gw2").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("gw2 answers /healthz with 503 from now on")
    expect(dialog).not_to_contain_text("No other node is left")
    assert not serious(page, "dialog[open]")
    page.keyboard.press("Escape")
    expect(other).to_contain_text("Up")
    page.get_by_role("button", name="Drain gw2").click()
    dialog.get_by_role("button", name="Drain", exact=True).click()
    expect(other).to_contain_text("Drained")
    page.get_by_role("button", name="Drain gw1").click()
    expect(dialog).to_contain_text("No other node is left for a balancer.")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Take gw2 back into service").click()
    expect(other).to_contain_text("Up")
    assert not serious(page)


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_page_fits_a_narrow_screen_and_runs_no_name(
    visit: Visitor, server: RedisServer, exchange: SandboxThread, locale: str
) -> None:
    urls = exchange.settings()
    upstreams = [urls[facts.rest_setting] for facts in MARKETS]
    keys = [f"resender:{installation_of(upstreams)}:{key}" for key in KEYS]
    odd = NodeInfo("odd", MARKUP + "NoSpacesInThisOne" * 5, f"http://{MARKUP}", version=MARKUP)
    server.client().eval(BEAT, len(keys), *keys, odd.id, odd.to_text(), FORGET_MS)
    page = visit(locale=locale, viewport=NARROW, has_touch=True).open("nodes")
    expect(page.locator("#rows")).to_contain_text(re.compile("<script>|<img src=x"))
    assert page.locator("main script, main img").count() == 0
    assert sideways(page) == []
    assert not serious(page)


def test_redis_that_hangs_is_told_and_taken_up_again(visit: Visitor, server: RedisServer) -> None:
    page = visit().open("nodes")
    server.pause()
    try:
        notice = page.locator("#notices")
        expect(notice).to_contain_text("has not been usable for")
        expect(notice).to_contain_text("Each node goes on by itself")
        expect(page.locator("#rows tr", has_text="gw2")).to_contain_text("Unknown")
        expect(page.get_by_role("button", name="Drain gw2")).to_have_count(0)
        assert not serious(page)
        assert "HiddenWord" not in page.content()
    finally:
        server.resume()
    expect(notice).to_have_text("")
    expect(page.locator("#rows tr", has_text="gw2")).to_contain_text("Up")
    until(lambda: page.get_by_role("button", name="Drain gw2").count() == 1, "it can be drained again")
