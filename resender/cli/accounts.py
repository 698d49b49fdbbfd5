"""The command `account`: which accounts of Binance are watched, and with which keys.

It reads and changes the accounts in the database; running servers follow by themselves. What an account may
answer is `resender.account`. Keys and secrets come in by `resender.cli.asking` and are never shown. No state.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import orjson

from resender.api_keys import Signer, Verifier, digest_of, hint_of
from resender.cli.asking import ask, read_file, read_stdin, unseen
from resender.cli.database import tell_database
from resender.cli.key_checking import check_read_only
from resender.cli.words import say
from resender.config import Config
from resender.core.account.spec import Mode
from resender.core.redact import redact

if TYPE_CHECKING:
    from resender.store import AccountRow, Repository

EXIT_FAILED = 1
EXIT_USAGE = 2
_ACTOR = "command line"
_SILENT_MS = 60_000
_LAST_MS = 10**14  # beyond the year 5000
_SOURCES = {"bound": "from calls", "linked": "linked", "own": "own"}
_STATES_KEY = "account_states"


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `account` to the command line.

    Shape: `commands` is what `add_subparsers` returned; each action sets `run(config, arguments)`,
        which returns the exit code.
    """
    text = "Which accounts of Binance are watched."
    account = commands.add_parser("account", help=text, description=text, parents=[common])
    actions = account.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(
        name: str, help: str, run: Callable[[Config, argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=help, description=help, parents=[common]
        )
        parser.set_defaults(run=run)
        return parser

    def add_key_sources(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--key-file", metavar="FILE", help="read the API key from a file")
        parser.add_argument(
            "--stdin", action="store_true", help="read from standard input what would be asked for, by lines"
        )
        parser.add_argument(
            "--public-key", metavar="FILE", help="the key's public part in PEM (Ed25519, RSA)"
        )

    add("list", "Show the accounts and their states.", list_accounts)
    adding = add("add", "Watch an account.", add_account)
    adding.add_argument("name", metavar="NAME", help="1 to 64 letters, digits and _ . @ -")
    adding.add_argument("market", metavar="MARKET", help="spot, margin, um, cm or pm")
    adding.add_argument(
        "--key-from-calls",
        action="store_true",
        help="um, cm, pm: the next new key of an accepted signed call is the account's",
    )
    adding.add_argument(
        "--signed-by-client", action="store_true", help="spot, margin: the client signs the subscription"
    )
    adding.add_argument("--key", action="store_true", help="ask for the API key now")
    adding.add_argument("--secret", action="store_true", help="ask for the secret of a read-only key too")
    add_key_sources(adding)
    adding.add_argument(
        "--secret-file", metavar="FILE", help="read the secret from a file: HMAC, or a private key in PEM"
    )
    removing = add("remove", "Watch an account no more; its secrets are deleted.", remove_account)
    removing.add_argument("name", metavar="NAME", help="as `account list` shows it")
    linking = add("link", "Say that another key is the same account's.", link_key)
    linking.add_argument("name", metavar="NAME", help="as `account list` shows it")
    add_key_sources(linking)
    unlinking = add("unlink", "Take a key from an account.", unlink_key)
    unlinking.add_argument("name", metavar="NAME", help="as `account list` shows it")
    unlinking.add_argument("hint", metavar="HINT", help="the key's last four characters")


# --- list --------------------------------------------------------------------------------------


def list_accounts(config: Config, arguments: argparse.Namespace) -> int:
    """Show the accounts, with the states a running server has told; return the exit code."""
    from resender.store import open_repository
    from resender.store.tables import clock_ms

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        rows = repository.account_list()
        at_ms, states = _told_states(repository)
    if not rows:
        say("No account is watched.")
        return 0
    silent_ms = None if at_ms is None else max(0, clock_ms() - at_ms)
    is_told = silent_ms is not None and silent_ms <= _SILENT_MS
    lines = [
        (
            row.name, row.market, row.mode, _keys(row), f"since {_time(row.created_ms)}",
            _state(states.get(str(row.id))) if is_told else "",
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    for line in lines:
        cells = [f"{cell:{width}s}" for cell, width in zip(line, widths, strict=False)]
        say("  ".join([*cells, line[-1]]).rstrip())
    if silent_ms is None:
        say("No server has told their states yet.")
    elif not is_told:
        say(f"No server has told their states for {_length(silent_ms)}: is one running?")
    return 0


def _told_states(repository: Repository) -> tuple[int | None, dict[str, Any]]:
    """Return when a server has told the states last, and the states by the account's id."""
    try:
        told = orjson.loads(repository.state_get(_STATES_KEY) or "null")
        states = told["accounts"]
        return int(told["at_ms"]), states if isinstance(states, dict) else {}
    except (ValueError, TypeError, KeyError):
        return None, {}


def _keys(row: AccountRow) -> str:
    shown = []
    for key in row.keys:
        notes = [_SOURCES.get(key.source, key.source)]
        if key.public_key is not None:
            notes.append("public key")
        shown.append(f"...{key.hint} ({', '.join(notes)})")
    return ", ".join(shown) or "no key yet"


def _state(told: Any) -> str:
    if not isinstance(told, dict):
        return "not watched yet"
    state, why, orders, since = (told.get(name) for name in ("state", "why", "orders", "since_ms"))
    parts = [str(state)]
    if why:
        parts[0] += f": {why}"
    if isinstance(orders, int) and state == "live":
        parts.append(f"{orders} open order{'' if orders == 1 else 's'}")
    if isinstance(since, int) and 0 < since < _LAST_MS:
        parts.append(f"since {_time(since)}")
    return _line(", ".join(parts))


# --- add and remove ----------------------------------------------------------------------------


def add_account(config: Config, arguments: argparse.Namespace) -> int:
    """Add an account; return the exit code."""
    from resender.account import KeyRefused
    from resender.secret_box import SecretBox, SecretError
    from resender.store import DuplicateAccount, DuplicateKey, open_repository
    from resender.store.accounts import check_account

    market = arguments.market.lower()
    try:
        mode = _mode(arguments)
        check_account(arguments.name, market, mode.value)
        with open_repository(config.database) as repository:
            repository.whitelist_seed(config.whitelist)
            # Before anything is asked for; it is looked at again when the account is made.
            there = repository.account_find(arguments.name)
            if there is not None:
                return _fail(DuplicateAccount(there), EXIT_FAILED)
            public_key = _given_public_key(arguments)
            with unseen():
                key = _given_key(arguments) if mode is Mode.SECRET or _has_key(arguments) else None
                sealing = _given_secret(arguments, key) if mode is Mode.SECRET and key is not None else None
        if sealing is not None:
            # The database is not held meanwhile.
            check_read_only(config, sealing["key"], Signer.parse(sealing["secret"]))
        with open_repository(config.database) as repository, repository.transaction():
            row = repository.account_add(
                arguments.name,
                market,
                mode.value,
                digest=None if key is None else digest_of(key),
                hint="" if key is None else hint_of(key),
                public_key=public_key,
                source="linked" if sealing is None else "own",
            )
            if sealing is not None:
                box = SecretBox(config.secret_key, config.data_path)
                # The row's number is sealed in: what is sealed opens for no other account.
                row = repository.account_seal(row.id, box.seal(orjson.dumps(sealing).decode(), str(row.id)))
            _note(repository, "account.add", row)
    except (DuplicateAccount, DuplicateKey, KeyRefused, SecretError) as error:
        return _fail(error, EXIT_FAILED)
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    say(f"{row.name} is watched: {_what_next(row)}")
    tell_database(config)
    return 0


def _mode(arguments: argparse.Namespace) -> Mode:
    """Return the mode the options ask for. Raises: ValueError if they do not fit together."""
    has_secret = bool(arguments.secret or arguments.secret_file)
    asked = {
        Mode.KEY: arguments.key_from_calls,
        Mode.SIGNED: arguments.signed_by_client,
        Mode.SECRET: has_secret,
    }
    modes = [mode for mode, is_asked in asked.items() if is_asked]
    if len(modes) != 1:
        raise ValueError(
            "Say one way to watch it: --key-from-calls (um, cm, pm), --signed-by-client (spot, margin), or "
            "--key --secret."
        )
    if arguments.public_key and has_secret:
        raise ValueError("--public-key goes with a key whose secret is not given.")
    if arguments.public_key and not _has_key(arguments):
        raise ValueError("Whose public key is it? Give the API key too, with --key.")
    return modes[0]


def _has_key(arguments: argparse.Namespace) -> bool:
    return bool(arguments.key or arguments.key_file or arguments.stdin)


def _given_key(arguments: argparse.Namespace) -> str:
    """Return the API key. Raises: ValueError."""
    if arguments.key_file:
        key = read_file(arguments.key_file, "API key")
    else:
        key = (read_stdin if arguments.stdin else ask)("API key")
    if not 20 <= len(key) <= 256 or not key.isascii() or not key.isalnum():
        raise ValueError("An API key is some 64 letters and digits.")
    return key


def _given_secret(arguments: argparse.Namespace, key: str) -> dict[str, str]:
    """Return what is to be sealed. Raises: ValueError."""
    if arguments.secret_file:
        secret = read_file(arguments.secret_file, "secret", is_secret=True)
    else:
        secret = (read_stdin if arguments.stdin else ask)("secret")
    Signer.parse(secret)
    if secret == key:
        raise ValueError("Key and secret are the same text.")
    return {"key": key, "secret": secret}


def _given_public_key(arguments: argparse.Namespace) -> str | None:
    """Return the PEM of the key's public part. Raises: ValueError."""
    if not arguments.public_key:
        return None
    text = read_file(arguments.public_key, "public key")
    Verifier.parse(text)
    return text


def _what_next(row: AccountRow) -> str:
    if row.mode == Mode.SECRET.value:
        return f"Binance says that its key ...{row.keys[0].hint} may only read."
    if row.keys:
        return f"its key is ...{row.keys[0].hint}."
    if row.mode == Mode.SIGNED.value:
        return f"its client has to sign a subscription at /local/{row.market}/userDataStream."
    return "its key is the next new one of a signed call that Binance accepts."


def remove_account(config: Config, arguments: argparse.Namespace) -> int:
    """Remove an account and its secrets; return the exit code."""
    from resender.store import UnknownAccount, open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        try:
            with repository.transaction():
                row = repository.account_find(arguments.name)
                if row is None or not repository.account_remove(row.id):
                    raise UnknownAccount(arguments.name)
                _note(repository, "account.remove", row)
        except UnknownAccount as error:
            return _fail(error, EXIT_FAILED)
        is_empty = repository.empty_wal()
    say(f"{row.name} is removed{' with its secrets' if row.sealed is not None else ''}.")
    tell_database(config)
    if not is_empty and row.sealed is not None:
        say(
            "warning: other programs read the database: its log (-wal) holds what was sealed until they end.",
            file=sys.stderr,
        )
    return 0


# --- keys --------------------------------------------------------------------------------------


def link_key(config: Config, arguments: argparse.Namespace) -> int:
    """Add a key to an account; return the exit code, 0 also if it had it already."""
    from resender.store import DuplicateKey, UnknownAccount, open_repository

    try:
        with open_repository(config.database) as repository:
            repository.whitelist_seed(config.whitelist)
            row = repository.account_find(arguments.name)
            if row is None:
                return _fail(UnknownAccount(arguments.name), EXIT_FAILED)
            public_key = _given_public_key(arguments)
            key = _given_key(arguments)
            digest = digest_of(key)
            with repository.transaction():
                before = repository.account_get(row.id)
                row = repository.account_link(row.id, digest, hint_of(key), public_key=public_key)
                if row != before:
                    _note(repository, "account.link", row, hint_of(key))
    except (DuplicateKey, UnknownAccount) as error:
        return _fail(error, EXIT_FAILED)
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    if row == before:
        say(f"...{hint_of(key)} was a key of {row.name} already.")
        return 0
    say(f"...{hint_of(key)} is a key of {row.name}{'; its signatures are checked' if public_key else ''}.")
    tell_database(config)
    return 0


def unlink_key(config: Config, arguments: argparse.Namespace) -> int:
    """Take a key from an account; return the exit code."""
    from resender.store import UnknownAccount, open_repository

    hint = arguments.hint.removeprefix("...")
    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        with repository.transaction():
            row = repository.account_find(arguments.name)
            if row is None:
                return _fail(UnknownAccount(arguments.name), EXIT_FAILED)
            fitting = [key for key in row.keys if key.hint == hint]
            if not fitting:
                known = ", ".join(f"...{key.hint}" for key in row.keys) or "none"
                text = f"{row.name} has no key that ends in {hint[:8]}; it has {known}."
                return _fail(ValueError(text), EXIT_FAILED)
            if len(fitting) > 1:
                text = (
                    f"{row.name} has {len(fitting)} keys that end in {hint}: unlink it on the page Accounts."
                )
                return _fail(ValueError(text), EXIT_FAILED)
            if fitting[0].source == "own":
                text = f"{row.name} is read with this key: remove the account instead."
                return _fail(ValueError(text), EXIT_FAILED)
            repository.account_unlink(row.id, fitting[0].digest)
            _note(repository, "account.unlink", row, hint)
    say(f"...{hint} is no key of {row.name} any more.")
    tell_database(config)
    return 0


# --- words -------------------------------------------------------------------------------------


def _note(repository: Repository, action: str, row: AccountRow, hint: str = "") -> None:
    shown: dict[str, Any] = {"id": row.id, "name": row.name, "market": row.market, "mode": row.mode}
    hint = hint or (row.keys[0].hint if action == "account.add" and row.keys else "")
    if hint:
        shown["key"] = f"...{hint}"
    is_removal = action in ("account.remove", "account.unlink")
    before, after = (shown, None) if is_removal else (None, shown)
    repository.audit_add(_ACTOR, "", action, row.name, before, after)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _length(span_ms: int) -> str:
    seconds = span_ms // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _line(text: str) -> str:
    """Return a text as one line without secrets: Binance or the user may have said anything."""
    return redact(" ".join("".join(c if c.isprintable() else " " for c in text).split()))


def _fail(error: Exception, code: int) -> int:
    say(f"error: {_line(str(error))}", file=sys.stderr)
    return code
