"""A whole gateway tells its owner: of bans, lost ways, refused keys, log-ins, its database, an upgrade that failed.

Alerts have a clock that is moved by hand: what has to last half a minute takes a moment. Where messages arrive is a
webhook over TLS that checks their signatures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resender import __version__
from resender.alerts import sealed_for, service
from resender.cli import serve as serving
from resender.config import Config
from resender.core.alerts.channels import check_fields, shown_fields
from resender.gateway import Gateway
from resender.sandbox import API_KEY, Fault, Sandbox
from resender.secret_box import SecretBox
from resender.store import UpgradeFailed, open_repository
from tests.support.admin import PASSWORD, Browser, MovedClock
from tests.support.alert_events import MARK
from tests.support.alert_robots import Robot
from tests.support.authority import client_context
from tests.support.client import call
from tests.support.egress_lab import Client, exchange_config
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, Request, response

pytestmark = pytest.mark.component

ONE, TWO = "127.0.0.2", "127.0.0.3"
DEPTH = "/api/v3/depth?symbol=BTCUSDT&limit=5"
# What was told may have to last, to be gone, and to be a minute after the last message.
LONG_S = 65.0


def add_channel(config: Config, robot: Robot, name: str = "Mine", **changes: str) -> None:
    """Add a channel as the command line does, beside a gateway or before one."""
    fields = check_fields(robot.kind, robot.fields)
    values = {"language": "en", "least": "warning", "quiet": "", **changes}
    box = SecretBox(config.secret_key, config.data_path)
    with open_repository(config.database) as repository:
        repository.alert_channel_add(
            name, robot.kind, box.seal(json.dumps(fields), sealed_for(robot.kind)),
            shown_fields(robot.kind, fields), **values,
        )  # fmt: skip


@dataclass
class World:
    """A gateway, where its messages arrive, and the clock of its alerts."""

    run: Running
    robot: Robot
    clock: MovedClock

    @property
    def gateway(self) -> Gateway:
        return self.run.gateway

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What programs were told, in its order."""
        return [row for document in self.robot.documents for row in document["events"]]

    def told(self, kind: str, state: str, subject: str = "") -> list[dict[str, Any]]:
        wanted = [row for row in self.rows if (row["kind"], row["state"]) == (kind, state)]
        return [row for row in wanted if subject in ("", row["subject"])]

    async def until_told(self, kind: str, state: str = "begins", subject: str = "") -> dict[str, Any]:
        found: list[dict[str, Any]] = await wait_until(lambda: self.told(kind, state, subject), 10)
        assert len(found) == 1
        return found[0]

    async def pass_time(self, seconds: float) -> None:
        """Let the alerts see how it is, let time pass, and let them see it again."""
        await self.look()
        self.clock.move(seconds)
        await self.look()

    async def look(self) -> None:
        alerts = self.gateway.alerts
        assert alerts is not None
        before = alerts._look_mono
        self.clock.move(service.LOOK_S)
        alerts._wake.set()
        await wait_until(lambda: alerts._look_mono > before)

    async def get(self, target: str = DEPTH, *headers: tuple[str, str]) -> int:
        return (await call(self.run.port, "GET", target, headers)).status

    async def history(self) -> list[dict[str, Any]]:
        """What is written down, oldest first."""
        rows = await self.gateway.store.run(lambda repository: repository.alert_events(limit=200))
        return [
            {"kind": row.kind, "over": row.lasted_s is not None, "told": row.told, "text": repr(row)}
            for row in rows[::-1]
        ]


@asynccontextmanager
async def world(
    data_dir: Path, sandbox: Sandbox | None = None, robot: Robot | None = None, **settings: Any
) -> AsyncIterator[World]:
    """Run a gateway with one channel."""
    values: dict[str, Any] = {"egress": ONE, "cache_enabled": False, "shutdown_s": 1.0, "node_name": "gw1"}
    if sandbox is not None:
        values |= {name.lower(): url for name, url in sandbox.urls.items()}
    ends = settings.pop("certificate_ends", None)
    config = make_config(data_dir, **{**values, **settings})
    clock = MovedClock()
    async with robot or Robot("webhook") as there:
        add_channel(config, there)
        async with running(config, certificate_ends=ends) as run:
            assert run.gateway.alerts is not None
            run.gateway.alerts._clock = clock.clock
            yield World(run, there, clock)


