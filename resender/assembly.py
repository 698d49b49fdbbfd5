"""Services that are built from many settings: the market cache, the accounts, the alerts.

`gateway.py` joins them; nothing is started here. No state.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from resender import __version__
from resender.access import Access
from resender.account import AccountOptions, Accounts
from resender.aio import Clock, Tasks
from resender.alerts import AlertOptions, Alerts, Sender, Watch
from resender.config import Config
from resender.core.account.states import merge_states
from resender.core.alerts.board import Event
from resender.core.alerts.kinds import KINDS
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.market.cache import CacheOptions, MarketCache
from resender.market.candle_files import CandleFiles
from resender.market.candle_saving import CandleSaving
from resender.places import node_name
from resender.secret_box import SecretBox
from resender.status import Status
from resender.store import Store, UpgradeFailed, read_channels
from resender.upstream.dispatch import Dispatch
from resender.upstream.streams.feeds import Feeds
from resender.upstream.streams.relays import Relays

if TYPE_CHECKING:
    from resender.cluster import Cluster

logger = logging.getLogger("resender.gateway")

# Where the command line reads the states of the accounts.
ACCOUNT_STATES_KEY = "account_states"


def make_cache(
    config: Config,
    door: Dispatch,
    feeds: Feeds,
    clock: Clock,
    tasks: Tasks,
    on_limit: Callable[[Market, int], None],
) -> MarketCache:
    """Build the market cache, with the saved candles of the exchange of the settings."""
    # Candles of one exchange must not be taken for another's.
    origin = "\n".join(url for _, url in sorted(config.upstreams.items()))
    folder = config.data_path / "candles" / hashlib.sha256(origin.encode()).hexdigest()[:12]
    return MarketCache(
        CacheOptions(
            depth=config.kline_depth,
            idle_minutes=config.stream_idle_minutes,
            max_on_demand_books=config.max_on_demand_books,
            max_on_demand=config.max_on_demand_series,
            settle_wait_ms=config.settle_wait_ms,
            quiet_s=config.stream_quiet_s,
            final_after_ms=config.rest_final_after_ms,
            refresh_s=config.symbol_refresh_s,
            um_kline_stream=config.um_kline_stream,
        ),
        door=door,
        feeds=feeds,
        clock=clock,
        tasks=tasks,
        files=CandleSaving(CandleFiles(folder), save_every_s=config.candle_save_s, clock=clock, tasks=tasks),
        on_limit=on_limit,
    )


def make_accounts(
    config: Config,
    door: Dispatch,
    opener: Relays,
    clock: Clock,
    tasks: Tasks,
    store: Store,
    secret_box: SecretBox,
) -> Accounts:
    """Build what watches accounts."""
    return Accounts(
        AccountOptions(
            silence_s=config.stream_silence_s,
            wait_ms=config.account_wait_ms,
            reconcile_s=config.account_reconcile_minutes * 60.0,
            history_ms=config.account_history_hours * 3_600_000,
            proof_s=config.account_proof_hours * 3600.0,
        ),
        door=door,
        opener=opener,
        clock=clock,
        exchange_clock=door.egress.governor.clock,
        tasks=tasks,
        unseal=secret_box.unseal,
        bind=lambda number, digest, hint: store.account_change(
            lambda repository: repository.account_bind(number, digest, hint)
        ),
        save=lambda text: store.run(
            lambda repository: repository.state_set(
                ACCOUNT_STATES_KEY, merge_states(repository.state_get(ACCOUNT_STATES_KEY), text)
            )
        ),
    )


def make_sender(
    config: Config, node: str, secret_box: SecretBox, ssl_context: ssl.SSLContext, clock: Clock
) -> Sender:
    """Build what sends alerts, through the egress of ALERT_EGRESS."""
    egress = next((spec for spec in config.egresses if spec.name == config.alert_egress), None)
    return Sender(secret_box, egress, ssl_context, clock, node)


async def tell_failed_upgrade(config: Config, error: UpgradeFailed, ssl_context: ssl.SSLContext) -> None:
    """Tell the channels of a database that this version could not bring up to date; it does not start then."""
    clock = Clock()
    sender = make_sender(
        config,
        node_name(config.node_name, config.port),
        SecretBox(config.secret_key, config.data_path),
        ssl_context,
        clock,
    )
    event = Event(KINDS["migration"], "", {"version": __version__, "why": str(error)}, clock.now_ms())
    rows = await asyncio.to_thread(read_channels, config.database)
    sent = await asyncio.gather(
        *(sender.send(row, [event]) for row in rows if row.enabled), return_exceptions=True
    )
    for problem in sent:
        if problem is not None:
            logger.warning("an alert could not be sent: %s", problem)


def make_alerts(
    config: Config,
    node: str,
    status: Status,
    store: Store,
    access: Access,
    exchange_clock: ExchangeClock,
    clock: Clock,
    tasks: Tasks,
    secret_box: SecretBox,
    ssl_context: ssl.SSLContext,
    cluster: Cluster | None,
    certificate_ends: Callable[[], datetime | None] | None,
) -> Alerts:
    """Build what tells the owner."""
    options = AlertOptions(config.alert_cache_s, config.alert_free_disk_mb, config.alert_refused)
    watch = Watch(
        options,
        status=status,
        store=store,
        access=access,
        exchange_clock=exchange_clock,
        clock=clock,
        folder=config.data_path,
        cluster=cluster,
        certificate_ends=certificate_ends,
    )
    sender = make_sender(config, node, secret_box, ssl_context, clock)
    return Alerts(options, watch, sender, store=store, clock=clock, tasks=tasks)
