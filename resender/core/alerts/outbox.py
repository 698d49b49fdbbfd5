"""What one channel is still to be told: in groups, seldom, and not at night.

Pure: it is asked what is due and told the time. One `Outbox` belongs to one channel.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resender.core.alerts.board import Event
from resender.core.alerts.kinds import Level

#: No more than one message of a kind in so long.
EVERY_S = 60.0
_MAX_WAITING = 200
# What could not be told for so long is no news any more.
_OLD_MS = 24 * 3_600_000
_DAY_MIN = 24 * 60
_QUIET = re.compile(
    r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)\s*(?:(?:UTC)?([+-])(\d{1,2})(?::?([0-5]\d))?)?"
)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours in which only what is critical is told. Units: minutes of the day, UTC."""

    begin: int
    end: int

    def holds(self, now_ms: int) -> bool:
        minute = now_ms // 60_000 % _DAY_MIN
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


def parse_quiet(text: str) -> Quiet | None:
    """Read "23:00-07:00 +08:00"; without an offset it is UTC, empty is none. Raises: ValueError."""
    cleaned = text.strip()
    if not cleaned:
        return None
    found = _QUIET.fullmatch(cleaned)
    if found is None:
        raise ValueError(f"{cleaned[:40]!r} is no time of day such as 23:00-07:00 +08:00")
    offset = int(found.group(6) or 0) * 60 + int(found.group(7) or 0)
    if offset > 14 * 60:
        raise ValueError("the offset from UTC is at most 14 hours")
    offset = -offset if found.group(5) == "-" else offset
    begin = (int(found.group(1)) * 60 + int(found.group(2)) - offset) % _DAY_MIN
    end = (int(found.group(3)) * 60 + int(found.group(4)) - offset) % _DAY_MIN
    if begin == end:
        raise ValueError("the hours begin and end at the same time")
    return Quiet(begin, end)


class Outbox:
    """The events that wait for one channel."""

    def __init__(self, least: Level = Level.WARNING, quiet: Quiet | None = None) -> None:
        self.least = least
        self.quiet = quiet
        self._waiting: deque[Event] = deque()
        self._told_mono: dict[str, float] = {}
        # Of alerts whose begin this channel was told.
        self._told: set[tuple[str, str]] = set()
        self.left_out = 0

    def add(self, event: Event) -> bool:
        """Put an event behind the others; tell whether it waits now.

        Shape: one that is over before it was told is not told at all.
        """
        if event.kind.level < self.least:
            return False
        if event.lasted_s is not None and event.key not in self._told:
            self.forget(event)
            return False
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting.popleft()
            self.left_out += 1
        self._waiting.append(event)
        return True

    def has_told(self, event: Event) -> bool:
        """Whether the begin of this alert was told."""
        return event.key in self._told

    def remember(self, keys: Iterable[tuple[str, str]]) -> None:
        """The begin of these was told before the process was started."""
        self._told.update(keys)

    def give_back(self, events: Sequence[Event], now_ms: int) -> list[Event]:
        """Take back a message that did not arrive: it waits again, before all others.

        Shape: returns what will not be told after all, as it is over meanwhile or too old.
        """
        gone: list[Event] = []
        kept: list[Event] = []
        known: set[tuple[str, str]] = set()
        for event in events:
            is_first, is_begin = event.key not in known, event.lasted_s is None
            known.add(event.key)
            if is_first and event.kind.has_end:
                (self._told.discard if is_begin else self._told.add)(event.key)
            if now_ms - event.at_ms > _OLD_MS:
                gone.append(event)
            elif is_first and is_begin and any(each.key == event.key for each in self._ends()):
                # Nobody has heard that it began.
                gone += [event, *self.forget(event)]
            else:
                kept.append(event)
        self._waiting.extendleft(reversed(kept))
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popleft()
            self.left_out += 1
        return gone

    def _ends(self) -> list[Event]:
        return [event for event in self._waiting if event.lasted_s is not None]

    def forget(self, event: Event) -> list[Event]:
        """Tell nothing of what has begun and waits; it is over, or silent. Return what waited."""
        gone = [each for each in self._waiting if each.key == event.key]
        self._waiting = deque(each for each in self._waiting if each.key != event.key)
        return gone

    def silence(self, kind: str) -> list[Event]:
        """Take out what waits of a kind, `*` for all; it is not told."""
        gone = [each for each in self._waiting if kind in ("*", each.kind.name)]
        self._waiting = deque(each for each in self._waiting if each not in gone)
        return gone

    def take(self, now_ms: int, mono: float) -> list[Event]:
        """Take out what is due now; it is one message."""
        is_quiet = self.quiet is not None and self.quiet.holds(now_ms)
        due: list[Event] = []
        later: deque[Event] = deque()
        for event in self._waiting:
            name = event.kind.name
            may = mono - self._told_mono.get(name, float("-inf")) >= EVERY_S
            if may and not (is_quiet and event.kind.level < Level.CRITICAL):
                due.append(event)
            else:
                later.append(event)
        self._waiting = later
        for event in due:
            self._told_mono[event.kind.name] = mono
            if event.lasted_s is None and event.kind.has_end:
                self._told.add(event.key)
            else:
                self._told.discard(event.key)
        return due
