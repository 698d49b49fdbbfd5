"""Who is logged in: what is looked up, for how long it is remembered, and when a log-in is over."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import pytest

from resender.aio import Clock
from resender.errors import StoreError
from resender.passwords import digest
from resender.store import SessionRow, TokenRow
from resender.web.admin.sessions import TOKEN_PREFIX, Login, Logins, new_secret
from tests.unit.web.serving import NOW_MS, USER, FakeStore

MINUTE_MS = 60_000
IDLE_MS, LONGEST_MS = 30 * MINUTE_MS, 12 * 60 * MINUTE_MS
SECRET = "s" * 43
TOKEN = TOKEN_PREFIX + "t" * 43


class World:
    """A session and a token of root, and a clock that is moved."""

    def __init__(self) -> None:
        self.passed_ms = 0
        self.user = USER
        self.session: SessionRow | None = SessionRow(70, USER.id, NOW_MS, NOW_MS, "127.0.0.1", "tests")
        self.token: TokenRow | None = TokenRow(9, USER.id, "root", "script", "read", NOW_MS, None, None, None)
        self.store = FakeStore(
            session_find=lambda key: self._row(self.session) if key == digest(SECRET) else None,
            token_find=lambda key: self._row(self.token) if key == digest(TOKEN) else None,
            session_touch=True,
            token_touch=True,
            session_remove=True,
        )
        clock = Clock(now_ms=lambda: NOW_MS + self.passed_ms, mono=lambda: self.passed_ms / 1000)
        self.logins = Logins(cast(Any, self.store), clock, idle_ms=IDLE_MS, longest_ms=LONGEST_MS)

    def _row(self, row: Any) -> Any:
        return None if row is None else (row, self.user)

    async def by_session(self, secret: str = SECRET, **options: bool) -> Login | None:
        return await self.logins.by_session(secret, "127.0.0.1", **options)

    async def by_token(self, token: str = TOKEN, **options: bool) -> Login | None:
        return await self.logins.by_token(token, "127.0.0.1", **options)

    def count(self, name: str) -> int:
        return sum(asked[0] == name for asked in self.store.asked)


@pytest.fixture
def world() -> World:
    return World()


def test_secret_is_long_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)


async def test_log_in_is_looked_up_once_in_a_few_seconds(world: World) -> None:
    for _ in range(5):
        found = await world.by_session()
        assert found is not None
        assert found.session is world.session
    assert world.count("session_find") == 1
    world.passed_ms += 3000
    await world.by_session()
    assert world.count("session_find") == 2


async def test_what_changes_something_asks_the_table_itself(world: World) -> None:
    await world.by_session()
    world.session = None
    assert await world.by_session() is not None
    assert await world.by_session(fresh=True) is None
    assert await world.by_session() is None


async def test_change_of_accounts_ends_the_memory(world: World) -> None:
    await world.by_session()
    world.user = replace(USER, enabled=False)
    world.logins.forget()
    assert await world.by_session() is None


async def test_what_was_read_before_a_change_serves_one_request_only(world: World) -> None:
    def find(key: str) -> Any:
        world.logins.forget()  # the change comes while the table is read
        return world.session, USER

    world.store.answers["session_find"] = find
    assert await world.by_session() is not None
    assert await world.by_session() is not None
    assert world.count("session_find") == 2


@pytest.mark.parametrize("secret", ["", "short", "s" * 44, "s" * 42 + "!", "币" * 43, TOKEN])
async def test_what_cannot_be_a_secret_is_not_looked_up(world: World, secret: str) -> None:
    assert await world.by_session(secret) is None
    assert await world.by_token(secret.removeprefix(TOKEN_PREFIX)) is None
    assert world.store.asked == []


async def test_digest_and_never_the_secret_is_looked_up(world: World) -> None:
    await world.by_session()
    await world.by_token()
    assert not any(SECRET in str(asked) or TOKEN in str(asked) for asked in world.store.asked)


async def test_session_ends_when_nobody_used_it_for_long(world: World) -> None:
    world.passed_ms = IDLE_MS - 1
    assert await world.by_session(touch=False) is not None
    world.passed_ms = IDLE_MS
    assert await world.by_session() is None
    assert world.count("session_remove") == 1


async def test_session_ends_at_its_longest_even_if_it_is_used(world: World) -> None:
    while world.passed_ms < LONGEST_MS - 20 * MINUTE_MS:
        assert await world.by_session() is not None
        assert world.session is not None
        world.session = replace(world.session, last_seen_ms=NOW_MS + world.passed_ms)
        world.passed_ms += 20 * MINUTE_MS
    world.passed_ms = LONGEST_MS
    assert await world.by_session() is None


async def test_use_is_written_down_once_a_minute(world: World) -> None:
    for passed_ms in (0, 59_000, 60_000, 61_000, 119_000, 120_000):
        world.passed_ms = passed_ms
        await world.by_session()
        if world.session is not None and passed_ms in (60_000, 120_000):
            world.session = replace(world.session, last_seen_ms=NOW_MS + passed_ms)
    assert world.count("session_touch") == 2


async def test_page_left_open_does_not_count_as_use(world: World) -> None:
    world.passed_ms = 10 * MINUTE_MS
    assert await world.by_session(touch=False) is not None
    assert world.count("session_touch") == 0


async def test_session_ended_by_another_process_is_over_at_its_next_use(world: World) -> None:
    world.store.answers["session_touch"] = False
    world.passed_ms = MINUTE_MS
    assert await world.by_session() is None


async def test_full_disk_keeps_nobody_from_reading(world: World) -> None:
    world.store.answers["session_touch"] = world.store.answers["token_touch"] = StoreError("full")
    world.passed_ms = MINUTE_MS
    assert await world.by_session() is not None
    assert await world.by_token() is not None


async def test_token_ends_at_its_time_and_not_before(world: World) -> None:
    assert world.token is not None
    world.token = replace(world.token, expires_ms=NOW_MS + 1000)
    world.passed_ms = 999
    assert await world.by_token() is not None
    world.passed_ms = 1000
    assert await world.by_token() is None


async def test_disabled_account_is_logged_in_by_nothing(world: World) -> None:
    world.user = replace(USER, enabled=False)
    assert await world.by_session() is None
    assert await world.by_token() is None


def test_name_in_the_audit_tells_a_token_from_its_owner() -> None:
    token = TokenRow(9, 7, "root", "script", "read", 0, None, None, None)
    assert (Login(USER).actor, Login(USER).scope) == ("root", "write")
    assert (Login(USER, token=token).actor, Login(USER, token=token).scope) == ("root/token 9", "read")
    long = replace(USER, username="x" * 64)
    assert Login(long, token=token).actor == f"{'x' * 48}/token 9"
