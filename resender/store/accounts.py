"""The tables of watched accounts and of their keys' digests.

It stores; what an account may answer is `resender.account`. Every change raises `account_revision` in the same
transaction, which is how running servers notice.
"""

from __future__ import annotations

import re
from typing import Any

import peewee

from resender.core.account.spec import MODES, AccountMarket, Mode
from resender.store.account_rows import (
    AccountKeyRow,
    AccountRow,
    DuplicateAccount,
    DuplicateKey,
    UnknownAccount,
)
from resender.store.tables import Tables, is_id

_REVISION = "account_revision"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SOURCES = ("bound", "linked", "own")


class AccountTable(Tables):
    """Part of `Repository`."""

    def account_list(self) -> list[AccountRow]:
        """List all accounts with their keys, oldest first."""
        model, key = self.models.account, self.models.account_key
        columns = (model.id, model.name, model.market, model.mode, model.sealed, model.created_ms)
        keys: dict[int, list[AccountKeyRow]] = {}
        told = (key.account_id, key.digest, key.hint, key.public_key, key.source, key.created_ms)
        for row in key.select(*told).order_by(key.id).tuples():
            keys.setdefault(row[0], []).append(AccountKeyRow(*row))
        return [
            AccountRow(number, name, market, mode, sealed, created_ms, tuple(keys.get(number, ())))
            for number, name, market, mode, sealed, created_ms in model.select(*columns)
            .order_by(model.id)
            .tuples()
        ]

    def account_get(self, account_id: int) -> AccountRow | None:
        """Find an account by its id."""
        if not is_id(account_id):
            return None
        return next((row for row in self.account_list() if row.id == account_id), None)

    def account_find(self, name: str) -> AccountRow | None:
        """Find an account by its name; case does not matter."""
        return next((row for row in self.account_list() if row.name.lower() == name.lower()), None)

    def account_snapshot(self) -> tuple[int, tuple[AccountRow, ...]]:
        """Read the revision and the accounts that belong to it, as `whitelist_snapshot`."""
        revision = self.account_revision()
        return revision, tuple(self.account_list())

    def account_revision(self) -> int:
        """Read the number that changes with every change of the accounts."""
        return int(self.state_get(_REVISION) or 0)

    def account_add(
        self,
        name: str,
        market: str,
        mode: str,
        *,
        digest: str | None = None,
        hint: str = "",
        public_key: str | None = None,
        source: str = "linked",
    ) -> AccountRow:
        """Add an account, with its first key if that is known.

        Raises: ValueError; DuplicateAccount, DuplicateKey, carrying the row that is there.
        """
        if not _NAME.fullmatch(name):
            raise ValueError("An account's name has 1 to 64 letters, digits and _ . @ - .")
        if Mode(mode) not in MODES[AccountMarket(market)]:
            known = ", ".join(MODES[AccountMarket(market)])
            raise ValueError(f"An account of {market} is watched in one of these ways: {known}.")
        with self.transaction():
            self._next_account_revision()
            there = self.account_find(name)
            if there is not None:
                raise DuplicateAccount(there)
            values = {"name": name, "name_key": name.lower(), "market": market, "mode": mode}
            try:
                account_id = self.models.account.insert(
                    {**values, "sealed": None, "created_ms": self._now_ms()}
                ).execute()
            except peewee.IntegrityError:  # another process was faster
                row = self.account_find(name)
                if row is None:
                    raise
                raise DuplicateAccount(row) from None
            if digest is not None:
                self._add_key(int(account_id), market, digest, hint, public_key, source)
            return self._account(int(account_id))

    def account_seal(self, account_id: int, sealed: str) -> AccountRow:
        """Keep an account's sealed key and secret. Raises: UnknownAccount."""
        with self.transaction():
            self._next_account_revision()
            self._account(account_id)
            model = self.models.account
            model.update(sealed=sealed).where(model.id == account_id).execute()
            return self._account(account_id)

    def account_link(
        self,
        account_id: int,
        digest: str,
        hint: str,
        *,
        public_key: str | None = None,
        source: str = "linked",
    ) -> AccountRow:
        """Say that another key is the same account's.

        Raises: UnknownAccount; DuplicateKey; ValueError.
        """
        with self.transaction():
            self._next_account_revision()
            row = self._account(account_id)
            if all(key.digest != digest for key in row.keys):
                self._add_key(account_id, row.market, digest, hint, public_key, source)
            return self._account(account_id)

    def account_bind(self, account_id: int, digest: str, hint: str) -> bool:
        """Give an account that has no key the one a call has brought; tell whether it took it."""
        with self.transaction():
            self._next_account_revision()
            row = self.account_get(account_id)
            if row is None or row.keys or row.mode == Mode.SECRET.value:
                return False
            try:
                self._add_key(account_id, row.market, digest, hint, None, "bound")
            except DuplicateKey:
                return False
            return True

    def account_unlink(self, account_id: int, digest: str) -> bool:
        """Take a key from an account; tell whether it had it."""
        key = self.models.account_key
        with self.transaction():
            self._next_account_revision()
            found = key.delete().where((key.account_id == account_id) & (key.digest == digest))
            return bool(found.execute())

    def account_remove(self, account_id: int) -> bool:
        """Remove an account with its keys and secrets; tell whether there was one.

        What was sealed is overwritten first; `empty_wal` afterwards takes it out of SQLite's log too.
        """
        model, key = self.models.account, self.models.account_key
        with self.transaction():
            self._next_account_revision()
            row = self.account_get(account_id)
            if row is None:
                return False
            if isinstance(self.database, peewee.SqliteDatabase):
                pragma: Any = self.database
                pragma.execute_sql("PRAGMA secure_delete=ON")
            if row.sealed is not None:
                model.update(sealed="0" * len(row.sealed)).where(model.id == account_id).execute()
            key.delete().where(key.account_id == account_id).execute()
            return bool(model.delete().where(model.id == account_id).execute())

    def _account(self, account_id: int) -> AccountRow:
        row = self.account_get(account_id)
        if row is None:
            raise UnknownAccount(account_id)
        return row

    def _add_key(
        self, account_id: int, market: str, digest: str, hint: str, public_key: str | None, source: str
    ) -> None:
        if not _DIGEST.fullmatch(digest) or source not in _SOURCES:
            raise ValueError("A key is known by the SHA-256 of its text.")
        for row in self.account_list():
            if row.market == market and any(key.digest == digest for key in row.keys):
                raise DuplicateKey(row)
        values: dict[str, Any] = {
            "account_id": account_id, "digest": digest, "hint": hint[:8], "public_key": public_key,
            "source": source, "created_ms": self._now_ms(),
        }  # fmt: skip
        self.models.account_key.insert(values).execute()

    def _next_account_revision(self) -> None:
        # First in the transaction, for the reason given at `WhitelistTable._next_revision`.
        revision = int(self.state_get(_REVISION, lock=True) or 0)
        self.state_set(_REVISION, str(revision + 1))
