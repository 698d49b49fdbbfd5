"""Accounts of the admin pages as a user of the command line meets them."""

from __future__ import annotations

import re

import pytest

from tests.support.processes import Start

pytestmark = pytest.mark.e2e

_TOLD = re.compile(r"log in as root with the password (\w{20})")


def test_first_password_is_printed_at_the_first_start_and_never_again(start: Start) -> None:
    gateway = start()
    found = _TOLD.findall(gateway.stdout)
    assert len(found) == 1
    listed = gateway.command("user", "list")
    assert listed.wait() == 0
    assert re.fullmatch(r"root  on   made .* UTC  never logged in  must change the password\n", listed.stdout)

    assert gateway.command("user", "add", "anna").wait() == 0
    gateway.stop()
    again = start()
    assert "password" not in again.stdout
    assert found[0] not in gateway.stderr + again.stderr
    assert again.command("user", "remove", "root").said == "root is removed.\n"
    again.command("user", "remove", "anna").check_refusal(1, "anna is the last user")
    again.command("user", "set-password", "root").check_refusal(1, "There is no user root.")


def test_given_first_password_is_not_printed(start: Start) -> None:
    gateway = start(ADMIN_PASSWORD="correct horse battery")
    assert gateway.stdout == ""
    assert "correct horse" not in gateway.stderr
    listed = gateway.command("user", "list")
    assert listed.wait() == 0
    assert "must change" not in listed.stdout


def test_server_without_admin_pages_has_no_account(start: Start) -> None:
    gateway = start(ADMIN_ENABLED="false")
    assert gateway.stdout == ""
    assert gateway.command("user", "list").stdout.startswith("There are no users")
