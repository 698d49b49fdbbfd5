"""The gateway: builds the services, joins them, starts and stops them in order.

It imports no web framework and handles no request itself. One `Gateway` owns everything that
lives while the program runs; `web/` asks it, `run.py` starts it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson

from resender import __version__
from resender.aio import Clock, Tasks
from resender.config import Config
from resender.core.access.refused import RecentRefused
from resender.core.access.whitelist import Entry, TrustedProxies, Whitelist
from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import StreamLimits
from resender.core.egress.budget import MINUTE_MS
from resender.core.egress.governor import OWN
from resender.core.egress.state import Limits
from resender.core.market.costs import POOLS
from resender.core.market.preload import PreloadRule, parse_preload
from resender.core.reachability import UNREACHABLE, kind_of
from resender.core.sharing import Key, memory_s, share_key, worth_remembering
from resender.core.weights.table import POOL_OF, charge, read_rate_limits
from resender.errors import AnswerError, StoreError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.gauges import Family, cache_families, store_families, upstream_families, weight_families
from resender.log import Seldom
from resender.market.backfill import Fetched
from resender.market.cache import CacheOptions, MarketCache
from resender.market.candle_files import CandleFiles
from resender.market.candle_saving import WarmFiles
from resender.market.pools import OnFrame, OnStreams
from resender.metrics import Metrics
from resender.places import called_as
from resender.store import PreloadRow, Store
from resender.upstream.egress import Call, EgressOptions, EgressPool
from resender.upstream.egresses import SpreadSessions, bind_problem
from resender.upstream.rest import RestResponse, Timeouts, gunzip
from resender.upstream.shared_answers import SharedAnswer, SharedAnswers
from resender.upstream.streams.pool import StreamPool
from resender.upstream.tls import make_context

logger = logging.getLogger("resender.gateway")

# exchangeInfo, the largest of our own reads, has several MB.
_OWN_READ_BYTES = 64 << 20
# Where the store keeps which pools are closed: a ban is not forgotten by a restart.
_CLOSED_KEY = "egress_closed"
_LIMITS_EVERY_S = 6 * 3600.0
_LIMITS_RETRY_S = 600.0
# The cheapest exchangeInfo of each pool that has one.
_LIMITS_FROM: dict[str, tuple[tuple[Market, str], ...]] = {
    "spot": ((Market.SPOT, "/api/v3/exchangeInfo?symbol=BTCUSDT"),),
    "futures": ((Market.UM, "/fapi/v1/exchangeInfo"), (Market.CM, "/dapi/v1/exchangeInfo")),
    "options": ((Market.OPTIONS, "/eapi/v1/exchangeInfo"),),
}
_FAILURE_LOG_EVERY_S = 60.0


class Gateway:
    """All services of one node and the state the request path reads."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        ssl_context: ssl.SSLContext | None = None,
        weight_window_ms: int = MINUTE_MS,
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
        self.limits = Limits(
            spot=config.weight_limit_spot,
            futures=config.weight_limit_futures,
            options=config.weight_limit_options,
            pm=config.weight_limit_pm,
            sapi=config.weight_limit_sapi,
            window_ms=weight_window_ms,
        )
        self.egresses = config.egresses
        # One for everything that is called: each holds all certificate authorities.
        self.ssl_context = ssl_context or make_context()
        self.egress = EgressPool(
            self.egresses,
            config.upstreams,
            Timeouts(config.connect_timeout_s, config.read_timeout_s, config.total_timeout_s),
            EgressOptions(self.limits, config.pins, config.order_weight_reserve, config.client_weight_share),
            clock=self.clock,
            keepalive_s=config.keepalive_s,
            dns_cache_s=config.dns_cache_s,
            ssl_context=self.ssl_context,
            on_closed=self._save_closed,
            on_metered=self._learn_limits,
        )
        # The second part of a key is the call's target, see `share_key`.
        self.shared_answers = SharedAnswers(
            self.clock.mono,
            lambda key, headers, body: worth_remembering(str(key[1]).partition("?")[0], headers, body),
        )
        self.refused = RecentRefused()
        # Calls that came to nothing, one line a minute and kind; strangers, for fail2ban.
        self._failures = Seldom(logger, _FAILURE_LOG_EVERY_S)
        self._strangers = Seldom(logging.getLogger("resender.access"), 1.0, at_once=20)
        # The last answer of each market: kind, HTTP status, epoch milliseconds.
        self.upstream_state: dict[Market, tuple[str, int | None, int]] = {}
        self._saving: asyncio.Task[None] | None = None
        self._is_save_due = False
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
            await self.store.start(
                on_whitelist=self.set_whitelist,
                on_preload=self._set_preload,
                first_password=self.config.admin_password if self.config.admin_enabled else None,
            )
            stack.push_async_callback(self.store.stop)
            for spec in self.egresses:
                if spec.address and (problem := bind_problem(spec.address)):
                    logger.error(
                        "egress %s cannot be used: %s; add it to a network interface or correct EGRESS",
                        spec.name, problem,
                    )  # fmt: skip
            await self._load_closed()
            stack.push_async_callback(self._save_last)
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
                "the whitelist is empty: nobody may call. Add an address with `%s whitelist add ADDRESS`",
                called_as(),
            )

    def note_stranger(self, ip: str, text: str) -> None:
        """Leave a line about a refused address in the log; programs such as fail2ban read it."""
        self._strangers.say(logging.WARNING, f"{ip} {text[:6]}", self.clock.mono(), text)

    def in_words(self) -> str:
        """Say in a few words how the gateway is doing."""
        words = [f"{self.whitelist.size} whitelist entries"]
        if self.cache is not None:
            entries = [entry for line in self.cache.states.values() for entry in line.entries()]
            live = sum(entry.state in ("live", "filling") for entry in entries)
            words.append(f"{live} of {len(entries)} series live")
        bad = sorted(
            market.value for market, (kind, _, _) in self.upstream_state.items() if kind == UNREACHABLE
        )
        if bad:
            words.append(f"cannot reach: {', '.join(bad)}")
        return ", ".join(words)

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
                quiet_s=config.stream_quiet_s,
                final_after_ms=config.rest_final_after_ms,
                refresh_s=config.symbol_refresh_s,
                backfill_share=config.backfill_weight_share,
                weight_limits={
                    pool: self.limits.of(pool) * len(self.egress.governor.egresses_of(market))
                    for market, pool in POOLS.items()
                },
            ),
            on_limit=self._set_limit,
            fetch=self.fetch,
            make_pool=self._make_pool,
            clock=self.clock,
            tasks=self.tasks,
            files=WarmFiles(files, save_every_s=config.candle_save_s, clock=self.clock, tasks=self.tasks),
        )

    def _make_pool(
        self,
        market: Market,
        path: str,
        on_frame: OnFrame,
        on_live: OnStreams,
        on_lost: OnStreams,
        *,
        is_witness: bool = False,
    ) -> StreamPool:
        config = self.config
        # Spot allows 5 messages a second, pings and pongs included, futures 10.
        # Source: web-socket-streams.md of 2026-07-21; um and cm general info.
        limits = StreamLimits(
            streams_per_connection=config.streams_per_connection,
            messages_per_s=3.0 if market is Market.SPOT else 6.0,
            # 300 in 5 minutes for an address; the witness' own connection and, on USD-M, two
            # pools share it.
            connects_per_5_min=30 if is_witness else 110 if market is Market.UM else 220,
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
            role="witness" if is_witness else "",
            session_factory=lambda: SpreadSessions(
                self.egresses,
                base_url,
                limits.connect_timeout_s,
                market=market,
                ssl_context=self.ssl_context,
                clock=self.clock,
            ),
        )  # fmt: skip

    async def fetch(self, market: Market, target: str) -> Fetched:
        """Make one of the gateway's own reads; the answer is unpacked.

        An exchangeInfo answer is shared with the clients that ask for the same.
        Raises: AnswerError if there is no complete answer, EgressExhausted among them if there is
            no weight for it now, ReadFailed if it is far too large.
        """
        headers: Pairs = [("User-Agent", self.user_agent), ("Accept-Encoding", "gzip")]
        call = Call(market, "GET", target, headers, priority=OWN)
        key = share_key(market, target, headers)[0] if "/exchangeInfo" in target else None
        response = await self.send(call, key, is_fresh=True)
        try:
            parts = []
            size = 0
            while chunk := await response.next_chunk():
                parts.append(chunk)
                size += len(chunk)
                if size > _OWN_READ_BYTES:
                    raise UpstreamLost(f"An answer for the gateway itself has more than {size} bytes.")
        finally:
            response.close()
        down = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        body = b"".join(parts)
        if down.get("content-encoding", "").lower() == "gzip":
            body = await asyncio.to_thread(gunzip, body)
        if "x-mbx-used-weight-1m" in down:
            self.note_weight(market)
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
            self.cache.set_rules([rule for rule in rules if rule.market in self.egress.markets])

    # --- calls -----------------------------------------------------------------------------

    async def send(
        self, call: Call, key: Key | None, *, is_fresh: bool = False
    ) -> RestResponse | SharedAnswer:
        """Send a call through one egress, or share an answer to an equal one.

        Shape: `key` as `share_key` makes it; with `is_fresh` no remembered answer will do.
        Raises: AnswerError.
        """
        market = call.market
        try:
            if key is None:
                response: RestResponse | SharedAnswer = await self.egress.send(call)
            else:
                response = await self.shared_answers.get(
                    key,
                    lambda: self.egress.send(call),
                    memory_s=self._memory_s(call),
                    use_memory=not is_fresh,
                )
        except AnswerError as error:
            if isinstance(error, (UpstreamUnreachable, UpstreamTimeout, UpstreamLost)):
                self._failures.say(logging.WARNING, f"{market} {error.name}", self.clock.mono(), error.msg)
            if isinstance(error, (UpstreamUnreachable, UpstreamTimeout)):
                kind = "timeout" if isinstance(error, UpstreamTimeout) else UNREACHABLE
                self.upstream_state[market] = (kind, None, self.clock.now_ms())
            raise
        if response.kind != "shared":
            self.upstream_state[market] = (kind_of(response.status), response.status, self.clock.now_ms())
        return response

    def _memory_s(self, call: Call) -> float:
        config = self.config
        path, _, query = call.target.partition("?")
        if not config.get_memory_ms and not path.endswith("/exchangeInfo"):
            return 0.0
        return memory_s(
            path,
            is_public=charge(call.market, "GET", path, query).is_public,
            get_memory_s=config.get_memory_ms / 1000,
            exchange_info_memory_s=config.exchange_info_memory_s,
        )

    # --- weight ----------------------------------------------------------------------------

    def note_weight(self, market: Market) -> None:
        """Tell the cache what the weight of a market's pool is now, for hits and its own share."""
        pool = POOLS.get(market)
        if self.cache is None or pool is None:
            return
        governor, mono = self.egress.governor, self.clock.mono()
        total = governor.used_by_all(market, pool, mono)
        least = total if len(self.egresses) == 1 else governor.used(market, pool, mono)
        self.cache.note_weight(market, total, least)

    def pause_own_reads(self, market: Market) -> None:
        """A client's call met a 429 or 418: own reads pause if no egress is left for them."""
        pool = POOLS.get(market)
        if self.cache is not None and pool is not None:
            wait_s = self.egress.governor.closed_s(market, pool, self.clock.mono())
            if wait_s > 0:
                self.cache.close_pool(market, int(wait_s * 1000))

    def weight_status(self) -> list[dict[str, Any]]:
        """Describe the weight of every pool at every egress, see `Governor.status`."""
        return self.egress.governor.status(self.clock.mono())

    def client_status(self) -> list[dict[str, Any]]:
        """List what each client has used, see `ClientShares.status`."""
        governor = self.egress.governor
        window = int(governor.clock.low_ms(self.clock.mono()) // self.limits.window_ms)
        return governor.clients.status(window)

    def _set_limit(self, market: Market, limit: int) -> int:
        """Take the limit exchangeInfo told for one address; return that of all egresses together."""
        governor = self.egress.governor
        governor.set_limit(POOL_OF[market], limit)
        return limit * len(governor.egresses_of(market))

    def _learn_limits(self, market: Market) -> None:
        """A market has told its used weight for the first time: ask for its limit once too."""
        pool = POOL_OF[market]
        if pool not in _LIMITS_FROM or any(name == f"limits-learn:{pool}" for name in self.tasks.names()):
            return
        self.tasks.spawn(self._follow_limits(pool), name=f"limits-learn:{pool}")

    async def _follow_limits(self, pool: str) -> None:
        while True:
            market, target = next(
                (found for found in _LIMITS_FROM[pool] if found[0] in self.egress.markets),
                _LIMITS_FROM[pool][0],
            )
            wait_s = _LIMITS_EVERY_S
            line = self.cache.states.get(market) if self.cache is not None else None
            if line is None or not line.is_started:  # a market line reads them by itself
                wait_s = _LIMITS_EVERY_S if await self._read_limits(market, target) else _LIMITS_RETRY_S
            await asyncio.sleep(wait_s)

    async def _read_limits(self, market: Market, target: str) -> bool:
        try:
            fetched = await self.fetch(market, target)
            info = orjson.loads(fetched.body) if fetched.status == 200 else {}
        except (AnswerError, ValueError) as error:
            logger.info("%s: its limits cannot be read: %s", market, error)
            return False
        window_ms = self.limits.window_ms
        for limit in read_rate_limits(info):
            if limit.kind == "REQUEST_WEIGHT" and limit.window_ms in (window_ms, MINUTE_MS):
                self._set_limit(market, limit.limit)
                return True
        return False

    async def _load_closed(self) -> None:
        """Take over the bans and pauses that the last process knew of."""
        text = await self.store.run(lambda repository: repository.state_get(_CLOSED_KEY))
        try:
            rows = json.loads(text or "[]")
        except ValueError:
            rows = []
        if not isinstance(rows, list):
            return
        rows = [row for row in rows if isinstance(row, dict)]
        count = self.egress.governor.load(rows, self.clock.mono(), self.clock.now_ms())
        if count:
            logger.warning("%d weight pools stay closed: a ban or pause from before the restart lasts", count)

    def _save_closed(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = self.tasks.spawn(self._write_closed(), name="egress-save")
        else:
            self._is_save_due = True

    async def _save_last(self) -> None:
        """A ban that came at the very end must not be forgotten either."""
        if any(egress.closed for egress in self.egress.governor.egresses):
            await self._write_closed()

    async def _write_closed(self) -> None:
        self._is_save_due = True
        while self._is_save_due:
            self._is_save_due = False
            rows = self.egress.governor.dump(self.clock.mono(), self.clock.now_ms())
            text = json.dumps(rows)
            try:
                await self.store.run(lambda repository, text=text: repository.state_set(_CLOSED_KEY, text))  # type: ignore[misc]
            except StoreError as error:
                logger.error("closed weight pools could not be saved: %s", error)

    def client_ip(self, peer: str, forwarded_for: Sequence[str], real_ip: Sequence[str]) -> str:
        """Find the address of a client, see `TrustedProxies.client_ip`."""
        return self.proxies.client_ip(peer, forwarded_for, real_ip)

    def _read_samples(self) -> list[Family]:
        families = upstream_families(self.egress.markets, self.egress.clients)
        families += weight_families(self.egress.governor, self.shared_answers, self.clock.mono())
        if self.cache is not None:
            families += cache_families(self.cache)
        return families + store_families(self.store.stats, self.whitelist.size)
