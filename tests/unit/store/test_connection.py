"""Opening a database: what works, and the one line for each way in which it does not."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import peewee
import pytest

from resender.errors import StoreError
from resender.store import LogRecord, open_database, open_repository
from resender.store.connection import parse_url

NOBODY = 65534


def refused(url: str, **options: object) -> str:
    with pytest.raises(StoreError) as caught:
        open_database(url, **{"busy_timeout_s": 0.1, **options})
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's power over file permissions for a moment."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def shared_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="resender-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "write sqlite:///path"),
        ("store.db", "write sqlite:///path"),
        ("oracle://host/db", "'oracle'"),
        ("sqlite://store.db", "three slashes"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///a#b.db", "'#'"),
        ("postgresql://user:secret@host:port/db", "cannot be read"),
        ("postgresql://user:secret@host", "names no database"),
        ("mysql://user:secret@host/", "names no database"),
        ("sqlite+pool:///x.db", "sqlite+pool"),
    ],
)
def test_unusable_url_is_refused_without_showing_the_password(url: str, words: str) -> None:
    text = refused(url)
    assert words in text
    assert "secret" not in text


def test_name_of_a_server_database_leaves_out_the_password() -> None:
    target = parse_url("postgresql://user:se%40cret@host:5433/name?sslmode=require")
    assert target.where == "postgresql://user@host:5433/name"
    assert target.path is None


def test_unknown_argument_in_the_url_is_refused_in_one_line(path: Path) -> None:
    assert "nonsense" in refused(f"sqlite:///{path}?nonsense=1")


def test_sqlite_is_opened_with_the_settings_that_keep_rows_and_speed(url: str, path: Path) -> None:
    database = open_database(url)
    try:
        assert database.pragma("journal_mode") == "wal"
        assert database.pragma("synchronous") == 1
        assert database.pragma("foreign_keys") == 1
        assert database.pragma("busy_timeout") == 5000
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(f"{path}-wal").stat().st_mode) == 0o600
    finally:
        database.close()


def test_missing_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b 空 格" / "store.db"
    open_database(f"sqlite:///{path}").close()
    assert path.exists()


def test_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = refused(f"sqlite:///{tmp_path}/file/sub/store.db")
    assert "Not a directory" in text or "File exists" in text


def test_directory_in_place_of_the_file_is_one_clear_line(tmp_path: Path) -> None:
    assert "is a directory" in refused(f"sqlite:///{tmp_path}")


def test_missing_file_is_an_error_when_no_new_one_is_wanted(url: str, path: Path) -> None:
    assert "gone" in refused(url, create=False)
    assert not path.exists()


def test_memory_database_can_be_opened() -> None:
    with open_repository("sqlite:///:memory:") as repository:
        assert repository.whitelist_add("10.0.0.1").id == 1


def test_locked_database_is_one_clear_line(url: str, path: Path) -> None:
    open_database(url).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert "locked by another process" in refused(url)
    open_database(url).close()


def test_new_file_locked_by_another_process_is_one_clear_line(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert "locked by another process" in refused(url)


@pytest.mark.parametrize("content", [b"this is no database at all " * 400, b"\0" * 8192])
def test_garbage_is_not_a_database(url: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not a SQLite database" in refused(url)
    assert path.read_bytes() == content


def test_truncated_file_is_damaged(url: str, path: Path) -> None:
    with open_repository(url) as repository:
        repository.log_write(
            [LogRecord(n, "1.1.1.1", "GET", "um", "/", 200, 200, 1.0, 1) for n in range(900)]
        )
    content = path.read_bytes()
    for size in (len(content) // 2, 4096, 5000):
        path.write_bytes(content[:size])
        assert "is damaged" in refused(url)


def test_garbage_inside_the_schema_is_damaged(url: str, path: Path) -> None:
    open_database(url).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    assert "is damaged" in refused(url)


def test_read_only_file_is_one_clear_line(shared_dir: Path) -> None:
    path = shared_dir / "store.db"
    open_database(f"sqlite:///{path}").close()
    path.chmod(0o444)
    shared_dir.chmod(0o755)
    with as_nobody():
        text = refused(f"sqlite:///{path}")
    assert "read-only for this user (uid " in text or "cannot be opened" in text


def test_file_without_permission_is_one_clear_line(shared_dir: Path) -> None:
    path = shared_dir / "store.db"
    open_database(f"sqlite:///{path}").close()
    path.chmod(0o000)
    with as_nobody():
        assert "cannot be opened" in refused(f"sqlite:///{path}")


def test_read_only_directory_is_one_clear_line(shared_dir: Path) -> None:
    shared_dir.chmod(0o555)
    with as_nobody():
        assert "Permission denied" in refused(f"sqlite:///{shared_dir}/store.db")
        assert "Permission denied" in refused(f"sqlite:///{shared_dir}/sub/store.db")


def test_database_that_became_read_only_is_one_clear_line(url: str) -> None:
    with pytest.raises(StoreError, match="read-only"), open_repository(url) as repository:
        repository.database.pragma("query_only", 1)
        repository.whitelist_add("10.0.0.1")


def test_full_disk_is_one_clear_line_and_undoes_the_change(url: str) -> None:
    note = "x" * 1000
    with pytest.raises(StoreError, match="disk is full"), open_repository(url) as repository:
        repository.database.pragma("max_page_count", 1)
        for n in range(1000):
            repository.whitelist_add(f"10.0.{n // 250}.{n % 250}", note)
    with open_repository(url) as repository:
        assert len(repository.whitelist_list()) == repository.whitelist_revision()


def test_errors_that_are_not_of_the_database_pass_unchanged(url: str) -> None:
    with pytest.raises(BrokenPipeError), open_repository(url):
        raise BrokenPipeError("the user closed the pager")


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("postgresql://user:secret@127.0.0.1/db", 'pip install "psycopg[binary]"'),
        ("mysql://user:secret@127.0.0.1/db", 'pip install "pymysql[rsa]"'),
    ],
)
def test_missing_driver_names_the_package(monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
    for name in ("psycopg", "psycopg2", "mysql"):
        monkeypatch.setattr(peewee, name, None)
    text = refused(url)
    assert package in text
    assert "secret" not in text


@pytest.mark.parametrize(("scheme", "driver"), [("postgresql", "psycopg"), ("mysql", "pymysql")])
def test_unreachable_server_is_one_clear_line(scheme: str, driver: str) -> None:
    pytest.importorskip(driver)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        text = refused(f"{scheme}://user:secret@127.0.0.1:{port}/db")
    assert f"{scheme}://user@127.0.0.1:{port}/db" in text
    assert "refused" in text
    assert "secret" not in text
