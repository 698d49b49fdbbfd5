"""Start a Redis and nodes that know each other by it, and read what they use.

Processes of their own on loopback, ended in any case when their block ends. It measures nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import servers
from cache_servers import Client
from servers import ROOT, NotInstalled, Server, ServerError

_SECRET = "of-all-nodes-" * 3
_KNOWN_S = 20.0
# Of a core: above it a measurement is disturbed. What the kernel does for a benchmark itself is a sixth.
BUSY_OTHERS = 0.3


@dataclass(frozen=True, slots=True)
class Redis:
    """A redis-server of a benchmark's own."""

    server: Server

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server.port}"

    def used(self) -> dict[str, tuple[int, float]]:
        """Return by command how often it was called and how many microseconds Redis took for that."""
        with redis.Redis("127.0.0.1", self.server.port) as client:
            found: dict[str, dict[str, float]] = client.info("commandstats")
        return {
            name.removeprefix("cmdstat_"): (int(each["calls"]), float(each["usec"]))
            for name, each in found.items()
        }


@contextlib.contextmanager
def redis_server(folder: Path, name: str = "redis") -> Iterator[Redis]:
    """Run a Redis that keeps nothing. Raises: NotInstalled."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotInstalled("redis-server is not installed")
    port = servers.free_port()
    words = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with servers.started(name, [program, *words, "--dir", str(folder)], port, folder) as server:
        yield Redis(server)


@contextlib.contextmanager
def node(
    python: str,
    folder: Path,
    name: str,
    urls: dict[str, str],
    settings: dict[str, str],
    *,
    command: list[str] | None = None,
) -> Iterator[Server]:
    """Run a node, request log off, loopback let in; it trusts the exchanges started before in this folder.

    Shape: `urls` and `settings` by their names without the prefix; with a `REDIS_URL` it is one of several, and
        reached by the others; `command` is what runs it, in place of `run.py`.
    """
    port = servers.free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("RESENDER_")}
    env |= servers.trust(folder)
    own = dict.fromkeys(servers._EMPTY_SETTINGS, "") | {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATA_DIR": str(folder / name),
        "WHITELIST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "SHUTDOWN_S": "1",
    }
    if "REDIS_URL" in settings:
        own |= {"NODE_NAME": name, "NODE_URL": f"http://127.0.0.1:{port}", "NODE_SECRET": _SECRET}
    env |= {f"RESENDER_{key}": value for key, value in (own | urls | settings).items()}
    run = [python, str(ROOT / "run.py")]
    done = subprocess.run(
        [*run, "log", "off"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=servers._START_S
    )
    if done.returncode:
        raise ServerError(f"{name}: {done.stderr.strip()[-500:]}")
    with servers.started(name, command or run, port, folder, env=env) as server:
        yield server


def profiled(python: str, file: str) -> list[str]:
    """Return what runs the gateway with its profile in a file, if it is one process."""
    return [python, "-m", "cProfile", "-o", file, str(ROOT / "run.py")]


def reader_pids(server: Server) -> tuple[int, int]:
    """Return the processes of the collector and of the reader beside it, of a gateway with two workers.

    Raises: ServerError if they are not there in time.
    """
    deadline = time.monotonic() + _KNOWN_S
    with Client(server) as client:
        while not (rows := [row for row in client.status()["workers"] if row["up"]]):
            if time.monotonic() > deadline:
                raise ServerError(f"{server.name} has no second worker")
            time.sleep(0.1)
    reader = int(rows[0]["pid"])
    for pid in child_pids(server.process.pid):
        if pid != reader and "redis" not in Path(f"/proc/{pid}/comm").read_text():
            return pid, reader
    raise ServerError(f"{server.name} has no collector")


def child_pids(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_s(*pids: int) -> float:
    """Return the CPU seconds of all threads of these processes, to the microsecond."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def until(is_there: Any, what: str, timeout_s: float = _KNOWN_S) -> None:
    """Wait until something is so. Raises: ServerError if it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not is_there():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.1)
