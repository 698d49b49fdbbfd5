"""Logging in and out: what is written down of a failure, which cookies are set, what a token may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resender.errors import BadRequest, TooManyLogins
from resender.passwords import digest
from resender.store import SessionRow, TokenRow, TooManyTokens, UnknownUser
from resender.web.admin.api.login import accept_password, shown_token
from resender.web.admin.sessions import TOKEN_PREFIX, Login
from tests.support.admin import assert_error
from tests.unit.web.serving import (
    NOW_MS,
    SESSION,
    USER,
    Admin,
    FakeRepository,
    FakeStore,
    administered,
    make_services,
    token,
)

TOKEN = TokenRow(9, 7, "root", "script", "read", NOW_MS, None, None, None)


class FakePasswords:
    """Knows whose password is right, or that one has to wait."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str | None]] = []

    async def check(self, username: str, password: str, ip: str, mark: str | None) -> Any:
        self.asked.append((username, password, mark))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def hash(self, password: str) -> str:
        return f"hash of {password}"


def administered_by(repository: FakeRepository, **answers: Any) -> Any:
    store = FakeStore(write=repository.change, **answers)
    return administered(make_services(store=store))


def repository(**answers: Any) -> FakeRepository:
    found = {
        "session_prune": None, "session_find": None, "session_add": SESSION, "user_note_login": None,
        "audit_has_login": True,
        "user_get": lambda name: USER if name == "root" else None,
    }  # fmt: skip
    return FakeRepository(**(found | answers))


async def log_in(one: Admin, name: str = "root", password: str = "open sesame 42") -> Any:
    return await one.send("POST", "login", {"username": name, "password": password})


# --- the log-in -----------------------------------------------------------------------------------


async def test_right_password_gives_a_new_secret_whose_digest_alone_is_kept() -> None:
    rows = repository()
    async with administered_by(rows) as one:
        one.site.passwords = FakePasswords(replace(USER, must_change=True))
        one.cookies = {}
        reply = await log_in(one, " root ")
        assert reply.json() == {"username": "root", "must_change": True}
        secret = one.cookies["resender_session"]
        assert set(one.cookies) == {"resender_session", "resender_known"}
        assert one.logins.forgotten == 1
    added = next(args for name, args, _ in rows.asked if name == "session_add")
    assert added[:3] == (USER.id, digest(secret), "127.0.0.1")
    assert rows.audit == [("root", "127.0.0.1", "login", "root")]
    assert secret not in str(rows.asked)


async def test_session_the_browser_had_before_is_ended() -> None:
    rows = repository(
        session_find=lambda key: (SESSION, USER) if key == digest("good") else None, session_remove=True
    )
    async with administered_by(rows) as one:
        one.site.passwords = FakePasswords(USER)
        await log_in(one)
    assert ("session_remove", (SESSION.id,), {}) in rows.asked


async def test_wrong_password_and_unknown_name_get_the_same_answer() -> None:
    rows = repository()
    async with administered_by(rows) as one:
        one.site.passwords = FakePasswords(None)
        replies = [await log_in(one, name) for name in ("root", "hush-hush-1")]
    assert replies[0].body == replies[1].body
    assert_error(replies[0], 401, -11)
    assert rows.audit == [
        ("", "127.0.0.1", "login.failed", "root", None, None),
        ("", "127.0.0.1", "login.failed", "(unknown user)", None, None),
    ], "the name may be a password typed into the wrong field"


async def test_account_that_was_disabled_in_this_moment_is_not_logged_in() -> None:
    rows = repository(session_add=UnknownUser(7))
    async with administered_by(rows) as one:
        one.site.passwords = FakePasswords(USER)
        one.cookies = {}
        assert_error(await log_in(one), 401, -11)
        assert one.cookies == {}


async def test_who_has_to_wait_is_told_and_written_down_once() -> None:
    rows = repository()
    async with administered_by(rows) as one:
        one.site.passwords = FakePasswords(TooManyLogins(7))
        for _ in range(3):
            reply = await log_in(one)
            assert_error(reply, 429, -14, reason="throttled", seconds=7)
            assert reply.header("retry-after") == "7"
    assert [row[2] for row in rows.audit] == ["login.throttled"]


async def test_mark_of_the_browser_is_shown_to_the_check() -> None:
    async with administered_by(repository()) as one:
        passwords = one.site.passwords = FakePasswords(USER)
        one.cookies["resender_known"] = "mark"
        await log_in(one)
    assert passwords.asked == [("root", "open sesame 42", "mark")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "root"}, "password"),
        ({"username": "x" * 201, "password": ""}, "username"),
        ({}, "username"),
    ],
)
async def test_log_in_without_its_parts_is_refused(body: dict[str, str], field: str) -> None:
    async with administered() as one:
        assert_error(await one.send("POST", "login", body), 400, -4, field=field)


# --- one's own ------------------------------------------------------------------------------------


async def test_who_one_is_tells_scope_and_session() -> None:
    async with administered() as one:
        found = await one.get("me")
        assert (found["username"], found["scope"], found["session_id"]) == ("root", "write", SESSION.id)
        one.logins.login = token("read")
        found = await one.get("me")
        assert (found["scope"], found["session_id"]) == ("read", None)


