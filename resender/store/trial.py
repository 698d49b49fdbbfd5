"""What this version would do to a database, found out without doing it. It keeps nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resender.errors import StoreError
from resender.store import schema, upgrading
from resender.store.connection import close_quietly, open_unchanged, parse_url
from resender.store.faults import explain, is_database_error

# The state that names the version which has used a database last.
VERSION_KEY = "program_version"
# The newest script of versions that did not yet write down that they had used a database.
_UNSTAMPED = {"0003_preload": "0.1.0", "0004_admin": "0.2.0"}


@dataclass(frozen=True, slots=True)
class Trial:
    """What this version would do to a database.

    Shape: `last_version` used it last, None if that is not known; `pending` are the scripts it lacks; `was_tried` tells
        that they ran on a copy.
    """

    last_version: str | None
    pending: tuple[str, ...]
    was_tried: bool


def try_upgrade(url: str) -> Trial | None:
    """Tell what this version would do to a database, and try it on a copy of a file; None where there is none yet.

    Raises: StoreError, UpgradeFailed if it would not work.
    """
    target = parse_url(url)
    if target.path is not None and not os.path.exists(target.path):
        return None
    try:
        database: Any = open_unchanged(url)
        try:
            applied = schema.applied_versions(database)
            if not applied:
                return None
            schema.check(database, applied)
            row = database.execute_sql("SELECT value FROM state WHERE key = 'program_version'").fetchone()
        finally:
            close_quietly(database)
    except Exception as error:
        if is_database_error(error) or isinstance(error, (StoreError, OSError)):
            raise explain(error, target.where) from error
        raise
    last = str(row[0]) if row else next((v for name, v in _UNSTAMPED.items() if applied[-1] <= name), None)
    pending = tuple(name for name in schema.known_versions() if name not in applied)
    if not pending or target.path is None:
        return Trial(last, pending, False)
    tried = Path(f"{target.path}.checking-{os.getpid()}")
    try:
        upgrading.copy_file(target.path, tried)
        upgrading.run_on(tried)
    except Exception as error:
        raise upgrading.failure(error, target.path) from error
    finally:
        upgrading.remove_file(tried)
    return Trial(last, pending, True)
