"""What is built from many settings: alerts as the settings say, and the word about an upgrade that failed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from resender import __version__, assembly
from resender.aio import Clock, Tasks
from resender.alerts import NotSent, sealed_for
from resender.assembly import make_alerts, make_sender, tell_failed_upgrade
from resender.config import Config
from resender.core.alerts.board import Event, Finding
from resender.secret_box import SecretBox
from resender.store import AlertChannelRow, UpgradeFailed
from tests.support.alert_events import FIELDS, MARK
from tests.support.running import make_config

CONTEXT = cast(Any, object())
NOTHING = cast(Any, None)


def config_of(tmp_path: Path, **settings: Any) -> Config:
    return make_config(tmp_path, egress="own=127.0.0.1,second=127.0.0.2", **settings)


@pytest.mark.parametrize(("name", "address"), [("", None), ("second", "127.0.0.2"), ("own", "127.0.0.1")])
def test_messages_leave_by_the_egress_of_the_setting(tmp_path: Path, name: str, address: str | None) -> None:
    config = config_of(tmp_path, alert_egress=name)
    sender = make_sender(config, "gw1", SecretBox("", tmp_path), CONTEXT, Clock())
    assert (sender._egress.address if sender._egress is not None else None) == address
    assert sender.node == "gw1"


def test_alerts_keep_to_the_settings(tmp_path: Path) -> None:
    config = config_of(tmp_path, alert_cache_s=45.0, alert_free_disk_mb=77, alert_refused=9)
    alerts = make_alerts(
        config, "gw1", NOTHING, NOTHING, NOTHING, NOTHING, Clock(), Tasks(), SecretBox("", tmp_path), CONTEXT,
        None, None,
    )  # fmt: skip
    series = [Finding("cache", "um")]
    assert alerts._board.look(series, 0, 0.0) == []
    assert alerts._board.look(series, 0, 44.0) == []
    assert len(alerts._board.look(series, 0, 45.0)) == 1
    assert (alerts.watch._options.free_disk_mb, alerts.watch._options.refused) == (77, 9)
    assert alerts.watch._folder == config.data_path


# --- an upgrade that failed -----------------------------------------------------------------------


class World:
    """The channels of a database and what they were sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[AlertChannelRow] = []
        self.sent: list[tuple[str, Event]] = []
        self.problem: Exception | None = None
        self.asked: list[str] = []
        monkeypatch.setattr(assembly, "read_channels", self.read)
        monkeypatch.setattr("resender.alerts.sending.Sender.send", self._send())

    def read(self, url: str) -> list[AlertChannelRow]:
        self.asked.append(url)
        return self.rows

    def _send(self) -> Any:
        async def send(sender: Any, row: AlertChannelRow, events: Sequence[Event]) -> None:
            if row.name == "broken":
                raise self.problem or NotSent("HTTP 404")
            await asyncio.sleep(0)
            self.sent += [(row.name, event) for event in events]

        return send

    def add(self, name: str, *, enabled: bool = True, quiet: str = "") -> None:
        number = len(self.rows) + 1
        self.rows.append(
            AlertChannelRow(number, name, "slack", MARK, "{}", "en", "warning", quiet, enabled, 0)
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def test_every_channel_that_is_on_is_told_of_a_failed_upgrade(world: World, tmp_path: Path) -> None:
    world.add("one")
    world.add("off", enabled=False)
    world.add("quiet", quiet="00:00-23:59")
    config = config_of(tmp_path)
    await tell_failed_upgrade(config, UpgradeFailed("no such column: x"), CONTEXT)
    assert world.asked == [config.database]
    assert [name for name, _ in world.sent] == ["one", "quiet"]
    event = world.sent[0][1]
    assert event.kind.name == "migration"
    assert event.values == {"version": __version__, "why": "no such column: x"}


@pytest.mark.parametrize("problem", [NotSent("HTTP 404"), RuntimeError("odd"), OSError(5, "x")])
async def test_channel_that_fails_keeps_no_other_from_it(
    world: World, tmp_path: Path, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world.problem = problem
    for name in ("broken", "two", "broken"):
        world.add(name)
    await tell_failed_upgrade(config_of(tmp_path), UpgradeFailed("x"), CONTEXT)
    assert [name for name, _ in world.sent] == ["two"]
    lines = [each.getMessage() for each in caplog.records if each.name == "resender.gateway"]
    assert lines == [f"an alert could not be sent: {problem}"] * 2
    assert MARK not in caplog.text


async def test_database_without_channels_has_nobody_told(world: World, tmp_path: Path) -> None:
    await tell_failed_upgrade(config_of(tmp_path), UpgradeFailed("x"), CONTEXT)
    assert world.sent == []


async def test_fields_that_do_not_open_are_no_fault_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sealed = SecretBox("o" * 32, tmp_path).seal(json.dumps(FIELDS["slack"]), sealed_for("slack"))
    row = AlertChannelRow(1, "One", "slack", sealed, "{}", "en", "warning", "", True, 0)
    monkeypatch.setattr(assembly, "read_channels", lambda url: [row])
    await tell_failed_upgrade(config_of(tmp_path), UpgradeFailed("x"), CONTEXT)
    assert "enter them again" in caplog.text
    assert MARK not in caplog.text
    assert list(tmp_path.glob("data/*")) == [], "and no key is made for what cannot be opened"
