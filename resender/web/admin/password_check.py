"""Comparing passwords: slowly for whoever guesses, and never on the event loop.

How long one waits is `resender.core.access.login_throttle`, how passwords are hashed
`resender.passwords`. It owns the throttle and the threads that hash: few, and behind the gateway's
own thread in the queue for a processor, so that log-ins leave it to the calls.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import math
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

from resender.aio import Clock
from resender.core.access.login_throttle import LoginThrottle
from resender.errors import TooManyLogins
from resender.passwords import hash_password, needs_rehash, verify_password
from resender.store import Store, UserRow

P = ParamSpec("P")
T = TypeVar("T")
# One core is the gateway's.
_AT_ONCE = max(1, min(2, (os.cpu_count() or 1) - 1))
_QUEUE_MAX = 32
# Those who show the mark of a browser, good or not, have to be looked up to be told apart.
_MARKED_MAX = 64
_NICE = 10


def make_mark(user: UserRow) -> str:
    """Make the mark by which a browser shows later that somebody has logged in here with it.

    It proves nothing but that, needs no table, and ends with the password: its key is the hash.
    """
    name = secrets.token_hex(16)
    return f"{name}.{_sign(user, name)}"


def read_mark(user: UserRow | None, mark: str | None) -> str | None:
    """Return the name of a browser whose mark is good for this account."""
    name, _, signature = (mark or "").partition(".")
    if user is None or len(name) != 32 or not signature.isascii():
        return None
    return name if hmac.compare_digest(_sign(user, name), signature) else None


def _sign(user: UserRow, name: str) -> str:
    text = f"known browser {user.id} {name}".encode()
    return hmac.new(user.password_hash.encode(), text, hashlib.sha256).hexdigest()


class PasswordCheck:
    """Compares and hashes passwords; everything is called on the event loop."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.throttle = LoginThrottle()
        self._store = store
        self._clock = clock
        self._pool = ThreadPoolExecutor(_AT_ONCE, "admin-password", initializer=_step_back)
        self._queued = 0
        self._marked = 0

    async def check(self, username: str, password: str, ip: str, mark: str | None) -> UserRow | None:
        """Return the account if the password is right and the account enabled, else None.

        The answer takes as long for an account that does not exist or is disabled.

        Raises: TooManyLogins, StoreError.
        """
        user: UserRow | None = None
        known: str | None = None
        if mark and self._marked < _MARKED_MAX:
            user, known = await self._find_marked(username, mark)
        if known is None and self._queued >= _QUEUE_MAX:
            raise TooManyLogins(1)
        wait_s = self.throttle.begin(ip, username, self._clock.mono(), mark=known)
        if wait_s > 0:
            raise TooManyLogins(math.ceil(wait_s))
        # From the look at the queue to here nothing is awaited: of many at once no more get in.
        self._queued += 1
        try:
            if user is None:
                user = await self._store.user_get(username)
            password_hash = None if user is None else user.password_hash
            is_right = await self._off_loop(verify_password, password_hash, password)
        finally:
            self._queued -= 1
        if user is None or not is_right or not user.enabled:
            return None
        self.throttle.succeeded(ip, username, mark=known)
        return await self._refresh(user, password)

    async def _find_marked(self, username: str, mark: str) -> tuple[UserRow | None, str | None]:
        self._marked += 1
        try:
            user = await self._store.user_get(username)
        finally:
            self._marked -= 1
        return user, read_mark(user, mark)

    async def hash(self, password: str) -> str:
        """Hash a password."""
        return await self._off_loop(hash_password, password)

    async def _refresh(self, user: UserRow, password: str) -> UserRow:
        """Hash a password anew whose hash is older than today's parameters."""
        if not needs_rehash(user.password_hash):
            return user
        new_hash = await self.hash(password)
        await self._store.user_rehash(user.id, user.password_hash, new_hash)
        return await self._store.user_get(user.id) or user

    async def _off_loop(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        job = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)


def _step_back() -> None:
    """Let the gateway's own thread go first wherever both want the same processor."""
    with suppress(OSError, AttributeError):
        # Linux has a niceness for each thread.
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
