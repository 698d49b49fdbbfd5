"""The command `alert`: channels, and a test of them, from the command line.

It works on the database of the settings, beside a running gateway or without one; a message goes out from here. No
state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from resender.aio import Clock
from resender.cli.database import tell_database
from resender.cli.words import say
from resender.config import Config
from resender.core.alerts.channels import CHANNELS, check_fields, shown_fields
from resender.core.alerts.kinds import KINDS, Level
from resender.core.alerts.outbox import parse_quiet
from resender.core.alerts.words import LANGUAGES
from resender.errors import ConfigError
from resender.places import node_name
from resender.secret_box import SecretBox, SecretError

_ACTOR = "command line"


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `alert` to the command line, see `cli/db.py`."""
    text = "Who is told when something is wrong."
    words = commands.add_parser("alert", help=text, description=text, parents=[common])
    actions = words.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=text, parents=[common]
        )
        return parser

    add("list", "Show the channels.").set_defaults(run=show)
    adding = add("add", "Add a channel.")
    adding.add_argument("kind", help=f"one of {', '.join(CHANNELS)}")
    adding.add_argument("name", help="a name for it")
    adding.add_argument(
        "fields",
        nargs="*",
        metavar="FIELD=VALUE",
        help="such as chat_id=12345; FIELD=- reads it from standard input",
    )
    adding.add_argument("--language", choices=LANGUAGES, default="en", help="language of the messages")
    adding.add_argument(
        "--least",
        choices=[level.word for level in Level],
        default=Level.WARNING.word,
        help="the least grave it gets",
    )
    adding.add_argument(
        "--quiet", default="", help="hours of critical messages only, such as 23:00-07:00+08:00"
    )
    adding.set_defaults(run=add_channel)
    removing = add("remove", "Remove a channel.")
    removing.add_argument("name", help="as `alert list` shows it")
    removing.set_defaults(run=remove)
    testing = add("test", "Send a test to every channel, or to one.")
    testing.add_argument("name", nargs="?", help="as `alert list` shows it")
    testing.set_defaults(run=test)


def show(config: Config, arguments: argparse.Namespace) -> int:
    """List the channels; return the exit code."""
    from resender.store import open_repository

    with open_repository(config.database) as repository:
        rows = repository.alert_channels()
    if not rows:
        say("There is no channel: nobody is told.")
    for row in rows:
        shown = " ".join(f"{name}={value}" for name, value in row.shown.items())
        switch = "" if row.enabled else "  (off)"
        print(f"{row.name:20s} {row.kind:9s} {row.least:9s} {row.language}  {shown}{switch}".rstrip())
    return 0


def add_channel(config: Config, arguments: argparse.Namespace) -> int:
    """Add a channel; return the exit code."""
    from resender.alerts import sealed_for
    from resender.store import open_repository

    if arguments.kind not in CHANNELS:
        raise ConfigError(f"{arguments.kind[:20]!r} is no kind of channel: {', '.join(CHANNELS)}.")
    given = {}
    for pair in arguments.fields:
        name, mark, value = pair.partition("=")
        if not mark:
            names = ", ".join(spec.name for spec in CHANNELS[arguments.kind])
            raise ConfigError(f"write FIELD=VALUE; the fields of {arguments.kind} are {names}.")
        given[name] = sys.stdin.readline().strip() if value == "-" else value
    try:
        fields = check_fields(arguments.kind, given)
        parse_quiet(arguments.quiet)
    except ValueError as error:
        field = "fields." if len(error.args) > 1 else ""
        raise ConfigError(field + ": ".join(str(part) for part in error.args)) from None
    box = SecretBox(config.secret_key, config.data_path)
    try:
        sealed = box.seal(json.dumps(fields), sealed_for(arguments.kind))
    except SecretError as error:
        raise ConfigError(f"the fields cannot be sealed: {error}.") from None
    with open_repository(config.database) as repository:
        try:
            row = repository.alert_channel_add(
                arguments.name, arguments.kind, sealed, shown_fields(arguments.kind, fields), arguments.language,
                arguments.least, arguments.quiet.strip(),
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error)) from None
        told = {"name": row.name, "kind": row.kind, "fields": row.shown}
        repository.audit_add(_ACTOR, "", "alert.add", row.name, None, told)
    say(f"{row.name} is told from now on. Try it: `alert test {row.name}`.")
    tell_database(config)
    return 0


def remove(config: Config, arguments: argparse.Namespace) -> int:
    """Remove a channel; return the exit code."""
    from resender.store import open_repository

    with open_repository(config.database) as repository:
        found = [row for row in repository.alert_channels() if row.name.lower() == arguments.name.lower()]
        if not found or not repository.alert_channel_remove(found[0].id):
            raise ConfigError(f"There is no channel {arguments.name}.")
        told = {"name": found[0].name, "kind": found[0].kind, "fields": found[0].shown}
        repository.audit_add(_ACTOR, "", "alert.remove", found[0].name, told, None)
    say(f"{found[0].name} is not told any more.")
    tell_database(config)
    return 0


def test(config: Config, arguments: argparse.Namespace) -> int:
    """Send a test; return the exit code: 0 only if every channel took it."""
    from resender.alerts import NotSent
    from resender.assembly import make_sender
    from resender.core.alerts.board import Event
    from resender.store import AlertChannelRow, open_repository
    from resender.upstream.tls import make_context

    with open_repository(config.database) as repository:
        rows = repository.alert_channels()
    if arguments.name is not None:
        rows = [row for row in rows if row.name.lower() == arguments.name.lower()]
        if not rows:
            raise ConfigError(f"There is no channel {arguments.name}.")
    elif not rows:
        say("There is no channel: nobody is told.")
        return 1
    clock, box = Clock(), SecretBox(config.secret_key, config.data_path)
    sender = make_sender(config, node_name(config.node_name, config.port), box, make_context(), clock)

    async def send(row: AlertChannelRow) -> str:
        try:
            await sender.send(row, [Event(KINDS["test"], "", {}, clock.now_ms())])
        except NotSent as error:
            return str(error)
        return ""

    async def send_all() -> list[str]:
        return list(await asyncio.gather(*(send(row) for row in rows)))

    problems = asyncio.run(send_all())
    for row, problem in zip(rows, problems, strict=True):
        say(f"{row.name}: {problem or 'the message has been taken'}")
    return 1 if any(problems) else 0
