"""What does it cost that two nodes share the weight of one address?

Two pairs of nodes, each with a simulated exchange and a Redis of its own, get the same calls at the same time at a
steady pace: one pair shares an address, the other does not. The difference is what leases cost. The limits of weight
are Binance's, since a block is a part of the limit.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cache_servers
import nodes_servers
from cache_servers import Client
from nodes_servers import Redis
from servers import Server, ServerError

_PATH = "/api/v3/ticker/bookTicker"
WEIGHT = 4
CALLS_S = 40
# More have no room within a minute of weight.
MOST_CALLS = 1200
_PAIRS = ("own", "shared")
_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes and their Redis."""

    name: str
    redis: Redis
    nodes: tuple[Server, Server]

    def pids(self) -> list[int]:
        return [node.process.pid for node in self.nodes]


@dataclass(frozen=True, slots=True)
class Use:
    """What a pair has used for its calls.

    Shape: scripts and reads are trips to Redis. Units: seconds of CPU, of the nodes and of Redis; `script_us`
        microseconds that Redis ran scripts.
    """

    pair: str
    calls: int
    scripts: int
    reads: int
    script_us: float
    nodes_s: float
    redis_s: float


def run(python: str, folder: Path, *, calls: int) -> list[Use]:
    """Measure. Raises: ServerError if a call was not answered with 200."""
    with contextlib.ExitStack() as stack:
        pairs = [_start(stack, python, folder / f"leases-{name}", name) for name in _PAIRS]
        clients = [[stack.enter_context(Client(pair.nodes[number])) for pair in pairs] for number in range(2)]
        for both in clients:
            for client in both:
                _call(client)
        time.sleep(_SETTLE_S)
        print(f"leases: {calls} calls to each pair, {CALLS_S} a second", file=sys.stderr)
        before = [_used(pair) for pair in pairs]
        began = time.monotonic()
        for number in range(calls):
            for client in clients[number % 2]:
                _call(client)
            time.sleep(max(0.0, began + (number + 1) / CALLS_S - time.monotonic()))
        after = [_used(pair) for pair in pairs]
    return [
        Use(pair.name, calls, *(new - old for new, old in zip(*both, strict=True)))  # type: ignore[arg-type]
        for pair, both in zip(pairs, zip(after, before, strict=True), strict=True)
    ]


def _start(stack: contextlib.ExitStack, python: str, folder: Path, name: str) -> Pair:
    folder.mkdir()
    exchange = stack.enter_context(cache_servers.exchange(python, folder, spot_symbols=2, um_symbols=2))
    redis = stack.enter_context(nodes_servers.redis_server(folder))
    settings = {"REDIS_URL": redis.url, "CACHE_ENABLED": "false"}
    if name == "shared":
        settings["EGRESS"] = "default;shared=office"
    first, second = (
        stack.enter_context(nodes_servers.node(python, folder, node, exchange.urls, settings))
        for node in ("one", "two")
    )
    return Pair(name, redis, (first, second))


def _call(client: Client) -> None:
    answer = client.get(_PATH)
    if answer.status != 200:
        raise ServerError(f"{_PATH}: {answer.status} {answer.body[:200]!r}")


def _used(pair: Pair) -> tuple[int, int, float, float, float]:
    used = pair.redis.used()
    scripts, script_us = used.get("evalsha", (0, 0.0))
    reads, _ = used.get("mget", (0, 0.0))
    return (
        scripts, reads, script_us, nodes_servers.cpu_s(*pair.pids()),
        nodes_servers.cpu_s(pair.redis.server.process.pid),
    )  # fmt: skip


def report(uses: list[Use]) -> str:
    """Return the table, in Markdown; all for 1,000 calls."""
    own, shared = uses
    part = 1000 / own.calls
    rows = [
        ["for 1,000 calls", "scripts in Redis", "reads in Redis", "Redis in scripts", "CPU of Redis",
         "CPU of the nodes"]
    ]  # fmt: skip
    for title, one in (("address of its own", own), ("shared address", shared)):
        rows.append(
            [
                title,
                f"{one.scripts * part:.0f}",
                f"{one.reads * part:.0f}",
                f"{one.script_us * part / 1e3:.1f} ms",
                f"{one.redis_s * part * 1e3:.0f} ms",
                f"{one.nodes_s * part * 1e3:.0f} ms",
            ]
        )
    leases = shared.scripts - own.scripts
    rows.append(
        [
            "leases",
            f"{leases * part:.0f}",
            f"{(shared.reads - own.reads) * part:.0f}",
            f"{(shared.script_us - own.script_us) * part / 1e3:.1f} ms",
            f"{(shared.redis_s - own.redis_s) * part * 1e3:.0f} ms",
            f"{(shared.nodes_s - own.nodes_s) * part * 1e3:.0f} ms",
        ]
    )
    words = f"{own.calls} calls of weight {WEIGHT} to each pair, {CALLS_S} a second: "
    if leases > 0:
        each_us = (shared.script_us - own.script_us) / leases
        words += f"one lease for {own.calls / leases:.0f} calls, {each_us:.0f} us of Redis each"
    else:
        words += "no lease was needed"
    return f"{cache_servers.table(rows)}\n\n{words}."
