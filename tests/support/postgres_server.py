"""A real PostgreSQL on loopback, of a session or of a test: it can be stopped and started again."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port


@contextmanager
def data_dir(preferred: str) -> Iterator[tuple[Path, str | None]]:
    """Make a directory for a server, and name the user to run it as (None: the present one)."""
    data = Path(tempfile.mkdtemp(prefix="resender-test-"))
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = preferred if preferred in names else "nobody"
        os.chown(data, pwd.getpwnam(user).pw_uid, -1)
    try:
        yield data, user
    finally:
        shutil.rmtree(data, ignore_errors=True)


def run(command: list[object], user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command], user=user, capture_output=True, text=True, cwd="/", timeout=60
    )
    if done.returncode:
        pytest.skip(f"{command[0]} failed: {done.stderr[-300:]}")


class PostgresServer:
    """The server. `url` is its only database, as `DATABASE_URL` names it."""

    def __init__(self, data: Path, user: str | None) -> None:
        if importlib.util.find_spec("psycopg") is None:
            pytest.skip('PostgreSQL driver is not installed: pip install "psycopg[binary]"')
        found = shutil.which("postgres") or next(
            (str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)),
            None,
        )
        if found is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        self._binaries, self._data, self._user = Path(found).parent, data, user
        options = ["-U", "resender", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        run([self._binaries / "initdb", "-D", data / "db", *options], user)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://resender@127.0.0.1:{self.port}/postgres"

    @property
    def words(self) -> str:
        """The same for psycopg."""
        return f"host=127.0.0.1 port={self.port} user=resender dbname=postgres"

    def start(self) -> None:
        import psycopg

        command = [
            self._binaries / "postgres", "-D", self._data / "db", "-k", self._data, "-h", "127.0.0.1",
            "-p", self.port, "-c", "fsync=off",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [str(part) for part in command],
            user=self._user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(self.words).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip("PostgreSQL did not start")
                time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, whoever is connected."""
        if self._process is not None:
            self._process.send_signal(2)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    with data_dir("postgres") as (data, user):
        server = PostgresServer(data, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
