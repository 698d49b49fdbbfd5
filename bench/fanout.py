"""Measure what streams for clients cost: this gateway beside a bare broadcaster, in one run.

`python bench/fanout.py` takes some twelve minutes, needs Linux; bench/README-streams.md tells how to read the tables.
The upstream is `fanout_feed.py` over TLS, the clients are `fanout_clients.py`; each program that is compared has an
upstream and clients of its own, and only one of them is busy at a time. Exit code 0 only if everything was measured
and every event reached every client that listens to it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cache_servers
import servers
from cache_servers import Child
from servers import BENCH, ROOT, Server, ServerError

sys.path.insert(0, str(ROOT))

from resender.core.fanout.frames import deflated_frame, text_frame, wrapped

# What the gateway does by default, so the baseline does it, too.
PER_CONNECTION = 200
_LEAD_S = 1.0
_AFTER_S = 0.5
_READY_S = 30.0
# Above it the load is suspected rather than the server.
_BUSY = 0.85
_LATE_MS = 10.0
_OTHERS = 0.15
_MEMORY_CLIENTS = 1000
_SILENT_CLIENTS = 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many clients, each with so many of the streams.

    Shape: `silent` more streams are held, which bring nothing, by clients of their own.
    Units: `rate` events a second over all streams.
    """

    name: str
    clients: int
    each: int
    streams: int
    rate: int
    form: str = "ws"
    kind: str = "bookTicker"
    silent: int = 0
    targets: tuple[str, ...] = ("direct", "bare", "gateway")

    @property
    def listeners(self) -> int:
        """How many clients each stream has."""
        return self.clients * self.each // self.streams


