"""This gateway among other nodes: what it sends through them, what it tells of itself, which accounts it watches.

No state.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resender.aio import Clock, Tasks
from resender.config import Config
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.binance.markets import Market
from resender.core.cluster.homes import Homes
from resender.core.cluster.node_info import COLLECTOR_ROLE, NodeEgress
from resender.core.cluster.worker import FOR_OWN_CLIENTS, NODE_STREAM_URLS, Worker, inner_stream_urls
from resender.core.egress.governor import Governor
from resender.core.egress.spec import place_of
from resender.errors import StoreError
from resender.store import AccountRow, Repository, Store
from resender.upstream.connector import Timeouts
from resender.upstream.egress import EgressPool
from resender.upstream.hops import Hops, collector_sessions
from resender.upstream.shared_streams import ReaderStreams, SharedStreams
from resender.upstream.streams.session import Opens
from resender.workers import open_inner

_MEMORY_KEY = "redis_memory:"
if TYPE_CHECKING:
    from resender.cluster import Cluster, RedisLink, SharedWeight, WeightLeases

logger = logging.getLogger("resender.cluster")


def make_hops(
    config: Config, node: str, egress: EgressPool, clock: Clock, ssl_context: ssl.SSLContext
) -> Hops | None:
    """Make the way to the other nodes; None where there are none, or they could not send anything back here.

    Shape: `node` is the name of this one, without the number of a worker.
    """
    egress.governor.pins = config.pins.at(node)
    is_front = COLLECTOR_ROLE not in config.roles
    if not config.redis_url or not config.node_secret or not (config.node_url or is_front):
        return None
    governor = egress.governor

    def own(market: Market) -> list[str]:
        mono = clock.mono()
        return [
            governor.place(each.spec)
            for each in governor.egresses_of(market)
            if not each.is_quarantined(market, mono)
        ]

    governor.place = lambda spec: place_of(node, spec.name, spec.shared)
    return Hops(
        Homes(node, config.pins, own, is_front=is_front),
        config.node_secret,
        Timeouts(config.connect_timeout_s, config.read_timeout_s, config.total_timeout_s),
        clock=clock,
        keepalive_s=config.keepalive_s,
        ssl_context=ssl_context,
    )


@dataclass(frozen=True, slots=True)
class StreamsElsewhere:
    """Where a process has its streams from that opens none at Binance; no `urls` where it does."""

    urls: Mapping[Market, str]
    open_with: Callable[[str, float], Opens] | None


def streams_elsewhere(worker: Worker | None, hops: Hops | None, clock: Clock) -> StreamsElsewhere:
    """Find where streams come from: of a reader the collector beside it, of a front another node."""
    if worker is not None and not worker.is_collector:
        return StreamsElsewhere(inner_stream_urls(worker), open_inner(worker))
    if hops is not None and hops.homes.is_front:
        return StreamsElsewhere(NODE_STREAM_URLS, collector_sessions(hops, clock))
    return StreamsElsewhere({}, None)


def share_streams(
    config: Config, worker: Worker | None, hops: Hops | None, clock: Clock
) -> SharedStreams | ReaderStreams | None:
    """Make what finds the node that has the streams for the clients of all; None where each has its own."""
    if not config.share_streams or hops is None or hops.homes.is_front:
        return None
    if worker is None or worker.is_collector:
        return SharedStreams(hops, clock)
    urls, open_marked = inner_stream_urls(worker), open_inner(worker, FOR_OWN_CLIENTS)
    return ReaderStreams(lambda market: open_marked(urls[market], config.connect_timeout_s))


def node_egresses(config: Config, egress: EgressPool, clock: Clock) -> tuple[NodeEgress, ...]:
    """Describe the egresses for the other nodes; a node that is no collector has none to offer."""
    if COLLECTOR_ROLE not in config.roles:
        return ()
    mono = clock.mono()
    return tuple(
        NodeEgress(
            each.name,
            each.spec.kind,
            egress.governor.place(each.spec),
            tuple(market.value for market in egress.upstreams if each.spec.serves(market)),
            tuple(market.value for market in egress.upstreams if each.is_quarantined(market, mono)),
        )
        for each in egress.governor.egresses
    )


def memory_of(repository: Repository, address: str, node: str) -> tuple[str, int]:
    """Return the id of what Redis last remembered of a shared address, and the permille a node held by that."""
    part = repository.state_get(f"{_MEMORY_KEY}{address}:{node}") or ""
    return repository.state_get(_MEMORY_KEY + address) or "", int(part) if part.isdigit() else 0


def keep_memory_of(repository: Repository, address: str, node: str, memory: str, part: int) -> None:
    """Keep what `memory_of` returns."""
    repository.state_set(_MEMORY_KEY + address, memory)
    repository.state_set(f"{_MEMORY_KEY}{address}:{node}", str(part))


def make_shared_weight(
    config: Config,
    governor: Governor,
    cluster: Cluster,
    store: Store,
    worker: Worker | None,
    clock: Clock,
    tasks: Tasks,
) -> SharedWeight:
    """Make what leases the weight of addresses that nodes or workers share.

    Where there are both, addresses that only the workers of this node use are shared over their own Redis.
    """
    from resender.cluster import RedisLink, SharedWeight, WeightLeases, installation_of

    has_own_redis = worker is not None and bool(worker.redis)

    def make(link: RedisLink, names: list[str] | None, **memory: Any) -> WeightLeases:
        return WeightLeases(
            governor, link, node=cluster.name, clock=clock, tasks=tasks,
            order_reserve=config.order_weight_reserve, egresses=names, **memory,
        )  # fmt: skip

    async def known_memory(address: str) -> tuple[str, int]:
        return await store.run(lambda repository: memory_of(repository, address, cluster.name))

    async def keep_memory(address: str, memory: str, part: int) -> bool:
        try:
            await store.run(
                lambda repository: keep_memory_of(repository, address, cluster.name, memory, part)
            )
        except StoreError:
            return False  # the store has said so itself
        return True

    async def known_here(address: str) -> tuple[str, int]:
        # That Redis is of this start alone.
        return ("lost" if worker is not None and worker.has_lost else ""), 0

    kept: dict[str, Any] = {"known_memory": known_memory, "keep_memory": keep_memory}
    if not has_own_redis:
        return SharedWeight([make(cluster.link, None, **kept)])
    assert worker is not None
    if not config.redis_url:
        return SharedWeight([make(cluster.link, None, known_memory=known_here)])
    own = [spec.name for spec in config.egresses if not spec.shared]
    link = RedisLink(
        worker.redis, installation=installation_of(config.upstreams.values()), clock=clock, tasks=tasks
    )
    common = [spec.name for spec in config.egresses if spec.shared]
    return SharedWeight(
        [make(link, own, known_memory=known_here), make(cluster.link, common, **kept)], [link]
    )


def account_places(rows: Iterable[AccountRow]) -> tuple[tuple[AccountMarket, str, str], ...]:
    """Return market, name and digest of each key of accounts, see `Hops.accounts`."""
    known = {market.value: market for market in AccountMarket}
    return tuple(
        (known[row.market], row.name, key.digest) for row in rows if row.market in known for key in row.keys
    )


def specs_of(rows: Iterable[AccountRow], homes: Homes | None, mono: float) -> list[AccountSpec]:
    """Return the accounts this node watches; those of which a row cannot be read are left out."""
    specs = []
    for row in rows:
        try:
            spec = _spec_of(row)
        except ValueError as error:
            logger.error("account %s is left out: %s", row.name, error)
            continue
        if homes is None or _is_watched_here(homes, spec, mono):
            specs.append(spec)
    return specs


def _is_watched_here(homes: Homes, spec: AccountSpec, mono: float) -> bool:
    """Tell whether calls with an account's key come here. One that has no key yet waits for it everywhere."""
    if not spec.keys:
        return not homes.is_front
    return any(homes.may_watch(spec.market.host, digest, mono) for digest in spec.keys)


def _spec_of(row: AccountRow) -> AccountSpec:
    """Read an account's row. Raises: ValueError for words that are none."""
    return AccountSpec(
        row.id,
        row.name,
        AccountMarket(row.market),
        Mode(row.mode),
        {key.digest: key.hint for key in row.keys},
        {key.digest: key.public_key for key in row.keys if key.public_key is not None},
        row.sealed,
    )
