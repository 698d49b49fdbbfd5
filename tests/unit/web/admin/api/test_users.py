"""The accounts' API: who may change whom, and passwords that are told only to who has to know them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resender.store import DuplicateUser, LastUser, UnknownUser
from tests.support.admin import assert_error
from tests.unit.web.serving import NOW_MS, USER, FakeRepository, FakeStore, administered, make_services, token

OTHER = replace(USER, id=8, username="other")
GOOD = "another sesame 43"


class Hasher:
    async def hash(self, password: str) -> str:
        return f"hash of {password}"


def people(rows: FakeRepository, **answers: Any) -> Any:
    found = {"user_list": [USER, OTHER], "user_get": lambda key: OTHER if key in (8, "other") else None}
    store = FakeStore(write=rows.change, **(found | answers))
    return administered(make_services(store=store))


async def test_list_tells_which_account_is_ones_own_and_no_hash() -> None:
    async with people(FakeRepository()) as one:
        reply = await one.send("GET", "users")
    assert [(item["id"], item["self"]) for item in reply.json()["items"]] == [(7, True), (8, False)]
    assert USER.password_hash.encode() not in reply.body


async def test_account_without_a_password_gets_one_for_the_first_log_in() -> None:
    rows = FakeRepository(
        user_add=lambda name, password_hash, must_change: replace(OTHER, must_change=must_change)
    )
    async with people(rows, user_get=None) as one:
        one.site.passwords = Hasher()
        found = await one.post("users", {"username": " other "}, 201)
    assert found["must_change"] is True
    name, password_hash = rows.asked[0][1]
    assert (name, password_hash) == ("other", f"hash of {found['password']}")
    assert found["password"] not in str(rows.audit)


async def test_password_somebody_chose_is_not_told_again_and_stays() -> None:
    rows = FakeRepository(
        user_add=lambda name, password_hash, must_change: replace(OTHER, must_change=must_change)
    )
    async with people(rows, user_get=None) as one:
        one.site.passwords = Hasher()
        found = await one.post("users", {"username": "other", "password": GOOD}, 201)
    assert "password" not in found
    assert found["must_change"] is False


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_name_that_is_taken_is_a_conflict_with_its_account(when: str) -> None:
    rows = FakeRepository(user_add=DuplicateUser(OTHER))
    async with people(rows, user_get=OTHER if when == "before" else None) as one:
        one.site.passwords = Hasher()
        reply = await one.send("POST", "users", {"username": "Other"})
    assert_error(reply, 409, -13, field="username", reason="user_exists", id=8, name="other")


async def test_name_the_table_does_not_take_is_told() -> None:
    async with people(FakeRepository(user_add=ValueError("No such characters.")), user_get=None) as one:
        one.site.passwords = Hasher()
        reply = await one.send("POST", "users", {"username": "a\nb"})
    assert_error(reply, 400, -4, field="username", reason="user_characters")


async def test_password_that_is_too_easy_is_refused_before_anything_is_written() -> None:
    rows = FakeRepository()
    async with people(rows, user_get=None) as one:
        reply = await one.send("POST", "users", {"username": "other", "password": "short"})
    assert_error(reply, 400, -4, field="password", reason="short")
    assert rows.asked == []


async def test_nobody_changes_his_own_password_without_the_old_one() -> None:
    async with people(FakeRepository(), user_get=USER) as one:
        for password in (GOOD, None):
            reply = await one.send("PATCH", "users/7", {"password": password})
            assert_error(reply, 400, -4, field="password", reason="own_password")


@pytest.mark.parametrize(
    ("body", "must_change", "action"),
    [
        ({"enabled": False}, None, "user.change"),
        ({"password": GOOD}, False, "user.password"),
        ({"password": None}, True, "user.password"),
    ],
)
async def test_change_says_what_it_was(body: dict[str, Any], must_change: bool | None, action: str) -> None:
    rows = FakeRepository(user_update=OTHER)
    async with people(rows) as one:
        one.site.passwords = Hasher()
        reply = await one.send("PATCH", "users/8", body)
        assert one.logins.forgotten == 1
    assert ("password" in reply.json()) is (must_change is True)
    assert rows.asked[0][2]["must_change"] is must_change
    assert [row[2:4] for row in rows.audit] == [(action, "other")]


async def test_change_of_nothing_writes_nothing() -> None:
    rows = FakeRepository()
    async with people(rows) as one:
        assert (await one.send("PATCH", "users/8", {"enabled": None})).json()["id"] == 8
    assert rows.asked == rows.audit == []


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"enabled": False}), ("DELETE", None)])
async def test_last_account_that_can_log_in_stays(method: str, body: Any) -> None:
    error = LastUser("other")
    rows = FakeRepository(user_update=error, user_get=OTHER, user_remove=error)
    async with people(rows) as one:
        assert_error(await one.send(method, "users/8", body), 409, -13, reason="last_user", name="other")
    assert rows.audit == []


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"enabled": False}), ("DELETE", None)])
async def test_account_that_is_gone_is_not_there(method: str, body: Any) -> None:
    rows = FakeRepository(user_update=UnknownUser(8), user_get=None)
    async with people(rows) as one:
        assert_error(await one.send(method, "users/8", body), 404, -3)
        assert_error(await one.send(method, "users/99", body), 404, -3)


async def test_token_makes_and_removes_nobody() -> None:
    async with people(FakeRepository()) as one:
        one.logins.login = token("write")
        assert_error(await one.send("POST", "users", {"username": "x"}), 403, -12)
        assert_error(await one.send("DELETE", "users/8"), 403, -12)
        assert (await one.get("users"))["items"][0]["created"] == NOW_MS
