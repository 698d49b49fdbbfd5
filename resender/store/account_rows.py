"""Rows of the accounts that are watched, and what can be wrong with them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from resender.errors import ResenderError


@dataclass(frozen=True, slots=True)
class AccountKeyRow:
    """One API key of an account, known by its digest only.

    Shape: `source` is "bound" (taken from a call), "linked" (by the owner) or "own" (the sealed one).
    Units: `created_ms` epoch milliseconds.
    """

    account_id: int
    digest: str
    hint: str
    public_key: str | None
    source: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account.

    Shape: `sealed` holds key and secret, encrypted; never shown. Units: `created_ms` epoch milliseconds.
    """

    id: int
    name: str
    market: str
    mode: str
    sealed: str | None = field(repr=False)
    created_ms: int
    keys: tuple[AccountKeyRow, ...] = ()


class DuplicateAccount(ResenderError, ValueError):
    """There is an account of this name already; `row` is that one."""

    def __init__(self, row: AccountRow) -> None:
        super().__init__(f"There is an account {row.name} already.")
        self.row = row


class DuplicateKey(ResenderError, ValueError):
    """Another account of the market has this key; `row` is that one."""

    def __init__(self, row: AccountRow) -> None:
        super().__init__(f"This key belongs to the account {row.name} already.")
        self.row = row


class UnknownAccount(ResenderError, LookupError):
    """There is no such account."""

    def __init__(self, which: object) -> None:
        super().__init__(f"There is no account {str(which)[:64]}.")
        self.which = which
