"""The command `db copy`: move everything to another database, from one file to a server for several nodes.

It is made while no gateway of this data folder runs, or what it writes meanwhile would be left behind. No state.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from resender.cli.words import say
from resender.config import Config
from resender.errors import StartError
from resender.lock import data_dir_lock


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `db` to the command line.

    Shape: `commands` is what `add_subparsers` returned; each action sets `run(config, arguments)`,
        which returns the exit code.
    """
    text = "The database itself."
    words = commands.add_parser("db", help=text, description=text, parents=[common])
    actions = words.add_subparsers(title="actions", metavar="ACTION", required=True)
    text = "Copy everything into another, empty database and compare it row by row."
    copying = actions.add_parser("copy", help=text, description=text, parents=[common])
    copying.add_argument(
        "--to", metavar="URL", required=True,
        help="the other database, as DATABASE_URL; `-` reads it from standard input, as it may hold a password",
    )  # fmt: skip
    copying.add_argument("--without-log", action="store_true", help="leave the request log behind")
    copying.set_defaults(run=copy)


def copy(config: Config, arguments: argparse.Namespace) -> int:
    """Copy the database of the settings; return the exit code."""
    from resender.store import copy_database
    from resender.store.connection import parse_url

    to = sys.stdin.readline().strip() if arguments.to == "-" else arguments.to
    try:
        with data_dir_lock(config.data_path):
            copied = copy_database(
                config.database, to,
                with_log=not arguments.without_log,
                progress=lambda table, rows: print(f"{table:14s} {rows:10,d} rows, compared"),
            )  # fmt: skip
    except StartError as error:
        raise StartError(f"{error} (what it writes while it is copied would be left behind)") from None
    source, target = parse_url(config.database).where, parse_url(to).where
    say(f"{sum(copied.values()):,d} rows of {source} are in {target}.")
    say("Set DATABASE_URL to it and start the gateway; the old database is as it was.")
    return 0
