"""How much later does a frame of a market stream come to a client of a reader than to one of the collector itself?

Both clients hear the same frames at the same time, out of one collector. `control` has both at the collector: what
it shows is the measurement's own.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median as _middle
from typing import Any

import cache_servers
import nodes_servers
import servers
from cache_servers import Child
from fanout import _busy_s
from fanout_feed import stamp
from nodes_servers import BUSY_OTHERS
from servers import Server

STREAMS, RATE = 400, 5000
KIND = "bookTicker"
TARGET_MS = 5.0
_LEAD_S, _AFTER_S = 1.0, 0.5
_READERS = {
    "control": "second client of the collector",
    "worker": "worker of the same machine",
    "front": "front, a node of its own",
}
TARGETS = tuple(_READERS)


@dataclass(frozen=True, slots=True)
class Target:
    """A collector and a reader. Shape: pids; `others` are those that only have to be there."""

    name: str
    feed: Child
    ears: Child
    collector: int
    reader: int
    others: tuple[int, ...] = ()

    @property
    def pids(self) -> set[int]:
        return {self.feed.process.pid, self.ears.process.pid, self.collector, self.reader, *self.others}


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Units: delays in ms by share, `..._us` CPU for each frame, `others` of a core."""

    target: str
    frames: int
    near: dict[str, float]
    far: dict[str, float]
    added: dict[str, float]
    collector_us: float
    reader_us: float
    others: float
    late_ms: float


