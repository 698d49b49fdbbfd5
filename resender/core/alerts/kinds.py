"""The kinds of alerts there are: how grave each is and how long it must last before it is told.

Plain data. What is measured is `resender/alerts/watching.py`; the words are `words.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How grave an alert is."""

    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind.

    Shape: `has_end` is false for what happens at one moment and is never over.
    Units: `hold_s` seconds it must last before it is told.
    """

    name: str
    level: Level
    hold_s: float = 0.0
    has_end: bool = True


_ALL = (
    Kind("banned", Level.CRITICAL),
    Kind("paused", Level.WARNING, 60.0),
    Kind("region", Level.CRITICAL),
    Kind("unreachable", Level.CRITICAL, 30.0),
    Kind("egress", Level.CRITICAL, 30.0),
    Kind("cache", Level.CRITICAL),  # lasts as long as ALERT_CACHE_S says
    Kind("database", Level.CRITICAL, 10.0),
    Kind("migration", Level.CRITICAL, has_end=False),
    Kind("disk", Level.WARNING, 10.0),
    Kind("clock", Level.WARNING, 30.0),
    Kind("certificate", Level.WARNING),
    Kind("node", Level.CRITICAL, 15.0),
    Kind("key", Level.WARNING, has_end=False),
    Kind("login", Level.WARNING, has_end=False),
    Kind("strangers", Level.WARNING),
    Kind("test", Level.CRITICAL, has_end=False),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
