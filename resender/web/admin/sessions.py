"""Who is logged in: the sessions and tokens requests show, looked up with a short memory.

The tables are the store's. It owns the memory, which lasts a few seconds and is dropped on every
change made here, so that a page that polls does not keep the database busy.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from resender.aio import Clock
from resender.errors import StoreError
from resender.passwords import digest
from resender.store import SessionRow, Store, TokenRow, UserRow

TOKEN_PREFIX = "rsr_"  # noqa: S105
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MEMORY_S = 3.0
_MEMORY_MAX = 1000
_TOUCH_MS = 60_000
# Anybody may show a secret that nobody has: those who do wait for each other, not the database.
_LOOKUPS_MAX = 32


def new_secret() -> str:
    """Make the secret of a session or token: 256 random bits."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Login:
    """Who makes a request: a user, by a session or by a token."""

    user: UserRow
    session: SessionRow | None = None
    token: TokenRow | None = None

    @property
    def scope(self) -> str:
        """What may be done: `read` or `write`."""
        return "write" if self.token is None else self.token.scope

    @property
    def actor(self) -> str:
        """The name that goes into the audit table: `root`, or `root/token 7`."""
        name = self.user.username
        return name if self.token is None else f"{name[:48]}/token {self.token.id}"


@dataclass(slots=True)
class _Known:
    login: Login
    until_mono: float
    used_ms: int


class Logins:
    """Finds sessions and tokens; everything is called on the event loop.

    Units: `idle_ms` and `longest_ms` milliseconds.
    """

    def __init__(self, store: Store, clock: Clock, *, idle_ms: int, longest_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._idle_ms = idle_ms
        self._longest_ms = longest_ms
        # A minute is precise enough, but a short idle time needs finer steps.
        self._touch_ms = min(_TOUCH_MS, idle_ms // 4)
        self._known: dict[str, _Known] = {}
        self._generation = 0
        self._lookups = asyncio.Semaphore(_LOOKUPS_MAX)

    def forget(self) -> None:
        """Forget everything: sessions, users or tokens have been changed."""
        self._generation += 1
        self._known.clear()

    async def by_session(
        self, secret: str, ip: str, *, touch: bool = True, fresh: bool = False
    ) -> Login | None:
        """Find the log-in of a cookie; `touch` counts this as a use of it, `fresh` asks no memory.

        Raises: StoreError.
        """
        if not _SECRET.fullmatch(secret):
            return None
        key = digest(secret)
        known = await self._find(key, self._read_session, fresh)
        if known is None:
            return None
        session, now_ms = known.login.session, self._clock.now_ms()
        assert session is not None
        if now_ms - known.used_ms >= self._idle_ms or now_ms - session.created_ms >= self._longest_ms:
            self._known.pop(key, None)
            with suppress(StoreError):  # it is over, in the table or not
                await self._store.session_remove(session.id)
            return None
        if touch and now_ms - known.used_ms >= self._touch_ms:
            # Noted first, so that requests at the same time do not all write it.
            known.used_ms = now_ms
            if not await self._touched(self._store.session_touch(session.id, now_ms, ip)):
                # Ended by another process.
                self._known.pop(key, None)
                return None
        return known.login

    async def by_token(self, token: str, ip: str, *, touch: bool = True, fresh: bool = False) -> Login | None:
        """Find the log-in of an access token, as `by_session`.

        Raises: StoreError.
        """
        secret = token.removeprefix(TOKEN_PREFIX)
        if secret == token or not _SECRET.fullmatch(secret):
            return None
        key = digest(token)
        known = await self._find(key, self._read_token, fresh)
        if known is None:
            return None
        row, now_ms = known.login.token, self._clock.now_ms()
        assert row is not None
        if row.expires_ms is not None and now_ms >= row.expires_ms:
            return None
        if touch and now_ms - known.used_ms >= _TOUCH_MS:
            known.used_ms = now_ms
            if not await self._touched(self._store.token_touch(row.id, now_ms, ip)):
                self._known.pop(key, None)
                return None
        return known.login

    async def _touched(self, touch: Awaitable[bool]) -> bool:
        """Tell whether what was used is still there; a full disk keeps nobody from reading."""
        try:
            return await touch
        except StoreError:
            return True

    async def _find(
        self, key: str, read: Callable[[str], Awaitable[tuple[Login, int] | None]], fresh: bool
    ) -> _Known | None:
        known = self._known.get(key)
        now_mono = self._clock.mono()
        if known is not None and now_mono < known.until_mono and not fresh:
            return known
        generation = self._generation
        async with self._lookups:
            found = await read(key)
        if found is None or not found[0].user.enabled:
            self._known.pop(key, None)
            return None
        known = _Known(found[0], now_mono + _MEMORY_S, found[1])
        # What was read before a change may be out of date: it serves this request only.
        if generation == self._generation:
            if len(self._known) >= _MEMORY_MAX:
                self._known.clear()
            self._known[key] = known
        return known

    async def _read_session(self, key: str) -> tuple[Login, int] | None:
        row = await self._store.session_find(key)
        return None if row is None else (Login(row[1], session=row[0]), row[0].last_seen_ms)

    async def _read_token(self, key: str) -> tuple[Login, int] | None:
        row = await self._store.token_find(key)
        return None if row is None else (Login(row[1], token=row[0]), row[0].last_used_ms or 0)