class Lag:
    """The measurement: its targets, and what was wrong."""

    def __init__(self, python: str, folder: Path, *, seconds: int, tries: int, is_preferred: bool) -> None:
        self._python = python
        self._folder = folder
        self._seconds = seconds
        self._tries = tries
        self.is_preferred = is_preferred
        self.failures: list[str] = []
        self.samples: list[Sample] = []

    def run(self, names: list[str], rounds: int, profile: str = "") -> None:
        """Start everything, and measure each target in turn, round after round."""
        with contextlib.ExitStack() as stack:
            targets = [self._start(stack, name, profile) for name in names]
            time.sleep(_LEAD_S)
            for number in range(rounds):
                shift = number % len(targets)
                for target in targets[shift:] + targets[:shift]:
                    print(f"lag: round {number + 1}, {target.name}", file=sys.stderr)
                    self.samples.append(self._measure_quietly(target))

    # --- programs --------------------------------------------------------------------------

    def _start(self, stack: contextlib.ExitStack, name: str, profile: str) -> Target:
        folder = self._folder / f"lag-{name}"
        folder.mkdir()
        ca_file = str(servers.ca_file(folder, "feed"))
        feed = stack.enter_context(
            cache_servers.child("feed", self._python, folder, "fanout_feed.py", ca_file)
        )
        port = feed.read()["port"]
        ears = stack.enter_context(cache_servers.child("ears", self._python, folder, "nodes_ears.py"))
        ears.read()
        urls = {f"UPSTREAM_{market}": f"https://127.0.0.1:{port}" for market in servers._UPSTREAM_SETTINGS}
        urls |= dict.fromkeys(("STREAM_SPOT", "STREAM_UM", "STREAM_CM"), f"wss://127.0.0.1:{port}")

        def node(name: str, **settings: str) -> Server:
            # Workers would all write into one file.
            is_profiled = profile and "WORKERS" not in settings
            command = nodes_servers.profiled(self._python, f"{profile}.{name}") if is_profiled else None
            return stack.enter_context(
                nodes_servers.node(self._python, folder, name, urls, settings, command=command)
            )

        others: tuple[int, ...] = ()
        if name == "front":
            redis = stack.enter_context(nodes_servers.redis_server(folder))
            collector = node("collector", REDIS_URL=redis.url)
            reader = node("front", REDIS_URL=redis.url, ROLES="front")
            pids = collector.process.pid, reader.process.pid
            others = (redis.server.process.pid,)
        elif name == "worker":
            collector = reader = node("workers", WORKERS="2")
            pids = nodes_servers.reader_pids(collector)
            main = collector.process.pid
            others = (main, *(pid for pid in nodes_servers.child_pids(main) if pid not in pids))
        else:
            collector = reader = node("alone")
            pids = collector.process.pid, collector.process.pid
        target = Target(name, feed, ears, *pids, others)
        if self.is_preferred:
            self.is_preferred = min(cache_servers.prefer(pid) for pid in target.pids)
        for server, pid in zip((collector, reader), pids, strict=True):
            words = {"do": "open", "port": server.port, "streams": STREAMS, "kind": KIND, "pid": pid}
            ears.ask(json.dumps(words))
        nodes_servers.until(lambda: feed.ask('{"do": "subscribed"}') >= STREAMS, f"{name} subscribes all")
        return target

    # --- measuring -------------------------------------------------------------------------

    def _measure_quietly(self, target: Target) -> Sample:
        """Measure while others leave the machine alone; the quietest of some tries if they do not."""
        tries: list[Sample] = []
        while len(tries) < self._tries:
            tries.append(self._measure(target))
            if tries[-1].others < BUSY_OTHERS:
                break
        return min(tries, key=lambda sample: sample.others)

    def _measure(self, target: Target) -> Sample:
        feed, ears = target.feed, target.ears
        ears.ask('{"do": "begin"}')
        length = _LEAD_S + self._seconds + _AFTER_S
        order = {"do": "steady", "rate": RATE, "seconds": length, "kind": KIND, "streams": STREAMS}
        feed.tell(json.dumps(order))
        time.sleep(_LEAD_S)
        first, began, busy = stamp(), time.monotonic(), _busy_s()
        cpu = {pid: nodes_servers.cpu_s(pid) for pid in target.pids}
        time.sleep(self._seconds)
        cpu = {pid: nodes_servers.cpu_s(pid) - before for pid, before in cpu.items()}
        last, duration, busy = stamp(), time.monotonic() - began, _busy_s() - busy
        sent = feed.read(length + 30)
        deadline = time.monotonic() + 5
        while (totals := ears.ask('{"do": "total"}')) != [sent["sent"]] * 2:
            if time.monotonic() > deadline:
                self.failures.append(f"{target.name}: {totals} frames of {sent['sent']}")
                break
            time.sleep(0.1)
        found: dict[str, Any] = ears.ask(json.dumps({"do": "found", "first": first, "last": last}))
        for problem in ("missing", "twice", "problems"):
            if found[problem]:
                self.failures.append(f"{target.name}: {problem}: {found[problem]}")
        frames = max(1, found["frames"])
        return Sample(
            target.name,
            found["frames"],
            found["near"],
            found["far"],
            found["added"],
            cpu[target.collector] / frames * 1e6,
            cpu[target.reader] / frames * 1e6,
            max(0.0, busy - sum(cpu.values())) / duration,
            sent["late_ms"],
        )

    # --- the report ------------------------------------------------------------------------

    def report(self) -> str:
        rows = [
            [
                f"{RATE:,} events/s, ms",
                "collector's client p50", "p99", "reader's p50", "p99", "added p50", "added p99",
                "lowest to highest", "p99.9", "CPU µs/frame: collector", "reader", "others' CPU",
            ]
        ]  # fmt: skip
        for name in _READERS:
            mine = [sample for sample in self.samples if sample.target == name]
            if not mine:
                continue
            p99 = [sample.added["p99"] for sample in mine]
            rows.append(
                [
                    _READERS[name],
                    *(f"{_middle([s.near[k] for s in mine]):.2f}" for k in ("p50", "p99")),
                    *(f"{_middle([s.far[k] for s in mine]):.2f}" for k in ("p50", "p99")),
                    *(f"{_middle([s.added[k] for s in mine]):.2f}" for k in ("p50", "p99")),
                    f"{min(p99):.2f} to {max(p99):.2f}",
                    f"{_middle([s.added['p999'] for s in mine]):.2f}",
                    f"{_middle([s.collector_us for s in mine]):.1f}",
                    "-" if name == "control" else f"{_middle([s.reader_us for s in mine]):.1f}",
                    f"{_middle([s.others for s in mine]):.0%}",
                ]
            )
        return cache_servers.table(rows)
