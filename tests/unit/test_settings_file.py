"""`settings.py` is run once: what is taken from it, and the one clear line if it cannot be run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import resender.settings_file as module
from resender.errors import ConfigError
from resender.settings_file import read_settings_file


def read(folder: Path, text: str | bytes) -> dict[str, object]:
    file = folder / "settings.py"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_settings_file(file)


def test_only_upper_case_names_are_settings(tmp_path: Path) -> None:
    text = """
import os
from pathlib import Path as PATH_TYPE

PORT = 8100
_SECRET = 1
__ALL = 1
port = 2
Port = 3
MAX_1 = 4
def HELPER(): return 5
"""
    found = read(tmp_path, text)
    assert {name for name in found if name not in ("HELPER", "PATH_TYPE")} == {"PORT", "MAX_1"}
    assert (found["PORT"], found["MAX_1"]) == (8100, 4)


def test_file_that_is_not_there_sets_nothing(tmp_path: Path) -> None:
    assert read_settings_file(tmp_path / "settings.py") == {}
    (tmp_path / "settings.py").symlink_to(tmp_path / "gone")
    assert read_settings_file(tmp_path / "settings.py") == {}


def test_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}
    assert read(tmp_path, "\ufeff# 设置\n") == {}


def test_file_is_run_anew_each_time_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before, argv = set(sys.modules), list(sys.argv)
    assert read(tmp_path, "PORT = 1") == {"PORT": 1}
    assert read(tmp_path, "HOST = 'x'") == {"HOST": "x"}
    assert set(sys.modules) == before
    assert sys.argv == argv
    assert "__main__" in sys.modules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A = 1\nB = = 2\n", "settings.py, line 2: SyntaxError"),
        ("A = 1\n  B = 2\n", "settings.py, line 2: IndentationError"),
        ("A = (\n", "settings.py, line 1: SyntaxError"),
        (b"A = '\xff'\n", "settings.py"),
        (b"A = 1\0\n", "settings.py"),
        ("A = B", "settings.py: NameError"),
        ("A = int('x')", "settings.py: ValueError"),
        ("A = {}['x']", "settings.py: KeyError"),
        ("def f(): f()\nf()", "settings.py: RecursionError"),
        ("raise SystemExit", "settings.py: SystemExit"),
        ("import sys\nsys.exit('no')", "settings.py: SystemExit: no"),
        ("exit(0)", "settings.py: SystemExit: 0"),
    ],
)
def test_file_that_cannot_be_run_is_told_with_its_name_and_line(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(words)
    assert caught.value.__suppress_context__, "no traceback of runpy's"


def test_secret_beside_a_mistake_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "ADMIN_PASSWORD = 'hush-hush-1\nPORT = 1\n")
    assert "hush" not in str(caught.value)


def test_interrupt_is_no_fault_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, "raise KeyboardInterrupt")


def test_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.py").mkdir()
    with pytest.raises(ConfigError, match=r"settings\.py"):
        read_settings_file(tmp_path / "settings.py")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.py").touch(mode=0)
    with pytest.raises(ConfigError, match=r"settings\.py: PermissionError"):
        read_settings_file(tmp_path / "settings.py")


@pytest.mark.parametrize("is_installed", [True, False])
def test_file_of_another_user_is_run_in_a_checkout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    monkeypatch.setattr(module, "IS_INSTALLED", is_installed)
    monkeypatch.setattr(module, "is_foreign", lambda path: True)
    if not is_installed:
        assert read(tmp_path, "PORT = 1") == {"PORT": 1}
        return
    with pytest.raises(ConfigError, match="another user and is not run"):
        read(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()


def test_file_beside_the_program_is_read_if_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "home", lambda: tmp_path)
    assert read_settings_file() == {}
    (tmp_path / "settings.py").write_text("PORT = 9")
    assert read_settings_file() == {"PORT": 9}
