"""Measure what several processes on one port bring: forwarding and cached reads with 1 and with 2 workers.

`python bench/nodes.py` needs no argument and takes about a minute; bench/README-nodes.md tells how to read the table.
Both gateways run at the same time and are called in turn. It measures and reports. Exit code 0 only if every call was
answered with 200 and every cached read was a hit, but for those in the moment of a candle's end.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cache_load
import cache_servers
import load
import servers
from cache_servers import Client
from servers import Server, ServerError
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        python = servers.find_python()
        try:
            machine = cache_servers.machine()
            print(machine["text"], file=sys.stderr)
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
        except (ServerError, load.LoadError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(_report(samples))
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
