"""Opens a database from its URL: driver, settings of the connection, schema.

It keeps nothing: whoever opens a database closes it, on the same thread (peewee's connections
belong to threads).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import peewee
from playhouse import db_url

from resender.errors import StoreError, StoreUnfit
from resender.store import upgrading
from resender.store.faults import DatabaseFault, Fault, explain, is_database_error

_SCHEMES = ("sqlite", "postgresql", "postgres", "mysql")
_CONNECT_S = 5
_STATEMENT_S = 30


@dataclass(frozen=True, slots=True)
class Target:
    """A checked DATABASE_URL.

    Shape: `where` names it in messages, without the password; `path` is the SQLite file, or
        None for a server and for `:memory:`.
    """

    url: str
    scheme: str
    where: str
    path: str | None


def parse_url(url: str) -> Target:
    """Check a DATABASE_URL.

    Raises: StoreError with a text for the user.
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise StoreUnfit(f"DATABASE_URL cannot be read: {error}.") from None
    if parts.scheme not in _SCHEMES:
        raise StoreUnfit(
            f"DATABASE_URL starts with {parts.scheme or 'no scheme'!r}: "
            "write sqlite:///path, postgresql://user:password@host/name or mysql://user:password@host/name."
        )
    name = parts.path[1:]
    if parts.scheme != "sqlite":
        if not name:
            raise StoreUnfit("DATABASE_URL names no database: it ends in /name.")
        user = f"{parts.username}@" if parts.username else ""
        return Target(url, parts.scheme, f"{parts.scheme}://{user}{parts.hostname or ''}{port}/{name}", None)
    if parts.netloc or not name:
        raise StoreUnfit("DATABASE_URL of a SQLite file takes three slashes: sqlite:///path/to/file.db")
    if parts.fragment:
        raise StoreUnfit("DATABASE_URL has a '#', which ends a URL: choose a path without it.")
    return Target(url, "sqlite", name, None if name == ":memory:" else name)


def open_database(url: str, *, busy_timeout_s: float = 5.0, create: bool = True) -> peewee.Database:
    """Connect, set the connection up, and upgrade the schema.

    The connection belongs to the calling thread, which closes it.

    Shape: with `create` false a missing SQLite file is an error instead of a new database.
    Raises: StoreError, one line for the user, whatever is wrong.
    """
    target = parse_url(url)
    database: Any = None
    try:
        if target.path is not None:
            _prepare_file(target.path, create)
        database = _describe(target, busy_timeout_s)
        database.connect()
        if target.path is not None:
            _use_wal(database, busy_timeout_s)
        upgrading.upgrade(database, target.path, target.where)
        _check_writable(database)
    except Exception as error:
        if database is not None:
            close_quietly(database)
        # Drivers also raise plain errors on odd URL arguments and unsupported logins.
        if is_database_error(error) or isinstance(
            error, (StoreError, OSError, ValueError, TypeError, RuntimeError)
        ):
            raise explain(error, target.where) from error
        raise
    opened: peewee.Database = database
    return opened


def open_unchanged(url: str) -> peewee.Database:
    """Connect to a database as it is, whatever its schema. Raises: errors of peewee and its drivers as they come."""
    database: Any = _describe(parse_url(url), _CONNECT_S)
    database.connect()
    opened: peewee.Database = database
    return opened


def close_quietly(database: Any) -> None:
    """Close the connection of this thread, whatever state it is in."""
    try:
        database.close()
    except Exception as error:
        if not is_database_error(error):
            raise


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells this file from another one of the same name, or None if it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare_file(path: str, create: bool) -> None:
    if os.path.isdir(path):
        raise StoreUnfit(f"The database {path} is a directory: DATABASE_URL must name a file.")
    if not create:
        if not os.path.exists(path):
            raise DatabaseFault(f"The database {path} is gone: put it back, or start again for a new one.")
        return
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    # Readable for its owner only; SQLite gives its -wal and -shm files the same mode. Only a new
    # file is opened here: closing a descriptor would drop SQLite's locks on an old one.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _describe(target: Target, busy_timeout_s: float) -> Any:
    """Build the peewee database; what the URL's query says wins over the defaults here."""
    given = db_url.parse(target.url)
    wanted: dict[str, Any]
    if target.scheme == "sqlite":
        wanted = {
            "timeout": busy_timeout_s,
            "lock_type": "IMMEDIATE",
            "pragmas": (("foreign_keys", 1), ("synchronous", "NORMAL"), ("journal_size_limit", 64 << 20)),
        }
    elif target.scheme == "mysql":
        wanted = {
            "connect_timeout": _CONNECT_S,
            "read_timeout": 2 * _STATEMENT_S,
            "write_timeout": _STATEMENT_S,
            "init_command": "SET innodb_lock_wait_timeout = 5",
        }
    else:
        wanted = {
            "prefer_psycopg3": True,
            "connect_timeout": _CONNECT_S,
            "options": f"-c statement_timeout={_STATEMENT_S}s -c lock_timeout=5s",
            "tcp_user_timeout": 10_000,
        }
    extra = {key: value for key, value in wanted.items() if key not in given}
    database = db_url.connect(
        target.url, unquote_password=True, unquote_user=True, autoconnect=False, **extra
    )
    # db_url hands on the password by a name that PyMySQL warns about.
    if "passwd" in database.connect_params:
        database.connect_params["password"] = database.connect_params.pop("passwd")
    return database


def _use_wal(database: Any, busy_timeout_s: float) -> None:
    # Changing the mode needs the file for oneself and does not wait: SQLite's busy timeout is not
    # used here, so two processes starting at once would fail without this loop.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            if database.pragma("journal_mode") != "wal":
                database.pragma("journal_mode", "wal")
            return
        except peewee.OperationalError as error:
            fault = explain(error, "")
            if getattr(fault, "kind", None) is not Fault.LOCKED or time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


def _check_writable(database: Any) -> None:
    # It matches no row, so it writes nothing, yet it fails where writing would.
    database.execute_sql("UPDATE state SET value = value WHERE value IS NULL")
