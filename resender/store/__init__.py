"""Whitelist, preload rules, request log, accounts and settings kept in a database: SQLite, PostgreSQL or MySQL.

`Store` (service.py) is for the server, `open_repository` (repository.py) for command line
programs. It decides nothing about requests. Read on in repository.py.
"""

from __future__ import annotations

from resender.store.account_rows import (
    AccountKeyRow,
    AccountRow,
    DuplicateAccount,
    DuplicateKey,
    UnknownAccount,
)
from resender.store.alert_rows import (
    AlertChannelRow,
    AlertEventRow,
    AlertSetup,
    DuplicateChannel,
    UnknownChannel,
)
from resender.store.connection import open_database
from resender.store.copying import copy_database
from resender.store.faults import is_for_good
from resender.store.repository import Repository, open_repository, read_channels
from resender.store.rows import (
    AuditRow,
    BadNote,
    DuplicateEntry,
    DuplicateRule,
    DuplicateUser,
    LastUser,
    LogFilters,
    LogPage,
    LogRecord,
    LogRetention,
    LogRow,
    PreloadRow,
    SessionRow,
    StoreStats,
    TokenRow,
    TooManyTokens,
    UnknownEntry,
    UnknownRule,
    UnknownSession,
    UnknownToken,
    UnknownUser,
    UserRow,
    WhitelistEntry,
)
from resender.store.service import Store
from resender.store.trial import Trial, try_upgrade
from resender.store.upgrading import UpgradeFailed
from resender.store.upgrading import undo as undo_upgrade
from resender.store.whitelist import NOTE_MAX

__all__ = [
    "NOTE_MAX",
    "AccountKeyRow",
    "AccountRow",
    "AlertChannelRow",
    "AlertEventRow",
    "AlertSetup",
    "AuditRow",
    "BadNote",
    "DuplicateAccount",
    "DuplicateChannel",
    "DuplicateEntry",
    "DuplicateKey",
    "DuplicateRule",
    "DuplicateUser",
    "LastUser",
    "LogFilters",
    "LogPage",
    "LogRecord",
    "LogRetention",
    "LogRow",
    "PreloadRow",
    "Repository",
    "SessionRow",
    "Store",
    "StoreStats",
    "TokenRow",
    "TooManyTokens",
    "Trial",
    "UnknownAccount",
    "UnknownChannel",
    "UnknownEntry",
    "UnknownRule",
    "UnknownSession",
    "UnknownToken",
    "UnknownUser",
    "UpgradeFailed",
    "UserRow",
    "WhitelistEntry",
    "copy_database",
    "is_for_good",
    "open_database",
    "open_repository",
    "read_channels",
    "try_upgrade",
    "undo_upgrade",
]
