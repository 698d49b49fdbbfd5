"""Turns what a database driver raises into one line for the user.

It decides nothing about retrying beyond naming the kind of fault. It holds no state.
"""

from __future__ import annotations

import enum
import errno
import os
import sqlite3

import peewee

from resender.core.redact import redact
from resender.errors import StoreError, StoreUnfit

_DRIVERS = frozenset({"peewee", "sqlite3", "psycopg", "psycopg2", "pymysql", "MySQLdb"})


class Fault(enum.Enum):
    """What kind of trouble it is; decides whether the connection is worth keeping."""

    LOCKED = "locked"
    FULL = "full"
    DATA = "data"  # this statement or these values; the database itself is well
    RIGHTS = "rights"  # the user may not read or write it: starting again helps nothing
    OTHER = "other"


class DatabaseFault(StoreError):
    """A `StoreError` that still knows its kind, and whether it is in the statistics yet."""

    def __init__(self, text: str, kind: Fault = Fault.OTHER) -> None:
        super().__init__(text)
        self.kind = kind
        self.is_counted = False


# SQLite's own words (sqlite3ErrStr). Error codes would be better, Python 3.10 does not show them.
_SQLITE: tuple[tuple[str, Fault, str], ...] = (
    (
        "is locked",
        Fault.LOCKED,
        "is locked by another process; close the program that holds it and try again",
    ),
    (
        "readonly database",
        Fault.RIGHTS,
        "is read-only for this user ({user}); make the file and its directory writable",
    ),
    (
        "unable to open database file",
        Fault.RIGHTS,
        "cannot be opened; the file and its directory must be readable and writable for this user ({user})",
    ),
    ("disk is full", Fault.FULL, "cannot grow: the disk is full"),
    ("disk i/o error", Fault.OTHER, "cannot be read or written: disk I/O error; is the disk full or broken?"),
    ("not a database", Fault.OTHER, "is not a SQLite database; move the file away or restore a backup"),
    ("malformed", Fault.OTHER, "is damaged; restore a backup or move the file away"),
)


def is_for_good(error: StoreError) -> bool:
    """Tell whether trying again helps nothing as long as nobody changes something."""
    return isinstance(error, StoreUnfit) or getattr(error, "kind", None) is Fault.RIGHTS


def is_database_error(error: BaseException) -> bool:
    """Tell an error of the database or its driver from any other."""
    # Drivers may raise past peewee (while rows are fetched, while a connection is closed).
    return (
        isinstance(error, (peewee.PeeweeException, sqlite3.Error))
        or type(error).__module__.partition(".")[0] in _DRIVERS
    )


def explain(error: BaseException, where: str) -> StoreError:
    """Describe `error` in one line, without secrets.

    Shape: `where` names the database: a path, or a URL without its password.
    """
    if isinstance(error, StoreError):
        return error
    chain = _chain(error)
    driver = next((each for each in chain if isinstance(each, peewee.ImproperlyConfigured)), None)
    if driver is not None:
        return StoreUnfit(_missing_driver(where))
    if any(isinstance(each, (sqlite3.Error, sqlite3.Warning)) for each in chain):
        # A failed ROLLBACK hides what made it necessary, so the whole chain is searched.
        texts = " ".join(str(each).lower() for each in chain)
        for words, kind, meaning in _SQLITE:
            if words == "not a database" and words in texts:
                return StoreUnfit(f"The database {where} {meaning}.")
            if words in texts and kind is Fault.RIGHTS and _is_full(where):
                return DatabaseFault(f"The database {where} cannot grow: the disk is full.", Fault.FULL)
            if words in texts:
                return DatabaseFault(f"The database {where} {meaning.format(user=_user())}.", kind)
    if isinstance(error, OSError) and (isinstance(error, PermissionError) or error.errno == errno.EROFS):
        return DatabaseFault(
            f"The database {where} cannot be used: {error.strerror}; {_user()} has to own its folder and all "
            "that is in it (chown -R), or choose another DATA_DIR.",
            Fault.RIGHTS,
        )
    if isinstance(error, OSError) and error.strerror:
        name = f" {error.filename}" if error.filename and str(error.filename) != where else ""
        return DatabaseFault(f"The database {where} cannot be used:{name} {error.strerror}.")
    kind = Fault.OTHER
    if isinstance(error, (peewee.IntegrityError, peewee.DataError)):
        kind = Fault.DATA
    return DatabaseFault(f"The database {where} cannot be used: {_one_line(error)}", kind)


def _is_full(path: str) -> bool:
    """Tell whether a file's disk has no room for another one, whatever SQLite calls that."""
    try:
        found = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return False
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or step.__context__
    return found


def _missing_driver(where: str) -> str:
    if where.startswith("mysql"):
        return 'DATABASE_URL asks for MySQL, whose driver is not installed: pip install "pymysql[rsa]"'
    return 'DATABASE_URL asks for PostgreSQL, whose driver is not installed: pip install "psycopg[binary]"'


def _one_line(error: BaseException) -> str:
    # pymysql: (2003, "Can't connect ..."); peewee puts the driver's exception first.
    args = [each for each in error.args if isinstance(each, str) and each.strip()]
    text = args[-1] if args else str(error) or type(error).__name__
    return redact(" ".join(text.split()))[:300]


def _user() -> str:
    return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this account"
