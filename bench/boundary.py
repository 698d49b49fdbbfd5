"""Measure the close of a candle: how early it is settled, and how soon those who wait for it know.

`python bench/boundary.py` takes about nine minutes and needs Linux; bench/README-cache.md tells how to
read the table. The simulated exchange behaves as measured on the live one (`measured` of its settings):
720 USD-M and 496 spot series of 1m, continuous, plain and spot finals. Everything runs on this machine
and against one clock. Exit code 0 only if every call was answered with 200 and every waiting one with
the candle that had just closed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cache_servers
import servers
from cache_servers import Client, Exchange
from servers import ROOT, Server, ServerError

sys.path.insert(0, str(ROOT))

from resender.core.binance.markets import Market
from resender.sandbox.authority import throwaway_authority
from resender.sandbox.symbols import build_symbols

MINUTE_MS = 60_000
_SENT_MS = 20
_PER_CALL = 5
_ROWS = 10
# Shards that all fire at once, and how far apart: kline-proxy's fleet in October 2026.
_BURST_MS = (5, 198)
_HEAD = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_NAME = "localhost"
_READER = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
while True:
    connection.request("GET", sys.argv[2])
    response = connection.getresponse()
    assert response.status == 200, response.status
    while response.read(1 << 20):
        pass
"""


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
                um_symbols=options.um, spot_symbols=options.spot, measured=True,
                kline_push_ms={"um": 500, "spot": 2000},
                weight_limits={"futures": 10**6, "spot": 10**6},
            )
        )  # fmt: skip
        bench = Bench(venue, folder, python, options)
        figures = asyncio.run(bench.run())
    result = {"machine": machine, **figures}
    print(_report(result))
    cache_servers.finish(result, options.json)
    if any(wave["refused"] or wave["late"] for wave in result["waves"]):
        raise ServerError("some calls were refused or got no candle")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--um", type=int, default=720, help="USD-M symbols (default 720)")
    parser.add_argument("--spot", type=int, default=496, help="spot symbols (default 496)")
    parser.add_argument("--depth", type=int, default=260, help="candles of each series (default 260)")
    parser.add_argument("--only", choices=("waves", "whole", "weight"), help="measure only this")
    parser.add_argument("--json", metavar="FILE", help="write the figures into a file")
    options = parser.parse_args()
    if not 10 <= options.um <= 2000 or not 10 <= options.spot <= 2000 or not 220 <= options.depth <= 1500:
        parser.error("10 to 2000 symbols of each market, depth 220 to 1500")
    return options


@dataclass(frozen=True, slots=True)
class Wave:
    """Calls for the candle that is about to close, all at once or spread as a fleet's are."""

    name: str
    market: str
    calls: int
    is_burst: bool = False
    through: str = "direct"


