"""The gateway: builds the services, joins them, starts and stops them in order.

It imports no web framework and handles no request itself. One `Gateway` owns everything that
lives while the program runs; `web/` asks it, `run.py` starts it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import ssl
import zlib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from resender import __version__
from resender.aio import Clock, Tasks
from resender.config import Config
from resender.core.access import Entry, TrustedProxies, Whitelist
from resender.core.headers import Pairs
from resender.core.markets import Market
from resender.core.preload import PreloadRule, parse_preload
from resender.core.stream_names import StreamLimits
from resender.errors import UpstreamLost
from resender.market.backfill import Fetched
from resender.market.cache import CacheOptions, MarketCache
from resender.market.files import CandleFiles
from resender.market.line import OnFrame, OnStreams
from resender.market.warm import WarmFiles
from resender.metrics import Metrics
from resender.store import PreloadRow, Store
from resender.upstream.egress import EgressPool
from resender.upstream.rest import Timeouts
from resender.upstream.stream_pool import StreamPool

logger = logging.getLogger("resender.gateway")

# exchangeInfo, the largest of our own reads, has several MB.
_OWN_READ_BYTES = 64 << 20


def _gunzip(body: bytes) -> bytes:
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        raise UpstreamLost("The upstream sent a damaged compressed answer.") from None


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
        self.cache = self._make_cache() if config.cache_enabled else None
        self._stored_rules: tuple[PreloadRule, ...] = ()
        self.metrics.in_flight.set_function(lambda: self.in_flight)
        self.metrics.add_reader(self._read_samples)
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start every service; the upstreams are not asked, they may be out of reach.

        Raises: StoreError if the database cannot be used; nothing is left running then.
        """
        async with AsyncExitStack() as stack:
            await self.store.start(on_whitelist=self.set_whitelist, on_preload=self._set_preload)
            stack.push_async_callback(self.store.stop)
            await self.egress.start()
            stack.push_async_callback(self.egress.stop)
            stack.push_async_callback(self.tasks.cancel)
            if self.cache is not None:
                self.cache.start()
                stack.push_async_callback(self.cache.stop)
            stack.push_async_callback(self.calls.cancel)
            self._stack = stack.pop_all()
        self.is_ready = True
        self._apply_rules()

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

    # --- market cache ----------------------------------------------------------------------

    def _make_cache(self) -> MarketCache:
        config = self.config
        # Candles of one exchange must not be taken for another's.
        origin = "\n".join(url for _, url in sorted(config.upstreams.items()))
        folder = config.data_path / "candles" / hashlib.sha256(origin.encode()).hexdigest()[:12]
        files = CandleFiles(folder)
        return MarketCache(
            CacheOptions(
                depth=config.kline_depth,
                idle_minutes=config.stream_idle_minutes,
                max_on_demand=config.max_on_demand_series,
                settle_wait_ms=config.settle_wait_ms,
                refresh_s=config.symbol_refresh_s,
                backfill_share=config.backfill_weight_share,
            ),
            fetch=self.fetch,
            make_pool=self._make_pool,
            clock=self.clock,
            tasks=self.tasks,
            files=WarmFiles(files, save_every_s=config.candle_save_s, clock=self.clock, tasks=self.tasks),
        )

    def _make_pool(
        self, market: Market, path: str, on_frame: OnFrame, on_live: OnStreams, on_lost: OnStreams
    ) -> StreamPool:
        config = self.config
        # Spot allows 5 messages a second, pings and pongs included, futures 10.
        # Source: web-socket-streams.md of 2026-07-21; um and cm general info.
        limits = StreamLimits(
            streams_per_connection=config.streams_per_connection,
            messages_per_s=3.0 if market is Market.SPOT else 6.0,
            # 300 in 5 minutes for an address; USD-M has two pools that share it.
            connects_per_5_min=120 if market is Market.UM else 250,
            silence_s=config.stream_silence_s,
            ping_every_s=min(3.0, config.stream_silence_s * 0.45),
        )
        base_url = {
            Market.SPOT: config.stream_spot,
            Market.UM: config.stream_um,
            Market.CM: config.stream_cm,
        }[market]
        return StreamPool(
            market, base_url, path, limits,
            on_frame=on_frame, on_live=on_live, on_lost=on_lost, tasks=self.tasks, clock=self.clock,
        )  # fmt: skip

    async def fetch(self, market: Market, target: str) -> Fetched:
        """Make one of the gateway's own reads; the answer is unpacked.

        Raises: AnswerError if there is no complete answer, ReadFailed if it is far too large.
        """
        headers: Pairs = [("User-Agent", self.user_agent), ("Accept-Encoding", "gzip")]
        response = await self.egress.send(market, "GET", target, headers, b"")
        try:
            parts = [chunk async for chunk in response.chunks(_OWN_READ_BYTES)]
        finally:
            response.close()
        down = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        body = b"".join(parts)
        if down.get("content-encoding", "").lower() == "gzip":
            body = await asyncio.to_thread(_gunzip, body)
        if self.cache is not None:
            self.cache.note_weight(market, down.get("x-mbx-used-weight-1m", ""))
        return Fetched(response.status, down, body)

    def _set_preload(self, rows: tuple[PreloadRow, ...]) -> None:
        rules = []
        for row in rows:
            try:
                rules.append(row.rule)
            except ValueError as error:
                logger.error("preload rule %d is left out: %s", row.id, error)
        self._stored_rules = tuple(rules)
        if self.is_ready:
            self._apply_rules()

    def _apply_rules(self) -> None:
        if self.cache is not None:
            rules = (*parse_preload(self.config.preload), *self._stored_rules)
            self.cache.set_rules([rule for rule in rules if rule.market in self.egress.clients])

    def client_ip(self, peer: str, forwarded_for: Sequence[str], real_ip: Sequence[str]) -> str:
        """Find the address of a client, see `TrustedProxies.client_ip`."""
        return self.proxies.client_ip(peer, forwarded_for, real_ip)

    def _cache_samples(self, cache: MarketCache) -> list[CounterMetricFamily | GaugeMetricFamily]:
        answers = CounterMetricFamily(
            "resender_cache_answers", "Calls the cache was asked for, by result.", labels=["result"]
        )
        answers.add_metric(["hit"], cache.hits)
        answers.add_metric(["miss"], cache.misses)
        series = GaugeMetricFamily("resender_cache_series", "Series and tickers kept.", labels=["market"])
        live = GaugeMetricFamily(
            "resender_cache_series_live", "Series and tickers that can answer.", labels=["market"]
        )
        connections = GaugeMetricFamily(
            "resender_stream_connections", "Stream connections that are live.", labels=["market"]
        )
        for market, line in cache.lines.items():
            entries = line.entries()
            series.add_metric([market.value], len(entries))
            live.add_metric([market.value], sum(entry.state in ("live", "filling") for entry in entries))
            links = [link for pool in line.pools for link in pool.connections]
            connections.add_metric([market.value], sum(link.is_live for link in links))
        return [answers, series, live, connections]

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
        samples = [] if self.cache is None else self._cache_samples(self.cache)
        stats = self.store.stats
        rows = CounterMetricFamily(
            "resender_log_rows", "Rows of the request log, written or dropped.", labels=["result"]
        )
        rows.add_metric(["written"], stats.log_written)
        rows.add_metric(["dropped"], stats.log_dropped)
        return [
            *samples,
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
