"""Measure what a small machine has to give: import time, memory at the start and with series, CPU of an idle gateway.

`python bench/small.py` needs no argument and takes about two minutes; bench/README-small.md tells how to read the
table. The gateway runs on one core, by its packages only where /tmp or another place has such an environment:
`--python FILE` names its Python. It measures and reports.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cache_servers
import servers
from servers import BENCH

INTERVALS = ("1m", "5m", "1h")
_WEIGHT = 10_000_000
_FILL_S = 150.0
_IMPORTS = 7
_CODE = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=servers.find_python(), help="Python of an environment to measure")
    parser.add_argument("--idle", type=int, default=30, help="seconds the idle gateway is watched")
    parser.add_argument("--symbols", default="100,400", help="how many, each with 3 intervals")
    options = parser.parse_args()
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = [["", "figure", "beside it"]]
    with tempfile.TemporaryDirectory(prefix="resender-bench-") as name:
        folder = Path(name)
        print(cache_servers.machine()["text"])
        whole = _import_s(options.python, folder, "import resender.cli.serve")
        bare = _import_s(options.python, folder, "import aiohttp, tornado.web, peewee, orjson")
        rows.append(
            ["import", f"{whole * 1000:.0f} ms", f"{bare * 1000:.0f} ms for aiohttp, Tornado, Peewee alone"]
        )
        with cache_servers.exchange(
            servers.find_python(),
            folder,
            spot_symbols=400,
            weight_limits={"spot": _WEIGHT},
            gzip=False,
            history=100,
        ) as venue:
            with cache_servers.gateway(options.python, folder, venue.urls) as gateway:
                time.sleep(12.0)  # until its loop has come to rest
                used, began = gateway.cpu_s(), time.monotonic()
                time.sleep(options.idle)
                share = (gateway.cpu_s() - used) / (time.monotonic() - began)
                rows.append(["idle", f"{share:.1%} of a core", "no client, no rule"])
                rows.append(["memory at the start", _memory(gateway.process.pid), ""])
            for count in (int(text) for text in options.symbols.split(",")):
                wanted = count * len(INTERVALS)
                # The sandbox's symbols are named by number.
                names = ",".join(venue_symbols(venue.urls, count))
                preload = f"spot:{names}@{','.join(INTERVALS)}"
                with cache_servers.gateway(options.python, folder, venue.urls, preload=preload) as gateway:
                    cache_servers.wait_live(gateway, wanted, _FILL_S, lambda status: None, poll_s=2.0)
                    time.sleep(2.0)
                    rows.append(
                        [f"memory with {wanted:,} series", _memory(gateway.process.pid), "1,500 candles each"]
                    )
    print(cache_servers.table(rows))
    return 0


def venue_symbols(urls: dict[str, str], count: int) -> list[str]:
    """Return the first symbols of the exchange."""
    import json
    import ssl
    import urllib.request

    context = ssl._create_unverified_context()
    with urllib.request.urlopen(f"{urls['UPSTREAM_API']}/api/v3/exchangeInfo", context=context) as answer:
        found = json.load(answer)
    return sorted(str(row["symbol"]) for row in found["symbols"])[:count]


def _import_s(python: str, folder: Path, code: str) -> float:
    """Return the median of some imports, with the code compiled already."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times = []
    for _ in range(_IMPORTS + 1):
        found = subprocess.run(
            [python, "-c", _CODE.format(code)],
            cwd=BENCH.parent, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        times.append(float(found.stdout))
    return statistics.median(times[1:])


def _memory(pid: int) -> str:
    found = cache_servers.memory_mb(pid)
    return f"{found['rss']:.0f} MB resident, {found['peak']:.0f} at most"


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
