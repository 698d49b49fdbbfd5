"""The accounts, log-ins, tokens and the audit, as the server asks for them.

Each call is the function of `Repository` of the same name, on the database thread. It holds no
state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resender.store.calls import Calls
from resender.store.repository import Repository
from resender.store.rows import AuditRow, SessionRow, TokenRow, UserRow


class AdminCalls(Calls):
    """Part of `Store`."""

    async def user_list(self) -> list[UserRow]:
        """As `Repository.user_list`."""
        return await self.run(Repository.user_list)

    async def user_get(self, id_or_username: int | str) -> UserRow | None:
        """As `Repository.user_get`."""
        return await self.run(Repository.user_get, id_or_username)

    async def user_add(self, username: str, password_hash: str, must_change: bool = False) -> UserRow:
        """As `Repository.user_add`."""
        return await self.write(Repository.user_add, username, password_hash, must_change)

    async def user_update(
        self,
        user_id: int,
        *,
        password_hash: str | None = None,
        must_change: bool | None = None,
        enabled: bool | None = None,
        keep_session_id: int | None = None,
    ) -> UserRow:
        """As `Repository.user_update`."""
        return await self.write(
            Repository.user_update,
            user_id,
            password_hash=password_hash,
            must_change=must_change,
            enabled=enabled,
            keep_session_id=keep_session_id,
        )

    async def user_rehash(self, user_id: int, old_hash: str, new_hash: str) -> bool:
        """As `Repository.user_rehash`."""
        return await self.run(Repository.user_rehash, user_id, old_hash, new_hash)

    async def user_remove(self, user_id: int) -> bool:
        """As `Repository.user_remove`."""
        return await self.run(Repository.user_remove, user_id)

    async def user_note_login(self, user_id: int, ip: str, now_ms: int) -> None:
        """As `Repository.user_note_login`."""
        await self.write(Repository.user_note_login, user_id, ip, now_ms)

    async def session_add(
        self,
        user_id: int,
        digest: str,
        ip: str,
        user_agent: str,
        now_ms: int,
        *,
        password_hash: str | None = None,
    ) -> SessionRow:
        """As `Repository.session_add`."""
        add = Repository.session_add
        return await self.write(add, user_id, digest, ip, user_agent, now_ms, password_hash=password_hash)

    async def session_find(self, digest: str) -> tuple[SessionRow, UserRow] | None:
        """As `Repository.session_find`."""
        return await self.run(Repository.session_find, digest)

    async def session_touch(self, session_id: int, now_ms: int, ip: str) -> bool:
        """As `Repository.session_touch`."""
        return await self.run(Repository.session_touch, session_id, now_ms, ip)

    async def session_renew(self, session_id: int, digest: str) -> None:
        """As `Repository.session_renew`."""
        await self.write(Repository.session_renew, session_id, digest)

    async def session_list(self, user_id: int) -> list[SessionRow]:
        """As `Repository.session_list`."""
        return await self.run(Repository.session_list, user_id)

    async def session_remove(self, session_id: int, user_id: int | None = None) -> bool:
        """As `Repository.session_remove`."""
        return await self.run(Repository.session_remove, session_id, user_id)

    async def session_remove_others(self, user_id: int, keep_id: int | None) -> int:
        """As `Repository.session_remove_others`."""
        return await self.run(Repository.session_remove_others, user_id, keep_id)

    async def session_prune(self, idle_before_ms: int, created_before_ms: int) -> int:
        """As `Repository.session_prune`."""
        return await self.run(Repository.session_prune, idle_before_ms, created_before_ms)

    async def token_add(
        self, user_id: int, name: str, scope: str, digest: str, expires_ms: int | None = None
    ) -> TokenRow:
        """As `Repository.token_add`."""
        return await self.write(Repository.token_add, user_id, name, scope, digest, expires_ms)

    async def token_list(self, user_id: int | None = None) -> list[TokenRow]:
        """As `Repository.token_list`."""
        return await self.run(Repository.token_list, user_id)

    async def token_find(self, digest: str) -> tuple[TokenRow, UserRow] | None:
        """As `Repository.token_find`."""
        return await self.run(Repository.token_find, digest)

    async def token_touch(self, token_id: int, now_ms: int, ip: str) -> bool:
        """As `Repository.token_touch`."""
        return await self.run(Repository.token_touch, token_id, now_ms, ip)

    async def token_remove(self, token_id: int, user_id: int | None = None) -> bool:
        """As `Repository.token_remove`."""
        return await self.run(Repository.token_remove, token_id, user_id)

    async def audit_add(
        self,
        actor: str,
        ip: str,
        action: str,
        subject: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> AuditRow:
        """As `Repository.audit_add`."""
        return await self.write(Repository.audit_add, actor, ip, action, subject, before, after)

    async def audit_list(
        self,
        *,
        before_id: int | None = None,
        limit: int = 100,
        actor: str | None = None,
        action: str | None = None,
    ) -> list[AuditRow]:
        """As `Repository.audit_list`."""
        return await self.run(
            Repository.audit_list, before_id=before_id, limit=limit, actor=actor, action=action
        )
