"""What is wrong now, and since when: findings of each look become alerts that begin and end once.

Pure: it is told what was found and when. One `Board` belongs to one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from resender.core.alerts.kinds import KINDS, Kind

# What is gone for less than this has not ended: a line that comes and goes is told once.
_CALM_S = 30.0

Values = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong at one look. Shape: `values` are what its words name."""

    kind: str
    subject: str
    values: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell: an alert that begins, or one that is over.

    Shape: `lasted_s` of one that is over, else None. Units: `at_ms` epoch milliseconds.
    """

    kind: Kind
    subject: str
    values: Values
    at_ms: int
    lasted_s: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.kind.name, self.subject


@dataclass(slots=True)
class Open:
    """An alert that is in force, or will be if it lasts. Units: `since_ms` epoch milliseconds."""

    finding: Finding
    since_ms: int
    since_mono: float
    seen_mono: float
    is_told: bool = False


class Board:
    """The alerts in force.

    Shape: `holds` gives seconds for kinds that have to last longer than their own `hold_s`.
    """

    def __init__(self, holds: Mapping[str, float] | None = None) -> None:
        self._holds = holds or {}
        self._open: dict[tuple[str, str], Open] = {}

    @property
    def in_force(self) -> list[Open]:
        """The alerts that were told and are not over, the oldest first."""
        return sorted((each for each in self._open.values() if each.is_told), key=lambda each: each.since_ms)

    def resume(self, finding: Finding, since_ms: int, now_ms: int, mono: float) -> None:
        """Take an alert that was told before the process was started: it goes on, or is over soon."""
        since_mono = mono - max(0, now_ms - since_ms) / 1000
        self._open.setdefault(
            (finding.kind, finding.subject), Open(finding, since_ms, since_mono, mono, is_told=True)
        )

    def look(self, findings: Iterable[Finding], now_ms: int, mono: float) -> list[Event]:
        """Take what is wrong now; return what begins and what is over."""
        events = []
        for finding in findings:
            kind = KINDS[finding.kind]
            key = (finding.kind, finding.subject)
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = Open(finding, now_ms, mono, mono)
            found.seen_mono, found.finding = mono, finding
            hold_s = max(kind.hold_s, self._holds.get(kind.name, 0.0))
            if not found.is_told and mono - found.since_mono >= hold_s:
                found.is_told = True
                events.append(Event(kind, finding.subject, finding.values, now_ms))
        for key, found in list(self._open.items()):
            gone_s = mono - found.seen_mono
            if gone_s <= 0 or (found.is_told and gone_s < _CALM_S):
                continue
            del self._open[key]
            if found.is_told:
                lasted_s = max(0.0, found.seen_mono - found.since_mono)
                events.append(Event(KINDS[key[0]], key[1], found.finding.values, now_ms, lasted_s))
        return events
