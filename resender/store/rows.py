"""The values the store takes and gives: plain, immutable, free of the database.

They are not models and know no SQL. They hold no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from resender.core.preload import PreloadRule, parse_rule
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
