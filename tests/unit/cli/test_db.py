"""`db copy` on the command line: what it tells, and when it does nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from resender.cli.main import main
from resender.lock import data_dir_lock
from resender.store import open_repository


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RESENDER_DATABASE_URL", "")
    with open_repository(f"sqlite:///{tmp_path / 'data' / 'resender.db'}") as repository:
        repository.whitelist_add("10.0.0.1", "")
    return tmp_path


def test_copy_tells_each_table_and_what_to_do_then(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "copy", "--to", f"sqlite:///{folder / 'new.db'}"]) == 0
    told = capsys.readouterr().out
    assert "whitelist" in told
    assert "1 rows, compared" in told
    assert told.rstrip().endswith("the old database is as it was.")
    with open_repository(f"sqlite:///{folder / 'new.db'}") as repository:
        assert [entry.address for entry in repository.whitelist_list()] == ["10.0.0.1"]


def test_address_with_a_password_may_come_over_standard_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"sqlite:///{folder / 'new.db'}\n"))
    assert main(["db", "copy", "--to", "-", "--without-log"]) == 0
    assert "request_log" not in capsys.readouterr().out


def test_password_is_not_told_where_the_server_cannot_be_reached(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "copy", "--to", "postgresql://me:hush-hush-1@127.0.0.1:9/x"]) == 1
    told = capsys.readouterr()
    assert "hush-hush-1" not in told.out + told.err
    assert told.err.startswith("error: ")


def test_nothing_is_copied_while_a_gateway_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with data_dir_lock(folder / "data"):
        assert main(["db", "copy", "--to", f"sqlite:///{folder / 'new.db'}"]) == 2
    assert "would be left behind" in capsys.readouterr().err
    assert not (folder / "new.db").exists()
