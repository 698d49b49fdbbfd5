"""Whitelist, preload rules, request log and settings kept in a database: SQLite, PostgreSQL or MySQL.

`Store` (service.py) is for the server, `open_repository` (repository.py) for command line
programs. It decides nothing about requests. Read on in repository.py.
"""

from __future__ import annotations

from resender.store.connection import open_database
from resender.store.repository import Repository, open_repository
from resender.store.rows import (
    DuplicateEntry,
    DuplicateRule,
    LogRecord,
    LogRow,
    PreloadRow,
    StoreStats,
    UnknownEntry,
    UnknownRule,
    WhitelistEntry,
)
from resender.store.service import Store

__all__ = [
    "DuplicateEntry",
    "DuplicateRule",
    "LogRecord",
    "LogRow",
    "PreloadRow",
    "Repository",
    "Store",
    "StoreStats",
    "UnknownEntry",
    "UnknownRule",
    "WhitelistEntry",
    "open_database",
    "open_repository",
]
