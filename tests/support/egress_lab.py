"""What the proofs of the egress pool share: a gateway with several source addresses on a metering sandbox.

The window of the exchange is shortened, so a "minute" takes some seconds of the real clock.
"""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from resender.aio import Clock
from resender.gateway import Gateway
from resender.sandbox import API_KEY, API_SECRET, Sandbox, SandboxConfig, sign
from tests.support.client import Reply, build, read_answer
from tests.support.running import Running, make_config, running

WAYS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
EGRESS = ",".join(WAYS)
# Keys that look like Binance's; the first eight characters differ.
KEYS = tuple(f"Acct{number:04}" + "x" * 56 for number in range(24))
SECRET = "SecretOfAll" + "y" * 53
ACCOUNTS = {API_KEY: API_SECRET, **dict.fromkeys(KEYS, SECRET)}
LIMIT_ORDER = "type=LIMIT&timeInForce=GTC&quantity=1"


class Client:
    """One client of the gateway with a connection it keeps; never repeats anything."""

    def __init__(self, port: int, source: str = "") -> None:
        self.port = port
        self.source = source
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, method: str, target: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> Reply:
        if self._streams is None:
            local = (self.source, 0) if self.source else None
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self.port, limit=1 << 24, local_addr=local
            )
        reader, writer = self._streams
        if not any(name == "User-Agent" for name, _ in headers):
            headers = (("User-Agent", "client/1"), *headers)
        try:
            writer.write(build(method, target, headers, body, close=False))
            return await read_answer(reader)
        except BaseException:
            await self.close()
            raise

    async def get(self, target: str, *headers: tuple[str, str]) -> Reply:
        return await self.call("GET", target, headers)

    async def signed(
        self, method: str, path: str, query: str = "", *, key: str = API_KEY, body: bool = False
    ) -> Reply:
        query += f"{'&' if query else ''}timestamp={time.time_ns() // 1_000_000}&recvWindow=60000"
        query += f"&signature={sign(ACCOUNTS[key], query.encode())}"
        headers = (("X-MBX-APIKEY", key),)
        if body:
            form = (*headers, ("Content-Type", "application/x-www-form-urlencoded"))
            return await self.call(method, path, form, query.encode())
        return await self.call(method, f"{path}?{query}", headers)

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def egress_of(reply: Reply) -> str:
    return reply.header("x-resender-egress") or ""


def code_of(reply: Reply) -> int:
    """Return the `code` of an error body, 0 if there is none."""
    body = reply.body
    if reply.header("content-encoding") == "gzip":
        with suppress(OSError, zlib.error):
            body = gzip.decompress(body)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return 0
    return int(data.get("code", 0)) if isinstance(data, dict) else 0


def is_refused_here(reply: Reply, status: int = 429) -> bool:
    """Tell whether the gateway itself refused a call for weight or a ban."""
    name = {429: "no_weight", 418: "banned"}[status]
    return (
        reply.status == status
        and code_of(reply) == -1003
        and reply.header("x-resender-error") == name
        and (reply.header("retry-after") or "").isdigit()
    )


@dataclass
class Lab:
    """A gateway with several egresses on a sandbox."""

    sandbox: Sandbox
    run: Running
    window_s: float
    _clients: list[Client] = field(default_factory=list)

    @property
    def gateway(self) -> Gateway:
        return self.run.gateway

    def client(self, source: str = "") -> Client:
        client = Client(self.run.port, source)
        self._clients.append(client)
        return client

    async def get(self, target: str, *headers: tuple[str, str]) -> Reply:
        """Call on a connection of its own."""
        client = Client(self.run.port)
        try:
            return await client.get(target, *headers)
        finally:
            await client.close()

    async def together(self, count: int, target: str, *headers: tuple[str, str]) -> list[Reply]:
        return await asyncio.gather(*(self.get(target, *headers) for _ in range(count)))

    def peers(self, path: str = "", since: int = 0) -> list[str]:
        """List the source addresses of the calls the exchange received."""
        return [call.peer for call in list(self.sandbox.calls)[since:] if path in ("", call.path)]

    def of_clients(self, path: str) -> int:
        """Count the calls that are not the gateway's own."""
        calls = [call for call in self.sandbox.calls if call.path == path]
        return sum(not (call.header("user-agent") or "").startswith("binance-resender") for call in calls)

    def mark(self) -> int:
        return len(self.sandbox.calls)

    def window_left_s(self) -> float:
        return self.window_s - (time.time() % self.window_s)

    async def next_window(self, after_s: float = 0.0) -> int:
        """Wait for the next window of the exchange to begin; return its number."""
        await asyncio.sleep(self.window_left_s() + after_s)
        return int(time.time() // self.window_s)

    async def room(self, need_s: float) -> None:
        """Wait, if need be, until so much of a window is left."""
        if self.window_left_s() < need_s:
            await self.next_window(1.2)  # the gateway may be a second unsure of the time

    def row(self, egress: str, pool: str) -> dict[str, Any]:
        """Return one row of the gateway's own account."""
        return next(
            row for row in self.gateway.status.weights() if (row["egress"], row["pool"]) == (egress, pool)
        )

    def assert_no_offence(self) -> None:
        """Assert that the exchange was never given a reason to punish anybody."""
        bad = {key: count for key, count in self.sandbox.statuses.items() if key[1] in (418, 429)}
        assert not bad, bad
        assert not self.sandbox.violations

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


def exchange_config(window_s: float = 60.0, **options: Any) -> SandboxConfig:
    values: dict[str, Any] = {
        "spot_symbols": ["BTCUSDT", "ETHUSDT"],
        "um_symbols": ["BTCUSDT", "ETHUSDT"],
        "cm_symbols": ["BTCUSD_PERP"],
        "kline_push_ms": {"spot": 250, "um": 250, "cm": 250},
        "accounts": ACCOUNTS,
        "weight_window_s": window_s,
        "ban_after": 3,
    }
    return SandboxConfig(**{**values, **options})


@asynccontextmanager
async def gateway_on(
    data_dir: Path, sandbox: Sandbox, *, window_s: float = 60.0, machine_ms: int = 0, **settings: Any
) -> AsyncIterator[Lab]:
    """Run a gateway on a sandbox that lives longer; its own clock is wrong by `machine_ms`."""
    limits = {
        f"weight_limit_{pool}": sandbox.config.limit_of(pool)
        for pool in ("spot", "futures", "options", "pm", "sapi")
    }
    values: dict[str, Any] = {"egress": EGRESS, "cache_enabled": False, "shutdown_s": 2.0, **limits}
    values |= {name.lower(): url for name, url in sandbox.urls.items()}
    config = make_config(data_dir, **{**values, **settings})
    clock = Clock(now_ms=lambda: time.time_ns() // 1_000_000 + machine_ms)
    async with running(config, weight_window_ms=int(window_s * 1000), clock=clock) as run:
        lab = Lab(sandbox, run, window_s)
        try:
            yield lab
        finally:
            await lab.close()


@asynccontextmanager
async def lab(data_dir: Path, exchange: SandboxConfig | None = None, **settings: Any) -> AsyncIterator[Lab]:
    """Run a gateway with three source addresses on a sandbox of its own."""
    config = exchange or exchange_config()
    async with Sandbox(config) as sandbox:
        async with gateway_on(data_dir, sandbox, window_s=config.weight_window_s, **settings) as one:
            yield one


async def repeat_until(
    call: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 8.0, pause_s: float = 0.02
) -> Any:
    """Call again and again until the answer is good."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = await call()
        if good(answer):
            return answer
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(pause_s)
