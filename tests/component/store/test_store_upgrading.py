"""A start of this version on the database of an old one: it serves, or leaves everything to the old one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from resender.cli import main as main_module
from resender.cli import serve as module
from resender.cli.main import main
from resender.errors import StartError
from resender.gateway import Gateway
from resender.lock import data_dir_lock
from resender.store import UpgradeFailed, schema
from tests.support.admin import PASSWORD, Browser
from tests.support.authority import client_context
from tests.support.client import call
from tests.support.running import make_config, running, wait_until
from tests.unit.store.test_upgrading import SCHEMAS, Old, beside, dump, each_version, forbid, old, rows

__all__ = ["old"]
pytestmark = pytest.mark.component


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "resender.db"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("raise_file_limit", "tune_allocator", "tune_collector"):
        monkeypatch.setattr(module, name, lambda: None)


@each_version
async def test_gateway_serves_on_the_database_of_an_old_version(
    old: Old, version: str, tmp_path: Path
) -> None:
    path = old(version)
    before = dump(path)
    config = make_config(tmp_path, cache_enabled=False, whitelist="192.0.2.200", admin_password=PASSWORD)
    async with running(config) as run:
        # Its address is in the old whitelist; the setting counts for new databases only.
        assert (await call(run.port, "GET", "/api/v3/time")).status == 502
        assert run.gateway.access.whitelist.match("2001:db8::7") == 4
        assert run.gateway.access.whitelist.match("192.0.2.200") is None
        assert len(run.gateway._stored_rules) == 2
        assert run.gateway.store.log_enabled
        browser = Browser(run.port)
        assert (await browser.log_in()).status == 200
    assert rows(path)["schema_migration"][-1]["name"] == schema.known_versions()[-1]
    assert dump(Path(f"{path}.before-{SCHEMAS[version]}")) == before


async def test_start_that_fails_later_puts_the_database_back(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = old("0.2.0")
    before = dump(path)
    config = make_config(tmp_path, cache_enabled=False)

    def make(*args: Any, **options: Any) -> Gateway:
        made = Gateway(*args, **options)

        async def start() -> None:
            assert rows(path)["schema_migration"][-1]["name"] == schema.known_versions()[-1]
            raise StartError("no")

        made.egress.start = start  # type: ignore[method-assign]
        return made

    with monkeypatch.context() as patched:
        patched.setattr(module, "stop_on_signal", lambda **_: asyncio.Event())
        patched.setattr(module, "Gateway", make)
        with pytest.raises(StartError, match="no"):
            await module.serve(config, ssl_context=client_context())
    assert dump(path) == before
    assert beside(path) - {"-wal", "-shm"} <= {"gateway.lock"}
    assert "the database is again as it was before this version" in caplog.text
    # The lock is free: the old version may start, or this one again.
    with data_dir_lock(tmp_path):
        pass
    async with running(config) as run:
        assert (await call(run.port, "GET", "/healthz")).status == 200


async def test_start_that_fails_without_an_upgrade_leaves_the_database_alone(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, cache_enabled=False)
    async with running(config) as run:
        await run.gateway.store.whitelist_add("192.0.2.9", "kept")
    before = [line for line in dump(path) if "whitelist" in line]

    async def fails(self: Gateway) -> None:
        await self.store.start(lambda entries: None)
        await self.store.stop()
        raise StartError("no")

    monkeypatch.setattr(Gateway, "start", fails)
    monkeypatch.setattr(module, "stop_on_signal", lambda **_: asyncio.Event())
    with pytest.raises(StartError, match="no"):
        await module.serve(config, ssl_context=client_context())
    assert [line for line in dump(path) if "whitelist" in line] == before


async def test_database_that_cannot_be_upgraded_ends_the_start_and_is_left_to_the_old_version(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old("0.2.0")
    forbid(path)
    before = dump(path)
    monkeypatch.setattr(module, "stop_on_signal", lambda **_: asyncio.Event())
    with pytest.raises(UpgradeFailed, match="it is as it was: the version before can use it"):
        await module.serve(make_config(tmp_path, cache_enabled=False), ssl_context=client_context())
    assert dump(path) == before
    with data_dir_lock(tmp_path):
        pass


def test_command_that_serves_says_so_in_one_line_and_is_not_started_again(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = old("0.1.0")
    forbid(path)
    before = dump(path)
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setattr(main_module, "set_up_logging", lambda level, form: None)
    assert main(["serve", "--port", "0", "--host", "127.0.0.1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: The database {path} cannot be brought up to date (not here)")
    assert said.count("\n") == 1
    assert dump(path) == before


async def test_upgrade_is_made_once(old: Old, tmp_path: Path) -> None:
    path = old("0.1.0")
    config = make_config(tmp_path, cache_enabled=False)
    for _ in range(2):
        async with running(config) as run:
            await wait_until(lambda: run.gateway.store.stats.healthy)
        copy = Path(f"{path}.before-{SCHEMAS['0.1.0']}")
        moment = copy.stat().st_mtime_ns
    assert copy.stat().st_mtime_ns == moment
    assert [name for name in beside(path) if name.startswith(".before-")] == [f".before-{SCHEMAS['0.1.0']}"]
