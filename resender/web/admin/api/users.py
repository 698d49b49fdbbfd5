"""The users page's API.

Accounts and their rules (the last one stays, names are unique) are the store's.
"""

from __future__ import annotations

from typing import Any

from resender.errors import Conflict, RouteError
from resender.passwords import generate_password
from resender.store import DuplicateUser, LastUser, Repository, UnknownUser, UserRow
from resender.web.admin.api.login import accept_password
from resender.web.admin.base import AdminHandler
from resender.web.admin.fields import ABSENT, Field, wrong


def _audited(user: UserRow) -> dict[str, Any]:
    return {"username": user.username, "enabled": user.enabled, "must_change": user.must_change}


def _is_taken(error: DuplicateUser) -> Conflict:
    data = {"field": "username", "id": error.user.id, "reason": "user_exists", "name": error.user.username}
    return Conflict(str(error), data)


class _PeopleHandler(AdminHandler):
    login_only_writes = True

    def shown(self, row: UserRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "username": row.username,
            "enabled": row.enabled,
            "must_change": row.must_change,
            "created": row.created_ms,
            "last_login": row.last_login_ms,
            "last_login_ip": row.last_login_ip,
            "self": row.id == self.user.id,
        }

    async def new_password(self, given: str | None, username: str) -> tuple[str, str | None]:
        """Return the hash of a password, and the password itself if it was made up here.

        Raises: BadRequest if the given one is too easy to guess.
        """
        if given is not None:
            accept_password("password", given, username)
        password = generate_password() if given is None else given
        return await self.site.passwords.hash(password), password if given is None else None


class UsersHandler(_PeopleHandler):
    """`GET` and `POST /admin/api/users`."""

    async def get(self) -> None:
        rows = await self.services.store.user_list()
        self.send({"items": [self.shown(row) for row in rows]})

    async def post(self) -> None:
        body = self.read_json(
            {"username": Field(str, longest=200), "password": Field(str, None, nullable=True, longest=1000)}
        )
        username = body["username"].strip()
        present = await self.services.store.user_get(username)
        if present is not None:
            raise _is_taken(DuplicateUser(present))
        password_hash, made_up = await self.new_password(body["password"], username)

        def work(repository: Repository) -> UserRow:
            with repository.transaction():
                # What the program made up is only for the first log-in.
                row = repository.user_add(username, password_hash, must_change=made_up is not None)
                repository.audit_add(self.login.actor, self.ip, "user.add", row.username, None, _audited(row))
                return row

        try:
            row = await self.services.store.write(work)
        except DuplicateUser as error:
            raise _is_taken(error) from None
        except ValueError as error:
            raise wrong("username", str(error), reason="user_characters") from None
        item = self.shown(row)
        self.send(item if made_up is None else {**item, "password": made_up}, 201)


class UserHandler(_PeopleHandler):
    """`PATCH` and `DELETE /admin/api/users/<id>`."""

    async def patch(self, row_id: str) -> None:
        user_id = int(row_id)
        body = self.read_json(
            {
                "enabled": Field(bool, None, nullable=True),
                "password": Field(str, ABSENT, nullable=True, longest=1000),
            }
        )
        before = await self.services.store.user_get(user_id)
        if before is None:
            raise RouteError(f"There is no user {user_id}.")
        new_hash: str | None = None
        made_up: str | None = None
        if body["password"] is not ABSENT:
            if user_id == self.user.id:
                msg = "Your own password is changed where the old one is asked for: /admin/api/password."
                raise wrong("password", msg, reason="own_password")
            new_hash, made_up = await self.new_password(body["password"], before.username)
        if new_hash is None and body["enabled"] is None:
            self.send(self.shown(before))
            return

        def work(repository: Repository) -> UserRow:
            with repository.transaction():
                row = repository.user_update(
                    user_id,
                    password_hash=new_hash,
                    # What the program made up is only for the first log-in.
                    must_change=None if new_hash is None else made_up is not None,
                    enabled=body["enabled"],
                )
                action = "user.change" if new_hash is None else "user.password"
                repository.audit_add(
                    self.login.actor, self.ip, action, row.username, _audited(before), _audited(row)
                )
                return row

        row = await self._change(work, user_id)
        item = self.shown(row)
        self.send(item if made_up is None else {**item, "password": made_up})

    async def delete(self, row_id: str) -> None:
        user_id = int(row_id)

        def work(repository: Repository) -> None:
            with repository.transaction():
                row = repository.user_get(user_id)
                if row is None or not repository.user_remove(user_id):
                    raise UnknownUser(user_id)
                repository.audit_add(self.login.actor, self.ip, "user.remove", row.username, _audited(row))

        await self._change(work, user_id)
        self.send({})

    async def _change(self, work: Any, user_id: int) -> Any:
        try:
            return await self.services.store.write(work)
        except UnknownUser:
            raise RouteError(f"There is no user {user_id}.") from None
        except LastUser as error:
            raise Conflict(str(error), {"reason": "last_user", "name": error.username}) from None
        finally:
            self.site.logins.forget()
