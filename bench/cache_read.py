"""Measure what an answer out of memory costs: this gateway beside a bare Tornado delegate.

`python bench/cache_read.py` needs no argument and takes about 3 minutes; bench/README-cache.md
tells how to read the tables. It measures and reports. Exit code 0 only if every answer of the
gateway was a hit, but for those that came in the moment of a candle's end (their number is shown).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cache_load
import cache_servers
import load
import servers
from cache_servers import Answer, Client
from servers import BENCH, Server, ServerError

SYMBOL = "BTCUSDT"
KLINES = f"/api/v3/klines?symbol={SYMBOL}&interval=1m&limit="
# The whole market whose day tickers are kept.
UM_SYMBOLS = 400
TARGETS = {
    "limit 100": f"{KLINES}100",
    "limit 500": f"{KLINES}500",
    "limit 1000": f"{KLINES}1000",
    "bookTicker": f"/api/v3/ticker/bookTicker?symbol={SYMBOL}",
    "depth 20": f"/api/v3/depth?symbol={SYMBOL}&limit=20",
    "depth 1000": f"/api/v3/depth?symbol={SYMBOL}&limit=1000",
    "aggTrades 1000": f"/api/v3/aggTrades?symbol={SYMBOL}&limit=1000",
    "24hr all": "/fapi/v1/ticker/24hr",
}
# What a call sends beside the usual headers: the consent to an age.
HEADERS = {"24hr all": {"Cache-Control": "max-age=5"}}
# Answers so small that nobody compresses them.
SMALL = ("bookTicker", "depth 20")
PRELOAD = f"spot:{SYMBOL}@1m,bookTicker,depth20,depth,aggTrade;um:*@ticker"
KEPT = 5 + UM_SYMBOLS
# The share of misses, all of them at a candle's end, above which the run counts as failed.
MOST_MISSES = 0.001


@dataclass(frozen=True, slots=True)
class Case:
    """What is called. `name` is a key of TARGETS."""

    name: str
    connections: int
    gzip: bool

    @property
    def title(self) -> str:
        return f"{self.name}{' gzip' if self.gzip else ''}, {self.connections} conn."


CASES = [Case(name, count, False) for name in TARGETS for count in (1, 8)]
CASES += [Case(name, 8, True) for name in TARGETS if name not in SMALL]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Units: seconds; `cpu_s` is the server process's, `body_bytes` on the wire."""

    round: int
    target: str
    case: str
    calls: int
    duration_s: float
    p50_s: float
    p99_s: float
    cpu_s: float
    body_bytes: int

    @property
    def rate(self) -> float:
        return self.calls / self.duration_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.calls * 1e6

    @property
    def mb_per_s(self) -> float:
        return self.rate * self.body_bytes / 1e6


def main() -> int:
    options = _options()
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        python = servers.find_python()
        machine = cache_servers.machine()
        print(machine["text"], file=sys.stderr)
        venue = stack.enter_context(
            cache_servers.exchange(python, folder, spot_symbols=5, um_symbols=UM_SYMBOLS)
        )
        gateway = stack.enter_context(cache_servers.gateway(python, folder, venue.urls, preload=PRELOAD))
        client = stack.enter_context(Client(gateway))
        _seed(client)
        cache_servers.wait_live(gateway, KEPT, 30.0)
        sizes = _copy_answers(client, folder)
        bare = stack.enter_context(_bare(python, folder))
        for server in (gateway, bare):
            _measure(server, CASES[1], 1, python, 0, sizes)
        counts_before, venue_before, begun = _counts(client), venue.counters(), time.monotonic()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            pair = (gateway, bare) if number % 2 == 0 else (bare, gateway)
            for case in options.cases:
                _hit(client, case.name, gzip=case.gzip)
                for server in pair:
                    samples.append(_measure(server, case, options.seconds, python, number, sizes))
                _hit(client, case.name, gzip=case.gzip)
        counts, venue_after, length_s = _counts(client), venue.counters(), time.monotonic() - begun
    events = sum(venue_after["frames"].values()) - sum(venue_before["frames"].values())
    counts = {name: counts[name] - counts_before[name] for name in counts}
    calls = sum(sample.calls for sample in samples if sample.target == "gateway")
    print(_report(samples, options, machine, counts, calls, events, length_s))
    result = {
        "machine": machine,
        "load": load.generator(),
        "counts": counts,
        "calls": calls,
        "events": events,
        "events_s": length_s,
        "samples": [asdict(sample) for sample in samples],
    }
    cache_servers.finish(result, options.json)
    if counts["hits"] + counts["misses"] < calls or counts["misses"] > MOST_MISSES * calls:
        print(f"not all answers were hits: {counts} of {calls} calls", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=1, help="length of one measurement (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--only", metavar="WORD", default="", help="only cases with this in their name")
    parser.add_argument("--json", metavar="FILE", help="write every single measurement into a file")
    options = parser.parse_args()
    options.cases = [case for case in CASES if options.only in case.title]
    if not options.cases:
        parser.error(f"--only: the cases are {', '.join(TARGETS)}")
    if not 1 <= options.seconds <= 60 or not 1 <= options.rounds <= 100:
        parser.error("--seconds must lie between 1 and 60, --rounds between 1 and 100")
    return options


