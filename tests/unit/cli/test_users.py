"""The command `user`."""

from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path

import pytest

from resender.cli import users
from resender.config import Config
from resender.passwords import verify_password
from resender.store import open_repository

GOOD = "correct horse battery"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed, without the line that names the database."""
    lines = capsys.readouterr().out.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("(database "))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(database_url=f"sqlite:///{tmp_path / 'store.db'}", whitelist=("10.0.0.1",))


@pytest.fixture(autouse=True)
def no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


def user(config: Config, *words: str) -> int:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--data-dir")
    parser = argparse.ArgumentParser(prog="run.py", parents=[common])
    users.add_parser(parser.add_subparsers(), common)
    arguments = parser.parse_args(["user", *words])
    return int(arguments.run(config, arguments))


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def ask(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    waiting = list(answers)
    monkeypatch.setattr("getpass.getpass", lambda prompt: waiting.pop(0))


def test_user_is_added_with_a_password_from_standard_input(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, GOOD + "\n")
    assert user(config, "add", "Anna", "--password-stdin") == 0
    assert said(capsys) == "Anna may log in.\n"
    with open_repository(config.database) as repository:
        (row,) = repository.user_list()
    assert (row.username, row.enabled, row.must_change) == ("Anna", True, False)
    assert verify_password(row.password_hash, GOOD)


def test_password_is_asked_for_twice_on_a_terminal(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, GOOD, GOOD)
    assert user(config, "add", "anna") == 0
    with open_repository(config.database) as repository:
        (row,) = repository.user_list()
        assert verify_password(row.password_hash, GOOD)
    ask(monkeypatch, GOOD + "1", GOOD + "2")
    assert user(config, "set-password", "anna") == 2
    with open_repository(config.database) as repository:
        assert repository.user_list() == [row]


@pytest.mark.parametrize("has_terminal", [True, False])
def test_password_is_made_up_and_shown_where_none_is_given(
    config: Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_terminal: bool,
) -> None:
    if has_terminal:
        ask(monkeypatch, "")
    assert user(config, "add", "anna") == 0
    told = re.fullmatch(
        r"anna may log in\.\nPassword: (\w{20})\nIt is shown only now .* first log-in\.\n",
        said(capsys),
    )
    assert told
    with open_repository(config.database) as repository:
        (row,) = repository.user_list()
    assert row.must_change
    assert verify_password(row.password_hash, told[1])


def test_new_password_ends_all_sessions_and_enables_nobody(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_repository(config.database) as repository:
        row = repository.user_add("anna", "old")
        other = repository.user_add("ben", "old")
        repository.session_add(row.id, "a" * 64, "", "", 1)
        repository.session_add(other.id, "b" * 64, "", "", 1)
        repository.user_update(row.id, enabled=False)
        repository.session_add(other.id, "c" * 64, "", "", 1)
    give(monkeypatch, GOOD)
    assert user(config, "set-password", "ANNA", "--password-stdin") == 0
    assert said(capsys).splitlines() == [
        "anna has a new password and is logged out everywhere.",
        "anna is switched off and still cannot log in.",
    ]
    assert user(config, "set-password", "ben") == 0
    with open_repository(config.database) as repository:
        assert repository.session_list(row.id) == repository.session_list(other.id) == []
        changed = repository.user_get("anna")
        assert changed is not None
        assert verify_password(changed.password_hash, GOOD)
        assert not changed.enabled


def test_users_are_listed(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert user(config, "list") == 0
    assert "no users" in capsys.readouterr().out
    with open_repository(config.database) as repository:
        repository.user_add("anna", "hash", must_change=True)
        row = repository.user_add("ben", "hash")
        repository.user_note_login(row.id, "203.0.113.5", 1_700_000_000_000)
        repository.user_update(row.id, enabled=False)
    assert user(config, "list") == 0
    first, second = said(capsys).splitlines()
    assert re.fullmatch(r"anna  on   made .* UTC  never logged in  must change the password", first)
    assert re.fullmatch(r"ben   off  made .* UTC  logged in 2023-11-14 22:13 UTC from 203\.0\.113\.5", second)
    assert "hash" not in first + second


def test_user_is_removed_but_never_the_last_one(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    user(config, "add", "anna")
    user(config, "add", "ben")
    capsys.readouterr()
    assert user(config, "remove", "anna") == 0
    assert said(capsys) == "anna is removed.\n"
    assert user(config, "remove", "ben") == 1
    assert capsys.readouterr().err.startswith("error: ben is the last user who can log in")
    with open_repository(config.database) as repository:
        assert [row.username for row in repository.user_list()] == ["ben"]


@pytest.mark.parametrize(
    ("words", "given", "code", "text"),
    [
        (("add", "a b"), "", 2, "1 to 64"),
        (("add", ""), "", 2, "1 to 64"),
        (("add", "ANNA"), "", 1, "There is a user anna already."),
        (("add", "ben", "--password-stdin"), "", 2, "no password"),
        (("add", "ben", "--password-stdin"), "\n", 2, "no password"),
        (("add", "ben", "--password-stdin"), "short\n", 2, "at least 10"),
        (("add", "ben", "--password-stdin"), "1234567890\n", 2, "anybody would try"),
        (("set-password", "anna", "--password-stdin"), "annaanna-1\n", 2, "user name"),
        (("set-password", "nobody"), "", 1, "There is no user nobody."),
        (("remove", "nobody"), "", 1, "There is no user nobody."),
    ],
)
def test_what_cannot_be_done_is_one_line_on_standard_error(
    config: Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    given: str,
    code: int,
    text: str,
) -> None:
    with open_repository(config.database) as repository:
        row = repository.user_add("anna", "hash")
    give(monkeypatch, given)
    assert user(config, *words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert text in captured.err
    with open_repository(config.database) as repository:
        assert repository.user_list() == [row]
        assert repository.audit_list() == []


@pytest.mark.parametrize("words", [(), ("add",), ("remove",), ("set-password",), ("show",)])
def test_wrong_use_is_exit_2(config: Config, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        user(config, *words)
    assert caught.value.code == 2


def test_every_change_is_in_the_audit_without_a_secret(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, GOOD)
    user(config, "add", "anna", "--password-stdin")
    user(config, "add", "ben")
    give(monkeypatch, GOOD)
    user(config, "set-password", "anna", "--password-stdin")
    user(config, "remove", "ben")
    with open_repository(config.database) as repository:
        rows = repository.audit_list()
    assert [(row.action, row.subject) for row in rows] == [
        ("user.remove", "ben"),
        ("user.password", "anna"),
        ("user.add", "ben"),
        ("user.add", "anna"),
    ]
    assert {(row.actor, row.ip) for row in rows} == {("command line", "")}
    assert json.loads(rows[0].before or "") == {"username": "ben", "enabled": True, "must_change": True}
    assert all(word not in repr(rows) for word in (GOOD, "argon2"))
