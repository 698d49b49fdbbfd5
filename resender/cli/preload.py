"""The command `preload`: which candles and tickers the cache is told to keep ready.

It reads and changes the preload rules in the database; running servers follow by themselves. What
a rule means is `resender.core.market.preload`. No state.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from resender.cli.database import tell_database
from resender.cli.words import say
from resender.config import Config
from resender.core.redact import redact

EXIT_FAILED = 1
EXIT_USAGE = 2


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `preload`, and `stream` as it was called once, to the command line.

    Shape: `commands` is what `add_subparsers` returned; each action sets `run(config, arguments)`,
        which returns the exit code.
    """
    text = "Which candles and tickers are kept ready in memory."
    preload = commands.add_parser(
        "preload", aliases=["stream"], help=text, description=text, parents=[common]
    )
    actions = preload.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(
        name: str, help: str, run: Callable[[Config, argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=help, description=help, parents=[common]
        )
        parser.set_defaults(run=run)
        return parser

    add("list", "Show the rules.", list_rules)
    adding = add("add", "Keep something ready.", add_rule)
    adding.add_argument("market", metavar="MARKET", help="spot, um or cm")
    adding.add_argument(
        "symbols",
        metavar="SYMBOLS",
        help="names or wildcards with commas between them, such as BTCUSDT or '*USDT'",
    )
    adding.add_argument(
        "what",
        metavar="WHAT",
        help="intervals and bookTicker with commas between them, such as 1m,bookTicker",
    )
    removing = add("remove", "Keep something ready no more.", remove_rule)
    removing.add_argument("id", metavar="ID", type=int, help="as `preload list` shows it")


def list_rules(config: Config, arguments: argparse.Namespace) -> int:
    """Show the rules; return the exit code."""
    from resender.store import open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        rows = repository.preload_list()
    if not rows:
        say("There are no rules in the database.")
        return 0
    widths = [max(len(str(row.id)) for row in rows), max(len(str(row)) for row in rows)]
    for row in rows:
        made = datetime.fromtimestamp(row.created_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        print(f"{row.id:{widths[0]}d}  {row!s:{widths[1]}s}  {made}")
    return 0


def add_rule(config: Config, arguments: argparse.Namespace) -> int:
    """Add a rule; return the exit code, 0 also if it was there already."""
    from resender.core.market.preload import parse_rule
    from resender.store import DuplicateRule, open_repository

    try:
        rule = parse_rule(arguments.market, arguments.symbols, arguments.what)
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        try:
            row = repository.preload_add(rule)
        except DuplicateRule as duplicate:
            say(f"{duplicate.row} was a rule already (rule {duplicate.row.id}).")
            return 0
    say(f"{row} is rule {row.id}.")
    tell_database(config)
    return 0


def remove_rule(config: Config, arguments: argparse.Namespace) -> int:
    """Remove a rule; return the exit code."""
    from resender.store import UnknownRule, open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        row = repository.preload_get(arguments.id)
        if row is None or not repository.preload_remove(row.id):
            return _fail(UnknownRule(arguments.id), EXIT_FAILED)
    say(f"Rule {row.id} is removed: {row}.")
    tell_database(config)
    return 0


def _fail(error: Exception, code: int) -> int:
    say(f"error: {redact(str(error))}", file=sys.stderr)
    return code
