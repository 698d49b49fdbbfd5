"""Measure what stream events cost, and how soon an answer shows them.

`python bench/ingest.py` needs no argument and takes about two minutes; bench/README-cache.md tells
how to read the tables. The exchange's streams are played by cache_feed.py, its REST side by the
sandbox. Exit code 0 only if everything was measured and every last event became visible.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cache_servers
import servers
from cache_feed import LEVELS_A_SIDE
from cache_servers import Child, Client
from servers import Server, ServerError

SYMBOLS = [f"SIM{number:03d}USDT" for number in range(1, 51)]
# Their books and trades are the feed's alone: the exchange has had no change and no trade of them for a while.
DEEP_SYMBOLS = [f"DEEP{number:03d}USDT" for number in range(1, 21)]
_STILL_MS = 600_000
PRELOAD = ";".join(f"{m}:SIM*@1m,bookTicker;{m}:DEEP*@depth,depth20,aggTrade" for m in ("spot", "um"))
MARKETS = {"spot": "/api/v3", "um": "/fapi/v1"}
# Best levels are known once the stream has brought them.
KEPT = 2 * (2 * len(SYMBOLS) + 2 * len(DEEP_SYMBOLS))
_SUFFIX = {
    "book": "bookTicker",
    "kline": "kline_1m",
    "diff": "depth@100ms",
    "partial": "depth20@100ms",
    "aggTrade": "aggTrade",
}
TITLES = {**_SUFFIX, "diff": "depth", "partial": "depth20"}
KINDS = [(market, kind) for kind in _SUFFIX for market in ("spot", "um")]
# Levels a frame tells of.
LEVELS = {"diff": 2 * LEVELS_A_SIDE, "partial": 40}


@dataclass(frozen=True, slots=True)
class Sample:
    """One saturation. Units: seconds; `cpu_s` is that of the process that reads the events."""

    round: int
    target: str
    market: str
    kind: str
    events: int
    duration_s: float
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.events * 1e6

    @property
    def rate(self) -> float:
        return self.events / self.duration_s

    @property
    def level_us(self) -> float:
        return self.cpu_us / LEVELS[self.kind]


def main() -> int:
    options = _options()
    samples: list[Sample] = []
    flows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        python = servers.find_python()
        machine = cache_servers.machine()
        print(machine["text"], file=sys.stderr)
        venue = stack.enter_context(
            cache_servers.exchange(
                python, folder,
                spot_symbols=[*SYMBOLS, *DEEP_SYMBOLS], um_symbols=[*SYMBOLS, *DEEP_SYMBOLS],
                still_symbols=DEEP_SYMBOLS, weight_limits={"spot": 10**7, "futures": 10**7},
                gaps=[[m, s, int(time.time() * 1000) - _STILL_MS, 1 << 50] for m in MARKETS for s in DEEP_SYMBOLS],
            )
        )  # fmt: skip
        feed = stack.enter_context(cache_servers.feed("feed", python, folder))
        address = f"wss://127.0.0.1:{feed.read()['port']}"
        urls = venue.urls | {"STREAM_SPOT": address, "STREAM_UM": address}
        # The fast stream server plays plain streams.
        settings = {"UM_KLINE_STREAM": "plain"}
        gateway = stack.enter_context(
            cache_servers.gateway(python, folder, urls, preload=PRELOAD, settings=settings)
        )
        cache_servers.wait_live(gateway, KEPT, 45.0)
        client = stack.enter_context(Client(gateway))
        shown = {market: _shown(client, market) for market in MARKETS}
        for market in MARKETS:
            if _ask(feed, do="know", market=market, symbols=shown[market]) != 3 * len(DEEP_SYMBOLS):
                raise ServerError("not all books and trades are subscribed")
        print("steady flows with reads beside them", file=sys.stderr)
        for rate in options.rates:
            flows.append(_flow(feed, gateway, rate, options))
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for market, kind in KINDS:
                samples.append(_saturate(feed, gateway, number, market, kind, options.seconds, client))
        client.close()
        gateway.process.terminate()
        gateway.process.wait(15)
        for market, kind in KINDS[::2]:
            samples += _bare(python, folder, market, kind, options, shown[market])
    print(_report(samples, flows, options, machine))
    result = {"machine": machine, "samples": [asdict(sample) for sample in samples], "flows": flows}
    cache_servers.finish(result, options.json)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=2, help="length of one saturation (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of saturation (default 3)")
    parser.add_argument("--flow-seconds", type=int, default=8, help="length of one steady flow (default 8)")
    parser.add_argument(
        "--rates",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[5000, 20000],
        help="events a second of the steady flows (default 5000,20000)",
    )
    parser.add_argument("--reads", type=int, default=200, help="reads a second beside them (default 200)")
    parser.add_argument("--json", metavar="FILE", help="write every single measurement into a file")
    options = parser.parse_args()
    if (
        not 1 <= options.seconds <= 60
        or not 1 <= options.rounds <= 100
        or not 1 <= options.flow_seconds <= 600
    ):
        parser.error("--seconds must lie between 1 and 60, --rounds 1 and 100, --flow-seconds 1 and 600")
    return options


def _ask(feed: Child, **command: Any) -> Any:
    return feed.ask(json.dumps(command), command.get("seconds", 0) + 30)


def _shown(client: Client, market: str) -> dict[str, Any]:
    """Return what REST shows of the symbols whose books and trades go on from there."""
    found = {}
    for symbol in DEEP_SYMBOLS:
        book = json.loads(client.get(f"{MARKETS[market]}/depth?symbol={symbol}&limit=1000").body)
        rows = json.loads(client.get(f"{MARKETS[market]}/aggTrades?symbol={symbol}&limit=1000").body)
        found[symbol] = {"bids": book["bids"], "asks": book["asks"], "trade_id": rows[-1]["a"]}
    return found


def _saturate(
    feed: Child, gateway: Server, number: int, market: str, kind: str, seconds: int, client: Client
) -> Sample:
    before = gateway.cpu_s()
    found = _ask(feed, do="saturate", market=market, kind=kind, seconds=seconds)
    cpu_s = gateway.cpu_s() - before
    for target, count in found["probes"].items():
        if str(count).encode() not in client.hit(target, patience_s=1.0).body:
            raise ServerError(f"{target} does not show its last event")
    return Sample(number, "gateway", market, kind, found["sent"], found["duration_s"], cpu_s)


def _bare(
    python: str,
    folder: Path,
    market: str,
    kind: str,
    options: argparse.Namespace,
    shown: dict[str, Any],
) -> list[Sample]:
    """Measure the baseline, on the same feed."""
    symbols = SYMBOLS if kind in ("book", "kline") else DEEP_SYMBOLS
    names = [f"{symbol.lower()}@{_SUFFIX[kind]}" for symbol in symbols]
    found = []
    with cache_servers.feed("feed-bare", python, folder) as feed:
        url = f"wss://127.0.0.1:{feed.read()['port']}/stream"
        with cache_servers.child("bare", python, folder, "cache_bare_ingest.py", url, *names) as bare:
            deadline = time.monotonic() + 10
            while _ask(feed, do="subscribed") < len(names):
                if time.monotonic() > deadline:
                    raise ServerError("the baseline does not subscribe")
                time.sleep(0.05)
            _ask(feed, do="know", market=market, symbols=shown)
            for number in range(options.rounds):
                before = bare.cpu_s()
                said = _ask(feed, do="saturate", market=market, kind=kind, seconds=options.seconds)
                cpu_s = bare.cpu_s() - before
                found.append(Sample(number, "bare", market, kind, said["sent"], said["duration_s"], cpu_s))
    return found


def _flow(feed: Child, gateway: Server, rate: int, options: argparse.Namespace) -> dict[str, Any]:
    before = gateway.cpu_s()
    address = f"127.0.0.1:{gateway.port}"
    found = _ask(
        feed, do="latency", gateway=address, rate=rate, reads=options.reads, seconds=options.flow_seconds,
    )  # fmt: skip
    return {"rate": rate, "cpu_s": gateway.cpu_s() - before, **found}


# --- the report --------------------------------------------------------------------------------


def _report(
    samples: list[Sample], flows: list[dict[str, Any]], options: argparse.Namespace, machine: dict[str, Any]
) -> str:
    rows = [
        [
            "saturation", "events", "events/s", "CPU µs/event", "events/s per core", "least", "bare: µs/event",
            "levels/s per core",
        ]
    ]  # fmt: skip
    for market, kind in KINDS:
        chosen = {
            name: [s for s in samples if (s.target, s.market, s.kind) == (name, market, kind)]
            for name in ("gateway", "bare")
        }
        cpu = [s.cpu_us for s in chosen["gateway"]]
        bare = [s.cpu_us for s in chosen["bare"]]
        rows.append(
            [
                f"{TITLES[kind]}, {market}",
                f"{sum(s.events for s in chosen['gateway']):,}",
                f"{statistics.median(s.rate for s in chosen['gateway']):,.0f}",
                f"{statistics.median(cpu):.1f}",
                f"{1e6 / statistics.median(cpu):,.0f}",
                f"{1e6 / max(cpu):,.0f}",
                f"{statistics.median(bare):.1f}" if bare else "-",
                f"{1e6 / statistics.median(s.level_us for s in chosen['gateway']):,.0f}"
                if kind in LEVELS
                else "-",
            ]
        )
    flow_rows = [
        ["event to visible answer", "probes", "p50 ms", "p99 ms", "max ms", "second reads", "CPU of a core"]
    ]
    for flow in flows:
        for title, wanted in (("bookTicker", False), ("klines limit 500", True)):
            times = sorted(seen for is_kline, seen, _, _ in flow["probes"] if is_kline == wanted)
            repeated = sum(tries - 1 for is_kline, _, _, tries in flow["probes"] if is_kline == wanted)
            if not times:
                continue
            flow_rows.append(
                [
                    f"{title}, {flow['sent'] / flow['duration_s']:,.0f} events/s",
                    str(len(times)),
                    f"{times[len(times) // 2] * 1e3:.2f}",
                    f"{times[len(times) * 99 // 100] * 1e3:.2f}",
                    f"{times[-1] * 1e3:.2f}",
                    str(repeated),
                    f"{flow['cpu_s'] / flow['duration_s']:.0%}",
                ]
            )
    skipped = sum(flow["skipped"] for flow in flows)
    return "\n".join(
        [
            machine["text"],
            f"Saturation: medians of {options.rounds} rounds of {options.seconds} s, {len(SYMBOLS)} symbols "
            f"({len(DEEP_SYMBOLS)} of books and trades); the last event of each was visible by HTTP afterwards. "
            "Target: 50,000 events/s per core, of books 50,000 changed levels.",
            "",
            cache_servers.table(rows),
            "",
            f"Steady flow with {options.reads} reads/s beside it ({skipped} left out because all readers were "
            "busy). Target: p99 below 5 ms at 5,000 events/s.",
            "",
            cache_servers.table(flow_rows),
        ]
    )


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
