"""Rows of alert channels and of what was told, and what can be wrong with them. Plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resender.errors import ResenderError


@dataclass(frozen=True, slots=True)
class AlertChannelRow:
    """One channel.

    Shape: `sealed` are its fields as JSON, encrypted; `shown_text` what may be shown of them, as JSON; `least` is
        warning or critical; `quiet` as `resender.core.alerts.outbox.parse_quiet` reads it.
    Units: `created_ms` epoch milliseconds.
    """

    id: int
    name: str
    kind: str
    sealed: str = field(repr=False)
    shown_text: str
    language: str
    least: str
    quiet: str
    enabled: bool
    created_ms: int

    @property
    def shown(self) -> dict[str, str]:
        """What may be shown of its fields."""
        return _object(self.shown_text)


@dataclass(frozen=True, slots=True)
class AlertSetup:
    """The channels, and what is silent. Units: `silences` epoch milliseconds by kind, `*` for all."""

    channels: tuple[AlertChannelRow, ...] = ()
    silences: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertEventRow:
    """Something that was told.

    Shape: `lasted_s` of an alert that is over, else None; `details` and `told` are JSON objects as text: what its words
        name, and by channel "ok", "silent" or what was wrong.
    """

    id: int
    time_ms: int
    node: str
    kind: str
    subject: str
    level: str
    lasted_s: int | None
    details_text: str
    told_text: str

    @property
    def details(self) -> dict[str, Any]:
        return _object(self.details_text)

    @property
    def told(self) -> dict[str, Any]:
        return _object(self.told_text)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class DuplicateChannel(ResenderError, ValueError):
    """There is a channel of this name already; `row` is that one."""

    def __init__(self, row: AlertChannelRow) -> None:
        super().__init__(f"There is a channel {row.name} already.")
        self.row = row


class UnknownChannel(ResenderError, LookupError):
    """There is no such channel."""

    def __init__(self, which: object) -> None:
        super().__init__(f"There is no alert channel {str(which)[:64]}.")
        self.which = which
