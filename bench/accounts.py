"""Measure open orders out of memory: 200 accounts of 20 orders, through the whole gateway.

`python bench/accounts.py` needs no argument and takes about 2 minutes; bench/README-accounts.md tells how to read
the tables. It measures and reports. Exit code 0 only if every measured answer came out of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cache_load
import cache_servers
import load
import servers
from accounts_exchange import keys
from cache_servers import Child
from servers import BENCH, ROOT, Server, ServerError

sys.path.insert(0, str(ROOT))

PATH = "/api/v3/openOrders"
LIVE_S = 120.0
_ENOUGH = "10000000"
# One call in a thousand may be forwarded: while an event is under way.
MOST_MISSES = 0.001


@dataclass(frozen=True, slots=True)
class Case:
    """What is called. Shape: `verified` is with the key whose secret is known, else with one that is believed."""

    title: str
    connections: int
    symbol: str = ""
    verified: bool = False


CASES = [
    Case("20 orders, 1 conn.", 1),
    Case("20 orders, 8 conn.", 8),
    Case("20 orders, signature checked, 8 conn.", 8, verified=True),
    Case("4 orders (symbol), 8 conn.", 8, symbol="BTCUSDT"),
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Units: seconds; `cpu_s` is the server process's."""

    round: int
    target: str
    case: str
    calls: int
    duration_s: float
    p50_s: float
    p99_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.calls / self.duration_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.calls * 1e6


class Bot:
    """One kept connection, and what is asked on it."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def ask(self, target: str, key: str) -> tuple[bytes, str]:
        """Return an answer and whence it came."""
        self._connection.request("GET", target, headers={"X-MBX-APIKEY": key})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ServerError(f"{target.partition('?')[0]}: {response.status} {body[:200]!r}")
        return body, response.headers.get("X-Resender-Cache", "nothing")

    def metric(self, name: str) -> dict[str, float]:
        """Return a metric by its labels."""
        self._connection.request("GET", "/metrics")
        text = self._connection.getresponse().read().decode()
        rows = [line.rpartition(" ") for line in text.splitlines() if line.startswith(name)]
        return {labels: float(value) for labels, _, value in rows}


def target_of(number: int, *, symbol: str = "", verified: bool = False) -> tuple[str, str]:
    """Return a signed call that is good for a minute, and its key."""
    trader, trader_secret, reader, reader_secret = keys(number)
    key, secret = (reader, reader_secret) if verified else (trader, trader_secret)
    query = f"{f'symbol={symbol}&' if symbol else ''}recvWindow=60000&timestamp={time.time_ns() // 10**6}"
    signature = hmac.new(secret.encode(), query.encode(), "sha256").hexdigest()
    return f"{PATH}?{query}&signature={signature}", key


def set_up(folder: Path, accounts: int) -> None:
    """Write the accounts into the gateway's database, as its owner does with `account add`."""
    from resender.api_keys import digest_of, hint_of
    from resender.secret_box import SecretBox
    from resender.store import open_repository

    data = folder / "gateway"
    data.mkdir()
    box = SecretBox("", data)
    with open_repository(f"sqlite:///{data / 'resender.db'}") as repository:
        for number in range(accounts):
            trader, _, reader, secret = keys(number)
            row = repository.account_add(
                f"bench{number}",
                "spot",
                "secret",
                digest=digest_of(reader),
                hint=hint_of(reader),
                source="own",
            )
            repository.account_seal(
                row.id, box.seal(json.dumps({"key": reader, "secret": secret}), str(row.id))
            )
            repository.account_link(row.id, digest_of(trader), hint_of(trader))


