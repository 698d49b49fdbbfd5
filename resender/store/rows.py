"""The values the store takes and gives: plain, immutable, free of the database.

They are not models and know no SQL. They hold no state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from resender.core.market.preload import PreloadRule, parse_rule
from resender.errors import ResenderError


@dataclass(frozen=True, slots=True)
class WhitelistEntry:
    """One row of the whitelist.

    Shape: `address` is canonical text, as `resender.core.access.whitelist.normalise_address` writes it.
    Units: `_ms` epoch milliseconds.
    """

    id: int
    address: str
    note: str
    enabled: bool
    created_ms: int
    updated_ms: int
    last_seen_ms: int | None
    calls: int


class LogRecord(NamedTuple):
    """One answered call on its way into the request log (a tuple: it is made on the hot path).

    Shape: `path` has no query; `upstream_status` is None when nothing came from upstream.
    Units: `time_ms` epoch milliseconds, `bytes` of the answer's body.
    """

    time_ms: int
    ip: str
    method: str
    market: str
    path: str
    status: int
    upstream_status: int | None
    duration_ms: float
    bytes: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of the request log: a `LogRecord` with its id."""

    id: int
    time_ms: int
    ip: str
    method: str
    market: str
    path: str
    status: int
    upstream_status: int | None
    duration_ms: float
    bytes: int
    error: str | None


@dataclass(frozen=True, slots=True)
class PreloadRow:
    """One row of the table of preload rules.

    Shape: `symbols` and `what` as `PreloadRule.symbols_text` and `PreloadRule.what` write them.
    Units: `created_ms` epoch milliseconds.
    """

    id: int
    market: str
    symbols: str
    what: str
    created_ms: int

    @property
    def rule(self) -> PreloadRule:
        """The rule itself.

        Raises: ValueError if somebody has put something else into the row by hand.
        """
        return parse_rule(self.market, self.symbols, self.what)

    def __str__(self) -> str:
        return f"{self.market}:{self.symbols}@{self.what}"


@dataclass(frozen=True, slots=True)
class LogFilters:
    """Which rows of the request log are wanted; None and False mean any.

    Shape: `from_ms` is included, `to_ms` is not; `status_min` and `status_max` are both included
        (403 and 403, or 400 and 499); `errors_only` are rows with a status from 400 on or with an
        error; `path` and `text` are parts of a text, in any case; `text` is looked for in path,
        address and error.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    ip: str | None = None
    market: str | None = None
    path: str | None = None
    status_min: int | None = None
    status_max: int | None = None
    errors_only: bool = False
    text: str | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of the request log, newest first.

    Shape: `next_before` is what to go on from as `before`, None when there is nothing older. A
        page may have fewer rows than wanted, even none, and still have a `next_before`: the search
        has a limit, and there is more to look through.
    """

    rows: list[LogRow]
    next_before: str | None


@dataclass(frozen=True, slots=True)
class LogRetention:
    """How much of the request log is kept.

    Shape: `days` and `max_rows` are in force; `own_days` and `own_max_rows` are what was chosen
        on the admin page, None where the setting of the program is in force.
    """

    days: int
    max_rows: int
    own_days: int | None
    own_max_rows: int | None


@dataclass(frozen=True, slots=True)
class UserRow:
    """One account of the admin pages.

    Shape: `username` as it was given; two that differ only in case are the same.
    Units: `_ms` epoch milliseconds.
    """

    id: int
    username: str
    password_hash: str = field(repr=False)
    enabled: bool
    must_change: bool
    created_ms: int
    updated_ms: int
    last_login_ms: int | None
    last_login_ip: str | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One log-in; the digest of its secret is only in the table.

    Units: `_ms` epoch milliseconds.
    """

    id: int
    user_id: int
    created_ms: int
    last_seen_ms: int
    ip: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One personal access token; the digest of its secret is only in the table.

    Shape: `scope` is `read` or `write`.
    Units: `_ms` epoch milliseconds.
    """

    id: int
    user_id: int
    username: str
    name: str
    scope: str
    created_ms: int
    expires_ms: int | None
    last_used_ms: int | None
    last_used_ip: str | None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry of the audit: who did what to what.

    Shape: `before` and `after` are JSON objects as text, or None.
    Units: `time_ms` epoch milliseconds.
    """

    id: int
    time_ms: int
    actor: str
    ip: str
    action: str
    subject: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counters of a running store.

    Shape: `last_error` is the latest fault, kept after the database works again; `healthy` is
        False from a fault until the database has done again what it failed to do.
    """

    log_written: int
    log_dropped: int
    log_queued: int
    errors: int
    last_error: str | None
    healthy: bool


class DuplicateEntry(ResenderError, ValueError):
    """The address is in the whitelist already; `entry` is the row that has it."""

    def __init__(self, entry: WhitelistEntry) -> None:
        super().__init__(f"{entry.address} is in the whitelist already (entry {entry.id}).")
        self.entry = entry


class BadNote(ResenderError, ValueError):
    """A note that cannot be kept; `reason` is `note_long` or `note`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class UnknownEntry(ResenderError, LookupError):
    """No whitelist entry has this id."""

    def __init__(self, entry_id: int) -> None:
        super().__init__(f"The whitelist has no entry {entry_id}.")
        self.entry_id = entry_id


class DuplicateRule(ResenderError, ValueError):
    """There is a rule that says the same already; `row` is that one."""

    def __init__(self, row: PreloadRow) -> None:
        super().__init__(f"{row} is a preload rule already (rule {row.id}).")
        self.row = row


class UnknownRule(ResenderError, LookupError):
    """No preload rule has this id."""

    def __init__(self, rule_id: int) -> None:
        super().__init__(f"There is no preload rule {rule_id}.")
        self.rule_id = rule_id


class DuplicateUser(ResenderError, ValueError):
    """There is an account of this name already; `user` is that one."""

    def __init__(self, user: UserRow) -> None:
        super().__init__(f"There is a user {user.username} already.")
        self.user = user


class UnknownUser(ResenderError, LookupError):
    """There is no such account."""

    def __init__(self, user: int | str) -> None:
        super().__init__(f"There is no user {user}.")
        self.user = user


class LastUser(ResenderError):
    """Without this account nobody could log in any more."""

    def __init__(self, username: str) -> None:
        super().__init__(f"{username} is the last user who can log in: make or enable another one first.")
        self.username = username


class UnknownSession(ResenderError, LookupError):
    """There is no such log-in."""

    def __init__(self, session_id: int) -> None:
        super().__init__(f"There is no session {session_id}.")
        self.session_id = session_id


class TooManyTokens(ResenderError, ValueError):
    """An account has as many tokens as one may have; `most` tells how many."""

    def __init__(self, username: str, most: int) -> None:
        super().__init__(f"{username} has {most} tokens already: remove one first.")
        self.most = most


class UnknownToken(ResenderError, LookupError):
    """There is no such token."""

    def __init__(self, token_id: int) -> None:
        super().__init__(f"There is no token {token_id}.")
        self.token_id = token_id
