"""Which database a command changed, and whether the gateway that is running uses it at all.

The command line's commands share it; it opens no database. No state.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from resender.cli.words import say
from resender.config import Config
from resender.config_loading import ENVIRONMENT_PREFIX, load_config
from resender.errors import ConfigError, ResenderError
from resender.lock import running_gateways
from resender.places import IS_INSTALLED, home, starters
from resender.settings_file import read_settings_file


def tell_database(config: Config) -> None:
    """Name the database on standard output; warn on standard error if a running gateway has another."""
    from resender.store.connection import parse_url

    target = parse_url(config.database)
    say(f"(database {target.where})")
    others: dict[str, int] = {}
    for pid, environment in running_gateways(*starters()):
        try:
            other = parse_url(_settings_of(environment).database)
            others[os.path.realpath(other.path) if other.path else other.where] = pid
        except ResenderError:
            continue
    if others and (os.path.realpath(target.path) if target.path else target.where) not in others:
        where, pid = next(iter(others.items()))
        say(
            f"warning: the gateway that is running (pid {pid}) uses another database, {where}: it does not "
            f"see this change. Set {ENVIRONMENT_PREFIX}DATA_DIR as the service does; `resender` of deploy/ "
            "does so, as in `sudo resender whitelist list`.",
            file=sys.stderr,
        )


def _settings_of(environment: Mapping[str, str]) -> Config:
    """Return the settings of another process of this program.

    Raises: ConfigError if they are wrong, or cannot be told: what lies in another folder is not run.
    """
    folder = Path(environment["PWD"]) if IS_INSTALLED else home()
    is_here = folder == home()
    if not is_here and (folder / "settings.py").exists():
        raise ConfigError(f"the settings.py of {folder} is unknown")
    config = load_config(read_settings_file() if is_here else {}, environment)
    return dataclasses.replace(config, data_dir=str(folder / config.data_dir))