async def wait_until_async(
    ask: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 10.0
) -> None:
    deadline = time.monotonic() + timeout_s
    while not good(await ask()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(exchange_config()) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No secret of a channel is in the log, in whatever detail."""
    caplog.set_level(logging.DEBUG)
    yield
    ours = [each.getMessage() for each in caplog.get_records("call") if each.name.startswith("resender")]
    assert not [line for line in ours if MARK in line]


# --- the exchange ---------------------------------------------------------------------------------


async def test_ban_is_told_at_once_and_its_end_when_it_is_over(tmp_path: Path, sandbox: Sandbox) -> None:
    async with world(tmp_path, sandbox) as one:
        assert await one.get() == 200
        sandbox.ban(ONE, "spot", 5)  # longer than from one look to the next
        assert await one.get() == 418
        row = await one.until_told("banned")
        assert (row["node"], row["level"], row["subject"]) == ("gw1", "critical", f"{ONE} spot")
        assert f"Binance has banned the address of egress {ONE} (spot)" in one.robot.texts[0]
        assert one.robot.texts[0].startswith("🔴 Binance Resender · gw1\n")
        await wait_until(lambda: not any(row["closed_s"] for row in one.gateway.status.weights()), 15)
        await one.pass_time(LONG_S)
        await one.until_told("banned", "over")
        assert one.robot.texts[-1].startswith("🟢")
        assert "Over after " in one.robot.texts[-1]
        assert one.robot.refusals == []
        wanted = [(over, {"Mine": "ok"}) for over in (False, True)]
        await wait_until_async(
            one.history, lambda rows: [(row["over"], row["told"]) for row in rows] == wanted
        )


async def test_long_pause_is_told_and_a_short_one_is_not(tmp_path: Path, sandbox: Sandbox) -> None:
    async with world(tmp_path, sandbox) as one:
        sandbox.faults.add(Fault("status", status=429, headers={"Retry-After": "300"}, body='{"code":-1003}'))
        assert await one.get() == 429
        await one.look()
        one.clock.move(50)
        await one.look()
        assert one.rows == []
        await one.pass_time(10)
        row = await one.until_told("paused")
        assert (row["level"], row["values"]["egress"]) == ("warning", ONE)


async def test_exchange_out_of_reach_is_told_and_that_it_is_back(tmp_path: Path, sandbox: Sandbox) -> None:
    async with world(tmp_path, sandbox) as one:
        await sandbox.stop_listening("api")
        assert await one.get() == 502
        await one.pass_time(31)
        assert one.told("unreachable", "begins") == [], "one call says nothing"
        assert await one.get() == 502
        await one.look()
        assert one.told("unreachable", "begins") == []
        await one.pass_time(31)
        row = await one.until_told("unreachable", subject="spot")
        assert "Binance cannot be reached (spot)" in row["text"]
        assert "No connection" in row["text"]
        await sandbox.start_listening("api")
        await wait_until_async(lambda: one.get(), lambda status: status == 200)
        await one.pass_time(LONG_S)
        await one.until_told("unreachable", "over", "spot")
        kinds = {(row["kind"], row["state"]) for row in one.rows}
        assert {kind for kind, _ in kinds} <= {"unreachable", "egress"}


async def test_call_without_an_answer_is_forgotten_with_the_next_that_has_one(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    async with world(tmp_path, sandbox, read_timeout_s=0.4) as one:
        sandbox.faults.add(Fault("delay", match="/api/v3/depth", seconds=2))
        assert await one.get() == 504
        await one.pass_time(20)
        assert await one.get() == 200
        await one.pass_time(20)
        await one.pass_time(20)
        assert one.rows == []


async def test_egress_that_is_cut_off_is_told_while_the_other_goes_on(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    async with world(tmp_path, sandbox, egress=f"own={ONE},second={TWO}") as one:
        sandbox.cut_off(ONE)
        for _ in range(6):
            await one.get()
        await wait_until(lambda: any(row["state"] == "set_aside" for row in one.gateway.status.weights()))
        for _ in range(20):
            await one.look()
            one.clock.move(4)
        row = await one.until_told("egress", subject="own")
        assert "Egress own is down (" in row["text"]
        assert await one.get() == 200


async def test_country_that_is_not_served_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    async with world(tmp_path, sandbox) as one:
        sandbox.faults.add(Fault("status", status=451, times=None, body='{"code":0,"msg":"restricted"}'))
        assert await one.get() == 451
        row = await one.until_told("region", subject="spot")
        assert "451" in row["text"]


async def test_key_that_is_refused_is_told_once_by_its_hint_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    key = "Refused" + "q7" * 26 + "wxyzT"
    assert len(key) == 64
    async with world(tmp_path, sandbox) as one:
        client = Client(one.run.port)
        for _ in range(5):
            target = f"/api/v3/account?timestamp={time.time_ns() // 1_000_000}&signature={'0' * 64}"
            reply = await client.get(target, ("X-MBX-APIKEY", key))
            assert (reply.status, reply.json()["code"]) == (401, -2015)
        await client.close()
        row = await one.until_told("key", "once")
        assert row["values"] == {"hint": key[-4:], "egress": ONE}
        assert f"...{key[-4:]}" in one.robot.texts[0]
        await one.pass_time(LONG_S)
        assert len(one.rows) == 1
        sent = b"".join(request.head + request.body for request in one.robot.requests).decode()
        written = sent + "".join(row["text"] for row in await one.history())
        assert not [part for part in (key[:12], key[-8:], API_KEY[:12], "0" * 64) if part in written]
        with open_repository(one.gateway.config.database) as repository:
            assert key[:12] not in repr(repository.audit_list())


async def test_call_that_is_refused_for_another_reason_tells_nothing(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    async with world(tmp_path, sandbox) as one:
        client = Client(one.run.port)
        reply = await client.signed("GET", "/api/v3/order", "symbol=BTCUSDT&orderId=1")
        assert reply.status == 400
        reply = await client.get("/api/v3/account?timestamp=1&signature=x", ("X-MBX-APIKEY", API_KEY))
        assert reply.status == 400
        await client.close()
        await one.pass_time(LONG_S)
        assert one.rows == []


# --- people ---------------------------------------------------------------------------------------


async def test_log_in_from_a_new_address_is_told_once_for_each(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"admin_password": PASSWORD, "trusted_proxies": "127.0.0.1"}
    async with world(tmp_path, **settings) as one:

        async def log_in(address: str, password: str = PASSWORD) -> int:
            browser = Browser(one.run.port, ("X-Forwarded-For", address))
            return (await browser.log_in(password=password)).status

        assert await log_in("203.0.113.9", "not the word") == 401
        assert await log_in("203.0.113.9") == 200
        row = await one.until_told("login", "once")
        assert row["values"] == {"user": "root", "address": "203.0.113.9"}
        assert PASSWORD not in "".join(one.robot.texts)
        assert await log_in("203.0.113.9") == 200
        assert await log_in("198.51.100.7") == 200
        await one.pass_time(LONG_S)
        await wait_until(lambda: len(one.rows) == 2)
        one.clock.move(1000)
        assert await log_in("203.0.113.9") == 200
        await one.pass_time(LONG_S)
        assert [row["values"]["address"] for row in one.rows] == ["203.0.113.9", "198.51.100.7"]


async def test_page_sends_a_test_and_shows_what_became_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, admin_password=PASSWORD) as one:
        browser = Browser(one.run.port)
        await browser.log_in()
        assert await browser.post("alerts/channels/1/test") == {"sent": True, "problem": ""}
        assert "This is a test" in one.robot.texts[-1]

        async def refuse(request: Request, peer: Peer) -> None:
            text = f'{{"message":"no hook {MARK} here"}}'
            await peer.send(response(text.encode(), "404 Not Found"))

        one.robot.answer = refuse
        found = await browser.post("alerts/channels/1/test")
        assert found["sent"] is False
        assert found["problem"].startswith("HTTP 404")
        page = await browser.send("GET", "alerts")
        assert MARK not in f"{found}{page.raw.decode()}"
        audit = await browser.send("GET", "audit")
        assert "alert.test" in audit.body.decode()
        assert MARK not in audit.body.decode()


async def test_silence_from_the_page_keeps_messages_back_and_the_history_whole(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    async with world(tmp_path, sandbox, admin_password=PASSWORD) as one:
        browser = Browser(one.run.port)
        await browser.log_in()
        await wait_until(lambda: one.rows)
        await browser.post("alerts/silence", {"kind": "banned", "hours": 1})
        sandbox.ban(ONE, "spot", 60)
        assert await one.get() == 418
        await one.pass_time(LONG_S)
        assert one.told("banned", "begins") == []
        page = await browser.get("alerts")
        assert [row["kind"] for row in page["in_force"]] == ["banned"]
        (event,) = [row for row in page["events"] if row["kind"] == "banned"]
        assert event["told"] == {"Mine": "silent"}


# --- the machine ----------------------------------------------------------------------------------


async def test_disk_certificate_and_strangers_are_told_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=76_900_000))
    ends = datetime.now(timezone.utc) + timedelta(days=9.5)
    settings: dict[str, Any] = {"alert_free_disk_mb": 77, "alert_refused": 5, "whitelist": "10.0.0.1"}
    async with world(tmp_path, certificate_ends=lambda: ends, **settings) as one:
        await one.look()
        for _ in range(5):
            assert await one.get("/api/v3/time") == 403
        await one.pass_time(20)
        assert (await one.until_told("disk"))["values"] == {"free_mb": 76}
        assert (await one.until_told("certificate"))["values"] == {"days": 9}
        assert (await one.until_told("strangers"))["values"] == {"count": 5, "address": "127.0.0.1"}


async def test_database_that_is_gone_is_told_and_that_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        path = Path(one.gateway.config.database.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        away = path.rename(path.with_name("away"))
        await wait_until(lambda: not one.gateway.store.stats.healthy)
        await one.pass_time(11)
        row = await one.until_told("database")
        assert "The database cannot be used: " in row["text"]
        assert one.robot.refusals == []
        away.rename(path)
        await wait_until(lambda: one.gateway.store.stats.healthy)
        await one.pass_time(LONG_S)
        await one.until_told("database", "over")
        await wait_until_async(one.history, lambda rows: [row["told"] for row in rows] == [{"Mine": "ok"}])


# --- channels -------------------------------------------------------------------------------------


async def test_channel_added_beside_a_running_gateway_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    async with world(tmp_path, sandbox) as one, Robot("feishu") as group:
        add_channel(one.gateway.config, group, "Group", language="zh", least="critical")
        await wait_until(lambda: one.gateway.alerts is not None and len(one.gateway.alerts._channels) == 2)
        sandbox.ban(ONE, "spot", 60)
        await one.get()
        await wait_until(lambda: group.texts and one.robot.texts)
        assert "封禁" in group.texts[0]
        assert "has banned" in one.robot.texts[0]


async def test_channel_that_is_down_for_a_while_loses_nothing_and_delays_no_other(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(request: Request, peer: Peer) -> None:
        await peer.send(response(b"", "503 Service Unavailable"))

    monkeypatch.setattr(service, "_AGAIN_S", (0.3, 0.3, 0.3))
    async with world(tmp_path, sandbox) as one, Robot("slack", answer=fail) as other:
        add_channel(one.gateway.config, other, "Other")
        alerts = one.gateway.alerts
        assert alerts is not None
        await wait_until(lambda: len(alerts._channels) == 2)
        sandbox.ban(ONE, "spot", 60)
        await one.get()
        await one.until_told("banned")
        await wait_until(lambda: len(other.requests) >= 2)
        assert alerts.state_of(2)["problem"] == "HTTP 503"
        other.answer = None
        await wait_until(lambda: other.texts)
        await wait_until(lambda: alerts.state_of(2)["problem"] == "")
        await wait_until_async(one.history, lambda rows: rows[0]["told"] == {"Mine": "ok", "Other": "ok"})


async def test_channel_that_hangs_holds_neither_calls_nor_the_end(tmp_path: Path, sandbox: Sandbox) -> None:
    async def hang(request: Request, peer: Peer) -> None:
        await asyncio.sleep(60)

    robot = Robot("webhook", answer=hang)
    async with world(tmp_path, sandbox, robot) as one:
        sandbox.ban(ONE, "futures", 60)
        assert await one.get("/fapi/v1/depth?symbol=BTCUSDT&limit=5") == 418
        await wait_until(lambda: robot.requests)
        begun = time.monotonic()
        for _ in range(50):
            assert await one.get() == 200
        assert time.monotonic() - begun < 5
        begun = time.monotonic()
    assert time.monotonic() - begun < 9


# --- an upgrade that failed -----------------------------------------------------------------------


def refuse_upgrade(config: Config) -> Path:
    """Make a database one that lacks the last script and does not let it write."""
    path = Path(config.database.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM schema_migration WHERE name >= '0006'")
        database.execute("DELETE FROM state WHERE key = 'alert_revision'")
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON state BEGIN SELECT RAISE(ABORT, 'not here'); END"
        )
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.mark.parametrize("kind", ["webhook", "telegram"])
async def test_upgrade_that_failed_is_told_by_the_channels_of_the_old_database(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("raise_file_limit", "tune_allocator"):
        monkeypatch.setattr(serving, name, lambda: None)
    monkeypatch.setattr(serving, "stop_on_signal", lambda **_: asyncio.Event())
    config = make_config(tmp_path, egress=f"own={ONE}", alert_egress="own", node_name="gw1")
    async with Robot(kind) as robot, Robot("slack") as gone:
        fields = dict(gone.fields)
        await gone.__aexit__()
        add_channel(config, gone, "Gone")
        add_channel(config, robot, "Mine", language="zh", quiet="00:00-23:59")
        before = refuse_upgrade(config).read_bytes()
        with pytest.raises(UpgradeFailed):
            await serving.serve(config, ssl_context=client_context())
        assert len(robot.texts) == 1
        assert f"版本 {__version__} 升级数据库失败" in robot.texts[0]
        assert "not here" in robot.texts[0]
        assert robot.peers == [ONE]
        assert Path(config.database.removeprefix("sqlite:///")).read_bytes() == before
    assert "an alert could not be sent" in caplog.text
    assert fields["url"].rpartition("/")[2] not in caplog.text
