"""The tables of watched accounts: one name, one key, one account; and nothing of a secret stays behind."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from resender.secret_box import SecretBox, SecretError
from resender.store import (
    AccountRow,
    DuplicateAccount,
    DuplicateKey,
    Repository,
    UnknownAccount,
    open_repository,
)
from tests.support.moment import Moment

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef0123456789"
A, B, C = "a" * 64, "b" * 64, "c" * 64
PUBLIC = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n"


def test_account_comes_back_as_it_was_given(repository: Repository, moment: Moment) -> None:
    row = repository.account_add("My-bot_1", "um", "key", digest=A, hint="aaaa", public_key=PUBLIC)
    assert (row.name, row.market, row.mode, row.sealed, row.created_ms) == (
        "My-bot_1", "um", "key", None, moment.ms,
    )  # fmt: skip
    (key,) = row.keys
    assert (key.account_id, key.digest, key.hint, key.public_key, key.source, key.created_ms) == (
        row.id, A, "aaaa", PUBLIC, "linked", moment.ms,
    )  # fmt: skip
    assert repository.account_list() == [row]
    assert repository.account_get(row.id) == row
    assert repository.account_find("my-BOT_1") == row
    assert repository.account_find("other") is None
    assert repository.account_snapshot() == (1, (row,))


def test_accounts_come_with_their_own_keys_oldest_first(repository: Repository) -> None:
    first = repository.account_add("first", "um", "key", digest=A, hint="aaaa")
    second = repository.account_add("second", "um", "key")
    repository.account_link(second.id, B, "bbbb")
    repository.account_link(first.id, C, "cccc")
    rows = repository.account_list()
    assert [(row.name, [key.digest for key in row.keys]) for row in rows] == [
        ("first", [A, C]), ("second", [B]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a" * 65, "né", "a\n", "\n", "a/b", "a'b", "a;b", "a\0", "\ud800", "../x", "$(x)", "１"],
)
def test_name_with_odd_characters_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 of the characters"):
        repository.account_add(name, "um", "key")
    assert repository.account_find(name) is None
    assert repository.account_list() == []


@pytest.mark.parametrize("name", ["a", "a" * 64, "A.b_c@d-9", "-", "..."])
def test_name_of_plain_characters_is_taken(repository: Repository, name: str) -> None:
    assert repository.account_add(name, "um", "key").name == name


@pytest.mark.parametrize(
    ("market", "mode", "is_allowed"),
    [
        ("spot", "signed", True), ("spot", "secret", True), ("spot", "key", False),
        ("margin", "signed", True), ("margin", "secret", True), ("margin", "key", False),
        ("um", "key", True), ("um", "secret", True), ("um", "signed", False),
        ("cm", "key", True), ("cm", "secret", True), ("cm", "signed", False),
        ("pm", "key", True), ("pm", "secret", True), ("pm", "signed", False),
        ("options", "key", False), ("", "key", False), ("UM", "key", False), ("um", "", False),
    ],
)  # fmt: skip
def test_market_and_mode_have_to_fit(
    repository: Repository, market: str, mode: str, is_allowed: bool
) -> None:
    if is_allowed:
        assert repository.account_add("a", market, mode).mode == mode
    else:
        with pytest.raises(ValueError, match=r"market is one of|is watched in mode"):
            repository.account_add("a", market, mode)
        assert repository.account_revision() == 0


def test_name_is_one_account_whatever_its_case_and_market(repository: Repository) -> None:
    first = repository.account_add("Bot", "um", "key")
    with pytest.raises(DuplicateAccount) as caught:
        repository.account_add("bOT", "spot", "signed")
    assert caught.value.row == first
    assert repository.account_revision() == 1, "nothing has changed"


def test_key_is_one_account_of_a_market(repository: Repository) -> None:
    first = repository.account_add("first", "um", "key", digest=A, hint="aaaa")
    with pytest.raises(DuplicateKey) as caught:
        repository.account_add("second", "um", "key", digest=A, hint="aaaa")
    assert caught.value.row == first
    assert repository.account_list() == [first], "the account is not kept without its key"
    second = repository.account_add("second", "um", "key")
    with pytest.raises(DuplicateKey):
        repository.account_link(second.id, A, "aaaa")
    assert not repository.account_bind(second.id, A, "aaaa")
    assert repository.account_revision() == 2
    repository.account_add("third", "cm", "key", digest=A, hint="aaaa")
    repository.account_unlink(first.id, A)
    assert repository.account_bind(second.id, A, "aaaa"), "it is free again"


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused(repository: Repository, digest: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        repository.account_add("a", "um", "key", digest=digest)
    row = repository.account_add("a", "um", "key")
    with pytest.raises(ValueError, match="SHA-256"):
        repository.account_link(row.id, digest, "x")
    with pytest.raises(ValueError, match="is one of"):
        repository.account_link(row.id, A, "x", source="stolen")


def test_hint_is_never_more_than_the_end_of_a_key(repository: Repository) -> None:
    row = repository.account_add("a", "um", "key", digest=A, hint="0123456789abcdef")
    assert row.keys[0].hint == "89abcdef"


def test_linking_again_changes_nothing_but_the_public_key(repository: Repository) -> None:
    row = repository.account_add("a", "um", "key", digest=A, hint="aaaa")
    assert repository.account_link(row.id, A, "aaaa") == row
    assert repository.account_revision() == 1
    changed = repository.account_link(row.id, A, "aaaa", public_key=PUBLIC)
    assert [key.public_key for key in changed.keys] == [PUBLIC]
    assert repository.account_revision() == 2


def test_only_an_account_without_a_key_is_bound_to_that_of_a_call(repository: Repository) -> None:
    row = repository.account_add("a", "um", "key")
    own = repository.account_add("own", "um", "secret")
    assert not repository.account_bind(own.id, A, "aaaa")
    assert repository.account_bind(row.id, A, "aaaa")
    assert not repository.account_bind(row.id, B, "bbbb")
    assert not repository.account_bind(99, C, "cccc")
    (bound, _) = repository.account_list()
    assert [(key.digest, key.source) for key in bound.keys] == [(A, "bound")]
    assert repository.account_revision() == 3


def test_of_many_that_bind_at_once_one_does(url: str, repository: Repository) -> None:
    row = repository.account_add("a", "um", "key")
    barrier = threading.Barrier(4)
    took: list[bool] = []

    def bind(number: int) -> None:
        with open_repository(url) as other:
            barrier.wait(10)
            took.append(other.account_bind(row.id, f"{number:064x}", f"{number}"))

    threads = [threading.Thread(target=bind, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(took) == [False, False, False, True]
    (there,) = repository.account_list()
    assert len(there.keys) == 1


def test_key_is_taken_away_but_not_the_sealed_one(repository: Repository) -> None:
    row = repository.account_add("a", "um", "secret", digest=A, hint="aaaa", source="own")
    repository.account_link(row.id, B, "bbbb")
    assert not repository.account_unlink(row.id, A)
    assert not repository.account_unlink(row.id, C)
    assert not repository.account_unlink(row.id + 1, B)
    assert repository.account_revision() == 2
    assert repository.account_unlink(row.id, B)
    assert [key.digest for key in repository.account_list()[0].keys] == [A]
    assert repository.account_revision() == 3


@pytest.mark.parametrize("account_id", [0, -1, 99, 2**31, 2**63])
def test_account_that_is_not_there_is_told(repository: Repository, account_id: int) -> None:
    assert repository.account_get(account_id) is None
    assert not repository.account_remove(account_id)
    assert not repository.account_bind(account_id, A, "aaaa")
    for change in (
        lambda: repository.account_seal(account_id, "x"),
        lambda: repository.account_link(account_id, A, "aaaa"),
    ):
        with pytest.raises(UnknownAccount, match=str(account_id)):
            change()
    assert repository.account_revision() == 0


def test_number_of_a_removed_account_is_not_given_again(repository: Repository) -> None:
    box = "x" * 600
    numbers = []
    for _ in range(3):
        row = repository.account_add("a", "um", "secret")
        repository.account_seal(row.id, box)
        numbers.append(row.id)
        assert repository.account_remove(row.id)
    assert numbers == sorted(set(numbers))
    assert repository.account_list() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda repository, row: repository.account_add("b", "um", "key"),
        lambda repository, row: repository.account_seal(row.id, "x"),
        lambda repository, row: repository.account_link(row.id, B, "bbbb"),
        lambda repository, row: repository.account_unlink(row.id, A),
        lambda repository, row: repository.account_remove(row.id),
    ],
)
def test_every_change_raises_the_revision(
    repository: Repository, change: Callable[[Repository, AccountRow], object]
) -> None:
    row = repository.account_add("a", "um", "key", digest=A, hint="aaaa")
    change(repository, row)
    assert repository.account_revision() == 2


def test_change_that_is_undone_leaves_nothing(repository: Repository) -> None:
    with pytest.raises(RuntimeError), repository.transaction():
        row = repository.account_add("a", "um", "secret", digest=A, hint="aaaa", source="own")
        repository.account_seal(row.id, "x")
        raise RuntimeError
    assert repository.account_snapshot() == (0, ())


# -- what stays in the file -----------------------------------------------------------------------


def on_disk(path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in sorted(path.parent.glob(path.name + "*")))


def traces(path: Path, sealed: str) -> list[str]:
    """Return every piece of a sealed text that is in the database's files, its common beginning left out."""
    held = on_disk(path)
    pieces = (sealed[start : start + 10] for start in range(20, len(sealed) - 10, 5))
    return [piece for piece in pieces if piece.encode() in held]


