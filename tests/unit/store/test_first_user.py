"""The first account: its password is the one given, or made up and said once."""

from __future__ import annotations

import sys

import pytest

from resender.errors import StoreUnfit
from resender.passwords import verify_password
from resender.store import Repository
from resender.store.first_user import make_first_user

GOOD = "a calm long secret"


def test_given_password_is_taken_and_said_nowhere(
    repository: Repository, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_first_user(repository, GOOD)
    (user,) = repository.user_list()
    assert (user.username, user.must_change) == ("root", False)
    assert verify_password(user.password_hash, GOOD)
    assert capsys.readouterr().out + caplog.text == ""


def test_made_up_password_is_printed_once_and_has_to_be_changed(
    repository: Repository, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_first_user(repository, "")
    (user,) = repository.user_list()
    said = capsys.readouterr().out
    password = said.split("with the password ")[1].split()[0]
    assert verify_password(user.password_hash, password)
    assert user.must_change
    assert len(said.splitlines()) == 2
    assert caplog.text == "", "the log may be kept for years"
    make_first_user(repository, "")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("password", ["short", "root", "x" * 5000])
def test_password_that_will_not_do_makes_no_account(
    repository: Repository, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreUnfit, match="ADMIN_PASSWORD") as caught:
        make_first_user(repository, password)
    assert password not in str(caught.value) or password == "root"
    assert repository.user_list() == []
    make_first_user(repository, GOOD)
    assert len(repository.user_list()) == 1


def test_weak_password_is_no_trouble_once_there_was_an_account(repository: Repository) -> None:
    make_first_user(repository, GOOD)
    make_first_user(repository, "short")
    assert len(repository.user_list()) == 1


def test_without_a_standard_output_somebody_can_still_log_in(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    make_first_user(repository, "")
    assert "log in as root with the password" in caplog.text