def _seed(client: Client) -> None:
    """Let a forwarded answer pass: which fields a day ticker has, and their order, only REST tells."""
    deadline = time.monotonic() + 30.0
    while len(client.status()["series"]) < KEPT:
        if time.monotonic() > deadline:
            raise ServerError("the rules are not followed")
        time.sleep(0.25)
    client.get(TARGETS["24hr all"], headers=HEADERS["24hr all"])


def _hit(client: Client, name: str, *, gzip: bool) -> Answer:
    return client.hit(TARGETS[name], gzip=gzip, headers=HEADERS.get(name), patience_s=5.0)


def _copy_answers(client: Client, folder: Path) -> dict[tuple[str, bool], int]:
    """Put the gateway's own answers where the baseline finds them; return their sizes."""
    index: dict[str, dict[str, str]] = {}
    sizes: dict[tuple[str, bool], int] = {}
    for number, (name, target) in enumerate(TARGETS.items()):
        index[target] = {}
        for kind in ("plain", "gzip"):
            answer = _hit(client, name, gzip=kind == "gzip")
            is_packed = answer.headers.get("content-encoding") == "gzip"
            if kind == "gzip" and is_packed != (name not in SMALL):
                raise ServerError(f"{name} is {'' if is_packed else 'not '}compressed")
            file = f"{number}-{kind}"
            (folder / file).write_bytes(answer.body)
            index[target][kind] = file
            sizes[name, kind == "gzip"] = len(answer.body)
    (folder / "index.json").write_text(json.dumps(index))
    return sizes


def _bare(python: str, folder: Path) -> contextlib.AbstractContextManager[Server]:
    port = servers.free_port()
    command = [python, str(BENCH / "cache_bare.py"), str(port), str(folder)]
    return servers.started("bare", command, port, folder)


def _counts(client: Client) -> dict[str, int]:
    series = client.status()["series"]
    # An answer about the whole market is a hit of each of its rows.
    whole = [each for each in series if each["interval"] == "ticker"][1:]
    return {
        "hits": sum(each["hits"] for each in series) - sum(each["hits"] for each in whole),
        "misses": sum(sum(each["misses"].values()) for each in series),
    }


def _measure(
    server: Server, case: Case, seconds: int, python: str, number: int, sizes: dict[tuple[str, bool], int]
) -> Sample:
    before = server.cpu_s()
    headers = HEADERS.get(case.name, {}) | ({"Accept-Encoding": "gzip"} if case.gzip else {})
    try:
        found = cache_load.measure(
            server.url + TARGETS[case.name], case.connections, seconds, python, headers=headers
        )
    except load.LoadError as error:
        raise ServerError(f"{server.name}, {case.title}: {error}") from None
    cpu_s = server.cpu_s() - before
    size = sizes[case.name, case.gzip]
    return Sample(number, server.name, case.title, cpu_s=cpu_s, body_bytes=size, **asdict(found))


# --- the report --------------------------------------------------------------------------------


def _report(
    samples: list[Sample],
    options: argparse.Namespace,
    machine: dict[str, Any],
    counts: dict[str, int],
    calls: int,
    events: int,
    length_s: float,
) -> str:
    def median(target: str, case: Case, value: Callable[[Sample], float]) -> float:
        found = [value(s) for s in samples if (s.target, s.case) == (target, case.title)]
        return statistics.median(found)

    head = ["gateway", "answers/s", "p50 ms", "p99 ms", "MB/s", "CPU µs/answer", "answers/s per core"]
    rows = [[*head, "bare: answers/s", "CPU µs/answer"]]
    ratios = [["gateway / bare", "answers/s", "per CPU second", "worst round, CPU"]]
    for case in options.cases:
        rows.append(
            [
                case.title,
                f"{median('gateway', case, lambda s: s.rate):,.0f}",
                f"{median('gateway', case, lambda s: s.p50_s * 1e3):.2f}",
                f"{median('gateway', case, lambda s: s.p99_s * 1e3):.2f}",
                f"{median('gateway', case, lambda s: s.mb_per_s):,.0f}",
                f"{median('gateway', case, lambda s: s.cpu_us):.0f}",
                f"{1e6 / median('gateway', case, lambda s: s.cpu_us):,.0f}",
                f"{median('bare', case, lambda s: s.rate):,.0f}",
                f"{median('bare', case, lambda s: s.cpu_us):.0f}",
            ]
        )
        wall = _ratios(samples, case, lambda s: s.rate)
        cpu = _ratios(samples, case, lambda s: 1 / s.cpu_us)
        ratios.append(
            [case.title, f"{statistics.median(wall):.2f}", f"{statistics.median(cpu):.2f}", f"{min(cpu):.2f}"]
        )
    return "\n".join(
        [
            f"{machine['text']}, calls made by {load.generator()}",
            f"Medians of {options.rounds} round(s), {options.seconds} s for each measurement.",
            "",
            cache_servers.table(rows),
            "",
            cache_servers.table(ratios),
            "",
            f"{calls:,} measured calls of the gateway; its counters: {counts['hits']:,} hits, {counts['misses']} "
            f"misses. {events} stream events came meanwhile ({events / length_s:.1f}/s).",
        ]
    )


def _ratios(samples: list[Sample], case: Case, value: Callable[[Sample], float]) -> list[float]:
    """Return the gateway's figure as a multiple of the baseline's of the same round."""
    by_key = {(s.round, s.target): value(s) for s in samples if s.case == case.title}
    rounds = sorted({number for number, _ in by_key})
    return [by_key[number, "gateway"] / by_key[number, "bare"] for number in rounds]


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
