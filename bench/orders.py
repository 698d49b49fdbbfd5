"""Measure what an order waits for when everything else is under way: this gateway beside a bare forwarder.

`python bench/orders.py` takes about six minutes and needs Linux; bench/README-streams.md tells how to read the table.
Signed orders go one after another, in turn through the gateway and through a bare forwarder whose loop has nothing
else to do, to the same canned upstream over TLS. Exit code 0 only if every order was answered with 200 and what was to
run beside them did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import admin
import cache_servers
import fanout
import servers
from boundary import Waiter
from cache_servers import Child
from servers import Server, ServerError

_SECRET, _KEY = b"0123456789abcdef" * 4, "k" * 64
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_SYMBOLS = 400
# 10 listeners each: the clients' process takes a part of the same two cores.
_STREAMS = 500
_POLLERS = 200
_POLL_S = 1.0
_WHOLE_S = 0.5
_PAUSE_S = 0.008
_LEADING = 100
_FILL_S = 200.0
# What runs beside the orders of each phase.
PHASES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "streams": ("streams",),
    "streams, polls": ("streams", "polls"),
    "streams, whole markets": ("streams", "whole"),
    "streams, backfill": ("streams", "fill"),
    "streams, export": ("streams", "export"),
    "everything": ("streams", "polls", "whole", "fill", "export"),
}


# --- beside the orders, in a process of its own -----------------------------------------------------


async def beside(port: int, symbols: list[str], what: list[str], interval: str) -> None:
    """Read whole markets, poll single series and have those of `interval` filled, until standard input ends."""
    counts: Counter[str] = Counter()

    async def poll(number: int) -> None:
        waiter = Waiter(port, None)
        symbol = quote(symbols[number % len(symbols)])
        await asyncio.sleep(number / _POLLERS * _POLL_S)
        while True:
            status, _ = await waiter.get(f"/fapi/v1/klines?symbol={symbol}&interval=1m&limit=100")
            counts[f"polled {status}"] += 1
            await asyncio.sleep(_POLL_S)

    async def whole() -> None:
        waiter = Waiter(port, None)
        while True:
            status, body = await waiter.get("/local/um/klines?symbols=all&interval=1m&limit=100")
            counts[f"whole markets {status}"] += 1
            counts["whole markets, MB"] += len(body) >> 20
            await asyncio.sleep(_WHOLE_S)

    async def fill() -> None:
        waiter = Waiter(port, None)
        for symbol in symbols:
            status, _ = await waiter.get(
                f"/fapi/v1/klines?symbol={quote(symbol)}&interval={interval}&limit=500"
            )
            counts[f"new series {status}"] += 1
            await asyncio.sleep(0.03)

    work = [poll(number) for number in range(_POLLERS)] if "polls" in what else []
    work += [whole()] if "whole" in what else []
    work += [fill()] if "fill" in what else []
    tasks = [asyncio.get_running_loop().create_task(each) for each in work]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(0, flush=True)
    while await reader.readline():
        for task in tasks:
            if task.done() and (error := task.exception()) is not None:
                counts[f"failed: {error}"] += 1
        print(json.dumps(counts), flush=True)
    for task in tasks:
        task.cancel()


# --- orders ------------------------------------------------------------------------------------------


class Trader:
    """One kept connection that places orders."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def place(self, number: int) -> float:
        """Place an order; return how long its answer took, in seconds.

        Raises: ServerError if it is not answered with 200.
        """
        query = (
            "symbol=BTCUSD_PERP&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=63012.3"
            f"&newClientOrderId=bench-{number}&recvWindow=5000&timestamp={time.time_ns() // 1_000_000}"
        )
        signature = hmac.new(_SECRET, query.encode(), hashlib.sha256).hexdigest()
        request = (
            f"POST /dapi/v1/order?{query}&signature={signature} HTTP/1.1\r\nHost: localhost\r\n"
            f"X-MBX-APIKEY: {_KEY}\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        began = time.perf_counter()
        self._socket.sendall(request)
        data, size = b"", -1
        while size < 0 or len(data) < size:
            more = self._socket.recv(65536)
            if not more:
                raise ServerError(f"the connection ended: {data[:200]!r}")
            data += more
            if size < 0 and (end := data.find(b"\r\n\r\n")) >= 0:
                found = _LENGTH.search(data, 0, end)
                if not data.startswith(b"HTTP/1.1 200 ") or found is None:
                    raise ServerError(f"an order was answered with {data[:300]!r}")
                size = end + 4 + int(found[1])
        return time.perf_counter() - began

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Phase:
    """The orders of one phase. Units: milliseconds; `gateway_cpu` share of a core."""

    name: str
    gateway_ms: list[float]
    bare_ms: list[float]
    gateway_cpu: float
    machine_cpu: float
    beside: dict[str, Any]


def place_all(gateway: Server, bare: Server, count: int) -> tuple[list[float], list[float]]:
    """Place so many orders through each, in turn, after some that warm up."""
    traders = Trader(gateway), Trader(bare)
    times: tuple[list[float], list[float]] = ([], [])
    try:
        for number in range(_LEADING + count):
            for index in (0, 1) if number % 2 else (1, 0):
                time.sleep(_PAUSE_S)
                took = traders[index].place(number) * 1e3
                if number >= _LEADING:
                    times[index].append(took)
    finally:
        for trader in traders:
            trader.close()
    return times


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Bench:
    """One gateway with everything that can keep it busy, and the bare forwarder."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, python: str, options: Any) -> None:
        self._options = options
        self._python, self._folder = python, folder
        canned = stack.enter_context(servers.upstream(python, folder))
        venue = stack.enter_context(
            cache_servers.exchange(
                python, folder, um_symbols=_SYMBOLS, kline_push_ms={"um": 4000}, book_ticker_hz=0.2,
                weight_limits={"futures": 10**6},
            )
        )  # fmt: skip
        streams = fanout.Bench(folder, python, argparse.Namespace(pin=False, profile=None, prefer=False))
        self._feed, feed_port, _ = streams.feed(stack)
        self._clients = streams.clients(stack)
        urls = venue.urls | {"UPSTREAM_DAPI": canned.url, "STREAM_SPOT": f"wss://127.0.0.1:{feed_port}"}
        settings = {"KLINE_DEPTH": "500", "ADMIN_PASSWORD": admin.PASSWORD, "BACKFILL_WEIGHT_SHARE": "0.9"}
        self.gateway = stack.enter_context(
            cache_servers.gateway(python, folder, urls, preload="um:*USDT@1m", settings=settings)
        )
        self.bare = stack.enter_context(servers.bare(python, folder, canned.url))
        # On a machine of its own the load would not keep what is measured waiting. Were the load preferred too, the
        # system would stop all of them for 50 ms of a second, as it leaves a twentieth to everybody else.
        measured = [canned.process.pid, self.gateway.process.pid, self.bare.process.pid]
        self.is_preferred = options.prefer and all(
            [cache_servers.prefer(os.getpid())]
            + [cache_servers.prefer(pid, inherits=True) for pid in measured]
        )
        admin._fill_log(folder / "gateway" / "resender.db")
        with cache_servers.Client(self.gateway) as client:
            series = client.status()["series"]
        self._intervals = ["5m", "15m", "3m"]
        self._symbols = [each["symbol"] for each in series]
        cache_servers.wait_live(self.gateway, len(series), _FILL_S)

    def run(self, name: str) -> Phase:
        """Place the orders of a phase."""
        print(f"orders beside {name}", file=sys.stderr)
        with contextlib.ExitStack() as stack:
            crowd: Child | None = None
            exporting: admin.Reader | None = None
            parts = PHASES[name]
            if parts:
                self._begin_streams()
            if set(parts) & {"polls", "whole", "fill"}:
                # Series are filled once: of each phase others.
                interval = self._intervals.pop() if "fill" in parts else ""
                child = cache_servers.child(
                    "beside", self._python, self._folder, "orders.py",
                    "beside", str(self.gateway.port), json.dumps(self._symbols), json.dumps(parts), interval,
                )  # fmt: skip
                crowd = stack.enter_context(child)
                crowd.read()
            if "export" in parts:
                cookie = admin._log_in(self.gateway)
                exporting = stack.enter_context(contextlib.closing(admin.export(self.gateway, cookie)))
            time.sleep(1)
            self._clients.ask('{"do": "begin"}')
            began, cpu, busy = time.monotonic(), self.gateway.cpu_s(), fanout._busy_s()
            times = place_all(self.gateway, self.bare, self._options.orders)
            duration = time.monotonic() - began
            cpu, busy = self.gateway.cpu_s() - cpu, fanout._busy_s() - busy
            found: dict[str, Any] = {}
            if parts:
                heard = self._clients.ask('{"do": "end"}')
                found |= {"frames/s": round(heard["frames"] / duration), "frames' p99 ms": heard["p99_ms"]}
                if heard["closed"]:
                    raise ServerError(f"clients of streams: {heard['closed']}")
            if crowd is not None:
                found |= crowd.ask()
                if any("failed" in key for key in found):
                    raise ServerError(f"beside the orders: {found}")
            if exporting is not None:
                found["rows exported"] = exporting.lines
                found["export was over"] = exporting.is_over
            if parts:
                self._feed.read(self._length_s + 60)
        return Phase(name, *times, cpu / duration, busy / duration, found)

    @property
    def _length_s(self) -> float:
        """A generous guess of how long the orders of a phase take."""
        return (self._options.orders + _LEADING) * (2 * _PAUSE_S + 0.008) + 8

    def _begin_streams(self) -> None:
        wanted = replace(fanout.SCENARIOS["many"], streams=_STREAMS)
        if not self._clients.ask('{"do": "count"}'):
            opening = {"do": "open", "port": self.gateway.port, "clients": wanted.clients}
            self._clients.ask(
                json.dumps(opening | {"streams": wanted.streams, "each": wanted.each}), timeout_s=60
            )
            deadline = time.monotonic() + 30
            while self._feed.ask('{"do": "subscribed"}') < wanted.streams:
                if time.monotonic() > deadline:
                    raise ServerError("the streams are not subscribed after 30 s")
                time.sleep(0.2)
        order = {
            "rate": wanted.rate,
            "seconds": self._length_s,
            "kind": wanted.kind,
            "streams": wanted.streams,
        }
        self._feed.tell(json.dumps({"do": "steady", **order}))
        time.sleep(1)


def lag_of(gateway: Server) -> str:
    """Tell how late the gateway's loop was, if it says so."""
    with gateway.get("/metrics", 5) as response:
        text = response.read().decode()
    found = re.findall(r'^resender_loop_lag_seconds_bucket\{le="([^"]+)"\} ([\d.e+]+)$', text, re.MULTILINE)
    if not found:
        return ""
    whole = float(found[-1][1])
    shares = ", ".join(
        f"{float(count) / whole:.3%} within {float(le) * 1e3:g} ms" for le, count in found[:-1]
    )
    return f"Beats of the gateway's loop: {shares}."


def report(machine: dict[str, Any], phases: list[Phase], lag: str) -> str:
    """Return the table, in Markdown."""
    rows = [["orders beside", "gateway p50 ms", "p99", "p99.9", "bare p50 ms", "p99", "p99.9", "added p50", "added p99",
             "gateway's CPU", "machine"]]  # fmt: skip
    for phase in phases:
        own, other = phase.gateway_ms, phase.bare_ms
        cells = [percentile(values, share) for values in (own, other) for share in (0.5, 0.99, 0.999)]
        cells += [cells[0] - cells[3], cells[1] - cells[4]]
        rows.append(
            [
                phase.name,
                *(f"{cell:.2f}" for cell in cells),
                f"{phase.gateway_cpu:.0%}",
                f"{phase.machine_cpu / machine['cores']:.0%}",
            ]
        )
    parts = [machine["text"], "", cache_servers.table(rows), ""]
    parts += [f"- {phase.name}: {json.dumps(phase.beside)}" for phase in phases if phase.beside]
    if lag:
        parts.append(f"- {lag}")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=1500, metavar="N", help="of each phase (default 1500)")
    parser.add_argument("--only", type=lambda text: text.split(";"), default=list(PHASES), metavar="NAME;...",
                        help=f"only these: {'; '.join(PHASES)}")  # fmt: skip
    parser.add_argument("--no-prefer", dest="prefer", action="store_false",
                        help="let other work of this machine disturb what is measured")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the figures into a file")
    options = parser.parse_args()
    if not 100 <= options.orders <= 20_000 or not set(options.only) <= set(PHASES):
        parser.error(f"--orders must lie between 100 and 20,000; phases are {'; '.join(PHASES)}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        machine = cache_servers.machine()
        print(machine["text"], file=sys.stderr)
        bench = Bench(stack, folder, servers.find_python(), options)
        phases = [bench.run(name) for name in PHASES if name in options.only]
        lag = lag_of(bench.gateway)
        if bench.is_preferred:
            machine["text"] += "; gateway, bare forwarder, upstream and orders before all other work"
    print(report(machine, phases, lag))
    cache_servers.finish(
        {
            "machine": machine,
            "lag": lag,
            "phases": [
                {
                    "name": phase.name,
                    "beside": phase.beside,
                    "gateway_ms": phase.gateway_ms,
                    "bare_ms": phase.bare_ms,
                    "gateway_cpu": phase.gateway_cpu,
                    "median_added_ms": statistics.median(
                        a - b for a, b in zip(phase.gateway_ms, phase.bare_ms, strict=True)
                    ),
                }
                for phase in phases
            ],
        },
        options.json,
    )
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["beside"]:
        with contextlib.suppress(ImportError):
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(beside(int(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]))
        sys.exit(0)
    sys.exit(cache_servers.run(main))