def forgetful(repository: Repository) -> None:
    """Have SQLite leave what it deletes, as it does where it is built so."""
    repository.database.pragma("secure_delete", 0)


def secret_account(repository: Repository, box: SecretBox, name: str, text: str) -> AccountRow:
    with repository.transaction():
        row = repository.account_add(name, "spot", "secret", digest=f"{hash(name) % 2**64:064x}", hint="x")
        return repository.account_seal(row.id, box.seal(text, str(row.id)))


# An HMAC secret, and a private key that takes pages of its own.
@pytest.mark.parametrize("text", ["s" * 64, "r" * 3300, "t" * 9000])
def test_nothing_of_a_secret_is_in_the_file_after_its_removal(
    repository: Repository, path: Path, text: str
) -> None:
    forgetful(repository)
    box = SecretBox("", path.parent / "data")
    row = secret_account(repository, box, "a", text)
    assert row.sealed is not None
    assert traces(path, row.sealed)
    assert text.encode() not in on_disk(path)
    repository.empty_wal()
    assert traces(path, row.sealed)
    assert repository.account_remove(row.id)
    assert repository.empty_wal()
    assert traces(path, row.sealed) == []
    assert repository.database.pragma("secure_delete") == 0, "as it was before"


# Rows that SQLite moves to another page leave copies of themselves in gaps of the old one: 18 does so.
@pytest.mark.parametrize("seed", [18, 99])
def test_nothing_of_secrets_is_left_however_rows_have_moved(
    repository: Repository, path: Path, seed: int
) -> None:
    forgetful(repository)
    rng = random.Random(seed)
    here: dict[int, str] = {}
    gone = []
    for number in range(150):
        if here and rng.random() < 0.45:
            account_id = rng.choice(list(here))
            assert repository.account_remove(account_id)
            gone.append(here.pop(account_id))
        else:
            text = "".join(rng.choice(LETTERS) for _ in range(rng.choice([300, 500, 900, 4600])))
            row = repository.account_add(f"a{number}", "spot", "secret")
            repository.account_seal(row.id, text)
            here[row.id] = text
    assert repository.empty_wal()
    assert [text for text in gone if traces(path, text)] == []
    assert {row.id: row.sealed for row in repository.account_list()} == here


