"""Measure several processes on one port, and several nodes: what they bring, and what handing over costs.

`python bench/nodes.py` needs no argument and takes some six minutes; bench/README-nodes.md tells how to read the
tables. What is compared runs at the same time and is called in turn. It measures and reports. Exit code 0 only if
every call was answered with 200, every cached read was a hit, but for those in the moment of a candle's end, and
every frame came to every client.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cache_load
import cache_servers
import load
import nodes_hop
import nodes_lag
import nodes_leases
import servers
from cache_servers import Client
from servers import NotInstalled, Server, ServerError
from upstream import SMALL_PATH

WORKERS = (1, 2)
CONNECTIONS = 32
SYMBOL = "BTCUSDT"
PRELOAD = f"spot:{SYMBOL}@1m,bookTicker"
# Title, path, whether it is answered out of memory.
CASES = (
    ("forwarded", SMALL_PATH, False),
    ("bookTicker from memory", f"/api/v3/ticker/bookTicker?symbol={SYMBOL}", True),
    ("100 candles from memory", f"/api/v3/klines?symbol={SYMBOL}&interval=1m&limit=100", True),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Units: `rate` calls a second; `cpu_us` of all processes of the gateway, for each call."""

    case: str
    workers: int
    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


def main() -> int:
    options = _options()
    python = servers.find_python()
    failures: list[str] = []
    tables: list[str] = []
    print(cache_servers.machine()["text"], file=sys.stderr)
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="resender-bench-") as name:
            try:
                table, problems = _PARTS[part](python, Path(name), options)
            except (ServerError, NotInstalled, load.LoadError, OSError) as error:
                table, problems = "", [str(error)]
        tables += [table] if table else []
        failures += [f"{part}: {problem}" for problem in problems]
    print("\n\n".join(tables))
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _workers(python: str, folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(python, folder))
        venue = stack.enter_context(cache_servers.exchange(python, folder, spot_symbols=2, um_symbols=2))
        forwarding = {
            count: stack.enter_context(
                servers.gateway(
                    python, folder, upstream.url, with_log=False, name=f"forward-{count}",
                    WORKERS=str(count), CACHE_ENABLED="false",
                )
            )
            for count in WORKERS
        }  # fmt: skip
        reading = {
            count: stack.enter_context(_reading(python, folder, venue.urls, count)) for count in WORKERS
        }
        for number in range(options.rounds + 1):  # the first warms up
            for title, path, is_cached in CASES:
                running = reading if is_cached else forwarding
                for count in WORKERS if number % 2 else WORKERS[::-1]:
                    sample = _measure(title, count, running[count], path, options.seconds, python)
                    samples += [sample] if number else []
    return _report(samples), []


def _lag(python: str, folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    lag = nodes_lag.Lag(
        python, folder, seconds=options.seconds, tries=options.tries, is_preferred=options.prefer
    )
    lag.run(list(nodes_lag.TARGETS), options.rounds, options.profile)
    if options.prefer and not lag.is_preferred:
        print("lag: other work could not be made to wait", file=sys.stderr)
    return lag.report(), lag.failures


def _hop(python: str, folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    samples = nodes_hop.run(
        python, folder,
        rounds=options.rounds, seconds=options.seconds, tries=options.tries, profile=options.profile,
    )  # fmt: skip
    return nodes_hop.report(samples), []


def _leases(python: str, folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    return nodes_leases.report(nodes_leases.run(python, folder, calls=options.calls)), []


_PARTS: dict[str, Callable[[str, Path, argparse.Namespace], tuple[str, list[str]]]] = {
    "workers": _workers, "lag": _lag, "hop": _hop, "leases": _leases,
}  # fmt: skip


@contextlib.contextmanager
def _reading(python: str, folder: Path, urls: dict[str, str], count: int):  # type: ignore[no-untyped-def]
    own = folder / f"read-{count}"
    own.mkdir()
    for file in folder.glob("*-ca.pem"):
        (own / file.name).write_bytes(file.read_bytes())
    settings = {"WORKERS": str(count), "LOG_LEVEL": "WARNING"}
    with cache_servers.gateway(python, own, urls, preload=PRELOAD, settings=settings) as server:
        for title, path, is_cached in CASES:
            if is_cached:
                # Each worker has some of so many connections.
                for _ in range(16):
                    with Client(server) as client:
                        client.hit(path, patience_s=30.0)
                print(f"{count} worker(s): {title} is there", file=sys.stderr)
        yield server


def _measure(title: str, count: int, server: Server, path: str, seconds: int, python: str) -> Sample:
    began_s = _all_cpu_s(server)
    found = cache_load.measure(server.url + path, CONNECTIONS, seconds, python, headers={})
    used_s = _all_cpu_s(server) - began_s
    return Sample(
        title, count, found.calls / found.duration_s, used_s / found.calls * 1e6,
        found.p50_s * 1000, found.p99_s * 1000,
    )  # fmt: skip


def _all_cpu_s(server: Server) -> float:
    """Return the CPU seconds of the parent, its workers and their Redis."""
    return server.cpu_s()


def _report(samples: list[Sample]) -> str:
    lines = [
        "| what | workers | calls/s | CPU a call | p50 | p99 | as much per core used |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for title, _, _ in CASES:
        alone: float | None = None
        for count in WORKERS:
            mine = [one for one in samples if (one.case, one.workers) == (title, count)]
            cpu_us = statistics.median(one.cpu_us for one in mine)
            alone = alone or cpu_us
            lines.append(
                f"| {title} | {count} | {statistics.median(one.rate for one in mine):,.0f} | {cpu_us:.0f} us "
                f"| {statistics.median(one.p50_ms for one in mine):.2f} ms "
                f"| {statistics.median(one.p99_ms for one in mine):.2f} ms | {count * alone / cpu_us:.2f} |"
            )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument(
        "--seconds", type=int, default=2, metavar="N", help="length of one measurement (default 2)"
    )
    parser.add_argument("--calls", type=int, default=1000, metavar="N",
                        help="calls to each pair of nodes while leases are counted (default 1000)")  # fmt: skip
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(_PARTS), metavar="NAME,...",
                        help=f"measure only these: {', '.join(_PARTS)}")  # fmt: skip
    parser.add_argument("--tries", type=int, default=3, metavar="N",
                        help="measure lag and hop again while others disturb (default 3)")  # fmt: skip
    parser.add_argument("--no-prefer", dest="prefer", action="store_false",
                        help="let other work of this machine disturb the lag")  # fmt: skip
    parser.add_argument("--profile", default="", metavar="FILE",
                        help="profile the nodes of lag and hop with cProfile into FILE.<name>")  # fmt: skip
    options = parser.parse_args()
    unknown = [name for name in options.only if name not in _PARTS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(_PARTS)}")
    if not 1 <= options.calls <= nodes_leases.MOST_CALLS:
        parser.error(f"--calls must lie between 1 and {nodes_leases.MOST_CALLS}")
    return options


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