SCENARIOS = {
    "many": Scenario("1,000 clients x 5 streams, 2,000 events/s", 1000, 5, 250, 2000),
    "one": Scenario("1 client x 400 streams, 5,000 events/s", 1, 400, 400, 5000, form="stream"),
    "held-50": Scenario("50 streams, 100 clients x 5", 100, 5, 50, 2000, targets=("bare", "gateway")),
    "held-2000-silent": Scenario(
        "50 streams and 1,950 silent, 100 clients x 5", 100, 5, 50, 2000, silent=1950, targets=("bare", "gateway")
    ),
    "held-2000": Scenario("2,000 streams, 100 clients x 200", 100, 200, 2000, 2000, targets=("bare", "gateway")),
    "deflate": Scenario(
        "1,000 clients x 5 streams of kline_1m, 2,000 events/s", 1000, 5, 250, 2000, kind="kline_1m",
        targets=("bare", "gateway", "gateway+deflate"),
    ),
}  # fmt: skip
PARTS = (*SCENARIOS, "memory", "frames")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one target.

    Units: seconds and milliseconds; `cpu_s` is the server's, `load_cpu_s` that of the clients' process and
        `feed_cpu_s` that of the upstream, `others_cpu_s` everybody else's on this machine; `late_ms` how late
        the upstream was with its events.
    """

    round: int
    target: str
    duration_s: float
    frames: int
    bytes: int
    reads: int
    cpu_s: float
    load_cpu_s: float
    feed_cpu_s: float
    others_cpu_s: float
    late_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / max(1, self.frames) * 1e6


@dataclass(slots=True)
class Target:
    """A program that is compared, with its upstream and its clients."""

    name: str
    server: Server | None
    feed: Child
    clients: Child

    def cpu_s(self) -> float:
        return self.server.cpu_s() if self.server is not None else 0.0


@dataclass(slots=True)
class Bench:
    """What all parts share. Shape: `is_preferred` tells that all programs go before other work."""

    folder: Path
    python: str
    options: argparse.Namespace
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    count: int = 0
    is_preferred: bool = True

    # --- programs --------------------------------------------------------------------------

    def _place(self, pid: int, *, is_server: bool) -> None:
        if self.options.prefer:
            self.is_preferred = cache_servers.prefer(pid) and self.is_preferred
        cores = sorted(os.sched_getaffinity(0))
        if self.options.pin and len(cores) > 1:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {cores[0]} if is_server else set(cores[1:]))

    def feed(self, stack: contextlib.ExitStack) -> tuple[Child, int, str]:
        """Start an upstream; return it, its port and what has to be trusted."""
        self.count += 1
        name = f"feed{self.count}"
        ca_file = str(servers.ca_file(self.folder, name))
        child = cache_servers.child(name, self.python, self.folder, "fanout_feed.py", ca_file)
        feed = stack.enter_context(child)
        self._place(feed.process.pid, is_server=False)
        return feed, feed.read()["port"], ca_file

    def clients(self, stack: contextlib.ExitStack) -> Child:
        self.count += 1
        child = cache_servers.child(f"clients{self.count}", self.python, self.folder, "fanout_clients.py")
        clients = stack.enter_context(child)
        clients.read()
        self._place(clients.process.pid, is_server=False)
        return clients

    def gateway(self, stack: contextlib.ExitStack, feed_port: int, **settings: str) -> Server:
        """Start the gateway; nothing but its spot streams is asked of it."""
        self.count += 1
        folder = self.folder / f"gateway{self.count}"
        folder.mkdir()
        # It trusts what was started before.
        (folder / "all-ca.pem").write_bytes(Path(servers.trust(self.folder)["SSL_CERT_FILE"]).read_bytes())
        nowhere = f"https://127.0.0.1:{feed_port}"
        urls = {f"UPSTREAM_{market}": nowhere for market in servers._UPSTREAM_SETTINGS}
        urls |= dict.fromkeys(("STREAM_SPOT", "STREAM_UM", "STREAM_CM"), f"wss://127.0.0.1:{feed_port}")
        wanted = {"MAX_STREAM_CLIENTS": "3000", **settings}
        command = None
        if self.options.profile:
            file = f"{self.options.profile}.{self.count}"
            command = [self.python, "-m", "cProfile", "-o", file, str(ROOT / "run.py")]
        server = stack.enter_context(
            cache_servers.gateway(self.python, folder, urls, settings=wanted, command=command)
        )
        self._place(server.process.pid, is_server=True)
        return server

    def bare(self, stack: contextlib.ExitStack, feed_port: int, streams: int, kind: str) -> Server:
        port = servers.free_port()
        command = [
            self.python, str(BENCH / "bare_broadcaster.py"), str(port), f"wss://127.0.0.1:{feed_port}",
            str(streams), kind, str(PER_CONNECTION),
        ]  # fmt: skip
        env = os.environ | servers.trust(self.folder)
        self.count += 1
        server = stack.enter_context(
            servers.started(f"bare{self.count}", command, port, self.folder, env=env)
        )
        self._place(server.process.pid, is_server=True)
        return server

    def target(self, stack: contextlib.ExitStack, name: str, wanted: Scenario) -> Target:
        """Start a program with its upstream and its clients, and wait until the streams are subscribed."""
        feed, port, ca_file = self.feed(stack)
        clients = self.clients(stack)
        command: dict[str, Any] = {
            "do": "open", "streams": wanted.streams, "kind": wanted.kind, "form": wanted.form,
        }  # fmt: skip
        if name == "direct":
            # One client that reads everything, over as many connections as the others have upstream.
            server, count = None, -(-wanted.streams // PER_CONNECTION)
            command |= {
                "ca_file": ca_file,
                "form": "stream",
                "each": wanted.streams // count,
                "clients": count,
            }
        else:
            if name == "bare":
                server = self.bare(stack, port, wanted.streams + wanted.silent, wanted.kind)
            else:
                is_deflated = name.endswith("+deflate")
                settings = {"STREAM_DEFLATE": "true"} if is_deflated else {}
                server = self.gateway(stack, port, **settings)
                command["deflate"] = is_deflated
            command |= {"each": wanted.each, "clients": wanted.clients}
        command["port"] = port if server is None else server.port
        clients.ask(json.dumps(command))
        if wanted.silent:
            each = wanted.silent // _SILENT_CLIENTS
            held = {"streams": wanted.streams + wanted.silent, "offset": wanted.streams, "each": each}
            clients.ask(json.dumps(command | held | {"clients": _SILENT_CLIENTS}))
        deadline = time.monotonic() + _READY_S
        while feed.ask('{"do": "subscribed"}') < wanted.streams + wanted.silent:
            if time.monotonic() > deadline:
                raise ServerError(f"{name} has not subscribed everything after {_READY_S:g} s")
            time.sleep(0.1)
        time.sleep(_LEAD_S)
        return Target(name, server, feed, clients)

    # --- measuring -------------------------------------------------------------------------

    def scenario(self, wanted: Scenario) -> list[Sample]:
        """Measure every target in turn, round after round."""
        samples: list[Sample] = []
        with contextlib.ExitStack() as stack:
            targets = [self.target(stack, name, wanted) for name in wanted.targets]
            for number in range(self.options.rounds):
                # Each round begins with another one, so that nobody always follows the same neighbour.
                shift = number % len(targets)
                for target in targets[shift:] + targets[:shift]:
                    print(f"{wanted.name}: round {number + 1}, {target.name}", file=sys.stderr)
                    samples.append(self.measure_quietly(number, target, wanted))
        for sample in samples:
            self._judge(sample, wanted)
        return samples

    def measure_quietly(self, number: int, target: Target, wanted: Scenario) -> Sample:
        """Measure while others leave the machine alone; the quietest of some tries if they do not."""
        tries: list[Sample] = []
        while len(tries) < self.options.tries:
            tries.append(self.measure(number, target, wanted))
            if tries[-1].others_cpu_s < _OTHERS * tries[-1].duration_s:
                break
        return min(tries, key=lambda sample: sample.others_cpu_s)

    def measure(self, number: int, target: Target, wanted: Scenario) -> Sample:
        clients, feed, seconds = target.clients, target.feed, self.options.seconds
        before = clients.ask('{"do": "total"}')
        length = seconds + _LEAD_S + _AFTER_S
        order = {"rate": wanted.rate, "seconds": length, "kind": wanted.kind, "streams": wanted.streams}
        feed.tell(json.dumps({"do": "steady", **order}))
        time.sleep(_LEAD_S)
        clients.ask('{"do": "begin"}')
        began, cpu, feed_cpu, busy = time.monotonic(), target.cpu_s(), feed.cpu_s(), _busy_s()
        time.sleep(seconds)
        cpu, feed_cpu, busy = target.cpu_s() - cpu, feed.cpu_s() - feed_cpu, _busy_s() - busy
        found = clients.ask('{"do": "end"}')
        duration = time.monotonic() - began
        sent = feed.read(length + 30)
        listeners = 1 if target.server is None else wanted.listeners
        deadline = time.monotonic() + 5
        while (arrived := clients.ask('{"do": "total"}') - before) < sent["sent"] * listeners:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if arrived != sent["sent"] * listeners:
            self.failures.append(f"{target.name}: {arrived} frames of {sent['sent']} x {listeners}")
        if found["closed"]:
            self.failures.append(f"{target.name}: {found['closed']}")
        return Sample(
            number, target.name, duration, found["frames"], found["bytes"], found["reads"], cpu,
            found["cpu_s"], feed_cpu, max(0.0, busy - cpu - feed_cpu - found["cpu_s"]), sent["late_ms"],
            found["p50_ms"], found["p99_ms"], found["p999_ms"], found["max_ms"],
        )  # fmt: skip

    def _judge(self, sample: Sample, wanted: Scenario) -> None:
        """Note where the load was at its limit: then a delay is not the server's."""
        limits = []
        if sample.load_cpu_s > _BUSY * sample.duration_s:
            limits.append(f"the clients took {sample.load_cpu_s / sample.duration_s:.0%} of a core")
        if (sample.load_cpu_s + sample.feed_cpu_s) > _BUSY * sample.duration_s and self.options.pin:
            limits.append("clients and upstream share a full core")
        if sample.late_ms > _LATE_MS:
            limits.append(f"the upstream was {sample.late_ms:.0f} ms late")
        if sample.cpu_s > _BUSY * sample.duration_s:
            limits.append("the server is saturated")
        if sample.others_cpu_s > _OTHERS * sample.duration_s:
            limits.append(f"other work took {sample.others_cpu_s / sample.duration_s:.0%} of a core")
        if limits:
            where = f"{wanted.name}, {sample.target}, round {sample.round + 1}"
            self.notes.append(f"{where}: {'; '.join(limits)}")

    def memory(self) -> dict[str, Any]:
        """Tell what an idle client with one subscription keeps resident."""
        found: dict[str, Any] = {}
        for name in ("bare", "gateway"):
            with contextlib.ExitStack() as stack:
                feed, port, _ = self.feed(stack)
                server = (
                    self.bare(stack, port, 400, "bookTicker") if name == "bare" else self.gateway(stack, port)
                )
                clients = self.clients(stack)
                command = {"do": "open", "port": server.port, "streams": 400, "each": 1}
                # The first ones bring in what all share: modules, tables, an upstream connection.
                clients.ask(json.dumps(command | {"clients": 400}))
                time.sleep(2)
                pid = server.process.pid
                sizes = [cache_servers.memory_mb(pid)["rss"]]
                for batch in range(2):
                    first = 400 + batch * _MEMORY_CLIENTS
                    clients.ask(json.dumps(command | {"clients": _MEMORY_CLIENTS, "first": first}), 120)
                    time.sleep(2)
                    sizes.append(cache_servers.memory_mb(pid)["rss"])
                each = [(b - a) * 1e3 / _MEMORY_CLIENTS for a, b in itertools.pairwise(sizes)]
                # The most they can grow to: an event has gone to each of them.
                feed.ask(
                    json.dumps(
                        {"do": "steady", "rate": 400, "seconds": 3, "kind": "bookTicker", "streams": 400}
                    )
                )
                time.sleep(1)
                after = cache_servers.memory_mb(pid)["rss"]
                used = (after - sizes[0]) * 1e3 / (2 * _MEMORY_CLIENTS)
                closed = clients.ask('{"do": "end"}')["closed"]
                if closed:
                    self.failures.append(f"memory, {name}: {closed}")
                found[name] = {"start_mb": sizes[0], "kb": each, "kb_after_events": used}
        return found


