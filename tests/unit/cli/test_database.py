"""Which database a command changed, and the warning if the running gateway has another."""

from __future__ import annotations

from pathlib import Path

import pytest

from resender.cli import database as module
from resender.cli.database import tell_database
from resender.config import Config


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, dict[str, str]]:
    """The environments of the gateways that run, by process id; the settings file is empty."""
    found: dict[int, dict[str, str]] = {}
    monkeypatch.setattr(module, "running_gateways", lambda *starters: list(found.items()))
    monkeypatch.setattr(module, "read_settings_file", dict)
    monkeypatch.setattr(module, "IS_INSTALLED", True)
    monkeypatch.setattr(module, "home", lambda: tmp_path / "here")
    (tmp_path / "here").mkdir()
    return found


def of(path: Path) -> Config:
    return Config(data_dir=str(path))


def test_database_is_named_and_nothing_else_without_a_gateway(
    running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_database(of(tmp_path))
    captured = capsys.readouterr()
    assert captured.out == f"(database {tmp_path / 'resender.db'})\n"
    assert captured.err == ""


def test_password_of_a_database_is_not_told(running, capsys: pytest.CaptureFixture[str]) -> None:
    tell_database(Config(database_url="postgresql://me:hush-hush-1@db.invalid/real"))
    captured = capsys.readouterr()
    assert "db.invalid" in captured.out
    assert "hush-hush-1" not in captured.out


def test_gateway_with_another_database_is_warned_of_by_its_process_id(
    running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running[77] = {"PWD": str(tmp_path / "here"), "RESENDER_DATA_DIR": str(tmp_path / "other")}
    tell_database(of(tmp_path))
    err = capsys.readouterr().err
    assert "pid 77" in err
    assert str(tmp_path / "other" / "resender.db") in err
    assert "RESENDER_DATA_DIR" in err


def test_same_database_by_another_path_is_no_other_one(
    running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    running[77] = {"PWD": str(tmp_path / "here"), "RESENDER_DATA_DIR": str(tmp_path / "link")}
    tell_database(of(tmp_path / "real"))
    assert capsys.readouterr().err == ""


def test_relative_data_folder_of_a_gateway_starts_in_its_own_folder(
    running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running[77] = {"PWD": str(tmp_path / "there"), "RESENDER_DATA_DIR": "data"}
    tell_database(of(tmp_path / "there" / "data"))
    assert capsys.readouterr().err == ""


def test_one_gateway_of_several_that_sees_the_change_is_enough(
    running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running[77] = {"PWD": str(tmp_path / "here"), "RESENDER_DATA_DIR": str(tmp_path / "other")}
    running[78] = {"PWD": str(tmp_path / "here"), "RESENDER_DATA_DIR": str(tmp_path)}
    tell_database(of(tmp_path))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrong", ["settings file", "environment"])
def test_gateway_whose_settings_cannot_be_told_is_left_out(
    running, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    running[77] = {"PWD": str(there)}
    if wrong == "settings file":
        (there / "settings.py").write_text("raise SystemExit('must not be run')")
    else:
        running[77]["RESENDER_PORT"] = "high"
    tell_database(of(tmp_path))
    assert capsys.readouterr().err == ""
