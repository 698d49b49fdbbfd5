"""What the web layer is handed: the services of one gateway, and nothing that starts or stops them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from resender.access import Access
from resender.aio import Clock, Tasks
from resender.calls import Calls
from resender.config import Config
from resender.fanout import Fanout
from resender.market.cache import MarketCache
from resender.metrics import Metrics
from resender.status import Status
from resender.store import Store
from resender.upstream.dispatch import Dispatch
from resender.upstream.streams.relays import Relays


@dataclass(frozen=True, slots=True)
class Services:
    """The services handlers use; each names those it needs.

    Shape: `cache` is None where the market cache is switched off; `tasks` ends with the gateway.
    """

    config: Config
    clock: Clock
    metrics: Metrics
    access: Access
    calls: Calls
    tasks: Tasks
    dispatch: Dispatch
    cache: MarketCache | None
    fanout: Fanout
    relays: Relays
    store: Store
    status: Status
    user_agent: str
    ssl_context: ssl.SSLContext
