"""Which database a command changed, and whether the gateway that is running uses it at all.

The command line's commands share it; it opens no database. No state.
"""

from __future__ import annotations

import sys

from resender.config import ENVIRONMENT_PREFIX, ROOT, Config, load_config, read_settings_file
from resender.errors import ResenderError
from resender.lock import running_gateways


def tell_database(config: Config) -> None:
    """Name the database on standard output; warn on standard error if a running gateway has another."""
    from resender.store.connection import parse_url

    target = parse_url(config.database)
    print(f"(database {target.where})")
    for pid, environment in running_gateways(ROOT / "run.py"):
        try:
            other = parse_url(load_config(read_settings_file(), environment).database)
        except ResenderError:
            continue
        if other.where != target.where:
            print(
                f"warning: the gateway that is running (pid {pid}) uses another database, {other.where}: it "
                f"does not see this change. Set {ENVIRONMENT_PREFIX}DATA_DIR as the service does; "
                "`resender` of deploy/ does so, as in `sudo resender whitelist list`.",
                file=sys.stderr,
            )
