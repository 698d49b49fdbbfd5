"""The log-ins and the personal access tokens of the admin pages.

It stores digests of secrets (`resender.passwords.digest`), never a secret. How long a session
lasts is decided by whoever asks; a token that is over, and everything of a disabled account, is
not found.
"""

from __future__ import annotations

from typing import Any

from resender.store.rows import SessionRow, TokenRow, TooManyTokens, UnknownSession, UnknownUser, UserRow
from resender.store.tables import is_id, storable, valid_text
from resender.store.users import UserTable

SCOPES = ("read", "write")
TOKEN_NAME_MAX = 100
# Of one account. Who logs in from a script pushes out what has not been used longest.
SESSIONS_MAX = 100
TOKENS_MAX = 100
_SESSION_COLUMNS = 6
_TOKEN_COLUMNS = 9
_TIME_MAX = 2**53


class SessionTable(UserTable):
    """Part of `Repository`."""

    def session_add(
        self,
        user_id: int,
        digest: str,
        ip: str,
        user_agent: str,
        now_ms: int,
        *,
        password_hash: str | None = None,
    ) -> SessionRow:
        """Keep a new log-in.

        Shape: `password_hash` is the one the password was compared with, if it was.
        Raises: UnknownUser if the account is gone or disabled, or has another password by now.
        """
        model = self.models.session
        with self.transaction():
            # Takes turns with whoever changes the account, so that no session outlives a change.
            self._lock_users()
            user = self.user_get(user_id)
            if user is None or not user.enabled or password_hash not in (None, user.password_hash):
                raise UnknownUser(user_id)
            oldest = model.select(model.id).where(model.user_id == user_id)
            oldest = oldest.order_by(model.last_seen_ms.desc(), model.id.desc())
            excess = [row[0] for row in oldest.offset(SESSIONS_MAX - 1).limit(1000).tuples()]
            if excess:
                model.delete().where(model.id.in_(excess)).execute()
            values: dict[str, Any] = {
                "user_id": user_id,
                "created_ms": now_ms,
                "last_seen_ms": now_ms,
                "ip": storable(self.database, ip[:64]),
                "user_agent": storable(self.database, user_agent[:255]),
            }
            new_id = model.insert(digest=digest, **values).execute()
        return SessionRow(id=int(new_id), **values)

    def session_find(self, digest: str) -> tuple[SessionRow, UserRow] | None:
        """Find the session whose secret has this digest, and whose account is enabled."""
        session, user = self.models.session, self.models.user
        query = (
            session.select(*self._session_columns(), *self._user_columns())
            .join(user, on=(user.id == session.user_id))
            .where(session.digest == digest, user.enabled == True)  # noqa: E712
        )
        row = query.tuples().first()
        if row is None:
            return None
        return SessionRow(*row[:_SESSION_COLUMNS]), UserRow(*row[_SESSION_COLUMNS:])

    def session_touch(self, session_id: int, now_ms: int, ip: str) -> bool:
        """Keep when and from where a session was used last; tell whether it is still there."""
        model = self.models.session
        values = {"last_seen_ms": now_ms, "ip": storable(self.database, ip[:64])}
        return self._touch(model, session_id, values)

    def session_renew(self, session_id: int, digest: str) -> None:
        """Give a session another secret; the old one is worth nothing any more.

        Raises: UnknownSession if it is gone.
        """
        model = self.models.session
        if not is_id(session_id):
            raise UnknownSession(session_id)
        if not model.update(digest=digest).where(model.id == session_id).execute():
            raise UnknownSession(session_id)

    def session_list(self, user_id: int) -> list[SessionRow]:
        """List an account's sessions, the one used last first."""
        model = self.models.session
        query = model.select(*self._session_columns()).where(model.user_id == user_id)
        return [
            SessionRow(*row) for row in query.order_by(model.last_seen_ms.desc(), model.id.desc()).tuples()
        ]

    def session_remove(self, session_id: int, user_id: int | None = None) -> bool:
        """End a session, if given only one of this account; tell whether there was one."""
        return self._remove(self.models.session, session_id, user_id)

    def session_remove_others(self, user_id: int, keep_id: int | None) -> int:
        """End an account's sessions but one; return how many that were."""
        return self._end_sessions(user_id, keep_id)

    def session_prune(self, idle_before_ms: int, created_before_ms: int) -> int:
        """Remove sessions not used or made since; return how many went."""
        model = self.models.session
        is_over = (model.last_seen_ms < idle_before_ms) | (model.created_ms < created_before_ms)
        return int(model.delete().where(is_over).execute())

    # -- tokens -------------------------------------------------------------------------

    def token_add(
        self, user_id: int, name: str, scope: str, digest: str, expires_ms: int | None = None
    ) -> TokenRow:
        """Keep a new token.

        Raises: ValueError for a name, scope or time that cannot be used, or when the account has
            too many; UnknownUser if the account is gone or disabled.
        """
        model = self.models.token
        now_ms = self._now_ms()
        name = name.strip()
        if not 0 < len(name) <= TOKEN_NAME_MAX or not valid_text(name):
            raise ValueError(f"A token needs a name of 1 to {TOKEN_NAME_MAX} characters.")
        if scope not in SCOPES:
            raise ValueError("The scope is read or write.")
        if expires_ms is not None and not now_ms < expires_ms <= _TIME_MAX:
            raise ValueError("The token must expire in the future.")
        with self.transaction():
            self._lock_users()
            user = self.user_get(user_id)
            if user is None or not user.enabled:
                raise UnknownUser(user_id)
            if model.select().where(model.user_id == user_id).count() >= TOKENS_MAX:
                raise TooManyTokens(user.username, TOKENS_MAX)
            new_id = model.insert(
                user_id=user_id,
                name=storable(self.database, name),
                scope=scope,
                digest=digest,
                created_ms=now_ms,
                expires_ms=expires_ms,
            ).execute()
            row = self._tokens().where(model.id == new_id).tuples().first()
        return TokenRow(*row)

    def token_list(self, user_id: int | None = None) -> list[TokenRow]:
        """List an account's tokens, or all, oldest first."""
        model = self.models.token
        query = self._tokens()
        if user_id is not None:
            query = query.where(model.user_id == user_id)
        return [TokenRow(*row) for row in query.order_by(model.id).tuples()]

    def token_find(self, digest: str) -> tuple[TokenRow, UserRow] | None:
        """Find the token whose secret has this digest, not yet over, of an enabled account."""
        model, user = self.models.token, self.models.user
        query = self._tokens(*self._user_columns()).where(
            model.digest == digest,
            user.enabled == True,  # noqa: E712
            model.expires_ms.is_null() | (model.expires_ms > self._now_ms()),
        )
        row = query.tuples().first()
        if row is None:
            return None
        return TokenRow(*row[:_TOKEN_COLUMNS]), UserRow(*row[_TOKEN_COLUMNS:])

    def token_touch(self, token_id: int, now_ms: int, ip: str) -> bool:
        """Keep when and from where a token was used last; tell whether it is still there."""
        model = self.models.token
        values = {"last_used_ms": now_ms, "last_used_ip": storable(self.database, ip[:64])}
        return self._touch(model, token_id, values)

    def token_remove(self, token_id: int, user_id: int | None = None) -> bool:
        """Revoke a token, if given only one of this account; tell whether there was one."""
        return self._remove(self.models.token, token_id, user_id)

    def _session_columns(self) -> tuple[Any, ...]:
        model = self.models.session
        return (
            model.id,
            model.user_id,
            model.created_ms,
            model.last_seen_ms,
            model.ip,
            model.user_agent,
        )

    def _tokens(self, *further: Any) -> Any:
        model, user = self.models.token, self.models.user
        return model.select(
            model.id,
            model.user_id,
            user.username,
            model.name,
            model.scope,
            model.created_ms,
            model.expires_ms,
            model.last_used_ms,
            model.last_used_ip,
            *further,
        ).join(user, on=(user.id == model.user_id))

    def _touch(self, model: Any, row_id: int, values: dict[str, Any]) -> bool:
        if not is_id(row_id):
            return False
        with self.transaction():
            model.update(**values).where(model.id == row_id).execute()
            # MySQL counts the rows that are different now, so it is asked.
            return bool(model.select().where(model.id == row_id).exists())

    def _remove(self, model: Any, row_id: int, user_id: int | None) -> bool:
        if not is_id(row_id):
            return False
        query = model.delete().where(model.id == row_id)
        if user_id is not None:
            query = query.where(model.user_id == user_id)
        return bool(query.execute())
