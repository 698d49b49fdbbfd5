"""Whose calls a reader leaves to the collector."""

from __future__ import annotations

from resender.api_keys import digest_of
from resender.store import AccountRow
from resender.store.account_rows import AccountKeyRow
from resender.workers import Elsewhere


def row(*keys: str) -> AccountRow:
    return AccountRow(
        1, "main", "spot", "key", None, 0,
        tuple(AccountKeyRow(1, digest_of(key), key[-4:], None, "bound", 0) for key in keys),
    )  # fmt: skip


def test_calls_of_watched_keys_are_the_collectors() -> None:
    elsewhere = Elsewhere()
    assert not elsewhere.has_accounts
    assert not elsewhere.is_watched("one")
    elsewhere.set_accounts([row("one", "two")])
    assert elsewhere.has_accounts
    assert [elsewhere.is_watched(key) for key in ("one", "two", "three")] == [True, True, False]
    elsewhere.set_accounts([])
    assert not elsewhere.is_watched("one")


def test_as_long_as_an_account_waits_for_its_key_it_may_be_anyones() -> None:
    elsewhere = Elsewhere()
    elsewhere.set_accounts([row("one"), row()])
    assert elsewhere.is_watched("three")
