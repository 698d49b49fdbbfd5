"""A whole copy of a database in one file: made while others write, checked before it is believed."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from resender.errors import StoreError, StoreUnfit
from resender.store import open_repository, schema
from resender.store.backup import check_file, load_into_server, save_database, upgrade_file
from resender.store.connection import _describe, parse_url
from tests.support.processes import until
from tests.unit.store.test_copying import fill, whole

NEWEST = schema.known_versions()[-1]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved.db"


def of(path: Path) -> str:
    return f"sqlite:///{path}"


def log_rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM request_log").fetchone()[0])


def test_copy_holds_every_row_and_is_one_file_for_its_owner_only(url: str, saved: Path) -> None:
    fill(url)
    old = os.umask(0)
    try:
        save_database(url, saved)
    finally:
        os.umask(old)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert check_file(saved) == NEWEST
    assert [each.name for each in saved.parent.glob("saved.db*")] == [saved.name]
    assert whole(of(saved)) == whole(url)


def test_log_may_stay_behind_and_takes_no_room_then(url: str, saved: Path) -> None:
    fill(url)
    save_database(url, saved, with_log=False)
    assert log_rows(saved) == 0
    save_database(url, saved.with_name("all.db"))
    assert saved.stat().st_size < saved.with_name("all.db").stat().st_size
    with open_repository(of(saved)) as repository:
        assert len(repository.whitelist_list()) == 6


def test_source_is_neither_changed_nor_upgraded(url: str, path: Path, saved: Path) -> None:
    with closing(_describe(parse_url(url), 1.0)) as database:
        database.connect()
        schema.upgrade(database, target="0003_preload")
    before = path.read_bytes()
    save_database(url, saved)
    assert check_file(saved) == "0003_preload"
    assert path.read_bytes() == before


def test_file_that_is_there_is_not_written_over(url: str, saved: Path) -> None:
    fill(url)
    saved.write_bytes(b"precious")
    with pytest.raises(StoreError, match=f"{saved} cannot be written: File exists"):
        save_database(url, saved)
    assert saved.read_bytes() == b"precious"


def test_link_in_the_place_of_the_copy_is_not_followed(url: str, saved: Path, tmp_path: Path) -> None:
    fill(url)
    saved.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be written"):
        save_database(url, saved)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["gone.db", ":memory:"])
def test_database_that_is_not_there_is_named(tmp_path: Path, saved: Path, name: str) -> None:
    url = "sqlite:///:memory:" if name == ":memory:" else of(tmp_path / name)
    with pytest.raises(StoreError, match=f"There is no database .*{name}: nothing is saved"):
        save_database(url, saved)
    assert not (tmp_path / name).exists()


def test_name_with_signs_of_an_address_in_it_is_found(tmp_path: Path, saved: Path) -> None:
    folder = tmp_path / "my data + 100 & more"
    folder.mkdir()
    fill(of(folder / "store.db"))
    save_database(of(folder / "store.db"), saved)
    assert len(whole(of(saved))["whitelist"]) == 6


# --- while others write ---------------------------------------------------------------------------


@contextmanager
def writing(url: str) -> Iterator[list[int]]:
    """Write rows two at a time until the block ends; their number grows meanwhile."""
    over, count = threading.Event(), [0]

    def write() -> None:
        with open_repository(url, busy_timeout_s=30) as repository:
            while not over.is_set():
                number = count[0]
                with repository.transaction():
                    repository.whitelist_add(f"11.{number >> 8}.{number & 255}.1", "left")
                    repository.whitelist_add(f"11.{number >> 8}.{number & 255}.2", "right")
                count[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join(30)


def test_copy_made_while_others_write_is_of_one_moment(url: str, tmp_path: Path) -> None:
    fill(url)
    with writing(url) as count:
        found = []
        for number in range(8):
            saved, before = tmp_path / f"{number}.db", count[0]
            save_database(url, saved)
            after = count[0]
            assert check_file(saved) == NEWEST
            with closing(sqlite3.connect(saved)) as database:
                notes = [row[0] for row in database.execute("SELECT note FROM whitelist")]
            assert notes.count("left") == notes.count("right"), "half of a change"
            assert before <= notes.count("left") <= after + 1
            found.append(notes.count("left"))
            until(lambda after=after: count[0] > after, "somebody writes")
    assert found == sorted(set(found))


def test_what_is_still_in_the_log_of_sqlite_is_in_the_copy(url: str, path: Path, saved: Path) -> None:
    with open_repository(url) as repository:
        repository.whitelist_add("192.0.2.1", "just now")
        assert Path(f"{path}-wal").stat().st_size > 0
        save_database(url, saved)
    with open_repository(of(saved)) as repository:
        assert [entry.address for entry in repository.whitelist_list()] == ["192.0.2.1"]


def test_change_that_is_not_finished_is_not_in_the_copy(url: str, saved: Path) -> None:
    with open_repository(url) as repository, repository.transaction():
        repository.whitelist_add("192.0.2.1", "")
        save_database(url, saved)
    with open_repository(of(saved)) as repository:
        assert repository.whitelist_list() == []


# --- what is not believed -------------------------------------------------------------------------


def test_damaged_copy_is_refused(url: str, saved: Path) -> None:
    fill(url)
    save_database(url, saved)
    good = saved.read_bytes()
    refused = 0
    for page in range(1, len(good) // 4096):
        data = bytearray(good)
        data[page * 4096 : page * 4096 + 300] = b"\xa5" * 300
        saved.write_bytes(bytes(data))
        with suppress(StoreError):
            check_file(saved)
            continue
        refused += 1
    # Pages that are free may hold anything.
    assert refused >= len(good) // 4096 - 5


@pytest.mark.parametrize("data", [b"", b"no database at all", b"SQLite format 3\0" + b"\0" * 5000])
def test_file_that_is_no_database_is_refused(saved: Path, data: bytes) -> None:
    saved.write_bytes(data)
    with pytest.raises(StoreError, match="The saved database cannot be read"):
        check_file(saved)


def test_database_of_something_else_is_refused(saved: Path) -> None:
    with closing(sqlite3.connect(saved)) as database:
        database.execute("CREATE TABLE whitelist (address TEXT)")
        database.commit()
    with pytest.raises(StoreError, match="no such table: schema_migration"):
        check_file(saved)


def test_file_that_is_not_there_is_not_made(saved: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        check_file(saved)
    assert not saved.exists()


@pytest.mark.parametrize("name", ["9999_later", None])
def test_database_of_a_newer_program_is_refused(url: str, saved: Path, name: str | None) -> None:
    fill(url)
    save_database(url, saved)
    with closing(sqlite3.connect(saved)) as database:
        if name is None:
            database.execute("DELETE FROM schema_migration")
        else:
            database.execute("UPDATE schema_migration SET name = ? WHERE name = ?", (name, NEWEST))
        database.commit()
    with pytest.raises(StoreUnfit) as caught:
        check_file(saved)
    assert "install that version" in str(caught.value)
    assert NEWEST in str(caught.value)


# --- the way back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", schema.known_versions())
def test_copy_of_each_version_is_brought_up_to_date_as_one_file(saved: Path, version: str) -> None:
    with closing(_describe(parse_url(of(saved)), 1.0)) as database:
        database.connect()
        schema.upgrade(database, target=version)
        database.execute_sql("INSERT INTO state (key, value) VALUES ('mine', 'kept')")
    upgrade_file(saved)
    assert check_file(saved) == NEWEST
    assert not [each for each in saved.parent.iterdir() if each.name.endswith(("-wal", "-shm", "-journal"))]
    with open_repository(of(saved)) as repository:
        assert repository.state_get("mine") == "kept"


def test_copy_that_is_not_there_is_no_new_database(saved: Path) -> None:
    with pytest.raises(StoreError):
        upgrade_file(saved)
    assert not saved.exists()


def test_copy_goes_into_an_empty_database_only(url: str, saved: Path, tmp_path: Path) -> None:
    """A file stands for a server here; tests/component/store has real ones."""
    fill(url)
    save_database(url, saved)
    other = of(tmp_path / "server.db")
    assert load_into_server(saved, other) == sum(len(rows) for rows in whole(url).values())
    assert whole(other) == whole(url)
    with pytest.raises(StoreError, match="holds rows already"):
        load_into_server(saved, other)
