"""The users' API and the audit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import Repository
from tests.support.admin import PASSWORD, Browser, assert_error
from tests.support.running import Running

pytestmark = pytest.mark.component

GOOD = "a rather long password"


async def test_user_is_added_disabled_given_a_new_password_and_removed(admin: Running, root: Browser) -> None:
    made = await root.post("users", {"username": "Trader", "password": GOOD}, 201)
    assert made["username"] == "Trader"
    assert made["enabled"] is True
    assert made["must_change"] is False
    assert made["last_login"] is None
    assert made["self"] is False
    assert "password" not in made
    trader = root.again()
    assert (await trader.log_in("trader", GOOD)).status == 200
    items = (await root.get("users"))["items"]
    assert [item["username"] for item in items] == ["root", "Trader"]
    assert [item["self"] for item in items] == [True, False]
    assert items[1]["last_login"] >= items[1]["created"]
    assert items[1]["last_login_ip"] == "127.0.0.1"
    path = f"users/{made['id']}"
    changed = (await root.send("PATCH", path, {"password": "yet another password"})).json()
    assert "password" not in changed
    assert (await trader.send("GET", "me")).status == 401
    assert (await trader.log_in("trader", GOOD)).status == 401
    assert (await trader.log_in("trader", "yet another password")).status == 200
    assert (await root.send("DELETE", path)).json() == {}
    assert_error(await root.send("DELETE", path), 404, -3)
    assert_error(await root.send("PATCH", path, {"enabled": True}), 404, -3)
    assert (await trader.send("GET", "me")).status == 401


async def test_made_up_password_is_shown_once_and_has_to_be_changed(admin: Running, root: Browser) -> None:
    made = await root.post("users", {"username": "new"}, 201)
    assert len(made["password"]) >= 16
    new = root.again()
    assert (await new.log_in("new", made["password"])).json()["must_change"] is True
    assert_error(await new.send("POST", "whitelist", {"address": "10.0.0.1"}), 403, -12)
    await new.post("password", {"old": made["password"], "new": GOOD})
    await new.post("whitelist", {"address": "10.0.0.1"}, 201)
    reset = (await root.send("PATCH", f"users/{made['id']}", {"password": None})).json()
    assert reset["password"] not in (made["password"], GOOD)
    assert reset["must_change"] is True
    assert (await new.log_in("new", reset["password"])).status == 200
    rows = (await root.get("audit"))["items"]
    assert made["password"] not in repr(rows)
    assert reset["password"] not in repr(rows)


async def test_user_that_cannot_be_made_is_explained(admin: Running, root: Browser) -> None:
    for body, field in (
        ({}, "username"),
        ({"username": ""}, "username"),
        ({"username": "with space", "password": GOOD}, "username"),
        ({"username": "x" * 65, "password": GOOD}, "username"),
        ({"username": "<script>", "password": GOOD}, "username"),
        ({"username": "ok", "password": "short"}, "password"),
        ({"username": "someuser01", "password": "someuser01"}, "password"),
        ({"username": "ok", "password": GOOD, "enabled": True}, "enabled"),
    ):
        assert_error(await root.send("POST", "users", body), 400, -4, field=field)
    for name in ("root", "ROOT", " Root "):
        reply = await root.send("POST", "users", {"username": name, "password": GOOD})
        assert_error(reply, 409, -13, field="username")
    assert len((await root.get("users"))["items"]) == 1


async def test_last_enabled_user_can_neither_be_removed_nor_disabled(admin: Running, root: Browser) -> None:
    assert_error(await root.send("PATCH", "users/1", {"enabled": False}), 409, -13)
    assert_error(await root.send("DELETE", "users/1"), 409, -13)
    made = await root.post("users", {"username": "second", "password": GOOD}, 201)
    await root.send("PATCH", f"users/{made['id']}", {"enabled": False})
    assert_error(await root.send("DELETE", "users/1"), 409, -13)
    await root.send("PATCH", f"users/{made['id']}", {"enabled": True})
    assert (await root.send("DELETE", "users/1")).status == 200
    assert (await root.send("GET", "me")).status == 401


async def test_own_password_is_not_changed_without_the_old_one(admin: Running, root: Browser) -> None:
    for password in (GOOD, None):
        reply = await root.send("PATCH", "users/1", {"password": password})
        assert_error(reply, 400, -4, field="password")
    assert (await root.again().log_in()).status == 200


async def test_audit_tells_who_changed_what_when_and_from_where(admin: Running, root: Browser) -> None:
    before_ms = admin.gateway.clock.now_ms()
    entry = await root.post("whitelist", {"address": "10.0.0.1", "note": "desk"}, 201)
    await root.send("PATCH", f"whitelist/{entry['id']}", {"enabled": False, "note": "gone"})
    await root.send("DELETE", f"whitelist/{entry['id']}")
    made = await root.post("users", {"username": "second", "password": GOOD}, 201)
    await root.send("PATCH", f"users/{made['id']}", {"enabled": False})
    await root.send("PATCH", f"users/{made['id']}", {"password": GOOD + "!"})
    await root.send("DELETE", f"users/{made['id']}")
    token = await root.post("tokens", {"name": "t", "scope": "read"}, 201)
    await root.send("DELETE", f"tokens/{token['id']}")
    await root.send("DELETE", "sessions")
    await root.send("DELETE", "refused")
    await root.send("PUT", "log", {"enabled": True})
    await root.post("password", {"old": PASSWORD, "new": GOOD})
    await root.post("logout")
    await root.log_in("root", GOOD)
    rows = (await root.get("audit"))["items"]
    assert all(row["time"] >= before_ms - 1000 and row["ip"] == "127.0.0.1" for row in rows)
    assert {row["actor"] for row in rows} == {"root"}
    by_action = {row["action"]: row for row in rows}
    assert set(by_action) >= {
        "login", "logout", "password.change", "session.end_others", "refused.clear", "log.change",
        "token.add", "token.remove", "user.add", "user.change", "user.password", "user.remove",
        "whitelist.add", "whitelist.change", "whitelist.remove",
    }  # fmt: skip
    changed = by_action["whitelist.change"]
    assert changed["subject"] == "10.0.0.1"
    assert changed["before"] == {"address": "10.0.0.1", "note": "desk", "enabled": True}
    assert changed["after"] == {"address": "10.0.0.1", "note": "gone", "enabled": False}
    assert by_action["whitelist.remove"]["after"] is None
    assert by_action["user.change"]["before"]["enabled"] is True
    assert by_action["user.change"]["after"]["enabled"] is False
    assert by_action["token.add"]["after"] == {
        "id": token["id"],
        "name": "t",
        "scope": "read",
        "expires": None,
    }
    for secret in (GOOD, PASSWORD, token["token"], "argon2"):
        assert secret not in repr(rows)


async def test_every_successful_write_leaves_a_row_of_the_audit(admin: Running, root: Browser) -> None:
    writes = (
        ("POST", "whitelist", {"address": "10.0.0.1"}),
        ("PATCH", "whitelist/2", {"note": "x"}),
        ("POST", "whitelist/bulk", {"action": "disable", "ids": [2]}),
        ("POST", "whitelist/import", {"text": "10.0.0.2"}),
        ("DELETE", "whitelist/2", None),
        ("DELETE", "refused", None),
        ("POST", "users", {"username": "second", "password": GOOD}),
        ("PATCH", "users/2", {"enabled": False}),
        ("DELETE", "users/2", None),
        ("POST", "tokens", {"name": "t"}),
        ("DELETE", "tokens/1", None),
        ("DELETE", "sessions", None),
        ("PUT", "log", {"enabled": True}),
        ("DELETE", "logs", None),
        ("POST", "preload", {"market": "spot", "symbols": "BTCUSDT", "what": "1m"}),
        ("POST", "password", {"old": PASSWORD, "new": GOOD}),
        ("POST", "logout", None),
    )
    store = admin.gateway.store
    latest = (await store.audit_list(limit=1))[0].id
    for method, path, body in writes:
        reply = await root.send(method, path, body)
        assert reply.status in (200, 201), (method, path, reply.body)
        row = (await store.audit_list(limit=1))[0]
        assert row.id > latest, (method, path)
        assert row.actor == "root"
        latest = row.id


async def test_audit_is_paged_and_filtered(admin: Running, root: Browser) -> None:
    for number in range(12):
        await root.post("whitelist", {"address": f"10.0.0.{number}"}, 201)
    found, before = [], ""
    while True:
        page = await root.get(f"audit?limit=5{before}")
        found += page["items"]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert len(found) == 13
    assert [row["id"] for row in found] == sorted((row["id"] for row in found), reverse=True)
    assert [row["action"] for row in (await root.get("audit?action=login"))["items"]] == ["login"]
    assert (await root.get("audit?actor=nobody"))["items"] == []
    for query in ("limit=0", "limit=1001", "limit=x", "before=-1", "before=1e3", "before=%D9%A1"):
        assert_error(await root.send("GET", f"audit?{query}"), 400, -4)


async def test_change_and_its_audit_row_are_one_transaction(
    admin: Running, root: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resender.store import Repository

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no audit, no change")

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "audit_add", broken)
        assert (await root.send("POST", "whitelist", {"address": "10.0.0.1"})).status == 500
        assert (await root.send("POST", "users", {"username": "x", "password": GOOD})).status == 500
        assert (await root.again().log_in()).status == 500
    assert len((await root.get("whitelist"))["items"]) == 1
    assert len((await root.get("users"))["items"]) == 1
    assert len((await root.get("sessions"))["items"]) == 1


async def test_no_change_without_its_row_of_the_audit(
    admin: Running, root: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = root.again()
    await other.log_in()
    token = (await root.post("tokens", {"name": "t"}, 201))["id"]
    session = (await other.get("me"))["session_id"]
    rule = {"market": "um", "symbols": "BTCUSDT", "what": "1m"}
    rule_id = (await root.post("preload", rule, 201))["id"]

    async def state() -> list[Any]:
        names = ("sessions", "tokens", "preload", "log", "whitelist", "users", "refused")
        found = [await root.get(name) for name in names]
        for row in found[0]["items"]:
            row.pop("last_seen")
        return found

    before = await state()

    def broken(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "audit_add", broken)
        for method, path, body in (
            ("POST", "logout", None),
            ("DELETE", "sessions", None),
            ("DELETE", f"sessions/{session}", None),
            ("DELETE", f"tokens/{token}", None),
            ("POST", "preload", {**rule, "what": "1h"}),
            ("PUT", f"preload/{rule_id}", {**rule, "what": "1d"}),
            ("DELETE", f"preload/{rule_id}", None),
            ("PUT", "log", {"enabled": True, "max_rows": 5}),
            ("POST", "password", {"old": PASSWORD, "new": "another good one 7"}),
            ("DELETE", "refused", None),
        ):
            assert_error(await root.send(method, path, body), 503, -8)
        assert (await other.send("POST", "logout")).status == 503
    assert await state() == before
    assert (await other.send("GET", "me")).status == 200


async def test_of_two_who_remove_each_other_at_once_one_stays(admin: Running, root: Browser) -> None:
    made = await root.post("users", {"username": "second", "password": "a good one 1234"}, 201)
    second = root.again()
    assert (await second.log_in("second", "a good one 1234")).status == 200
    me = next(row["id"] for row in (await root.get("users"))["items"] if row["username"] == "root")
    replies = await asyncio.gather(
        root.send("DELETE", f"users/{made['id']}"), second.send("DELETE", f"users/{me}")
    )
    assert 200 in {reply.status for reply in replies}
    assert len(await admin.gateway.store.user_list()) == 1
