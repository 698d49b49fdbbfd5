"""The values the store takes and gives: plain, immutable, free of the database.

They are not models and know no SQL. They hold no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from resender.errors import ResenderError


@dataclass(frozen=True, slots=True)
class WhitelistEntry:
    """One row of the whitelist.

    Shape: `address` is canonical text, as `resender.core.access.normalise_address` writes it.
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


class UnknownEntry(ResenderError, LookupError):
    """No whitelist entry has this id."""

    def __init__(self, entry_id: int) -> None:
        super().__init__(f"The whitelist has no entry {entry_id}.")
        self.entry_id = entry_id
