"""Measure the cold start: 400 USD-M series from nothing, in weight and in minutes.

`python bench/cold_start.py` needs no argument and takes about a minute; bench/README-cache.md
tells how to read the table. To be short it runs with weight windows of 15 s on both sides instead
of a minute, with the limits of a minute: what is counted are windows. `--window 60` is real time.
Exit code 0 only if all series were filled and no limit was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cache_servers
import servers
from cache_servers import Exchange
from servers import BENCH, ServerError

sys.path.insert(0, str(BENCH.parent))

from resender.config import SETTINGS
from resender.core.binance.markets import Market
from resender.core.market.costs import DEFAULT_LIMITS, FUTURES_POOL, backfill_weight, kline_weight

DEPTH = 1500
KLINES = "/fapi/v1/klines"
LIMIT = DEFAULT_LIMITS[FUTURES_POOL]
SHARE = float(SETTINGS["BACKFILL_WEIGHT_SHARE"].default)


def main() -> int:
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        python = servers.find_python()
        machine = cache_servers.machine()
        print(machine["text"], file=sys.stderr)
        window_ms = options.window * 1000
        venue = stack.enter_context(
            cache_servers.exchange(python, folder, um_symbols=options.symbols, weight_window_s=options.window)
        )
        # A start in the middle of a window would count a part of one as a whole.
        time.sleep((window_ms - time.time() * 1000 % window_ms) / 1000)
        watch = _Watch(venue, window_ms)
        command = [python, str(BENCH / "cache_minute.py"), str(window_ms)]
        preload = "um:*@1m"
        settings = {"KLINE_DEPTH": str(DEPTH)}
        gateway = stack.enter_context(
            cache_servers.gateway(
                python, folder, venue.urls, preload=preload, settings=settings, command=command
            )
        )
        status = cache_servers.wait_live(
            gateway, options.symbols, 6 * options.window + 60, watch.note, poll_s=0.2
        )
        watch.note(status)
        cpu_s, counters = gateway.cpu_s(), venue.counters()
    result = _figures(watch, counters, options) | {"machine": machine, "cpu_s": cpu_s}
    print(_report(result, options))
    cache_servers.finish(result, options.json)
    if result["violations"] or result["most_in_a_window"] > LIMIT * SHARE:
        raise ServerError("the limits were broken")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--symbols", type=int, default=400, help="USD-M symbols, 1m each (default 400)")
    parser.add_argument("--window", type=int, default=15, help="seconds of a weight window (default 15)")
    parser.add_argument("--json", metavar="FILE", help="write the figures into a file")
    options = parser.parse_args()
    if not 1 <= options.symbols <= 2000 or not 10 <= options.window <= 60:
        parser.error("--symbols must lie between 1 and 2000, --window between 10 and 60")
    return options


class _Watch:
    """Notes how weight and series develop."""

    def __init__(self, venue: Exchange, window_ms: int) -> None:
        self._venue = venue
        self._window_ms = window_ms
        self.began = time.monotonic()
        self.windows: dict[int, int] = {}
        self.all_synced_s: float | None = None
        self.all_filled_s = 0.0

    def note(self, status: dict[str, Any]) -> None:
        now = time.time() * 1000
        used = self._venue.counters()["used_weight"][FUTURES_POOL]
        number = int(now // self._window_ms)
        self.windows[number] = max(self.windows.get(number, 0), used)
        elapsed = time.monotonic() - self.began
        states = [series["state"] for series in status["series"]]
        if states and self.all_synced_s is None and all(state in ("filling", "live") for state in states):
            self.all_synced_s = elapsed
        self.all_filled_s = elapsed


def _figures(watch: _Watch, counters: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    by_limit = {
        int(key.rpartition("=")[2]): count
        for key, count in counters["calls"].items()
        if key.startswith(KLINES)
    }
    klines = sum(kline_weight(Market.UM, limit) * count for limit, count in by_limit.items())
    least = options.symbols * backfill_weight(Market.UM, DEPTH)
    used = [weight for weight in watch.windows.values() if weight]
    # A full share in each window but the last, which takes what is left over and no time.
    least_windows = max(0, math.ceil(least / (LIMIT * SHARE)) - 1)
    return {
        "symbols": options.symbols,
        "window_s": options.window,
        "calls_by_limit": dict(sorted(by_limit.items())),
        "other_calls": {k: v for k, v in counters["calls"].items() if not k.startswith(KLINES)},
        "klines_weight": klines,
        "least_weight": least,
        "one_call_weight": options.symbols * kline_weight(Market.UM, DEPTH),
        "weight_by_window": used,
        "most_in_a_window": max([*used, counters["peak_weight"][FUTURES_POOL]]),
        "all_synced_windows": (watch.all_synced_s or 0.0) / options.window,
        "all_filled_windows": watch.all_filled_s / options.window,
        "least_windows": least_windows,
        "violations": counters["violations"],
    }


def _report(result: dict[str, Any], options: argparse.Namespace) -> str:
    share = LIMIT * SHARE
    calls = ", ".join(f"{count} of limit {limit}" for limit, count in result["calls_by_limit"].items())
    rows = [
        ["cold start", "measured", "computed minimum"],
        ["weight of the klines", f"{result['klines_weight']:,}", f"{result['least_weight']:,}"],
        ["the same in one call each", "-", f"{result['one_call_weight']:,}"],
        ["minutes until all are live", f"{result['all_synced_windows']:.2f}", "-"],
        [
            "minutes until all are full",
            f"{result['all_filled_windows']:.2f}",
            f"{result['least_windows']:.2f}",
        ],
        ["most weight in one minute", f"{result['most_in_a_window']:,}", f"{share:,.0f} allowed"],
    ]
    return "\n".join(
        [
            result["machine"]["text"],
            f"{result['symbols']} symbols x 1m x {DEPTH} candles on USD-M, {share:,.0f} of {LIMIT:,} weight a "
            f"minute. A minute of weight took {options.window} s here"
            + ("." if options.window == 60 else "; minutes in the table are such windows."),
            "",
            cache_servers.table(rows),
            "",
            f"Kline calls: {calls}. Weight of each window: {result['weight_by_window']}. "
            f"Other calls: {result['other_calls']}. CPU of the gateway: {result['cpu_s']:.1f} s.",
        ]
    )


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
