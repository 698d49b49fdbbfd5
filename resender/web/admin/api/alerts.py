"""Alerts: channels, a test of one, what is in force, what was told, and silence.

What is told and when is `resender.alerts`. Secrets of channels come in here and go out nowhere. No state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from resender.alerts import Alerts, NotSent, sealed_for
from resender.core.alerts.board import Event
from resender.core.alerts.channels import CHANNELS, check_fields, shown_fields
from resender.core.alerts.kinds import KINDS, Level
from resender.core.alerts.outbox import parse_quiet
from resender.core.alerts.words import LANGUAGES, sentence
from resender.errors import Busy, Conflict, RouteError
from resender.secret_box import SecretError
from resender.store import AlertChannelRow, AlertEventRow, DuplicateChannel, Repository, UnknownChannel
from resender.web.admin.base import AdminHandler
from resender.web.admin.fields import Field, wrong

_LEVELS = tuple(level.word for level in Level)
_PAGE = 50
_HOUR_MS = 3_600_000
_MOST_HOURS = 24 * 30
_CHANNEL = {
    "name": Field(str, longest=64),
    "kind": Field(str, choices=tuple(CHANNELS)),
    "fields": Field(dict),
    "language": Field(str, "en", choices=LANGUAGES),
    "least": Field(str, Level.WARNING.word, choices=_LEVELS),
    "quiet": Field(str, "", longest=40),
}
_CHANGE = {
    "name": Field(str, None, longest=64),
    "fields": Field(dict, None),
    "language": Field(str, None, choices=LANGUAGES),
    "least": Field(str, None, choices=_LEVELS),
    "quiet": Field(str, None, longest=40),
    "enabled": Field(bool, None),
}
_SILENCE = {
    "kind": Field(str, "*", choices=("*", *KINDS)),
    "hours": Field(int, low=0, high=_MOST_HOURS),
}


class _AlertsBase(AdminHandler):
    # A token may look, but not choose where messages go.
    login_only_writes = True

    @property
    def alerts(self) -> Alerts:
        """The alerts of this process. Raises: Busy in a worker that has none."""
        if self.services.alerts is None:
            raise Busy("Alerts are the collector's; ask again.", {"reason": "collector"})
        return self.services.alerts

    def shown(self, row: AlertChannelRow) -> dict[str, Any]:
        """Return a channel as lists show it."""
        return {
            "id": row.id, "name": row.name, "kind": row.kind, "fields": row.shown, "language": row.language,
            "least": row.least, "quiet": row.quiet, "enabled": row.enabled, "created": row.created_ms,
            **self.alerts.state_of(row.id),
        }  # fmt: skip

    def sealed(self, kind: str, fields: dict[str, str]) -> str:
        """Seal the fields of a channel. Raises: Conflict."""
        try:
            return self.services.secret_box.seal(json.dumps(fields), sealed_for(kind))
        except SecretError as error:
            raise Conflict(f"The fields cannot be sealed: {error}.", {"reason": "seal"}) from None

    async def row(self, row_id: str) -> AlertChannelRow:
        try:
            return await self.services.store.run(Repository.alert_channel, int(row_id))
        except UnknownChannel as error:
            raise RouteError(str(error), {"reason": "gone"}) from None

    async def change(self, work: Any) -> Any:
        """Change the channels. Raises: Conflict, RouteError, BadRequest."""
        try:
            return await self.services.store.alert_change(work)
        except DuplicateChannel as error:
            raise Conflict(str(error), {"field": "name", "reason": "channel_exists"}) from None
        except UnknownChannel as error:
            raise RouteError(str(error), {"reason": "gone"}) from None
        except ValueError as error:
            raise wrong("name", str(error), reason="channel_name") from None

    def audit_in(self, repository: Repository, action: str, row: AlertChannelRow) -> None:
        told = {"name": row.name, "kind": row.kind, "fields": row.shown, "least": row.least, "quiet": row.quiet,
                "enabled": row.enabled}  # fmt: skip
        before, after = (told, None) if action == "remove" else (None, told)
        repository.audit_add(self.login.actor, self.ip, f"alert.{action}", row.name, before, after)


def _read_fields(kind: str, given: dict[str, Any]) -> dict[str, str]:
    """Check the fields of a channel. Raises: BadRequest that names the field."""
    if not all(isinstance(value, str) for value in given.values()):
        raise wrong("fields", "Each field has to be a text.", reason="channel_field")
    try:
        return check_fields(kind, given)
    except ValueError as error:
        name, words = error.args
        raise wrong(f"fields.{name}", words, reason="channel_field", words=words) from None


def _check_quiet(text: str | None) -> None:
    try:
        parse_quiet(text or "")
    except ValueError as error:
        raise wrong("quiet", f"{error}.", reason="quiet") from None


class AlertsHandler(_AlertsBase):
    """`GET /admin/api/alerts`: everything the page shows; `POST` adds a channel."""

    async def get(self) -> None:
        rows = await self.services.store.run(Repository.alert_channels)
        events = await self.services.store.run(Repository.alert_events, limit=_PAGE)
        alerts = self.alerts
        self.send(
            {
                "channels": [self.shown(row) for row in rows],
                "in_force": [
                    {
                        "kind": each.finding.kind, "subject": each.finding.subject,
                        "level": KINDS[each.finding.kind].level.word, "since": each.since_ms,
                        "text": _texts(each.finding.kind, each.finding.values, None),
                    }
                    for each in alerts.in_force
                ],
                "silences": alerts.silences,
                "events": [_event(row) for row in events],
                "kinds": [{"name": kind.name, "level": kind.level.word} for kind in KINDS.values()],
                "forms": {
                    kind: [
                        {
                            "name": spec.name, "kind": spec.kind, "secret": spec.is_secret, "needed": spec.is_needed,
                            "default": spec.default, "choices": spec.choices,
                        }
                        for spec in specs
                    ]
                    for kind, specs in CHANNELS.items()
                },
                "egress": self.services.config.alert_egress or None,
            }
        )  # fmt: skip

    async def post(self) -> None:
        body = self.read_json(_CHANNEL)
        fields = _read_fields(body["kind"], body["fields"])
        _check_quiet(body["quiet"])
        sealed = self.sealed(body["kind"], fields)

        def work(repository: Repository) -> AlertChannelRow:
            row = repository.alert_channel_add(
                body["name"], body["kind"], sealed, shown_fields(body["kind"], fields), body["language"],
                body["least"], body["quiet"].strip(),
            )  # fmt: skip
            self.audit_in(repository, "add", row)
            return row

        self.send(self.shown(await self.change(work)), 201)


class AlertChannelHandler(_AlertsBase):
    """`PATCH` and `DELETE /admin/api/alerts/channels/<id>`."""

    async def patch(self, row_id: str) -> None:
        body = self.read_json(_CHANGE)
        _check_quiet(body["quiet"])
        row = await self.row(row_id)
        changes = {name: value for name, value in body.items() if value is not None and name != "fields"}
        if body["fields"] is not None:
            fields = _read_fields(row.kind, self._joined(row, body["fields"]))
            changes |= {"sealed": self.sealed(row.kind, fields), "shown": shown_fields(row.kind, fields)}

        def work(repository: Repository) -> AlertChannelRow:
            changed = repository.alert_channel_update(row.id, changes)
            self.audit_in(repository, "change", changed)
            return changed

        self.send(self.shown(await self.change(work)))

    def _joined(self, row: AlertChannelRow, given: dict[str, Any]) -> dict[str, Any]:
        """Put what is given over what is sealed: a secret left empty stays as it is, null takes it away."""
        gone = {name for name, value in given.items() if value is None}
        given = {name: value for name, value in given.items() if value is not None}
        secrets = {spec.name for spec in CHANNELS[row.kind] if spec.is_secret}
        try:
            old = json.loads(self.services.secret_box.unseal(row.sealed, sealed_for(row.kind)))
        except SecretError:
            return given
        # A secret that was given for one host does not go to another one.
        if any(
            name in given and str(given[name]).strip() != old.get(name, "") for name in ("server", "host")
        ):
            for name in (secrets & old.keys()) - gone:
                if not given.get(name):
                    raise wrong(
                        f"fields.{name}", "Enter it again: it goes to another host.", reason="channel_field"
                    )
        kept = {name: value for name, value in old.items() if name not in gone}
        return {**kept, **{name: value for name, value in given.items() if value or name not in secrets}}

    async def delete(self, row_id: str) -> None:
        row = await self.row(row_id)

        def work(repository: Repository) -> None:
            if repository.alert_channel_remove(row.id):
                self.audit_in(repository, "remove", row)

        await self.change(work)
        self.send({})


class AlertTestHandler(_AlertsBase):
    """`POST /admin/api/alerts/channels/<id>/test`: send a message now and tell what became of it."""

    async def post(self, row_id: str) -> None:
        row = await self.row(row_id)
        await self.audit("alert.test", row.name)
        try:
            await self.alerts.test(row)
        except NotSent as error:
            self.send({"sent": False, "problem": str(error)})
            return
        self.send({"sent": True, "problem": ""})


class AlertSilenceHandler(_AlertsBase):
    """`POST /admin/api/alerts/silence`: a kind, or all, for some hours; none ends it."""

    async def post(self) -> None:
        body = self.read_json(_SILENCE)
        kind, hours = body["kind"], body["hours"]
        until_ms = self.services.clock.now_ms() + hours * _HOUR_MS if hours else 0

        def work(repository: Repository) -> dict[str, int]:
            found = repository.alert_silence(kind, until_ms)
            repository.audit_add(self.login.actor, self.ip, "alert.silence", kind, None, {"hours": hours})
            return found

        self.send({"silences": await self.change(work)})


class AlertEventsHandler(_AlertsBase):
    """`GET /admin/api/alerts/events?before=`: what was told before, a page at a time."""

    async def get(self) -> None:
        before = self.query_int("before", None, 1, (1 << 63) - 1)
        rows = await self.services.store.run(Repository.alert_events, before_id=before, limit=_PAGE)
        self.send({"events": [_event(row) for row in rows]})


def _event(row: AlertEventRow) -> dict[str, Any]:
    return {
        "id": row.id, "time": row.time_ms, "node": row.node, "kind": row.kind, "subject": row.subject,
        "level": row.level, "lasted_s": row.lasted_s, "told": row.told,
        "text": _texts(row.kind, row.details, row.lasted_s),
    }  # fmt: skip


def _texts(kind: str, values: Mapping[str, Any], lasted_s: float | None) -> dict[str, str]:
    """Say it in each language; of a kind that a newer version has written, nothing."""
    if kind not in KINDS:
        return dict.fromkeys(LANGUAGES, kind)
    event = Event(KINDS[kind], "", values, 0, lasted_s)
    return {language: sentence(event, language) for language in LANGUAGES}
