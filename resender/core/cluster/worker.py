"""Which of several processes of one node this is, and how they reach each other.

Pure: values and the text the parent hands to each of them in its environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from resender.core.binance.markets import Market
from resender.core.egress.spec import EgressSpec

# In the environment of every worker; not a setting: the parent writes it.
ENVIRONMENT = "BINANCE_RESENDER_WORKER"
# The worker that owns upstream streams, backfill, saved candles, accounts and the admin pages.
COLLECTOR = 0
# Of the first request of a connection to the inner port: the secret, and the client's address or, where another worker
# wants streams for its own clients, its name.
INNER_HEADER = "Resender-Inner"
INSIDER = "worker "
# Behind the name of a worker: its clients are this node's own, not those of another node.
FOR_OWN_CLIENTS = " shared"
_STREAM_NAME = {
    Market.SPOT: "stream.binance.com", Market.UM: "fstream.binance.com", Market.CM: "dstream.binance.com",
}  # fmt: skip
# Where a node has its streams from that has none of its own: whichever node has them.
NODE_STREAM_URLS = {market: f"ws://{name}" for market, name in _STREAM_NAME.items()}
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a node.

    Shape: `number` from 0, the collector, to `count` - 1; `port` is the clients', `inner_port` that of the collector
        on loopback, where only who knows `secret` is heard, `inner_fd` its socket; `redis` is empty or the URL of
        the private server, which has been started again if `has_lost`: it has forgotten what was granted.
    """

    number: int
    count: int
    port: int
    inner_port: int
    inner_fd: int
    secret: str
    redis: str = ""
    has_lost: bool = False

    @property
    def is_collector(self) -> bool:
        return self.number == COLLECTOR

    def to_text(self) -> str:
        return json.dumps(asdict(self))


def inner_stream_urls(worker: Worker) -> dict[Market, str]:
    """Return where a worker has its streams from: the collector, as one of its clients."""
    return {market: f"ws://127.0.0.1:{worker.inner_port}/{name}" for market, name in _STREAM_NAME.items()}


def inner_value(worker: Worker, whose: str = "") -> str:
    """Return the value of `INNER_HEADER`; without an address it is the worker's own connection."""
    return f"{worker.secret} {whose or f'{INSIDER}{worker.number}'}"


def shared_egresses(specs: Iterable[EgressSpec], node: str) -> tuple[EgressSpec, ...]:
    """Return the ways out of a node as its workers use them: each is shared among them."""
    return tuple(spec if spec.shared else replace(spec, shared=f"{node} {spec.name}") for spec in specs)


def parse_worker(text: str) -> Worker:
    """Read what `Worker.to_text` wrote. Raises: ValueError."""
    try:
        worker = Worker(**json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not 0 <= worker.number < worker.count or not _SECRET.fullmatch(worker.secret):
        raise ValueError("no worker")
    return worker


def crew_socket(folder: object) -> str:
    """Return the socket below a data folder over which workers tell their figures."""
    return f"{folder}/crew.sock"


def ask_socket(folder: object) -> str:
    """Return the socket over which they ask for answers out of memory."""
    return f"{folder}/ask.sock"


def redis_socket(folder: object) -> str:
    """Return the socket of the private Redis."""
    return f"{folder}/redis.sock"