class Bench:
    """One exchange, and the gateways that are measured against it one after another."""

    def __init__(self, venue: Exchange, folder: Path, python: str, options: argparse.Namespace) -> None:
        self._venue = venue
        self._folder = folder
        self._python = python
        self._options = options
        self._count = 0
        # Dated contracts are none of the matter: only perpetual ones have continuous streams.
        specs = build_symbols(Market.UM, options.um, int(time.time() * 1000))
        self._um = sum(spec.symbol.endswith("USDT") for spec in specs)
        self._series = self._um + options.spot

    async def run(self) -> dict[str, Any]:
        waves: list[dict[str, Any]] = []
        whole: dict[str, Any] = {}
        weight: dict[str, Any] = {}
        only = self._options.only
        with self._gateway(UM_KLINE_STREAM="continuous") as (gateway, folder):
            if only in (None, "waves"):
                waves.append(await self._wave(gateway, Wave("continuous", "um", 200)))
                waves.append(
                    await self._wave(gateway, Wave("continuous, 392 calls", "um", 392, is_burst=True))
                )
                waves.append(await self._wave(gateway, Wave("spot", "spot", 200)))
                with self._nginx(gateway, folder) as port:
                    wave = Wave("continuous, nginx, fresh TLS", "um", 200, through=f"nginx:{port}")
                    waves.append(await self._wave(gateway, wave))
            if only in (None, "whole"):
                whole = await self._whole(gateway)
            if only in (None, "weight"):
                weight["continuous"] = await self._polled(gateway)
        if only == "whole":
            return {"waves": waves, "whole": whole, "weight": weight}
        # Written all the time, but for the moments around a close.
        with self._gateway(UM_KLINE_STREAM="continuous", CANDLE_SAVE_S="10") as (gateway, _):
            if only in (None, "waves"):
                waves.append(await self._wave(gateway, Wave("continuous, saving", "um", 200)))
        with self._gateway(UM_KLINE_STREAM="plain") as (gateway, _):
            if only in (None, "waves"):
                waves.append(await self._wave(gateway, Wave("plain", "um", 200)))
            if only in (None, "weight"):
                weight["plain"] = await self._polled(gateway)
        return {"waves": waves, "whole": whole, "weight": weight}

    @contextlib.contextmanager
    def _gateway(self, **settings: str) -> Any:
        self._count += 1
        folder = self._folder / f"run{self._count}"
        folder.mkdir()
        ca = servers.ca_file(self._folder, "exchange").read_bytes()
        servers.ca_file(folder, "exchange").write_bytes(ca)
        options = self._options
        with cache_servers.gateway(
            self._python, folder, self._venue.urls, preload="um:*USDT@1m;spot:*@1m",
            settings={"KLINE_DEPTH": str(options.depth), "BACKFILL_WEIGHT_SHARE": "0.9", **settings},
        ) as gateway:  # fmt: skip
            cache_servers.wait_live(gateway, self._series, 170.0)
            yield gateway, folder

    def _now_ms(self) -> float:
        return time.time() * 1000

    async def _until(self, moment_ms: float) -> None:
        while (left_ms := moment_ms - self._now_ms()) > 0:
            await asyncio.sleep(max(0.0, left_ms / 1000 - 0.002) or 0.0002)

    def _next_close(self, lead_ms: float) -> int:
        return int((self._now_ms() + lead_ms) // MINUTE_MS + 1) * MINUTE_MS

    # --- waves -----------------------------------------------------------------------------

    async def _wave(self, gateway: Server, wave: Wave) -> dict[str, Any]:
        close_ms = self._next_close(15_000)  # time for the series to become what they are between closes
        names = [each["symbol"] for each in self._status(gateway)["series"] if each["market"] == wave.market]
        targets = []
        for number in range(wave.calls):
            chosen = [names[(number * 7 + k * 13) % len(names)] for k in range(_PER_CALL)]
            symbols = quote(
                json.dumps(list(dict.fromkeys(chosen)), separators=(",", ":"), ensure_ascii=False)
            )
            targets.append(
                f"/local/{wave.market}/klines?symbols={symbols}&interval=1m&limit={_ROWS}"
                f"&closed=true&wait=8000&since={close_ms - _ROWS * MINUTE_MS}"
            )
        port, context = gateway.port, None
        if wave.through != "direct":
            port = int(wave.through.partition(":")[2])
            context = ssl.create_default_context(cadata=_ca_text())
        waiters = [Waiter(port, context) for _ in targets]
        if context is None:
            for waiter in waiters:
                await waiter.open()
        await self._until(close_ms - 500)
        before = self._venue.counters()["calls"]
        low, high = _BURST_MS if wave.is_burst else (_SENT_MS, _SENT_MS)
        starts = [close_ms + low + (high - low) * number / len(waiters) for number in range(len(waiters))]

        async def one(waiter: Waiter, target: str, start_ms: float) -> tuple[float, int, bytes]:
            await self._until(start_ms)
            status, body = await waiter.get(target)
            return self._now_ms() - close_ms, status, body

        tasks = [asyncio.ensure_future(one(*each)) for each in zip(waiters, targets, starts, strict=True)]
        await self._until(close_ms)
        cpu_s = gateway.cpu_s()
        await self._until(close_ms + 1000)
        cpu_s = gateway.cpu_s() - cpu_s
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 20.0)
        await self._until(close_ms + 9000)
        after = self._venue.counters()["calls"]
        for waiter in waiters:
            waiter.close()
        newest = close_ms - MINUTE_MS
        late = sum(not all(rows and rows[-1][0] == newest for rows in json.loads(body).values())
                   for _, status, body in answers if status == 200)  # fmt: skip
        times = sorted(at for at, _, _ in answers)
        return {
            "name": wave.name,
            "calls": wave.calls,
            "close": self._settled(gateway, wave.market, close_ms),
            "answers_ms": {"p50": statistics.median(times), "p99": times[int(len(times) * 0.99)], "last": times[-1]},
            "refused": sum(status != 200 for _, status, _ in answers),
            "late": late,
            "cpu_s": cpu_s,
            "reads": sum(after.values()) - sum(before.values()),
        }  # fmt: skip

    def _status(self, gateway: Server) -> dict[str, Any]:
        with Client(gateway) as client:
            return client.status()

    def _settled(self, gateway: Server, market: str, close_ms: int) -> dict[str, Any]:
        for each in self._status(gateway)["closes"]:
            if (each["market"], each["interval"]) == (market, "1m"):
                for close in each["closes"]:
                    if close["close_ms"] == close_ms:
                        return dict(close)
        raise ServerError(f"{market}: nothing is known of the close of {close_ms}")

    # --- whole markets ---------------------------------------------------------------------

    async def _whole(self, gateway: Server) -> dict[str, Any]:
        """What answers about the whole market cost, and what becomes of other calls beside them."""
        await self._until(self._next_close(0) + 12_000)
        base = "/local/um/klines?symbols=all&interval=1m&closed=true"
        since_ms = int(self._now_ms()) - 300 * MINUTE_MS
        found: dict[str, Any] = {}
        with Client(gateway) as client:

            def cost(count: int, target: Any, *, gzip: bool = False) -> dict[str, float]:
                cpu_s, began = gateway.cpu_s(), time.perf_counter()
                for number in range(count):
                    answer = client.get(target(number), gzip=gzip)
                    if answer.status != 200:
                        raise ServerError(f"{target(number)}: {answer.status} {answer.body[:200]!r}")
                took_s = time.perf_counter() - began
                return {
                    "cpu_ms": (gateway.cpu_s() - cpu_s) / count * 1000,
                    "wall_ms": took_s / count * 1000,
                    "bytes": len(answer.body),
                }

            # Another `since` is another answer: none of these was made before.
            found["10, cold"] = cost(100, lambda n: f"{base}&limit={_ROWS}&since={since_ms + n}")
            found["10, repeated"] = cost(200, lambda n: f"{base}&limit={_ROWS}")
            found["200, cold"] = cost(10, lambda n: f"{base}&limit=200&since={since_ms + n}")
            found["200 gzip, cold"] = cost(1, lambda n: f"{base}&limit=200", gzip=True)
            found["200 gzip, repeated"] = cost(20, lambda n: f"{base}&limit=200", gzip=True)
            found["10 npy, cold"] = cost(
                10, lambda n: f"{base}&limit={_ROWS}&format=npy&since={since_ms + n}"
            )
        alone = await self._beside(gateway, None)
        found["others"] = {"alone": alone}
        for limit in (10, 200):
            for form in ("", "&closed=true"):
                target = f"/local/um/klines?symbols=all&interval=1m&limit={limit}{form}"
                found["others"][f"limit {limit}{form and ', closed'}"] = await self._beside(gateway, target)
        return found

    async def _beside(self, gateway: Server, target: str | None, seconds: float = 5.0) -> dict[str, float]:
        """Return how long single calls take while somebody reads the whole market again and again."""
        # Somebody is another process: here its work would be part of what is measured.
        command = [self._python, "-c", _READER, str(gateway.port), target or ""]
        reading = _start(command) if target is not None else None
        caller, times = Waiter(gateway.port, None), []
        await caller.open()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            await caller.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=100")
            times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.002)
        caller.close()
        if reading is not None:
            if reading.poll() is not None:
                raise ServerError("whoever reads the whole market has ended")
            reading.kill()
            reading.wait()
        times.sort()
        return {"p50_ms": statistics.median(times), "p99_ms": times[int(len(times) * 0.99)]}

    async def _polled(self, gateway: Server) -> dict[str, Any]:
        """Read the whole market each second through the first minute; what it costs in own weight."""
        close_ms = self._next_close(2000)
        await self._until(close_ms - 200)
        before = self._venue.counters()["calls"]
        missing: list[int] = []
        caller = Waiter(gateway.port, None)
        await caller.open()
        for second in range(60):
            await self._until(close_ms + second * 1000 + 100)
            _, body = await caller.get(f"/local/um/klines?symbols=all&interval=1m&limit={_ROWS}")
            missing.append(self._um - len(json.loads(body)))
        caller.close()
        after = self._venue.counters()["calls"]
        calls = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
        um = {key: count for key, count in calls.items() if key.startswith("/fapi")}
        return {"weight": sum(um.values()), "calls": um, "missing": missing[:60:10]}

    @contextlib.contextmanager
    def _nginx(self, gateway: Server, folder: Path) -> Any:
        """Run nginx with the shipped configuration, changed in addresses and certificate only."""
        issued = throwaway_authority().issue(_NAME)
        (folder / "chain.pem").write_bytes(issued.certificate_pem)
        (folder / "key.pem").write_bytes(issued.key_pem)
        port, name = servers.free_port(), "gateway.example.com"
        text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
        for old, new in (
            ("server 127.0.0.1:8000;", f"server 127.0.0.1:{gateway.port};"),
            ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
            ("listen [::]:443 ssl http2;", ""),
            (f"server_name {name};", f"server_name {_NAME};"),
            (f"/etc/letsencrypt/live/{name}/fullchain.pem", str(folder / "chain.pem")),
            (f"/etc/letsencrypt/live/{name}/privkey.pem", str(folder / "key.pem")),
            ("/var/log/nginx/binance-resender.log", str(folder / "access.log")),
            ("/var/log/nginx/binance-resender.error.log", str(folder / "error.log")),
            ("allow 203.0.113.5;", "allow 127.0.0.1;"),
        ):
            if text.count(old) != 1:
                raise ServerError(f"the shipped nginx.conf has {text.count(old)} times {old!r}")
            text = text.replace(old, new)
        (folder / "site.conf").write_text(text, "utf-8")
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"{'user root;' if servers.os.geteuid() == 0 else ''}daemon off; worker_processes 2; "
            f"pid {folder}/nginx.pid; error_log stderr crit; events {{ worker_connections 1024; }}\n"
            f"http {{ {temporary} include {folder}/site.conf; }}\n",
            "utf-8",
        )
        program = servers.shutil.which("nginx", path=servers.os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            raise ServerError("nginx is not installed: apt-get install nginx-light")
        process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-e", "stderr"])
        try:
            time.sleep(0.5)
            yield port
        finally:
            process.terminate()
            process.wait(5)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command)


