"""The command line: which words there are, and what each one does.

It parses, reads the settings once and calls; the work is done elsewhere. It prints answers on
standard output, errors as one line on standard error. No state.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from datetime import datetime, timezone
from typing import NoReturn

from resender import __version__
from resender.cli import accounts, alert, backup, db, doctor, nodes, preload, upgrade, users
from resender.cli.database import tell_database
from resender.cli.words import say, translate_parser, translated
from resender.config import SETTINGS, Config
from resender.config_loading import load_config
from resender.core.access.whitelist import is_name, normalise_entry
from resender.core.cluster.worker import ENVIRONMENT as WORKER_ENVIRONMENT
from resender.core.cluster.worker import parse_worker
from resender.core.redact import MASK, redact
from resender.errors import ConfigError, ResenderError, StartError, StoreError, StoreUnfit
from resender.log import is_journal, set_up_logging
from resender.places import home
from resender.settings_file import read_settings_file

EXIT_FAILED = 1
# Starting again would not help: a setting is wrong, a port taken, the database newer.
EXIT_USAGE = 2


def main(argv: list[str], prog: str = "run.py") -> int:
    """Run one command; return the exit code (0 done, 1 failed, 2 wrong use, or never by itself)."""
    parser = _parser(prog)
    translate_parser(parser)
    arguments = parser.parse_args(argv)
    try:
        config = _config(arguments)
        set_up_logging(config.log_level, config.log_format)
        return int(arguments.run(config, arguments))
    except (ConfigError, StartError, StoreUnfit) as error:
        return _fail(error, EXIT_USAGE)
    except ResenderError as error:
        return _fail(error, EXIT_USAGE if _is_for_good(error) else EXIT_FAILED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `run.py whitelist list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _is_for_good(error: ResenderError) -> bool:
    if not isinstance(error, StoreError):
        return False
    from resender.store import is_for_good

    return is_for_good(error)


def _fail(error: Exception, code: int) -> int:
    # In the journal it is an error like those of the log.
    mark = "<3>" if is_journal() else ""
    print(f"{mark}{translated('error')}: {translated(redact(str(error)))}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Does not repeat a key or a secret that was given where none belongs."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        told = translated(re.sub(r"[^\s'\"(),]{24,}", MASK, message))
        self.exit(EXIT_USAGE, f"{self.prog}: {translated('error')}: {told}\n")

    def format_usage(self) -> str:
        return super().format_usage().replace("usage:", translated("usage:"), 1)

    def format_help(self) -> str:
        return super().format_help().replace("usage:", translated("usage:"), 1)


def _parser(prog: str = "run.py") -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--data-dir", metavar="DIR", help=SETTINGS["DATA_DIR"].help)
    listen = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    listen.add_argument("--host", help=SETTINGS["HOST"].help)
    listen.add_argument("--port", help=SETTINGS["PORT"].help)
    parser = _Parser(
        prog=prog,
        description="A self-hosted gateway to the Binance API. Without a command it serves.",
        epilog="Every setting of settings.py can be overridden by the environment as RESENDER_<NAME>.",
        parents=[common, listen],
    )
    parser.add_argument("--version", action="version", version=f"Binance Resender {__version__}")
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, help: str, *parents: _Parser) -> _Parser:
        return commands.add_parser(name, help=help, description=help, parents=[common, *parents])

    # A value given before the command must not be overwritten by the command's own default.
    serve = add("serve", "Serve (the same as no command).", listen)
    serve.set_defaults(run=_serve)
    demo = add("demo", "Serve against the built-in sandbox exchange; loopback may call.", listen)
    demo.set_defaults(run=_demo)
    doctor.add_parser(commands, common)
    upgrade.add_parser(commands, common)

    whitelist = add("whitelist", "Who may call the gateway.")
    actions = whitelist.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="Show the whitelist.", parents=[common])
    listing.set_defaults(run=_whitelist_list)
    adding = actions.add_parser("add", help="Let an address or network in.", parents=[common])
    adding.add_argument(
        "address", help="IPv4 or IPv6 address or network, such as 203.0.113.0/24, or a DNS name"
    )
    adding.add_argument("--note", default="", help="a word on whose address it is")
    adding.set_defaults(run=_whitelist_add)
    removing = actions.add_parser("remove", help="Shut an address or network out.", parents=[common])
    removing.add_argument("address", help="as `whitelist list` shows it")
    removing.set_defaults(run=_whitelist_remove)

    preload.add_parser(commands, common)
    users.add_parser(commands, common)
    accounts.add_parser(commands, common)
    nodes.add_parser(commands, common)
    alert.add_parser(commands, common)
    db.add_parser(commands, common)
    backup.add_parser(commands, common)

    log = add("log", "The request log in the database (off by default: off is fastest).")
    log.add_argument("switch", choices=("on", "off", "status"))
    log.set_defaults(run=_log)
    return parser


def _config(arguments: argparse.Namespace) -> Config:
    given = {name.upper(): getattr(arguments, name, None) for name in ("host", "port", "data_dir")}
    try:
        home()
    except OSError as error:
        raise ConfigError(f"the current folder cannot be used: {error.strerror}") from None
    return load_config(read_settings_file(), os.environ, given)


# --- serving -----------------------------------------------------------------------------------


def _serve(config: Config, arguments: argparse.Namespace) -> int:
    from resender.cli.serve import run_loop, serve

    text = os.environ.get(WORKER_ENVIRONMENT)
    if text is not None:
        return run_loop(serve(config, worker=parse_worker(text)))
    if config.workers > 1:
        from resender.cli.workers import serve_workers

        return run_loop(serve_workers(config))
    return run_loop(serve(config))


def _demo(config: Config, arguments: argparse.Namespace) -> int:
    from resender.cli.demo import demo
    from resender.cli.serve import run_loop

    return run_loop(demo(config))


# --- whitelist and log -------------------------------------------------------------------------


def _whitelist_list(config: Config, arguments: argparse.Namespace) -> int:
    from resender.store import open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        entries = repository.whitelist_list()
    if not entries:
        say("The whitelist is empty: nobody may call.")
        return 0
    width = max(len(entry.address) for entry in entries)
    for entry in entries:
        made = datetime.fromtimestamp(entry.created_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        switch = "on " if entry.enabled else "off"
        print(f"{entry.address:{width}s}  {switch}  {made}  {entry.note}".rstrip())
        if is_name(entry.address):
            say(f"{'':{width}s}  {_resolved(entry.address)}")
    return 0


def _resolved(name: str) -> str:
    """Tell what a DNS name means now; the gateway asks by itself, each minute."""
    from resender.name_watch import NoSuchName, look_up

    try:
        return f"is {', '.join(dict.fromkeys(asyncio.run(look_up(name)))) or 'nothing that may call'} now"
    except NoSuchName:
        return "there is no such name: it lets nobody in"
    except OSError as error:
        return f"cannot be looked up ({error.strerror}): it lets nobody in"


def _whitelist_add(config: Config, arguments: argparse.Namespace) -> int:
    from resender.store import DuplicateEntry, open_repository

    try:
        normalise_entry(arguments.address)
        with open_repository(config.database) as repository:
            repository.whitelist_seed(config.whitelist)
            try:
                entry = repository.whitelist_add(arguments.address, arguments.note)
            except DuplicateEntry as duplicate:
                note = arguments.note or duplicate.entry.note
                entry = repository.whitelist_update(duplicate.entry.id, note=note, enabled=True)
                say(f"{entry.address} was in the whitelist already; it may call.")
                tell_database(config)
                return 0
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    say(f"{entry.address} may call.")
    tell_database(config)
    return 0


def _whitelist_remove(config: Config, arguments: argparse.Namespace) -> int:
    from resender.store import open_repository

    try:
        address = normalise_entry(arguments.address)
    except ValueError as error:
        return _fail(error, EXIT_USAGE)
    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        if not repository.whitelist_remove(address):
            return _fail(ValueError(f"{address} is not in the whitelist."), EXIT_FAILED)
    say(f"{address} may not call any more.")
    tell_database(config)
    return 0


def _log(config: Config, arguments: argparse.Namespace) -> int:
    from resender.store import open_repository

    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        if arguments.switch != "status":
            repository.set_log_enabled(arguments.switch == "on")
        state = "on" if repository.log_enabled() else "off"
        rows = repository.log_count()
    say(f"The request log is {state}; it holds {rows} rows.")
    if arguments.switch != "status":
        tell_database(config)
    return 0
