"""Measure what forwarding costs: this gateway beside its baselines, in one run.

`python bench/forward.py` needs no argument and takes about six minutes; bench/README.md tells
how to read the tables. It measures and reports; servers.py starts the programs, load.py calls them.
Exit code 0 only if everything asked for was measured (a missing nginx is no failure).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import load
import servers
from servers import NotInstalled, Server, ServerError
from upstream import HANDSHAKES_PATH, LARGE_BODY, LARGE_PATH, SMALL_BODY, SMALL_PATH

# What the connections to the upstream are, by the end of a target's name: TLS and kept unless said.
UPSTREAMS: dict[str, dict[str, Any]] = {
    "": {},
    "plain": {"is_plain": True},
    "new": {"options": ("--close",)},
    "full": {"options": ("--close", "--no-tickets")},
}
# Each call has a connection, so a TLS handshake of its own.
NEW_EACH_CALL = ("new", "full")
TARGETS = (
    "direct", "nginx", "bare", "gateway", "gateway+log",
    "direct-plain", "bare-plain", "gateway-plain",
    "bare-new", "gateway-new", "bare-full", "gateway-full",
)  # fmt: skip
LARGE_SECONDS = 1
# Label -> path and connections; the order within a target's turn.
CASES = {"c1": (SMALL_PATH, 1), "c8": (SMALL_PATH, 8), "large": (LARGE_PATH, 1)}


def kind_of(target: str) -> str:
    """Return the kind of its upstream, a key of UPSTREAMS."""
    return target.partition("-")[2]


def peer_of(target: str, name: str) -> str:
    """Return the target `name` that has the same kind of upstream."""
    kind = kind_of(target)
    return f"{name}-{kind}" if kind else name


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one target.

    Shape: `handshakes` its upstream has seen meanwhile, `resumed` those of them that resumed a
        session; counted only where each call makes one.
    Units: seconds; `cpu_s` is the server process's.
    """

    round: int
    target: str
    case: str
    calls: int
    duration_s: float
    p50_s: float
    p99_s: float
    cpu_s: float
    handshakes: int = 0
    resumed: int = 0

    @property
    def rate(self) -> float:
        return self.calls / self.duration_s

    @property
    def wall_us(self) -> float:
        return self.duration_s / self.calls * 1e6

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.calls * 1e6


