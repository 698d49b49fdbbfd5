"""What does it cost that a call's API key is at home on another node?

The same signed call goes to its home itself, and to a node that hands it over. Both nodes and their exchange run
all the time and are called in turn.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cache_load
import cache_servers
import load
import nodes_servers
import servers
from cache_servers import Client
from fanout import _busy_s
from nodes_servers import BUSY_OTHERS
from servers import Server, ServerError

CONNECTIONS = (1, 8)
_KEY = load.HEADERS["X-MBX-APIKEY"]
_PATH = f"/api/v3/order?symbol=BTCUSDT&orderId=1&timestamp=1634860800000&signature={'5' * 64}"
_EGRESS = "home/default"
_PLACES = ("home", "other")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Units: `rate` calls a second; `home_us` and `other_us` CPU of each node for each call,
    `others` everybody else's on this machine, of a core."""

    round: int
    connections: int
    place: str
    rate: float
    p50_ms: float
    p99_ms: float
    home_us: float
    other_us: float
    others: float

    @property
    def cpu_us(self) -> float:
        return self.home_us + self.other_us


def run(
    python: str, folder: Path, *, rounds: int, seconds: int, tries: int, profile: str = ""
) -> list[Sample]:
    """Measure, the first round unused. Raises: ServerError, LoadError."""
    samples: list[Sample] = []
    own = folder / "hop"
    own.mkdir()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(python, own))
        redis = stack.enter_context(nodes_servers.redis_server(own))
        urls = {f"UPSTREAM_{market}": upstream.url for market in servers._UPSTREAM_SETTINGS}
        settings = {
            "REDIS_URL": redis.url,
            "CACHE_ENABLED": "false",
            "EGRESS_PINS": f"{_KEY[:8]}={_EGRESS}",
            "WEIGHT_LIMIT_SPOT": "10000000",  # the load must not be refused for weight
        }
        running: dict[str, Server] = {}
        for place in _PLACES:
            command = nodes_servers.profiled(python, f"{profile}.{place}") if profile else None
            node = nodes_servers.node(python, own, place, urls, settings, command=command)
            running[place] = stack.enter_context(node)
        nodes_servers.until(lambda: _egress(running["other"]) == _EGRESS, "the nodes know each other")
        if (left_by := _egress(running["home"])) not in ("default", _EGRESS):
            raise ServerError(f"a call at its home leaves through {left_by!r}")
        for number in range(rounds + 1):
            print(f"hop: round {number}", file=sys.stderr)
            for connections in CONNECTIONS:
                for place in _PLACES if number % 2 else _PLACES[::-1]:
                    found: list[Sample] = []
                    while len(found) < (tries if number else 1):
                        found.append(_measure(number, connections, place, running, upstream, seconds, python))
                        if found[-1].others < BUSY_OTHERS:
                            break
                    samples += [min(found, key=lambda sample: sample.others)] if number else []
    return samples


def _egress(server: Server) -> str:
    """Return which way a call has taken, its status if it was not answered with 200."""
    with Client(server) as client:
        answer = client.get(_PATH, headers={"X-MBX-APIKEY": _KEY})
    return answer.headers.get("x-resender-egress", "") if answer.status == 200 else str(answer.status)


def _measure(
    number: int,
    connections: int,
    place: str,
    running: dict[str, Server],
    upstream: Server,
    seconds: int,
    python: str,
) -> Sample:
    pids = [running[name].process.pid for name in _PLACES]
    pids.append(upstream.process.pid)
    began, busy, load_s = time.monotonic(), _busy_s(), _children_s()
    used = [nodes_servers.cpu_s(pid) for pid in pids]
    found = cache_load.measure(running[place].url + _PATH, connections, seconds, python, headers={})
    used = [nodes_servers.cpu_s(pid) - before for pid, before in zip(pids, used, strict=True)]
    others = _busy_s() - busy - sum(used) - (_children_s() - load_s)
    return Sample(
        number, connections, place, found.calls / found.duration_s, found.p50_s * 1000, found.p99_s * 1000,
        used[0] / found.calls * 1e6, used[1] / found.calls * 1e6,
        max(0.0, others) / (time.monotonic() - began),
    )  # fmt: skip


def _children_s() -> float:
    """Return the CPU seconds of what was started here and has ended: the load's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(samples: list[Sample]) -> str:
    """Return the table, in Markdown: medians of the rounds, what is added within each of them."""
    rows = [["signed call sent to", "conn.", "calls/s", "p50", "p99", "CPU a call: home", "other node", "both",
             "others' CPU"]]  # fmt: skip
    for connections in CONNECTIONS:
        pairs = [
            [s for s in samples if (s.connections, s.place) == (connections, place)] for place in _PLACES
        ]
        for place, mine in zip(("its home", "the other node"), pairs, strict=True):
            rows.append(
                [
                    place,
                    str(connections),
                    f"{statistics.median(s.rate for s in mine):,.0f}",
                    f"{statistics.median(s.p50_ms for s in mine):.2f} ms",
                    f"{statistics.median(s.p99_ms for s in mine):.2f} ms",
                    f"{statistics.median(s.home_us for s in mine):.0f} us",
                    f"{statistics.median(s.other_us for s in mine):.0f} us",
                    f"{statistics.median(s.cpu_us for s in mine):.0f} us",
                    f"{statistics.median(s.others for s in mine):.0%}",
                ]
            )
        added = list(zip(*pairs, strict=True))
        rows.append(
            [
                "added by the hop",
                str(connections),
                "",
                _spread([far.p50_ms - near.p50_ms for near, far in added], ".2f", "ms"),
                _spread([far.p99_ms - near.p99_ms for near, far in added], ".2f", "ms"),
                _spread([far.home_us - near.home_us for near, far in added], ".0f", "us"),
                _spread([far.other_us - near.other_us for near, far in added], ".0f", "us"),
                _spread([far.cpu_us - near.cpu_us for near, far in added], ".0f", "us"),
                "",
            ]
        )
    return cache_servers.table(rows)


def _spread(values: list[float], form: str, unit: str) -> str:
    low, middle, high = (
        format(value, form) for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} {unit} ({low} to {high})"