async def test_logging_out_ends_the_session_and_the_cookie() -> None:
    rows = repository(session_remove=True)
    async with administered_by(rows) as one:
        await one.post("logout")
        assert one.cookies == {}
        assert one.logins.forgotten == 1
    assert rows.audit == [("root", "127.0.0.1", "logout", "root")]


@pytest.mark.parametrize(
    ("new", "reason"), [("short", "short"), ("password1234", "common"), ("open sesame 42", "same")]
)
async def test_new_password_has_to_be_another_and_a_good_one(new: str, reason: str) -> None:
    async with administered() as one:
        body = {"old": "open sesame 42", "new": new}
        assert_error(await one.send("POST", "password", body), 400, -4, field="new", reason=reason)


async def test_wrong_old_password_is_named_and_written_down() -> None:
    async with administered() as one:
        one.site.passwords = FakePasswords(None)
        body = {"old": "wrong", "new": "another sesame 43"}
        assert_error(await one.send("POST", "password", body), 401, -11, field="old")
        assert [row[2] for row in one.store.audit] == ["password.failed"]


async def test_password_that_changed_meanwhile_is_not_overwritten() -> None:
    rows = repository(user_get=replace(USER, password_hash="another"))
    async with administered_by(rows) as one:
        one.site.passwords = FakePasswords(USER)
        body = {"old": "open sesame 42", "new": "another sesame 43"}
        assert_error(await one.send("POST", "password", body), 401, -11)
    assert [name for name, _, _ in rows.asked] == ["user_get"]


async def test_sessions_that_are_over_are_not_shown() -> None:
    minute = 60_000
    sessions = [
        SESSION,
        SessionRow(71, 7, NOW_MS - 5 * minute, NOW_MS - 31 * minute, "::1", "idle"),
        SessionRow(72, 7, NOW_MS - 13 * 60 * minute, NOW_MS, "::1", "too long"),
        SessionRow(73, 7, NOW_MS - 5 * minute, NOW_MS - 29 * minute, "::1", "tests"),
    ]
    store = FakeStore(session_list=sessions)
    services = make_services(store=store, admin_idle_minutes=30, admin_session_hours=12)
    async with administered(services) as one:
        items = (await one.get("sessions"))["items"]
    assert [(item["id"], item["current"]) for item in items] == [(70, True), (73, False)]


async def test_session_of_somebody_else_is_not_there() -> None:
    rows = repository(session_remove=False)
    async with administered_by(rows) as one:
        assert_error(await one.send("DELETE", "sessions/99"), 404, -3)
    assert rows.asked == [("session_remove", (99, USER.id), {})]
    assert rows.audit == []


# --- tokens ---------------------------------------------------------------------------------------


async def test_token_is_told_once_and_its_digest_is_kept() -> None:
    rows = repository(token_add=TOKEN)
    async with administered_by(rows) as one:
        found = await one.post("tokens", {"name": " script "}, 201)
    name, args, _ = rows.asked[0]
    assert (name, args[:3]) == ("token_add", (USER.id, "script", "read"))
    assert found["token"].startswith(TOKEN_PREFIX)
    assert args[3] == digest(found["token"])
    assert "token" not in shown_token(TOKEN)


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"name": "  "}, "name", "missing"),
        ({"name": "a", "expires": NOW_MS}, "expires", "expired"),
        ({"name": "a", "expires": 1.5}, "expires", None),
        ({"name": "a", "scope": "admin"}, "scope", None),
        ({"name": "x" * 101}, "name", "too_long"),
    ],
)
async def test_token_that_cannot_be_is_refused_by_its_field(
    body: Any, field: str, reason: str | None
) -> None:
    async with administered_by(repository()) as one:
        found = assert_error(await one.send("POST", "tokens", body), 400, -4, field=field)
        assert found["data"].get("reason") == reason


async def test_more_tokens_than_anybody_may_have_are_refused() -> None:
    async with administered_by(repository(token_add=TooManyTokens("root", 50))) as one:
        assert_error(await one.send("POST", "tokens", {"name": "a"}), 400, -4, reason="tokens_many", most=50)


async def test_token_makes_no_tokens() -> None:
    async with administered() as one:
        one.logins.login = Login(USER, token=replace(TOKEN, scope="write"))
        assert_error(await one.send("POST", "tokens", {"name": "a"}), 403, -12)


async def test_only_ones_own_token_is_revoked() -> None:
    rows = repository(token_list=[TOKEN], token_remove=True)
    async with administered_by(rows) as one:
        assert_error(await one.send("DELETE", "tokens/8"), 404, -3)
        assert (await one.send("DELETE", "tokens/9")).status == 200
    assert [row[2:4] for row in rows.audit] == [("token.remove", "script")]


def test_password_that_is_too_easy_names_its_field() -> None:
    with pytest.raises(BadRequest) as caught:
        accept_password("password", "root", "root")
    assert caught.value.data["field"] == "password"
    assert caught.value.data["reason"]
