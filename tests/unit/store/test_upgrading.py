"""Databases of every version there was: brought up to date without loss, or left as the version before can use them."""

from __future__ import annotations

import logging
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resender.errors import StoreError, StoreUnfit
from resender.passwords import verify_password
from resender.store import UpgradeFailed, open_database, open_repository, schema, undo_upgrade, upgrading
from tests.support.admin import PASSWORD

ROOT = Path(__file__).resolve().parents[3]
DATABASES = ROOT / "tests" / "fixtures" / "databases"
# The last script each version knows.
SCHEMAS = {"0.1.0": "0003_preload", "0.2.0": "0004_admin"}
NEWEST = schema.known_versions()[-1]
each_version = pytest.mark.parametrize("version", SCHEMAS)
Old = Callable[..., Path]
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def old(path: Path) -> Old:
    """Make the database of an old version, as that leaves it behind."""

    def make(version: str = "0.1.0", place: Path = path) -> Path:
        with closing(sqlite3.connect(place)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript((DATABASES / f"{version}.sql").read_text("utf-8"))
        place.chmod(0o600)
        return place

    return make


def of(path: Path) -> str:
    return f"sqlite:///{path}"


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return list(database.iterdump())


def rows(path: Path) -> Rows:
    """Read all rows of all tables, by the names of their columns."""
    found: Rows = {}
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            found[name] = [dict(row) for row in database.execute(f'SELECT * FROM "{name}" ORDER BY rowid')]
    return found


def beside(path: Path) -> set[str]:
    return {each.name.removeprefix(path.name) for each in path.parent.iterdir() if each != path}


def upgrade(path: Path) -> None:
    open_database(of(path)).close()


def kept(path: Path, version: str = "0.1.0") -> Path:
    return Path(f"{path}.before-{SCHEMAS[version]}")


# --- without loss ---------------------------------------------------------------------------------


@each_version
def test_every_row_of_an_old_version_is_there_afterwards(old: Old, version: str) -> None:
    path = old(version)
    before = rows(path)
    assert before["whitelist"]
    assert before["preload"]
    assert before["request_log"]
    assert bool(before.get("admin_user")) is (version != "0.1.0")
    upgrade(path)
    after = rows(path)
    for table, expected in before.items():
        found = after[table][: len(expected)]
        assert [{name: row[name] for name in expected[0]} for row in found] == expected, table
        if table not in ("schema_migration", "state"):
            assert len(after[table]) == len(expected), table
    assert [row["name"] for row in after["schema_migration"]] == schema.known_versions()


@each_version
def test_program_reads_in_it_what_the_old_one_has_written(old: Old, version: str) -> None:
    path = old(version)
    with open_repository(of(path)) as repository:
        entries = repository.whitelist_list()
        assert [entry.address for entry in entries] == [
            "127.0.0.1", "203.0.113.5", "198.51.100.0/24", "2001:db8::/32",
        ]  # fmt: skip
        assert entries[1].note == "office 办公室, \"quoted\" 'too'"
        assert (entries[0].calls, bool(entries[0].last_seen_ms)) == (5, True)
        assert entries[2].enabled is (version == "0.1.0")
        assert [str(row.rule) for row in repository.preload_list()] == [
            "um:*USDT@1m,bookTicker", "spot:BTCUSDT,ETHUSDT@1h",
        ]  # fmt: skip
        assert repository.log_enabled()
        assert repository.log_count() == 5
        # A start of the new version seeds nothing a second time.
        assert repository.whitelist_seed(["192.0.2.1"]) == []
        assert repository.whitelist_add("192.0.2.99", "new").id > entries[-1].id


def test_users_of_an_old_version_can_log_in_with_their_passwords(old: Old) -> None:
    path = old("0.2.0")
    with open_repository(of(path)) as repository:
        users = {user.username: user for user in repository.user_list()}
        assert set(users) == {"root", "anna.b"}
        assert verify_password(users["root"].password_hash, PASSWORD)
        assert verify_password(users["anna.b"].password_hash, "correct horse battery")
        assert [token.name for token in repository.token_list()] == ["grafana"]
    assert [row["action"] for row in rows(path)["admin_audit"]] == [
        "user.add", "login", "whitelist.change", "token.add",
    ]  # fmt: skip


@each_version
def test_upgraded_database_is_sound_and_like_a_new_one(old: Old, version: str, tmp_path: Path) -> None:
    def shape(path: Path) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found = database.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
            return sorted(found.fetchall())

    path, new = old(version), tmp_path / "new.db"
    upgrade(path)
    upgrade(new)
    assert shape(path) == shape(new)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- the copy that is kept ------------------------------------------------------------------------


@each_version
def test_copy_of_before_stays_beside_the_database(old: Old, version: str) -> None:
    path = old(version)
    before = dump(path)
    upgrade(path)
    copy = kept(path, version)
    assert beside(path) == {f".before-{SCHEMAS[version]}"}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump(copy) == before


def test_what_is_still_in_the_log_of_sqlite_is_in_the_kept_copy(old: Old) -> None:
    path = old()
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO state VALUES ('mine', 'just written')")
        writer.commit()
        upgrade(path)
    assert {"key": "mine", "value": "just written"} in rows(kept(path))["state"]
    assert {"key": "mine", "value": "just written"} in rows(path)["state"]


def test_new_database_and_one_that_is_up_to_date_leave_no_copy(path: Path, old: Old) -> None:
    upgrade(path)
    upgrade(path)
    assert beside(path) == set()
    path.unlink()
    old()
    upgrade(path)
    moment = kept(path).stat().st_mtime_ns
    upgrade(path)
    assert kept(path).stat().st_mtime_ns == moment


def test_copies_of_earlier_upgrades_go_when_a_new_one_is_made(old: Old) -> None:
    path = old("0.2.0")
    for name in ("0001_initial", "0002_request_log"):
        Path(f"{path}.before-{name}").write_bytes(b"old")
    upgrade(path)
    assert beside(path) == {".before-0004_admin"}


@pytest.mark.parametrize("name", ["before-upgrade", "before-0.2.0", "before-the-move.bak"])
def test_copy_that_somebody_made_by_hand_is_not_removed(old: Old, name: str) -> None:
    path = old("0.2.0")
    mine = Path(f"{path}.{name}")
    mine.write_bytes(b"precious")
    upgrade(path)
    assert mine.read_bytes() == b"precious"


def test_link_in_the_place_of_a_copy_is_not_followed(old: Old, tmp_path: Path) -> None:
    path = old()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    kept(path).symlink_to(elsewhere)
    Path(f"{path}.trying").symlink_to(elsewhere)
    upgrade(path)
    assert elsewhere.read_bytes() == b"precious"
    assert not kept(path).is_symlink()


def test_trial_that_a_killed_process_left_behind_is_no_hindrance(old: Old) -> None:
    path = old()
    for end in ("", "-wal", "-shm"):
        Path(f"{path}.trying-4194304{end}").write_bytes(b"half of it")  # no process has that number
    upgrade(path)
    assert beside(path) == {".before-0003_preload"}


def test_disk_without_room_is_told_and_upgraded_all_the_same(
    old: Old, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = old()
    size = path.stat().st_size
    monkeypatch.setattr(upgrading.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * size))
    caplog.set_level(logging.WARNING)
    upgrade(path)
    assert beside(path) == set()
    assert len(rows(path)["schema_migration"]) == len(schema.known_versions())
    assert "without a try and a way back" in caplog.text
    assert not undo_upgrade(str(path))


# --- a script that fails --------------------------------------------------------------------------


def forbid(path: Path) -> None:
    """Let the database itself refuse what the new scripts write."""
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON state BEGIN SELECT RAISE(ABORT, 'not here'); END"
        )
        database.commit()


