"""The tables of alert channels and of what was told.

It stores; what is told and when is `resender.alerts`. Every change of channels or silences raises `alert_revision` in
the same transaction, which is how running servers notice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from resender.store.alert_rows import (
    AlertChannelRow,
    AlertEventRow,
    AlertSetup,
    DuplicateChannel,
    UnknownChannel,
)
from resender.store.tables import Tables, is_id, storable

_REVISION = "alert_revision"
_SILENCES = "alert_silences"
NAME_MAX = 64
EVENTS_MAX = 2000
CHANNELS_MAX = 50
_PAGE_MAX = 200


class AlertTable(Tables):
    """Part of `Repository`."""

    def alert_channels(self) -> list[AlertChannelRow]:
        """List all channels, oldest first."""
        model = self.models.alert_channel
        columns = (
            model.id, model.name, model.kind, model.sealed, model.shown, model.language, model.least, model.quiet,
            model.enabled, model.created_ms,
        )  # fmt: skip
        return [AlertChannelRow(*row) for row in model.select(*columns).order_by(model.id).tuples()]

    def alert_channel(self, channel_id: int) -> AlertChannelRow:
        """Find a channel by its id. Raises: UnknownChannel."""
        found = [row for row in self.alert_channels() if row.id == channel_id]
        if not found:
            raise UnknownChannel(channel_id)
        return found[0]

    def alert_snapshot(self) -> tuple[int, tuple[AlertSetup, ...]]:
        """Read the revision and the one setup that belongs to it, as `whitelist_snapshot`."""
        revision = int(self.state_get(_REVISION) or 0)
        return revision, (AlertSetup(tuple(self.alert_channels()), self.alert_silences()),)

    def alert_channel_add(
        self,
        name: str,
        kind: str,
        sealed: str,
        shown: Mapping[str, str],
        language: str,
        least: str,
        quiet: str,
    ) -> AlertChannelRow:
        """Add a channel. Raises: ValueError; DuplicateChannel, carrying the row that is there."""
        name = self._name(name)
        with self.transaction():
            self.state_get(_REVISION, lock=True)
            rows = self.alert_channels()
            self._refuse_taken(rows, name)
            if len(rows) >= CHANNELS_MAX:
                raise ValueError(f"There are {CHANNELS_MAX} channels already: remove one first.")
            values = {
                "name": name, "name_key": name.lower(), "kind": kind, "sealed": sealed,
                "shown": json.dumps(dict(shown)), "language": language, "least": least, "quiet": quiet, "enabled": True,
                "created_ms": self._now_ms(),
            }  # fmt: skip
            number = int(self.models.alert_channel.insert(values).execute())
            return self._alerts_changed(number)

    def alert_channel_update(self, channel_id: int, changes: Mapping[str, Any]) -> AlertChannelRow:
        """Change what is given of a channel; return it as it is now.

        Shape: keys are name, sealed, shown, language, least, quiet, enabled.
        Raises: ValueError, DuplicateChannel, UnknownChannel.
        """
        model, values = self.models.alert_channel, dict(changes)
        if "shown" in values:
            values["shown"] = json.dumps(dict(values["shown"]))
        with self.transaction(), self._overwriting():
            self.state_get(_REVISION, lock=True)
            self.alert_channel(channel_id)
            if "name" in values:
                values["name"] = self._name(values["name"])
                values["name_key"] = values["name"].lower()
                self._refuse_taken(
                    [row for row in self.alert_channels() if row.id != channel_id], values["name"]
                )
            if values:
                model.update(**values).where(model.id == channel_id).execute()
            return self._alerts_changed(channel_id)

    def alert_channel_remove(self, channel_id: int) -> bool:
        """Remove a channel; tell whether there was one. SQLite's file keeps nothing of what was sealed."""
        model = self.models.alert_channel
        with self.transaction(), self._overwriting():
            self.state_get(_REVISION, lock=True)
            if not is_id(channel_id) or not model.delete().where(model.id == channel_id).execute():
                return False
            self._raise_alert_revision()
            return True

    def alert_silences(self) -> dict[str, int]:
        """Return until when kinds are silent, `*` for all. Units: epoch milliseconds."""
        try:
            found = json.loads(self.state_get(_SILENCES) or "{}")
            return {str(kind): int(until) for kind, until in found.items()}
        except (ValueError, AttributeError, TypeError):
            return {}

    def alert_silence(self, kind: str, until_ms: int) -> dict[str, int]:
        """Silence a kind, or all as `*`, until then; a time that has passed ends it. Return what is silent now."""
        with self.transaction():
            self.state_get(_REVISION, lock=True)
            now_ms = self._now_ms()
            silences = {**self.alert_silences(), kind: until_ms}
            silences = {name: until for name, until in silences.items() if until > now_ms}
            self.state_set(_SILENCES, json.dumps(silences))
            self._raise_alert_revision()
        return silences

    def alert_event_add(self, node: str, kind: str, subject: str, level: str, lasted_s: int | None,
                        details: Mapping[str, Any], told: Mapping[str, str], time_ms: int) -> int:  # fmt: skip
        """Write down what was told, and to whom; return its number."""
        model = self.models.alert_event
        values = {
            "time_ms": time_ms, "node": storable(self.database, node[:64]), "kind": kind,
            "subject": storable(self.database, subject[:255]), "level": level, "lasted_s": lasted_s,
            "details": storable(self.database, json.dumps(dict(details), ensure_ascii=False)),
            "told": storable(self.database, json.dumps(dict(told), ensure_ascii=False)),
        }  # fmt: skip
        with self.transaction():
            number = int(model.insert(values).execute())
            model.delete().where(model.id <= number - EVENTS_MAX).execute()
        return number

    def alert_event_told(self, event_id: int, told: Mapping[str, str]) -> None:
        """Write down what has become of an event at each channel."""
        model = self.models.alert_event
        text = storable(self.database, json.dumps(dict(told), ensure_ascii=False))
        model.update(told=text).where(model.id == event_id).execute()

    def alert_events(self, *, before_id: int | None = None, limit: int = 50) -> list[AlertEventRow]:
        """Read one page, newest first; `before_id` is the id of the last row of the page before."""
        model = self.models.alert_event
        query = model.select()
        if before_id is not None:
            if not is_id(before_id):
                return []
            query = query.where(model.id < before_id)
        query = query.order_by(model.id.desc()).limit(max(1, min(limit, _PAGE_MAX)))
        return [AlertEventRow(*row) for row in query.tuples()]

    def alert_events_open(self, node: str, since_ms: int) -> list[AlertEventRow]:
        """Read what a node has told to begin since then, and has not told to be over."""
        model = self.models.alert_event
        name = storable(self.database, node[:64])
        query = model.select().where((model.node == name) & (model.time_ms >= since_ms))
        latest: dict[tuple[str, str], AlertEventRow] = {}
        for row in query.order_by(model.id).tuples():
            event = AlertEventRow(*row)
            latest[event.kind, event.subject] = event
        return [event for event in latest.values() if event.lasted_s is None]

    def _name(self, name: str) -> str:
        cleaned = name.strip()
        if not 0 < len(cleaned.lower()) <= NAME_MAX or not cleaned.isprintable():
            raise ValueError(f"A channel's name is 1 to {NAME_MAX} characters.")
        return storable(self.database, cleaned)

    @staticmethod
    def _refuse_taken(rows: list[AlertChannelRow], name: str) -> None:
        for row in rows:
            if row.name.lower() == name.lower():
                raise DuplicateChannel(row)

    def _raise_alert_revision(self) -> None:
        self.state_set(_REVISION, str(int(self.state_get(_REVISION) or 0) + 1))

    def _alerts_changed(self, channel_id: int) -> AlertChannelRow:
        self._raise_alert_revision()
        return self.alert_channel(channel_id)
