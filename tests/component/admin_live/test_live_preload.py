from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import bench, series_of, tickers_of
from tests.support.client import call
from tests.support.person import log_in
from tests.support.running import make_config, running, wait_until

pytestmark = pytest.mark.component
RULE = {"market": "um", "symbols": "btcusdt,*USDT", "what": "1m,bookticker"}


async def test_rule_is_added_changed_and_removed_and_each_is_written_down(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        me = await log_in(one.run.gateway, one.run.port)
        made = await me.send("POST", "preload", RULE)
        assert made.status == 201
        item = made.json()
        assert (item["market"], item["symbols"], item["what"]) == ("um", "BTCUSDT,*USDT", "1m,bookTicker")
        assert item["source"] == "page"
        await wait_until(lambda: len(series_of(one.cache.states[Market.UM])) == 5)
        assert len(tickers_of(one.cache.states[Market.UM])) == 5
        listed = (await me.json("preload"))["items"]
        assert [(row["id"], row["matches"], row["series"]) for row in listed] == [(item["id"], 5, 10)]

        again = await me.send("POST", "preload", {**RULE, "symbols": "*USDT,BTCUSDT"})
        known = {"id": item["id"], "reason": "rule_exists"}
        assert (again.status, again.json()["code"], again.json()["data"]) == (409, -13, known)

        path = f"preload/{item['id']}"
        changed = await me.send("PUT", path, {"market": "um", "symbols": "ETHUSDT", "what": "5m"})
        assert (changed.status, changed.json()["symbols"], changed.json()["id"]) == (
            200,
            "ETHUSDT",
            item["id"],
        )
        await wait_until(lambda: set(series_of(one.cache.states[Market.UM])) == {("ETHUSDT", "5m")})

        assert (await me.send("DELETE", path)).json() == {}
        await wait_until(lambda: not series_of(one.cache.states[Market.UM]))
        assert (await me.send("DELETE", path)).status == 404
        assert (await me.send("PUT", path, RULE)).status == 404
        for action in ("preload.add", "preload.change", "preload.remove"):
            rows = await me.audit(action)
            assert len(rows) == 1
            assert (rows[0].actor, rows[0].ip) == ("tester", "127.0.0.1")
        assert "ETHUSDT" in rows[0].before


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({**RULE, "market": "pm"}, "market", "rule_market"),
        ({**RULE, "market": ""}, "market", "rule_market"),
        ({**RULE, "symbols": "BTC USDT"}, "symbols", "rule_character"),
        ({**RULE, "symbols": " , "}, "symbols", "rule_symbols"),
        ({**RULE, "symbols": "A" * 51}, "symbols", "rule_symbol_long"),
        ({**RULE, "symbols": ",".join(f"A{n}" for n in range(3000))}, "symbols", "rule_long"),
        ({**RULE, "symbols": "A," * 6000}, None, None),
        ({**RULE, "what": "7m"}, "what", "rule_interval"),
        ({**RULE, "what": ""}, "what", "rule_what"),
        ({**RULE, "market": "cm", "what": "1s"}, "what", "rule_interval"),
        ({"market": "um", "symbols": "A"}, "what", "missing"),
        ({**RULE, "more": 1}, "more", None),
        ({**RULE, "symbols": 5}, "symbols", None),
    ],
)
async def test_wrong_field_of_a_rule_is_named(
    tmp_path: Path, body: dict, field: str | None, reason: str | None
) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        for path in ("preload", "preload/estimate"):
            reply = await me.send("POST", path, body)
            if field is None:
                assert reply.status in (201, 503)
                continue
            data = reply.json()["data"]
            assert (reply.status, reply.json()["code"], data["field"]) == (400, -4, field)
            assert data.get("reason") == reason
            assert reply.json()["msg"]


