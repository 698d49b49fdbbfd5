"""The ways out as the settings say: for the gateway and for commands that call Binance."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from resender.aio import Clock
from resender.config import Config
from resender.core.egress.budget import MINUTE_MS
from resender.core.egress.spec import EgressSpec
from resender.core.egress.state import Limits
from resender.upstream.connector import Timeouts
from resender.upstream.egress import EgressOptions, EgressPool


def make_egress(
    config: Config,
    clock: Clock,
    ssl_context: ssl.SSLContext,
    weight_window_ms: int = MINUTE_MS,
    egresses: Sequence[EgressSpec] = (),
) -> EgressPool:
    """Build them; `egresses` are used in place of those of the settings."""
    limits = Limits(
        spot=config.weight_limit_spot,
        futures=config.weight_limit_futures,
        options=config.weight_limit_options,
        pm=config.weight_limit_pm,
        sapi=config.weight_limit_sapi,
        window_ms=weight_window_ms,
    )
    return EgressPool(
        egresses or config.egresses,
        config.upstreams,
        Timeouts(config.connect_timeout_s, config.read_timeout_s, config.total_timeout_s),
        EgressOptions(
            limits,
            config.pins,
            order_reserve=config.order_weight_reserve,
            client_share=config.client_weight_share,
            own_share=config.backfill_weight_share,
        ),
        clock=clock,
        keepalive_s=config.keepalive_s,
        dns_cache_s=config.dns_cache_s,
        ssl_context=ssl_context,
    )
