"""The commands `backup` and `restore`: everything this node must not lose, as one file, and back.

A backup is made while the gateway runs, a restore while it does not. No state.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from resender import __version__
from resender.backups import (
    DATABASE,
    ENVIRONMENT,
    KEY,
    SETTINGS,
    BackupError,
    Manifest,
    backup_name,
    new_folder,
    pack,
    parse_keep,
    prune,
    put_in_place,
    unpack,
)
from resender.cli.words import say
from resender.config import Config
from resender.config_loading import ENVIRONMENT_PREFIX
from resender.errors import ConfigError
from resender.lock import data_dir_lock
from resender.places import home

# What SQLite keeps beside its file; of another database it must not stay.
_BESIDE = ("-wal", "-shm", "-journal")


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the words `backup` and `restore` to the command line, see `cli/db.py`."""
    text = "Save database, keys and settings in one file, while the gateway runs."
    saving = commands.add_parser("backup", help=text, description=text, parents=[common])
    saving.add_argument("file", help="the new file, or a folder: a file named by the time is made there")
    saving.add_argument(
        "--keep",
        metavar="N",
        help="of a folder: remove all but the newest N, or with 30d those older than 30 days",
    )
    saving.add_argument("--without-log", action="store_true", help="leave the request log out")
    saving.add_argument(
        "--without-key",
        action="store_true",
        help="leave account.key out, to keep it apart from what it opens",
    )
    saving.set_defaults(run=backup)
    text = "Bring back what `backup` saved; what is there now is kept too."
    restoring = commands.add_parser("restore", help=text, description=text, parents=[common])
    restoring.add_argument("file", help="a file made by `backup`")
    restoring.add_argument("--without-settings", action="store_true", help="leave settings.py as it is")
    restoring.set_defaults(run=restore)


def backup(config: Config, arguments: argparse.Namespace) -> int:
    """Save everything; return the exit code."""
    from resender.store.backup import check_file, save_database
    from resender.store.connection import parse_url

    now = time.time()
    target, is_folder = Path(arguments.file), Path(arguments.file).is_dir()
    keep = None
    if arguments.keep is not None:
        if not is_folder:
            raise ConfigError(f"--keep belongs to a folder, and {target} is none.")
        try:
            keep = parse_keep(arguments.keep)
        except ValueError as error:
            raise ConfigError(f"--keep: {error}.") from None
    if is_folder:
        target = target / backup_name(now)
    with new_folder(target.parent) as folder:
        save_database(config.database, folder / DATABASE, with_log=not arguments.without_log)
        if not arguments.without_key:
            _copy_if_there(config.data_path / KEY, folder / KEY)
        _copy_if_there(home() / SETTINGS, folder / SETTINGS)
        _save_environment(folder / ENVIRONMENT, with_key=not arguments.without_key)
        pack(
            folder, target,
            version=__version__, schema=check_file(folder / DATABASE), source=parse_url(config.database).where, now=now,
        )  # fmt: skip
        say(f"{target} holds {', '.join(path for path in _names(folder))}: {target.stat().st_size:,d} bytes.")
    if arguments.without_key and config.sources.get("SECRET_KEY") == SETTINGS:
        say(
            "warning: settings.py sets SECRET_KEY, and is in it: move that into the environment.",
            file=sys.stderr,
        )
    say("It holds secrets: keep it where only you can read it.")
    if keep is not None:
        for old in prune(target.parent, keep, now):
            say(f"{old} is removed.")
    return 0


def restore(config: Config, arguments: argparse.Namespace) -> int:
    """Bring everything back; return the exit code."""
    from resender.store.backup import check_file, load_into_server, upgrade_file
    from resender.store.connection import parse_url

    data = config.data_path
    with data_dir_lock(data), new_folder(data) as folder:
        manifest = unpack(Path(arguments.file), folder)
        check_file(folder / DATABASE)
        # Tried on the copy: what cannot be brought up to date is not put in place.
        upgrade_file(folder / DATABASE)
        kept = data / f"before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        pairs = {folder / KEY: data / KEY} if (folder / KEY).exists() else {}
        target = parse_url(config.database)
        if target.path is not None:
            path = Path(target.path)
            pairs[folder / DATABASE] = path
            pairs |= {folder / f"none{end}": path.with_name(path.name + end) for end in _BESIDE}

        def load() -> None:
            if target.scheme != "sqlite":
                rows = load_into_server(folder / DATABASE, config.database)
                say(f"{rows:,d} rows are in {target.where}.")

        settings_to = None if arguments.without_settings else _place_of_settings(folder, data)
        if settings_to is not None:
            pairs[folder / SETTINGS] = settings_to
        if (folder / ENVIRONMENT).exists():
            pairs[folder / ENVIRONMENT] = data / "restored.env"
        put_in_place(pairs, kept, last=None if target.path is not None else load)
    _tell(manifest, config, kept, settings_to)
    return 0


def _tell(manifest: Manifest, config: Config, kept: Path, settings_to: Path | None) -> None:
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(manifest.created_ms / 1000))
    say(f"Restored: the backup of {made}, made by version {manifest.version} from {manifest.source}.")
    if any(kept.iterdir()):
        say(f"What was there before is in {kept}.")
    else:
        kept.rmdir()
    if settings_to is not None and settings_to.parent != home():
        say(f"The settings of the backup are in {settings_to}: this user may not write beside run.py.")
    if ENVIRONMENT in manifest.files:
        say(
            f"The {ENVIRONMENT_PREFIX}... variables of that time are in {config.data_path / 'restored.env'}: compare "
            "them with /etc/binance-resender.env."
        )


def _place_of_settings(folder: Path, data: Path) -> Path | None:
    """Return where settings.py belongs, None where it is there already or the backup has none."""
    new, old = folder / SETTINGS, home() / SETTINGS
    if not new.exists() or (old.exists() and old.read_bytes() == new.read_bytes()):
        return None
    return old if os.access(home(), os.W_OK) else data / f"restored-{SETTINGS}"


def _save_environment(path: Path, *, with_key: bool) -> None:
    lines = [
        f"{name}={_quoted(value)}\n"
        for name, value in sorted(os.environ.items())
        if name.startswith(ENVIRONMENT_PREFIX) and (with_key or name != f"{ENVIRONMENT_PREFIX}SECRET_KEY")
    ]
    if lines:
        path.write_text("".join(lines), "utf-8")


def _quoted(value: str) -> str:
    """Write a value so that systemd reads it from an EnvironmentFile as it is."""
    return '"' + "".join(f"\\{c}" if c in '"\\`$' else c for c in value) + '"'


def _copy_if_there(source: Path, target: Path) -> None:
    try:
        if source.exists():
            shutil.copyfile(source, target)
    except OSError as error:
        raise BackupError(f"{source} cannot be read: {error.strerror}.") from None


def _names(folder: Path) -> list[str]:
    return [name for name in (DATABASE, KEY, SETTINGS, ENVIRONMENT) if (folder / name).exists()]
