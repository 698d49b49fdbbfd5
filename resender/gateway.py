"""The gateway: builds the services, joins them, starts and stops them in order.

It imports no web framework and handles no request itself. One `Gateway` owns everything that
lives while the program runs; `web/` asks it, `run.py` starts it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from resender import __version__
from resender.aio import Clock, Tasks
from resender.config import Config
from resender.core.access import Entry, TrustedProxies, Whitelist
from resender.metrics import Metrics
from resender.store import Store
from resender.upstream.egress import EgressPool
from resender.upstream.rest import Timeouts

logger = logging.getLogger("resender.gateway")


class Gateway:
    """All services of one node and the state the request path reads."""

    def __init__(
        self, config: Config, *, clock: Clock | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.metrics = Metrics()
        # Calls of clients, and what the services do by themselves.
        self.calls = Tasks()
        self.tasks = Tasks()
        self.proxies = TrustedProxies(config.trusted_proxies)
        self.whitelist = Whitelist()
        self.user_agent = f"binance-resender/{__version__}"
        self.is_ready = False
        self.in_flight = 0
        self.store = Store(
            config.database,
            initial_whitelist=config.whitelist,
            log_queue_size=config.log_queue_size,
            log_retention_days=config.log_retention_days,
            log_max_rows=config.log_max_rows,
            now_ms=self.clock.now_ms,
        )
        self.egress = EgressPool(
            config.upstreams,
            Timeouts(config.connect_timeout_s, config.read_timeout_s, config.total_timeout_s),
            keepalive_s=config.keepalive_s,
            dns_cache_s=config.dns_cache_s,
            ssl_context=ssl_context,
        )
        self.metrics.in_flight.set_function(lambda: self.in_flight)
        self.metrics.add_reader(self._read_samples)
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start every service; the upstreams are not asked, they may be out of reach.

        Raises: StoreError if the database cannot be used; nothing is left running then.
        """
        async with AsyncExitStack() as stack:
            await self.store.start(on_whitelist=self.set_whitelist)
            stack.push_async_callback(self.store.stop)
            await self.egress.start()
            stack.push_async_callback(self.egress.stop)
            stack.push_async_callback(self.tasks.cancel)
            stack.push_async_callback(self.calls.cancel)
            self._stack = stack.pop_all()
        self.is_ready = True

    async def drain(self) -> None:
        """Take no new calls and wait for those in flight, at most `SHUTDOWN_S`.

        A call that takes longer is cut off and answered that its outcome is unknown.
        """
        self.is_ready = False
        left = await self.calls.join(self.config.shutdown_s)
        if left:
            logger.warning("%d calls did not end within %g s and are cut off", left, self.config.shutdown_s)
            await self.calls.cancel()

    async def stop(self) -> None:
        """Stop every service, in the reverse order of their start."""
        self.is_ready = False
        await self._stack.aclose()

    def set_whitelist(self, entries: Iterable[Entry]) -> None:
        """Put a new whitelist in force, from the next request on."""
        self.whitelist = Whitelist(entries)
        if self.whitelist.unreadable:
            logger.error("%d whitelist entries cannot be read and are left out", self.whitelist.unreadable)
        if not self.whitelist.size:
            logger.warning(
                "the whitelist is empty: nobody may call. Add an address with "
                "`python run.py whitelist add ADDRESS`"
            )

    def client_ip(self, peer: str, forwarded_for: Sequence[str], real_ip: Sequence[str]) -> str:
        """Find the address of a client, see `TrustedProxies.client_ip`."""
        return self.proxies.client_ip(peer, forwarded_for, real_ip)

    def _read_samples(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        connections = CounterMetricFamily(
            "resender_upstream_connections",
            "Calls by market, on a new or a kept upstream connection.",
            labels=["market", "kind"],
        )
        repeats = CounterMetricFamily(
            "resender_upstream_repeats",
            "GET calls sent a second time because a kept connection proved dead.",
            labels=["market"],
        )
        for market, client in self.egress.clients.items():
            connections.add_metric([market.value, "new"], client.stats.connections_new)
            connections.add_metric([market.value, "reused"], client.stats.connections_reused)
            repeats.add_metric([market.value], client.stats.repeats)
        stats = self.store.stats
        rows = CounterMetricFamily(
            "resender_log_rows", "Rows of the request log, written or dropped.", labels=["result"]
        )
        rows.add_metric(["written"], stats.log_written)
        rows.add_metric(["dropped"], stats.log_dropped)
        return [
            connections,
            repeats,
            rows,
            GaugeMetricFamily("resender_log_queued", "Log rows waiting for the database.", stats.log_queued),
            CounterMetricFamily("resender_database_errors", "Failed database operations.", stats.errors),
            GaugeMetricFamily(
                "resender_database_healthy", "1 while the database works, else 0.", int(stats.healthy)
            ),
            GaugeMetricFamily(
                "resender_whitelist_entries", "Whitelist entries in force.", self.whitelist.size
            ),
        ]
