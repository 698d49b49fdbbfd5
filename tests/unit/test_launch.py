"""What is looked at before the program is read: Python, the packages, files that may not be read."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

import pytest

from resender import launch
from resender.cli import main as command_line


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return what has the command line end with an error."""

    def put(error: BaseException) -> None:
        def main(*_: object, **__: object) -> int:
            raise error

        monkeypatch.setattr(command_line, "main", main)

    return put


def test_command_line_gets_the_words_and_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def main(words: list[str], prog: str = "run.py") -> int:
        calls.append((words, prog))
        return 7

    monkeypatch.setattr(command_line, "main", main)
    monkeypatch.setattr(sys, "argv", ["x", "whitelist", "list"])
    assert (launch.run(), launch.run("other")) == (7, 7)
    assert calls == [(["whitelist", "list"], "run.py"), (["whitelist", "list"], "other")]


def test_old_python_reads_nothing_of_the_program(
    monkeypatch: pytest.MonkeyPatch, ends: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ends(AssertionError("the command line was called"))
    monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
    monkeypatch.setattr(sys, "version", "3.9.18 (main)")
    assert launch.run() == 2
    assert capsys.readouterr().err == "Binance Resender needs Python 3.10 or newer; this is 3.9.18\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'peewee'", name="peewee"), "The package 'peewee' is missing."),
        (ImportError("no 'x' in tornado", name="tornado"), "does not fit (no 'x' in tornado)"),
        (PermissionError(errno.EACCES, "no", "/srv/app/x.py"), "/srv/app/x.py may not be read by this user"),
    ],
)
def test_what_is_not_there_is_told(
    error: BaseException,
    words: str,
    ends: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends(error)
    assert launch.run() == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("of our own", name="resender.nowhere"), OSError(errno.EIO, "broken"), KeyError("x")],
)
def test_faults_of_our_own_are_not_hidden(
    error: BaseException, ends: Callable[[BaseException], None]
) -> None:
    ends(error)
    with pytest.raises(type(error)):
        launch.run()


def test_journal_gets_the_level_before_each_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert launch.fail("one\ntwo") == 2
    assert capfd.readouterr().err == "<3>one\n<3>two\n"