def main() -> int:
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-bench-")))
        python = servers.find_python()
        machine = cache_servers.machine()
        print(machine["text"], file=sys.stderr)
        memory = json.loads(
            subprocess.run(
                [python, str(BENCH / "accounts_memory.py"), str(options.accounts), str(options.orders)],
                capture_output=True, check=True, timeout=300,
            ).stdout
        )  # fmt: skip
        set_up(folder, options.accounts)
        arguments = (
            str(servers.ca_file(folder, "exchange")), str(options.accounts), str(options.orders),
        )  # fmt: skip
        venue = stack.enter_context(
            cache_servers.child("exchange", python, folder, "accounts_exchange.py", *arguments)
        )
        urls = venue.read(120.0)
        settings = {"CACHE_ENABLED": "0", "WEIGHT_LIMIT_SPOT": _ENOUGH, "WEIGHT_LIMIT_SAPI": _ENOUGH}
        gateway = stack.enter_context(cache_servers.gateway(python, folder, urls, settings=settings))
        begun = time.monotonic()
        bot = Bot(gateway)
        live_s = _wait_live(bot, options.accounts, begun)
        rss = cache_servers.memory_mb(gateway.process.pid)
        print(f"all live after {live_s:.1f} s", file=sys.stderr)
        samples, misses = _read(options, python, folder, gateway, bot, stack)
        delays = {rate: _watch(options, venue, bot, rate) for rate in (0, options.rate)}
    print(_report(options, machine, samples, delays, memory, rss, live_s))
    cache_servers.finish(
        {
            "machine": machine, "load": load.generator(), "live_s": live_s, "rss": rss, "memory": memory,
            "samples": [asdict(sample) for sample in samples], "delays_s": delays,
        },
        options.json,
    )  # fmt: skip
    calls = sum(sample.calls for sample in samples if sample.target == "gateway")
    if misses > MOST_MISSES * calls:
        print(f"{misses} of {calls} answers were no hits", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    # The gateway opens 200 connections to the WebSocket API in five minutes at most.
    parser.add_argument("--accounts", type=int, default=200, help="accounts, 200 at most (default 200)")
    parser.add_argument("--orders", type=int, default=20, help="open orders of each (default 20)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument(
        "--changes", type=int, default=1000, help="changes that are waited for (default 1000)"
    )
    parser.add_argument("--rate", type=int, default=1000, help="changes a second meanwhile (default 1000)")
    parser.add_argument("--json", metavar="FILE", help="write every single measurement into a file")
    options = parser.parse_args()
    if not 1 <= options.accounts <= 200 or not 1 <= options.orders <= 200:
        parser.error("--accounts and --orders must lie between 1 and 200")
    return options


def _wait_live(bot: Bot, accounts: int, begun: float) -> float:
    """Wait until each account answers out of memory, then have each key believed."""
    while True:
        live = sum(count for labels, count in bot.metric("resender_accounts{").items() if '"live"' in labels)
        if live >= accounts:
            break
        if time.monotonic() > begun + LIVE_S:
            raise ServerError(f"only {live:.0f} of {accounts} accounts are live after {LIVE_S:g} s")
        time.sleep(0.5)
    live_s = time.monotonic() - begun
    for number in range(accounts):
        for verified in (False, True):
            target, key = target_of(number, verified=verified)
            bot.ask(target, key)
            if bot.ask(target, key)[1] != "hit":
                raise ServerError(f"account {number} is no hit: {bot.ask(target, key)[1]}")
    return live_s


# --- answers a second --------------------------------------------------------------------------


def _read(
    options: argparse.Namespace, python: str, folder: Path, gateway: Server, bot: Bot,
    stack: contextlib.ExitStack,
) -> tuple[list[Sample], float]:  # fmt: skip
    port = servers.free_port()
    index = {}
    for number, case in enumerate(CASES):
        target, key = target_of(number, symbol=case.symbol, verified=case.verified)
        (folder / f"{number}-plain").write_bytes(bot.ask(target, key)[0])
        index[f"/{number}"] = {"plain": f"{number}-plain", "gzip": f"{number}-plain"}
    (folder / "index.json").write_text(json.dumps(index))
    command = [python, str(BENCH / "cache_bare.py"), str(port), str(folder)]
    bare = stack.enter_context(servers.started("bare", command, port, folder))
    before = _misses(bot)
    samples = []
    for turn in range(options.rounds):
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
        for number, case in enumerate(CASES):
            for server in (gateway, bare) if turn % 2 == 0 else (bare, gateway):
                # Signed anew each time: a signature is good for a minute.
                target, key = target_of(number, symbol=case.symbol, verified=case.verified)
                url = server.url + (target if server is gateway else f"/{number}")
                cpu_s = server.cpu_s()
                found = cache_load.measure(
                    url, case.connections, options.seconds, python, headers={"X-MBX-APIKEY": key}
                )
                cpu_s = server.cpu_s() - cpu_s
                samples.append(Sample(turn, server.name, case.title, cpu_s=cpu_s, **asdict(found)))
    return samples, _misses(bot) - before


def _misses(bot: Bot) -> float:
    counts = bot.metric("resender_account_answers_total{")
    return sum(count for labels, count in counts.items() if '"hit"' not in labels)


# --- from the event to the answer --------------------------------------------------------------


def _watch(options: argparse.Namespace, venue: Child, bot: Bot, rate: int) -> list[float]:
    """Have orders changed one by one; return how long each took to be seen in an answer. Units: seconds."""
    venue.ask(f"busy {rate}")
    dice, delays = random.Random(1), []
    for _ in range(options.changes):
        number = dice.randrange(options.accounts)
        target, key = target_of(number)
        at, symbol, order_id, quantity = venue.ask(f"amend {number}")
        row = re.compile(
            rb'"symbol":"%s","orderId":%d,.*?"origQty":"([0-9.]+)"' % (symbol.encode(), order_id)
        )
        while True:
            body, said = bot.ask(target, key)
            seen = time.monotonic()
            if said != "hit":
                raise ServerError(f"no hit while an event is waited for: {said}")
            found = row.search(body)
            # Others may have reduced it further by now.
            if found is not None and float(found[1]) <= quantity:
                break
            if seen > at + 10.0:
                raise ServerError("a change was not seen")
        delays.append(seen - at)
    venue.ask("busy 0")
    return delays


# --- the report --------------------------------------------------------------------------------


def _report(
    options: argparse.Namespace,
    machine: dict[str, Any],
    samples: list[Sample],
    delays: dict[int, list[float]],
    memory: dict[str, float],
    rss: dict[str, float],
    live_s: float,
) -> str:
    def found(target: str, case: Case) -> list[Sample]:
        return [each for each in samples if (each.target, each.case) == (target, case.title)]

    head = [
        "gateway",
        "answers/s",
        "p50 ms",
        "p99 ms",
        "CPU µs/answer",
        "bare: answers/s",
        "CPU µs",
        "gateway / bare",
    ]
    rows = [head]
    for case in CASES:
        mine, bare = found("gateway", case), found("bare", case)
        ratio = statistics.median(a.rate / b.rate for a, b in zip(mine, bare, strict=True))
        rows.append(
            [
                case.title,
                f"{statistics.median(each.rate for each in mine):,.0f}",
                f"{statistics.median(each.p50_s for each in mine) * 1e3:.2f}",
                f"{statistics.median(each.p99_s for each in mine) * 1e3:.2f}",
                f"{statistics.median(each.cpu_us for each in mine):.0f}",
                f"{statistics.median(each.rate for each in bare):,.0f}",
                f"{statistics.median(each.cpu_us for each in bare):.0f}",
                f"{ratio:.2f}",
            ]
        )
    waits = [["from the change to the first answer that shows it", "changes", "p50 ms", "p99 ms", "most ms"]]
    for rate, values in delays.items():
        cuts = statistics.quantiles(values, n=100)
        name = f"beside {rate:,} other changes/s" if rate else "nothing else happens"
        waits.append(
            [
                name,
                f"{len(values):,}",
                f"{cuts[49] * 1e3:.2f}",
                f"{cuts[98] * 1e3:.2f}",
                f"{max(values) * 1e3:.2f}",
            ]
        )
    return "\n".join(
        [
            f"{machine['text']}, calls made by {load.generator()}",
            f"{options.accounts} accounts x {options.orders} open orders, medians of {options.rounds} round(s), "
            f"{options.seconds} s for each measurement.",
            "",
            cache_servers.table(rows),
            "",
            cache_servers.table(waits),
            "",
            f"An open order takes {memory['events']:,.0f} bytes told by events, {memory['rest']:,.0f} read from REST, "
            f"with its row for answers. The gateway had {rss['rss']:.0f} MB with all accounts live, "
            f"{live_s:.0f} s after its start.",
        ]
    )


if __name__ == "__main__":
    os.environ.pop("RESENDER_DATABASE_URL", None)
    sys.exit(cache_servers.run(main))
