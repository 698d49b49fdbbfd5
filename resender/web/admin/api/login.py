"""Logging in and out, one's own password, sessions and tokens.

Each handler ends with the rows the store gave it; secrets leave once, to whom they belong, and
are stored as digests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from resender import __version__
from resender.errors import RouteError, TooManyLogins, Unauthorized
from resender.passwords import WeakPassword, check_password, digest
from resender.store import (
    Repository,
    SessionRow,
    TokenRow,
    TooManyTokens,
    UnknownSession,
    UnknownUser,
    UserRow,
)
from resender.web.admin.base import (
    COOKIE_PATH,
    SESSION_COOKIE,
    AdminBase,
    AdminHandler,
    AdminOpenHandler,
)
from resender.web.admin.fields import Field, wrong
from resender.web.admin.password_check import make_mark
from resender.web.admin.sessions import TOKEN_PREFIX, new_secret

T = TypeVar("T")
MARK_COOKIE = "resender_known"
_MARK_AGE_S = 400 * 86400
# No user can be called so.
_UNKNOWN = "(unknown user)"
_TIME_MAX_MS = 2**53


def set_mark(handler: AdminBase, user: UserRow) -> None:
    """Let this browser show next time that it has logged in to the account before."""
    handler.set_cookie(
        MARK_COOKIE,
        make_mark(user),
        path=COOKIE_PATH,
        max_age=_MARK_AGE_S,
        httponly=True,
        samesite="Strict",
        secure=handler.is_tls,
    )


def accept_password(field: str, password: str, username: str) -> None:
    """Refuse a password that is too easy to guess.

    Raises: BadRequest that names the field; `data.reason` tells a program why.
    """
    try:
        check_password(password, username)
    except WeakPassword as error:
        raise wrong(field, str(error), reason=error.reason) from None


class LoginHandler(AdminOpenHandler):
    """`POST /admin/api/login`."""

    async def post(self) -> None:
        body = self.read_json({"username": Field(str, longest=200), "password": Field(str, longest=1000)})
        username = body["username"].strip()
        try:
            user = await self.site.passwords.check(
                username, body["password"], self.ip, self.get_cookie(MARK_COOKIE)
            )
        except TooManyLogins:
            self.services.access.note_stranger(self.ip, f"failed log-in from {self.ip}")
            if self.site.is_first_refusal(self.ip):
                await self._note_failure("login.throttled", username)
            raise
        session = None if user is None else await self._begin(user)
        if user is None or session is None:
            self.services.access.note_stranger(self.ip, f"failed log-in from {self.ip}")
            await self._note_failure("login.failed", username)
            raise Unauthorized("The user name or the password is wrong.")
        self.send({"username": user.username, "must_change": user.must_change})

    async def _note_failure(self, action: str, username: str) -> None:
        """Write down a try, unless strangers have caused too many rows of late.

        A name that nobody has is left out: it may be a password typed into the wrong field.
        """
        unwritten = self.site.notes[action].take(self.services.clock.mono())
        if unwritten is None:
            return
        after = {"left_out": unwritten} if unwritten else None

        def work(repository: Repository) -> None:
            user = repository.user_get(username)
            subject = _UNKNOWN if user is None else user.username
            repository.audit_add("", self.ip, action, subject, None, after)

        await self.services.store.write(work)

    async def _begin(self, user: UserRow) -> SessionRow | None:
        secret, now_ms = new_secret(), self.services.clock.now_ms()
        config = self.services.config
        agent = self.request.headers.get("User-Agent", "")
        idle_before = now_ms - config.admin_idle_minutes * 60_000
        created_before = now_ms - config.admin_session_hours * 3_600_000
        old = self.get_cookie(SESSION_COOKIE)

        def work(repository: Repository) -> tuple[SessionRow, bool]:
            with repository.transaction():
                repository.session_prune(idle_before, created_before)
                replaced = repository.session_find(digest(old)) if old else None
                if replaced is not None:
                    repository.session_remove(replaced[0].id)
                row = repository.session_add(
                    user.id, digest(secret), self.ip, agent, now_ms, password_hash=user.password_hash
                )
                is_new = not repository.audit_has_login(user.username, self.ip)
                repository.user_note_login(user.id, self.ip, now_ms)
                repository.audit_add(user.username, self.ip, "login", user.username)
                return row, is_new

        try:
            row, is_new = await self.services.store.write(work)
        except UnknownUser:  # disabled, removed or given another password just now
            return None
        self.site.logins.forget()
        if is_new and self.services.alerts is not None:
            self.services.alerts.note(
                "login", f"{user.username} {self.ip}", user=user.username, address=self.ip
            )
        self.set_session_cookie(secret)
        set_mark(self, user)
        return row


class _LoginsHandler(AdminHandler):
    login_only_writes = True

    async def change(self, work: Callable[[Repository], T]) -> T:
        """Change sessions or tokens; `work` writes the row of the audit in the same transaction."""
        try:
            return await self.services.store.write(work)
        finally:
            self.site.logins.forget()


class LogoutHandler(_LoginsHandler):
    """`POST /admin/api/logout`."""

    free_for_new = True

    async def post(self) -> None:
        session = self.session
        assert session is not None

        def work(repository: Repository) -> None:
            with repository.transaction():
                repository.session_remove(session.id)
                repository.audit_add(self.login.actor, self.ip, "logout", self.user.username)

        await self.change(work)
        self.clear_session_cookie()
        self.send({})


class MeHandler(AdminHandler):
    """`GET /admin/api/me`."""

    def get(self) -> None:
        self.send(
            {
                "username": self.user.username,
                "must_change": self.user.must_change,
                "ip": self.ip,
                "session_id": None if self.session is None else self.session.id,
                "scope": self.login.scope,
                "version": __version__,
                "time": self.services.clock.now_ms(),
            }
        )


class PasswordHandler(AdminHandler):
    """`POST /admin/api/password`: one's own."""

    login_only_writes = True
    free_for_new = True

    async def post(self) -> None:
        body = self.read_json({"old": Field(str, longest=1000), "new": Field(str, longest=1000)})
        session, username = self.session, self.user.username
        assert session is not None
        accept_password("new", body["new"], username)
        if body["new"] == body["old"]:
            raise wrong("new", "The new password is the old one.", reason="same")
        user = await self.site.passwords.check(username, body["old"], self.ip, self.get_cookie(MARK_COOKIE))
        if user is None:
            await self.audit("password.failed", username)
            raise Unauthorized("The old password is wrong.", {"field": "old"})
        new_hash = await self.site.passwords.hash(body["new"])
        secret = new_secret()

        def work(repository: Repository) -> UserRow:
            with repository.transaction():
                now = repository.user_get(user.id)
                if now is None or now.password_hash != user.password_hash:
                    raise UnknownSession(session.id)
                changed = repository.user_update(
                    user.id, password_hash=new_hash, must_change=False, keep_session_id=session.id
                )
                repository.session_renew(session.id, digest(secret))
                repository.audit_add(self.login.actor, self.ip, "password.change", username)
                return changed

        try:
            changed = await self.services.store.write(work)
        except UnknownSession:  # ended, or the password changed, by somebody else just now
            raise Unauthorized from None
        finally:
            self.site.logins.forget()
        self.set_session_cookie(secret)
        set_mark(self, changed)
        self.send({})