class Samples:
    """All measurements of a run, and the figures drawn from them."""

    def __init__(self) -> None:
        self.all: list[Sample] = []

    def median(self, target: str, case: str, value: Callable[[Sample], float]) -> float | None:
        found = [value(sample) for sample in self.all if (sample.target, sample.case) == (target, case)]
        return statistics.median(found) if found else None

    def ratios(self, target: str, case: str, *, cpu: bool) -> list[float]:
        """Return, for each round, the cost of `target` as a multiple of its bare forwarder's.

        Shape: by wall time the cost of a call is its time less that of a direct call; by CPU it is
            the time of the server process. Both sides come from the same round.
        """
        by_key = {(s.round, s.target): s for s in self.all if s.case == case}
        found = []
        for number in sorted({sample.round for sample in self.all}):
            own, bare = by_key.get((number, target)), by_key.get((number, peer_of(target, "bare")))
            direct = by_key.get((number, peer_of(target, "direct")))
            if own is None or bare is None:
                continue
            if cpu and bare.cpu_us > 0:
                found.append(own.cpu_us / bare.cpu_us)
            elif not cpu and direct is not None and bare.wall_us > direct.wall_us:
                found.append((own.wall_us - direct.wall_us) / (bare.wall_us - direct.wall_us))
        return found


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    samples, failures = Samples(), []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        machine = _machine()
        print(machine["text"], file=sys.stderr)
        try:
            python = servers.find_python()
            upstreams, running = _start(stack, folder, python, options.only, failures)
        except ServerError as error:
            return _fail([str(error)])
        turns = [name for name in options.only if name in running]
        for name in list(turns):
            if not _try(partial(_prepare, running[name], python), name, failures):
                turns.remove(name)
        for number in range(options.rounds):
            # Each round begins with another one, so that nobody always follows the same neighbour.
            shift = number % len(turns) if turns else 0
            for name in turns[shift:] + turns[:shift]:
                print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
                upstream = upstreams[kind_of(name)]
                work = partial(_turn, samples, number, running[name], upstream, options.seconds, python)
                if not _try(work, name, failures):
                    turns = [other for other in turns if other != name]
        log = None
        if "gateway+log" in turns:
            with contextlib.suppress(OSError, ServerError):
                log = running["gateway+log"].log_samples()
    print(report(samples, options, machine, log))
    if options.json:
        result = {
            "machine": machine,
            "seconds": options.seconds,
            "rounds": options.rounds,
            "load": load.generator(),
            "log_rows": log,
            "failures": failures,
            "samples": [asdict(sample) for sample in samples.all],
        }
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return _fail(failures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=int, default=2, metavar="N", help="length of one measurement (default 2)"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument("--json", metavar="FILE", help="write every single measurement into a file")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(TARGETS),
        metavar="NAME,...",
        help=f"measure only these: {', '.join(TARGETS)} (ratios need direct and bare)",
    )
    options = parser.parse_args()
    unknown = [name for name in options.only if name not in TARGETS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if not 1 <= options.seconds <= 600 or not 1 <= options.rounds <= 100:
        parser.error("--seconds must lie between 1 and 600, --rounds between 1 and 100")
    options.only = [name for name in TARGETS if name in options.only]
    return options


def _start(
    stack: contextlib.ExitStack, folder: Path, python: str, only: list[str], failures: list[str]
) -> tuple[dict[str, Server], dict[str, Server]]:
    """Start the upstreams, by kind, and the targets, by name."""
    upstreams = {}
    for kind in sorted({kind_of(name) for name in only}):
        name = f"direct-{kind}" if kind else "direct"
        upstreams[kind] = stack.enter_context(servers.upstream(python, folder, name=name, **UPSTREAMS[kind]))
    running = {}
    for name in only:
        url = upstreams[kind_of(name)].url
        program = name.partition("-")[0]
        if program == "direct":
            running[name] = upstreams[kind_of(name)]
            continue
        try:
            if program == "nginx":
                made = servers.nginx(folder, url)
            elif program == "bare":
                made = servers.bare(python, folder, url, name=name)
            else:
                made = servers.gateway(python, folder, url, with_log=program == "gateway+log", name=name)
            running[name] = stack.enter_context(made)
        except NotInstalled as missing:
            print(f"note: {missing}, so it is left out", file=sys.stderr)
        except (ServerError, OSError) as error:
            failures.append(f"{name}: {error}")
    return upstreams, running


def _try(work: Callable[[], None], name: str, failures: list[str]) -> bool:
    try:
        work()
    except (load.LoadError, ServerError, OSError) as error:
        failures.append(f"{name}: {error}")
        print(f"{name} failed: {error}", file=sys.stderr)
        return False
    return True


def _prepare(server: Server, python: str) -> None:
    """Prove that the right bytes come back, then warm up."""
    for path, expected in ((SMALL_PATH, SMALL_BODY), (LARGE_PATH, LARGE_BODY)):
        with server.get(path) as response:
            if response.read() != expected or response.headers["x-mbx-used-weight-1m"] != "2":
                raise ServerError(f"{server.name} does not hand down what the upstream answered")
    load.measure(server.url + SMALL_PATH, 8, 1, python)


def _turn(samples: Samples, number: int, server: Server, upstream: Server, seconds: int, python: str) -> None:
    is_new = kind_of(server.name) in NEW_EACH_CALL
    for case, (path, connections) in CASES.items():
        if is_new and case == "large":
            continue
        server.drain()
        counted = _handshakes(upstream) if is_new else {}
        before = server.cpu_s()
        length = LARGE_SECONDS if case == "large" else seconds
        result = load.measure(server.url + path, connections, length, python)
        server.drain()
        cpu_s = server.cpu_s() - before
        sample = Sample(number, server.name, case, cpu_s=cpu_s, **asdict(result))
        if is_new:
            now = _handshakes(upstream)
            # Asking was one more, which resumes nothing.
            made, resumed = now["made"] - counted["made"] - 1, now["resumed"] - counted["resumed"]
            if made < result.calls:
                raise ServerError(f"{server.name} made {made} handshakes for {result.calls} calls")
            sample = replace(sample, handshakes=made, resumed=resumed)
        samples.all.append(sample)


def _handshakes(upstream: Server) -> dict[str, int]:
    with upstream.get(HANDSHAKES_PATH) as response:
        found: dict[str, int] = json.load(response)
    return found


def _machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    busy = os.getloadavg()[0]
    text = (
        f"{now}, {cores} cores, {platform.system()}, Python {platform.python_version()}, "
        f"load average at the start {busy:.2f}, calls made by {load.generator()}, nothing pinned"
    )
    return {"text": text, "time": now, "cores": cores, "load_average": busy}


# --- the report ----------------------------------------------------------------------------------


def report(
    samples: Samples, options: argparse.Namespace, machine: dict[str, Any], log: dict[str, float] | None
) -> str:
    """Return the tables, in Markdown."""
    measured = {sample.target for sample in samples.all}
    names = [name for name in TARGETS if name in measured]
    parts = [
        machine["text"],
        f"Medians of {options.rounds} round(s), {options.seconds} s for each small-body measurement.",
        "",
    ]
    kept = [name for name in names if kind_of(name) not in NEW_EACH_CALL]
    if kept:
        parts += [_figures(samples, kept), ""]
    new = [name for name in names if kind_of(name) in NEW_EACH_CALL]
    if new:
        parts += ["A new TLS connection to the upstream for each call:", "", _new(samples, new), ""]
    parts += [
        "Own cost per call as a multiple of the bare forwarder's, median (lowest to highest round):",
        "",
        _ratios(samples, [name for name in names if not name.startswith("direct")]),
    ]
    if log is not None:
        parts += ["", f"Request log: {log['written']:.0f} rows written, {log['dropped']:.0f} dropped."]
    return "\n".join(parts)


Column = tuple[str, str, Callable[[Sample], float], str]


def _small(what: str = "calls/s") -> list[Column]:
    columns: list[Column] = []
    for case in ("c1", "c8"):
        connections = f"{CASES[case][1]} conn."
        columns += [
            (f"{connections}: {what}", case, lambda s: s.rate, ",.0f"),
            ("p50 ms", case, lambda s: s.p50_s * 1e3, ".2f"),
            ("p99 ms", case, lambda s: s.p99_s * 1e3, ".2f"),
            ("CPU µs/call", case, lambda s: s.cpu_us, ".0f"),
        ]
    return columns


def _new(samples: Samples, names: list[str]) -> str:
    columns = _small("handshakes/s")
    columns += [
        ("calls/s per core", "c8", lambda s: s.calls / max(s.cpu_s, 1e-9), ",.0f"),
        ("resumed", "c8", lambda s: s.resumed / s.handshakes, ".0%"),
    ]
    return _medians(samples, names, columns)


def _figures(samples: Samples, names: list[str]) -> str:
    columns = _small()
    columns += [
        ("calls/s per core", "c8", lambda s: s.calls / max(s.cpu_s, 1e-9), ",.0f"),
        ("1 MiB: MB/s", "large", lambda s: s.rate * len(LARGE_BODY) / 1e6, ",.0f"),
        ("CPU ms/MiB", "large", lambda s: s.cpu_us / 1e3, ".2f"),
    ]
    return _medians(samples, names, columns)


def _medians(samples: Samples, names: list[str], columns: list[Column]) -> str:
    def cell(name: str, case: str, value: Callable[[Sample], float], form: str) -> str:
        number = samples.median(name, case, value)
        return "-" if number is None else format(number, form)

    rows = [["", *(title for title, *_ in columns)]]
    rows += [[name, *(cell(name, case, value, form) for _, case, value, form in columns)] for name in names]
    return _table(rows)


def _ratios(samples: Samples, names: list[str]) -> str:
    def cell(name: str, case: str, cpu: bool) -> str:
        found = samples.ratios(name, case, cpu=cpu)
        if not found:
            return "-"
        return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"

    rows = [["", "wall, 1 conn.", "wall, 8 conn.", "CPU, 1 conn.", "CPU, 8 conn.", "CPU, 1 MiB"]]
    for name in names:
        cells = [cell(name, case, cpu) for cpu in (False, True) for case in ("c1", "c8")]
        rows.append([name, *cells, cell(name, "large", True)])
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def _fail(failures: list[str]) -> int:
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
