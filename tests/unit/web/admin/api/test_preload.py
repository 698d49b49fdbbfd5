"""The preload rules' API: rules of the settings and of the table side by side, and words for bad ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.core.market.preload import parse_rule
from resender.store import DuplicateRule, PreloadRow
from resender.web.admin.api import preload as module
from resender.web.admin.api.preload import _count, _item
from tests.support.admin import assert_error
from tests.unit.web.serving import FakeRepository, FakeStore, administered, make_services

ROW = PreloadRow(5, "um", "BTCUSDT", "1m", 77)
BODY = {"market": "um", "symbols": "BTCUSDT", "what": "1m"}


class Symbols:
    is_loaded = True
    tradable = ("BTCUSDT", "ETHUSDT", "ETHBTC")


def cache() -> Any:
    states = {
        market: SimpleNamespace(symbols=Symbols(), entries=list, start=lambda: None)
        for market in (Market.SPOT, Market.UM)
    }
    return SimpleNamespace(states=states, options=SimpleNamespace(depth=1000))


def services(rows: FakeRepository | None = None, *, has_cache: bool = True, **settings: Any) -> Any:
    rows = rows or FakeRepository()
    store = FakeStore(preload_list=[ROW], preload_change=rows.change)
    made = make_services(store=store, **settings)
    made.cache = cache() if has_cache else None
    return made


def test_rule_is_counted_only_where_the_symbols_are_known() -> None:
    rule = parse_rule("um", "ETH*", "1m,bookTicker")
    assert _count(rule, {Market.UM: Symbols.tradable}) == 2
    assert _count(rule, {Market.SPOT: Symbols.tradable}) is None
    assert _count(None, {}) == 0


def test_row_somebody_wrote_by_hand_is_shown_with_what_is_wrong() -> None:
    rule, item = _item(PreloadRow(5, "nowhere", "A", "1m", 77))
    assert rule is None
    assert item["problem"]
    assert item["problem_data"]["reason"]
    assert _item(ROW) == (
        ROW.rule,
        {"id": 5, "market": "um", "symbols": "BTCUSDT", "what": "1m", "created": 77, "source": "page"},
    )


async def test_rules_of_the_settings_come_first_and_have_no_number() -> None:
    async with administered(services(preload="spot:*USDT@1m,1h")) as one:
        first, second = (await one.get("preload"))["items"]
    assert (first["id"], first["source"], first["matches"], first["series"]) == (None, "settings", 2, 4)
    assert (second["id"], second["source"], second["matches"], second["series"]) == (5, "page", 1, 1)


async def test_without_a_cache_nothing_is_counted() -> None:
    async with administered(services(has_cache=False)) as one:
        (item,) = (await one.get("preload"))["items"]
    assert (item["matches"], item["series"]) == (None, None)


async def test_rule_is_added_together_with_its_row_of_the_audit() -> None:
    rows = FakeRepository(preload_add=ROW)
    async with administered(services(rows)) as one:
        found = await one.post("preload", BODY, 201)
    assert found["id"] == 5
    assert rows.asked[0][1] == (parse_rule("um", "BTCUSDT", "1m"),)
    audited = {"id": 5, "market": "um", "symbols": "BTCUSDT", "what": "1m"}
    assert rows.audit == [("root", "127.0.0.1", "preload.add", "um:BTCUSDT@1m", None, audited)]


async def test_rule_that_is_there_is_a_conflict_with_that_one() -> None:
    rows = FakeRepository(preload_add=DuplicateRule(ROW))
    async with administered(services(rows)) as one:
        assert_error(await one.send("POST", "preload", BODY), 409, -13, reason="rule_exists", id=5)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"market": "pm"}, "market"), ({"symbols": "a b"}, "symbols"), ({"what": "2m"}, "what")],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "preload"), ("PUT", "preload/5"), ("POST", "preload/estimate")]
)
async def test_rule_that_cannot_be_read_names_its_field_and_changes_nothing(
    change: dict[str, str], field: str, method: str, path: str
) -> None:
    rows = FakeRepository()
    async with administered(services(rows)) as one:
        body = assert_error(await one.send(method, path, BODY | change), 400, -4, field=field)
    assert body["data"]["reason"]
    assert rows.asked == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_rule_that_is_gone_is_not_there(method: str) -> None:
    async with administered(services(FakeRepository(preload_get=None))) as one:
        body = BODY if method == "PUT" else None
        assert_error(await one.send(method, "preload/7", body), 404, -3)


async def test_removed_rule_is_in_the_audit_as_it_was() -> None:
    rows = FakeRepository(preload_get=ROW, preload_remove=True)
    async with administered(services(rows)) as one:
        assert (await one.send("DELETE", "preload/5")).status == 200
    assert rows.audit[0][2:4] == ("preload.remove", "um:BTCUSDT@1m")
    assert rows.audit[0][5] is None


async def test_estimate_tells_cost_and_some_symbols_and_saves_nothing() -> None:
    rows = FakeRepository()
    async with administered(services(rows)) as one:
        found = await one.post("preload/estimate", BODY | {"symbols": "ETH*"})
    assert (found["symbols"], found["series"], found["held"]) == (2, 2, 0)
    assert found["sample"] == ["ETHUSDT", "ETHBTC"]
    assert rows.asked == []


async def test_estimate_needs_a_cache_and_a_market_that_is_on() -> None:
    async with administered(services(has_cache=False)) as one:
        assert_error(await one.send("POST", "preload/estimate", BODY), 404, -3, reason="cache_off")
    async with administered(services(upstream_fapi="off")) as one:
        reply = await one.send("POST", "preload/estimate", BODY)
        assert_error(reply, 400, -4, field="market", reason="market_off")


async def test_symbols_that_are_not_known_yet_are_waited_for_and_then_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.05)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(Symbols, "is_loaded", False)
    async with administered(services()) as one:
        reply = await one.send("POST", "preload/estimate", BODY)
    assert_error(reply, 503, -10, reason="symbols_wait")
    assert reply.header("retry-after") == "1"