class SessionsHandler(_LoginsHandler):
    """`GET /admin/api/sessions`: one's own; `DELETE`: log out everywhere else."""

    async def get(self) -> None:
        rows = await self.services.store.session_list(self.user.id)
        now_ms, config = self.services.clock.now_ms(), self.services.config
        idle_ms, longest_ms = config.admin_idle_minutes * 60_000, config.admin_session_hours * 3_600_000
        live = [r for r in rows if now_ms - r.last_seen_ms < idle_ms and now_ms - r.created_ms < longest_ms]
        self.send({"items": [self._shown(row) for row in live]})

    def _shown(self, row: SessionRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "ip": row.ip,
            "user_agent": row.user_agent,
            "created": row.created_ms,
            "last_seen": row.last_seen_ms,
            "current": self.session is not None and row.id == self.session.id,
        }

    async def delete(self) -> None:
        session, user = self.session, self.user
        assert session is not None

        def work(repository: Repository) -> int:
            with repository.transaction():
                count = repository.session_remove_others(user.id, session.id)
                before = {"sessions": count}
                repository.audit_add(self.login.actor, self.ip, "session.end_others", user.username, before)
                return count

        self.send({"removed": await self.change(work)})


class SessionHandler(_LoginsHandler):
    """`DELETE /admin/api/sessions/<id>`: one of one's own."""

    async def delete(self, row_id: str) -> None:
        session_id, user = int(row_id), self.user

        def work(repository: Repository) -> bool:
            with repository.transaction():
                if not repository.session_remove(session_id, user.id):
                    return False
                before = {"session": session_id}
                repository.audit_add(self.login.actor, self.ip, "session.end", user.username, before)
                return True

        if not await self.change(work):
            raise RouteError(f"You have no session {session_id}.")
        if self.session is not None and session_id == self.session.id:
            self.clear_session_cookie()
        self.send({})


