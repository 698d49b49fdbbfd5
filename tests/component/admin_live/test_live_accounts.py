"""Accounts by the admin API, with an exchange behind: added, linked, followed live, removed; secrets stay inside."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from resender.api_keys import digest_of, hint_of
from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET
from tests.support.account_lab import AccountLab, account_lab
from tests.support.client import call
from tests.support.person import Person, log_in
from tests.support.running import wait_until

pytestmark = pytest.mark.component

KEY = {"name": "bot", "market": "um", "mode": "key"}
OWN = {"name": "main", "market": "spot", "mode": "secret", "key": READ_KEY, "secret": READ_SECRET}
SECRETS = (API_SECRET, READ_SECRET, READ_KEY, API_KEY)


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[tuple[AccountLab, Person]]:
    async with account_lab(folder) as lab:
        yield lab, await log_in(lab.gateway, lab.run.port)


async def seen(lab: AccountLab, me: Person, market: Market = Market.UM) -> dict[str, Any]:
    """Have a client make a signed call; return how its key is shown."""
    assert (await lab.open_orders(market)).status == 200
    found = (await me.json("accounts"))["seen"]
    return next(one for one in found if one["market"] == market.value)


async def resting(lab: AccountLab) -> dict[str, Any]:
    """Place an order that rests."""
    ticker = lab.sandbox.market(Market.UM).book_ticker("BTCUSDT", lab.sandbox.exchange.now())
    return await lab.place(Market.UM, "BTCUSDT", quantity="0.01", price=f"{float(ticker.bid) * 0.8:.1f}")


async def test_key_that_was_seen_is_watched_and_then_no_longer_among_those_seen(tmp_path: Path) -> None:
    async with watching(tmp_path) as (lab, me):
        assert await me.json("accounts") == {"items": [], "seen": []}
        key = await seen(lab, me)
        assert (key["digest"], key["hint"], key["address"], key["calls"]) == (
            digest_of(API_KEY),
            hint_of(API_KEY),
            "127.0.0.1",
            1,
        )
        made = await me.send("POST", "accounts", {**KEY, "digest": key["digest"]})
        assert made.status == 201
        item = made.json()
        assert (item["name"], item["market"], item["mode"], item["state"]) == ("bot", "um", "key", "waiting")
        (held,) = item["keys"]
        assert (held["hint"], held["source"], held["addresses"]) == (
            hint_of(API_KEY),
            "linked",
            ["127.0.0.1"],
        )
        await lab.until_hit(Market.UM)
        listed = await me.json("accounts")
        assert listed["seen"] == []
        (item,) = listed["items"]
        assert (item["state"], item["why"], item["hits"]) == ("live", "", 1)
        assert sum(item["misses"].values()) >= 2
        assert "orders" not in item, "a list is short"


async def test_account_is_followed_by_what_changes_in_it(tmp_path: Path) -> None:
    async with watching(tmp_path) as (lab, me):
        await lab.add("um", "key")
        await lab.until_hit(Market.UM)
        async with me.stream("accounts/1/events") as stream:
            first = await stream.until("account")
            assert (first["state"], first["orders"], first["ended"]) == ("live", [], [])
            order = await resting(lab)
            number = str(order["orderId"])

            async def told(is_open: bool) -> dict[str, Any]:
                while True:
                    for row in (await stream.until("change"))["orders"]:
                        if row["orderId"] == number and row["open"] is is_open:
                            return row

            row = await told(True)
            assert (row["kind"], row["symbol"], row["side"], row["status"]) == ("um", "BTCUSDT", "BUY", "NEW")
            # It is the same as who looks now gets.
            (now,) = (await me.json("accounts/1"))["orders"]
            assert now == {name: value for name, value in row.items() if name != "open"}
            await lab.signed("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=number)
            assert (await told(False))["status"] == "CANCELED"
        whole = await me.json("accounts/1")
        assert (whole["orders"], [row["orderId"] for row in whole["ended"]]) == ([], [number])


async def test_stream_of_an_account_gives_signs_of_life_and_ends_when_it_is_removed(tmp_path: Path) -> None:
    async with watching(tmp_path) as (lab, me):
        await lab.add("um", "key")
        async with me.stream("accounts/1/events") as stream:
            assert (await stream.until("account"))["why"] == "waiting for its key"
            assert (await stream.until("change", 4))["orders"] == []
            assert (await me.send("DELETE", "accounts/1")).json() == {}
            assert await stream.until("end") == {"reason": "dropped"}
        assert (await me.get("accounts/1/events")).status == 404


async def test_key_of_its_own_is_checked_sealed_and_gone_without_a_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = b""
    async with watching(tmp_path) as (lab, me):
        key = await seen(lab, me, Market.SPOT)
        # Blanks come with what is copied.
        made = await me.send("POST", "accounts", {**OWN, "secret": f"  {READ_SECRET}\n"})
        assert made.status == 201
        linked = await me.send("POST", "accounts/1/keys", {"digest": key["digest"]})
        assert [each["source"] for each in linked.json()["keys"]] == ["own", "linked"]
        account = lab.gateway.accounts.find(1)
        assert account is not None
        await wait_until(lambda: account.state()["state"] == "live", 20)
        await lab.until_hit(Market.SPOT)
        for path in ("accounts", "accounts/1", "audit"):
            answers += (await me.get(path)).raw
        row = (await lab.gateway.store.run(lambda repository: repository.account_get(1))) or None
        assert row is not None
        assert row.sealed is not None
        kept = [path.read_bytes() for path in tmp_path.glob("resender.db*")]
        assert any(row.sealed.encode() in content for content in kept)

        own = digest_of(READ_KEY)
        refused = await me.send("DELETE", f"accounts/1/keys/{own}")
        assert (refused.status, refused.json()["data"]["reason"]) == (409, "own_key")
        assert (await me.send("DELETE", f"accounts/1/keys/{key['digest']}")).status == 200
        assert (await me.send("DELETE", f"accounts/1/keys/{key['digest']}")).status == 404
        assert (await me.send("DELETE", "accounts/1")).status == 200
        assert lab.gateway.accounts.all == []
        # While the gateway still runs: neither in the database nor in its log.
        for path in tmp_path.glob("resender.db*"):
            assert row.sealed.encode() not in path.read_bytes(), path
        told = [(await me.audit(f"account.{action}"))[0] for action in ("add", "link", "unlink", "remove")]
        assert [(one.actor, one.ip, one.subject) for one in told] == [("tester", "127.0.0.1", "main")] * 4
        assert orjson.loads(told[0].after)["key"] == f"...{hint_of(READ_KEY)}"
        assert orjson.loads(told[2].before)["key"] == f"...{hint_of(API_KEY)}"
    everything = answers + caplog.text.encode()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            everything += path.read_bytes()
    for secret in SECRETS:
        assert secret.encode() not in everything


@pytest.mark.parametrize(
    ("body", "status", "field", "reason"),
    [
        ({**KEY, "name": ""}, 400, "name", "bad_name"),
        ({**KEY, "name": "a b"}, 400, "name", "bad_name"),
        ({**KEY, "name": "x" * 65}, 400, "name", "too_long"),
        ({**KEY, "market": "options"}, 400, "market", None),
        ({**KEY, "market": "spot"}, 400, "mode", "mode_of_market"),
        ({**KEY, "mode": "signed"}, 400, "mode", "mode_of_market"),
        ({**KEY, "key": "short"}, 400, "key", "bad_key"),
        ({**KEY, "key": "x" * 40 + "/../"}, 400, "key", "bad_key"),
        ({**KEY, "digest": "0" * 64}, 400, "digest", "not_seen"),
        ({**KEY, "public_key": "-----BEGIN PUBLIC KEY-----"}, 400, "key", "missing"),
        ({**KEY, "key": API_KEY, "public_key": READ_SECRET}, 400, "public_key", "bad_public_key"),
        ({**OWN, "key": None}, 400, "key", "secret_missing"),
        ({**OWN, "secret": "  "}, 400, "secret", "secret_missing"),
        ({**OWN, "secret": "no secret at all!"}, 400, "secret", "bad_secret"),
        ({**OWN, "secret": API_SECRET}, 400, "key", "key_refused"),
        ({**OWN, "key": API_KEY, "secret": API_SECRET}, 400, "key", "key_refused"),
        ({**KEY, "name": "THERE"}, 409, "name", "account_exists"),
        ({**KEY, "key": API_KEY}, 409, "key", "key_taken"),
        ({**KEY, "extra": 1}, 400, "extra", None),
    ],
)
async def test_account_that_cannot_be_says_which_field_and_why_and_nothing_is_stored(
    tmp_path: Path, body: dict[str, Any], status: int, field: str, reason: str | None
) -> None:
    async with watching(tmp_path) as (lab, me):
        await lab.add("um", "key", "there")
        reply = await me.send("POST", "accounts", body)
        told = reply.json()
        assert (reply.status, told["data"]["field"], told["data"].get("reason")) == (status, field, reason)
        for secret in (API_SECRET, READ_SECRET):
            assert secret not in reply.raw.decode("latin-1")
        assert len((await me.json("accounts"))["items"]) == 1
        assert await me.audit("account.add") == []


async def test_what_is_not_there_is_404(tmp_path: Path) -> None:
    async with watching(tmp_path) as (_, me):
        for method, path, body in (
            ("GET", "accounts/7", None),
            ("GET", "accounts/7/events", None),
            ("DELETE", "accounts/7", None),
            ("POST", "accounts/7/keys", {"key": API_KEY}),
            ("DELETE", f"accounts/7/keys/{'0' * 64}", None),
            ("DELETE", "accounts/7/keys/short", None),
        ):
            reply = await me.send(method, path, body)
            assert (reply.status, reply.json()["code"]) == (404, -3), path


async def test_key_of_another_account_cannot_be_linked_and_none_is_no_key(tmp_path: Path) -> None:
    async with watching(tmp_path) as (lab, me):
        await lab.add("um", "key", "first")
        await lab.add("um", "key", "second", digest=None)
        reply = await me.send("POST", "accounts/2/keys", {"key": API_KEY})
        told = {"field": "key", "reason": "key_taken", "id": 1, "name": "first"}
        assert (reply.status, reply.json()["data"]) == (409, told)
        reply = await me.send("POST", "accounts/2/keys", {})
        assert (reply.status, reply.json()["data"]) == (400, {"field": "key", "reason": "missing"})


async def test_token_and_foreign_page_change_nothing_but_a_token_may_look(tmp_path: Path) -> None:
    async with watching(tmp_path) as (lab, me):
        await lab.add("um", "key")
        token = (await me.send("POST", "tokens", {"name": "w", "scope": "write", "expires": None})).json()[
            "token"
        ]
        port = lab.run.port
        shown = ("Authorization", f"Bearer {token}")
        for headers in ((shown,), (me.cookie, ("Origin", "https://evil.example"))):
            for method, path in (
                ("POST", "accounts"), ("DELETE", "accounts/1"), ("POST", "accounts/1/keys"),
                ("DELETE", f"accounts/1/keys/{digest_of(API_KEY)}"),
            ):  # fmt: skip
                reply = await call(port, method, f"/admin/api/{path}", headers, b"{}")
                assert (reply.status, reply.json()["code"]) == (403, -12), (method, path)
        assert len(await lab.gateway.store.run(lambda repository: repository.account_list())) == 1
        assert (await call(port, "GET", "/admin/api/accounts", (shown,))).status == 200
        for path in ("accounts", "accounts/1", "accounts/1/events"):
            assert (await call(port, "GET", f"/admin/api/{path}")).status == 401
