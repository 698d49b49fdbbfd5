"""Databases to test against: SQLite always, PostgreSQL and MariaDB where they are installed.

`database_url` runs a test once for each of them, on an empty database of its own; a server is
started once per session on a free port of the loopback, as a user that is not root.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port

_numbers = itertools.count(1)


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    async def wait(predicate: Callable[[], bool], timeout_s: float = 5.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def postgresql_url(postgresql_server: int) -> str:
    import psycopg

    # An empty schema is as good as a database of its own, and is made in a tenth of the time.
    base = f"host=127.0.0.1 port={postgresql_server} user=resender dbname=postgres"
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return f"postgresql://resender@127.0.0.1:{postgresql_server}/postgres"


@pytest.fixture
def mysql_url(mysql_server: int) -> str:
    import pymysql

    name = f"test_{next(_numbers)}"
    with contextlib.closing(pymysql.connect(host="127.0.0.1", port=mysql_server, user="root")) as connection:
        # The default of a server may be any character set; the tables choose their own.
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
    return f"mysql://root@127.0.0.1:{mysql_server}/{name}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[int]:
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip('PostgreSQL driver is not installed: pip install "psycopg[binary]"')
    found = shutil.which("postgres") or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)), None
    )
    if found is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    binaries = Path(found).parent
    with _data_dir("postgres") as (data, user):
        options = ["-U", "resender", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        _run([binaries / "initdb", "-D", data / "db", *options], user)
        port = free_port()
        command = [binaries / "postgres", "-D", data / "db", "-k", data, "-h", "127.0.0.1", "-p", port]
        yield from _serve([*command, "-c", "fsync=off"], user, port)


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[int]:
    if importlib.util.find_spec("pymysql") is None:
        pytest.skip('MySQL driver is not installed: pip install "pymysql[rsa]"')
    paths = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    server = shutil.which("mariadbd", path=paths)
    install = shutil.which("mariadb-install-db", path=paths)
    if server is None or install is None:
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server")
    with _data_dir("mysql") as (data, user):
        common = ["--no-defaults", f"--datadir={data / 'db'}"]
        _run([install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], user)
        port = free_port()
        options = [f"--socket={data / 'sock'}", f"--port={port}", "--bind-address=127.0.0.1"]
        options += ["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]
        yield from _serve([server, *common, *options, f"--pid-file={data / 'pid'}"], user, port)


@contextlib.contextmanager
def _data_dir(preferred: str) -> Iterator[tuple[Path, str | None]]:
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


def _run(command: list[object], user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command], user=user, capture_output=True, text=True, cwd="/", timeout=60
    )
    if done.returncode:
        pytest.skip(f"{command[0]} failed: {done.stderr[-300:]}")


def _serve(command: list[object], user: str | None, port: int) -> Iterator[int]:
    process = subprocess.Popen(
        [str(part) for part in command],
        user=user,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"{command[0]} did not start")
                time.sleep(0.05)
        if "postgres" in str(command[0]):
            _wait_for_postgresql(port, deadline)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_postgresql(port: int, deadline: float) -> None:
    # It listens a moment before it lets anybody in.
    import psycopg

    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=resender dbname=postgres").close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                pytest.skip("PostgreSQL did not start")
            time.sleep(0.05)
