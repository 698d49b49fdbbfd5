"""The API of alerts: mistakes are told at their field, secrets come in and never out, and what is done is audited."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resender.alerts import NotSent, sealed_for
from resender.core.alerts.board import Finding
from resender.core.alerts.channels import CHANNELS
from resender.core.alerts.kinds import KINDS
from resender.errors import StoreError
from resender.secret_box import SecretBox
from resender.store import Repository, open_repository
from tests.support.admin import assert_error
from tests.support.alert_events import FIELDS, MARK, VALUES
from tests.support.client import Reply
from tests.unit.web.serving import NOW_MS, Admin, FakeStore, administered, make_services, token

HOUR_MS = 3_600_000


class FakeAlerts:
    """What the handlers ask of `Alerts`."""

    def __init__(self) -> None:
        self.in_force: list[Any] = []
        self.silences: dict[str, int] = {}
        self.tested: list[Any] = []
        self.problem = ""

    def state_of(self, channel_id: int) -> dict[str, Any]:
        return {"problem": self.problem, "sent": 3, "failed": 1, "last": NOW_MS, "left_out": 0}

    async def test(self, row: Any) -> None:
        self.tested.append(row)
        if self.problem:
            raise NotSent(self.problem)


class World:
    """The API on real tables."""

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.path = folder / "api.db"
        self.repository = repository
        self.alerts = FakeAlerts()
        self.box = SecretBox("k" * 32, folder)
        self.said: list[str] = []
        store = FakeStore(run=self._run, alert_change=self._run)
        self.services = make_services(store=store, alert_egress="")
        self.services.alerts = self.alerts
        self.services.secret_box = self.box
        self.store = store

    def _run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        with self.repository.transaction():
            return work(self.repository, *args, **kwargs)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Admin]:
        async with administered(self.services) as one:
            send = one.send

            async def heard(method: str, path: str, *rest: Any, **more: Any) -> Reply:
                reply = await send(method, path, *rest, **more)
                self.said.append(reply.raw.decode())
                return reply

            one.send = heard  # type: ignore[method-assign]
            yield one

    def fields(self, number: int = 1) -> dict[str, str]:
        """Open what is sealed of a channel."""
        row = self.repository.alert_channel(number)
        found: dict[str, str] = json.loads(self.box.unseal(row.sealed, sealed_for(row.kind)))
        return found

    def audit(self) -> list[tuple[str, str, str]]:
        return [(row.actor, row.action, row.subject) for row in self.repository.audit_list()[::-1]]

    def assert_quiet(self, *more: str) -> None:
        """Assert that no secret is in what was said, audited or written down."""
        rows = repr(self.repository.audit_list()) + repr(self.repository.alert_events())
        assert MARK not in rows + "".join(self.said) + repr(self.store.audit) + "".join(more)
        for path in self.path.parent.glob("api.db*"):
            assert MARK.encode() not in path.read_bytes()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_repository(f"sqlite:///{tmp_path}/api.db", now_ms=lambda: NOW_MS) as repository:
        yield World(tmp_path, repository)


def body(kind: str = "telegram", name: str = "Mine", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "fields": dict(FIELDS[kind]), **more}


async def added(one: Admin, kind: str = "telegram", name: str = "Mine", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await one.post("alerts", body(kind, name, **more), 201)
    return found


# --- what the page shows --------------------------------------------------------------------------


async def test_page_gets_everything_it_draws_its_forms_of(world: World) -> None:
    async with world.serving() as one:
        found = await one.get("alerts")
    assert (found["channels"], found["in_force"], found["silences"], found["events"]) == ([], [], {}, [])
    assert [row["name"] for row in found["kinds"]] == list(KINDS)
    assert found["egress"] is None
    assert found["forms"].keys() == CHANNELS.keys()
    for kind, specs in CHANNELS.items():
        shown = [(row["name"], row["secret"], row["needed"], row["default"]) for row in found["forms"][kind]]
        assert shown == [(spec.name, spec.is_secret, spec.is_needed, spec.default) for spec in specs]
    security = next(row for row in found["forms"]["email"] if row["name"] == "security")
    assert (security["kind"], security["choices"]) == ("choice", ["starttls", "tls", "none"])


async def test_what_is_wrong_now_is_told_in_both_languages(world: World) -> None:
    finding = Finding("banned", "own spot", VALUES["banned"])
    world.alerts.in_force = [SimpleNamespace(finding=finding, since_ms=NOW_MS - 5000)]
    world.alerts.silences = {"disk": NOW_MS + 1}
    async with world.serving() as one:
        found = await one.get("alerts")
    (row,) = found["in_force"]
    assert (row["kind"], row["subject"], row["level"], row["since"]) == (
        "banned", "own spot", "critical", NOW_MS - 5000,
    )  # fmt: skip
    assert "has banned" in row["text"]["en"]
    assert "封禁" in row["text"]["zh"]
    assert found["silences"] == {"disk": NOW_MS + 1}


async def test_page_names_the_egress_of_messages(world: World, tmp_path: Path) -> None:
    services = make_services(store=world.store, alert_egress="second")
    services.alerts, services.secret_box = world.alerts, world.box
    async with administered(services) as one:
        assert (await one.get("alerts"))["egress"] == "second"


# --- adding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CHANNELS)
async def test_channel_is_added_sealed_and_shown_without_its_secrets(
    world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with world.serving() as one:
        row = await added(one, kind, " Mine ", language="zh", least="critical", quiet=" 23:00-07:00 +08:00 ")
        listed = await one.get("alerts")
    assert (row["name"], row["kind"], row["language"], row["least"]) == ("Mine", kind, "zh", "critical")
    assert (row["quiet"], row["enabled"], row["created"]) == ("23:00-07:00 +08:00", True, NOW_MS)
    assert (row["problem"], row["sent"], row["failed"], row["last"]) == ("", 3, 1, NOW_MS)
    assert listed["channels"] == [row]
    assert world.fields() == FIELDS[kind]
    assert world.audit() == [("root", "alert.add", "Mine")]
    world.assert_quiet(caplog.text)


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("telegram", {"token": "short"}, "fields.token"),
        ("telegram", {"token": ""}, "fields.token"),
        ("telegram", {"chat_id": ""}, "fields.chat_id"),
        ("webhook", {"url": f"ftp://{MARK}"}, "fields.url"),
        ("email", {"port": "0"}, "fields.port"),
        ("email", {"security": "none"}, "fields.security"),
        ("email", {"to": "nobody"}, "fields.to"),
        ("slack", {"color": "red"}, "fields.color"),
    ],
)
async def test_mistake_is_told_at_its_field(
    world: World, kind: str, changes: dict[str, str], field: str
) -> None:
    given = body(kind)
    given["fields"] |= changes
    async with world.serving() as one:
        reply = await one.send("POST", "alerts", given)
        error = assert_error(reply, 400, -4, field=field, reason="channel_field")
        assert error["data"]["words"] == error["msg"]
    assert world.repository.alert_channels() == []
    assert world.audit() == []
    world.assert_quiet()


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"kind": "pigeon"}, "kind", None),
        ({"language": "de"}, "language", None),
        ({"least": "info"}, "least", None),
        ({"quiet": "at night"}, "quiet", "quiet"),
        ({"quiet": "23:00-07:00" + " " * 40}, "quiet", None),
        ({"name": "x" * 65}, "name", None),
        ({"name": "  "}, "name", "channel_name"),
        ({"name": "a\nb"}, "name", "channel_name"),
        ({"name": None}, "name", None),
        ({"fields": ["url"]}, "fields", None),
        ({"fields": {"token": 7}}, "fields", "channel_field"),
        ({"fields": {"token": None}}, "fields", "channel_field"),
        ({"sealed": "x"}, "sealed", None),
    ],
)
async def test_value_that_cannot_be_is_refused(
    world: World, changes: dict[str, Any], field: str, reason: str | None
) -> None:
    async with world.serving() as one:
        error = assert_error(await one.send("POST", "alerts", body() | changes), 400, -4, field=field)
    assert reason is None or error["data"]["reason"] == reason
    assert world.repository.alert_channels() == []
    world.assert_quiet()


async def test_name_that_is_taken_is_a_conflict(world: World) -> None:
    async with world.serving() as one:
        await added(one)
        reply = await one.send("POST", "alerts", body("slack", "mINE"))
        assert_error(reply, 409, -13, field="name", reason="channel_exists")
        second = await added(one, "slack", "other")
        reply = await one.send("PATCH", f"alerts/channels/{second['id']}", {"name": "MINE"})
        assert_error(reply, 409, -13, field="name", reason="channel_exists")
    assert [row.name for row in world.repository.alert_channels()] == ["Mine", "other"]
    assert [action for _, action, _ in world.audit()] == ["alert.add", "alert.add"]


async def test_channel_that_cannot_be_sealed_is_not_added(world: World, tmp_path: Path) -> None:
    world.services.secret_box = SecretBox("short", tmp_path)
    async with world.serving() as one:
        assert_error(await one.send("POST", "alerts", body()), 409, -13, reason="seal")
    assert world.repository.alert_channels() == []
    world.assert_quiet()


# --- changing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CHANNELS)
async def test_secret_left_empty_stays_as_it_is(world: World, kind: str) -> None:
    secrets = {spec.name for spec in CHANNELS[kind] if spec.is_secret}
    given = {
        spec.name: "" if spec.name in secrets else FIELDS[kind].get(spec.name, "") for spec in CHANNELS[kind]
    }
    async with world.serving() as one:
        row = await added(one, kind)
        changed = await one.send("PATCH", f"alerts/channels/{row['id']}", {"name": "New", "fields": given})
        assert changed.status == 200
        assert changed.json() == {**row, "name": "New"}
    assert world.fields() == FIELDS[kind]
    assert world.audit()[-1] == ("root", "alert.change", "New")
    world.assert_quiet()


@pytest.mark.parametrize("kind", CHANNELS)
async def test_new_secret_replaces_the_old_one(world: World, kind: str) -> None:
    new = {
        "url": "https://new.example/NewOne", "secret": "NewOne", "key": "NewOne", "password": "NewOne",
        "token": "987654321:NewOne" + "y" * 29,
    }  # fmt: skip
    given = {spec.name: new[spec.name] for spec in CHANNELS[kind] if spec.is_secret}
    async with world.serving() as one:
        await added(one, kind)
        reply = await one.send("PATCH", "alerts/channels/1", {"fields": given})
        assert reply.status == 200
    assert world.fields() == {**FIELDS[kind], **given}
    assert "NewOne" not in "".join(world.said) + repr(world.repository.audit_list())


@pytest.mark.parametrize(
    ("kind", "secret"),
    [(kind, spec.name) for kind, specs in CHANNELS.items() for spec in specs if spec.is_secret],
)
async def test_null_takes_a_secret_away_that_is_not_needed(world: World, kind: str, secret: str) -> None:
    spec = next(spec for spec in CHANNELS[kind] if spec.name == secret)
    given = {secret: None, **({"user": None} if secret == "password" else {})}  # no user without a password
    async with world.serving() as one:
        await added(one, kind)
        reply = await one.send("PATCH", "alerts/channels/1", {"fields": given})
        if spec.is_needed:
            assert_error(reply, 400, -4, field=f"fields.{secret}")
        else:
            assert reply.status == 200, reply.text
    left = FIELDS[kind] if spec.is_needed else {k: v for k, v in FIELDS[kind].items() if k not in given}
    assert {name: value for name, value in world.fields().items() if value} == {
        k: v for k, v in left.items() if v
    }


@pytest.mark.parametrize(
    ("kind", "field", "secret"), [("telegram", "server", "token"), ("email", "host", "password")]
)
async def test_secret_does_not_go_to_another_host_unless_it_is_given_again(
    world: World, kind: str, field: str, secret: str
) -> None:
    place = "https://other.example" if field == "server" else "other.example"
    async with world.serving() as one:
        await added(one, kind)
        reply = await one.send("PATCH", "alerts/channels/1", {"fields": {field: place, secret: ""}})
        assert_error(reply, 400, -4, field=f"fields.{secret}")
        given = {field: place, secret: FIELDS[kind][secret]}
        assert (await one.send("PATCH", "alerts/channels/1", {"fields": given})).status == 200
    assert world.fields()[field] == place


async def test_what_is_not_given_stays(world: World) -> None:
    async with world.serving() as one:
        row = await added(one, language="zh", least="critical", quiet="23:00-07:00")
        for change in ({}, {"enabled": False}, {"language": "en"}, {"least": "warning"}, {"quiet": ""}):
            reply = await one.send("PATCH", "alerts/channels/1", change)
            row |= change
            assert reply.json() == row
        reply = await one.send("PATCH", "alerts/channels/1", {"fields": {"chat_id": "77"}})
        assert reply.json()["fields"] == {**row["fields"], "chat_id": "77"}
    assert world.fields() == {**FIELDS["telegram"], "chat_id": "77"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fields": {"token": "short"}}, "fields.token"),
        ({"fields": {"chat_id": ""}}, "fields.chat_id"),
        ({"fields": {"color": "red"}}, "fields.color"),
        ({"fields": {"token": 5}}, "fields"),
        ({"quiet": "x"}, "quiet"),
        ({"name": ""}, "name"),
        ({"kind": "slack"}, "kind"),
        ({"enabled": "yes"}, "enabled"),
    ],
)
async def test_change_that_cannot_be_changes_nothing(
    world: World, changes: dict[str, Any], field: str
) -> None:
    async with world.serving() as one:
        await added(one)
        before = world.repository.alert_channels()
        assert_error(await one.send("PATCH", "alerts/channels/1", changes), 400, -4, field=field)
    assert world.repository.alert_channels() == before
    assert len(world.audit()) == 1
    world.assert_quiet()


async def test_fields_that_do_not_open_any_more_have_to_be_given_again(world: World, tmp_path: Path) -> None:
    async with world.serving() as one:
        await added(one)
        world.services.secret_box = world.box = SecretBox("n" * 32, tmp_path)
        reply = await one.send("PATCH", "alerts/channels/1", {"fields": {"token": "", "chat_id": "7"}})
        assert_error(reply, 400, -4, field="fields.token", reason="channel_field")
        assert (await one.send("PATCH", "alerts/channels/1", {"enabled": False})).status == 200
        reply = await one.send("PATCH", "alerts/channels/1", {"fields": dict(FIELDS["telegram"])})
        assert reply.status == 200
    assert world.fields() == FIELDS["telegram"]


# --- removing and testing -------------------------------------------------------------------------


async def test_channel_is_removed_once(world: World) -> None:
    async with world.serving() as one:
        await added(one)
        assert (await one.send("DELETE", "alerts/channels/1")).status == 200
        for method, path in (
            ("DELETE", "alerts/channels/1"), ("PATCH", "alerts/channels/1"), ("POST", "alerts/channels/1/test"),
            ("DELETE", "alerts/channels/999999999"),
        ):  # fmt: skip
            assert_error(await one.send(method, path, {}), 404, -3, reason="gone")
    assert world.repository.alert_channels() == []
    assert [action for _, action, _ in world.audit()] == ["alert.add", "alert.remove"]
    world.assert_quiet()


@pytest.mark.parametrize("problem", ["", "HTTP 503: try later"])
async def test_test_tells_what_became_of_it(world: World, problem: str) -> None:
    async with world.serving() as one:
        await added(one)
        world.alerts.problem = problem
        found = await one.post("alerts/channels/1/test")
    assert found == {"sent": not problem, "problem": problem}
    assert [row.id for row in world.alerts.tested] == [1]
    assert [row[2:4] for row in world.store.audit] == [("alert.test", "Mine")]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_address_of_the_test_changes_nothing(world: World, method: str) -> None:
    async with world.serving() as one:
        await added(one)
        reply = await one.send(method, "alerts/channels/1/test", {})
    assert reply.status == 405
    assert len(world.repository.alert_channels()) == 1


# --- silence --------------------------------------------------------------------------------------


async def test_silence_lasts_some_hours_and_is_ended(world: World) -> None:
    async with world.serving() as one:
        found = await one.post("alerts/silence", {"kind": "banned", "hours": 4})
        assert found == {"silences": {"banned": NOW_MS + 4 * HOUR_MS}}
        found = await one.post("alerts/silence", {"hours": 1})
        assert found["silences"]["*"] == NOW_MS + HOUR_MS
        found = await one.post("alerts/silence", {"kind": "banned", "hours": 0})
        assert found == {"silences": {"*": NOW_MS + HOUR_MS}}
    assert world.audit() == [("root", "alert.silence", kind) for kind in ("banned", "*", "banned")]
    hours = [json.loads(row.after or "{}") for row in world.repository.audit_list()[::-1]]
    assert hours == [{"hours": 4}, {"hours": 1}, {"hours": 0}]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kind": "banned"}, "hours"),
        ({"kind": "pigeons", "hours": 1}, "kind"),
        ({"hours": -1}, "hours"),
        ({"hours": 721}, "hours"),
        ({"hours": "1"}, "hours"),
        ({"hours": 1.5}, "hours"),
        ({"hours": True}, "hours"),
    ],
)
async def test_silence_of_what_there_is_not_is_refused(world: World, given: Any, field: str) -> None:
    async with world.serving() as one:
        assert_error(await one.send("POST", "alerts/silence", given), 400, -4, field=field)
    assert world.repository.alert_silences() == {}


# --- history --------------------------------------------------------------------------------------


def write(world: World, kind: str = "banned", lasted_s: int | None = None, **details: Any) -> int:
    return world.repository.alert_event_add(
        "gw1", kind, "own", "critical", lasted_s, {**VALUES.get(kind, {}), **details}, {"Mine": "ok"}, NOW_MS
    )


async def test_history_is_told_in_both_languages_and_in_pages(world: World) -> None:
    for number in range(60):
        write(world, lasted_s=number if number % 2 else None, seconds=number)
    async with world.serving() as one:
        first = (await one.get("alerts"))["events"]
        second = (await one.get(f"alerts/events?before={first[-1]['id']}"))["events"]
        assert (await one.get(f"alerts/events?before={second[-1]['id']}"))["events"] == []
        assert (await one.get("alerts/events"))["events"] == first
    assert [row["id"] for row in first + second] == list(range(60, 0, -1))
    row = first[0]
    assert (row["time"], row["node"], row["kind"], row["level"], row["lasted_s"], row["told"]) == (
        NOW_MS, "gw1", "banned", "critical", 59, {"Mine": "ok"},
    )  # fmt: skip
    assert row["text"]["en"].startswith("Over after 59 s: Binance has banned")
    assert row["text"]["zh"].startswith("已恢复（持续 59 秒）")


@pytest.mark.parametrize("before", ["x", "0", "-1", "9223372036854775808", "1e3"])
async def test_place_in_the_history_that_cannot_be_is_refused(world: World, before: str) -> None:
    async with world.serving() as one:
        assert_error(await one.send("GET", f"alerts/events?before={before}"), 400, -4, field="before")


async def test_event_of_a_newer_version_is_shown_by_its_name(world: World) -> None:
    write(world, "pigeons")
    write(world, "banned", egress=None)
    world.repository.models.alert_event.update(details="[]").where(
        world.repository.models.alert_event.id == 2
    ).execute()
    async with world.serving() as one:
        rows = (await one.get("alerts"))["events"]
    assert [row["text"]["en"] for row in rows][1] == "pigeons"
    assert "egress ?" in rows[0]["text"]["en"]


# --- who may --------------------------------------------------------------------------------------

CHANGES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("POST", "alerts", body()),
    ("PATCH", "alerts/channels/1", {"enabled": False}),
    ("DELETE", "alerts/channels/1", {}),
    ("POST", "alerts/channels/1/test", {}),
    ("POST", "alerts/silence", {"hours": 1}),
)


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_token_may_look_and_not_choose_where_messages_go(world: World, scope: str) -> None:
    async with world.serving() as one:
        await added(one)
        one.logins.login = token(scope)
        for method, path, given in CHANGES:
            assert_error(await one.send(method, path, dict(given)), 403, -12)
        assert len((await one.get("alerts"))["channels"]) == 1
    assert world.alerts.tested == []
    assert len(world.audit()) == 1


async def test_stranger_gets_nothing(world: World) -> None:
    async with world.serving() as one:
        await added(one)
        one.cookies = {}
        for method, path, given in (*CHANGES, ("GET", "alerts", {}), ("GET", "alerts/events", {})):
            assert_error(await one.send(method, path, dict(given)), 401, -11)
    assert len(world.repository.alert_channels()) == 1


async def test_worker_that_has_no_alerts_asks_for_patience(world: World) -> None:
    async with world.serving() as one:
        await added(one)
        world.services.alerts = None
        reply = await one.send("GET", "alerts")
        assert_error(reply, 503, -8, reason="collector")
        assert reply.header("retry-after")


async def test_database_that_is_down_is_told_and_no_secret_with_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.store.answers = {name: StoreError("It is locked.") for name in ("run", "alert_change")}
    async with world.serving() as one:
        for method, path, given in (*CHANGES, ("GET", "alerts", {})):
            assert_error(await one.send(method, path, dict(given)), 503, -8, reason="database")
    world.assert_quiet(caplog.text)