async def test_rules_of_the_settings_are_shown_and_cannot_be_changed(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="spot:BTC*@1m") as one:
        me = await log_in(one.run.gateway, one.run.port)
        await wait_until(lambda: one.cache.states[Market.SPOT].symbols.is_loaded)
        item = (await me.json("preload"))["items"][0]
        assert (item["id"], item["source"], item["created"], item["matches"]) == (None, "settings", None, 1)


async def test_estimate_reads_the_symbols_first_and_saves_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        me = await log_in(one.run.gateway, one.run.port)
        assert not one.cache.states[Market.UM].is_started
        reply = await me.send("POST", "preload/estimate", RULE)
        assert reply.status == 200
        found = reply.json()
        assert (found["symbols"], found["series"], found["held"]) == (5, 10, 0)
        assert found["connections"] == 2
        assert found["weight"] > 0
        assert found["memory_bytes"] > 5 * 60 * 100
        assert sorted(found["sample"]) == sorted(one.cache.states[Market.UM].symbols.tradable)
        assert not series_of(one.cache.states[Market.UM])
        assert (await me.json("preload"))["items"] == []
        assert await me.audit("preload.add") == []

        nothing = await me.send("POST", "preload/estimate", {**RULE, "symbols": "XX*"})
        assert (nothing.json()["symbols"], nothing.json()["weight"], nothing.json()["sample"]) == (0, 0, [])

        await me.send("POST", "preload", RULE)
        await wait_until(lambda: len(series_of(one.cache.states[Market.UM])) == 5)
        again = (await me.send("POST", "preload/estimate", RULE)).json()
        assert (again["held"], again["weight"], again["minutes"]) == (10, 0, 0)
        assert again["memory_bytes"] == found["memory_bytes"]


async def test_estimate_without_an_exchange_says_to_try_again(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        reply = await me.send("POST", "preload/estimate", RULE)
        assert (reply.status, reply.json()["code"]) == (503, -10)
        assert reply.header("retry-after")


async def test_estimate_for_a_market_that_is_off_is_refused(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, upstream_fapi="off")) as run:
        me = await log_in(run.gateway, run.port)
        reply = await me.send("POST", "preload/estimate", RULE)
    assert (reply.status, reply.json()["data"]) == (400, {"field": "market", "reason": "market_off"})


async def test_foreign_page_and_read_token_change_nothing(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        token = (await me.send("POST", "tokens", {"name": "r", "scope": "read", "expires": None})).json()[
            "token"
        ]
        for headers in (
            (me.cookie, ("Origin", "https://evil.example")),
            (me.cookie, ("Sec-Fetch-Site", "cross-site")),
            (("Authorization", f"Bearer {token}"),),
        ):
            for method, path in (
                ("POST", "preload"), ("POST", "preload/estimate"), ("PUT", "preload/1"), ("DELETE", "preload/1"),
                ("PUT", "log"), ("DELETE", "logs"), ("POST", "doctor"),
            ):  # fmt: skip
                reply = await call(run.port, method, f"/admin/api/{path}", headers, b"{}")
                assert (reply.status, reply.json()["code"]) == (403, -12), (method, path)
        assert (await run.gateway.store.preload_list()) == []
        read = await call(run.port, "GET", "/admin/api/preload", (("Authorization", f"Bearer {token}"),))
        assert read.status == 200


async def test_rule_somebody_wrote_into_the_table_by_hand_is_shown_with_its_problem(tmp_path: Path) -> None:
    async with running(make_config(tmp_path)) as run:
        me = await log_in(run.gateway, run.port)
        made = (await me.send("POST", "preload", RULE)).json()

        def spoil(repository: Any) -> None:
            repository.models.preload.update(what="7m").execute()

        await run.gateway.store.run(spoil)
        item = (await me.json("preload"))["items"][0]
        assert (item["id"], item["what"], item["matches"], item["series"]) == (made["id"], "7m", 0, 0)
        assert "7m" in item["problem"]
        assert (await me.send("DELETE", f"preload/{made['id']}")).status == 200
