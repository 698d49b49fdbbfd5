"""The tables of watched accounts and of their keys' digests.

It stores; what an account may answer is `resender.account`. Every change raises `account_revision` in the same
transaction, which is how running servers notice.
"""

from __future__ import annotations

import re

import peewee

from resender.core.account.spec import MODES, Mode
from resender.store.account_rows import (
    AccountKeyRow,
    AccountRow,
    DuplicateAccount,
    DuplicateKey,
    UnknownAccount,
)
from resender.store.tables import Tables, is_id, storable

_REVISION = "account_revision"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SOURCES = ("bound", "linked", "own")
_HINT_MAX = 8
_MARKETS = {market.value: tuple(mode.value for mode in modes) for market, modes in MODES.items()}


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
        check_account(name, market, mode)
        with self.transaction():
            self._lock_accounts()
            there = self.account_find(name)
            if there is not None:
                raise DuplicateAccount(there)
            values = {
                "name": name, "name_key": name.lower(), "market": market, "mode": mode, "sealed": None,
                "created_ms": self._now_ms(),
            }  # fmt: skip
            account_id = int(self.models.account.insert(values).execute())
            if digest is not None:
                self._add_key(account_id, market, digest, hint, public_key, source)
            return self._changed(account_id)

    def account_seal(self, account_id: int, sealed: str) -> AccountRow:
        """Keep an account's sealed key and secret. Raises: UnknownAccount."""
        model = self.models.account
        with self.transaction(), self._overwriting():
            self._lock_accounts()
            old = self._account(account_id)
            model.update(sealed=sealed).where(model.id == account_id).execute()
            if old.sealed is not None:
                self._write_anew()
            return self._changed(account_id)

    def account_link(
        self,
        account_id: int,
        digest: str,
        hint: str,
        *,
        public_key: str | None = None,
        source: str = "linked",
    ) -> AccountRow:
        """Say that another key is the same account's; of one it has, take the public key if one is given.

        Raises: UnknownAccount; DuplicateKey; ValueError.
        """
        key = self.models.account_key
        with self.transaction():
            self._lock_accounts()
            row = self._account(account_id)
            if all(each.digest != digest for each in row.keys):
                self._add_key(account_id, row.market, digest, hint, public_key, source)
            elif public_key is None:
                return row
            else:
                mine = (key.account_id == account_id) & (key.digest == digest)
                key.update(public_key=storable(self.database, public_key)).where(mine).execute()
            return self._changed(account_id)

    def account_bind(self, account_id: int, digest: str, hint: str) -> bool:
        """Give an account that has no key the one a call has brought; tell whether it took it."""
        with self.transaction():
            self._lock_accounts()
            row = self.account_get(account_id)
            if row is None or row.keys or row.mode == Mode.SECRET.value:
                return False
            try:
                self._add_key(account_id, row.market, digest, hint, None, "bound")
            except DuplicateKey:
                return False
            self._raise_revision()
            return True

    def account_unlink(self, account_id: int, digest: str) -> bool:
        """Take a key from an account, but never the sealed one; tell whether it was taken."""
        key = self.models.account_key
        with self.transaction():
            self._lock_accounts()
            mine = (key.account_id == account_id) & (key.digest == digest) & (key.source != "own")
            if not key.delete().where(mine).execute():
                return False
            self._raise_revision()
            return True

    def account_remove(self, account_id: int) -> bool:
        """Remove an account with its keys and secrets; tell whether there was one.

        Shape: SQLite's file keeps nothing of what was sealed, its log nothing either after `empty_wal`.
        """
        model, key = self.models.account, self.models.account_key
        with self.transaction(), self._overwriting():
            self._lock_accounts()
            row = self.account_get(account_id)
            if row is None:
                return False
            key.delete().where(key.account_id == account_id).execute()
            model.delete().where(model.id == account_id).execute()
            if row.sealed is not None:
                self._write_anew()
            self._raise_revision()
            return True

    def _write_anew(self) -> None:
        """Empty the table's pages and fill them again.

        A row that was moved to another page leaves a copy in the gaps of its old one, which deleting the
        row does not reach; deleting all of them empties whole pages.
        """
        if not isinstance(self.database, peewee.SqliteDatabase):
            return
        model = self.models.account
        rows = list(model.select().dicts())
        model.delete().execute()
        for row in rows:
            model.insert(row).execute()

    def _account(self, account_id: int) -> AccountRow:
        row = self.account_get(account_id)
        if row is None:
            raise UnknownAccount(account_id)
        return row

    def _add_key(
        self, account_id: int, market: str, digest: str, hint: str, public_key: str | None, source: str
    ) -> None:
        if not _DIGEST.fullmatch(digest):
            raise ValueError("A key is known by the SHA-256 of its text.")
        if source not in _SOURCES:
            raise ValueError(f"Where a key comes from is one of {', '.join(_SOURCES)}.")
        for row in self.account_list():
            if row.market == market and any(key.digest == digest for key in row.keys):
                raise DuplicateKey(row)
        values = {
            "account_id": account_id, "digest": digest, "hint": storable(self.database, hint[-_HINT_MAX:]),
            "public_key": None if public_key is None else storable(self.database, public_key),
            "source": source, "created_ms": self._now_ms(),
        }  # fmt: skip
        self.models.account_key.insert(values).execute()

    def _lock_accounts(self) -> None:
        # First in the transaction, for the reason given at `WhitelistTable._next_revision`.
        self.state_get(_REVISION, lock=True)

    def _raise_revision(self) -> None:
        self.state_set(_REVISION, str(self.account_revision() + 1))

    def _changed(self, account_id: int) -> AccountRow:
        self._raise_revision()
        return self._account(account_id)


def check_account(name: str, market: str, mode: str) -> None:
    """Tell whether there can be such an account. Raises: ValueError with a text for the user."""
    if not _NAME.fullmatch(name):
        raise ValueError("An account's name is 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
    if market not in _MARKETS:
        raise ValueError(f"An account's market is one of {', '.join(_MARKETS)}.")
    if mode not in _MARKETS[market]:
        known = " or ".join(_MARKETS[market])
        raise ValueError(f"An account of {market} is watched in mode {known}, not {mode[:20]}.")
