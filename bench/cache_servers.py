"""Start what the benchmarks of the market cache measure: exchange, gateway, baseline.

Processes of their own on loopback, ended in any case when their block ends. The gateway is
`run.py` with its default settings. It measures nothing but memory and reads no clock.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import servers
from servers import BENCH, ROOT, Server, ServerError

_ANSWER_S = 30.0
_POLL_S = 0.25


class Child:
    """A helper process that is spoken to line by line, in JSON."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.name = name
        self.process = process
        self._errors = errors
        assert process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(process.stdout, selectors.EVENT_READ)

    def read(self, timeout_s: float = _ANSWER_S) -> Any:
        """Return the next line it prints.

        Raises: ServerError if there is none in time.
        """
        stdout = self.process.stdout
        assert stdout is not None
        line = stdout.readline() if self._selector.select(timeout_s) else b""
        if not line:
            tail = self._errors.read_text(errors="replace").strip()[-800:]
            raise ServerError(f"{self.name} gave no answer: {tail}")
        return json.loads(line)

    def ask(self, text: str = "", timeout_s: float = _ANSWER_S) -> Any:
        """Send a line and return the answer."""
        self.tell(text)
        return self.read(timeout_s)

    def tell(self, text: str) -> None:
        """Send a line; its answer has to be read."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ServerError(f"{self.name} has ended") from None

    def cpu_s(self) -> float:
        return servers._cpu_s(str(self.process.pid))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self._selector.close()
        self.process.stdout.close()


@contextlib.contextmanager
def child(name: str, python: str, folder: Path, script: str, *arguments: str) -> Iterator[Child]:
    """Run one of the programs in this folder for a block; it trusts the exchanges started before."""
    errors = folder / f"{name}.stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [python, str(BENCH / script), *arguments],
            cwd=ROOT, env=os.environ | servers.trust(folder),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    found = Child(name, process, errors)
    try:
        yield found
    finally:
        found.close()


@dataclass(frozen=True, slots=True)
class Exchange:
    """The simulated exchange. Shape: `urls` by setting name."""

    child: Child
    urls: dict[str, str]

    def counters(self) -> dict[str, Any]:
        """Return what it has done so far, see cache_exchange.py."""
        found: dict[str, Any] = self.child.ask()
        return found


@contextlib.contextmanager
def exchange(python: str, folder: Path, **options: Any) -> Iterator[Exchange]:
    """Run the simulated exchange; `options` are fields of SandboxConfig."""
    ca_file = str(servers.ca_file(folder, "exchange"))
    with child("exchange", python, folder, "cache_exchange.py", ca_file, json.dumps(options)) as running:
        yield Exchange(running, running.read())


def feed(name: str, python: str, folder: Path) -> contextlib.AbstractContextManager[Child]:
    """Run a fast stream server."""
    return child(name, python, folder, "cache_feed.py", str(servers.ca_file(folder, name)))


@contextlib.contextmanager
def gateway(
    python: str,
    folder: Path,
    urls: dict[str, str],
    *,
    preload: str = "",
    settings: dict[str, str] | None = None,
    command: list[str] | None = None,
) -> Iterator[Server]:
    """Run this gateway against an exchange, loopback let in; `settings` without `RESENDER_`."""
    port = servers.free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("RESENDER_")}
    env |= servers.trust(folder)
    env |= {f"RESENDER_{name}": url for name, url in urls.items()}
    env |= {f"RESENDER_{name}": "" for name in servers._EMPTY_SETTINGS}
    env |= {
        "RESENDER_HOST": "127.0.0.1",
        "RESENDER_PORT": str(port),
        "RESENDER_DATA_DIR": str(folder / "gateway"),
        "RESENDER_WHITELIST": "127.0.0.1",
        "RESENDER_PRELOAD": preload,
        "RESENDER_SHUTDOWN_S": "1",
    }
    env |= {f"RESENDER_{name}": value for name, value in (settings or {}).items()}
    start = command or [python, str(ROOT / "run.py")]
    with servers.started("gateway", start, port, folder, env=env) as server:
        yield server


# --- asking ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it came; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One kept connection to a server."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_ANSWER_S)

    def get(self, target: str, *, gzip: bool = False, headers: dict[str, str] | None = None) -> Answer:
        headers = {"Accept-Encoding": "gzip" if gzip else "identity", **(headers or {})}
        try:
            self._connection.request("GET", target, headers=headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{target}: {type(error).__name__}: {error}") from None
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)

    def hit(
        self,
        target: str,
        *,
        gzip: bool = False,
        headers: dict[str, str] | None = None,
        patience_s: float = 0.0,
    ) -> Answer:
        """Get an answer that came out of memory.

        Raises: ServerError if none does in time.
        """
        deadline = time.monotonic() + patience_s
        while True:
            answer = self.get(target, gzip=gzip, headers=headers)
            said = answer.headers.get("x-resender-cache", "nothing")
            if answer.status == 200 and said == "hit":
                return answer
            if time.monotonic() >= deadline:
                raise ServerError(f"{target} is no hit: status {answer.status}, cache says {said!r}")
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """Return `/local/status`."""
        found: dict[str, Any] = json.loads(self.get("/local/status").body)
        return found

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_live(
    server: Server,
    count: int,
    timeout_s: float,
    note: Callable[[dict[str, Any]], None] = lambda status: None,
    poll_s: float = _POLL_S,
) -> dict[str, Any]:
    """Wait until `count` series are live and filled; return `/local/status`.

    Raises: ServerError if it takes too long.
    """
    deadline = time.monotonic() + timeout_s
    with Client(server) as client:
        while True:
            server.check()
            status = client.status()
            note(status)
            live = sum(series["state"] == "live" for series in status["series"])
            if live >= count:
                return status
            if time.monotonic() > deadline:
                raise ServerError(f"only {live} of {count} series are live after {timeout_s:g} s")
            time.sleep(poll_s)


def memory_mb(pid: int) -> dict[str, float]:
    """Return resident memory now and at most, in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {
        "rss": int(fields["VmRSS"].split()[0]) * 1024 / 1e6,
        "peak": int(fields["VmHWM"].split()[0]) * 1024 / 1e6,
    }


def prefer(pid: int, priority: int = 1, *, inherits: bool = False) -> bool:
    """Let a process go before all other work of this machine, children excepted; False if that is not allowed.

    Shape: of two the one with the higher priority goes first; threads and children it starts later go first as well
        only if that `inherits`: without it a thread may be kept waiting with a lock in its hand.
    Niceness would not do: where sessions are groups of their own it counts only within one.
    """
    policy = os.SCHED_RR | (0 if inherits else os.SCHED_RESET_ON_FORK)
    try:
        for thread in os.listdir(f"/proc/{pid or os.getpid()}/task"):
            os.sched_setscheduler(int(thread), policy, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True


# --- reports -----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Describe where and when this ran."""
    cores = len(os.sched_getaffinity(0))
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    busy = os.getloadavg()[0]
    text = (
        f"{now}, {cores} cores, {platform.system()}, Python {platform.python_version()}, "
        f"load average at the start {busy:.2f}, nothing pinned"
    )
    return {"text": text, "time": now, "cores": cores, "load_average": busy}


def table(rows: list[list[str]]) -> str:
    """Return rows as a Markdown table, the first row its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def finish(result: dict[str, Any], path: str | None) -> None:
    """Write the figures into a file, if one was asked for."""
    if path:
        Path(path).write_text(json.dumps(result, indent=1) + "\n")


def run(main: Callable[[], int]) -> int:
    """Run a benchmark; what it started is ended on SIGTERM and on errors, too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return main()
    except ServerError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