def _busy_s() -> float:
    """Return the CPU seconds all cores of this machine have worked."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) * servers._TICK_S


# --- frames in this process ------------------------------------------------------------------------


def frame_costs() -> list[dict[str, Any]]:
    """Tell what building a frame costs, plain and compressed, by kind of event."""
    levels = ",".join(
        f'["{63012 + i}.{i:02}000000","0.{28418 + i * 7919 % 61_000:05}000"]' for i in range(20)
    )
    ticker = ",".join(
        f'{{"e":"24hrMiniTicker","E":1634860800{i:03},"s":"S{i:04}USDT","c":"{i * 7}.{i:04}0000",'
        f'"o":"{i * 6}.51230000",'
        f'"h":"{i * 8}.01000000","l":"{i * 5}.99000000","v":"{i * 91}.00000000","q":"{i * 6007}.18000000"}}'
        for i in range(100)
    )
    kinds = {
        "bookTicker": '{"u":400900217,"s":"BTCUSDT","b":"63012.39000000","B":"0.28418000","a":"63012.40000000",'
        '"A":"1.53962000"}',
        "kline_1m": '{"e":"kline","E":1634860812345,"s":"BTCUSDT","k":{"t":1634860800000,"T":1634860859999,'
        '"s":"BTCUSDT","i":"1m","f":100,"L":200,"o":"63000.01000000","c":"63012.39000000","h":"63020.00000000",'
        '"l":"62999.99000000","v":"18.28418000","n":100,"x":false,"q":"1152311.21000000","V":"9.17012000",'
        '"Q":"577911.33000000","B":"0"}}',
        "depth20": f'{{"lastUpdateId":160,"bids":[{levels}],"asks":[{levels}]}}',
        "!miniTicker@arr, 100 symbols": f"[{ticker}]",
    }
    rows = []
    for kind, text in kinds.items():
        payload = text.encode()
        row: dict[str, Any] = {"kind": kind, "bytes": len(text_frame(payload))}
        row["deflated"] = len(deflated_frame(payload))
        for name, build in (
            ("raw_us", lambda p=payload: text_frame(p)),
            ("combined_us", lambda p=payload: text_frame(wrapped("btcusdt@bookTicker", p))),
            ("deflated_us", lambda p=payload: deflated_frame(p)),
        ):
            row[name] = _time_us(build)
        rows.append(row)
    return rows


def _time_us(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(400):
            work()
        best = min(best, time.perf_counter() - began)
    return best / 400 * 1e6


# --- the report ------------------------------------------------------------------------------------


def report(result: dict[str, Any], samples: dict[str, list[Sample]]) -> str:
    """Return the tables, in Markdown."""
    parts = [result["machine"]["text"], ""]
    for name, mine in samples.items():
        parts += [_figures(SCENARIOS[name], mine), ""]
    ratios = [["median (lowest to highest round)", "CPU per frame / bare", "p50 added ms", "p99 added ms"]]
    for name, mine in samples.items():
        for target in SCENARIOS[name].targets:
            if target not in ("bare", "direct"):
                ratios.append([f"{SCENARIOS[name].name}, {target}", *_against_bare(mine, target)])
    if len(ratios) > 1:
        parts += [cache_servers.table(ratios), ""]
    if "memory" in result:
        rows = [["resident memory", "before, MB", "kB a client, 1st 1,000", "2nd 1,000", "after events"]]
        for name, each in result["memory"].items():
            rows.append(
                [
                    name,
                    f"{each['start_mb']:.0f}",
                    *(f"{kb:.1f}" for kb in (*each["kb"], each["kb_after_events"])),
                ]
            )
        parts += [cache_servers.table(rows), ""]
    if "frames" in result:
        rows = [["a frame", "bytes", "deflated", "share", "raw µs", "combined µs", "deflated µs"]]
        for each in result["frames"]:
            rows.append(
                [
                    each["kind"],
                    f"{each['bytes']:,}",
                    f"{each['deflated']:,}",
                    f"{each['deflated'] / each['bytes']:.0%}",
                ]
                + [f"{each[name]:.1f}" for name in ("raw_us", "combined_us", "deflated_us")]
            )
        parts += [cache_servers.table(rows), ""]
    parts += [f"- {note}" for note in result["notes"]]
    return "\n".join(parts)


def _figures(wanted: Scenario, samples: list[Sample]) -> str:
    rows = [[wanted.name, "frames/s", "MB/s", "frames a read", "CPU µs/frame", "CPU of a core", "p50 ms", "p99 ms",
             "p99.9 ms", "clients' CPU", "upstream's", "others'"]]  # fmt: skip
    columns: list[tuple[Callable[[Sample], float], str]] = [
        (lambda s: s.frames / s.duration_s, ",.0f"),
        (lambda s: s.bytes / s.duration_s / 1e6, ".1f"),
        (lambda s: s.frames / max(1, s.reads), ".1f"),
        (lambda s: s.cpu_us, ".1f"),
        (lambda s: s.cpu_s / s.duration_s, ".0%"),
        (lambda s: s.p50_ms, ".2f"),
        (lambda s: s.p99_ms, ".2f"),
        (lambda s: s.p999_ms, ".2f"),
        (lambda s: s.load_cpu_s / s.duration_s, ".0%"),
        (lambda s: s.feed_cpu_s / s.duration_s, ".0%"),
        (lambda s: s.others_cpu_s / s.duration_s, ".0%"),
    ]
    for target in wanted.targets:
        mine = [sample for sample in samples if sample.target == target]
        if mine:
            cells = [format(statistics.median(value(s) for s in mine), form) for value, form in columns]
            rows.append([target, *cells])
    return cache_servers.table(rows)


def _against_bare(samples: list[Sample], target: str) -> list[str]:
    bare = {sample.round: sample for sample in samples if sample.target == "bare"}
    pairs = [(s, bare[s.round]) for s in samples if s.target == target and s.round in bare]
    if not pairs:
        return ["-", "-", "-"]

    def cell(values: list[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    return [
        cell([own.cpu_us / other.cpu_us for own, other in pairs if other.cpu_us]),
        cell([own.p50_ms - other.p50_ms for own, other in pairs]),
        cell([own.p99_ms - other.p99_ms for own, other in pairs]),
    ]


def main() -> int:
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        machine = cache_servers.machine()
        if options.pin:
            machine["text"] = machine["text"].replace(
                "nothing pinned", "server on one core, load on the others"
            )
        print(machine["text"], file=sys.stderr)
        bench = Bench(folder, servers.find_python(), options)
        samples = {name: bench.scenario(SCENARIOS[name]) for name in options.only if name in SCENARIOS}
        result: dict[str, Any] = {"machine": machine, "notes": bench.notes, "failures": bench.failures}
        if "memory" in options.only:
            result["memory"] = bench.memory()
        if "frames" in options.only:
            result["frames"] = frame_costs()
    if options.prefer and bench.is_preferred:
        machine["text"] += ", all before other work"
    print(report(result, samples))
    result["samples"] = {name: [asdict(sample) for sample in mine] for name, mine in samples.items()}
    cache_servers.finish(result, options.json)
    for failure in bench.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if bench.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=int, default=5, metavar="N", help="length of one measurement (default 5)"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), metavar="NAME,...",
                        help=f"measure only these: {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--tries", type=int, default=4, metavar="N",
                        help="measure again, so often at most, while other work disturbs (default 4)")  # fmt: skip
    parser.add_argument("--no-prefer", dest="prefer", action="store_false",
                        help="let other work of this machine disturb what is measured")  # fmt: skip
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let all share all cores")
    parser.add_argument(
        "--profile", metavar="FILE", help="profile the gateways with cProfile into FILE.<number>"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures into a file")
    options = parser.parse_args()
    unknown = [name for name in options.only if name not in PARTS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not 1 <= options.seconds <= 120 or not 1 <= options.rounds <= 50:
        parser.error("--seconds must lie between 1 and 120, --rounds between 1 and 50")
    return options


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
