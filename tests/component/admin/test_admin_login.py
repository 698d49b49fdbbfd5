"""Logging in: what the cookie is like, how guessing is slowed, that nobody is locked out."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from resender.web.admin import password_check as proof
from tests.support.admin import PASSWORD, Browser, MovedClock, assert_error
from tests.support.client import Reply
from tests.support.running import Captured, Running, make_config, running
from tests.support.upstream import RawUpstream

# They judge moments.
pytestmark = [pytest.mark.component, pytest.mark.alone]

WRONG = {"username": "root", "password": "not the password"}
PROXY = {"trusted_proxies": "127.0.0.1", "admin_password": PASSWORD, "cache_enabled": False}


def cookie(reply: Reply, name: str) -> list[str]:
    """Return the parts of a Set-Cookie."""
    lines = [value for key, value in reply.headers if key.lower() == "set-cookie"]
    return next(line.split("; ") for line in lines if line.startswith(f"{name}="))


def coming_from(run: Running, ip: str) -> Browser:
    """A browser behind a trusted proxy, at any address."""
    return Browser(run.port, ("X-Forwarded-For", ip))


async def test_log_in_answers_who_one_is_and_sets_a_cookie_scripts_cannot_read(admin: Running) -> None:
    browser = Browser(admin.port)
    reply = await browser.log_in()
    assert reply.status == 200
    assert reply.json() == {"username": "root", "must_change": False}
    name, *flags = cookie(reply, "resender_session")
    assert len(name.partition("=")[2]) == 43
    assert {"HttpOnly", "SameSite=Strict", "Path=/admin"} <= set(flags)
    assert "Secure" not in flags
    me = await browser.get("me")
    assert (me["username"], me["scope"], me["ip"], me["must_change"]) == ("root", "write", "127.0.0.1", False)


async def test_cookie_is_secure_when_a_trusted_proxy_says_the_request_came_over_tls(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    async with running(make_config(tmp_path, upstream.url, **PROXY)) as run:
        over_tls = Browser(run.port, ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.7"))
        reply = await over_tls.log_in()
        assert "Secure" in cookie(reply, "resender_session")
        assert "Secure" in cookie(reply, "resender_known")
        plain = Browser(run.port, ("X-Forwarded-Proto", "http"))
        assert "Secure" not in cookie(await plain.log_in(), "resender_session")


async def test_cookie_is_not_secure_when_a_stranger_claims_tls(admin: Running) -> None:
    reply = await Browser(admin.port, ("X-Forwarded-Proto", "https")).log_in()
    assert "Secure" not in cookie(reply, "resender_session")


async def test_origin_is_compared_with_the_host_a_trusted_proxy_was_called_by(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    async with running(make_config(tmp_path, upstream.url, **PROXY)) as run:
        browser = Browser(run.port, ("X-Forwarded-Host", "gw.example"), ("Origin", "https://gw.example"))
        assert (await browser.log_in()).status == 200


async def test_origin_is_not_compared_with_a_host_a_stranger_names(admin: Running) -> None:
    browser = Browser(admin.port, ("X-Forwarded-Host", "evil.example"), ("Origin", "https://evil.example"))
    assert_error(await browser.log_in(), 403, -12)


async def test_unknown_user_wrong_password_and_disabled_user_get_the_same_answer(
    admin: Running, root: Browser, moved: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await root.post("users", {"username": "former", "password": PASSWORD}, 201)
    assert (await root.send("PATCH", f"users/{made['id']}", {"enabled": False})).status == 200
    compared: list[str | None] = []
    verify = proof.verify_password

    def spy(password_hash: str | None, password: str) -> bool:
        compared.append(password_hash)
        return verify(password_hash, password)

    monkeypatch.setattr(proof, "verify_password", spy)
    answers = []
    for username, password in (("nobody", PASSWORD), ("root", "wrong password"), ("former", PASSWORD)):
        reply = await Browser(admin.port).log_in(username, password)
        headers = [(n, v) for n, v in reply.headers if n != "Date"]
        answers.append((reply.status, headers, reply.body))
    moved.move(10)
    assert_error(await Browser(admin.port).log_in("root", ""), 401, -11)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401
    # Each was compared with something: for nobody the store of hashes has one of its own.
    assert [each is None for each in compared] == [True, False, False, False]


async def test_unknown_user_takes_as_long_as_a_known_one(admin: Running) -> None:
    user = await admin.gateway.store.user_get("root")
    assert user is not None

    def best(password_hash: str | None) -> float:
        times = []
        for _ in range(7):
            began = time.thread_time()
            proof.verify_password(password_hash, "some password")
            times.append(time.thread_time() - began)
        return min(times)

    known, unknown = best(user.password_hash), best(None)
    assert 0.5 < unknown / known < 2.0


async def test_password_is_compared_off_the_event_loop_and_leaves_it_a_core(
    admin: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_now, most, threads = 0, 0, set()
    lock = threading.Lock()

    def slow(password_hash: str | None, password: str) -> bool:
        nonlocal running_now, most
        with lock:
            running_now += 1
            most = max(most, running_now)
            threads.add(threading.current_thread() is threading.main_thread())
        time.sleep(0.05)
        with lock:
            running_now -= 1
        return False

    monkeypatch.setattr(proof, "verify_password", slow)
    names = [f"user{number}" for number in range(3)]
    tries = asyncio.gather(*(Browser(admin.port).log_in(name, "x") for name in names))
    await asyncio.sleep(0.02)
    began = time.monotonic()
    await Browser(admin.port).send("GET", "/healthz")
    assert time.monotonic() - began < 0.05
    await tries
    assert most == max(1, min(2, (os.cpu_count() or 1) - 1))
    assert threads == {False}


async def test_guessing_from_one_address_gets_slower_and_says_how_long_to_wait(
    admin: Running, moved: MovedClock
) -> None:
    browser = Browser(admin.port)
    for _ in range(3):
        assert_error(await browser.send("POST", "login", WRONG), 401, -11)
    for expected in (1, 2, 4, 8, 16, 32, 60, 60):
        reply = await browser.send("POST", "login", WRONG)
        assert_error(reply, 429, -14)
        assert reply.header("retry-after") == str(expected)
        # The right password does not help as long as one has to wait.
        assert_error(await browser.log_in(), 429, -14)
        moved.move(expected + 0.1)
        assert_error(await browser.send("POST", "login", WRONG), 401, -11)
    moved.move(60.1)
    assert (await browser.log_in()).status == 200
    assert (await browser.send("POST", "login", WRONG)).status == 401


async def test_guessing_at_one_account_from_many_addresses_gets_slower(
    tmp_path: Path, upstream: RawUpstream, moved: MovedClock
) -> None:
    async with running(make_config(tmp_path, upstream.url, **PROXY), clock=moved.clock) as run:
        answers = [
            (await coming_from(run, f"198.51.100.{number}").send("POST", "login", WRONG)).status
            for number in range(20)
        ]
        assert answers == [401] * 3 + [429] * 17
        # One /64 of IPv6 is one address.
        for number in range(4):
            reply = await coming_from(run, f"2001:db8::{number}").send(
                "POST", "login", {"username": "admin", "password": "guess"}
            )
        assert reply.status == 429


async def test_many_tries_at_the_same_time_gain_nothing(admin: Running) -> None:
    tries = [Browser(admin.port).send("POST", "login", WRONG) for _ in range(12)]
    statuses = sorted([reply.status for reply in await asyncio.gather(*tries)])
    assert statuses == [401] * 3 + [429] * 9


async def test_owner_is_not_locked_out_by_whoever_goes_on_guessing(
    tmp_path: Path, upstream: RawUpstream, moved: MovedClock
) -> None:
    async with running(make_config(tmp_path, upstream.url, **PROXY), clock=moved.clock) as run:
        home = coming_from(run, "203.0.113.5")
        assert (await home.log_in()).status == 200

        async def attack() -> None:
            for number in range(10):
                await coming_from(run, f"198.51.100.{number}").send("POST", "login", WRONG)

        for _ in range(5):
            await attack()
            moved.move(61)
        await attack()
        # From an address that has logged in before: at once.
        assert (await coming_from(run, "203.0.113.5").log_in()).status == 200
        # With a browser that has, from anywhere.
        home.headers = (("X-Forwarded-For", "192.0.2.99"),)
        assert (await home.log_in()).status == 200
        # From a new address with a new browser: after a minute at most, whatever others do.
        new = coming_from(run, "192.0.2.7")
        reply = await new.log_in()
        assert reply.status == 429
        wait_s = int(reply.header("retry-after") or 0)
        assert 0 < wait_s <= 60
        moved.move(wait_s - 1)
        await attack()
        moved.move(1)
        assert (await new.log_in()).status == 200


async def test_known_browser_is_let_in_beside_an_attacker_at_the_same_address(
    admin: Running, moved: MovedClock
) -> None:
    # So it is with a reverse proxy that is not in TRUSTED_PROXIES: everybody has its address.
    owner, attacker = Browser(admin.port), Browser(admin.port)
    assert (await owner.log_in()).status == 200
    for _ in range(20):
        await attacker.send("POST", "login", WRONG)
        moved.move(3)
    assert (await attacker.send("POST", "login", WRONG)).status == 429
    del owner.cookies["resender_session"]
    assert (await owner.log_in()).status == 200
    # A mark somebody made up counts for nothing.
    attacker.cookies["resender_known"] = owner.cookies["resender_known"][:-1] + "x"
    assert (await attacker.send("POST", "login", WRONG)).status == 429
    # The known browser has a counter of its own, so that a stolen mark is no way to guess on.
    thief = Browser(admin.port)
    thief.cookies["resender_known"] = owner.cookies["resender_known"]
    assert [(await thief.send("POST", "login", WRONG)).status for _ in range(4)] == [401, 401, 401, 429]


async def test_failed_and_throttled_tries_are_in_the_audit_without_the_password(
    admin: Running, root: Browser, moved: MovedClock, tmp_path: Path
) -> None:
    secret = "a password typed into the wrong field"
    for _ in range(10):
        await Browser(admin.port).send("POST", "login", {"username": "Nobody" * 20, "password": secret})
    rows = (await root.get("audit"))["items"]
    assert [row["action"] for row in rows] == ["login.throttled", *["login.failed"] * 3, "login"]
    # What is no name may be a password.
    assert {row["subject"] for row in rows} == {"(unknown user)", "root"}
    assert all(row["ip"] == "127.0.0.1" for row in rows)
    assert [row["actor"] for row in rows] == ["", "", "", "", "root"]
    assert secret not in repr(rows)


async def test_body_of_a_log_in_that_cannot_be_used_is_explained(admin: Running) -> None:
    browser = Browser(admin.port)
    for raw in (b"", b"{", b"[]", b'"x"', b"\xff", b"username=root&password=x"):
        assert_error(await browser.send("POST", "login", raw=raw), 400, -4)
    body: Any
    for body, field in (
        ({"username": "root"}, "password"),
        ({"username": 1, "password": "x"}, "username"),
        ({"username": "root", "password": None}, "password"),
        ({"username": "root", "password": "x", "admin": True}, "admin"),
        ({"username": "root", "password": "x" * 1001}, "password"),
    ):
        assert_error(await browser.send("POST", "login", body), 400, -4, field=field)


@pytest.mark.usefixtures("with_admin_pages")
async def test_generated_first_password_has_to_be_changed_before_any_other_write(
    tmp_path: Path, upstream: RawUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
        printed = capsys.readouterr().out
        password = printed.split("password ")[1].split()[0].strip()
        assert len(password) >= 16
        browser = Browser(run.port)
        reply = await browser.log_in("root", password)
        assert reply.json() == {"username": "root", "must_change": True}
        for method, path, body in (
            ("POST", "whitelist", {"address": "203.0.113.5"}),
            ("PUT", "log", {"enabled": True}),
            ("POST", "tokens", {"name": "x"}),
            ("DELETE", "sessions", None),
            ("POST", "users", {"username": "x"}),
        ):
            assert_error(await browser.send(method, path, body), 403, -12)
        assert (await browser.get("whitelist"))["items"]
        page = await browser.send("GET", "/admin/whitelist")
        assert (page.status, page.header("location")) == (302, "/admin/password")
        assert (await browser.send("GET", "/admin/password")).status == 200
        for bad, reason in (
            ("short", "short"), (password, "same"), ("x" * 201, "long"), ("1234567890", "common"),
        ):  # fmt: skip
            refused = await browser.send("POST", "password", {"old": password, "new": bad})
            assert_error(refused, 400, -4, field="new", reason=reason)
        wrong = await browser.send("POST", "password", {"old": "wrong one", "new": PASSWORD})
        assert_error(wrong, 401, -11, field="old")
        await browser.post("password", {"old": password, "new": PASSWORD})
        assert not (await browser.get("me"))["must_change"]
        await browser.post("whitelist", {"address": "203.0.113.5"}, 201)
        assert password not in repr(await browser.get("audit"))
    # It was printed once and is nowhere on the disk; neither is the new one.
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert password.encode() not in path.read_bytes()
            assert PASSWORD.encode() not in path.read_bytes()
    async with running(make_config(tmp_path, upstream.url, cache_enabled=False)) as run:
        assert "password" not in capsys.readouterr().out
        assert (await Browser(run.port).log_in()).status == 200


async def test_admin_password_of_the_environment_does_not_come_back_after_a_change(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    config = make_config(tmp_path, upstream.url, admin_password=PASSWORD, cache_enabled=False)
    async with running(config) as run:
        browser = Browser(run.port)
        assert (await browser.log_in()).json() == {"username": "root", "must_change": False}
        await browser.post("password", {"old": PASSWORD, "new": "quite another one 7"})
    async with running(config) as run:
        assert (await Browser(run.port).log_in()).status == 401
        assert (await Browser(run.port).log_in("root", "quite another one 7")).status == 200


async def test_no_secret_of_a_log_in_reaches_the_log_or_the_database(admin: Running, tmp_path: Path) -> None:
    captured = Captured()
    import logging

    logging.getLogger().addHandler(captured)
    try:
        browser = Browser(admin.port)
        await browser.log_in()
        token = (await browser.post("tokens", {"name": "script", "scope": "write"}, 201))["token"]
        await browser.send("POST", "login", raw=b'{"username":"root","password":"' + PASSWORD.encode())
        script = Browser(admin.port, ("Authorization", f"Bearer {token}"))
        await script.get("whitelist")
        await browser.send("POST", "password", {"old": PASSWORD, "new": "another long one"})
    finally:
        logging.getLogger().removeHandler(captured)
    secrets = [PASSWORD, "another long one", token, *browser.cookies.values()]
    with sqlite3.connect(tmp_path / "resender.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert "script" in dump
    for secret in secrets:
        assert secret not in captured.text
        assert secret not in dump


async def test_password_typed_as_the_user_name_is_nowhere_in_the_audit(admin: Running, root: Browser) -> None:
    stranger = Browser(admin.port)
    await stranger.send("POST", "login", {"username": "my secret pass", "password": ""})
    await stranger.send("POST", "login", {"username": "ROOT", "password": "x"})
    rows = (await root.get("audit"))["items"]
    assert [row["subject"] for row in rows] == ["root", "(unknown user)", "root"]
    assert "my secret pass" not in repr(rows)
