"""The gateway: builds the services, joins them, starts and stops them in order.

It does nothing else, imports no web framework and handles no request. One `Gateway` owns everything
that lives while the program runs; `web/` gets its `services`, `cli/serve.py` starts it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from resender import __version__
from resender.access import Access
from resender.aio import Clock, Tasks
from resender.api_keys import digest_of, hint_of
from resender.assembly import make_accounts, make_alerts, make_cache
from resender.calls import Calls
from resender.config import Config
from resender.config_values import OFF
from resender.core.access.whitelist import Entry
from resender.core.binance.markets import Market
from resender.core.cluster.node_info import COLLECTOR_ROLE, NodeInfo, pool_loads
from resender.core.cluster.node_proof import ProofReader
from resender.core.cluster.worker import INSIDER, Worker, shared_egresses
from resender.core.egress.budget import MINUTE_MS
from resender.core.market.consent import parse_consent
from resender.core.market.preload import PreloadRule, parse_preload
from resender.fanout import Fanout, FanoutOptions
from resender.gauges import add_readers
from resender.loop_lag import LoopLag
from resender.market.cache import MarketCache
from resender.market.close_feed import CloseFeeds, CloseOptions
from resender.metrics import Metrics
from resender.name_watch import NameWatch
from resender.nodes import (
    account_places,
    make_hops,
    make_shared_weight,
    node_egresses,
    share_streams,
    specs_of,
    streams_elsewhere,
)
from resender.places import node_name
from resender.savings import Savings
from resender.secret_box import SecretBox
from resender.services import Services
from resender.status import Status
from resender.store import AccountRow, PreloadRow, Store
from resender.upstream.closures import CLOSED_KEY, Closures
from resender.upstream.dispatch import Dispatch
from resender.upstream.downloads import Downloads
from resender.upstream.egress_making import make_egress
from resender.upstream.egresses import bind_problem
from resender.upstream.streams.connects import CONNECTS_KEY, Connects
from resender.upstream.streams.feeds import Feeds
from resender.upstream.streams.relays import Relays
from resender.upstream.tls import make_context
from resender.upstream.tunnels import Tunnels
from resender.upstream.weight_limits import WeightLimits
from resender.workers import Elsewhere, Team

if TYPE_CHECKING:
    from resender.alerts import Alerts
    from resender.cluster import Cluster, SharedWeight

logger = logging.getLogger("resender.gateway")

# So long after it has left a node may still be sent calls.
_LEAVING_S = 0.2
# How long the start waits for the addresses of DNS names; they come later too.
_NAMES_S = 3.0


class Gateway:
    """All services of one node."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        ssl_context: ssl.SSLContext | None = None,
        weight_window_ms: int = MINUTE_MS,
        worker: Worker | None = None,
        certificate_ends: Callable[[], datetime | None] | None = None,
    ) -> None:
        self.worker = worker
        is_reader = worker is not None and not worker.is_collector
        self.config = config
        self.clock = clock or Clock()
        self._started_ms = self.clock.now_ms()
        is_front = COLLECTOR_ROLE not in config.roles
        self.metrics = Metrics()
        # What the services do by themselves; the clients' calls have tasks of their own.
        self.tasks = Tasks()
        self.calls = Calls()
        self.lag = LoopLag()
        self.savings = Savings(self.clock)
        self.access = Access(config.trusted_proxies, self.clock)
        self.names = NameWatch(self.clock, self.tasks, self._names_changed)
        self.store = Store(
            config.database,
            initial_whitelist=config.whitelist,
            log_queue_size=config.log_queue_size,
            log_retention_days=config.log_retention_days,
            log_max_rows=config.log_max_rows,
            now_ms=self.clock.now_ms,
        )
        node = node_name(config.node_name, config.port if worker is None else worker.port)
        self.egresses = config.egresses if worker is None else shared_egresses(config.egresses, node)
        # One for everything that is called: each holds all certificate authorities.
        self.ssl_context = ssl_context or make_context()
        self.egress = make_egress(config, self.clock, self.ssl_context, weight_window_ms, self.egresses)
        user_agent = f"binance-resender/{__version__}"
        self.dispatch = Dispatch(
            self.egress,
            clock=self.clock,
            user_agent=user_agent,
            get_memory_s=config.get_memory_ms / 1000,
            exchange_info_memory_s=config.exchange_info_memory_s,
        )
        self.closures = Closures(
            self.egress.governor,
            lambda: self.store.run(lambda repository: repository.state_get(CLOSED_KEY)),
            lambda text: self.store.run(lambda repository: repository.state_set(CLOSED_KEY, text)),
            clock=self.clock,
            tasks=self.tasks,
        )
        self.weight_limits = WeightLimits(self.dispatch, self.tasks, self._is_followed)
        self.egress.on_closed = self._pool_closed
        self.egress.on_metered = self.weight_limits.learn
        self.connects = Connects(
            lambda: self.store.run(lambda repository: repository.state_get(CONNECTS_KEY)),
            lambda text: self.store.run(lambda repository: repository.state_set(CONNECTS_KEY, text)),
            clock=self.clock,
            tasks=self.tasks,
        )
        streams = {Market.SPOT: config.stream_spot, Market.UM: config.stream_um, Market.CM: config.stream_cm}
        self.hops = make_hops(config, node, self.egress, self.clock, self.ssl_context)
        self.dispatch.hops = self.hops
        elsewhere = streams_elsewhere(worker, self.hops, self.clock)
        self.shared_streams = share_streams(config, worker, self.hops, self.clock)
        self.feeds = Feeds(
            self.egresses,
            elsewhere.urls or streams,
            silence_s=config.stream_silence_s,
            streams_per_connection=config.streams_per_connection,
            clock=self.clock,
            tasks=self.tasks,
            ssl_context=self.ssl_context,
            health=self.egress.governor,
            connects=None if elsewhere.urls else self.connects,
            open_with=elsewhere.open_with,
            share_with=self.shared_streams.session if self.shared_streams is not None else None,
        )
        self.cache: MarketCache | None = None
        if config.cache_enabled and not is_reader and not is_front:
            self.cache = make_cache(
                config, self.dispatch, self.feeds, self.clock, self.tasks, self.weight_limits.note
            )
        self.closes: CloseFeeds | None = None
        if self.cache is not None:
            when = CloseOptions(config.close_first_ms, config.close_deadline_ms)
            self.closes = CloseFeeds(self.cache, when, self.tasks)
        self.fanout = Fanout(
            self.feeds,
            FanoutOptions(
                queue_bytes=config.client_queue_bytes,
                linger_s=config.stream_linger_s,
                max_clients=config.max_stream_clients,
                max_streams=config.max_client_streams,
                sends_last=config.stream_last_frame,
            ),
            clock=self.clock,
            tasks=self.tasks,
        )
        self.relays = Relays(
            self.egresses,
            {
                "stream_spot": config.stream_spot,
                "stream_um": config.stream_um,
                "stream_cm": config.stream_cm,
                "stream_margin": config.stream_margin,
                "ws_api_spot": config.ws_api_spot,
                "ws_api_um": config.ws_api_um,
                "ws_api_cm": config.ws_api_cm,
            },
            self.egress.governor,
            clock=self.clock,
            ssl_context=self.ssl_context,
        )
        self.relays.hops = self.hops
        self.secret_box = SecretBox(config.secret_key, config.data_path)
        self.accounts = make_accounts(
            config, self.dispatch, self.relays, self.clock, self.tasks, self.store, self.secret_box
        )
        self.downloads = Downloads(
            "" if config.upstream_data == OFF else config.upstream_data,
            self.egresses,
            connect_s=config.connect_timeout_s,
            read_s=config.read_timeout_s,
            ssl_context=self.ssl_context,
        )
        redis_url = config.redis_url or (worker.redis if worker is not None else "")
        self._account_rows: tuple[AccountRow, ...] = ()
        self._stored_rules: tuple[PreloadRule, ...] = ()
        self.elsewhere = Elsewhere()
        self.transfers = Tasks()
        self.team = self._make_team(worker) if worker is not None else None
        name = node if worker is None or worker.is_collector else f"{node}/{worker.number}"
        self.cluster = self._make_cluster(redis_url, name) if redis_url else None
        self.shared_weight = self._make_shared_weight(self.cluster) if self.cluster is not None else None
        self.status = Status(
            access=self.access,
            dispatch=self.dispatch,
            cache=self.cache,
            fanout=self.fanout,
            lag=self.lag,
            savings=self.savings,
            store=self.store,
            clock=self.clock,
            accounts=self.accounts,
            cluster=self.cluster,
            workers=self.team.rows if self.team is not None else list,
            weights_of_workers=self.team.weights if self.team is not None else dict,
        )
        self.alerts: Alerts | None = None
        if not is_reader:
            self.alerts = make_alerts(
                config, node, self.status, self.store, self.access, self.egress.governor.clock, self.clock,
                self.tasks, self.secret_box, self.ssl_context, self.cluster, certificate_ends,
            )  # fmt: skip
            self.egress.on_key_refused = self._key_refused
        self.lag.on_lag = self.metrics.loop_lag.observe
        self.fanout.on_written = self.metrics.stream_writes.observe
        self.services = Services(
            config=config,
            clock=self.clock,
            metrics=self.metrics,
            access=self.access,
            calls=self.calls,
            tasks=self.tasks,
            dispatch=self.dispatch,
            cache=self.cache,
            closes=self.closes,
            fanout=self.fanout,
            relays=self.relays,
            shared_streams=self.shared_streams,
            downloads=self.downloads,
            proofs=ProofReader(config.node_secret, node) if self.hops is not None else None,
            tunnels=Tunnels(self.egresses, config.connect_timeout_s),
            store=self.store,
            accounts=self.accounts,
            cluster=self.cluster,
            worker=worker,
            asks=self.team.asks if self.team is not None else None,
            crew=self.team.crew if self.team is not None else None,
            elsewhere=self.elsewhere,
            transfers=self.transfers,
            secret_box=self.secret_box,
            status=self.status,
            alerts=self.alerts,
            savings=self.savings,
            consent=parse_consent(config.consent_max_age_ms),
            user_agent=user_agent,
            ssl_context=self.ssl_context,
        )
        add_readers(self.services)
        self._stack = AsyncExitStack()

    def _learn_nodes(self) -> None:
        """Take what the other nodes tell: keys may have another home now, and accounts another watcher."""
        if self.hops is None or self.cluster is None:
            return
        was_drained, homes = self.hops.homes.is_drained, self.hops.homes
        homes.is_drained = self.cluster.is_drained
        if homes.learn(self.cluster.nodes()) or homes.is_drained != was_drained:
            self._set_accounts(self._account_rows)
        if self.shared_streams is not None:
            self.feeds.renew_shared(self.shared_streams.misplaced())

    def _make_team(self, worker: Worker) -> Team:
        return Team(
            worker,
            self.config.data_path,
            self.cache,
            has_cache=self.config.cache_enabled,
            metrics=self.metrics,
            savings=self.savings,
            refused=self.access.refused,
            figures=lambda: (
                self.calls.in_flight,
                len(self.fanout.clients) + len(self.fanout.guests),
                self.lag.recent_s * 1000,
            ),
            weights=lambda: self.status.weights(),
            clock=self.clock,
            tasks=self.tasks,
        )

    def _make_cluster(self, redis_url: str, name: str) -> Cluster:
        # The client of Redis is a tenth of the program's start, and few have use for it.
        from resender.cluster import Cluster, installation_of

        cluster = Cluster(
            redis_url,
            name=name,
            installation=installation_of(self.config.upstreams.values()),
            describe=self._describe,
            clock=self.clock,
            tasks=self.tasks,
            ssl_context=self.ssl_context,
        )
        cluster.presence.on_read = self._learn_nodes
        return cluster

    def _make_shared_weight(self, cluster: Cluster) -> SharedWeight:
        shared = make_shared_weight(
            self.config, self.egress.governor, cluster, self.store, self.worker, self.clock, self.tasks
        )
        self.egress.on_no_room = self.relays.on_no_room = shared.ask
        self.egress.on_wish = shared.wish
        return shared

    def _pool_closed(self) -> None:
        self.closures.changed()
        if self.shared_weight is not None:
            self.shared_weight.closed()

    def _describe(self) -> NodeInfo:
        """Tell the other nodes what this one is and does now; `Presence` adds who it is."""
        return NodeInfo(
            id="",
            name="",
            url=self.config.node_url,
            version=__version__,
            started_ms=self._started_ms,
            egresses=node_egresses(self.config, self.egress, self.clock),
            roles=self.config.roles,
            in_flight=self.calls.in_flight,
            weights=pool_loads(self.status.weights()),
            lag_ms=self.lag.recent_s * 1000,
            streams=len(self.fanout.clients) + len(self.fanout.guests),
        )

    def _is_followed(self, market: Market) -> bool:
        """Tell whether the cache reads a market's exchangeInfo by itself."""
        state = self.cache.states.get(market) if self.cache is not None else None
        return state is not None and state.is_started

    # --- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every service; the upstreams are not asked, they may be out of reach.

        Raises: StoreError if the database cannot be used; nothing is left running then.
        """
        async with AsyncExitStack() as stack:
            await self.store.start(
                on_whitelist=self._set_whitelist,
                on_preload=self._set_preload,
                on_accounts=self._set_accounts,
                on_alerts=self.alerts.set_setup if self.alerts is not None else None,
                first_password=self.config.admin_password if self.config.admin_enabled else None,
            )
            stack.push_async_callback(self.store.stop)
            for spec in self.egresses:
                if spec.address and (problem := bind_problem(spec.address)):
                    logger.error(
                        "egress %s cannot be used: %s; add it to a network interface or correct EGRESS",
                        spec.name, problem,
                    )  # fmt: skip
            await self.closures.load()
            stack.push_async_callback(self.closures.save_last)
            await self.connects.load()
            stack.push_async_callback(self.connects.save_last)
            await self.egress.start()
            stack.push_async_callback(self.egress.stop)
            if self.hops is not None:
                stack.push_async_callback(self.hops.stop)
            await self.downloads.start()
            stack.push_async_callback(self.downloads.stop)
            stack.push_async_callback(self.tasks.cancel)
            if self.cache is not None:
                self.cache.start()
                stack.push_async_callback(self.cache.stop)
            stack.push_async_callback(self.relays.stop)
            self.accounts.start()
            stack.push_async_callback(self.accounts.stop)
            self.fanout.start()
            if self.team is not None:
                await self.team.start()
                stack.push_async_callback(self.team.stop)
            self.lag.start()
            stack.callback(self.lag.stop)
            await self.names.ready(_NAMES_S)
            if self.alerts is not None:
                self.alerts.start()
                stack.push_async_callback(self.alerts.stop)
            if self.cluster is not None and self.shared_weight is not None:
                self.cluster.start()
                stack.push_async_callback(self.cluster.stop)
                await self.shared_weight.start()
                stack.push_async_callback(self.shared_weight.stop)
            stack.push_async_callback(self.feeds.stop)
            stack.push_async_callback(self.fanout.stop)
            stack.push_async_callback(self.calls.tasks.cancel)
            stack.push_async_callback(self.transfers.cancel)
            self._stack = stack.pop_all()
        self.calls.is_open = True
        self._apply_rules()

    async def drain(self) -> None:
        """Take no new calls and wait for those in flight, at most `SHUTDOWN_S`, see `Calls.drain`."""
        if self.hops is not None and self.cluster is not None:
            # Others are to send nothing more before connections end.
            await self.cluster.presence.stop()
            await asyncio.sleep(_LEAVING_S)
        longest_s = self.config.shutdown_s
        await asyncio.gather(
            self.calls.drain(longest_s), self.relays.drain(longest_s), self.transfers.join(longest_s)
        )

    async def stop(self) -> None:
        """Stop every service, in the reverse order of their start."""
        self.calls.is_open = False
        await self._stack.aclose()

    def _set_whitelist(self, entries: Iterable[Entry]) -> None:
        self.access.set_whitelist(entries)
        self.names.set_names(self.access.names)
        # What a name meant before it was taken off or switched off counts no more.
        self._names_changed()

    def _names_changed(self) -> None:
        self.access.set_resolved(self.names.resolved)
        self._expel()

    def _key_refused(self, key: str, egress: str) -> None:
        if self.alerts is not None:
            self.alerts.note("key", digest_of(key)[:16], hint=hint_of(key), egress=egress)

    def _expel(self) -> None:
        """End the streams of whoever may not call any more."""
        self.fanout.expel(
            lambda address: address.startswith(INSIDER) or self.access.whitelist.match(address) is not None
        )

    def _set_accounts(self, rows: tuple[AccountRow, ...]) -> None:
        had_accounts = self.elsewhere.has_accounts
        self.elsewhere.set_accounts(rows)
        if self.worker is not None and not self.worker.is_collector:
            # The collector watches them, and has to see orders that are placed by the WebSocket API too.
            if self.elsewhere.has_accounts and not had_accounts:
                self.fanout.dismiss_guests("an account is watched from now on: connect again")
            return
        self._account_rows = rows
        if self.hops is not None:
            self.hops.accounts = account_places(rows)
        specs = specs_of(rows, self.hops.homes if self.hops is not None else None, self.clock.mono())
        self.accounts.set_accounts(specs)

    # --- preload rules ---------------------------------------------------------------------

    def _set_preload(self, rows: tuple[PreloadRow, ...]) -> None:
        rules = []
        for row in rows:
            try:
                rules.append(row.rule)
            except ValueError as error:
                logger.error("preload rule %d is left out: %s", row.id, error)
        self._stored_rules = tuple(rules)
        if self.calls.is_open:
            self._apply_rules()

    def _apply_rules(self) -> None:
        if self.cache is not None:
            rules = (*parse_preload(self.config.preload), *self._stored_rules)
            self.cache.set_rules([rule for rule in rules if rule.market in self.egress.markets])