def test_secret_that_is_sealed_again_is_not_left_either(repository: Repository, path: Path) -> None:
    forgetful(repository)
    box = SecretBox("k" * 32, path.parent)
    row = secret_account(repository, box, "a", "x" * 5000)
    again = repository.account_seal(row.id, box.seal("x" * 64, str(row.id)))
    assert repository.empty_wal()
    assert row.sealed is not None
    assert traces(path, row.sealed) == []
    assert traces(path, again.sealed or "")


def test_log_that_somebody_reads_is_told_not_to_be_empty(url: str, path: Path) -> None:
    with open_repository(url, busy_timeout_s=0.05) as repository:
        row = repository.account_add("a", "um", "key")
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM account").fetchall()
        repository.account_remove(row.id)
        assert not repository.empty_wal()
        reader.close()
        assert repository.empty_wal()


def test_sealed_text_that_is_put_into_another_row_does_not_open(repository: Repository, path: Path) -> None:
    box = SecretBox("k" * 32, path.parent)
    first = secret_account(repository, box, "first", "s" * 64)
    second = secret_account(repository, box, "second", "t" * 64)
    assert first.sealed is not None
    moved = repository.account_seal(second.id, first.sealed)
    with pytest.raises(SecretError, match="belongs to another account"):
        box.unseal(moved.sealed or "", str(second.id))


def test_rows_do_not_show_what_is_sealed(repository: Repository, path: Path) -> None:
    row = secret_account(repository, SecretBox("k" * 32, path.parent), "a", "s" * 64)
    assert row.sealed is not None
    assert row.sealed not in repr(row)
