"""The command `user`: who may log in to the admin pages.

It reads and changes the accounts in the database; a running server follows within seconds. What a
good password is, is `resender.passwords`. No state.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from resender.cli.database import tell_database
from resender.cli.words import say
from resender.config import Config
from resender.core.redact import redact

if TYPE_CHECKING:
    from resender.store import Repository, UserRow

EXIT_FAILED = 1
EXIT_USAGE = 2
_ACTOR = "command line"


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `user` to the command line.

    Shape: `commands` is what `add_subparsers` returned; each action sets `run(config, arguments)`,
        which returns the exit code.
    """
    text = "Who may log in to the admin pages."
    user = commands.add_parser("user", help=text, description=text, parents=[common])
    actions = user.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(
        name: str, help: str, run: Callable[[Config, argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=help, description=help, parents=[common]
        )
        parser.set_defaults(run=run)
        return parser

    def add_password(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the password as one line from standard input; without it the terminal is "
            "asked, and where there is none or nothing is typed, one is made up and printed",
        )

    add("list", "Show the users.", list_users)
    adding = add("add", "Let somebody log in.", add_user)
    adding.add_argument("name", metavar="NAME", help="1 to 64 letters, digits and _ . @ -")
    add_password(adding)
    removing = add("remove", "Remove a user with all log-ins and tokens.", remove_user)
    removing.add_argument("name", metavar="NAME", help="as `user list` shows it")
    setting = add("set-password", "Give a user another password; ends all log-ins.", set_password)
    setting.add_argument("name", metavar="NAME", help="as `user list` shows it")
    add_password(setting)


def list_users(config: Config, arguments: argparse.Namespace) -> int:
    """Show the accounts; return the exit code."""
    from resender.store import open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        users = repository.user_list()
    if not users:
        say("There are no users; the first start of the server makes one.")
        return 0
    width = max(len(user.username) for user in users)
    for user in users:
        switch = "on " if user.enabled else "off"
        seen = "never logged in"
        if user.last_login_ms is not None:
            seen = f"logged in {_time(user.last_login_ms)} from {user.last_login_ip}"
        notes = "  must change the password" if user.must_change else ""
        print(f"{user.username:{width}s}  {switch}  made {_time(user.created_ms)}  {seen}{notes}")
    return 0


def add_user(config: Config, arguments: argparse.Namespace) -> int:
    """Make an account; return the exit code."""
    from resender.store import DuplicateUser, open_repository
    from resender.store.users import check_username

    try:
        name = check_username(arguments.name)
        with open_repository(config.database) as repository:
            repository.whitelist_seed(config.whitelist)
            # Before the password is asked for; it is looked at again when the account is made.
            present = repository.user_get(name)
            if present is not None:
                return _fail(DuplicateUser(present), EXIT_FAILED)
            password, password_hash, is_made_up = _new_password(arguments, name)
            with repository.transaction():
                user = repository.user_add(name, password_hash, must_change=is_made_up)
                _note(repository, "user.add", user)
    except DuplicateUser as error:
        return _fail(error, EXIT_FAILED)
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    say(f"{user.username} may log in.")
    tell_database(config)
    _tell(password, is_made_up)
    return 0


def remove_user(config: Config, arguments: argparse.Namespace) -> int:
    """Remove an account; return the exit code."""
    from resender.store import LastUser, UnknownUser, open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        user = repository.user_get(arguments.name)
        try:
            with repository.transaction():
                if user is None or not repository.user_remove(user.id):
                    raise UnknownUser(arguments.name)
                _note(repository, "user.remove", user)
        except (LastUser, UnknownUser) as error:
            return _fail(error, EXIT_FAILED)
    say(f"{user.username} is removed.")
    tell_database(config)
    return 0


def set_password(config: Config, arguments: argparse.Namespace) -> int:
    """Give an account another password; return the exit code."""
    from resender.store import UnknownUser, open_repository

    try:
        with open_repository(config.database) as repository:
            repository.whitelist_seed(config.whitelist)
            user = repository.user_get(arguments.name)
            if user is None:
                return _fail(UnknownUser(arguments.name), EXIT_FAILED)
            password, password_hash, is_made_up = _new_password(arguments, user.username)
            with repository.transaction():
                user = repository.user_update(user.id, password_hash=password_hash, must_change=is_made_up)
                _note(repository, "user.password", user)
    except UnknownUser as error:
        return _fail(error, EXIT_FAILED)
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    say(f"{user.username} has a new password and is logged out everywhere.")
    tell_database(config)
    _tell(password, is_made_up)
    if not user.enabled:
        say(f"{user.username} is switched off and still cannot log in.")
    return 0


def _new_password(arguments: argparse.Namespace, username: str) -> tuple[str, str, bool]:
    """Return a password, its hash, and whether it was made up here.

    Raises: ValueError if what was given cannot be used.
    """
    from resender.passwords import check_password, generate_password, hash_password

    password = _given_password(arguments)
    is_made_up = not password
    if is_made_up:
        password = generate_password()
    else:
        check_password(password, username)
    return password, hash_password(password), is_made_up


def _given_password(arguments: argparse.Namespace) -> str:
    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise ValueError("--password-stdin: standard input holds no password.")
        return password
    if not sys.stdin.isatty():
        return ""
    try:
        password = getpass.getpass("Password (empty: one is made up): ")
        if password and getpass.getpass("Once more: ") != password:
            raise ValueError("The two passwords are not the same.")
    except EOFError:
        return ""
    return password


def _tell(password: str, is_made_up: bool) -> None:
    if is_made_up:
        say(f"Password: {password}")
        say("It is shown only now and must be changed at the first log-in.")


def _note(repository: Repository, action: str, user: UserRow) -> None:
    shown = {"username": user.username, "enabled": user.enabled, "must_change": user.must_change}
    is_removal = action == "user.remove"
    before, after = (shown, None) if is_removal else (None, shown)
    repository.audit_add(_ACTOR, "", action, user.username, before, after)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _fail(error: Exception, code: int) -> int:
    say(f"error: {redact(str(error))}", file=sys.stderr)
    return code
