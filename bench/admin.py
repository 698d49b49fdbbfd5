"""Measure whether the admin pages slow the gateway down: forwarding alone, and with them in use.

`python bench/admin.py` needs no argument and takes about two minutes; bench/README.md tells how to
read the table. It measures and reports. Exit code 0 only if everything was measured, every export
was whole and the event stream never paused.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import forward
import load
import servers
from servers import Server, ServerError
from upstream import SMALL_PATH

sys.path.insert(0, str(servers.ROOT))

from resender.store import LogRecord, open_repository

PASSWORD = "only for this benchmark"
ROWS = 100_000
GOAL = 1.3
TARGETS = ("idle", "dashboard", "dashboard+export")
CONNECTIONS = (1, 8)
# A dashboard is sent something every second.
_SILENCE_S = 3.0
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Units: seconds; `cpu_s` of the gateway; `exported` rows during it."""

    round: int
    target: str
    connections: int
    calls: int
    duration_s: float
    p50_s: float
    p99_s: float
    cpu_s: float
    exported: int


class Reader:
    """An admin answer, read in a thread of its own; counts lines as they come."""

    def __init__(self, server: Server, cookie: str, path: str) -> None:
        self.lines = 0
        self.longest_gap_s = 0.0
        self.error = ""
        self.is_over = False
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_S)
        self._connection.request("GET", path, headers={"Cookie": cookie})
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise ServerError(f"{path} was answered with {self._response.status}")
        self._thread = threading.Thread(target=self._read, name=path, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        last = time.monotonic()
        try:
            while data := self._response.read1(65536):
                now = time.monotonic()
                self.longest_gap_s = max(self.longest_gap_s, now - last)
                last = now
                self.lines += data.count(b"\n")
        except (OSError, http.client.HTTPException, AttributeError, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"
        self.is_over = True

    def wait(self) -> None:
        self._thread.join(_PATIENCE_S)

    def close(self) -> None:
        if (sock := self._connection.sock or self._response.fp) is not None:
            with contextlib.suppress(OSError):
                # The reading thread is inside: a shutdown wakes it, a close would not.
                raw = getattr(sock, "raw", None)
                (raw._sock if raw is not None else sock).shutdown(2)
        self.wait()
        self._connection.close()


def export(server: Server, cookie: str) -> Reader:
    return Reader(server, cookie, "/admin/api/logs/export")


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    machine = forward._machine()
    print(machine["text"], file=sys.stderr)
    samples: list[Sample] = []
    whole_s: float | None = None
    failures: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        try:
            python = servers.find_python()
            upstream = stack.enter_context(servers.upstream(python, folder))
            start = servers.gateway(python, folder, upstream.url, with_log=False, ADMIN_PASSWORD=PASSWORD)
            server = stack.enter_context(start)
            _fill_log(folder / "gateway" / "resender.db")
            cookie = _log_in(server)
            load.measure(server.url + SMALL_PATH, 8, 1, python)
            for number in range(options.rounds):
                shift = number % len(TARGETS)
                for target in TARGETS[shift:] + TARGETS[:shift]:
                    print(f"round {number + 1} of {options.rounds}: {target}", file=sys.stderr)
                    with _in_use(server, cookie, target) as exporting:
                        for connections in CONNECTIONS:
                            result = _measure(server, python, connections, options.seconds, exporting)
                            samples.append(Sample(number, target, connections, **result))
            print("one whole export, nothing else", file=sys.stderr)
            whole_s = _whole_export(server, cookie)
        except (ServerError, load.LoadError, OSError) as error:
            failures.append(str(error))
    if samples:
        print(report(samples, options, machine, whole_s))
    if options.json:
        result = {
            "machine": machine,
            "samples": [asdict(sample) for sample in samples],
            "whole_export_s": whole_s,
            "failures": failures,
        }
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return forward._fail(failures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=int, default=2, metavar="N", help="length of one measurement (default 2)"
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default 9)")
    parser.add_argument("--json", metavar="FILE", help="write every single measurement into a file")
    options = parser.parse_args()
    if not 1 <= options.seconds <= 600 or not 1 <= options.rounds <= 100:
        parser.error("--seconds must lie between 1 and 600, --rounds between 1 and 100")
    return options


def _fill_log(path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    paths = ("/api/v3/klines", "/api/v3/ticker/bookTicker", "/fapi/v1/klines", "/fapi/v1/order")
    records = [
        LogRecord(
            now_ms - ROWS + number, f"203.0.113.{number % 200}", "GET", "spot", paths[number % 4],
            200 if number % 50 else 429, 200, 12.5, 34_000, None if number % 50 else "Too many requests",
        )
        for number in range(ROWS)
    ]  # fmt: skip
    with open_repository(f"sqlite:///{path}") as repository:
        for begin in range(0, ROWS, 5000):
            repository.log_write(records[begin : begin + 5000])


def _log_in(server: Server) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_S)
    connection.request("POST", "/admin/api/login", json.dumps({"username": "root", "password": PASSWORD}))
    response = connection.getresponse()
    body = response.read()
    connection.close()
    for line in response.headers.get_all("Set-Cookie") or []:
        if line.startswith("resender_session="):
            return line.partition(";")[0]
    raise ServerError(f"no log-in: {response.status} {body[:200]!r}")


@contextlib.contextmanager
def _in_use(server: Server, cookie: str, target: str) -> Iterator[Reader | None]:
    """Have the admin pages used as `target` says, and check that they were.

    Raises: ServerError if a stream broke off, paused or ended before the measurement did.
    """
    if target == "idle":
        yield None
        return
    with contextlib.closing(Reader(server, cookie, "/admin/api/events")) as dashboard:
        if target == "dashboard":
            yield None
        else:
            with contextlib.closing(export(server, cookie)) as exporting:
                yield exporting
                if exporting.is_over:
                    raise ServerError(
                        f"the export was over too soon: {exporting.lines} lines {exporting.error}"
                    )
        if dashboard.is_over or dashboard.longest_gap_s > _SILENCE_S:
            raise ServerError(f"the event stream paused {dashboard.longest_gap_s:.1f} s {dashboard.error}")


def _measure(
    server: Server, python: str, connections: int, seconds: int, exporting: Reader | None
) -> dict[str, Any]:
    before, rows = server.cpu_s(), exporting.lines if exporting is not None else 0
    result = load.measure(server.url + SMALL_PATH, connections, seconds, python)
    exported = exporting.lines - rows if exporting is not None else 0
    return {"cpu_s": server.cpu_s() - before, "exported": exported, **asdict(result)}


def _whole_export(server: Server, cookie: str) -> float:
    """Take one export to its end; return how long it took.

    Raises: ServerError if rows are missing.
    """
    begun = time.monotonic()
    with contextlib.closing(export(server, cookie)) as exporting:
        exporting.wait()
        if exporting.lines != ROWS + 1:
            raise ServerError(f"the export had {exporting.lines} lines {exporting.error}")
    return time.monotonic() - begun


# --- the report ----------------------------------------------------------------------------------


def report(
    samples: list[Sample], options: argparse.Namespace, machine: dict[str, Any], whole_s: float | None
) -> str:
    """Return the table, in Markdown; ratios are the medians of the rounds' own ratios to idle."""
    rows = [["", "calls/s", "p50 ms", "p99 ms", "CPU cores", "rows/s exported", "rate / idle", "p99 / idle"]]
    for connections in CONNECTIONS:
        for target in TARGETS:
            found = [s for s in samples if (s.target, s.connections) == (target, connections)]
            if not found:
                continue
            middle = {
                "rate": statistics.median(s.calls / s.duration_s for s in found),
                "p50": statistics.median(s.p50_s for s in found) * 1e3,
                "p99": statistics.median(s.p99_s for s in found) * 1e3,
                "cpu": statistics.median(s.cpu_s / s.duration_s for s in found),
                "exported": statistics.median(s.exported / s.duration_s for s in found),
            }
            rows.append(
                [
                    f"{target}, {connections} conn.", f"{middle['rate']:,.0f}", f"{middle['p50']:.2f}",
                    f"{middle['p99']:.2f}", f"{middle['cpu']:.2f}", f"{middle['exported']:,.0f}",
                    _ratio(samples, target, connections, is_rate=True),
                    _ratio(samples, target, connections, is_rate=False),
                ]
            )  # fmt: skip
    parts = [
        machine["text"],
        f"Medians of {options.rounds} round(s), {options.seconds} s for each measurement; "
        f"the goal for p99 / idle is {GOAL}.",
        "",
        forward._table(rows),
    ]
    if whole_s is not None:
        parts += ["", f"With nothing else to do an export of {ROWS:,} rows took {whole_s:.1f} s."]
    return "\n".join(parts)


def _ratio(samples: list[Sample], target: str, connections: int, *, is_rate: bool) -> str:
    by_key = {(s.round, s.target): s for s in samples if s.connections == connections}
    found = []
    for number in sorted({s.round for s in samples}):
        one, idle = by_key.get((number, target)), by_key.get((number, "idle"))
        if one is None or idle is None:
            continue
        if is_rate:
            found.append((one.calls / one.duration_s) / (idle.calls / idle.duration_s))
        else:
            found.append(one.p99_s / idle.p99_s)
    if not found:
        return "-"
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


if __name__ == "__main__":
    sys.exit(main())
