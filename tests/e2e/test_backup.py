"""A gateway that serves is backed up, and goes on elsewhere: the same users, addresses and accounts."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resender.sandbox import API_KEY, READ_KEY, READ_SECRET
from tests.support.admin import PASSWORD
from tests.support.authority import ca_file
from tests.support.processes import (
    PATIENCE_S,
    ROOT,
    GatewayProcess,
    Program,
    SandboxThread,
    environment,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ANNA = "correct horse battery"
SECRETS = (READ_KEY, READ_SECRET, API_KEY)


def piped(gateway: GatewayProcess, *words: str, lines: tuple[str, ...]) -> None:
    """Run a command with lines on its standard input."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        cwd=gateway.folder, env=environment(gateway.settings) | {"SSL_CERT_FILE": ca_file()},
        input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def said(gateway: GatewayProcess, *words: str, code: int = 0) -> str:
    program = gateway.command(*words)
    assert program.wait() == code, program.stderr
    return program.stdout if not code else program.stderr


def logs_in(gateway: GatewayProcess, name: str, password: str) -> bool:
    body = json.dumps({"username": name, "password": password}).encode()
    headers = {"Content-Type": "application/json"}
    return gateway.call("POST", "/admin/api/login", headers, body).status == 200


def watched(gateway: GatewayProcess) -> list[tuple[str, str]]:
    rows = gateway.call("GET", "/local/status").json()["accounts"]
    return [(row["market"], row["state"]) for row in rows]


@contextmanager
def busy(gateway: GatewayProcess) -> Iterator[Counter[int]]:
    """Have somebody call all the time; the request log is written meanwhile."""
    over, told = threading.Event(), Counter[int]()

    def work() -> None:
        while not over.is_set():
            told[gateway.call("GET", "/api/v3/time").status] += 1

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def test_gateway_goes_on_elsewhere_with_users_addresses_and_accounts(
    exchange: SandboxThread, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    here = GatewayProcess(
        tmp_path / "here", ADMIN_PASSWORD=PASSWORD, CACHE_ENABLED="false", **exchange.settings()
    )
    there: GatewayProcess | None = None
    try:
        said(here, "whitelist", "add", "203.0.113.5", "--note", "office 办公室")
        said(here, "whitelist", "add", "home.invalid")
        said(here, "log", "on")
        piped(here, "user", "add", "anna.b", "--password-stdin", lines=(ANNA,))
        piped(
            here,
            "account",
            "add",
            "main",
            "spot",
            "--key",
            "--secret",
            "--stdin",
            lines=(READ_KEY, READ_SECRET),
        )
        until(lambda: watched(here) == [("spot", "live")], "the account is watched")
        with busy(here) as told:
            until(lambda: told[200] > 20, "calls are made")
            out = said(here, "backup", str(backups), "--keep", "3")
            until(lambda low=told[200]: told[200] > low + 20, "and go on")
        assert set(told) == {200}
        assert "resender.db, account.key, settings.py, settings.env" in out
        (file,) = backups.iterdir()
        assert "another gateway" in said(here, "restore", str(file), code=2)

        # The other machine has its own folder, and something in it.
        folder = tmp_path / "there"
        data = folder / "data"
        assert Program(folder, "whitelist", "add", "198.51.100.7", DATA_DIR=data).wait() == 0
        restoring = Program(folder, "restore", str(file), "--without-settings", DATA_DIR=data)
        assert restoring.wait() == 0, restoring.stderr
        assert "Restored: the backup of " in restoring.stdout
        there = GatewayProcess(folder, CACHE_ENABLED="false", WHITELIST="", **exchange.settings())
        assert logs_in(there, "root", PASSWORD)
        assert logs_in(there, "anna.b", ANNA)
        until(
            lambda: there is not None and watched(there) == [("spot", "live")], "the account is watched there"
        )
        entries = said(there, "whitelist", "list")
        for word in ("127.0.0.1", "203.0.113.5", "office 办公室", "home.invalid"):
            assert word in entries
        assert "198.51.100.7" not in entries
        assert there.call("GET", "/api/v3/time").status == 200
        # Here all goes on as before.
        assert watched(here) == [("spot", "live")]
        assert logs_in(here, "anna.b", ANNA)
        kept = [path for path in data.iterdir() if path.name.startswith("before-restore-")]
        assert [sorted(path.name for path in each.iterdir()) for each in kept] == [["resender.db"]]
    finally:
        for gateway in (here, there):
            if gateway is not None:
                try:
                    gateway.stop(secrets=SECRETS)
                finally:
                    gateway.kill()
    with tarfile.open(file) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            data = content.read()
            assert not [secret for secret in SECRETS if secret.encode() in data], member.name
