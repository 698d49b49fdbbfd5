"""Watched accounts: what the table promises on every kind of database, and `Store` with them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from resender.secret_box import SecretBox
from resender.store import AccountRow, DuplicateAccount, DuplicateKey, Repository, Store, open_repository

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
WaitUntil = Callable[..., Awaitable[None]]
A, B = "a" * 64, "b" * 64
# Longer than a page of SQLite and than 4,096 bits of RSA.
LONG = "x" * 5000


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with open_repository(database_url, now_ms=lambda: 1_700_000_000_000) as opened:
        yield opened


def processes(database_url: str, works: list[str]) -> list[str]:
    """Run each work in a process of its own, all at once; return what each printed."""
    program = (
        "import sys\n"
        "from resender.store import DuplicateAccount, DuplicateKey, open_repository\n"
        "with open_repository(sys.argv[1]) as repository:\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
    )
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                program + "".join(f"    {line}\n" for line in work.splitlines()),
                database_url,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for work in works
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = []
    for process in started:
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        told.append(out)
    return told


def test_account_comes_back_as_it_was_given(repository: Repository) -> None:
    row = repository.account_add("Main_1.x@y-z", "pm", "secret", digest=A, hint="wxyz", source="own")
    row = repository.account_seal(row.id, LONG)
    repository.account_link(row.id, B, "abcd", public_key=LONG)
    repository.account_add("later", "spot", "signed")
    found, later = repository.account_list()
    assert (found.id, found.name, found.market, found.mode) == (row.id, "Main_1.x@y-z", "pm", "secret")
    assert (found.sealed, found.created_ms, later.keys) == (LONG, 1_700_000_000_000, ())
    assert [(key.digest, key.hint, key.source, key.public_key) for key in found.keys] == [
        (A, "wxyz", "own", None),
        (B, "abcd", "linked", LONG),
    ]
    assert repository.account_find("MAIN_1.X@Y-Z") == found
    assert repository.account_revision() == 4
    assert repository.account_remove(row.id)
    assert repository.empty_wal()
    assert repository.account_list() == [later]
    assert not repository.account_remove(row.id)


def test_duplicates_are_refused(repository: Repository) -> None:
    row = repository.account_add("main", "um", "key", digest=A, hint="a")
    with pytest.raises(DuplicateAccount) as same_name:
        repository.account_add("MAIN", "cm", "key")
    assert same_name.value.row == row
    with pytest.raises(DuplicateKey) as same_key:
        repository.account_add("other", "um", "key", digest=A, hint="a")
    assert same_key.value.row == row
    assert repository.account_list() == [row]
    assert repository.account_revision() == 1
    repository.account_add("other", "cm", "key", digest=A, hint="a")


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "币安", "a\0b", "\udcff", "'", "%", "x" * 65])
def test_name_with_odd_characters_is_refused_and_never_found(repository: Repository, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        repository.account_add(name, "um", "key")
    assert repository.account_find(name) is None
    assert repository.account_revision() == 0


def test_digest_is_bound_to_one_of_two_accounts_by_two_processes(
    repository: Repository, database_url: str
) -> None:
    pairs = [
        [repository.account_add(f"{side}{number}", "um", "key").id for side in ("left", "right")]
        for number in range(10)
    ]
    work = (
        "for pair, digit in zip({}, '0123456789'):\n    repository.account_bind(pair[{}], digit * 64, digit)"
    )
    processes(database_url, [work.format(pairs, side) for side in (0, 1)])
    rows = {row.id: row for row in repository.account_list()}
    for pair in pairs:
        assert sorted(len(rows[number].keys) for number in pair) == [0, 1]
    assert repository.account_revision() == 30


def test_account_is_added_once_by_two_processes(repository: Repository, database_url: str) -> None:
    work = (
        "for n in range(10):\n"
        "    try: repository.account_add('{}' + str(n), 'um', 'key', digest=str(n) * 64, hint='x')\n"
        "    except (DuplicateAccount, DuplicateKey) as error: print(type(error).__name__)"
    )
    told = processes(database_url, [work.format("Main"), work.format("mAIN")])
    assert len(repository.account_list()) == repository.account_revision() == 10
    assert "".join(told).split() == ["DuplicateAccount"] * 10


def test_key_is_not_bound_to_an_account_that_another_process_removes(
    repository: Repository, database_url: str
) -> None:
    numbers = [repository.account_add(f"a{number}", "um", "key").id for number in range(10)]
    binding = f"for number in {numbers}: repository.account_bind(number, format(number, '064x'), 'x')"
    removing = f"for number in {numbers}: print(repository.account_remove(number))"
    told = processes(database_url, [binding, removing])
    assert told[1].split() == ["True"] * 10
    assert repository.account_list() == []
    assert repository.models.account_key.select().count() == 0


async def test_removal_by_another_process_reaches_a_server_that_follows(
    database_url: str, wait_until: WaitUntil, tmp_path: Path
) -> None:
    box = SecretBox("k" * 32, tmp_path)
    seen: list[list[AccountRow]] = []
    store = Store(database_url, poll_s=0.2)
    await store.start(lambda entries: None, on_accounts=lambda rows: seen.append(list(rows)))
    try:

        def add(repository: Repository) -> AccountRow:
            row = repository.account_add("main", "um", "secret", digest=A, hint="x", source="own")
            return repository.account_seal(row.id, box.seal("hidden", str(row.id)))

        row = await store.account_change(add)
        assert seen[-1] == [row]
        assert box.unseal(str(row.sealed), str(row.id)) == "hidden"
        work = f"repository.account_remove({row.id}); print(repository.empty_wal())"
        started = time.monotonic()
        told = await asyncio.to_thread(processes, database_url, [work])
        assert told == ["True\n"]
        await wait_until(lambda: seen[-1] == [])
        assert time.monotonic() - started < 10
        # What the server does next must not bring anything back.
        assert await store.account_change(lambda repository: repository.account_bind(row.id, B, "y")) is False
    finally:
        await store.stop()
    if database_url.startswith("sqlite"):
        parts = [str(row.sealed)[at : at + 12].encode() for at in range(24, len(str(row.sealed)) - 12, 12)]
        for path in tmp_path.glob("store.db*"):
            assert not [part for part in parts if part in path.read_bytes()], path
