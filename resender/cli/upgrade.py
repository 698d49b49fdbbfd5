"""The command `upgrade --check`: what a new version wants of its owner, before it is started.

It tries the migrations on a copy and changes nothing. No state.
"""

from __future__ import annotations

import argparse
from typing import Any

from resender import __version__
from resender.changes import Change, needs_attention
from resender.cli.words import say
from resender.config import Config
from resender.errors import ConfigError


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `upgrade` to the command line, see `cli/db.py`."""
    text = "Tell what this version wants of you, and try it on a copy of the database."
    parser = commands.add_parser("upgrade", help=text, description=text, parents=[common])
    parser.add_argument("--check", action="store_true", help="look only; there is nothing else it does")
    parser.set_defaults(run=run)


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Look and tell; return the exit code: 0 if this version can take the database over."""
    if not arguments.check:
        raise ConfigError(
            "write `upgrade --check`: the database is upgraded by the start of the new version."
        )
    from resender.store import try_upgrade

    found = try_upgrade(config.database)
    if found is None:
        say("There is no database yet: nothing to upgrade.")
        return 0
    say(f"This is version {__version__}; the database was used last by {_last(found.last_version)}.")
    changes = needs_attention(found.last_version)
    if changes is None:
        say("CHANGELOG.md is not here: read it where you got this version from.")
    else:
        _tell(changes)
    if not found.pending:
        say("The database needs no upgrade.")
    elif found.was_tried:
        say(f"The database needs {', '.join(found.pending)}: tried on a copy, it works.")
    else:
        say(
            f"The database needs {', '.join(found.pending)}: done in one transaction when this version starts."
        )
    return 0


def _last(version: str | None) -> str:
    return f"version {version}" if version else "a version before 0.3.0"


def _tell(changes: list[Change]) -> None:
    if not changes:
        say("Nothing in CHANGELOG.md needs your attention.")
        return
    say("What needs your attention (CHANGELOG.md):")
    for change in changes:
        say(f"\n[{change.version}] {change.text}")
    say()
