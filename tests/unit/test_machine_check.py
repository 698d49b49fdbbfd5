"""What `doctor --deep` finds out about this machine, and what it tells to do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from resender import machine_check
from resender.config import Config
from resender.machine_check import Finding, check_machine
from resender.name_watch import NoSuchName
from resender.sandbox.authority import throwaway_authority
from resender.store import open_repository


def config(folder: Path, **settings: object) -> Config:
    return dataclasses.replace(Config(data_dir=str(folder / "data")), **settings)  # type: ignore[arg-type]


def found(config: Config) -> dict[str, Finding]:
    return {finding.what: finding for finding in check_machine(config)}


@pytest.fixture(autouse=True)
def kept_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_check, "_ntp_state", lambda: True)


def test_every_finding_that_is_no_good_tells_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = config(tmp_path)
    with open_repository(good.database) as repository:
        repository.whitelist_add("203.0.113.5")
    assert [finding for finding in found(good).values() if not finding.is_ok] == []
    assert not list((tmp_path / "data").glob(".doctor-*")), "the file that was tried is gone"
    monkeypatch.setattr(machine_check, "_FREE_DISK_MB", 10**12)
    monkeypatch.setattr(machine_check, "_FREE_MEMORY_MB", 10**12)
    monkeypatch.setattr(machine_check, "_SLOW_WRITE_MS", 0.0)
    monkeypatch.setattr(machine_check, "_ntp_state", lambda: False)
    told = found(config(tmp_path / "empty"))
    bad = {name for name, finding in told.items() if not finding.is_ok}
    assert bad == {"disk", "writing", "memory", "time", "whitelist"}
    assert all(told[name].advice for name in bad)


def test_system_that_does_not_say_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_check, "_ntp_state", lambda: None)
    assert found(config(tmp_path))["time"].is_ok


def test_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    told = found(config(tmp_path))
    assert not told["disk"].is_ok
    assert "cannot be written to" in told["disk"].text
    assert not told["database"].is_ok


def test_damaged_database_is_told(tmp_path: Path) -> None:
    here = config(tmp_path)
    with open_repository(here.database) as repository:
        repository.whitelist_add_many(
            [(f"10.0.{n // 250}.{n % 250 + 1}", "x" * 300, True) for n in range(500)]
        )
        assert repository.find_damage() == ""
        assert repository.empty_wal()
    path = tmp_path / "data" / "resender.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(20_000))
    told = found(here)
    assert not told["database"].is_ok
    assert "damaged" in told["database"].text


def test_name_that_does_not_resolve_and_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(name: str) -> list[str]:
        if name.startswith("gone"):
            raise NoSuchName(name)
        return ["203.0.113.9"]

    monkeypatch.setattr(machine_check, "look_up", look_up)
    here = config(tmp_path)
    with open_repository(here.database) as repository:
        repository.whitelist_add("gone.example.com")
        repository.whitelist_add("home.example.com")
    names = [finding for finding in check_machine(here) if finding.what == "name"]
    assert [(finding.is_ok, finding.text.split()[0]) for finding in names] == [
        (False, "gone.example.com"),
        (True, "home.example.com"),
    ]
    assert "203.0.113.9" in names[1].text


def test_certificate_is_looked_at(tmp_path: Path) -> None:
    made = throwaway_authority().issue("127.0.0.1")
    file = tmp_path / "both.pem"
    file.write_bytes(made.key_pem + made.certificate_pem)
    assert found(config(tmp_path, tls_cert=str(file)))["certificate"].is_ok
    told = found(config(tmp_path, tls_cert=str(tmp_path / "none.pem")))["certificate"]
    assert not told.is_ok
    assert "none.pem" in told.text
    assert told.advice