class TokensHandler(AdminHandler):
    """`GET` and `POST /admin/api/tokens`: one's own personal access tokens."""

    login_only_writes = True

    async def get(self) -> None:
        rows = await self.services.store.token_list(self.user.id)
        self.send({"items": [shown_token(row) for row in rows]})

    async def post(self) -> None:
        body = self.read_json(
            {
                "name": Field(str, longest=100),
                "scope": Field(str, "read", choices=("read", "write")),
                "expires": Field(int, None, nullable=True, low=0, high=_TIME_MAX_MS),
            }
        )
        name = body["name"].strip()
        if not name:
            raise wrong("name", "Give the token a name, to know later what it is for.", reason="missing")
        expires_ms = body["expires"]
        if expires_ms is not None and expires_ms <= self.services.clock.now_ms():
            msg = "The token would have expired already; this is epoch milliseconds."
            raise wrong("expires", msg, reason="expired")
        token = TOKEN_PREFIX + new_secret()

        def work(repository: Repository) -> TokenRow:
            with repository.transaction():
                row = repository.token_add(self.user.id, name, body["scope"], digest(token), expires_ms)
                repository.audit_add(self.login.actor, self.ip, "token.add", name, None, _audited(row))
                return row

        try:
            row = await self.services.store.write(work)
        except UnknownUser:
            raise Unauthorized from None
        except TooManyTokens as error:
            raise wrong("name", str(error), reason="tokens_many", most=error.most) from None
        except ValueError as error:
            raise wrong("name", str(error), reason="characters") from None
        self.send({**shown_token(row), "token": token}, 201)


class TokenHandler(_LoginsHandler):
    """`DELETE /admin/api/tokens/<id>`: revoke one of one's own."""

    async def delete(self, row_id: str) -> None:
        token_id, user_id = int(row_id), self.user.id

        def work(repository: Repository) -> bool:
            with repository.transaction():
                rows = (each for each in repository.token_list(user_id) if each.id == token_id)
                row = next(rows, None)
                if row is None or not repository.token_remove(token_id, user_id):
                    return False
                repository.audit_add(self.login.actor, self.ip, "token.remove", row.name, _audited(row))
                return True

        if not await self.change(work):
            raise RouteError(f"You have no token {token_id}.")
        self.send({})


def shown_token(row: TokenRow) -> dict[str, Any]:
    """Return a token as the API shows it; its secret is nowhere any more."""
    return {
        "id": row.id,
        "name": row.name,
        "scope": row.scope,
        "username": row.username,
        "created": row.created_ms,
        "expires": row.expires_ms,
        "last_used": row.last_used_ms,
        "last_used_ip": row.last_used_ip,
    }


def _audited(row: TokenRow) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "scope": row.scope, "expires": row.expires_ms}
