"""Measure the memory of a full cache, and what reading it adds.

`python bench/memory.py` needs no argument and takes about a minute; bench/README-cache.md tells
how to read the table. The gateway is a real process that fills itself through its own backfill
from the sandbox, serves, and is asked for every series. Exit code 0 only if all series came.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import cache_servers
import servers
from cache_servers import Client
from servers import BENCH, Server

sys.path.insert(0, str(BENCH.parent))

from resender.core.market.candles import Candle
from resender.core.market.klines import KlineSeries

INTERVALS = ("1m", "5m", "1h")
DEPTH = 1500
TARGET_MB = 450
# So much that the filling is bound by speed and not by weight, which cold_start.py measures.
_WEIGHT = 10_000_000
_FILL_S = 150.0
_REST_S = 2.0
_MINUTE_MS = 60_000


def main() -> int:
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        python = servers.find_python()
        machine = cache_servers.machine()
        print(machine["text"], file=sys.stderr)
        venue = stack.enter_context(
            cache_servers.exchange(
                python, folder,
                spot_symbols=options.symbols, weight_limits={"spot": _WEIGHT}, gzip=False, history=100,
            )
        )  # fmt: skip
        with cache_servers.gateway(python, folder, venue.urls) as idle:
            time.sleep(_REST_S)
            phases = [_phase("empty", idle)]
        preload = f"spot:*@{','.join(INTERVALS)}"
        settings = {"KLINE_DEPTH": str(DEPTH)}
        gateway = stack.enter_context(
            cache_servers.gateway(python, folder, venue.urls, preload=preload, settings=settings)
        )
        began, cpu_before = time.monotonic(), gateway.cpu_s()
        wanted = options.symbols * len(INTERVALS)
        progress = _Progress()
        status = cache_servers.wait_live(gateway, wanted, _FILL_S, progress.note, poll_s=2.0)
        fill = {"seconds": time.monotonic() - began, "cpu_s": gateway.cpu_s() - cpu_before}
        candles = sum(series["rows"] for series in status["series"])
        time.sleep(_REST_S)
        phases.append(_phase("filled and live", gateway))
        symbols = sorted({series["symbol"] for series in status["series"]})
        with Client(gateway) as client:
            row_bytes = _read_all(client, symbols, 1000, gzip=False)
            phases.append(_phase("each read once, limit 1000", gateway))
            _read_all(client, symbols, 1000, gzip=True)
            phases.append(_phase("each read once, limit 1000, gzip", gateway))
            for limit in (100, 500):
                _read_all(client, symbols, limit, gzip=True)
            phases.append(_phase("also limit 100 and 500, gzip", gateway))
            market = _whole_market(client, "1m", 200)
            phases.append(_phase("whole market, 1m, limit 200", gateway))
    fresh, later = _growth(round(row_bytes) - 1)
    phases.append(
        {
            "name": "the last, after hours (computed)",
            "rss": phases[-1]["rss"] + (later - fresh) * candles / 1e6,
            "peak": phases[-1]["peak"] + (later - fresh) * candles / 1e6,
        }
    )
    print(_report(phases, machine, candles, row_bytes, fill, market, wanted))
    result = {
        "machine": machine,
        "series": wanted,
        "candles": candles,
        "row_bytes": row_bytes,
        "fill": fill,
        "whole_market": market,
        "series_bytes_a_candle": {"filled": fresh, "after_hours": later},
        "phases": phases,
    }
    cache_servers.finish(result, options.json)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--symbols", type=int, default=400, help="symbols, each with 3 intervals (default 400)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures into a file")
    options = parser.parse_args()
    if not 1 <= options.symbols <= 2000:
        parser.error("--symbols must lie between 1 and 2000")
    return options


class _Progress:
    """Says on standard error how far the filling is."""

    def note(self, status: dict[str, Any]) -> None:
        live = sum(series["state"] == "live" for series in status["series"])
        rows = sum(series["rows"] for series in status["series"])
        print(f"filling: {live} series, {rows:,} candles", file=sys.stderr)


def _phase(name: str, server: Server) -> dict[str, Any]:
    return {"name": name, **cache_servers.memory_mb(server.process.pid)}


def _read_all(client: Client, symbols: list[str], limit: int, *, gzip: bool) -> float:
    """Read every series; return the mean bytes of a row, its comma included, if not compressed."""
    sizes = []
    for symbol in symbols:
        for interval in INTERVALS:
            target = f"/api/v3/klines?symbol={symbol}&interval={interval}&limit={limit}"
            answer = client.hit(target, gzip=gzip, patience_s=5.0)
            sizes.append((len(answer.body) - 1) / limit)
    return statistics.mean(sizes)


def _whole_market(client: Client, interval: str, limit: int) -> dict[str, float]:
    """Read all symbols in one call, three times."""
    target = f"/local/spot/klines?symbols=all&interval={interval}&limit={limit}"
    times, size = [], 0
    for _ in range(3):
        began = time.monotonic()
        answer = client.get(target, gzip=True)
        times.append(time.monotonic() - began)
        size = len(answer.body)
    return {"ms": statistics.median(times) * 1e3, "bytes": size, "limit": limit}


def _growth(row_bytes: int) -> tuple[float, float]:
    """Return what a series takes for each of DEPTH candles after its backfill, and hours later.

    Every candle that closes may let buffers grow, and no benchmark waits for hours: the same class
    is filled here by a read and by older rows, as the backfill does, and then by events.
    """

    def candle(number: int, is_final: bool = False) -> Candle:
        open_ms = 1_700_000_040_000 + number * _MINUTE_MS
        row = f'[{open_ms},"'.encode().ljust(row_bytes - 2, b"9") + b'"]'
        return Candle(open_ms, open_ms + _MINUTE_MS - 1, row, 1, is_final)

    count, after = 10, 2 * DEPTH
    series = [KlineSeries("1m", DEPTH) for _ in range(count)]
    tracemalloc.start()
    try:
        for each in series:
            latest = [candle(number) for number in range(DEPTH - 1000, DEPTH)]
            each.apply_read(latest, latest[-1].close_time + _MINUTE_MS, epoch=0)
            each.prepend([candle(number) for number in range(DEPTH - 1000)], latest[-1].close_time)
        del latest
        fresh = tracemalloc.get_traced_memory()[0]
        most = fresh
        for number in range(DEPTH, DEPTH + after):
            for each in series:
                each.apply_event(candle(number, is_final=True))
            most = max(most, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    if any(len(each) < DEPTH for each in series):
        raise servers.ServerError("the series in this process lost rows")
    return fresh / count / DEPTH, most / count / DEPTH


def _report(
    phases: list[dict[str, Any]],
    machine: dict[str, Any],
    candles: int,
    row_bytes: float,
    fill: dict[str, float],
    market: dict[str, float],
    wanted: int,
) -> str:
    rows = [["", "resident MB", "peak MB", "bytes a candle beyond empty"]]
    empty = phases[0]["rss"]
    for phase in phases:
        each = (phase["rss"] - empty) * 1e6 / candles
        rows.append(
            [phase["name"], f"{phase['rss']:.0f}", f"{phase['peak']:.0f}", f"{each:.0f}" if each else "-"]
        )
    return "\n".join(
        [
            machine["text"],
            f"{wanted} series, {candles:,} candles, {row_bytes:.0f} bytes a row as sent. Filled in "
            f"{fill['seconds']:.0f} s with {fill['cpu_s']:.0f} s of CPU. Target: below {TARGET_MB} MB in all.",
            "",
            cache_servers.table(rows),
            "",
            f"The whole market in one call (1m, limit {market['limit']}): {market['bytes'] / 1e6:.1f} MB in "
            f"{market['ms']:.0f} ms.",
        ]
    )


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