def failure(path: Path) -> str:
    with pytest.raises(UpgradeFailed) as caught:
        upgrade(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith("it is as it was: the version before can use it.")
    return text


@each_version
def test_upgrade_that_fails_leaves_every_byte_to_the_version_before(old: Old, version: str) -> None:
    path = old(version)
    forbid(path)
    before, said = dump(path), path.read_bytes()
    assert f"The database {path} cannot be brought up to date (not here)" in failure(path)
    assert dump(path) == before
    assert path.read_bytes() == said
    assert beside(path) - {"-wal", "-shm"} == set()
    # The version before asks for this: it knows no later script.
    assert [row["name"] for row in rows(path)["schema_migration"]][-1] == SCHEMAS[version]


ERRORS = [
    sqlite3.OperationalError("no such column"),
    OSError(5, "Input/output error"),
    ValueError("not a number"),
    RuntimeError("no"),
    KeyError("state"),
    AttributeError("no attribute"),
    AssertionError("odd rows"),
]


def break_scripts(monkeypatch: pytest.MonkeyPatch, error: Exception, *, spare: int = 0) -> None:
    """Let the scripts fail, from their call of a number on."""
    work, left = schema.create_missing, [spare]

    def fails(database: Any, *models: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise error
        work(database, *models)

    monkeypatch.setattr(schema, "create_missing", fails)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_script_raises_is_a_failed_upgrade(
    old: Old, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = old()
    before = dump(path)
    break_scripts(monkeypatch, error)
    failure(path)
    assert dump(path) == before
    assert ".trying" not in beside(path)


@pytest.mark.parametrize("back", [1, 2, 3])
def test_script_that_fails_only_in_the_database_itself_is_undone(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: int
) -> None:
    """It has worked on the copy."""
    calls: list[Any] = []
    with monkeypatch.context() as patched:
        work = schema.create_missing
        patched.setattr(schema, "create_missing", lambda *args: (calls.append(args), work(*args)))
        upgrade(old(place=tmp_path / "first.db"))
    path = old()
    before = dump(path)
    # Half of them were calls of the trial.
    break_scripts(monkeypatch, sqlite3.OperationalError("disk I/O error"), spare=len(calls) - back)
    failure(path)
    assert dump(path) == before
    assert dump(kept(path)) == before


def test_failed_upgrade_can_be_tried_again(old: Old) -> None:
    path = old()
    forbid(path)
    failure(path)
    failure(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TRIGGER no")
        database.commit()
    upgrade(path)
    assert rows(path)["schema_migration"][-1]["name"] == NEWEST


def test_failed_upgrade_is_not_tried_again_by_itself() -> None:
    """It would fail again; exit code 2 tells systemd so."""
    assert issubclass(UpgradeFailed, StoreUnfit)


def test_database_that_is_in_use_at_the_moment_is_no_failed_upgrade(old: Old) -> None:
    """Somebody else writes: a second try will do."""
    path = old()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked by another process") as caught:
            open_database(of(path), busy_timeout_s=0.2)
    assert not isinstance(caught.value, StoreUnfit)


def test_database_of_a_newer_version_is_refused_and_not_copied(old: Old) -> None:
    path = old()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE schema_migration SET name = '9999_later' WHERE id = 3")
        database.commit()
    with pytest.raises(StoreUnfit, match="made by a newer version"):
        upgrade(path)
    assert beside(path) - {"-wal", "-shm"} == set()


def test_database_on_a_server_is_named_without_a_hole(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old()
    break_scripts(monkeypatch, sqlite3.OperationalError("no"))
    with closing(schema_less(path)) as database, pytest.raises(UpgradeFailed) as caught:
        upgrading.upgrade(database, None)
    assert "  " not in str(caught.value)


def schema_less(path: Path) -> Any:
    from resender.store.connection import open_unchanged

    return open_unchanged(of(path))


# --- a start that fails later ---------------------------------------------------------------------


@each_version
def test_undone_upgrade_leaves_what_was_there(old: Old, version: str) -> None:
    path = old(version)
    before = dump(path)
    with open_repository(of(path)) as repository:
        repository.state_set("program_version", "of the one that fails")
    assert undo_upgrade(str(path))
    assert dump(path) == before
    assert beside(path) - {"-wal", "-shm"} == set()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not undo_upgrade(str(path))
    # And the next version can try again.
    upgrade(path)
    assert rows(path)["schema_migration"][-1]["name"] == NEWEST


def test_what_sqlite_has_of_the_new_version_goes_too(old: Old) -> None:
    """A process that could not close it properly."""
    path = old()
    before = dump(path)
    upgrade(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO state VALUES ('x', 'y')")
        database.commit()
        files = {end: Path(f"{path}{end}").read_bytes() for end in ("-wal", "-shm")}
    for end, data in files.items():
        Path(f"{path}{end}").write_bytes(data)
    assert undo_upgrade(str(path))
    assert dump(path) == before


def test_nothing_is_undone_that_this_process_has_not_done(old: Old, path: Path) -> None:
    old()
    code = "import sys; from resender.store import open_database; open_database(sys.argv[1]).close()"
    subprocess.run([sys.executable, "-c", code, of(path)], cwd=ROOT, check=True, timeout=30)
    assert kept(path).exists()
    upgrade(path)
    after = dump(path)
    assert not undo_upgrade(str(path))
    assert dump(path) == after


def test_undone_is_the_database_of_that_name_and_no_other(old: Old, tmp_path: Path) -> None:
    first, second = old(place=tmp_path / "a.db"), old(place=tmp_path / "b.db")
    upgrade(first)
    upgrade(second)
    after = dump(second)
    assert undo_upgrade(str(first))
    assert dump(second) == after


def test_copy_that_somebody_has_removed_cannot_be_put_back(old: Old) -> None:
    path = old()
    upgrade(path)
    kept(path).unlink()
    after = dump(path)
    assert not undo_upgrade(str(path))
    assert dump(path) == after


# --- two at once ----------------------------------------------------------------------------------

OPEN = """
import sys, time
from resender.store import open_database
while time.time() < float(sys.argv[2]):
    pass
open_database(sys.argv[1], busy_timeout_s=30).close()
"""


def test_process_that_was_first_leaves_its_copy_of_before(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two starts at once, the second of which has upgraded the database while the first tries it on a copy."""
    path = old()
    before = dump(path)
    run_on = upgrading.run_on

    def meanwhile(tried: Path) -> None:
        run_on(tried)
        monkeypatch.setattr(upgrading, "run_on", run_on)
        code = OPEN.replace("while", "while False and")
        subprocess.run([sys.executable, "-c", code, of(path), "0"], cwd=ROOT, check=True, timeout=30)

    monkeypatch.setattr(upgrading, "run_on", meanwhile)
    upgrade(path)
    assert rows(path)["schema_migration"][-1]["name"] == NEWEST
    assert dump(kept(path)) == before
    # Whoever was second has upgraded nothing, and so has nothing to undo.
    after = dump(path)
    assert not undo_upgrade(str(path))
    assert dump(path) == after


def test_processes_that_start_at_once_all_open_it(old: Old) -> None:
    path = old()
    before = dump(path)
    moment = str(time.time() + 1.0)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, of(path), moment], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], said
    assert rows(path)["schema_migration"][-1]["name"] == NEWEST
    assert dump(kept(path)) == before
