"""What the web layer is handed: the services of one gateway, and nothing that starts or stops them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resender.access import Access
from resender.account import Accounts
from resender.aio import Clock, Tasks
from resender.alerts import Alerts
from resender.calls import Calls
from resender.config import Config
from resender.core.cluster.node_proof import ProofReader
from resender.core.cluster.worker import Worker
from resender.fanout import Fanout
from resender.market.cache import MarketCache
from resender.market.close_feed import CloseFeeds
from resender.metrics import Metrics
from resender.savings import Savings
from resender.secret_box import SecretBox
from resender.status import Status
from resender.store import Store
from resender.upstream.dispatch import Dispatch
from resender.upstream.downloads import Downloads
from resender.upstream.shared_streams import ReaderStreams, SharedStreams
from resender.upstream.streams.relays import Relays
from resender.upstream.tunnels import Tunnels
from resender.workers import Asks, Crew, Elsewhere

if TYPE_CHECKING:
    from resender.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Services:
    """The services handlers use; each names those it needs.

    Shape: `cache` and `closes` are None where the market cache is switched off, `cluster` where there is one node;
        `tasks` ends with the gateway. Of several workers of a node the collector has `crew`, each other one `asks`;
        `elsewhere` and `transfers` tell which connections are the collector's and carry them there.
    """

    config: Config
    clock: Clock
    metrics: Metrics
    access: Access
    calls: Calls
    tasks: Tasks
    dispatch: Dispatch
    cache: MarketCache | None
    closes: CloseFeeds | None
    fanout: Fanout
    relays: Relays
    # None where no other node can have streams for the clients of this one.
    shared_streams: SharedStreams | ReaderStreams | None
    downloads: Downloads
    tunnels: Tunnels
    store: Store
    accounts: Accounts
    # None in a worker that is not the collector.
    alerts: Alerts | None
    cluster: Cluster | None
    worker: Worker | None
    asks: Asks | None
    crew: Crew | None
    elsewhere: Elsewhere
    transfers: Tasks
    # Reads what other nodes show; None where there are none.
    proofs: ProofReader | None
    secret_box: SecretBox
    # How old answers may be that no stream can prove, by path. Units: milliseconds.
    consent: Mapping[str, int]
    status: Status
    savings: Savings
    user_agent: str
    ssl_context: ssl.SSLContext

    @property
    def in_flight(self) -> int:
        """Calls under way in this process, and in the workers it shows."""
        return self.calls.in_flight + (self.crew.in_flight if self.crew is not None else 0)
