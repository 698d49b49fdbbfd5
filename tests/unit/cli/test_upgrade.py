"""`upgrade --check`: what it tells, and that it changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from resender import __version__
from resender.cli.main import main
from resender.store import open_repository, schema


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RESENDER_DATABASE_URL", "")
    return tmp_path / "resender.db"


def test_without_a_database_there_is_nothing_to_do(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upgrade", "--check"]) == 0
    assert "no database yet" in capsys.readouterr().out
    assert not database.exists()


def test_it_only_looks(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade"]) == 2
    assert "upgrade --check" in capsys.readouterr().err


def test_current_database_needs_nothing(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_repository(f"sqlite:///{database}") as repository:
        repository.state_set("program_version", __version__)
    assert main(["upgrade", "--check"]) == 0
    told = capsys.readouterr().out
    assert f"used last by version {__version__}" in told
    assert "The database needs no upgrade." in told


def test_old_database_is_tried_on_a_copy_and_stays_old(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.store.test_schema import connect

    with closing(connect(f"sqlite:///{database}")) as old:
        schema.upgrade(old, target="0003_preload")
    before = database.read_bytes()
    assert main(["upgrade", "--check"]) == 0
    told = capsys.readouterr().out
    assert "used last by version 0.1.0" in told
    assert "0004_admin, 0005_accounts, 0006_alerts: tried on a copy, it works." in told
    assert "What needs your attention (CHANGELOG.md):" in told
    assert "[0.2.0] Calls that do not fit into the weight are refused by the gateway" in told
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_newer_database_is_told_with_the_exit_code_of_the_start(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_repository(f"sqlite:///{database}"):
        pass
    with closing(sqlite3.connect(database)) as newer:
        newer.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
        newer.commit()
    assert main(["upgrade", "--check"]) == 2
    assert "newer version" in capsys.readouterr().err