def _ca_text() -> str:
    with tempfile.NamedTemporaryFile("r", suffix=".pem") as file:
        throwaway_authority().write_ca(file.name)
        return Path(file.name).read_text("ascii")


class Waiter(asyncio.Protocol):
    """One connection, one call at a time; opened with the call where it is not open yet."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._context = context
        self._transport: Any = None
        self._data = bytearray()
        self._size = -1
        self._status = 0
        self._waiter: asyncio.Future[None] | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        name = _NAME if self._context is not None else None
        self._transport, _ = await loop.create_connection(
            lambda: self, "127.0.0.1", self._port, ssl=self._context, server_hostname=name
        )

    async def get(self, target: str) -> tuple[int, bytes]:
        if self._transport is None:
            await self.open()
        self._data.clear()
        self._size = -1
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {target} HTTP/1.1\r\nHost: {_NAME}\r\n\r\n".encode())
        await self._waiter
        return self._status, bytes(self._data)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._size < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._data[:end])
            found = _HEAD.search(head)
            if found is None:
                self.connection_lost(None)
                return
            self._status, self._size = int(head[9:12]), int(found[1])
            del self._data[: end + 4]
        if len(self._data) >= self._size and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ServerError(f"the connection ended: {exc}"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


# --- the report --------------------------------------------------------------------------------


def _report(result: dict[str, Any]) -> str:
    head = ["milliseconds after the close", "first", "p50", "p99", "last settled", "last made", "settled",
            "answers p50", "last", "after the last", "CPU 1st s", "REST"]  # fmt: skip
    rows = [head]
    for wave in result["waves"]:
        close, answers = wave["close"], wave["answers_ms"]
        rows.append(
            [f"{wave['name']}, {wave['calls']} calls" if "calls" not in wave["name"] else wave["name"]]
            + [str(close[name]) for name in ("first_ms", "p50_ms", "p99_ms", "last_ms", "event_last_ms")]
            + [f"{close['arrived']}/{close['expected']}", f"{answers['p50']:.0f}", f"{answers['last']:.0f}"]
            + [f"{answers['last'] - close['last_ms']:+.0f}", f"{wave['cpu_s']:.2f} s", str(wave["reads"])]
        )
    whole = result["whole"]
    costs = [["whole USD-M market, closed rows", "CPU", "wall", "bytes"]]
    for name, each in whole.items():
        if name != "others":
            costs.append(
                [name, f"{each['cpu_ms']:.2f} ms", f"{each['wall_ms']:.2f} ms", f"{each['bytes']:,}"]
            )
    beside = [["single calls beside it", "p50", "p99", "p99 / alone"]]
    others = whole.get("others", {})
    for name, each in others.items():
        beside.append(
            [
                name,
                f"{each['p50_ms']:.2f} ms",
                f"{each['p99_ms']:.2f} ms",
                f"{each['p99_ms'] / others['alone']['p99_ms']:.1f}",
            ]
        )
    polled = [["polled each second for a minute", "own weight", "missing at 0, 10, 20, ... s"]]
    for name, each in result["weight"].items():
        polled.append([name, str(each["weight"]), ", ".join(map(str, each["missing"]))])
    tables = (rows, costs, beside, polled)
    return "\n\n".join(cache_servers.table(each) for each in tables if len(each) > 1)


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
