"""The accounts of the admin pages.

It stores hashes and counts who can still log in; passwords themselves are
`resender.passwords`. Whatever ends a log-in (another password, a disabled or removed account)
removes the sessions in the same transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from resender.store.rows import DuplicateUser, LastUser, UnknownUser, UserRow
from resender.store.tables import Tables, is_id, storable

FIRST_USER = "root"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_REVISION = "users_revision"
_SEEDED = "users_seeded"


def check_username(username: str) -> str:
    """Return the name as it is stored.

    Raises: ValueError with a text for the user.
    """
    name = username.strip()
    if not _NAME.fullmatch(name):
        raise ValueError("A user name is 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
    return name


class UserTable(Tables):
    """Part of `Repository`."""

    def user_seed(self, make: Callable[[], tuple[str, bool]]) -> UserRow | None:
        """Make the first account of a new database; None ever after, even if it was removed.

        Shape: `make` returns the hash of its password and whether that has to be changed; it is
            called only if the account is made.
        """
        if self.state_get(_SEEDED) == "1":
            return None
        with self.transaction():
            if self.state_get(_SEEDED, lock=True) == "1":
                return None
            self.state_set(_SEEDED, "1")
            if self.user_get(FIRST_USER) is not None:
                return None
            password_hash, must_change = make()
            return self.user_add(FIRST_USER, password_hash, must_change)

    def user_list(self) -> list[UserRow]:
        """List all accounts, oldest first."""
        model = self.models.user
        return [UserRow(*row) for row in self._users().order_by(model.id).tuples()]

    def user_get(self, id_or_username: int | str) -> UserRow | None:
        """Find an account by its id, or by its name in upper or lower case."""
        model = self.models.user
        if isinstance(id_or_username, int):
            if not is_id(id_or_username):
                return None
            found = model.id == id_or_username
        else:
            name = id_or_username.strip()
            if not _NAME.fullmatch(name):
                return None
            found = model.username_key == name.lower()
        row = self._users().where(found).tuples().first()
        return None if row is None else UserRow(*row)

    def user_add(self, username: str, password_hash: str, must_change: bool = False) -> UserRow:
        """Make an account.

        Raises: ValueError if the name cannot be used; DuplicateUser, carrying the existing row.
        """
        name = check_username(username)
        now_ms = self._now_ms()
        with self.transaction():
            self._next_users_revision()
            present = self.user_get(name)
            if present is not None:
                raise DuplicateUser(present)
            new_id = (
                self.models.user.insert(
                    username=name,
                    username_key=name.lower(),
                    password_hash=password_hash,
                    enabled=True,
                    must_change=bool(must_change),
                    created_ms=now_ms,
                    updated_ms=now_ms,
                )
            ).execute()
            return self._known_user(int(new_id))

    def user_update(
        self,
        user_id: int,
        *,
        password_hash: str | None = None,
        must_change: bool | None = None,
        enabled: bool | None = None,
        keep_session_id: int | None = None,
    ) -> UserRow:
        """Change what is given of an account and return the row as it is now.

        Shape: a new password ends the account's sessions but `keep_session_id`; disabling ends
            all of them and stops its tokens, which work again when it is enabled.
        Raises: UnknownUser; LastUser if nobody could log in any more.
        """
        model = self.models.user
        changes: dict[str, Any] = {"updated_ms": self._now_ms()}
        if password_hash is not None:
            changes["password_hash"] = password_hash
        if must_change is not None:
            changes["must_change"] = bool(must_change)
        if enabled is not None:
            changes["enabled"] = bool(enabled)
        with self.transaction():
            self._next_users_revision()
            user = self._known_user(user_id)
            if enabled is False:
                self._refuse_last(user)
            model.update(**changes).where(model.id == user_id).execute()
            if enabled is False:
                self._end_sessions(user_id, None)
            elif password_hash is not None:
                self._end_sessions(user_id, keep_session_id)
            return self._known_user(user_id)

    def user_rehash(self, user_id: int, old_hash: str, new_hash: str) -> bool:
        """Put another hash of the same password in place of `old_hash`; tell whether it was there.

        Shape: it is not a new password, so the sessions stay.
        """
        model = self.models.user
        unchanged = (model.id == user_id) & (model.password_hash == old_hash)
        return bool(model.update(password_hash=new_hash).where(unchanged).execute())

    def user_remove(self, user_id: int) -> bool:
        """Remove an account with its sessions and tokens; tell whether there was one.

        Raises: LastUser if nobody could log in any more.
        """
        model, token = self.models.user, self.models.token
        with self.transaction():
            self._next_users_revision()
            user = self.user_get(user_id)
            if user is None:
                return False
            self._refuse_last(user)
            self._end_sessions(user_id, None)
            token.delete().where(token.user_id == user_id).execute()
            return bool(model.delete().where(model.id == user_id).execute())

    def user_note_login(self, user_id: int, ip: str, now_ms: int) -> None:
        """Keep when and from where somebody has logged in last."""
        model = self.models.user
        values = {"last_login_ms": now_ms, "last_login_ip": storable(self.database, ip[:64])}
        model.update(**values).where(model.id == user_id).execute()

    def _users(self) -> Any:
        return self.models.user.select(*self._user_columns())

    def _user_columns(self) -> tuple[Any, ...]:
        model = self.models.user
        return (
            model.id,
            model.username,
            model.password_hash,
            model.enabled,
            model.must_change,
            model.created_ms,
            model.updated_ms,
            model.last_login_ms,
            model.last_login_ip,
        )

    def _next_users_revision(self) -> None:
        self.state_set(_REVISION, str(self._lock_users() + 1))

    def _lock_users(self) -> int:
        # First in the transaction, for the reason given at `WhitelistTable._next_revision`.
        return int(self.state_get(_REVISION, lock=True) or 0)

    def _known_user(self, user_id: int) -> UserRow:
        user = self.user_get(user_id)
        if user is None:
            raise UnknownUser(user_id)
        return user

    def _refuse_last(self, user: UserRow) -> None:
        model = self.models.user
        others = model.select().where(model.enabled == True, model.id != user.id)  # noqa: E712
        if user.enabled and not others.exists():
            raise LastUser(user.username)

    def _end_sessions(self, user_id: int, keep_id: int | None) -> int:
        model = self.models.session
        query = model.delete().where(model.user_id == user_id)
        if keep_id is not None:
            query = query.where(model.id != keep_id)
        return int(query.execute())
