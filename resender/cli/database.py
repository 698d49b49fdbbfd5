"""Which database a command changed, and whether the gateway that is running uses it at all.

The command line's commands share it; it opens no database. No state.
"""

from __future__ import annotations

import os
import sys

from resender.config import ENVIRONMENT_PREFIX, ROOT, Config, load_config, read_settings_file
from resender.errors import ResenderError
from resender.lock import running_gateways


def tell_database(config: Config) -> None:
    """Name the database on standard output; warn on standard error if a running gateway has another."""
    from resender.store.connection import parse_url

    target = parse_url(config.database)
    print(f"(database {target.where})")
    others: dict[str, int] = {}
    for pid, environment in running_gateways(ROOT / "run.py"):
        try:
            other = parse_url(load_config(read_settings_file(), environment).database)
            others[os.path.realpath(other.path) if other.path else other.where] = pid
        except ResenderError:
            continue
    if others and (os.path.realpath(target.path) if target.path else target.where) not in others:
        where, pid = next(iter(others.items()))
        print(
            f"warning: the gateway that is running (pid {pid}) uses another database, {where}: it does not "
            f"see this change. Set {ENVIRONMENT_PREFIX}DATA_DIR as the service does; `resender` of deploy/ "
            "does so, as in `sudo resender whitelist list`.",
            file=sys.stderr,
        )
