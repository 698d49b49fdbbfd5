"""Make load on one URL for some seconds, and tell how many calls came back and how fast.

`measure` uses wrk where it is installed, else this file as a program of its own. It starts no
server and keeps no state. Every connection is kept and carries one call at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

# What client libraries send, beside Host.
HEADERS = {"User-Agent": "bench", "Accept": "application/json", "X-MBX-APIKEY": "k" * 64}
_GRACE_S = 20
_FIRST_ANSWER_S = 5.0
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """The load could not be made, or not every call was answered with 200."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came back. Units: seconds."""

    calls: int
    duration_s: float
    p50_s: float
    p99_s: float


def generator() -> str:
    """Name what `measure` will use."""
    return "wrk" if shutil.which("wrk") else "bench/load.py"


def measure(url: str, connections: int, seconds: int, python: str = sys.executable) -> Load:
    """Call `url` on `connections` kept connections for `seconds`.

    Raises: LoadError unless every single call was answered with 200.
    """
    if generator() == "wrk":
        lines = [f"{name}: {value}" for name, value in HEADERS.items()]
        options = [option for line in lines for option in ("-H", line)]
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "--latency"]
        return parse_wrk(_run([*command, *options, url], seconds))
    return Load(**json.loads(_run([python, __file__, url, str(connections), str(seconds)], seconds)))


def _run(command: list[str], seconds: int) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE_S)
    except subprocess.TimeoutExpired:
        raise LoadError(f"{command[0]} did not end in time") from None
    if done.returncode:
        raise LoadError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def parse_wrk(text: str) -> Load:
    """Read the output of `wrk --latency`.

    Raises: LoadError when it tells of errors or something is missing.
    """
    for line in text.splitlines():
        if "Socket errors:" in line or "Non-2xx" in line:
            raise LoadError(f"wrk: {line.strip()}")
    found = re.search(r"(\d+) requests in ", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    shares = {
        share: float(number) * _UNITS_S[unit]
        for share, number, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    }
    if not found or not rate or not int(found[1]) or len(shares) != 2:
        raise LoadError(f"wrk told nothing: {text.strip()[-300:]}")
    calls = int(found[1])
    return Load(calls, calls / float(rate[1]), shares["50"], shares["99"])


# --- the generator for machines without wrk ------------------------------------------------------


class _Caller(asyncio.Protocol):
    """One connection: sends a call, waits for the end of its answer, sends the next."""

    def __init__(self, request: bytes, times_s: list[float], failed: asyncio.Future[None]) -> None:
        self.request = request
        self.times_s = times_s
        self.failed = failed
        self.left: int | None = None
        self.tail = b""
        self.is_stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self.head = b""
        self.left = None
        self.started = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.head is not None:
            data = self.head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return
            head, data = data[:end].lower(), data[end + 4 :]
            if b" 200 " not in head[:13]:
                self._fail(head[:80].decode("latin-1"))
                return
            length = re.search(rb"\r\ncontent-length: *(\d+)", head)
            self.head, self.tail = None, b"\r\n"
            self.left = int(length[1]) if length else None
        if self.left is not None:
            self.left -= len(data)
            is_done = self.left <= 0
        else:
            # One call at a time: nothing follows the last chunk, and no body here holds its mark.
            self.tail = (self.tail + data)[-7:]
            is_done = self.tail == b"\r\n0\r\n\r\n"
        if is_done and not self.is_stopped:
            self.times_s.append(time.perf_counter() - self.started)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_stopped:
            self._fail("the server closed the connection")

    def _fail(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(LoadError(reason))


async def _generate(url: str, connections: int, seconds: float) -> Load:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode("latin-1")
    context = None
    if parts.scheme == "https":
        # As wrk: whom it talks to is not what is measured.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    times_s: list[float] = []
    callers: list[_Caller] = []
    started = time.perf_counter()
    try:
        for _ in range(connections):
            _, caller = await asyncio.wait_for(
                loop.create_connection(
                    lambda: _Caller(request, times_s, failed), parts.hostname, parts.port, ssl=context
                ),
                _FIRST_ANSWER_S,
            )
            callers.append(caller)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(failed), seconds)
        duration_s = time.perf_counter() - started
    finally:
        for caller in callers:
            caller.is_stopped = True
            caller.transport.abort()
    if not times_s:
        raise LoadError("not one call was answered")
    times_s.sort()
    count = len(times_s)
    return Load(count, duration_s, times_s[count // 2], times_s[min(count - 1, count * 99 // 100)])


def _main() -> None:
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    try:
        result = run(_generate(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
    except (LoadError, OSError, asyncio.TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    _main()
