"""How long a log-in lasts, what ends it, and what a token may."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from resender.errors import StoreError
from resender.store import Repository
from tests.support.admin import PASSWORD, Browser, MovedClock, assert_error
from tests.support.running import Running, make_config, running
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

NEW = "an entirely other one 9"


async def status(browser: Browser) -> int:
    return (await browser.send("GET", "me")).status


async def test_secrets_of_sessions_and_tokens_are_stored_as_digests(
    admin: Running, root: Browser, tmp_path: Path
) -> None:
    token = (await root.post("tokens", {"name": "script"}, 201))["token"]
    secret = root.cookies["resender_session"]
    with sqlite3.connect(tmp_path / "resender.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    for text in (secret, token):
        assert text not in dump
        assert hashlib.sha256(text.encode()).hexdigest() in dump
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in dump


async def test_two_log_ins_have_different_secrets(admin: Running, root: Browser) -> None:
    other = root.again()
    await other.log_in()
    assert other.cookies["resender_session"] != root.cookies["resender_session"]


async def test_log_in_makes_a_new_secret_and_ends_the_one_the_browser_had(
    admin: Running, root: Browser
) -> None:
    before = root.again()
    before.cookies = dict(root.cookies)
    await root.log_in()
    assert root.cookies["resender_session"] != before.cookies["resender_session"]
    assert await status(before) == 401
    # A secret chosen by somebody else is never taken over.
    planted = root.again()
    planted.cookies["resender_session"] = "B" * 43
    await planted.log_in()
    assert planted.cookies["resender_session"] != "B" * 43


async def test_session_ends_when_it_is_not_used(tmp_path: Path, upstream: RawUpstream) -> None:
    moved = MovedClock()
    settings = {"admin_password": PASSWORD, "admin_idle_minutes": 30, "cache_enabled": False}
    async with running(make_config(tmp_path, upstream.url, **settings), clock=moved.clock) as run:
        browser = Browser(run.port)
        await browser.log_in()
        for _ in range(10):
            moved.move(25 * 60)
            assert await status(browser) == 200
        moved.move(31 * 60)
        assert await status(browser) == 401
        assert await run.gateway.store.session_list(1) == []


async def test_a_page_nobody_is_at_keeps_no_session_alive(tmp_path: Path, upstream: RawUpstream) -> None:
    moved = MovedClock()
    settings = {"admin_password": PASSWORD, "admin_idle_minutes": 30, "cache_enabled": False}
    async with running(make_config(tmp_path, upstream.url, **settings), clock=moved.clock) as run:
        browser = Browser(run.port)
        await browser.log_in()
        background = ("X-Background", "1")
        for _ in range(2):
            moved.move(14 * 60)
            assert (await browser.send("GET", "me", None, background)).status == 200
        moved.move(3 * 60)
        assert (await browser.send("GET", "me", None, background)).status == 401


async def test_session_ends_after_its_longest_time_even_when_used(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    moved = MovedClock()
    settings = {"admin_password": PASSWORD, "admin_session_hours": 5, "cache_enabled": False}
    async with running(make_config(tmp_path, upstream.url, **settings), clock=moved.clock) as run:
        browser = Browser(run.port)
        await browser.log_in()
        for _ in range(4):
            moved.move(3600)
            assert await status(browser) == 200
        moved.move(3601)
        assert await status(browser) == 401


async def test_password_change_ends_all_other_sessions_and_renews_this_one(
    admin: Running, root: Browser
) -> None:
    other, old = root.again(), root.again()
    await other.log_in()
    old.cookies = dict(root.cookies)
    assert await status(other) == 200
    await root.post("password", {"old": PASSWORD, "new": NEW})
    assert await status(root) == 200
    assert await status(other) == 401
    assert await status(old) == 401
    assert (await root.again().log_in()).status == 401
    assert (await root.again().log_in("root", NEW)).status == 200
    rows = (await root.get("audit"))["items"]
    assert "password.change" in [row["action"] for row in rows]
    assert NEW not in repr(rows)


async def test_password_change_asks_for_the_old_one_and_slows_guessing(admin: Running, root: Browser) -> None:
    statuses = [
        (await root.send("POST", "password", {"old": f"guess {number}", "new": NEW})).status
        for number in range(5)
    ]
    assert statuses == [401, 401, 401, 429, 429]
    assert await status(root) == 200


async def test_own_sessions_are_listed_and_ended_one_by_one_or_all_others(
    admin: Running, root: Browser
) -> None:
    await root.post("users", {"username": "second", "password": NEW}, 201)
    stranger = root.again()
    await stranger.log_in("second", NEW)
    browsers = [root.again() for _ in range(3)]
    for number, browser in enumerate(browsers):
        browser.headers = (("User-Agent", f"browser {number}"),)
        await browser.log_in()
    items = (await root.get("sessions"))["items"]
    assert len(items) == 4
    assert [item["current"] for item in items].count(True) == 1
    assert {item["user_agent"] for item in items} == {"", "browser 0", "browser 1", "browser 2"}
    by_agent = {item["user_agent"]: item["id"] for item in items}
    assert (await root.send("DELETE", f"sessions/{by_agent['browser 0']}")).status == 200
    assert [await status(browser) for browser in browsers] == [401, 200, 200]
    assert_error(await root.send("DELETE", f"sessions/{by_agent['browser 0']}"), 404, -3)
    # Somebody else's session is none of one's own.
    foreign = (await stranger.get("sessions"))["items"][0]["id"]
    assert_error(await root.send("DELETE", f"sessions/{foreign}"), 404, -3)
    assert (await root.send("DELETE", "sessions")).json() == {"removed": 2}
    assert [await status(browser) for browser in browsers] == [401, 401, 401]
    assert (await status(root), await status(stranger)) == (200, 200)


async def test_log_out_ends_the_session_on_the_server(admin: Running, root: Browser) -> None:
    kept = root.again()
    kept.cookies = dict(root.cookies)
    await root.post("logout")
    assert "resender_session" not in root.cookies
    assert await status(kept) == 401
    assert await admin.gateway.store.session_list(1) == []


async def test_session_of_a_removed_or_disabled_user_ends_at_once(admin: Running, root: Browser) -> None:
    made = await root.post("users", {"username": "second", "password": NEW}, 201)
    second = root.again()
    await second.log_in("second", NEW)
    token = (await second.post("tokens", {"name": "t"}, 201))["token"]
    script = Browser(admin.port, ("Authorization", f"Bearer {token}"))
    assert (await status(second), await status(script)) == (200, 200)
    await root.send("PATCH", f"users/{made['id']}", {"enabled": False})
    assert (await status(second), await status(script)) == (401, 401)
    await root.send("PATCH", f"users/{made['id']}", {"enabled": True})
    assert (await status(second), await status(script)) == (401, 200)
    await root.send("DELETE", f"users/{made['id']}")
    assert await status(script) == 401


async def test_session_ended_by_another_process_is_over_within_seconds(
    admin: Running, root: Browser, moved: MovedClock
) -> None:
    assert await status(root) == 200
    await admin.gateway.store.session_remove_others(1, None)
    moved.move(5)
    assert await status(root) == 401


async def test_polling_does_not_keep_the_database_busy(
    admin: Running, root: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = admin.gateway.store
    asked = []
    find = store.session_find

    async def spy(digest: str):  # type: ignore[no-untyped-def]
        asked.append(digest)
        return await find(digest)

    monkeypatch.setattr(store, "session_find", spy)
    for _ in range(20):
        await root.get("me")
    assert len(asked) <= 2


async def test_token_of_scope_read_reads_and_writes_nothing(admin: Running, root: Browser) -> None:
    made = await root.post("tokens", {"name": "reader", "scope": "read", "expires": None}, 201)
    assert made["token"].startswith("rsr_")
    assert len(made["token"]) == 47
    script = Browser(admin.port, ("Authorization", f"Bearer {made['token']}"))
    assert (await script.get("me"))["scope"] == "read"
    assert (await script.get("whitelist"))["items"]
    for method, path, body in (
        ("POST", "whitelist", {"address": "203.0.113.5"}),
        ("PATCH", "whitelist/1", {"enabled": False}),
        ("DELETE", "whitelist/1", None),
        ("PUT", "log", {"enabled": True}),
        ("POST", "doctor", {}),
    ):
        assert_error(await script.send(method, path, body), 403, -12)
    assert len((await root.get("whitelist"))["items"]) == 1


async def test_token_of_scope_write_manages_the_whitelist_but_no_people(
    admin: Running, root: Browser
) -> None:
    made = await root.post("tokens", {"name": "writer", "scope": "write"}, 201)
    script = Browser(admin.port, ("Authorization", f"Bearer {made['token']}"))
    entry = await script.post("whitelist", {"address": "203.0.113.5", "note": "by script"}, 201)
    assert (await script.send("DELETE", f"whitelist/{entry['id']}")).status == 200
    for method, path, body in (
        ("POST", "tokens", {"name": "more"}),
        ("DELETE", f"tokens/{made['id']}", None),
        ("POST", "users", {"username": "eve", "password": NEW}),
        ("PATCH", "users/1", {"password": NEW}),
        ("DELETE", "users/1", None),
        ("DELETE", "sessions", None),
        ("DELETE", "sessions/1", None),
        ("POST", "password", {"old": PASSWORD, "new": NEW}),
        ("POST", "logout", None),
    ):
        assert_error(await script.send(method, path, body), 403, -12)
    rows = (await root.get("audit"))["items"]
    assert rows[0]["action"] == "whitelist.remove"
    assert rows[0]["actor"] == f"root/token {made['id']}"
    assert made["token"] not in repr(rows)


async def test_token_ends_when_it_expires_or_is_revoked(
    admin: Running, root: Browser, moved: MovedClock
) -> None:
    expires = admin.gateway.clock.now_ms() + 3_600_000
    short = await root.post("tokens", {"name": "short", "expires": expires}, 201)
    long = await root.post("tokens", {"name": "long"}, 201)
    scripts = [Browser(admin.port, ("Authorization", f"Bearer {each['token']}")) for each in (short, long)]
    assert [await status(script) for script in scripts] == [200, 200]
    items = (await root.get("tokens"))["items"]
    assert [item["name"] for item in items] == ["short", "long"]
    assert all(item["last_used"] and item["last_used_ip"] == "127.0.0.1" for item in items)
    assert "token" not in items[0]
    moved.move(3601)
    assert [await status(script) for script in scripts] == [401, 200]
    assert (await root.send("DELETE", f"tokens/{long['id']}")).status == 200
    assert [await status(script) for script in scripts] == [401, 401]
    assert_error(await root.send("DELETE", f"tokens/{long['id']}"), 404, -3)


async def test_token_that_cannot_be_made_is_explained(admin: Running, root: Browser) -> None:
    for body, field in (
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "scope": "admin"}, "scope"),
        ({"name": "x", "expires": 1}, "expires"),
        ({"name": "x", "expires": "tomorrow"}, "expires"),
        ({"name": "x", "expires": 1.5}, "expires"),
    ):
        assert_error(await root.send("POST", "tokens", body), 400, -4, field=field)


async def test_bearer_header_is_the_whole_story_and_no_cookie_stands_in_for_it(
    admin: Running, root: Browser
) -> None:
    for value in ("Bearer nonsense", "Bearer ", "Basic cm9vdDpyb290", "rsr_", f"Bearer rsr_{'x' * 43}"):
        assert (await root.send("GET", "me", None, ("Authorization", value))).status == 401
    twice = (("Authorization", "Bearer a"), ("Authorization", "Bearer b"))
    assert (await root.send("GET", "me", None, *twice)).status == 401


async def test_token_in_the_query_is_not_looked_at(admin: Running, root: Browser) -> None:
    token = (await root.post("tokens", {"name": "t"}, 201))["token"]
    for name in ("token", "access_token", "authorization"):
        assert (await root.again().send("GET", f"me?{name}={token}")).status == 401


async def test_database_out_of_order_is_a_503_and_logs_nobody_out(
    admin: Running, root: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resender.errors import StoreError

    async def broken(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(admin.gateway.store, "whitelist_list", broken)
    reply = await root.send("GET", "whitelist")
    assert_error(reply, 503, -8)
    assert "disk" not in reply.body.decode()
    assert await status(root) == 200


async def test_full_disk_keeps_nobody_from_reading(
    admin: Running, root: Browser, moved: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await root.post("tokens", {"name": "t"}, 201))["token"]

    def broken(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Repository, "session_touch", broken)
    monkeypatch.setattr(Repository, "token_touch", broken)
    moved.move(120)
    assert (await root.send("GET", "whitelist")).status == 200
    bearer = ("Authorization", f"Bearer {token}")
    assert (await root.again().send("GET", "whitelist", None, bearer)).status == 200


async def test_who_was_put_out_by_another_process_changes_nothing_any_more(
    admin: Running, root: Browser
) -> None:
    token = (await root.post("tokens", {"name": "t", "scope": "write"}, 201))["token"]
    bearer = root.again()
    bearer.headers = (("Authorization", f"Bearer {token}"),)
    await root.post("users", {"username": "second", "password": "a good one 1234"}, 201)
    for browser in (root, bearer):
        assert (await browser.send("GET", "whitelist")).status == 200

    def elsewhere(repository: Repository) -> None:
        user = repository.user_get("root")
        assert user is not None
        repository.user_update(user.id, enabled=False)

    # As the command line does, past this process's memory of log-ins.
    await admin.gateway.store.run(elsewhere)
    for browser in (root, bearer):
        assert_error(await browser.send("POST", "whitelist", {"address": "10.0.0.1"}), 401, -11)
